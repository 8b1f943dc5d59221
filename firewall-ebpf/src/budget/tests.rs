//! Budgets on the host: refill, burst, n and n + 1, idleness, replacement, multiples, shedding.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::{Budget, Budgeted, Payer, Reason, Reasons, WAYS};

use super::{Class, Purse as _, charge, owner, spend};
use crate::cases::{HostPurse, payer};

const SECOND: u64 = 1_000_000_000;
const SEEDS: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

fn someone() -> Payer {
    payer(IpAddr::from([192, 0, 2, 7]))
}

fn purse(budgeted: Budgeted, budget: Budget) -> HostPurse {
    let mut purse = HostPurse { now_ns: 1_000 * SECOND, ..HostPurse::default() };
    purse.budgets = purse.budgets.with(budgeted, budget);
    purse.budgets.seeds = SEEDS;
    purse
}

fn only(reason: Reason) -> Reasons {
    Reasons::NONE.with(reason)
}

/// How many of `sent` SYNs pass, all at once.
fn passed(purse: &mut HostPurse, payer: Payer, sent: u32) -> u32 {
    let asked = only(Reason::T15);
    (0..sent).map(|_| u32::from(charge(purse, Class::Syn, payer, asked).is_empty())).sum()
}

#[test]
fn a_burst_passes_and_the_next_does_not() {
    for burst in [0, 1, 2, 400] {
        let mut purse = purse(Budgeted::Syn, Budget::per_second(200, burst));
        assert_eq!(passed(&mut purse, someone(), burst + 1), burst);
        assert_eq!(passed(&mut purse, someone(), 10), 0, "what is refused costs nothing");
    }
}

#[test]
fn what_was_spent_is_earned_again_at_the_rate() {
    let mut purse = purse(Budgeted::Syn, Budget::per_second(200, 400));
    assert_eq!(passed(&mut purse, someone(), 1_000), 400);
    purse.now_ns += SECOND / 200 - 1;
    assert_eq!(passed(&mut purse, someone(), 1), 0);
    purse.now_ns += 1;
    assert_eq!(passed(&mut purse, someone(), 2), 1);
    purse.now_ns += SECOND;
    assert_eq!(passed(&mut purse, someone(), 1_000), 200);
    // However long it is quiet, it has no more than its burst.
    purse.now_ns += 3_600 * SECOND;
    assert_eq!(passed(&mut purse, someone(), 1_000), 400);
}

#[test]
fn a_source_at_its_rate_is_never_refused() {
    let mut purse = purse(Budgeted::Syn, Budget::per_second(100, 1));
    for _ in 0..10_000 {
        assert_eq!(passed(&mut purse, someone(), 1), 1);
        purse.now_ns += SECOND / 100;
    }
}

#[test]
fn sources_do_not_pay_for_each_other() {
    let mut purse = purse(Budgeted::Syn, Budget::per_second(1, 3));
    let v6 = |text: &str| payer(text.parse::<Ipv6Addr>().unwrap().into());
    assert_eq!(passed(&mut purse, someone(), 9), 3);
    assert_eq!(passed(&mut purse, payer(IpAddr::from([192, 0, 2, 8])), 9), 3);
    // One /64 is one source; an IPv6 network is not the IPv4 address of the same octets.
    assert_eq!(passed(&mut purse, v6("2001:db8:1:2::1"), 2), 2);
    assert_eq!(passed(&mut purse, v6("2001:db8:1:2:ffff::"), 9), 1);
    assert_eq!(passed(&mut purse, v6("2001:db8:1:3::1"), 9), 3);
    assert_eq!(passed(&mut purse, v6("c000:207::"), 9), 3);
}

#[test]
fn budgets_do_not_pay_for_each_other() {
    let budget = Budget::per_second(1, 2);
    let mut purse = purse(Budgeted::Syn, budget);
    purse.budgets = purse.budgets.with(Budgeted::Udp, budget).with(Budgeted::Echo, budget);
    for (class, reason) in
        [(Class::Syn, Reason::T15), (Class::Udp, Reason::B1), (Class::Echo, Reason::C1)]
    {
        let asked = only(reason);
        for expected in [Reasons::NONE, Reasons::NONE, asked] {
            assert_eq!(charge(&mut purse, class, someone(), asked), expected);
        }
    }
}

