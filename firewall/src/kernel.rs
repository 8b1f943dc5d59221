//! The daemon's end of the XDP program: loads and attaches it, writes its bans, reads its counters
//! and events. The only user of aya.
//!
//! What it attaches fails static: where link and maps can be pinned, a daemon that dies leaves its
//! bans enforced, and the next one adopts them.

mod attach;
mod attacher;
mod budgets;
mod capability;
mod checks;
mod error;
mod events;
mod heartbeat;
mod interface;
mod loader;
mod local;
mod log;
pub mod machine;
mod maps;
mod netlink;
mod pin;
mod probation;
mod split;
mod syscall;
mod table;
mod turns;
mod watch;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aya::{TestRun as _, TestRunOptions};
use firewall_common::maps::{BANS, EVENTS};
use firewall_common::{Mode as CheckMode, Reasons};
use ipnet::IpNet;

use crate::clock::Monotonic;
pub use attach::{Event, InterfaceReport, Mode};
use attacher::{Attacher, xdp};
use budgets::BudgetMaps;
pub use budgets::Limits;
pub use checks::CheckSetting;
pub use error::KernelError;
pub use events::Events;
#[doc(hidden)]
pub use firewall_common::fault;
pub use firewall_common::{
    Ban, Budget, Budgeted, DropEvent, Evidence, Mode as Check, Reason, Role, SAMPLE_OCTETS, Tally,
};
use heartbeat::Heartbeat;
pub use interface::{InterfaceOptions, Pattern, PatternError};
pub use loader::Loader;
use local::Local;
pub use local::{Reconciled, Reconciliation};
pub use log::{LogLevel, LogStream, PROGRAM_LOG, UnknownLevel};
pub use maps::{Count, Counters, InterfaceCounters, ListId, ListReport};
use maps::{Others, Source, Tables, id_of};
use pin::{Access, NotPinned, Pins};
pub use pin::{PinState, Pinning};
pub use probation::{ProbationRules, Trial};
use split::{Client, Remote};
use table::{Home, Maker};
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
    /// The socket of the process that loads the program for this one; none if this one does. Not for
    /// that process itself.
    pub loader: Option<PathBuf>,
    /// How long packets are dropped without a [heartbeat](Kernel::beat); none: for ever.
    pub stale_after: Option<Duration>,
    pub probation: ProbationRules,
    /// What the program does wrong, for tests alone; by default nothing.
    #[doc(hidden)]
    pub fault: u8,
    /// How much longer it takes to bring attachments up to date.
    #[cfg(test)]
    pub(crate) slowness: Duration,
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
            loader: None,
            stale_after: None,
            probation: ProbationRules::default(),
            fault: fault::NONE,
            #[cfg(test)]
            slowness: Duration::ZERO,
        }
    }
}

/// Who holds the program.
enum Holder {
    /// This process.
    Own(Box<Local>),
    /// Another one, which has the capabilities for it.
    Loader(Box<Remote>),
}

/// A loaded program, its tables, and where it is attached.
///
/// Dropping it detaches nothing that is pinned.
pub struct Kernel {
    holder: Holder,
    tables: Tables,
    budgets: BudgetMaps,
    heartbeat: Heartbeat,
    pinning: Pinning,
    events: Option<Events>,
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
    /// Where there is a loader, opens what that one has pinned, whether it still runs or not.
    ///
    /// # Errors
    ///
    /// When program or maps cannot be loaded at all, as without capability;
    /// [`KernelError::InUse`] while another daemon has the same pins, and
    /// [`KernelError::NewerLayout`] where a newer version's are.
    pub fn load(options: &Options) -> Result<Self, KernelError> {
        match &options.loader {
            Some(socket) => Self::share(options, socket),
            None => Self::with_ring(options, EVENTS.entries)
                .map_err(KernelError::behind_what_is_lacking),
        }
    }

    /// Attaches to the interfaces, in place of an earlier daemon's program without a gap.
    ///
    /// That an interface cannot be attached to is no error but in its report.
    ///
    /// # Errors
    ///
    /// When the interfaces cannot be listed, or a table or pin not be written.
    pub fn attach(&mut self) -> Result<(), KernelError> {
        match &mut self.holder {
            Holder::Own(local) => {
                local.change(Attacher::attach).map_err(KernelError::behind_what_is_lacking)
            }
            Holder::Loader(loader) => {
                loader.fill();
                self.reconcile().map(drop)
            }
        }
    }

