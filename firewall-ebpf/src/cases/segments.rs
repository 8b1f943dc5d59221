//! TCP: flags, and the options of a SYN.

use std::vec::Vec;

use firewall_common::{Mode, Reason};

use super::frame::{ACK, FIN, PSH, RST, SYN, URG, ipv4, ipv6, tcp, tcp_options};
use super::{CLEAN4, CLEAN6, Case, frame4, frame6};

const TCP: u8 = 6;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = flags();
    cases.extend(options());
    cases.extend(odd());
    cases
}

fn case(name: &'static str, segment: &[u8], reason: Reason) -> Case {
    Case::new(name, frame4(&ipv4(CLEAN4).build(segment)), reason)
}

fn case6(name: &'static str, segment: &[u8], reason: Reason) -> Case {
    Case::new(name, frame6(&ipv6(CLEAN6, TCP, segment)), reason)
}

fn to(port: u16, mut segment: Vec<u8>) -> Vec<u8> {
    segment[2..4].copy_from_slice(&port.to_be_bytes());
    segment
}

fn flags() -> Vec<Case> {
    let passed = |name, flags| case(name, &tcp(flags), Reason::Passed);
    vec![
        passed("RST, FIN", RST | FIN).observes(Reason::T6),
        passed("RST, FIN, dropped", RST | FIN | ACK).drops(Reason::T6),
        passed("XMAS with ACK", FIN | PSH | URG | ACK).observes(Reason::T6),
        passed("FIN, PSH, ACK", FIN | PSH | ACK),
        case("every flag", &tcp(0xff), Reason::T4).observes(Reason::T6).observes(Reason::T13),
        passed("urgent data", URG | ACK),
        passed("urgent data, dropped", URG | ACK).drops(Reason::T7),
        case("urgent data to another port, dropped", &to(23, tcp(URG | ACK)), Reason::Passed)
            .mode(Reason::T7, Mode::Drop),
        passed("an answer that was not asked for", SYN | ACK).observes(Reason::T13),
        passed("an answer that was not asked for, dropped", SYN | ACK).drops(Reason::T13),
        case("an answer to a port of ours", &to(40_000, tcp(SYN | ACK)), Reason::Passed),
        case6("an answer that was not asked for, over IPv6", &tcp(SYN | ACK), Reason::Passed)
            .observes(Reason::T13),
        passed("no socket waits", ACK),
        passed("no socket waits, dropped", ACK).drops(Reason::T14),
        passed("no socket waits for a reset, dropped", RST).drops(Reason::T14),
        passed("a SYN needs no socket, dropped", SYN).mode(Reason::T14, Mode::Drop),
        case6("no socket waits, over IPv6", &tcp(ACK), Reason::Passed).drops(Reason::T14),
    ]
}

fn options() -> Vec<Case> {
    let syn = |name, options: &[u8], reason| case(name, &tcp_options(SYN, options, &[]), reason);
    let passed = |name, options: &[u8]| syn(name, options, Reason::Passed);
    let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    let full = [&[1; 36][..], &[2, 4, 0, 47]].concat();
    let over = [&[1; 36][..], &[2, 5, 0, 47]].concat();
    vec![
        passed("a SYN of Linux", &linux),
        case6("a SYN of Linux over IPv6", &tcp_options(SYN, &linux, &[]), Reason::Passed),
        passed("an option of two octets", &[4, 2]),
        passed("an option of one octet", &[4, 1]).observes(Reason::T10),
        passed("an option of no octets", &[4, 0]).observes(Reason::T10),
        passed("an option without a length", &[1, 1, 1, 4]).observes(Reason::T10),
        passed("an option beyond the header", &over).observes(Reason::T10),
        passed("an option beyond the header, dropped", &[8, 10, 0, 0]).drops(Reason::T10),
        passed("a segment size of three octets", &[2, 3, 5]).observes(Reason::T10),
        passed("behind the end of the list", &[0, 4, 1, 0]),
        case("a malformed option in an ACK", &tcp_options(ACK, &[4, 1], &[]), Reason::Passed),
        syn("a segment size of 47", &[2, 4, 0, 47], Reason::T11),
        syn("a segment size of 0", &[2, 4, 0, 0], Reason::T11),
        syn("a segment size of 47 behind no-operations", &full, Reason::T11),
        syn("a segment size of 47 behind others", &[4, 2, 1, 3, 3, 7, 2, 4, 0, 47], Reason::T11),
        passed("a segment size of 48", &[2, 4, 0, 48]).observes(Reason::T12),
        passed("a segment size of 535", &[2, 4, 2, 23]).observes(Reason::T12),
        passed("a segment size of 536", &[2, 4, 2, 24]),
        case6(
            "a segment size of 47 over IPv6",
            &tcp_options(SYN, &[2, 4, 0, 47], &[]),
            Reason::T11,
        ),
    ]
}

/// SYNs that are written by hand, and those with data.
fn odd() -> Vec<Case> {
    let at = |range: std::ops::Range<usize>, octets: &[u8]| {
        let mut segment = tcp(SYN);
        segment[range].copy_from_slice(octets);
        segment
    };
    let passed = |name, segment: &[u8]| case(name, segment, Reason::Passed);
    let data = |options: &[u8]| tcp_options(SYN, options, b"GET");
    let cookie = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut padded = frame4(&ipv4(CLEAN4).build(&tcp(SYN)));
    padded.resize(60, 0xff);
    vec![
        passed("a SYN", &tcp(SYN)),
        passed("a SYN without a window", &at(14..16, &[0; 2])).observes(Reason::T12),
        passed("a SYN with a window of one", &at(14..16, &[0, 1])),
        passed("a SYN of sequence number zero", &at(4..8, &[0; 4])).observes(Reason::T12),
        passed("a SYN that acknowledges", &at(8..12, &[0, 0, 0, 1])).observes(Reason::T12),
        passed("a SYN that acknowledges, dropped", &at(8..12, &[1, 0, 0, 0])).drops(Reason::T12),
        passed("an ACK of sequence number zero", &{
            let mut segment = tcp(ACK);
            segment[4..8].fill(0);
            segment
        }),
        passed("a SYN with data", &data(&[])).observes(Reason::T9),
        passed("a SYN with data, dropped", &data(&[2, 4, 5, 0xb4])).drops(Reason::T9),
        passed("a SYN with data and Fast Open", &data(&cookie)),
        passed("a SYN with data and a request for a cookie", &data(&[34, 2])),
        passed("a SYN with data and the experiment", &data(&[254, 4, 0xf9, 0x89])),
        Case::new("a SYN in a padded frame", padded, Reason::Passed),
        case6("a SYN with data over IPv6", &data(&[]), Reason::Passed).observes(Reason::T9),
    ]
}
