//! Who the client is: behind balancers and proxies, and whatever anybody claims.

use std::net::{IpAddr, Ipv4Addr};

use crate::contract::{NOTES, notes};
use crate::kit::client::Client;
use crate::kit::gateway::{Gateway, Setup};

const BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn behind_a_balancer() -> Setup {
    Setup {
        listen: "proxy_protocol = [\"127.0.0.2/32\"]\nworkers = 1".into(),
        management: "loopback = false".into(),
        ..Setup::of(NOTES)
    }
}

fn behind_a_proxy() -> Setup {
    Setup {
        clients: "trusted_proxies = [\"127.0.0.2/32\"]".into(),
        management: "loopback = false".into(),
        ..Setup::of(NOTES)
    }
}

/// A header of version 1.
fn line(source: &str) -> String {
    let family = if source.contains(':') { "TCP6" } else { "TCP4" };
    let destination = if source.contains(':') { "::1" } else { "127.0.0.1" };
    format!("PROXY {family} {source} {destination} 40000 8080\r\n")
}

/// A connection that begins with these octets.
fn connect(source: IpAddr, gateway: &Gateway, octets: impl AsRef<[u8]>) -> Client {
    let mut client = Client::connect_from(source, gateway.address).unwrap();
    client.send(octets);
    client
}

/// The status of the answer; none where there is none.
fn get(client: &mut Client, path: &str, fields: &str) -> Option<u16> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    client.send(request).answer().map(|answer| answer.status)
}

#[test]
fn whom_a_balancer_names_is_banned_and_nobody_else() {
    let upstream = notes();
    let gateway = Gateway::start(&behind_a_balancer(), &upstream);
    let ask = |source: &str, path| get(&mut connect(BALANCER, &gateway, line(source)), path, "");
    let mut open = connect(BALANCER, &gateway, line("192.0.2.66"));
    let mut neighbours = connect(BALANCER, &gateway, line("192.0.2.67"));
    assert_eq!(get(&mut open, "/notes", ""), Some(200));
    assert_eq!(get(&mut neighbours, "/notes", ""), Some(200));
    for path in ["/a", "/b", "/c"] {
        assert_eq!(ask("192.0.2.66", path), Some(404));
    }
    assert_eq!(open.closed(), b"", "his other connections end with the ban");
    assert_eq!(ask("192.0.2.66", "/notes"), None, "closed when he is named, without a word");
    assert_eq!(ask("::ffff:192.0.2.66", "/notes"), None, "under any name");
    assert_eq!(get(&mut neighbours, "/notes", ""), Some(200));
    assert_eq!(ask("192.0.2.67", "/notes"), Some(200));
    let bans = gateway.bans();
    assert_eq!(bans.len(), 1, "{bans:?}");
    assert_eq!(bans[0]["target"], "192.0.2.66/32");

    // The balancer is itself where it says so, and whatever it does then, others stand behind it.
    for header in [&b"PROXY UNKNOWN\r\n"[..], &[BINARY, &[0x20, 0, 0, 0]].concat()] {
        for path in ["/a", "/b", "/c", "/d"] {
            assert_eq!(get(&mut connect(BALANCER, &gateway, header), path, ""), Some(404));
        }
        assert_eq!(get(&mut connect(BALANCER, &gateway, header), "/notes", ""), Some(200));
    }
    let address = [192, 0, 2, 66, 127, 0, 0, 1, 0x9c, 0x40, 0x1f, 0x90];
    let header = [BINARY, &[0x21, 0x11, 0, 12], &address[..]].concat();
    assert_eq!(get(&mut connect(BALANCER, &gateway, header), "/notes", ""), None);
}

