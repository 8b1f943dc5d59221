//! IPv4: the header, its options, its addresses, and fragments.

use firewall_common::{Reason, Reasons};

use crate::datagram::{Datagram, ICMP, IGMP, TCP, UDP};
use crate::findings::Findings;
use crate::link::Link;
use crate::options::found;
use crate::packet::{Packet, field};
use crate::source::Source;

pub(crate) const IPV4_LENGTH: usize = 20;

/// Version 4, five words: no options.
pub(crate) const ORDINARY: u8 = 0x45;
const RESERVED: u16 = 0x8000;
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const BROADCAST: u32 = u32::MAX;
/// The longest datagram (RFC 791 3.1).
const DATAGRAM_MAX: usize = 65_535;

/// Checks the header. None where no transport header can be found: the header is malformed, or this
/// is a later fragment, which has none.
#[inline(always)]
pub(crate) fn datagram4<P: Packet + ?Sized>(
    packet: &P,
    header: &[u8; IPV4_LENGTH],
    link: Link,
    findings: &mut Findings,
) -> Option<Datagram> {
    let Link { offset, is_group, .. } = link;
    let [first] = field(header, 0);
    let header_length = usize::from(first & 0x0f) * 4;
    let available = packet.length().saturating_sub(offset);
    if first >> 4 != 4 || header_length < IPV4_LENGTH || header_length > available {
        findings.note(Reason::I1);
        return None;
    }
    // Zero is what a coalescing interface writes when the whole exceeds 65,535 octets.
    let total_length = usize::from(u16::from_be_bytes(field(header, 2)));
    let is_unsized = total_length == 0;
    if !is_unsized && (total_length < header_length || total_length > available) {
        findings.note(Reason::I2);
        return None;
    }
    let [ttl, protocol] = field(header, 8);
    let (source, destination) = (field(header, 12), field(header, 16));
    let to = u32::from_be_bytes(destination);
    let is_to_many = to >> 28 == 0xe || to == BROADCAST;
    let datagram = Datagram {
        protocol,
        offset: offset + header_length,
        end: if is_unsized { packet.length() } else { offset + total_length },
        is_fragment: findings.hidden(false),
        is_unsized: findings.hidden(is_unsized),
        source: Source::v4(source),
        destination: Source::v4(destination),
        is_to_many: findings.hidden(is_to_many),
    };
    if first != ORDINARY {
        list(packet, offset + IPV4_LENGTH, header_length - IPV4_LENGTH, findings);
    }
    if findings.wants(Reasons::NONE.with(Reason::I3)) && !packet.is_sound(offset, header_length) {
        findings.note(Reason::I3);
    }
    if ttl == 0 {
        findings.note(Reason::I8);
    }
    // A last octet of ones is taken for a network's broadcast address, whose prefix is not known.
    if is_group && !is_to_many && to & 0xff != 0xff {
        findings.note(Reason::E4);
    }
    source4(packet, u32::from_be_bytes(source), &datagram, findings);
    let fragment = u16::from_be_bytes(field(header, 6));
    if fragment & !DONT_FRAGMENT == 0 {
        return Some(datagram);
    }
    fragment4(fragment, datagram, findings)
}

/// The checks of options. What is malformed counts as an option: it is none that is understood.
#[inline(always)]
fn list<P: Packet + ?Sized>(packet: &P, offset: usize, length: usize, findings: &mut Findings) {
    let options = packet.options(offset, length);
    if options & found::SOURCE_ROUTE != 0 {
        findings.note(Reason::I4);
    }
    if options & (found::OTHER | found::MALFORMED) != 0 {
        findings.note(Reason::I5);
    }
}

/// The checks of the source.
#[inline(always)]
fn source4<P: Packet + ?Sized>(
    packet: &P,
    source: u32,
    datagram: &Datagram,
    findings: &mut Findings,
) {
    if source != 0 || !speaks_unnamed(packet, datagram, findings) {
        findings.note_all(special4(source));
    }
}

/// The checks that object to a source, by its first octet for most.
#[inline(always)]
pub(crate) const fn special4(source: u32) -> Reasons {
    const NONE: Reasons = Reasons::NONE;
    const MARTIAN: Reasons = NONE.with(Reason::I9);
    const LOCAL: Reasons = NONE.with(Reason::I10);
    const DOCUMENTATION: Reasons = NONE.with(Reason::I14);
    match source >> 24 {
        0 | 127 | 224..=255 => MARTIAN,
        10 => LOCAL,
        100 if source >> 22 == 0x6440_0000 >> 22 => LOCAL,
        169 if source >> 16 == 0xa9fe => LOCAL,
        172 if source >> 20 == 0xac1 => LOCAL,
        192 => match source >> 8 {
            0xc0_0000 | 0xc0_a800..=0xc0_a8ff => LOCAL,
            0xc0_0002 => DOCUMENTATION,
            _ => NONE,
        },
        198 => match source >> 8 {
            0xc6_1200..=0xc6_13ff => LOCAL,
            0xc6_3364 => DOCUMENTATION,
            _ => NONE,
        },
        203 if source >> 8 == 0xcb_0071 => DOCUMENTATION,
        _ => NONE,
    }
}

/// Whether a host that has no address yet may say this: DHCP from client to server (RFC 2131 4.1),
/// and IGMP, whose snooping queriers have none (RFC 4541 2.1.1).
#[inline(always)]
fn speaks_unnamed<P: Packet + ?Sized>(
    packet: &P,
    datagram: &Datagram,
    findings: &Findings,
) -> bool {
    const CLIENT_TO_SERVER: u32 = 0x0044_0043;
    match datagram.protocol {
        IGMP => true,
        UDP => {
            let Some(ports) = packet.read_far::<4>(datagram.offset) else {
                return false;
            };
            // Hidden, or it is compared at once with whether there are any, which reads what a missing
            // one holds: nothing, to the verifier.
            let ports = findings.hide(u64::from(u32::from_be_bytes(ports)));
            ports == u64::from(CLIENT_TO_SERVER)
        }
        _ => false,
    }
}

/// The checks of what is not a whole datagram, or has the reserved flag.
#[inline(always)]
fn fragment4(fragment: u16, mut datagram: Datagram, findings: &mut Findings) -> Option<Datagram> {
    let position = usize::from(fragment & 0x1fff) * 8;
    let has_more = fragment & MORE_FRAGMENTS != 0;
    let length = datagram.available();
    if fragment & RESERVED != 0 {
        findings.note(Reason::I6);
    }
    if position == 0 && !has_more {
        return Some(datagram);
    }
    if fragment & DONT_FRAGMENT != 0 {
        findings.note(Reason::I7);
    }
    if position + length > DATAGRAM_MAX - IPV4_LENGTH {
        findings.note(Reason::F3);
    }
    if has_more && !length.is_multiple_of(8) {
        findings.note(Reason::F4);
    }
    if position != 0 {
        if position == 8 && datagram.protocol == TCP {
            findings.note(Reason::F2);
        }
        return None;
    }
    let least = match datagram.protocol {
        TCP => 16,
        UDP | ICMP => 8,
        _ => 0,
    };
    if length < least {
        findings.note(Reason::F1);
    }
    datagram.is_fragment = findings.hidden(true);
    Some(datagram)
}
