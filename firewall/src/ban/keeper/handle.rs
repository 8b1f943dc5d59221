//! How the rest of the daemon speaks to the keeper: offences from the workers, orders from the
//! operator. Every call is bounded in time, and every queue in length.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::report::{BanPage, BanReport, Explanation};
use super::stats::{KeeperStats, count};
use super::{BanMode, Conduct};
use crate::address::{ClientAddr, PeerAddr};
use crate::ban::exempt::Exempt;
use crate::ban::ledger::LedgerError;
use crate::ban::suspicion::Suspicion;
use crate::clock::Monotonic;
use crate::kernel::Evidence;
use crate::violation::Offence;

/// Offences that may wait for the keeper. More are counted and refused without a score.
pub const OFFENCES_MAX: usize = 4_096;
/// Orders that may wait for the keeper.
pub const ORDERS_MAX: usize = 64;
/// How long a refusal waits by default for the ban that it may cause.
pub const OFFENCE_PATIENCE: Duration = Duration::from_millis(100);
/// How long an order may take, the commit to disk included.
pub const ORDER_PATIENCE: Duration = Duration::from_secs(10);

/// An offence on its way.
#[derive(Debug)]
pub(super) struct Accusation {
    pub(super) client: ClientAddr,
    pub(super) peer: PeerAddr,
    pub(super) offence: Offence,
    pub(super) rule: &'static str,
    pub(super) reply: oneshot::Sender<Judgement>,
}

/// The keeper's answer to an offence.
#[derive(Debug)]
pub(super) enum Judgement {
    Noted,
    /// The kernel holds the ban; every worker does as soon as the receiver has seen its end.
    Banned(IpNet, mpsc::Receiver<Infallible>),
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, KeeperError>>;

#[derive(Debug)]
pub(super) enum Order {
    Add { target: IpNet, ttl: Option<Duration>, reason: String, reply: Reply<BanReport> },
    Remove { target: IpNet, reply: Reply<BanReport> },
    List { after: Option<IpNet>, limit: usize, reply: Reply<BanPage> },
    Find { target: IpNet, reply: Reply<Option<BanReport>> },
    Explain { address: IpAddr, reply: Reply<Explanation> },
    LetGo { reply: Reply<()> },
    TakeBack { reply: Reply<()> },
}

/// Why an order was not carried out, or not wholly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeeperError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("bans are switched off")]
    Off,
    #[error("done, but not recorded on disk, so a restart would undo it: {problem}")]
    NotRecorded { problem: String },
    #[error("{target} is lifted in the proxy, but still in the kernel's table; it is tried again")]
    KernelKept { target: IpNet },
    #[error("the ban keeper did not answer within {} s", ORDER_PATIENCE.as_secs())]
    Late,
    #[error("the ban keeper has ended")]
    Ended,
}

/// What became of an offence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// Counted, and scored unless its source is exempt or banned already. In observe mode it is
    /// all that ever happens.
    Noted,
    /// It reached the threshold: this is banned, and both planes hold it.
    Banned(IpNet),
    /// The keeper was too busy to say in time; the ban may still come.
    Unsettled,
}

/// A way to the keeper, for every worker and for the admin API.
#[derive(Clone, Debug)]
pub struct KeeperHandle {
    pub(super) mode: BanMode,
    pub(super) exempt: Arc<Exempt>,
    pub(super) patience: Duration,
    pub(super) accusations: mpsc::Sender<Accusation>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) conduct: mpsc::Sender<Conduct>,
    pub(super) stats: Arc<KeeperStats>,
    pub(super) suspicion: Arc<Suspicion>,
    pub(super) may_ban: fn(Evidence) -> bool,
}

impl KeeperHandle {
    /// Takes note of what the packet path found of a source. Evidence that may not ban makes it
    /// suspected for a while, and nothing else.
    pub fn signal(&self, source: IpAddr, evidence: Evidence, rule: &'static str) {
        let client = ClientAddr(source.to_canonical());
        if self.mode == BanMode::Off || self.exempt.contains(client.0) {
            return;
        }
        if !(self.may_ban)(evidence) {
            self.suspicion.note(client, Monotonic::coarse());
            return;
        }
        // Nobody waits for what becomes of it.
        let (reply, _) = oneshot::channel();
        let (peer, offence) = (PeerAddr::new(source), Offence::Framing);
        let accusation = Accusation { client, peer, offence, rule, reply };
        if self.accusations.try_send(accusation).is_err() {
            count(&self.stats.offences_dropped);
        }
    }

