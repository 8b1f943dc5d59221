//! Hosts, segments and preflights through the real program: what reaches the upstream, and what does
//! not.

use crate::kit::client::exchange;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::Upstream;

const FILES: &str = r#"
openapi: 3.2.0
info: { title: Files, version: "1" }
servers:
  - { url: "https://files.test/{version}", variables: { version: { default: v1, enum: [v1, v2] } } }
paths:
  /files/{name}.{extension}:
    parameters:
      - { name: name, in: path, required: true, schema: { type: string, maxLength: 8 } }
      - { name: extension, in: path, required: true, schema: { type: string, enum: [txt, json] } }
    get:
      parameters:
        - { name: q, in: query, schema: { type: integer } }
        - { name: X-Needed, in: header, required: true, schema: { type: string } }
      responses: { "204": { description: sent } }
    delete:
      x-firewall-encoded-slash: true
      responses: { "204": { description: gone } }
    query:
      responses: { "204": { description: sent } }
"#;

const ORIGIN: &str = "Origin: https://app.test";
const GET: &str = "Access-Control-Request-Method: GET";
const FIELDS: &str = "Access-Control-Request-Headers: x-needed";

fn upstream() -> Upstream {
    Upstream::start(|request| {
        let line = request.line();
        if line.starts_with("OPTIONS ") && line.contains("/v2/") {
            return b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsecrets".to_vec();
        }
        b"HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: https://app.test\r\n\r\n".to_vec()
    })
}

fn request(line: &str, host: &str, fields: &[&str]) -> String {
    let (line, host) = (format!("{line} HTTP/1.1"), format!("Host: {host}"));
    let head = [&[&*line, &*host], fields, &["", ""]].concat();
    head.join("\r\n")
}

#[track_caller]
fn check(
    gateway: &Gateway,
    upstream: &Upstream,
    request: &str,
    expected: Result<&str, (u16, &str)>,
) {
    let before = upstream.received().len();
    let answer = exchange(gateway.address, request);
    let received = upstream.received();
    match expected {
        Ok(line) => {
            assert_eq!(answer.status, 204, "{request}{}", answer.text());
            assert_eq!(received.len(), before + 1, "{request}");
            assert_eq!(received.last().unwrap().line(), format!("{line} HTTP/1.1"));
        }
        Err((status, rule)) => {
            assert_eq!((answer.status, &*answer.rule()), (status, rule), "{request}");
            assert_eq!(received.len() > before, rule.starts_with("response."), "{request}");
        }
    }
}

#[test]
fn what_is_routed_is_what_is_forwarded() {
    let upstream = upstream();
    let setup = Setup { api: "contract = { hosts = \"document\" }".into(), ..Setup::of(FILES) };
    let gateway = Gateway::start(&setup, &upstream);
    let needed = &["X-Needed: 1"][..];
    for (line, host, fields, expected) in [
        ("GET /v1/files/a.txt", "files.test", needed, Ok("GET /v1/files/a.txt")),
        ("GET /v2/files/%61%2Etxt", "FILES.test:443", needed, Ok("GET /v2/files/a.txt")),
        ("GET /v3/files/a.txt", "files.test", needed, Err((404, "route.unknown-path"))),
        ("GET /v1/files/a.txt", "other.test", needed, Err((421, "route.host"))),
        ("GET /v1/files/a.txt", "files.test:80", needed, Err((421, "route.host"))),
        ("GET /v1/files/a.b.txt", "files.test", needed, Err((400, "route.segment"))),
        ("GET /v1/files/a.exe", "files.test", needed, Err((400, "parameter.schema"))),
        ("GET /v1/files/a%2Fb.txt", "files.test", needed, Err((400, "route.path"))),
        ("DELETE /v1/files/a%2fb.txt", "files.test", &[], Ok("DELETE /v1/files/a%2Fb.txt")),
        ("DELETE /v1/files/a%2F..%2Fb.txt", "files.test", &[], Err((400, "route.path"))),
        ("QUERY /v1/files/a.txt", "files.test", &[], Ok("QUERY /v1/files/a.txt")),
        ("PUT /v1/files/a.txt", "files.test", &[], Err((405, "route.method"))),
    ] {
        check(&gateway, &upstream, &request(line, host, fields), expected);
    }
    let answer = exchange(gateway.address, request("PUT /v1/files/a.txt", "files.test", &[]));
    assert_eq!(answer.header("allow"), Some("DELETE, GET, HEAD, QUERY"));
}

#[test]
fn wrong_hosts_and_doubtful_segments_ban_nobody() {
    let upstream = upstream();
    let setup = Setup {
        api: "contract = { hosts = [\"files.test\"] }".into(),
        management: "loopback = false".into(),
        bans: "threshold = 1".into(),
        ..Setup::of(FILES)
    };
    let gateway = Gateway::start(&setup, &upstream);
    for _ in 0..20 {
        let misdirected = request("DELETE /v1/files/a.txt", "192.0.2.1", &[]);
        check(&gateway, &upstream, &misdirected, Err((421, "route.host")));
        let doubtful = request("DELETE /v1/files/a.b.txt", "files.test", &[]);
        check(&gateway, &upstream, &doubtful, Err((400, "route.segment")));
    }
    assert_eq!(gateway.bans(), Vec::<serde_json::Value>::new());
}

