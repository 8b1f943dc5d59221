//! When a program is at fault, without one.

use super::*;

const RULES: ProbationRules =
    ProbationRules { time: Duration::from_secs(1), packets: 1000, given_up: 0.01, passing: 0.5 };

const fn record(passed: u64, dropped: u64, given_up: u64) -> Record {
    Record { passed, dropped, given_up }
}

#[test]
fn a_program_that_gives_up_is_at_fault() {
    let none = record(0, 0, 0);
    for (now, is_at_fault) in [
        (record(990, 0, 10), false),
        (record(989, 0, 11), true),
        (record(0, 0, 1000), true),
        // Too few to tell.
        (record(0, 0, 999), false),
        (record(999_000, 0, 1000), false),
    ] {
        let expected = Fault::GivesUp { given_up: now.given_up, packets: now.packets() };
        assert_eq!(judge(&RULES, none, now), is_at_fault.then_some(expected), "{now:?}");
    }
}

#[test]
fn a_program_that_lets_less_than_half_pass_is_at_fault() {
    for (before, now, is_at_fault) in [
        (record(1000, 0, 0), record(500, 500, 0), false),
        (record(1000, 0, 0), record(499, 501, 0), true),
        (record(1000, 0, 0), record(0, 1000, 0), true),
        (record(1000, 0, 0), record(0, 999, 0), false),
        // The one before it was no better, or nobody knows.
        (record(500, 500, 0), record(250, 750, 0), false),
        (record(500, 500, 0), record(249, 751, 0), true),
        (record(999, 0, 0), record(0, 1000, 0), false),
        (record(0, 1_000_000, 0), record(0, 1000, 0), false),
    ] {
        let found = judge(&RULES, before, now);
        assert_eq!(
            matches!(found, Some(Fault::PassesLess { .. })),
            is_at_fault,
            "{before:?} {now:?}"
        );
    }
}

#[test]
fn a_fault_is_told_in_numbers() {
    let fault = judge(&RULES, record(990, 10, 0), record(0, 2000, 0)).unwrap();
    assert_eq!(fault.to_string(), "it let 0.0 % of the packets pass, the one before it 99.0 %");
    let fault = judge(&RULES, record(0, 0, 0), record(0, 0, 2000)).unwrap();
    assert_eq!(fault.to_string(), "it gave up on 2000 of 2000 packets");
}

#[test]
fn only_what_came_since_counts_and_no_counter_runs_backwards() {
    assert_eq!(record(5, 7, 9).since(record(1, 2, 3)), record(4, 5, 6));
    assert_eq!(record(5, 0, 0).since(record(9, 1, 0)), record(0, 0, 0));
}
