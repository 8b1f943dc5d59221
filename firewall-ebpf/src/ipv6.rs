//! IPv6: the header, its extension headers, its addresses, and fragments.

use firewall_common::Reason;

use crate::datagram::{Datagram, TCP, UDP};
use crate::findings::{Findings, Hidden};
use crate::link::Link;
use crate::packet::{Packet, field};
use crate::source::Source;

/// IPv6 extension headers that are looked behind.
pub(crate) const EXTENSION_HEADERS_MAX: usize = 6;
/// Octets of extension headers that a sender has use for (RFC 9288 leaves the number to us).
pub(crate) const EXTENSION_OCTETS_MAX: usize = 256;

pub(crate) const IPV6_LENGTH: usize = 40;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
/// The longest payload of a reassembled datagram.
const PAYLOAD_MAX: usize = 65_535;

/// Where the headers end, as far as they were read.
struct Chain {
    protocol: u8,
    offset: usize,
    is_fragment: Hidden,
    is_far: bool,
}

/// Checks the header and those behind it. None where no transport header can be found: a header is
/// malformed, there are too many, or this is a later fragment.
#[inline(always)]
pub(crate) fn datagram6<P: Packet + ?Sized>(
    packet: &P,
    header: &[u8; IPV6_LENGTH],
    offset: usize,
    link: Link,
    findings: &mut Findings,
) -> Option<Datagram> {
    let [first] = field(header, 0);
    let [next_header, hop_limit] = field(header, 6);
    let start = offset + IPV6_LENGTH;
    let available = packet.length().saturating_sub(start);
    let payload_length = usize::from(u16::from_be_bytes(field(header, 4)));
    if first >> 4 != 6 || payload_length > available {
        findings.note(Reason::V1);
        return None;
    }
    // Zero is a jumbogram (RFC 2675), or a coalescing interface's.
    let is_unsized = payload_length == 0;
    let end = if is_unsized { packet.length() } else { start + payload_length };
    let [to] = field(header, 24);
    let is_to_many = to == 0xff;
    if hop_limit == 0 {
        findings.note(Reason::I8);
    }
    if link.is_group && !is_to_many {
        findings.note(Reason::E4);
    }
    let chain = if is_extension(next_header) {
        behind_extensions(packet, next_header, start, end, findings)
    } else {
        let is_fragment = findings.hidden(false);
        Some(Chain { protocol: next_header, offset: start, is_fragment, is_far: false })
    };
    let protocol = chain.as_ref().map(|chain| chain.protocol);
    source6(header, protocol, findings);
    let Chain { protocol, offset, is_fragment, is_far } = chain?;
    Some(Datagram {
        protocol,
        offset,
        end,
        is_fragment,
        is_far,
        is_unsized: findings.hidden(is_unsized),
        source: Source::v6(field(header, 8)),
        destination: Source::v6(field(header, 24)),
        is_to_many: findings.hidden(is_to_many),
    })
}

/// The checks of the source: one comparison for nearly all that are global.
#[inline(always)]
fn source6(header: &[u8; IPV6_LENGTH], protocol: Option<u8>, findings: &mut Findings) {
    const GLOBAL: u64 = 0b001;
    const DOCUMENTATION: u64 = 0x2001_0db8;
    let high = u64::from_be_bytes(field(header, 8));
    if high >> 61 == GLOBAL {
        if high >> 32 == DOCUMENTATION {
            findings.note(Reason::I14);
        }
        return;
    }
    let low = u64::from_be_bytes(field(header, 16));
    let has_ports = matches!(protocol, Some(TCP | UDP));
    // `::`, `::1` and ::ffff:0:0/96; 100::/64; fec0::/10; ff00::/8.
    let is_no_host = match high {
        0 => low <= 1 || low >> 32 == 0xffff,
        0x0100_0000_0000_0000 => true,
        _ => high >> 54 == 0xfec0 >> 6 || high >> 56 == 0xff,
    };
    if is_no_host && has_ports {
        findings.note(Reason::V2);
    }
    if high >> 57 == 0xfc >> 1 {
        findings.note(Reason::I10);
    }
    if high >> 54 == 0xfe80 >> 6 {
        let [to] = field(header, 24);
        if u64::from(to >> 5) == GLOBAL {
            findings.note(Reason::V3);
        }
    }
}

/// Walks the chain of extension headers (RFC 8200 section 4).
#[inline(always)]
fn behind_extensions<P: Packet + ?Sized>(
    packet: &P,
    mut protocol: u8,
    start: usize,
    end: usize,
    findings: &mut Findings,
) -> Option<Chain> {
    let mut offset = start;
    let mut is_fragment = findings.hidden(false);
    // An opaque bound keeps the compiler from unrolling what the verifier then walks in every way.
    for _ in 0..core::hint::black_box(EXTENSION_HEADERS_MAX) {
        if !is_extension(protocol) {
            break;
        }
        let header = if offset + 4 > end { None } else { packet.read_far::<4>(offset) };
        let Some([next_header, length, high, low]) = header else {
            findings.note(if is_fragment.is_set() { Reason::V7 } else { Reason::V6 });
            return None;
        };
        if protocol == HOP_BY_HOP && offset != start {
            findings.note(Reason::V6);
        }
        if protocol == ROUTING {
            // The third octet is the type.
            findings.note(if high == 0 { Reason::V4 } else { Reason::V5 });
        }
        offset += match protocol {
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            _ => (usize::from(length) + 1) * 8,
        };
        if offset > end {
            findings.note(if is_fragment.is_set() { Reason::V7 } else { Reason::V6 });
            return None;
        }
        if protocol == FRAGMENT {
            let fragment = u16::from_be_bytes([high, low]);
            if !fragment6(fragment, end - offset, findings) {
                return None;
            }
            if fragment & 1 != 0 {
                is_fragment = findings.hidden(true);
            }
        }
        protocol = next_header;
    }
    if offset - start > EXTENSION_OCTETS_MAX {
        findings.note(Reason::V6);
    }
    if is_extension(protocol) {
        findings.note(Reason::V6);
        return None;
    }
    Some(Chain { protocol, offset, is_fragment, is_far: true })
}

/// The checks of a fragment of `length` octets; false if it is a later one. An atomic fragment, the
/// only one of its datagram, is like any other datagram (RFC 6946).
#[inline(always)]
fn fragment6(fragment: u16, length: usize, findings: &mut Findings) -> bool {
    let position = usize::from(fragment & 0xfff8);
    if position + length > PAYLOAD_MAX {
        findings.note(Reason::F3);
    }
    if fragment & 1 != 0 && length % 8 != 0 {
        findings.note(Reason::F4);
    }
    position == 0
}

/// Whether the header is an extension header with a length of its own (IANA's registry). ESP is
/// none: what is behind it cannot be read.
#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    const DESTINATION: u8 = 60;
    const MOBILITY: u8 = 135;
    const HOST_IDENTITY: u8 = 139;
    const SHIM6: u8 = 140;
    matches!(
        protocol,
        HOP_BY_HOP
            | ROUTING
            | FRAGMENT
            | AUTHENTICATION
            | DESTINATION
            | MOBILITY
            | HOST_IDENTITY
            | SHIM6
    )
}
