//! Packets and budgets that allow none of their kind, and every other kind.

use std::vec::Vec;

use firewall_common::{Budget, Budgeted, Mode, Reason};

use super::frame::{
    ACK, FIN, RST, SYN, TCP, authentication, ethernet, extension, fragment6, ipv4, ipv6, tcp, udp,
};
use super::{CLEAN4, CLEAN6, Case};

const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// All that is ever earned is nothing.
const NONE: Budget = Budget::per_second(1, 0);

fn four(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(CLEAN4).protocol(protocol).build(payload))
}

fn six(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(0x86dd, &ipv6(CLEAN6, protocol, payload))
}

fn icmp(kind: u8) -> Vec<u8> {
    vec![kind, 0, 0, 0, 0, 0, 0, 0]
}

pub(super) fn all() -> Vec<Case> {
    let mut cases = new_connections();
    cases.extend(datagrams());
    cases.extend(every_packet());
    cases.extend(shed());
    cases
}

fn new_connections() -> Vec<Case> {
    let case = |name, frame, reason| {
        Case::new(name, frame, reason).budget(Budgeted::Syn, NONE).mode(Reason::T15, Mode::Drop)
    };
    vec![
        case("a SYN without a budget for it", four(TCP, &tcp(SYN)), Reason::T15),
        case("a SYN over IPv6 without a budget for it", six(TCP, &tcp(SYN)), Reason::T15),
        case(
            "a SYN behind an extension header without a budget for it",
            six(60, &extension(TCP, 0, &tcp(SYN))),
            Reason::T15,
        ),
        case("an ACK has no budget", four(TCP, &tcp(ACK)), Reason::Passed),
        case("a SYN-ACK has no budget", six(TCP, &tcp(SYN | ACK)), Reason::Passed)
            .observes(Reason::T13),
        case("an RST has no budget", four(TCP, &tcp(RST)), Reason::Passed),
        case("a check comes before the budget", four(TCP, &tcp(SYN | FIN)), Reason::T4),
        case("a datagram is no SYN", four(UDP, &udp(9, 9)), Reason::Passed),
        case("an allowed source without a budget", four(TCP, &tcp(SYN)), Reason::Allowed)
            .allow(CLEAN4, 32),
        Case::new("a SYN observed", four(TCP, &tcp(SYN)), Reason::Passed)
            .budget(Budgeted::Syn, NONE)
            .observes(Reason::T15),
        case("a SYN whose budget is off", four(TCP, &tcp(SYN)), Reason::Passed)
            .mode(Reason::T15, Mode::Off),
        Case::new("a SYN within its budget", four(TCP, &tcp(SYN)), Reason::Passed)
            .budget(Budgeted::Syn, Budget::per_second(u32::MAX, 0))
            .mode(Reason::T15, Mode::Drop),
    ]
}

fn datagrams() -> Vec<Case> {
    let udp_case = |name, frame, reason| {
        Case::new(name, frame, reason).budget(Budgeted::Udp, NONE).mode(Reason::B1, Mode::Drop)
    };
    let echo = |name, frame, reason| {
        Case::new(name, frame, reason).budget(Budgeted::Echo, NONE).mode(Reason::C1, Mode::Drop)
    };
    let error =
        |name, frame, reason| Case::new(name, frame, reason).budget(Budgeted::EveryError, NONE);
    vec![
        udp_case("a datagram without a budget", four(UDP, &udp(9, 9)), Reason::B1),
        udp_case("a datagram over IPv6 without a budget", six(UDP, &udp(9, 9)), Reason::B1),
        udp_case("a connection is no datagram", four(TCP, &tcp(SYN)), Reason::Passed),
        echo("an echo request without a budget", four(ICMP, &icmp(8)), Reason::C1),
        echo("an echo request over IPv6 without a budget", six(ICMPV6, &icmp(128)), Reason::C1),
        echo("an echo reply", four(ICMP, &icmp(0)), Reason::Passed),
        echo("a router solicitation is not ICMPv4's echo", four(ICMP, &icmp(128)), Reason::Passed),
        echo("an error is no echo request", four(ICMP, &icmp(3)), Reason::Passed),
        Case::new("everybody's echo requests", four(ICMP, &icmp(8)), Reason::Passed)
            .budget(Budgeted::EveryEcho, NONE)
            .observes(Reason::C1),
        error("fragmentation needed, over budget", four(ICMP, &icmp(3)), Reason::C2),
        error("packet too big, over budget", six(ICMPV6, &icmp(2)), Reason::C2),
        error(
            "time exceeded behind a header, over budget",
            six(51, &authentication(ICMPV6, &icmp(3))),
            Reason::C2,
        ),
        error("a neighbour solicitation", six(ICMPV6, &icmp(135)), Reason::Passed),
        error("a router advertisement", six(ICMPV6, &icmp(134)), Reason::Passed),
        error("an echo request is no error", six(ICMPV6, &icmp(128)), Reason::Passed),
    ]
}

fn every_packet() -> Vec<Case> {
    let case = |name, frame, reason| {
        Case::new(name, frame, reason).budget(Budgeted::Packets, NONE).mode(Reason::B2, Mode::Drop)
    };
    vec![
        case("an ACK without a budget for packets", four(TCP, &tcp(ACK)), Reason::B2),
        case("a later fragment without one", six(44, &fragment6(TCP, 8, &[0; 8])), Reason::B2),
        case("GRE without one", four(47, &[0; 8]), Reason::B2),
        case("ARP has no source to charge", ethernet(0x0806, &[0; 28]), Reason::Passed),
        Case::new("by default packets have none", four(TCP, &tcp(ACK)), Reason::Passed)
            .budget(Budgeted::Packets, NONE),
    ]
}

fn shed() -> Vec<Case> {
    let case = |name, frame, reason| Case::new(name, frame, reason).shed();
    vec![
        case("a stranger's SYN under pressure", four(TCP, &tcp(SYN)), Reason::S1),
        case("a stranger's SYN over IPv6 under pressure", six(TCP, &tcp(SYN)), Reason::S1),
        case("an ACK under pressure", four(TCP, &tcp(ACK)), Reason::Passed),
        case("a datagram under pressure", six(UDP, &udp(9, 9)), Reason::Passed),
        case("an allowed SYN under pressure", four(TCP, &tcp(SYN)), Reason::Allowed)
            .allow(CLEAN4, 24),
        case("a known source's SYN under pressure", four(TCP, &tcp(SYN)), Reason::Passed)
            .in_standing(CLEAN4),
        case("a known network's SYN under pressure", six(TCP, &tcp(SYN)), Reason::Passed)
            .in_standing(CLEAN6),
        case("shedding observed", four(TCP, &tcp(SYN)), Reason::Passed)
            .mode(Reason::S1, Mode::Observe)
            .observes(Reason::S1),
    ]
}
