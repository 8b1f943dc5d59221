//! Where all parts meet: start, reload, drain.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinSet, LocalSet};

use crate::ban::keeper::KeeperHandle;
use crate::ban::shared::Shared;
use crate::clock::{Moment, Monotonic};
use crate::control::cli::RunOptions;
use crate::control::confirmation::{self, Unconfirmed};
use crate::control::enforcement::Enforcement;
use crate::control::generations::{Generation, Generations};
use crate::control::kernel_plane::KernelPlane;
use crate::control::notify::{self, Notifier, State};
use crate::control::panic_allow::{self, PanicAllow};
use crate::control::policy::{self, Failed, LoadError, Loaded, Watched};
use crate::control::pressure::{self, Gauge, WorkerLoad};
use crate::control::settings::Settings;
use crate::control::sockets::Sockets;
use crate::control::upgrade::predecessor::Predecessor;
use crate::control::upgrade::{Program, Upgrade};
use crate::control::watchdog::{Pulses, Watchdog};
use crate::control::worker::{self, Stop, WorkerParts};
use crate::control::{admin, certificates, exposition, keeping, life};
use crate::feeds::FeedsHandle;
use crate::kernel;
use crate::listen::inherit;
use crate::log_lines::LogWriter;
use crate::metrics::Metrics;
use crate::pipeline::ruleset::Ruleset;
use crate::upstream::keeper::Upstreams;

/// How often the files of the present generation are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether something has ended that was ordered for a time.
const DEADLINE_INTERVAL: Duration = Duration::from_millis(200);
/// Reloads that may wait for their turn.
const RELOADS_WAITING: usize = 8;
/// The same of upgrades: the second one is the new process's.
const UPGRADES_WAITING: usize = 1;

/// What commands and metrics are answered from.
pub struct Control {
    pub settings: Arc<Settings>,
    pub listening: SocketAddr,
    pub metrics_listening: Option<SocketAddr>,
    pub keeper: KeeperHandle,
    pub enforcement: Rc<RefCell<Enforcement>>,
    pub pressure: RefCell<Gauge>,
    pub rulesets: Arc<ArcSwap<Ruleset>>,
    pub generations: RefCell<Generations>,
    pub panic_allow: RefCell<PanicAllow>,
    pub unconfirmed: RefCell<Unconfirmed>,
    pub feeds: FeedsHandle,
    pub upstreams: Upstreams,
    pub shared: Arc<Shared>,
    pub metrics: Arc<Metrics>,
    pub started: Monotonic,
    pub watchdog: Rc<Watchdog>,
    /// A place for each command in progress.
    pub commands: Arc<Semaphore>,
    /// Whether a new process is about to take this one's place.
    pub is_upgrading: Cell<bool>,
    pub(super) notifier: Rc<Notifier>,
    reloads: mpsc::Sender<Reload>,
    upgrades: mpsc::Sender<Upgrade>,
}

/// An order to read everything anew.
struct Reload {
    /// Return to what was before, unless that is confirmed within this time.
    confirm_within: Option<Duration>,
    answer: oneshot::Sender<Result<u64, String>>,
}

impl Control {
    /// Tells of the first generation, and goes on with what an earlier process was told to.
    fn begin(self: &Rc<Self>) {
        let generation = self.rulesets.load().generation;
        self.metrics.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.metrics.last_reload_successful.set(1);
        panic_allow::resume(self);
    }

    /// Reads configuration and document anew; gives the generation in force, or why it is still the
    /// old one. Unless it is confirmed within the time given, the old one comes back.
    pub async fn reload(&self, confirm_within: Option<Duration>) -> Result<u64, String> {
        let (answer, result) = oneshot::channel();
        let busy = || "too many reloads are waiting".to_owned();
        self.reloads.try_send(Reload { confirm_within, answer }).map_err(|_full| busy())?;
        result.await.map_err(|_stopped| busy())?
    }

