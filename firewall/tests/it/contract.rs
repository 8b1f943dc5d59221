//! Requests and answers through the real program, against a recording upstream.

use crate::kit::client::{Client, bodiless, exchange, with_body};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json};

pub(crate) const NOTES: &str = include_str!("contracts/notes.yaml");

/// An upstream that keeps the contract of `notes.yaml`.
pub(crate) fn notes() -> Upstream {
    Upstream::start(|request| {
        let line = request.line();
        if line.starts_with("POST /notes") {
            let body = r#"{"id":7,"text":"hello"}"#;
            let length = body.len();
            return format!(
                "HTTP/1.1 201 Created\r\nX-Version: 3\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
            .into_bytes();
        }
        if line.starts_with("DELETE ") || line.contains("/newest") {
            return b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
        }
        if line.contains(" /notes/") {
            return json("200 OK", r#"{"id":7,"text":"hello"}"#);
        }
        json("200 OK", r#"[{"id":7,"text":"hello"}]"#)
    })
}

#[test]
fn requests_by_their_contract() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let post = |body: &str| with_body("POST /notes", "application/json", body);
    let deep = format!("{}{}", r#"{"text":"a","replies":["#.repeat(70), "]}".repeat(70));
    let cases: Vec<(String, u16, &str, &str)> = vec![
        (bodiless("GET /notes"), 200, "", ""),
        (bodiless("GET /notes?limit=1"), 200, "", ""),
        (bodiless("GET /notes?limit=100&tag=a&tag=b"), 200, "", ""),
        (bodiless("GET /notes?limit=0"), 400, "parameter.schema", "query:limit"),
        (bodiless("GET /notes?limit=101"), 400, "parameter.schema", "query:limit"),
        (bodiless("GET /notes?limit=x"), 400, "parameter.type", "query:limit"),
        (bodiless("GET /notes?limit=1&limit=2"), 400, "parameter.repeated", "query:limit"),
        (bodiless("GET /notes?tag=123456789"), 400, "parameter.schema", "query:tag"),
        (bodiless("GET /notes?other=1"), 400, "parameter.unknown", ""),
        (bodiless("GET /notes/7"), 200, "", ""),
        (bodiless("GET /notes/x"), 400, "parameter.type", "path:id"),
        (bodiless("GET /notes/newest"), 204, "", ""),
        (bodiless("GET /nothing"), 404, "route.unknown-path", ""),
        (bodiless("PUT /notes"), 405, "route.method", ""),
        (bodiless("GET //notes"), 400, "route.path", ""),
        (bodiless("GET /notes/../notes"), 400, "route.path", ""),
        (bodiless("GET /notes/%2e%2e"), 400, "route.path", ""),
        (bodiless("POST /notes"), 400, "body.missing", ""),
        (post(r#"{"text":"a"}"#), 201, "", ""),
        (post(r#"{"text":"a","replies":[{"text":"b","replies":[{"text":"c"}]}]}"#), 201, "", ""),
        (post(r#"{"text":""}"#), 400, "body.schema", "/text"),
        (
            post(r#"{"text":"a","replies":[{"text":"b"},{"text":7}]}"#),
            400,
            "body.schema",
            "/replies/1/text",
        ),
        (post(r#"{"text":"a","secret":1}"#), 400, "body.schema", ""),
        (post(r#"{"text":"a","id":1}"#), 400, "body.schema", ""),
        (post(r#"{"text":"a","mail":"x"}"#), 400, "body.schema", "/mail"),
        (post(r#"{"text":"a","text":"b"}"#), 400, "body.duplicate-member", ""),
        (post(r#"{"text":"a"} x"#), 400, "body.malformed", ""),
        (post("{"), 400, "body.malformed", ""),
        (post(&deep), 400, "body.too-deep", ""),
        (with_body("POST /notes", "text/plain", "a"), 415, "body.media-type", ""),
        // mojolicious#261: of two types each reader picks its own.
        (
            with_body(
                "POST /notes",
                "application/json\r\nContent-Type: text/plain",
                r#"{"text":"a"}"#,
            ),
            415,
            "body.media-type",
            "",
        ),
        (
            with_body("POST /notes", "Application/JSON; charset=UTF-8", r#"{"text":"a"}"#),
            201,
            "",
            "",
        ),
        (
            with_body("POST /notes", "application/json; charset=latin1", r#"{"text":"a"}"#),
            415,
            "body.encoding",
            "",
        ),
        (
            post(r#"{"text":"a"}"#).replace("Host:", "Content-Encoding: gzip\r\nHost:"),
            415,
            "body.encoding",
            "",
        ),
        (
            post(r#"{"text":"a"}"#).replace("Host:", "Content-Encoding: identity\r\nHost:"),
            201,
            "",
            "",
        ),
        (with_body("GET /notes", "application/json", "{}"), 400, "body.unexpected", ""),
        (with_body("DELETE /notes/7", "application/json", "{}"), 400, "body.unexpected", ""),
    ];
    let mut forwarded = 0;
    for (request, status, rule, place) in cases {
        let answer = exchange(gateway.address, &request);
        assert_eq!(answer.status, status, "{request}\n{}", answer.text());
        if rule.is_empty() {
            forwarded += 1;
        } else {
            assert_eq!(answer.rule(), rule, "{request}");
            let problem = answer.json();
            let found = problem["pointer"].as_str().or(problem["parameter"].as_str());
            if !place.is_empty() {
                assert_eq!(found, Some(place), "{request}");
            }
        }
        if status == 405 {
            let mut allowed: Vec<_> = answer.header("allow").unwrap().split(", ").collect();
            allowed.retain(|method| *method != "HEAD");
            assert_eq!(allowed, ["GET", "POST"]);
        }
        assert_eq!(upstream.received().len(), forwarded, "what was refused was not forwarded");
    }
}

#[test]
fn a_refusal_echoes_nothing_that_was_sent() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    for request in [
        bodiless("GET /canary-path"),
        bodiless("GET /notes?canary=1"),
        bodiless("GET /notes?limit=canary"),
        bodiless("GET /notes/canary"),
        with_body("POST /notes", "application/json", r#"{"text":"a","canary":"canary"}"#),
        with_body("POST /notes", "application/json", r#"{"text":["canary"]}"#),
        with_body("POST /notes", "application/canary", "canary"),
        bodiless("canary /notes"),
    ] {
        let answer = exchange(gateway.address, &request);
        assert!((400..500).contains(&answer.status), "{request}");
        assert!(!answer.head.contains("canary"), "{request}\n{}", answer.head);
        assert!(!answer.text().contains("canary"), "{request}\n{}", answer.text());
    }
    let log = crate::kit::eventually("eight lines", || {
        let log = gateway.access_log();
        (log.len() == 8).then_some(log)
    });
    for line in log {
        assert!(!line.to_string().contains("canary"), "{line}");
        assert_eq!(line["verdict"], "refused");
    }
    assert_eq!(upstream.received(), []);
}

#[test]
fn what_was_checked_is_what_is_forwarded() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    for (sent, forwarded) in [
        ("/notes/7", "/notes/7"),
        ("/notes/%37", "/notes/7"),
        ("/%6eotes?limit=%31", "/notes?limit=1"),
        ("/notes?tag=a%26b", "/notes?tag=a%26b"),
    ] {
        let answer = exchange(gateway.address, bodiless(&format!("GET {sent}")));
        assert_eq!(answer.status, 200, "{sent}: {}", answer.text());
        let received = upstream.received();
        assert_eq!(received.last().unwrap().line(), format!("GET {forwarded} HTTP/1.1"));
    }
}

#[test]
fn fields_of_the_hop_stay_on_the_hop() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let answer = exchange(
        gateway.address,
        "GET /notes HTTP/1.1\r\nHost: shop.test\r\nConnection: keep-alive, X-Secret\r\n\
         X-Secret: NOT-CHECKED\r\nKeep-Alive: 5\r\nX-Forwarded-For: 10.9.9.9\r\n\
         Accept-Encoding: gzip\r\nX-Other: kept\r\n\r\n",
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let received = upstream.received().pop().unwrap();
    for gone in ["connection", "keep-alive", "x-secret", "accept-encoding"] {
        assert_eq!(received.header(gone), None, "{}", received.head);
    }
    assert_eq!(received.header("x-other"), Some("kept"));
    assert_eq!(received.header("host"), Some("shop.test"));
    assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn answers_by_their_contract() {
    let note = r#"{"id":7,"text":"hello"}"#;
    let head = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n";
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (json("200 OK", "[]"), 200, ""),
        (json("200 OK", &format!("[{note}]")), 200, ""),
        (json("200 OK", r#"[{"text":7}]"#), 502, "response.schema"),
        (json("200 OK", r#"[{"text":"a","password":"x"}]"#), 502, "response.schema"),
        (json("200 OK", "[{"), 502, "response.malformed"),
        (json("200 OK", ""), 502, "response.missing-body"),
        (json("500 Internal Server Error", "{}"), 502, "response.status"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>".to_vec(), 502, "response.media-type"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\nabc".to_vec(), 502, "response.encoding"),
        (format!("{head}Content-Length: 2\r\n\r\n[]").into_bytes(), 502, "response.status"),
    ];
    for (octets, status, rule) in cases {
        let shown = String::from_utf8_lossy(&octets).into_owned();
        let upstream = Upstream::start(move |_| octets.clone());
        let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
        let answer = exchange(gateway.address, bodiless("GET /notes"));
        assert_eq!(answer.status, status, "{shown}\n{}", answer.text());
        if !rule.is_empty() {
            assert_eq!(answer.rule(), rule, "{shown}");
            assert!(!answer.text().contains("password"), "{}", answer.text());
        }
    }
    let missing_header = format!("{head}Content-Length: {}\r\n\r\n{note}", note.len());
    let upstream = Upstream::start(move |_| missing_header.clone().into_bytes());
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let answer =
        exchange(gateway.address, with_body("POST /notes", "application/json", r#"{"text":"a"}"#));
    assert_eq!((answer.status, answer.rule().as_str()), (502, "response.header"));
}

#[test]
fn bodies_at_their_limit() {
    let upstream = notes();
    let setup = Setup { limits: "body_octets = 64".into(), ..Setup::of(NOTES) };
    let gateway = Gateway::start(&setup, &upstream);
    let body = |octets: usize| format!("{:octets$}", r#"{"text":"a"}"#);
    for (octets, status) in [(64, 201), (65, 413)] {
        let request = with_body("POST /notes", "application/json", &body(octets));
        let answer = exchange(gateway.address, request);
        assert_eq!(answer.status, status, "{octets} octets: {}", answer.text());
        let chunked = format!(
            "POST /notes HTTP/1.1\r\nHost: shop.test\r\nContent-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n{octets:x}\r\n{}\r\n0\r\n\r\n",
            body(octets)
        );
        let answer = exchange(gateway.address, chunked);
        assert_eq!(answer.status, status, "{octets} octets in a chunk: {}", answer.text());
    }
    // What is too long is refused at once: when it is announced, and when it has come, not when it
    // has ended.
    let head = "POST /notes HTTP/1.1\r\nHost: shop.test\r\nContent-Type: application/json\r\n";
    for unended in [
        format!("{head}Content-Length: 65\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n41\r\n{}\r\n", body(65)),
    ] {
        let answer = exchange(gateway.address, unended);
        assert_eq!((answer.status, answer.rule().as_str()), (413, "body.too-large"));
    }
}

#[test]
fn a_connection_serves_many_requests_and_pools_upstream() {
    let upstream = notes();
    let setup = Setup { listen: "workers = 1".into(), ..Setup::of(NOTES) };
    let gateway = Gateway::start(&setup, &upstream);
    let mut client = Client::connect(gateway.address);
    for _ in 0..20 {
        assert_eq!(client.send(bodiless("GET /notes/7")).answer().unwrap().status, 200);
    }
    let metrics = gateway.metrics();
    let counted = |origin: &str| {
        let name =
            format!("firewall_upstream_connections_total{{api=\"test\",origin=\"{origin}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name.as_str()));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    assert_eq!((counted("new"), counted("reused")), (1, 19), "{metrics}");
}

#[test]
fn an_upstream_that_is_not_there_is_a_502_and_no_offence() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup { management: "loopback = false".into(), ..Setup::of(NOTES) };
    let gateway = Gateway::start_with(&setup, &format!("http://{closed}"), |command| {
        command.spawn().unwrap()
    });
    for _ in 0..10 {
        let answer = exchange(gateway.address, bodiless("GET /notes"));
        assert_eq!(answer.status, 502);
        assert_eq!(answer.json()["type"], "urn:firewall:upstream:connect");
        assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    }
    assert_eq!(gateway.bans(), Vec::<serde_json::Value>::new());
}
