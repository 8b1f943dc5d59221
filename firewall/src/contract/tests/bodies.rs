//! Request bodies: whether there may be one, and of which media type.

use serde_json::{Value, json};

use super::super::policy::{Policy, Verdict};
use super::super::*;
use super::documents::{load_value, loaded, loaded_under, minimal, problems};
use super::{check, judge};

/// `POST /things` with this body, in a document of this version.
fn posting(version: &str, body: &Value) -> Value {
    let mut document = minimal(json!({}));
    document["openapi"] = version.into();
    document["paths"]["/things"]["post"] =
        json!({"requestBody": body, "responses": {"200": {"description": "ok"}}});
    document
}

/// The verdict on `POST /things`, as the rule or `ok`.
fn posted(contract: &Contract, media_type: Option<&str>, body: &str) -> String {
    let fields: Vec<_> = media_type.map(|text| ("content-type", text)).into_iter().collect();
    match judge(contract, "POST", "/things", &fields, body.as_bytes()) {
        Ok(_) => "ok".to_owned(),
        Err(violation) => super::told(&violation),
    }
}

const JSON_TYPE: Option<&str> = Some("application/json");

#[test]
fn a_body_may_be_absent_unless_it_is_required() {
    // openapi4j#119, mojolicious#170: without a body there is no media type to be wrong.
    let content = json!({"application/json": {"schema": {"type": ["object"]}}});
    for (required, absent) in [(None, "ok"), (Some(false), "ok"), (Some(true), "body.missing")] {
        let mut body = json!({"content": content});
        body["content"]["application/json"]["schema"]["type"] = json!("object");
        if let Some(required) = required {
            body["required"] = json!(required);
        }
        let contract = loaded(&posting("3.0.4", &body));
        for media_type in [None, JSON_TYPE, Some("text/plain")] {
            assert_eq!(posted(&contract, media_type, ""), absent, "{required:?} {media_type:?}");
        }
        assert_eq!(posted(&contract, JSON_TYPE, "{}"), "ok");
        assert_eq!(
            posted(&contract, JSON_TYPE, "null"),
            "body.schema body: type",
            "null is a body"
        );
        assert_eq!(posted(&contract, JSON_TYPE, " "), "body.malformed", "and so is a space");
    }
}

#[test]
fn a_body_that_is_not_declared_is_refused() {
    // kin-openapi#1100 skips it.
    let mut document = posting("3.0.4", &json!({}));
    document["paths"]["/things"]["post"].as_object_mut().unwrap().remove("requestBody");
    for (undeclared_bodies, with, unknown) in
        [(Verdict::Refuse, "body.unexpected", "body.unexpected"), (Verdict::Pass, "ok", "ok")]
    {
        let policy = Policy { undeclared_bodies, ..Policy::default() };
        let contract = loaded_under(&document, policy);
        assert_eq!(posted(&contract, None, ""), "ok");
        assert_eq!(posted(&contract, JSON_TYPE, "{"), with);
        assert_eq!(posted(&contract, None, "x"), unknown);
    }
    // The limit holds all the same.
    let policy = Policy { undeclared_bodies: Verdict::Pass, ..Policy::default() };
    let contract = loaded_under(&document, policy);
    let limit = LoadOptions::default().body_limit;
    assert_eq!(posted(&contract, JSON_TYPE, &" ".repeat(limit)), "ok");
    assert_eq!(posted(&contract, JSON_TYPE, &" ".repeat(limit + 1)), "body.too-large");
}

#[test]
fn a_body_where_http_gives_it_no_meaning() {
    let body = json!({"content": {"application/json": {}}});
    for (version, method, is_taken) in [
        ("3.0.4", "get", false),
        ("3.0.4", "head", false),
        ("3.0.4", "delete", false),
        ("3.0.4", "trace", false),
        ("3.0.4", "options", true),
        ("3.0.4", "patch", true),
        ("3.1.1", "get", true),
        ("3.1.1", "delete", true),
        ("3.2.0", "head", true),
        ("3.1.1", "trace", false),
    ] {
        let mut document = minimal(json!({}));
        document["openapi"] = version.into();
        document["paths"]["/things"] =
            json!({method: {"requestBody": body, "responses": {"200": {"description": "ok"}}}});
        let loaded = load_value(&document, &[]).unwrap();
        let told: Vec<_> = loaded.warnings.iter().map(|told| told.problem.to_string()).collect();
        let name = method.to_uppercase();
        let fields = [("content-type", "application/json")];
        let verdict =
            judge(&loaded.contract, &name, "/things", &fields, b"{}").map(|_| "ok".into());
        if is_taken {
            assert_eq!(told, Vec::<String>::new(), "{version} {method}");
            check(verdict, Ok("ok"), &format!("{version} {method}"));
        } else {
            assert_eq!(told, ["`requestBody` of this method has no effect"], "{version} {method}");
            check(verdict, Err("body.unexpected"), &format!("{version} {method}"));
        }
    }
}

