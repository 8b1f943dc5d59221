//! The half of the daemon that takes privileges: loads the program, attaches it, and says how what
//! comes in by each interface is judged. The other half writes bans, and may be another process.

use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader};
use firewall_common::maps::{BANS, EVENTS, PINNED};
use firewall_common::{Mode as CheckMode, Policy, Reason, Role};

use super::attach::{Attachments, Event, Hands, InterfaceReport};
use super::checks::{CheckSetting, policy};
use super::log::{LogLevel, LogStream};
use super::maps::{COUNTED, Judging, SHARED, Source, check_pinned};
use super::pin::{Access, Pins};
use super::probation::{Probation, Trial};
use super::watch::Watch;
use super::{COOKIES, FAULT, KernelError, OBJECT, Options, PROGRAM};
use crate::clock::Monotonic;

/// The loaded program, and where it is attached.
pub(super) struct Attacher {
    pub(super) program: Ebpf,
    judging: Judging,
    attachments: Attachments,
    probation: Probation,
    options: Options,
    watch: Option<Watch>,
    log: Option<LogStream>,
    /// Whether the tables of bans are new, and hold nothing that an earlier process wrote.
    has_new_tables: bool,
}

/// What tests work with one by one.
#[cfg(test)]
pub(super) struct Parts<'a> {
    pub(super) program: &'a mut Ebpf,
    pub(super) judging: &'a mut Judging,
    pub(super) attachments: &'a mut Attachments,
}

impl Attacher {
    /// Loads the program, with the maps that are pinned already; it is attached nowhere yet.
    pub(super) fn load(
        options: &Options,
        pins: Option<Pins>,
        access: Access,
        ring_octets: u32,
    ) -> Result<Self, KernelError> {
        let bans = pins.as_ref().map(|pins| pins.map(BANS.name));
        let has_new_tables = !bans.is_some_and(|path| path.exists());
        let mut program = load(pins.as_ref(), access, options, ring_octets)?;
        let default = policy(options, Role::default(), None);
        let judging = Judging::open(&mut Source::Program(&mut program), default)?;
        let log = match options.log {
            Some(_) => Some(LogStream::open(&mut program)?),
            None => None,
        };
        // Made before the interfaces are listed, so that no change falls between the two.
        let watch = Watch::open().map_err(|source| KernelError::Netlink { source })?;
        let attachments = Attachments::new(&options.interfaces, pins)?;
        let (watch, options) = (Some(watch), options.clone());
        Ok(Self {
            program,
            judging,
            attachments,
            probation: Probation::default(),
            options,
            watch,
            log,
            has_new_tables,
        })
    }

