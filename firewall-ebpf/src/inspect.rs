//! Every check of a packet that is not ordinary.

use firewall_common::{Reason, Reasons};

use crate::datagram::{ICMP, ICMPV6, TCP, UDP, addresses};
use crate::findings::Findings;
use crate::ipv4::{IPV4_LENGTH, datagram4};
use crate::ipv6::{IPV6_LENGTH, datagram6};
use crate::link::{Link, Network};
use crate::packet::Packet;
use crate::source::Family;
use crate::verdict::Tables;
use crate::{icmp, tcp, udp};

/// The checks that object to what begins behind the link layer.
#[inline(always)]
pub fn inspect<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    link: Link,
    mut findings: Findings,
) -> Reasons {
    let found = match link.network {
        Network::Ipv4 => packet
            .read_far::<IPV4_LENGTH>(link.offset)
            .and_then(|header| datagram4(packet, &header, link, &mut findings)),
        Network::Ipv6 => packet
            .read_far::<IPV6_LENGTH>(link.offset)
            .and_then(|header| datagram6(packet, &header, link, &mut findings)),
        Network::Other => None,
    };
    let Some(datagram) = found else {
        return findings.found();
    };
    addresses(tables, &datagram, &mut findings);
    match (datagram.source.family, datagram.protocol) {
        (_, TCP) => tcp::segment(packet, tables, &datagram, &mut findings),
        (_, UDP) => udp::datagram(packet, tables, &datagram, &mut findings),
        (Family::V4, ICMP) | (Family::V6, ICMPV6) => {
            icmp::message(packet, &datagram, &mut findings);
        }
        _ => findings.note(Reason::G1),
    }
    findings.found()
}