    /// Lets a new process take this one's place; gives its number, or why this one still serves.
    pub async fn upgrade(&self) -> Result<u32, String> {
        let (answer, result) = oneshot::channel();
        let busy = || "an upgrade is under way".to_owned();
        self.upgrades.try_send(Upgrade { answer }).map_err(|_full| busy())?;
        result.await.map_err(|_stopped| busy())?
    }

    /// One line for whoever asks the service manager.
    fn summary(&self) -> String {
        let mode = self.enforcement.borrow().mode();
        let generation = self.rulesets.load().generation;
        format!("{mode}, generation {generation}, listening on {}", self.listening)
    }
}

/// Serves until SIGTERM or SIGINT, or until another process does after SIGUSR2.
pub fn run(options: &RunOptions) -> anyhow::Result<()> {
    // Before anything is opened.
    let announced = inherit::from_manager()?;
    start_tracing();
    let program = Program::of_this_process()?;
    let (mut predecessor, handed_over) = Predecessor::from_environment()?.unzip();
    let result = start(options, &program, &mut predecessor, |settings| {
        Sockets::open(settings, announced, handed_over)
    });
    if let (Err(error), Some(predecessor)) = (&result, predecessor) {
        predecessor.fail(error);
    }
    result
}

fn start(
    options: &RunOptions,
    program: &Program,
    predecessor: &mut Option<Predecessor>,
    open: impl FnOnce(&Settings) -> anyhow::Result<Sockets>,
) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let upstreams = Upstreams::of_the_system(Arc::clone(&metrics));
    let generation = predecessor.as_ref().map_or(0, |predecessor| predecessor.generation) + 1;
    let loaded = policy::load(options, generation, &metrics, &upstreams, None);
    let loaded = loaded.map_err(|failed| reported(*failed.error))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let sockets = open(&loaded.settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(predecessor) = predecessor {
        predecessor.take_over()?;
    }
    let local = LocalSet::new();
    let served = serve(options, program, loaded, sockets, metrics, upstreams, predecessor);
    local.block_on(&runtime, served)
}

/// Prints every problem of a contract, not the first alone.
fn reported(error: LoadError) -> anyhow::Error {
    if let LoadError::Contract(problems) = &error {
        for problem in problems {
            tracing::error!("{problem}");
        }
    }
    error.into()
}

pub(super) fn start_tracing() {
    let mut filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy()
        // How much the kernel program says is its own setting: what it writes is wanted.
        .add_directive(kernel::PROGRAM_LOG.parse().expect("a directive"));
    // It warns of what clients do, as often as they do it; we count that, and keep a line for each.
    if !std::env::var("RUST_LOG").is_ok_and(|said| said.contains("h2")) {
        filter = filter.add_directive("h2=error".parse().expect("a directive"));
    }
    // Started twice in one process, by a test: the first stands.
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .try_init(),
    );
}

