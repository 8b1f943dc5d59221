//! How packets are judged, by interface: the modes of checks, which change while the program runs.

use std::net::IpAddr;

use firewall_common::{Mode as CheckMode, Policy, Reason, Role};

use super::attacher::mode_of;
use super::{Holder, Kernel, KernelError, Options, Pattern};

/// The interface that a host speaks to itself by. What is forged elsewhere is true there.
const LOOPBACK: &str = "lo";
const FORGED: [Reason; 4] = [Reason::I9, Reason::I11, Reason::I15, Reason::V2];

/// A check that is not in its default mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSetting {
    pub reason: Reason,
    pub mode: CheckMode,
    /// The interfaces that this is said of; none: all. What is said of some wins over what is said of
    /// all, and the later over the earlier.
    pub interface: Option<Pattern>,
}

/// How packets are judged that come in by an interface of this role and name.
pub(super) fn policy(options: &Options, role: Role, name: Option<&str>) -> Policy {
    let mut policy = Policy::new(role);
    if name == Some(LOOPBACK) {
        for reason in FORGED {
            policy = policy.with(reason, CheckMode::Off);
        }
    }
    let common = options.checks.iter().filter(|setting| setting.interface.is_none());
    let own = options.checks.iter().filter(|setting| setting.interface.is_some());
    let is_told = |setting: &&CheckSetting| {
        setting.interface.as_ref().zip(name).is_some_and(|(pattern, name)| pattern.matches(name))
    };
    for setting in common.chain(own.filter(is_told)) {
        policy = policy.with(setting.reason, setting.mode);
    }
    let bans = options.bans.check();
    policy.with(Reason::Ban, bans).with(Reason::BanRange, bans)
}

/// Sets one mode among others, in place of what was said of the same check.
pub(super) fn merge(settings: &mut Vec<CheckSetting>, setting: CheckSetting) {
    settings.retain(|earlier| {
        earlier.reason != setting.reason
            || (setting.interface.is_some() && earlier.interface != setting.interface)
    });
    settings.push(setting);
}

impl Kernel {
    /// What a check does with packets that come in by an interface of this role and name; by those of
    /// which nothing was told, if it has none.
    pub fn check(&self, reason: Reason, role: Role, name: Option<&str>) -> CheckMode {
        mode_of(policy(self.options(), role, name), reason)
    }

    /// The interfaces whose packets are judged, with their roles.
    pub fn judged(&self) -> Vec<(&str, Role)> {
        match &self.holder {
            Holder::Own(local) => local.judged().collect(),
            Holder::Loader(loader) => loader.judged().collect(),
        }
    }

    /// Sets the mode of one check from the next packet on; of every interface if none is named, also
    /// of those that were.
    ///
    /// # Errors
    ///
    /// When the map of policies does not take a value; then some interfaces may have the new mode.
    /// When the loader does not answer; then none has.
    pub fn set_check(&mut self, setting: CheckSetting) -> Result<(), KernelError> {
        match &mut self.holder {
            Holder::Own(local) => local.set_check(setting),
            Holder::Loader(loader) => loader.set_check(setting),
        }
    }

    /// Forgets every mode that was set, and sets these.
    ///
    /// # Errors
    ///
    /// As [`set_check`](Self::set_check).
    pub fn set_checks(&mut self, settings: Vec<CheckSetting>) -> Result<(), KernelError> {
        match &mut self.holder {
            Holder::Own(local) => local.set_checks(settings),
            Holder::Loader(loader) => loader.set_checks(settings),
        }
    }

    /// Tells the program at which ports the proxy listens, of which it is told eight, and whether QUIC
    /// is answered there.
    pub fn serve(&mut self, ports: &[u16], quic: bool) -> Result<(), KernelError> {
        self.tables.serve(ports, quic)
    }

    /// Tells the program the host's own addresses, of which there is room for 256.
    pub fn set_own(&mut self, addresses: &[IpAddr]) -> Result<(), KernelError> {
        self.tables.set_own(addresses)
    }
}
