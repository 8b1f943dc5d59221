//! Ethernet, VLAN tags, IPv4 and IPv6: who sent the packet, and where its transport header is.

use firewall_common::Reason;

use crate::packet::{Packet, field};

/// VLAN tags that are looked behind: one customer's and one provider's (IEEE 802.1ad).
pub const VLAN_TAGS_MAX: usize = 2;
/// IPv6 extension headers that are looked behind.
pub const EXTENSION_HEADERS_MAX: usize = 6;

/// Octets of an Ethernet header without tags.
pub const ETHERNET_LENGTH: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_PROVIDER_VLAN: u16 = 0x88a8;

pub(crate) const IPV4_LENGTH: usize = 20;
pub(crate) const IPV6_LENGTH: usize = 40;
pub(crate) const PROTOCOL_TCP: u8 = 6;

/// The address that a packet says it comes from.
///
/// Plain words where an enum of arrays would say more: an enum's unused octets are undefined, and the
/// verifier refuses a program that copies them; arrays are taken apart into a register an octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub family: Family,
    /// The octets in network order, as they stand in memory; an IPv4 address is the first four,
    /// before zeros.
    words: [u64; 2],
}

/// Which kind of address a [`Source`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Family {
    /// The frame ends before its source, or carries no IP.
    None = 0,
    V4 = 4,
    V6 = 6,
}

impl Source {
    pub const NONE: Self = Self { family: Family::None, words: [0; 2] };

    #[inline(always)]
    pub const fn v4([a, b, c, d]: [u8; 4]) -> Self {
        Self { family: Family::V4, words: [u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), 0] }
    }

    #[inline(always)]
    pub fn v6(octets: [u8; 16]) -> Self {
        let words = [u64::from_ne_bytes(field(&octets, 0)), u64::from_ne_bytes(field(&octets, 8))];
        Self { family: Family::V6, words }
    }

    #[inline(always)]
    pub const fn words(self) -> [u64; 2] {
        self.words
    }

    pub fn octets(self) -> [u8; 16] {
        let [high, low] = self.words.map(u64::to_ne_bytes);
        let mut octets = [0; 16];
        for (octet, from) in octets.iter_mut().zip(high.into_iter().chain(low)) {
            *octet = from;
        }
        octets
    }
}

/// What the link layer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Ipv4 { offset: usize },
    Ipv6 { offset: usize },
    Other,
}

/// The network layer's place in the frame. The error is the check that the frame fails.
#[inline(always)]
pub(crate) fn payload<P: Packet + ?Sized>(packet: &P) -> Result<Payload, Reason> {
    let Some(header) = packet.read::<ETHERNET_LENGTH>(0) else {
        return Err(Reason::E1);
    };
    let mut ethertype = u16::from_be_bytes(field(&header, 12));
    let mut offset = ETHERNET_LENGTH;
    for _ in 0..VLAN_TAGS_MAX {
        if !is_vlan(ethertype) {
            break;
        }
        let Some(tag) = packet.read::<4>(offset) else {
            return Err(Reason::E1);
        };
        ethertype = u16::from_be_bytes(field(&tag, 2));
        offset += 4;
    }
    match ethertype {
        ETHERTYPE_IPV4 => Ok(Payload::Ipv4 { offset }),
        ETHERTYPE_IPV6 => Ok(Payload::Ipv6 { offset }),
        _ if is_vlan(ethertype) => Err(Reason::E2),
        _ => Ok(Payload::Other),
    }
}

#[inline(always)]
fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_PROVIDER_VLAN)
}

/// A transport header's place: `offset` to `end` of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transport {
    pub(crate) protocol: u8,
    pub(crate) offset: usize,
    /// The end of the datagram: octets beyond it are the link's padding, not the sender's words.
    pub(crate) end: usize,
    /// The first fragment of several: what of the header is missing here may be in the next.
    pub(crate) is_fragment: bool,
    /// Behind extension headers, where the offset is anything.
    pub(crate) is_far: bool,
}

