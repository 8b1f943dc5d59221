//! Who has offended, and who is banned for it.

mod joining;
mod offenders;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use self::joining::JOINED_PER_TURN;
use self::offenders::Offenders;
pub use self::offenders::Record;
use self::table::BanTable;
use super::aggregate::{Aggregation, Spared};
use super::exempt::Exempt;
use super::prefix::{canonical, is_range};
use super::record::{Ban, BanChange, DropCount, LiftCause, Origin, Planes, REASON_MAX_BYTES};
use super::threshold::Threshold;
use crate::address::{ClientAddr, PeerAddr};
use crate::clock::Monotonic;
use crate::violation::Offence;

/// How much the ledger remembers at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Bans of every kind; the kernel's tables are sized by the same number.
    pub bans: usize,
    /// Among them, those of ranges: one may take as many entries of the kernel's table as 128 addresses.
    pub ranges: usize,
    /// Sources with a score or with steps on the ladder.
    pub offenders: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { bans: 262_144, ranges: 16_384, offenders: 262_144 }
    }
}

/// The most bans that one [`BanLedger::expire`] lifts, so that no turn of the keeper is long.
pub const EXPIRED_PER_TURN: usize = 4_096;

/// What an operator asked for and cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    #[error("{target} is exempt from bans: it lies within the addresses that are never banned")]
    Exempt { target: IpNet },
    #[error("{target} is not banned by itself{}", covered(covering.as_ref()))]
    NotBanned { target: IpNet, covering: Option<IpNet> },
    #[error("the table is full with {capacity} bans, all of them made by operators")]
    Full { capacity: usize },
    #[error("expected at most {capacity} banned ranges, and there are as many")]
    RangesFull { capacity: usize },
    #[error("expected a reason of at most {REASON_MAX_BYTES} bytes, found {bytes}")]
    ReasonTooLong { bytes: usize },
    #[error("the reason holds a control character")]
    ReasonNotPrintable,
    #[error("the ban would end at once, expected at least one second")]
    TooShort,
}

fn covered(covering: Option<&IpNet>) -> String {
    covering.map(|net| format!(", {net} covers it")).unwrap_or_default()
}

/// Who has offended, and who is banned for it.
///
/// Knows no socket, no map and no clock: time comes in with each call, and what is to be done
/// about both planes goes out as [`BanChange`]s, in the order in which they must be done.
#[derive(Debug)]
pub struct BanLedger {
    threshold: Threshold,
    exempt: Arc<Exempt>,
    capacity: Capacity,
    /// Whether new bans are only observed.
    observe: bool,
    offenders: Offenders,
    table: BanTable,
    aggregation: Aggregation,
    /// Whom no aggregate may cover.
    spared: Spared,
}

impl BanLedger {
    pub fn new(threshold: Threshold, exempt: Arc<Exempt>, capacity: Capacity) -> Self {
        Self {
            threshold,
            exempt,
            capacity,
            observe: false,
            offenders: Offenders::new(capacity.offenders),
            table: BanTable::default(),
            aggregation: Aggregation::default(),
            spared: Spared::default(),
        }
    }

    /// Joins neighbours by these rules.
    #[must_use]
    pub fn joining(self, aggregation: Aggregation) -> Self {
        Self { aggregation, ..self }
    }

    /// Marks every ban made from now on as one that nobody enforces.
    #[must_use]
    pub fn observing(self) -> Self {
        Self { observe: true, ..self }
    }

    /// Scores an offence. Gives the changes if it reached the threshold.
    ///
    /// What an exempt source does, and what a banned one still does on its open connections, is
    /// not scored.
    pub fn offend(
        &mut self,
        client: ClientAddr,
        peer: PeerAddr,
        offence: Offence,
        rule: &'static str,
        now: Monotonic,
    ) -> Vec<BanChange> {
        if self.threshold.weights.of(offence) == 0
            || self.exempt.contains(client.0)
            || self.table.covering(client.0, now).is_some()
        {
            return Vec::new();
        }
        let target = source(client);
        let Some(step) = self.offenders.offend(target, offence, &self.threshold, now) else {
            return Vec::new();
        };
        let ttl = self.threshold.ladder.ttl(step);
        // The network card sees the peer: a client behind a trusted proxy is the proxy's address
        // to it.
        let planes = if client.0.to_canonical() == peer.0.to_canonical() {
            Planes::Both
        } else {
            Planes::Proxy
        };
        let ban = Ban {
            target,
            since: now,
            until: now.after(ttl),
            ttl: Some(ttl),
            origin: Origin::Automatic,
            rule: Some(Cow::Borrowed(rule)),
            reason: Box::default(),
            step,
            planes,
            observed: self.observe,
            drops: DropCount::resumed(0, 0, now),
            joined: 0,
        };
        // A table full of the operator's bans leaves the score where it is: the next offence asks
        // again.
        let until = ban.until;
        let Ok(changes) = self.put(ban, now) else { return Vec::new() };
        self.offenders.climb(target, until, &self.threshold, now);
        changes
    }

