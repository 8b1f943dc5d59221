//! The half of the daemon without any capability: it writes bans into maps that another process, the
//! loader, has pinned for it, and asks that one for the little that takes a capability.

mod client;
mod wire;

use std::sync::Arc;

use aya::maps::{Array, MapData, PerCpuArray};
use firewall_common::maps::{COUNTERS, POLICIES};
use firewall_common::{Counter, Policy, Role, SLOT_OTHERS, SLOTS, policy_index};

pub(super) use self::client::Client;
pub(super) use self::wire::{
    PROTOCOL, REQUEST_MAX, Reply, Request, State, Welcome, WireCheck, receive, send,
};
use super::attach::{Event, InterfaceReport, Mode, events};
use super::checks::{CheckSetting, merge};
use super::interface::{InterfaceOptions, wanted};
use super::maps::{Counters, Slot, Source, failed};
use super::netlink::{Link, Netlink};
use super::pin::Pins;
use super::probation::Trial;
use super::{KernelError, Options};

/// The loader, as the other half knows it.
pub(super) struct Remote {
    client: Arc<Client>,
    pins: Pins,
    options: Options,
    counters: PerCpuArray<MapData, Counter>,
    policies: Array<MapData, Policy>,
    reports: Vec<InterfaceReport>,
    judged: Vec<(String, Role)>,
    trial: Trial,
    /// Whether the trial has changed since it was last asked for.
    has_new_trial: bool,
    /// Whether the tables hold what is banned.
    is_filled: bool,
    /// The loader that was told so, and of the modes of checks.
    told: Option<u64>,
    /// Why the loader does not answer.
    problem: Option<String>,
}

impl Remote {
    /// Opens what the loader has pinned, whether it runs or not.
    pub(super) fn open(
        options: &Options,
        client: Arc<Client>,
        pins: Pins,
    ) -> Result<Self, KernelError> {
        let mut source = Source::Pinned(&pins);
        let counters = source.open(COUNTERS)?;
        let policies = source.open(POLICIES)?;
        let mut remote = Self {
            client,
            options: options.clone(),
            counters,
            policies,
            reports: Vec::new(),
            judged: Vec::new(),
            trial: Trial::default(),
            has_new_trial: false,
            is_filled: false,
            told: None,
            problem: None,
            pins,
        };
        remote.reports = remote.seen()?;
        Ok(remote)
    }

    /// Lets the loader replace an earlier program when it is asked next: the tables hold what is
    /// banned by now.
    pub(super) fn fill(&mut self) {
        self.is_filled = true;
    }

    /// Asks what the program is attached to by now. That the loader does not answer is no error but the
    /// [`problem`](Self::problem).
    pub(super) fn reconcile(&mut self) -> Result<Vec<(Event, InterfaceReport)>, KernelError> {
        match self.ask() {
            Ok(state) => {
                self.problem = None;
                if !state.is_attached {
                    return Ok(Vec::new());
                }
                let before = std::mem::replace(&mut self.reports, state.reports());
                self.judged = state.judged();
                let trial = state.trial();
                self.has_new_trial |= trial != self.trial;
                self.trial = trial;
                Ok(events(&before, &self.reports, &std::collections::BTreeSet::new()))
            }
            Err(error @ KernelError::NewTables { .. }) => Err(error),
            Err(error) => {
                self.problem = Some(error.told());
                Ok(Vec::new())
            }
        }
    }

    fn ask(&mut self) -> Result<State, KernelError> {
        // A loader that has started anew knows the configuration, but not what was said since.
        let connection = self.client.connect()?;
        if self.told != Some(connection) {
            let checks = self.options.checks.iter().map(WireCheck::from).collect();
            self.client.state(&Request::Checks(checks))?;
        }
        let request = if self.is_filled { Request::Filled } else { Request::Interfaces };
        let state = self.client.state(&request)?;
        self.told = Some(connection);
        Ok(state)
    }

    /// Tells the loader other modes of checks.
    ///
    /// # Errors
    ///
    /// When the loader does not answer or refuses; then nothing has changed.
    pub(super) fn set_checks(&mut self, settings: Vec<CheckSetting>) -> Result<(), KernelError> {
        let wire = settings.iter().map(WireCheck::from).collect();
        let state = self.client.state(&Request::Checks(wire))?;
        if state.is_attached {
            self.judged = state.judged();
        }
        self.options.checks = settings;
        Ok(())
    }

    pub(super) fn set_check(&mut self, setting: CheckSetting) -> Result<(), KernelError> {
        let mut settings = self.options.checks.clone();
        merge(&mut settings, setting);
        self.set_checks(settings)
    }

    pub(super) fn interfaces(&self) -> &[InterfaceReport] {
        &self.reports
    }

    pub(super) fn judged(&self) -> impl Iterator<Item = (&str, Role)> {
        self.judged.iter().map(|(name, role)| (name.as_str(), *role))
    }

    pub(super) fn trial(&self) -> &Trial {
        &self.trial
    }

    /// Where the program stands, if that has changed since it was last asked for.
    pub(super) fn new_trial(&mut self) -> Option<&Trial> {
        std::mem::take(&mut self.has_new_trial).then_some(&self.trial)
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// The number of the connection by which the loader was told all that it must know.
    pub(super) fn told(&self) -> Option<u64> {
        self.told
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub(super) fn loader(&self) -> Option<Welcome> {
        self.client.welcome()
    }

    pub(super) fn counters(&self) -> Result<Counters, KernelError> {
        let mut slots: Vec<Slot> = vec![(SLOT_OTHERS, None)];
        for report in self.reports.iter().filter(|report| report.index != 0) {
            let policy = self.policies.get(&policy_index(report.index), 0);
            let slot = policy.map_err(|source| failed(POLICIES, "read", source))?.slot;
            if slot != SLOT_OTHERS && slot < SLOTS && slots.iter().all(|(known, _)| *known != slot)
            {
                slots.push((slot, Some(report.name.clone())));
            }
        }
        Counters::read(&self.counters, slots.into_iter())
    }

    /// What is attached, as far as pins and kernel show it without the loader.
    fn seen(&self) -> Result<Vec<InterfaceReport>, KernelError> {
        let failed = |source| KernelError::Netlink { source };
        let links = Netlink::route().and_then(|mut netlink| netlink.links()).map_err(failed)?;
        let pinned = self.pins.links()?;
        let report = |(link, option): &(&Link, &InterfaceOptions)| {
            let is_pinned = pinned.iter().any(|pin| pin.index == link.index);
            let mode = if is_pinned { link.attached.mode() } else { Mode::None };
            InterfaceReport {
                name: link.name.clone(),
                index: link.index,
                mode,
                reason: Some("as it was left: the loader has not been heard".to_owned()),
                adopted: is_pinned,
                role: option.role,
                is_required: option.is_required,
                on: Vec::new(),
            }
        };
        Ok(wanted(&links, &self.options.interfaces).iter().map(report).collect())
    }
}
