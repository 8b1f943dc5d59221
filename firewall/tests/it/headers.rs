//! The fields that answers get and lose on their way to the client.

use crate::kit::client::{Answer, bodiless, exchange};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::Upstream;

const PAGES: &str = r"
openapi: 3.0.4
info: { title: pages, version: '1' }
components:
  securitySchemes: { session: { type: apiKey, in: cookie, name: sid } }
paths:
  /page:
    get:
      responses:
        '200':
          description: ok
          headers: { X-Generator: { schema: { type: string } } }
          content: { application/json: { schema: { type: object } } }
  /strict:
    get:
      responses:
        '200':
          description: ok
          headers: { X-Frame-Options: { required: true, schema: { enum: [SAMEORIGIN] } } }
          content: { application/json: { schema: { type: object } } }
  /mine:
    get:
      security: [{ session: [] }]
      responses: { '204': { description: ok } }
  /gone:
    get:
      responses: { '204': { description: ok } }
";

const FIELDS: &str = "Server: nginx/1.2.3\r\nX-Powered-By: PHP/5.1\r\nX-Generator: pages\r\n\
    Access-Control-Allow-Origin: https://app.test\r\nAccess-Control-Allow-Credentials: true\r\n\
    Access-Control-Expose-Headers: X-Powered-By\r\nVary: Origin\r\n\
    Set-Cookie: sid=1; Path=/\r\nSet-Cookie: theme=dark; SameSite=None\r\n";

/// The defaults, of which no answer but these says anything.
const PROTECTING: [(&str, &str); 3] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
];

fn upstream() -> Upstream {
    Upstream::start(|request| {
        let line = request.line();
        if line.starts_with("GET /gone") {
            return Vec::new();
        }
        if line.starts_with("OPTIONS ") {
            return format!("HTTP/1.1 204 No Content\r\n{FIELDS}\r\n").into_bytes();
        }
        if request.header("if-none-match").is_some() {
            return format!("HTTP/1.1 304 Not Modified\r\n{FIELDS}\r\n").into_bytes();
        }
        let json = "Content-Type: application/json\r\nContent-Length: 2";
        format!("HTTP/1.1 200 OK\r\n{FIELDS}{json}\r\n\r\n{{}}").into_bytes()
    })
}

fn start(upstream: &Upstream, api: &str) -> Gateway {
    let clients = "trusted_proxies = [\"127.0.0.1/32\"]".into();
    Gateway::start(&Setup { api: api.into(), clients, ..Setup::of(PAGES) }, upstream)
}

fn asked(gateway: &Gateway, line: &str, fields: &str) -> Answer {
    exchange(gateway.address, format!("{line} HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n"))
}

fn all<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let lines = answer.head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let values = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    values.map(|(_, value)| value.trim()).collect()
}

#[track_caller]
fn assert_fields(answer: &Answer, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(all(answer, name), [*value], "{name}\n{}", answer.head);
    }
}

/// CORS is the API's own.
const CORS: [(&str, &str); 4] = [
    ("access-control-allow-origin", "https://app.test"),
    ("access-control-allow-credentials", "true"),
    ("access-control-expose-headers", "X-Powered-By"),
    ("vary", "Origin"),
];