#[test]
fn what_one_source_may_not_send_is_not_taken_from_all() {
    let mut purse = purse(Budgeted::Echo, Budget::per_second(1, 1));
    purse.budgets = purse.budgets.with(Budgeted::EveryEcho, Budget::per_second(1, 3));
    let mut echo = |address: [u8; 4]| {
        charge(&mut purse, Class::Echo, payer(address.into()), only(Reason::C1)).is_empty()
    };
    assert!(echo([192, 0, 2, 1]));
    for _ in 0..100 {
        assert!(!echo([192, 0, 2, 1]));
    }
    assert!(echo([192, 0, 2, 2]) && echo([192, 0, 2, 3]));
    assert!(!echo([192, 0, 2, 4]), "a fourth passes everybody's budget of three");
}

#[test]
fn nothing_is_looked_up_for_what_is_not_asked() {
    let mut purse = purse(Budgeted::Syn, Budget::per_second(1, 0));
    for class in [Class::Other, Class::Syn, Class::Udp, Class::Echo, Class::Error] {
        assert!(charge(&mut purse, class, someone(), Reasons::NONE).is_empty());
    }
    assert!(purse.sets.is_empty(), "{:?}", purse.sets);
}

#[test]
fn a_flood_makes_no_state_and_takes_nobody_s_budget() {
    let mut purse = purse(Budgeted::Syn, Budget::per_second(200, 400));
    let heavy = someone();
    assert_eq!(passed(&mut purse, heavy, 500), 400);
    for address in 0..200_000_u32 {
        let stranger = payer(Ipv4Addr::from(0x0a00_0000 + address).into());
        assert_eq!(passed(&mut purse, stranger, 1), 1, "{address}");
    }
    assert!(purse.sets.len() <= firewall_common::BUCKET_SETS as usize);
    assert_eq!(passed(&mut purse, heavy, 1), 0, "who owes most keeps his place");
}

/// Sources that all lie in one set, which nobody can find without the seeds.
#[test]
fn the_bucket_that_owes_least_gives_way() {
    let mut purse = purse(Budgeted::Syn, Budget::per_second(1, 10));
    let index = |payer| owner(payer, Budgeted::Syn, SEEDS) % 4096;
    let together: Vec<Payer> = (0..u32::MAX)
        .map(|address| payer(Ipv4Addr::from(address).into()))
        .filter(|payer| index(*payer) == 7)
        .take(WAYS + 1)
        .collect();
    for (spent, &payer) in (2..).zip(&together[..WAYS]) {
        assert_eq!(passed(&mut purse, payer, spent), spent);
    }
    assert_eq!(passed(&mut purse, together[WAYS], 1), 1);
    assert_eq!(purse.set(7).unwrap().owners.len(), WAYS);
    // The first owed least: its place is taken, so that it starts anew. The others go on owing.
    for (spent, &payer) in (2..).zip(&together[..WAYS]).skip(1) {
        assert_eq!(passed(&mut purse, payer, 20), 10 - spent);
    }
    assert_eq!(passed(&mut purse, together[0], 20), 10);
}

#[test]
fn a_multiplied_source_has_as_many_times_the_burst_and_the_rate() {
    for times in [1, 2, 10, 1_000] {
        let mut purse = purse(Budgeted::Syn, Budget::per_second(100, 200));
        purse.multipliers.push((someone(), times));
        assert_eq!(passed(&mut purse, someone(), 300_000), 200, "asked for no multiplier");
        purse.budgets.has_multipliers = 1;
        assert_eq!(passed(&mut purse, someone(), 300_000), 200 * (times - 1), "{times}");
        purse.now_ns += SECOND;
        assert_eq!(passed(&mut purse, someone(), 300_000), 100 * times, "{times}");
        assert_eq!(passed(&mut purse, payer(IpAddr::from([192, 0, 2, 8])), 300), 200);
    }
}

