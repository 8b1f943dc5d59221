//! The checks of Ethernet, the IPv4 header and its options, and IPv6 extension headers.

use std::vec::Vec;

use firewall_common::{Mode, Reason};

use super::frame::{
    ACK, TCP, authentication, ethernet, extension, fragment6, ipv4, ipv6, tcp, udp, vlan,
};
use super::{CLEAN4, CLEAN6, Case, frame4, frame6};

const UDP: u8 = 17;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = link();
    cases.extend(options());
    cases.extend(fixed());
    cases.extend(chain());
    cases
}

fn link() -> Vec<Case> {
    let addressed = |name, to: u8, from: u8, packet: &[u8]| {
        let mut frame = ethernet(0x0800, packet);
        (frame[0], frame[6]) = (to, from);
        Case::new(name, frame, Reason::Passed)
    };
    let clean = ipv4(CLEAN4).build(&tcp(ACK));
    let broadcast = ipv4(CLEAN4).protocol(UDP).to([203, 0, 113, 255].into()).build(&udp(9, 9));
    let group6 = |to: u8| {
        let mut frame = frame6(&ipv6(CLEAN6, 59, &[]));
        frame[0] = 0x33;
        frame[14 + 24] = to;
        frame
    };
    let mut tagged = vlan(&[0x8100], 0x0800, &clean);
    tagged[6] = 3;
    vec![
        addressed("from one station", 2, 2, &clean),
        addressed("from a group", 2, 3, &clean).observes(Reason::E3),
        addressed("from a group, dropped", 2, 1, &clean).drops(Reason::E3),
        Case::new("from a group, tagged", tagged, Reason::Passed).observes(Reason::E3),
        addressed("to a group, for one host", 0xff, 2, &clean).observes(Reason::E4),
        addressed("to a group, for one host, dropped", 1, 2, &clean).drops(Reason::E4),
        addressed("to a group, for its network", 0xff, 2, &broadcast),
        Case::new("to a group, for one IPv6 host", group6(0x20), Reason::Passed)
            .observes(Reason::E4),
        Case::new("to a group, for an IPv6 group", group6(0xff), Reason::Passed),
    ]
}

fn options() -> Vec<Case> {
    let case = |name, options: &[u8], reason| {
        Case::new(name, frame4(&ipv4(CLEAN4).list(options).build(&tcp(ACK))), reason)
    };
    let passed = |name, options: &[u8]| case(name, options, Reason::Passed);
    let full = [&[1; 36][..], &[131, 4, 4, 0]].concat();
    let over = [&[1; 36][..], &[131, 5, 4, 0]].concat();
    vec![
        case("a loose source route", &[131, 7, 4, 1, 2, 3, 4], Reason::I4),
        case("a strict source route", &[137, 7, 4, 1, 2, 3, 4], Reason::I4),
        case("a source route behind no-operations", &[1, 1, 1, 131, 3, 4], Reason::I4),
        case("a source route behind another option", &[68, 4, 5, 0, 137, 3, 4], Reason::I4)
            .observes(Reason::I5),
        case("a source route at the end of the longest header", &full, Reason::I4),
        passed("a source route that ends beyond the header", &over).observes(Reason::I5),
        passed("a source route behind the end of the list", &[0, 131, 3, 4]),
        passed("a source route observed", &[131, 3, 4])
            .mode(Reason::I4, Mode::Observe)
            .observes(Reason::I4),
        passed("no option but no-operations", &[1, 1, 1, 1]),
        passed("router alert", &[148, 4, 0, 0]).observes(Reason::I5),
        passed("record route, dropped", &[7, 7, 4, 0, 0, 0, 0]).drops(Reason::I5),
        passed("an option of two octets", &[200, 2]).observes(Reason::I5),
        passed("an option of one octet", &[200, 1]).observes(Reason::I5),
        passed("an option without a length", &[1, 1, 1, 200]).observes(Reason::I5),
        passed("options off", &[148, 4, 0, 0]).mode(Reason::I5, Mode::Off),
    ]
}

