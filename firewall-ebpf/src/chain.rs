//! The chain of IPv6 extension headers (RFC 8200 section 4).

use crate::packet::Packet;

/// IPv6 extension headers that are looked behind.
pub const EXTENSION_HEADERS_MAX: usize = 6;
/// Octets of extension headers that a sender has use for (RFC 9288 leaves the number to us).
pub const EXTENSION_OCTETS_MAX: usize = 256;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
/// The longest payload of a reassembled datagram.
const PAYLOAD_MAX: usize = 65_535;

/// What was found on the way, as bits of a [`Chain`].
pub mod found {
    /// There is no transport header, or none that was reached.
    pub const NO_TRANSPORT: u64 = 1 << 32;
    /// The first fragment of several.
    pub const FRAGMENT: u64 = 1 << 33;
    /// A header ends beyond the packet.
    pub const CUT: u64 = 1 << 34;
    /// More headers or octets than are looked behind, or hop-by-hop options that are not first.
    pub const ODD: u64 = 1 << 35;
    /// A routing header of type 0.
    pub const ROUTING_0: u64 = 1 << 36;
    /// A routing header of another type.
    pub const ROUTING: u64 = 1 << 37;
    /// A fragment that ends beyond the longest datagram.
    pub const LONG: u64 = 1 << 38;
    /// A fragment before the last whose length is no multiple of eight.
    pub const UNEVEN: u64 = 1 << 39;
}

/// Where the chain ends and what was found on the way, in one number, which is what a function of
/// the kernel's program can give back: the offset in the low 24 bits, then the protocol, then bits of
/// [`found`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain(u64);

impl Chain {
    #[inline(always)]
    pub(crate) fn of<P: Packet + ?Sized>(
        packet: &P,
        protocol: u8,
        start: usize,
        end: usize,
    ) -> Self {
        Self(packet.chain(protocol, start, end))
    }

    #[inline(always)]
    pub(crate) const fn holds(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    #[inline(always)]
    pub(crate) const fn offset(self) -> usize {
        (self.0 & 0x00ff_ffff) as usize
    }

    /// The protocol of the transport header; none where it was not reached.
    #[inline(always)]
    pub(crate) const fn protocol(self) -> Option<u8> {
        let [_, _, _, protocol, ..] = self.0.to_le_bytes();
        if self.holds(found::NO_TRANSPORT) { None } else { Some(protocol) }
    }
}

/// Walks the chain from `start` on, whose first header is of `protocol`; gives a [`Chain`]'s number.
#[inline(always)]
pub fn walk<P: Packet + ?Sized>(packet: &P, mut protocol: u8, start: usize, end: usize) -> u64 {
    let mut offset = start;
    let mut bits = 0;
    // An opaque bound keeps the compiler from unrolling what the verifier then walks in every way.
    for _ in 0..core::hint::black_box(EXTENSION_HEADERS_MAX) {
        if !is_extension(protocol) {
            break;
        }
        let header = if offset + 4 > end { None } else { packet.read_far::<4>(offset) };
        let Some([next_header, length, high, low]) = header else {
            return bits | found::NO_TRANSPORT | found::CUT;
        };
        if protocol == HOP_BY_HOP && offset != start {
            bits |= found::ODD;
        }
        if protocol == ROUTING {
            // The third octet is the type.
            bits |= if high == 0 { found::ROUTING_0 } else { found::ROUTING };
        }
        offset += match protocol {
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            _ => (usize::from(length) + 1) * 8,
        };
        if offset > end {
            return bits | found::NO_TRANSPORT | found::CUT;
        }
        if protocol == FRAGMENT {
            let fragment = u16::from_be_bytes([high, low]);
            bits |= judge(fragment, end - offset);
            if fragment & 0xfff8 != 0 {
                return bits | found::NO_TRANSPORT;
            }
        }
        protocol = next_header;
    }
    if offset - start > EXTENSION_OCTETS_MAX {
        bits |= found::ODD;
    }
    if is_extension(protocol) {
        return bits | found::NO_TRANSPORT | found::ODD;
    }
    // Six headers of 2 KiB at most: the offset is far below 2^24.
    bits | u64::from(protocol) << 24 | (offset as u64 & 0x00ff_ffff)
}

/// What is found of a fragment of `length` octets. An atomic fragment, the only one of its datagram,
/// is like any other datagram (RFC 6946).
#[inline(always)]
fn judge(fragment: u16, length: usize) -> u64 {
    let position = usize::from(fragment & 0xfff8);
    let has_more = fragment & 1 != 0;
    let mut bits = 0;
    if position + length > PAYLOAD_MAX {
        bits |= found::LONG;
    }
    if has_more {
        if position == 0 {
            bits |= found::FRAGMENT;
        }
        if !length.is_multiple_of(8) {
            bits |= found::UNEVEN;
        }
    }
    bits
}

/// Whether the header is an extension header with a length of its own (IANA's registry). ESP is
/// none: what is behind it cannot be read.
#[inline(always)]
pub(crate) fn is_extension(protocol: u8) -> bool {
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
