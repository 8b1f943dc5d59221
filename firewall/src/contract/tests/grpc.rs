//! Methods of gRPC, as documents declare them.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::grpc::GrpcRule;
use super::super::*;
use super::documents::{load_value, load_with, minimal, problems};

fn method(path: &str, verb: &str, extension: &Value, content: &Value) -> Value {
    let mut document = minimal(json!({}));
    document["paths"] = json!({path: {verb: {
        "x-firewall-grpc": extension,
        "requestBody": {"required": true, "content": content},
        "responses": {"200": {"description": "ok", "content": content}},
    }}});
    document
}

fn declared(extension: &Value) -> Value {
    method("/a.B/C", "post", extension, &json!({"application/grpc": {}}))
}

#[test]
fn what_the_extension_may_say() {
    for (extension, expected) in [
        (json!(true), Some((4 << 20, 3_600))),
        (json!({}), Some((4 << 20, 3_600))),
        (json!({"messageOctets": 1, "seconds": 1}), Some((1, 1))),
        (json!({"messageOctets": u32::MAX}), Some((u32::MAX, 3_600))),
    ] {
        let loaded =
            load_value(&declared(&extension), &[]).unwrap_or_else(|told| panic!("{told:?}"));
        assert_eq!(loaded.warnings, [], "{extension}");
        assert_eq!(loaded.contract.has_grpc(), expected.is_some());
        let rule = expected.map(|(message_octets, seconds)| GrpcRule {
            message_octets,
            longest: Duration::from_secs(seconds),
        });
        assert_eq!(loaded.contract.operations()[0].grpc(), rule.as_ref(), "{extension}");
    }
    for (extension, part) in [
        (json!(false), "media-type:application/grpc"),
        (json!("yes"), "expected true, or an object"),
        (json!(1), "expected true, or an object"),
        (json!({"messageOctets": 0}), "/messageOctets expected a number from 1"),
        (json!({"messageOctets": 1_u64 << 32}), "/messageOctets expected a number from 1"),
        (json!({"seconds": -1}), "/seconds expected a number from 1"),
        (json!({"octets": 1}), "/octets expected `messageOctets` or `seconds`"),
    ] {
        let found = problems(&declared(&extension));
        assert!(found.iter().any(|found| found.contains(part)), "{extension}: {found:?}");
    }
}

#[test]
fn what_cannot_be_a_method() {
    let grpc = json!({"application/grpc": {}});
    for (path, verb, content, part) in [
        ("/a.B/C", "put", &grpc, "called by POST"),
        ("/a.B", "post", &grpc, "`/package.Service/Method`"),
        ("/a.B/C/D", "post", &grpc, "`/package.Service/Method`"),
        ("/a.B/C-D", "post", &grpc, "`/package.Service/Method`"),
        ("/a.B/C", "post", &json!({"application/json": {}}), "gives `application/grpc`"),
        ("/a.B/C", "post", &json!({"*/*": {}}), "gives `application/grpc`"),
        ("/a.B/C", "post", &json!({"application/grpc; a=b": {}}), "gives `application/grpc`"),
    ] {
        let found = problems(&method(path, verb, &json!(true), content));
        assert!(found.iter().any(|found| found.contains(part)), "{verb} {path}: {found:?}");
    }
    let options = LoadOptions { http2_upstream: Some(false), ..LoadOptions::default() };
    let errors = load_with(&declared(&json!(true)), &options).unwrap_err();
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!(&*error.pointer, "/paths/~1a.B~1C/post/x-firewall-grpc");
    assert!(error.to_string().contains("protocol = \"http2\""), "{error}");
}

#[test]
fn that_messages_are_not_looked_into_is_said() {
    let content = json!({"application/grpc": {"schema": {"type": "string"}}});
    let loaded = load_value(&method("/a.B/C", "post", &json!(true), &content), &[]).unwrap();
    let told: Vec<_> = loaded.warnings.iter().map(|told| told.problem.to_string()).collect();
    assert_eq!(told.len(), 2, "in each direction: {told:?}");
    assert!(told[0].contains("messages of gRPC are not looked into"), "{told:?}");
}