async fn serve(
    options: &RunOptions,
    program: &Program,
    loaded: Loaded,
    mut sockets: Sockets,
    metrics: Arc<Metrics>,
    upstreams: Upstreams,
    predecessor: &mut Option<Predecessor>,
) -> anyhow::Result<()> {
    let Loaded { settings, ruleset, files, before, .. } = loaded;
    keeping::upstreams(&upstreams, &ruleset).await;
    let settings = Arc::new(settings);
    let listening = sockets.address()?;
    let metrics_listening =
        sockets.metrics.as_ref().map(std::net::TcpListener::local_addr).transpose()?;
    let Logs { log, audit, writers } = Logs::open(&settings)?;
    let mut loaded = Enforcement::load(&settings)?;
    loaded.serve(&[listening]);
    let enforcement = Rc::new(RefCell::new(loaded));
    let plane = KernelPlane::new(&enforcement);
    let (mut keeper, handle) = keeping::start(&settings, plane.clone())?;
    let watched = before.after(files);
    let generations = Generations::new(Generation::new(ruleset, &settings, &watched));
    let rulesets = Arc::clone(generations.published());
    let current = Arc::clone(generations.settings());
    let shared = Arc::<Shared>::default();
    let (feeds, feeds_handle) = keeping::feeds(&settings, plane, &shared, &metrics).await;
    // Bans and feeds are in the tables before the program that reads them is attached.
    enforcement.borrow_mut().attach(&metrics)?;
    let signals = life::Signals::listen()?;
    let (stop, stopping) = watch::channel(Stop::default());
    let (ended, endings) = mpsc::unbounded_channel();

    let notifier = Rc::new(Notifier::from_environment());
    let mut pulses = Pulses::default();
    let (mut workers, mut loads) = (Vec::new(), Vec::new());
    let is_shared = sockets.are_shared(settings.workers.get());
    let spread = inherit::spread(&sockets.clients, settings.workers).context("listening")?;
    let views = keeper.workers(spread.len());
    for ((sockets, (bans, link)), index) in spread.into_iter().zip(views).zip(0..) {
        let load = Arc::<WorkerLoad>::default();
        loads.push(Arc::clone(&load));
        workers.push(worker::spawn(WorkerParts {
            index,
            sockets,
            is_shared,
            rulesets: Arc::clone(&rulesets),
            keeper: handle.clone(),
            bans: bans.sharing(Arc::clone(&shared)),
            link,
            load,
            metrics: Arc::clone(&metrics),
            log: log.clone(),
            audit: audit.clone(),
            settings: Arc::clone(&current),
            stopping: stopping.clone(),
            ended: ended.clone(),
            pulse: pulses.pulse(format!("worker-{index}")),
        })?);
    }
    drop((log, audit, ended));
    sockets.keep_name(&settings);

    let (reloads, reload_requests) = mpsc::channel(RELOADS_WAITING);
    let (upgrades, upgrade_requests) = mpsc::channel(UPGRADES_WAITING);
    let panic_allow = PanicAllow::resume(settings.state_dir.as_deref(), &Moment::now());
    let watchdog = Rc::new(Watchdog::new(pulses, handle.clone()));
    let control = Rc::new(Control {
        listening,
        metrics_listening,
        keeper: handle,
        enforcement: Rc::clone(&enforcement),
        pressure: pressure::gauge(&settings.pressure),
        rulesets,
        generations: RefCell::new(generations),
        panic_allow: RefCell::new(panic_allow),
        unconfirmed: RefCell::default(),
        feeds: feeds_handle,
        upstreams,
        shared,
        metrics: Arc::clone(&metrics),
        started: Monotonic::now(),
        watchdog,
        commands: Arc::new(Semaphore::new(admin::CONNECTIONS as usize)),
        is_upgrading: Cell::default(),
        notifier: Rc::clone(&notifier),
        reloads,
        upgrades,
        settings,
    });
    control.begin();
    let (keeper_stop, keeper_stopping) = oneshot::channel::<()>();
    // Told or dropped, it is the daemon's end.
    let keeper = tokio::task::spawn_local(keeper.run(async { drop(keeper_stopping.await) }));
    let mut tasks = beside_workers(&control, loads);
    tasks.spawn_local(feeds.run());
    tasks.spawn_local(reloading(options.clone(), Rc::clone(&control), reload_requests, watched));
    let fronts = fronts(&control, &sockets)?;

    let mode = enforcement.borrow().mode();
    tracing::info!(%listening, mode, workers = workers.len(), "ready");
    if let Some(predecessor) = predecessor.take() {
        predecessor.succeed();
    }
    notifier.tell(&State::Ready(&control.summary()));
    let incumbent = life::Incumbent { control: Rc::clone(&control), sockets, fronts, tasks };
    let told = life::live(incumbent, program, signals, upgrade_requests, &stop, endings).await;
    // A keeper that is gone already is found by the join below.
    keeper_stop.send(()).unwrap_or(());
    keeper.await.context("the ban keeper failed")?;
    drop(control);
    join(workers, writers)?;
    told
}

