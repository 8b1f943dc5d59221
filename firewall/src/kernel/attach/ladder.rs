//! The ladder of modes for one interface: natively, natively where its packets come from, generically.

use std::collections::BTreeSet;
use std::io;

use aya::programs::XdpMode;
use firewall_common::Role;

use super::link::{self, describe};
use super::{Attachments, Hands, InterfaceReport, Mode};
use crate::kernel::interface::InterfaceOptions;
use crate::kernel::netlink::Link;
use crate::kernel::{KernelError, pin};

/// What one reconciliation works on.
pub(super) struct Site<'a, 'h, 'b> {
    pub(super) hands: &'a mut Hands<'h>,
    /// The number of our program.
    pub(super) own: u32,
    pub(super) links: &'b [Link],
    pub(super) wanted: &'b [(&'b Link, &'b InterfaceOptions)],
    /// Interfaces attached to in this reconciliation.
    pub(super) new: &'a mut BTreeSet<u32>,
}

impl<'b> Site<'_, '_, 'b> {
    fn runs_ours(&self, link: &Link) -> bool {
        link.attached.program == Some(self.own)
    }

    fn lower(&self, link: &Link) -> Option<&'b Link> {
        let lower = link.lower()?;
        self.links.iter().find(|link| link.index == lower)
    }

    fn members(&self, link: &Link) -> Vec<&'b Link> {
        let is_member = |member: &&Link| link.is_bond() && member.master == Some(link.index);
        self.links.iter().filter(is_member).collect()
    }

    /// The bond that `link` is a member of.
    fn bond(&self, link: &Link) -> Option<&'b Link> {
        let master = link.master?;
        self.links.iter().find(|link| link.index == master && link.is_bond())
    }

    /// Everything that decides whether `link` can be attached to.
    fn about(&self, link: &Link) -> Vec<Link> {
        let others = self.lower(link).into_iter().chain(self.bond(link)).chain(self.members(link));
        std::iter::once(link).chain(others).cloned().collect()
    }
}

impl Attachments {
    /// Sees to it that what `link` receives is filtered, and tells how.
    pub(super) fn cover(
        &mut self,
        site: &mut Site<'_, '_, '_>,
        link: &Link,
        option: &InterfaceOptions,
    ) -> Result<InterfaceReport, KernelError> {
        let mut report = match self.covered(site, link, option)? {
            Some(report) => report,
            None => self.attempt(site, link, option)?,
        };
        report.role = option.role;
        report.is_required = option.is_required;
        Ok(report)
    }

    /// How `link` is filtered as things are; none where something is to be done.
    fn covered(
        &mut self,
        site: &mut Site<'_, '_, '_>,
        link: &Link,
        option: &InterfaceOptions,
    ) -> Result<Option<InterfaceReport>, KernelError> {
        if site.runs_ours(link) {
            self.admit(site.hands, link, option.role)?;
            return self.by_itself(site, link, option.role, link.attached.mode()).map(Some);
        }
        if let Some(bond) = site.bond(link)
            && let Some(mode) = self.own_mode(site, bond)?
        {
            self.admit(site.hands, link, option.role)?;
            return Ok(Some(self.by_bond(link, bond, mode)));
        }
        if option.beneath
            && let Some(lower) = site.lower(link)
            && site.runs_ours(lower)
            && lower.attached.is_native
        {
            self.admit_for(site, lower, option.role)?;
            return Ok(Some(self.by_lower(link, lower)));
        }
        let members = site.members(link);
        for member in &members {
            if self.own_mode(site, member)?.is_some() {
                return self.by_members(site, link, &members, option.role).map(Some);
            }
        }
        if let Some((then, reason)) = self.refused.get(&link.index)
            && *then == site.about(link)
        {
            return Ok(Some(self.unattached(link, reason.clone())));
        }
        let foreign = link.attached.program.map(|foreign| {
            self.unattached(link, format!("{} is attached there: not replaced", describe(foreign)))
        });
        Ok(foreign)
    }

