//! Whoever runs the firewall cannot lock himself out, and if he does, gets in again.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use xtask::lab::Topology;
use xtask::skip::skipped;

use crate::contract::{NOTES, notes};
use crate::kit::client::{Client, bodiless};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json as json_answer};
use crate::kit::{PATIENCE, eventually};

/// Loopback is somebody here, and one of it is the operator.
const OPERATOR: &str = "127.0.0.5";
const MANAGEMENT: &str =
    "allow = [\"127.0.0.5/32\"]\nloopback = false\nown_addresses = false\ndetect = []";

fn setup() -> Setup {
    Setup { management: MANAGEMENT.into(), ..Setup::of(NOTES) }
}

/// The status that a client gets; none if it is not let in.
fn status(gateway: &Gateway, source: &str, line: &str) -> Option<u16> {
    let mut client = Client::connect_from(source.parse().unwrap(), gateway.address).ok()?;
    client.send(bodiless(line)).answer().map(|answer| answer.status)
}

#[track_caller]
fn cli(gateway: &Gateway, arguments: &[&str]) -> String {
    let (code, text) = gateway.cli(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {text}");
    text
}

#[test]
fn a_ban_of_everybody_spares_the_allowlist() {
    let upstream = notes();
    let gateway = Gateway::start(&setup(), &upstream);
    for target in ["0.0.0.0/0", "10.0.0.0/7", "::/0", "2000::/18"] {
        let (code, text) = gateway.cli(&["ban", "add", target]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("--force"), "{text}");
    }
    assert_eq!(gateway.bans(), [] as [Value; 0]);
    for target in ["0.0.0.0/0", "::/0"] {
        cli(&gateway, &["ban", "add", target, "--force"]);
    }
    assert_eq!(status(&gateway, OPERATOR, "GET /notes"), Some(200));
    assert_eq!(status(&gateway, "127.0.0.6", "GET /notes"), None);
    let text = cli(&gateway, &["explain", OPERATOR]);
    assert!(text.contains("never banned") && text.contains("configured"), "{text}");
}

#[test]
fn the_allowlist_tells_where_its_entries_come_from() {
    let upstream = notes();
    let clients = "trusted_proxies = [\"203.0.113.1/32\"]".to_owned();
    let management = "allow = [\"192.0.2.0/24\"]\ndetect = [\"ssh\"]".to_owned();
    let setup = Setup { clients, management, ..Setup::of(NOTES) };
    let gateway = Gateway::start_with(&setup, &upstream.url(), |command| {
        command.env("SSH_CONNECTION", "198.51.100.7 50000 10.0.0.1 22").spawn().unwrap()
    });
    let list: Value = serde_json::from_str(&cli(&gateway, &["allow", "list", "--json"])).unwrap();
    for (network, source) in [
        ("192.0.2.0/24", "configured"),
        ("203.0.113.1/32", "trusted-proxy"),
        ("198.51.100.7/32", "ssh"),
        ("127.0.0.0/8", "loopback"),
    ] {
        let entry = json!({ "network": network, "source": source });
        assert!(list.as_array().unwrap().contains(&entry), "{entry}: {list}");
    }
    assert_eq!(gateway.status()["allowlist"], list);
    let text = cli(&gateway, &["status"]);
    assert!(text.contains("198.51.100.7/32 (ssh)"), "{text}");
    let (code, text) = gateway.cli(&["ban", "add", "198.51.100.7"]);
    assert_eq!(code, Some(2), "{text}");
    // Another session is no reason to refuse a reload.
    cli(&gateway, &["reload"]);
}

#[test]
fn everything_passes_for_a_time_that_no_crash_ends() {
    let upstream = notes();
    let gateway = Gateway::start(&setup(), &upstream);
    cli(&gateway, &["ban", "add", "127.0.0.0/8"]);
    assert_eq!(status(&gateway, "127.0.0.6", "GET /notes"), None);
    let text = cli(&gateway, &["panic-allow", "--for", "10m"]);
    assert!(text.contains("everything passes until"), "{text}");
    assert_eq!(status(&gateway, "127.0.0.6", "GET /notes"), Some(200));
    // The contract is observed: what the upstream says to it is what the client gets.
    assert_eq!(status(&gateway, "127.0.0.6", "GET /notes?unknown=1"), Some(200));
    assert!(gateway.metrics().contains("firewall_panic_allow 1"));
    assert!(cli(&gateway, &["status"]).contains("PANIC"));
    assert!(cli(&gateway, &["explain", "127.0.0.6"]).contains("panic-allow"));

    let gateway = gateway.kill_and_restart_after(|command| command.spawn().unwrap(), || {});
    assert_eq!(status(&gateway, "127.0.0.6", "GET /notes"), Some(200));
    let left = gateway.status()["panic_allow"]["remaining_seconds"].as_u64().unwrap();
    assert!((500..600).contains(&left), "{left}");
    cli(&gateway, &["panic-allow", "--end"]);
    assert_eq!(status(&gateway, "127.0.0.6", "GET /notes"), None);
    assert_eq!(status(&gateway, OPERATOR, "GET /notes?unknown=1"), Some(400));
    assert!(gateway.metrics().contains("firewall_panic_allow 0"));
    assert!(cli(&gateway, &["panic-allow", "--end"]).contains("nothing"));

    // It ends by itself, and a restart does not begin it again.
    cli(&gateway, &["panic-allow", "--for", "1s"]);
    eventually("it has ended", || gateway.status()["panic_allow"].is_null().then_some(()));
    assert_eq!(status(&gateway, "127.0.0.6", "GET /notes"), None);
    let gateway = gateway.kill_and_restart_after(|command| command.spawn().unwrap(), || {});
    assert!(gateway.status()["panic_allow"].is_null());
    for arguments in [&["panic-allow"][..], &["panic-allow", "--for", "25h"]] {
        assert_eq!(gateway.cli(arguments).0, Some(2), "{arguments:?}");
    }
}

#[test]
fn a_reload_that_nobody_confirms_is_undone() {
    let upstream = notes();
    let gateway = Gateway::start(&setup(), &upstream);
    let ask = |path: &str| status(&gateway, OPERATOR, &format!("GET {path}")).unwrap();
    assert_eq!((ask("/notes"), ask("/memos")), (200, 404));
    let (code, text) = gateway.cli(&["reload", "--confirm-within", "2s"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("nothing to return to"), "{text}");

    // Whether the watch takes the file first or the order does: both return to what was before.
    gateway.scratch.file("spec.yaml", &NOTES.replace("  /notes:", "  /memos:"));
    let text = cli(&gateway, &["reload", "--confirm-within", "2s"]);
    assert!(text.contains("until confirmed"), "{text}");
    assert_eq!((ask("/notes"), ask("/memos")), (404, 200));
    eventually("the old one is back", || (ask("/notes") == 200).then_some(()));
    assert_eq!((ask("/notes"), ask("/memos")), (200, 404));
    assert!(gateway.metrics().contains(r#"firewall_reloads_total{result="returned"} 1"#));
    assert!(cli(&gateway, &["confirm"]).contains("nothing to confirm"));

    cli(&gateway, &["reload", "--confirm-within", "10m"]);
    let text = cli(&gateway, &["status"]);
    assert!(text.contains("confirm     this generation"), "{text}");
    let text = cli(&gateway, &["confirm"]);
    assert!(text.contains("stays"), "{text}");
    assert!(gateway.status()["unconfirmed"]["generation_seconds"].is_null());
    assert_eq!((ask("/notes"), ask("/memos")), (404, 200));
}

#[test]
fn a_ban_that_nobody_confirms_ends() {
    let upstream = notes();
    let gateway = Gateway::start(&setup(), &upstream);
    cli(&gateway, &["ban", "add", "127.0.0.6", "--confirm-within", "1s", "--for", "1h"]);
    assert_eq!(status(&gateway, "127.0.0.6", "GET /notes"), None);
    eventually("it has ended", || gateway.bans().is_empty().then_some(()));
    assert_eq!(status(&gateway, "127.0.0.6", "GET /notes"), Some(200));
    assert!(cli(&gateway, &["confirm"]).contains("nothing to confirm"));

    for (target, length) in [("127.0.0.7", Some("1h")), ("127.0.1.0/24", None)] {
        let mut order = vec!["ban", "add", target, "--confirm-within", "10m"];
        order.extend(length.iter().flat_map(|length| ["--for", length]));
        cli(&gateway, &order);
    }
    let (code, text) = gateway.cli(&["ban", "add", "127.0.0.7", "--confirm-within", "10m"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(cli(&gateway, &["status"]).contains("the ban of 127.0.1.0/24"));
    // Lifted by hand meanwhile: what is confirmed is not made anew.
    let text = cli(&gateway, &["confirm"]);
    assert!(text.contains("127.0.0.7/32") && text.contains("127.0.1.0/24"), "{text}");
    let bans = gateway.bans();
    let left = bans[0]["remaining_seconds"].as_u64().unwrap();
    assert!((3500..=3600).contains(&left), "{bans:?}");
    assert!(bans[1]["until"].is_null(), "{bans:?}");

    cli(&gateway, &["ban", "add", "127.0.0.8", "--confirm-within", "10m"]);
    cli(&gateway, &["ban", "del", "127.0.0.8"]);
    assert!(cli(&gateway, &["confirm"]).contains("nothing to confirm"));
    assert_eq!(gateway.bans().len(), 2);
}

/// How long a connection attempt waits before its packets count as lost: the kernel repeats a SYN
/// after one second.
const UNANSWERED: Duration = Duration::from_millis(1500);

const ADMINISTRATOR: u8 = 1;
const NEIGHBOUR: u8 = 2;

/// Client, gateway and API in namespaces, a firewall on the gateway, and beside it something that
/// somebody is logged in to, as over SSH.
struct Site {
    gateway: Gateway,
    topology: Topology,
}

impl Site {
    /// None, and said so, where the kernel or a missing capability forbids it.
    fn start(test: &str, feeds: &str, files: Vec<(String, String)>) -> Option<Self> {
        let topology = match Topology::new() {
            Ok(topology) => topology,
            Err(error) if error.is_unavailable() => {
                skipped(test, &error.to_string());
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let listener = topology.api.bind(SocketAddr::new(Topology::API_V4.into(), 9000)).unwrap();
        let upstream = Upstream::on(listener, |_| json_answer("200 OK", "[]"));
        let setup = Setup {
            listen: "address = \"[::]:8080\"\nplaintext = true".into(),
            kernel: format!("interfaces = [\"{}\"]", Topology::PUBLIC_INTERFACE),
            management: feeds.to_owned(),
            files,
            ..Setup::of(NOTES)
        };
        let gateway =
            Gateway::start_with(&setup, &upstream.url(), |command| spawn(&topology, command));
        let site = Self { gateway, topology };
        let status = site.gateway.status();
        if status["mode"] == "l7-only" {
            skipped(test, &status["reasons"].to_string());
            return None;
        }
        Some(site)
    }

    fn connect(&self, n: u8, port: u16) -> std::io::Result<TcpStream> {
        connect(&self.topology, n, port)
    }

    #[track_caller]
    fn assert_served(&self, n: u8) {
        let mut client = Client::over(self.connect(n, 8080).expect("a connection"));
        assert_eq!(client.send(bodiless("GET /notes")).answer().expect("an answer").status, 200);
    }
}

fn connect(topology: &Topology, n: u8, port: u16) -> std::io::Result<TcpStream> {
    let from = SocketAddr::new(Topology::client_v4(n).into(), 0);
    let to = SocketAddr::new(Topology::GATEWAY_V4.into(), port);
    topology.client.connect(from, to, UNANSWERED).unwrap()
}

fn is_lost(attempt: std::io::Result<TcpStream>) -> bool {
    attempt.is_err_and(|error| matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock))
}

/// Started as from an SSH session of the administrator's.
fn spawn(topology: &Topology, command: &mut Command) -> Child {
    let (client, server) = (Topology::client_v4(ADMINISTRATOR), Topology::GATEWAY_V4);
    command.env("SSH_CONNECTION", format!("{client} 50000 {server} 22"));
    topology.gateway.spawn(command).unwrap()
}

/// A session that says back what it is told, as a shell does.
fn session(site: &Site) -> TcpStream {
    let shell = SocketAddr::new(Topology::GATEWAY_V4.into(), 2222);
    let listener = site.topology.gateway.bind(shell).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (mut input, mut output) = (stream.try_clone().unwrap(), stream);
            std::thread::spawn(move || std::io::copy(&mut input, &mut output));
        }
    });
    let session = site.connect(ADMINISTRATOR, 2222).unwrap();
    session.set_read_timeout(Some(PATIENCE)).unwrap();
    session
}

#[track_caller]
fn assert_alive(session: &mut TcpStream) {
    session.write_all(b"uptime\n").unwrap();
    let mut echo = [0; 7];
    session.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"uptime\n");
}

#[test]
fn a_session_survives_whatever_is_banned_or_listed() {
    let test = "lockout::a_session_survives_whatever_is_banned_or_listed";
    let feed = "[[feed]]\nname = \"all\"\npath = \"all.txt\"\nprivate_addresses = \"list\"\n";
    let all = "0.0.0.0/0\n10.0.0.0/8\n198.51.100.0/24\n".to_owned();
    let files = vec![("all.txt".to_owned(), all)];
    let Some(site) = Site::start(test, feed, files) else { return };
    let administrator = IpAddr::from(Topology::client_v4(ADMINISTRATOR));
    let explanation =
        site.gateway.admin(&Method::GET, &format!("/v1/explain?address={administrator}"), None);
    assert_eq!(explanation["allowed_as"], json!(["ssh"]), "{explanation}");
    eventually("the feed is in the kernel", || {
        is_lost(site.connect(NEIGHBOUR, 8080)).then_some(())
    });
    let told = site.gateway.admin(&Method::GET, "/v1/feeds", None);
    assert_eq!((&told[0]["in_kernel"], &told[0]["too_wide"]), (&true.into(), &1.into()), "{told}");
    let mut session = session(&site);
    assert_alive(&mut session);
    assert!(is_lost(site.connect(NEIGHBOUR, 2222)), "who is listed reaches no port");

    // By hand, over what the feed lists; and lifted again, which leaves what it lists.
    for target in ["0.0.0.0/0", "10.0.0.0/8", "10.77.0.0/24"] {
        cli(&site.gateway, &["ban", "add", target, "--force"]);
    }
    assert_alive(&mut session);
    assert!(is_lost(site.connect(NEIGHBOUR, 8080)));
    site.assert_served(ADMINISTRATOR);
    let (code, _) = site.gateway.cli(&["ban", "add", &administrator.to_string()]);
    assert_eq!(code, Some(2), "nobody bans the administrator");
    for target in ["0.0.0.0/0", "10.0.0.0/8", "10.77.0.0/24"] {
        cli(&site.gateway, &["ban", "del", target]);
    }
    assert!(is_lost(site.connect(NEIGHBOUR, 8080)), "it is listed still");
    assert_alive(&mut session);

    // Dead, and started again on what it left behind.
    let Site { gateway, topology } = site;
    let gateway = gateway.kill_and_restart_after(
        |command| spawn(&topology, command),
        || assert!(is_lost(connect(&topology, NEIGHBOUR, 8080))),
    );
    let site = Site { gateway, topology };
    assert_eq!(site.gateway.bans(), [] as [Value; 0], "what was listed is no ban");
    assert!(is_lost(site.connect(NEIGHBOUR, 8080)));
    assert_alive(&mut session);
    site.gateway.scratch.file("all.txt", "198.51.100.0/24\n");
    site.gateway.admin(&Method::POST, "/v1/feeds/refresh", None);
    site.assert_served(NEIGHBOUR);
}

#[test]
fn the_kernel_ends_a_panic_that_nobody_is_left_to_end() {
    let test = "lockout::the_kernel_ends_a_panic_that_nobody_is_left_to_end";
    let Some(site) = Site::start(test, "", Vec::new()) else { return };
    cli(&site.gateway, &["ban", "add", "10.77.0.0/24"]);
    assert!(is_lost(site.connect(NEIGHBOUR, 8080)));
    cli(&site.gateway, &["panic-allow", "--for", "1h"]);
    site.assert_served(NEIGHBOUR);
    let observed = || {
        let packets = &site.gateway.status()["packets"]["ban-range"];
        packets["observed_packets"].as_u64().unwrap()
    };
    assert!(observed() > 0, "what would have been dropped is counted");
    cli(&site.gateway, &["panic-allow", "--end"]);
    assert!(is_lost(site.connect(NEIGHBOUR, 8080)));

    cli(&site.gateway, &["panic-allow", "--for", "5s"]);
    let Site { gateway, topology } = site;
    drop(gateway.kill_and_restart_after(
        |command| spawn(&topology, command),
        || {
            let attempt = || connect(&topology, NEIGHBOUR, 8080);
            // Nobody listens, and the kernel says so: the packets pass.
            assert_eq!(attempt().unwrap_err().kind(), ErrorKind::ConnectionRefused);
            eventually("the kernel drops again", || is_lost(attempt()).then_some(()));
        },
    ));
}
