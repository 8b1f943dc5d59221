//! When a source has offended enough, and for how long it is then banned.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::violation::Offence;

/// The policy of automatic bans: a leaky bucket for each source, and a ladder of durations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Points at which a source is banned.
    pub capacity: u32,
    /// The time in which a score falls by one point. Zero would forget at once.
    pub leak_interval: Duration,
    pub weights: Weights,
    pub ladder: Ladder,
    /// How long after the end of its last ban a source starts at the ladder's first rung again.
    pub forgive_after: Duration,
    /// An automatic ban whose source has been silent for so long is lifted early. Off by default:
    /// silence during a ban is what a patient attacker does too.
    pub release_after: Option<Duration>,
}

impl Default for Threshold {
    fn default() -> Self {
        Self {
            capacity: 100,
            leak_interval: Duration::from_secs(6),
            weights: Weights::default(),
            ladder: Ladder::default(),
            forgive_after: Duration::from_hours(24),
            release_after: None,
        }
    }
}

/// Points for each offence, by what it proves of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    pub framing: u32,
    pub scan: u32,
    pub credential: u32,
    pub parameter: u32,
    pub body: u32,
}

impl Default for Weights {
    /// No honest client smuggles, hence two framing offences; a scan shows at the third, within two
    /// minutes; a client
    /// with a bug gets five tries.
    fn default() -> Self {
        Self { framing: 50, scan: 40, credential: 20, parameter: 20, body: 20 }
    }
}

impl Weights {
    pub const fn of(&self, offence: Offence) -> u32 {
        match offence {
            Offence::Framing => self.framing,
            Offence::Scan => self.scan,
            Offence::Credential => self.credential,
            Offence::Parameter => self.parameter,
            Offence::Body => self.body,
        }
    }
}

/// The durations of a source's first, second, … ban; the last is repeated. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    first: Duration,
    others: Box<[Duration]>,
}

/// The most rungs a ladder may have.
pub const RUNGS_MAX: usize = 32;

impl Default for Ladder {
    fn default() -> Self {
        Self {
            first: Duration::from_mins(1),
            others: [5, 30, 4 * 60, 24 * 60].map(Duration::from_mins).into(),
        }
    }
}

impl TryFrom<Vec<Duration>> for Ladder {
    type Error = ThresholdError;

    fn try_from(rungs: Vec<Duration>) -> Result<Self, ThresholdError> {
        let Some((&first, others)) = rungs.split_first() else {
            return Err(ThresholdError::EmptyLadder);
        };
        if rungs.len() > RUNGS_MAX {
            return Err(ThresholdError::LongLadder { rungs: rungs.len() });
        }
        if first < Duration::from_secs(1) {
            return Err(ThresholdError::ShortRung { rung: first });
        }
        for (lower, upper) in rungs.iter().zip(others) {
            if lower > upper {
                return Err(ThresholdError::FallingLadder { lower: *lower, upper: *upper });
            }
        }
        Ok(Self { first, others: others.into() })
    }
}

impl Ladder {
    /// The duration of a ban after `step` earlier ones.
    pub fn ttl(&self, step: u8) -> Duration {
        match usize::from(step).checked_sub(1) {
            None => self.first,
            Some(above) => self.others.get(above).copied().unwrap_or(self.longest()),
        }
    }

    pub fn longest(&self) -> Duration {
        self.others.last().copied().unwrap_or(self.first)
    }
}

/// A policy that cannot be followed as written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    #[error("the ban ladder is empty, expected at least one duration")]
    EmptyLadder,
    #[error("the ban ladder has {rungs} rungs, expected at most {RUNGS_MAX}")]
    LongLadder { rungs: usize },
    #[error("the ban ladder begins with {rung:?}, expected at least one second")]
    ShortRung { rung: Duration },
    #[error("the ban ladder falls from {lower:?} to {upper:?}, expected it to rise")]
    FallingLadder { lower: Duration, upper: Duration },
}

/// The points of one source, leaking one whole point each interval.
///
/// Whole points in integers: the sum does not drift, and what is shown is what is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Score {
    points: u32,
    /// When the last point had leaked, or the first was added.
    at: Monotonic,
}

impl Score {
    pub(super) const fn empty(now: Monotonic) -> Self {
        Self { points: 0, at: now }
    }

    /// The points that are left, after the leak up to now.
    pub(super) fn points(self, interval: Duration, now: Monotonic) -> u32 {
        self.leaked(interval, now).points
    }

