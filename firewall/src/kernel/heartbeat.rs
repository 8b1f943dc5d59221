//! What the program drops once no daemon is there: everything as before, or nothing after a while.
//!
//! The deadline stands in the program's configuration, and the daemon moves it while it lives. So it
//! is the program that ends the drops, whatever became of the daemon.

use std::time::Duration;

use super::maps::Tables;
use super::{Kernel, KernelError};
use crate::clock::Monotonic;

/// The deadline is moved at most this often, and four times before it comes.
const INTERVAL: Duration = Duration::from_secs(1);

/// The sign of life that the program is given.
#[derive(Debug)]
pub(super) struct Heartbeat {
    stale_after: Option<Duration>,
    last: Monotonic,
}

impl Heartbeat {
    /// The first one, before the program is attached.
    pub(super) fn start(
        stale_after: Option<Duration>,
        tables: &mut Tables,
    ) -> Result<Self, KernelError> {
        let mut heartbeat = Self { stale_after, last: Monotonic::from_ns(0) };
        heartbeat.beat(Monotonic::now(), tables)?;
        Ok(heartbeat)
    }

    fn beat(&mut self, now: Monotonic, tables: &mut Tables) -> Result<(), KernelError> {
        let Some(stale_after) = self.stale_after else { return Ok(()) };
        if now.since(self.last) < INTERVAL.min(stale_after / 4) {
            return Ok(());
        }
        tables.drop_until(now.after(stale_after).ns())?;
        self.last = now;
        Ok(())
    }
}

impl Kernel {
    /// Tells the program that somebody still looks after it; see
    /// [`Options::stale_after`](super::Options::stale_after). To be called every few hundred
    /// milliseconds, of which the program is told no more often than it must be.
    ///
    /// # Errors
    ///
    /// When the program cannot be told.
    pub fn beat(&mut self, now: Monotonic) -> Result<(), KernelError> {
        self.heartbeat.beat(now, &mut self.tables)
    }
}