#[test]
fn the_most_specific_media_type_is_the_one_that_counts() {
    let schema = |name: &str| json!({"schema": {"type": "string", "enum": [name]}});
    let contract = loaded(&posting(
        "3.0.4",
        &json!({"content": {
            "*/*": schema("any"),
            "application/*": schema("application"),
            "application/json": schema("json"),
            "application/json; v=2": schema("two"),
            "application/json; charset=UTF8; v=3": schema("three"),
            "application/hal+json": schema("hal"),
        }}),
    ));
    for (sent, expected) in [
        ("application/json", "json"),
        // Kong 3.9 took a parameter for part of the type.
        ("Application/JSON; charset=utf8", "json"),
        ("application/json;v=1", "json"),
        ("application/json; a=b; V=2", "two"),
        ("application/json; v=3", "three"),
        ("application/hal+json", "hal"),
        ("application/ld+json", "application"),
        ("text/json", "any"),
    ] {
        for name in ["any", "application", "json", "two", "three", "hal"] {
            let found = posted(&contract, Some(sent), &format!("\"{name}\""));
            let expected = if name == expected { "ok" } else { "body.schema body: enum" };
            assert_eq!(found, expected, "{sent} {name}");
        }
    }
    // Validate or refuse, never pass: Kong 3.6, openapi-backend#229, and hono#891 for no type at all.
    for sent in
        [Some("text/plain"), Some("application/xml"), Some("application/octet-stream"), None]
    {
        assert_eq!(posted(&contract, sent, "\"any\""), "body.media-type", "{sent:?}");
    }
}

#[test]
fn undeclared_media_types_pass_unread_where_the_policy_says_so() {
    let document =
        posting("3.0.4", &json!({"content": {"application/json": {"schema": {"type": "object"}}}}));
    for (undeclared_media_types, other) in
        [(Verdict::Refuse, "body.media-type"), (Verdict::Pass, "ok")]
    {
        let policy = Policy { undeclared_media_types, ..Policy::default() };
        let contract = loaded_under(&document, policy);
        for sent in [Some("text/csv"), Some("application/problem+json"), None] {
            assert_eq!(posted(&contract, sent, "["), other, "{sent:?}");
        }
        // What is declared is still checked, and what is no media type is no undeclared one.
        assert_eq!(posted(&contract, JSON_TYPE, "["), "body.malformed");
        assert_eq!(
            posted(&contract, Some("application/json; charset=utf-16"), "{}"),
            "body.encoding"
        );
        for sent in ["text", "text/csv, application/json", ""] {
            assert_eq!(posted(&contract, Some(sent), "{}"), "body.media-type", "{sent}");
        }
    }
}

#[test]
fn media_types_may_stand_elsewhere_from_3_2_on() {
    let component =
        json!({"Thing": {"schema": {"type": "object"}}, "Unused": {"schema": {"type": "strnig"}}});
    let reference =
        json!({"content": {"application/json": {"$ref": "#/components/mediaTypes/Thing"}}});
    let mut document = posting("3.2.0", &reference);
    document["components"] = json!({"mediaTypes": {"Thing": component["Thing"]}});
    let contract = loaded(&document);
    assert_eq!(posted(&contract, JSON_TYPE, "{}"), "ok");
    assert_eq!(posted(&contract, JSON_TYPE, "[]"), "body.schema body: type");
    document["components"] = json!({"mediaTypes": component});
    let unused = problems(&document);
    assert!(
        unused.iter().all(|p| p.starts_with("/components/mediaTypes/Unused/schema")),
        "{unused:?}"
    );
    assert!(!unused.is_empty());
    for version in ["3.0.4", "3.1.1"] {
        document["openapi"] = version.into();
        let problems = problems(&document);
        assert!(problems.iter().any(|p| p.contains("`$ref` is not a field")), "{problems:?}");
        assert!(problems.iter().any(|p| p.contains("`mediaTypes` is not a field")), "{problems:?}");
    }
}

#[test]
fn fields_of_media_types_that_mean_nothing_for_json() {
    for (version, field, value, expected) in [
        ("3.0.4", "encoding", json!({}), "`encoding` of a JSON body has no effect"),
        ("3.1.1", "itemSchema", json!({}), "`itemSchema` is not a field"),
        ("3.2.0", "itemSchema", json!({}), "`keyword:itemSchema` is not enforced"),
        ("3.2.0", "prefixEncoding", json!([]), "`prefixEncoding` of a JSON body has no effect"),
        ("3.2.0", "itemEncoding", json!({}), "`itemEncoding` of a JSON body has no effect"),
    ] {
        let document = posting(version, &json!({"content": {"application/json": {field: value}}}));
        let told = match load_value(&document, &[]) {
            Ok(loaded) => loaded.warnings,
            Err(errors) => errors,
        };
        let told: Vec<_> = told.iter().map(|told| told.problem.to_string()).collect();
        assert_eq!(told.len(), 1, "{field} {told:?}");
        assert!(told[0].contains(expected), "{field} {told:?}");
    }
}

