//! Which endpoint gets the next request: of those that may have it, the one that is least busy.
//!
//! Load is the number of exchanges in flight, in this worker, for each unit of weight. Ties go round,
//! by weight and smoothly (nginx's way: weights 5, 1, 1 give a a b a c a a). Pure: tests tell the time.

use std::cell::Cell;
use std::time::Duration;

use crate::clock::Monotonic;

/// How long a failure weighs on an endpoint's load. One that fails at once is never busy, and would
/// draw every request until it is ejected.
const TROUBLE: Duration = Duration::from_secs(1);
/// Exchanges that failures in a row count as, at most.
const TROUBLE_MAX: u32 = 64;

/// What the balancer knows of one endpoint.
#[derive(Debug)]
pub(super) struct Seat {
    weight: u32,
    in_flight: Cell<u32>,
    /// What the endpoint is owed of the ties so far.
    credit: Cell<i64>,
    trouble: Cell<u32>,
    trouble_until: Cell<Monotonic>,
}

impl Seat {
    /// `weight` is at least 1.
    pub(super) fn new(weight: u32) -> Self {
        Self {
            weight: weight.max(1),
            in_flight: Cell::new(0),
            credit: Cell::new(0),
            trouble: Cell::new(0),
            trouble_until: Cell::new(Monotonic::default()),
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    pub(super) fn enter(&self) {
        self.in_flight.set(self.in_flight.get().saturating_add(1));
    }

    pub(super) fn leave(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    pub(super) fn failed(&self, now: Monotonic) {
        let before = if now < self.trouble_until.get() { self.trouble.get() } else { 0 };
        self.trouble.set(before.saturating_add(1).min(TROUBLE_MAX));
        self.trouble_until.set(now.after(TROUBLE));
    }

    pub(super) fn succeeded(&self) {
        self.trouble.set(0);
    }

    fn load(&self, now: Monotonic) -> u64 {
        let trouble = if now < self.trouble_until.get() { self.trouble.get() } else { 0 };
        u64::from(self.in_flight.get()) + u64::from(trouble)
    }
}

/// The seat whose load is least by its weight, by its number; none if there is none.
pub(super) fn least_loaded<'s>(
    seats: impl Iterator<Item = (usize, &'s Seat)> + Clone,
    now: Monotonic,
) -> Option<usize> {
    let mut least: Option<(u64, u64)> = None;
    for (_, seat) in seats.clone() {
        let (load, weight) = (seat.load(now), u64::from(seat.weight));
        if least.is_none_or(|(lowest, by)| load * by < lowest * weight) {
            least = Some((load, weight));
        }
    }
    let (lowest, by) = least?;
    let mut total = 0;
    let mut chosen: Option<(usize, &Seat)> = None;
    for (place, seat) in seats {
        if seat.load(now) * by != lowest * u64::from(seat.weight) {
            continue;
        }
        let weight = i64::from(seat.weight);
        total += weight;
        seat.credit.set(seat.credit.get() + weight);
        if chosen.is_none_or(|(_, other)| seat.credit.get() > other.credit.get()) {
            chosen = Some((place, seat));
        }
    }
    let (place, seat) = chosen?;
    seat.credit.set(seat.credit.get() - total);
    Some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(weights: &[u32]) -> Vec<Seat> {
        weights.iter().copied().map(Seat::new).collect()
    }

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic::from_ns(milliseconds * 1_000_000)
    }

    fn choose(seats: &[Seat], now: Monotonic) -> usize {
        least_loaded(seats.iter().enumerate(), now).unwrap()
    }

    #[test]
    fn ties_go_round_by_weight() {
        for (weights, expected) in [
            (&[1, 1, 1][..], "abcabcabc"),
            (&[5, 1, 1], "aabacaaaabacaa"),
            (&[2, 1], "abaaba"),
            (&[1], "aaa"),
        ] {
            let seats = seats(weights);
            let order = expected.chars().map(|_| ['a', 'b', 'c'][choose(&seats, at(0))]);
            assert_eq!(order.collect::<String>(), expected, "{weights:?}");
        }
        assert_eq!(least_loaded(std::iter::empty(), at(0)), None);
    }

    #[test]
    fn the_least_busy_is_chosen_by_its_weight() {
        for (weights, in_flight, expected) in [
            (&[1, 1, 1][..], &[2, 1, 2][..], 1),
            (&[1, 1, 1], &[0, 0, 1], 0),
            (&[4, 1], &[3, 1], 0),
            (&[4, 1], &[5, 1], 1),
            (&[100, 1], &[50, 0], 1),
        ] {
            let seats = seats(weights);
            for (seat, count) in seats.iter().zip(in_flight) {
                (0..*count).for_each(|_| seat.enter());
            }
            assert_eq!(choose(&seats, at(0)), expected, "{weights:?} {in_flight:?}");
        }
    }

    #[test]
    fn one_that_hangs_does_not_get_more_than_one_that_answers() {
        let seats = seats(&[1, 1, 1]);
        let mut given = [0; 3];
        for _ in 0..999 {
            let chosen = choose(&seats, at(0));
            given[chosen] += 1;
            seats[chosen].enter();
            // All but the first answer at once.
            if chosen != 0 {
                seats[chosen].leave();
            }
        }
        assert_eq!(given, [1, 499, 499]);
    }

    #[test]
    fn one_that_fails_at_once_draws_no_requests_for_a_while() {
        let seats = seats(&[1, 1]);
        let mut given = [0; 2];
        for millisecond in 0..3000 {
            let chosen = choose(&seats, at(millisecond));
            given[chosen] += 1;
            if chosen == 0 {
                seats[0].failed(at(millisecond));
            }
        }
        assert_eq!(given, [3, 2997], "once a second");
    }

    #[test]
    fn a_success_makes_up_for_failures() {
        let seats = seats(&[1, 1]);
        seats[0].failed(at(0));
        assert_eq!((0..4).map(|_| choose(&seats, at(1))).collect::<Vec<_>>(), [1; 4]);
        seats[0].succeeded();
        assert!((0..2).any(|_| choose(&seats, at(1)) == 0));
    }

    #[test]
    fn under_load_failures_in_a_row_weigh_more() {
        let seats = seats(&[1, 1]);
        (0..10).for_each(|_| seats[1].enter());
        let failures = (0..100).filter(|_| {
            let is_first = choose(&seats, at(0)) == 0;
            if is_first {
                seats[0].failed(at(0));
            }
            is_first
        });
        assert!((10..=11).contains(&failures.count()));
    }
}
