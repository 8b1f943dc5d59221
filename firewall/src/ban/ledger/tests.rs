//! The ledger's rules, one table each: accepted, refused, boundary.

use super::*;
use crate::ban::record::ChangeKind;
use crate::ban::threshold::Ladder;

const MINUTE: Duration = Duration::from_mins(1);

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_ns(seconds * 1_000_000_000)
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ledger(exempt: &[&str], capacity: Capacity) -> BanLedger {
    let exempt = exempt.iter().map(|text| net(text)).collect();
    BanLedger::new(Threshold::default(), Arc::new(exempt), capacity)
}

fn plain() -> BanLedger {
    ledger(&[], Capacity::default())
}

fn offend(ledger: &mut BanLedger, client: &str, offence: Offence, now: u64) -> Vec<BanChange> {
    let address = client.parse().unwrap();
    ledger.offend(ClientAddr(address), PeerAddr::new(address), offence, "test.rule", at(now))
}

/// Offends until the ban; gives it and the number of offences.
fn offend_until_banned(ledger: &mut BanLedger, client: &str, now: u64) -> (BanChange, usize) {
    for count in 1..=100 {
        if let Some(&change) = offend(ledger, client, Offence::Body, now).last() {
            return (change, count);
        }
    }
    panic!("{client} is not banned after 100 offences");
}

fn set(target: &str, until: u64) -> BanChange {
    let kind = ChangeKind::Set { until: at(until) };
    BanChange { target: net(target), planes: Planes::Both, kind }
}

fn lift(target: &str, cause: LiftCause) -> BanChange {
    BanChange { target: net(target), planes: Planes::Both, kind: ChangeKind::Lift { cause } }
}

#[test]
fn the_last_offence_below_the_threshold_does_not_ban() {
    for (offence, needed) in
        [(Offence::Framing, 2), (Offence::Scan, 3), (Offence::Parameter, 5), (Offence::Body, 5)]
    {
        let mut ledger = plain();
        for count in 1..needed {
            assert_eq!(offend(&mut ledger, "192.0.2.7", offence, 10), [], "{offence:?} {count}");
        }
        assert_eq!(ledger.find("192.0.2.7".parse().unwrap(), at(10)), None);
        let expected = [set("192.0.2.7/32", 70)];
        assert_eq!(offend(&mut ledger, "192.0.2.7", offence, 10), expected, "{offence:?}");
    }
}

#[test]
fn scores_of_different_offences_add_up_and_leak() {
    // 40 + 20 + 20 + 50 = 130: enough, until 31 points (186 s) have leaked.
    for (pause, banned) in [(0, true), (185, true), (186, false), (600, false)] {
        let mut ledger = plain();
        for offence in [Offence::Scan, Offence::Parameter, Offence::Parameter] {
            assert_eq!(offend(&mut ledger, "192.0.2.7", offence, 0), []);
        }
        let changes = offend(&mut ledger, "192.0.2.7", Offence::Framing, pause);
        assert_eq!(!changes.is_empty(), banned, "after {pause} s");
    }
}

#[test]
fn each_ban_is_longer_until_good_behaviour_is_long_enough() {
    let mut ledger = plain();
    let mut now = 0;
    for (minutes, step) in [(1, 0), (5, 1), (30, 2), (240, 3), (1440, 4), (1440, 5)] {
        let (change, offences) = offend_until_banned(&mut ledger, "192.0.2.7", now);
        // The score begins anew with each ban.
        assert_eq!((change, offences), (set("192.0.2.7/32", now + 60 * minutes), 5));
        assert_eq!(ledger.get(net("192.0.2.7/32")).unwrap().step, step);
        now += 60 * minutes;
        assert_eq!(ledger.expire(at(now)), [lift("192.0.2.7/32", LiftCause::Expired)]);
    }
    // A second before the day is over the last rung still counts, at the day it does not.
    let day = 24 * 3600;
    let client = ClientAddr("192.0.2.7".parse().unwrap());
    assert_eq!(ledger.standing(client, at(now + day - 1)), (0, 6));
    assert_eq!(ledger.standing(client, at(now + day)), (0, 0));
    let (change, _) = offend_until_banned(&mut ledger, "192.0.2.7", now + day);
    assert_eq!(change, set("192.0.2.7/32", now + day + 60));
}

