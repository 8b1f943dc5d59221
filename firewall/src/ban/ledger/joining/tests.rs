//! What is joined, what is not, how long it lasts, and what is given back.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::address::PeerAddr;
use crate::ban::aggregate::Aggregation;
use crate::ban::ledger::{Capacity, LedgerError};
use crate::ban::record::ChangeKind;
use crate::ban::threshold::Threshold;
use crate::violation::Offence;

const MINUTE: Duration = Duration::from_mins(1);
const FEW: Aggregation = Aggregation { ipv4: 4, ipv6: 3, watermark: 80, crowded: 2 };
/// Nothing is joined before the table is nearly full.
const CROWDED: Aggregation = Aggregation { ipv4: 0, ipv6: 0, watermark: 80, crowded: 2 };

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_ns(seconds * 1_000_000_000)
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ledger(aggregation: Aggregation, exempt: &[&str], capacity: Capacity) -> BanLedger {
    let exempt = exempt.iter().map(|text| net(text)).collect();
    BanLedger::new(Threshold::default(), Arc::new(exempt), capacity).joining(aggregation)
}

fn few() -> BanLedger {
    ledger(FEW, &[], Capacity::default())
}

/// Bans a source as the keeper does; gives what became of it and of its neighbours.
fn offend(ledger: &mut BanLedger, address: &str, now: u64) -> (Vec<BanChange>, Vec<BanChange>) {
    let address: IpAddr = address.parse().unwrap();
    let mut accuse = || {
        let (client, peer) = (ClientAddr(address), PeerAddr::new(address));
        ledger.offend(client, peer, Offence::Framing, "framing.host", at(now))
    };
    assert_eq!(accuse(), []);
    let changes = accuse();
    let target = changes.last().unwrap().target;
    (changes, ledger.join_around(target, at(now)))
}

fn set(target: &str, until: u64) -> BanChange {
    let kind = ChangeKind::Set { until: at(until) };
    BanChange { target: net(target), planes: Planes::Both, kind }
}

fn lift(target: &str, cause: LiftCause) -> BanChange {
    BanChange { target: net(target), planes: Planes::Both, kind: ChangeKind::Lift { cause } }
}

fn targets(ledger: &BanLedger) -> Vec<String> {
    ledger.list(None).map(|ban| ban.target.to_string()).collect()
}

#[test]
fn neighbours_are_joined_when_there_are_enough() {
    let mut ledger = few();
    for host in 1..=3 {
        assert_eq!(offend(&mut ledger, &format!("192.0.2.{host}"), 0).1, [], "{host} are too few");
    }
    // One of another /24 is nobody's neighbour.
    assert_eq!(offend(&mut ledger, "192.0.3.4", 0).1, []);
    let joined = offend(&mut ledger, "192.0.2.200", 0).1;
    let gone = ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "192.0.2.200/32"];
    let mut expected = vec![set("192.0.2.0/24", 60)];
    expected.extend(gone.map(|gone| lift(gone, LiftCause::Joined)));
    assert_eq!(joined, expected);
    assert_eq!(targets(&ledger), ["192.0.2.0/24", "192.0.3.4/32"]);
    let ban = ledger.find("192.0.2.77".parse().unwrap(), at(59)).unwrap();
    assert_eq!(
        (ban.origin, ban.joined, ban.rule.as_deref()),
        (Origin::Aggregate, 4, Some("framing.host"))
    );
    assert_eq!(&*ban.reason, "in place of 4 bans within it");
    assert_eq!((ledger.count(Origin::Aggregate), ledger.count(Origin::Automatic)), (1, 1));
    // The sources keep their steps: who offends again after the end is banned for longer.
    assert_eq!(ledger.expire(at(60)).len(), 2);
    assert_eq!(offend(&mut ledger, "192.0.2.1", 60).0, [set("192.0.2.1/32", 360)]);
}

