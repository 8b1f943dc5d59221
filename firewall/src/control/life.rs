//! How the daemon comes to its end: told to, or because another process has taken its place.

use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::control::daemon::{self, Control};
use crate::control::notify::State;
use crate::control::sockets::Sockets;
use crate::control::upgrade::{self, Keeping, Offer, Program, Upgrade};
use crate::control::worker::Stop;
use crate::control::{admin, confirmation};

/// How long whoever asked may take to read the answer, before the process ends.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// The signals that end the daemon, and the one that has another one begin.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    upgrade: Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            // nginx's and HAProxy's.
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::Stop,
            _ = self.interrupt.recv() => Event::Stop,
            _ = self.upgrade.recv() => Event::Upgrade(None),
        }
    }

    /// Waits for the order to end.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The daemon beside its workers, and what it has the keeping of while it is the one.
pub(super) struct Incumbent {
    pub(super) control: Rc<Control>,
    pub(super) sockets: Sockets,
    /// What one process alone does.
    pub(super) fronts: JoinSet<()>,
    /// What goes on until a successor serves.
    pub(super) tasks: JoinSet<()>,
}

/// What happened to the daemon.
enum Event {
    Stop,
    /// From the admin socket, where somebody waits for the answer, or by a signal.
    Upgrade(Option<Upgrade>),
    WorkerEnded(u16),
}

/// Lives until it is told to end or another process has taken its place; then drains. A second order
/// to end ends what is in progress at once.
///
/// # Errors
///
/// If a worker has ended by itself, which is a fault of ours.
pub(super) async fn live(
    mut incumbent: Incumbent,
    program: &Program,
    mut signals: Signals,
    mut upgrades: mpsc::Receiver<Upgrade>,
    stop: &watch::Sender<Stop>,
    mut endings: mpsc::UnboundedReceiver<u16>,
) -> anyhow::Result<()> {
    let (told, has_successor) = loop {
        let event = tokio::select! {
            event = signals.next() => event,
            Some(order) = upgrades.recv() => Event::Upgrade(Some(order)),
            worker = endings.recv() => Event::WorkerEnded(worker.unwrap_or_default()),
        };
        match event {
            Event::Stop => break (Ok(()), false),
            Event::WorkerEnded(worker) => break (worker_ended(worker), false),
            Event::Upgrade(order) => match upgraded(&mut incumbent, program, &mut signals).await {
                Upgraded::Served(pid) => {
                    answer(order, Ok(pid));
                    break (Ok(()), true);
                }
                Upgraded::Failed(reason) => answer(order, Err(reason)),
                Upgraded::Stopped => break (Ok(()), false),
            },
        }
    };
    let Incumbent { control, mut sockets, mut fronts, mut tasks } = incumbent;
    tracing::info!("draining");
    if has_successor {
        sockets.give_name();
        tasks.shutdown().await;
    } else {
        control.notifier.tell(&State::Stopping);
    }
    // What waits in them is the successor's, or nobody's.
    sockets.clients.clear();
    stop.send_replace(if has_successor { Stop::GiveWay } else { Stop::Drain });
    drained(&mut endings, &mut signals, stop, has_successor).await;
    tasks.shutdown().await;
    // No more commands; those in progress have all places when they are through.
    fronts.shutdown().await;
    let places = control.commands.acquire_many(admin::CONNECTIONS);
    if timeout(ANSWER_PATIENCE, places).await.is_err() {
        tracing::warn!("commands in progress are cut off");
    }
    told
}

fn worker_ended(worker: u16) -> anyhow::Result<()> {
    bail!("worker {worker} ended")
}

fn answer(order: Option<Upgrade>, result: Result<u32, String>) {
    if let Some(order) = order {
        // Whoever asked may have gone away.
        order.answer.send(result).unwrap_or(());
    }
}

/// Waits until the last worker has ended.
async fn drained(
    endings: &mut mpsc::UnboundedReceiver<u16>,
    signals: &mut Signals,
    stop: &watch::Sender<Stop>,
    has_successor: bool,
) {
    // A service manager that ends all processes of a unit does not know that this one is about to.
    let mut orders = u32::from(!has_successor);
    loop {
        tokio::select! {
            ending = endings.recv() => {
                if ending.is_none() {
                    return;
                }
            }
            () = signals.stop() => {
                orders += 1;
                if orders > 1 {
                    tracing::warn!("told again: what is in progress is cut off");
                    stop.send_replace(Stop::Now);
                }
            }
        }
    }
}

/// What came of an upgrade.
enum Upgraded {
    /// This process serves, and this one drains.
    Served(u32),
    Failed(String),
    /// The order to end came first.
    Stopped,
}

async fn upgraded(incumbent: &mut Incumbent, program: &Program, signals: &mut Signals) -> Upgraded {
    let control = Rc::clone(&incumbent.control);
    if confirmation::is_awaited(&control) {
        // The new process would know nothing of it.
        return Upgraded::Failed("something awaits its confirmation: confirm it first".into());
    }
    control.is_upgrading.set(true);
    let attempt = hand_over(incumbent, program);
    let outcome = tokio::select! {
        outcome = attempt => Some(outcome),
        () = signals.stop() => None,
    };
    control.is_upgrading.set(false);
    match outcome {
        Some(Ok(pid)) => {
            tracing::info!(pid, "another process serves");
            Upgraded::Served(pid)
        }
        Some(Err(error)) => {
            let reason = format!("{error:#}");
            tracing::error!(reason, "not upgraded; this process serves on");
            Upgraded::Failed(reason)
        }
        None => {
            let Incumbent { control, sockets, fronts, .. } = incumbent;
            Kept { control, sockets, fronts }.take_back().await;
            Upgraded::Stopped
        }
    }
}

async fn hand_over(incumbent: &mut Incumbent, program: &Program) -> anyhow::Result<u32> {
    let Incumbent { control, sockets, fronts, .. } = incumbent;
    let offer = Offer {
        clients: &sockets.clients,
        admin: &sockets.admin,
        metrics: sockets.metrics.as_ref(),
        generation: control.generations.borrow().next_number() - 1,
    };
    let mut keeping = Kept { control, sockets, fronts };
    let tell = |pid| control.notifier.tell(&State::Succeeded(pid));
    upgrade::hand_over(program, offer, &mut keeping, tell).await
}

/// What one process alone may have the keeping of.
struct Kept<'a> {
    control: &'a Rc<Control>,
    sockets: &'a Sockets,
    fronts: &'a mut JoinSet<()>,
}

impl Keeping for Kept<'_> {
    async fn let_go(&mut self) -> anyhow::Result<()> {
        self.fronts.shutdown().await;
        self.control.keeper.let_go().await?;
        self.control.enforcement.borrow_mut().let_go();
        Ok(())
    }

    async fn take_back(&mut self) {
        let control = self.control;
        control.enforcement.borrow_mut().take_back(&control.settings, &control.metrics);
        if let Err(error) = control.keeper.take_back().await {
            tracing::error!(%error, "bans are not recorded on disk");
        }
        match daemon::fronts(control, self.sockets) {
            Ok(fronts) => *self.fronts = fronts,
            Err(error) => tracing::error!(%error, "commands are not answered any more"),
        }
    }
}
