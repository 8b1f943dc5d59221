//! Messages that two readers could take differently, octet by octet: what is ambiguous is refused
//! whole and takes the connection with it, and what is not is served, each request as one.

use std::net::IpAddr;

use crate::contract::{NOTES, notes};
use crate::kit::client::{Client, bodiless, exchange};
use crate::kit::eventually;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::Upstream;

/// What hides behind each message; the upstream must see it only where it is plainly a request.
const SECOND: &str = "GET /notes/7 HTTP/1.1\r\nHost: second.test\r\n\r\n";

/// A request to list the notes, with these field lines.
fn get(fields: &str) -> String {
    format!("GET /notes HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

/// A request to add a note, with these field lines and these octets after them.
fn post(fields: &str, rest: &str) -> String {
    format!(
        "POST /notes HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\n{fields}\r\n{rest}"
    )
}

const LENGTH: &str = "Content-Length: 12\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const BODY: &str = r#"{"text":"a"}"#;
const CHUNKS: &str = "c\r\n{\"text\":\"a\"}\r\n0\r\n\r\n";

/// Two requests in a row: both are answered, and the upstream sees two.
fn plain() -> Vec<(String, u16)> {
    let request = |line: &str| format!("{line}\r\nHost: a.test\r\n\r\n");
    vec![
        (get(""), 200),
        (get("Content-Length: 0\r\n"), 200),
        (get("Host-Name: b.test\r\n"), 200),
        (get("X-Folded: a, b\r\n"), 200),
        (get("X-Tab:\ta\t\r\n"), 200),
        (get("X-Text: \u{e9}\r\n"), 200),
        (get("X-Empty:\r\n"), 200),
        (get("TE: trailers\r\nTrailer: X\r\n"), 200),
        (get("Content-Lengths: 5\r\n"), 200),
        (get("Transfer-Encodings: gzip\r\n"), 200),
        (post(LENGTH, BODY), 201),
        (post("content-length:12\r\n", BODY), 201),
        (post("Content-Length: \t12 \r\n", BODY), 201),
        (post(CHUNKED, CHUNKS), 201),
        (post("transfer-encoding:Chunked\r\n", CHUNKS), 201),
        (post(CHUNKED, "6\r\n{\"text\r\n0000000000000006\r\n\":\"a\"}\r\n00\r\n\r\n"), 201),
        (post(CHUNKED, "C\r\n{\"text\":\"a\"}\r\n0\r\n\r\n"), 201),
        (post(&format!("{LENGTH}Connection: Content-Length\r\n"), BODY), 201),
        (request("GET /notes/%37 HTTP/1.1"), 200),
        (get("Connection: keep-alive, Host\r\n"), 200),
        ("GET /notes HTTP/1.1\r\nhOST:a.test:8080\r\n\r\n".into(), 200),
        ("GET /notes HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n".into(), 200),
        ("GET /notes HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n".into(), 200),
    ]
}

/// Two lengths, or none that all readers agree on.
fn lengths() -> Vec<(String, &'static str)> {
    let conflict = "framing.length-conflict";
    let length = "framing.content-length";
    let coding = "framing.transfer-encoding";
    let mut cases = vec![
        (post(&format!("{LENGTH}{CHUNKED}"), CHUNKS), conflict),
        (post(&format!("{CHUNKED}{LENGTH}"), CHUNKS), conflict),
        (post(&format!("Content-Length: 0\r\n{CHUNKED}"), CHUNKS), conflict),
        (
            post(&format!("Content-Length: 0\r\nConnection: Content-Length\r\n{CHUNKED}"), CHUNKS),
            conflict,
        ),
        (post(&format!("{LENGTH}{LENGTH}"), BODY), length),
        (post(&format!("{LENGTH}Content-Length: 0\r\n"), BODY), length),
        (post(&format!("{CHUNKED}{CHUNKED}"), CHUNKS), coding),
        (post(&format!("{CHUNKED}Transfer-Encoding: identity\r\n"), CHUNKS), coding),
        (post(&format!("Transfer-Encoding: identity\r\n{CHUNKED}"), CHUNKS), coding),
        (format!("POST /notes HTTP/1.0\r\nHost: a.test\r\n{CHUNKED}\r\n{CHUNKS}"), coding),
    ];
    for value in [
        "+12",
        "-12",
        "12, 12",
        "12,0",
        "12;",
        "012",
        "0x0c",
        "1 2",
        "12.0",
        "12_",
        "",
        " ",
        "9223372036854775808",
        "18446744073709551628",
        "99999999999999999999999",
    ] {
        cases.push((post(&format!("Content-Length: {value}\r\n"), BODY), length));
    }
    for value in [
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "identity",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        ", chunked",
        "chunked,",
        "chunked;q=1",
        "chun\tked",
        "",
    ] {
        cases.push((post(&format!("Transfer-Encoding: {value}\r\n"), CHUNKS), coding));
    }
    for fields in ["Transfer-Encoding : chunked\r\n", "Content-Length\t: 12\r\n"] {
        cases.push((post(fields, BODY), "framing.field-line"));
    }
    cases
}

/// A body whose chunks do not add up.
fn chunks() -> Vec<(String, &'static str)> {
    let bodies = [
        ("c;a=b\r\n{\"text\":\"a\"}\r\n0\r\n\r\n", "framing.chunk"),
        ("c \r\n{\"text\":\"a\"}\r\n0\r\n\r\n", "framing.chunk"),
        (" c\r\n{\"text\":\"a\"}\r\n0\r\n\r\n", "framing.chunk"),
        ("0xc\r\n{\"text\":\"a\"}\r\n0\r\n\r\n", "framing.chunk"),
        ("+c\r\n{\"text\":\"a\"}\r\n0\r\n\r\n", "framing.chunk"),
        ("-1\r\n{\"text\":\"a\"}\r\n0\r\n\r\n", "framing.chunk"),
        ("\r\n{\"text\":\"a\"}\r\n0\r\n\r\n", "framing.chunk"),
        ("1000000000000000c\r\n{\"text\":\"a\"}\r\n0\r\n\r\n", "framing.chunk"),
        ("c\n{\"text\":\"a\"}\r\n0\r\n\r\n", "framing.chunk"),
        ("c\r{\"text\":\"a\"}\r\n0\r\n\r\n", "framing.chunk"),
        ("c\r\n{\"text\":\"a\"}\n0\r\n\r\n", "framing.chunk"),
        ("c\r\n{\"text\":\"a\"}0\r\n\r\n", "framing.chunk"),
        ("b\r\n{\"text\":\"a\"}\r\n0\r\n\r\n", "framing.chunk"),
        ("c\r\n{\"text\":\"a\"}\r\n0\r\n\n", "framing.chunk"),
        ("c\r\n{\"text\":\"a\"}\r\n0\r\nX-Late: 1\r\n\r\n", "framing.trailer"),
        ("c\r\n{\"text\":\"a\"}\r\n0\r\nContent-Length: 0\r\n\r\n", "framing.trailer"),
    ];
    bodies.into_iter().map(|(body, rule)| (post(CHUNKED, body), rule)).collect()
}

/// Lines that end, begin or break where they should not.
fn lines() -> Vec<(String, &'static str)> {
    let (lf, cr, line) = ("framing.bare-lf", "framing.bare-cr", "framing.field-line");
    vec![
        ("GET /notes HTTP/1.1\nHost: a.test\n\n".into(), lf),
        ("GET /notes HTTP/1.1\r\nHost: a.test\n\r\n".into(), lf),
        (get("X: a\nY: b\r\n"), lf),
        ("GET /notes HTTP/1.1\r\nHost: a.test\r\n\n".into(), lf),
        (get("X: a\rY: b\r\n"), cr),
        ("GET /notes HTTP/1.1\rHost: a.test\r\n\r\n".into(), cr),
        (get("X: a\r\r\n"), cr),
        (get("X : a\r\n"), line),
        (get("X: a\r\n folded\r\n"), line),
        (get("X: a\r\n\tfolded\r\n"), line),
        ("GET /notes HTTP/1.1\r\n Host: a.test\r\nHost: a.test\r\n\r\n".into(), line),
        (get("X: a\0b\r\n"), line),
        (get("X\0: a\r\n"), line),
        (get("X: \u{7f}\r\n"), line),
        (get("X\r\n"), line),
        (get(": a\r\n"), line),
        (get("X(Y): a\r\n"), line),
        ("\r\nGET /notes HTTP/1.1\r\nHost: a.test\r\n\r\n".into(), "framing.request-line"),
        ("\nGET /notes HTTP/1.1\r\nHost: a.test\r\n\r\n".into(), "framing.request-line"),
    ]
}

/// Request lines and fields that name another server, another protocol or none.
fn routing() -> Vec<(String, u16, &'static str)> {
    let head = |line: &str| format!("{line}\r\nHost: a.test\r\n\r\n");
    let (host, target) = ("framing.host", "framing.target");
    vec![
        ("GET /notes HTTP/1.1\r\n\r\n".into(), 400, host),
        ("GET /notes HTTP/1.1\r\nHost:\r\n\r\n".into(), 400, host),
        (get("Host: a.test\r\n"), 400, host),
        (get("Host: b.test\r\n"), 400, host),
        ("GET /notes HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n".into(), 400, host),
        ("GET /notes HTTP/1.1\r\nHost: me@a.test\r\n\r\n".into(), 400, host),
        ("GET /notes HTTP/1.1\r\nHost: a.test/notes\r\n\r\n".into(), 400, host),
        ("GET /notes HTTP/1.1\r\nHost: a.test:99999\r\n\r\n".into(), 400, host),
        (head("GET http://a.test/notes HTTP/1.1"), 400, target),
        (head("GET notes HTTP/1.1"), 400, target),
        (head("GET /notes#x HTTP/1.1"), 400, target),
        (head("GET * HTTP/1.1"), 400, target),
        (head("GET /notes\\x HTTP/1.1"), 400, target),
        (head("GET /notes?a=\u{e9} HTTP/1.1"), 400, target),
        (head("CONNECT a.test:80 HTTP/1.1"), 400, target),
        (head("CONNECT /notes HTTP/1.1"), 400, target),
        ("GET /notes\r\n".into(), 505, "framing.version"),
        (head("GET /notes HTTP/2.0"), 505, "framing.version"),
        (head("GET /notes HTTP/1.2"), 505, "framing.version"),
        (head("GET /notes HTTP/1.10"), 505, "framing.version"),
        (head("GET /notes http/1.1"), 400, "framing.request-line"),
        (head("GET  /notes HTTP/1.1"), 400, target),
        (head("GET /notes  HTTP/1.1"), 400, "framing.request-line"),
        (head("GET /notes HTTP/1.1 "), 400, "framing.request-line"),
        (head("GET\t/notes HTTP/1.1"), 400, "framing.request-line"),
        (head(" GET /notes HTTP/1.1"), 400, "framing.request-line"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 400, target),
        (
            get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"),
            400,
            "framing.upgrade",
        ),
        (get("Upgrade: websocket\r\n"), 400, "framing.upgrade"),
        (get("HTTP2-Settings: AAMA\r\n"), 400, "framing.upgrade"),
        (post(&format!("{LENGTH}Expect: x\r\n"), BODY), 417, "framing.expectation"),
        (post(&format!("{LENGTH}Expect: 100-continue, x\r\n"), BODY), 417, "framing.expectation"),
    ]
}

#[test]
fn what_is_plain_is_served_and_so_is_what_follows() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    for (request, status) in plain() {
        let before = upstream.received().len();
        let mut client = Client::connect(gateway.address);
        client.send(format!("{request}{SECOND}"));
        for (expected, which) in [(status, "first"), (200, "second")] {
            let answer = client.answer().unwrap_or_else(|| panic!("{which}: {request:?}"));
            assert_eq!(answer.status, expected, "{which}: {request:?}\n{}", answer.text());
        }
        let received = upstream.received();
        assert_eq!(received.len(), before + 2, "{request:?}");
        assert!(received[before].header("host").is_some(), "{request:?}");
        assert_eq!(received[before + 1].header("host"), Some("second.test"), "{request:?}");
        assert_eq!(received[before + 1].line(), "GET /notes/7 HTTP/1.1");
    }
}

#[test]
fn what_is_ambiguous_is_refused_and_nothing_of_it_goes_on() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let mut cases = routing();
    for class in [lengths(), chunks(), lines()] {
        cases.extend(class.into_iter().map(|(octets, rule)| (octets, 400, rule)));
    }
    for (request, status, rule) in cases {
        let mut client = Client::connect(gateway.address);
        client.send(format!("{request}{SECOND}"));
        let answer = client.answer().unwrap_or_else(|| panic!("no answer to {request:?}"));
        assert_eq!((answer.status, answer.rule().as_str()), (status, rule), "{request:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{request:?}");
        let rest = client.closed();
        assert!(rest.is_empty(), "{request:?}: {}", String::from_utf8_lossy(&rest));
        assert_eq!(upstream.received(), [], "{request:?}");
    }
}

