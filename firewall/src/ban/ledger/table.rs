//! The bans that hold, by target, by end and by length of prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Duration;

use ipnet::IpNet;

use crate::ban::aggregate::{Neighbours, beginning_in};
use crate::ban::prefix::is_range;
use crate::ban::record::{Ban, DropCount, Origin};
use crate::clock::Monotonic;

/// The ends of bans, in their order.
type Ends = BTreeSet<(Monotonic, IpNet)>;

/// Every ban once, with the orders in which they are asked for. It knows no policy.
#[derive(Debug, Default)]
pub(super) struct BanTable {
    bans: BTreeMap<IpNet, Ban>,
    /// The ends of the operator's bans, which are never evicted.
    kept_ends: Ends,
    /// The ends of all others, by their weight: so the least worthy is the first of one of these.
    evictable_ends: BTreeMap<u32, Ends>,
    neighbours: Neighbours,
    /// How many bans there are of each prefix length: the lengths that a look-up must try.
    v4_lengths: BTreeMap<u8, usize>,
    v6_lengths: BTreeMap<u8, usize>,
    ranges: usize,
    /// How many bans each origin made.
    automatic: usize,
    operator: usize,
    kernel: usize,
    aggregate: usize,
}

impl BanTable {
    pub(super) fn len(&self) -> usize {
        self.bans.len()
    }

    /// Bans of anything but an address or an IPv6 /64.
    pub(super) fn ranges(&self) -> usize {
        self.ranges
    }

    pub(super) fn count(&self, origin: Origin) -> usize {
        match origin {
            Origin::Automatic => self.automatic,
            Origin::Operator => self.operator,
            Origin::Kernel => self.kernel,
            Origin::Aggregate => self.aggregate,
        }
    }

    /// How many bans there are to be joined, by the block that they share.
    pub(super) fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    pub(super) fn get(&self, target: IpNet) -> Option<&Ban> {
        self.bans.get(&target)
    }

    pub(super) fn drops_mut(&mut self, target: IpNet) -> Option<&mut DropCount> {
        self.bans.get_mut(&target).map(|ban| &mut ban.drops)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.bans.values()
    }

    /// The bans behind `target` in the table's order, from the first if there is none.
    pub(super) fn after(&self, target: Option<IpNet>) -> impl Iterator<Item = &Ban> {
        let start = target.map_or(Bound::Unbounded, Bound::Excluded);
        self.bans.range((start, Bound::Unbounded)).map(|(_, ban)| ban)
    }

    /// Inserts a ban or replaces the one of the same target.
    pub(super) fn put(&mut self, ban: Ban) {
        self.take(ban.target);
        self.ends(&ban).insert((ban.until, ban.target));
        self.neighbours.enter(&ban);
        *self.lengths(ban.target).entry(ban.target.prefix_len()).or_default() += 1;
        self.ranges += usize::from(is_range(ban.target));
        *self.count_mut(ban.origin) += 1;
        self.bans.insert(ban.target, ban);
    }

    /// Fills an empty table with bans that stand in the order of their targets, each of another one:
    /// so the trees are made from their leaves up, and nothing is looked for.
    pub(super) fn fill(&mut self, bans: Vec<Ban>) {
        debug_assert!(self.bans.is_empty() && bans.is_sorted_by(|a, b| a.target < b.target));
        let mut evictable = BTreeMap::<u32, Vec<(Monotonic, IpNet)>>::new();
        let mut kept = Vec::new();
        for ban in &bans {
            let ends = match ban.origin {
                Origin::Operator => &mut kept,
                _ => evictable.entry(ban.weight()).or_default(),
            };
            ends.push((ban.until, ban.target));
            *self.lengths(ban.target).entry(ban.target.prefix_len()).or_default() += 1;
            self.ranges += usize::from(is_range(ban.target));
            *self.count_mut(ban.origin) += 1;
        }
        self.kept_ends = kept.into_iter().collect();
        let evictable = evictable.into_iter();
        self.evictable_ends =
            evictable.map(|(weight, ends)| (weight, Ends::from_iter(ends))).collect();
        self.neighbours = Neighbours::of(&bans);
        self.bans = bans.into_iter().map(|ban| (ban.target, ban)).collect();
    }

