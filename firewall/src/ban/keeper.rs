//! The task around the ledger: the only writer of the kernel's ban table, of the state file and of
//! the workers' views, in this order for every change.

mod conduct;
mod disk;
mod handle;
mod link;
mod report;
mod restore;
mod stats;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

pub use self::conduct::Conduct;
use self::conduct::{Lane, REPORTS_MAX};
use self::disk::{Disk, Ready, tell};
use self::handle::{Accusation, Judgement, Order};
pub use self::handle::{
    Consequence, KeeperError, KeeperHandle, OFFENCE_PATIENCE, OFFENCES_MAX, ORDER_PATIENCE,
    ORDERS_MAX,
};
use self::link::{Applied, Links};
pub use self::link::{LINK_CAPACITY, Unwelcome, Update, WorkerLink};
pub use self::report::{BanPage, BanReport, Explanation};
pub use self::stats::{KeeperStats, Persistence};
use self::stats::{count, gauge};
use super::aggregate::Aggregation;
use super::exempt::Exempt;
use super::ledger::{BanLedger, Capacity};
use super::record::{Ban, BanChange, ChangeKind, LiftCause, Origin, Planes};
use super::standing::{StandingRules, Standings};
use super::store::{BanRow, Batch, Loaded, RecordRow, Store};
use super::threshold::Threshold;
use super::view::BanView;
use crate::address::ClientAddr;
use crate::ban::evidence::may_ban;
use crate::ban::suspicion::Suspicion;
use crate::clock::{Moment, Monotonic};
use crate::kernel::Evidence;

/// How often the keeper looks after what nobody asks for.
const TICK: Duration = Duration::from_secs(1);
/// Offences judged before the keeper looks at anything else.
const OFFENCES_PER_TURN: usize = 256;
/// Bans in one page of a listing.
pub const PAGE_MAX: usize = 10_000;
/// Differences between the kernel's table and the ledger that are remembered one by one; beyond,
/// the comparison at each tick finds them.
const OWED_MAX: usize = 65_536;
/// Changes logged one by one between two ticks; more are logged as a number.
const LOGGED_PER_TICK: u32 = 100;

/// What bans do.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum BanMode {
    /// Banned sources are refused, and their packets dropped.
    #[default]
    Enforce,
    /// What would be banned is listed and logged; the proxy refuses nobody.
    Observe,
    /// Nothing is scored, listed or enforced.
    Off,
}

/// An entry of the kernel's ban table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub target: IpNet,
    pub until: Monotonic,
    pub drops: u64,
}

/// The ban table that the packet path reads.
pub trait Plane {
    type Error: std::error::Error + Send;

    /// Which table it is, for it may be exchanged for another one; none while there is none, and
    /// nothing becomes of what is written.
    fn epoch(&self) -> Option<u64> {
        Some(0)
    }

    /// Drops the packets of a target until then, whatever held before.
    fn ban(&mut self, target: IpNet, until: Monotonic) -> Result<(), Self::Error>;

    /// Lets the packets of a target pass. Gives whether it was in the table.
    fn unban(&mut self, target: IpNet) -> Result<bool, Self::Error>;

    /// The same of many targets. Where it fails, none of those need hold that were not in the table.
    fn ban_all(&mut self, bans: &[(IpNet, Monotonic)]) -> Result<(), Self::Error> {
        bans.iter().try_for_each(|&(target, until)| self.ban(target, until))
    }

    /// The packets dropped for exactly this target; none if it is not in the table.
    fn drops(&self, target: IpNet) -> Result<Option<u64>, Self::Error>;

    /// Puts an address, or the /64 of an IPv6 address, into good standing.
    fn stand(&mut self, source: IpAddr) -> Result<(), Self::Error>;

    /// Takes it out of good standing, whether it was in or not.
    fn fall(&mut self, source: IpAddr) -> Result<(), Self::Error>;

    /// All that is in the table.
    fn held(&self) -> Result<Vec<Held>, Self::Error>;
}

/// What a keeper goes by.
#[derive(Clone, Debug)]
pub struct KeeperSettings {
    pub mode: BanMode,
    pub threshold: Threshold,
    pub exempt: Arc<Exempt>,
    pub capacity: Capacity,
    pub aggregation: Aggregation,
    /// How long a refusal waits at most for the ban that it may cause.
    pub patience: Duration,
    pub standing: StandingRules,
    /// What evidence may ban: [`may_ban`], but in the test that shows
    /// what it keeps from happening.
    pub may_ban: fn(Evidence) -> bool,
}

impl Default for KeeperSettings {
    fn default() -> Self {
        Self {
            mode: BanMode::Enforce,
            threshold: Threshold::default(),
            exempt: Arc::new(Exempt::loopback().into_iter().collect()),
            capacity: Capacity::default(),
            aggregation: Aggregation::default(),
            patience: OFFENCE_PATIENCE,
            standing: StandingRules::default(),
            may_ban,
        }
    }
}

