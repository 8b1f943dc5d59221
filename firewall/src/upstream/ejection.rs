//! Which endpoints get no requests for a while, because requests to them failed.
//!
//! Sans-io: told the time and who is failing, it says who goes and who returns.

use std::time::Duration;

use crate::clock::Monotonic;

/// When an endpoint is ejected, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EjectionRules {
    /// Failures in a row that eject; 0: none do.
    pub failures: u32,
    /// How long the first time; each next time twice as long …
    pub base: Duration,
    /// … up to this. After as long without one, the next is a first one again.
    pub max: Duration,
    /// Percent of the endpoints that may be ejected at once. One may be in any case, and one always
    /// remains.
    pub share: u32,
}

/// What is remembered of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    until: Option<Monotonic>,
    /// Ejections, each longer than the one before.
    times: u32,
    returned: Monotonic,
}

/// What the endpoints are found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Sound,
    /// It has failed as often in a row as ejects.
    Failing,
    /// It gets no requests anyway: its checks fail.
    Down,
}

/// What becomes of an endpoint, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Ejected {
        place: usize,
        lasting: Duration,
    },
    /// The next failure ejects it again.
    Returned {
        place: usize,
    },
}

impl Record {
    pub(super) fn is_out(&self) -> bool {
        self.until.is_some()
    }

    fn eject(&mut self, now: Monotonic, rules: &EjectionRules) -> Duration {
        if now.since(self.returned) >= rules.max {
            self.times = 0;
        }
        let factor = 1u32.checked_shl(self.times).unwrap_or(u32::MAX);
        let lasting = rules.base.saturating_mul(factor).min(rules.max);
        self.times = self.times.saturating_add(1).min(31);
        self.until = Some(now.after(lasting));
        lasting
    }
}

/// How many of so many endpoints may be ejected at once.
fn most(endpoints: usize, share: u32) -> usize {
    let by_share = endpoints.saturating_mul(share as usize) / 100;
    by_share.max(1).min(endpoints.saturating_sub(1))
}

/// Lets those return whose time is over, or without whom none would remain; then ejects who is failing,
/// as far as that is allowed.
pub(super) fn tend(
    rules: &EjectionRules,
    records: &mut [Record],
    now: Monotonic,
    found: impl Fn(usize) -> Found,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let early = needed(records, &found);
    for (place, record) in records.iter_mut().enumerate() {
        if record.until.is_some_and(|until| until <= now || early == Some(place)) {
            record.until = None;
            record.returned = now;
            changes.push(Change::Returned { place });
        }
    }
    if rules.failures == 0 {
        return changes;
    }
    let returned = changes.clone();
    let allowed = most(records.len(), rules.share);
    for place in 0..records.len() {
        let is_back = returned.contains(&Change::Returned { place });
        if is_back || found(place) != Found::Failing {
            continue;
        }
        let out = records.iter().filter(|record| record.is_out()).count();
        let remains = records.iter().enumerate().any(|(other, record)| {
            other != place && !record.is_out() && found(other) != Found::Down
        });
        let Some(record) = records.get_mut(place).filter(|record| !record.is_out()) else {
            continue;
        };
        if out < allowed && remains {
            let lasting = record.eject(now, rules);
            changes.push(Change::Ejected { place, lasting });
        }
    }
    changes
}