    /// The same as [`load`](Self::load), with a ring buffer of `ring_octets` for the events: a power of two, at least a page.
    fn with_ring(options: &Options, ring_octets: u32) -> Result<Self, KernelError> {
        let (pins, pinning) = match Pins::open(&options.pin_dir, Access::User) {
            Ok(pins) => {
                let directory = pins.directory().to_owned();
                (Some(pins), Pinning::Pinned(directory))
            }
            Err(NotPinned::InUse(error) | NotPinned::Newer(error)) => return Err(error),
            Err(reason) => (None, Pinning::Unpinned { reason: reason.to_string() }),
        };
        let maps = pins.as_ref().map(Pins::maps);
        let home = Home { maker: Maker::Here, pins: maps.clone(), maps };
        let mut attacher = Attacher::load(options, pins, Access::User, ring_octets)?;
        let mut source = attacher.maps();
        let mut tables = Tables::open(&mut source, (&options.allow, Others::Removed), home)?;
        let heartbeat = Heartbeat::start(options.stale_after, &mut tables)?;
        let budgets = BudgetMaps::open(&mut source, &options.limits)?;
        let events = Some(Events::open(source.take(EVENTS)?)?);
        let holder = Holder::Own(Box::new(Local::new(attacher)?));
        Ok(Self { holder, tables, budgets, heartbeat, pinning, events })
    }

    fn share(options: &Options, socket: &Path) -> Result<Self, KernelError> {
        let pins = Pins::shared(&options.pin_dir)?;
        let pinning = Pinning::Pinned(pins.directory().to_owned());
        let client = Arc::new(Client::new(socket, pins.maps()));
        let mut source = Source::Pinned(&pins);
        client.bind(id_of(&pins, BANS)?);
        let home = Home {
            maker: Maker::Loader(Arc::clone(&client)),
            pins: Some(pins.tables()),
            maps: Some(pins.maps()),
        };
        // The loader may have allowed more, which is to be respected.
        let mut tables = Tables::open(&mut source, (&options.allow, Others::Kept), home)?;
        let heartbeat = Heartbeat::start(options.stale_after, &mut tables)?;
        let budgets = BudgetMaps::open(&mut source, &options.limits)?;
        let events = Some(Events::open(source.take(EVENTS)?)?);
        let holder = Holder::Loader(Box::new(Remote::open(options, client, pins)?));
        Ok(Self { holder, tables, budgets, heartbeat, pinning, events })
    }

    /// Brings what is attached up to date with the interfaces that there are now in the network
    /// namespace that this was started in; the calling thread must be in it. Gives what happened.
    ///
    /// The kernel waits for readers when it attaches: about 20 ms, some drivers seconds.
    ///
    /// # Errors
    ///
    /// When the interfaces cannot be listed, or a table or pin not be written. What was attached
    /// stays. That a loader does not answer is no error but the
    /// [`loader_problem`](Self::loader_problem), unless it has made new tables:
    /// [`KernelError::NewTables`], after which this is of no use.
    pub fn reconcile(&mut self) -> Result<Vec<(Event, InterfaceReport)>, KernelError> {
        match &mut self.holder {
            Holder::Own(local) => {
                let reconciliation = local.lend().ok_or(KernelError::Attaching)?;
                local.take_back(reconciliation.run())
            }
            Holder::Loader(loader) => {
                let before = loader.told();
                let happened = loader.reconcile()?;
                // Another loader than the last one.
                if loader.told() != before {
                    self.tables.allow_again()?;
                    self.tables.renew()?;
                }
                Ok(happened)
            }
        }
    }

    /// The work of [`reconcile`](Self::reconcile), to be done elsewhere and [brought
    /// back](Self::reconciled): until then nothing else is attached, and modes of checks that are set
    /// hold from then on. None where a loader does it, and while it is under way.
    pub fn reconciliation(&mut self) -> Option<Reconciliation> {
        match &mut self.holder {
            Holder::Own(local) => local.lend(),
            Holder::Loader(_) => None,
        }
    }

    /// Takes note of what was done, and gives what happened.
    ///
    /// # Errors
    ///
    /// As [`reconcile`](Self::reconcile).
    pub fn reconciled(
        &mut self,
        done: Reconciled,
    ) -> Result<Vec<(Event, InterfaceReport)>, KernelError> {
        match &mut self.holder {
            Holder::Own(local) => local.take_back(done),
            Holder::Loader(_) => Ok(Vec::new()),
        }
    }

