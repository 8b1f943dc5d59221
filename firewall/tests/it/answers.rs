//! Answers that the contract refuses: what becomes of them, what the operator gets to see, and what
//! nobody else does.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::kit::client::{Answer, Client, bodiless, exchange};
use crate::kit::eventually;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json};

const THINGS: &str = r"
openapi: 3.0.4
info: { title: things, version: '1' }
paths:
  /things:
    get:
      responses:
        '200':
          description: ok
          headers: { X-Version: { required: true, schema: { type: integer } } }
          content: { application/json: { schema: { type: object } } }
        '404':
          description: none
          content: { application/json: { schema: { type: object } } }
    post:
      requestBody: { content: { application/json: { schema: { type: object } } } }
      responses: { '204': { description: taken } }
";

/// An answer with these lines after its status.
fn with(status: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// What the client of a gateway gets where the upstream answers so.
fn answered(setup: &Setup, octets: Vec<u8>) -> (Gateway, Answer) {
    let upstream = Upstream::start(move |_| octets.clone());
    let gateway = Gateway::start(setup, &upstream);
    let answer = exchange(gateway.address, bodiless("GET /things"));
    (gateway, answer)
}

fn logged(gateway: &Gateway) -> Value {
    eventually("a line", || gateway.access_log().pop())
}

const TRACE: &str = "<html><pre>java.lang.IllegalStateException: canary\n\tat a.B.c(B.java:7)";

#[test]
fn exceptions_are_named_to_the_operator_and_hidden_from_the_client() {
    let cases = [
        (
            with("500 Oops", "Content-Type: text/html\r\n", TRACE),
            "response.status",
            "java-stack-trace",
        ),
        (
            with(
                "200 OK",
                "X-Version: 1\r\nContent-Type: text/html\r\n",
                "<!doctype html><p>canary",
            ),
            "response.media-type",
            "html-page",
        ),
        // Declared, and as its schema demands.
        (
            json("404 Not Found", r#"{"canary":"SQLSTATE[42000]: canary"}"#),
            "response.exception",
            "sql-error",
        ),
    ];
    for (octets, rule, exception) in cases {
        let (gateway, answer) = answered(&Setup::of(THINGS), octets);
        assert_eq!((answer.status, answer.rule().as_str()), (502, rule));
        assert!(!answer.text().contains("canary"), "{}", answer.text());
        assert!(!answer.text().contains(exception), "{}", answer.text());
        let line = logged(&gateway);
        assert_eq!(
            (&line["rule"], &line["exception"]),
            (&rule.into(), &exception.into()),
            "{line}"
        );
        let counted = format!("firewall_exceptions_total{{exception=\"{exception}\"}} 1");
        assert!(gateway.metrics().contains(&counted), "{counted}");
        // Off by default: the log says what it was, and nothing of what it said.
        assert!(!line.to_string().contains("canary"), "{line}");
        assert!(line["upstream_media_type"].is_string(), "{line}");
        assert!(line["upstream_octets"].as_u64() > Some(0), "{line}");
    }
}

#[test]
fn refused_answers_are_kept_for_the_operator_alone() {
    let scratch = crate::kit::Scratch::new();
    let path = scratch.path().join("refused");
    let log = format!("refused_responses = \"{}\"\nrefused_response_octets = 20", path.display());
    let setup = Setup { log, ..Setup::of(THINGS) };
    let octets = with("500 Oops", "X-Debug: canary\r\nContent-Type: text/html\r\n", TRACE);
    let (gateway, answer) = answered(&setup, octets);
    assert_eq!(answer.status, 502);
    assert!(!format!("{answer:?}").contains("canary"));
    let line: Value = eventually("a line", || {
        let text = std::fs::read_to_string(&path).ok()?;
        text.ends_with('\n').then(|| serde_json::from_str(&text).unwrap())
    });
    assert_eq!(line["id"], logged(&gateway)["id"]);
    assert_eq!(line["status"], 500);
    assert_eq!(line["rule"], "response.status");
    assert_eq!(line["exception"], "java-stack-trace");
    assert_eq!(line["body"], TRACE[..20]);
    assert_eq!(line["body_is_whole"], false);
    assert_eq!(line["fields"][0], serde_json::json!(["x-debug", "canary"]));
    assert_eq!(line["fields_are_whole"], true);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_answer_to_head_is_checked_by_its_fields() {
    let json_type = "Content-Type: application/json\r\n";
    for (fields, expected) in [
        (format!("X-Version: 1\r\n{json_type}"), 200),
        ("X-Version: 1\r\n".to_owned(), 200),
        (format!("X-Version: one\r\n{json_type}"), 502),
        (json_type.to_owned(), 502),
        ("X-Version: 1\r\nContent-Type: text/html\r\n".to_owned(), 502),
    ] {
        let octets = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 20\r\n\r\n");
        let upstream = Upstream::start(move |_| octets.clone().into_bytes());
        let gateway = Gateway::start(&Setup::of(THINGS), &upstream);
        let request = "HEAD /things HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        let octets = Client::connect(gateway.address).send(request).closed();
        let text = String::from_utf8(octets).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {expected} ")), "{fields}\n{text}");
        assert!(text.ends_with("\r\n\r\n"), "no body: {text}");
    }
}

#[test]
fn parts_of_a_representation_are_neither_asked_for_nor_taken() {
    let ranged = "GET /things HTTP/1.1\r\nHost: a.test\r\nRange: bytes=0-4\r\n\
                  If-Range: \"x\"\r\nX-Kept: 1\r\n\r\n";
    let whole = "X-Version: 1\r\nContent-Type: application/json\r\n";
    let part = format!("{whole}Content-Range: bytes 0-4/9\r\n");
    for (mode, octets, status, rule) in [
        ("enforce", with("200 OK", whole, "{}"), 200, ""),
        ("enforce", with("206 Partial Content", &part, "{\"a\":"), 502, "response.partial"),
        ("enforce", with("200 OK", &part, "{}"), 502, "response.partial"),
        ("observe", with("206 Partial Content", &part, "{\"a\":"), 206, ""),
    ] {
        let upstream = Upstream::start(move |_| octets.clone());
        let api = format!("responses = \"{mode}\"");
        let gateway = Gateway::start(&Setup { api, ..Setup::of(THINGS) }, &upstream);
        let answer = exchange(gateway.address, ranged);
        assert_eq!(answer.status, status, "{}", answer.text());
        if !rule.is_empty() {
            assert_eq!(answer.rule(), rule);
        }
        let received = upstream.received().pop().unwrap();
        for name in ["range", "if-range"] {
            assert_eq!(received.header(name).is_some(), mode == "observe", "{}", received.head);
        }
        assert_eq!(received.header("x-kept"), Some("1"));
    }
}

#[test]
fn an_optional_body_that_turns_out_to_be_none_needs_no_type() {
    let upstream = Upstream::start(|_| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    let gateway = Gateway::start(&Setup::of(THINGS), &upstream);
    let head = "POST /things HTTP/1.1\r\nHost: a.test\r\n";
    for (rest, status, rule) in [
        ("\r\n", 204, ""),
        ("Content-Length: 0\r\n\r\n", 204, ""),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 204, ""),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 415, "body.media-type"),
        ("Content-Length: 2\r\n\r\n{}", 415, "body.media-type"),
        ("Content-Type: text/html\r\nContent-Length: 0\r\n\r\n", 204, ""),
    ] {
        let answer = exchange(gateway.address, format!("{head}{rest}"));
        assert_eq!(answer.status, status, "{rest}");
        if !rule.is_empty() {
            assert_eq!(answer.rule(), rule, "{rest}");
        }
    }
}
