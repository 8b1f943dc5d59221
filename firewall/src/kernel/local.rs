//! The attacher of this process, which may be lent to a thread that waits for drivers, and what there
//! is to tell of it meanwhile.

use aya::maps::{MapData, PerCpuArray};
use firewall_common::{Counter, Role};

use super::attach::{Event, InterfaceReport};
use super::attacher::Attacher;
use super::checks::{CheckSetting, merge};
use super::maps::{Counters, Slot};
use super::probation::Trial;
use super::{KernelError, Options};
use crate::clock::Monotonic;

/// The attacher, or that it is lent.
pub(super) struct Local {
    attacher: Option<Box<Attacher>>,
    /// As they were when it was here last, with what was said since.
    options: Options,
    interfaces: Vec<InterfaceReport>,
    judged: Vec<(String, Role)>,
    trial: Trial,
    slots: Vec<Slot>,
    counters: PerCpuArray<MapData, Counter>,
    /// Whether modes of checks were set while it was lent.
    is_behind: bool,
}

/// The work of bringing attachments up to date, for a thread of the same network namespace that may
/// wait: some drivers take seconds.
pub struct Reconciliation {
    attacher: Box<Attacher>,
}

/// The same when it is done.
pub struct Reconciled {
    attacher: Box<Attacher>,
    happened: Result<Vec<(Event, InterfaceReport)>, KernelError>,
}

impl Reconciliation {
    pub fn run(mut self) -> Reconciled {
        let happened = self.attacher.reconcile();
        Reconciled { attacher: self.attacher, happened }
    }
}

impl Local {
    pub(super) fn new(attacher: Attacher) -> Result<Self, KernelError> {
        let counters = attacher.judging().reader()?;
        let mut local = Self {
            options: attacher.options().clone(),
            attacher: None,
            interfaces: Vec::new(),
            judged: Vec::new(),
            trial: Trial::default(),
            slots: Vec::new(),
            counters,
            is_behind: false,
        };
        local.hold(Box::new(attacher));
        Ok(local)
    }

    /// The attacher.
    ///
    /// # Errors
    ///
    /// [`KernelError::Attaching`] while it is lent.
    pub(super) fn attacher(&mut self) -> Result<&mut Attacher, KernelError> {
        self.attacher.as_deref_mut().ok_or(KernelError::Attaching)
    }

    /// Does something with the attacher that changes what there is to tell of it.
    pub(super) fn change<T>(
        &mut self,
        work: impl FnOnce(&mut Attacher) -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        let mut attacher = self.attacher.take().ok_or(KernelError::Attaching)?;
        let result = work(&mut attacher);
        self.hold(attacher);
        result
    }

    /// None while it is lent already.
    pub(super) fn lend(&mut self) -> Option<Reconciliation> {
        self.attacher.take().map(|attacher| Reconciliation { attacher })
    }

    /// Takes the attacher back, and gives what happened meanwhile.
    pub(super) fn take_back(
        &mut self,
        reconciled: Reconciled,
    ) -> Result<Vec<(Event, InterfaceReport)>, KernelError> {
        let Reconciled { mut attacher, happened } = reconciled;
        let caught_up = if std::mem::take(&mut self.is_behind) {
            attacher.set_checks(self.options.checks.clone())
        } else {
            Ok(())
        };
        self.hold(attacher);
        caught_up.and(happened)
    }

    fn hold(&mut self, attacher: Box<Attacher>) {
        self.interfaces = attacher.interfaces().to_vec();
        let judged = attacher.admitted().map(|(_, name, role)| (name.to_owned(), role));
        self.judged = judged.collect();
        self.trial = attacher.trial().clone();
        self.slots = attacher.judging().slots().collect();
        self.attacher = Some(attacher);
    }

    pub(super) fn tend(&mut self, now: Monotonic) -> Result<Option<&Trial>, KernelError> {
        // It is looked after when it is back, which is when its links can be changed again.
        let Some(attacher) = &mut self.attacher else { return Ok(None) };
        let Some(trial) = attacher.tend(now)? else { return Ok(None) };
        self.trial = trial.clone();
        Ok(Some(&self.trial))
    }

    pub(super) fn set_check(&mut self, setting: CheckSetting) -> Result<(), KernelError> {
        let mut settings = self.options.checks.clone();
        merge(&mut settings, setting);
        self.set_checks(settings)
    }

    /// Sets the modes of checks, or has them set as soon as the attacher is back.
    pub(super) fn set_checks(&mut self, settings: Vec<CheckSetting>) -> Result<(), KernelError> {
        self.options.checks.clone_from(&settings);
        self.is_behind = self.attacher.is_none();
        self.attacher.as_mut().map_or(Ok(()), |attacher| attacher.set_checks(settings))
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn interfaces(&self) -> &[InterfaceReport] {
        &self.interfaces
    }

    pub(super) fn judged(&self) -> impl Iterator<Item = (&str, Role)> {
        self.judged.iter().map(|(name, role)| (name.as_str(), *role))
    }

    pub(super) fn trial(&self) -> &Trial {
        &self.trial
    }

    pub(super) fn counters(&self) -> Result<Counters, KernelError> {
        Counters::read(&self.counters, self.slots.iter().cloned())
    }
}
