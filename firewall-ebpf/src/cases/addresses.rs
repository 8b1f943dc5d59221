//! The checks of sources and destinations, at both ends of every range.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use firewall_common::{Mode, Reason};

use super::frame::{ACK, TCP, ipv4, ipv6, ipv6_to, tcp, udp_data};
use super::{BANNED4, BANNED6, Case, frame4, frame6};

const UDP: u8 = 17;
const IGMP: u8 = 2;
const HERE4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const HERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = sources4();
    cases.extend(sources6());
    cases.extend(unnamed());
    cases.extend(destinations());
    cases.extend(own());
    cases
}

/// Every range of sources: its first and last address, and those next to it.
fn sources4() -> Vec<Case> {
    let from = |source: [u8; 4]| frame4(&ipv4(source.into()).build(&tcp(ACK)));
    let mut cases = Vec::new();
    for (name, source) in [
        ("a martian: 0.0.0.1", [0, 0, 0, 1]),
        ("a martian: 0.255.255.255", [0, 255, 255, 255]),
        ("a martian: 127.0.0.0", [127, 0, 0, 0]),
        ("a martian: 127.255.255.255", [127, 255, 255, 255]),
        ("a martian: 224.0.0.0", [224, 0, 0, 0]),
        ("a martian: 239.255.255.255", [239, 255, 255, 255]),
        ("a martian: 240.0.0.0", [240, 0, 0, 0]),
        ("a martian: 255.255.255.255", [255, 255, 255, 255]),
    ] {
        cases.push(Case::new(name, from(source), Reason::I9));
    }
    for (name, source, reason) in [
        ("private: 10.0.0.0", [10, 0, 0, 0], Reason::I10),
        ("private: 10.255.255.255", [10, 255, 255, 255], Reason::I10),
        ("shared: 100.64.0.0", [100, 64, 0, 0], Reason::I10),
        ("shared: 100.127.255.255", [100, 127, 255, 255], Reason::I10),
        ("link-local: 169.254.0.0", [169, 254, 0, 0], Reason::I10),
        ("link-local: 169.254.255.255", [169, 254, 255, 255], Reason::I10),
        ("private: 172.16.0.0", [172, 16, 0, 0], Reason::I10),
        ("private: 172.31.255.255", [172, 31, 255, 255], Reason::I10),
        ("protocols: 192.0.0.0", [192, 0, 0, 0], Reason::I10),
        ("protocols: 192.0.0.255", [192, 0, 0, 255], Reason::I10),
        ("private: 192.168.0.0", [192, 168, 0, 0], Reason::I10),
        ("private: 192.168.255.255", [192, 168, 255, 255], Reason::I10),
        ("benchmarks: 198.18.0.0", [198, 18, 0, 0], Reason::I10),
        ("benchmarks: 198.19.255.255", [198, 19, 255, 255], Reason::I10),
    ] {
        cases.push(Case::new(name, from(source), Reason::Passed));
        cases.push(Case::new(name, from(source), reason).on_internet());
    }
    for (name, source) in [
        ("documentation: 192.0.2.0", [192, 0, 2, 0]),
        ("documentation: 192.0.2.255", [192, 0, 2, 255]),
        ("documentation: 198.51.100.0", [198, 51, 100, 0]),
        ("documentation: 198.51.100.255", [198, 51, 100, 255]),
        ("documentation: 203.0.113.0", [203, 0, 113, 0]),
        ("documentation: 203.0.113.255", [203, 0, 113, 255]),
    ] {
        cases.push(Case::new(name, from(source), Reason::Passed));
        let observed = Case::new(name, from(source), Reason::Passed).on_internet();
        cases.push(observed.observes(Reason::I14));
    }
    for (name, source) in [
        ("a host: 1.0.0.0", [1, 0, 0, 0]),
        ("a host: 9.255.255.255", [9, 255, 255, 255]),
        ("a host: 11.0.0.0", [11, 0, 0, 0]),
        ("a host: 100.63.255.255", [100, 63, 255, 255]),
        ("a host: 100.128.0.0", [100, 128, 0, 0]),
        ("a host: 126.255.255.255", [126, 255, 255, 255]),
        ("a host: 128.0.0.0", [128, 0, 0, 0]),
        ("a host: 169.253.255.255", [169, 253, 255, 255]),
        ("a host: 169.255.0.0", [169, 255, 0, 0]),
        ("a host: 172.15.255.255", [172, 15, 255, 255]),
        ("a host: 172.32.0.0", [172, 32, 0, 0]),
        ("a host: 191.255.255.255", [191, 255, 255, 255]),
        ("a host: 192.0.1.0", [192, 0, 1, 0]),
        ("a host: 192.0.3.0", [192, 0, 3, 0]),
        ("a host: 192.167.255.255", [192, 167, 255, 255]),
        ("a host: 192.169.0.0", [192, 169, 0, 0]),
        ("a host: 198.17.255.255", [198, 17, 255, 255]),
        ("a host: 198.20.0.0", [198, 20, 0, 0]),
        ("a host: 198.51.99.255", [198, 51, 99, 255]),
        ("a host: 198.51.101.0", [198, 51, 101, 0]),
        ("a host: 203.0.112.255", [203, 0, 112, 255]),
        ("a host: 203.0.114.0", [203, 0, 114, 0]),
        ("a host: 223.255.255.255", [223, 255, 255, 255]),
    ] {
        cases.push(Case::new(name, from(source), Reason::Passed).on_internet());
    }
    cases
}