#[test]
fn a_multiplier_beyond_the_clock_still_has_an_end() {
    let mut purse = purse(Budgeted::Syn, Budget::per_second(500_000_000, 1));
    purse.multipliers.push((someone(), u32::MAX));
    purse.budgets.has_multipliers = 1;
    assert!(passed(&mut purse, someone(), 100) < 100);
}

#[test]
fn the_clock_s_end_is_no_way_around() {
    let budget = Budget::per_second(1, 5);
    assert_eq!(spend(u64::MAX, u64::MAX - SECOND, budget), Some(u64::MAX));
    assert_eq!(spend(u64::MAX, 0, budget), None);
    assert_eq!(spend(0, u64::MAX, budget), Some(u64::MAX));
    assert_eq!(spend(0, 7, Budget::UNLIMITED), Some(0));
    assert_eq!(spend(u64::MAX, 7, Budget::UNLIMITED), Some(u64::MAX));
    assert_eq!(spend(0, 7, Budget::per_second(0, 9)), None);
}

#[test]
fn other_seeds_forget_what_was_spent() {
    let mut purse = purse(Budgeted::Syn, Budget::per_second(1, 4));
    assert_eq!(passed(&mut purse, someone(), 9), 4);
    purse.budgets.seeds = [1, 2];
    assert_eq!(passed(&mut purse, someone(), 9), 4);
}

#[test]
fn owners_are_told_apart() {
    let mut seen = std::collections::HashSet::new();
    let mut per_set = vec![0_u32; 4096];
    for address in 0..100_000_u32 {
        let owner = owner(payer(Ipv4Addr::from(address).into()), Budgeted::Syn, SEEDS);
        assert!(seen.insert(owner), "{address}");
        per_set[usize::try_from(owner % 4096).unwrap()] += 1;
    }
    // About 24 each: successive addresses do not crowd.
    let most = per_set.iter().max().unwrap();
    assert!(*most < 60, "{most} of 100,000 addresses in one set of 4,096");
    for budgeted in [Budgeted::Udp, Budgeted::Echo, Budgeted::Packets] {
        assert!(seen.insert(owner(someone(), budgeted, SEEDS)));
    }
}

#[test]
fn shedding_spares_those_in_standing_and_ends_by_itself() {
    let mut purse = purse(Budgeted::Syn, Budget::UNLIMITED);
    let known = payer(IpAddr::from([192, 0, 2, 9]));
    purse.standing.push(known);
    let is_shed = |purse: &mut HostPurse, payer| {
        !charge(purse, Class::Syn, payer, only(Reason::S1)).is_empty()
    };
    assert!(!is_shed(&mut purse, someone()), "no pressure");
    purse.budgets.shed_until_mono_ns = purse.now_ns + SECOND;
    for (random, shed, expected) in [
        (0, 0, true),
        (1, 0, false),
        (1 << 31, 1 << 31, true),
        ((1 << 31) + 1, 1 << 31, false),
        (u32::MAX, u32::MAX - 1, false),
        (u32::MAX, u32::MAX, true),
    ] {
        (purse.random, purse.budgets.shed) = (random, shed);
        assert_eq!(is_shed(&mut purse, someone()), expected, "{random} of {shed}");
        assert!(!is_shed(&mut purse, known));
    }
    let before = purse.tally;
    assert!(is_shed(&mut purse, someone()) && !is_shed(&mut purse, known));
    assert_eq!((purse.tally.syns, purse.tally.spared), (before.syns + 2, before.spared + 1));
    purse.now_ns += SECOND;
    assert!(!is_shed(&mut purse, someone()), "the daemon that asked for it is no more");
    purse.budgets.shed_until_mono_ns = u64::MAX;
    assert!(is_shed(&mut purse, someone()));
    assert!(charge(&mut purse, Class::Udp, someone(), only(Reason::S1)).is_empty());
}