    /// The sources that the packet path found something of, lately.
    pub fn suspicion(&self) -> Arc<Suspicion> {
        Arc::clone(&self.suspicion)
    }

    /// Reports an offence, and waits until the ban that it causes, if any, is in the kernel's
    /// table and in every worker's view: the refusal goes out after that. Waits at most
    /// [`KeeperSettings::patience`](super::KeeperSettings), and not at all if the queue is full.
    pub async fn offend(
        &self,
        client: ClientAddr,
        peer: PeerAddr,
        offence: Offence,
        rule: &'static str,
    ) -> Consequence {
        if self.mode == BanMode::Off {
            return Consequence::Noted;
        }
        if self.exempt.contains(client.0) {
            count(&self.stats.offences_exempt);
            return Consequence::Noted;
        }
        let (reply, judgement) = oneshot::channel();
        match self.accusations.try_send(Accusation { client, peer, offence, rule, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                count(&self.stats.offences_dropped);
                return Consequence::Unsettled;
            }
        }
        let settled = timeout(self.patience, async {
            match judgement.await {
                Ok(Judgement::Noted) => Consequence::Noted,
                Ok(Judgement::Banned(target, mut applied)) => {
                    // Nothing is ever sent: it ends when the last worker has applied the ban.
                    while applied.recv().await.is_some() {}
                    Consequence::Banned(target)
                }
                Err(_) => Consequence::Unsettled,
            }
        });
        settled.await.unwrap_or_else(|_| {
            count(&self.stats.offences_late);
            Consequence::Unsettled
        })
    }

    /// Bans a target by an operator's word; without end if no duration is given. On return both
    /// planes hold it and it is on disk.
    pub async fn add(
        &self,
        target: IpNet,
        ttl: Option<Duration>,
        reason: String,
    ) -> Result<BanReport, KeeperError> {
        self.order(|reply| Order::Add { target, ttl, reason, reply }).await
    }

    /// Lifts the ban of exactly this target. Gives the ban as it was.
    pub async fn remove(&self, target: IpNet) -> Result<BanReport, KeeperError> {
        self.order(|reply| Order::Remove { target, reply }).await
    }

    /// The ban of exactly this target.
    pub async fn find(&self, target: IpNet) -> Result<Option<BanReport>, KeeperError> {
        self.order(|reply| Order::Find { target, reply }).await
    }

    /// At most `limit` bans behind `after`, or the first ones; no more than
    /// [`PAGE_MAX`](super::PAGE_MAX).
    pub async fn list(&self, after: Option<IpNet>, limit: usize) -> Result<BanPage, KeeperError> {
        self.order(|reply| Order::List { after, limit, reply }).await
    }

    /// What would happen to an address now, and why.
    pub async fn explain(&self, address: IpAddr) -> Result<Explanation, KeeperError> {
        self.order(|reply| Order::Explain { address, reply }).await
    }

    /// Writes what is pending and closes the state file, which one process alone may have open. The
    /// keeper goes on in memory until [`take_back`](Self::take_back).
    pub async fn let_go(&self) -> Result<(), KeeperError> {
        self.order_anyway(|reply| Order::LetGo { reply }).await
    }

    /// Opens the state file again, to write all of it.
    pub async fn take_back(&self) -> Result<(), KeeperError> {
        self.order_anyway(|reply| Order::TakeBack { reply }).await
    }

    pub fn mode(&self) -> BanMode {
        self.mode
    }

    pub fn stats(&self) -> &Arc<KeeperStats> {
        &self.stats
    }

    async fn order<T>(&self, order: impl FnOnce(Reply<T>) -> Order) -> Result<T, KeeperError> {
        if self.mode == BanMode::Off {
            return Err(KeeperError::Off);
        }
        self.order_anyway(order).await
    }

    /// The same where bans are switched off.
    async fn order_anyway<T>(
        &self,
        order: impl FnOnce(Reply<T>) -> Order,
    ) -> Result<T, KeeperError> {
        let (reply, answer) = oneshot::channel();
        let answered = timeout(ORDER_PATIENCE, async {
            let Ok(()) = self.orders.send(order(reply)).await else {
                return Err(KeeperError::Ended);
            };
            answer.await.unwrap_or(Err(KeeperError::Ended))
        });
        answered.await.unwrap_or(Err(KeeperError::Late))
    }
}
