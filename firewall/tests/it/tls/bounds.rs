//! Handshakes that come to nothing: slow, huge, many.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

use super::{NAME, Served, refused};
use crate::kit::PATIENCE;
use crate::kit::client::Client;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A record that says to hold so much of a message that says to be so long.
fn hello(record: u16, message: u32) -> Vec<u8> {
    let [high, low] = record.to_be_bytes();
    let [_, a, b, c] = message.to_be_bytes();
    vec![22, 3, 1, high, low, 1, a, b, c]
}

#[test]
fn a_slow_handshake_is_ended() {
    let served = Served::with("", "", "tls_handshake_timeout = \"300ms\"", |_, _| String::new());
    let mut stream = TcpStream::connect(served.gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut octets = hello(600, 596).into_iter().chain(std::iter::repeat(0));
    // An octet at a time, and never enough; the timeout is of the whole.
    let ended = loop {
        let octet = [octets.next().unwrap()];
        if stream.write_all(&octet).is_err() {
            break true;
        }
        std::thread::park_timeout(Duration::from_millis(20));
        stream.set_nonblocking(true).unwrap();
        let read = stream.read(&mut [0; 16]);
        stream.set_nonblocking(false).unwrap();
        match read {
            Ok(0) => break true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) => break false,
            Err(_reset) => break true,
        }
    };
    assert!(ended, "without an answer");
    served.counts(&refused("tls-timeout"));
    assert_eq!(served.get(&served.client(), NAME), 204);
}

#[test]
fn a_huge_hello_is_refused_by_its_length() {
    let served = Served::start("");
    for octets in [hello(16_384, 64 << 10), hello(0x4001, 1000), hello(0, 0)] {
        let mut client = Client::connect(served.gateway.address);
        client.send(&octets);
        // An alert or nothing, and the end; no more of it was waited for.
        drop(client.closed());
    }
    served.counts("firewall_connections_refused_total{reason=\"tls-hello\"} 3");
    assert_eq!(served.get(&served.client(), NAME), 204);
}

#[test]
fn handshakes_in_hand_are_bounded() {
    let limits = "tls_handshakes_per_source = 2\ntls_handshake_timeout = \"20s\"";
    let served = Served::with("", "", limits, |_, _| String::new());
    // Begun, and not gone on with: more than both workers take of one source.
    // One that is turned away may learn of it while it connects.
    let begun = |_| {
        let mut client = Client::connect_from(LOCALHOST, served.gateway.address).ok()?;
        client.send(hello(600, 596));
        Some(client)
    };
    let mut held: Vec<Client> = (0..40).filter_map(begun).collect();
    let line = "firewall_connections_refused_total{reason=\"tls-handshakes-source\"} 36";
    served.counts(line);
    // Another source is served meanwhile.
    let other = "127.0.0.2".parse().unwrap();
    let stream = Client::connect_from(other, served.gateway.address);
    drop(stream.unwrap());
    held.clear();
    crate::kit::eventually("places are given back", || {
        served.client().get(served.gateway.address, NAME).ok()
    });
}

#[test]
fn silent_connections_keep_nobody_out() {
    let limits = "tls_handshakes_per_worker = 2\ntls_handshake_timeout = \"60s\"";
    let served = Served::with("", "", limits, |_, _| String::new());
    // More than both workers take, and not an octet.
    let begun = |_| Client::connect_from(LOCALHOST, served.gateway.address).ok();
    let held: Vec<Client> = (0..40).filter_map(begun).collect();
    served.counts("firewall_connections_refused_total{reason=\"tls-handshakes-full\"} 36");
    for _ in 0..6 {
        assert_eq!(served.get(&served.client(), NAME), 204);
    }
    drop(held);
}

/// The time of what follows a handshake runs from its end.
#[test]
fn slowness_behind_a_handshake() {
    let limits = "head_timeout = \"600ms\"\nbody_timeout = \"600ms\"\nidle_timeout = \"500ms\"";
    let served = Served::with("", "", limits, |_, _| String::new());
    let connect = || served.client().connect(served.gateway.address, NAME);
    let mut slow = connect();
    slow.write_all(b"GET /page HTTP/1.1\r\nHost: ").unwrap();
    let mut status = [0; 12];
    slow.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 408");
    crate::kit::eventually("it is logged", || {
        let log = served.gateway.access_log();
        log.iter().any(|line| line["rule"] == "framing.head-timeout").then_some(())
    });
    let mut silent = connect();
    silent.conn.complete_io(&mut silent.sock).unwrap();
    served.counts("firewall_connections_ended_total{reason=\"silent\"} 1");
    let mut idle = connect();
    super::ask(&mut idle, NAME, "/page").unwrap();
    assert!(matches!(idle.read(&mut status), Ok(0)), "a proper end");
    served.counts("firewall_connections_ended_total{reason=\"idle\"} 1");
}

#[test]
fn old_versions_are_refused() {
    let served = Served::start("");
    // TLS 1.1, and nothing newer: random, no session, one suite, no compression.
    let body = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0]].concat();
    let length = u8::try_from(body.len()).unwrap();
    let octets = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length], &body[..]].concat();
    let mut client = Client::connect(served.gateway.address);
    client.send(octets);
    let answer = client.closed();
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
    assert_eq!(answer.last(), Some(&70), "protocol_version: {answer:?}");
    served.counts(&refused("tls-failed"));
    served.counts("firewall_tls_client_hellos_total{offered=\"t11i\"} 1");
}
