//! HTTP/2, frame by frame on the client's socket: what is ambiguous is refused, what is too much ends
//! the connection, and what is neither is served.

use std::net::IpAddr;

use crate::contract::{NOTES, notes};
use crate::kit::client::{Client, bodiless, with_body};
use crate::kit::eventually;
use crate::kit::frames::{
    DATA, END_HEADERS, END_STREAM, Fields, GOAWAY, HEADERS, Http2, PING, PREFACE, PROTOCOL_ERROR,
    SETTINGS, block, frame, request, setting,
};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json};

/// What a client library makes of it.
mod clients;
/// Each limit at what it allows, and beyond.
mod limits;

/// The notes, in plain text.
fn plain() -> Setup {
    Setup { listen: "http2 = \"prior-knowledge\"".into(), ..Setup::of(NOTES) }
}

/// Waits for a line of the log that names the rule.
#[track_caller]
fn logged(gateway: &Gateway, rule: &str, what: &str) -> serde_json::Value {
    eventually(&format!("{what}: {rule} is logged"), || {
        gateway.access_log().into_iter().find(|line| line["rule"] == rule)
    })
}

/// What becomes of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Served,
    Refused(&'static str, u16),
    /// h2 resets the stream, with this code.
    Reset(u32),
    /// h2 ends the connection, with this code.
    Goaway(u32),
}

impl Expected {
    #[track_caller]
    fn check(self, gateway: &Gateway, what: &str, fields: &Fields) {
        let mut client = Http2::connect(gateway.address);
        let id = client.ask(fields);
        let outcome = client.outcome(id);
        let found = match (&client.goaway, outcome.reset, outcome.status) {
            (Some(goaway), ..) => Self::Goaway(goaway.code()),
            (None, Some(code), _) => Self::Reset(code),
            (None, None, Some(200)) => Self::Served,
            (None, None, status) => {
                let known = [
                    "framing.host",
                    "framing.target",
                    "framing.target-too-long",
                    "framing.request-line",
                    "framing.field-line",
                    "framing.content-length",
                    "framing.expectation",
                    "framing.upgrade",
                    "framing.head-too-large",
                    "parameter.type",
                    "route.method",
                ];
                let rule = outcome.rule();
                let rule = known.into_iter().find(|known| *known == rule);
                Self::Refused(rule.unwrap_or("?"), status.unwrap_or_default())
            }
        };
        assert_eq!(found, self, "{what}: {}", String::from_utf8_lossy(&outcome.body));
        if !matches!(found, Self::Goaway(_)) {
            assert!(client.is_served(), "{what}: the connection's other requests are served");
        }
    }
}

fn get(more: &[(&str, &str)]) -> Fields {
    request("GET", "/notes", more)
}