#[test]
fn networks_become_a_site_s_and_sites_a_customer_s() {
    let mut ledger = few();
    for site in 0..3 {
        for network in 0..3 {
            let address = format!("2001:db8:0:{:x}::1", site * 0x100 + network);
            let joined = offend(&mut ledger, &address, 0).1;
            let expected =
                usize::from(network == 2) * 4 + usize::from((site, network) == (2, 2)) * 4;
            assert_eq!(joined.len(), expected, "{address}");
        }
    }
    assert_eq!(targets(&ledger), ["2001:db8::/48"]);
    assert_eq!(ledger.list(None).next().unwrap().joined, 9);
    assert_eq!(ledger.find("2001:db8:0:ffff::1".parse().unwrap(), at(59)).unwrap().joined, 9);
    assert_eq!(ledger.find("2001:db8:1::1".parse().unwrap(), at(59)), None);
}

#[test]
fn a_prefix_lasts_as_long_as_half_of_what_it_takes_the_place_of() {
    // The ends of four bans; the prefix's end; the ends of those that stay beside it.
    for (ends, until, stay) in [
        ([60, 60, 60, 60], 60, &[][..]),
        ([60, 61, 62, 63], 62, &[63]),
        ([60, 60, 60, 300], 60, &[300]),
        ([60, 300, 300, 300], 300, &[]),
        // Of what has ended, and is not lifted yet, nobody is a neighbour.
        ([20, 60, 60, 60], 0, &[]),
    ] {
        let mut ledger = few();
        for (host, end) in (1..).zip(ends) {
            let target = IpNet::from(IpAddr::from([192, 0, 2, host]));
            ledger.restore(ban(target, Origin::Automatic, end), at(0)).unwrap();
        }
        let joined = ledger.join_around(net("192.0.2.1/32"), at(30));
        if until == 0 {
            assert_eq!(joined, [], "{ends:?}");
            continue;
        }
        assert_eq!(joined.first(), Some(&set("192.0.2.0/24", until)), "{ends:?}");
        assert_eq!(joined.len(), 1 + 4 - stay.len(), "{ends:?}");
        let stayed: Vec<Monotonic> = ledger.list(None).skip(1).map(|ban| ban.until).collect();
        assert_eq!(stayed, stay.iter().map(|&end| at(end)).collect::<Vec<_>>(), "{ends:?}");
    }
}

fn ban(target: IpNet, origin: Origin, until: u64) -> Ban {
    let until = if until == u64::MAX { Monotonic::NEVER } else { at(until) };
    Ban {
        target,
        since: at(0),
        until,
        ttl: (until != Monotonic::NEVER).then(|| until.since(at(0))),
        origin,
        rule: None,
        reason: Box::default(),
        step: 0,
        planes: Planes::Both,
        observed: false,
        drops: DropCount::default(),
        joined: u32::from(origin == Origin::Aggregate) * 4,
    }
}

#[test]
fn nobody_else_is_covered() {
    let operator = |target| ban(net(target), Origin::Operator, u64::MAX);
    let kernel = |target| ban(net(target), Origin::Kernel, 1000);
    for (case, exempt, others, joined) in [
        ("nothing in the way", &[][..], vec![], true),
        ("an exempt address", &["192.0.2.255/32"], vec![], false),
        ("the next address is exempt", &["192.0.3.0/32"], vec![], true),
        ("an exempt network around it", &["192.0.0.0/16"], vec![], false),
        ("an operator's ban of one address", &[], vec![operator("192.0.2.9/32")], false),
        ("an operator's ban of the block", &[], vec![operator("192.0.2.0/24")], false),
        ("an operator's ban around it", &[], vec![operator("192.0.0.0/16")], false),
        ("an operator's ban beside it", &[], vec![operator("192.0.3.0/24")], true),
        ("a ban that the kernel alone knew", &[], vec![kernel("192.0.2.9/32")], false),
        ("one that the kernel alone knew, around", &[], vec![kernel("192.0.0.0/22")], false),
    ] {
        let mut ledger = ledger(FEW, exempt, Capacity::default());
        for other in others {
            ledger.restore(other, at(0)).unwrap();
        }
        for host in 1..=4 {
            let target = IpNet::from(IpAddr::from([192, 0, 2, host]));
            // The source of an exempt address is never banned, others are.
            if ledger.restore(ban(target, Origin::Automatic, 60), at(0)).is_err() {
                assert_eq!(case, "an exempt network around it");
            }
        }
        let changes = ledger.join_around(net("192.0.2.1/32"), at(0));
        assert_eq!(!changes.is_empty(), joined, "{case}");
    }
}

