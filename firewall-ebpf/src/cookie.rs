//! The answer to a SYN that carries a cookie in place of any memory of it (RFC 4987 3.6).

/// An Ethernet, an IP and a TCP header with one option.
const ETHERNET: usize = 14;
const TCP: usize = 24;
const TCP_OCTETS: u16 = 24;
const _: () = assert!(TCP_OCTETS as usize == TCP);
/// Octets of an answer over IPv4.
pub const ANSWER4: usize = ETHERNET + 20 + TCP;
/// Octets of an answer over IPv6.
pub const ANSWER6: usize = ETHERNET + 40 + TCP;

const SYN_ACK: u16 = 0x12;
/// Without an option for its scale, which a cookie has no room for.
const WINDOW: u16 = u16::MAX;
const PROTOCOL_TCP: u8 = 6;
/// As they stand in IPv4; in IPv6 it is the other way round.
const HOPS_AND_TCP: u16 = 64 << 8 | PROTOCOL_TCP as u16;

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

/// Octets of headers in network order, as they stand in memory, in words: the kernel's stack is read
/// and written at the boundaries of what is moved, and of bytes the compiler would move several.
type Octets<const N: usize> = [u64; N];

/// Words of an Ethernet header.
pub const ETHERNET_WORDS: usize = ETHERNET.div_ceil(8);
/// Words of an IPv4 header.
pub const IPV4_WORDS: usize = 3;
/// Words of an IPv6 header.
pub const IPV6_WORDS: usize = 5;
/// Words of the longest TCP header.
pub const TCP_HEADER_WORDS: usize = 8;
/// Words of an answer over IPv4.
pub const ANSWER4_WORDS: usize = ANSWER4.div_ceil(8);
/// Words of an answer over IPv6.
pub const ANSWER6_WORDS: usize = ANSWER6.div_ceil(8);

/// The frame that answers a SYN over IPv4, from the SYN's headers: [`ANSWER4`] octets.
#[inline(always)]
pub fn answer4(
    ethernet: &Octets<ETHERNET_WORDS>,
    ip: &Octets<IPV4_WORDS>,
    tcp: &Octets<TCP_HEADER_WORDS>,
    cookie: Cookie,
    frame: &mut Octets<ANSWER4_WORDS>,
) {
    *frame = [0; ANSWER4_WORDS];
    link(frame, ethernet);
    put(frame, ETHERNET, 0x4500);
    put(frame, ETHERNET + 2, 20 + TCP_OCTETS);
    // Nobody is to fragment it, and so it needs no number (RFC 6864).
    put(frame, ETHERNET + 6, 0x4000);
    put(frame, ETHERNET + 8, HOPS_AND_TCP);
    copy(frame, ETHERNET + 12, ip, 16, 4);
    copy(frame, ETHERNET + 16, ip, 12, 4);
    let sum = sum(frame, ETHERNET, ETHERNET + 20, 0);
    put(frame, ETHERNET + 10, !sum);
    segment(frame, ETHERNET + 20, ETHERNET + 12, tcp, cookie);
}

/// The same over IPv6: [`ANSWER6`] octets.
#[inline(always)]
pub fn answer6(
    ethernet: &Octets<ETHERNET_WORDS>,
    ip: &Octets<IPV6_WORDS>,
    tcp: &Octets<TCP_HEADER_WORDS>,
    cookie: Cookie,
    frame: &mut Octets<ANSWER6_WORDS>,
) {
    *frame = [0; ANSWER6_WORDS];
    link(frame, ethernet);
    put(frame, ETHERNET, 0x6000);
    put(frame, ETHERNET + 4, TCP_OCTETS);
    put(frame, ETHERNET + 6, HOPS_AND_TCP.swap_bytes());
    copy(frame, ETHERNET + 8, ip, 24, 16);
    copy(frame, ETHERNET + 24, ip, 8, 16);
    segment(frame, ETHERNET + 40, ETHERNET + 8, tcp, cookie);
}

#[inline(always)]
fn link(frame: &mut [u64], ethernet: &[u64]) {
    copy(frame, 0, ethernet, 6, 6);
    copy(frame, 6, ethernet, 0, 6);
    copy(frame, 12, ethernet, 12, 2);
}

