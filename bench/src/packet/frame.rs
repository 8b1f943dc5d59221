//! The frames that are sent, octet by octet.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Ethernet's and IPv4's headers in front of every payload.
const HEADERS: usize = 14 + 20;

/// A TCP segment of an open connection: ACK without data, the most frequent packet there is.
pub(crate) fn acknowledgement(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    frame(6, [2, 0, 0, 0, 0, 1], source, destination, &segment())
}

/// The same by IPv6, its source left open.
pub(crate) fn acknowledgement6(destination: Ipv6Addr) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
    frame.extend([0x60, 0, 0, 0, 0, 20, 6, 64]);
    frame.extend(Ipv6Addr::UNSPECIFIED.octets());
    frame.extend(destination.octets());
    frame.extend(segment());
    frame
}

fn segment() -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(40_000_u16.to_be_bytes());
    segment.extend(443_u16.to_be_bytes());
    segment.extend(0x1234_5678_u32.to_be_bytes());
    segment.extend(0x8765_4321_u32.to_be_bytes());
    // Five words of header, ACK, a window.
    segment.extend([5 << 4, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

/// A UDP datagram of 18 octets, which makes the shortest Ethernet frame, without checksum as IPv4
/// allows (RFC 768): its source can be replaced without a look at its data.
pub(crate) fn datagram(to: [u8; 6], source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(26);
    datagram.extend(40_000_u16.to_be_bytes());
    datagram.extend(9_u16.to_be_bytes());
    datagram.extend(26_u16.to_be_bytes());
    datagram.extend([0; 2 + 18]);
    frame(17, to, source, destination, &datagram)
}

fn frame(
    protocol: u8,
    to: [u8; 6],
    source: Ipv4Addr,
    destination: Ipv4Addr,
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    header.extend(source.octets());
    header.extend(destination.octets());
    let checksum = checksum(&header);
    let mut frame = Vec::with_capacity(HEADERS + payload.len());
    frame.extend(to);
    frame.extend([2, 0, 0, 0, 0, 2, 0x08, 0x00]);
    frame.extend(header.iter().take(10));
    frame.extend(checksum.to_be_bytes());
    frame.extend(header.iter().skip(12));
    frame.extend(payload);
    // The shortest frame without its check sequence (IEEE 802.3).
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The internet checksum (RFC 1071) of whole words.
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2);
    let sum: u32 = words
        .filter_map(|word| <[u8; 2]>::try_from(word).ok())
        .map(|word| u32::from(u16::from_be_bytes(word)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_the_one_of_the_worked_example() {
        // The header of RFC 1071's usual example, its checksum field zero.
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(checksum(&header), 0xb861);
    }

    #[test]
    fn frames_are_whole() {
        let (from, to) = (Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(8, 8, 8, 8));
        for frame in [acknowledgement(from, to), datagram([2; 6], from, to)] {
            assert_eq!(frame.len(), 60);
            assert_eq!(checksum(&frame[14..34]), 0, "a right checksum sums up to zero");
            assert_eq!(frame[26..34], [9, 9, 9, 9, 8, 8, 8, 8]);
        }
    }
}
