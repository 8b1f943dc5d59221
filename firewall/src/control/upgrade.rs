//! An upgrade without a lost connection: this process starts the program anew, hands it the listening
//! sockets, and drains once the new one serves.
//!
//! Of what one process alone may have the keeping of (state file, pins, admin socket) this one lets go
//! only when the new one has read and compiled everything, and takes it back should that fail all the
//! same. Both accept meanwhile: the sockets are the very same, so that nothing waits in one that is
//! closed. What is pinned goes on dropping packets, and this process's workers refuse whom it has
//! banned.

mod channel;
pub mod predecessor;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::getpid;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

pub use self::channel::Offer;
use self::channel::{Message, PREDECESSOR, Successor};
use crate::control::notify;
use crate::listen::inherit;

/// How long the new process may take to read and compile everything.
const PREPARATION: Duration = Duration::from_secs(30);
/// How long it may then take until it serves: what this one has let go of is nobody's meanwhile.
const TAKEOVER: Duration = Duration::from_secs(20);
/// How long a process that has failed may take to end by itself.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often it is looked whether it has.
const LAST_WORDS_POLL: Duration = Duration::from_millis(10);

/// An order to hand over to a new process.
#[derive(Debug)]
pub struct Upgrade {
    /// Told of the new process, or why there is none.
    pub answer: oneshot::Sender<Result<u32, String>>,
}

/// How this process was started.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// To be called at the start: later the file may be gone from its place, and another be there,
    /// which is the one that is wanted.
    pub fn of_this_process() -> anyhow::Result<Self> {
        let path = std::env::current_exe().context("the program's own file")?;
        let mut words = std::env::args_os();
        let name = words.next().unwrap_or_else(|| path.clone().into());
        Ok(Self { path, name, arguments: words.collect() })
    }

    /// Starts what is there now, with the channel as its standard input.
    fn start(&self, channel: OwnedFd) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.path);
        command.arg0(&self.name).args(&self.arguments).stdin(Stdio::from(channel));
        command.env(PREDECESSOR, std::process::id().to_string());
        // Meant for this process alone.
        for variable in inherit::VARIABLES.iter().chain(&notify::OF_THIS_PROCESS) {
            command.env_remove(variable);
        }
        command.spawn().with_context(|| format!("starting {}", self.path.display()))
    }
}

/// What the old process does between the steps of an upgrade.
pub trait Keeping {
    /// Lets go of what one process alone may have.
    fn let_go(&mut self) -> impl Future<Output = anyhow::Result<()>>;
    /// Takes it back.
    fn take_back(&mut self) -> impl Future<Output = ()>;
}

/// A process that was started to take this one's place; it is ended with this, unless it has done so.
struct Candidate {
    child: Option<Child>,
}

impl Candidate {
    /// Waits a little for it to end by itself, so that what it says is written.
    async fn end(&mut self) {
        let Some(child) = &mut self.child else { return };
        let mut waited = Duration::ZERO;
        while waited < LAST_WORDS && matches!(child.try_wait(), Ok(None)) {
            sleep(LAST_WORDS_POLL).await;
            waited += LAST_WORDS_POLL;
        }
        self.end_now();
    }

    /// On return it holds no lock any more.
    fn end_now(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            child.kill().unwrap_or(());
            child.wait().map_or_else(
                |error| tracing::error!(%error, "the new process cannot be waited for"),
                |status| tracing::debug!(%status, "the new process has ended"),
            );
        }
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.end_now();
    }
}

/// Hands over to a new process of `program`; gives its number. Both accept when this returns; what is
/// left for the old one is to drain.
///
/// # Errors
///
/// Why the new process does not serve. It has ended then, and this one has what it had.
pub async fn hand_over(
    program: &Program,
    offer: Offer<'_>,
    keeping: &mut impl Keeping,
    tell_manager: impl FnOnce(u32),
) -> anyhow::Result<u32> {
    // Its end would be the container's, whatever has taken its place.
    ensure!(
        !getpid().is_init(),
        "process 1 of a container has no successor: replace the container"
    );
    let (mut successor, theirs) = Successor::pair()?;
    let child = program.start(theirs)?;
    let pid = child.id();
    tracing::info!(pid, program = %program.path.display(), "a new process is started");
    let mut candidate = Candidate { child: Some(child) };
    let prepared = async {
        let offered = successor.offer(&offer).await;
        // What it said before it ended says more than that it did.
        successor.expect(Message::Prepared).await.and(offered)
    };
    let prepared = timeout(PREPARATION, prepared).await;
    if let Err(error) = prepared.unwrap_or_else(|_late| bail!("it is not ready in time")) {
        candidate.end().await;
        return Err(error);
    }
    let taken_over = async {
        keeping.let_go().await?;
        let said = successor.say(Message::Yours).await;
        successor.expect(Message::Serving).await.and(said)
    };
    let taken_over = timeout(TAKEOVER, taken_over).await;
    if let Err(error) = taken_over.unwrap_or_else(|_late| bail!("it does not serve in time")) {
        candidate.end().await;
        keeping.take_back().await;
        return Err(error);
    }
    candidate.child = None;
    tell_manager(pid);
    // It serves, whether it hears this or not.
    if let Err(error) = successor.say(Message::Told).await {
        tracing::warn!(%error, "the new process was not told that it is the main one");
    }
    Ok(pid)
}