#[test]
fn all_of_a_64_is_one_source() {
    let mut ledger = plain();
    for host in 1..=4 {
        assert_eq!(offend(&mut ledger, &format!("2001:db8::{host}"), Offence::Body, 0), []);
    }
    // A neighbour in the next /64 has a score of its own.
    assert_eq!(offend(&mut ledger, "2001:db8:0:1::1", Offence::Body, 0), []);
    let changes = offend(&mut ledger, "2001:db8::ffff:0:0:5", Offence::Body, 0);
    assert_eq!(changes, [set("2001:db8::/64", 60)]);
    let find = |address: &str| ledger.find(address.parse().unwrap(), at(59)).map(|ban| ban.target);
    assert_eq!(find("2001:db8::ffff:ffff:ffff:ffff"), Some(net("2001:db8::/64")));
    assert_eq!(find("2001:db8:0:1::1"), None);
}

#[test]
fn mapped_addresses_are_the_ipv4_source() {
    let mut ledger = plain();
    for _ in 0..4 {
        assert_eq!(offend(&mut ledger, "::ffff:192.0.2.7", Offence::Body, 0), []);
    }
    assert_eq!(offend(&mut ledger, "192.0.2.7", Offence::Body, 0), [set("192.0.2.7/32", 60)]);
    ledger.add(net("::ffff:198.51.100.0/120"), None, String::new(), at(0)).unwrap();
    assert!(ledger.get(net("198.51.100.0/24")).is_some());
}

#[test]
fn a_client_behind_a_proxy_is_banned_in_the_proxy_alone() {
    let mut ledger = plain();
    let client = ClientAddr("192.0.2.7".parse().unwrap());
    let peer = PeerAddr::new("10.0.0.1".parse().unwrap());
    let mut changes = Vec::new();
    for _ in 0..2 {
        changes = ledger.offend(client, peer, Offence::Framing, "test.rule", at(0));
    }
    assert_eq!(changes, [BanChange { planes: Planes::Proxy, ..set("192.0.2.7/32", 60) }]);
    // Its lift says so too, for the kernel has nothing to delete.
    let change = ledger.remove(net("192.0.2.7/32"), at(1)).unwrap();
    assert_eq!(
        change,
        [BanChange { planes: Planes::Proxy, ..lift("192.0.2.7/32", LiftCause::Operator) }]
    );
}

#[test]
fn what_a_banned_source_still_does_is_not_scored() {
    let mut ledger = plain();
    offend_until_banned(&mut ledger, "192.0.2.7", 0);
    for _ in 0..100 {
        assert_eq!(offend(&mut ledger, "192.0.2.7", Offence::Framing, 59), []);
    }
    let (change, offences) = offend_until_banned(&mut ledger, "192.0.2.7", 60);
    assert_eq!((change, offences), (set("192.0.2.7/32", 360), 5));
}

#[test]
fn exempt_sources_never_score() {
    let mut ledger = ledger(&["127.0.0.0/8", "2001:db8::1/128"], Capacity::default());
    for _ in 0..100 {
        assert_eq!(offend(&mut ledger, "127.0.0.1", Offence::Framing, 0), []);
        assert_eq!(offend(&mut ledger, "::ffff:127.0.0.1", Offence::Framing, 0), []);
        assert_eq!(offend(&mut ledger, "2001:db8::1", Offence::Framing, 0), []);
    }
    assert_eq!(ledger.offenders(), 0);
    // Its neighbour in the /64 is banned with the /64; the exempt address is not.
    offend_until_banned(&mut ledger, "2001:db8::2", 0);
    assert!(ledger.find("2001:db8::2".parse().unwrap(), at(0)).is_some());
    assert_eq!(ledger.find("2001:db8::1".parse().unwrap(), at(0)), None);
}

