//! Offences become bans, bans hold, survive, and are lifted: the loop without the kernel.
//!
//! All of 127.0.0.0/8 is on loopback, so that one machine has many sources; `management.loopback =
//! false` lets them be banned.

use std::net::IpAddr;
use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::contract::{NOTES, notes};
use crate::kit::client::{Answer, Client, bodiless};
use crate::kit::eventually;
use crate::kit::gateway::{Gateway, Setup};

const SCANNER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const NEIGHBOUR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 3));

fn bannable() -> Setup {
    Setup { management: "loopback = false".into(), ..Setup::of(NOTES) }
}

fn request_from(source: IpAddr, gateway: &Gateway, line: &str) -> Option<Answer> {
    let mut client = Client::connect_from(source, gateway.address).ok()?;
    client.send(bodiless(line)).answer()
}

#[track_caller]
fn scan(gateway: &Gateway) {
    for path in ["/.env", "/wp-login.php", "/actuator"] {
        let answer = request_from(SCANNER, gateway, &format!("GET {path}")).expect(path);
        assert_eq!(answer.status, 404);
    }
}

/// Whether the source gets an answer from the upstream.
fn is_served(source: IpAddr, gateway: &Gateway) -> bool {
    request_from(source, gateway, "GET /notes").is_some_and(|answer| answer.status == 200)
}

#[test]
fn a_scanner_is_banned_after_its_third_offence() {
    let upstream = notes();
    let gateway = Gateway::start(&bannable(), &upstream);
    assert!(is_served(SCANNER, &gateway));
    scan(&gateway);
    // The ban was in force before the third refusal was written: no waiting here.
    let answer = request_from(SCANNER, &gateway, "GET /notes");
    assert!(answer.is_none(), "closed at accept, without a word: {answer:?}");
    let refused = r#"firewall_connections_refused_total{reason="banned"} 1"#;
    let metrics = gateway.metrics();
    assert!(metrics.contains(refused), "{refused} is not in\n{metrics}");
    assert!(is_served(NEIGHBOUR, &gateway));
    let bans = gateway.bans();
    assert_eq!(bans.len(), 1, "{bans:?}");
    assert_eq!(bans[0]["target"], "127.0.0.2/32");
    assert_eq!(bans[0]["rule"], "route.unknown-path");
    let remaining = bans[0]["remaining_seconds"].as_u64().unwrap();
    assert!((50..=60).contains(&remaining), "{remaining}");
    let explanation = gateway.admin(&Method::GET, "/v1/explain?address=127.0.0.2", None);
    assert_eq!(explanation["ban"]["target"], "127.0.0.2/32");

    gateway.admin(&Method::DELETE, "/v1/bans?target=127.0.0.2/32", None);
    eventually("the scanner is served again", || is_served(SCANNER, &gateway).then_some(()));
}

#[test]
fn a_ban_closes_the_connections_of_its_source() {
    let upstream = notes();
    let gateway = Gateway::start(&bannable(), &upstream);
    let mut idle: Vec<_> = (0..8)
        .map(|_| {
            let mut client = Client::connect_from(SCANNER, gateway.address).unwrap();
            assert_eq!(client.send(bodiless("GET /notes")).answer().unwrap().status, 200);
            client
        })
        .collect();
    let mut other = Client::connect_from(NEIGHBOUR, gateway.address).unwrap();
    assert_eq!(other.send(bodiless("GET /notes")).answer().unwrap().status, 200);
    scan(&gateway);
    for client in &mut idle {
        assert_eq!(client.closed(), b"", "closed without a word");
    }
    assert_eq!(other.send(bodiless("GET /notes")).answer().unwrap().status, 200);
}

#[test]
fn loopback_is_refused_and_counted_and_never_banned() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    for _ in 0..50 {
        assert_eq!(request_from(SCANNER, &gateway, "GET /.env").unwrap().status, 404);
    }
    assert!(is_served(SCANNER, &gateway));
    assert_eq!(gateway.bans().len(), 0);
    let metrics = gateway.metrics();
    let line = r#"firewall_contract_violations_total{action="refused",api="test",rule="route.unknown-path"} 50"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn the_allowlist_is_never_banned() {
    let upstream = notes();
    let management = "loopback = false\nallow = [\"127.0.0.2/32\"]".into();
    let gateway = Gateway::start(&Setup { management, ..Setup::of(NOTES) }, &upstream);
    scan(&gateway);
    scan(&gateway);
    assert!(is_served(SCANNER, &gateway));
    // A range that covers it harms it no more than its own offences do.
    let range = json!({ "target": "127.0.0.0/29", "for_seconds": null, "reason": "test" });
    gateway.admin(&Method::POST, "/v1/bans", Some(&range));
    eventually("the range is in force", || (!is_served(NEIGHBOUR, &gateway)).then_some(()));
    assert!(is_served(SCANNER, &gateway));
}

