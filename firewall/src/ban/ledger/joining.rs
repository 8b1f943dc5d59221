//! Bans of neighbours become one ban of their prefix, and a prefix gives back what does not belong
//! to it any more.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{BanLedger, source};
use crate::address::ClientAddr;
use crate::ban::aggregate::{block, may_be_joined};
use crate::ban::exempt::Exempt;
use crate::ban::prefix::is_range;
use crate::ban::record::{Ban, BanChange, DropCount, LiftCause, Origin, Planes};
use crate::clock::Monotonic;

/// The most blocks that one [`BanLedger::relieve`] joins, so that no turn of the keeper is long.
pub const JOINED_PER_TURN: usize = 64;
/// Blocks that are looked at to find one that may be joined.
const LOOKED_AT: usize = 64;

impl BanLedger {
    /// Joins the neighbours of a target that was just banned, if there are enough of them; then
    /// the blocks that this makes, in the same way.
    pub fn join_around(&mut self, target: IpNet, now: Monotonic) -> Vec<BanChange> {
        let mut changes = Vec::new();
        let mut next = block(target);
        while let Some(around) = next {
            let Some(least) = self.aggregation.at_once(around) else { break };
            if self.table.neighbours().count(around) < least {
                break;
            }
            let Some(joined) = self.join(around, least, now) else { break };
            changes.extend(joined);
            next = block(around);
        }
        changes
    }

    /// Joins neighbours while the table is nearly full, where most are first; at most
    /// [`JOINED_PER_TURN`] blocks.
    pub fn relieve(&mut self, now: Monotonic) -> Vec<BanChange> {
        let watermark = self.aggregation.watermark(self.capacity.bans);
        let mut changes = Vec::new();
        for _ in 0..JOINED_PER_TURN {
            if self.table.len() <= watermark {
                break;
            }
            let Some(joined) = self.join_fullest(now) else { break };
            changes.extend(joined);
        }
        changes
    }

    /// Notes that a source has come into good standing, or has lost it: no aggregate will cover
    /// one that has.
    pub fn note_standing(&mut self, of: IpAddr, stands: bool) {
        self.spared.stand(source(ClientAddr(of)), stands);
    }

    /// Joins the block with the most bans that may be joined. There is more room then.
    pub(super) fn join_fullest(&mut self, now: Monotonic) -> Option<Vec<BanChange>> {
        let least = self.aggregation.when_crowded()?;
        let fullest = self.table.neighbours().fullest(least, LOOKED_AT);
        fullest.into_iter().find_map(|block| self.join(block, least, now))
    }

    /// Bans a block in place of those within it that end no later; none where it must not be, or
    /// fewer than `least` are there to be joined.
    ///
    /// It lasts until half of those that were counted would have ended. Those that last longer stay.
    fn join(&mut self, around: IpNet, least: u32, now: Monotonic) -> Option<Vec<BanChange>> {
        let may_be_joined = |ban: &Ban| may_be_joined(ban) && ban.observed == self.observe;
        let is_foreign = |ban: &Ban| matches!(ban.origin, Origin::Operator | Origin::Kernel);
        // Ranges that operators may need are left to them.
        let has_room = self.table.ranges() < self.capacity.ranges / 2;
        if !has_room
            || self.exempt.meets(around)
            || self.spared.are_in(around, now)
            || self.table.get(around).is_some()
            || self.table.around(around).any(is_foreign)
            || self.table.within(around).any(is_foreign)
        {
            return None;
        }
        let within: Vec<&Ban> =
            self.table.within(around).filter(|ban| may_be_joined(ban)).collect();
        let neighbours = within.iter().filter(|ban| block(ban.target) == Some(around));
        let mut ends: Vec<Monotonic> =
            neighbours.map(|ban| ban.until).filter(|until| *until > now).collect();
        if ends.len() < usize::try_from(least).unwrap_or(usize::MAX).max(2) {
            return None;
        }
        ends.sort_unstable();
        let until = *ends.get(ends.len() / 2)?;
        let replaced: Vec<&Ban> = within.into_iter().filter(|ban| ban.until <= until).collect();
        let aggregate = aggregate(around, until, &replaced, now);
        let gone: Vec<IpNet> = replaced.iter().map(|ban| ban.target).collect();
        // The prefix holds before they end.
        let mut changes = vec![aggregate.set()];
        self.table.put(aggregate);
        let gone = gone.into_iter().filter_map(|target| self.table.take(target));
        changes.extend(gone.map(|ban| ban.lift(LiftCause::Joined)));
        Some(changes)
    }