fn post(more: &[(&str, &str)]) -> Fields {
    let mut fields = request("POST", "/notes", &[("content-type", "application/json")]);
    fields.extend(more.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    fields
}

/// A request with another value of this field, or without it.
fn with(name: &str, value: Option<&str>) -> Fields {
    let mut fields = get(&[]);
    match value {
        Some(value) => fields
            .iter_mut()
            .filter(|field| field.0 == name)
            .for_each(|field| field.1 = value.into()),
        None => fields.retain(|field| field.0 != name),
    }
    fields
}

/// A request with this field before the others.
fn before(name: &str, value: &str) -> Fields {
    [vec![(name.into(), value.into())], get(&[])].concat()
}

const BODY: &str = r#"{"text":"a"}"#;

#[test]
fn requests_by_their_contract() {
    let upstream = notes();
    let gateway = Gateway::start(&plain(), &upstream);
    let mut client = Http2::connect(gateway.address);
    for (fields, body, status, rule) in [
        (get(&[]), "", 200, ""),
        (request("GET", "/notes/7", &[]), "", 200, ""),
        (request("GET", "/notes/newest", &[]), "", 204, ""),
        (request("HEAD", "/notes", &[]), "", 200, ""),
        (request("GET", "/notes?limit=0", &[]), "", 400, "parameter.schema"),
        (request("GET", "/nothing", &[]), "", 404, "route.unknown-path"),
        (request("PUT", "/notes", &[]), "", 405, "route.method"),
        (request("GET", "/notes/../notes", &[]), "", 400, "route.path"),
        (post(&[]), "", 400, "body.missing"),
        (post(&[]), BODY, 201, ""),
        (post(&[("content-length", "12")]), BODY, 201, ""),
        (post(&[]), r#"{"text":""}"#, 400, "body.schema"),
        (get(&[]), BODY, 400, "body.unexpected"),
    ] {
        let id = if body.is_empty() {
            client.ask(&fields)
        } else {
            client.ask_with(&fields, body.as_bytes())
        };
        let outcome = client.outcome(id);
        let found = (outcome.status, outcome.rule());
        assert_eq!(found, (Some(status), rule.to_owned()), "{fields:?} {body}");
    }
    assert!(client.is_served(), "all on one connection");
    let lines = gateway.access_log();
    assert!(lines.iter().all(|line| line["protocol"] == "HTTP/2"), "{lines:?}");
}

/// The upstream gets each request as HTTP/1.1 writes it, with one host and one framing.
#[test]
fn what_goes_upstream_is_plainly_one_request() {
    let upstream = notes();
    let gateway = Gateway::start(&plain(), &upstream);
    let mut client = Http2::connect(gateway.address);
    let crumbs = [
        ("cookie", "a=1"),
        ("x-b", "c"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("host", "A.test"),
    ];
    for (fields, body) in [
        (get(&crumbs), ""),
        (
            with(":authority", None)
                .into_iter()
                .chain([("host".into(), "a.test".into())])
                .collect(),
            "",
        ),
        (post(&[]), BODY),
        (post(&[("content-length", "12"), ("expect", "100-continue")]), BODY),
    ] {
        let id = if body.is_empty() {
            client.ask(&fields)
        } else {
            client.ask_with(&fields, body.as_bytes())
        };
        assert!(client.outcome(id).status.is_some_and(|status| status < 300), "{fields:?}");
    }
    let received = upstream.received();
    assert_eq!(received.len(), 4);
    for request in &received {
        let lines = request.head.lines().skip(1).map(str::to_ascii_lowercase);
        let count = |name: &str| lines.clone().filter(|line| line.starts_with(name)).count();
        assert_eq!(count("host:"), 1, "{}", request.head);
        assert!(count("content-length:") + count("transfer-encoding:") <= 1, "{}", request.head);
        for name in [":", "te:", "expect:", "connection:", "http2-settings:"] {
            assert_eq!(count(name), 0, "{}", request.head);
        }
        assert!(request.line().ends_with(" HTTP/1.1"));
    }
    assert_eq!(received[0].header("cookie"), Some("a=1; b=2"));
    assert_eq!(received[0].header("x-b"), Some("c"));
    assert_eq!(received[1].header("host"), Some("a.test"));
    for request in &received[2..] {
        assert_eq!(
            (request.header("content-length"), request.body.as_slice()),
            (Some("12"), BODY.as_bytes())
        );
    }
}

#[test]
fn heads_that_could_be_read_in_two_ways() {
    use Expected::{Goaway, Refused, Reset, Served};
    let upstream = notes();
    let gateway = Gateway::start(&plain(), &upstream);
    let reset = Reset(PROTOCOL_ERROR);
    let goaway = Goaway(PROTOCOL_ERROR);
    let (host, target) = (Refused("framing.host", 400), Refused("framing.target", 400));
    let (length, line) =
        (Refused("framing.content-length", 400), Refused("framing.field-line", 400));
    for (what, fields, expected) in [
        ("plain", get(&[]), Served),
        ("no method", with(":method", None), reset),
        ("no scheme", with(":scheme", None), reset),
        ("no path", with(":path", None), reset),
        ("no authority", with(":authority", None), host),
        ("empty path", with(":path", Some("")), reset),
        ("relative path", with(":path", Some("notes")), reset),
        ("absolute target", with(":path", Some("http://a.test/notes")), reset),
        ("version in path", with(":path", Some("/notes HTTP/1.1")), reset),
        ("lines in path", with(":path", Some("/notes HTTP/1.1\r\nX: a")), reset),
        ("NUL in path", with(":path", Some("/notes\0")), reset),
        ("beyond ASCII", with(":path", Some("/notes?limit=\u{e9}")), target),
        ("lines in method", with(":method", Some("GET / HTTP/1.1\r\nX: a\r\n")), goaway),
        ("blank in method", with(":method", Some("GET /")), goaway),
        ("empty method", with(":method", Some("")), goaway),
        (
            "long method",
            with(":method", Some(&"A".repeat(33))),
            Refused("framing.request-line", 400),
        ),
        (
            "32 octets of method",
            with(":method", Some(&"A".repeat(32))),
            Refused("route.method", 405),
        ),
        ("CONNECT with a path", with(":method", Some("CONNECT")), reset),
        (
            "CONNECT",
            vec![(":method".into(), "CONNECT".into()), (":authority".into(), "a.test:80".into())],
            target,
        ),
        ("ftp", with(":scheme", Some("ftp")), target),
        ("https", with(":scheme", Some("https")), Served),
        ("blank in scheme", with(":scheme", Some("ht tp")), reset),
        ("user", with(":authority", Some("a@b.test")), host),
        ("blank in authority", with(":authority", Some("a .test")), reset),
        ("empty authority", with(":authority", Some("")), reset),
        ("lines in authority", with(":authority", Some("a.test\r\nX: b")), reset),
        ("path in authority", with(":authority", Some("a.test/x")), reset),
        ("the same host", get(&[("host", "A.test")]), Served),
        ("another host", get(&[("host", "b.test")]), host),
        ("two hosts", get(&[("host", "a.test"), ("host", "a.test")]), host),
        ("two methods", before(":method", "GET"), reset),
        ("two paths", before(":path", "/a"), reset),
        ("unknown pseudo-field", before(":foo", "a"), goaway),
        ("a status", before(":status", "200"), reset),
        ("pseudo-fields behind others", before("a", "b"), reset),
        ("upper case", get(&[("X-A", "b")]), goaway),
        ("empty name", get(&[("", "b")]), goaway),
        ("colon in name", get(&[("a:b", "c")]), goaway),
        ("blank in name", get(&[("a b", "c")]), goaway),
        ("CR LF", get(&[("a", "b\r\nc: d")]), goaway),
        ("LF", get(&[("a", "b\nc: d")]), goaway),
        ("NUL", get(&[("a", "b\0")]), goaway),
        ("DEL", get(&[("a", "b\x7f")]), goaway),
        ("leading blank", get(&[("a", " b")]), line),
        ("trailing tab", get(&[("a", "b\t")]), line),
        ("tab within", get(&[("a", "b\tc")]), Served),
        ("Connection", get(&[("connection", "close")]), reset),
        ("Transfer-Encoding", get(&[("transfer-encoding", "chunked")]), reset),
        ("Keep-Alive", get(&[("keep-alive", "a")]), reset),
        ("Proxy-Connection", get(&[("proxy-connection", "a")]), reset),
        ("Upgrade", get(&[("upgrade", "h2c")]), reset),
        ("HTTP2-Settings", get(&[("http2-settings", "AAA")]), Refused("framing.upgrade", 400)),
        ("TE: trailers", get(&[("te", "trailers")]), Served),
        ("TE: gzip", get(&[("te", "gzip")]), reset),
        ("TE with more", get(&[("te", "trailers, gzip")]), reset),
        ("Expect", get(&[("expect", "magic")]), Refused("framing.expectation", 417)),
        ("length of nothing", get(&[("content-length", "0")]), Served),
        ("length without body", get(&[("content-length", "5")]), reset),
        ("signed length", get(&[("content-length", "+0")]), reset),
        ("superfluous zero", get(&[("content-length", "00")]), length),
        ("two lengths", get(&[("content-length", "0"), ("content-length", "0")]), length),
        ("two other lengths", get(&[("content-length", "0"), ("content-length", "5")]), reset),
        ("a list of lengths", get(&[("content-length", "0, 0")]), reset),
        ("a huge length", get(&[("content-length", "99999999999999999999999")]), reset),
    ] {
        expected.check(&gateway, what, &fields);
    }
    let fields =
        [vec![(":protocol".into(), "websocket".into())], with(":method", Some("CONNECT"))].concat();
    reset.check(&gateway, "extended CONNECT", &fields);
    logged(&gateway, "framing.http2-malformed", "what h2 refuses");
    for request in upstream.received() {
        assert_eq!(request.line(), "GET /notes HTTP/1.1", "what was refused went nowhere");
    }
}

/// H2.CL and what else a body can contradict.
#[test]
fn bodies_that_contradict_their_head() {
    let upstream = notes();
    let gateway = Gateway::start(&plain(), &upstream);
    for (length, is_served) in [("11", false), ("12", true), ("13", false), ("0", false)] {
        let mut client = Http2::connect(gateway.address);
        let id = client.ask_with(&post(&[("content-length", length)]), BODY.as_bytes());
        let outcome = client.outcome(id);
        let expected = if is_served { (Some(201), None) } else { (None, Some(PROTOCOL_ERROR)) };
        let found = (outcome.status.filter(|status| *status != 408), outcome.reset);
        assert_eq!(found, expected, "{length}");
    }
    // Trailers are refused as they are in HTTP/1.
    let mut client = Http2::connect(gateway.address);
    let id = client.head(0, &block(&post(&[])));
    client.send(frame(DATA, 0, id, BODY.as_bytes()));
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, id, &block(&[("x-a", "b")])));
    let outcome = client.outcome(id);
    assert_eq!((outcome.status, outcome.rule().as_str()), (Some(400), "framing.trailer"));
    assert!(client.is_served());
    let bodies: Vec<_> = upstream
        .received()
        .into_iter()
        .filter(|request| request.line().starts_with("POST"))
        .collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

/// Where nothing is checked bodies stream through, with one framing and never more than was told.
#[test]
fn bodies_in_flight() {
    let upstream = Upstream::start(|_| json("200 OK", "{}"));
    let api = "requests = \"off\"\nresponses = \"off\"".to_owned();
    let gateway = Gateway::start(&Setup { api, ..plain() }, &upstream);
    let mut client = Http2::connect(gateway.address);
    for (more, framing) in
        [(vec![("content-length", "12")], "content-length"), (vec![], "transfer-encoding")]
    {
        let id = client.head(0, &block(&post(&more)));
        for part in BODY.as_bytes().chunks(5) {
            client.send(frame(DATA, 0, id, part));
        }
        client.send(frame(DATA, END_STREAM, id, b""));
        assert_eq!(client.outcome(id).status, Some(200));
        let received = upstream.received().pop().unwrap();
        assert!(received.header(framing).is_some(), "{}", received.head);
        assert_eq!(received.body, BODY.as_bytes());
    }
    let before = upstream.received().len();
    let id = client.head(0, &block(&post(&[("content-length", "100")])));
    client.send(frame(DATA, END_STREAM, id, BODY.as_bytes()));
    assert_eq!(client.outcome(id).reset, Some(PROTOCOL_ERROR));
    assert!(client.is_served());
    assert_eq!(upstream.received().len(), before + 1, "half a body is none");
}

#[test]
fn many_at_once() {
    let upstream = Upstream::start(|request| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let number = request.line().split(['/', ' ']).nth(3).unwrap_or("7").to_owned();
        json("200 OK", &format!("{{\"id\":{number},\"text\":\"{}\"}}", "a".repeat(40)))
    });
    let gateway = Gateway::start(&plain(), &upstream);
    let mut client = Http2::connect(gateway.address);
    client.frame_of(SETTINGS).unwrap();
    let ids: Vec<_> = (0..100)
        .map(|number| client.ask(&request("GET", &format!("/notes/{number}"), &[])))
        .collect();
    for (number, id) in ids.into_iter().enumerate() {
        let outcome = client.outcome(id);
        assert_eq!(outcome.status, Some(200), "{number}");
        let answer: serde_json::Value = serde_json::from_slice(&outcome.body).unwrap();
        assert_eq!(answer["id"], number);
    }
    assert_eq!(upstream.received().len(), 100);
}

/// HTTP/1 is told from HTTP/2 by its first octets, however they come.
#[test]
fn both_versions_in_plain_text() {
    let upstream = notes();
    let gateway = Gateway::start(&plain(), &upstream);
    for request in [bodiless("GET /notes"), with_body("POST /notes", "application/json", BODY)] {
        for cut in [1, 2, 25, request.len()] {
            let mut client = Client::connect(gateway.address);
            for part in [&request[..cut], &request[cut..]] {
                client.send(part);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let answer = client.answer().expect("an answer");
            assert!(matches!(answer.status, 200 | 201), "{cut}: {}", answer.text());
            assert_eq!(client.send(bodiless("GET /notes")).answer().unwrap().status, 200);
        }
    }
    let mut client = Http2::silent([127, 0, 0, 1].into(), gateway.address);
    for octet in PREFACE {
        client.send([*octet]);
    }
    client.send(frame(SETTINGS, 0, 0, &setting(1, 0)));
    assert!(client.is_served());
    let answer = Client::connect(gateway.address).send(&PREFACE[..20]).send("X").answer();
    assert_eq!(answer.expect("a refusal").rule(), "framing.target");
    assert_eq!(logged(&gateway, "framing.target", "nearly a preface")["protocol"], "HTTP/1.1");
    // Where plain text is not for HTTP/2 its preface is a bad request.
    for listen in ["", "http2 = \"off\""] {
        let gateway =
            Gateway::start(&Setup { listen: listen.into(), ..Setup::of(NOTES) }, &upstream);
        let answer = Client::connect(gateway.address).send(PREFACE).answer().expect("a refusal");
        assert_eq!((answer.status, answer.rule().as_str()), (400, "framing.target"));
    }
}

const BAD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const GOOD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 3));

