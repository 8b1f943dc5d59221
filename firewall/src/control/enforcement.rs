//! The kernel's half of the firewall, or the reason why there is none.

mod checks;
mod handover;
mod interfaces;
mod life;
mod opening;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

pub use self::checks::Judged;
use self::opening::Opening;
use crate::address::ClientAddr;
use crate::ban::keeper::{BanMode, KeeperHandle};
use crate::causes::Causes;
use crate::clock::Monotonic;
use crate::control::capture::{Captures, Samples};
use crate::control::config::KernelLog;
use crate::control::settings::Settings;
use crate::control::talkers::Talkers;
use crate::kernel::{
    self, CheckSetting, Count, Counters, DropEvent, Event, Events, InterfaceReport, Kernel,
    KernelError, LogLevel, LogStream, Mode, Pinning, Reason, Role,
};
use crate::metrics::Metrics;

/// How often the events that came up are summed up in the log.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);
/// How often the ranking of sources forgets half of what it has seen.
const FADING_INTERVAL: Duration = Duration::from_secs(10);
/// How old the kernel's counters may be when they are told.
const COUNTERS_AGE: Duration = Duration::from_millis(500);
/// Interfaces are listed at most this often; what changes meanwhile is seen together.
pub(super) const SETTLE_TIME: Duration = Duration::from_millis(50);
/// Not every change is told of: another's program that is taken off, for one.
pub(super) const RELIST_INTERVAL: Duration = Duration::from_secs(10);

/// What enforces bans and packet checks beneath the proxy.
#[derive(Default)]
pub struct Enforcement {
    kernel: Option<Kernel>,
    /// Why the kernel does less than was asked.
    reasons: Vec<String>,
    /// Drop events that came up, by reason.
    events: BTreeMap<&'static str, u64>,
    talkers: Talkers,
    captures: Captures,
    /// What the kernel had counted when it was last asked.
    counted: RefCell<Option<(Monotonic, Rc<Counters>)>>,
    link_messages: u64,
    /// The modes of checks as they were configured when they were last set by that.
    configured: Vec<CheckSetting>,
    /// Where another process loads the program: how what that one has pinned is opened, also anew.
    opening: Option<Opening>,
    /// The ports that are told to the program.
    ports: Vec<u16>,
    passes_until: Option<Monotonic>,
    /// The budgets that are configured now, if they were configured anew.
    limits: Option<kernel::Limits>,
    /// How the kernel's half was opened that another process has the keeping of.
    kept: Option<kernel::Options>,
    /// How often it was taken back.
    returns: u64,
}

/// Packets of one reason.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pub reason: &'static str,
    pub acted: Count,
    pub observed: Count,
}

impl Enforcement {
    /// Loads the kernel program where the settings say so; it is not attached yet. What cannot be done
    /// is a reason in [`Enforcement::reasons`], and no failure: the proxy works without.
    ///
    /// # Errors
    ///
    /// When another daemon has the same pins, and when there is no program for a required interface.
    pub fn load(settings: &Settings) -> anyhow::Result<Self> {
        let configured = settings.kernel_checks.clone();
        let mut enforcement = Self { configured, ..Self::default() };
        if settings.interfaces.is_empty() {
            enforcement.reasons.push("no interface is configured".into());
            return Ok(enforcement);
        }
        let is_required = settings.interfaces.iter().any(|interface| interface.is_required);
        let options = options(settings);
        if options.loader.is_some() {
            enforcement.open_pinned(options, is_required)?;
            return Ok(enforcement);
        }
        match Kernel::load(&options) {
            Ok(kernel) => {
                if let Pinning::Unpinned { reason } = kernel.pinning() {
                    tracing::warn!(reason, "not pinned: the kernel's bans are lost on exit");
                    enforcement.reasons.push(format!("bans are lost on exit: {reason}"));
                }
                enforcement.kernel = Some(kernel);
            }
            Err(error @ KernelError::InUse { .. }) => return Err(error.into()),
            Err(error) if is_required => {
                return Err(anyhow::Error::from(error).context("a required interface"));
            }
            Err(error) => {
                let reason = Causes(&error).to_string();
                tracing::warn!(
                    reason,
                    "no kernel program: bans are enforced when a client connects"
                );
                enforcement.reasons.push(reason);
            }
        }
        Ok(enforcement)
    }