/// The ledger and all that must agree with it.
#[derive(Debug)]
pub struct Keeper<P> {
    mode: BanMode,
    ledger: BanLedger,
    plane: Option<P>,
    /// Which of the plane's tables holds what the ledger holds.
    epoch: Option<u64>,
    /// Targets whose entry in the kernel is not as the ledger wants it: a write failed.
    owed: BTreeSet<IpNet>,
    /// Targets lifted before their end while there was no table: the next one may still hold them.
    lifted: BTreeSet<IpNet>,
    links: Links,
    disk: Disk,
    accusations: mpsc::Receiver<Accusation>,
    orders: mpsc::Receiver<Order>,
    lane: Lane,
    stats: Arc<KeeperStats>,
    suspicion: Arc<Suspicion>,
    /// The last ban that was compared with the kernel's table.
    cursor: Option<IpNet>,
    /// The clocks when deadlines were last right.
    settled: Moment,
    logged: u32,
}

impl<P: Plane> Keeper<P> {
    /// Restores what the state file and the kernel's table hold, and brings the kernel up to date.
    /// Without a store bans live in memory, without a plane the proxy alone enforces them.
    pub fn new(
        settings: KeeperSettings,
        saved: Option<(Store, Loaded)>,
        plane: Option<P>,
        at: Moment,
    ) -> (Self, KeeperHandle) {
        let KeeperSettings {
            mode,
            threshold,
            exempt,
            capacity,
            aggregation,
            patience,
            may_ban,
            standing,
        } = settings;
        let ledger = BanLedger::new(threshold, Arc::clone(&exempt), capacity).joining(aggregation);
        let ledger = if mode == BanMode::Observe { ledger.observing() } else { ledger };
        let stats = Arc::<KeeperStats>::default();
        let (store, loaded) = saved.unzip();
        let (accuse, accusations) = mpsc::channel(OFFENCES_MAX);
        let (order, orders) = mpsc::channel(ORDERS_MAX);
        let (conduct, reports) = mpsc::channel(REPORTS_MAX);
        let epoch = plane.as_ref().and_then(Plane::epoch);
        let mut keeper = Self {
            mode,
            ledger,
            plane,
            epoch,
            owed: BTreeSet::new(),
            lifted: BTreeSet::new(),
            links: Links::default(),
            disk: Disk::new(store, Arc::clone(&stats)),
            accusations,
            orders,
            lane: Lane::new(Standings::new(standing), reports),
            stats: Arc::clone(&stats),
            suspicion: Arc::default(),
            cursor: None,
            settled: at,
            logged: 0,
        };
        // Switched off, the file and the kernel's table stay as they are for when it is not.
        if mode != BanMode::Off {
            keeper.restore(loaded.unwrap_or_default(), &at);
        }
        let suspicion = Arc::clone(&keeper.suspicion);
        let (accusations, orders) = (accuse, order);
        let handle = KeeperHandle {
            mode,
            exempt,
            patience,
            accusations,
            orders,
            conduct,
            stats,
            suspicion,
            may_ban,
        };
        (keeper, handle)
    }

    /// A view for one more worker, and the link that keeps it up to date.
    pub fn worker(&mut self) -> (BanView, WorkerLink) {
        (self.view(), self.links.open())
    }

    /// The same for many workers: each has a copy of its own, but it is made up once.
    pub fn workers(&mut self, count: usize) -> Vec<(BanView, WorkerLink)> {
        let views = std::iter::repeat_n(self.view(), count);
        views.map(|view| (view, self.links.open())).collect()
    }

    fn view(&self) -> BanView {
        let mut view = BanView::new(Arc::clone(self.ledger.exempt()));
        if self.mode == BanMode::Enforce {
            view.replace(&self.ledger.snapshot());
        }
        view
    }

