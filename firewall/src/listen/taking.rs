//! Whether a client takes what it is sent: for how long it may take nothing, and how little on average.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::Monotonic;

use super::judged::Alarm;

/// What a client must take in each second that it lets us wait, once its patience is spent: as much as
/// it must send of a body.
const OCTETS_A_SECOND: u32 = 1024;

/// A connection's answers, as its client takes them.
#[derive(Default)]
pub(super) struct Taking {
    patience: Duration,
    /// How much of it was spent waiting.
    spent: Duration,
    since: Option<Monotonic>,
    alarm: Alarm,
}

impl Taking {
    /// A client may take nothing for `patience` at once, and in all; each second more it earns by
    /// [`OCTETS_A_SECOND`] that it takes. What it takes without letting us wait is not counted.
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, ..Self::default() }
    }

    /// Nothing can be written. Ready when the client's patience is spent.
    pub(super) fn poll_spent(&mut self, cx: &mut Context<'_>, now: Monotonic) -> Poll<()> {
        let due = self.due(now);
        self.alarm.poll(cx, due)
    }

    /// Whether nothing could be written when it was last tried.
    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// So much was written.
    pub(super) fn took(&mut self, octets: usize, now: Monotonic) {
        if let Some(since) = self.since.take() {
            self.spent = self.spent.saturating_add(now.since(since));
        }
        if !self.spent.is_zero() {
            let octets = u32::try_from(octets).unwrap_or(u32::MAX);
            let earned = Duration::from_secs(1).saturating_mul(octets) / OCTETS_A_SECOND;
            self.spent = self.spent.saturating_sub(earned);
        }
    }

    fn due(&mut self, now: Monotonic) -> Monotonic {
        let since = *self.since.get_or_insert(now);
        since.after(self.patience.saturating_sub(self.spent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic::from_ns(milliseconds * 1_000_000)
    }

    #[test]
    fn nothing_at_all() {
        let mut taking = Taking::new(Duration::from_secs(10));
        assert_eq!(taking.due(at(1_000)), at(11_000));
        assert_eq!(taking.due(at(5_000)), at(11_000), "since it began to wait");
        assert!(taking.is_waiting());
        taking.took(10 * 1024, at(9_000));
        assert!(!taking.is_waiting());
        assert_eq!(taking.due(at(9_000)), at(19_000), "earned again");
    }

    #[test]
    fn an_octet_now_and_then_is_not_worth_an_age() {
        let mut taking = Taking::new(Duration::from_secs(10));
        for second in 0..9 {
            let due = taking.due(at(second * 1_000));
            assert!(due > at((second + 1) * 1_000), "{second}");
            taking.took(1, at((second + 1) * 1_000));
        }
        let due = taking.due(at(9_000));
        assert!((at(10_000)..at(10_100)).contains(&due), "{due:?}");
    }

    #[test]
    fn a_kilobyte_a_second_is_enough_and_less_is_not() {
        for (octets, is_enough) in [(1024, true), (1023, true), (900, false)] {
            let mut taking = Taking::new(Duration::from_secs(10));
            let lasts = (0..1_000).all(|second| {
                let due = taking.due(at(second * 1_000));
                taking.took(octets, at((second + 1) * 1_000));
                due > at((second + 1) * 1_000)
            });
            assert_eq!(lasts, is_enough, "{octets}");
        }
    }

    #[test]
    fn who_never_lets_us_wait_earns_nothing_beyond_his_patience() {
        let mut taking = Taking::new(Duration::from_secs(10));
        taking.took(1 << 30, at(500));
        assert_eq!(taking.due(at(1_000)), at(11_000));
    }
}