/// They carry no credentials and none of the fields that the request will (Fetch standard, section
/// 4.8).
#[test]
fn genuine_preflights_pass() {
    let upstream = upstream();
    let gateway = Gateway::start(&Setup::of(FILES), &upstream);
    let not = Err((405, "route.method"));
    for (line, fields, expected) in [
        ("OPTIONS /v1/files/a.txt", vec![ORIGIN, GET], Ok("OPTIONS /v1/files/a.txt")),
        ("OPTIONS /v1/files/%61.txt", vec![ORIGIN, GET, FIELDS], Ok("OPTIONS /v1/files/a.txt")),
        ("OPTIONS /v1/files/a.txt?q=7", vec![ORIGIN, GET], Ok("OPTIONS /v1/files/a.txt?q=7")),
        (
            "OPTIONS /v1/files/a.txt",
            vec![ORIGIN, GET, "Content-Length: 0"],
            Ok("OPTIONS /v1/files/a.txt"),
        ),
        ("OPTIONS /v1/files/a.txt?q=x", vec![ORIGIN, GET], Err((400, "parameter.type"))),
        ("OPTIONS /v1/files/a.txt?z=1", vec![ORIGIN, GET], Err((400, "parameter.unknown"))),
        ("OPTIONS /v1/files/a.exe", vec![ORIGIN, GET], Err((400, "parameter.schema"))),
        ("OPTIONS /v1/nothing", vec![ORIGIN, GET], Err((404, "route.unknown-path"))),
        ("OPTIONS /v1/files/a.txt", vec![], not),
        ("OPTIONS /v1/files/a.txt", vec![GET], not),
        ("OPTIONS /v1/files/a.txt", vec![ORIGIN], not),
        ("OPTIONS /v1/files/a.txt", vec![ORIGIN, "Access-Control-Request-Method: PUT"], not),
        ("OPTIONS /v1/files/a.txt", vec![ORIGIN, GET, "Access-Control-Request-Headers: a b"], not),
        ("OPTIONS /v1/files/a.txt", vec![ORIGIN, GET, "Content-Length: 1"], not),
        ("OPTIONS /v1/files/a.txt", vec![ORIGIN, GET, "Cookie: session=1"], not),
        (
            "OPTIONS /v1/files/a.txt",
            vec![ORIGIN, GET, "X-Needed: a", "X-Needed: b"],
            Err((400, "parameter.repeated")),
        ),
        (
            "OPTIONS /v1/files/a.txt",
            vec![ORIGIN, GET, "Connection: X-Needed", "X-Needed: 1"],
            Err((400, "parameter.connection")),
        ),
        // The upstream's answer is its own, but for a body.
        ("OPTIONS /v2/files/a.txt", vec![ORIGIN, GET], Err((502, "response.unexpected-body"))),
    ] {
        check(&gateway, &upstream, &request(line, "files.test", &fields), expected);
    }
    // A preflight is no way around what other requests are stripped of.
    let overriding = &[ORIGIN, GET, "X-HTTP-Method-Override: DELETE", "X-Original-URL: /admin"];
    let preflight = request("OPTIONS /v1/files/a.txt", "files.test", overriding);
    let answer = exchange(gateway.address, preflight);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.test"));
    let received = upstream.received().pop().unwrap();
    assert_eq!(received.header("origin"), Some("https://app.test"));
    for gone in ["x-http-method-override", "x-original-url"] {
        assert_eq!(received.header(gone), None, "{}", received.head);
    }
}

#[test]
fn preflights_are_refused_where_the_policy_says_so() {
    let upstream = upstream();
    let api = "contract = { override_fields = \"refuse\" }";
    let gateway = Gateway::start(&Setup { api: api.into(), ..Setup::of(FILES) }, &upstream);
    let fields = &[ORIGIN, GET, "X-HTTP-Method-Override: DELETE"];
    let preflight = request("OPTIONS /v1/files/a.txt", "files.test", fields);
    check(&gateway, &upstream, &preflight, Err((400, "parameter.override")));
    let setup = Setup { api: "contract = { preflight = \"refuse\" }".into(), ..Setup::of(FILES) };
    let gateway = Gateway::start(&setup, &upstream);
    let preflight = request("OPTIONS /v1/files/a.txt", "files.test", &[ORIGIN, GET]);
    check(&gateway, &upstream, &preflight, Err((405, "route.method")));
}

#[test]
fn observed_preflights_pass_octet_for_octet() {
    let upstream = upstream();
    let setup = Setup {
        api: "requests = \"observe\"\nresponses = \"observe\"".into(),
        // One log, in order.
        listen: "workers = 1".into(),
        ..Setup::of(FILES)
    };
    let gateway = Gateway::start(&setup, &upstream);
    for (path, status) in [("/v1/files/%61.txt?z=1", 204), ("/v2/files/a.txt", 200)] {
        let answer =
            exchange(gateway.address, request(&format!("OPTIONS {path}"), "a", &[ORIGIN, GET]));
        assert_eq!(answer.status, status, "{}", answer.text());
        let received = upstream.received();
        assert_eq!(received.last().unwrap().line(), format!("OPTIONS {path} HTTP/1.1"));
    }
    let log = crate::kit::eventually("two lines", || {
        let log = gateway.access_log();
        (log.len() == 2).then_some(log)
    });
    for (line, rule) in log.iter().zip(["parameter.unknown", "response.unexpected-body"]) {
        assert_eq!((&line["verdict"], &line["rule"]), (&"observed".into(), &rule.into()), "{line}");
    }
}
