//! Whether an endpoint keeps well: what its checks ask, and what their answers amount to.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;

/// How endpoints are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRules {
    pub path: PathAndQuery,
    /// The `Host` of the request; the endpoint's own name or address where there is none.
    pub host: Option<Box<str>>,
    pub interval: Duration,
    /// Longest time from the beginning of the connection to the head of the answer.
    pub timeout: Duration,
    /// Successes in a row that bring an endpoint back.
    pub healthy: u32,
    /// Failures in a row that take it away.
    pub unhealthy: u32,
    /// Those of a success.
    pub statuses: Vec<RangeInclusive<u16>>,
}

impl CheckRules {
    pub(super) fn accepts(&self, status: u16) -> bool {
        self.statuses.iter().any(|range| range.contains(&status))
    }
}

/// The answers of one endpoint's checks so far. The first one decides alone.
#[derive(Debug, Default)]
pub(super) struct Streak {
    is_well: Option<bool>,
    against: u32,
}

impl Streak {
    /// Takes one answer in; gives what the endpoint is from now on, where that is new.
    pub(super) fn note(&mut self, rules: &CheckRules, is_success: bool) -> Option<bool> {
        match self.is_well {
            Some(is_well) if is_well == is_success => {
                self.against = 0;
                return None;
            }
            Some(is_well) => {
                self.against += 1;
                if self.against < if is_well { rules.unhealthy } else { rules.healthy } {
                    return None;
                }
            }
            None => {}
        }
        self.against = 0;
        self.is_well = Some(is_success);
        self.is_well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> CheckRules {
        CheckRules {
            path: PathAndQuery::from_static("/"),
            host: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
            statuses: vec![200..=299, 404..=404],
        }
    }

    #[test]
    fn so_many_in_a_row_change_the_verdict() {
        for (answers, expected) in [
            ("+", vec![(0, true)]),
            ("-", vec![(0, false)]),
            ("+--+--", vec![(0, true)]),
            ("+---", vec![(0, true), (3, false)]),
            ("-+-+", vec![(0, false)]),
            ("-++---", vec![(0, false), (2, true), (5, false)]),
        ] {
            let mut streak = Streak::default();
            let changes = answers
                .chars()
                .enumerate()
                .filter_map(|(place, answer)| Some((place, streak.note(&rules(), answer == '+')?)));
            assert_eq!(changes.collect::<Vec<_>>(), expected, "{answers}");
        }
    }

    #[test]
    fn statuses_of_a_success() {
        for (status, expected) in
            [(199, false), (200, true), (299, true), (300, false), (403, false), (404, true)]
        {
            assert_eq!(rules().accepts(status), expected, "{status}");
        }
    }
}