fn fixed() -> Vec<Case> {
    let clean = frame4(&ipv4(CLEAN4).build(&tcp(ACK)));
    let mut wrong = clean.clone();
    wrong[14 + 11] ^= 1;
    let longest = frame4(&ipv4(CLEAN4).options(40).build(&tcp(ACK)));
    let mut wrong_option = longest.clone();
    wrong_option[14 + 59] = 0;
    let strict = |case: Case| case.mode(Reason::I3, Mode::Drop);
    let ttl = |name, ttl| {
        Case::new(name, frame4(&ipv4(CLEAN4).ttl(ttl).build(&tcp(ACK))), Reason::Passed)
    };
    let hops = |name, hops: u8| {
        let mut packet = ipv6(CLEAN6, TCP, &tcp(ACK));
        packet[7] = hops;
        Case::new(name, frame6(&packet), Reason::Passed)
    };
    vec![
        strict(Case::new("a right checksum", clean, Reason::Passed)),
        strict(Case::new("a wrong checksum", wrong.clone(), Reason::I3)),
        Case::new("a wrong checksum, unless asked for", wrong, Reason::Passed),
        strict(Case::new("a right checksum over options", longest, Reason::Passed)),
        strict(Case::new("a wrong checksum in the options", wrong_option, Reason::I3)),
        ttl("a time to live of zero", 0),
        ttl("a time to live of zero, dropped", 0).drops(Reason::I8),
        ttl("a time to live of one, dropped", 1).mode(Reason::I8, Mode::Drop),
        hops("a hop limit of zero, dropped", 0).drops(Reason::I8),
        hops("a hop limit of one, dropped", 1).mode(Reason::I8, Mode::Drop),
    ]
}

fn chain() -> Vec<Case> {
    let case = |name, next, chain: &[u8], reason| {
        Case::new(name, frame6(&ipv6(CLEAN6, next, chain)), reason)
    };
    let routing = |kind: u8, payload: &[u8]| {
        let mut header = extension(TCP, 2, payload);
        header[2] = kind;
        header
    };
    let hop_by_hop = |next, payload: &[u8]| extension(next, 0, payload);
    let whole = tcp(ACK);
    let octets = |length: u8| extension(TCP, length, &whole);
    let destination_first = extension(0, 0, &hop_by_hop(TCP, &whole));
    let behind_routing = extension(43, 0, &routing(0, &whole));
    vec![
        case("a routing header of type 0", 43, &routing(0, &whole), Reason::V4),
        case("a routing header of type 0 behind options", 60, &behind_routing, Reason::V4),
        case("a routing header of type 2", 43, &routing(2, &whole), Reason::Passed)
            .observes(Reason::V5),
        case("segment routing, dropped", 43, &routing(4, &whole), Reason::Passed).drops(Reason::V5),
        case("hop-by-hop options first", 0, &hop_by_hop(TCP, &whole), Reason::Passed),
        case("hop-by-hop options second", 60, &destination_first, Reason::Passed)
            .observes(Reason::V6),
        case(
            "hop-by-hop options twice",
            0,
            &hop_by_hop(0, &hop_by_hop(TCP, &whole)),
            Reason::Passed,
        )
        .drops(Reason::V6),
        case("256 octets of extension headers", 60, &octets(31), Reason::Passed),
        case("264 octets of extension headers", 60, &octets(32), Reason::Passed)
            .observes(Reason::V6),
        case(
            "an authentication header of 24 octets",
            51,
            &authentication(TCP, &whole),
            Reason::Passed,
        ),
        case(
            "a first fragment, its chain cut",
            44,
            &fragment6(60, 1, &[TCP, 1, 0, 0, 0, 0, 0, 0]),
            Reason::V7,
        ),
        case(
            "a first fragment, its chain whole",
            44,
            &fragment6(60, 1, &extension(TCP, 0, &[&whole[..], &[0; 4]].concat())),
            Reason::Passed,
        ),
        case(
            "an atomic fragment, its chain cut",
            44,
            &fragment6(60, 0, &[TCP, 1, 0, 0]),
            Reason::Passed,
        )
        .observes(Reason::V6),
        case("another protocol, dropped", 47, &whole, Reason::Passed).drops(Reason::G1),
        case("ICMP of the other family, dropped", 1, &[8; 8], Reason::Passed).drops(Reason::G1),
        case("ICMPv6, others dropped", 58, &[128; 8], Reason::Passed).mode(Reason::G1, Mode::Drop),
        Case::new("GRE", frame4(&ipv4(CLEAN4).protocol(47).build(&[0; 8])), Reason::Passed),
        Case::new(
            "GRE, dropped",
            frame4(&ipv4(CLEAN4).protocol(47).build(&[0; 8])),
            Reason::Passed,
        )
        .drops(Reason::G1),
    ]
}