/// What h2 refuses counts as what we refuse: the source is banned, and every connection of it ends.
#[test]
fn malformed_frames_ban_their_source() {
    let upstream = notes();
    let setup = Setup { management: "loopback = false".into(), ..plain() };
    let gateway = Gateway::start(&setup, &upstream);
    let mut other = Http2::connect_from(BAD, gateway.address);
    let mut neighbour = Http2::connect_from(GOOD, gateway.address);
    assert!(other.is_served() && neighbour.is_served());
    let mut client = Http2::connect_from(BAD, gateway.address);
    for _ in 0..3 {
        let id = client.ask(&get(&[("connection", "close")]));
        assert!(client.outcome(id).status.is_none());
    }
    client.closed();
    other.closed();
    let bans = eventually("the ban", || Some(gateway.bans()).filter(|bans| !bans.is_empty()));
    assert_eq!(
        (bans[0]["target"].as_str(), bans[0]["rule"].as_str()),
        (Some("127.0.0.2/32"), Some("framing.http2-malformed"))
    );
    assert!(neighbour.is_served());
    assert!(!Http2::is_let_in(BAD, gateway.address));
}

/// A ban that a request brings about is told on its stream, and ends the connection with all that is
/// under way on it.
#[test]
fn a_ban_has_last_words() {
    let upstream = Upstream::start(|request| {
        if request.line().contains("limit") {
            std::thread::sleep(std::time::Duration::from_secs(3));
        }
        json("200 OK", "[]")
    });
    let setup = Setup { management: "loopback = false".into(), ..plain() };
    let gateway = Gateway::start(&setup, &upstream);
    let mut client = Http2::connect_from(BAD, gateway.address);
    let slow = client.ask(&request("GET", "/notes?limit=1", &[]));
    for path in ["/.env", "/wp-login.php", "/actuator"] {
        let id = client.ask(&request("GET", path, &[]));
        assert_eq!(client.outcome(id).status, Some(404), "{path}");
    }
    assert_eq!(client.outcome(slow).status, None, "the banned get no answer");
    client.closed();
    assert_eq!(gateway.bans()[0]["target"], "127.0.0.2/32");
}

/// Drain: what is under way is finished, what is idle is let go, and no new request is taken.
#[test]
fn what_is_under_way_is_finished() {
    let upstream = Upstream::start(|request| {
        if request.line().contains("limit") {
            std::thread::sleep(std::time::Duration::from_millis(700));
        }
        json("200 OK", "[]")
    });
    let mut gateway = Gateway::start(&plain(), &upstream);
    let (mut busy, mut idle) = (Http2::connect(gateway.address), Http2::connect(gateway.address));
    assert!(idle.is_served() && busy.is_served());
    let mut fresh = Http2::connect(gateway.address);
    fresh.frame_of(SETTINGS).unwrap();
    let slow = busy.ask(&request("GET", "/notes?limit=1", &[]));
    eventually("it is under way", || (upstream.received().len() == 3).then_some(()));
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(busy.frame_of(GOAWAY).expect("a word").code(), 0);
    assert_eq!(busy.outcome(slow).status, Some(200));
    for client in [&mut busy, &mut idle, &mut fresh] {
        // A client that answers our ping, as all do, and one that does not.
        client.send(frame(PING, 1, 0, &[0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54]));
        assert_eq!(client.closed(), Some(0));
    }
    assert_eq!(gateway.ended(), Some(0));
}
