//! The daemon's end of the XDP program: loads and attaches it, writes its bans, reads its counters
//! and events. The only user of aya.
//!
//! What it attaches fails static: where link and maps can be pinned, a daemon that dies leaves its
//! bans enforced, and the next one adopts them.

mod attach;
mod budgets;
mod capability;
mod checks;
mod events;
mod heartbeat;
mod interface;
mod log;
pub mod machine;
mod maps;
mod netlink;
mod pin;
mod probation;
mod syscall;
mod table;
mod watch;

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use firewall_common::maps::{EVENTS, PINNED};
use firewall_common::{Mode as CheckMode, Reasons};
use ipnet::IpNet;

use crate::clock::Monotonic;
use attach::{Attachments, Hands};
pub use attach::{Event, InterfaceReport, Mode};
use budgets::BudgetMaps;
pub use budgets::Limits;
pub use checks::CheckSetting;
use checks::policy;
pub use events::Events;
#[doc(hidden)]
pub use firewall_common::fault;
pub use firewall_common::{
    Ban, Budget, Budgeted, DropEvent, Evidence, Mode as Check, Reason, Role, SAMPLE_OCTETS, Tally,
};
use heartbeat::Heartbeat;
pub use interface::{InterfaceOptions, Pattern, PatternError};
pub use log::{LogLevel, LogStream, PROGRAM_LOG, UnknownLevel};
use maps::Tables;
pub use maps::{Count, Counters, InterfaceCounters, ListId, ListReport};
use pin::{NotPinned, Pins};
pub use pin::{PinState, Pinning};
use probation::Probation;
pub use probation::{ProbationRules, Trial};
pub use watch::{Heard, Watch};

static OBJECT: &[u8] = aya::include_bytes_aligned!("kernel/firewall.bpf.o");
const PROGRAM: &str = "firewall";
/// What the program reads of [`Options::syn_cookies`].
const COOKIES: &str = "COOKIES";
/// What it reads of [`Options::fault`].
const FAULT: &str = "FAULT";

/// Where link and maps are pinned unless it is configured otherwise.
pub const PIN_DIR: &str = "/sys/fs/bpf/firewall";

/// What the kernel does with a banned source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BanMode {
    #[default]
    Enforce,
    /// Count its packets and let them pass.
    Observe,
    Off,
}

impl BanMode {
    const fn check(self) -> CheckMode {
        match self {
            Self::Enforce => CheckMode::Drop,
            Self::Observe => CheckMode::Observe,
            Self::Off => CheckMode::Off,
        }
    }
}

/// What to attach, where, and how it is to judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where to attach; of several that match an interface, one without wildcard decides, else the
    /// first.
    pub interfaces: Vec<InterfaceOptions>,
    /// A directory on a BPF file system, made if it is missing; by default [`PIN_DIR`].
    pub pin_dir: PathBuf,
    pub bans: BanMode,
    /// Checks that are not in their default mode. Bans are set by `bans`.
    pub checks: Vec<CheckSetting>,
    /// Sources that nothing drops; at most 1,024 networks of each family.
    pub allow: Vec<IpNet>,
    pub limits: Limits,
    /// Whether new connections that are shed are answered with SYN cookies instead, where the host's
    /// `net.ipv4.tcp_syncookies` is 2.
    pub syn_cookies: bool,
    /// What the program itself logs; nothing by default, at which it costs nothing.
    pub log: Option<LogLevel>,
    /// How long packets are dropped without a [heartbeat](Kernel::beat); none: for ever.
    pub stale_after: Option<Duration>,
    pub probation: ProbationRules,
    /// What the program does wrong, for tests alone; by default nothing.
    #[doc(hidden)]
    pub fault: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            pin_dir: PathBuf::from(PIN_DIR),
            bans: BanMode::default(),
            checks: Vec::new(),
            allow: Vec::new(),
            limits: Limits::default(),
            syn_cookies: false,
            log: None,
            stale_after: None,
            probation: ProbationRules::default(),
            fault: fault::NONE,
        }
    }
}

