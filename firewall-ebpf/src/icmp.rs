//! ICMP of both families. Errors always pass: paths are found by them (RFC 1191, RFC 8201, RFC 4890).

use firewall_common::Reason;

use crate::datagram::Datagram;
use crate::findings::Findings;
use crate::packet::{Packet, field};
use crate::source::Family;

/// Octets of an echo that are more than a probe.
const ECHO_MAX: usize = 1_024;
const ICMP_LENGTH: usize = 8;

/// Checks a message of the family's ICMP.
#[inline(always)]
pub(crate) fn message<P: Packet + ?Sized>(
    packet: &P,
    datagram: &Datagram,
    findings: &mut Findings,
) {
    const REDIRECT: u8 = 5;
    const ECHO: u8 = 8;
    const TIMESTAMP: u8 = 13;
    const TIMESTAMP_REPLY: u8 = 14;
    const ADDRESS_MASK: u8 = 17;
    const ADDRESS_MASK_REPLY: u8 = 18;
    const ECHO6: u8 = 128;
    let Some(header) = datagram.read::<ICMP_LENGTH, P>(packet, 0) else {
        return;
    };
    let [kind] = field(&header, 0);
    let is_large = datagram.available() > ICMP_LENGTH + ECHO_MAX;
    let is_odd = match (datagram.source.family, kind) {
        // A redirect of IPv6 is neighbour discovery's, which the kernel guards by its hop limit.
        (Family::V6, ECHO6) => is_large,
        (Family::V6, _) => false,
        (_, ECHO) => is_large || datagram.is_to_many.is_set(),
        (_, kind) => matches!(
            kind,
            REDIRECT | TIMESTAMP | TIMESTAMP_REPLY | ADDRESS_MASK | ADDRESS_MASK_REPLY
        ),
    };
    if is_odd {
        findings.note(Reason::C3);
    }
}