#[test]
fn a_policy_that_lets_a_body_pass_takes_it_in_any_coding() {
    let document = posting("3.0.4", &json!({"content": {"application/json": {}}}));
    let policy = Policy { undeclared_media_types: Verdict::Pass, ..Policy::default() };
    let contract = loaded_under(&document, policy);
    let matched = contract.route(&http::Method::POST, "/things", None).unwrap();
    let rule = matched.operation.body().unwrap();
    for (sent, is_opaque) in [("text/csv", true), ("application/json", false)] {
        let sent = http::HeaderValue::from_static(sent);
        assert_eq!(rule.content(Some(&sent)).unwrap().is_opaque(), is_opaque, "{sent:?}");
    }
}

#[test]
fn broken_request_bodies() {
    for (body, expected) in [
        (json!({}), "`content` is missing"),
        (json!({"content": []}), "/content expected an object"),
        (json!({"content": {}, "required": "yes"}), "/required expected a boolean"),
        (json!({"content": {}, "require": true}), "`require` is not a field"),
        (json!({"content": {"nonsense": {}}}), "`nonsense` is not a media type"),
        (json!({"content": {"*/json": {}}}), "`*/json` is not a media type"),
        (
            json!({"content": {"application/json": {}, "Application/JSON": {}}}),
            "`Application/JSON` is given twice",
        ),
        (
            json!({"content": {"multipart/form-data": {}}}),
            "`media-type:multipart/form-data` is not enforced",
        ),
        (json!({"content": {"text/*": {}}}), "`media-type:text/*` is not enforced"),
    ] {
        let problems = problems(&posting("3.0.4", &body));
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{body} {problems:?}");
        assert!(
            problems.iter().all(|p| p.starts_with("/paths/~1things/post/requestBody")),
            "{problems:?}"
        );
    }
}

#[test]
fn what_parsers_read_differently_passes_where_the_policy_says_so() {
    let document = posting("3.0.4", &json!({"content": {"application/json": {}}}));
    let (refuse, pass) = (Policy::default(), Verdict::Pass);
    for (policy, body, refused) in [
        (
            Policy { json_duplicate_names: pass, ..refuse.clone() },
            r#"{"a":1,"a":2}"#,
            "body.duplicate-member",
        ),
        (
            Policy { json_inexact_numbers: pass, ..refuse.clone() },
            "[0.10000000000000000001]",
            "body.malformed",
        ),
        (Policy { json_byte_order_mark: pass, ..refuse.clone() }, "\u{feff}[]", "body.malformed"),
    ] {
        let found = posted(&loaded_under(&document, refuse.clone()), JSON_TYPE, body);
        assert_eq!(found, refused, "{body}");
        assert_eq!(posted(&loaded_under(&document, policy), JSON_TYPE, body), "ok", "{body}");
    }
}

#[test]
fn streams_by_extension() {
    let content = |media_type: &str, stream: Value| {
        let body = json!({"content": {media_type: {"x-firewall-stream": stream}}});
        posting("3.0.4", &body)
    };
    let stream = Some("application/octet-stream");
    // That it is not looked into needs no other word of acceptance; its limit is its own.
    let contract = loaded(&content("application/octet-stream", json!(1 << 30)));
    assert_eq!(posted(&contract, stream, "octets"), "ok");
    let contract = loaded(&content("application/octet-stream", json!(6)));
    assert_eq!(posted(&contract, stream, "octets"), "ok");
    assert_eq!(posted(&contract, stream, "octets!"), "body.too-large");
    assert_eq!(posted(&contract, JSON_TYPE, "{}"), "body.media-type");
    for stream in [json!(0), json!(-1), json!(1.5), json!("1 GiB"), json!(true)] {
        let found = problems(&content("video/mp4", stream.clone()));
        let expected = "/x-firewall-stream expected a number of octets, at least 1";
        assert!(found.iter().any(|found| found.contains(expected)), "{stream}: {found:?}");
    }
    // What is checked is read whole, as the warning says.
    let loaded = load_value(&content("application/json", json!(100)), &[]).unwrap();
    let told: Vec<_> = loaded.warnings.iter().map(|told| told.problem.to_string()).collect();
    let expected = "`x-firewall-stream` of a body that is checked whole has no effect";
    assert_eq!(told, [expected]);
}
