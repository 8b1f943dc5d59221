//! Everything at once, for a while: good clients beside slow ones, aborts, bans that come and go,
//! reloads every second, good and bad, and an upgrade. Good clients get right answers alone, and nothing
//! is left behind.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use xtask::lab::Topology;

use super::{Family, SCANNER, Site, scanner};
use crate::contract::NOTES;
use crate::kit::client::{Client, bodiless};
use crate::kit::eventually;
use crate::kit::gateway::Setup;
use crate::upgrade::Successor;

const SECONDS: u64 = 12;

/// How long it goes on, where somebody wants longer.
const SECONDS_WANTED: &str = "FIREWALL_SOAK_SECONDS";

/// The reload in whose place another process takes over.
const UPGRADE: u64 = 2;

/// Memory that may come after the first half of the time: what allocators keep differs by a little.
const GROWTH_KIB_MAX: u64 = 8 * 1024;

/// What a good client asks on one connection before it makes another.
const REQUESTS_PER_CONNECTION: usize = 40;

struct Soak<'a> {
    site: &'a Site,
    is_over: AtomicBool,
    answered: AtomicU64,
    slow: AtomicU64,
    aborted: AtomicU64,
    bans: AtomicU64,
    reloads: AtomicU64,
    /// The process that has taken over. Held while another one does, and by who needs the admin socket or
    /// a ban: both change hands.
    successor: Mutex<Option<Successor>>,
}

#[test]
fn good_clients_are_served_whatever_else_goes_on() {
    let test = "kernel_loop::soak::good_clients_are_served_whatever_else_goes_on";
    let limits = "head_timeout = \"700ms\"\nbody_timeout = \"700ms\"\nconnections_per_source = 64\n\
                  response_timeout = \"50s\"";
    let setup = Setup { limits: limits.into(), ..Setup::of(NOTES) };
    let Some(site) = Site::start(test, &setup) else { return };
    let seconds = std::env::var(SECONDS_WANTED).ok().and_then(|seconds| seconds.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(SECONDS));
    site.assert_served(Family::V4, 4);
    let descriptors = at_rest(&site);

    let soak = Soak {
        site: &site,
        is_over: AtomicBool::new(false),
        answered: AtomicU64::new(0),
        slow: AtomicU64::new(0),
        aborted: AtomicU64::new(0),
        bans: AtomicU64::new(0),
        reloads: AtomicU64::new(0),
        successor: Mutex::default(),
    };
    let early = std::thread::scope(|scope| {
        for n in 2..5 {
            let soak = &soak;
            scope.spawn(move || soak.until_over(|| soak.good(n)));
        }
        scope.spawn(|| soak.until_over(|| soak.slow_head(5)));
        scope.spawn(|| soak.until_over(|| soak.slow_body(6)));
        scope.spawn(|| soak.until_over(|| soak.abort(7)));
        scope.spawn(|| soak.until_over(|| soak.reload()));
        scope.spawn(|| soak.until_over(|| soak.offend()));
        std::thread::sleep(time / 2);
        let early = resident_kib(&site);
        std::thread::sleep(time / 2);
        soak.is_over.store(true, Ordering::Relaxed);
        early
    });
    assert!(soak.successor.lock().unwrap().is_some(), "another process has taken over");
    let late = resident_kib(&site);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    eprintln!(
        "{} answers, {} slow, {} aborted, {} bans, {} reloads; {early} KiB, then {late} KiB",
        count(&soak.answered),
        count(&soak.slow),
        count(&soak.aborted),
        count(&soak.bans),
        count(&soak.reloads)
    );
    for counter in [&soak.answered, &soak.slow, &soak.aborted, &soak.bans, &soak.reloads] {
        assert!(count(counter) > 2, "everybody had a part");
    }
    assert!(late < early + GROWTH_KIB_MAX, "from {early} KiB to {late} KiB");
    // Connections to the API are kept for a while after their last use, and new ones may have come.
    eventually("no connection and no descriptor is left", || {
        (at_rest(&site) <= descriptors + 4).then_some(())
    });
    site.assert_served(Family::V4, 4);
}

