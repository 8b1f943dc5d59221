//! One worker: a thread, a single-threaded runtime, a listener, connections and a pipeline of its own.

mod notices;
mod terms;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use hyper::Request;
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::task::{LocalSet, spawn_local};

use crate::access_log::AccessLog;
use crate::address::PeerAddr;
use crate::audit_log::AuditLog;
use crate::ban::keeper::{KeeperHandle, Unwelcome, WorkerLink};
use crate::ban::view::BanView;
use crate::clock::Monotonic;
use crate::contract::{DEPTH_MAX, check_stack};
use crate::control::pressure::WorkerLoad;
use crate::control::settings::Settings;
use crate::control::watchdog::Pulse;
use crate::listen;
use crate::listen::connections::{ConnectionLimits, Connections};
use crate::listen::http2::OnViolation;
use crate::listen::socket::Listener;
use crate::listen::tls::Encryption;
use crate::listen::tls::handshakes::{HandshakeLimits, Handshakes};
use crate::log_lines::LogWriter;
use crate::metrics::Metrics;
use crate::pipeline::exchange::RequestIds;
use crate::pipeline::origin::Origin;
use crate::pipeline::ruleset::{Ruleset, Rulesets};
use crate::pipeline::tunnels::Tunnels;
use crate::pipeline::{Parts, Pipeline};

use notices::Notices;
use terms::Terms;

/// How long a banned client's connection may take to write the refusal that announces the ban.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a connection may be silent on which nothing is asked, once another process accepts.
const IDLE_GRACE: Duration = Duration::from_secs(5);

/// What a worker is made of.
pub struct WorkerParts {
    pub index: u16,
    pub sockets: Vec<std::net::TcpListener>,
    /// Whether other workers accept from them too.
    pub is_shared: bool,
    pub rulesets: Arc<ArcSwap<Ruleset>>,
    pub keeper: KeeperHandle,
    pub bans: BanView,
    pub link: WorkerLink,
    pub load: Arc<WorkerLoad>,
    pub metrics: Arc<Metrics>,
    pub log: Option<LogWriter>,
    pub audit: Option<LogWriter>,
    /// Those of the present generation.
    pub settings: Arc<ArcSwap<Settings>>,
    pub stopping: watch::Receiver<Stop>,
    pub ended: mpsc::UnboundedSender<u16>,
    pub pulse: Pulse,
}

/// Whether workers are to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    #[default]
    Serve,
    /// The same as [`Drain`](Self::Drain), where another process accepts: who has asked nothing just now
    /// is answered once more, and then comes to that one.
    GiveWay,
    /// Finish what is in progress, within the time that is configured for it.
    Drain,
    /// End at once.
    Now,
}

/// Says that the worker is no more, however it ended.
struct Last(u16, mpsc::UnboundedSender<u16>);

impl Drop for Last {
    fn drop(&mut self) {
        // The daemon may be gone before its worker.
        self.1.send(self.0).unwrap_or(());
    }
}

/// Starts the worker's thread.
pub fn spawn(parts: WorkerParts) -> anyhow::Result<JoinHandle<()>> {
    let last = Last(parts.index, parts.ended.clone());
    let name = format!("worker-{}", parts.index);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = move || {
        let _last = last;
        let local = LocalSet::new();
        if let Err(error) = local.block_on(&runtime, work(parts)) {
            tracing::error!("worker: {error:#}");
        }
    };
    // The depth of bodies may change while it runs; what is not used takes no memory.
    let stack = check_stack(DEPTH_MAX);
    let thread = std::thread::Builder::new().name(name).stack_size(stack);
    thread.spawn(work).context("starting a worker")
}

