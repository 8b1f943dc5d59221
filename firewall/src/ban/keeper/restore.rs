//! The start: what the state file remembers and what the kernel still holds become one ledger.

use std::time::Duration;

use ipnet::IpNet;

use super::stats::count;
use super::{BanMode, Held, Keeper, Plane};
use crate::ban::prefix::canonical;
use crate::ban::record::{Ban, BanChange, ChangeKind, DropCount, LiftCause, Origin, Planes};
use crate::ban::store::{BanRow, Loaded};
use crate::causes::Causes;
use crate::clock::{Moment, Monotonic};

/// Ends that differ by less are the same: the file has milliseconds of another clock.
const SAME_END: Duration = Duration::from_secs(1);

/// What the kernel holds and the file does not know.
const ADOPTED: &str = "adopted";

/// What is to be done about a ban that comes back, beside entering it into the ledger.
#[derive(Clone, Copy, Debug)]
struct Return {
    set: BanChange,
    /// Whether the kernel has an entry.
    in_kernel: bool,
    /// Whether that is as it should be: rewriting it could lose its count.
    in_step: bool,
    /// Whether the file should say something else.
    is_news: bool,
}

impl<P: Plane> Keeper<P> {
    pub(super) fn restore(&mut self, loaded: Loaded, at: &Moment) {
        if let Some((path, error)) = &loaded.set_aside {
            let error = Causes(error);
            tracing::error!(%error, moved_to = %path.display(), "the ban database begins anew");
        }
        if loaded.skipped > 0 {
            tracing::error!(rows = loaded.skipped, "rows of the ban database cannot be read");
        }
        let mut held = self.held();
        for (target, row) in loaded.records {
            if let Some(record) = row.record(self.ledger.threshold(), at) {
                self.ledger.restore_record(target, record, at.monotonic);
            } else {
                self.disk.put_record(target, None);
            }
        }
        let (stored, kernels) = (loaded.bans.len(), held.len());
        let mut rows = loaded.bans;
        // Each length of prefix stands in order already.
        rows.sort_by_key(|(target, _)| *target);
        let mut strangers = Vec::new();
        let mut returning = Vec::with_capacity(rows.len());
        let mut entries = held.drain(..).peekable();
        for (target, row) in rows {
            strangers.extend(std::iter::from_fn(|| entries.next_if(|held| held.target < target)));
            let kernel = entries.next_if(|held| held.target == target);
            returning.extend(self.returning(target, row, kernel, at));
        }
        strangers.extend(entries);
        self.take_back(returning, at);
        let adopted: Vec<_> =
            strangers.into_iter().filter_map(|held| self.adopted(held, at)).collect();
        self.take_back(adopted, at);
        self.follow_ledger(at);
        tracing::info!(stored, kernels, bans = self.ledger.len(), "bans restored");
    }

    /// Takes over a table that came after the start, as the start would have.
    pub(super) fn follow_plane(&mut self, at: &Moment) {
        let epoch = self.plane.as_ref().and_then(Plane::epoch);
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        if epoch.is_none() || self.mode == BanMode::Off {
            return;
        }
        let lifted = std::mem::take(&mut self.lifted);
        for held in self.held() {
            if self.ledger.get(held.target).is_some() {
                continue;
            }
            if lifted.contains(&held.target) {
                self.discard(held.target, true);
            } else if let Some((ban, back)) = self.adopted(held, at) {
                self.take_back_one(ban, back, at);
            }
        }
        for change in self.ledger.snapshot() {
            self.write_kernel(change);
        }
        self.stand_again();
        self.follow_ledger(at);
    }

    /// What the kernel holds, in the order of targets.
    fn held(&mut self) -> Vec<Held> {
        let Some(plane) = &self.plane else { return Vec::new() };
        match plane.held() {
            Ok(mut held) => {
                for held in &mut held {
                    held.target = canonical(held.target);
                }
                held.sort_by_key(|held| held.target);
                held.dedup_by_key(|held| held.target);
                held
            }
            Err(error) => {
                count(&self.stats.kernel_errors);
                tracing::error!(%error, "the kernel's ban table cannot be read, it is written over");
                Vec::new()
            }
        }
    }

