//! Keeps the program attached where it is wanted: natively, else generically, else not, and says
//! which and why.

mod ladder;
mod link;

use std::collections::{BTreeMap, BTreeSet};

use aya::programs::Xdp;
use aya::programs::links::FdLink;
use firewall_common::{Policy, Role};

use super::interface::{InterfaceOptions, wanted};
use super::maps::Judging;
use super::netlink::{Attached, Link, Netlink};
use super::pin::{Pinned, Pins};
use super::{KernelError, pin};
use ladder::Site;
pub(super) use link::describe;

/// Where in the path of a packet the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel makes a buffer of the frame.
    Native,
    /// Behind the driver: correct, but not much faster than a packet filter.
    Generic,
    None,
}

/// What became of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceReport {
    /// As it is called now; the pattern where nothing is called so.
    pub name: String,
    /// Zero where there is no such interface.
    pub index: u32,
    /// As the kernel tells it after attaching.
    pub mode: Mode,
    /// Why the mode is not native, or what else an operator must know.
    pub reason: Option<String>,
    /// Whether an earlier daemon had attached here; its program was replaced without a gap.
    pub adopted: bool,
    pub role: Role,
    pub is_required: bool,
    /// The interfaces that run the program in place of this one: the one beneath it, its members, or the
    /// bond that it is a member of.
    pub on: Vec<String>,
}

/// What happened to an interface between two listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Attached,
    /// It is wanted, and nothing is attached.
    Unattached,
    Renamed,
    /// Deleted, or moved to another network namespace.
    Gone,
}

impl Event {
    pub const ALL: [Self; 4] = [Self::Attached, Self::Unattached, Self::Renamed, Self::Gone];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Unattached => "unattached",
            Self::Renamed => "renamed",
            Self::Gone => "gone",
        }
    }
}

/// The interfaces that run the program, and those that should.
pub(super) struct Attachments {
    options: Vec<InterfaceOptions>,
    netlink: Netlink,
    pins: Option<Pins>,
    /// Links that could not be pinned, by interface: they end with this.
    held: BTreeMap<u32, FdLink>,
    adopted: BTreeSet<u32>,
    /// Interfaces that the program was told of, as they are called and judged.
    admitted: BTreeMap<u32, (String, Role)>,
    /// What there is to say of an interface that runs the program.
    remarks: BTreeMap<u32, String>,
    /// Why an interface could not be attached to. It is tried again when it has changed.
    refused: BTreeMap<u32, (Vec<Link>, String)>,
    reports: Vec<InterfaceReport>,
}

/// What attaching works with.
pub(super) struct Hands<'a> {
    pub(super) program: &'a mut Xdp,
    pub(super) judging: &'a mut Judging,
    /// How packets are judged that come in by an interface of a role and a name.
    pub(super) policy: &'a dyn Fn(Role, &str) -> Policy,
}

impl Attachments {
    /// Nothing is attached yet.
    pub(super) fn new(
        options: &[InterfaceOptions],
        pins: Option<Pins>,
    ) -> Result<Self, KernelError> {
        let netlink = Netlink::route().map_err(|source| KernelError::Netlink { source })?;
        Ok(Self {
            options: options.to_vec(),
            netlink,
            pins,
            held: BTreeMap::new(),
            adopted: BTreeSet::new(),
            admitted: BTreeMap::new(),
            remarks: BTreeMap::new(),
            refused: BTreeMap::new(),
            reports: Vec::new(),
        })
    }

    /// Sees to it that an interface is judged as it is to be before its program is replaced.
    pub(super) fn prepare(&mut self, hands: &mut Hands<'_>) -> Result<(), KernelError> {
        let links = self.links()?;
        self.forget_gone(&links, hands.judging)?;
        let options = self.options.clone();
        let wanted = wanted(&links, &options);
        for (link, option) in &wanted {
            self.admit(hands, link, option.role)?;
        }
        // By these a bond's packets come in where it runs the program natively.
        for member in &links {
            let is_of = |bond: &Link| {
                member.master == Some(bond.index) && bond.is_bond() && bond.attached.is_native
            };
            let is_wanted = wanted.iter().any(|(link, _)| link.index == member.index);
            if let Some((_, option)) = wanted.iter().find(|(bond, _)| is_of(bond))
                && !is_wanted
            {
                self.admit(hands, member, option.role)?;
            }
        }
        Ok(())
    }