    /// Keeps the bans until `shutdown`; then writes what is not on disk yet. The kernel's table
    /// stays as it is: what is banned stays banned while nobody is there to change it.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                ready = self.disk.ready() => match ready {
                    Ready::Landed(landed) => self.disk.settle(landed),
                    Ready::Due => {
                        let (ledger, at) = (&self.ledger, Moment::now());
                        self.disk.begin(|| whole(ledger, &at));
                    }
                },
                _ = tick.tick() => self.tick(Moment::now()),
                Some(order) = self.orders.recv() => match order {
                    Order::LetGo { reply } => {
                        let (ledger, at) = (&self.ledger, Moment::now());
                        self.disk.let_go(|| whole(ledger, &at)).await;
                        tell(reply, Ok(()));
                    }
                    order => self.obey(order, Moment::now()),
                },
                Some(conduct) = self.lane.reports.recv() => self.note(conduct, Monotonic::now()),
                Some(first) = self.accusations.recv() => {
                    let at = Moment::now();
                    self.judge(first, &at);
                    for _ in 1..OFFENCES_PER_TURN {
                        let Ok(next) = self.accusations.try_recv() else { break };
                        self.judge(next, &at);
                    }
                }
            }
        }
        let (ledger, at) = (&self.ledger, Moment::now());
        self.disk.finish(|| whole(ledger, &at)).await;
    }

    fn judge(&mut self, accusation: Accusation, at: &Moment) {
        let Accusation { client, peer, offence, rule, reply } = accusation;
        count(&self.stats.offences);
        self.fall(client);
        let now = at.monotonic;
        let mut changes = self.ledger.offend(client, peer, offence, rule, now);
        if changes.is_empty() && self.suspicion.holds(client, now) {
            // An offence of a suspected source counts twice.
            changes = self.ledger.offend(client, peer, offence, rule, now);
        }
        let Some(ban) = changes.last() else { return tell(reply, Judgement::Noted) };
        count(&self.stats.banned);
        let target = ban.target;
        let (sender, applied) = mpsc::channel(1);
        self.apply(&changes, at, Some(&sender));
        let joined = self.ledger.join_around(target, now);
        self.apply(&joined, at, None);
        // Ours must go, or the wait for the last one would never end.
        drop(sender);
        let judgement = match self.mode {
            BanMode::Enforce => Judgement::Banned(target, applied),
            // Nobody may act on what is only observed.
            BanMode::Observe | BanMode::Off => Judgement::Noted,
        };
        tell(reply, judgement);
    }

    fn obey(&mut self, order: Order, at: Moment) {
        let now = at.monotonic;
        match order {
            Order::Add { target, ttl, reason, reply } => {
                match self.ledger.add(target, ttl, reason, now) {
                    Err(error) => tell(reply, Err(error.into())),
                    Ok(changes) => {
                        self.apply(&changes, &at, None);
                        match self.ledger.get(target).map(|ban| self.report(ban, &at)) {
                            Some(report) => self.disk.answer(reply, report),
                            None => tell(reply, Err(KeeperError::Ended)),
                        }
                    }
                }
            }
            Order::Remove { target, reply } => {
                let report = self.ledger.removable(target).map(|ban| self.report(ban, &at));
                match (self.ledger.remove(target, now), report) {
                    (Ok(changes), Some(report)) => {
                        self.apply(&changes, &at, None);
                        let is_lift =
                            |change: &&BanChange| matches!(change.kind, ChangeKind::Lift { .. });
                        let mut lifted = changes.iter().filter(is_lift).map(|lift| lift.target);
                        match lifted.find(|target| self.owed.contains(target)) {
                            Some(target) => tell(reply, Err(KeeperError::KernelKept { target })),
                            None => self.disk.answer(reply, report),
                        }
                    }
                    (Ok(_), None) => tell(reply, Err(KeeperError::Ended)),
                    (Err(error), _) => tell(reply, Err(error.into())),
                }
            }
            Order::List { after, limit, reply } => {
                let limit = limit.clamp(1, PAGE_MAX);
                let mut rest = self.ledger.list(after);
                let bans: Vec<_> =
                    rest.by_ref().take(limit).map(|ban| self.report(ban, &at)).collect();
                let next = rest.next().and(bans.last()).map(|last| last.target);
                tell(reply, Ok(BanPage { total: self.ledger.len(), bans, next }));
            }
            Order::Find { target, reply } => {
                let report = self.ledger.get(target).map(|ban| self.report(ban, &at));
                tell(reply, Ok(report));
            }
            Order::Explain { address, reply } => tell(reply, Ok(self.explain(address, &at))),
            // Takes time, which this does not.
            Order::LetGo { .. } => {}
            Order::TakeBack { reply } => {
                self.disk.take_back(self.mode != BanMode::Off);
                tell(reply, Ok(()));
            }
        }
    }

    fn explain(&self, address: IpAddr, at: &Moment) -> Explanation {
        let client = ClientAddr(address.to_canonical());
        let (score, step) = self.ledger.standing(client, at.monotonic);
        let threshold = self.ledger.threshold();
        let (in_good_standing, conforming_requests) = self.lane.standings.of(client, at.monotonic);
        Explanation {
            address,
            exempt: self.ledger.exempt().contains(address),
            ban: self.ledger.find(address, at.monotonic).map(|ban| self.report(ban, at)),
            source: client.ban_target(),
            score,
            threshold: threshold.capacity,
            step,
            next_ban_seconds: threshold.ladder.ttl(step).as_secs(),
            in_good_standing,
            conforming_requests,
        }
    }

    /// Whether there is a table, and it holds what the ledger holds.
    fn is_in_kernel(&self) -> bool {
        let epoch = self.plane.as_ref().and_then(Plane::epoch);
        epoch.is_some() && epoch == self.epoch
    }

    fn report(&self, ban: &Ban, at: &Moment) -> BanReport {
        let in_kernel =
            ban.planes == Planes::Both && self.is_in_kernel() && !self.owed.contains(&ban.target);
        let planes: &[_] = if in_kernel { &["kernel", "proxy"] } else { &["proxy"] };
        BanReport::new(ban, planes, self.mode == BanMode::Observe, at)
    }

    /// Brings everything in line with changes that the ledger has made: the kernel first, for it
    /// is what the source meets first.
    fn apply(&mut self, changes: &[BanChange], at: &Moment, applied: Option<&Applied>) {
        for &change in changes {
            self.write_kernel(change);
            if self.mode == BanMode::Enforce {
                self.links.send(change, applied, &self.stats);
            }
            self.put_rows(change.target, at);
            self.log(change);
        }
        self.follow_ledger(at);
    }

    /// Forgets on disk what the ledger has forgotten, and counts what it holds.
    fn follow_ledger(&mut self, at: &Moment) {
        for target in self.ledger.take_forgotten() {
            self.put_rows(target, at);
        }
        for (number, origin) in [
            (&self.stats.bans_automatic, Origin::Automatic),
            (&self.stats.bans_operator, Origin::Operator),
            (&self.stats.bans_kernel, Origin::Kernel),
            (&self.stats.bans_aggregate, Origin::Aggregate),
        ] {
            gauge(number, self.ledger.count(origin));
        }
        gauge(&self.stats.offenders, self.ledger.offenders());
    }

    fn put_rows(&mut self, target: IpNet, at: &Moment) {
        self.disk.put_ban(target, self.ledger.get(target).map(|ban| BanRow::new(ban, at)));
        let record = self.ledger.record(target).map(|record| RecordRow::new(record, at));
        self.disk.put_record(target, record);
    }

    fn write_kernel(&mut self, change: BanChange) {
        let Some(plane) = &mut self.plane else { return };
        match change.kind {
            ChangeKind::Set { .. } | ChangeKind::Lift { cause: LiftCause::Expired } => {
                self.lifted.remove(&change.target);
            }
            ChangeKind::Lift { .. } => {
                if plane.epoch().is_none() && self.lifted.len() < OWED_MAX {
                    self.lifted.insert(change.target);
                }
            }
        }
        let written = match (change.kind, change.planes) {
            (ChangeKind::Set { until }, Planes::Both) => plane.ban(change.target, until),
            // Also for a ban of the proxy alone: its target may have had an entry before.
            (ChangeKind::Lift { .. }, _) | (ChangeKind::Set { .. }, Planes::Proxy) => {
                plane.unban(change.target).map(drop)
            }
        };
        match written {
            Ok(()) => {
                self.owed.remove(&change.target);
            }
            Err(error) => {
                count(&self.stats.kernel_errors);
                if self.owed.len() < OWED_MAX {
                    self.owed.insert(change.target);
                }
                self.logged += 1;
                if self.logged <= LOGGED_PER_TICK {
                    tracing::warn!(target_net = %change.target, %error, "the kernel's ban table cannot be written");
                }
            }
        }
    }

    fn log(&mut self, change: BanChange) {
        match change.kind {
            ChangeKind::Lift { cause: LiftCause::Evicted } => count(&self.stats.evicted),
            // The aggregate tells how many.
            ChangeKind::Lift { cause: LiftCause::Joined } => return count(&self.stats.joined),
            _ => {}
        }
        self.logged += 1;
        if self.logged > LOGGED_PER_TICK {
            return;
        }
        let banned = change.target;
        match (change.kind, self.ledger.get(banned)) {
            (ChangeKind::Lift { cause }, _) => tracing::info!(%banned, ?cause, "ban lifted"),
            (ChangeKind::Set { .. }, Some(ban)) => tracing::info!(
                %banned,
                origin = ?ban.origin,
                rule = ban.rule.as_deref(),
                seconds = ban.ttl.map(|ttl| ttl.as_secs()),
                step = ban.step,
                observed = ban.observed,
                joined = (ban.joined > 0).then_some(ban.joined),
                "banned"
            ),
            (ChangeKind::Set { .. }, None) => {}
        }
    }
}

/// All that the file should hold.
fn whole(ledger: &BanLedger, at: &Moment) -> Batch {
    Batch {
        whole: true,
        bans: ledger.list(None).map(|ban| (ban.target, Some(BanRow::new(ban, at)))).collect(),
        records: ledger
            .records()
            .map(|(target, record)| (target, Some(RecordRow::new(record, at))))
            .collect(),
    }
}