#[test]
fn an_operator_cannot_ban_only_exempt_addresses() {
    let mut ledger = ledger(&["192.0.2.0/25"], Capacity::default());
    for (target, accepted) in [
        ("192.0.2.0/25", false),
        ("192.0.2.7/32", false),
        ("::ffff:192.0.2.7/128", false),
        ("192.0.2.128/32", true),
        ("192.0.2.0/24", true),
        ("0.0.0.0/0", true),
    ] {
        let result = ledger.add(net(target), None, String::new(), at(0));
        let expected = Err(LedgerError::Exempt { target: canonical(net(target)) });
        assert!(if accepted { result.is_ok() } else { result == expected }, "{target}: {result:?}");
    }
    assert_eq!(ledger.find("192.0.2.7".parse().unwrap(), at(0)), None);
    assert!(ledger.find("192.0.2.200".parse().unwrap(), at(0)).is_some());
}

#[test]
fn an_operators_word_has_bounds() {
    let mut ledger = plain();
    for (ttl, reason, expected) in [
        (Some(Duration::from_millis(999)), String::new(), Err(LedgerError::TooShort)),
        (Some(Duration::from_secs(1)), String::new(), Ok(())),
        (None, "é".repeat(128), Ok(())),
        (None, "é".repeat(128) + "x", Err(LedgerError::ReasonTooLong { bytes: 257 })),
        (None, "a\u{1b}[2J".to_owned(), Err(LedgerError::ReasonNotPrintable)),
    ] {
        let result = ledger.add(net("192.0.2.7/32"), ttl, reason.clone(), at(0)).map(|_| ());
        assert_eq!(result, expected, "{ttl:?} {reason:?}");
    }
}

#[test]
fn an_operators_ban_replaces_the_automatic_one_and_is_not_replaced() {
    let mut ledger = plain();
    offend_until_banned(&mut ledger, "192.0.2.7", 0);
    let changes = ledger.add(net("192.0.2.7/32"), Some(MINUTE / 2), "mine".to_owned(), at(0));
    assert_eq!(changes.unwrap(), [set("192.0.2.7/32", 30)]);
    for now in [0, 29] {
        for _ in 0..10 {
            assert_eq!(offend(&mut ledger, "192.0.2.7", Offence::Framing, now), []);
        }
    }
    assert_eq!(ledger.get(net("192.0.2.7/32")).unwrap().origin, Origin::Operator);
    // Once it has ended, whether or not it was lifted, offences count again.
    assert_eq!(offend_until_banned(&mut ledger, "192.0.2.7", 30).0, set("192.0.2.7/32", 330));
}

#[test]
fn lifting_forgives() {
    let mut ledger = plain();
    offend_until_banned(&mut ledger, "192.0.2.7", 0);
    let lifted = ledger.remove(net("192.0.2.7/32"), at(1));
    assert_eq!(lifted, Ok(vec![lift("192.0.2.7/32", LiftCause::Operator)]));
    assert_eq!(ledger.take_forgotten(), [net("192.0.2.7/32")]);
    assert_eq!(offend_until_banned(&mut ledger, "192.0.2.7", 2).0, set("192.0.2.7/32", 62));
}

#[test]
fn lifting_what_is_not_banned_names_what_covers_it() {
    let mut ledger = plain();
    ledger.add(net("192.0.2.0/24"), Some(MINUTE), String::new(), at(0)).unwrap();
    let target = net("192.0.2.7/32");
    let error = ledger.remove(target, at(0)).unwrap_err();
    assert_eq!(error.to_string(), "192.0.2.7/32 is not banned by itself, 192.0.2.0/24 covers it");
    let error = ledger.remove(target, at(60)).unwrap_err();
    assert_eq!(error, LedgerError::NotBanned { target, covering: None });
}

