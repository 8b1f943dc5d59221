//! The way of a change from the keeper to each worker's view.

use std::convert::Infallible;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::stats::{KeeperStats, count};
use crate::ban::record::{BanChange, ChangeKind};
use crate::ban::view::BanView;

/// Changes that may wait for one worker. One that falls further behind is sent the whole table as
/// soon as it has room.
pub const LINK_CAPACITY: usize = 1_024;

/// Held by an update until it is applied; when all are gone, every view holds the ban.
pub(super) type Applied = mpsc::Sender<Infallible>;

/// The worker's end: what has changed since its view was made.
#[derive(Debug)]
pub struct WorkerLink {
    updates: mpsc::Receiver<Update>,
}

impl WorkerLink {
    /// The next update, to be applied at once; none when the keeper has ended, and the view stays
    /// as it is.
    pub async fn next(&mut self) -> Option<Update> {
        self.updates.recv().await
    }
}

/// Something that a view must take in. Whoever caused it waits until it is applied or dropped.
#[derive(Debug)]
pub struct Update {
    content: Content,
    /// Dropped with the update, which is what its receiver waits for.
    applied: Option<Applied>,
}

#[derive(Debug)]
enum Content {
    Change(BanChange),
    Snapshot(Arc<[BanChange]>),
}

/// The open connections that an update has made unwelcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwelcome {
    Nobody,
    /// Those of clients within the prefix that the view now calls banned.
    Within(IpNet),
    /// Any client may be banned now: ask the view for each.
    Anyone,
}

impl Update {
    /// Brings a view up to date.
    pub fn apply(self, view: &mut BanView) -> Unwelcome {
        let unwelcome = match &self.content {
            Content::Change(change) => {
                view.apply(change);
                match change.kind {
                    ChangeKind::Set { .. } => Unwelcome::Within(change.target),
                    ChangeKind::Lift { .. } => Unwelcome::Nobody,
                }
            }
            Content::Snapshot(snapshot) => {
                view.replace(snapshot);
                Unwelcome::Anyone
            }
        };
        drop(self.applied);
        unwelcome
    }
}

/// The keeper's ends of all links. A slow worker neither blocks it nor loses a change.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    updates: mpsc::Sender<Update>,
    /// A change did not fit: nothing but the whole table will do.
    is_stale: bool,
}

impl Links {
    pub(super) fn open(&mut self) -> WorkerLink {
        let (sender, updates) = mpsc::channel(LINK_CAPACITY);
        self.links.push(Link { updates: sender, is_stale: false });
        WorkerLink { updates }
    }

    /// Sends a change to every worker that is not behind already.
    pub(super) fn send(
        &mut self,
        change: BanChange,
        applied: Option<&Applied>,
        stats: &KeeperStats,
    ) {
        self.links.retain_mut(|link| {
            if link.is_stale {
                return !link.updates.is_closed();
            }
            let update = Update { content: Content::Change(change), applied: applied.cloned() };
            match link.updates.try_send(update) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    link.is_stale = true;
                    count(&stats.worker_overflows);
                    true
                }
                // The worker has ended, and takes no more requests.
                Err(TrySendError::Closed(_)) => false,
            }
        });
    }

    /// Makes every worker take the whole table next.
    pub(super) fn invalidate(&mut self) {
        for link in &mut self.links {
            link.is_stale = true;
        }
    }

    /// Sends the whole table to those that are behind and have room again.
    pub(super) fn resync(&mut self, snapshot: impl FnOnce() -> Vec<BanChange>) {
        if !self.links.iter().any(|link| link.is_stale && link.updates.capacity() > 0) {
            return;
        }
        let snapshot: Arc<[BanChange]> = snapshot().into();
        for link in self.links.iter_mut().filter(|link| link.is_stale) {
            let content = Content::Snapshot(Arc::clone(&snapshot));
            link.is_stale = link.updates.try_send(Update { content, applied: None }).is_err();
        }
    }
}
