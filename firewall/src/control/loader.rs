//! The privileged half as a process of its own: `firewall load`. It reads the configuration and hears
//! of interfaces, and nothing from strangers; the proxy asks it by a socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::enforcement::{
    RELIST_INTERVAL, SETTLE_TIME, follow_messages, is_missing, options, tell_of_event,
    tell_of_interface,
};
use crate::causes::Causes;
use crate::clock::Monotonic;
use crate::control::cli::RunOptions;
use crate::control::notify::{self, Notifier, State};
use crate::control::policy::{self, Watched};
use crate::control::settings::Settings;
use crate::control::{admin, daemon};
use crate::kernel::{self, CheckSetting, Loader, Mode, Trial};

/// Processes that are answered at once; there is one proxy, and one more while it is replaced.
const CONNECTIONS_MAX: usize = 8;
/// How often it is looked whether the configuration has changed.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked what a program on probation does.
const TEND_INTERVAL: Duration = Duration::from_millis(500);
/// How long an earlier program, of other tables, stays in force for want of a proxy that fills these.
const FILL_PATIENCE: Duration = Duration::from_mins(1);

/// What `load` is told.
#[derive(Clone, Debug, Args)]
pub struct LoadOptions {
    /// The configuration file, the same that `firewall run` reads
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where `firewall run` asks, readable and writable for the group; `kernel.loader` if absent
    #[arg(long, value_name = "PATH")]
    loader: Option<PathBuf>,
}

/// Loads the program, and keeps it attached until SIGTERM or SIGINT; what is attached then stays.
pub fn run(options: &LoadOptions) -> anyhow::Result<()> {
    let options = &RunOptions::of_loader(options.config.clone(), options.loader.clone());
    daemon::start_tracing();
    let (settings, read) = policy::configured(options)?;
    let socket = settings.loader.clone();
    let socket = socket.context("neither kernel.loader nor --loader names a socket")?;
    anyhow::ensure!(!settings.interfaces.is_empty(), "no interface is configured");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(options, settings, read, &socket));
    // The next start would take it for a running loader's only until it is not answered.
    drop(std::fs::remove_file(socket));
    result
}

async fn serve(
    options: &RunOptions,
    settings: Settings,
    read: Vec<PathBuf>,
    socket: &Path,
) -> anyhow::Result<()> {
    let kernel_options = kernel::Options { loader: None, ..self::options(&settings) };
    let loader = Arc::new(Loader::load(&kernel_options)?);
    let listener = UnixListener::from_std(admin::bind("loader socket", socket)?)?;
    tokio::spawn(accept(listener, Arc::clone(&loader)));
    let notifier = Arc::new(Notifier::from_environment());
    if let Some(messages) = loader.log_stream() {
        tokio::spawn(follow_messages(messages));
    }
    await_tables(&loader, &notifier).await?;
    loader.attach()?;
    for report in loader.interfaces() {
        tell_of_interface(&report);
    }
    if let Some(missing) = loader.interfaces().iter().find(|report| is_missing(report)) {
        let reason = missing.reason.as_deref().unwrap_or_default();
        anyhow::bail!("the required interface {}: {reason}", missing.name);
    }
    tracing::info!(pins = %loader.directory().display(), socket = %socket.display(), "ready");
    notifier.tell(&State::Ready(&summary(&loader)));
    tokio::spawn(follow_interfaces(Arc::clone(&loader), Arc::clone(&notifier)));
    tokio::spawn(follow_configuration(
        options.clone(),
        settings.kernel_checks,
        Watched::new(read),
        Arc::clone(&loader),
    ));
    tokio::spawn(tend_program(Arc::clone(&loader), Arc::clone(&notifier)));
    if let Some(interval) = notify::watchdog_interval() {
        tokio::spawn(watchdog(Arc::clone(&notifier), interval));
    }
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("what is attached stays attached");
    notifier.tell(&State::Stopping);
    Ok(())
}

