//! The loop with the kernel in it: namespaces, a native XDP program, real packets.

mod capture;
mod evidence;
mod killed;
mod life;
mod mounts;
mod neighbours;
mod reload;
mod soak;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::{Child, Command};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use xtask::lab::Topology;
use xtask::skip::skipped;

use crate::contract::NOTES;
use crate::kit::client::{Client, bodiless};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json as json_answer};
use crate::kit::{eventually, until_ms};

/// How long a connection attempt waits before its packets count as lost: the kernel repeats a SYN
/// after one second.
const UNANSWERED: Duration = Duration::from_millis(1500);

/// Client, gateway and API, each in a namespace, and the firewall on the gateway's interface.
struct Site {
    gateway: Gateway,
    topology: Topology,
}

const SCANNER: u8 = 1;
const NEIGHBOUR: u8 = 2;
const PROXY: u8 = 3;

fn scanner(family: Family) -> IpAddr {
    family.client(SCANNER)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn client(self, n: u8) -> IpAddr {
        match self {
            Self::V4 => Topology::client_v4(n).into(),
            Self::V6 => Topology::client_v6(n).into(),
        }
    }

    fn gateway(self) -> IpAddr {
        match self {
            Self::V4 => Topology::GATEWAY_V4.into(),
            Self::V6 => Topology::GATEWAY_V6.into(),
        }
    }
}