#[test]
fn only_bans_alike_are_neighbours() {
    let alike = |host: u8| ban(IpNet::from(IpAddr::from([192, 0, 2, host])), Origin::Automatic, 60);
    let proxied = |host| Ban { planes: Planes::Proxy, ..alike(host) };
    let observed = |host| Ban { observed: true, ..alike(host) };
    let kernel = |host: u8| Ban { origin: Origin::Kernel, ..alike(host + 100) };
    for (case, fourth, joined) in [
        ("alike", alike(4), true),
        // The card does not see those who come through a proxy.
        ("of the proxy alone", proxied(4), false),
        ("only observed", observed(4), false),
        ("without a record of why", kernel(4), false),
    ] {
        let mut ledger = few();
        for ban in [alike(1), alike(2), alike(3), fourth] {
            ledger.restore(ban, at(0)).unwrap();
        }
        assert_eq!(!ledger.join_around(net("192.0.2.1/32"), at(0)).is_empty(), joined, "{case}");
    }
}

#[test]
fn sources_in_good_standing_are_spared() {
    let mut ledger = few();
    let standing = "192.0.2.9".parse().unwrap();
    ledger.note_standing(standing, true);
    ledger.note_standing("2001:db8:0:3::9".parse().unwrap(), true);
    for host in 1..=8 {
        assert_eq!(offend(&mut ledger, &format!("192.0.2.{host}"), 0).1, []);
    }
    for network in 0..3 {
        assert_eq!(offend(&mut ledger, &format!("2001:db8:0:{network}::1"), 0).1, []);
    }
    ledger.note_standing(standing, false);
    assert_eq!(offend(&mut ledger, "192.0.2.9", 0).1.len(), 10);
}

#[test]
fn an_operator_lifts_one_address_of_an_aggregate() {
    let mut ledger = few();
    for host in [1, 2, 128, 255] {
        offend(&mut ledger, &format!("192.0.2.{host}"), 0);
    }
    assert_eq!(targets(&ledger), ["192.0.2.0/24"]);
    assert_eq!(ledger.removable(net("192.0.2.1/32")).unwrap().target, net("192.0.2.0/24"));
    let changes = ledger.remove(net("192.0.2.1/32"), at(10)).unwrap();
    // What stays is banned before the whole is lifted.
    let rest = [
        "192.0.2.0/32",
        "192.0.2.2/31",
        "192.0.2.4/30",
        "192.0.2.8/29",
        "192.0.2.16/28",
        "192.0.2.32/27",
        "192.0.2.64/26",
        "192.0.2.128/25",
    ];
    let mut expected: Vec<_> = rest.iter().map(|rest| set(rest, 60)).collect();
    expected.push(lift("192.0.2.0/24", LiftCause::Operator));
    assert_eq!(changes, expected);
    for host in 0..=255 {
        let found = ledger.find(IpAddr::from([192, 0, 2, host]), at(59));
        assert_eq!(found.is_some(), host != 1, "{host}");
    }
    assert_eq!(ledger.standing(ClientAddr("192.0.2.1".parse().unwrap()), at(10)), (0, 0));
    let again = ledger.remove(net("192.0.2.1/32"), at(10));
    assert_eq!(again, Err(LedgerError::NotBanned { target: net("192.0.2.1/32"), covering: None }));
    // Its neighbours may do what they like: for a day nothing covers it again.
    ledger.expire(at(60));
    let day = 24 * 3600;
    for (now, first, joined) in [(60, 10, false), (day + 9, 20, false), (day + 10, 30, true)] {
        for host in first..first + 4 {
            let address = IpAddr::from([192, 0, 2, host]);
            if ledger.find(address, at(now)).is_none() {
                offend(&mut ledger, &address.to_string(), now);
            }
        }
        let covered = ledger.find("192.0.2.1".parse().unwrap(), at(now)).is_some();
        assert_eq!(covered, joined, "at {now} s");
    }
}

