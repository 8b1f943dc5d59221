//! UDP, and the first packet of QUIC.

use firewall_common::Reason;

use crate::datagram::Datagram;
use crate::findings::Findings;
use crate::packet::{Packet, field};
use crate::source::Family;
use crate::verdict::Tables;

const UDP_LENGTH: usize = 8;
/// The least payload of a datagram with a QUIC Initial (RFC 9000 14.1).
const INITIAL_MIN: usize = 1_200;

/// Checks a datagram of UDP.
#[inline(always)]
pub(crate) fn datagram<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    datagram: &Datagram,
    findings: &mut Findings,
) {
    let Some(header) = datagram.read::<UDP_LENGTH, P>(packet, 0) else {
        match (datagram.is_fragment.is_set(), datagram.source.family) {
            (false, _) => findings.note(Reason::U1),
            (true, Family::V6) => findings.note(Reason::V7),
            (true, _) => {}
        }
        return;
    };
    let (from, to) = (u16::from_be_bytes(field(&header, 0)), u16::from_be_bytes(field(&header, 2)));
    let length = usize::from(u16::from_be_bytes(field(&header, 4)));
    let is_jumbo = length == 0 && datagram.is_unsized.is_set();
    let is_long = length > datagram.available() && !datagram.is_fragment.is_set();
    if (length < UDP_LENGTH && !is_jumbo) || is_long {
        return findings.note(Reason::U1);
    }
    let config = tables.config();
    let is_served = config.serves(to);
    let has_quic = config.serves_quic();
    if to == 0 || (from == 0 && is_served && has_quic) {
        findings.note(Reason::U2);
    }
    if is_served {
        if datagram.is_to_many.is_set() {
            findings.note(Reason::I12);
        }
        if !has_quic {
            findings.note(Reason::U6);
        } else if datagram.is_fragment.is_set() {
            findings.note(Reason::F5);
        } else if length < UDP_LENGTH + INITIAL_MIN && !is_jumbo && is_initial(packet, datagram) {
            findings.note(Reason::U5);
        }
    }
}

/// Whether the datagram begins with an Initial of QUIC, or with a packet of a version unknown to us:
/// the long header with its version is the same in all of them (RFC 8999 5.1), and a server answers
/// neither if they are short (RFC 9000 6.1).
#[inline(always)]
fn is_initial<P: Packet + ?Sized>(packet: &P, datagram: &Datagram) -> bool {
    const LONG: u8 = 0x80;
    const TYPE: u8 = 0x30;
    const VERSION_2: u32 = 0x6b33_43cf;
    // From the length on, so that the version stands at a word's boundary.
    let Some(header) = datagram.read::<8, P>(packet, UDP_LENGTH - 3) else {
        return false;
    };
    let ([first], version) = (field(&header, 3), field(&header, 4));
    if first & LONG == 0 {
        return false;
    }
    match u32::from_be_bytes(version) {
        // Version negotiation, which servers send.
        0 => false,
        1 => first & TYPE == 0,
        VERSION_2 => first & TYPE == 0x10,
        _ => true,
    }
}
