//! The new process's side of an upgrade.

use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::getppid;

use super::channel::{Message, Offered, PREDECESSOR, Talk};
use crate::listen::inherit::Inherited;

/// How long the old process may take for its part.
const PATIENCE: Duration = Duration::from_secs(20);

/// The process whose place this one takes.
#[derive(Debug)]
pub struct Predecessor {
    talk: Talk,
    /// The number of its last generation.
    pub generation: u64,
}

/// The sockets that it has handed over.
#[derive(Debug)]
pub struct HandedOver {
    pub clients: Vec<Inherited>,
    pub admin: UnixListener,
    pub metrics: Option<TcpListener>,
}

impl Predecessor {
    /// The process that the environment names, which has given this one a channel as its standard
    /// input; none if this one was started by anybody else.
    ///
    /// # Errors
    ///
    /// When that process is gone, or hands over what makes no sense.
    pub fn from_environment() -> anyhow::Result<Option<(Self, HandedOver)>> {
        let Ok(named) = std::env::var(PREDECESSOR) else { return Ok(None) };
        let parent = getppid().map(|parent| parent.as_raw_pid().to_string());
        ensure!(parent.as_ref() == Some(&named), "process {named}, to be followed, is gone");
        let channel = std::io::stdin().as_fd().try_clone_to_owned();
        let channel = UnixStream::from(channel.context("the channel to the old process")?);
        channel.set_read_timeout(Some(PATIENCE)).context("the channel to the old process")?;
        let mut talk = Talk::new(channel);
        let Offered { generation, clients, admin, metrics } = talk.offered()?;
        tracing::info!(pid = named, sockets = clients.len(), "taking over");
        let named = |descriptor| Inherited { name: "handed over".into(), descriptor };
        let clients = clients.into_iter().map(named).collect();
        Ok(Some((Self { talk, generation }, HandedOver { clients, admin, metrics })))
    }

    /// Says that all is read and compiled, and waits until the old process has let go of what one
    /// process alone may have.
    pub fn take_over(&mut self) -> anyhow::Result<()> {
        self.talk.say(&Message::Prepared)?;
        self.talk.expect(&Message::Yours)
    }

    /// Says that this process serves, and waits until the service manager knows: what others tell it
    /// is not listened to. There is no way back any more, whatever the old process does.
    pub fn succeed(mut self) {
        let told = self.talk.say(&Message::Serving);
        if let Err(error) = told.and_then(|()| self.talk.expect(&Message::Told)) {
            tracing::warn!(%error, "the old process did not see this one serve");
        }
    }

    /// Says why this process ends.
    pub fn fail(mut self, error: &anyhow::Error) {
        // It finds out in any case.
        self.talk.say(&Message::Failed(format!("{error:#}"))).unwrap_or(());
    }
}