#[test]
fn a_host_of_an_aggregate_is_its_64() {
    let mut ledger = few();
    for network in 0..3 {
        offend(&mut ledger, &format!("2001:db8:0:{network}::1"), 0);
    }
    let changes = ledger.remove(net("2001:db8:0:1::7/128"), at(10)).unwrap();
    assert_eq!(changes.last(), Some(&lift("2001:db8::/56", LiftCause::Operator)));
    // In steps of four bits: a look-up tries few lengths.
    let lengths = changes.iter().map(|change| change.target.prefix_len());
    assert_eq!(lengths.clone().filter(|length| *length == 60).count(), 15);
    assert_eq!(lengths.filter(|length| *length == 64).count(), 15);
    assert_eq!(changes.len(), 31);
    for (address, banned) in [
        ("2001:db8:0:0::1", true),
        ("2001:db8:0:1::1", false),
        ("2001:db8:0:2::1", true),
        ("2001:db8:0:ff::1", true),
        ("2001:db8:0:100::1", false),
    ] {
        assert_eq!(ledger.find(address.parse().unwrap(), at(59)).is_some(), banned, "{address}");
    }
}

#[test]
fn an_operator_s_ban_is_outlived_by_nothing() {
    let mut ledger = few();
    for host in 1..=4 {
        offend(&mut ledger, &format!("192.0.2.{host}"), 0);
    }
    let target = net("192.0.2.1/32");
    let ten = Some(Duration::from_secs(10));
    let changes = ledger.add(target, ten, String::new(), at(0)).unwrap();
    assert_eq!(changes.first(), Some(&set("192.0.2.1/32", 10)));
    assert_eq!(changes.last(), Some(&lift("192.0.2.0/24", LiftCause::Operator)));
    let is_banned = |ledger: &BanLedger, host, now| {
        ledger.find(IpAddr::from([192, 0, 2, host]), at(now)).is_some()
    };
    assert!(is_banned(&ledger, 1, 9) && is_banned(&ledger, 2, 59));
    ledger.expire(at(10));
    assert!(!is_banned(&ledger, 1, 10), "the operator said ten seconds");
    assert!(is_banned(&ledger, 2, 59), "and nothing of the others");
    // Of a host of a /64 that is banned as one, the /64 is not let go; but it ends with the host.
    let mut ledger = few();
    for network in 0..3 {
        offend(&mut ledger, &format!("2001:db8:0:{network}::1"), 0);
    }
    let target = net("2001:db8:0:1::1/128");
    let changes = ledger.add(target, ten, String::new(), at(0)).unwrap();
    assert_eq!(changes, [set("2001:db8:0:1::1/128", 10), set("2001:db8::/56", 10)]);
    let changes = ledger.add(target, None, String::new(), at(0)).unwrap();
    assert_eq!(changes.len(), 1, "one without end shortens nothing");
}

#[test]
fn above_the_watermark_few_are_enough() {
    let capacity = Capacity { bans: 10, ..Capacity::default() };
    let mut ledger = ledger(CROWDED, &[], capacity);
    for host in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1", "198.51.100.2"] {
        assert_eq!(offend(&mut ledger, host, 0).1, [], "{host}");
    }
    for host in 1..=3 {
        offend(&mut ledger, &format!("203.0.{host}.1"), 0);
    }
    assert_eq!(ledger.len(), 8);
    assert_eq!(ledger.relieve(at(1)), [], "eight of ten are at the watermark");
    offend(&mut ledger, "203.0.4.1", 1);
    let joined = ledger.relieve(at(1));
    assert_eq!(joined.first(), Some(&set("192.0.2.0/24", 60)), "where there are most");
    assert_eq!(joined.len(), 4, "and no more than needed");
    assert_eq!(ledger.relieve(at(1)), []);
}

