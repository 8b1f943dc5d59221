//! What can be known of the machine without attaching anything.

use std::fs;
use std::path::Path;

use firewall_common::maps::EVENTS;

use super::attach::describe;
use super::attacher::{load, xdp};
use super::interface::{InterfaceOptions, wanted};
use super::netlink::generic::Generic;
use super::netlink::{Link, Netlink};
use super::pin::{self, Access, PinState, Pins};
use super::{KernelError, Options};

/// Offloads by which packets look otherwise to the program than on the wire, or which a driver gives
/// up or refuses for it, as ethtool names them.
const OFFLOADS: [&str; 3] = ["rx-lro", "rx-gro-hw", "rx-vlan-hw-parse"];

/// The machine as a whole.
#[derive(Debug)]
pub struct Machine {
    /// As `uname -r`.
    pub release: String,
    pub has_btf: bool,
    /// `net.core.bpf_jit_enable`; none where that may not be read.
    pub jit: Option<u32>,
    /// `kernel.unprivileged_bpf_disabled`; none where that may not be read.
    pub unprivileged_bpf_disabled: Option<u32>,
    /// Octets that the control group of this process may use.
    pub memory_max: Option<u64>,
    /// Octets that this process may lock; none if there is no bound.
    pub memlock_max: Option<u64>,
    /// The capabilities of this process, as `CapEff` in proc(5).
    pub capabilities: u64,
    pub pins: PinState,
    /// The program, loaded for a moment: the instructions that the verifier walked, if it tells.
    pub program: Result<Option<u32>, KernelError>,
}

/// An interface that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceFacts {
    pub name: String,
    pub is_required: bool,
    /// Whether attaching to what is beneath is allowed.
    pub may_go_beneath: bool,
    pub kind: Option<String>,
    pub driver: Option<String>,
    pub mtu: u32,
    pub is_up: bool,
    /// Whether its driver runs programs; none where neither driver nor kernel tells.
    pub is_native: Option<bool>,
    /// Whether it does so for frames of more than a page.
    pub takes_fragments: Option<bool>,
    pub offloads: Vec<String>,
    /// The name of the interface that it is stacked on.
    pub beneath: Option<String>,
    /// The bond that it is a member of.
    pub bond: Option<BondFacts>,
    /// A program that is attached and none of ours.
    pub foreign: Option<String>,
}

/// A bond, as one of its members sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BondFacts {
    pub name: String,
    /// Whether the bond is wanted itself.
    pub is_wanted: bool,
    /// Its members that are not.
    pub open: Vec<String>,
}

impl Machine {
    /// Looks at the machine. The program is loaded, but attached nowhere, and nothing is pinned.
    pub fn examine(pin_dir: &Path) -> Self {
        let of_sysctl = |name: &str| read(&format!("/proc/sys/{name}"))?.parse().ok();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            release: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
            has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            jit: of_sysctl("net/core/bpf_jit_enable"),
            unprivileged_bpf_disabled: of_sysctl("kernel/unprivileged_bpf_disabled"),
            memory_max: memory_max(),
            memlock_max: rustix::process::getrlimit(rustix::process::Resource::Memlock).current,
            capabilities: capabilities(&status).unwrap_or(0),
            pins: pin::state(pin_dir),
            program: load(None, Access::User, &Options::default(), EVENTS.entries)
                .and_then(|mut program| Ok(xdp(&mut program)?.info()))
                .map(|info| info.ok().and_then(|info| info.verified_instruction_count())),
        }
    }

    /// Major and minor number of the kernel.
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.release.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// Looks at the interfaces that are wanted, and gives the wishes that nothing is called by.
pub fn interfaces(
    options: &[InterfaceOptions],
    pin_dir: &Path,
) -> Result<(Vec<InterfaceFacts>, Vec<InterfaceOptions>), KernelError> {
    let failed = |source| KernelError::Netlink { source };
    let links = Netlink::route().and_then(|mut netlink| netlink.links()).map_err(failed)?;
    let mut generic = Generic::open().map_err(failed)?;
    let ours = Pins::at(pin_dir).and_then(|pins| pins.links().ok()).unwrap_or_default();
    let mut facts = Vec::new();
    let wanted = wanted(&links, options);
    for &(link, option) in &wanted {
        let is_ours = ours.iter().any(|pinned| pinned.index == link.index);
        facts.push(InterfaceFacts {
            is_required: option.is_required,
            may_go_beneath: option.beneath,
            foreign: link.attached.program.filter(|_| !is_ours).map(describe),
            beneath: link.lower().and_then(|index| name_of(&links, index)),
            bond: bond_of(link, &links, &wanted),
            ..of_link(link, &mut generic)
        });
    }
    let is_absent =
        |option: &&InterfaceOptions| !links.iter().any(|link| option.pattern.matches(&link.name));
    Ok((facts, options.iter().filter(is_absent).cloned().collect()))
}