    /// Why the loader did not answer when it was last asked: interfaces that appear are not attached
    /// to, and tables do not grow.
    pub fn loader_problem(&self) -> Option<&str> {
        match &self.holder {
            Holder::Own(_) => None,
            Holder::Loader(loader) => loader.problem(),
        }
    }

    /// Version and process of the loader, while there is one.
    pub fn loader(&self) -> Option<(String, u32)> {
        match &self.holder {
            Holder::Own(_) => None,
            Holder::Loader(loader) => loader.loader().map(|welcome| (welcome.version, welcome.pid)),
        }
    }

    /// What it was started with, and the modes of checks as they are.
    pub fn options(&self) -> &Options {
        match &self.holder {
            Holder::Own(local) => local.options(),
            Holder::Loader(loader) => loader.options(),
        }
    }

    fn attacher(&mut self) -> Result<&mut Attacher, KernelError> {
        match &mut self.holder {
            Holder::Own(local) => local.attacher(),
            Holder::Loader(_) => Err(KernelError::NoMap { map: PROGRAM }),
        }
    }

    /// What tells when to [`reconcile`](Self::reconcile); none the second time, or where a loader does
    /// that.
    pub fn watch(&mut self) -> Option<Watch> {
        match &mut self.holder {
            Holder::Own(local) => local.attacher().ok()?.watch(),
            Holder::Loader(_) => None,
        }
    }

    /// Every interface that was asked for, and those adopted that were not.
    pub fn interfaces(&self) -> &[InterfaceReport] {
        match &self.holder {
            Holder::Own(local) => local.interfaces(),
            Holder::Loader(loader) => loader.interfaces(),
        }
    }

    /// Whether something is wrong where nothing is attached.
    pub fn requires_interface(&self) -> bool {
        self.options().interfaces.iter().any(|interface| interface.is_required)
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

    /// The same of many targets, a million of them in about a second.
    ///
    /// # Errors
    ///
    /// As [`ban`](Self::ban), and where there is no memory; then some of them may be banned.
    pub fn ban_all(&mut self, bans: &[(IpNet, Monotonic)]) -> Result<(), KernelError> {
        let bans: Vec<_> =
            bans.iter().map(|(target, until)| (target.trunc(), until.ns())).collect();
        self.tables.ban_all(&bans)
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
        match &self.holder {
            Holder::Own(local) => local.counters(),
            Holder::Loader(loader) => loader.counters(),
        }
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

    /// What the program logs; none unless [`Options::log`] was given, or the second time. A loader
    /// writes it itself.
    pub fn log_stream(&mut self) -> Option<LogStream> {
        match &mut self.holder {
            Holder::Own(local) => local.attacher().ok()?.log_stream(),
            Holder::Loader(_) => None,
        }
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
        let program = xdp(&mut self.attacher()?.program)?;
        let result = program.test_run(options).map_err(|source| KernelError::Program { source })?;
        Ok(Probe { is_dropped: result.return_value == XDP_DROP, duration: result.duration })
    }

    /// The number of the program in force in this kernel, by which tools and other programs find it.
    pub fn program_id(&mut self) -> Result<u32, KernelError> {
        let info = self.attacher()?.in_force()?.info();
        Ok(info.map_err(|source| KernelError::Program { source })?.id())
    }

    /// Instructions that the verifier walked; none on a kernel that does not tell.
    pub fn verified_instructions(&mut self) -> Result<Option<u32>, KernelError> {
        let info = xdp(&mut self.attacher()?.program)?.info();
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

/// Version and process of the loader that answers at a socket and keeps these pins.
///
/// # Errors
///
/// When none answers, or one that pins elsewhere.
pub fn loader_at(socket: &Path, pin_dir: &Path) -> Result<(String, u32), KernelError> {
    let client = Client::new(socket, pin::maps_at(pin_dir)?);
    client.connect()?;
    let absent = || KernelError::NoLoader {
        socket: socket.to_owned(),
        source: io::ErrorKind::NotConnected.into(),
    };
    client.welcome().map(|welcome| (welcome.version, welcome.pid)).ok_or_else(absent)
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

#[cfg(test)]
mod tests;