#[test]
fn behind_a_trusted_proxy_the_client_is_banned_and_not_the_proxy() {
    let upstream = notes();
    let setup = Setup { clients: "trusted_proxies = [\"127.0.0.2/32\"]".into(), ..bannable() };
    let gateway = Gateway::start(&setup, &upstream);
    let through = |client: &str, path: &str| {
        let mut proxy = Client::connect_from(SCANNER, gateway.address).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n");
        proxy.send(head).answer().map(|answer| answer.status)
    };
    for path in ["/a", "/b", "/c"] {
        assert_eq!(through("192.0.2.66", path), Some(404));
    }
    // The proxy's connection stays: it carries other clients' requests.
    let mut shared = Client::connect_from(SCANNER, gateway.address).unwrap();
    for (client, status) in [("192.0.2.66", 403), ("192.0.2.67", 200)] {
        let head = format!("GET /notes HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n");
        assert_eq!(shared.send(head).answer().expect(client).status, status);
    }
    assert_eq!(through("192.0.2.66", "/notes"), Some(403));
    assert_eq!(through("192.0.2.67", "/notes"), Some(200));
    let bans = gateway.bans();
    assert_eq!(bans.len(), 1, "{bans:?}");
    assert_eq!(bans[0]["target"], "192.0.2.66/32");
    // What the proxy does in its own name, its health checks for one, bans nobody behind it.
    scan(&gateway);
    assert_eq!(through("192.0.2.67", "/notes"), Some(200));

    // Whoever is no proxy speaks for nobody: neither against another nor to free itself.
    let claim = "GET /a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.67\r\n\r\n";
    for _ in 0..3 {
        let mut client = Client::connect_from(NEIGHBOUR, gateway.address).unwrap();
        assert_eq!(client.send(claim).answer().unwrap().status, 404);
    }
    assert_eq!(through("192.0.2.67", "/notes"), Some(200));
    assert!(!is_served(NEIGHBOUR, &gateway));
}

#[test]
fn modes_of_bans() {
    for (mode, listed) in [("observe", 1), ("off", 0)] {
        let upstream = notes();
        let bans = format!("mode = \"{mode}\"");
        let gateway = Gateway::start(&Setup { bans, ..bannable() }, &upstream);
        scan(&gateway);
        assert!(is_served(SCANNER, &gateway), "{mode}");
        assert_eq!(gateway.status()["bans"], listed, "{mode}");
    }
}

#[test]
fn bans_survive_being_killed_with_their_ends() {
    let upstream = notes();
    let gateway = Gateway::start(&bannable(), &upstream);
    scan(&gateway);
    let ban = json!({ "target": "127.0.0.3/32", "for_seconds": 3600, "reason": "by hand" });
    gateway.admin(&Method::POST, "/v1/bans", Some(&ban));
    let ends = |gateway: &Gateway| {
        let mut bans: Vec<_> = gateway
            .bans()
            .iter()
            .map(|ban| {
                let target = ban["target"].as_str().unwrap().to_owned();
                (target, crate::kit::until_ms(ban).unwrap())
            })
            .collect();
        bans.sort();
        bans
    };
    let before = ends(&gateway);
    assert_eq!(before.len(), 2);
    // An operator's ban is on disk when the command returns, and with it what came before.
    // Nobody runs for longer than the ends below may differ: time goes on all the same.
    let gateway = gateway.kill_and_restart_after(
        |command| command.spawn().unwrap(),
        || std::thread::sleep(Duration::from_millis(2500)),
    );
    let after = ends(&gateway);
    assert_eq!(before.len(), after.len());
    for ((target, before), (same, after)) in before.iter().zip(&after) {
        assert_eq!(target, same);
        assert!(before.abs_diff(*after) <= 1000, "{target}: {before} and {after}");
    }
    assert!(!is_served(SCANNER, &gateway));
    assert!(!is_served(NEIGHBOUR, &gateway));
}
