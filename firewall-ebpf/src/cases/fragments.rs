//! Fragments of both families.

use std::vec::Vec;

use firewall_common::{Mode, Reason};

use super::frame::{ACK, SYN, TCP, fragment6, ipv4, ipv6, tcp, tcp_options, udp_data};
use super::{CLEAN4, CLEAN6, Case, frame4, frame6};

const UDP: u8 = 17;
const ICMP: u8 = 1;
const MORE: u16 = 0x2000;
const DONT: u16 = 0x4000;
const RESERVED: u16 = 0x8000;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = flags();
    cases.extend(sizes());
    cases.extend(served());
    cases
}

fn flags() -> Vec<Case> {
    let case = |name, fragment, reason| {
        let packet = ipv4(CLEAN4).fragment(fragment).protocol(ICMP).build(&[3; 16]);
        Case::new(name, frame4(&packet), reason)
    };
    vec![
        case("must not be fragmented", DONT, Reason::Passed),
        case("must not be fragmented, and has more", DONT | MORE, Reason::Passed)
            .observes(Reason::I7),
        case("must not be fragmented, and is the last", DONT | 2, Reason::Passed)
            .observes(Reason::I7),
        case("must not be fragmented, and is, dropped", DONT | MORE | 2, Reason::Passed)
            .drops(Reason::I7),
        case("the reserved flag", RESERVED, Reason::Passed),
        case("the reserved flag, dropped", RESERVED, Reason::Passed).drops(Reason::I6),
        case("the reserved flag with the next, dropped", RESERVED | DONT, Reason::Passed)
            .drops(Reason::I6),
        case("no reserved flag, dropped", DONT, Reason::Passed).mode(Reason::I6, Mode::Drop),
    ]
}

fn sizes() -> Vec<Case> {
    let of4 = |name, fragment, protocol, length, reason| {
        let mut payload = tcp(ACK);
        payload.resize(length, 0);
        let packet = ipv4(CLEAN4).fragment(fragment).protocol(protocol).build(&payload);
        Case::new(name, frame4(&packet), reason)
    };
    let of6 = |name, field, length, reason| {
        let mut payload = tcp(ACK);
        payload.resize(length, 0);
        Case::new(name, frame6(&ipv6(CLEAN6, 44, &fragment6(TCP, field, &payload))), reason)
    };
    vec![
        of4("a first fragment of 16 octets", MORE, TCP, 16, Reason::Passed),
        of4("a first fragment of 8 octets", MORE, TCP, 8, Reason::F1),
        of4("a first fragment of nothing, UDP", MORE, UDP, 0, Reason::F1),
        of4("a first fragment of 8 octets, UDP", MORE, UDP, 8, Reason::U1),
        of4("a first fragment of nothing, ICMP", MORE, ICMP, 0, Reason::F1),
        of4("a first fragment of 8 octets, ICMP", MORE, ICMP, 8, Reason::Passed),
        of4("a first fragment of nothing, GRE", MORE, 47, 0, Reason::Passed),
        of4("a TCP fragment at 8", MORE | 1, TCP, 16, Reason::F2),
        of4("the last TCP fragment at 8", 1, TCP, 4, Reason::F2),
        of4("a TCP fragment at 16", MORE | 2, TCP, 16, Reason::Passed),
        of4("a UDP fragment at 8", MORE | 1, UDP, 16, Reason::Passed),
        // 8,187 units of eight are 65,496 octets, 19 less than there is room for behind a header.
        of4("the longest datagram", 8_187, UDP, 19, Reason::Passed),
        of4("one octet more than the longest datagram", 8_187, UDP, 20, Reason::F3),
        of4("a fragment at the highest offset", 0x1fff, UDP, 8, Reason::F3),
        of4("a fragment of 24 octets with more", MORE | 8, UDP, 24, Reason::Passed),
        of4("a fragment of 23 octets with more", MORE | 8, UDP, 23, Reason::F4),
        of4("a fragment of 23 octets, the last", 8, UDP, 23, Reason::Passed),
        of6("an IPv6 fragment of 24 octets with more", 1, 24, Reason::Passed),
        of6("an IPv6 fragment of 23 octets with more", 1, 23, Reason::F4),
        of6("an IPv6 fragment of 23 octets, atomic", 0, 23, Reason::Passed),
        of6("an IPv6 fragment of 23 octets, the last", 0x80, 23, Reason::Passed),
        of6("the longest IPv6 datagram", 0xfff8, 7, Reason::Passed),
        of6("one octet more than the longest IPv6 datagram", 0xfff8, 8, Reason::F3),
    ]
}

/// Fragments to a port that is served.
fn served() -> Vec<Case> {
    let first4 = |name, protocol, payload: &[u8], reason| {
        let packet = ipv4(CLEAN4).fragment(MORE).protocol(protocol).build(payload);
        Case::new(name, frame4(&packet), reason)
    };
    let first6 = |name, protocol, payload: &[u8], reason| {
        Case::new(name, frame6(&ipv6(CLEAN6, 44, &fragment6(protocol, 1, payload))), reason)
    };
    let other = |mut payload: Vec<u8>| {
        payload[2..4].copy_from_slice(&8_443_u16.to_be_bytes());
        payload
    };
    let syn = tcp_options(SYN, &[2, 4, 5, 0xb4], &[]);
    let ack = tcp_options(ACK, &[1, 1, 1, 1], &[]);
    let datagram = udp_data(40_000, 443, &[0x40; 16]);
    vec![
        first4("a fragmented SYN", TCP, &syn, Reason::F6),
        first6("a fragmented SYN over IPv6", TCP, &syn, Reason::F6),
        first4("a fragmented SYN to another port", TCP, &other(syn), Reason::Passed),
        first4("a fragmented ACK", TCP, &ack, Reason::Passed),
        first6("a fragmented ACK over IPv6", TCP, &ack, Reason::Passed),
        first4("a fragmented QUIC", UDP, &datagram, Reason::F5).with_quic(),
        first6("a fragmented QUIC over IPv6", UDP, &datagram, Reason::F5).with_quic(),
        first4("a fragmented UDP to another port", UDP, &other(datagram.clone()), Reason::Passed)
            .with_quic(),
        Case::new(
            "a later fragment of UDP",
            frame4(&ipv4(CLEAN4).fragment(4).protocol(UDP).build(&datagram)),
            Reason::Passed,
        )
        .with_quic(),
        first6("a first IPv6 fragment, UDP header cut", UDP, &datagram[..0], Reason::V7),
    ]
}