#[test]
fn a_bad_request_takes_its_turn_behind_good_ones() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let bad = post(&format!("{LENGTH}{CHUNKED}"), CHUNKS);
    for good in 1..=3 {
        let before = upstream.received().len();
        let mut client = Client::connect(gateway.address);
        client.send(format!("{}{bad}{SECOND}", get("").repeat(good)));
        for _ in 0..good {
            assert_eq!(client.answer().expect("a good one").status, 200);
        }
        let refused = client.answer().expect("the bad one");
        assert_eq!((refused.status, refused.rule().as_str()), (400, "framing.length-conflict"));
        assert!(client.closed().is_empty());
        assert_eq!(upstream.received().len(), before + good);
    }
}

/// The head of a request that is `octets` long in all.
fn head_of(octets: usize) -> String {
    let empty = get("X-Padding: \r\n").len();
    get(&format!("X-Padding: {}\r\n", "a".repeat(octets - empty)))
}

#[test]
fn heads_at_their_limits() {
    let upstream = notes();
    let fields = |count: usize| get(&"X: a\r\n".repeat(count - 1));
    let target = |octets: usize| {
        let target = format!("/notes?limit={}", "0".repeat(octets - "/notes?limit=1".len()) + "1");
        bodiless(&format!("GET {target}"))
    };
    let too_large = "framing.head-too-large";
    let too_long = "framing.target-too-long";
    let cases: [(&str, String, String, u16, &str); 4] = [
        ("head_octets = 600\ntarget_octets = 100", head_of(600), head_of(601), 431, too_large),
        ("head_fields = 7", fields(7), fields(8), 431, too_large),
        ("head_fields = 120", fields(120), fields(121), 431, too_large),
        ("target_octets = 40", target(40), target(41), 414, too_long),
    ];
    for (limits, within, beyond, status, rule) in cases {
        let setup = Setup { limits: limits.into(), ..Setup::of(NOTES) };
        let gateway = Gateway::start(&setup, &upstream);
        let answer = exchange(gateway.address, within);
        // A number may not begin with superfluous zeros; what counts is that the framing let it pass.
        let passed = answer.status == 200 || answer.rule().starts_with("parameter.");
        assert!(passed, "{limits}: {}", answer.text());
        let answer = exchange(gateway.address, beyond);
        assert_eq!((answer.status, answer.rule().as_str()), (status, rule), "{limits}");
    }
}

