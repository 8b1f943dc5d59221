//! Parameters through the real program: what reaches the upstream is what was checked.

use crate::kit::client::exchange;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json};

const SPEC: &str = r#"
openapi: 3.0.3
info: {title: t, version: "1"}
paths:
  /things/{id}:
    get:
      parameters:
        - {name: id, in: path, required: true, style: matrix, schema: {type: integer}}
        - {name: where, in: query, style: deepObject, schema: {type: object, properties: {a: {type: integer}}, additionalProperties: false}}
        - {name: X-Tenant, in: header, schema: {type: string, enum: [one, two]}}
        - {name: session, in: cookie, schema: {type: string, pattern: "^[a-z]+$"}}
      responses: {"200": {description: ok, content: {application/json: {schema: {}}}}}
"#;

/// A request with these field lines.
fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn what_reaches_the_upstream_is_what_was_checked() {
    let upstream = Upstream::start(|_| json("200 OK", "1"));
    let gateway = Gateway::start(&Setup::of(SPEC), &upstream);
    for (target, lines, rule) in [
        ("/things/;id=7", "", ""),
        ("/things/7", "", "parameter.type"),
        ("/things/;id=7?where[a]=1", "X-Tenant: one\r\n", ""),
        ("/things/;id=7?where[b]=1", "", "parameter.schema"),
        ("/things/;id=7?where[a][b]=1", "", "parameter.unknown"),
        ("/things/;id=7", "Cookie: session=A\r\n", "parameter.schema"),
        ("/things/;id=7", "Cookie: x=y\r\nCookie: session=a; session=b\r\n", "parameter.repeated"),
        // The proxy's word on the tenant is not to be taken away by the client.
        ("/things/;id=7", "X-Tenant: one\r\nConnection: x-tenant\r\n", "parameter.connection"),
        ("/things/;id=7", "Connection: x-tenant\r\n", "parameter.connection"),
        ("/things/;id=7", "X-Other: one\r\nConnection: x-other\r\n", ""),
    ] {
        let before = upstream.received().len();
        let answer = exchange(gateway.address, get(target, lines));
        if rule.is_empty() {
            assert_eq!(answer.status, 200, "{target} {lines}\n{}", answer.text());
            assert_eq!(upstream.received().len(), before + 1);
        } else {
            assert_eq!(answer.rule(), rule, "{target} {lines}");
            assert_eq!(upstream.received().len(), before, "{target} {lines}");
        }
    }
    let lines = "X-Tenant: one\r\nX_Tenant: two\r\nCookie: x=y\r\nContent_Length: 5\r\nCookie: session=a\r\n\
                 X-HTTP-Method-Override: DELETE\r\n";
    let target = "/things/;id=7?where%5ba%5d=%31";
    assert_eq!(exchange(gateway.address, get(target, lines)).status, 200);
    let received = upstream.received();
    let last = received.last().unwrap();
    assert_eq!(last.line(), "GET /things/;id=7?where%5Ba%5D=1 HTTP/1.1");
    assert_eq!(last.header("cookie"), Some("x=y; session=a"));
    assert_eq!(last.header("x-tenant"), Some("one"));
    for name in ["x_tenant", "content_length", "x-http-method-override"] {
        assert_eq!(last.header(name), None, "{name}");
    }
}
