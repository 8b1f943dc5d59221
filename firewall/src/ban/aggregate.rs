//! Many bans of neighbours as one ban of their prefix: when, of whom, and who is spared.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::record::{Ban, Origin, Planes};
use crate::clock::Monotonic;

/// When bans of neighbours are joined to one ban of the block that they share: addresses of an IPv4
/// /24, /64s of a /56, and such /56s of a /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aggregation {
    /// Banned addresses of one /24 that are joined at once; 0 for never.
    pub ipv4: u32,
    /// Banned /64s of one /56, or /56s of one /48, that are joined at once; 0 for never.
    pub ipv6: u32,
    /// Percent of the table's capacity above which fewer are enough.
    pub watermark: u8,
    /// How many neighbours are enough above the watermark; 0 for never.
    pub crowded: u32,
}

impl Default for Aggregation {
    /// A /24 has many owners, and a quarter of it has offended; a /56 mostly has one.
    fn default() -> Self {
        Self { ipv4: 64, ipv6: 16, watermark: 90, crowded: 8 }
    }
}

impl Aggregation {
    /// How many bans in a block are joined as soon as there are so many.
    pub(super) fn at_once(&self, block: IpNet) -> Option<u32> {
        let least = match block {
            IpNet::V4(_) => self.ipv4,
            IpNet::V6(_) => self.ipv6,
        };
        (least > 0).then_some(least)
    }

    /// How many are joined where the table is nearly full.
    pub(super) fn when_crowded(&self) -> Option<u32> {
        (self.crowded > 0).then_some(self.crowded)
    }

    /// The number of bans above which the table is nearly full.
    pub(super) fn watermark(&self, capacity: usize) -> usize {
        capacity / 100 * usize::from(self.watermark)
            + capacity % 100 * usize::from(self.watermark) / 100
    }
}

/// The block into which a ban of a target may be joined.
pub(super) fn block(target: IpNet) -> Option<IpNet> {
    let length = match (target, target.prefix_len()) {
        (IpNet::V4(_), 32) => 24,
        (IpNet::V6(_), 64) => 56,
        (IpNet::V6(_), 56) => 48,
        _ => return None,
    };
    IpNet::new(target.addr(), length).ok().map(|block| block.trunc())
}

/// Every prefix that begins within a block, in the order of prefixes; with it those that begin where
/// it does, and are longer or shorter.
pub(super) fn beginning_in(block: IpNet) -> RangeInclusive<IpNet> {
    let (first, last) = match block {
        IpNet::V4(_) => (0, 32),
        IpNet::V6(_) => (0, 128),
    };
    IpNet::new_assert(block.network(), first)..=IpNet::new_assert(block.broadcast(), last)
}

/// Whether a ban may become part of an aggregate: what the ledger made itself, by what a source did
/// under its own address. An operator's ban never, nor one of which nobody knows who made it.
pub(super) fn may_be_joined(ban: &Ban) -> bool {
    matches!(ban.origin, Origin::Automatic | Origin::Aggregate) && ban.planes == Planes::Both
}

/// Fewest neighbours that are worth remembering as such.
const CROWD_MIN: u32 = 2;

/// How many bans there are in each block that could be joined.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    counts: HashMap<IpNet, u32>,
    /// The blocks with at least [`CROWD_MIN`], by that number.
    crowds: BTreeSet<(u32, IpNet)>,
}

impl Neighbours {
    /// Those of many bans; quickest where they stand in the order of their targets.
    pub(super) fn of(bans: &[Ban]) -> Self {
        let mut counts = HashMap::with_capacity(bans.len());
        let blocks: Vec<IpNet> = bans.iter().filter_map(block_of).collect();
        for row in blocks.chunk_by(|one, next| one == next) {
            if let Some(&block) = row.first() {
                *counts.entry(block).or_default() += u32::try_from(row.len()).unwrap_or(u32::MAX);
            }
        }
        counts.shrink_to_fit();
        let crowds = counts.iter().filter(|(_, count)| **count >= CROWD_MIN);
        let crowds = crowds.map(|(block, count)| (*count, *block)).collect();
        Self { counts, crowds }
    }

    pub(super) fn enter(&mut self, ban: &Ban) {
        let Some(block) = block_of(ban) else { return };
        let count = self.counts.entry(block).or_default();
        *count += 1;
        if *count >= CROWD_MIN {
            self.crowds.remove(&(*count - 1, block));
            self.crowds.insert((*count, block));
        }
    }

    pub(super) fn leave(&mut self, ban: &Ban) {
        let Some(block) = block_of(ban) else { return };
        let Some(count) = self.counts.get_mut(&block) else { return };
        self.crowds.remove(&(*count, block));
        *count -= 1;
        if *count >= CROWD_MIN {
            self.crowds.insert((*count, block));
        } else if *count == 0 {
            self.counts.remove(&block);
        }
    }

    pub(super) fn count(&self, block: IpNet) -> u32 {
        self.counts.get(&block).copied().unwrap_or(0)
    }

    /// The blocks with the most bans, which are at least `least`; at most `most` blocks.
    pub(super) fn fullest(&self, least: u32, most: usize) -> Vec<IpNet> {
        let crowds = self.crowds.iter().rev().take(most);
        crowds.take_while(|(count, _)| *count >= least).map(|(_, block)| *block).collect()
    }
}

fn block_of(ban: &Ban) -> Option<IpNet> {
    may_be_joined(ban).then(|| block(ban.target)).flatten()
}

/// Targets that an operator has let go and that are remembered; the earliest makes room.
const LET_GO_MAX: usize = 4_096;

/// Whom no aggregate may cover, for what they are themselves.
#[derive(Debug, Default)]
pub(super) struct Spared {
    /// Sources in good standing: as many as there may be of those.
    standing: BTreeSet<IpNet>,
    /// What an operator has lifted, and until when that counts.
    let_go: BTreeMap<IpNet, Monotonic>,
}

impl Spared {
    pub(super) fn stand(&mut self, source: IpNet, stands: bool) {
        if stands {
            self.standing.insert(source);
        } else {
            self.standing.remove(&source);
        }
    }

    pub(super) fn let_go(&mut self, target: IpNet, until: Monotonic) {
        self.let_go.insert(target, until);
        if self.let_go.len() > LET_GO_MAX
            && let Some(first) = self.let_go.iter().min_by_key(|(_, until)| **until)
        {
            let first = *first.0;
            self.let_go.remove(&first);
        }
    }

    pub(super) fn expire(&mut self, now: Monotonic) {
        self.let_go.retain(|_, until| *until > now);
    }

    pub(super) fn move_back(&mut self, by: Duration) {
        for until in self.let_go.values_mut() {
            *until = until.before(by);
        }
    }

    /// Whether somebody within a block is spared.
    pub(super) fn are_in(&self, block: IpNet, now: Monotonic) -> bool {
        let within = |target: &IpNet| block.contains(target);
        self.standing.range(beginning_in(block)).any(within)
            || self
                .let_go
                .range(beginning_in(block))
                .any(|(target, until)| within(target) && *until > now)
    }
}

#[cfg(test)]
mod tests;