    /// Replaces the program of every link that is pinned, and attaches to what is wanted.
    pub(super) fn start(&mut self, hands: &mut Hands<'_>) -> Result<(), KernelError> {
        let links = self.links()?;
        self.adopt(hands.program, &links)?;
        self.reconcile(hands)?;
        if let Some(pins) = &self.pins
            && let Err(error) = pins.remove_other_layouts()
        {
            tracing::warn!(%error, "maps of another version stay pinned");
        }
        Ok(())
    }

    pub(super) fn pins(&self) -> Option<&Pins> {
        self.pins.as_ref()
    }

    /// Whether the program has taken the place of an earlier one.
    pub(super) fn has_adopted(&self) -> bool {
        !self.adopted.is_empty()
    }

    /// Puts this program into every link that is pinned, as far as that can be done.
    pub(super) fn replace_all(&mut self, program: &mut Xdp) -> Result<(), KernelError> {
        let mut failed = Ok(());
        for Pinned { path, .. } in self.pinned()? {
            if let Err(source) = link::replace(program, &path) {
                failed = Err(KernelError::Pin { path, action: "given another program", source });
            }
        }
        failed
    }

    pub(super) fn reports(&self) -> &[InterfaceReport] {
        &self.reports
    }

    /// Brings what is attached up to date with the interfaces that there are now.
    pub(super) fn reconcile(
        &mut self,
        hands: &mut Hands<'_>,
    ) -> Result<Vec<(Event, InterfaceReport)>, KernelError> {
        let own = hands.program.info().map_err(|source| KernelError::Program { source })?.id();
        let links = self.links()?;
        self.forget_gone(&links, hands.judging)?;
        let options = self.options.clone();
        let wanted = wanted(&links, &options);
        let mut new = BTreeSet::new();
        let mut reports = Vec::new();
        for (link, option) in &wanted {
            let mut site = Site { hands, own, links: &links, wanted: &wanted, new: &mut new };
            reports.push(self.cover(&mut site, link, option)?);
        }
        let on: BTreeSet<String> = reports.iter().flat_map(|report| report.on.clone()).collect();
        for link in &links {
            let is_wanted = wanted.iter().any(|(wanted, _)| wanted.index == link.index);
            if link.attached.program == Some(own) && !is_wanted && !on.contains(&link.name) {
                self.admit(hands, link, Role::default())?;
                let mut report = self.report(link, link.attached.mode());
                report.reason =
                    Some("no longer configured: enforced until `firewall detach`".into());
                reports.push(report);
            }
        }
        for option in &options {
            if !links.iter().any(|link| option.pattern.matches(&link.name)) {
                reports.push(absent(option));
            }
        }
        let events = events(&self.reports, &reports, &new);
        self.reports = reports;
        Ok(events)
    }

    fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        self.netlink.links().map_err(|source| KernelError::Netlink { source })
    }

    /// Whether an earlier process has left links.
    pub(super) fn has_pinned(&self) -> Result<bool, KernelError> {
        Ok(!self.pinned()?.is_empty())
    }

    fn pinned(&self) -> Result<Vec<Pinned>, KernelError> {
        self.pins.as_ref().map_or_else(|| Ok(Vec::new()), Pins::links)
    }

    /// Replaces the program of the pinned links, and removes those whose interface is gone.
    fn adopt(&mut self, program: &mut Xdp, links: &[Link]) -> Result<(), KernelError> {
        for Pinned { index, name, path } in self.pinned()? {
            match link::replace(program, &path) {
                Ok(()) => {
                    self.adopted.insert(index);
                }
                Err(error) if error.raw_os_error() == Some(link::NO_LINK) => {
                    tracing::info!(interface = name, "the interface of a pinned link is gone");
                    pin::remove_link(&path)?;
                }
                Err(error) => {
                    let link: Vec<Link> =
                        links.iter().filter(|link| link.index == index).cloned().collect();
                    let reason = format!("an earlier program runs there and stays: {error}");
                    self.refused.insert(index, (link, reason));
                }
            }
        }
        Ok(())
    }

    /// Lets go of interfaces that this network namespace has no more. From one that was moved to
    /// another, this detaches: whom it serves there is not ours to filter.
    fn forget_gone(&mut self, links: &[Link], judging: &mut Judging) -> Result<(), KernelError> {
        let is_there = |index: u32| links.iter().any(|link| link.index == index);
        for index in self.admitted.keys().filter(|index| !is_there(**index)) {
            judging.dismiss(*index)?;
        }
        self.admitted.retain(|index, _| is_there(*index));
        self.held.retain(|index, _| is_there(*index));
        self.adopted.retain(|index| is_there(*index));
        self.remarks.retain(|index, _| is_there(*index));
        self.refused.retain(|index, _| is_there(*index));
        for gone in self.pinned()?.iter().filter(|pinned| !is_there(pinned.index)) {
            pin::remove_link(&gone.path)?;
        }
        Ok(())
    }

    /// The interfaces of which the program was told, by index, name and role.
    pub(super) fn admitted(&self) -> impl Iterator<Item = (u32, &str, Role)> {
        self.admitted.iter().map(|(index, (name, role))| (*index, name.as_str(), *role))
    }

    /// Tells the program how to judge what comes in by `link`.
    fn admit(&mut self, hands: &mut Hands<'_>, link: &Link, role: Role) -> Result<(), KernelError> {
        let told = (link.name.clone(), role);
        if self.admitted.get(&link.index) != Some(&told) {
            hands.judging.admit(link.index, &link.name, (hands.policy)(role, &link.name))?;
            self.admitted.insert(link.index, told);
        }
        Ok(())
    }

    /// The same for an interface that runs the program in place of another, unless it is wanted in
    /// its own right.
    fn admit_for(
        &mut self,
        site: &mut Site<'_, '_, '_>,
        link: &Link,
        role: Role,
    ) -> Result<(), KernelError> {
        if site.wanted.iter().any(|(wanted, _)| wanted.index == link.index) {
            return Ok(());
        }
        self.admit(site.hands, link, role)
    }

    fn remark(&mut self, index: u32, remark: &str) {
        let remarks = self.remarks.entry(index).or_default();
        if !remarks.is_empty() {
            remarks.push_str("; ");
        }
        remarks.push_str(remark);
    }

    fn report(&self, link: &Link, mode: Mode) -> InterfaceReport {
        let adopted = self.adopted.contains(&link.index);
        let of_old =
            "attached so by an earlier start; `firewall detach` and a start try native mode again";
        let reason = self.remarks.get(&link.index).cloned();
        InterfaceReport {
            name: link.name.clone(),
            index: link.index,
            mode,
            reason: reason.or_else(|| (mode == Mode::Generic).then(|| of_old.to_owned())),
            adopted,
            role: Role::default(),
            is_required: false,
            on: Vec::new(),
        }
    }

    fn unattached(&self, link: &Link, reason: String) -> InterfaceReport {
        InterfaceReport { reason: Some(reason), ..self.report(link, Mode::None) }
    }
}

impl Attached {
    pub(super) fn mode(self) -> Mode {
        match self {
            Self { is_native: true, .. } => Mode::Native,
            Self { is_generic: true, .. } => Mode::Generic,
            _ => Mode::None,
        }
    }
}

fn absent(option: &InterfaceOptions) -> InterfaceReport {
    let pattern = &option.pattern;
    let reason =
        if pattern.is_wild() { "no interface is called so" } else { "there is no such interface" };
    InterfaceReport {
        name: pattern.to_string(),
        index: 0,
        mode: Mode::None,
        reason: Some(reason.to_owned()),
        adopted: false,
        role: option.role,
        is_required: option.is_required,
        on: Vec::new(),
    }
}

/// What happened between two reports; `new` are the interfaces attached to meanwhile.
pub(super) fn events(
    before: &[InterfaceReport],
    after: &[InterfaceReport],
    new: &BTreeSet<u32>,
) -> Vec<(Event, InterfaceReport)> {
    let mut events = Vec::new();
    let find = |reports: &[InterfaceReport], index| {
        reports.iter().find(|report: &&InterfaceReport| report.index == index).cloned()
    };
    for report in before.iter().filter(|report| report.index != 0) {
        if find(after, report.index).is_none() {
            events.push((Event::Gone, report.clone()));
        }
    }
    for report in after.iter().filter(|report| report.index != 0) {
        let old = find(before, report.index);
        let was = old.as_ref().map_or(Mode::None, |old| old.mode);
        if old.as_ref().is_some_and(|old| old.name != report.name) {
            events.push((Event::Renamed, report.clone()));
        }
        let is_new = was == Mode::None || new.contains(&report.index);
        if report.mode != Mode::None && is_new {
            events.push((Event::Attached, report.clone()));
        } else if report.mode == Mode::None && (was != Mode::None || old.is_none()) {
            events.push((Event::Unattached, report.clone()));
        }
    }
    events
}

#[cfg(test)]
mod tests;