#[test]
fn who_is_no_balancer_names_nobody() {
    let upstream = notes();
    let gateway = Gateway::start(&behind_a_balancer(), &upstream);
    let binary = [BINARY, &[0x20, 0, 0, 0]].concat();
    for header in [line("192.0.2.67").as_bytes(), &binary, line("192.0.2.67").as_bytes()] {
        let mut client = connect(STRANGER, &gateway, header);
        if let Some(answer) = client.send("GET /notes HTTP/1.1\r\nHost: a\r\n\r\n").answer() {
            assert!(answer.rule().starts_with("framing."), "{answer:?}");
        }
    }
    let mut passed_on = connect(BALANCER, &gateway, line("192.0.2.67"));
    assert_eq!(get(&mut passed_on, "/notes", ""), Some(200), "he was not harmed");
    assert_eq!(get(&mut connect(STRANGER, &gateway, ""), "/notes", ""), None, "he is banned");
    let bans = gateway.bans();
    assert_eq!(bans.len(), 1, "{bans:?}");
    assert_eq!(bans[0]["target"], "127.0.0.3/32");
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn a_balancer_must_say_whose_connection_it_is() {
    let upstream = notes();
    let limits = "proxy_header_timeout = \"300ms\"".into();
    let gateway = Gateway::start(&Setup { limits, ..behind_a_balancer() }, &upstream);
    let request = "GET /notes HTTP/1.1\r\nHost: a\r\n\r\n";
    let long = format!("PROXY UNKNOWN {}", "x".repeat(100));
    let refused: [&[u8]; 4] = [
        request.as_bytes(),
        b"PROXY TCP4 192.0.2.1\r\n",
        long.as_bytes(),
        &[BINARY, &[0x31, 0x11, 0, 0]].concat(),
    ];
    for octets in refused {
        assert_eq!(connect(BALANCER, &gateway, octets).closed(), b"", "{octets:?}");
    }
    for octets in [&b""[..], b"PROXY TCP4 192.0.2.1", BINARY] {
        assert_eq!(connect(BALANCER, &gateway, octets).closed(), b"", "{octets:?}");
    }
    // A health check that only connects is no failure.
    drop(connect(BALANCER, &gateway, ""));
    let metrics = gateway.metrics();
    for (reason, count) in [("proxy-header", 4), ("proxy-header-timeout", 3)] {
        let line = format!("firewall_connections_refused_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    assert_eq!(upstream.received().len(), 0);
    let mut sound = connect(BALANCER, &gateway, line("2001:db8::1"));
    assert_eq!(get(&mut sound, "/notes", ""), Some(200));
}

#[test]
fn a_balancer_is_held_to_no_number_and_each_of_its_clients_to_his() {
    let upstream = notes();
    let limits = "connections_per_source = 2".into();
    let gateway = Gateway::start(&Setup { limits, ..behind_a_balancer() }, &upstream);
    let open = |source: &str| {
        let mut client = connect(BALANCER, &gateway, line(source));
        (get(&mut client, "/notes", ""), client)
    };
    let mut kept = Vec::new();
    for (source, status) in [
        ("192.0.2.1", Some(200)),
        ("192.0.2.1", Some(200)),
        ("192.0.2.1", None),
        ("192.0.2.2", Some(200)),
        ("192.0.2.3", Some(200)),
        ("2001:db8::1", Some(200)),
        ("2001:db8::2", Some(200)),
        ("2001:db8::3", None),
    ] {
        let (found, client) = open(source);
        assert_eq!(found, status, "{source}");
        kept.push(client);
    }
}

#[test]
fn behind_a_balancer_only_trusted_proxies_speak_for_others() {
    let upstream = notes();
    let clients = "trusted_proxies = [\"198.51.100.0/24\"]".into();
    let gateway = Gateway::start(&Setup { clients, ..behind_a_balancer() }, &upstream);
    for (source, field, forwarded) in [
        ("192.0.2.1", "192.0.2.66", "192.0.2.1"),
        ("192.0.2.1", "rubbish", "192.0.2.1"),
        ("198.51.100.7", "192.0.2.66, 192.0.2.5", "192.0.2.66, 192.0.2.5, 198.51.100.7"),
    ] {
        let mut client = connect(BALANCER, &gateway, line(source));
        let field = format!("X-Forwarded-For: {field}\r\n");
        assert_eq!(get(&mut client, "/notes", &field), Some(200));
        let received = upstream.received();
        assert_eq!(received.last().unwrap().header("x-forwarded-for"), Some(forwarded));
    }
    let mut client = connect(BALANCER, &gateway, line("198.51.100.7"));
    assert_eq!(get(&mut client, "/notes", "X-Forwarded-For: rubbish\r\n"), Some(400));
}

#[test]
fn who_claims_anothers_address_through_a_proxy_harms_himself_alone() {
    let upstream = notes();
    let gateway = Gateway::start(&behind_a_proxy(), &upstream);
    let ask = |path, fields| get(&mut connect(BALANCER, &gateway, ""), path, fields);
    let claims = [
        "X-Forwarded-For: 192.0.2.67, 192.0.2.66\r\n",
        "X-Forwarded-For: 192.0.2.67\r\nX-Forwarded-For: 192.0.2.66\r\n",
        "Forwarded: for=192.0.2.67;by=127.0.0.2, for=\"192.0.2.66:4711\"\r\n",
        "X-Forwarded-For: unknown, 127.0.0.2, ::ffff:192.0.2.66\r\n",
    ];
    for fields in &claims[..3] {
        assert_eq!(ask("/.env", fields), Some(404), "{fields}");
    }
    let bans = gateway.bans();
    assert_eq!(bans.len(), 1, "{bans:?}");
    assert_eq!(bans[0]["target"], "192.0.2.66/32");
    assert_eq!(ask("/notes", "X-Forwarded-For: 192.0.2.67\r\n"), Some(200), "he was not harmed");
    for fields in claims {
        assert_eq!(ask("/notes", fields), Some(403), "it does not free him: {fields}");
    }
    // What he adds beside the proxy's field contradicts it.
    let both = "Forwarded: for=192.0.2.67\r\nX-Forwarded-For: 192.0.2.66\r\n";
    assert_eq!(ask("/notes", both), Some(400));
    assert_eq!(ask("/notes", "X-Forwarded-For: 192.0.2.67\r\n"), Some(200));
}
