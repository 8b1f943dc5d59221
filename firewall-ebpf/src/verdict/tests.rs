//! The packet path on the host: the table of cases, and every truncation of every frame.

use std::cell::Cell;

use firewall_common::{Config, Mode, Policy, Reason, Reasons, Role};

use super::{
    Class, Findings, Flow, Network, Socket, Tables, inspect, is_ordinary4, is_ordinary6, link,
    verdict,
};
use crate::cases::{self, Case, Prefix};
use crate::packet::Packet as _;
use crate::source::Source;

fn reasons(list: &[Reason]) -> Reasons {
    list.iter().fold(Reasons::NONE, |set, &reason| set.with(reason))
}

#[test]
fn every_case_gets_its_verdict() {
    let mut wrong = Vec::new();
    for case in cases::all() {
        let verdict = verdict(case.frame.as_slice(), &case.tables());
        if (verdict.reason(), verdict.observed) != (case.reason, reasons(&case.observed)) {
            let observed = Reason::ALL.iter().filter(|reason| verdict.observed.holds(**reason));
            let observed = observed.map(|reason| reason.id()).collect::<Vec<_>>();
            wrong.push(format!("{}: {}, observed {observed:?}", case.name, verdict.reason().id()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_reason_is_some_cases_verdict() {
    let cases = cases::all();
    // A cookie is the answer of a program of its own.
    let reasons = Reason::ALL.iter().filter(|reason| !matches!(reason, Reason::T16));
    for &reason in reasons {
        let is_seen = |case: &Case| case.reason == reason || case.observed.contains(&reason);
        assert!(cases.iter().any(is_seen), "no case gets {}", reason.id());
    }
}

/// What is taken for ordinary is not inspected: it must be what no check would object to.
#[test]
fn what_is_ordinary_is_never_objected_to() {
    let mut ordinary = 0;
    for case in cases::all() {
        let tables = case.tables();
        let mut all = Policy::new(Role::Internet);
        for &reason in Reason::ALL.iter().filter(|reason| reason.is_check()) {
            // These look at what is ordinary: then nothing is.
            if !matches!(reason, Reason::I3 | Reason::I13 | Reason::T14 | Reason::U3 | Reason::U4) {
                all = all.with(reason, Mode::Drop);
            }
        }
        for length in 0..=case.frame.len().min(200) {
            let frame = &case.frame[..length];
            let mut findings = Findings::new(&all);
            let link = link(frame, &mut findings);
            let is_ordinary = match link.network {
                Network::Ipv4 => frame.read(link.offset).is_some_and(|header| {
                    is_ordinary4(frame, &header, link, &tables.config, &findings)
                }),
                Network::Ipv6 => frame.read(link.offset).is_some_and(|header| {
                    is_ordinary6(frame, &header, link, &tables.config, &findings)
                }),
                Network::Other => false,
            };
            if is_ordinary {
                let found = inspect(frame, &tables, link, Findings::new(&all));
                assert_eq!(found, Reasons::NONE, "{} cut to {length}", case.name);
                ordinary += 1;
            }
        }
    }
    assert!(ordinary > 20, "{ordinary} ordinary frames are not enough to say so");
}

#[test]
fn nothing_that_must_pass_is_objected_to() {
    for case in cases::never() {
        let verdict = verdict(case.frame.as_slice(), &case.tables());
        assert_eq!(
            (verdict.reason(), verdict.observed),
            (Reason::Passed, Reasons::NONE),
            "{}",
            case.name
        );
    }
}

#[test]
fn every_check_drops_observes_and_is_off() {
    let mut dropped = Reasons::NONE;
    for case in cases::all() {
        let sound = case.tables();
        let found = verdict(case.frame.as_slice(), &sound);
        let reason = if found.drops() {
            found.reason()
        } else {
            found.observed.first().unwrap_or(Reason::Passed)
        };
        if !reason.is_check() {
            continue;
        }
        for mode in [Mode::Drop, Mode::Observe, Mode::Off] {
            let mut tables = case.tables();
            tables.policy = tables.policy.with(reason, mode);
            let again = verdict(case.frame.as_slice(), &tables);
            let observes = again.observed.holds(reason);
            let drops = again.reason() == reason;
            let name = case.name;
            if again.drops() && !drops {
                // Another check of a lesser number drops it.
                continue;
            }
            assert_eq!((drops, observes), (mode == Mode::Drop, mode == Mode::Observe), "{name}");
            if drops {
                dropped = dropped.with(reason);
            }
        }
    }
    for &reason in Reason::ALL.iter().filter(|reason| reason.is_check()) {
        assert!(dropped.holds(reason), "{} never drops", reason.id());
    }
}

#[test]
fn a_truncated_frame_is_judged_by_what_is_left() {
    for case in cases::all() {
        let tables = case.tables();
        for length in 0..case.frame.len().min(200) {
            let verdict = verdict(&case.frame[..length], &tables);
            if length < 14 {
                assert_eq!(verdict.reason(), Reason::E1, "{} cut to {length}", case.name);
            }
            let is_banned = matches!(verdict.reason(), Reason::Ban | Reason::BanRange);
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
            assert_eq!(verdict.reason(), Reason::Ban, "{} cut to {length}", case.name);
        }
    }
}

/// Counts what a packet asks of the tables.
struct Asked<'a> {
    tables: &'a cases::HostTables,
    lookups: Cell<u32>,
    clock: Cell<u32>,
    drops: Cell<u32>,
    charges: Cell<u32>,
}

impl<'a> Asked<'a> {
    fn new(tables: &'a cases::HostTables) -> Self {
        let [lookups, clock, drops, charges] = [0; 4].map(Cell::new);
        Self { tables, lookups, clock, drops, charges }
    }
}

impl Tables for Asked<'_> {
    type Hit = Prefix;

    const NO_HIT: Prefix = cases::HostTables::NO_HIT;

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

    fn ban(&self, source: Source) -> Option<Prefix> {
        self.lookups.set(self.lookups.get() + 1);
        self.tables.ban(source)
    }

    fn spilled(&self, source: Source) -> Option<Prefix> {
        self.lookups.set(self.lookups.get() + 1);
        self.tables.spilled(source)
    }

    fn is_range(&self, hit: Prefix) -> bool {
        self.tables.is_range(hit)
    }

    fn allows(&self, source: Source) -> bool {
        self.lookups.set(self.lookups.get() + 1);
        self.tables.allows(source)
    }

    fn is_own(&self, address: Source) -> bool {
        self.lookups.set(self.lookups.get() + 1);
        self.tables.is_own(address)
    }

    fn socket(&self, flow: &Flow) -> Socket {
        self.lookups.set(self.lookups.get() + 1);
        self.tables.socket(flow)
    }

    fn count_drop(&self, _: Prefix) {
        self.drops.set(self.drops.get() + 1);
    }

    fn charge(&self, class: Class, source: Source, asked: Reasons) -> Reasons {
        self.charges.set(self.charges.get() + 1);
        self.tables.charge(class, source, asked)
    }
}

#[track_caller]
fn check_cost(name: &str, lookups: u32, clock: u32, drops: u32) {
    let case = cases::all().into_iter().find(|case| case.name == name).unwrap();
    let tables = case.tables();
    let asked = Asked::new(&tables);
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
    check_cost("a banned address in a banned range", 1, 0, 1);
    check_cost("an allowed address, nothing wrong", 0, 0, 0);
    check_cost("an allowed address is banned", 2, 0, 0);
    check_cost("a ban observed", 1, 0, 0);
    check_cost("a ban observed, then a scan dropped", 1, 0, 0);
}

#[test]
fn only_what_has_a_budget_is_charged() {
    for (name, charges) in [
        ("a clean packet", 0),
        ("an ACK has no budget", 0),
        ("by default packets have none", 0),
        ("a SYN whose budget is off", 1),
        ("a check comes before the budget", 0),
        ("a SYN observed", 1),
        ("an ACK without a budget for packets", 1),
    ] {
        let case = cases::all().into_iter().find(|case| case.name == name).unwrap();
        let tables = case.tables();
        let asked = Asked::new(&tables);
        verdict(case.frame.as_slice(), &asked);
        assert_eq!(asked.charges.get(), charges, "{name}");
    }
}

#[test]
fn a_ban_that_covers_nothing_allowed_does_not_ask_the_allowlist() {
    let case = cases::all().into_iter().find(|case| case.name == "another is allowed").unwrap();
    let mut tables = case.tables();
    tables.config.tables &= !firewall_common::table::ALLOWED_BAN;
    let asked = Asked::new(&tables);
    assert_eq!(verdict(case.frame.as_slice(), &asked).reason(), Reason::Ban);
    assert_eq!(asked.lookups.get(), 1);
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
            if judged.drops() { judged.observed.or(judged.acted) } else { judged.observed };
        assert_eq!(passing.observed, observed, "{}", case.name);
        // It is the first moment that drops again.
        tables.config.pass_until_mono_ns = tables.now_ns();
        assert_eq!(verdict(case.frame.as_slice(), &tables), judged, "{}", case.name);
    }
}

#[test]
fn without_a_daemon_everything_passes_and_that_is_counted() {
    for case in cases::all() {
        let mut tables = case.tables();
        let judged = verdict(case.frame.as_slice(), &tables);
        // It is the last moment that drops.
        tables.config.drop_until_mono_ns = tables.now_ns() + 1;
        assert_eq!(verdict(case.frame.as_slice(), &tables), judged, "{}", case.name);
        tables.config.drop_until_mono_ns = tables.now_ns();
        let passing = verdict(case.frame.as_slice(), &tables);
        assert!(!passing.drops(), "{}", case.name);
        let unattended = Reasons::NONE.with(Reason::Passed);
        let observed = if judged.drops() {
            judged.observed.or(judged.acted).or(unattended)
        } else {
            judged.observed
        };
        assert_eq!(passing.observed, observed, "{}", case.name);
        // That everything passes by order changes nothing.
        tables.config.pass_until_mono_ns = tables.now_ns() + 1;
        assert_eq!(verdict(case.frame.as_slice(), &tables), passing, "{}", case.name);
    }
}