#[test]
fn a_full_table_gives_up_what_ends_first_of_bans_alike() {
    let mut ledger = ledger(&[], Capacity { bans: 3, ..Capacity::default() });
    ledger.add(net("10.0.0.1/32"), Some(MINUTE / 60), String::new(), at(0)).unwrap();
    offend_until_banned(&mut ledger, "192.0.2.1", 0);
    offend_until_banned(&mut ledger, "192.0.2.2", 1);
    let mut banned = |client: &str, now| -> Vec<BanChange> {
        for _ in 0..4 {
            assert_eq!(offend(&mut ledger, client, Offence::Body, now), []);
        }
        offend(&mut ledger, client, Offence::Body, now)
    };
    // The operator's ban has ended at 1 s, so it goes before the automatic ones.
    assert_eq!(
        banned("192.0.2.3", 1),
        [lift("10.0.0.1/32", LiftCause::Expired), set("192.0.2.3/32", 61)]
    );
    assert_eq!(
        banned("192.0.2.4", 2),
        [lift("192.0.2.1/32", LiftCause::Evicted), set("192.0.2.4/32", 62)]
    );
    for host in 5..=7 {
        ledger.add(net(&format!("10.0.0.{host}/32")), None, String::new(), at(3)).unwrap();
    }
    assert_eq!(ledger.len(), 3);
    let error = ledger.add(net("10.0.0.8/32"), None, String::new(), at(3));
    assert_eq!(error, Err(LedgerError::Full { capacity: 3 }));
    // An automatic ban cannot push an operator's out either, however often it offends.
    for _ in 0..20 {
        assert_eq!(offend(&mut ledger, "192.0.2.9", Offence::Framing, 3), []);
    }
    // Renewing one that is there needs no room.
    assert!(ledger.add(net("10.0.0.5/32"), Some(MINUTE), String::new(), at(3)).is_ok());
}

#[test]
fn ranges_have_a_capacity_of_their_own() {
    let mut ledger = ledger(&[], Capacity { ranges: 2, ..Capacity::default() });
    for (target, accepted) in [
        ("192.0.2.0/24", true),
        ("2001:db8::/48", true),
        ("198.51.100.0/24", false),
        ("198.51.100.1/32", true),
        ("2001:db8::/64", true),
        ("2001:db8::1/128", true),
        ("192.0.2.0/24", true),
    ] {
        let result = ledger.add(net(target), None, String::new(), at(0)).map(|_| ());
        let full = Err(LedgerError::RangesFull { capacity: 2 });
        assert_eq!(result, if accepted { Ok(()) } else { full }, "{target}");
    }
    ledger.remove(net("192.0.2.0/24"), at(0)).unwrap();
    assert!(ledger.add(net("198.51.100.0/24"), None, String::new(), at(0)).is_ok());
}

#[test]
fn offenders_are_bounded_and_the_emptiest_is_forgotten() {
    let mut ledger = ledger(&[], Capacity { offenders: 2, ..Capacity::default() });
    offend_until_banned(&mut ledger, "192.0.2.1", 0);
    offend(&mut ledger, "192.0.2.2", Offence::Scan, 0);
    offend(&mut ledger, "192.0.2.3", Offence::Body, 1);
    let standing = |ledger: &BanLedger, client: &str| {
        ledger.standing(ClientAddr(client.parse().unwrap()), at(1))
    };
    // .2 made room for .3: what .1 did is remembered for a day longer.
    assert_eq!(ledger.offenders(), 2);
    assert_eq!(standing(&ledger, "192.0.2.1"), (0, 1));
    assert_eq!(standing(&ledger, "192.0.2.2"), (0, 0));
    assert_eq!(standing(&ledger, "192.0.2.3"), (20, 0));
    assert_eq!(ledger.take_forgotten(), []);
}

