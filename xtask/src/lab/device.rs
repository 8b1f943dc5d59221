//! Interfaces by themselves: made, and changed in every way in which a machine's change.

use std::os::fd::AsRawFd as _;

use rtnetlink::packet_route::link::{BondMode, LinkMessage};
use rtnetlink::{
    LinkBond, LinkDummy, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVlan,
};

use super::link::{index, netlink};
use super::{LabError, NetNs};

/// A kind of virtual interface.
#[derive(Clone, Copy, Debug)]
pub enum Device<'a> {
    /// Both ends in the same namespace, each of this MTU.
    Veth {
        peer: &'a str,
        mtu: u32,
    },
    /// Stacked on another interface, in bridge mode.
    Macvlan {
        on: &'a str,
    },
    /// The VLAN with this number.
    Vlan {
        on: &'a str,
        id: u16,
    },
    /// Of a mode that takes programs: balance-rr.
    Bond,
    /// Of a mode that takes none: balance-tlb.
    AdaptiveBond,
    Dummy,
}

/// What becomes of an interface.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    Up,
    Down,
    /// Many kernels rename only what is down.
    Name(&'a str),
    Mtu(u32),
    Namespace(&'a NetNs),
    Master(&'a str),
    NoMaster,
}

/// Makes an interface, which is down.
pub fn add(namespace: &NetNs, name: &str, device: Device<'_>) -> Result<(), LabError> {
    // MACVLAN_MODE_BRIDGE of linux/if_link.h.
    const BRIDGE: rtnetlink::packet_route::link::MacVlanMode =
        rtnetlink::packet_route::link::MacVlanMode::Bridge;

    namespace.run(|| {
        let message = match device {
            Device::Veth { peer, mtu } => {
                let other_end = LinkMessageBuilder::<LinkUnspec>::new().name(peer).mtu(mtu).build();
                veth(name, peer, mtu, other_end)
            }
            Device::Macvlan { on } => LinkMacVlan::new(name, index(on)?, BRIDGE).build(),
            Device::Vlan { on, id } => LinkVlan::new(name, index(on)?, id).build(),
            Device::Bond => LinkBond::new(name).build(),
            Device::AdaptiveBond => LinkBond::new(name).mode(BondMode::BalanceTlb).build(),
            Device::Dummy => LinkDummy::new(name).build(),
        };
        netlink("making an interface", async |handle| handle.link().add(message).execute().await)
    })?
}

fn veth(name: &str, peer: &str, mtu: u32, other_end: LinkMessage) -> LinkMessage {
    use rtnetlink::packet_route::link::{InfoData, InfoVeth};
    LinkVeth::new(name, peer)
        .mtu(mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(other_end)))
        .build()
}

/// Changes an interface of the namespace.
pub fn change(namespace: &NetNs, name: &str, change: Change<'_>) -> Result<(), LabError> {
    namespace.run(|| {
        let link = LinkMessageBuilder::<LinkUnspec>::new().index(index(name)?);
        let message = match change {
            Change::Up => link.up(),
            Change::Down => link.down(),
            Change::Name(new) => link.name(new),
            Change::Mtu(octets) => link.mtu(octets),
            Change::Namespace(other) => link.setns_by_fd(other.file.as_raw_fd()),
            Change::Master(master) => link.controller(index(master)?),
            Change::NoMaster => link.nocontroller(),
        };
        let message = message.build();
        netlink("changing an interface", async |handle| handle.link().set(message).execute().await)
    })?
}
