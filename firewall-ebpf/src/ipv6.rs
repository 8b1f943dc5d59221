//! IPv6: the header, its extension headers, its addresses, and fragments.

use firewall_common::{Reason, Reasons};

use crate::chain::{Chain, found, is_extension};
use crate::datagram::{Datagram, TCP, UDP};
use crate::findings::Findings;
use crate::link::Link;
use crate::packet::{Packet, field};
use crate::source::Source;

pub(crate) const IPV6_LENGTH: usize = 40;

/// Checks the header and those behind it. None where no transport header can be found: a header is
/// malformed, there are too many, or this is a later fragment.
#[inline(always)]
pub(crate) fn datagram6<P: Packet + ?Sized>(
    packet: &P,
    header: &[u8; IPV6_LENGTH],
    link: Link,
    findings: &mut Findings,
) -> Option<Datagram> {
    let Link { offset, is_group, .. } = link;
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
    let destination = Source::v6(field(header, 24));
    let is_to_many = first_octet(destination) == 0xff;
    if hop_limit == 0 {
        findings.note(Reason::I8);
    }
    if is_group && !is_to_many {
        findings.note(Reason::E4);
    }
    let (mut protocol, mut offset) = (Some(next_header), start);
    let mut is_fragment = findings.hidden(false);
    if is_extension(next_header) {
        let end = Chain::of(packet, next_header, start, end);
        note(end, findings);
        (protocol, offset) = (end.protocol(), end.offset());
        if end.holds(found::FRAGMENT) {
            is_fragment = findings.hidden(true);
        }
    }
    source6(header, destination, protocol, findings);
    let protocol = protocol?;
    Some(Datagram {
        protocol,
        offset,
        end,
        is_fragment,
        is_unsized: findings.hidden(is_unsized),
        source: Source::v6(field(header, 8)),
        destination,
        is_to_many: findings.hidden(is_to_many),
    })
}

/// Notes what was found of the chain. What a first fragment lacks of it is more than what is not read.
#[inline(always)]
fn note(chain: Chain, findings: &mut Findings) {
    let fragment = chain.holds(found::FRAGMENT);
    for (bit, reason) in [
        (found::CUT, if fragment { Reason::V7 } else { Reason::V6 }),
        (found::ODD, Reason::V6),
        (found::ROUTING_0, Reason::V4),
        (found::ROUTING, Reason::V5),
        (found::LONG, Reason::F3),
        (found::UNEVEN, Reason::F4),
    ] {
        if chain.holds(bit) {
            findings.note(reason);
        }
    }
}

/// The checks of the source.
#[inline(always)]
fn source6(
    header: &[u8; IPV6_LENGTH],
    destination: Source,
    protocol: Option<u8>,
    findings: &mut Findings,
) {
    let high = u64::from_be_bytes(field(header, 8));
    let special = special6(high, u64::from_be_bytes(field(header, 16)));
    // Who has no address yet looks for one by ICMP.
    let has_ports = matches!(protocol, Some(TCP | UDP));
    findings.note_all(if has_ports { special } else { special.without(Reason::V2) });
    if high >> 54 == 0xfe80 >> 6 && u64::from(first_octet(destination) >> 5) == GLOBAL {
        findings.note(Reason::V3);
    }
}

/// The first three bits of nearly all global addresses.
const GLOBAL: u64 = 0b001;

/// The checks that object to a source with ports: two comparisons for nearly all that are global.
#[inline(always)]
pub(crate) const fn special6(high: u64, low: u64) -> Reasons {
    const NONE: Reasons = Reasons::NONE;
    if high >> 61 == GLOBAL {
        return if high >> 32 == 0x2001_0db8 { NONE.with(Reason::I14) } else { NONE };
    }
    // `::`, `::1` and ::ffff:0:0/96; 100::/64; fec0::/10; ff00::/8.
    let is_no_host = match high {
        0 => low <= 1 || low >> 32 == 0xffff,
        0x0100_0000_0000_0000 => true,
        _ => high >> 54 == 0xfec0 >> 6 || high >> 56 == 0xff,
    };
    if is_no_host {
        NONE.with(Reason::V2)
    } else if high >> 57 == 0xfc >> 1 {
        NONE.with(Reason::I10)
    } else {
        NONE
    }
}

/// The first octet, taken from the word: read by itself, the rest of the word would be read from
/// where the stack must not be.
#[inline(always)]
pub(crate) const fn first_octet(address: Source) -> u8 {
    let [high, _] = address.words();
    let [first, ..] = high.to_ne_bytes();
    first
}