    /// Where the other half finds its maps.
    pub(super) fn maps(&mut self) -> Source<'_> {
        Source::Program(&mut self.program)
    }

    /// Attaches to the interfaces, in place of an earlier program without a gap.
    pub(super) fn attach(&mut self) -> Result<(), KernelError> {
        let options = &self.options;
        let program = xdp(&mut self.program)?;
        let policy = |role, name: &str| policy(options, role, Some(name));
        let mut hands = Hands { program, judging: &mut self.judging, policy: &policy };
        self.attachments.prepare(&mut hands)?;
        let before = hands.judging.counters()?;
        self.attachments.start(&mut hands)?;
        self.probation.begin(&options.probation, program, &self.attachments, &before)
    }

    /// Brings what is attached up to date with the interfaces that there are now.
    pub(super) fn reconcile(&mut self) -> Result<Vec<(Event, InterfaceReport)>, KernelError> {
        let options = &self.options;
        #[cfg(test)]
        std::thread::sleep(options.slowness);
        let mut hands = Hands {
            program: self.probation.in_force(&mut self.program)?,
            judging: &mut self.judging,
            policy: &|role, name| policy(options, role, Some(name)),
        };
        self.attachments.reconcile(&mut hands)
    }

    /// The program that is attached: this one, or the one before it.
    pub(super) fn in_force(&mut self) -> Result<&mut Xdp, KernelError> {
        self.probation.in_force(&mut self.program)
    }

    pub(super) fn trial(&self) -> &Trial {
        self.probation.trial()
    }

    /// Looks after a program on probation; gives where it stands if that has changed.
    pub(super) fn tend(&mut self, now: Monotonic) -> Result<Option<&Trial>, KernelError> {
        let Self { program, judging, attachments, probation, options, .. } = self;
        let counters = || judging.counters();
        probation.tend(&options.probation, program, attachments, counters, now)
    }

    pub(super) fn interfaces(&self) -> &[InterfaceReport] {
        self.attachments.reports()
    }

    /// The interfaces of which the program was told, by index, name and role.
    pub(super) fn admitted(&self) -> impl Iterator<Item = (u32, &str, Role)> {
        self.attachments.admitted()
    }

    pub(super) fn judging(&self) -> &Judging {
        &self.judging
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn watch(&mut self) -> Option<Watch> {
        self.watch.take()
    }

    pub(super) fn log_stream(&mut self) -> Option<LogStream> {
        self.log.take()
    }

    /// Whether an earlier program is attached whose bans are not in the tables of this one.
    pub(super) fn replaces_another_layout(&self) -> Result<bool, KernelError> {
        Ok(self.has_new_tables && self.attachments.has_pinned()?)
    }

    pub(super) fn set_checks(&mut self, settings: Vec<CheckSetting>) -> Result<(), KernelError> {
        self.options.checks = settings;
        self.judge()
    }

    #[cfg(test)]
    pub(super) fn parts(&mut self) -> Parts<'_> {
        let Self { program, judging, attachments, .. } = self;
        Parts { program, judging, attachments }
    }

    fn judge(&mut self) -> Result<(), KernelError> {
        let options = &self.options;
        self.judging.set_default(policy(options, Role::default(), None))?;
        for (index, name, role) in self.attachments.admitted() {
            self.judging.admit(index, name, policy(options, role, Some(name)))?;
        }
        Ok(())
    }
}

/// The mode that a policy gives a reason.
pub(super) fn mode_of(policy: Policy, reason: Reason) -> CheckMode {
    if policy.drop.holds(reason) {
        CheckMode::Drop
    } else if policy.observe.holds(reason) {
        CheckMode::Observe
    } else {
        CheckMode::Off
    }
}

pub(super) fn load(
    pins: Option<&Pins>,
    access: Access,
    options: &Options,
    ring_octets: u32,
) -> Result<Ebpf, KernelError> {
    let level = options.log.map_or(0, LogLevel::number);
    let cookies = u8::from(options.syn_cookies);
    let mut loader = EbpfLoader::new();
    // The program needs none of the kernel's types, and reading them costs milliseconds.
    loader.btf(None).override_global(aya_log::LEVEL, &level, true);
    loader.override_global(COOKIES, &cookies, true);
    loader.override_global(FAULT, &options.fault, true);
    loader.map_max_entries(EVENTS.name, ring_octets);
    let mut open_pins = || {
        let Some(pins) = pins else { return Ok(()) };
        for map in PINNED.iter().chain(&SHARED) {
            let path = pins.map(map.name);
            check_pinned(&path, *map)?;
            loader.map_pin_path(map.name, path);
        }
        Ok::<_, KernelError>(())
    };
    open_pins()?;
    let mut program = loader.load(OBJECT).map_err(|source| KernelError::Load { source })?;
    if let Some(pins) = pins.filter(|_| access == Access::Group) {
        for map in PINNED.iter().chain(&SHARED) {
            pins.share(map.name, COUNTED.contains(map))?;
        }
    }
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

pub(super) fn xdp(program: &mut Ebpf) -> Result<&mut Xdp, KernelError> {
    let program = program.program_mut(PROGRAM).ok_or(KernelError::NoMap { map: PROGRAM })?;
    program.try_into().map_err(|source| KernelError::Program { source })
}