/// What is written line by line, each by a thread of its own.
struct Logs {
    log: Option<LogWriter>,
    audit: Option<LogWriter>,
    writers: [Option<std::thread::JoinHandle<()>>; 2],
}

impl Logs {
    fn open(settings: &Settings) -> anyhow::Result<Self> {
        let log = LogWriter::start(&settings.access_log, "access-log");
        let (log, log_writer) = log.context("opening the access log")?.unzip();
        let audit = LogWriter::start(&settings.refused_responses, "audit-log");
        let (audit, audit_writer) = audit.context("opening log.refused_responses")?.unzip();
        Ok(Self { log, audit, writers: [log_writer, audit_writer] })
    }
}

/// Waits for the workers, and for what the logs' writers still have to write.
fn join(
    workers: Vec<std::thread::JoinHandle<()>>,
    writers: [Option<std::thread::JoinHandle<()>>; 2],
) -> anyhow::Result<()> {
    for worker in workers {
        worker.join().map_err(|_panic| anyhow::anyhow!("a worker panicked"))?;
    }
    for writer in writers.into_iter().flatten() {
        writer.join().map_err(|_panic| anyhow::anyhow!("a log's writer panicked"))?;
    }
    Ok(())
}

/// Starts what watches deadlines, load and loops.
fn beside_workers(control: &Rc<Control>, loads: Vec<Arc<WorkerLoad>>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn_local(deadlines(Rc::clone(control)));
    tasks.spawn_local(certificates::follow(Rc::clone(control)));
    tasks.spawn_local(pressure::follow(Rc::clone(control), loads));
    if let Some(interval) = notify::watchdog_interval() {
        let watchdog = Rc::clone(&control.watchdog);
        tasks.spawn_local(watchdog.run(Rc::clone(&control.notifier), interval));
    }
    tasks
}

/// Starts what answers commands and scrapes, and follows the kernel: all that one process alone does.
pub(super) fn fronts(control: &Rc<Control>, sockets: &Sockets) -> anyhow::Result<JoinSet<()>> {
    let mut fronts = JoinSet::new();
    let listener = tokio::net::UnixListener::from_std(sockets.admin.try_clone()?)?;
    fronts.spawn_local(admin::serve(listener, Rc::clone(control)));
    if let Some(listener) = &sockets.metrics {
        let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        fronts.spawn_local(exposition::serve(listener, Rc::clone(control)));
    }
    Enforcement::follow(&control.enforcement, &control.keeper, &control.metrics, &mut fronts);
    Ok(fronts)
}

/// Takes the orders to reload: SIGHUP, the admin socket, and files that changed.
async fn reloading(
    options: RunOptions,
    control: Rc<Control>,
    mut requests: mpsc::Receiver<Reload>,
    mut watched: Watched,
) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::error!("SIGHUP cannot be received");
        return;
    };
    let mut poll = tokio::time::interval(WATCH_INTERVAL);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let order = tokio::select! {
            _ = hangup.recv() => None,
            request = requests.recv() => match request {
                Some(reload) => Some(reload),
                None => return,
            },
            _ = poll.tick() => {
                // The new process reads what there is.
                if control.is_upgrading.get() || !watched.have_changed() {
                    continue;
                }
                None
            }
        };
        control.notifier.tell(&State::Reloading(Monotonic::now()));
        let confirm_within = order.as_ref().and_then(|order| order.confirm_within);
        let result = reload(&options, &control, &mut watched, confirm_within).await;
        let label = if result.is_ok() { "success" } else { "failure" };
        control.metrics.reloads.with_label_values(&[label]).inc();
        control.metrics.last_reload_successful.set(i64::from(result.is_ok()));
        match &result {
            Ok(generation) => {
                tracing::info!(generation, "reloaded");
                control.notifier.tell(&State::Ready(&control.summary()));
            }
            Err(reason) => {
                tracing::error!(reason, "not reloaded; the old generation serves");
                let status = format!("{}; not reloaded: {reason}", control.summary());
                control.notifier.tell(&State::Ready(&status));
            }
        }
        if let Some(order) = order {
            // Whoever asked may have gone away.
            drop(order.answer.send(result));
        }
    }
}

