//! A capture whose reader has stopped reading: it costs itself, and nobody else.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firewall::clock::Monotonic;
use http::Method;
use socket2::{Domain, Protocol, Socket, Type};
use xtask::lab::Topology;

use super::{Family, NEIGHBOUR, Site, scanner};
use crate::contract::NOTES;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::{PATIENCE, eventually};

/// What a daemon may grow by while a capture stands still: thousands of events of some hundred octets.
const GROWTH_MAX_KIB: u64 = 16 * 1024;
/// How long the capture may take at most.
const CAPTURE_SECONDS: u64 = 15;
/// Within which a question about nothing much must be answered.
const PROMPTLY: Duration = Duration::from_secs(2);

/// A capture over the admin socket of which only the head is read; gives its status.
fn stalled(gateway: &Gateway, seconds: u64) -> (UnixStream, u16) {
    let mut socket = UnixStream::connect(gateway.scratch.path().join("admin.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let query = format!("reasons=T1,T2,T3,T4,T5&count=100000000&seconds={seconds}");
    write!(socket, "GET /v1/capture?{query} HTTP/1.1\r\nHost: admin\r\n\r\n").unwrap();
    let mut head = [0; 12];
    socket.read_exact(&mut head).unwrap();
    let status = std::str::from_utf8(&head[9..]).unwrap().parse().unwrap();
    (socket, status)
}

/// Events that a capture had no room for.
fn missed(site: &Site) -> u64 {
    let address = site.gateway.status()["metrics"].as_str().unwrap().parse().unwrap();
    let ask = || {
        let request = crate::kit::client::bodiless("GET /metrics");
        crate::kit::client::exchange(address, request).text()
    };
    let metrics = site.topology.gateway.run(ask).unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("firewall_capture_missed_total "));
    line.expect("the counter").parse().unwrap()
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A TCP header with these flags.
fn header(port: u8, offset: u8, flags: u8) -> [u8; 20] {
    let mut header = [0; 20];
    (header[1], header[3], header[12], header[13]) = (port, port, offset << 4, flags);
    header
}

/// Packets of many reasons, each of which is sampled a thousand times a second, until told to stop.
fn flood(over: &AtomicBool) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).unwrap();
    socket.bind(&SocketAddr::new(scanner(Family::V4), 0).into()).unwrap();
    let to = SocketAddr::new(Topology::GATEWAY_V4.into(), 0).into();
    let headers =
        [header(80, 5, 0), header(80, 5, 3), header(80, 5, 6), header(80, 4, 2), header(0, 5, 2)];
    while !over.load(Ordering::Relaxed) {
        for header in &headers {
            // A full queue loses some: there are enough.
            drop(socket.send_to(header, &to));
        }
    }
}

#[test]
fn a_reader_that_stalls_delays_nobody() {
    let test = "kernel_loop::capture::a_reader_that_stalls_delays_nobody";
    let Some(site) = Site::start(test, &Setup::of(NOTES)) else { return };
    let (_stalled, status) = stalled(&site.gateway, CAPTURE_SECONDS);
    assert_eq!(status, 200);
    assert_eq!(missed(&site), 0);
    let before = resident_kib(site.gateway.pid());
    let over = AtomicBool::new(false);
    let lost = std::thread::scope(|scope| {
        scope.spawn(|| site.topology.client.run(|| flood(&over)).unwrap());
        let started = Monotonic::now();
        let mut lost = 0;
        // Some more, once it has begun.
        while lost < 1_000 && Monotonic::now().since(started) < Duration::from_secs(CAPTURE_SECONDS)
        {
            let asked = Monotonic::now();
            site.gateway.admin(&Method::GET, "/v1/status", None);
            site.assert_served(Family::V4, NEIGHBOUR);
            let answered = Monotonic::now().since(asked);
            assert!(answered < PROMPTLY, "after {answered:?}");
            lost = missed(&site);
        }
        over.store(true, Ordering::Relaxed);
        lost
    });
    assert!(lost > 0, "the reader was never behind: {}", site.gateway.status()["events"]);
    let grown = resident_kib(site.gateway.pid()).saturating_sub(before);
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");

    // Four at once, and the one that stands still is over when its time is.
    let mut others = Vec::new();
    eventually("its place is free", || {
        while others.len() < 4 {
            let (other, status) = stalled(&site.gateway, 60);
            if status != 200 {
                return None;
            }
            others.push(other);
        }
        Some(())
    });
    assert_ne!(stalled(&site.gateway, 1).1, 200, "a fifth");
    drop(others);
    // Who goes away leaves at once.
    eventually("the places of those who left", || {
        (stalled(&site.gateway, 1).1 == 200).then_some(())
    });
    site.assert_served(Family::V4, NEIGHBOUR);
}
