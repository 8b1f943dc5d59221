//! The answer to a SYN that carries a cookie in place of any memory of it (RFC 4987 3.6).

/// An Ethernet, an IP and a TCP header with one option.
const ETHERNET: usize = 14;
const TCP: usize = 24;
/// The same in the words of a TCP header's length.
const TCP_WORDS: u8 = 6;
const TCP_OCTETS: u16 = TCP_WORDS as u16 * 4;
const _: () = assert!(TCP_OCTETS as usize == TCP);
/// Octets of an answer over IPv4.
pub const ANSWER4: usize = ETHERNET + 20 + TCP;
/// Octets of an answer over IPv6.
pub const ANSWER6: usize = ETHERNET + 40 + TCP;

/// The fixed TCP header's octets.
pub const TCP_FIXED: usize = 20;

const SYN_ACK: u8 = 0x12;
/// Without an option for its scale, which a cookie has no room for.
const WINDOW: u16 = u16::MAX;
const HOPS: u8 = 64;
const PROTOCOL_TCP: u8 = 6;

/// What the kernel made of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    pub sequence: u32,
    /// The maximum segment size to offer.
    pub segment: u16,
}

impl Cookie {
    /// What `bpf_tcp_gen_syncookie` gave; none if it is an error.
    #[inline(always)]
    pub const fn from_helper(given: i64) -> Option<Self> {
        if given < 0 {
            return None;
        }
        let [a, b, c, d, high, low, ..] = given.to_le_bytes();
        let segment = u16::from_le_bytes([high, low]);
        Some(Self { sequence: u32::from_le_bytes([a, b, c, d]), segment })
    }
}

/// The frame that answers a SYN over IPv4, from the SYN's headers.
#[inline(always)]
pub fn answer4(
    ethernet: &[u8; ETHERNET],
    ip: &[u8; 20],
    tcp: &[u8; TCP_FIXED],
    cookie: Cookie,
) -> [u8; ANSWER4] {
    let mut frame = [0; ANSWER4];
    link(&mut frame, ethernet);
    put(&mut frame, ETHERNET, [0x45, 0]);
    put(&mut frame, ETHERNET + 2, (20 + TCP_OCTETS).to_be_bytes());
    // Nobody is to fragment it, and so it needs no number (RFC 6864).
    put(&mut frame, ETHERNET + 6, [0x40, 0, HOPS, PROTOCOL_TCP]);
    copy(&mut frame, ETHERNET + 12, ip, 16, 4);
    copy(&mut frame, ETHERNET + 16, ip, 12, 4);
    let sum = sum(&frame, ETHERNET, ETHERNET + 20, 0);
    put(&mut frame, ETHERNET + 10, (!sum).to_be_bytes());
    segment(&mut frame, ETHERNET + 20, ETHERNET + 12, tcp, cookie);
    frame
}

/// The same over IPv6.
#[inline(always)]
pub fn answer6(
    ethernet: &[u8; ETHERNET],
    ip: &[u8; 40],
    tcp: &[u8; TCP_FIXED],
    cookie: Cookie,
) -> [u8; ANSWER6] {
    let mut frame = [0; ANSWER6];
    link(&mut frame, ethernet);
    put(&mut frame, ETHERNET, [0x60, 0, 0, 0]);
    put(&mut frame, ETHERNET + 4, TCP_OCTETS.to_be_bytes());
    put(&mut frame, ETHERNET + 6, [PROTOCOL_TCP, HOPS]);
    copy(&mut frame, ETHERNET + 8, ip, 24, 16);
    copy(&mut frame, ETHERNET + 24, ip, 8, 16);
    segment(&mut frame, ETHERNET + 40, ETHERNET + 8, tcp, cookie);
    frame
}

#[inline(always)]
fn link<const N: usize>(frame: &mut [u8; N], ethernet: &[u8; ETHERNET]) {
    copy(frame, 0, ethernet, 6, 6);
    copy(frame, 6, ethernet, 0, 6);
    copy(frame, 12, ethernet, 12, 2);
}

/// The TCP header at `at`, and its checksum over it and the addresses from `addresses` on.
#[inline(always)]
fn segment<const N: usize>(
    frame: &mut [u8; N],
    at: usize,
    addresses: usize,
    tcp: &[u8; TCP_FIXED],
    cookie: Cookie,
) {
    let acknowledged = u32::from_be_bytes(take(tcp, 4)).wrapping_add(1);
    put(frame, at, take::<2>(tcp, 2));
    put(frame, at + 2, take::<2>(tcp, 0));
    put(frame, at + 4, cookie.sequence.to_be_bytes());
    put(frame, at + 8, acknowledged.to_be_bytes());
    put(frame, at + 12, [TCP_WORDS << 4, SYN_ACK]);
    put(frame, at + 14, WINDOW.to_be_bytes());
    put(frame, at + 20, [2, 4]);
    put(frame, at + 22, cookie.segment.to_be_bytes());
    // The addresses end where the segment begins (RFC 9293 3.1, RFC 8200 8.1).
    let pseudo = u32::from(PROTOCOL_TCP) + u32::from(TCP_OCTETS);
    let sum = sum(frame, addresses, at + TCP, pseudo);
    put(frame, at + 16, (!sum).to_be_bytes());
}