    /// Attaches the program, whose tables hold what is banned by now. What cannot be done is a reason
    /// in [`Enforcement::reasons`], as before.
    ///
    /// # Errors
    ///
    /// When a required interface is not attached to.
    pub fn attach(&mut self, metrics: &Metrics) -> anyhow::Result<()> {
        self.refresh_own();
        self.await_loader();
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        if let Err(error) = kernel.attach() {
            if kernel.requires_interface() {
                return Err(anyhow::Error::from(error).context("a required interface"));
            }
            let reason = Causes(&error).to_string();
            tracing::warn!(reason, "not attached as configured");
            self.reasons.push(reason);
        }
        for interface in kernel.interfaces() {
            tell_of_interface(interface);
        }
        self.measure(metrics);
        if let Some(missing) = self.interface_reports().iter().find(|report| is_missing(report)) {
            let reason = missing.reason.as_deref().unwrap_or_default();
            anyhow::bail!("the required interface {}: {reason}", missing.name);
        }
        Ok(())
    }

    /// Brings the gauges of interfaces up to date.
    fn measure(&self, metrics: &Metrics) {
        let reports = self.interface_reports();
        metrics.kernel_attach_mode.reset();
        for report in reports {
            for known in [Mode::Native, Mode::Generic, Mode::None] {
                let labels = [report.name.as_str(), mode_name(known)];
                let gauge = metrics.kernel_attach_mode.with_label_values(&labels);
                gauge.set(i64::from(known == report.mode));
            }
        }
        metrics.loader_absent.set(i64::from(self.loader_problem().is_some()));
        let missing = reports.iter().filter(|report| is_missing(report)).count();
        metrics.required_unattached.set(i64::try_from(missing).unwrap_or(i64::MAX));
    }

    /// Takes note of what the loader has attached to by now.
    fn reconcile(&mut self, metrics: &Metrics) {
        self.reopen();
        self.refresh_own();
        let Some(kernel) = &mut self.kernel else { return self.measure(metrics) };
        let happened = kernel.reconcile();
        self.note(happened, metrics);
    }

    /// Takes note of what was attached to, and what is gone.
    fn note(
        &mut self,
        happened: Result<Vec<(Event, InterfaceReport)>, KernelError>,
        metrics: &Metrics,
    ) {
        match happened {
            Err(error @ KernelError::NewTables { .. }) => self.close(&error),
            Ok(happened) => {
                for (event, report) in happened {
                    metrics.interface_events.with_label_values(&[event.name()]).inc();
                    tell_of_event(event, &report);
                }
                self.measure(metrics);
            }
            Err(error) => {
                let reason = Causes(&error).to_string();
                tracing::error!(reason, "interfaces that appear are not attached to");
            }
        }
    }

    fn interface_reports(&self) -> &[InterfaceReport] {
        self.kernel.as_ref().map(Kernel::interfaces).unwrap_or_default()
    }

