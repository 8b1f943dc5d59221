//! Limits of connections, sizes and time in both versions of HTTP: what is let pass at n, what is not at
//! n and one more, and what log and metrics say of it.

mod exhaustion;
mod reload;

use std::net::{IpAddr, SocketAddr, TcpStream};

use crate::contract::{NOTES, notes};
use crate::kit::client::{Client, bodiless};
use crate::kit::frames::{DATA, END_STREAM, Http2, SETTINGS, block, frame, request, setting};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json};
use crate::kit::{PATIENCE, eventually};

/// More than the kernel's buffers of a connection hold.
const LONG: usize = 8 << 20;

/// One worker, in front of the notes, for both versions of HTTP in plain text.
fn setup(limits: &str) -> Setup {
    let listen = "workers = 1\nhttp2 = \"prior-knowledge\"".into();
    Setup { listen, limits: limits.into(), ..Setup::of(NOTES) }
}

/// The same, where answers pass as they come.
fn passing(limits: &str) -> Setup {
    Setup { api: "responses = \"off\"".into(), ..setup(limits) }
}

/// One of the host's addresses.
fn source(last: u8) -> IpAddr {
    [127, 0, 1, last].into()
}

/// Waits until a counter has come to be there.
#[track_caller]
fn counts(gateway: &Gateway, line: &str) {
    eventually(line, || gateway.metrics().contains(&format!("\n{line}\n")).then_some(()));
}

#[track_caller]
fn ended(gateway: &Gateway, reason: &str, count: u32) {
    counts(gateway, &format!("firewall_connections_ended_total{{reason=\"{reason}\"}} {count}"));
}

/// An upstream with an answer that is longer than a connection's buffers, and a short one.
fn long() -> Upstream {
    let long = json("200 OK", &format!("[{}]", " ".repeat(LONG)));
    Upstream::start(move |request| match request.line() {
        "GET /notes?limit=1 HTTP/1.1" => long.clone(),
        _ => json("200 OK", "[]"),
    })
}

/// A connection whose client has little room for what it does not read.
fn narrow(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect_timeout(&to.into(), PATIENCE).unwrap();
    socket.into()
}

fn is_served(client: &mut Client) -> bool {
    client.send(bodiless("GET /notes")).answer().is_some_and(|answer| answer.status == 200)
}

#[test]
fn each_end_has_its_reason() {
    let upstream = long();
    let limits = "idle_timeout = \"400ms\"\nhead_timeout = \"400ms\"";
    let gateway = Gateway::start(&passing(limits), &upstream);
    // HTTP/1.1: asked nothing at all, and nothing more.
    assert!(Client::connect(gateway.address).closed().is_empty());
    ended(&gateway, "silent", 1);
    let mut client = Client::connect(gateway.address);
    assert!(is_served(&mut client) && client.closed().is_empty());
    ended(&gateway, "idle", 1);
    // The same in HTTP/2: before its settings, after them, and after a request.
    assert_eq!(Http2::silent(source(1), gateway.address).closed(), None);
    ended(&gateway, "silent", 2);
    assert_eq!(Http2::connect(gateway.address).closed(), Some(0));
    ended(&gateway, "silent", 3);
    let mut client = Http2::connect(gateway.address);
    assert!(client.is_served());
    assert_eq!(client.closed(), Some(0));
    ended(&gateway, "idle", 2);
    // Who takes nothing of an answer loses the connection, in either version.
    let mut client = Client::over(narrow(source(2), gateway.address));
    client.send(bodiless("GET /notes?limit=1"));
    ended(&gateway, "untaken", 1);
    let line = eventually("the exchange is logged with its reason", || {
        gateway.access_log().into_iter().find(|line| line["ended"] == "untaken")
    });
    assert_eq!((&line["status"], &line["verdict"]), (&200.into(), &"passed".into()), "{line}");
    assert!(line["response_octets"].as_u64().unwrap() < LONG as u64, "{line}");
    counts(&gateway, "firewall_http_exchanges_ended_total{reason=\"untaken\"} 1");
    // In HTTP/2, by its window, it loses the stream alone.
    let settings = [setting(1, 0), setting(4, 0)].concat();
    let mut client = Http2::begin(source(3), gateway.address, &settings);
    let id = client.ask(&request("GET", "/notes?limit=1", &[]));
    assert_eq!(client.outcome(id).reset, Some(8));
    counts(&gateway, "firewall_http_exchanges_ended_total{reason=\"untaken\"} 2");
    let errors = gateway.errors();
    assert!(errors.contains("connection ended") && errors.contains("untaken"), "{errors}");
    drop(client);
    // What ends by its client's will has no reason of ours.
    drop(Client::connect(gateway.address));
    let metrics = gateway.metrics();
    assert!(
        metrics.contains("firewall_connections_ended_total{reason=\"untaken\"} 1"),
        "{metrics}"
    );
}

