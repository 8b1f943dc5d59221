//! TCP: the header, its flags, and the options of a SYN.

use firewall_common::Reason;

use crate::datagram::Datagram;
use crate::findings::Findings;
use crate::options::found;
use crate::packet::{Packet, field};
use crate::source::Family;
use crate::verdict::Tables;

pub(crate) const TCP_LENGTH: usize = 20;
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 1 << 1;
pub(crate) const RST: u8 = 1 << 2;
const PSH: u8 = 1 << 3;
pub(crate) const ACK: u8 = 1 << 4;
pub(crate) const URG: u8 = 1 << 5;

/// Checks a segment. The flags of congestion control are never looked at (RFC 3168, RFC 9768), nor
/// is the checksum, which interfaces leave to be filled in.
#[inline(always)]
pub(crate) fn segment<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    datagram: &Datagram,
    findings: &mut Findings,
) {
    let available = datagram.available();
    let Some(header) = datagram.read::<TCP_LENGTH, P>(packet, 0) else {
        return cut(datagram, findings);
    };
    let [words, flags] = field(&header, 12);
    let header_length = usize::from(words >> 4) * 4;
    if header_length < TCP_LENGTH {
        return findings.note(Reason::T1);
    }
    if header_length > available {
        return cut(datagram, findings);
    }
    let (from, to) = (u16::from_be_bytes(field(&header, 0)), u16::from_be_bytes(field(&header, 2)));
    if from == 0 || to == 0 {
        findings.note(Reason::T2);
    }
    if datagram.is_to_many.is_set() {
        findings.note(Reason::I12);
    }
    // Nearly every segment has ACK, and none of the others.
    if flags & (SYN | RST | URG | ACK) != ACK {
        unusual(tables, to, flags, findings);
        if flags & SYN != 0 {
            opening(packet, tables, datagram, &header, findings);
        }
    }
}

/// The header ends beyond the datagram, which the first fragment of an IPv4 datagram may do.
#[inline(always)]
fn cut(datagram: &Datagram, findings: &mut Findings) {
    match (datagram.is_fragment.is_set(), datagram.source.family) {
        (false, _) => findings.note(Reason::T1),
        (true, Family::V6) => findings.note(Reason::V7),
        (true, _) => {}
    }
}

#[inline(always)]
fn unusual<T: Tables>(tables: &T, to: u16, flags: u8, findings: &mut Findings) {
    const XMAS: u8 = FIN | PSH | URG;
    if flags & (ACK | SYN | RST) == 0 {
        findings.note(Reason::T3);
    }
    if flags & (SYN | FIN) == SYN | FIN {
        findings.note(Reason::T4);
    }
    if flags & (SYN | RST) == SYN | RST {
        findings.note(Reason::T5);
    }
    if flags & (RST | FIN) == RST | FIN || flags & (XMAS | ACK) == XMAS | ACK {
        findings.note(Reason::T6);
    }
    if flags & URG != 0 && tables.config().serves(to) {
        findings.note(Reason::T7);
    }
}

/// The checks of a SYN, or of a SYN with ACK.
#[inline(always)]
fn opening<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    datagram: &Datagram,
    header: &[u8; TCP_LENGTH],
    findings: &mut Findings,
) {
    let [words, flags] = field(header, 12);
    let header_length = usize::from(words >> 4) * 4;
    let is_served = tables.config().serves(u16::from_be_bytes(field(header, 2)));
    if flags & ACK != 0 {
        if is_served {
            findings.note(Reason::T13);
        }
    } else {
        let (sequence, acknowledged) = (field::<4>(header, 4), field::<4>(header, 8));
        let window = field::<2>(header, 14);
        if sequence == [0; 4] || acknowledged != [0; 4] || window == [0; 2] {
            findings.note(Reason::T12);
        }
        if datagram.is_fragment.is_set() && is_served {
            findings.note(Reason::F6);
        }
        if datagram.available() > header_length {
            findings.note(Reason::T9);
        }
    }
    let options = packet.options(datagram.offset + TCP_LENGTH, header_length - TCP_LENGTH);
    if options & (found::MALFORMED | found::SEGMENT_LENGTH) != 0 {
        findings.note(Reason::T10);
    }
    if options & found::TINY_SEGMENT != 0 {
        findings.note(Reason::T11);
    }
    if options & found::SMALL_SEGMENT != 0 {
        findings.note(Reason::T12);
    }
    if options & found::FAST_OPEN != 0 {
        findings.withdraw(Reason::T9);
    }
}
