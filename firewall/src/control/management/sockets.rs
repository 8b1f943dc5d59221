//! The kernel's tables of routes and TCP sockets, as /proc shows them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `TCP_ESTABLISHED` of the kernel's `include/net/tcp_states.h`.
const ESTABLISHED: &str = "01";
/// `RTF_GATEWAY` of the kernel's `include/uapi/linux/route.h`.
const RTF_GATEWAY: u32 = 2;

/// An address as the kernel prints one in /proc/net: each 32-bit word in hexadecimal, of the host's
/// byte order, though its octets are in the network's.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |word: &str| u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(hex)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (place, index) in octets.chunks_exact_mut(4).zip(0..4) {
                place.copy_from_slice(&word(hex.get(index * 8..index * 8 + 8)?)?);
            }
            Some(IpAddr::from(octets).to_canonical())
        }
        _ => None,
    }
}

/// The peers of established connections to one of the local ports, in a `/proc/net/tcp` or `tcp6`.
pub(super) fn established(table: &str, local_ports: &[u16]) -> Vec<IpAddr> {
    let peer = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (_, local_port) = fields.next()?.split_once(':')?;
        let (peer, _) = fields.next()?.split_once(':')?;
        let is_established = fields.next()? == ESTABLISHED;
        let local_port = u16::from_str_radix(local_port, 16).ok()?;
        (is_established && local_ports.contains(&local_port)).then(|| address(peer))?
    };
    table.lines().skip(1).filter_map(peer).collect()
}

/// The gateways of default routes in a `/proc/net/route`.
pub(super) fn gateways_v4(table: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, destination, gateway, flags, _, _, _, mask, ..] = *fields else { return None };
        let leads_on = u32::from_str_radix(flags, 16).ok()? & RTF_GATEWAY != 0;
        (destination == "00000000" && mask == "00000000" && leads_on).then(|| address(gateway))?
    };
    table.lines().skip(1).filter_map(gateway).collect()
}

/// The gateways of default routes in a `/proc/net/ipv6_route`, whose addresses are plain octets.
pub(super) fn gateways_v6(table: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, length, _, _, gateway, _, _, _, flags, ..] = *fields else { return None };
        let is_default = length == "00" && destination.bytes().all(|digit| digit == b'0');
        let leads_on = u32::from_str_radix(flags, 16).ok()? & RTF_GATEWAY != 0;
        let gateway = u128::from_str_radix(gateway, 16).ok()?;
        (is_default && leads_on).then(|| IpAddr::V6(Ipv6Addr::from(gateway)))
    };
    table.lines().filter_map(gateway).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(addresses: &[IpAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    /// A word as this host prints it, whatever its byte order.
    fn word(octets: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(octets))
    }

    fn socket(local: &str, port: u16, peer: &str, state: &str) -> String {
        format!("   0: {local}:{port:04X} {peer}:C350 {state} 00000000:00000000 00:00000000 0\n")
    }

    #[test]
    fn peers_of_established_connections_to_the_port() {
        let (own, peer) = (word([10, 0, 0, 1]), word([192, 0, 2, 7]));
        let table = "  sl  local_address rem_address   st\n".to_owned()
            + &socket(&own, 22, &peer, "01")
            + &socket(&own, 22, &word([192, 0, 2, 8]), "06")
            + &socket(&own, 443, &word([192, 0, 2, 9]), "01")
            + &socket(&own, 22, &word([0, 0, 0, 0]), "0A")
            + "garbage\n   1: x\n";
        assert_eq!(texts(&established(&table, &[22])), ["192.0.2.7"]);
        assert_eq!(texts(&established(&table, &[443, 2222])), ["192.0.2.9"]);
        assert_eq!(texts(&established(&table, &[])), [""; 0]);
    }

    #[test]
    fn ipv6_peers_and_ipv4_mapped_ones() {
        let words = |octets: [u8; 16]| -> String {
            octets.chunks_exact(4).map(|four| word(four.try_into().unwrap())).collect()
        };
        let own = words([0; 16]);
        let v6 = words("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        let mapped = words("::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets());
        let table =
            "head\n".to_owned() + &socket(&own, 22, &v6, "01") + &socket(&own, 22, &mapped, "01");
        assert_eq!(texts(&established(&table, &[22])), ["2001:db8::7", "192.0.2.7"]);
    }

    #[test]
    fn default_gateways_alone() {
        let (gateway, other) = (word([10, 0, 0, 1]), word([10, 9, 0, 1]));
        let row = |destination: &str, gateway: &str, flags: &str, mask: &str| {
            format!("eth0\t{destination}\t{gateway}\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0\n")
        };
        let table = "Iface\tDestination\tGateway\tFlags\n".to_owned()
            + &row("00000000", &gateway, "0003", "00000000")
            + &row(&word([10, 8, 0, 0]), &other, "0003", &word([255, 255, 0, 0]))
            + &row(&word([0; 4]), &word([0; 4]), "0001", "00000000")
            + "short\t0\n";
        assert_eq!(texts(&gateways_v4(&table)), ["10.0.0.1"]);

        let zero = "0".repeat(32);
        let row = |destination: &str, length: &str, gateway: &str, flags: &str| {
            format!("{destination} {length} {zero} 00 {gateway} 00000400 1 0 {flags} eth0\n")
        };
        let gateway = "fe800000000000000000000000000001";
        let table = row(&zero, "00", gateway, "00000003")
            + &row("20010db8000000000000000000000000", "40", gateway, "00000003")
            // The route that refuses what no other takes.
            + &row(&zero, "00", &zero, "00200200");
        assert_eq!(texts(&gateways_v6(&table)), ["fe80::1"]);
    }
}