impl Soak<'_> {
    fn until_over(&self, act: impl Fn()) {
        while !self.is_over.load(Ordering::Relaxed) {
            act();
        }
    }

    /// A connection's worth of requests, each of which must be answered as if nothing else went on.
    fn good(&self, n: u8) {
        let mut client = self.connect(n).expect("a connection");
        for ordinal in 0..REQUESTS_PER_CONNECTION {
            let answer = client.send(bodiless("GET /notes")).answer();
            let answer = answer.unwrap_or_else(|| panic!("no answer to request {ordinal}"));
            assert_eq!((answer.status, answer.text().as_str()), (200, "[]"), "{}", answer.head);
            self.answered.fetch_add(1, Ordering::Relaxed);
            if answer.header("connection").is_some_and(|value| value == "close") {
                break;
            }
        }
    }

    /// Twice, for a segment may be lost where the machine has much to do.
    fn connect(&self, n: u8) -> std::io::Result<Client> {
        let once = || self.site.connect(Family::V4, n);
        once().or_else(|_lost| once())
    }

    /// Begins heads and does not end them, on ten connections; they are told that it took too long.
    fn slow_head(&self, n: u8) {
        let clients = (0..10).filter_map(|_| self.connect(n).ok());
        let mut clients: Vec<_> = clients.collect();
        for client in &mut clients {
            client.send("GET /notes HTTP/1.1\r\nHos");
        }
        for client in &mut clients {
            let said = client.closed();
            if !said.is_empty() {
                assert!(said.starts_with(b"HTTP/1.1 408 "), "{}", said.escape_ascii());
            }
            self.slow.fetch_add(1, Ordering::Relaxed);
        }
        self.forgive(n);
    }

    /// The same with bodies.
    fn slow_body(&self, n: u8) {
        let clients = (0..10).filter_map(|_| self.connect(n).ok());
        let mut clients: Vec<_> = clients.collect();
        for client in &mut clients {
            client.send(
                "POST /notes HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                 Content-Length: 20\r\n\r\n{\"text\"",
            );
        }
        for client in &mut clients {
            client.closed();
            self.slow.fetch_add(1, Ordering::Relaxed);
        }
        self.forgive(n);
    }

    /// Leaves in the middle of a head, of a body, of an answer.
    fn abort(&self, n: u8) {
        for begun in [
            "GET /no",
            "POST /notes HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Content-Length: 2000\r\n\r\n{",
            "GET /notes HTTP/1.1\r\nHost: a\r\n\r\nGET /notes HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
        ] {
            let Ok(mut client) = self.connect(n) else { continue };
            client.send(begun);
            drop(client);
            self.aborted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lifts what the source's slowness may have come to.
    fn forgive(&self, n: u8) {
        let _turn = self.successor.lock().unwrap();
        self.lift(n);
    }

    fn lift(&self, n: u8) {
        let target = format!("{}/32", Family::V4.client(n));
        if self.site.gateway.bans().iter().any(|ban| ban["target"] == *target) {
            let path = format!("/v1/bans?target={target}");
            self.site.gateway.admin(&Method::DELETE, &path, None);
        }
    }

    /// Scans, is banned, is dropped, and is forgiven.
    fn offend(&self) {
        let _turn = self.successor.lock().unwrap();
        let Some(()) = self.scan() else { return };
        let from = SocketAddr::new(scanner(Family::V4), 0);
        let to = SocketAddr::new(Topology::GATEWAY_V4.into(), 8080);
        let patience = Duration::from_millis(300);
        let attempt = self.site.topology.client.connect(from, to, patience).unwrap();
        assert!(attempt.is_err(), "a banned source was let in");
        self.lift(SCANNER);
        self.bans.fetch_add(1, Ordering::Relaxed);
    }

    /// None where one of the offences was told to the process before, which just then left: the one
    /// that serves now has not heard of it.
    fn scan(&self) -> Option<()> {
        let mut client = self.connect(SCANNER).expect("a connection");
        // The last one makes the ban, and ends the connection in any case.
        for (path, is_last) in [("/.env", false), ("/wp-login.php", false), ("/actuator", true)] {
            let answer = client.send(bodiless(&format!("GET {path}"))).answer()?;
            assert_eq!(answer.status, 404);
            (is_last || answer.header("connection").is_none()).then_some(())?;
        }
        Some(())
    }

    /// A second, and another configuration: every third is no configuration.
    fn reload(&self) {
        std::thread::sleep(Duration::from_secs(1));
        let gateway = &self.site.gateway;
        let good = std::fs::read_to_string(&gateway.config).unwrap();
        let round = self.reloads.load(Ordering::Relaxed);
        if round == UPGRADE {
            let mut successor = self.successor.lock().unwrap();
            let (code, said) = gateway.cli(&["upgrade"]);
            assert_eq!(code, Some(0), "{said}\n{}", gateway.errors());
            *successor = Some(Successor::of(gateway));
        }
        let (from, to) =
            if round.is_multiple_of(2) { ("\"50s\"", "\"51s\"") } else { ("\"51s\"", "\"50s\"") };
        let changed = good.replace(from, to);
        assert_ne!(good, changed);
        if round % 3 == 2 {
            std::fs::write(&gateway.config, "[limits]\nhead_timeout = 1\n").unwrap();
            let (code, said) = gateway.cli(&["reload"]);
            assert_ne!(code, Some(0), "{said}");
        }
        std::fs::write(&gateway.config, changed).unwrap();
        let (code, said) = gateway.cli(&["reload"]);
        assert_eq!(code, Some(0), "{said}");
        self.reloads.fetch_add(1, Ordering::Relaxed);
    }
}

/// Its descriptors, once no client is connected.
fn at_rest(site: &Site) -> usize {
    eventually("no client is connected", || {
        let metrics = site.topology.gateway.run(|| site.gateway.metrics()).unwrap();
        metrics.lines().any(|line| line == "firewall_connections 0").then_some(())
    });
    std::fs::read_dir(format!("/proc/{}/fd", pid(site))).unwrap().count()
}

/// Of the process that serves now.
fn pid(site: &Site) -> u64 {
    site.gateway.status()["pid"].as_u64().unwrap()
}

fn resident_kib(site: &Site) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid(site))).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
