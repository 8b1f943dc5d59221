//! What answers get and lose: absent, present, overridden, off.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::contract::{LoadOptions, load};
use crate::pipeline::set_cookie::{HttpOnly, SameSite, Secure};

const DOCUMENT: &str = r#"{
    "openapi": "3.0.3", "info": { "title": "t", "version": "1" },
    "components": { "securitySchemes": { "session": { "type": "apiKey", "in": "cookie", "name": "sid" } } },
    "paths": { "/": { "get": {
        "security": [{ "session": [] }],
        "responses": {
            "200": { "description": "ok", "headers": { "X-Generator": { "schema": { "type": "string" } } } },
            "4XX": { "description": "no", "headers": { "X-Range": { "schema": { "type": "string" } } } },
            "default": { "description": "no", "headers": { "X-Default": { "schema": { "type": "string" } } } }
        }
    } } }
}"#;

fn contract() -> Contract {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("firewall-answer-fields-{}-{count}.json", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, DOCUMENT).unwrap();
    let loaded = load(&path, &LoadOptions::default());
    std::fs::remove_file(&path).unwrap();
    loaded.unwrap().contract
}

fn absent(value: &'static str) -> FieldRule {
    FieldRule::Absent(HeaderValue::from_static(value))
}

fn always(value: &'static str) -> FieldRule {
    FieldRule::Always(HeaderValue::from_static(value))
}

fn fields(rules: &[(&'static str, FieldRule)]) -> AnswerFields {
    let rule =
        |(name, rule): &(&'static str, FieldRule)| (HeaderName::from_static(name), rule.clone());
    let cookies = CookieAttributes {
        secure: Secure::Pass,
        http_only: HttpOnly::Credentials,
        same_site: SameSite::Pass,
    };
    let rules = AnswerRules { fields: rules.iter().map(rule).collect(), cookies };
    AnswerFields::new(&rules, &contract())
}

fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn lines(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    // Among those of different names the order means nothing (RFC 9110 section 5.3).
    lines.sort_by_key(|(name, _)| *name);
    lines
}

#[test]
fn each_rule_does_what_it_says() {
    type Lines = &'static [(&'static str, &'static str)];
    let name = "x-frame-options";
    let cases: [(FieldRule, Lines, Lines); 9] = [
        (absent("DENY"), &[], &[("x-frame-options", "DENY")]),
        (
            absent("DENY"),
            &[("x-frame-options", "SAMEORIGIN")],
            &[("x-frame-options", "SAMEORIGIN")],
        ),
        // Set to nothing is set.
        (absent("DENY"), &[("x-frame-options", "")], &[("x-frame-options", "")]),
        (always("DENY"), &[], &[("x-frame-options", "DENY")]),
        (
            always("DENY"),
            &[("x-frame-options", "ALLOWALL"), ("x-frame-options", "SAMEORIGIN")],
            &[("x-frame-options", "DENY")],
        ),
        (FieldRule::Remove, &[("x-frame-options", "a"), ("x-frame-options", "b")], &[]),
        (FieldRule::Remove, &[], &[]),
        (FieldRule::Pass, &[], &[]),
        (FieldRule::Pass, &[("x-frame-options", "a")], &[("x-frame-options", "a")]),
    ];
    for (rule, given, expected) in cases {
        let built = fields(&[(name, rule.clone())]);
        for fields in [&built, &built.of_a_worker()] {
            let mut headers = map(given);
            fields.complete(StatusCode::OK, &mut headers, false);
            assert_eq!(lines(&headers), expected, "{rule:?}, {given:?}");
        }
    }
}

#[test]
fn what_no_rule_names_stays() {
    let given = [
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-origin", "https://a.test"),
        ("content-type", "application/json"),
        ("etag", "\"1\""),
        ("vary", "Origin"),
        ("vary", "Accept"),
    ];
    let fields = fields(&[
        ("server", FieldRule::Remove),
        ("x-powered-by", FieldRule::Remove),
        ("x-frame-options", absent("DENY")),
    ]);
    let mut headers = map(&given);
    headers.append("server", HeaderValue::from_static("a/1"));
    headers.append("x-powered-by", HeaderValue::from_static("b"));
    fields.complete(StatusCode::OK, &mut headers, false);
    let mut expected = given.to_vec();
    expected.push(("x-frame-options", "DENY"));
    assert_eq!(lines(&headers), expected);
}

#[test]
fn a_declared_field_is_not_removed() {
    for (name, is_kept) in [
        ("x-generator", true),
        ("x-range", true),
        ("x-default", true),
        ("x-powered-by", false),
        ("x-generators", false),
    ] {
        let mut headers = map(&[(name, "a")]);
        fields(&[(name, FieldRule::Remove)]).complete(StatusCode::OK, &mut headers, false);
        assert_eq!(headers.contains_key(name), is_kept, "{name}");
    }
    // What is set in place of it is the operator's word.
    let mut headers = map(&[("x-generator", "a")]);
    fields(&[("x-generator", always("b"))]).complete(StatusCode::OK, &mut headers, false);
    assert_eq!(headers["x-generator"], "b");
}

#[test]
fn not_modified_adds_nothing_to_what_is_stored() {
    let fields = fields(&[
        ("server", FieldRule::Remove),
        ("x-frame-options", absent("DENY")),
        ("referrer-policy", always("no-referrer")),
    ]);
    for (status, expected) in [
        (StatusCode::NOT_MODIFIED, &[("referrer-policy", "no-referrer")][..]),
        (
            StatusCode::NO_CONTENT,
            &[("referrer-policy", "no-referrer"), ("x-frame-options", "DENY")],
        ),
    ] {
        let mut headers = map(&[("server", "a")]);
        fields.complete(status, &mut headers, false);
        assert_eq!(lines(&headers), expected, "{status}");
    }
}

#[test]
fn transport_security_is_not_promised_in_plain_text() {
    for rule in [absent("max-age=1"), always("max-age=1")] {
        let fields = fields(&[("strict-transport-security", rule), ("x-a", always("1"))]);
        for is_over_tls in [false, true] {
            let (mut forwarded, mut own) = (HeaderMap::new(), HeaderMap::new());
            fields.complete(StatusCode::OK, &mut forwarded, is_over_tls);
            fields.complete_own(&mut own, is_over_tls);
            for headers in [forwarded, own] {
                assert_eq!(headers.contains_key(STRICT_TRANSPORT_SECURITY), is_over_tls);
                assert_eq!(headers["x-a"], "1");
            }
        }
    }
}

#[test]
fn own_answers_keep_what_they_mean() {
    let fields = fields(&[
        ("cache-control", always("max-age=60")),
        ("x-frame-options", always("DENY")),
        ("x-content-type-options", absent("nosniff")),
        ("server", FieldRule::Remove),
    ]);
    let mut headers = map(&[("cache-control", "no-store")]);
    fields.complete_own(&mut headers, false);
    let expected = [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ];
    assert_eq!(lines(&headers), expected);
}

#[test]
fn the_contract_says_which_cookies_are_credentials() {
    let mut headers = map(&[("set-cookie", "sid=1; Path=/"), ("set-cookie", "theme=dark")]);
    let fields = fields(&[]);
    fields.of_a_worker().complete(StatusCode::OK, &mut headers, false);
    let expected = [("set-cookie", "sid=1; Path=/; HttpOnly"), ("set-cookie", "theme=dark")];
    assert_eq!(lines(&headers), expected);
}