#[test]
fn who_is_slow_is_told_so() {
    let upstream = notes();
    let limits = "head_timeout = \"300ms\"\nbody_timeout = \"300ms\"\nidle_timeout = \"300ms\"";
    let gateway = Gateway::start(&Setup { limits: limits.into(), ..Setup::of(NOTES) }, &upstream);
    let complete = get("");
    for (sent, rule) in [
        ("G".to_owned(), "framing.head-timeout"),
        (complete[..complete.len() - 1].to_owned(), "framing.head-timeout"),
        (post(LENGTH, &BODY[..11]), "body.incomplete"),
        (post(CHUNKED, &CHUNKS[..9]), "body.incomplete"),
        (post(CHUNKED, &CHUNKS[..CHUNKS.len() - 1]), "body.incomplete"),
    ] {
        let mut client = Client::connect(gateway.address);
        let answer = client.send(&sent).answer().unwrap_or_else(|| panic!("{sent:?}"));
        assert_eq!((answer.status, answer.rule().as_str()), (408, rule), "{sent:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{sent:?}");
        assert!(client.closed().is_empty(), "{sent:?}");
    }
    assert_eq!(upstream.received(), []);
    // Who has nothing to say is let go without a word.
    let mut client = Client::connect(gateway.address);
    assert_eq!(client.send(&complete).answer().expect("an answer").status, 200);
    assert!(client.closed().is_empty());
    assert!(Client::connect(gateway.address).closed().is_empty());
}