impl Site {
    /// None, and said so, where the kernel or a missing capability forbids it.
    fn start(test: &str, setup: &Setup) -> Option<Self> {
        let topology = match Topology::new() {
            Ok(topology) => topology,
            Err(error) if error.is_unavailable() => {
                skipped(test, &error.to_string());
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let listener = topology.api.bind(SocketAddr::new(Topology::API_V4.into(), 9000)).unwrap();
        let upstream = notes_on(listener);
        let setup = Setup {
            listen: "address = \"[::]:8080\"\nplaintext = true".into(),
            kernel: format!("interfaces = [\"{}\"]", Topology::PUBLIC_INTERFACE) + &setup.kernel,
            ..setup.clone()
        };
        let gateway =
            Gateway::start_with(&setup, &upstream.url(), |command| on(&topology, command));
        let site = Self { gateway, topology };
        let status = site.gateway.status();
        if status["mode"] == "l7-only" {
            skipped(test, &status["reasons"].to_string());
            return None;
        }
        assert_eq!(status["mode"], "xdp-native", "{status}");
        Some(site)
    }

    /// A connection from the `n`th client's address.
    fn connect(&self, family: Family, n: u8) -> std::io::Result<Client> {
        let from = SocketAddr::new(family.client(n), 0);
        let to = SocketAddr::new(family.gateway(), 8080);
        let stream = self.topology.client.connect(from, to, UNANSWERED).unwrap()?;
        Ok(Client::over(stream))
    }

    #[track_caller]
    fn assert_served(&self, family: Family, n: u8) {
        let mut client = self.connect(family, n).expect("a connection");
        assert_eq!(client.send(bodiless("GET /notes")).answer().expect("an answer").status, 200);
    }

    #[track_caller]
    fn assert_dropped(&self, family: Family, n: u8) {
        let error = self.connect(family, n).expect_err("its packets are dropped");
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
    }

    /// Three offences on one connection.
    #[track_caller]
    fn scan(&self, family: Family) {
        self.scan_from(family, SCANNER);
    }

    #[track_caller]
    fn scan_from(&self, family: Family, n: u8) {
        let mut client = self.connect(family, n).unwrap();
        for path in ["/.env", "/wp-login.php", "/actuator"] {
            let answer = client.send(bodiless(&format!("GET {path}"))).answer();
            let answer = answer.expect("a refusal, the last one too");
            assert_eq!(answer.status, 404);
        }
    }

    /// Sends one TCP header with these flags, in the scanner's name.
    fn send_segment(&self, flags: u8) {
        let mut header = [0; 20];
        header[1] = 80;
        header[3] = 80;
        header[12] = 5 << 4;
        header[13] = flags;
        let (from, to) = (SocketAddr::new(scanner(Family::V4), 0), Topology::GATEWAY_V4);
        let send = || {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).unwrap();
            socket.bind(&from.into()).unwrap();
            socket.send_to(&header, &SocketAddr::new(to.into(), 0).into()).unwrap()
        };
        assert_eq!(self.topology.client.run(send).unwrap(), header.len());
    }

    fn explain(&self, address: IpAddr) -> Value {
        self.gateway.admin(&Method::GET, &format!("/v1/explain?address={address}"), None)
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.gateway.status()["packets"][reason]["packets"].as_u64().unwrap_or(0)
    }
}

fn on(topology: &Topology, command: &mut Command) -> Child {
    topology.gateway.spawn(command).unwrap()
}

fn notes_on(listener: TcpListener) -> Upstream {
    Upstream::on(listener, |_| json_answer("200 OK", "[]"))
}

#[test]
fn a_violation_becomes_a_kernel_drop() {
    let test = "kernel_loop::a_violation_becomes_a_kernel_drop";
    let Some(site) = Site::start(test, &Setup::of(NOTES)) else { return };
    for family in [Family::V4, Family::V6] {
        if family == Family::V6 && !site.topology.ipv6 {
            skipped(test, "the kernel has no IPv6");
            continue;
        }
        site.assert_served(family, SCANNER);
        let before = site.dropped("ban");
        site.scan(family);
        // The last refusal has been read; the kernel must hold the ban by now, without waiting.
        let explanation = site.explain(scanner(family));
        assert!(explanation["kernel"].is_object(), "{explanation}");
        site.assert_dropped(family, SCANNER);
        assert!(site.dropped("ban") > before, "{}", site.gateway.status());
        site.assert_served(family, NEIGHBOUR);

        let target = explanation["ban"]["target"].as_str().unwrap();
        let length = if family == Family::V4 { "/32" } else { "/64" };
        assert!(target.ends_with(length), "{target}");
        site.gateway.admin(&Method::DELETE, &format!("/v1/bans?target={target}"), None);
        assert!(site.explain(scanner(family))["kernel"].is_null());
        site.assert_served(family, SCANNER);
    }
}

#[test]
fn the_kernel_holds_while_nobody_runs() {
    let test = "kernel_loop::the_kernel_holds_while_nobody_runs";
    let Some(site) = Site::start(test, &Setup::of(NOTES)) else { return };
    site.scan(Family::V4);
    let ban = json!({ "target": "10.77.0.64/26", "for_seconds": 600, "reason": "a range" });
    site.gateway.admin(&Method::POST, "/v1/bans", Some(&ban));
    let Site { gateway, topology } = site;
    let attempt = |n: u8| {
        let from = SocketAddr::new(Family::V4.client(n), 0);
        let to = SocketAddr::new(Topology::GATEWAY_V4.into(), 8080);
        topology.client.connect(from, to, UNANSWERED).unwrap().map(drop).unwrap_err().kind()
    };
    let gateway = gateway.kill_and_restart_after(
        |command| on(&topology, command),
        || {
            // The neighbour is told that nobody listens; the scanner is told nothing.
            assert_eq!(attempt(NEIGHBOUR), ErrorKind::ConnectionRefused);
            assert!(matches!(attempt(SCANNER), ErrorKind::TimedOut | ErrorKind::WouldBlock));
        },
    );
    let status = gateway.status();
    assert_eq!(status["mode"], "xdp-native");
    assert_eq!(status["interfaces"][0]["adopted"], true, "{status}");
    let site = Site { gateway, topology };
    let mut targets: Vec<_> =
        site.gateway.bans().iter().map(|ban| ban["target"].to_string()).collect();
    targets.sort();
    assert_eq!(targets, [r#""10.77.0.3/32""#, r#""10.77.0.64/26""#]);
    site.assert_dropped(Family::V4, SCANNER);
    site.assert_served(Family::V4, NEIGHBOUR);
}

#[test]
fn what_the_kernel_sees_comes_up() {
    let test = "kernel_loop::what_the_kernel_sees_comes_up";
    let Some(site) = Site::start(test, &Setup::of(NOTES)) else { return };
    site.scan(Family::V4);
    site.assert_dropped(Family::V4, SCANNER);
    eventually("the ban's drops are read back", || {
        let bans = site.gateway.bans();
        bans[0]["drops"].as_u64().filter(|drops| *drops > 0)
    });
    eventually("a drop event comes up", || {
        let events = site.gateway.status()["events"]["ban"].as_u64();
        events.filter(|events| *events > 0)
    });
    eventually("the event is logged", || {
        let errors = site.gateway.errors();
        (errors.contains("dropped") && errors.contains("10.77.0.3")).then_some(())
    });
    let address = site.gateway.status()["metrics"].as_str().unwrap().parse().unwrap();
    let metrics = site
        .topology
        .gateway
        .run(|| crate::kit::client::exchange(address, bodiless("GET /metrics")).text())
        .unwrap();
    for line in [
        r#"firewall_xdp_packets_total{action="acted",family="ipv4",interface="public0",reason="ban"}"#,
        r#"firewall_ring_events_total{reason="ban"}"#,
        r#"firewall_xdp_attach_mode{interface="public0",mode="native"} 1"#,
        r#"firewall_bans{origin="automatic"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn hammering_in_a_source_s_name_extends_nothing() {
    let test = "kernel_loop::hammering_in_a_source_s_name_extends_nothing";
    let bans = "durations = [\"4s\"]".into();
    let Some(site) = Site::start(test, &Setup { bans, ..Setup::of(NOTES) }) else { return };
    site.scan(Family::V4);
    let bans = || site.gateway.bans();
    let first = until_ms(&bans()[0]).expect("an end");
    // Longer than the ban lasts, whoever sends it.
    eventually("the ban ends", || {
        site.send_segment(2);
        let bans = bans();
        let Some(ban) = bans.first() else { return Some(()) };
        // The clocks' rounding is a few milliseconds.
        assert!(until_ms(ban).expect("an end") <= first + 100, "{ban}");
        None
    });
    assert!(site.dropped("ban") > 0);
    site.assert_served(Family::V4, SCANNER);
}

#[test]
fn observed_bans_count_and_pass() {
    let test = "kernel_loop::observed_bans_count_and_pass";
    let setup = Setup { bans: "mode = \"observe\"".into(), ..Setup::of(NOTES) };
    let Some(site) = Site::start(test, &setup) else { return };
    site.scan(Family::V4);
    site.assert_served(Family::V4, SCANNER);
    assert_eq!(site.gateway.bans().len(), 1);
    assert_eq!(site.dropped("ban"), 0);
}

#[test]
fn the_allowlist_wins_in_the_kernel_too() {
    let test = "kernel_loop::the_allowlist_wins_in_the_kernel_too";
    let allowed = Family::V4.client(SCANNER);
    let management = format!("allow = [\"{allowed}/32\"]");
    let clients = format!("trusted_proxies = [\"{}/32\"]", Family::V4.client(PROXY));
    let setup = Setup { clients, management, ..Setup::of(NOTES) };
    let Some(site) = Site::start(test, &setup) else { return };
    let everybody = json!({
        "target": "0.0.0.0/0", "for_seconds": 60, "reason": "a mistake", "force": true
    });
    site.gateway.admin(&Method::POST, "/v1/bans", Some(&everybody));
    site.assert_served(Family::V4, SCANNER);
    site.assert_served(Family::V4, PROXY);
    site.assert_dropped(Family::V4, NEIGHBOUR);
    assert!(site.dropped("allowed") > 0);
}

#[test]
fn the_hosts_own_addresses_are_never_banned() {
    let test = "kernel_loop::the_hosts_own_addresses_are_never_banned";
    let Some(site) = Site::start(test, &Setup::of(NOTES)) else { return };
    let own = IpAddr::from(Topology::GATEWAY_V4);
    let ask = |path: &str| {
        let (from, to) = (SocketAddr::new(own, 0), SocketAddr::new(own, 8080));
        let stream = site.topology.gateway.connect(from, to, UNANSWERED).unwrap().unwrap();
        Client::over(stream).send(bodiless(&format!("GET {path}"))).answer().unwrap().status
    };
    for _ in 0..6 {
        assert_eq!(ask("/.env"), 404);
    }
    assert_eq!(ask("/notes"), 200);
    assert_eq!(site.gateway.bans(), [] as [Value; 0]);
    assert_eq!(site.explain(own)["exempt"], true);
}

#[test]
fn checks_and_messages_are_as_configured() {
    let test = "kernel_loop::checks_and_messages_are_as_configured";
    let kernel = "\nlog = \"debug\"\n[kernel.checks]\nT3 = \"observe\"\nT4 = \"off\"\n".into();
    let Some(site) = Site::start(test, &Setup { kernel, ..Setup::of(NOTES) }) else { return };
    let (none, syn, fin, rst) = (0, 2, 1, 4);
    for flags in [none, syn | fin, syn | rst] {
        site.send_segment(flags);
    }
    let counted = |check: &str| {
        let counted = &site.gateway.status()["packets"][check];
        (counted["packets"].as_u64().unwrap(), counted["observed_packets"].as_u64().unwrap())
    };
    // The last one is dropped by default; when it is counted, the others have been.
    eventually("T5 drops", || (counted("T5") == (1, 0)).then_some(()));
    assert_eq!((counted("T3"), counted("T4")), ((0, 1), (0, 0)));
    eventually("the program's own words are in the log", || {
        let errors = site.gateway.errors();
        let said = errors.contains("firewall::kernel::program") && errors.contains("10.77.0.3");
        said.then_some(())
    });
}

#[test]
fn detaching_takes_a_command() {
    let test = "kernel_loop::detaching_takes_a_command";
    let Some(site) = Site::start(test, &Setup::of(NOTES)) else { return };
    site.scan(Family::V4);
    let Site { mut gateway, topology } = site;
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.ended(), Some(0), "{}", gateway.errors());
    let attempt = || {
        let from = SocketAddr::new(scanner(Family::V4), 0);
        let to = SocketAddr::new(Topology::GATEWAY_V4.into(), 8080);
        topology.client.connect(from, to, UNANSWERED).unwrap().map(drop).unwrap_err().kind()
    };
    assert!(matches!(attempt(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "stopped, and holds");
    assert!(on(&topology, &mut gateway.detach()).wait().unwrap().success());
    assert_eq!(attempt(), ErrorKind::ConnectionRefused, "detached");
}

#[test]
fn drops_are_ranked_and_captured() {
    let test = "kernel_loop::drops_are_ranked_and_captured";
    let Some(site) = Site::start(test, &Setup::of(NOTES)) else { return };
    let scratch = crate::kit::Scratch::new();
    let file = scratch.path().join("drops.pcapng");
    let mut capture = site.gateway.command(&["capture", "--reason", "T3", "--count", "3"]);
    let mut capture = capture.arg("--write").arg(&file).spawn().unwrap();
    // What is captured is sampled a hundred times as often as else: three within one tenth of a
    // second are more than there would be.
    let finished = eventually("three packets are captured", || {
        site.send_segment(0);
        capture.try_wait().unwrap()
    });
    assert!(finished.success(), "{finished}");
    let packets = packets_of(&std::fs::read(&file).unwrap());
    assert_eq!(packets.len(), 3, "{packets:?}");
    for packet in &packets {
        // Ethernet, IPv4 from the scanner, TCP from port 80 to port 80 without a flag.
        let source = match scanner(Family::V4) {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(_) => unreachable!("it was asked for IPv4"),
        };
        assert_eq!((&packet.octets[12..14], &packet.octets[26..30]), (&[8, 0][..], &source[..]));
        assert_eq!((&packet.octets[34..38], packet.octets[47]), (&[0, 80, 0, 80][..], 0));
        assert_eq!(packet.comment, "T3 dropped");
    }

    let top = site.gateway.command(&["top", "--count", "1", "--every", "200ms", "--json"]).output();
    let top: Value = serde_json::from_slice(&top.unwrap().stdout).unwrap();
    assert_eq!(top["sources"][0]["address"], scanner(Family::V4).to_string(), "{top}");
    assert_eq!(top["sources"][0]["reason"], "T3");
    assert_eq!(site.explain(scanner(Family::V4))["sampled"]["reason"], "T3");

    let (code, said) = site.gateway.cli(&["capture", "--reason", "X1", "--write", "-"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("\"X1\" is no reason"), "{said}");
}

/// One enhanced packet block.
#[derive(Debug)]
struct Captured {
    octets: Vec<u8>,
    comment: String,
}

/// Reads a capture as the draft has it: blocks with their length at both ends.
fn packets_of(capture: &[u8]) -> Vec<Captured> {
    let word = |octets: &[u8], at: usize| {
        usize::try_from(u32::from_le_bytes(octets[at..at + 4].try_into().unwrap())).unwrap()
    };
    let (mut packets, mut rest) = (Vec::new(), capture);
    while !rest.is_empty() {
        let (block, next) = rest.split_at(word(rest, 4));
        assert_eq!(word(block, block.len() - 4), block.len());
        if word(block, 0) == 6 {
            let length = word(block, 20);
            let option = 28 + length.next_multiple_of(4);
            let octets = block[28..28 + length].to_vec();
            let text = usize::from(u16::from_le_bytes([block[option + 2], block[option + 3]]));
            let comment = block[option + 4..option + 4 + text].to_vec();
            packets.push(Captured { octets, comment: String::from_utf8(comment).unwrap() });
        }
        rest = next;
    }
    packets
}

const SHORT_STANDING: &str = "\n[kernel.standing]\nrequests = 3\nage = \"0s\"\n";

fn order_pressure(site: &Site, level: &str) -> Value {
    site.gateway.admin(&Method::POST, &format!("/v1/pressure?level={level}"), None)
}

/// Conformance buys availability: under pressure who kept the contract connects, a stranger does
/// not; one violation makes a stranger of him at once.
fn good_standing_passes_under_pressure(test: &str, family: Family) {
    let setup = Setup { kernel: SHORT_STANDING.into(), ..Setup::of(NOTES) };
    let Some(site) = Site::start(test, &setup) else { return };
    let known = family.client(SCANNER);
    let standing = || site.explain(known)["in_good_standing"] == true;
    for _ in 0..3 {
        assert!(!standing());
        site.assert_served(family, SCANNER);
    }
    eventually("three conforming requests make a standing", || standing().then_some(()));
    assert_eq!(site.gateway.status()["good_standing"], 1);
    assert_eq!(order_pressure(&site, "3")["level"], 3);
    let mut before = site.connect(family, SCANNER).expect("who is known connects");
    site.assert_dropped(family, NEIGHBOUR);
    assert!(site.dropped("S1") > 0);
    assert_eq!(before.send(bodiless("GET /.env")).answer().unwrap().status, 404);
    // When the refusal is read, the kernel knows.
    assert!(!standing());
    site.assert_dropped(family, SCANNER);
    // Who is connected goes on: a connection is no new one.
    assert_eq!(before.send(bodiless("GET /notes")).answer().unwrap().status, 200);
    assert_eq!(order_pressure(&site, "auto")["level"], 0);
    site.assert_served(family, NEIGHBOUR);
}

#[test]
fn good_standing_passes_under_pressure_v4() {
    good_standing_passes_under_pressure("good_standing_passes_under_pressure_v4", Family::V4);
}

#[test]
fn good_standing_passes_under_pressure_v6() {
    good_standing_passes_under_pressure("good_standing_passes_under_pressure_v6", Family::V6);
}

/// The load alone: seats taken by connections that send nothing.
#[test]
fn full_seats_raise_the_pressure() {
    let test = "kernel_loop::full_seats_raise_the_pressure";
    let setup = Setup {
        listen: String::new(),
        limits: "connections_per_worker = 4".into(),
        kernel: "\n[kernel.pressure]\nseats = [0.5, 0.75, 1.0]\ncalm = \"1s\"\n".into(),
        ..Setup::of(NOTES)
    };
    let Some(site) = Site::start(test, &setup) else { return };
    let level = || site.gateway.status()["pressure"]["level"].as_u64().unwrap();
    assert_eq!(level(), 0);
    // One worker's seats are told by the fullest; the kernel spreads connections over workers.
    let mut held = Vec::new();
    eventually("the pressure rises", || {
        if held.len() < 16
            && let Ok(client) = site.connect(Family::V4, NEIGHBOUR)
        {
            held.push(client);
        }
        (level() > 0).then_some(())
    });
    assert!(site.gateway.errors().contains("pressure changed"), "{}", site.gateway.errors());
    drop(held);
    eventually("it falls when they have left", || (level() == 0).then_some(()));
    site.assert_served(Family::V4, NEIGHBOUR);
}

#[test]
fn budgets_are_read_anew_by_a_reload() {
    let test = "kernel_loop::budgets_are_read_anew_by_a_reload";
    let kernel = "\n[kernel.checks]\nT15 = \"enforce\"\n[kernel.budgets]\n\
                  syn = { rate = 1, burst = 1000 }\n";
    let setup = Setup { kernel: kernel.into(), ..Setup::of(NOTES) };
    let Some(site) = Site::start(test, &setup) else { return };
    for _ in 0..20 {
        site.assert_served(Family::V4, NEIGHBOUR);
    }
    assert_eq!(site.dropped("T15"), 0);
    let config = std::fs::read_to_string(&site.gateway.config).unwrap();
    std::fs::write(&site.gateway.config, config.replace("burst = 1000", "burst = 2")).unwrap();
    site.gateway.admin(&Method::POST, "/v1/reload", None);
    eventually("the smaller budget is spent", || {
        drop(site.connect(Family::V4, NEIGHBOUR));
        (site.dropped("T15") > 0).then_some(())
    });
}
