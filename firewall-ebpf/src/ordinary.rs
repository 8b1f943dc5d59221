//! Nearly every packet: whether it is one that no check can object to, by as few comparisons as that
//! takes. What is not ordinary is inspected by every check; what is, pays for none of them.

use firewall_common::{Config, Reason, Reasons, own_bit};

use crate::datagram::TCP;
use crate::findings::Findings;
use crate::ipv4::{DONT_FRAGMENT, IPV4_LENGTH, ORDINARY, special4};
use crate::ipv6::{IPV6_LENGTH, first_octet, special6};
use crate::link::Link;
use crate::packet::{Packet, field};
use crate::source::Source;
use crate::tcp::{ACK, RST, SYN, TCP_LENGTH, URG};

/// The checks that look at what is ordinary, too.
const THOROUGH: Reasons = Reasons::NONE.with(Reason::I3).with(Reason::I13);

/// Whether an IPv4 packet is an ordinary segment from and to an ordinary address.
#[inline(always)]
pub(crate) fn is_ordinary4<P: Packet + ?Sized>(
    packet: &P,
    header: &[u8; IPV4_LENGTH],
    link: Link,
    config: &Config,
    findings: &Findings,
) -> bool {
    let Link { offset, is_group, .. } = link;
    let ([first], [ttl, protocol]) = (field(header, 0), field(header, 8));
    let fragment = u16::from_be_bytes(field(header, 6));
    let (from, to) = (field::<4>(header, 12), field::<4>(header, 16));
    let [to_first, ..] = to;
    let total_length = usize::from(u16::from_be_bytes(field(header, 2)));
    let is_plain = first == ORDINARY
        && protocol == TCP
        && fragment & !DONT_FRAGMENT == 0
        && ttl != 0
        && !is_group
        && total_length <= packet.length().saturating_sub(offset);
    is_plain
        && !findings.wants(special4(u32::from_be_bytes(from)))
        && to_first < 224
        && from != to
        && is_unasked(Source::v4(from), config, findings)
        && is_established(packet, offset + IPV4_LENGTH, offset + total_length)
}

/// The same of an IPv6 packet.
#[inline(always)]
pub(crate) fn is_ordinary6<P: Packet + ?Sized>(
    packet: &P,
    header: &[u8; IPV6_LENGTH],
    link: Link,
    config: &Config,
    findings: &Findings,
) -> bool {
    const LINK_LOCAL: u64 = 0xfe80;
    let Link { offset, is_group, .. } = link;
    let ([first], [protocol, hop_limit]) = (field(header, 0), field(header, 6));
    let (from, to) = (Source::v6(field(header, 8)), Source::v6(field(header, 24)));
    let [from_high, from_low] = from.words().map(u64::from_be);
    let start = offset + IPV6_LENGTH;
    let payload_length = usize::from(u16::from_be_bytes(field(header, 4)));
    first >> 4 == 6
        && protocol == TCP
        && hop_limit != 0
        && !is_group
        && payload_length <= packet.length().saturating_sub(start)
        && !findings.wants(special6(from_high, from_low))
        && from_high >> 54 != LINK_LOCAL >> 6
        && first_octet(to) != 0xff
        && from != to
        && is_unasked(from, config, findings)
        && is_established(packet, start, start + payload_length)
}

/// Whether no check that looks at everything is on, and the source is surely none of ours.
#[inline(always)]
fn is_unasked(source: Source, config: &Config, findings: &Findings) -> bool {
    !findings.wants(THOROUGH) && config.own & own_bit(source.words()) == 0
}

/// Whether from `offset` to `end` there is a segment with ACK and without SYN, RST or URG.
#[inline(always)]
fn is_established<P: Packet + ?Sized>(packet: &P, offset: usize, end: usize) -> bool {
    if end < offset + TCP_LENGTH {
        return false;
    }
    let Some(header) = packet.read::<TCP_LENGTH>(offset) else {
        return false;
    };
    let [words, flags] = field(&header, 12);
    let header_length = usize::from(words >> 4) * 4;
    flags & (SYN | RST | URG | ACK) == ACK
        && header_length >= TCP_LENGTH
        && offset + header_length <= end
        && field::<2>(&header, 0) != [0; 2]
        && field::<2>(&header, 2) != [0; 2]
}