#[test]
fn a_source_has_so_many_connections() {
    let upstream = notes();
    let setup = Setup {
        listen: "workers = 1".into(),
        limits: "connections_per_source = 3".into(),
        ..Setup::of(NOTES)
    };
    let gateway = Gateway::start(&setup, &upstream);
    let source: IpAddr = [127, 0, 0, 2].into();
    let is_served = |client: &mut Client| {
        client.send(get("")).answer().is_some_and(|answer| answer.status == 200)
    };
    let connect = |source| Client::connect_from(source, gateway.address).unwrap();
    let mut seated: Vec<_> = (0..3).map(|_| connect(source)).collect();
    assert!(seated.iter_mut().all(is_served));
    // It may be refused before it has seen that it was connected.
    let fourth = || Client::connect_from(source, gateway.address).ok();
    let is_fourth_served = || fourth().is_some_and(|mut client| is_served(&mut client));
    assert!(!is_fourth_served(), "a fourth");
    assert!(is_served(&mut connect([127, 0, 0, 3].into())), "another source's first");
    assert!(seated.iter_mut().all(is_served));
    seated.pop();
    eventually("the seat is free again", || is_fourth_served().then_some(()));
}

#[test]
fn what_waits_to_be_continued_is_checked_first() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let expecting = |fields: &str| post(&format!("{fields}Expect: 100-continue\r\n"), "");
    let mut client = Client::connect(gateway.address);
    client.send(expecting(LENGTH));
    assert_eq!(client.answer().expect("an interim answer").status, 100);
    assert_eq!(client.send(BODY).answer().expect("the answer").status, 201);
    assert_eq!(upstream.received()[0].header("expect"), None);
    for (request, rule) in [
        (expecting("Content-Length: 9999999\r\n"), "body.too-large"),
        (expecting("Content-Length: 12\r\nContent-Encoding: gzip\r\n"), "body.encoding"),
        (expecting(LENGTH).replace("/notes", "/nothing"), "route.unknown-path"),
    ] {
        let mut client = Client::connect(gateway.address);
        let answer = client.send(&request).answer().expect("a refusal");
        assert_eq!(answer.rule(), rule, "refused without an invitation to go on");
        // What it sends all the same is no request.
        assert!(client.send(SECOND).closed().is_empty());
    }
    assert_eq!(upstream.received().len(), 1);
}

