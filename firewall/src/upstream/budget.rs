//! How many requests may be sent a second time.
//!
//! Where everything fails, retries multiply the load on what is failing because of its load. So they
//! are a share of the requests of the last ten seconds, and a few a second for where those are rare
//! (Finagle's and Linkerd's retry budgets). Pure: tests tell the time.

use crate::clock::Monotonic;

/// Which requests are sent again, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryRules {
    /// Other endpoints that one request is sent to, at most; 0: none.
    pub attempts: usize,
    /// Percent of a worker's requests that may be sent again after they had been sent once.
    pub share: u32,
    /// So many of them a second in any case.
    pub per_second: u32,
}

const SECONDS: usize = 10;

/// One worker's budget.
#[derive(Debug, Default)]
pub(super) struct Budget {
    seconds: [Second; SECONDS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    requests: u32,
    retries: u32,
}

impl Budget {
    /// Counts a request.
    pub(super) fn request(&mut self, now: Monotonic) {
        let second = self.second(now);
        second.requests = second.requests.saturating_add(1);
    }

    /// Takes leave for one retry, if there is any left.
    pub(super) fn withdraw(&mut self, rules: &RetryRules, now: Monotonic) -> bool {
        let present = now.ns() / 1_000_000_000;
        let (mut requests, mut retries) = (0u64, 0u64);
        for second in &self.seconds {
            if present.saturating_sub(second.number) < SECONDS as u64 {
                requests += u64::from(second.requests);
                retries += u64::from(second.retries);
            }
        }
        let allowed =
            requests * u64::from(rules.share) / 100 + u64::from(rules.per_second) * SECONDS as u64;
        if retries >= allowed {
            return false;
        }
        let second = self.second(now);
        second.retries = second.retries.saturating_add(1);
        true
    }

    fn second(&mut self, now: Monotonic) -> &mut Second {
        let number = now.ns() / 1_000_000_000;
        let place = usize::try_from(number % SECONDS as u64).unwrap_or(0);
        #[expect(clippy::indexing_slicing, reason = "it is a remainder")]
        let second = &mut self.seconds[place];
        if second.number != number {
            *second = Second { number, ..Second::default() };
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_ns(seconds * 1_000_000_000)
    }

    fn retries(budget: &mut Budget, rules: &RetryRules, now: Monotonic) -> usize {
        (0..10_000).take_while(|_| budget.withdraw(rules, now)).count()
    }

    #[test]
    fn a_share_of_the_requests_and_a_few_a_second() {
        for (share, per_second, requests, expected) in [
            (20, 3, 0, 30),
            (20, 3, 100, 50),
            (20, 0, 4, 0),
            (20, 0, 5, 1),
            (0, 0, 1000, 0),
            (100, 0, 1000, 1000),
        ] {
            let rules = RetryRules { attempts: 2, share, per_second };
            let mut budget = Budget::default();
            (0..requests).for_each(|_| budget.request(at(100)));
            let found = retries(&mut budget, &rules, at(105));
            assert_eq!(found, expected, "{share} %, {per_second}/s, {requests} requests");
        }
    }

    #[test]
    fn what_is_longer_ago_counts_no_more() {
        let rules = RetryRules { attempts: 2, share: 20, per_second: 1 };
        let mut budget = Budget::default();
        (0..100).for_each(|_| budget.request(at(100)));
        assert_eq!(retries(&mut budget, &rules, at(101)), 30);
        assert_eq!(retries(&mut budget, &rules, at(109)), 0, "all are spent");
        assert_eq!(retries(&mut budget, &rules, at(111)), 10, "and forgotten");
    }
}