#[test]
fn answers_protect_the_browser_and_hide_the_server() {
    let upstream = upstream();
    let gateway = start(&upstream, "");
    let answer = asked(&gateway, "GET /page", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_fields(&answer, &PROTECTING);
    assert_fields(&answer, &CORS);
    // Declared, and so not taken for a banner.
    assert_fields(&answer, &[("x-generator", "pages")]);
    for gone in ["server", "x-powered-by", "strict-transport-security"] {
        assert_eq!(answer.header(gone), None, "{}", answer.head);
    }
    assert_eq!(
        all(&answer, "set-cookie"),
        ["sid=1; Path=/; HttpOnly; SameSite=Lax", "theme=dark; SameSite=None"]
    );
    // What a stored answer says is not to be replaced by what this one leaves out.
    let answer = asked(&gateway, "GET /page", "If-None-Match: \"1\"\r\n");
    assert_eq!((answer.status, answer.header("x-frame-options")), (304, None));
    assert_eq!(answer.header("server"), None);

    let fields = "Origin: https://app.test\r\nAccess-Control-Request-Method: GET\r\n";
    let preflight = asked(&gateway, "OPTIONS /page", fields);
    assert_eq!((preflight.status, preflight.header("server")), (204, None));
    assert_fields(&preflight, &CORS);
}

#[test]
fn what_belongs_to_tls_is_said_to_clients_that_speak_it() {
    let upstream = upstream();
    let gateway = start(
        &upstream,
        "[headers.fields]\nStrict-Transport-Security = { absent = \"max-age=60\" }",
    );
    for (proto, transport, cookie) in [
        ("https", Some("max-age=60"), "sid=1; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ("http", None, "sid=1; Path=/; HttpOnly; SameSite=Lax"),
    ] {
        let field = format!("X-Forwarded-Proto: {proto}\r\n");
        let answer = asked(&gateway, "GET /page", &field);
        assert_eq!(answer.header("strict-transport-security"), transport, "{proto}");
        assert_eq!(all(&answer, "set-cookie")[0], cookie, "{proto}");
        let refusal = asked(&gateway, "GET /page?a=1", &field);
        assert_eq!(refusal.rule(), "parameter.unknown");
        assert_eq!(refusal.header("strict-transport-security"), transport, "{proto}");
    }
}

#[test]
fn answers_of_the_firewall_itself_protect_the_browser_too() {
    for mode in ["enforce", "observe"] {
        let upstream = upstream();
        let gateway = start(&upstream, &format!("responses = \"{mode}\""));
        for (line, status) in
            [("GET /nowhere", 404), ("GET /page?a=1", 400), ("GET /mine", 401), ("GET /gone", 502)]
        {
            let answer = asked(&gateway, line, "");
            assert_eq!(answer.status, status, "{line}: {}", answer.text());
            assert_fields(&answer, &PROTECTING);
            assert_fields(&answer, &[("cache-control", "no-store")]);
            assert_fields(&answer, &[("content-type", "application/problem+json")]);
            assert_eq!(answer.header("server"), None);
        }
    }
}

#[test]
fn answers_that_are_not_enforced_pass_as_they_come() {
    for mode in ["observe", "off"] {
        let upstream = upstream();
        let gateway = start(&upstream, &format!("responses = \"{mode}\""));
        let answer = asked(&gateway, "GET /page", "");
        let expected = [("server", "nginx/1.2.3"), ("x-powered-by", "PHP/5.1")];
        assert_fields(&answer, &expected);
        assert_eq!(answer.header("x-frame-options"), None, "{mode}");
        let cookies = ["sid=1; Path=/", "theme=dark; SameSite=None"];
        assert_eq!(all(&answer, "set-cookie"), cookies, "{mode}");
    }
}

#[test]
fn the_contract_speaks_of_what_the_upstream_sends() {
    let upstream = upstream();
    let gateway =
        start(&upstream, "[headers.fields]\nX-Frame-Options = { always = \"SAMEORIGIN\" }");
    // What would be added does not stand in for what the upstream owes.
    let answer = asked(&gateway, "GET /strict", "");
    assert_eq!((answer.status, answer.rule().as_str()), (502, "response.header"));
    let answer = asked(&gateway, "GET /page", "");
    assert_fields(&answer, &[("x-frame-options", "SAMEORIGIN")]);
}

#[test]
fn an_api_has_its_own_word_and_a_reload_changes_it() {
    let upstream = upstream();
    let api = "[api.headers.fields]\nServer = \"pass\"\nX-Frame-Options = { always = \"ours\" }\n\
               [api.headers.cookies]\nhttp_only = \"all\"\nsame_site = \"pass\"\n\
               [headers.fields]\nServer = \"remove\"\nX-Frame-Options = { always = \"all\" }\n\
               Referrer-Policy = \"pass\"\nX-Own = { absent = \"1\" }\n\
               [headers.cookies]\nsecure = \"always\"\nsame_site = \"strict\"";
    let gateway = start(&upstream, api);
    let answer = asked(&gateway, "GET /page", "");
    let expected = [("server", "nginx/1.2.3"), ("x-frame-options", "ours"), ("x-own", "1")];
    assert_fields(&answer, &expected);
    assert_eq!(answer.header("referrer-policy"), None);
    assert_eq!(
        all(&answer, "set-cookie"),
        ["sid=1; Path=/; Secure; HttpOnly", "theme=dark; SameSite=None; Secure; HttpOnly"]
    );

    let text = std::fs::read_to_string(&gateway.config).unwrap();
    std::fs::write(&gateway.config, text.replace("Server = \"pass\"", "Vary = \"remove\""))
        .unwrap();
    let (code, said) = gateway.cli(&["reload"]);
    assert!(code != Some(0) && said.contains("CORS is the API's own"), "{said}");
    let answer = exchange(gateway.address, bodiless("GET /page"));
    assert_fields(&answer, &[("server", "nginx/1.2.3"), ("x-own", "1")]);

    std::fs::write(&gateway.config, text.replace("Server = \"pass\"", "X-Own = \"pass\"")).unwrap();
    let (code, said) = gateway.cli(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    let answer = exchange(gateway.address, bodiless("GET /page"));
    assert_eq!((answer.header("server"), answer.header("x-own")), (None, None));
}