    /// Bans a target by an operator's word, in place of any ban that it has; without end if no
    /// duration is given. An aggregate that covers it is left without it.
    pub fn add(
        &mut self,
        target: IpNet,
        ttl: Option<Duration>,
        reason: String,
        now: Monotonic,
    ) -> Result<Vec<BanChange>, LedgerError> {
        let target = canonical(target);
        if reason.len() > REASON_MAX_BYTES {
            return Err(LedgerError::ReasonTooLong { bytes: reason.len() });
        }
        if reason.chars().any(char::is_control) {
            return Err(LedgerError::ReasonNotPrintable);
        }
        if ttl.is_some_and(|ttl| ttl < Duration::from_secs(1)) {
            return Err(LedgerError::TooShort);
        }
        let ban = Ban {
            target,
            since: now,
            until: ttl.map_or(Monotonic::NEVER, |ttl| now.after(ttl)),
            ttl,
            origin: Origin::Operator,
            rule: None,
            reason: reason.into(),
            step: 0,
            planes: Planes::Both,
            observed: self.observe,
            drops: DropCount::resumed(0, 0, now),
            joined: 0,
        };
        let mut changes = self.put(ban, now)?;
        // No aggregate goes on where the operator's ban ends.
        changes.extend(self.yield_to(target, now));
        Ok(changes)
    }

    /// Lifts the ban of exactly this target, takes it out of the aggregates that cover it, and
    /// forgives what its source has done: otherwise its next offence would ban it for longer than
    /// the ban that was a mistake. For as long as an offence counts, no aggregate will cover it.
    pub fn remove(&mut self, target: IpNet, now: Monotonic) -> Result<Vec<BanChange>, LedgerError> {
        let target = canonical(target);
        let own = self.table.take(target).map(|ban| ban.lift(LiftCause::Operator));
        let mut changes = self.carve(joining::unit(target), now);
        changes.extend(own);
        if changes.is_empty() {
            let covering = self.table.covering(target.addr(), now).map(|ban| ban.target);
            return Err(LedgerError::NotBanned { target, covering });
        }
        self.offenders.forgive(target, self.threshold.leak_interval);
        self.spared.let_go(target, now.after(self.threshold.forgive_after));
        Ok(changes)
    }

    /// Lifts the bans that have ended, and forgets the sources of whom nothing is left to
    /// remember; at most [`EXPIRED_PER_TURN`] of each.
    pub fn expire(&mut self, now: Monotonic) -> Vec<BanChange> {
        self.offenders.expire(now, EXPIRED_PER_TURN);
        self.spared.expire(now);
        std::iter::from_fn(|| self.table.first_ended(now).and_then(|ended| self.table.take(ended)))
            .take(EXPIRED_PER_TURN)
            .map(|ban| ban.lift(LiftCause::Expired))
            .collect()
    }

    /// Takes a reading of the kernel's counter for a ban. It is told, and no more than that: anybody
    /// can send packets in a banned source's name, so that drops move no end. An automatic ban whose
    /// source is silent may end, by [`Threshold::release_after`].
    pub fn drops_seen(&mut self, target: IpNet, counted: u64, now: Monotonic) -> Option<BanChange> {
        self.table.drops_mut(target)?.observe(counted, now);
        let after = self.threshold.release_after?;
        let ban = self.table.get(target)?;
        let is_over = ban.origin == Origin::Automatic
            && ban.planes == Planes::Both
            && ban.holds(now)
            && ban.drops.silence(now) >= after;
        is_over.then(|| self.table.take(target)).flatten().map(|ban| ban.lift(LiftCause::Silent))
    }

    /// Takes a ban from before a restart, in place of any of the same target.
    pub fn restore(&mut self, ban: Ban, now: Monotonic) -> Result<Vec<BanChange>, LedgerError> {
        self.put(Ban { target: canonical(ban.target), ..ban }, now)
    }

