//! The packet path on the host: the table of cases, and every truncation of every frame.

use std::cell::Cell;

use firewall_common::{Config, FOREVER, Policy, Reason, Reasons};

use super::{Exact, Tables, verdict};
use crate::cases::{self, BANNED4, Case};
use crate::source::Source;

fn reasons(list: &[Reason]) -> Reasons {
    list.iter().fold(Reasons::NONE, |set, &reason| set.with(reason))
}

#[test]
fn every_case_gets_its_verdict() {
    for case in cases::all() {
        let verdict = verdict(case.frame.as_slice(), &case.tables());
        assert_eq!(verdict.reason, case.reason, "{}", case.name);
        assert_eq!(verdict.observed, reasons(&case.observed), "{}", case.name);
    }
}

#[test]
fn every_reason_is_some_cases_verdict() {
    let cases = cases::all();
    for &reason in Reason::ALL {
        let is_seen = |case: &Case| case.reason == reason || case.observed.contains(&reason);
        assert!(cases.iter().any(is_seen), "no case gets {}", reason.id());
    }
}

#[test]
fn a_truncated_frame_is_judged_by_what_is_left() {
    for case in cases::all() {
        let tables = case.tables();
        for length in 0..case.frame.len().min(200) {
            let verdict = verdict(&case.frame[..length], &tables);
            if length < 14 {
                assert_eq!(verdict.reason, Reason::E1, "{} cut to {length}", case.name);
            }
            let is_banned = matches!(verdict.reason, Reason::Ban | Reason::BanRange);
            if matches!(case.reason, Reason::Ban | Reason::BanRange) {
                assert_eq!(is_banned, length >= case.known, "{} cut to {length}", case.name);
            } else {
                assert!(!is_banned, "{} cut to {length}", case.name);
            }
        }
    }
}

#[test]
fn no_bypass_passes() {
    for case in cases::bypasses() {
        let tables = case.tables();
        for length in case.known..=case.frame.len() {
            let verdict = verdict(&case.frame[..length], &tables);
            assert_eq!(verdict.reason, Reason::Ban, "{} cut to {length}", case.name);
        }
    }
}

/// Counts what a packet asks of the tables.
struct Asked<'a> {
    tables: &'a cases::HostTables,
    lookups: Cell<u32>,
    clock: Cell<u32>,
    drops: Cell<u32>,
}

impl Tables for Asked<'_> {
    type Hit = u64;

    fn config(&self) -> Config {
        self.tables.config()
    }

    fn policy(&self) -> Policy {
        self.tables.policy()
    }

    fn now_ns(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.tables.now_ns()
    }

    fn exact(&self, table: Exact, source: Source) -> Option<u64> {
        self.lookups.set(self.lookups.get() + 1);
        self.tables.exact(table, source)
    }

    fn range(&self, source: Source) -> Option<u64> {
        self.lookups.set(self.lookups.get() + 1);
        self.tables.range(source)
    }

    fn allows(&self, source: Source) -> bool {
        self.lookups.set(self.lookups.get() + 1);
        self.tables.allows(source)
    }

    fn until_ns(&self, hit: u64) -> u64 {
        hit
    }

    fn count_drop(&self, _: u64) {
        self.drops.set(self.drops.get() + 1);
    }
}

#[track_caller]
fn check_cost(name: &str, lookups: u32, clock: u32, drops: u32) {
    let case = cases::all().into_iter().find(|case| case.name == name).unwrap();
    let tables = case.tables();
    let asked = Asked { tables: &tables, lookups: 0.into(), clock: 0.into(), drops: 0.into() };
    verdict(case.frame.as_slice(), &asked);
    assert_eq!(
        (asked.lookups.get(), asked.clock.get(), asked.drops.get()),
        (lookups, clock, drops),
        "lookups, readings of the clock and counted drops of {name}"
    );
}

#[test]
fn a_packet_asks_no_more_than_it_must() {
    check_cost("a clean packet", 0, 0, 0);
    check_cost("the next address", 1, 0, 0);
    check_cost("a banned address", 1, 0, 1);
    check_cost("a ban with an end", 1, 1, 1);
    check_cost("a ban that ended", 1, 1, 0);
    check_cost("an ended ban in a live range", 2, 1, 1);
    check_cost("an allowed address, nothing wrong", 0, 0, 0);
    check_cost("an allowed address is banned", 2, 0, 0);
    check_cost("a ban observed", 1, 0, 0);
    check_cost("a ban observed, then a scan dropped", 1, 0, 0);
}

#[test]
fn a_ban_that_covers_nothing_allowed_does_not_ask_the_allowlist() {
    let case = cases::all().into_iter().find(|case| case.name == "another is allowed").unwrap();
    let mut tables = case.tables();
    tables.config.tables &= !firewall_common::table::ALLOWED_BAN;
    let asked = Asked { tables: &tables, lookups: 0.into(), clock: 0.into(), drops: 0.into() };
    assert_eq!(verdict(case.frame.as_slice(), &asked).reason, Reason::Ban);
    assert_eq!(asked.lookups.get(), 1);
}

#[test]
fn the_deadline_is_the_first_moment_that_passes() {
    for (until_ns, reason) in [
        (999_999_999, Reason::Passed),
        (1_000_000_000, Reason::Passed),
        (1_000_000_001, Reason::Ban),
        (FOREVER, Reason::Ban),
    ] {
        let mut case = cases::bypasses().swap_remove(0);
        case.bans = vec![((BANNED4.into(), 32), until_ns)];
        let verdict = verdict(case.frame.as_slice(), &case.tables());
        assert_eq!(verdict.reason, reason, "until {until_ns}");
    }
}

#[test]
fn until_its_deadline_everything_passes_and_is_counted_as_observed() {
    for case in cases::all() {
        let mut tables = case.tables();
        let judged = verdict(case.frame.as_slice(), &tables);
        tables.config.pass_until_mono_ns = tables.now_ns() + 1;
        let passing = verdict(case.frame.as_slice(), &tables);
        assert!(!passing.drops(), "{}", case.name);
        let observed =
            if judged.drops() { judged.observed.with(judged.reason) } else { judged.observed };
        assert_eq!(passing.observed, observed, "{}", case.name);
        // It is the first moment that drops again.
        tables.config.pass_until_mono_ns = tables.now_ns();
        assert_eq!(verdict(case.frame.as_slice(), &tables), judged, "{}", case.name);
    }
}