/// The TCP header at `at`, and its checksum over it and the addresses from `addresses` on.
#[inline(always)]
fn segment(frame: &mut [u64], at: usize, addresses: usize, tcp: &[u64], cookie: Cookie) {
    let [high, low] = [pair(tcp, 4), pair(tcp, 6)].map(u32::from);
    let acknowledged = (high << 16 | low).wrapping_add(1);
    copy(frame, at, tcp, 2, 2);
    copy(frame, at + 2, tcp, 0, 2);
    put_long(frame, at + 4, cookie.sequence);
    put_long(frame, at + 8, acknowledged);
    put(frame, at + 12, (TCP_OCTETS / 4) << 12 | SYN_ACK);
    put(frame, at + 14, WINDOW);
    // The maximum segment size: kind 2, of four octets.
    put(frame, at + 20, 0x0204);
    put(frame, at + 22, cookie.segment);
    // The addresses end where the segment begins (RFC 9293 3.1, RFC 8200 8.1).
    let pseudo = u32::from(PROTOCOL_TCP) + u32::from(TCP_OCTETS);
    let sum = sum(frame, addresses, at + TCP, pseudo);
    put(frame, at + 16, !sum);
}

/// The sum of the pairs from `from` to `to` (RFC 1071).
#[inline(always)]
fn sum(frame: &[u64], from: usize, to: usize, mut sum: u32) -> u16 {
    let mut at = from;
    while at < to {
        sum += u32::from(pair(frame, at));
        at += 2;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = sum.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// The number in the two octets at an even offset, which is known when this is compiled and lies
/// within: the zero is never seen.
#[inline(always)]
pub fn pair(words: &[u64], at: usize) -> u16 {
    let word = words.get(at / 8).copied().unwrap_or(0);
    let [low, high, ..] = (u64::from_le(word) >> (at % 8 * 8)).to_le_bytes();
    u16::from_be_bytes([low, high])
}

/// Writes a number where zeros stand or another number did.
#[inline(always)]
fn put(words: &mut [u64], at: usize, number: u16) {
    if let Some(word) = words.get_mut(at / 8) {
        let shift = at % 8 * 8;
        let cleared = u64::from_le(*word) & !(0xffff << shift);
        *word = (cleared | u64::from(number.swap_bytes()) << shift).to_le();
    }
}

#[inline(always)]
fn put_long(words: &mut [u64], at: usize, number: u32) {
    let [a, b, c, d] = number.to_be_bytes();
    put(words, at, u16::from_be_bytes([a, b]));
    put(words, at + 2, u16::from_be_bytes([c, d]));
}

/// Copies an even number of octets.
#[inline(always)]
fn copy(words: &mut [u64], at: usize, from: &[u64], start: usize, length: usize) {
    let mut moved = 0;
    while moved < length {
        put(words, at + moved, pair(from, start + moved));
        moved += 2;
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn words<const N: usize>(octets: &[u8]) -> [u64; N] {
        let mut padded = octets.to_vec();
        padded.resize(N * 8, 0);
        let (chunks, _) = padded.as_chunks::<8>();
        std::array::from_fn(|index| u64::from_ne_bytes(chunks[index]))
    }

    fn octets(words: &[u64], length: usize) -> Vec<u8> {
        let octets: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert!(octets[length..].iter().all(|octet| *octet == 0));
        octets[..length].to_vec()
    }

    const COOKIE: Cookie = Cookie { sequence: 0xdead_beef, segment: 1460 };

    fn syn() -> [u64; TCP_HEADER_WORDS] {
        let mut syn = [0; 20];
        syn[..4].copy_from_slice(&[0x9c, 0x40, 0x1f, 0x90]);
        syn[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        syn[12..14].copy_from_slice(&[0x50, 2]);
        words(&syn)
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

    fn ethernet(ethertype: [u8; 2]) -> [u64; ETHERNET_WORDS] {
        let mut header = [0; ETHERNET];
        header[..6].copy_from_slice(&[1; 6]);
        header[6..12].copy_from_slice(&[2; 6]);
        header[12..].copy_from_slice(&ethertype);
        words(&header)
    }

    #[test]
    fn an_answer_over_ipv4_is_whole() {
        let mut ip = [0; 20];
        ip[12..16].copy_from_slice(&[192, 0, 2, 7]);
        ip[16..].copy_from_slice(&[203, 0, 113, 80]);
        let mut frame = [u64::MAX; ANSWER4_WORDS];
        answer4(&ethernet([8, 0]), &words(&ip), &syn(), COOKIE, &mut frame);
        let frame = octets(&frame, ANSWER4);
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
        let mut frame = [u64::MAX; ANSWER6_WORDS];
        answer6(&ethernet([0x86, 0xdd]), &words(&ip), &syn(), COOKIE, &mut frame);
        let frame = octets(&frame, ANSWER6);
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
