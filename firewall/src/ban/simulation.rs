//! Random histories of the ledger against a model that is too simple to be wrong.
//!
//! A failure names its seed; `FIREWALL_SEED=n` replays that history alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::exempt::Exempt;
use super::ledger::{BanLedger, Capacity, LedgerError};
use super::record::{Ban, BanChange, Origin};
use super::threshold::{Ladder, Threshold};
use super::view::BanView;
use crate::address::{ClientAddr, PeerAddr};
use crate::clock::Monotonic;
use crate::violation::Offence;

const SEEDS: u64 = 256;
const STEPS: usize = 250;
/// Few enough that the histories meet it often.
const BANS_MAX: usize = 6;
const RANGES_MAX: usize = 2;
const EXEMPT: [&str; 3] = ["10.0.0.1/32", "10.0.0.8/30", "2001:db8::1/128"];

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

    /// One of thirty-two hosts: sixteen in 10.0.0.0/28, and four in each of four /64s.
    fn address(&mut self) -> IpAddr {
        match self.below(32) {
            host @ 0..16 => IpAddr::from([10, 0, 0, u8::try_from(host).unwrap()]),
            host => {
                let (network, host) =
                    (u16::try_from(host % 4).unwrap(), u16::try_from(host / 4).unwrap());
                IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host - 3))
            }
        }
    }

    fn target(&mut self) -> IpNet {
        let address = self.address();
        let lengths: &[u8] =
            if address.is_ipv4() { &[32, 32, 32, 30, 0] } else { &[128, 128, 64, 64, 62] };
        let length = lengths[usize::try_from(self.below(5)).unwrap()];
        IpNet::new(address, length).unwrap().trunc()
    }
}

/// One ban of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    since: u64,
    until: u64,
    operator: bool,
    /// One, and one for each earlier ban, of which at most seven count.
    weight: u128,
}

impl Held {
    /// What has ended is worth nothing.
    fn worth(&self, now: u64) -> u128 {
        u128::from(self.until.saturating_sub(now)) * self.weight
    }
}

/// Seconds, linear searches, and points that leak one by one.
struct Model {
    exempt: [IpNet; 3],
    bans: BTreeMap<IpNet, Held>,
    /// Points, when the last one leaked, steps, when they are forgiven.
    sources: BTreeMap<IpNet, (u32, u64, u8, u64)>,
}

const NEVER: u64 = u64::MAX;

impl Model {
    fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|net| net.contains(&address))
    }

    fn is_banned(&self, address: IpAddr, now: u64) -> bool {
        !self.is_exempt(address)
            && self.bans.iter().any(|(net, held)| net.contains(&address) && held.until > now)
    }

    fn offend(&mut self, address: IpAddr, weight: u32, policy: &Threshold, now: u64) {
        if self.is_exempt(address) || self.is_banned(address, now) {
            return;
        }
        let target = ClientAddr(address).ban_target();
        let (mut points, mut at, mut step, mut forgive_at) =
            self.sources.get(&target).copied().unwrap_or((0, now, 0, 0));
        while points > 0 && at + policy.leak_interval.as_secs() <= now {
            points -= 1;
            at += policy.leak_interval.as_secs();
        }
        if points == 0 {
            at = now;
        }
        if forgive_at <= now {
            step = 0;
        }
        points = (points + weight).min(policy.capacity);
        if points >= policy.capacity {
            let until = now + policy.ladder.ttl(step).as_secs();
            let weight = 1 + u128::from(step.min(7));
            if self.put(target, Held { since: now, until, operator: false, weight }, now) {
                (points, at, step) = (0, now, step + 1);
                forgive_at = until + policy.forgive_after.as_secs();
            }
        }
        self.sources.insert(target, (points, at, step, forgive_at));
    }

    /// Gives whether there was room.
    fn put(&mut self, target: IpNet, held: Held, now: u64) -> bool {
        if !self.bans.contains_key(&target) {
            let is_range = |net: &IpNet| {
                !matches!((net.addr().is_ipv4(), net.prefix_len()), (true, 32) | (false, 64 | 128))
            };
            if is_range(&target)
                && self.bans.keys().filter(|net| is_range(net)).count() >= RANGES_MAX
            {
                return false;
            }
            if self.bans.len() >= BANS_MAX {
                let Some(leaving) = self
                    .bans
                    .iter()
                    .filter(|(_, held)| !held.operator || held.until <= now)
                    .map(|(&net, held)| (held.worth(now), held.until, net))
                    .min()
                else {
                    return false;
                };
                self.bans.remove(&leaving.2);
            }
        }
        self.bans.insert(target, held);
        true
    }
}