/// Beyond HTTP's own windows: an HTTP/2 client that opens all of them, and does not read.
#[test]
fn a_socket_that_nobody_reads_is_ended_in_http2_too() {
    let upstream = long();
    let gateway = Gateway::start(&passing("idle_timeout = \"500ms\""), &upstream);
    let mut stream = narrow(source(1), gateway.address);
    let mut octets = crate::kit::frames::PREFACE.to_vec();
    let settings = [setting(1, 0), setting(4, 0x7fff_ffff)].concat();
    octets.extend(frame(SETTINGS, 0, 0, &settings));
    octets.extend(frame(8, 0, 0, &0x7000_0000_u32.to_be_bytes()));
    octets.extend(frame(1, 5, 1, &block(&request("GET", "/notes?limit=1", &[]))));
    std::io::Write::write_all(&mut stream, &octets).unwrap();
    ended(&gateway, "untaken", 1);
    assert!(Http2::connect(gateway.address).is_served());
}

/// Every seat is taken by a request at work: nobody can make room, and the next one is told so.
#[test]
fn connections_in_all() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::start(move |_| {
        wait.lock().unwrap().recv().unwrap_or(());
        json("200 OK", "[]")
    });
    let gateway = Gateway::start(&setup("connections_per_worker = 3"), &upstream);
    let mut seated: Vec<_> = (1..=3)
        .map(|last| {
            let mut client = Client::connect_from(source(last), gateway.address).unwrap();
            client.send(bodiless("GET /notes"));
            client
        })
        .collect();
    eventually("three are at work", || {
        let metrics = gateway.metrics();
        metrics.contains("\nfirewall_connections 3\n").then_some(())
    });
    // As long as they are, a fourth is turned away; who comes before their requests have may be let in.
    let is_turned_away = || {
        let fourth = Client::connect_from(source(4), gateway.address);
        let answered = fourth.map(|mut client| client.send(bodiless("GET /notes")).closed());
        answered.map_or(true, |octets| octets.is_empty())
    };
    eventually("their requests are under way", || (upstream.received().len() == 3).then_some(()));
    assert!(is_turned_away());
    counts(&gateway, "firewall_connections_refused_total{reason=\"worker-full\"} 1");
    assert!(gateway.errors().contains("worker-full"), "{}", gateway.errors());
    (0..4).for_each(|_| go.send(()).unwrap());
    for client in &mut seated {
        assert_eq!(client.answer().expect("an answer").status, 200);
    }
    // They are idle now, and make room.
    let mut fourth = Client::connect_from(source(4), gateway.address).unwrap();
    assert!(is_served(&mut fourth));
    ended(&gateway, "room", 1);
}