    pub(super) fn take(&mut self, target: IpNet) -> Option<Ban> {
        let ban = self.bans.remove(&target)?;
        self.ends(&ban).remove(&(ban.until, target));
        self.neighbours.leave(&ban);
        let lengths = self.lengths(target);
        if let Some(count) = lengths.get_mut(&target.prefix_len()) {
            *count -= 1;
            if *count == 0 {
                lengths.remove(&target.prefix_len());
            }
        }
        self.ranges -= usize::from(is_range(target));
        *self.count_mut(ban.origin) -= 1;
        Some(ban)
    }

    /// The most specific ban that covers an address and holds.
    pub(super) fn covering(&self, address: IpAddr, now: Monotonic) -> Option<&Ban> {
        self.around(address.to_canonical().into()).find(|ban| ban.holds(now))
    }

    /// The bans of a target and of what it lies in, the most specific first.
    pub(super) fn around(&self, target: IpNet) -> impl Iterator<Item = &Ban> {
        let (address, longest) = (target.addr(), target.prefix_len());
        let lengths = if address.is_ipv4() { &self.v4_lengths } else { &self.v6_lengths };
        lengths
            .range(..=longest)
            .rev()
            .filter_map(move |(&length, _)| IpNet::new(address, length).ok())
            .filter_map(|net| self.bans.get(&net.trunc()))
    }

    /// The bans of a block and of what lies in it, in their order.
    pub(super) fn within(&self, block: IpNet) -> impl Iterator<Item = &Ban> {
        let beginning = self.bans.range(beginning_in(block)).map(|(_, ban)| ban);
        beginning.filter(move |ban| block.contains(&ban.target))
    }

    /// The ban that ends first, if it has ended.
    pub(super) fn first_ended(&self, now: Monotonic) -> Option<IpNet> {
        let evictable = self.evictable_ends.values().filter_map(BTreeSet::first);
        let (until, target) = self.kept_ends.first().into_iter().chain(evictable).min()?;
        (*until <= now).then_some(*target)
    }

    /// The ban that makes room when the table is full: the one whose time left, times its
    /// [weight](Ban::weight), is least.
    pub(super) fn least_worthy(&self, now: Monotonic) -> Option<IpNet> {
        let firsts = self.evictable_ends.iter().filter_map(|(&weight, ends)| {
            let &(until, target) = ends.first()?;
            Some((until.since(now).as_nanos().saturating_mul(weight.into()), until, target))
        });
        firsts.min().map(|(_, _, target)| target)
    }

    /// Moves every moment back by the time that the clock did not see.
    pub(super) fn move_back(&mut self, by: Duration) {
        for ban in self.bans.values_mut() {
            ban.since = ban.since.before(by);
            ban.until = ban.until.before(by);
            ban.drops = ban.drops.moved_back(by);
        }
        self.kept_ends.clear();
        self.evictable_ends.clear();
        for ban in self.bans.values() {
            let ends = ends(&mut self.kept_ends, &mut self.evictable_ends, ban);
            ends.insert((ban.until, ban.target));
        }
    }

    fn count_mut(&mut self, origin: Origin) -> &mut usize {
        match origin {
            Origin::Automatic => &mut self.automatic,
            Origin::Operator => &mut self.operator,
            Origin::Kernel => &mut self.kernel,
            Origin::Aggregate => &mut self.aggregate,
        }
    }

    fn ends(&mut self, ban: &Ban) -> &mut Ends {
        ends(&mut self.kept_ends, &mut self.evictable_ends, ban)
    }

    fn lengths(&mut self, target: IpNet) -> &mut BTreeMap<u8, usize> {
        match target {
            IpNet::V4(_) => &mut self.v4_lengths,
            IpNet::V6(_) => &mut self.v6_lengths,
        }
    }
}

/// Those among which the end of a ban is: an operator's is never evicted.
fn ends<'a>(kept: &'a mut Ends, evictable: &'a mut BTreeMap<u32, Ends>, ban: &Ban) -> &'a mut Ends {
    if ban.origin == Origin::Operator { kept } else { evictable.entry(ban.weight()).or_default() }
}
