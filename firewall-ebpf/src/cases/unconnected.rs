//! UDP, QUIC and ICMP.

use std::vec::Vec;

use firewall_common::{Mode, Reason};

use super::frame::{ipv4, ipv6, udp, udp_data};
use super::{CLEAN4, CLEAN6, Case, frame4, frame6};

const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = lengths();
    cases.extend(ports());
    cases.extend(quic());
    cases.extend(icmp());
    cases
}

fn case(name: &'static str, datagram: &[u8], reason: Reason) -> Case {
    Case::new(name, frame4(&ipv4(CLEAN4).protocol(UDP).build(datagram)), reason)
}

fn case6(name: &'static str, datagram: &[u8], reason: Reason) -> Case {
    Case::new(name, frame6(&ipv6(CLEAN6, UDP, datagram)), reason)
}

fn lengths() -> Vec<Case> {
    let length = |length: u16| {
        let mut datagram = udp_data(9, 9, &[0; 8]);
        datagram[4..6].copy_from_slice(&length.to_be_bytes());
        datagram
    };
    let mut padded = frame4(&ipv4(CLEAN4).protocol(UDP).build(&udp(9, 9)));
    padded.resize(60, 0);
    let mut jumbogram = ipv6(CLEAN6, UDP, &length(0));
    jumbogram[4..6].fill(0);
    vec![
        case("UDP, header cut", &udp(9, 9)[..7], Reason::U1),
        case("UDP, nothing but the header", &udp(9, 9), Reason::Passed),
        case("UDP, length of seven", &length(7), Reason::U1),
        case("UDP, length of eight", &length(8), Reason::Passed),
        case("UDP, length of the datagram", &length(16), Reason::Passed),
        case("UDP, length beyond the datagram", &length(17), Reason::U1),
        case("UDP, length of zero", &length(0), Reason::U1),
        case6("UDP over IPv6, length of zero", &length(0), Reason::U1),
        case6("UDP over IPv6, header cut", &udp(9, 9)[..7], Reason::U1),
        Case::new("UDP in a jumbogram, length of zero", frame6(&jumbogram), Reason::Passed),
        Case::new("UDP in a padded frame", padded, Reason::Passed),
    ]
}

fn ports() -> Vec<Case> {
    vec![
        case("UDP to port 0", &udp(9, 0), Reason::U2),
        case6("UDP over IPv6 to port 0", &udp(9, 0), Reason::U2),
        case("UDP from port 0", &udp(0, 9), Reason::Passed),
        case("QUIC from port 0", &udp(0, 443), Reason::U2).with_quic(),
        case("QUIC from port 1", &udp(1, 443), Reason::Passed).with_quic(),
        case("UDP to a served port", &udp(9, 443), Reason::U6),
        case6("UDP over IPv6 to a served port", &udp(9, 443), Reason::U6),
        case("UDP to the next port", &udp(9, 444), Reason::Passed),
        case("an answer of another's QUIC", &udp(443, 40_000), Reason::Passed),
        case("no socket waits for a datagram", &udp(9, 9), Reason::Passed),
        case("no socket waits for a datagram, dropped", &udp(9, 9), Reason::Passed)
            .drops(Reason::U4),
        case6("no socket waits for a datagram over IPv6", &udp(9, 9), Reason::Passed)
            .drops(Reason::U4),
        case("amplified by DNS, dropped", &udp(53, 40_000), Reason::Passed).drops(Reason::U3),
        case("amplified by memcached, dropped", &udp(11_211, 40_000), Reason::Passed)
            .drops(Reason::U3),
        case("amplified by DNS", &udp(53, 40_000), Reason::Passed),
        case("from a port that amplifies nothing", &udp(54, 40_000), Reason::Passed)
            .mode(Reason::U3, Mode::Drop),
    ]
}

fn quic() -> Vec<Case> {
    let datagram = |first: u8, version: u32, length: usize| {
        let mut data = vec![first];
        data.extend(version.to_be_bytes());
        data.resize(length, 0);
        udp_data(40_000, 443, &data)
    };
    let with = |name, datagram: &[u8], reason| case(name, datagram, reason).with_quic();
    let (one, two) = (1, 0x6b33_43cf);
    vec![
        with("an Initial of 1,200 octets", &datagram(0xc0, one, 1_200), Reason::Passed),
        with("an Initial of 1,199 octets", &datagram(0xc0, one, 1_199), Reason::U5),
        with("an Initial without the fixed bit", &datagram(0x80, one, 1_199), Reason::U5),
        with("0-RTT of 1,199 octets", &datagram(0xd0, one, 1_199), Reason::Passed),
        with("a Handshake of 100 octets", &datagram(0xe0, one, 100), Reason::Passed),
        with("an Initial of version 2, short", &datagram(0xd0, two, 100), Reason::U5),
        with("a Retry of version 2, short", &datagram(0xc0, two, 100), Reason::Passed),
        with("an unknown version, short", &datagram(0xc0, 0x0a0a_0a0a, 100), Reason::U5),
        with("an unknown version, long", &datagram(0xc0, 0x0a0a_0a0a, 1_200), Reason::Passed),
        with("version negotiation", &datagram(0xc0, 0, 100), Reason::Passed),
        with("a short header", &datagram(0x40, one, 30), Reason::Passed),
        with("a long header, its version cut", &udp_data(40_000, 443, &[0xc0; 4]), Reason::Passed),
        with("nothing", &udp(40_000, 443), Reason::Passed),
        case6("an Initial of 1,199 octets over IPv6", &datagram(0xc0, one, 1_199), Reason::U5)
            .with_quic(),
        case("an Initial where no QUIC is served", &datagram(0xc0, one, 1_200), Reason::U6),
    ]
}

fn icmp() -> Vec<Case> {
    let message = |kind: u8, length: usize| {
        let mut message = vec![kind, 0];
        message.resize(8 + length, 0);
        message
    };
    let of4 = |name, kind, length| {
        let packet = ipv4(CLEAN4).protocol(ICMP).build(&message(kind, length));
        Case::new(name, frame4(&packet), Reason::Passed)
    };
    let of6 = |name, kind, length| {
        Case::new(name, frame6(&ipv6(CLEAN6, ICMPV6, &message(kind, length))), Reason::Passed)
    };
    let smurf = ipv4(CLEAN4).protocol(ICMP).to([255; 4].into()).build(&message(8, 56));
    vec![
        of4("an echo of 1,024 octets", 8, 1_024),
        of4("an echo of 1,025 octets", 8, 1_025).observes(Reason::C3),
        of4("an echo of 1,025 octets, dropped", 8, 1_025).drops(Reason::C3),
        of4("an echo's reply of 1,025 octets", 0, 1_025),
        of4("a redirect", 5, 28).observes(Reason::C3),
        of4("a timestamp", 13, 12).observes(Reason::C3),
        of4("a timestamp's reply", 14, 12).observes(Reason::C3),
        of4("an address mask", 17, 4).observes(Reason::C3),
        of4("an address mask's reply", 18, 4).observes(Reason::C3),
        Case::new("an echo to everybody", frame4(&smurf), Reason::Passed).observes(Reason::C3),
        of6("an IPv6 echo of 1,024 octets", 128, 1_024),
        of6("an IPv6 echo of 1,025 octets", 128, 1_025).observes(Reason::C3),
        of6("an IPv6 redirect", 137, 32),
    ]
}
