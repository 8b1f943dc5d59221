//! Blocks and numbers; and random histories in which everything that may be joined soon is, held
//! against what was promised to each address by itself.
//!
//! A failure names its seed; `FIREWALL_SEED=n` replays that history alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::*;
use crate::address::{ClientAddr, PeerAddr};
use crate::ban::exempt::Exempt;
use crate::ban::ledger::{BanLedger, Capacity};
use crate::ban::record::{BanChange, ChangeKind, LiftCause};
use crate::ban::threshold::{Ladder, Threshold};
use crate::ban::view::BanView;
use crate::violation::Offence;

#[test]
fn what_lies_in_which_block() {
    for (target, expected) in [
        ("192.0.2.7/32", Some("192.0.2.0/24")),
        ("192.0.2.0/24", None),
        ("192.0.2.0/31", None),
        ("2001:db8:0:1ff::/64", Some("2001:db8:0:100::/56")),
        ("2001:db8:0:100::/56", Some("2001:db8::/48")),
        ("2001:db8::/48", None),
        ("2001:db8::1/128", None),
    ] {
        let expected = expected.map(|text| text.parse().unwrap());
        assert_eq!(block(target.parse().unwrap()), expected, "{target}");
    }
}

#[test]
fn the_watermark_is_a_share_of_the_capacity() {
    for (watermark, capacity, expected) in [
        (90, 262_144, 235_929),
        (90, 10, 9),
        (100, 7, 7),
        (1, 99, 0),
        (100, usize::MAX, usize::MAX),
    ] {
        let aggregation = Aggregation { watermark, ..Aggregation::default() };
        assert_eq!(aggregation.watermark(capacity), expected, "{watermark} % of {capacity}");
    }
}

#[test]
fn what_an_operator_lets_go_is_forgotten_in_order() {
    let mut spared = Spared::default();
    let target = |number: u32| IpNet::from(IpAddr::V4((0x0a00_0000 + number).into()));
    let most = u32::try_from(LET_GO_MAX).unwrap();
    for number in 0..=most {
        spared.let_go(target(number), Monotonic::from_ns(1_000 + u64::from(number)));
    }
    assert!(!spared.are_in(target(0), Monotonic::default()));
    assert!(spared.are_in(target(1), Monotonic::from_ns(1_000)));
    assert!(!spared.are_in(target(1), Monotonic::from_ns(1_001)));
    spared.expire(Monotonic::from_ns(1_000 + u64::from(most)));
    assert_eq!(spared.let_go.len(), 0);
}

const SEEDS: u64 = 96;
const STEPS: usize = 300;
const FEW: Aggregation = Aggregation { ipv4: 4, ipv6: 3, watermark: 70, crowded: 2 };
const CAPACITY: Capacity = Capacity { bans: 24, ranges: 24, offenders: 256 };
const EXEMPT: [&str; 3] = ["10.0.2.3/32", "10.0.3.0/30", "2001:db8:0:301::/64"];

/// `SplitMix64` (Steele, Lea and Flood 2014): a seed is a history.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn address(&mut self) -> IpAddr {
        let all = addresses();
        all[usize::try_from(self.below(u64::try_from(all.len()).unwrap())).unwrap()]
    }

    /// A target that an operator might name.
    fn target(&mut self) -> IpNet {
        let address = self.address();
        let lengths: &[u8] =
            if address.is_ipv4() { &[32, 32, 32, 31, 24] } else { &[128, 64, 64, 60, 56] };
        let length = lengths[usize::try_from(self.below(5)).unwrap()];
        IpNet::new(address, length).unwrap().trunc()
    }
}

/// Six hosts in each of four /24s, and five /64s in each of four /56s of a /48.
fn addresses() -> Vec<IpAddr> {
    let v4 = (0..24).map(|host: u8| IpAddr::from([10, 0, host / 6, host % 6]));
    let v6 = (0..20).map(|network: u16| {
        Ipv6Addr::new(0x2001, 0xdb8, 0, network / 5 * 0x100 + network % 5, 0, 0, 0, 1).into()
    });
    v4.chain(v6).collect()
}

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_ns(seconds * 1_000_000_000)
}