    /// Takes a target out of the aggregates that cover it. What else they cover stays banned, as
    /// prefixes that are left of them; where there is no room for these, it does not.
    pub(super) fn carve(&mut self, target: IpNet, now: Monotonic) -> Vec<BanChange> {
        let taken: Exempt = [target].into_iter().collect();
        let mut changes = Vec::new();
        for aggregate in self.aggregates_around(target) {
            let mut rest = Vec::new();
            if aggregate.holds(now) {
                rest.extend(taken.cut_out_of(aggregate.target).into_iter().flat_map(by_nibbles));
            }
            rest.retain(|part| self.table.get(*part).is_none());
            let ranges = rest.iter().filter(|part| is_range(**part)).count();
            // The aggregate's own place is free in a moment.
            let has_room = self.table.len() + rest.len() <= self.capacity.bans + 1
                && self.table.ranges() + ranges <= self.capacity.ranges + 1;
            for part in rest.into_iter().filter(|_| has_room) {
                let share = part.prefix_len() - aggregate.target.prefix_len();
                let joined = aggregate.joined.checked_shr(share.into()).unwrap_or(0).max(1);
                let drops = DropCount::resumed(0, 0, now);
                let part = Ban { target: part, joined, drops, ..aggregate.clone() };
                changes.push(part.set());
                self.table.put(part);
            }
            let lifted = self.table.take(aggregate.target);
            changes.extend(lifted.map(|ban| ban.lift(LiftCause::Operator)));
        }
        changes
    }

    /// Lets no aggregate go on over a target where an operator's ban of it ends: it is taken out of
    /// them. A host of an IPv6 /64 is not, for the /64 is banned as one; they end with its ban.
    pub(super) fn yield_to(&mut self, target: IpNet, now: Monotonic) -> Vec<BanChange> {
        if unit(target) == target {
            return self.carve(target, now);
        }
        let end = self.table.get(target).map_or(Monotonic::NEVER, |ban| ban.until);
        let mut changes = Vec::new();
        for aggregate in self.aggregates_around(target) {
            if aggregate.until > end {
                let shorter = Ban { until: end, ..aggregate };
                changes.push(shorter.set());
                self.table.put(shorter);
            }
        }
        changes
    }

    fn aggregates_around(&self, target: IpNet) -> Vec<Ban> {
        let is_aggregate = |ban: &&Ban| ban.origin == Origin::Aggregate;
        self.table.around(target).filter(is_aggregate).cloned().collect()
    }

    /// The ban that [`BanLedger::remove`] would lift for a target, or would take it out of.
    pub fn removable(&self, target: IpNet) -> Option<&Ban> {
        let is_aggregate = |ban: &&Ban| ban.origin == Origin::Aggregate;
        let own = self.get(target);
        own.or_else(|| self.table.around(unit(target)).find(is_aggregate))
    }
}

/// An IPv6 prefix as those of the next length that is a multiple of four: the kernel's table tries
/// eight lengths.
fn by_nibbles(net: IpNet) -> Vec<IpNet> {
    match net {
        IpNet::V4(_) => vec![net],
        IpNet::V6(v6) => {
            let parts = v6.subnets(v6.prefix_len().next_multiple_of(4));
            parts.map_or(vec![net], |parts| parts.map(IpNet::V6).collect())
        }
    }
}

/// What is given back with a target: of an IPv6 host all of its /64, which was banned as one.
pub(super) fn unit(target: IpNet) -> IpNet {
    match target {
        IpNet::V6(host) if host.prefix_len() > 64 => source(ClientAddr(IpAddr::V6(host.addr()))),
        _ => target,
    }
}

/// The ban of a block that takes the place of others.
fn aggregate(target: IpNet, until: Monotonic, replaced: &[&Ban], now: Monotonic) -> Ban {
    let joined = replaced.iter().fold(0_u32, |sum, ban| sum.saturating_add(ban.joined.max(1)));
    let drops = replaced.iter().fold(0_u64, |sum, ban| sum.saturating_add(ban.drops.total()));
    let mut rules = BTreeMap::<&str, u32>::new();
    for rule in replaced.iter().filter_map(|ban| ban.rule.as_deref()) {
        *rules.entry(rule).or_default() += 1;
    }
    let rule = rules.into_iter().max_by_key(|(_, count)| *count);
    Ban {
        target,
        since: now,
        until,
        ttl: Some(until.since(now)),
        origin: Origin::Aggregate,
        rule: rule.map(|(rule, _)| Cow::Owned(rule.to_owned())),
        reason: format!("in place of {joined} bans within it").into(),
        step: 0,
        planes: Planes::Both,
        observed: replaced.iter().any(|ban| ban.observed),
        drops: DropCount::resumed(drops, 0, now),
        joined,
    }
}

#[cfg(test)]
mod tests;