    /// The ban of a row, or of the kernel where that of the row is over and the kernel's is not; none
    /// if both are, or it was never announced.
    fn returning(
        &mut self,
        target: IpNet,
        row: BanRow,
        kernel: Option<Held>,
        at: &Moment,
    ) -> Option<(Ban, Return)> {
        // What was only observed was never announced to anyone: enforcement does not begin with it.
        if row.is_observed() && self.mode != BanMode::Observe {
            self.discard(target, kernel.is_some());
            return None;
        }
        let Some(stored) = row.ban(target, self.ledger.threshold(), at) else {
            // The kernel's may have been made anew after the last commit.
            if let Some(kernel) = kernel {
                return self.adopted(kernel, at);
            }
            self.discard(target, false);
            return None;
        };
        let (end, drops) = (stored.until, stored.drops.total());
        let ban = match kernel {
            Some(kernel) => self.agreed(stored, kernel, at),
            None => stored,
        };
        let in_step =
            kernel.is_some_and(|kernel| kernel.until == ban.until) && ban.planes == Planes::Both;
        let is_news = difference(end, ban.until) >= SAME_END || drops != ban.drops.total();
        let back = Return { set: ban.set(), in_kernel: kernel.is_some(), in_step, is_news };
        Some((ban, back))
    }

    /// Enters bans into the ledger, in the order of their targets: all at once, if nothing has to make
    /// room for them.
    fn take_back(&mut self, bans: Vec<(Ban, Return)>, at: &Moment) {
        let (bans, backs): (Vec<Ban>, Vec<Return>) = bans.into_iter().unzip();
        let mut others = self.ledger.restore_all(bans).into_iter().peekable();
        let mut missing = Vec::new();
        for back in backs {
            if let Some(ban) = others.next_if(|ban| ban.target == back.set.target) {
                self.take_back_one(ban, back, at);
                continue;
            }
            match back.set {
                _ if back.in_step => {}
                BanChange { target, planes: Planes::Both, kind: ChangeKind::Set { until } } => {
                    missing.push((target, until));
                }
                change => self.write_kernel(change),
            }
            if back.is_news {
                self.put_rows(back.set.target, at);
            }
        }
        self.write_all(&missing);
    }

    /// The same of one ban.
    fn take_back_one(&mut self, ban: Ban, back: Return, at: &Moment) {
        let target = ban.target;
        match self.ledger.restore(ban, at.monotonic) {
            Ok(changes) => {
                for change in changes {
                    let is_itself = change.target == target;
                    if !(is_itself && back.in_step) {
                        self.write_kernel(change);
                    }
                    if !is_itself || back.is_news {
                        self.put_rows(change.target, at);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a ban from before the start is not taken up");
                self.discard(target, back.in_kernel);
            }
        }
    }

    /// Writes many bans into the kernel's table, which has room for them once.
    fn write_all(&mut self, bans: &[(IpNet, Monotonic)]) {
        let Some(plane) = self.plane.as_mut().filter(|_| !bans.is_empty()) else { return };
        let Err(error) = plane.ban_all(bans) else { return };
        tracing::warn!(%error, "the kernel's ban table is written one by one");
        for &(target, until) in bans {
            let kind = ChangeKind::Set { until };
            self.write_kernel(BanChange { target, planes: Planes::Both, kind });
        }
    }

    /// A stored ban with what the kernel knows better: its exact end, its count, and that it was
    /// made anew after the last commit.
    fn agreed(&self, ban: Ban, kernel: Held, at: &Moment) -> Ban {
        let drops = ban.drops.total().max(kernel.drops);
        let longest = at.monotonic.after(self.ledger.threshold().ladder.longest());
        let is_anew = ban.origin == Origin::Automatic && kernel.until > ban.until;
        let until = if difference(kernel.until, ban.until) < SAME_END {
            kernel.until
        } else if is_anew {
            kernel.until.min(longest).max(ban.until)
        } else {
            ban.until
        };
        Ban { until, drops: DropCount::resumed(drops, kernel.drops, at.monotonic), ..ban }
    }

    /// A ban for an entry that the file does not know: the kernel fails static, and so do we.
    fn adopted(&mut self, kernel: Held, at: &Moment) -> Option<(Ban, Return)> {
        let Held { target, until, drops } = kernel;
        if until <= at.monotonic {
            self.discard(target, true);
            return None;
        }
        let ban = Ban {
            target,
            since: at.monotonic,
            until,
            ttl: at.wall_of(until).map(|_| until.since(at.monotonic)),
            origin: Origin::Kernel,
            rule: None,
            reason: ADOPTED.into(),
            step: 0,
            planes: Planes::Both,
            observed: self.mode == BanMode::Observe,
            drops: DropCount::resumed(drops, drops, at.monotonic),
            joined: 0,
        };
        let back = Return { set: ban.set(), in_kernel: true, in_step: true, is_news: true };
        Some((ban, back))
    }

    /// Forgets a ban that the ledger does not take.
    fn discard(&mut self, target: IpNet, in_kernel: bool) {
        self.disk.put_ban(target, None);
        if in_kernel {
            let kind = ChangeKind::Lift { cause: LiftCause::Expired };
            self.write_kernel(BanChange { target, planes: Planes::Both, kind });
        }
    }
}

fn difference(one: Monotonic, other: Monotonic) -> Duration {
    one.since(other).max(other.since(one))
}