    /// The score with an offence added; never above the threshold's capacity, or what could not
    /// be banned at once would take long to leak.
    pub(super) fn with(self, offence: Offence, threshold: &Threshold, now: Monotonic) -> Self {
        let leaked = self.leaked(threshold.leak_interval, now);
        let points = leaked.points.saturating_add(threshold.weights.of(offence));
        Self { points: points.min(threshold.capacity), at: leaked.at }
    }

    fn leaked(self, interval: Duration, now: Monotonic) -> Self {
        let interval = interval.as_nanos();
        let elapsed = now.since(self.at).as_nanos();
        let Some(gone) = elapsed.checked_div(interval) else {
            return Self::empty(now);
        };
        match u32::try_from(gone).ok().and_then(|gone| self.points.checked_sub(gone)) {
            None | Some(0) => Self::empty(now),
            Some(points) => {
                let part = u64::try_from(elapsed % interval).unwrap_or(0);
                Self { points, at: now.before(Duration::from_nanos(part)) }
            }
        }
    }

    /// When nothing will be left of it.
    pub(super) fn empty_at(self, interval: Duration) -> Monotonic {
        self.at.after(interval.saturating_mul(self.points))
    }

    /// The score as if the clock had been behind by `by`.
    pub(super) fn moved_back(self, by: Duration) -> Self {
        Self { at: self.at.before(by), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_ns(seconds * 1_000_000_000)
    }

    fn leaking(interval: Duration) -> Threshold {
        let weights = Weights { framing: u32::MAX, scan: 10, credential: 0, parameter: 0, body: 1 };
        Threshold { leak_interval: interval, weights, ..Threshold::default() }
    }

    #[test]
    fn one_point_leaks_each_interval_and_parts_are_kept() {
        let six = Duration::from_secs(6);
        let score = Score::empty(at(100)).with(Offence::Scan, &leaking(six), at(100));
        for (now, points) in
            [(100, 10), (105, 10), (106, 9), (111, 9), (112, 8), (159, 1), (160, 0)]
        {
            assert_eq!(score.points(six, at(now)), points, "at {now} s");
        }
        // Looking often must not lose the started interval: eleven looks, 5 s apart, are 55 s.
        let mut looked = score;
        for look in 1..=11 {
            looked = looked.with(Offence::Parameter, &leaking(six), at(100 + 5 * look));
        }
        assert_eq!(looked.points(six, at(155)), 1);
        assert_eq!(score.empty_at(six), at(160));
    }

    #[test]
    fn scores_end_at_the_capacity() {
        let mut full = Score::empty(at(0));
        for offence in [Offence::Framing, Offence::Body, Offence::Framing] {
            full = full.with(offence, &leaking(SECOND), at(0));
            assert_eq!(full.points(SECOND, at(0)), 100);
        }
        assert_eq!(full.points(SECOND, at(99)), 1);
        assert_eq!(full.points(SECOND, at(100)), 0);
        assert_eq!(full.points(SECOND, Monotonic::NEVER), 0);
        assert_eq!(full.points(Duration::ZERO, at(0)), 0);
        assert_eq!(full.empty_at(Duration::MAX), Monotonic::NEVER);
    }

    #[test]
    fn the_last_rung_is_repeated() {
        let ladder = Ladder::default();
        let minutes: Vec<u64> = (0..7).map(|step| ladder.ttl(step).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 5, 30, 240, 1440, 1440, 1440]);
        assert_eq!(ladder.ttl(u8::MAX), ladder.longest());
        let single = Ladder::try_from(vec![SECOND]).unwrap();
        assert_eq!((single.ttl(0), single.ttl(9), single.longest()), (SECOND, SECOND, SECOND));
    }

    #[test]
    fn a_ladder_rises_from_a_second() {
        let below = Duration::from_millis(999);
        for (rungs, expected) in [
            (vec![], Err(ThresholdError::EmptyLadder)),
            (vec![below], Err(ThresholdError::ShortRung { rung: below })),
            (vec![SECOND], Ok(())),
            (vec![SECOND, SECOND], Ok(())),
            (
                vec![2 * SECOND, SECOND],
                Err(ThresholdError::FallingLadder { lower: 2 * SECOND, upper: SECOND }),
            ),
            (vec![SECOND; RUNGS_MAX], Ok(())),
            (vec![SECOND; RUNGS_MAX + 1], Err(ThresholdError::LongLadder { rungs: RUNGS_MAX + 1 })),
        ] {
            assert_eq!(Ladder::try_from(rungs.clone()).map(|_| ()), expected, "{rungs:?}");
        }
    }
}
