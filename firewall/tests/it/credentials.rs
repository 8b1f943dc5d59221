//! Security requirements through the real program.

use crate::kit::client::{Client, bodiless, exchange};
use crate::kit::eventually;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json};

const GUARDED: &str = r"
openapi: 3.0.4
info: { title: guarded, version: '1' }
security: [{ token: [] }, { key: [] }]
paths:
  /things:
    get:
      parameters: [{ name: limit, in: query, schema: { type: integer } }]
      responses: { '200': { description: ok, content: { application/json: {} } } }
    post:
      requestBody: { required: true, content: { application/json: {} } }
      responses: { '200': { description: ok, content: { application/json: {} } } }
  /open:
    get:
      security: []
      responses: { '200': { description: ok, content: { application/json: {} } } }
components:
  securitySchemes:
    token: { type: http, scheme: bearer, bearerFormat: JWT }
    key: { type: apiKey, in: query, name: key }
";
const TOKEN: &str = "Authorization: Bearer eyJh.eyJz.c2ln";
const CHALLENGE: &str = r#"Bearer realm="api", ApiKey realm="api""#;

fn things() -> Upstream {
    Upstream::start(|_| json("200 OK", "[]"))
}

fn with(line: &str, field: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: shop.test\r\n{field}\r\n\r\n")
}

#[test]
fn who_presents_nothing_or_nonsense_is_challenged() {
    let upstream = things();
    let gateway = Gateway::start(&Setup::of(GUARDED), &upstream);
    for (request, status, rule) in [
        (bodiless("GET /things"), 401, "auth.missing"),
        // Who may not ask is not told what was wrong with the question.
        (bodiless("GET /things?limit=x&other=1"), 401, "auth.missing"),
        (with("GET /things", "Authorization: Basic YTpi"), 401, "auth.missing"),
        (with("GET /things", "Authorization: Bearer a.b"), 401, "auth.malformed"),
        (with("GET /things?key=k", "Authorization: Bearer a.b"), 401, "auth.malformed"),
        (with("GET /things", &format!("{TOKEN}\r\n{TOKEN}")), 401, "auth.malformed"),
        (bodiless("GET /things?key="), 401, "auth.malformed"),
        (bodiless("GET /things?key=k&limit=x"), 400, "parameter.type"),
        (bodiless("PUT /things"), 405, "route.method"),
    ] {
        let answer = exchange(gateway.address, &request);
        assert_eq!((answer.status, answer.rule().as_str()), (status, rule), "{request}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, (status == 401).then_some(CHALLENGE), "{request}");
        for told in ["parameter", "pointer", "keyword"] {
            assert!(status != 401 || answer.json().get(told).is_none(), "{}", answer.text());
        }
    }
    assert_eq!(upstream.received(), []);
    for request in
        [bodiless("GET /things?key=%6b"), with("GET /things", TOKEN), bodiless("GET /open")]
    {
        assert_eq!(exchange(gateway.address, &request).status, 200, "{request}");
    }
    let received = upstream.received();
    assert_eq!(received[0].line(), "GET /things?key=k HTTP/1.1");
    assert_eq!(received[1].header("authorization"), Some("Bearer eyJh.eyJz.c2ln"));
    assert!(gateway.errors().contains("verifying them is left to the API"), "{}", gateway.errors());
}

#[test]
fn a_body_without_credentials_is_not_asked_for() {
    let upstream = things();
    let gateway = Gateway::start(&Setup::of(GUARDED), &upstream);
    let expecting = |field: &str| {
        format!(
            "POST /things HTTP/1.1\r\nHost: shop.test\r\n{field}\r\nExpect: 100-continue\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        )
    };
    let mut client = Client::connect(gateway.address);
    let answer = client.send(expecting("X-Other: 1")).answer().expect("a refusal");
    assert_eq!(answer.rule(), "auth.missing");
    assert!(client.send("{}").closed().is_empty());
    let mut client = Client::connect(gateway.address);
    assert_eq!(client.send(expecting(TOKEN)).answer().expect("an interim answer").status, 100);
    assert_eq!(client.send("{}").answer().expect("the answer").status, 200);
}

#[test]
fn nonsense_is_an_offence_and_nothing_is_none() {
    let upstream = things();
    let setup = Setup { management: "loopback = false".into(), ..Setup::of(GUARDED) };
    let gateway = Gateway::start(&setup, &upstream);
    for _ in 0..30 {
        assert_eq!(exchange(gateway.address, bodiless("GET /things")).status, 401);
    }
    assert_eq!(gateway.bans(), Vec::<serde_json::Value>::new());
    let malformed = with("GET /things", "Authorization: Bearer ?");
    for attempt in 1..=5 {
        assert_eq!(exchange(gateway.address, &malformed).status, 401, "{attempt}");
    }
    assert_eq!(gateway.bans().len(), 1);
}

#[test]
fn what_is_only_observed_passes() {
    let upstream = things();
    let api = "requests = \"observe\"".to_owned();
    let gateway = Gateway::start(&Setup { api, ..Setup::of(GUARDED) }, &upstream);
    assert_eq!(exchange(gateway.address, bodiless("GET /things")).status, 200);
    let log = eventually("a line", || gateway.access_log().pop());
    assert_eq!((&log["verdict"], &log["rule"]), (&"observed".into(), &"auth.missing".into()));
}
