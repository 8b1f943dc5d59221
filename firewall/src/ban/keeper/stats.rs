//! What the keeper counts, for metrics and `status`; read by anyone without asking the keeper.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Counters grow from the start of the process; gauges are what holds now.
#[derive(Debug, Default)]
pub struct KeeperStats {
    /// Gauge: bans that offences made.
    pub bans_automatic: AtomicU64,
    /// Gauge: bans that operators made.
    pub bans_operator: AtomicU64,
    /// Gauge: bans found in the kernel's table without a record.
    pub bans_kernel: AtomicU64,
    /// Gauge: bans in place of many bans of neighbours.
    pub bans_aggregate: AtomicU64,
    /// Gauge: sources with a score or with steps on the ladder.
    pub offenders: AtomicU64,
    /// Gauge: sources in good standing.
    pub standing: AtomicU64,
    /// Offences that reached the ledger.
    pub offences: AtomicU64,
    /// Offences of exempt sources: counted, not scored.
    pub offences_exempt: AtomicU64,
    /// Offences not scored because the queue was full.
    pub offences_dropped: AtomicU64,
    /// Offences whose refusal went out before both planes were known to hold the ban.
    pub offences_late: AtomicU64,
    /// Bans that offences made.
    pub banned: AtomicU64,
    /// Bans that a ban of their prefix took the place of.
    pub joined: AtomicU64,
    /// Bans that made room for others.
    pub evicted: AtomicU64,
    /// Bans written to the kernel's table again because it had lost them.
    pub reasserted: AtomicU64,
    /// Reads and writes of the kernel's table that failed.
    pub kernel_errors: AtomicU64,
    /// Commits to the state file that failed.
    pub store_errors: AtomicU64,
    /// Times that a worker was too slow for single changes and is sent the whole table instead.
    pub worker_overflows: AtomicU64,
    persistence: AtomicU8,
}

/// Whether bans outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Persistence {
    /// In memory alone: there is no state directory.
    Memory,
    /// On disk within a second.
    Durable,
    /// The last commit failed; it is tried again.
    Failing,
}

impl KeeperStats {
    pub fn persistence(&self) -> Persistence {
        match self.persistence.load(Ordering::Relaxed) {
            1 => Persistence::Durable,
            2 => Persistence::Failing,
            _ => Persistence::Memory,
        }
    }

    pub(super) fn set_persistence(&self, persistence: Persistence) {
        let number = match persistence {
            Persistence::Memory => 0,
            Persistence::Durable => 1,
            Persistence::Failing => 2,
        };
        self.persistence.store(number, Ordering::Relaxed);
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn gauge(gauge: &AtomicU64, value: usize) {
    gauge.store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
}