/// The kernel does not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("the XDP object cannot be loaded")]
    Load { source: aya::EbpfError },
    /// Without capability (`CAP_BPF`, `CAP_NET_ADMIN`, and `CAP_PERFMON`, without which the verifier
    /// forbids variable offsets), or by the verdict of the verifier, whose last lines are in `log`.
    #[error("the kernel refuses the XDP program{log}")]
    Refused { source: io::Error, log: String },
    #[error("the XDP program cannot be used")]
    Program { source: ProgramError },
    /// Whatever failed, and what this process lacks for it.
    #[error("without {missing}")]
    Lacking { missing: String, source: Box<Self> },
    #[error("the XDP object has no map {map}")]
    NoMap { map: &'static str },
    #[error("map {map} does not {action}")]
    Map { map: &'static str, action: &'static str, source: aya::maps::MapError },
    #[error("map {map} is full at {entries} entries: {target} is not in it")]
    Full { map: &'static str, entries: u32, target: IpNet },
    #[error("the tables of bans cannot {action}")]
    Memory { action: &'static str, source: io::Error },
    #[error("{} holds another kind of map: remove it with `firewall detach`", path.display())]
    ForeignMap { path: PathBuf },
    #[error("{} cannot be {action}", path.display())]
    Pin { path: PathBuf, action: &'static str, source: io::Error },
    /// What is pinned was pinned by a version that this one knows nothing of. It stays in force.
    #[error(
        "a newer firewall's tables (layout {layout}) are in {}: run that version, or remove them with \
         `firewall detach`",
        path.display()
    )]
    NewerLayout { path: PathBuf, layout: u32 },
    /// Another daemon keeps what is pinned in this network namespace.
    #[error("{} is in use by {}", path.display(), process(*pid))]
    InUse { path: PathBuf, pid: Option<u32> },
    #[error("the network interfaces cannot be asked for")]
    Netlink { source: io::Error },
}

impl KernelError {
    /// The error, behind the capabilities that this process lacks, if it lacks any.
    fn behind_what_is_lacking(self) -> Self {
        let needed = capability::missing();
        let is_anothers =
            matches!(self, Self::InUse { .. } | Self::NewerLayout { .. } | Self::ForeignMap { .. });
        if needed.is_empty() || is_anothers {
            return self;
        }
        let missing: Vec<String> = needed.iter().map(ToString::to_string).collect();
        let missing = missing.join(", ");
        Self::Lacking { missing, source: Box::new(self) }
    }

    /// Whether a capability is missing, as against a kernel or a machine that fails.
    pub fn is_not_permitted(&self) -> bool {
        // The verifier says "permission denied" of a program that it finds unsound, too.
        if let Self::Refused { log, .. } = self
            && !log.is_empty()
            && !log.contains("!root")
        {
            return false;
        }
        let mut error: Option<&dyn Error> = Some(self);
        while let Some(current) = error {
            if let Some(error) = current.downcast_ref::<io::Error>()
                && error.kind() == io::ErrorKind::PermissionDenied
            {
                return true;
            }
            error = current.source();
        }
        false
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// A loaded program, its tables, and where it is attached.
///
/// Dropping it detaches nothing that is pinned.
pub struct Kernel {
    program: Ebpf,
    tables: Tables,
    budgets: BudgetMaps,
    heartbeat: Heartbeat,
    probation: Probation,
    attachments: Attachments,
    options: Options,
    pinning: Pinning,
    watch: Option<Watch>,
    events: Option<Events>,
    log: Option<LogStream>,
}

impl Kernel {
    /// Loads the program and attaches it to the interfaces.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load) and [`attach`](Self::attach).
    pub fn start(options: &Options) -> Result<Self, KernelError> {
        let mut kernel = Self::load(options)?;
        kernel.attach()?;
        Ok(kernel)
    }

    /// Loads the program and adopts the tables that an earlier daemon left pinned. Nothing is attached
    /// yet: what is written into the tables now is in force from the first packet on, also where the
    /// tables are new ones because the earlier daemon's had another layout.
    ///
    /// # Errors
    ///
    /// When program or maps cannot be loaded at all, as without capability;
    /// [`KernelError::InUse`] while another daemon has the same pins, and
    /// [`KernelError::NewerLayout`] where a newer version's are.
    pub fn load(options: &Options) -> Result<Self, KernelError> {
        Self::with_ring(options, EVENTS.entries).map_err(KernelError::behind_what_is_lacking)
    }

    /// Attaches to the interfaces, in place of an earlier daemon's program without a gap.
    ///
    /// That an interface cannot be attached to is no error but in its report.
    ///
    /// # Errors
    ///
    /// When the interfaces cannot be listed, or a table or pin not be written.
    pub fn attach(&mut self) -> Result<(), KernelError> {
        self.replace().map_err(KernelError::behind_what_is_lacking)
    }

    fn replace(&mut self) -> Result<(), KernelError> {
        let options = &self.options;
        let program = xdp(&mut self.program)?;
        let policy = |role, name: &str| policy(options, role, Some(name));
        let mut hands = Hands { program, tables: &mut self.tables, policy: &policy };
        self.attachments.prepare(&mut hands)?;
        let before = hands.tables.counters()?;
        self.attachments.start(&mut hands)?;
        self.probation.begin(&options.probation, program, &self.attachments, &before)
    }

    /// The same as [`load`](Self::load), with a ring buffer of `ring_octets` for the events: a power of two, at least a page.
    fn with_ring(options: &Options, ring_octets: u32) -> Result<Self, KernelError> {
        let (pins, pinning) = match Pins::open(&options.pin_dir) {
            Ok(pins) => {
                let directory = pins.directory().to_owned();
                (Some(pins), Pinning::Pinned(directory))
            }
            Err(NotPinned::InUse(error) | NotPinned::Newer(error)) => return Err(error),
            Err(reason) => (None, Pinning::Unpinned { reason: reason.to_string() }),
        };
        let mut program = load(pins.as_ref(), options, ring_octets)?;
        let default = policy(options, Role::default(), None);
        let maps_directory = pins.as_ref().map(Pins::maps);
        let mut tables = Tables::open(&mut program, default, &options.allow, maps_directory)?;
        let heartbeat = Heartbeat::start(options.stale_after, &mut tables)?;
        let budgets = BudgetMaps::open(&mut program, &options.limits)?;
        let events = Events::open(maps::take(&mut program, EVENTS.name)?)?;
        let log = match options.log {
            Some(_) => Some(LogStream::open(&mut program)?),
            None => None,
        };
        // Made before the interfaces are listed, so that no change falls between the two.
        let watch = Watch::open().map_err(|source| KernelError::Netlink { source })?;
        let attachments = Attachments::new(&options.interfaces, pins)?;
        let (events, watch) = (Some(events), Some(watch));
        let options = options.clone();
        Ok(Self {
            program,
            tables,
            budgets,
            heartbeat,
            probation: Probation::default(),
            attachments,
            options,
            pinning,
            watch,
            events,
            log,
        })
    }

    /// Brings what is attached up to date with the interfaces that there are now in the network
    /// namespace that this was started in; the calling thread must be in it. Gives what happened.
    ///
    /// The kernel waits for readers when it attaches: about 20 ms, some drivers seconds.
    ///
    /// # Errors
    ///
    /// When the interfaces cannot be listed, or a table or pin not be written. What was attached
    /// stays.
    pub fn reconcile(&mut self) -> Result<Vec<(Event, InterfaceReport)>, KernelError> {
        let options = &self.options;
        let mut hands = Hands {
            program: self.probation.in_force(&mut self.program)?,
            tables: &mut self.tables,
            policy: &|role, name| policy(options, role, Some(name)),
        };
        self.attachments.reconcile(&mut hands)
    }

    /// What tells when to [`reconcile`](Self::reconcile); none the second time.
    pub fn watch(&mut self) -> Option<Watch> {
        self.watch.take()
    }

    /// Every interface that was asked for, and those adopted that were not.
    pub fn interfaces(&self) -> &[InterfaceReport] {
        self.attachments.reports()
    }

    /// Whether something is wrong where nothing is attached.
    pub fn requires_interface(&self) -> bool {
        self.options.interfaces.iter().any(|interface| interface.is_required)
    }

    pub fn pinning(&self) -> &Pinning {
        &self.pinning
    }

    /// Bans `target` until the deadline, which replaces the deadline of an earlier ban of the same
    /// target and keeps its drops. A /32, /64 or /128 is an exact ban, any other prefix a range.
    ///
    /// # Errors
    ///
    /// [`KernelError::Full`] when its map is full.
    pub fn ban(&mut self, target: IpNet, until: Monotonic) -> Result<(), KernelError> {
        self.tables.ban(target.trunc(), until.ns())
    }

    /// Lifts the ban of exactly `target`; false if there was none.
    pub fn unban(&mut self, target: IpNet) -> Result<bool, KernelError> {
        self.tables.unban(target.trunc())
    }

    /// Packets that the ban of exactly `target` has dropped; none if there is no such ban.
    pub fn drops(&self, target: IpNet) -> Result<Option<u64>, KernelError> {
        Ok(self.tables.ban_of(target.trunc()).map(|ban| ban.drops))
    }

    /// Every ban in the kernel, those past their deadline included; also those adopted.
    pub fn bans(&self) -> Result<Vec<(IpNet, Ban)>, KernelError> {
        Ok(self.tables.bans().collect())
    }

    /// Replaces a list of prefixes whose packets are dropped, by another one, at once; by none if it is
    /// empty. A list has no ends and no drops of each prefix; up to a million prefixes of each family
    /// take less than half a second.
    ///
    /// # Errors
    ///
    /// When there is no memory for it; then the earlier list stays.
    pub fn replace_list(
        &mut self,
        list: ListId,
        prefixes: &[IpNet],
    ) -> Result<ListReport, KernelError> {
        self.tables.replace_list(list, prefixes)
    }

    /// Packets dropped for a list, since the maps were made.
    pub fn list_drops(&self, list: ListId) -> Result<u64, KernelError> {
        self.tables.list_drops(list)
    }

    /// Octets that the tables of bans take now: 4.7 MB while little is banned.
    pub fn ban_octets(&self) -> usize {
        self.tables.ban_octets()
    }

    /// Budgets and multipliers from now on. What was spent of earlier ones is forgotten.
    pub fn limit(&mut self, limits: &Limits) -> Result<(), KernelError> {
        self.budgets.limit(limits)
    }

    /// Sheds new connections of sources that are not in good standing: so many of 2^32, the highest
    /// value all of them. It ends at that moment unless it is said again.
    pub fn shed(&mut self, share: u32, until: Monotonic) -> Result<(), KernelError> {
        self.budgets.shed(share, until)
    }

    /// Puts an address, or the /64 of an IPv6 address, into good standing.
    ///
    /// # Errors
    ///
    /// [`KernelError::Full`] when 65,536 are.
    pub fn stand(&mut self, source: IpAddr) -> Result<(), KernelError> {
        self.budgets.stand(source)
    }

    /// Takes it out of good standing; false if it was not in.
    pub fn fall(&mut self, source: IpAddr) -> Result<bool, KernelError> {
        self.budgets.fall(source)
    }

    /// New connections that came as far as the budgets, since the program was loaded.
    pub fn tally(&self) -> Result<Tally, KernelError> {
        self.budgets.tally()
    }

    /// Lets every packet pass until then, and counts what would have been dropped as observed. It
    /// ends by itself, also where no daemon is left; a moment that has passed ends it at once.
    pub fn pass_until(&mut self, until: Monotonic) -> Result<(), KernelError> {
        self.tables.pass_until(until.ns())
    }

    /// What was counted since the maps were made, which is before this daemon if they were adopted.
    pub fn counters(&self) -> Result<Counters, KernelError> {
        self.tables.counters()
    }

    /// Samples these reasons a thousand times a second from each counter and CPU, until told otherwise;
    /// all others ten times.
    pub fn capture(&mut self, reasons: &[Reason]) -> Result<(), KernelError> {
        let reasons = reasons.iter().fold(Reasons::NONE, |set, reason| set.with(*reason));
        self.tables.capture(reasons, CAPTURE_INTERVAL_NS)
    }

    /// The events; none the second time.
    pub fn events(&mut self) -> Option<Events> {
        self.events.take()
    }

    /// What the program logs; none unless [`Options::log`] was given, or the second time.
    pub fn log_stream(&mut self) -> Option<LogStream> {
        self.log.take()
    }

    /// What the loaded program does with `frame`, and the mean time it takes over `repeat` runs.
    /// The packets are counted like any others.
    pub fn probe(&mut self, frame: &[u8], repeat: u32) -> Result<Probe, KernelError> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.repeat = repeat;
        self.test_run(options)
    }

    /// The same once, with only the first `linear` octets in the linear buffer, as some drivers
    /// deliver frames. Kernels before 6.18 refuse.
    pub fn probe_split(&mut self, frame: &[u8], linear: u32) -> Result<Probe, KernelError> {
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index,
        // egress_ifindex.
        let context = [0, linear, 0, 0, 0, 0].map(u32::to_ne_bytes);
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.ctx_in = Some(context.as_flattened());
        self.test_run(options)
    }

    fn test_run(&mut self, options: TestRunOptions<'_>) -> Result<Probe, KernelError> {
        let program = xdp(&mut self.program)?;
        let result = program.test_run(options).map_err(|source| KernelError::Program { source })?;
        Ok(Probe { is_dropped: result.return_value == XDP_DROP, duration: result.duration })
    }

    /// The number of the program in force in this kernel, by which tools and other programs find it.
    pub fn program_id(&mut self) -> Result<u32, KernelError> {
        let info = self.probation.in_force(&mut self.program)?.info();
        Ok(info.map_err(|source| KernelError::Program { source })?.id())
    }

    /// Instructions that the verifier walked; none on a kernel that does not tell.
    pub fn verified_instructions(&mut self) -> Result<Option<u32>, KernelError> {
        let info = xdp(&mut self.program)?.info();
        let info = info.map_err(|source| KernelError::Program { source })?;
        Ok(info.verified_instruction_count())
    }
}

/// The least time between two samples of what is captured.
const CAPTURE_INTERVAL_NS: u64 = 1_000_000;

/// `XDP_DROP` of the kernel's `enum xdp_action`.
const XDP_DROP: u32 = 1;

/// The outcome of [`Kernel::probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub is_dropped: bool,
    pub duration: Duration,
}

/// Takes down everything that is pinned for this network namespace, and gives the names of the
/// interfaces. Nothing else detaches the program from an interface of this namespace.
///
/// # Errors
///
/// [`KernelError::InUse`] while a daemon runs.
pub fn detach(pin_dir: &Path) -> Result<Vec<String>, KernelError> {
    pin::remove(pin_dir)
}

fn load(pins: Option<&Pins>, options: &Options, ring_octets: u32) -> Result<Ebpf, KernelError> {
    let level = options.log.map_or(0, LogLevel::number);
    let cookies = u8::from(options.syn_cookies);
    let mut loader = EbpfLoader::new();
    // The program needs none of the kernel's types, and reading them costs milliseconds.
    loader.btf(None).override_global(aya_log::LEVEL, &level, true);
    loader.override_global(COOKIES, &cookies, true);
    loader.override_global(FAULT, &options.fault, true);
    loader.map_max_entries(EVENTS.name, ring_octets);
    if let Some(pins) = pins {
        for map in PINNED {
            let path = pins.map(map.name);
            maps::check_pinned(&path, map)?;
            loader.map_pin_path(map.name, path);
        }
    }
    let mut program = loader.load(OBJECT).map_err(|source| KernelError::Load { source })?;
    match xdp(&mut program)?.load() {
        Ok(()) => Ok(program),
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default();
            let log =
                if tail.is_empty() { String::new() } else { format!(":\n{}", tail.join("\n")) };
            Err(KernelError::Refused { source: io_error, log })
        }
        Err(source) => Err(KernelError::Program { source }),
    }
}

fn xdp(program: &mut Ebpf) -> Result<&mut Xdp, KernelError> {
    let program = program.program_mut(PROGRAM).ok_or(KernelError::NoMap { map: PROGRAM })?;
    program.try_into().map_err(|source| KernelError::Program { source })
}

#[cfg(test)]
mod tests;
