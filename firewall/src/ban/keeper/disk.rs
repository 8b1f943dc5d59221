//! What is still to be written to the state file, and who waits for it.
//!
//! One commit runs at a time, away from the keeper's thread; what changes meanwhile is the next
//! one. So a burst costs two commits, however long it is, and a slow disk delays no ban.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until};

use super::handle::{KeeperError, Reply};
use super::report::BanReport;
use super::stats::{KeeperStats, Persistence, count};
use crate::ban::store::{BanRow, Batch, Committed, RecordRow, Store, StoreError};
use crate::causes::Causes;

/// How long an automatic ban may wait for others to share its commit.
const GATHER: Duration = Duration::from_millis(200);
/// How long after a failed commit the next is tried.
const RETRY: Duration = Duration::from_secs(1);
/// Changes that may wait for the disk; beyond, the whole table is written instead.
const PENDING_MAX: usize = 524_288;

/// An order that is answered when its change is on disk.
#[derive(Debug)]
struct Waiting {
    reply: Reply<BanReport>,
    report: BanReport,
}

/// A commit that runs.
#[derive(Debug)]
struct Flight {
    task: JoinHandle<Landed>,
    waiting: Vec<Waiting>,
}

/// A commit that is over, with what it took along.
#[derive(Debug)]
pub(super) struct Landed {
    store: Store,
    batch: Batch,
    result: Result<Committed, StoreError>,
}

/// What the disk is ready for.
#[derive(Debug)]
pub(super) enum Ready {
    /// There is something to write.
    Due,
    /// A commit is over.
    Landed(Result<Landed, JoinError>),
}

#[derive(Debug)]
pub(super) struct Disk {
    /// None while a commit runs, and where bans live in memory alone.
    store: Option<Store>,
    flight: Option<Flight>,
    is_persistent: bool,
    pending: Batch,
    waiting: Vec<Waiting>,
    /// Whether the next batch must be the whole table.
    rewrite: bool,
    flush_at: Option<Instant>,
    /// Whether another process has the file.
    is_away: bool,
    stats: Arc<KeeperStats>,
}

impl Disk {
    pub(super) fn new(store: Option<Store>, stats: Arc<KeeperStats>) -> Self {
        let is_persistent = store.is_some();
        stats.set_persistence(if is_persistent {
            Persistence::Durable
        } else {
            Persistence::Memory
        });
        Self {
            store,
            flight: None,
            is_persistent,
            pending: Batch::default(),
            waiting: Vec::new(),
            rewrite: false,
            flush_at: None,
            is_away: false,
            stats,
        }
    }

    pub(super) fn put_ban(&mut self, target: IpNet, row: Option<BanRow>) {
        if self.is_persistent {
            self.pending.bans.insert(target, row);
            self.gather();
        }
    }

    pub(super) fn put_record(&mut self, target: IpNet, row: Option<RecordRow>) {
        if self.is_persistent {
            self.pending.records.insert(target, row);
            self.gather();
        }
    }

    /// Makes the next commit replace all that is in the file.
    pub(super) fn rewrite(&mut self) {
        if self.is_persistent {
            self.rewrite = true;
            self.pending = Batch::default();
            self.gather();
        }
    }

    /// Answers an order once what is pending now is on disk; at once where there is no disk.
    pub(super) fn answer(&mut self, reply: Reply<BanReport>, report: BanReport) {
        if self.is_persistent {
            self.waiting.push(Waiting { reply, report });
            self.flush_at = Some(Instant::now());
        } else {
            tell(reply, Ok(report));
        }
    }

    fn gather(&mut self) {
        if self.pending.len() > PENDING_MAX {
            self.rewrite = true;
            self.pending = Batch::default();
        }
        self.flush_at.get_or_insert_with(|| Instant::now() + GATHER);
    }

