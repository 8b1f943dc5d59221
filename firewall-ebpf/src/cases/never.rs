//! What is never dropped: each of these was dropped by some firewall, and cost its users a feature
//! of the Internet. Every check is set to drop.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use firewall_common::{Mode, Reason};

use super::frame::{
    ACK, PSH, SYN, TCP, ethernet, extension, fragment6, ipv4, ipv6_to, tcp, tcp_options,
};
use super::{Case, frame4, frame6};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ECE: u8 = 1 << 6;
const CWR: u8 = 1 << 7;
const HOST4: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2a00, 1, 2, 3, 0, 0, 0, 4);
const HERE6: Ipv6Addr = Ipv6Addr::new(0x2a00, 9, 0, 0, 0, 0, 0, 0x80);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = segments();
    cases.extend(errors());
    cases.extend(datagrams());
    for case in &mut cases {
        for &reason in Reason::ALL {
            // A socket that waits is no matter of the packet's.
            if reason.is_check() && !matches!(reason, Reason::T14 | Reason::U3 | Reason::U4) {
                case.modes.push((reason, Mode::Drop));
            }
        }
    }
    cases
}

fn from6(next: u8, payload: &[u8]) -> Vec<u8> {
    frame6(&ipv6_to(HOST6, HERE6, next, payload))
}

fn segments() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut both = |name, segment: &[u8]| {
        let frame = frame4(&ipv4(HOST4).build(segment));
        cases.push(Case::new(name, frame, Reason::Passed));
        cases.push(Case::new(name, from6(TCP, segment), Reason::Passed));
    };
    let wide = |mut segment: Vec<u8>, bits: u8| {
        segment[12] |= bits;
        segment
    };
    both("ECN is negotiated (RFC 3168)", &tcp(SYN | ECE | CWR));
    both("accurate ECN is negotiated (RFC 9768)", &wide(tcp(SYN | ECE | CWR), 1));
    both("accurate ECN is counted (RFC 9768)", &wide(tcp(ACK | CWR), 1));
    both("congestion is echoed (RFC 3168)", &tcp(ACK | ECE));
    both("the window is reduced (RFC 3168)", &tcp(ACK | PSH | CWR));
    both("reserved bits are set (RFC 3360)", &wide(tcp(ACK), 0xe));
    let fast_open = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    both("Fast Open with data (RFC 7413)", &tcp_options(SYN, &fast_open, b"GET / HTTP/1.1"));
    both("Fast Open asks for a cookie (RFC 7413)", &tcp_options(SYN, &[34, 2], &[]));
    let multipath = [30, 12, 1, 0x81, 1, 2, 3, 4, 5, 6, 7, 8];
    both("multipath TCP (RFC 8684)", &tcp_options(SYN, &multipath, &[]));
    both("accurate ECN's option (RFC 9768)", &tcp_options(SYN, &[172, 2], &[]));
    both("TCP-AO (RFC 5925)", &tcp_options(SYN, &[29, 4, 1, 1], &[]));
    both("a checksum that the interface is to fill in", &{
        let mut segment = tcp(ACK);
        segment[16..18].copy_from_slice(&[0xde, 0xad]);
        segment
    });
    cases
}

/// Paths are found by these (RFC 1191, RFC 8201, RFC 4890).
fn errors() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, kind, code) in [
        ("unreachable", 3, 1),
        ("a fragment was needed", 3, 4),
        ("time exceeded", 11, 0),
        ("a parameter problem", 12, 0),
    ] {
        let message = [&[kind, code, 0, 0, 0, 0, 5, 0x14][..], &[0x45; 28]].concat();
        let frame = frame4(&ipv4(HOST4).protocol(ICMP).build(&message));
        cases.push(Case::new(name, frame, Reason::Passed));
    }
    for (name, kind) in [
        ("IPv6 unreachable", 1),
        ("an IPv6 packet too big", 2),
        ("IPv6 time exceeded", 3),
        ("an IPv6 parameter problem", 4),
        ("a neighbour solicitation", 135),
        ("a neighbour advertisement", 136),
    ] {
        // As large as an error may be (RFC 4443 2.4).
        let message = [&[kind, 0, 0, 0, 0, 0, 5, 0][..], &[0x60; 1_232]].concat();
        cases.push(Case::new(name, from6(ICMPV6, &message), Reason::Passed));
    }
    cases
}

fn datagrams() -> Vec<Case> {
    let mut padded = frame4(&ipv4(HOST4).build(&tcp(ACK)));
    padded.resize(60, 0xff);
    let mut trailed = from6(TCP, &tcp(ACK));
    trailed.extend([0xff; 4]);
    // IPv6 knows no least size but of the link: the last fragment may be of one octet.
    let small = fragment6(TCP, 0x0101 & 0xfff8, &[0; 1]);
    let first_small = fragment6(TCP, 1, &[&tcp(ACK)[..], &[0; 4]].concat());
    let atomic = fragment6(TCP, 0, &tcp(ACK));
    let options = extension(TCP, 0, &tcp(ACK));
    vec![
        Case::new("a padded frame (IEEE 802.3)", padded, Reason::Passed),
        Case::new("a frame with a trailer", trailed, Reason::Passed),
        Case::new("an atomic fragment (RFC 6946)", from6(44, &atomic), Reason::Passed),
        Case::new("a small last fragment", from6(44, &small), Reason::Passed),
        Case::new("a small first fragment", from6(44, &first_small), Reason::Passed),
        Case::new("destination options (RFC 8200)", from6(60, &options), Reason::Passed),
        Case::new("hop-by-hop options first (RFC 8200)", from6(0, &options), Reason::Passed),
        Case::new(
            "a coalesced frame",
            {
                let mut frame = frame4(&ipv4(HOST4).build(&[tcp(ACK), vec![0; 3_000]].concat()));
                frame[14 + 2..14 + 4].fill(0);
                // Its checksum is that of a length of zero.
                frame[14 + 10..14 + 12].fill(0);
                let sum = super::frame::sum(&frame[14..34]).to_be_bytes();
                frame[14 + 10..14 + 12].copy_from_slice(&sum);
                frame
            },
            Reason::Passed,
        ),
        Case::new(
            "neighbour discovery from nobody (RFC 4862)",
            {
                let solicitation = [&[135, 0][..], &[0; 22]].concat();
                let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
                frame6(&ipv6_to(Ipv6Addr::UNSPECIFIED, group, ICMPV6, &solicitation))
            },
            Reason::Passed,
        ),
        Case::new("ARP", ethernet(0x0806, &[0; 28]), Reason::Passed),
        Case::new(
            "LACP (IEEE 802.1AX)",
            {
                let mut frame = ethernet(0x8809, &[1; 110]);
                frame[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 2]);
                frame
            },
            Reason::Passed,
        ),
    ]
}
