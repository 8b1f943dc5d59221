//! Packets in a victim's name, over the cable: nobody is banned by them, and the victim is served.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use xtask::lab::Topology;

use super::{Family, NEIGHBOUR, Site};
use crate::contract::NOTES;
use crate::kit::eventually;
use crate::kit::gateway::Setup;

/// Of twenty packets each: bounded, and over within a second or two.
const ROUNDS: u32 = 1_500;

/// An IPv4 packet; the kernel fills in length and checksum.
fn packet(source: Ipv4Addr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 1];
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(Topology::GATEWAY_V4.octets());
    packet.extend(payload);
    packet
}

fn segment(flags: u8) -> Vec<u8> {
    let mut segment = 40_000_u16.to_be_bytes().to_vec();
    segment.extend(8_080_u16.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

/// SYN, scans, UDP, malformed and fragmented packets, ICMP.
fn packets(source: Ipv4Addr) -> Vec<Vec<u8>> {
    let [syn, null, xmas, both] = [2, 0, 0x29, 3].map(segment);
    let datagram = [0x9c, 0x40, 0x1f, 0x90, 0, 8, 0, 0];
    vec![
        packet(source, 6, 0, &syn),
        packet(source, 6, 0, &null),
        packet(source, 6, 0, &xmas),
        packet(source, 6, 0, &both),
        packet(source, 6, 0, &syn[..12]),
        packet(source, 6, 0x2000, &syn[..8]),
        packet(source, 17, 0, &datagram),
        packet(source, 17, 0, &datagram[..6]),
        packet(source, 1, 0, &[5, 0, 0, 0, 10, 77, 0, 9]),
        packet(source, 1, 0, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]),
    ]
}

fn flood(victims: &[Ipv4Addr]) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
    socket.set_header_included_v4(true).unwrap();
    let to = SocketAddr::new(Topology::GATEWAY_V4.into(), 0).into();
    let packets: Vec<_> = victims.iter().flat_map(|victim| packets(*victim)).collect();
    for _ in 0..ROUNDS {
        for packet in &packets {
            // A full queue loses some: there are enough.
            drop(socket.send_to(packet, &to));
        }
    }
}

#[test]
fn a_flood_in_a_victims_name_bans_nobody() {
    let test = "kernel_loop::evidence::a_flood_in_a_victims_name_bans_nobody";
    let Some(site) = Site::start(test, &Setup::of(NOTES)) else { return };
    let victim = Topology::client_v4(NEIGHBOUR);
    let elsewhere = Ipv4Addr::new(8, 8, 8, 8);
    site.topology.client.run(|| flood(&[victim, elsewhere])).unwrap();
    eventually("drops of the flood come up as events", || {
        let events = site.gateway.status()["events"]["T4"].as_u64();
        events.filter(|events| *events > 0)
    });
    for check in ["T1", "T3", "T4", "F1", "U1", "U6"] {
        eventually("the flood is counted", || {
            let dropped = site.gateway.status()["packets"][check]["packets"].as_u64();
            dropped.filter(|dropped| *dropped > 1_000)
        });
    }
    let status = site.gateway.status();
    assert_eq!(status["bans"], 0, "{status}");
    assert!(site.gateway.bans().is_empty());
    // Its own requests are answered, although packets in its name were dropped.
    site.assert_served(Family::V4, NEIGHBOUR);
}

/// A check is set while the program runs, by the command; a reload of other modes sets those.
#[test]
fn checks_are_set_while_packets_come() {
    let test = "kernel_loop::evidence::checks_are_set_while_packets_come";
    let Some(site) = Site::start(test, &Setup::of(NOTES)) else { return };
    let scan = |reason: &str, counter: &str| {
        let count = || site.gateway.status()["packets"][reason][counter].as_u64().unwrap();
        let before = count();
        let victim = Topology::client_v4(NEIGHBOUR);
        let send = || {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
            socket.set_header_included_v4(true).unwrap();
            let to = SocketAddr::new(Topology::GATEWAY_V4.into(), 0).into();
            socket.send_to(&packet(victim, 6, 0, &segment(0)), &to).unwrap();
        };
        site.topology.client.run(send).unwrap();
        eventually("the packet is counted", || (count() > before).then_some(()));
    };
    scan("T3", "packets");
    let (status, said) =
        site.gateway.cli(&["checks", "set", "T3", "observe", "--interface", "pub*"]);
    assert_eq!(status, Some(0), "{said}");
    scan("T3", "observed_packets");
    let (status, said) = site.gateway.cli(&["checks", "list"]);
    assert!(status == Some(0) && said.contains("public0=observe"), "{said}");
    let (status, _) = site.gateway.cli(&["checks", "set", "T99", "observe"]);
    assert_ne!(status, Some(0));
    let (status, said) = site.gateway.cli(&["checks", "set", "T3", "drop"]);
    assert_eq!(status, Some(0), "{said}");
    scan("T3", "packets");
}
