//! The bans that hold, by target, by end and by length of prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Duration;

use ipnet::IpNet;

use crate::ban::prefix::is_range;
use crate::ban::record::{Ban, DropCount, Origin};
use crate::clock::Monotonic;

/// Every ban once, with the orders in which they are asked for. It knows no policy.
#[derive(Debug, Default)]
pub(super) struct BanTable {
    bans: BTreeMap<IpNet, Ban>,
    /// The ends of the operator's bans, which are never evicted.
    kept_ends: BTreeSet<(Monotonic, IpNet)>,
    /// The ends of all others.
    evictable_ends: BTreeSet<(Monotonic, IpNet)>,
    /// How many bans there are of each prefix length: the lengths that a look-up must try.
    v4_lengths: BTreeMap<u8, usize>,
    v6_lengths: BTreeMap<u8, usize>,
    ranges: usize,
    /// How many bans each origin made.
    automatic: usize,
    operator: usize,
    kernel: usize,
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
        }
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
        self.ends(ban.origin).insert((ban.until, ban.target));
        *self.lengths(ban.target).entry(ban.target.prefix_len()).or_default() += 1;
        self.ranges += usize::from(is_range(ban.target));
        *self.count_mut(ban.origin) += 1;
        self.bans.insert(ban.target, ban);
    }

    pub(super) fn take(&mut self, target: IpNet) -> Option<Ban> {
        let ban = self.bans.remove(&target)?;
        self.ends(ban.origin).remove(&(ban.until, target));
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
        let address = address.to_canonical();
        let lengths = if address.is_ipv4() { &self.v4_lengths } else { &self.v6_lengths };
        lengths
            .keys()
            .rev()
            .filter_map(|&length| IpNet::new(address, length).ok())
            .filter_map(|net| self.bans.get(&net.trunc()))
            .find(|ban| ban.holds(now))
    }

    /// The ban that ends first, if it has ended.
    pub(super) fn first_ended(&self, now: Monotonic) -> Option<IpNet> {
        let (until, target) =
            self.kept_ends.first().into_iter().chain(self.evictable_ends.first()).min()?;
        (*until <= now).then_some(*target)
    }

    /// The ban that makes room when the table is full.
    pub(super) fn first_evictable(&self) -> Option<IpNet> {
        self.evictable_ends.first().map(|&(_, target)| target)
    }

    /// Moves every moment back by the time that the clock did not see.
    pub(super) fn move_back(&mut self, by: Duration) {
        for ban in self.bans.values_mut() {
            ban.since = ban.since.before(by);
            ban.until = ban.until.before(by);
            ban.drops = ban.drops.moved_back(by);
        }
        let (kept, evictable) =
            self.bans.values().partition::<Vec<_>, _>(|ban| is_kept(ban.origin));
        self.kept_ends = kept.into_iter().map(|ban| (ban.until, ban.target)).collect();
        self.evictable_ends = evictable.into_iter().map(|ban| (ban.until, ban.target)).collect();
    }

    fn count_mut(&mut self, origin: Origin) -> &mut usize {
        match origin {
            Origin::Automatic => &mut self.automatic,
            Origin::Operator => &mut self.operator,
            Origin::Kernel => &mut self.kernel,
        }
    }

    fn ends(&mut self, origin: Origin) -> &mut BTreeSet<(Monotonic, IpNet)> {
        if is_kept(origin) { &mut self.kept_ends } else { &mut self.evictable_ends }
    }

    fn lengths(&mut self, target: IpNet) -> &mut BTreeMap<u8, usize> {
        match target {
            IpNet::V4(_) => &mut self.v4_lengths,
            IpNet::V6(_) => &mut self.v6_lengths,
        }
    }
}

fn is_kept(origin: Origin) -> bool {
    origin == Origin::Operator
}