#[test]
fn records_are_forgotten_in_time() {
    let mut ledger = plain();
    offend(&mut ledger, "192.0.2.1", Offence::Body, 0);
    offend_until_banned(&mut ledger, "192.0.2.2", 0);
    for (now, left) in [(119, 2), (120, 1), (60 + 24 * 3600 - 1, 1), (60 + 24 * 3600, 0)] {
        ledger.expire(at(now));
        assert_eq!(ledger.offenders(), left, "at {now} s");
    }
    assert_eq!(ledger.take_forgotten(), [net("192.0.2.2/32")]);
}

#[test]
fn a_ban_holds_until_its_end_and_not_at_it() {
    let mut ledger = plain();
    offend_until_banned(&mut ledger, "192.0.2.7", 0);
    let end = Monotonic::from_ns(60_000_000_000);
    let before = Monotonic::from_ns(59_999_999_999);
    assert!(ledger.find("192.0.2.7".parse().unwrap(), before).is_some());
    assert_eq!(ledger.expire(before), []);
    assert_eq!(ledger.find("192.0.2.7".parse().unwrap(), end), None);
    assert_eq!(ledger.expire(end), [lift("192.0.2.7/32", LiftCause::Expired)]);
}

#[test]
fn one_turn_lifts_a_bounded_number() {
    let mut ledger = plain();
    let total = u32::try_from(EXPIRED_PER_TURN).unwrap() + 1;
    for host in 0..total {
        let target = IpNet::from(IpAddr::V4((0x0a00_0000 + host).into()));
        ledger.add(target, Some(MINUTE), String::new(), at(0)).unwrap();
    }
    assert_eq!(ledger.expire(at(60)).len(), EXPIRED_PER_TURN);
    assert_eq!(ledger.expire(at(60)).len(), 1);
    assert_eq!(ledger.expire(at(60)), []);
}

#[test]
fn packets_in_a_banned_source_s_name_extend_nothing() {
    let mut ledger = plain();
    offend_until_banned(&mut ledger, "192.0.2.7", 0);
    ledger.add(net("192.0.2.8/32"), Some(MINUTE), String::new(), at(0)).unwrap();
    let client = ClientAddr("192.0.2.7".parse().unwrap());
    for now in (1..60).step_by(2) {
        for target in ["192.0.2.7/32", "192.0.2.8/32"] {
            let change = ledger.drops_seen(net(target), now * 1_000_000, at(now));
            assert_eq!(change, None, "{target} at {now} s");
            assert_eq!(ledger.get(net(target)).unwrap().until, at(60));
        }
    }
    assert_eq!(ledger.get(net("192.0.2.7/32")).unwrap().drops.total(), 59_000_000);
    assert_eq!(ledger.expire(at(60)).len(), 2);
    // Its steps are forgiven a day after that end.
    assert_eq!(ledger.standing(client, at(60 + 24 * 3600 - 1)), (0, 1));
    assert_eq!(ledger.standing(client, at(60 + 24 * 3600)), (0, 0));
}

#[test]
fn a_silent_source_is_let_go_only_where_asked() {
    for (release_after, now, released) in [
        (None, 59, false),
        (Some(Duration::from_secs(20)), 24, false),
        (Some(Duration::from_secs(20)), 25, true),
    ] {
        let threshold = Threshold { release_after, ..Threshold::default() };
        let mut ledger = BanLedger::new(threshold, Arc::default(), Capacity::default());
        offend_until_banned(&mut ledger, "192.0.2.7", 0);
        ledger.add(net("192.0.2.8/32"), Some(MINUTE), String::new(), at(0)).unwrap();
        for target in ["192.0.2.7/32", "192.0.2.8/32"] {
            assert_eq!(ledger.drops_seen(net(target), 1, at(5)), None);
        }
        assert_eq!(ledger.drops_seen(net("192.0.2.8/32"), 1, at(now)), None);
        let expected = released.then(|| lift("192.0.2.7/32", LiftCause::Silent));
        assert_eq!(ledger.drops_seen(net("192.0.2.7/32"), 1, at(now)), expected);
    }
}

