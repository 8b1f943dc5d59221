//! The checksum of an IPv4 header (RFC 1071).

use crate::packet::Packet;

/// Whether the words of the header sum up to all ones; also if it cannot be read.
#[inline(always)]
pub fn is_sound<P: Packet + ?Sized>(packet: &P, offset: usize, length: usize) -> bool {
    let Some(room) = packet.read_room(offset, length) else {
        return true;
    };
    let words = room.as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    // Thirty words at most: their carries fit in one fold, and its own in another.
    let folded = (sum & 0xffff) + (sum >> 16);
    (folded & 0xffff) + (folded >> 16) == 0xffff
}