/// The ledger, the view that follows its changes, and the model beside them.
struct World {
    ledger: BanLedger,
    view: BanView,
    model: Model,
    policy: Threshold,
    exempt: Arc<Exempt>,
    now: u64,
}

fn at(seconds: u64) -> Monotonic {
    if seconds == NEVER { Monotonic::NEVER } else { Monotonic::from_ns(seconds * 1_000_000_000) }
}

impl World {
    fn new() -> Self {
        let nets = EXEMPT.map(|net| net.parse::<IpNet>().unwrap());
        let exempt: Arc<Exempt> = Arc::new(nets.into_iter().collect());
        let policy = Threshold {
            ladder: Ladder::try_from([10, 40, 200].map(Duration::from_secs).to_vec()).unwrap(),
            forgive_after: Duration::from_mins(5),
            ..Threshold::default()
        };
        let ledger = Self::empty(&policy, &exempt);
        let view = BanView::new(Arc::clone(&exempt));
        let model = Model { exempt: nets, bans: BTreeMap::new(), sources: BTreeMap::new() };
        // Late enough that no suspension reaches back to the clock's zero.
        Self { ledger, view, model, policy, exempt, now: 1_000_000 }
    }

    fn empty(policy: &Threshold, exempt: &Arc<Exempt>) -> BanLedger {
        let capacity = Capacity { bans: BANS_MAX, ranges: RANGES_MAX, offenders: 64 };
        BanLedger::new(policy.clone(), Arc::clone(exempt), capacity)
    }

    fn apply(&mut self, changes: &[BanChange]) {
        for change in changes {
            self.view.apply(change);
        }
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(100) {
            0..60 => self.offend(random),
            60..67 => self.add(random),
            67..73 => self.remove(random),
            73..83 => self.now += random.below(30),
            83..84 => self.now += random.below(1_000),
            84..94 => self.expire(),
            94..98 => self.drops(random),
            98 => self.suspend(random.below(100)),
            _ => self.restart(),
        }
    }

    fn offend(&mut self, random: &mut Random) {
        let (address, now) = (random.address(), self.now);
        let offence = [Offence::Framing, Offence::Scan, Offence::Parameter, Offence::Body]
            [usize::try_from(random.below(4)).unwrap()];
        let changes = self.ledger.offend(
            ClientAddr(address),
            PeerAddr::new(address),
            offence,
            "rule",
            at(now),
        );
        self.apply(&changes);
        self.model.offend(address, self.policy.weights.of(offence), &self.policy, now);
    }

    fn add(&mut self, random: &mut Random) {
        let (target, now) = (random.target(), self.now);
        let ttl = (random.below(4) > 0).then(|| 1 + random.below(300));
        let added = self.ledger.add(target, ttl.map(Duration::from_secs), String::new(), at(now));
        let held = Held {
            since: now,
            until: ttl.map_or(NEVER, |ttl| now + ttl),
            operator: true,
            weight: 1,
        };
        if self.model.exempt.iter().any(|net| net.contains(&target)) {
            assert_eq!(added, Err(LedgerError::Exempt { target }));
        } else if self.model.put(target, held, now) {
            self.apply(&added.unwrap());
        } else {
            let full =
                matches!(added, Err(LedgerError::Full { .. } | LedgerError::RangesFull { .. }));
            assert!(full, "{target}: {added:?}");
        }
    }

    fn remove(&mut self, random: &mut Random) {
        let target = random.target();
        let removed = self.ledger.remove(target, at(self.now));
        assert_eq!(removed.is_ok(), self.model.bans.remove(&target).is_some(), "{target}");
        if let Ok(change) = removed {
            self.model.sources.remove(&target);
            self.apply(&change);
        }
    }

    fn expire(&mut self) {
        let now = self.now;
        let changes = self.ledger.expire(at(now));
        self.apply(&changes);
        self.model.bans.retain(|_, held| held.until > now);
    }

    /// A burst against a random ban, in whoever's name: it changes nothing.
    fn drops(&mut self, random: &mut Random) {
        let Some(&target) = self.model.bans.keys().nth(usize::try_from(random.below(8)).unwrap())
        else {
            return;
        };
        let total = self.ledger.get(target).unwrap().drops.total();
        for burst in [random.below(10), 1_000_000] {
            self.now += 1 + random.below(20);
            let change = self.ledger.drops_seen(target, total + burst, at(self.now));
            assert_eq!(change, None, "{target}");
        }
    }