    /// `xdp-native` if at least one interface is, else `xdp-generic`, else `l7-only`.
    pub fn mode(&self) -> &'static str {
        let interfaces = self.interface_reports();
        let any = |mode| interfaces.iter().any(|interface| interface.mode == mode);
        if any(Mode::Native) {
            "xdp-native"
        } else if any(Mode::Generic) {
            "xdp-generic"
        } else {
            "l7-only"
        }
    }

    /// Why the kernel does less than was asked, and what else an operator must know.
    pub fn reasons(&self) -> Vec<String> {
        let of_interface = |report: &InterfaceReport| {
            report.reason.as_ref().map(|reason| format!("{}: {reason}", report.name))
        };
        let interfaces = self.interface_reports().iter().filter_map(of_interface);
        let loader = self.loader_problem().map(|problem| {
            format!("{problem}: what appears is not attached to, and tables do not grow")
        });
        interfaces.chain(self.reasons.iter().cloned()).chain(loader).collect()
    }

    /// Whether a required interface is not attached to.
    pub fn is_degraded(&self) -> bool {
        self.interface_reports().iter().any(is_missing)
    }

    /// The kernel's messages about interfaces since the start.
    pub fn link_messages(&self) -> u64 {
        self.link_messages
    }

    pub fn interfaces(&self) -> Vec<Value> {
        let report = |interface: &InterfaceReport| {
            json!({
                "name": interface.name,
                "index": interface.index,
                "mode": mode_name(interface.mode),
                "reason": interface.reason,
                "adopted": interface.adopted,
                "role": role_name(interface.role),
                "required": interface.is_required,
                "on": interface.on,
            })
        };
        self.interface_reports().iter().map(report).collect()
    }

    /// Lets every packet pass until then; see [`Kernel::pass_until`]. Without kernel program there is
    /// nothing to do.
    pub fn pass_until(&mut self, until: Monotonic) -> Result<(), KernelError> {
        self.passes_until = Some(until);
        self.kernel.as_mut().map_or(Ok(()), |kernel| kernel.pass_until(until))
    }

    /// Where link and maps outlive the process, or why they do not.
    pub fn pins(&self) -> String {
        match self.kernel.as_ref().map(Kernel::pinning) {
            Some(Pinning::Pinned(directory)) => directory.display().to_string(),
            Some(Pinning::Unpinned { reason }) => format!("none, bans are lost on exit: {reason}"),
            None => "none".into(),
        }
    }

    pub fn is_pinned(&self) -> bool {
        matches!(self.kernel.as_ref().map(Kernel::pinning), Some(Pinning::Pinned(_)))
    }

    /// Packets by reason, those of reasons that never occurred among them; empty without kernel
    /// program, and when its counters cannot be read.
    pub fn counters(&self) -> Vec<Counted> {
        let Some(counters) = self.counted() else {
            return Vec::new();
        };
        let counted = |&reason: &Reason| Counted {
            reason: reason.id(),
            acted: counters.acted(reason),
            observed: counters.observed(reason),
        };
        Reason::ALL.iter().map(counted).collect()
    }

    /// What the kernel has counted, of each interface; none without kernel program.
    pub fn counted_by_interface(&self) -> Option<Rc<Counters>> {
        self.counted()
    }

    /// Drop events that came up from the ring buffer, by reason.
    pub fn events_seen(&self) -> &BTreeMap<&'static str, u64> {
        &self.events
    }

    /// Drop events for which the ring buffer had no room.
    pub fn events_lost(&self) -> u64 {
        self.counted().map_or(0, |counters| counters.events_lost)
    }

    /// The kernel's counters, read at most once in [`COUNTERS_AGE`]: many scrapes cost no more than
    /// one, and none reads the map twice.
    fn counted(&self) -> Option<Rc<Counters>> {
        let kernel = self.kernel.as_ref()?;
        let now = Monotonic::coarse();
        let mut counted = self.counted.borrow_mut();
        if let Some((at, counters)) = &*counted
            && now.since(*at) < COUNTERS_AGE
        {
            return Some(Rc::clone(counters));
        }
        let counters = Rc::new(kernel.counters().ok()?);
        *counted = Some((now, Rc::clone(&counters)));
        Some(counters)
    }

    /// The sources that most samples are of.
    pub fn talkers(&self) -> &Talkers {
        &self.talkers
    }

    /// The name of an interface, by its index, as it was when it was attached to.
    pub fn interface_name(&self, index: u32) -> String {
        let interfaces = self.kernel.as_ref().map(Kernel::interfaces).unwrap_or_default();
        let known = interfaces.iter().find(|interface| interface.index == index);
        known.map_or_else(|| format!("interface {index}"), |interface| interface.name.clone())
    }

    /// Samples of these reasons from now on, more of them than otherwise; for as long as they are
    /// received.
    ///
    /// # Errors
    ///
    /// Why there can be none.
    pub fn capture(&mut self, reasons: Vec<Reason>) -> Result<Samples, String> {
        if self.kernel.is_none() {
            return Err("no kernel program is attached: nothing is dropped there".into());
        }
        let events = self.captures.open(reasons);
        let events = events.ok_or("too many captures are in progress")?;
        self.tell_captured().map_err(|error| Causes(&error).to_string())?;
        Ok(events)
    }

    /// To be called when events of a capture are received no more.
    pub fn capture_ended(&mut self) {
        if let Err(error) = self.tell_captured() {
            tracing::warn!(error = %Causes(&error), "a capture's samples go on");
        }
    }

    fn tell_captured(&mut self) -> Result<(), KernelError> {
        let wanted = self.captures.wanted();
        self.kernel.as_mut().map_or(Ok(()), |kernel| kernel.capture(&wanted))
    }

    /// Takes note of one event that came up.
    fn see(&mut self, reason: Reason, event: &DropEvent, metrics: &Metrics) {
        metrics.kernel_events.with_label_values(&[reason.id()]).inc();
        *self.events.entry(reason.id()).or_default() += 1;
        if let Some(address) = event.address() {
            self.talkers.see(address, reason);
        }
        let missed = self.captures.offer(reason, event);
        metrics.captures_missed.inc_by(u64::try_from(missed).unwrap_or(u64::MAX));
    }

    /// The kernel's entry that bans an address: its own, its /64's, or the narrowest range's.
    pub fn ban_of(&self, address: IpAddr) -> Option<Value> {
        let kernel = self.kernel.as_ref()?;
        let entry = |target: IpNet| Some((target, kernel.drops(target).ok()??));
        let own = entry(IpNet::from(address)).or_else(|| entry(ClientAddr(address).ban_target()));
        let (target, drops) = own.or_else(|| {
            let bans = kernel.bans().ok()?;
            let covering = bans.into_iter().filter(|(target, _)| target.contains(&address));
            let (target, ban) = covering.max_by_key(|(target, _)| target.prefix_len())?;
            Some((target, ban.drops))
        })?;
        Some(json!({ "target": target, "drops": drops }))
    }

    pub(super) fn kernel(&self) -> Option<&Kernel> {
        self.kernel.as_ref()
    }

    pub(super) fn kernel_mut(&mut self) -> Option<&mut Kernel> {
        self.kernel.as_mut()
    }

    /// Follows what the kernel says: of drops, of interfaces, and the program's own messages.
    pub fn follow(
        this: &Rc<RefCell<Self>>,
        keeper: &KeeperHandle,
        metrics: &Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) {
        let mut enforcement = this.borrow_mut();
        if enforcement.opening.is_some() {
            let (this, keeper) = (Rc::clone(this), keeper.clone());
            tasks.spawn_local(opening::follow_loader(this, keeper, Arc::clone(metrics)));
            return;
        }
        let Some(kernel) = &mut enforcement.kernel else { return };
        if let Some(events) = kernel.events() {
            tasks.spawn_local(follow_events(
                Rc::clone(this),
                events,
                keeper.clone(),
                Arc::clone(metrics),
            ));
        }
        if let Some(watch) = kernel.watch() {
            tasks.spawn_local(interfaces::follow(Rc::clone(this), watch, Arc::clone(metrics)));
        }
        if let Some(messages) = kernel.log_stream() {
            tasks.spawn_local(follow_messages(messages));
        }
    }
}

