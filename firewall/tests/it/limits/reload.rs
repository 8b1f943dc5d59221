//! Limits that change while the firewall runs: the next connection is opened by them, and those that there
//! are keep theirs.

use super::*;

/// Replaces one line of the configuration, and has it read.
#[track_caller]
fn reload(gateway: &Gateway, from: &str, to: &str) -> (Option<i32>, String) {
    let text = std::fs::read_to_string(&gateway.config).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    std::fs::write(&gateway.config, text.replace(from, to)).unwrap();
    gateway.cli(&["reload"])
}

/// The status of a request with a field of so many octets, on this connection.
fn padded(client: &mut Client, octets: usize) -> u16 {
    let padding = "a".repeat(octets);
    let request = format!("GET /notes HTTP/1.1\r\nHost: a.test\r\nX-Padding: {padding}\r\n\r\n");
    client.send(request).answer().expect("an answer").status
}

#[test]
fn heads_and_streams() {
    let upstream = notes();
    let before =
        "head_octets = 1000\ntarget_octets = 100\nhead_fields = 20\n[limits.http2]\nstreams = 1";
    let gateway = Gateway::start(&setup(before), &upstream);
    let connect = || Client::connect(gateway.address);
    let (mut kept, mut kept2) = (connect(), Http2::connect(gateway.address));
    assert!(is_served(&mut kept) && kept2.is_served());
    assert_eq!((padded(&mut connect(), 500), padded(&mut connect(), 2000)), (200, 431));

    let after =
        "head_octets = 3000\ntarget_octets = 20\nhead_fields = 2\n[limits.http2]\nstreams = 2";
    let (code, text) = reload(&gateway, before, after);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(padded(&mut connect(), 2000), 200, "the next connection");
    assert_eq!(padded(&mut connect(), 3000), 431, "and it has a limit");
    let answer = connect().send(bodiless("GET /notes?limit=111111111")).answer().unwrap();
    assert_eq!(answer.rule(), "framing.target-too-long");
    let fields = "GET /notes HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n";
    assert_eq!(connect().send(fields).answer().unwrap().status, 431);
    assert_eq!(padded(&mut kept, 2000), 431, "the one that was there");

    let post = block(&request("POST", "/notes", &[("content-type", "application/json")]));
    let two_at_once = |client: &mut Http2| {
        let ids = [client.head(0, &post), client.head(0, &post)];
        for id in ids {
            client.send(frame(DATA, END_STREAM, id, br#"{"text":"a"}"#));
        }
        ids.map(|id| client.outcome(id).reset)
    };
    assert_eq!(two_at_once(&mut kept2), [None, Some(7)]);
    assert_eq!(two_at_once(&mut Http2::connect(gateway.address)), [None, None]);
}

#[test]
fn time_and_numbers() {
    let upstream = notes();
    let before = "head_timeout = \"60s\"\nconnections_per_source = 50\nconnections_per_worker = 60";
    let gateway = Gateway::start(&setup(before), &upstream);
    let mut kept = Client::connect_from(source(1), gateway.address).unwrap();
    assert!(is_served(&mut kept));
    let after = "head_timeout = \"300ms\"\nconnections_per_source = 2\nconnections_per_worker = 3";
    let (code, text) = reload(&gateway, before, after);
    assert_eq!(code, Some(0), "{text}");
    let answer = Client::connect(gateway.address).send("GET").answer().expect("a refusal");
    assert_eq!(answer.rule(), "framing.head-timeout");
    let connect = |last| Client::connect_from(source(last), gateway.address).unwrap();
    let mut second = connect(1);
    assert!(is_served(&mut second));
    let third = Client::is_let_in(source(1), gateway.address, bodiless("GET /notes"));
    assert!(!third, "the source's third");
    counts(&gateway, "firewall_connections_refused_total{reason=\"source-full\"} 1");
    // In all, too: who is idle for longest makes room for a fourth.
    let mut others = [connect(2), connect(3)];
    assert!(others.iter_mut().all(is_served));
    ended(&gateway, "room", 1);
    assert!(kept.send(bodiless("GET /notes")).answer().is_none());
}

/// Each key that a running firewall cannot change is named, and nothing is changed by halves.
#[test]
fn what_needs_a_restart_is_named() {
    let upstream = notes();
    let gateway = Gateway::start(&setup("head_octets = 1000\ntarget_octets = 100"), &upstream);
    let text = std::fs::read_to_string(&gateway.config).unwrap();
    let text = text.replace("workers = 1", "workers = 2\nbacklog = 7");
    std::fs::write(&gateway.config, text).unwrap();
    let (code, text) = reload(&gateway, "head_octets = 1000", "head_octets = 3000");
    assert_eq!(code, Some(2));
    let named = "listen.workers, listen.backlog cannot change without a restart";
    assert!(text.contains(named), "{text}");
    assert_eq!(padded(&mut Client::connect(gateway.address), 2000), 431);
    assert!(gateway.metrics().contains("firewall_config_last_reload_successful 0"));
}