    /// The machine sleeps: the clock stands still, every end comes nearer.
    fn suspend(&mut self, seconds: u64) {
        self.ledger.move_back(Duration::from_secs(seconds));
        for held in self.model.bans.values_mut() {
            held.since -= seconds;
            held.until = if held.until == NEVER { NEVER } else { held.until - seconds };
        }
        for (_, at, _, forgive_at) in self.model.sources.values_mut() {
            *at -= seconds;
            *forgive_at = forgive_at.saturating_sub(seconds);
        }
        self.view.replace(&self.ledger.snapshot());
    }

    /// A restart with the same clock: what was exported and restored, once or twice, is the same.
    /// Scores are not kept, steps are.
    fn restart(&mut self) {
        let now = at(self.now);
        let bans: Vec<Ban> = self.ledger.list(None).cloned().collect();
        let records: Vec<_> = self.ledger.records().collect();
        let mut restored = Self::empty(&self.policy, &self.exempt);
        for round in 0..2 {
            for ban in &bans {
                restored.restore(ban.clone(), now).unwrap();
            }
            for &(target, record) in &records {
                restored.restore_record(target, record, now);
            }
            assert!(restored.list(None).eq(&bans), "round {round}");
        }
        self.ledger = restored;
        let now = self.now;
        self.model.sources.retain(|_, source| {
            (source.0, source.1) = (0, now);
            source.3 > now
        });
        let view = BanView::new(Arc::clone(&self.exempt));
        self.view = view;
        self.view.replace(&self.ledger.snapshot());
    }

    fn check(&self) {
        let now = at(self.now);
        assert!(self.ledger.len() <= BANS_MAX);
        assert!(self.ledger.offenders() <= 64);
        let listed: BTreeMap<IpNet, Held> = self
            .ledger
            .list(None)
            .map(|ban| {
                let seconds = |moment: Monotonic| moment.ns() / 1_000_000_000;
                let until = if ban.until == Monotonic::NEVER { NEVER } else { seconds(ban.until) };
                let operator = ban.origin == Origin::Operator;
                let weight = ban.weight().into();
                (ban.target, Held { since: seconds(ban.since), until, operator, weight })
            })
            .collect();
        assert_eq!(listed, self.model.bans);
        for host in 0..16_u8 {
            self.check_address(IpAddr::from([10, 0, 0, host]), now);
        }
        for network in 0..4 {
            for host in 0..6 {
                let address = Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host);
                self.check_address(IpAddr::V6(address), now);
            }
        }
    }

    fn check_address(&self, address: IpAddr, now: Monotonic) {
        let found = self.ledger.find(address, now);
        let viewed = self.view.is_banned(address, || now);
        let expected = self.model.is_banned(address, self.now);
        assert_eq!(found.is_some(), expected, "ledger: {address}");
        assert_eq!(viewed.is_some(), expected, "view: {address}");
        assert_eq!(
            found.map(|ban| (ban.target, ban.until)),
            viewed.map(|by| (by.target, by.until)),
            "{address}"
        );
        assert!(!(expected && self.model.is_exempt(address)), "{address} is exempt and banned");
    }

    /// Nobody offends any more, and the operator lifts what has no end.
    fn wind_down(&mut self) {
        let endless: Vec<IpNet> = self
            .ledger
            .list(None)
            .filter(|ban| ban.until == Monotonic::NEVER)
            .map(|ban| ban.target)
            .collect();
        for target in endless {
            let change = self.ledger.remove(target, at(self.now)).unwrap();
            self.apply(&change);
        }
        self.now += 1_000;
        self.expire();
        assert!(self.ledger.is_empty());
        assert_eq!(self.ledger.offenders(), 0);
        self.model.bans.clear();
        self.check();
    }
}

#[test]
fn every_history_agrees_with_the_model() {
    let replayed = std::env::var("FIREWALL_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = replayed.map_or(0..SEEDS, |seed| seed..seed + 1);
    let (mut bans, mut full) = (0, 0);
    for seed in seeds {
        let history = std::panic::catch_unwind(|| {
            let (mut world, mut random) = (World::new(), Random(seed));
            let (mut bans, mut full) = (0, 0);
            for _ in 0..STEPS {
                world.step(&mut random);
                world.check();
                bans += world.ledger.len();
                full += usize::from(world.ledger.len() == BANS_MAX);
            }
            world.wind_down();
            (bans, full)
        });
        match history {
            Ok(seen) => (bans, full) = (bans + seen.0, full + seen.1),
            Err(panic) => {
                eprintln!("replay with FIREWALL_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // The histories must reach what they are about.
    if replayed.is_none() {
        assert!(bans > 100_000, "{bans} bans seen");
        assert!(full > 1_000, "the table was full {full} times");
    }
}