/// Passes on what the program itself logs.
pub(super) async fn follow_messages(messages: LogStream) {
    if let Err(error) = messages.run().await {
        tracing::error!(%error, "the kernel program's messages cannot be read");
    }
}

/// What the kernel's half is told.
pub(super) fn options(settings: &Settings) -> kernel::Options {
    kernel::Options {
        interfaces: settings.interfaces.clone(),
        pin_dir: settings.pin_dir.clone(),
        bans: match settings.bans.mode {
            BanMode::Enforce => kernel::BanMode::Enforce,
            BanMode::Observe => kernel::BanMode::Observe,
            BanMode::Off => kernel::BanMode::Off,
        },
        checks: settings.kernel_checks.clone(),
        // A ban of a range must not take a proxy's other clients with it.
        allow: settings.exempt().collect(),
        limits: settings.packets.clone(),
        syn_cookies: settings.syn_cookies,
        log: match settings.kernel_log {
            KernelLog::Off => None,
            KernelLog::Error => Some(LogLevel::Error),
            KernelLog::Warn => Some(LogLevel::Warn),
            KernelLog::Info => Some(LogLevel::Info),
            KernelLog::Debug => Some(LogLevel::Debug),
            KernelLog::Trace => Some(LogLevel::Trace),
        },
        loader: settings.loader.clone(),
        stale_after: settings.stale_after,
        probation: settings.probation,
        ..kernel::Options::default()
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Native => "native",
        Mode::Generic => "generic",
        Mode::None => "none",
    }
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Internet => "internet",
        Role::Lan => "lan",
    }
}

