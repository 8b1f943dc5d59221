//! Ctrl-C and its kin, from the first moment: nothing that was started may be left behind.

use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use tokio::signal::unix::{SignalKind, signal};

/// Whether the task has been told to end, by SIGINT, SIGTERM or SIGHUP.
#[derive(Debug)]
pub(crate) struct End(Mutex<Receiver<()>>);

impl End {
    /// From now on the signals no longer end the process.
    pub(crate) fn listen() -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _inside = runtime.enter();
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
                .into_iter()
                .map(signal)
                .collect::<Result<Vec<_>, _>>()
                .context("listening for signals")?
        };
        let told = move || {
            runtime.block_on(std::future::poll_fn(|context| {
                signals
                    .iter_mut()
                    .map(|signal| signal.poll_recv(context))
                    .find(std::task::Poll::is_ready)
                    .unwrap_or(std::task::Poll::Pending)
            }));
            drop(sender);
        };
        thread::Builder::new().name("signals".to_owned()).spawn(told)?;
        Ok(Self(receiver.into()))
    }

    /// An end that never comes.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        let (sender, receiver) = mpsc::channel();
        // As long as the tests.
        std::mem::forget(sender);
        Self(receiver.into())
    }

    /// An error once the end has come.
    pub(crate) fn not_yet(&self) -> Result<()> {
        ensure!(self.told().try_recv() == Err(TryRecvError::Empty), "interrupted");
        Ok(())
    }

    pub(crate) fn wait(&self) {
        // Nothing is ever sent: the other side ends with the signal.
        self.told().recv().ok();
    }

    fn told(&self) -> MutexGuard<'_, Receiver<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
