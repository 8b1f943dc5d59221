//! A capture whose reader has stopped reading, or is slow: it costs itself, and nobody else.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
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

/// How long the slow reader's capture takes, and what it reads meanwhile.
const SLOW_SECONDS: u64 = 5;
const SLOW_OCTETS: usize = 4096;
const SLOW_EVERY: Duration = Duration::from_millis(50);

/// What a capture's file says: its packets, and the losses of all interfaces, by what it says last of each.
struct File {
    packets: u64,
    behind: u64,
    in_kernel: u64,
}

impl File {
    fn read(octets: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes(octets[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(octets[at..at + 8].try_into().unwrap());
        let (mut packets, mut losses, mut at) = (0, BTreeMap::new(), 0);
        while at < octets.len() {
            let length = word(at + 4) as usize;
            assert_eq!(word(at + length - 4) as usize, length, "the block at {at} is whole");
            match word(at) {
                6 => packets += 1,
                // Interface, time, and two options of eight octets each.
                5 => {
                    assert_eq!((word(at + 20), word(at + 32)), (8 << 16 | 5, 8 << 16 | 7));
                    losses.insert(word(at + 8), (long(at + 24), long(at + 36)));
                }
                _ => {}
            }
            at += length;
        }
        let behind = losses.values().map(|(behind, _)| behind).sum();
        let in_kernel = losses.values().map(|(_, in_kernel)| in_kernel).sum();
        Self { packets, behind, in_kernel }
    }
}

#[test]
fn a_slow_reader_is_told_what_it_lost() {
    let test = "kernel_loop::capture::a_slow_reader_is_told_what_it_lost";
    let Some(site) = Site::start(test, &Setup::of(NOTES)) else { return };
    let before = resident_kib(site.gateway.pid());
    let duration = format!("{SLOW_SECONDS}s");
    let mut command = site.gateway.command(&["capture", "-w", "-", "--for", &duration]);
    let count = u32::MAX.to_string();
    command.args(["--count", &count, "--reason", "T1,T2,T3,T4,T5"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Monotonic::now();
    let mut child = command.spawn().unwrap();
    let (mut out, mut octets) = (child.stdout.take().unwrap(), Vec::new());
    let over = AtomicBool::new(false);
    let (grown, missed_before_end) = std::thread::scope(|scope| {
        scope.spawn(|| site.topology.client.run(|| flood(&over)).unwrap());
        let mut portion = [0; SLOW_OCTETS];
        let mut grown = 0;
        while Monotonic::now().since(started) < Duration::from_secs(SLOW_SECONDS + 2) {
            let read = out.read(&mut portion).unwrap();
            octets.extend(&portion[..read]);
            std::thread::sleep(SLOW_EVERY);
            grown = grown.max(resident_kib(site.gateway.pid()).saturating_sub(before));
        }
        // The flood outlasts the capture: what comes after its end is none of its losses.
        let missed = missed(&site);
        over.store(true, Ordering::Relaxed);
        (grown, missed)
    });
    out.read_to_end(&mut octets).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");

    let File { packets, behind, in_kernel } = File::read(&octets);
    assert!(packets > 0 && behind > 0, "{packets} packets, {behind} lost");
    let expected = format!(
        "lost: {behind} samples that came too fast, {in_kernel} that the kernel had no room for"
    );
    assert!(said.contains(&expected), "{said} where the file has {behind} and {in_kernel}");
    // Those that found no room, and those that still waited when its time was over.
    assert!(behind >= missed_before_end, "{behind} of {missed_before_end}");
    assert_eq!(missed(&site), missed_before_end, "nothing is offered after its end");
    // A reader that keeps up loses none.
    let file = site.gateway.scratch.path().join("quiet.pcapng").display().to_string();
    let (code, said) = site.gateway.cli(&["capture", "-w", &file, "--for", "1s"]);
    assert!(code == Some(0) && !said.contains("lost: "), "{said:?}");
}
