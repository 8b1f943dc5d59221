//! Operations that are left for WebSockets.

use http::HeaderValue;
use serde_json::{Value, json};

use super::super::*;
use super::documents::{Temporary, load_value};

fn document(method: &str, extension: &Value, more: &Value) -> Value {
    let mut operation = json!({
        "operationId": "chat",
        "responses": {"101": {"description": "switching"}},
        "x-firewall-upgrade": extension,
    });
    operation.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "openapi": "3.1.0", "info": {"title": "t", "version": "1"},
        "paths": {"/chat": {method: operation}},
    })
}

#[test]
fn upgrades_by_extension() {
    let rule = |extension: Value, more: Value| {
        let file = Temporary::new(&document("get", &extension, &more).to_string(), "json");
        let options =
            LoadOptions { body_limit: 1000, response_limit: 2000, ..LoadOptions::default() };
        let loaded = load(&file.0, &options).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert_eq!(loaded.warnings, []);
        loaded.contract.operations()[0].upgrade().unwrap().clone()
    };
    let none = || json!({});
    let answering = |status: &str| json!({"responses": {status: {"description": "answer"}}});
    let plain = rule(json!("websocket"), none());
    assert_eq!((plain.client_message_octets(), plain.upstream_message_octets()), (1000, 2000));
    assert!(!plain.compresses() && !plain.answers_otherwise());
    assert_eq!(rule(json!({"protocol": "websocket"}), none()), plain);
    let bounded = json!({
        "protocol": "websocket", "origins": ["https://app.test"], "messageOctets": 1,
        "compression": true,
    });
    let bounded = rule(bounded, none());
    assert_eq!((bounded.client_message_octets(), bounded.upstream_message_octets()), (1, 1));
    assert!(bounded.compresses());
    let origin = [HeaderValue::from_static("https://app.test:444")];
    assert!(!bounded.admits(origin.iter()) && plain.admits(origin.iter()));
    for (status, expected) in [
        ("200", true),
        ("204", true),
        ("2XX", true),
        ("101", false),
        ("400", false),
        ("default", false),
    ] {
        let rule = rule(json!("websocket"), answering(status));
        assert_eq!(rule.answers_otherwise(), expected, "{status}");
    }
    let without = load_value(&document("get", &json!("websocket"), &none()), &[]).unwrap();
    assert!(without.contract.operations()[0].upgrade().is_some());
}

#[test]
fn what_no_upgrade_can_be_is_told() {
    let at = "/paths/~1chat/get/x-firewall-upgrade";
    let object = |name: &str, value: Value| json!({"protocol": "websocket", name: value});
    let protocol = "expected `websocket`, or an object with that as its `protocol`";
    let origin = "expected an origin such as `https://app.example.com`";
    let octets = "expected a number of octets, at least 1";
    for (extension, pointer, expected) in [
        (json!("h2c"), "", protocol),
        (json!("WebSocket"), "", protocol),
        (json!(true), "", protocol),
        (json!(["websocket"]), "", protocol),
        (json!({}), "", "`protocol` is missing"),
        (json!({"protocol": "h2c"}), "/protocol", protocol),
        (object("origins", json!([])), "/origins", "expected a list of origins, at least one"),
        (object("origins", json!("https://a.test")), "/origins", "expected a list of origins"),
        (object("origins", json!(["https://a.test/"])), "/origins/0", origin),
        (object("origins", json!(["*"])), "/origins/0", origin),
        (object("origins", json!([7])), "/origins/0", origin),
        (object("messageOctets", json!(0)), "/messageOctets", octets),
        (object("messageOctets", json!("1")), "/messageOctets", octets),
        (object("messageOctets", json!(1.5)), "/messageOctets", octets),
        (object("compression", json!("yes")), "/compression", "expected a boolean"),
        (object("origin", json!("a")), "/origin", "is nothing that `x-firewall-upgrade` can say"),
    ] {
        let errors = load_value(&document("get", &extension, &json!({})), &[]).unwrap_err();
        let found: Vec<_> =
            errors.iter().map(|error| format!("{} {}", error.pointer, error.problem)).collect();
        let expected = (format!("{at}{pointer} "), expected);
        assert!(
            found.iter().any(|it| it.starts_with(&expected.0) && it.contains(expected.1)),
            "{extension}: {found:?}"
        );
    }
    let body = json!({"requestBody": {"content": {"application/json": {}}}});
    for (document, expected) in [
        (document("post", &json!("websocket"), &json!({})), "of POST: only GET opens a WebSocket"),
        (document("get", &json!("websocket"), &body), "what opens one has no body"),
    ] {
        let errors = load_value(&document, &[]).unwrap_err();
        let found: Vec<_> = errors.iter().map(|error| error.problem.to_string()).collect();
        assert!(found.iter().any(|it| it.contains(expected)), "{found:?}");
    }
}
