//! How often something may happen: so many at once, and so many in a second.

use crate::clock::Monotonic;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// So many in a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub per_second: u32,
    /// At least 1.
    pub burst: u32,
}

/// What is left of a [`Rate`]: the generic cell rate algorithm (ITU-T I.371), which keeps one number.
/// All of it in nanoseconds.
#[derive(Debug)]
pub(crate) struct Allowance {
    step: u64,
    depth: u64,
    /// When all of it would be there again.
    full_at: u64,
}

impl Allowance {
    pub(crate) fn new(rate: Rate) -> Self {
        let step = NS_PER_SECOND / u64::from(rate.per_second.max(1));
        Self { step, depth: step * u64::from(rate.burst), full_at: 0 }
    }

    /// Takes one; false if none is left.
    pub(crate) fn take(&mut self, now: Monotonic) -> bool {
        let next = self.full_at.max(now.ns()).saturating_add(self.step);
        let is_left = next - now.ns() <= self.depth;
        if is_left {
            self.full_at = next;
        }
        is_left
    }

    /// Gives some back, no more than were taken.
    pub(crate) fn give(&mut self, count: u64) {
        self.full_at = self.full_at.saturating_sub(self.step.saturating_mul(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_ns(5 * NS_PER_SECOND + ms * 1_000_000)
    }

    #[test]
    fn as_many_at_once_as_the_burst_and_then_by_the_rate() {
        let mut allowance = Allowance::new(Rate { per_second: 10, burst: 3 });
        for _ in 0..3 {
            assert!(allowance.take(at(0)));
        }
        assert!(!allowance.take(at(0)));
        assert!(!allowance.take(at(99)), "what was refused costs nothing, and gains nothing");
        assert!(allowance.take(at(100)));
        assert!(!allowance.take(at(100)));
        for _ in 0..3 {
            assert!(allowance.take(at(60_000)), "rest fills it up, and no further");
        }
        assert!(!allowance.take(at(60_000)));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut allowance = Allowance::new(Rate { per_second: 1, burst: 2 });
        assert!(allowance.take(at(0)) && allowance.take(at(0)) && !allowance.take(at(0)));
        allowance.give(1);
        assert!(allowance.take(at(0)) && !allowance.take(at(0)));
        allowance.give(1_000);
        assert!(allowance.take(at(0)) && allowance.take(at(0)) && !allowance.take(at(0)));
    }
}