#[test]
fn a_suspended_machine_does_not_prolong_bans() {
    let mut ledger = plain();
    offend_until_banned(&mut ledger, "192.0.2.7", 1000);
    ledger.add(net("192.0.2.8/32"), None, String::new(), at(1000)).unwrap();
    offend(&mut ledger, "192.0.2.9", Offence::Scan, 1000);
    ledger.move_back(Duration::from_secs(30));
    assert_eq!(ledger.get(net("192.0.2.7/32")).unwrap().until, at(1030));
    assert_eq!(ledger.get(net("192.0.2.8/32")).unwrap().until, Monotonic::NEVER);
    assert_eq!(ledger.standing(ClientAddr("192.0.2.9".parse().unwrap()), at(1000)), (35, 0));
    assert_eq!(ledger.expire(at(1030)), [lift("192.0.2.7/32", LiftCause::Expired)]);
    // Longer than the machine has run: what was in the past stays there.
    ledger.move_back(Duration::from_hours(10_000));
    assert_eq!(ledger.get(net("192.0.2.8/32")).unwrap().until, Monotonic::NEVER);
}

#[test]
fn a_ladder_of_one_rung_never_grows() {
    let ladder = Ladder::try_from(vec![MINUTE]).unwrap();
    let threshold = Threshold { ladder, ..Threshold::default() };
    let mut ledger = BanLedger::new(threshold, Arc::default(), Capacity::default());
    for round in 0..300 {
        let (change, _) = offend_until_banned(&mut ledger, "192.0.2.7", 60 * round);
        assert_eq!(change, set("192.0.2.7/32", 60 * (round + 1)));
    }
}

#[test]
fn bans_come_back_at_once_as_they_would_one_by_one() {
    let mut before = plain();
    for n in 0..60 {
        let client = format!("192.0.{}.{n}", n % 3);
        offend_until_banned(&mut before, &client, n);
    }
    offend_until_banned(&mut before, "2001:db8::7", 3);
    for (target, ttl) in [("198.51.100.0/24", Some(90)), ("2001:db8:7::/48", None)] {
        before.add(net(target), ttl.map(Duration::from_secs), String::new(), at(60)).unwrap();
    }
    let bans: Vec<Ban> = before.list(None).cloned().collect();
    let exempt = "192.0.1.1/32";
    let (mut at_once, mut one_by_one) =
        (ledger(&[exempt], Capacity::default()), ledger(&[exempt], Capacity::default()));
    let refused = at_once.restore_all(bans.clone());
    assert_eq!(refused.iter().map(|ban| ban.target).collect::<Vec<_>>(), [net(exempt)]);
    for ban in bans.clone() {
        drop(one_by_one.restore(ban, at(60)));
    }
    let all = |ledger: &BanLedger| ledger.list(None).cloned().collect::<Vec<_>>();
    assert_eq!(all(&at_once), all(&one_by_one));
    for origin in [Origin::Automatic, Origin::Operator] {
        assert_eq!(at_once.count(origin), one_by_one.count(origin));
    }
    assert_eq!(at_once.table.ranges(), 2);
    for now in [61, 100, 119, 151] {
        assert_eq!(at_once.table.least_worthy(at(now)), one_by_one.table.least_worthy(at(now)));
        assert_eq!(at_once.expire(at(now)), one_by_one.expire(at(now)), "{now}");
    }
    assert_eq!(at_once.len(), one_by_one.len());

    // Where there is something already, no room, or no order, they are given back.
    assert_eq!(at_once.restore_all(bans.clone()).len(), bans.len());
    let narrow = |bans, ranges| Capacity { bans, ranges, ..Capacity::default() };
    for (capacity, taken) in
        [(narrow(bans.len(), 2), true), (narrow(bans.len() - 1, 2), false), (narrow(100, 1), false)]
    {
        let left = ledger(&[], capacity).restore_all(bans.clone());
        assert_eq!(left.is_empty(), taken, "{capacity:?}");
    }
    let reversed: Vec<Ban> = bans.iter().rev().cloned().collect();
    assert_eq!(plain().restore_all(reversed).len(), bans.len());
}