pub(super) fn is_missing(report: &InterfaceReport) -> bool {
    report.is_required && report.mode == Mode::None
}

pub(super) fn tell_of_interface(report: &InterfaceReport) {
    let (interface, mode, role) = (&report.name, mode_name(report.mode), role_name(report.role));
    match &report.reason {
        Some(reason) if report.mode == Mode::None => {
            tracing::warn!(interface, role, reason, "not attached");
        }
        Some(reason) => tracing::warn!(interface, mode, role, reason, "attached"),
        None => tracing::info!(interface, mode, role, adopted = report.adopted, "attached"),
    }
}

pub(super) fn tell_of_event(event: Event, report: &InterfaceReport) {
    let (interface, index) = (&report.name, report.index);
    match event {
        Event::Attached | Event::Unattached => tell_of_interface(report),
        Event::Renamed => tracing::info!(interface, index, "an interface has another name"),
        Event::Gone => tracing::warn!(interface, index, "an interface is gone"),
    }
}

/// Counts each event, tells of each at level debug, and sums them up once a second.
async fn follow_events(
    enforcement: Rc<RefCell<Enforcement>>,
    mut events: Events,
    keeper: KeeperHandle,
    metrics: Arc<Metrics>,
) {
    let mut summary = BTreeMap::<&'static str, (u64, DropEvent)>::new();
    let mut due = Instant::now();
    let mut fading = interval(FADING_INTERVAL);
    fading.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            batch = events.next() => match batch {
                Ok(batch) => {
                    if summary.is_empty() {
                        due = Instant::now() + SUMMARY_INTERVAL;
                    }
                    for event in batch {
                        let Ok(reason) = Reason::try_from(event.reason) else { continue };
                        tell(reason, &event);
                        heed(&keeper, reason, &event);
                        enforcement.borrow_mut().see(reason, &event, &metrics);
                        summary.entry(reason.id()).or_insert((0, event)).0 += 1;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the kernel's events cannot be read");
                    return;
                }
            },
            _ = fading.tick() => enforcement.borrow_mut().talkers.fade(),
            () = sleep_until(due), if !summary.is_empty() => {
                for (reason, (samples, last)) in std::mem::take(&mut summary) {
                    let source = last.address().map(tracing::field::display);
                    tracing::info!(reason, samples, source, "packets dropped");
                }
            }
        }
    }
}

/// Tells the keeper of a packet that a check dropped. A ban's own drops it reads from the table.
pub fn heed(keeper: &KeeperHandle, reason: Reason, event: &DropEvent) {
    if event.observed == 0
        && reason.is_check()
        && let Some(source) = event.address()
    {
        keeper.signal(source, reason.evidence(), reason.id());
    }
}

fn tell(reason: Reason, event: &DropEvent) {
    let source = event.address().map(tracing::field::display);
    let observed = event.observed != 0;
    let (interface, octets) = (event.interface, event.length);
    tracing::debug!(reason = reason.id(), source, interface, octets, observed, "packet dropped");
}
