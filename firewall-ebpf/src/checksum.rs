//! The checksum of an IPv4 header (RFC 1071).

use core::hint::black_box;

use crate::packet::{HEADER_MAX, Packet, ROOM};

/// Whether the words of the header sum up to all ones; also if it cannot be read.
#[inline(always)]
pub fn is_sound<P: Packet + ?Sized>(packet: &P, offset: usize, length: usize) -> bool {
    packet.with_room(offset, length, |room| sum(room, length) == 0xffff).unwrap_or(true)
}

#[inline(always)]
fn sum(room: &[u8; ROOM], length: usize) -> u32 {
    let (mut sum, mut at) = (0_u32, 0);
    // The bound and the mask are opaque for the verifier's sake, as in `options`.
    for _ in 0..black_box(HEADER_MAX / 2) {
        if at >= length {
            break;
        }
        let octet = |at: usize| room.get(at & black_box(ROOM - 1)).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([octet(at), octet(at + 1)]));
        at += 2;
    }
    // Thirty words at most: their carries fit in one fold, and its own in another.
    let folded = (sum & 0xffff) + (sum >> 16);
    (folded & 0xffff) + (folded >> 16)
}