async fn reload(
    options: &RunOptions,
    control: &Control,
    watched: &mut Watched,
    confirm_within: Option<Duration>,
) -> Result<u64, String> {
    if control.is_upgrading.get() {
        return Err("an upgrade is under way".into());
    }
    let generation = control.generations.borrow().next_number();
    let before = watched.again();
    let loaded = match load_aside(options.clone(), generation, control).await? {
        Ok(loaded) => loaded,
        Err(failed) => {
            watched.failed(before, failed.files);
            return Err(format!("{:#}", reported(*failed.error)));
        }
    };
    let keys = control.settings.fixed_differences(&loaded.settings);
    if !keys.is_empty() {
        watched.failed(before, loaded.files);
        return Err(LoadError::Fixed { keys }.to_string());
    }
    control.upstreams.settled(loaded.ruleset.apis.iter().map(|api| &api.upstream)).await;
    let (unused, files) = (before.clone(), loaded.files.clone());
    let read = before.after(loaded.files);
    let settings = Arc::new(loaded.settings);
    let new = Generation::new(loaded.ruleset, &settings, &read);
    {
        let mut generations = control.generations.borrow_mut();
        let fallback = generations.fallback(&new.contents);
        let pending = match (confirm_within, fallback) {
            (None, _) => None,
            (Some(within), Some(fallback)) => Some((within, fallback)),
            (Some(_), None) => {
                watched.failed(unused, files);
                return Err("nothing has changed, so there is nothing to return to".into());
            }
        };
        // The checks are the last that may fail, and the first to be in force.
        let mut enforcement = control.enforcement.borrow_mut();
        if let Err(problem) = enforcement.configure_checks(&settings.kernel_checks) {
            watched.failed(unused, files);
            return Err(problem);
        }
        enforcement.limit(&settings);
        let now = Monotonic::now();
        generations.install(new, now);
        if let Some((within, fallback)) = pending {
            generations.confirm_until(now.after(within), fallback);
        }
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    control.feeds.configure(&settings.feeds);
    *watched = read;
    control.metrics.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    Ok(generation)
}

/// Ends what was ordered for a time, and puts off what ends without us.
async fn deadlines(control: Rc<Control>) {
    let mut tick = tokio::time::interval(DEADLINE_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = Monotonic::now();
        control.enforcement.borrow_mut().beat(now);
        control.enforcement.borrow_mut().tend_program(now, &control.metrics);
        panic_allow::tend(&control);
        confirmation::tend(&control);
    }
}

/// Compiles on a thread of its own: a large document takes seconds, in which the keeper must go on.
///
/// # Errors
/// Why nothing could be tried.
async fn load_aside(
    options: RunOptions,
    generation: u64,
    control: &Control,
) -> Result<Result<Loaded, Failed>, String> {
    let (metrics, upstreams) = (Arc::clone(&control.metrics), control.upstreams.clone());
    let earlier = control.rulesets.load().tls.clone();
    let (sender, loaded) = oneshot::channel();
    let compiling = std::thread::Builder::new().name("compile".into()).spawn(move || {
        // The daemon may have stopped waiting.
        let earlier = earlier.as_deref();
        drop(sender.send(policy::load(&options, generation, &metrics, &upstreams, earlier)));
    });
    compiling.map_err(|error| error.to_string())?;
    loaded.await.map_err(|_panicked| "the compiler failed".to_owned())
}
