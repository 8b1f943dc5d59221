//! The addresses of names, looked up beside the requests: no request waits for a name server once the
//! first answer is there.

use std::cell::RefCell;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::endpoint::Shared;
use super::{ADDRESSES_MAX, Resolve};

/// How long after a failure a name is asked for again that has no address yet.
const RETRY: Duration = Duration::from_secs(1);

/// Asks the system, which knows files and name servers; takes as long as that does.
pub(super) fn system() -> Arc<Resolve> {
    Arc::new(|name, port| Ok((name, port).to_socket_addrs()?.collect()))
}

/// What was found of an upstream's names so far, in their order; none where nothing was yet.
struct Answers {
    found: Vec<Vec<SocketAddr>>,
    /// Names that have not been looked up once.
    open: usize,
}

/// Looks up the names of an upstream, each anew after its time, until the upstream is no more. None
/// waits for another's answer.
pub(super) async fn follow(upstream: Weak<Shared>, resolve: Arc<Resolve>) {
    let names: Vec<(Box<str>, u16)> = match upstream.upgrade() {
        Some(shared) => shared.settings.names().map(|(name, port)| (name.into(), port)).collect(),
        None => return,
    };
    let answers = Answers { found: vec![Vec::new(); names.len()], open: names.len() };
    let answers = Rc::new(RefCell::new(answers));
    let mut following = JoinSet::new();
    for (place, (name, port)) in names.into_iter().enumerate() {
        let (upstream, resolve) = (Weak::clone(&upstream), Arc::clone(&resolve));
        let answers = Rc::clone(&answers);
        following.spawn_local(follow_one(upstream, resolve, answers, place, name, port));
    }
    while following.join_next().await.is_some() {}
}

/// Looks up one name, again and again. What was found last is kept where nothing is.
async fn follow_one(
    upstream: Weak<Shared>,
    resolve: Arc<Resolve>,
    answers: Rc<RefCell<Answers>>,
    place: usize,
    name: Box<str>,
    port: u16,
) {
    let (mut is_first, mut is_failing) = (true, false);
    loop {
        let answer = look_up(&name, port, &resolve).await;
        let pause = {
            let Some(shared) = upstream.upgrade() else { return };
            let mut answers = answers.borrow_mut();
            let Some(found) = answers.found.get_mut(place) else { return };
            match answer {
                Ok(addresses) => {
                    if std::mem::take(&mut is_failing) {
                        tracing::info!(name, "the name of an upstream is found again");
                    }
                    *found = addresses;
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        let kept = found.len();
                        tracing::warn!(name, %error, kept, "the name of an upstream is not found");
                    }
                }
            }
            let interval = shared.settings.resolve_interval;
            let pause = if found.is_empty() { interval.min(RETRY) } else { interval };
            shared.publish(&answers.found);
            if std::mem::take(&mut is_first) {
                answers.open -= 1;
                if answers.open == 0 {
                    shared.settle();
                }
            }
            pause
        };
        sleep(pause).await;
    }
}

/// At least one address, in an order that does not depend on the server's.
async fn look_up(
    name: &str,
    port: u16,
    resolve: &Arc<Resolve>,
) -> std::io::Result<Vec<SocketAddr>> {
    let (sender, answer) = oneshot::channel();
    let (asked, resolve) = (name.to_owned(), Arc::clone(resolve));
    // A thread of its own: those of the runtime would have to be waited for at its end.
    std::thread::Builder::new().name("resolve".into()).spawn(move || {
        // The upstream may be gone.
        drop(sender.send(resolve(&asked, port)));
    })?;
    let ended = |_panicked| std::io::Error::other("the resolver failed");
    let mut addresses = answer.await.map_err(ended)??;
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(std::io::Error::other("the name has no address"));
    }
    if addresses.len() > ADDRESSES_MAX {
        let (found, used) = (addresses.len(), ADDRESSES_MAX);
        tracing::warn!(name, found, used, "the name of an upstream has too many addresses");
        addresses.truncate(ADDRESSES_MAX);
    }
    Ok(addresses)
}