    /// Climbs down the ladder.
    fn attempt(
        &mut self,
        site: &mut Site<'_, '_, '_>,
        link: &Link,
        option: &InterfaceOptions,
    ) -> Result<InterfaceReport, KernelError> {
        self.refused.remove(&link.index);
        let mut reasons = Vec::new();
        match self.put(site, link, option.role, XdpMode::Driver) {
            Ok(mode) => return self.by_itself(site, link, option.role, mode),
            Err(error) => reasons.push(format!("native mode: {error}")),
        }
        if option.beneath && link.lower().is_some() {
            match self.put_beneath(site, link, option.role) {
                Ok(report) => return Ok(report),
                Err(reason) => reasons.push(reason),
            }
        }
        let members = site.members(link);
        if !members.is_empty() {
            match self.put_on_members(site, link, &members, option.role) {
                Ok(report) => return Ok(report),
                Err(reason) => reasons.push(reason),
            }
        }
        Ok(match self.put(site, link, option.role, XdpMode::Skb) {
            Ok(mode) => {
                self.remark(link.index, &reasons.join("; "));
                self.report(link, mode)
            }
            Err(error) => {
                reasons.push(format!("generic mode: {error}"));
                let reason = reasons.join("; ");
                self.refused.insert(link.index, (site.about(link), reason.clone()));
                self.unattached(link, reason)
            }
        })
    }

    /// An interface that runs the program. In native mode a bond gives it to its members, by which the
    /// packets come in then: they are judged as the bond's are to be.
    fn by_itself(
        &mut self,
        site: &mut Site<'_, '_, '_>,
        link: &Link,
        role: Role,
        mode: Mode,
    ) -> Result<InterfaceReport, KernelError> {
        let mut on = Vec::new();
        if mode == Mode::Native {
            for member in site.members(link) {
                self.admit_for(site, member, role)?;
                on.push(member.name.clone());
            }
        }
        Ok(InterfaceReport { on, ..self.report(link, mode) })
    }

    /// A member of a bond that runs the program, beside which the kernel takes none of the member's own.
    fn by_bond(&self, link: &Link, bond: &Link, mode: Mode) -> InterfaceReport {
        let name = &bond.name;
        let reason =
            format!("a member of {name}, which is attached to: all its members are filtered");
        let on = vec![name.clone()];
        InterfaceReport { reason: Some(reason), on, ..self.report(link, mode) }
    }

    /// How our program runs on an interface, if it does: as it was listed, or is since.
    fn own_mode(
        &mut self,
        site: &Site<'_, '_, '_>,
        link: &Link,
    ) -> Result<Option<Mode>, KernelError> {
        let mut attached = link.attached;
        if site.new.contains(&link.index) {
            let now = self.netlink.link(link.index);
            let now = now.map_err(|source| KernelError::Netlink { source })?;
            attached = now.unwrap_or_default().attached;
        }
        Ok((attached.program == Some(site.own)).then(|| attached.mode()))
    }

    fn put_beneath(
        &mut self,
        site: &mut Site<'_, '_, '_>,
        link: &Link,
        role: Role,
    ) -> Result<InterfaceReport, String> {
        let elsewhere = || "the interface beneath it is in another network namespace".to_owned();
        let lower = site.lower(link).ok_or_else(elsewhere)?;
        let failed = |error| format!("{} beneath it: {error}", lower.name);
        self.put_native(site, lower, role).map_err(failed)?;
        Ok(self.by_lower(link, lower))
    }

    /// Attaches to all members of a bond, or to none.
    fn put_on_members(
        &mut self,
        site: &mut Site<'_, '_, '_>,
        link: &Link,
        members: &[&Link],
        role: Role,
    ) -> Result<InterfaceReport, String> {
        let mut done = Vec::new();
        for member in members {
            if let Err(error) = self.put_native(site, member, role) {
                for index in done {
                    self.take_off(index).map_err(|error| error.to_string())?;
                    site.new.remove(&index);
                }
                return Err(format!("its member {}: {error}", member.name));
            }
            done.push(member.index);
        }
        Ok(self.on_members(link, members, Mode::Native, &[]))
    }