fn of_link(link: &Link, generic: &mut Generic) -> InterfaceFacts {
    // What cannot be asked for is not known.
    let features = generic.xdp_features(link.index).ok().flatten();
    let offloads = generic.offloads(link.index).ok().flatten().unwrap_or_default();
    let driver = link.hardware.as_ref().and_then(|(bus, device)| {
        let driver = fs::read_link(format!("/sys/bus/{bus}/devices/{device}/driver")).ok()?;
        Some(driver.file_name()?.to_str()?.to_owned())
    });
    InterfaceFacts {
        name: link.name.clone(),
        kind: link.kind.clone(),
        driver,
        mtu: link.mtu,
        is_up: link.is_up,
        is_native: features.map(|features| features.is_native),
        takes_fragments: features.map(|features| features.takes_fragments),
        offloads: OFFLOADS
            .into_iter()
            .filter(|name| offloads.contains(*name))
            .map(str::to_owned)
            .collect(),
        ..InterfaceFacts::default()
    }
}

fn bond_of(
    link: &Link,
    links: &[Link],
    wanted: &[(&Link, &InterfaceOptions)],
) -> Option<BondFacts> {
    let bond = links.iter().find(|bond| bond.is_bond() && link.master == Some(bond.index))?;
    let is_wanted = |link: &&Link| wanted.iter().any(|(wanted, _)| wanted.index == link.index);
    let members = links.iter().filter(|member| member.master == Some(bond.index));
    let open = members.filter(|member| !is_wanted(member)).map(|member| member.name.clone());
    Some(BondFacts { name: bond.name.clone(), is_wanted: is_wanted(&bond), open: open.collect() })
}

fn name_of(links: &[Link], index: u32) -> Option<String> {
    links.iter().find(|link| link.index == index).map(|link| link.name.clone())
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The least bound of this process's control group and those around it (cgroups version 2).
fn memory_max() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = Path::new("/sys/fs/cgroup").join(own);
    let bounds = own.ancestors().take_while(|path| path.starts_with("/sys/fs/cgroup"));
    let bounds = bounds.filter_map(|path| read(path.join("memory.max").to_str()?)?.parse().ok());
    bounds.min()
}

fn capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_versions() {
        for (release, expected) in [
            ("6.18.44-fc-v669", Some((6, 18))),
            ("5.15.0-91-generic", Some((5, 15))),
            ("6.1", Some((6, 1))),
            ("6.12-rc1", Some((6, 12))),
            ("", None),
            ("linux", None),
        ] {
            let mut machine = Machine::examine(Path::new("/proc/nowhere"));
            machine.release = release.into();
            assert_eq!(machine.version(), expected, "{release}");
        }
    }

    #[test]
    fn capabilities_are_read() {
        let status = "Name:\tx\nCapPrm:\t0\nCapEff:\t000001fffeffffff\nCapBnd:\t1\n";
        assert_eq!(capabilities(status), Some(0x1ff_feff_ffff));
        assert_eq!(capabilities("CapEff:\tx\n"), None);
        assert_eq!(capabilities(""), None);
    }
}