/// Whoever is to return although his time is not over: those that remained are down or gone.
fn needed(records: &[Record], found: impl Fn(usize) -> Found) -> Option<usize> {
    let well = || records.iter().enumerate().filter(|(place, _)| found(*place) != Found::Down);
    if well().any(|(_, record)| !record.is_out()) {
        return None;
    }
    well().min_by_key(|(_, record)| record.until).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: EjectionRules = EjectionRules {
        failures: 5,
        base: Duration::from_secs(10),
        max: Duration::from_mins(1),
        share: 50,
    };

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_ns(seconds * 1_000_000_000)
    }

    fn failing(places: &[usize]) -> impl Fn(usize) -> Found {
        move |place| if places.contains(&place) { Found::Failing } else { Found::Sound }
    }

    fn out(records: &[Record]) -> Vec<usize> {
        let out = records.iter().enumerate().filter(|(_, record)| record.is_out());
        out.map(|(place, _)| place).collect()
    }

    #[test]
    fn no_more_than_the_share_and_never_the_last() {
        for (endpoints, share, expected) in [
            (1, 100, 0),
            (2, 0, 1),
            (2, 50, 1),
            (2, 100, 1),
            (3, 50, 1),
            (4, 50, 2),
            (10, 50, 5),
            (10, 100, 9),
            (0, 50, 0),
        ] {
            let mut records = vec![Record::default(); endpoints];
            let all: Vec<_> = (0..endpoints).collect();
            tend(&with_share(share), &mut records, at(100), failing(&all));
            assert_eq!(out(&records).len(), expected, "{endpoints} endpoints, {share} %");
        }
    }

    fn with_share(share: u32) -> EjectionRules {
        EjectionRules { share, ..RULES }
    }

    #[test]
    fn one_whose_checks_fail_is_not_what_remains() {
        let mut records = vec![Record::default(); 2];
        let found = |place| [Found::Failing, Found::Down][place];
        assert_eq!(tend(&RULES, &mut records, at(100), found), []);
    }

    #[test]
    fn one_returns_early_where_none_remains() {
        use Found::{Down, Failing, Sound};
        for (remaining, expected) in [
            (&[Failing, Failing, Sound][..], None),
            (&[Failing, Failing, Failing], None),
            (&[Failing, Failing, Down], Some(0)),
            // Whose checks fail is of no use.
            (&[Down, Failing, Down], Some(1)),
            (&[Down, Down, Down], None),
            // The third is gone.
            (&[Failing, Failing], Some(0)),
        ] {
            let mut records = vec![Record::default(); 3];
            let rules = with_share(100);
            tend(&rules, &mut records, at(100), failing(&[0]));
            tend(&rules, &mut records, at(101), failing(&[0, 1]));
            assert_eq!(out(&records), [0, 1]);
            records.truncate(remaining.len());
            let back: Vec<_> =
                expected.into_iter().map(|place| Change::Returned { place }).collect();
            let changes = tend(&rules, &mut records, at(102), |place| remaining[place]);
            assert_eq!(changes, back, "{remaining:?}");
            // It stays, however it does.
            let changes = tend(&rules, &mut records, at(103), |place| remaining[place]);
            assert_eq!(changes, [], "{remaining:?}");
        }
    }

    #[test]
    fn each_time_is_longer_than_the_last_until_one_keeps_well() {
        let mut records = vec![Record::default(); 2];
        let mut now = 1000;
        for seconds in [10, 20, 40, 60, 60] {
            let lasting = Duration::from_secs(seconds);
            let ejected = Change::Ejected { place: 1, lasting };
            assert_eq!(tend(&RULES, &mut records, at(now), failing(&[1])), [ejected]);
            assert_eq!(tend(&RULES, &mut records, at(now + seconds - 1), failing(&[1])), []);
            now += seconds;
            let back = [Change::Returned { place: 1 }];
            assert_eq!(tend(&RULES, &mut records, at(now), failing(&[1])), back);
            // Soon after, it fails again.
            now += 59;
        }
        now += 1;
        let lasting = Duration::from_secs(10);
        let first = Change::Ejected { place: 1, lasting };
        assert_eq!(tend(&RULES, &mut records, at(now), failing(&[1])), [first]);
    }

    #[test]
    fn another_may_go_when_one_is_back() {
        let mut records = vec![Record::default(); 3];
        tend(&RULES, &mut records, at(100), failing(&[0, 1]));
        assert_eq!(out(&records), [0]);
        let changes = tend(&RULES, &mut records, at(110), failing(&[0, 1]));
        let (place, lasting) = (1, Duration::from_secs(10));
        assert_eq!(changes, [Change::Returned { place: 0 }, Change::Ejected { place, lasting }]);
    }

    #[test]
    fn off_is_off() {
        let mut records = vec![Record::default(); 3];
        let rules = EjectionRules { failures: 0, ..RULES };
        assert_eq!(tend(&rules, &mut records, at(100), failing(&[0, 1])), []);
    }
}