fn sources6() -> Vec<Case> {
    let case = |name, source: &str, reason| {
        Case::new(name, frame6(&ipv6(source.parse().unwrap(), TCP, &tcp(ACK))), reason)
    };
    let mut cases = Vec::new();
    for (name, source) in [
        ("no host: ::", "::"),
        ("no host: ::1", "::1"),
        ("no host: ::ffff:0.0.0.0", "::ffff:0.0.0.0"),
        ("no host: ::ffff:255.255.255.255", "::ffff:255.255.255.255"),
        ("no host: 100::", "100::"),
        ("no host: 100::ffff", "100::ffff:ffff:ffff:ffff"),
        ("no host: fec0::", "fec0::"),
        ("no host: feff::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("no host: ff00::", "ff00::"),
        ("no host: ffff::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ] {
        cases.push(case(name, source, Reason::V2));
        let silent = frame6(&ipv6(source.parse().unwrap(), 58, &[135; 24]));
        cases.push(Case::new(name, silent, Reason::Passed));
    }
    for (name, source) in [
        ("a host: ::2", "::2"),
        ("a host: ::fffe:ffff:ffff", "::fffe:ffff:ffff"),
        ("a host: 100:0:0:1::", "100:0:0:1::"),
        ("a host: 2001:db7::", "2001:db7:ffff::"),
        ("a host: 2001:db9::", "2001:db9::"),
        ("a host: 3fff::", "3fff:ffff::"),
        ("a host: 64:ff9b::", "64:ff9b::1"),
    ] {
        cases.push(case(name, source, Reason::Passed).on_internet());
    }
    for (name, source) in [("a local host: fc00::", "fc00::"), ("a local host: fdff::", "fdff::1")]
    {
        cases.push(case(name, source, Reason::Passed));
        cases.push(case(name, source, Reason::I10).on_internet());
    }
    let documented = case("documentation: 2001:db8::", "2001:db8::", Reason::Passed);
    cases.push(documented.on_internet().observes(Reason::I14));
    let link_local = |name, source: &str, destination: &str| {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Case::new(name, frame6(&ipv6_to(source, destination, TCP, &tcp(ACK))), Reason::Passed)
            .mode(Reason::V3, Mode::Drop)
    };
    cases.extend([
        case("a link-local source", "fe80::1", Reason::Passed),
        link_local("a link-local source, to a global host", "fe80::1", "2001:db8::1")
            .drops(Reason::V3),
        link_local("the last link-local source, to a global host", "febf::1", "3fff::1")
            .drops(Reason::V3),
        link_local("a link-local source, to its own link", "fe80::1", "fe80::2"),
        link_local("a link-local source, to a local host", "fe80::1", "fd00::2"),
    ]);
    cases
}

/// A host that has no address yet.
fn unnamed() -> Vec<Case> {
    let from = |name, protocol, payload: &[u8], reason| {
        let packet = ipv4(Ipv4Addr::UNSPECIFIED).protocol(protocol).to(Ipv4Addr::BROADCAST);
        Case::new(name, frame4(&packet.build(payload)), reason)
    };
    vec![
        from("DHCP from client to server", UDP, &udp_data(68, 67, &[0; 8]), Reason::Passed),
        from("DHCP from server to client, unnamed", UDP, &udp_data(67, 68, &[0; 8]), Reason::I9),
        from("UDP without an address", UDP, &udp_data(68, 69, &[]), Reason::I9),
        from("UDP without an address, cut", UDP, &[0, 68, 0], Reason::I9),
        from("a query of IGMP", IGMP, &[0x11, 0, 0, 0, 0, 0, 0, 0], Reason::Passed),
        from("TCP without an address", TCP, &tcp(ACK), Reason::I9),
    ]
}

fn destinations() -> Vec<Case> {
    let to4 = |name, destination: [u8; 4], protocol, payload: &[u8], reason| {
        let packet = ipv4(super::CLEAN4).to(destination.into()).protocol(protocol);
        Case::new(name, frame4(&packet.build(payload)), reason)
    };
    let to6 = |name, destination: &str, protocol, payload: &[u8], reason| {
        let packet = ipv6_to(super::CLEAN6, destination.parse().unwrap(), protocol, payload);
        Case::new(name, frame6(&packet), reason)
    };
    let land4 = ipv4(HERE4).to(HERE4);
    let quic = udp_data(40_000, 443, &[0x40; 20]);
    vec![
        to4("TCP to 223.255.255.255", [223, 255, 255, 255], TCP, &tcp(ACK), Reason::Passed),
        to4("TCP to 224.0.0.0", [224, 0, 0, 0], TCP, &tcp(ACK), Reason::I12),
        to4("TCP to 239.255.255.255", [239, 255, 255, 255], TCP, &tcp(ACK), Reason::I12),
        to4("TCP to the broadcast address", [255; 4], TCP, &tcp(ACK), Reason::I12),
        to6("TCP to ff02::1", "ff02::1", TCP, &tcp(ACK), Reason::I12),
        to6("TCP to feff::1", "feff::1", TCP, &tcp(ACK), Reason::Passed),
        to4("UDP to a group", [224, 0, 0, 251], UDP, &udp_data(5353, 5353, &[]), Reason::Passed),
        to4("QUIC to a group", [224, 0, 0, 251], UDP, &quic, Reason::I12).with_quic(),
        to4("QUIC to a host", [203, 0, 113, 1], UDP, &quic, Reason::Passed).with_quic(),
        Case::new("LAND", frame4(&land4.build(&tcp(ACK))), Reason::I11),
        Case::new("LAND over IPv6", frame6(&ipv6_to(HERE6, HERE6, TCP, &tcp(ACK))), Reason::I11),
        Case::new(
            "the next address to this one",
            frame4(&ipv4(Ipv4Addr::new(203, 0, 113, 81)).to(HERE4).build(&tcp(ACK))),
            Reason::Passed,
        ),
    ]
}

/// The host's own addresses, and what the allowlist says of a forged source.
fn own() -> Vec<Case> {
    let from4 =
        |name, source, reason| Case::new(name, frame4(&ipv4(source).build(&tcp(ACK))), reason);
    let from6 =
        |name, source, reason| Case::new(name, frame6(&ipv6(source, TCP, &tcp(ACK))), reason);
    vec![
        from4("an own address as source", BANNED4, Reason::Passed)
            .own(BANNED4)
            .observes(Reason::I15),
        from6("an own IPv6 address as source", BANNED6, Reason::Passed)
            .own(BANNED6)
            .observes(Reason::I15),
        from4("the address next to an own one", Ipv4Addr::new(192, 0, 2, 8), Reason::Passed)
            .own(BANNED4),
        from4("an own address as source, dropped though allowed", BANNED4, Reason::Passed)
            .own(BANNED4)
            .allow(BANNED4, 32)
            .drops(Reason::I15),
        from4("a martian, dropped though allowed", Ipv4Addr::LOCALHOST, Reason::I9)
            .allow(Ipv4Addr::LOCALHOST, 8),
        from4("private and allowed", Ipv4Addr::new(10, 0, 0, 1), Reason::Allowed)
            .on_internet()
            .allow(Ipv4Addr::new(10, 0, 0, 0), 8),
        from4("to an own address, others dropped", BANNED4, Reason::Passed)
            .own(HERE4)
            .mode(Reason::I13, Mode::Drop),
        from4("to another's address, others dropped", BANNED4, Reason::Passed)
            .own(Ipv4Addr::new(203, 0, 113, 81))
            .drops(Reason::I13),
        from6("to an own IPv6 address, others dropped", BANNED6, Reason::Passed)
            .own(HERE6)
            .mode(Reason::I13, Mode::Drop),
        from6("to another's IPv6 address, others dropped", BANNED6, Reason::Passed)
            .own(HERE4)
            .drops(Reason::I13),
        Case::new(
            "to a group, others dropped",
            frame4(&ipv4(BANNED4).to(Ipv4Addr::new(224, 0, 0, 1)).protocol(UDP).build(&udp_data(
                9,
                9,
                &[],
            ))),
            Reason::Passed,
        )
        .own(HERE4)
        .mode(Reason::I13, Mode::Drop),
        from4("no own address is known, others dropped", BANNED4, Reason::Passed)
            .mode(Reason::I13, Mode::Drop),
    ]
}