/// Waits until the tables hold what an earlier program bans, of which the proxy knows.
async fn await_tables(loader: &Loader, notifier: &Notifier) -> anyhow::Result<()> {
    let until = Instant::now() + FILL_PATIENCE;
    let wanted = loader.wanted();
    while loader.must_wait()? {
        let status = "an earlier program stays in force until a proxy has filled the new tables";
        tracing::info!("{status}");
        // The proxy is started when this is ready.
        notifier.tell(&State::Ready(status));
        tokio::select! {
            () = wanted.notified() => {}
            () = tokio::time::sleep_until(until) => {
                tracing::warn!("no proxy has filled the new tables: they begin without earlier bans");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// One line for whoever asks the service manager.
fn summary(loader: &Loader) -> String {
    let reports = loader.interfaces();
    let names = |mode| {
        let names = reports.iter().filter(|report| report.mode == mode);
        names.map(|report| report.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let modes = [(Mode::Native, "native"), (Mode::Generic, "generic"), (Mode::None, "unattached")];
    let said = modes.map(|(mode, word)| (word, names(mode)));
    let said = said.iter().filter(|(_, names)| !names.is_empty());
    said.map(|(word, names)| format!("{word}: {names}")).collect::<Vec<_>>().join("; ")
}

/// Answers each proxy on a thread of its own, so that none waits for what is being attached.
async fn accept(listener: UnixListener, loader: Arc<Loader>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = match listener.accept().await {
            Ok((stream, _)) => answer(stream, Arc::clone(&loader), place),
            Err(error) => Err(error),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "a proxy is not answered");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn answer(
    stream: tokio::net::UnixStream,
    loader: Arc<Loader>,
    place: OwnedSemaphorePermit,
) -> std::io::Result<()> {
    let peer = stream.peer_cred().ok();
    let (pid, uid) = (peer.and_then(|peer| peer.pid()), peer.map(|peer| peer.uid()));
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let serve = move || {
        tracing::info!(pid, uid, "a proxy asks");
        match loader.serve(&stream) {
            Ok(()) => tracing::info!(pid, "a proxy is gone"),
            Err(error) => tracing::warn!(pid, %error, "a proxy is not answered any more"),
        }
        drop(place);
    };
    std::thread::Builder::new().name("proxy".into()).spawn(serve).map(drop)
}

/// Keeps what is attached up to date with the interfaces that there are.
async fn follow_interfaces(loader: Arc<Loader>, notifier: Arc<Notifier>) {
    let wanted = loader.wanted();
    let Some(mut watch) = loader.watch() else { return };
    let mut relist = interval(RELIST_INTERVAL);
    relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = watch.changed() => if let Err(error) = heard {
                // Interfaces that appear are found with the next listing.
                tracing::error!(%error, "the kernel's messages about interfaces cannot be read");
                sleep(RELIST_INTERVAL).await;
            },
            () = wanted.notified() => {}
            _ = relist.tick() => {}
        }
        match loader.reconcile() {
            Ok(happened) => {
                for (event, report) in &happened {
                    tell_of_event(*event, report);
                }
                if !happened.is_empty() {
                    notifier.tell(&State::Status(&summary(&loader)));
                }
            }
            Err(error) => {
                let reason = Causes(&error).to_string();
                tracing::error!(reason, "interfaces that appear are not attached to");
            }
        }
        sleep(SETTLE_TIME).await;
    }
}

/// Takes the modes of checks from the file when it changes, or on SIGHUP, while no proxy does: that one
/// reads the same file, and takes nothing of it unless all is sound.
async fn follow_configuration(
    options: RunOptions,
    configured: Vec<CheckSetting>,
    mut watched: Watched,
    loader: Arc<Loader>,
) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::error!("SIGHUP cannot be received");
        return;
    };
    // None where a proxy may have told others.
    let mut configured = Some(configured);
    let mut poll = interval(WATCH_INTERVAL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = hangup.recv() => {}
            _ = poll.tick() => if !watched.have_changed() {
                continue;
            },
        }
        let settings = match policy::configured(&options) {
            Ok((settings, read)) => {
                watched = Watched::new(read);
                settings
            }
            Err(error) => {
                tracing::error!(error = %Causes(&error), "not reloaded");
                continue;
            }
        };
        if loader.connections() > 0 {
            configured = None;
            continue;
        }
        if configured.as_ref() == Some(&settings.kernel_checks) {
            continue;
        }
        match loader.set_checks(settings.kernel_checks.clone()) {
            Ok(()) => {
                tracing::info!("the modes of checks are read anew");
                configured = Some(settings.kernel_checks);
            }
            Err(error) => tracing::error!(error = %Causes(&error), "not reloaded"),
        }
    }
}

/// Looks after a program that has taken another's place.
async fn tend_program(loader: Arc<Loader>, notifier: Arc<Notifier>) {
    let mut ticks = interval(TEND_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match loader.tend(Monotonic::now()) {
            Ok(None | Some(Trial::OnProbation { .. })) => {}
            Ok(Some(Trial::Settled)) => tracing::info!("the kernel program is off probation"),
            Ok(Some(Trial::RolledBack { reason })) => {
                tracing::error!(reason, "the kernel program does wrong: the one before it is back");
                notifier.tell(&State::Status(&format!(
                    "the program before this one is back: {reason}"
                )));
            }
            Err(error) => {
                tracing::error!(error = %Causes(&error), "the kernel program cannot be looked after");
            }
        }
    }
}

/// Tells the manager that this loop turns, which attaches too.
async fn watchdog(notifier: Arc<Notifier>, every: Duration) {
    let mut ticks = interval(every / 4);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        notifier.tell(&State::Alive);
    }
}