/// Where the contract is not enforced bodies pass as they come; their framing is judged all the
/// same, and it is the client's fault that is named.
#[test]
fn framing_of_a_streamed_body_is_judged() {
    for mode in ["observe", "off"] {
        let upstream = notes();
        let api = format!("requests = \"{mode}\"\nresponses = \"{mode}\"");
        let gateway = Gateway::start(&Setup { api, ..Setup::of(NOTES) }, &upstream);
        let request = format!(
            "POST /elsewhere HTTP/1.1\r\nHost: a.test\r\n{CHUNKED}\r\n3\r\nabc\r\n0;x\r\n\r\n{SECOND}"
        );
        let mut client = Client::connect(gateway.address);
        let answer = client.send(request).answer().expect("a refusal");
        assert_eq!(answer.status, 400, "{mode}: {}", answer.text());
        assert_eq!(answer.rule(), "framing.chunk", "{mode}");
        assert!(client.closed().is_empty());
        assert_eq!(upstream.received(), [], "{mode}: half a request is none");
    }
}

/// A method that seldom has a body keeps it where the contract is not enforced.
#[test]
fn an_unusual_body_passes_where_it_is_not_checked() {
    for fields in [LENGTH, CHUNKED] {
        let upstream =
            Upstream::start(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
        let api = "requests = \"off\"\nresponses = \"off\"".to_owned();
        let gateway = Gateway::start(&Setup { api, ..Setup::of(NOTES) }, &upstream);
        let body = if fields == LENGTH { BODY } else { CHUNKS };
        let request = format!("{}{body}{SECOND}", get(fields));
        let mut client = Client::connect(gateway.address);
        assert_eq!(client.send(request).answer().expect("an answer").status, 200);
        assert_eq!(client.answer().expect("the second answer").status, 200);
        let received = upstream.received();
        assert_eq!(received.len(), 2, "{fields}");
        assert_eq!(received[0].body, BODY.as_bytes(), "{fields}");
    }
}
