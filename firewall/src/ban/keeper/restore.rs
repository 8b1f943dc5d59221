//! The start: what the state file remembers and what the kernel still holds become one ledger.

use std::collections::HashMap;
use std::time::Duration;

use ipnet::IpNet;

use super::stats::count;
use super::{BanMode, Held, Keeper, Plane};
use crate::ban::prefix::canonical;
use crate::ban::record::{Ban, BanChange, ChangeKind, DropCount, LiftCause, Origin, Planes};
use crate::ban::store::{BanRow, Loaded};
use crate::causes::Causes;
use crate::clock::Moment;

/// Ends that differ by less are the same: the file has milliseconds of another clock.
const SAME_END: Duration = Duration::from_secs(1);

/// What the kernel holds and the file does not know.
const ADOPTED: &str = "adopted";

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
        for (target, row) in loaded.bans {
            let kernel = held.remove(&target);
            self.restore_row(target, row, kernel, at);
        }
        for kernel in held.into_values() {
            self.adopt(kernel, at);
        }
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
        for (target, kernel) in self.held() {
            if self.ledger.get(target).is_none() {
                self.adopt(kernel, at);
            }
        }
        for change in self.ledger.snapshot() {
            self.write_kernel(change);
        }
        self.stand_again();
        self.follow_ledger(at);
    }

    fn held(&mut self) -> HashMap<IpNet, Held> {
        let Some(plane) = &self.plane else { return HashMap::new() };
        match plane.held() {
            Ok(held) => held.into_iter().map(|held| (canonical(held.target), held)).collect(),
            Err(error) => {
                count(&self.stats.kernel_errors);
                tracing::error!(%error, "the kernel's ban table cannot be read, it is written over");
                HashMap::new()
            }
        }
    }

    fn restore_row(&mut self, target: IpNet, row: BanRow, kernel: Option<Held>, at: &Moment) {
        let ban = row.ban(target, self.ledger.threshold(), at);
        // What was only observed was never announced to anyone: enforcement does not begin with it.
        let Some(ban) = ban.filter(|ban| !ban.observed || self.mode == BanMode::Observe) else {
            return self.discard(target, kernel.is_some());
        };
        let ban = match kernel {
            Some(kernel) => self.agreed(ban, kernel, at),
            None => ban,
        };
        let in_step =
            kernel.is_some_and(|kernel| kernel.until == ban.until) && ban.planes == Planes::Both;
        match self.ledger.restore(ban, at.monotonic) {
            Ok(changes) => {
                for change in changes {
                    let is_itself = change.target == target;
                    // Rewriting an entry that is right could lose its count.
                    if !(is_itself && in_step) {
                        self.write_kernel(change);
                    }
                    // The file has what nobody corrected.
                    if !is_itself || kernel.is_some() {
                        self.put_rows(change.target, at);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a stored ban is not restored");
                self.discard(target, kernel.is_some());
            }
        }
    }

    /// A stored ban with what the kernel knows better: its exact end, its count, and that it was
    /// made anew after the last commit.
    fn agreed(&self, ban: Ban, kernel: Held, at: &Moment) -> Ban {
        let drops = ban.drops.total().max(kernel.drops);
        let longest = at.monotonic.after(self.ledger.threshold().ladder.longest());
        let difference = kernel.until.since(ban.until).max(ban.until.since(kernel.until));
        let is_anew = ban.origin == Origin::Automatic && kernel.until > ban.until;
        let until = if difference < SAME_END {
            kernel.until
        } else if is_anew {
            kernel.until.min(longest).max(ban.until)
        } else {
            ban.until
        };
        Ban { until, drops: DropCount::resumed(drops, kernel.drops, at.monotonic), ..ban }
    }

    /// Takes over an entry that the file does not know: the kernel fails static, and so do we.
    fn adopt(&mut self, kernel: Held, at: &Moment) {
        let Held { target, until, drops } = kernel;
        let target = canonical(target);
        if until <= at.monotonic {
            return self.discard(target, true);
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
        match self.ledger.restore(ban, at.monotonic) {
            Ok(changes) => {
                for change in changes {
                    // Its own entry is there already; what made room for it must go.
                    if change.target != target {
                        self.write_kernel(change);
                    }
                    self.put_rows(change.target, at);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a ban in the kernel's table is not adopted");
                self.discard(target, true);
            }
        }
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
