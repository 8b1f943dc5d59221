//! Header fields: declared, undeclared, and those that stand for others.

use serde_json::json;

use super::super::super::policy::{OverrideFields, Policy, Verdict};
use super::super::super::*;
use super::super::documents::{load_with, loaded, minimal};
use super::super::{headers, told};
use super::{object, verdict, with};

#[test]
fn undeclared_fields_are_refused_but_those_that_are_always_sent() {
    let parameters = json!([{"name": "X-Tenant", "in": "header", "schema": {"type": "string"}}]);
    let policy = Policy { undeclared_headers: Verdict::Refuse, ..Policy::default() };
    let closed = with(policy, &parameters);
    let open = with(Policy::default(), &parameters);
    for (name, is_usual) in [
        ("x-tenant", true),
        ("host", true),
        ("user-agent", true),
        ("authorization", true),
        ("sec-fetch-mode", true),
        ("sec-ch-ua", true),
        ("access-control-request-method", true),
        ("x-forwarded-for", true),
        ("traceparent", true),
        ("priority", true),
        ("dnt", true),
        ("upgrade-insecure-requests", true),
        ("width", true),
        ("accept", true),
        ("x-request-id", true),
        ("x-admin", false),
        ("secret", false),
        ("tenant", false),
        ("x-tenant-id", false),
    ] {
        let expected =
            if is_usual { Ok(String::new()) } else { Err("unknown header:*".to_owned()) };
        assert_eq!(verdict(&closed, "", &[(name, "1")]), expected, "{name}");
        assert_eq!(verdict(&open, "", &[(name, "1")]), Ok(String::new()), "{name}");
    }
}

#[test]
fn fields_that_stand_for_others_are_stripped_refused_or_passed() {
    let parameters = json!([
        {"name": "X-Tenant", "in": "header", "schema": {"type": "string"}},
        {"name": "api_key", "in": "header", "schema": {"type": "string"}},
        {"name": "X-Original-Method", "in": "header", "schema": {"type": "string"}},
    ]);
    let under =
        |override_fields| with(Policy { override_fields, ..Policy::default() }, &parameters);
    let (strip, refuse, pass) =
        (under(OverrideFields::Strip), under(OverrideFields::Refuse), under(OverrideFields::Pass));
    for (name, known) in [
        ("x-http-method-override", Some("x-http-method-override")),
        ("x_http_method_override", Some("x-http-method-override")),
        ("x-original-url", Some("x-original-url")),
        ("x-forwarded-path", Some("x-forwarded-path")),
        ("x_tenant", Some("x-tenant")),
        ("x.tenant", Some("x-tenant")),
        ("api-key", Some("api_key")),
        ("content_length", Some("content-length")),
        ("transfer_encoding", Some("transfer-encoding")),
        ("content_type", Some("content-type")),
        ("x-tenant", None),
        ("api_key", None),
        ("x-tenant-id", None),
        ("content-type", None),
        ("some_other", None),
        ("x-forwarded-for", None),
        // Declared, and so no more than it says.
        ("x-original-method", None),
    ] {
        let field: http::HeaderName = name.parse().unwrap();
        let operation = |contract: &Contract| contract.operations()[0].strips(&field);
        assert_eq!(operation(&strip), known.is_some(), "{name}");
        assert!(!operation(&refuse) && !operation(&pass), "{name}");
        let refused =
            known.map_or(Ok(String::new()), |known| Err(format!("override header:{known}")));
        assert_eq!(verdict(&refuse, "", &[(name, "v")]), refused, "{name}");
        assert_eq!(verdict(&strip, "", &[(name, "v")]), Ok(String::new()), "{name}");
        assert_eq!(verdict(&pass, "", &[(name, "v")]), Ok(String::new()), "{name}");
    }
}

#[test]
fn connection_names_nothing_that_the_contract_knows() {
    let parameters = json!([{"name": "X-Tenant", "in": "header", "schema": {"type": "string"}}]);
    let strict = with(Policy::default(), &parameters);
    let policy = Policy { connection_names_declared: Verdict::Pass, ..Policy::default() };
    let lenient = with(policy, &parameters);
    for (name, expected) in [
        ("x-tenant", Some("parameter.connection header:x-tenant")),
        ("cookie", Some("parameter.connection header:cookie")),
        ("authorization", Some("parameter.connection header:authorization")),
        ("content-type", Some("parameter.connection header:content-type")),
        ("x-other", None),
        ("close", None),
    ] {
        let named = ["keep-alive".parse().unwrap(), name.parse().unwrap()];
        let found = strict.operations()[0].check_connection(&named);
        assert_eq!(found.map_err(|v| told(&v)).err().as_deref(), expected, "{name}");
        assert_eq!(lenient.operations()[0].check_connection(&named), Ok(()), "{name}");
    }
}

#[test]
fn ignored_definitions_are_told_of() {
    let document = minimal(json!({"parameters": [
        {"name": "accept", "in": "header", "required": true, "schema": {"type": "integer"}},
    ]}));
    let loaded = load_with(&document, &LoadOptions::default()).ok().unwrap();
    let told: Vec<_> = loaded.warnings.iter().map(|warning| warning.problem.to_string()).collect();
    assert_eq!(told, ["the definition of `accept` as a parameter has no effect"]);
    assert_eq!(verdict(&loaded.contract, "", &[]), Ok(String::new()));
}

#[test]
fn response_headers_share_the_shapes() {
    let contract = loaded(&minimal(json!({"responses": {"200": {"description": "ok", "headers": {
        "X-List": {"required": true, "schema": {"type": "array", "items": {"type": "integer"}}},
        "X-Object": {"explode": true, "schema": object(&json!({"a": {"type": "integer"}}))},
        "X-Json": {"content": {"application/json": {"schema": {"type": "array", "items": {}}}}},
        "Set-Cookie": {"schema": {"type": "string", "pattern": "; Secure$"}},
    }}}})));
    let rule = contract.operations()[0].response(http::StatusCode::OK).unwrap();
    for (fields, is_ok) in [
        (vec![("x-list", "1"), ("x-list", "2,3")], true),
        (vec![("x-list", "1,x")], false),
        (vec![], false),
        (vec![("x-list", "1"), ("x-object", "a=1")], true),
        (vec![("x-list", "1"), ("x-object", "a=1,b=2")], false),
        (vec![("x-list", "1"), ("x-json", "[1, 2]")], true),
        (vec![("x-list", "1"), ("x-json", "{}")], false),
        (
            vec![("x-list", "1"), ("set-cookie", "a=1,2; Secure"), ("set-cookie", "b=1; Secure")],
            true,
        ),
        (vec![("x-list", "1"), ("set-cookie", "a=1; Secure"), ("set-cookie", "b=1")], false),
    ] {
        assert_eq!(rule.check_headers(&headers(&fields)).is_ok(), is_ok, "{fields:?}");
    }
}
