//! Ethernet and its VLAN tags: where the network layer begins.

use firewall_common::Reason;

use crate::findings::Findings;
use crate::packet::{Packet, field};

/// VLAN tags that are looked behind: one customer's and one provider's (IEEE 802.1ad).
pub(crate) const VLAN_TAGS_MAX: usize = 2;

/// Octets of an Ethernet header without tags.
pub const ETHERNET_LENGTH: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_PROVIDER_VLAN: u16 = 0x88a8;

/// What the link layer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub(crate) network: Network,
    /// Where the network layer begins.
    pub(crate) offset: usize,
    /// The frame is for a group: broadcast or multicast.
    pub(crate) is_group: bool,
}

/// The network layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Ipv4,
    Ipv6,
    /// Neither, or too deep or too short to be found.
    Other,
}

impl Link {
    pub(crate) const OTHER: Self = Self { network: Network::Other, offset: 0, is_group: false };
    const IPV6: u32 = 1 << 8;
    const GROUP: u32 = 1 << 9;

    #[inline(always)]
    pub const fn is_ip(self) -> bool {
        !matches!(self.network, Network::Other)
    }

    /// The same in one number, which is what a function of the kernel's program can be given: the
    /// offset, which is below 256, and flags. Only of IP.
    #[inline(always)]
    pub const fn to_bits(self) -> u32 {
        let family = if matches!(self.network, Network::Ipv6) { Self::IPV6 } else { 0 };
        let group = if self.is_group { Self::GROUP } else { 0 };
        let [offset, ..] = self.offset.to_le_bytes();
        offset as u32 | family | group
    }

    /// What [`Link::to_bits`] gave.
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        Self {
            network: if bits & Self::IPV6 != 0 { Network::Ipv6 } else { Network::Ipv4 },
            offset: (bits & 0xff) as usize,
            is_group: bits & Self::GROUP != 0,
        }
    }
}

/// Finds the network layer.
#[inline(always)]
pub(crate) fn link<P: Packet + ?Sized>(packet: &P, findings: &mut Findings) -> Link {
    let Some(header) = packet.read::<ETHERNET_LENGTH>(0) else {
        findings.note(Reason::E1);
        return Link::OTHER;
    };
    let ([to], [from]) = (field(&header, 0), field(&header, 6));
    if from & 1 != 0 {
        findings.note(Reason::E3);
    }
    let mut ethertype = u16::from_be_bytes(field(&header, 12));
    let mut tags = 0;
    for _ in 0..VLAN_TAGS_MAX {
        if !is_vlan(ethertype) {
            break;
        }
        let Some(tag) = packet.read::<4>(tagged(tags)) else {
            findings.note(Reason::E1);
            return Link::OTHER;
        };
        ethertype = u16::from_be_bytes(field(&tag, 2));
        tags += findings.hide(4);
    }
    // Behind one tag and behind two the verifier sees the same: some multiple of four.
    let offset = if tags == 0 { ETHERNET_LENGTH } else { tagged(tags) };
    let network = match ethertype {
        ETHERTYPE_IPV4 => Network::Ipv4,
        ETHERTYPE_IPV6 => Network::Ipv6,
        _ if is_vlan(ethertype) => {
            findings.note(Reason::E2);
            Network::Other
        }
        _ => Network::Other,
    };
    Link { network, offset, is_group: to & 1 != 0 }
}

/// Where the header behind so many octets of tags begins.
#[inline(always)]
const fn tagged(octets: u64) -> usize {
    ETHERNET_LENGTH + (octets & 0b1100) as usize
}

#[inline(always)]
fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_PROVIDER_VLAN)
}
