//! The addresses of names, looked up beside the requests: no request waits for a name server once the
//! first answer is there.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::endpoint::Shared;
use super::{ADDRESSES_MAX, Resolve};

/// How long after a failure a name is asked for again that has no address yet.
const RETRY: Duration = Duration::from_secs(1);

/// Asks the system, which knows files and name servers; takes as long as that does.
pub(super) fn system() -> Arc<Resolve> {
    Arc::new(|name, port| Ok((name, port).to_socket_addrs()?.collect()))
}

/// Looks up the names of an upstream, each anew after its time, until the upstream is no more. What
/// was found last is kept where nothing is.
pub(super) async fn follow(upstream: Weak<Shared>, resolve: Arc<Resolve>) {
    let names: Vec<(Box<str>, u16)> = match upstream.upgrade() {
        Some(shared) => shared.settings.names().map(|(name, port)| (name.into(), port)).collect(),
        None => return,
    };
    let mut found: Vec<Vec<SocketAddr>> = vec![Vec::new(); names.len()];
    let mut is_failing = vec![false; names.len()];
    loop {
        for (((name, port), found), is_failing) in names.iter().zip(&mut found).zip(&mut is_failing)
        {
            match look_up(name, *port, &resolve).await {
                Ok(addresses) => {
                    if std::mem::take(is_failing) {
                        tracing::info!(name, "the name of an upstream is found again");
                    }
                    *found = addresses;
                }
                Err(error) => {
                    if !std::mem::replace(is_failing, true) {
                        let kept = found.len();
                        tracing::warn!(name, %error, kept, "the name of an upstream is not found");
                    }
                }
            }
        }
        let Some(shared) = upstream.upgrade() else { return };
        shared.publish(&found);
        shared.settle();
        let interval = shared.settings.resolve_interval;
        let is_missing = found.iter().any(Vec::is_empty);
        drop(shared);
        sleep(if is_missing { interval.min(RETRY) } else { interval }).await;
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