/// Where the transport header of an IPv4 packet is; none in a later fragment, which has none.
#[inline(always)]
pub(crate) fn transport4(
    header: &[u8; IPV4_LENGTH],
    offset: usize,
    frame_length: usize,
) -> Result<Option<Transport>, Reason> {
    let [first] = field(header, 0);
    let [protocol] = field(header, 9);
    let header_length = usize::from(first & 0x0f) * 4;
    let available = frame_length.saturating_sub(offset);
    if first >> 4 != 4 || header_length < IPV4_LENGTH || header_length > available {
        return Err(Reason::I1);
    }
    // Zero is what a coalescing interface writes when the whole exceeds 65,535 octets.
    let total_length = usize::from(u16::from_be_bytes(field(header, 2)));
    if total_length != 0 && (total_length < header_length || total_length > available) {
        return Err(Reason::I2);
    }
    let end = if total_length == 0 { frame_length } else { offset + total_length };
    let fragment = u16::from_be_bytes(field(header, 6));
    if fragment & 0x1fff != 0 {
        return Ok(None);
    }
    Ok(Some(Transport {
        protocol,
        offset: offset + header_length,
        end,
        is_fragment: fragment & 0x2000 != 0,
        is_far: false,
    }))
}

/// Where the transport header of an IPv6 packet is, behind its extension headers; none in a later
/// fragment, which has none.
#[inline(always)]
pub(crate) fn transport6<P: Packet + ?Sized>(
    packet: &P,
    header: &[u8; IPV6_LENGTH],
    offset: usize,
) -> Result<Option<Transport>, Reason> {
    let [first] = field(header, 0);
    let [next_header] = field(header, 6);
    let start = offset + IPV6_LENGTH;
    let available = packet.length().saturating_sub(start);
    let payload_length = usize::from(u16::from_be_bytes(field(header, 4)));
    if first >> 4 != 6 || payload_length > available {
        return Err(Reason::V1);
    }
    // Zero is a jumbogram (RFC 2675), or a coalescing interface's.
    let end = if payload_length == 0 { packet.length() } else { start + payload_length };
    if is_extension(next_header) {
        return behind_extensions(packet, next_header, start, end);
    }
    let transport =
        Transport { protocol: next_header, offset: start, end, is_fragment: false, is_far: false };
    Ok(Some(transport))
}

/// Walks the chain of extension headers (RFC 8200 section 4).
#[inline(always)]
fn behind_extensions<P: Packet + ?Sized>(
    packet: &P,
    mut protocol: u8,
    mut offset: usize,
    end: usize,
) -> Result<Option<Transport>, Reason> {
    let mut is_fragment = false;
    // An opaque bound keeps the compiler from unrolling what the verifier then walks in every way.
    for _ in 0..core::hint::black_box(EXTENSION_HEADERS_MAX) {
        if !is_extension(protocol) {
            return Ok(Some(Transport { protocol, offset, end, is_fragment, is_far: true }));
        }
        let Some([next_header, length, high, low]) = packet.read_far::<4>(offset) else {
            return Err(Reason::V6);
        };
        offset += match protocol {
            FRAGMENT => {
                let fragment = u16::from_be_bytes([high, low]);
                if fragment & 0xfff8 != 0 {
                    return Ok(None);
                }
                is_fragment |= fragment & 1 != 0;
                8
            }
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            _ => (usize::from(length) + 1) * 8,
        };
        if offset > end {
            return Err(Reason::V6);
        }
        protocol = next_header;
    }
    if is_extension(protocol) {
        return Err(Reason::V6);
    }
    Ok(Some(Transport { protocol, offset, end, is_fragment, is_far: true }))
}

const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;

/// Whether the header is an extension header with a length of its own (IANA's registry). ESP is
/// none: what is behind it cannot be read.
#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    const MOBILITY: u8 = 135;
    const HOST_IDENTITY: u8 = 139;
    const SHIM6: u8 = 140;
    matches!(
        protocol,
        HOP_BY_HOP
            | ROUTING
            | FRAGMENT
            | AUTHENTICATION
            | DESTINATION
            | MOBILITY
            | HOST_IDENTITY
            | SHIM6
    )
}