    /// Attaches natively in place of another interface.
    fn put_native(
        &mut self,
        site: &mut Site<'_, '_, '_>,
        link: &Link,
        role: Role,
    ) -> io::Result<()> {
        let wanted = site.wanted.iter().find(|(wanted, _)| wanted.index == link.index);
        let role = wanted.map_or(role, |(_, option)| option.role);
        match link.attached.program {
            Some(id) => Err(io::Error::other(format!("{} is attached there", describe(id)))),
            None => self.put(site, link, role, XdpMode::Driver).map(drop),
        }
    }

    fn by_lower(&self, link: &Link, lower: &Link) -> InterfaceReport {
        let name = &lower.name;
        let reason = format!("attached to {name} beneath it: all that {name} receives is filtered");
        let on = vec![name.clone()];
        InterfaceReport { reason: Some(reason), on, ..self.report(link, Mode::Native) }
    }

    /// A bond of which some member runs the program: those that joined it later must, too.
    fn by_members(
        &mut self,
        site: &mut Site<'_, '_, '_>,
        link: &Link,
        members: &[&Link],
        role: Role,
    ) -> Result<InterfaceReport, KernelError> {
        let mut mode = Mode::Native;
        let mut reasons = Vec::new();
        for member in members {
            let found = if let Some(mode) = self.own_mode(site, member)? {
                self.admit_for(site, member, role)?;
                Ok(mode)
            } else {
                self.put_native(site, member, role)
                    .map(|()| Mode::Native)
                    .or_else(|_no_native_mode| self.put(site, member, role, XdpMode::Skb))
            };
            match found {
                Ok(Mode::Native) => {}
                Ok(_) => {
                    reasons.push(format!("its member {} has no native mode", member.name));
                    mode = if mode == Mode::Native { Mode::Generic } else { mode };
                }
                Err(error) => {
                    reasons.push(format!("its member {} is not filtered: {error}", member.name));
                    mode = Mode::None;
                }
            }
        }
        Ok(self.on_members(link, members, mode, &reasons))
    }

    fn on_members(
        &self,
        link: &Link,
        members: &[&Link],
        mode: Mode,
        reasons: &[String],
    ) -> InterfaceReport {
        let on = members.iter().map(|member| member.name.clone()).collect();
        let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
        InterfaceReport { reason, on, ..self.report(link, mode) }
    }

    /// Attaches, pins, and gives the mode in which the kernel says that our program runs.
    fn put(
        &mut self,
        site: &mut Site<'_, '_, '_>,
        link: &Link,
        role: Role,
        mode: XdpMode,
    ) -> io::Result<Mode> {
        let index = link.index;
        // What is pinned for this number belongs to an interface that had it before.
        self.take_off(index).map_err(io::Error::other)?;
        self.admit(site.hands, link, role).map_err(io::Error::other)?;
        let attached = link::attach(site.hands.program, index, mode)?;
        if let Some(pins) = &self.pins {
            if let Err(error) = link::pin(attached, &pins.link(index, &link.name)) {
                self.held.insert(index, link::attach(site.hands.program, index, mode)?);
                self.remark(index, &format!("not pinned, ends with the daemon: {error}"));
            }
        } else {
            self.held.insert(index, attached);
        }
        let found = self.netlink.link(index)?.unwrap_or_default().attached;
        match found.program {
            Some(id) if id == site.own => {
                site.new.insert(index);
                Ok(found.mode())
            }
            Some(id) => Err(io::Error::other(format!("{} runs there instead", describe(id)))),
            None => Err(io::Error::other("the kernel names no program there")),
        }
    }

    /// Detaches from an interface, where anything of ours is.
    fn take_off(&mut self, index: u32) -> Result<(), KernelError> {
        self.held.remove(&index);
        self.adopted.remove(&index);
        self.remarks.remove(&index);
        for stale in self.pinned()?.iter().filter(|pinned| pinned.index == index) {
            pin::remove_link(&stale.path)?;
        }
        Ok(())
    }
}