struct World {
    ledger: BanLedger,
    view: BanView,
    exempt: Vec<IpNet>,
    /// Until when each address is banned by what it did itself.
    promised: BTreeMap<IpAddr, Monotonic>,
    /// The ends of the operator's bans.
    operator: BTreeMap<IpNet, Monotonic>,
    now: u64,
    joins: usize,
    evictions: usize,
    carvings: usize,
}

impl World {
    fn new() -> Self {
        let exempt: Vec<IpNet> = EXEMPT.iter().map(|net| net.parse().unwrap()).collect();
        let shared: Arc<Exempt> = Arc::new(exempt.iter().copied().collect());
        let ladder = [10, 40, 200].map(Duration::from_secs).to_vec();
        let threshold =
            Threshold { ladder: Ladder::try_from(ladder).unwrap(), ..Threshold::default() };
        Self {
            ledger: BanLedger::new(threshold, Arc::clone(&shared), CAPACITY).joining(FEW),
            view: BanView::new(shared),
            exempt,
            promised: BTreeMap::new(),
            operator: BTreeMap::new(),
            now: 1_000_000,
            joins: 0,
            evictions: 0,
            carvings: 0,
        }
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|net| net.contains(&address))
    }

    fn step(&mut self, random: &mut Random) {
        let now = at(self.now);
        match random.below(100) {
            0..60 => {
                let address = random.address();
                for _ in 0..2 {
                    let (client, peer) = (ClientAddr(address), PeerAddr::new(address));
                    let offence = Offence::Framing;
                    let changes = self.ledger.offend(client, peer, offence, "rule", now);
                    self.apply(&changes, false);
                    if let Some(&made) = changes.last() {
                        self.promise(made);
                        let before: Vec<Ban> = self.ledger.list(None).cloned().collect();
                        let joined = self.ledger.join_around(made.target, now);
                        self.check_joins(before, &joined);
                        self.apply(&joined, true);
                    }
                }
            }
            60..67 => self.add(random.target(), 1 + random.below(100)),
            67..75 => self.remove(random.target()),
            75..85 => self.now += random.below(20),
            85..87 => {
                let by = Duration::from_secs(random.below(10));
                self.ledger.move_back(by);
                let ends = self.promised.values_mut().chain(self.operator.values_mut());
                ends.for_each(|end| *end = end.before(by));
                self.view.replace(&self.ledger.snapshot());
            }
            _ => {
                let ended = self.ledger.expire(now);
                self.apply(&ended, false);
                let joined = self.ledger.relieve(now);
                self.apply(&joined, true);
                self.operator.retain(|_, until| *until > now);
            }
        }
    }

    fn promise(&mut self, made: BanChange) {
        let ChangeKind::Set { until } = made.kind else { panic!("{made:?}") };
        for address in addresses().into_iter().filter(|address| made.target.contains(address)) {
            self.promised.insert(address, until);
        }
    }

    /// An operator's ban takes the place of what its target had.
    fn add(&mut self, target: IpNet, seconds: u64) {
        let now = at(self.now);
        let ttl = Duration::from_secs(seconds);
        let before: Vec<Ban> = self.ledger.list(None).cloned().collect();
        let Ok(changes) = self.ledger.add(target, Some(ttl), String::new(), now) else { return };
        self.operator.insert(target, now.after(ttl));
        self.apply(&changes, false);
        self.settle(target, &before, &changes);
    }

    /// What is lifted is let in, and nobody else is where there is room for the rest.
    fn remove(&mut self, target: IpNet) {
        let now = at(self.now);
        let before: Vec<Ban> = self.ledger.list(None).cloned().collect();
        let Ok(changes) = self.ledger.remove(target, now) else { return };
        self.operator.remove(&target);
        self.apply(&changes, false);
        self.settle(target, &before, &changes);
        let by_operator = |address| {
            self.operator.iter().any(|(net, until)| net.contains(&address) && *until > now)
        };
        let is_banned = |address| self.ledger.find(address, now).is_some();
        let host = ClientAddr(target.addr()).ban_target();
        for address in addresses().into_iter().filter(|address| target.contains(address)) {
            // What is narrower than the target has a ban of its own.
            if target == host && !by_operator(address) {
                assert!(!is_banned(address), "{address} was lifted with {target}");
            }
        }
    }

    /// Follows what an operator has done to aggregates: what they covered beside the target stays
    /// banned as long as before, but where there was no room, or a host's ban ends them.
    fn settle(&mut self, target: IpNet, before: &[Ban], changes: &[BanChange]) {
        let now = at(self.now);
        let touched = |ban: &&Ban| {
            ban.target == target
                || changes.iter().any(|change| change.target == ban.target)
                    && ban.target.contains(&target)
        };
        let is_given = |address: &IpAddr| {
            target.contains(address)
                || target.prefix_len() == 128
                    && ClientAddr(target.addr()).ban_target().contains(address)
        };
        let has_parts = changes
            .iter()
            .any(|change| matches!(change.kind, ChangeKind::Set { .. }) && change.target != target);
        for ban in before.iter().filter(touched) {
            for address in addresses().into_iter().filter(|address| ban.target.contains(address)) {
                if self
                    .ledger
                    .get(ClientAddr(address).ban_target())
                    .is_some_and(|own| own.origin == Origin::Automatic)
                {
                    continue;
                }
                let found = self.ledger.find(address, now).map(|ban| ban.until);
                let is_lifted = self.ledger.get(ban.target).is_none();
                if is_lifted && has_parts && !is_given(&address) && !self.is_exempt(address) {
                    assert!(found.is_some(), "{address} was let in with {target}");
                    continue;
                }
                match found {
                    Some(until) if !is_given(&address) => {
                        self.promised.entry(address).and_modify(|end| *end = until.min(*end));
                    }
                    _ => {
                        self.promised.remove(&address);
                    }
                }
            }
        }
    }

    /// Every block that was joined had the bans for it, and lasts as long as half of them would have.
    fn check_joins(&mut self, before: Vec<Ban>, changes: &[BanChange]) {
        let mut bans: BTreeMap<IpNet, Ban> =
            before.into_iter().map(|ban| (ban.target, ban)).collect();
        for change in changes {
            let ChangeKind::Set { until } = change.kind else {
                assert_eq!(change.kind, ChangeKind::Lift { cause: LiftCause::Joined });
                let gone = bans.remove(&change.target).unwrap();
                assert!(matches!(gone.origin, Origin::Automatic | Origin::Aggregate));
                continue;
            };
            let mut ends: Vec<Monotonic> = bans
                .values()
                .filter(|ban| block(ban.target) == Some(change.target))
                .filter(|ban| matches!(ban.origin, Origin::Automatic | Origin::Aggregate))
                .map(|ban| ban.until)
                .filter(|until| *until > at(self.now))
                .collect();
            ends.sort_unstable();
            let least = if change.target.addr().is_ipv4() { FEW.ipv4 } else { FEW.ipv6 };
            assert!(ends.len() >= usize::try_from(least).unwrap(), "{}", change.target);
            assert_eq!(until, ends[ends.len() / 2], "{}", change.target);
            let made = self.ledger.get(change.target);
            bans.extend(made.cloned().map(|made| (made.target, Ban { until, ..made })));
            // What a wider block took away again was made all the same.
            bans.entry(change.target).or_insert_with(|| Ban {
                target: change.target,
                until,
                ..aggregate_of(&self.ledger)
            });
        }
    }

    /// Brings the view up to date, one change after the other; nobody who is banned before and after
    /// a join is let in between.
    fn apply(&mut self, changes: &[BanChange], is_join: bool) {
        let now = at(self.now);
        let banned = |view: &BanView| -> Vec<IpAddr> {
            let mut banned = addresses();
            banned.retain(|address| view.is_banned(*address, || now).is_some());
            banned
        };
        let before = banned(&self.view);
        for change in changes {
            self.view.apply(change);
            match change.kind {
                ChangeKind::Lift { cause: LiftCause::Joined } => self.joins += 1,
                ChangeKind::Lift { cause: LiftCause::Operator } => self.carvings += 1,
                ChangeKind::Lift { cause: LiftCause::Evicted } => {
                    self.evictions += 1;
                    for address in addresses() {
                        let source = ClientAddr(address).ban_target();
                        if change.target.contains(&address) && self.ledger.get(source).is_none() {
                            self.promised.remove(&address);
                        }
                    }
                }
                _ => {}
            }
            if is_join {
                let between = banned(&self.view);
                assert!(before.iter().all(|was| between.contains(was)), "a gap at {change:?}");
            }
        }
    }

    fn check(&self) {
        let now = at(self.now);
        assert!(self.ledger.len() <= CAPACITY.bans);
        let aggregates: Vec<&Ban> =
            self.ledger.list(None).filter(|ban| ban.origin == Origin::Aggregate).collect();
        for aggregate in &aggregates {
            let target = aggregate.target;
            let covers = |net: &IpNet| target.contains(net);
            assert!(!self.exempt.iter().any(covers), "{target} covers an exempt address");
            let mut operator = self.operator.iter().filter(|(_, until)| **until > now);
            // A host of a /64 that is banned as one: they end with its ban.
            let ends_with_it =
                |net: &IpNet, until: Monotonic| net.prefix_len() == 128 && aggregate.until <= until;
            let met = operator.find(|(net, until)| covers(net) && !ends_with_it(net, **until));
            assert_eq!(met, None, "{target} meets an operator's ban");
        }
        for (target, until) in self.operator.iter().filter(|(_, until)| **until > now) {
            let found = self.ledger.get(*target).unwrap_or_else(|| panic!("{target} is gone"));
            assert_eq!((found.origin, found.until), (Origin::Operator, *until), "{target}");
        }
        for address in addresses() {
            let found = self.ledger.find(address, now);
            let viewed = self.view.is_banned(address, || now);
            assert_eq!(
                found.map(|ban| (ban.target, ban.until)),
                viewed.map(|by| (by.target, by.until)),
                "{address}"
            );
            let promised = self.promised.get(&address).is_some_and(|until| *until > now);
            let by_operator =
                self.operator.iter().any(|(net, until)| net.contains(&address) && *until > now);
            let covered =
                aggregates.iter().any(|ban| ban.target.contains(&address) && ban.holds(now));
            if self.is_exempt(address) {
                assert!(found.is_none(), "{address} is exempt");
            } else if promised || by_operator {
                assert!(found.is_some(), "{address} was let in early");
            } else if !covered {
                assert!(found.is_none(), "{address} is banned for nothing: {found:?}");
            }
        }
    }
}

/// Some aggregate, for its fields.
fn aggregate_of(ledger: &BanLedger) -> Ban {
    ledger.list(None).find(|ban| ban.origin == Origin::Aggregate).cloned().unwrap()
}

#[test]
fn every_history_keeps_what_was_promised() {
    let replayed = std::env::var("FIREWALL_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = replayed.map_or(0..SEEDS, |seed| seed..seed + 1);
    let (mut joins, mut evictions, mut carvings) = (0, 0, 0);
    for seed in seeds {
        let history = std::panic::catch_unwind(|| {
            let (mut world, mut random) = (World::new(), Random(seed));
            for _ in 0..STEPS {
                world.step(&mut random);
                world.check();
            }
            (world.joins, world.evictions, world.carvings)
        });
        match history {
            Ok(seen) => {
                joins += seen.0;
                evictions += seen.1;
                carvings += seen.2;
            }
            Err(panic) => {
                eprintln!("replay with FIREWALL_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // The histories must reach what they are about.
    if replayed.is_none() {
        assert!(joins > 1_000, "{joins} bans joined");
        assert!(evictions > 50, "{evictions} evicted");
        assert!(carvings > 50, "{carvings} carved");
    }
}