async fn work(parts: WorkerParts) -> anyhow::Result<()> {
    let listener = Listener::new(parts.sockets, parts.is_shared)?;
    let settings = parts.settings.load_full();
    let exempt = [&*settings.trusted_proxies, &*settings.balancers].concat();
    let bans = Rc::new(RefCell::new(parts.bans));
    let connections = Connections::new(
        ConnectionLimits {
            exempt: exempt.clone(),
            suspicion: parts.keeper.suspicion(),
            ..ConnectionLimits::default()
        },
        parts.index,
    );
    let tunnels = Tunnels::new(terms::tunnel_limits(&settings));
    let encryption = encryption(&settings, exempt, &parts.rulesets, &parts.metrics);
    let metrics = parts.metrics;
    let log = AccessLog::new(parts.log, &metrics);
    let dropped = metrics.audit_log_dropped.clone();
    let audit = AuditLog::new(parts.audit, settings.refused_response_octets, dropped);
    let pipeline = Rc::new(Pipeline::new(Parts {
        rulesets: Rulesets::new(parts.rulesets, Arc::clone(&metrics)),
        bans: Rc::clone(&bans),
        keeper: parts.keeper,
        ids: RequestIds::new(parts.index, Monotonic::now()),
        metrics: Arc::clone(&metrics),
        log,
        audit,
        tunnels: Rc::clone(&tunnels),
    }));
    let following = spawn_local(follow(parts.link, Rc::clone(&bans), Rc::clone(&connections)));
    let tending = spawn_local(tend(
        Rc::clone(&pipeline),
        Rc::clone(&connections),
        Arc::clone(&metrics),
        parts.load,
        parts.pulse,
    ));
    let answering = Rc::clone(&pipeline);
    let answer = Rc::new(move |origin: Origin, request: Request<Incoming>| {
        let pipeline = Rc::clone(&answering);
        async move { pipeline.handle(&origin, request).await }
    });
    let blaming = Rc::clone(&pipeline);
    let on_violation = OnViolation::call(move |origin, rule| {
        let pipeline = Rc::clone(&blaming);
        // Bounded by the keeper's patience.
        drop(spawn_local(async move { pipeline.violated(&origin, rule).await }));
    });
    let terms =
        Terms::new(&parts.settings, (Rc::clone(&connections), tunnels), on_violation, encryption);
    let is_banned = move |peer: PeerAddr| bans.borrow().refuses(peer.0, Monotonic::coarse);
    let notices = Notices::new(metrics);
    let accepting = spawn_local(listen::run(
        listener,
        Rc::clone(&connections),
        move || terms.current(),
        is_banned,
        move |peer, event| notices.tell(peer, event),
        answer,
    ));

    let mut stopping = parts.stopping;
    // An error is the daemon's end, which is an order to stop too.
    let told = stopping.wait_for(|stop| *stop >= Stop::GiveWay).await.map(|stop| *stop);
    accepting.abort();
    drop(accepting.await);
    let drain_timeout = parts.settings.load().limits.drain_timeout.0;
    let grace = if matches!(told, Ok(Stop::GiveWay)) { IDLE_GRACE } else { Duration::ZERO };
    let hastened = async {
        if stopping.wait_for(|stop| *stop == Stop::Now).await.is_err() {
            // Nobody is there to say so.
            std::future::pending::<()>().await;
        }
    };
    let dropped = tokio::select! {
        dropped = connections.drain(drain_timeout, grace) => dropped,
        () = hastened => connections.drain(Duration::ZERO, Duration::ZERO).await,
    };
    if dropped > 0 {
        tracing::warn!(dropped, "connections did not finish in time");
    }
    following.abort();
    tending.abort();
    pipeline.tend();
    Ok(())
}

/// How the worker's connections are encrypted, where they are.
fn encryption(
    settings: &Settings,
    exempt: Vec<IpNet>,
    rulesets: &Arc<ArcSwap<Ruleset>>,
    metrics: &Arc<Metrics>,
) -> Option<Encryption> {
    settings.tls.is_some().then(|| {
        let rulesets = Arc::clone(rulesets);
        Encryption {
            server: Rc::new(move || rulesets.load().tls.clone()),
            timeout: settings.limits.tls_handshake_timeout.0,
            handshakes: Handshakes::new(HandshakeLimits { exempt, ..HandshakeLimits::default() }),
            metrics: Arc::clone(metrics),
        }
    })
}

/// Takes the keeper's changes: the view first, so that no new connection slips in, then the open
/// connections of the source. An update counts as applied when it is dropped, after both.
async fn follow(mut link: WorkerLink, bans: Rc<RefCell<BanView>>, connections: Rc<Connections>) {
    while let Some(update) = link.next().await {
        let unwelcome = update.apply(&mut bans.borrow_mut());
        match unwelcome {
            Unwelcome::Nobody => {}
            Unwelcome::Within(target) => {
                connections.close_source(target, LAST_WORDS);
            }
            Unwelcome::Anyone => {
                let bans = bans.borrow();
                let is_banned = |peer: PeerAddr| bans.refuses(peer.0, Monotonic::coarse);
                connections.close_where(is_banned, LAST_WORDS);
            }
        }
    }
}

/// What is done a few times a second.
async fn tend(
    pipeline: Rc<Pipeline>,
    connections: Rc<Connections>,
    metrics: Arc<Metrics>,
    load: Arc<WorkerLoad>,
    pulse: Pulse,
) {
    let open_before = Cell::new(0);
    let mut interval = tokio::time::interval(Pipeline::TENDING);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let before = Monotonic::now();
        interval.tick().await;
        let waited = Monotonic::now().since(before);
        load.tell(connections.open(), waited.saturating_sub(Pipeline::TENDING));
        pulse.beat();
        pipeline.tend();
        let open = i64::try_from(connections.open()).unwrap_or(i64::MAX);
        metrics.connections.add(open - open_before.replace(open));
    }
}

#[cfg(test)]
mod tests;