/// The sum of the words from `from` to `to` (RFC 1071).
#[inline(always)]
fn sum<const N: usize>(frame: &[u8; N], from: usize, to: usize, mut sum: u32) -> u16 {
    let mut at = from;
    while at < to {
        sum += u32::from(u16::from_be_bytes(take(frame, at)));
        at += 2;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = sum.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Offsets are known when it is compiled, and lie within: the zeros are never seen.
#[inline(always)]
fn take<const N: usize>(octets: &[u8], at: usize) -> [u8; N] {
    crate::packet::field(octets, at)
}

/// Copies `length` octets by pairs: the kernel's stack is read and written at the boundaries of what
/// is moved, and nothing here is sure to lie at one of more than two.
#[inline(always)]
fn copy(frame: &mut [u8], at: usize, from: &[u8], start: usize, length: usize) {
    let mut moved = 0;
    while moved < length {
        put(frame, at + moved, core::hint::black_box(take::<2>(from, start + moved)));
        moved += 2;
    }
}

#[inline(always)]
fn put<const N: usize>(frame: &mut [u8], at: usize, octets: [u8; N]) {
    if let Some(place) = frame.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = octets;
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const COOKIE: Cookie = Cookie { sequence: 0xdead_beef, segment: 1460 };

    fn syn() -> [u8; TCP_FIXED] {
        let mut syn = [0; TCP_FIXED];
        syn[..4].copy_from_slice(&[0x9c, 0x40, 0x1f, 0x90]);
        syn[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        syn[12..14].copy_from_slice(&[0x50, 2]);
        syn
    }

    /// A sum over what carries its own checksum is all ones.
    fn is_sound(octets: &[u8], pseudo: u32) -> bool {
        let words = octets.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let mut sum = words.sum::<u32>() + pseudo;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum == 0xffff
    }

    fn ethernet(ethertype: [u8; 2]) -> [u8; ETHERNET] {
        let mut header = [0; ETHERNET];
        header[..6].copy_from_slice(&[1; 6]);
        header[6..12].copy_from_slice(&[2; 6]);
        header[12..].copy_from_slice(&ethertype);
        header
    }

    #[test]
    fn an_answer_over_ipv4_is_whole() {
        let mut ip = [0; 20];
        ip[12..16].copy_from_slice(&[192, 0, 2, 7]);
        ip[16..].copy_from_slice(&[203, 0, 113, 80]);
        let frame = answer4(&ethernet([8, 0]), &ip, &syn(), COOKIE);
        assert_eq!(frame[..14], [[2; 6].as_slice(), &[1; 6], &[8, 0]].concat());
        assert_eq!(frame[26..34], [203, 0, 113, 80, 192, 0, 2, 7]);
        assert!(is_sound(&frame[14..34], 0));
        assert!(is_sound(&frame[26..], 6 + 24));
        assert_eq!(frame[16..18], 44_u16.to_be_bytes());
        check_segment(&frame[34..]);
    }

    #[test]
    fn an_answer_over_ipv6_is_whole() {
        let mut ip = [0; 40];
        ip[8..24].copy_from_slice(&[3; 16]);
        ip[24..].copy_from_slice(&[4; 16]);
        let frame = answer6(&ethernet([0x86, 0xdd]), &ip, &syn(), COOKIE);
        assert_eq!(frame[22..54], [[4; 16], [3; 16]].concat());
        assert!(is_sound(&frame[22..], 6 + 24));
        assert_eq!((frame[14] >> 4, frame[20], &frame[18..20]), (6, 6, [0, 24].as_slice()));
        check_segment(&frame[54..]);
    }

    #[track_caller]
    fn check_segment(segment: &[u8]) {
        let expected: Vec<u8> = [
            [0x1f, 0x90, 0x9c, 0x40].as_slice(),
            &COOKIE.sequence.to_be_bytes(),
            // One more than the highest number is zero.
            &[0; 4],
            &[0x60, 0x12, 0xff, 0xff],
        ]
        .concat();
        assert_eq!(segment[..16], expected);
        assert_eq!(segment[18..], [0, 0, 2, 4, 0x05, 0xb4]);
    }

    #[test]
    fn what_the_helper_gives_is_taken_apart() {
        assert_eq!(Cookie::from_helper(1460 << 32 | 0xdead_beef), Some(COOKIE));
        for error in [-2, -22, i64::MIN] {
            assert_eq!(Cookie::from_helper(error), None);
        }
    }
}
