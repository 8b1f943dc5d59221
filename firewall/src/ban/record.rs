//! A ban, and what changes when one begins, moves or ends: the words that both planes share.

use std::borrow::Cow;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::Monotonic;

/// Who made a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The ledger, for offences.
    Automatic,
    /// A person; never evicted, joined or released early.
    Operator,
    /// Found in the kernel's table without a record of why.
    Kernel,
    /// The ledger, for many bans of neighbours ([`super::aggregate`]).
    Aggregate,
}

/// Where a ban is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Planes {
    /// The kernel drops the packets, the proxy refuses the requests.
    Both,
    /// The proxy alone: the client stands behind a trusted proxy, so that the network card never
    /// sees its address.
    Proxy,
}

/// One source that may not come back before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// In canonical form: host bits cleared, never an IPv4-mapped prefix.
    pub target: IpNet,
    pub since: Monotonic,
    /// The first moment at which the ban no longer holds.
    pub until: Monotonic,
    /// What it was granted for; none without end.
    pub ttl: Option<Duration>,
    pub origin: Origin,
    /// The rule whose violation reached the threshold, of an aggregate that of most of its bans; none
    /// unless automatic.
    pub rule: Option<Cow<'static, str>>,
    /// Why, in the words of who made it; at most [`REASON_MAX_BYTES`].
    pub reason: Box<str>,
    /// How many automatic bans the source had before this one.
    pub step: u8,
    pub planes: Planes,
    /// Made while bans were only observed: it is never enforced later.
    pub observed: bool,
    pub drops: DropCount,
    /// How many automatic bans it took the place of; 0 unless it is an aggregate.
    pub joined: u32,
}

/// The steps beyond which a ban counts for no more.
const WORTHY_STEPS: u8 = 7;
/// The joined bans beyond which an aggregate counts for no more.
const WORTHY_JOINED: u32 = 1 << 16;

/// Longest reason of a ban, in bytes of UTF-8.
pub const REASON_MAX_BYTES: usize = 256;

impl Ban {
    pub fn holds(&self, now: Monotonic) -> bool {
        self.until > now
    }

    pub fn remaining(&self, now: Monotonic) -> Duration {
        self.until.since(now)
    }

    /// What a second of this ban is worth: the bans that its source has had, itself included, or those
    /// that it took the place of, rounded to powers of two. Drops are no part of it: anybody can send
    /// what is dropped.
    pub(super) fn weight(&self) -> u32 {
        match self.origin {
            Origin::Automatic => 1 + u32::from(self.step.min(WORTHY_STEPS)),
            Origin::Aggregate => self.joined.clamp(1, WORTHY_JOINED).next_power_of_two(),
            Origin::Operator | Origin::Kernel => 1,
        }
    }

    pub(super) fn set(&self) -> BanChange {
        let kind = ChangeKind::Set { until: self.until };
        BanChange { target: self.target, planes: self.planes, kind }
    }

    pub(super) fn lift(&self, cause: LiftCause) -> BanChange {
        BanChange { target: self.target, planes: self.planes, kind: ChangeKind::Lift { cause } }
    }
}

/// What both planes must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BanChange {
    pub target: IpNet,
    pub planes: Planes,
    pub kind: ChangeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The target is banned until then, whatever held before.
    Set { until: Monotonic },
    /// The target is no longer banned by itself; a wider ban may still cover it.
    Lift { cause: LiftCause },
}

/// Why a ban ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LiftCause {
    Expired,
    Operator,
    /// The table was full, and this one was worth least.
    Evicted,
    /// A ban of its prefix took its place.
    Joined,
    /// Its source fell silent ([`super::threshold::Threshold::release_after`]).
    Silent,
}

/// Packets that the kernel dropped for one ban, counted over restarts of the kernel's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DropCount {
    /// What earlier counters had reached.
    before: u64,
    /// The last reading of the present counter.
    read: u64,
    /// When the count was last seen to grow, or the ban began.
    last_at: Monotonic,
}

impl DropCount {
    /// A count that stood at `total` when the present counter read `read`.
    pub fn resumed(total: u64, read: u64, now: Monotonic) -> Self {
        let before = total.saturating_sub(read);
        Self { before, read, last_at: now }
    }

    pub const fn total(&self) -> u64 {
        self.before.saturating_add(self.read)
    }

    /// Takes a reading of the kernel's counter. One that has fallen far begins anew; one that has fallen
    /// a little does not: two CPUs counted for one address at once, and the later has written less.
    pub(super) fn observe(&mut self, read: u64, now: Monotonic) {
        if read < self.read / 2 || (read == 0 && self.read > 0) {
            self.before = self.total();
            self.read = 0;
        }
        if read > self.read {
            self.read = read;
            self.last_at = now;
        }
    }

    pub(super) fn silence(&self, now: Monotonic) -> Duration {
        now.since(self.last_at)
    }

    pub(super) fn moved_back(self, by: Duration) -> Self {
        Self { last_at: self.last_at.before(by), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_ns(seconds * 1_000_000_000)
    }

    #[test]
    fn silence_lasts_from_the_last_growth() {
        let mut drops = DropCount::resumed(0, 0, at(0));
        for (now, read, silence) in [(1, 3, 0), (9, 3, 8), (10, 7, 0), (15, 7, 5), (20, 0, 10)] {
            drops.observe(read, at(now));
            assert_eq!(drops.silence(at(now)), Duration::from_secs(silence), "at {now} s");
        }
        assert_eq!(drops.total(), 7);
    }

    #[test]
    fn a_counter_that_starts_anew_loses_nothing() {
        let mut drops = DropCount::resumed(100, 0, at(0));
        for (read, total) in [
            (5, 105),
            (8, 108),
            (2, 110),
            (2, 110),
            (0, 110),
            (4, 114),
            (3, 114),
            (2, 114),
            (5, 115),
            (1, 116),
        ] {
            drops.observe(read, at(1));
            assert_eq!(drops.total(), total, "after {read}");
        }
    }
}