    /// Waits until a commit should begin, or the one that runs is over; forever if there is
    /// nothing to write.
    pub(super) async fn ready(&mut self) -> Ready {
        if let Some(flight) = &mut self.flight {
            return Ready::Landed((&mut flight.task).await);
        }
        match (self.flush_at, &self.store) {
            (Some(at), Some(_)) if !self.is_away => sleep_until(at).await,
            _ => pending().await,
        }
        Ready::Due
    }

    /// Begins a commit of what is pending. `whole` gives the whole table, if that is needed.
    pub(super) fn begin(&mut self, whole: impl FnOnce() -> Batch) {
        let Some(mut store) = self.store.take() else { return };
        self.flush_at = None;
        let batch = if std::mem::take(&mut self.rewrite) {
            self.pending = Batch::default();
            whole()
        } else {
            std::mem::take(&mut self.pending)
        };
        let waiting = std::mem::take(&mut self.waiting);
        let task = tokio::task::spawn_blocking(move || {
            let result = store.commit(&batch);
            Landed { store, batch, result }
        });
        self.flight = Some(Flight { task, waiting });
    }

    /// Takes the outcome of a commit, and answers those who waited for it.
    pub(super) fn settle(&mut self, landed: Result<Landed, JoinError>) {
        let waiting = self.flight.take().map(|flight| flight.waiting).unwrap_or_default();
        let problem = match landed {
            Ok(Landed { store, batch, result }) => {
                self.store = Some(store);
                match result {
                    Ok(Committed::Written) => None,
                    Ok(Committed::Anew) => {
                        tracing::error!(
                            "the ban database was damaged while in use, it is written anew"
                        );
                        self.rewrite();
                        None
                    }
                    Err(error) => {
                        if self.rewrite || batch.whole {
                            self.rewrite();
                        } else {
                            self.pending.absorb(batch);
                        }
                        Some(Causes(&error).to_string())
                    }
                }
            }
            // The runtime is shutting down, or the engine is broken beyond use.
            Err(error) => {
                self.is_persistent = false;
                Some(error.to_string())
            }
        };
        if let Some(problem) = &problem {
            count(&self.stats.store_errors);
            tracing::error!(problem, "bans are not recorded on disk");
            self.stats.set_persistence(Persistence::Failing);
            self.flush_at = Some(Instant::now() + RETRY);
        } else {
            self.stats.set_persistence(Persistence::Durable);
        }
        for Waiting { reply, report } in waiting {
            let outcome = match &problem {
                None => Ok(report),
                Some(problem) => Err(KeeperError::NotRecorded { problem: problem.clone() }),
            };
            tell(reply, outcome);
        }
    }

    /// Writes all that is pending, and closes the file for the process that is to have it. What
    /// changes from now on is not written, unless it is taken back.
    pub(super) async fn let_go(&mut self, whole: impl FnOnce() -> Batch) {
        self.finish(whole).await;
        if let Some(store) = &mut self.store {
            store.close();
        }
        self.is_away = true;
    }

    /// Opens the file again with the next commit, which writes all of it where `anew` says so.
    pub(super) fn take_back(&mut self, anew: bool) {
        self.is_away = false;
        if anew {
            self.rewrite();
        }
    }

    /// Writes all that is pending, before the process ends; nothing where another has the file.
    pub(super) async fn finish(&mut self, whole: impl FnOnce() -> Batch) {
        if self.is_away {
            return;
        }
        self.land().await;
        if self.rewrite || !self.pending.is_empty() || !self.waiting.is_empty() {
            self.begin(whole);
        }
        self.land().await;
    }

    async fn land(&mut self) {
        if let Some(flight) = &mut self.flight {
            let landed = (&mut flight.task).await;
            self.settle(landed);
        }
    }
}

/// Answers; who no longer waits for the answer has gone, and that is no fault.
pub(super) fn tell<T>(reply: oneshot::Sender<T>, answer: T) {
    drop(reply.send(answer));
}
