//! The options of an IPv4 or TCP header: no-operations, and kinds with a length (RFC 791 3.1,
//! RFC 9293 3.1).

use core::hint::black_box;

use crate::packet::{Packet, ROOM};

/// Options that an IPv4 or TCP header has room for: ten words.
pub const OPTIONS_MAX: usize = 40;

/// What a list of options holds, as bits: of both kinds of header at once, for the list is walked
/// alike, and a number says nothing to the header that does not know it.
pub mod found {
    /// An option of less than two octets, or that ends beyond the header.
    pub const MALFORMED: u32 = 1;
    /// IPv4: a loose or strict source route.
    pub const SOURCE_ROUTE: u32 = 1 << 1;
    /// IPv4: anything but a source route.
    pub const OTHER: u32 = 1 << 2;
    /// TCP: a maximum segment size below 48 octets.
    pub const TINY_SEGMENT: u32 = 1 << 3;
    /// TCP: a maximum segment size from 48 on, and below the 536 octets that need no option.
    pub const SMALL_SEGMENT: u32 = 1 << 4;
    /// TCP: a maximum segment size that is not of four octets.
    pub const SEGMENT_LENGTH: u32 = 1 << 5;
    /// TCP: Fast Open (RFC 7413), or an experiment, as which it began (RFC 6994).
    pub const FAST_OPEN: u32 = 1 << 6;
}

/// Walks `length` octets of options; bits of [`found`].
#[inline(always)]
pub fn scan<P: Packet + ?Sized>(packet: &P, offset: usize, length: usize) -> u32 {
    packet.with_room(offset, length, |room| scan_room(room, length)).unwrap_or(0)
}

#[inline(always)]
fn scan_room(room: &[u8; ROOM], length: usize) -> u32 {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    let (mut bits, mut at) = (0, 0);
    // An opaque bound keeps the compiler from unrolling what the verifier then walks in every way.
    for _ in 0..black_box(OPTIONS_MAX) {
        if at >= length {
            break;
        }
        let kind = octet(room, at);
        if kind == END {
            break;
        }
        if kind == NO_OPERATION {
            at = within(at + 1);
            continue;
        }
        let size = usize::from(octet(room, at + 1));
        if size < 2 || at + size > length {
            return bits | found::MALFORMED;
        }
        bits |= option(kind, size, room, at);
        at = within(at + size);
    }
    bits
}

/// What one option amounts to.
#[inline(always)]
fn option(kind: u8, size: usize, room: &[u8; ROOM], at: usize) -> u32 {
    const SEGMENT_SIZE: u8 = 2;
    const FAST_OPEN: u8 = 34;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    const EXPERIMENT: u8 = 254;
    match kind {
        LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => found::SOURCE_ROUTE,
        SEGMENT_SIZE if size != 4 => found::OTHER | found::SEGMENT_LENGTH,
        SEGMENT_SIZE => {
            let segment = u16::from_be_bytes([octet(room, at + 2), octet(room, at + 3)]);
            found::OTHER
                | match segment {
                    0..48 => found::TINY_SEGMENT,
                    48..536 => found::SMALL_SEGMENT,
                    _ => 0,
                }
        }
        FAST_OPEN | EXPERIMENT => found::OTHER | found::FAST_OPEN,
        _ => found::OTHER,
    }
}

#[inline(always)]
fn octet(room: &[u8; ROOM], at: usize) -> u8 {
    room.get(within(at)).copied().unwrap_or(0)
}

/// The same index, which the verifier can see to be within the room. The mask is opaque, or the
/// compiler would remove it as implied by the loop, which older verifiers cannot follow.
#[inline(always)]
fn within(at: usize) -> usize {
    at & black_box(ROOM - 1)
}
