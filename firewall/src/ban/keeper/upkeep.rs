//! What the keeper does each second, unasked: ends, clocks, and what the kernel has counted or lost.

use std::time::Duration;

use ipnet::IpNet;

use super::stats::count;
use super::{Keeper, LOGGED_PER_TICK, Plane};
use crate::ban::record::{Ban, BanChange, ChangeKind, LiftCause, Planes};
use crate::clock::Moment;

/// Bans whose entries in the kernel are compared and read at each tick, in turn.
const COMPARED_PER_TICK: usize = 4_096;
/// A step of the wall clock, or a sleep of the machine, that is worth rewriting deadlines for.
const STEP_MIN: Duration = Duration::from_secs(1);

impl<P: Plane> Keeper<P> {
    pub(super) fn tick(&mut self, at: Moment) {
        self.follow_clocks(&at);
        let ended = self.ledger.expire(at.monotonic);
        self.apply(&ended, &at, None);
        let joined = self.ledger.relieve(at.monotonic);
        self.apply(&joined, &at, None);
        self.follow_plane(&at);
        self.pay_owed();
        self.compare(&at);
        self.tend_standing(at.monotonic);
        let ledger = &self.ledger;
        self.links.resync(|| ledger.snapshot());
        if let Some(more) = self.logged.checked_sub(LOGGED_PER_TICK).filter(|&more| more > 0) {
            tracing::info!(more, "changes of bans not logged one by one");
        }
        self.logged = 0;
    }

    /// The monotonic clock stands still while the machine sleeps, and bans should not; the wall
    /// clock may be set, and the file's ends should follow.
    fn follow_clocks(&mut self, at: &Moment) {
        let slept = at.suspended.saturating_sub(self.settled.suspended);
        let expected = self.settled.wall_of(at.monotonic).map_or(at.wall, |wall| wall.after(slept));
        let stepped = at.wall.since(expected).max(expected.since(at.wall));
        if slept >= STEP_MIN {
            tracing::info!(?slept, "the machine was suspended, deadlines are moved");
            self.ledger.move_back(slept);
            for change in self.ledger.snapshot() {
                self.write_kernel(change);
            }
            self.links.invalidate();
        }
        if slept >= STEP_MIN || stepped >= STEP_MIN {
            self.disk.rewrite();
            self.settled = *at;
        }
    }

    /// Tries again what the kernel's table refused.
    fn pay_owed(&mut self) {
        let owed: Vec<IpNet> = self.owed.iter().copied().take(COMPARED_PER_TICK).collect();
        for target in owed {
            let change = self.ledger.get(target).map_or(
                BanChange {
                    target,
                    planes: Planes::Both,
                    kind: ChangeKind::Lift { cause: LiftCause::Expired },
                },
                Ban::set,
            );
            self.write_kernel(change);
        }
    }

    /// Reads what the kernel dropped for the next bans in turn, and writes those that it has lost.
    fn compare(&mut self, at: &Moment) {
        let Some(plane) = self.plane.as_ref().filter(|plane| plane.epoch().is_some()) else {
            return;
        };
        let turn: Vec<BanChange> =
            self.ledger.list(self.cursor).take(COMPARED_PER_TICK).map(Ban::set).collect();
        self.cursor = turn.last().filter(|_| turn.len() == COMPARED_PER_TICK).map(|ban| ban.target);
        let (mut readings, mut lost) = (Vec::new(), Vec::new());
        for ban in turn.into_iter().filter(|ban| ban.planes == Planes::Both) {
            match plane.drops(ban.target) {
                Ok(Some(drops)) => readings.push((ban.target, drops)),
                Ok(None) => lost.push(ban),
                Err(error) => {
                    // Whatever is wrong with one read is wrong with the next thousand.
                    count(&self.stats.kernel_errors);
                    tracing::warn!(%error, "the kernel's ban table cannot be read");
                    break;
                }
            }
        }
        for ban in lost {
            if !self.owed.contains(&ban.target) {
                count(&self.stats.reasserted);
                self.write_kernel(ban);
            }
        }
        for (target, drops) in readings {
            if let Some(change) = self.ledger.drops_seen(target, drops, at.monotonic) {
                self.apply(&[change], at, None);
            }
        }
    }
}