#[test]
fn a_full_table_joins_before_it_evicts() {
    let capacity = Capacity { bans: 3, ..Capacity::default() };
    let mut ledger = ledger(CROWDED, &[], capacity);
    for host in ["192.0.2.1", "192.0.2.2", "198.51.100.1"] {
        offend(&mut ledger, host, 0);
    }
    let (changes, _) = offend(&mut ledger, "203.0.113.1", 1);
    let expected = [
        set("192.0.2.0/24", 60),
        lift("192.0.2.1/32", LiftCause::Joined),
        lift("192.0.2.2/32", LiftCause::Joined),
        set("203.0.113.1/32", 61),
    ];
    assert_eq!(changes, expected);
    // Nobody has neighbours now: what is worth least goes.
    let (changes, _) = offend(&mut ledger, "203.0.114.1", 1);
    assert_eq!(changes, [lift("198.51.100.1/32", LiftCause::Evicted), set("203.0.114.1/32", 61)]);
}

#[test]
fn what_is_worth_least_goes_first() {
    let automatic =
        |target, until, step| Ban { step, ..ban(net(target), Origin::Automatic, until) };
    let aggregate =
        |until, joined| Ban { joined, ..ban(net("192.0.2.0/24"), Origin::Aggregate, until) };
    let (first, second) = ("198.51.100.1/32", "203.0.113.1/32");
    let prefix = "192.0.2.0/24";
    for (case, one, other, goes) in [
        ("the shorter", automatic(first, 60, 0), automatic(second, 61, 0), first),
        (
            "of the same end, the first offender's",
            automatic(first, 60, 1),
            automatic(second, 60, 0),
            second,
        ),
        // 59 s twice over are 118, as much as 118 s once.
        ("59 s of a second ban", automatic(first, 60, 1), automatic(second, 120, 0), first),
        ("117 s of a first ban", automatic(first, 60, 1), automatic(second, 118, 0), second),
        (
            "eight bans count as a hundred",
            automatic(first, 60, 7),
            automatic(second, 60, 99),
            first,
        ),
        (
            "many joined are worth more than one",
            aggregate(60, 64),
            automatic(second, 3000, 0),
            second,
        ),
        ("but not for ever", aggregate(60, 64), automatic(second, 3800, 0), prefix),
        (
            "an operator's is never asked",
            ban(net(first), Origin::Operator, 2),
            automatic(second, 3000, 7),
            second,
        ),
        (
            "a stranger's without end",
            ban(net(first), Origin::Kernel, u64::MAX),
            aggregate(9999, 9),
            prefix,
        ),
    ] {
        let mut ledger = ledger(CROWDED, &[], Capacity { bans: 2, ..Capacity::default() });
        for ban in [one, other] {
            ledger.restore(ban, at(0)).unwrap();
        }
        let (changes, _) = offend(&mut ledger, "10.0.0.1", 1);
        assert_eq!(changes.first(), Some(&lift(goes, LiftCause::Evicted)), "{case}");
    }
}

#[test]
fn aggregates_leave_ranges_to_the_operator() {
    let mut ledger = ledger(FEW, &[], Capacity { ranges: 4, ..Capacity::default() });
    let mut made = 0;
    for network in 1..=4 {
        for host in 1..=4 {
            made += usize::from(
                !offend(&mut ledger, &format!("192.0.{network}.{host}"), 0).1.is_empty(),
            );
        }
    }
    assert_eq!(made, 2, "half of the four");
    for range in ["198.51.100.0/24", "203.0.113.0/24"] {
        assert!(ledger.add(net(range), Some(MINUTE), String::new(), at(0)).is_ok(), "{range}");
    }
    // Where there is no room for what is left of an aggregate, the whole of it is lifted.
    let changes = ledger.remove(net("192.0.1.1/32"), at(0)).unwrap();
    assert_eq!(changes, [lift("192.0.1.0/24", LiftCause::Operator)]);
}

#[test]
fn switched_off_nothing_is_joined() {
    let never = Aggregation { ipv4: 0, ipv6: 0, watermark: 1, crowded: 0 };
    let mut ledger = ledger(never, &[], Capacity { bans: 300, ..Capacity::default() });
    for host in 0..=255 {
        assert_eq!(offend(&mut ledger, &format!("192.0.2.{host}"), 0).1, []);
    }
    assert_eq!(ledger.relieve(at(0)), []);
    assert_eq!(ledger.len(), 256);
}
