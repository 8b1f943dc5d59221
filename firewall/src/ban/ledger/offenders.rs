//! Who has offended how much, and how often each was banned: bounded, and forgotten in order.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use ipnet::IpNet;

use crate::ban::threshold::{Score, Threshold};
use crate::clock::Monotonic;
use crate::violation::Offence;

/// One source's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offender {
    score: Score,
    /// How many automatic bans it had, as far as they are not forgiven.
    step: u8,
    /// When the steps are forgiven.
    forgive_at: Monotonic,
}

/// The steps of a source on the ladder, as they are kept over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub step: u8,
    pub forgive_at: Monotonic,
}

/// The records of all sources. When full, the one that would be forgotten first makes room: the
/// emptiest score, or the longest good behaviour.
#[derive(Debug)]
pub(super) struct Offenders {
    records: HashMap<IpNet, Offender>,
    /// The same sources by the moment at which nothing is left to remember.
    forgettable: BTreeSet<(Monotonic, IpNet)>,
    capacity: usize,
    /// Sources with steps whose record went away, for whoever keeps records elsewhere.
    forgotten: Vec<IpNet>,
}

impl Offenders {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            records: HashMap::new(),
            forgettable: BTreeSet::new(),
            capacity: capacity.max(1),
            forgotten: Vec::new(),
        }
    }

    /// Adds an offence. Gives the steps so far if the source has now reached the threshold.
    pub(super) fn offend(
        &mut self,
        target: IpNet,
        offence: Offence,
        threshold: &Threshold,
        now: Monotonic,
    ) -> Option<u8> {
        let mut offender = self.at(target, now);
        offender.score = offender.score.with(offence, threshold, now);
        let reached = offender.score.points(threshold.leak_interval, now) >= threshold.capacity;
        self.put(target, offender, threshold.leak_interval);
        reached.then_some(offender.step)
    }

    /// Notes that a source was banned until then: its score begins anew, its next ban is longer.
    pub(super) fn climb(
        &mut self,
        target: IpNet,
        until: Monotonic,
        threshold: &Threshold,
        now: Monotonic,
    ) {
        let offender = Offender {
            score: Score::empty(now),
            step: self.at(target, now).step.saturating_add(1),
            forgive_at: until.after(threshold.forgive_after),
        };
        self.put(target, offender, threshold.leak_interval);
    }

    /// Forgets a source: it starts at nothing again.
    pub(super) fn forgive(&mut self, target: IpNet, interval: Duration) {
        self.take(target, interval);
    }

    /// Forgets the sources of whom nothing is left to remember, at most `budget`.
    pub(super) fn expire(&mut self, now: Monotonic, budget: usize) {
        for _ in 0..budget {
            let Some(&(moment, target)) = self.forgettable.first() else { return };
            if moment > now {
                return;
            }
            self.forget(moment, target);
        }
    }

    /// The points and the steps of a source.
    pub(super) fn standing(&self, target: IpNet, interval: Duration, now: Monotonic) -> (u32, u8) {
        let offender = self.at(target, now);
        (offender.score.points(interval, now), offender.step)
    }

    pub(super) fn record(&self, target: IpNet) -> Option<Record> {
        let Offender { step, forgive_at, .. } = *self.records.get(&target)?;
        (step > 0).then_some(Record { step, forgive_at })
    }

    pub(super) fn records(&self) -> impl Iterator<Item = (IpNet, Record)> {
        self.records.iter().filter(|(_, offender)| offender.step > 0).map(
            |(&target, &Offender { step, forgive_at, .. })| (target, Record { step, forgive_at }),
        )
    }

    /// Takes a record from before a restart; a score that was kept since stays.
    pub(super) fn restore(
        &mut self,
        target: IpNet,
        record: Record,
        interval: Duration,
        now: Monotonic,
    ) {
        if record.forgive_at > now {
            let Record { step, forgive_at } = record;
            let score = self.at(target, now).score;
            self.put(target, Offender { score, step, forgive_at }, interval);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn take_forgotten(&mut self) -> Vec<IpNet> {
        std::mem::take(&mut self.forgotten)
    }

    /// Moves every moment back by the time that the clock did not see.
    pub(super) fn move_back(&mut self, by: Duration, interval: Duration) {
        for offender in self.records.values_mut() {
            offender.score = offender.score.moved_back(by);
            offender.forgive_at = offender.forgive_at.before(by);
        }
        self.forgettable = self
            .records
            .iter()
            .map(|(&target, offender)| (forget_at(offender, interval), target))
            .collect();
    }

    /// The record of a source as it stands now: steps that are forgiven by now are gone.
    fn at(&self, target: IpNet, now: Monotonic) -> Offender {
        match self.records.get(&target) {
            Some(known) if known.forgive_at > now => *known,
            Some(known) => Offender { step: 0, forgive_at: Monotonic::default(), ..*known },
            None => {
                Offender { score: Score::empty(now), step: 0, forgive_at: Monotonic::default() }
            }
        }
    }

    fn put(&mut self, target: IpNet, offender: Offender, interval: Duration) {
        if let Some(known) = self.records.insert(target, offender) {
            self.forgettable.remove(&(forget_at(&known, interval), target));
            if known.step > 0 && offender.step == 0 {
                self.forgotten.push(target);
            }
        } else if self.records.len() > self.capacity
            && let Some(&(moment, emptiest)) = self.forgettable.first()
        {
            self.forget(moment, emptiest);
        }
        self.forgettable.insert((forget_at(&offender, interval), target));
    }

    fn take(&mut self, target: IpNet, interval: Duration) {
        if let Some(known) = self.records.get(&target) {
            self.forget(forget_at(known, interval), target);
        }
    }

    fn forget(&mut self, moment: Monotonic, target: IpNet) {
        self.forgettable.remove(&(moment, target));
        if self.records.remove(&target).is_some_and(|known| known.step > 0) {
            self.forgotten.push(target);
        }
    }
}

/// When nothing of a record is left to remember.
fn forget_at(offender: &Offender, interval: Duration) -> Monotonic {
    let empty_at = offender.score.empty_at(interval);
    if offender.step > 0 { empty_at.max(offender.forgive_at) } else { empty_at }
}
