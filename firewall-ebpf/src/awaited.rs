//! Whether any socket waits for a packet: checks that are off unless asked for, because a lookup
//! costs as much as all others together.

use firewall_common::{Reason, Reasons};

use crate::datagram::{Datagram, TCP, UDP};
use crate::findings::Findings;
use crate::packet::{Packet, field};
use crate::tcp::{ACK, FIN, RST, SYN};
use crate::verdict::{Flow, Socket, Tables};

/// The checks that ask for a socket.
pub(crate) const ASKING: Reasons =
    Reasons::NONE.with(Reason::T14).with(Reason::U3).with(Reason::U4);

/// Checks a datagram of TCP or UDP that is whole and for one host.
#[inline(always)]
pub(crate) fn datagram<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    datagram: &Datagram,
    findings: &mut Findings,
) {
    let is_tcp = datagram.protocol == TCP;
    if datagram.is_fragment.is_set()
        || datagram.is_to_many.is_set()
        || !(is_tcp || datagram.protocol == UDP)
    {
        return;
    }
    let Some(ports) = packet.read_far::<4>(datagram.offset) else {
        return;
    };
    // The flags are in the fourteenth octet of a segment; of UDP they are not looked at.
    let flags = packet.read_far::<14>(datagram.offset).map_or(0, |header| {
        let [flags] = field(&header, 13);
        flags
    });
    if is_tcp && flags & SYN != 0 {
        return;
    }
    let Datagram { protocol, source, destination, .. } = *datagram;
    let is_awaited = match tables.socket(&Flow { protocol, source, destination, ports }) {
        Socket::Connected => true,
        // What answers a SYN cookie is an ACK that no other socket knows.
        Socket::Bound => flags & (ACK | RST | FIN) == ACK,
        Socket::None => false,
    };
    if is_awaited {
        return;
    }
    if is_tcp {
        return findings.note(Reason::T14);
    }
    findings.note(Reason::U4);
    if amplifies(u16::from_be_bytes(field(&ports, 0))) {
        findings.note(Reason::U3);
    }
}

/// Whether a service of this port answers more than it is asked: chargen, DNS, TFTP, portmap, NTP,
/// NetBIOS, SNMP, CLDAP, RIP, SSDP, ARMS, WS-Discovery, mDNS, CoAP, ubiquiti, memcached.
#[inline(always)]
fn amplifies(port: u16) -> bool {
    matches!(
        port,
        19 | 53
            | 69
            | 111
            | 123
            | 137
            | 161
            | 389
            | 427
            | 520
            | 1900
            | 3283
            | 3702
            | 5353
            | 5683
            | 10001
            | 11211
    )
}
