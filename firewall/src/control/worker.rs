//! One worker: a thread, a single-threaded runtime, a listener, connections and a pipeline of its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use hyper::Request;
use hyper::body::Incoming;
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
use crate::control::settings::{Settings, http2};
use crate::control::watchdog::Pulse;
use crate::listen::connection::ConnectionSettings;
use crate::listen::connections::{ConnectionLimits, Connections, NoSeat};
use crate::listen::framing::HeadLimits;
use crate::listen::http2::OnViolation;
use crate::listen::judged::Patience;
use crate::listen::proxy_protocol::Balancers;
use crate::listen::socket::Listener;
use crate::listen::tls::Encryption;
use crate::listen::tls::handshakes::{HandshakeLimits, Handshakes};
use crate::listen::{self, Turned};
use crate::log_lines::LogWriter;
use crate::metrics::Metrics;
use crate::pipeline::exchange::RequestIds;
use crate::pipeline::origin::Origin;
use crate::pipeline::ruleset::{Ruleset, Rulesets};
use crate::pipeline::tunnels::{TunnelLimits, Tunnels};
use crate::pipeline::{Parts, Pipeline};

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
    pub settings: Arc<Settings>,
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
    let limits = &parts.settings.limits;
    let drain_timeout = limits.drain_timeout.0;
    let connection_limits = ConnectionLimits {
        total: limits.connections_per_worker,
        per_source: limits.connections_per_source,
        exempt: [&*parts.settings.trusted_proxies, &*parts.settings.balancers].concat(),
        suspicion: parts.keeper.suspicion(),
    };
    let encryption =
        encryption(&parts.settings, &parts.rulesets, &parts.metrics, &connection_limits);
    let mut connection_settings = connection_settings(&parts.settings);
    connection_settings.encryption = encryption;
    let bans = Rc::new(RefCell::new(parts.bans));
    let connections = Connections::new(connection_limits, parts.index);
    let metrics = parts.metrics;
    let log = AccessLog::new(parts.log, &metrics);
    let dropped = metrics.audit_log_dropped.clone();
    let audit = AuditLog::new(parts.audit, parts.settings.refused_response_octets, dropped);
    let pipeline = Rc::new(Pipeline::new(Parts {
        rulesets: Rulesets::new(parts.rulesets, Arc::clone(&metrics)),
        bans: Rc::clone(&bans),
        keeper: parts.keeper,
        ids: RequestIds::new(parts.index, Monotonic::now()),
        metrics: Arc::clone(&metrics),
        log,
        audit,
        tunnels: Tunnels::new(TunnelLimits {
            total: limits.tunnels_per_worker,
            per_source: limits.tunnels_per_source,
        }),
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
    connection_settings.on_violation = OnViolation::call(move |origin, rule| {
        let pipeline = Rc::clone(&blaming);
        // Bounded by the keeper's patience.
        drop(spawn_local(async move { pipeline.violated(&origin, rule).await }));
    });
    let counted = Arc::clone(&metrics);
    let accepted = move || counted.connections_total.inc();
    let is_banned = move |peer: PeerAddr| bans.borrow().refuses(peer.0, Monotonic::coarse);
    let turned = move |_, reason| {
        metrics.connections_refused.with_label_values(&[turned_id(reason)]).inc();
    };
    let accepting = spawn_local(listen::run(
        listener,
        Rc::clone(&connections),
        connection_settings,
        accepted,
        is_banned,
        turned,
        answer,
    ));

    let mut stopping = parts.stopping;
    // An error is the daemon's end, which is an order to stop too.
    let told = stopping.wait_for(|stop| *stop >= Stop::GiveWay).await.map(|stop| *stop);
    accepting.abort();
    drop(accepting.await);
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
    rulesets: &Arc<ArcSwap<Ruleset>>,
    metrics: &Arc<Metrics>,
    connections: &ConnectionLimits,
) -> Option<Encryption> {
    let limits = &settings.limits;
    settings.tls.is_some().then(|| {
        let rulesets = Arc::clone(rulesets);
        let handshakes = Handshakes::new(HandshakeLimits {
            total: limits.tls_handshakes_per_worker,
            per_source: limits.tls_handshakes_per_source,
            exempt: connections.exempt.clone(),
        });
        Encryption {
            server: Rc::new(move || rulesets.load().tls.clone()),
            timeout: limits.tls_handshake_timeout.0,
            handshakes,
            metrics: Arc::clone(metrics),
        }
    })
}

/// What all connections have in common, but for how they are encrypted.
fn connection_settings(settings: &Settings) -> ConnectionSettings {
    let limits = &settings.limits;
    ConnectionSettings {
        head: HeadLimits {
            head_octets: limits.head_octets,
            fields: limits.head_fields,
            target_octets: limits.target_octets,
        },
        patience: Patience {
            head: limits.head_timeout.0,
            idle: limits.idle_timeout.0,
            ..Patience::default()
        },
        balancers: Balancers {
            networks: settings.balancers.as_slice().into(),
            header_timeout: limits.proxy_header_timeout.0,
        },
        http2: settings.http2,
        http2_limits: http2::limits(&limits.http2),
        on_violation: OnViolation::default(),
        encryption: None,
    }
}

/// The label of a connection that was not let in.
fn turned_id(reason: Turned) -> &'static str {
    match reason {
        Turned::Banned => "banned",
        Turned::NoSeat(NoSeat::Worker) => "worker-full",
        Turned::NoSeat(NoSeat::Source) => "source-full",
        Turned::NoSeat(NoSeat::Draining) => "draining",
        Turned::NoHeader => "proxy-header",
        Turned::HeaderTimeout => "proxy-header-timeout",
        Turned::NoTls(reason) => reason.id(),
    }
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