/// As many requests at once as the client likes are read a buffer at a time, and answered in order.
#[test]
fn pipelined_requests_are_bounded_by_what_is_read_at_once() {
    const COUNT: usize = 2_000;
    let upstream = notes();
    let gateway = Gateway::start(&setup("idle_timeout = \"20s\""), &upstream);
    let mut client = Client::connect(gateway.address);
    let mut sending = client.clone_stream();
    let writer = std::thread::spawn(move || {
        let one = bodiless("GET /notes");
        std::io::Write::write_all(&mut sending, one.repeat(COUNT).as_bytes())
    });
    for number in 0..COUNT {
        assert_eq!(client.answer().expect("an answer").status, 200, "{number}");
    }
    writer.join().unwrap().unwrap();
    assert_eq!(upstream.received().len(), COUNT);
}

/// Bodies by the contract and by `body_octets`, announced and not, in both versions.
#[test]
fn bodies_at_their_limit() {
    const LIMIT: usize = 100;
    let upstream = notes();
    let gateway = Gateway::start(&setup(&format!("body_octets = {LIMIT}")), &upstream);
    let body = |octets: usize| format!("{:octets$}", r#"{"text":"a"}"#);
    let head = "POST /notes HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\n";
    for (octets, status) in [(LIMIT, 201), (LIMIT + 1, 413)] {
        let body = body(octets);
        let rule = (status == 413).then_some("body.too-large");
        let framed = [
            format!("{head}Content-Length: {octets}\r\n\r\n{body}"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{octets:x}\r\n{body}\r\n0\r\n\r\n"),
        ];
        for request in framed {
            let answer = Client::connect(gateway.address).send(&request).answer().unwrap();
            assert_eq!(answer.status, status, "{request}");
            assert_eq!(rule, rule.map(|_| answer.rule()).as_deref(), "{request}");
        }
        let length = octets.to_string();
        for more in [vec![("content-length", &*length)], vec![]] {
            let fields = [vec![("content-type", "application/json")], more].concat();
            let fields = request("POST", "/notes", &fields);
            let mut client = Http2::connect(gateway.address);
            let id = client.head(0, &block(&fields));
            client.send(frame(DATA, END_STREAM, id, body.as_bytes()));
            let outcome = client.outcome(id);
            assert_eq!(outcome.status, Some(status), "{fields:?}");
            assert_eq!(outcome.rule(), rule.unwrap_or_default(), "{fields:?}");
            assert!(client.is_served(), "the connection goes on");
        }
    }
    assert_eq!(upstream.received().iter().filter(|got| got.body.len() > LIMIT).count(), 0);
    let line = "firewall_contract_violations_total{action=\"refused\",api=\"test\",rule=\"body.too-large\"} 4";
    counts(&gateway, line);
}

/// Streams beyond those that one connection may have: refused, told, and no offence.
#[test]
fn streams_of_a_connection() {
    let upstream = notes();
    let management = "loopback = false\nown_addresses = false".into();
    let setup = Setup { management, ..setup("[limits.http2]\nstreams = 2") };
    let gateway = Gateway::start(&setup, &upstream);
    let mut client = Http2::connect(gateway.address);
    let post = block(&request("POST", "/notes", &[("content-type", "application/json")]));
    let open = [client.head(0, &post), client.head(0, &post)];
    // More than the errors of a client that may be forgiven at once.
    for number in 0..60 {
        let beyond = client.head(0, &post);
        assert_eq!(client.outcome(beyond).reset, Some(7), "{number}");
    }
    for id in open {
        client.send(frame(DATA, END_STREAM, id, br#"{"text":"a"}"#));
        assert_eq!(client.outcome(id).status, Some(201));
    }
    assert!(client.is_served());
    let rule = "framing.http2-streams";
    let lines = eventually("each is logged", || {
        let lines = gateway.access_log().into_iter().filter(|line| line["rule"] == rule);
        Some(lines.collect::<Vec<_>>()).filter(|lines| lines.len() == 60)
    });
    assert_eq!(lines[0]["status"], 429, "{}", lines[0]);
    let line = format!(
        "firewall_contract_violations_total{{action=\"refused\",api=\"test\",rule=\"{rule}\"}} 60"
    );
    counts(&gateway, &line);
    assert_eq!(gateway.bans(), [] as [serde_json::Value; 0]);
}
