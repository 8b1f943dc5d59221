//! Ethernet and its VLAN tags: where the network layer begins.

use firewall_common::Reason;

use crate::findings::Findings;
use crate::packet::{Packet, field};

/// VLAN tags that are looked behind: one customer's and one provider's (IEEE 802.1ad).
pub(crate) const VLAN_TAGS_MAX: usize = 2;

const ETHERNET_LENGTH: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_PROVIDER_VLAN: u16 = 0x88a8;

/// What the link layer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) payload: Payload,
    /// The frame is for a group: broadcast or multicast.
    pub(crate) is_group: bool,
}

/// The network layer, by its place in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Ipv4 {
        offset: usize,
    },
    Ipv6 {
        offset: usize,
    },
    /// Neither, or too deep or too short to be found.
    Other,
}

/// Finds the network layer.
#[inline(always)]
pub(crate) fn link<P: Packet + ?Sized>(packet: &P, findings: &mut Findings) -> Link {
    let other = Link { payload: Payload::Other, is_group: false };
    let Some(header) = packet.read::<ETHERNET_LENGTH>(0) else {
        findings.note(Reason::E1);
        return other;
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
            return other;
        };
        ethertype = u16::from_be_bytes(field(&tag, 2));
        tags += findings.hide(4);
    }
    // Behind one tag and behind two the verifier sees the same: some multiple of four.
    let offset = if tags == 0 { ETHERNET_LENGTH } else { tagged(tags) };
    let payload = match ethertype {
        ETHERTYPE_IPV4 => Payload::Ipv4 { offset },
        ETHERTYPE_IPV6 => Payload::Ipv6 { offset },
        _ if is_vlan(ethertype) => {
            findings.note(Reason::E2);
            Payload::Other
        }
        _ => Payload::Other,
    };
    Link { payload, is_group: to & 1 != 0 }
}

/// Where the header behind so many octets of tags begins.
#[inline(always)]
const fn tagged(octets: u64) -> usize {
    ETHERNET_LENGTH + (octets & 12) as usize
}

#[inline(always)]
fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_PROVIDER_VLAN)
}