    /// Takes all bans from before a restart at once, where there is none yet and room for all of them,
    /// and they stand in the order of their targets, each in its canonical form and of another one.
    /// Gives those that it does not take, in their order, for [`restore`](Self::restore) to say why:
    /// exempt ones, or all.
    pub fn restore_all(&mut self, bans: Vec<Ban>) -> Vec<Ban> {
        let ranges = bans.iter().filter(|ban| is_range(ban.target)).count();
        if !self.is_empty()
            || bans.len() > self.capacity.bans
            || ranges > self.capacity.ranges
            || !bans.is_sorted_by(|one, next| one.target < next.target)
        {
            return bans;
        }
        let (refused, bans) = bans.into_iter().partition(|ban| self.exempt.covers(ban.target));
        self.table.fill(bans);
        refused
    }

    /// Takes a source's steps on the ladder from before a restart.
    pub fn restore_record(&mut self, target: IpNet, record: Record, now: Monotonic) {
        self.offenders.restore(canonical(target), record, self.threshold.leak_interval, now);
    }

    /// Moves every moment back by the time that the clock did not see, for it stood still while
    /// the machine was suspended. Every ban's end has changed then.
    pub fn move_back(&mut self, by: Duration) {
        self.table.move_back(by);
        self.offenders.move_back(by, self.threshold.leak_interval);
        self.spared.move_back(by);
    }

    /// The most specific ban that covers an address and holds now. For an exempt address there is
    /// none.
    pub fn find(&self, address: IpAddr, now: Monotonic) -> Option<&Ban> {
        if self.exempt.contains(address) {
            return None;
        }
        self.table.covering(address, now)
    }

    /// The ban of exactly this target.
    pub fn get(&self, target: IpNet) -> Option<&Ban> {
        self.table.get(canonical(target))
    }

    /// Every ban in the order of targets, beginning behind `after`.
    pub fn list(&self, after: Option<IpNet>) -> impl Iterator<Item = &Ban> {
        self.table.after(after)
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// How many of the bans this origin made.
    pub fn count(&self, origin: Origin) -> usize {
        self.table.count(origin)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The points of a client now, and how many automatic bans it has had.
    pub fn standing(&self, client: ClientAddr, now: Monotonic) -> (u32, u8) {
        let target = source(client);
        self.offenders.standing(target, self.threshold.leak_interval, now)
    }

    /// A source's steps on the ladder, if it has any.
    pub fn record(&self, target: IpNet) -> Option<Record> {
        self.offenders.record(target)
    }

    pub fn records(&self) -> impl Iterator<Item = (IpNet, Record)> {
        self.offenders.records()
    }

    /// Sources with a score or with steps on the ladder.
    pub fn offenders(&self) -> usize {
        self.offenders.len()
    }

    /// The sources whose steps were forgotten since the last call.
    pub fn take_forgotten(&mut self) -> Vec<IpNet> {
        self.offenders.take_forgotten()
    }

    /// What a view must hold to equal this ledger.
    pub fn snapshot(&self) -> Vec<BanChange> {
        self.table.iter().map(Ban::set).collect()
    }

    pub fn threshold(&self) -> &Threshold {
        &self.threshold
    }

    pub fn exempt(&self) -> &Arc<Exempt> {
        &self.exempt
    }

    /// Enters a ban, making room for it if it must.
    fn put(&mut self, ban: Ban, now: Monotonic) -> Result<Vec<BanChange>, LedgerError> {
        if self.exempt.covers(ban.target) {
            return Err(LedgerError::Exempt { target: ban.target });
        }
        let mut changes = Vec::new();
        if self.table.get(ban.target).is_none() {
            if is_range(ban.target) && self.table.ranges() >= self.capacity.ranges {
                return Err(LedgerError::RangesFull { capacity: self.capacity.ranges });
            }
            while self.table.len() >= self.capacity.bans {
                changes.extend(self.make_room(now)?);
            }
        }
        changes.push(ban.set());
        self.table.put(ban);
        Ok(changes)
    }

    /// Makes room for one ban at least: what has ended goes first, then neighbours are joined, then
    /// the ban goes that is worth least. An operator's makes room only once it has ended.
    fn make_room(&mut self, now: Monotonic) -> Result<Vec<BanChange>, LedgerError> {
        let full = LedgerError::Full { capacity: self.capacity.bans };
        let ended = self.table.first_ended(now).and_then(|ended| self.table.take(ended));
        if let Some(ended) = ended {
            return Ok(vec![ended.lift(LiftCause::Expired)]);
        }
        if let Some(joined) = self.join_fullest(now) {
            return Ok(joined);
        }
        let leaving = self.table.least_worthy(now).and_then(|least| self.table.take(least));
        let leaving = leaving.ok_or(full)?;
        Ok(vec![leaving.lift(LiftCause::Evicted)])
    }
}

/// What is scored and banned for a client: one name for a host, however its address is written.
fn source(client: ClientAddr) -> IpNet {
    ClientAddr(client.0.to_canonical()).ban_target()
}
