//! Whether any socket waits for a packet: checks that are off unless asked for, because a lookup
//! costs as much as all others together.

use firewall_common::{Reason, Reasons};

use crate::chain::{Chain, found};
use crate::datagram::{TCP, UDP};
use crate::ipv4::IPV4_LENGTH;
use crate::ipv6::IPV6_LENGTH;
use crate::link::{Link, Network};
use crate::packet::{Packet, field};
use crate::source::Source;
use crate::tcp::{ACK, FIN, RST, SYN};
use crate::verdict::{Flow, Socket, Tables};

/// The checks that ask for a socket.
pub(crate) const ASKING: Reasons =
    Reasons::NONE.with(Reason::T14).with(Reason::U3).with(Reason::U4);

/// Checks a packet of TCP or UDP that is whole and for one host; by itself, for it is seldom asked for,
/// and everything that it needs is read anew.
#[inline(always)]
pub fn unawaited<P: Packet + ?Sized, T: Tables>(packet: &P, tables: &T, link: Link) -> Reasons {
    let none = Reasons::NONE;
    let found = match link.network {
        Network::Ipv4 => flow4(packet, link.offset),
        Network::Ipv6 => flow6(packet, link.offset),
        Network::Other => None,
    };
    let Some((flow, flags)) = found else {
        return none;
    };
    let is_awaited = match tables.socket(&flow) {
        Socket::Connected => true,
        // What answers a SYN cookie is an ACK that no other socket knows.
        Socket::Bound => flow.protocol == UDP || flags & (ACK | RST | FIN) == ACK,
        Socket::None => false,
    };
    if is_awaited {
        return none;
    }
    if flow.protocol == TCP {
        return none.with(Reason::T14);
    }
    let from = u16::from_be_bytes(field(&flow.ports, 0));
    let unexpected = none.with(Reason::U4);
    if amplifies(from) { unexpected.with(Reason::U3) } else { unexpected }
}

/// Who speaks to whom, and the flags of a segment.
#[inline(always)]
fn flow4<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<(Flow, u8)> {
    let header = packet.read_far::<IPV4_LENGTH>(offset)?;
    let ([first], [protocol]) = (field(&header, 0), field(&header, 9));
    let fragment = u16::from_be_bytes(field(&header, 6));
    let [to_first] = field(&header, 16);
    if fragment & 0x3fff != 0 || to_first >= 224 {
        return None;
    }
    let (source, destination) = (field(&header, 12), field(&header, 16));
    let (source, destination) = (Source::v4(source), Source::v4(destination));
    flow(packet, offset + usize::from(first & 0x0f) * 4, protocol, source, destination)
}

#[inline(always)]
fn flow6<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<(Flow, u8)> {
    let header = packet.read_far::<IPV6_LENGTH>(offset)?;
    let [next_header] = field(&header, 6);
    let (source, destination) = (Source::v6(field(&header, 8)), Source::v6(field(&header, 24)));
    let [high, _] = destination.words();
    let chain = Chain::of(packet, next_header, offset + IPV6_LENGTH, packet.length());
    if u64::from_be(high) >> 56 == 0xff || chain.holds(found::FRAGMENT) {
        return None;
    }
    flow(packet, chain.offset(), chain.protocol()?, source, destination)
}

#[inline(always)]
fn flow<P: Packet + ?Sized>(
    packet: &P,
    offset: usize,
    protocol: u8,
    source: Source,
    destination: Source,
) -> Option<(Flow, u8)> {
    let mut flags = 0;
    if protocol == TCP {
        let [_, found, ..] = packet.read_far::<4>(offset + 12)?;
        flags = found;
    }
    if !matches!(protocol, TCP | UDP) || flags & SYN != 0 {
        return None;
    }
    let ports = packet.read_far::<4>(offset)?;
    Some((Flow { protocol, source, destination, ports }, flags))
}

/// Whether a service of this port answers more than it is asked: chargen, DNS, TFTP, portmap, NTP,
/// NETBIOS, SNMP, CLDAP, RIP, SSDP, ARMS, WS-Discovery, multicast DNS, CoAP, ubiquiti, memcached.
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
