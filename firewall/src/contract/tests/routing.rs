//! From a request's line, host and preflight fields to its operation, by whole documents.

use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::super::policy::{BasePath, Hosts, TrailingSlash, Verdict};
use super::super::*;
use super::documents::{Temporary, load_value, minimal};
use super::told;
use crate::violation::Rule;

mod regressions;
mod servers;

fn load_with(document: &Value, policy: Policy) -> Result<Loaded, Vec<ContractError>> {
    let file = Temporary::new(&document.to_string(), "json");
    load(&file.0, &LoadOptions { policy, ..LoadOptions::default() })
}

#[track_caller]
fn contract(document: &Value, policy: Policy) -> Contract {
    let loaded = load_with(document, policy).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert_eq!(loaded.warnings, []);
    loaded.contract
}

/// Pointer and message of each problem.
fn problems(document: &Value, policy: Policy) -> Vec<String> {
    let errors = load_with(document, policy).err().unwrap_or_default();
    errors.iter().map(|error| format!("{} {}", error.pointer, error.problem)).collect()
}

#[track_caller]
fn refused(document: &Value, expected: &str) {
    let problems = problems(document, Policy::default());
    assert!(problems.iter().any(|problem| problem.contains(expected)), "{problems:?}");
}

/// A document of the version with these members of `paths`.
#[expect(clippy::needless_pass_by_value, reason = "callers write a value in its place")]
fn document(version: &str, paths: Value) -> Value {
    json!({"openapi": version, "info": {"title": "t", "version": "1"}, "paths": paths})
}

/// An operation that takes these names of its path as strings.
fn operation(id: &str, names: &[&str]) -> Value {
    let parameters: Vec<_> = names
        .iter()
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    json!({
        "operationId": id, "parameters": parameters,
        "responses": {"200": {"description": "ok"}},
    })
}

/// The operation and the path that is forwarded, or the rule that refuses.
fn routed(contract: &Contract, method: &str, path: &str, host: Option<&str>) -> String {
    match contract.route(&method.parse().unwrap(), path, host) {
        Ok(matched) => format!("{} {}", matched.operation.id(), matched.path),
        Err(violation) => violation.rule.id().to_owned(),
    }
}

#[test]
fn methods_of_each_version() {
    let item = json!({
        "get": operation("get", &[]), "trace": operation("trace", &[]),
        "options": operation("options", &[]),
    });
    let plain = contract(&document("3.1.1", json!({"/a": item})), Policy::default());
    for (method, expected) in [
        ("GET", "get /a"),
        ("HEAD", "get /a"),
        ("TRACE", "trace /a"),
        ("OPTIONS", "options /a"),
        ("QUERY", "route.method"),
        ("CONNECT", "route.method"),
        ("Get", "route.method"),
    ] {
        assert_eq!(routed(&plain, method, "/a", None), expected, "{method}");
    }
    let item = json!({
        "query": operation("query", &[]),
        "additionalOperations": {"LOCK": operation("lock", &[]), "x-sync": operation("sync", &[])},
    });
    let modern = contract(&document("3.2.0", json!({"/a": item})), Policy::default());
    for (method, expected) in [
        ("QUERY", "query /a"),
        ("LOCK", "lock /a"),
        ("x-sync", "sync /a"),
        // Methods are case-sensitive (RFC 9110 section 9.1).
        ("query", "route.method"),
        ("lock", "route.method"),
        ("X-SYNC", "route.method"),
        ("GET", "route.method"),
        ("HEAD", "route.method"),
    ] {
        assert_eq!(routed(&modern, method, "/a", None), expected, "{method}");
    }
    let refusal = modern.route(&Method::GET, "/a", None).err().unwrap();
    assert_eq!(refusal.allow.as_deref(), Some("LOCK, QUERY, x-sync"));
    for version in ["3.0.4", "3.1.1"] {
        let problems = problems(&document(version, json!({"/a": item})), Policy::default());
        for field in ["query", "additionalOperations"] {
            let pointer = format!("/paths/~1a/{field} ");
            assert!(problems.iter().any(|problem| problem.starts_with(&pointer)), "{problems:?}");
        }
    }
    let long = "L".repeat(32);
    for (name, expected) in [
        ("POST", "`POST` has a field of its own"),
        ("post", "`post` has a field of its own"),
        ("Query", "`Query` has a field of its own"),
        ("CONNECT", "`CONNECT` asks for a tunnel"),
        ("connect", "`connect` asks for a tunnel"),
        ("A B", "`A B` cannot name a method"),
        ("", "`` cannot name a method"),
        ("É", "cannot name a method"),
        (&format!("{long}L"), "is longer than a method may be"),
        (&long, ""),
    ] {
        let item = json!({"additionalOperations": {name: operation("a", &[])}});
        let problems = problems(&document("3.2.0", json!({"/a": item})), Policy::default());
        match problems.as_slice() {
            [] => assert_eq!(expected, "", "{name}"),
            [problem] => assert!(!expected.is_empty() && problem.contains(expected), "{problem}"),
            several => panic!("{several:?}"),
        }
    }
    let item = json!({"additionalOperations": {"LOCK": 1}});
    refused(&document("3.2.0", json!({"/a": item})), "LOCK expected an object");
}

#[test]
fn the_policy_decides_on_heads_slashes_and_deprecated_operations() {
    let mut old = operation("old", &[]);
    old["deprecated"] = true.into();
    let item = json!({"get": old, "put": operation("put", &[])});
    let document = document("3.0.3", json!({"/a": item, "/b/": {"get": operation("b", &[])}}));
    let default = contract(&document, Policy::default());
    assert!(default.operations()[0].is_deprecated());
    let strict = contract(
        &document,
        Policy {
            head_through_get: Verdict::Refuse,
            trailing_slash: TrailingSlash::Ignore,
            deprecated_operations: Verdict::Refuse,
            ..Policy::default()
        },
    );
    for (method, path, by_default, strictly) in [
        ("GET", "/a", "old /a", "route.deprecated"),
        ("PUT", "/a", "put /a", "put /a"),
        ("PUT", "/a/", "route.unknown-path", "put /a"),
        ("HEAD", "/b/", "b /b/", "route.method"),
        ("GET", "/b", "route.unknown-path", "b /b/"),
    ] {
        assert_eq!(routed(&default, method, path, None), by_default, "{method} {path}");
        assert_eq!(routed(&strict, method, path, None), strictly, "{method} {path}");
    }
    let mut wrong = document.clone();
    wrong["paths"]["/a"]["get"]["deprecated"] = "yes".into();
    refused(&wrong, "/paths/~1a/get/deprecated expected a boolean");
}

#[test]
fn encoded_slashes_by_extension() {
    let names = &["x"][..];
    let document = |item: Value, beside: Value| {
        let mut reference = json!({"$ref": "#/components/x-items/I"});
        reference.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        let mut document = document("3.0.3", json!({"/f/{x}": reference}));
        let mut item = item;
        item["get"] = operation("get", names);
        item["put"] = operation("put", names);
        item["put"]["x-firewall-encoded-slash"] = false.into();
        document["components"] = json!({"x-items": {"I": item}});
        document
    };
    let extension = || json!({"x-firewall-encoded-slash": true});
    for (item, beside, accepted) in [
        (json!({}), json!({}), false),
        (extension(), json!({}), true),
        (json!({}), extension(), true),
    ] {
        let contract = contract(&document(item, beside), Policy::default());
        let expected = if accepted { "get /f/a%2Fb" } else { "route.path" };
        assert_eq!(routed(&contract, "GET", "/f/a%2fb", None), expected);
        assert_eq!(routed(&contract, "PUT", "/f/a%2fb", None), "route.path");
        assert_eq!(routed(&contract, "PUT", "/f/a", None), "put /f/a");
    }
    let wrong = document(json!({"x-firewall-encoded-slash": "yes"}), json!({}));
    refused(&wrong, "/x-firewall-encoded-slash expected a boolean");
}

#[test]
fn references_to_path_items() {
    let base = document("3.1.1", json!({"/a": {"$ref": "#/components/pathItems/A"}}));
    let mut document = base.clone();
    document["components"] = json!({"pathItems": {
        "A": {"$ref": "#/components/pathItems/B", "summary": "s", "description": "d", "x-a": 1},
        "B": {"get": operation("get", &[])},
    }});
    assert_eq!(routed(&contract(&document, Policy::default()), "GET", "/a", None), "get /a");
    for (name, value) in [
        ("get", operation("other", &[])),
        ("put", operation("put", &[])),
        ("parameters", json!([])),
    ] {
        let mut document = document.clone();
        document["paths"]["/a"][name] = value;
        let expected = format!("/paths/~1a/{name} what `{name}` means beside `$ref` is undefined");
        refused(&document, &expected);
    }
    for (target, expected) in [
        (json!({"$ref": "#/components/pathItems/A"}), "leads back to itself"),
        (json!({"$ref": "#/components/pathItems/C"}), "leads to nothing"),
        (json!({"$ref": 1}), "expected a string"),
        (json!([]), "expected an object"),
    ] {
        let mut document = document.clone();
        document["components"]["pathItems"]["B"] = target;
        refused(&document, expected);
    }
    // What nothing refers to is read all the same.
    let mut unused = document.clone();
    unused["components"]["pathItems"]["C"] = json!({"get": {"responses": {}, "oops": 1}, "put": 1});
    refused(&unused, "/components/pathItems/C/get/oops");
    refused(&unused, "/components/pathItems/C/put expected an object");
    document["openapi"] = "3.0.3".into();
    refused(&document, "/components/pathItems");
}

#[test]
fn a_document_without_operations_denies_all_and_says_so() {
    let hooks = json!({
        "openapi": "3.1.1", "info": {"title": "t", "version": "1"},
        "webhooks": {"new": {"post": {"responses": {"200": {"description": "ok"}}}}},
    });
    let loaded = load_with(&hooks, Policy::default()).ok().unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].problem, Problem::NoOperations);
    for (method, path) in [("POST", "/new"), ("GET", "/"), ("OPTIONS", "/")] {
        assert_eq!(routed(&loaded.contract, method, path, None), "route.unknown-path");
    }
}

#[test]
fn preflights_for_methods_that_are_declared() {
    let mut old = operation("old", &[]);
    old["deprecated"] = true.into();
    let document = document(
        "3.0.3",
        json!({
            "/a/{x}": {"get": operation("get", &["x"]), "delete": operation("delete", &["x"])},
            "/own": {"options": operation("own", &[]), "put": operation("put", &[])},
            "/old": {"get": old, "put": operation("new", &[])},
        }),
    );
    let by = |preflight, hosts: &[&str]| {
        let hosts = if hosts.is_empty() {
            Hosts::Any
        } else {
            Hosts::Named(hosts.iter().map(|host| (*host).to_owned()).collect())
        };
        let deprecated_operations = Verdict::Refuse;
        contract(&document, Policy { hosts, preflight, deprecated_operations, ..Policy::default() })
    };
    let (passing, refusing) = (by(Verdict::Pass, &[]), by(Verdict::Refuse, &[]));
    let asked = |contract: &Contract, method: &str, path: &str, wanted: &str, origin: bool| {
        let mut headers = HeaderMap::new();
        headers.insert("access-control-request-method", wanted.parse().unwrap());
        if origin {
            headers.insert("origin", "https://app.example".parse().unwrap());
        }
        let method = method.parse().unwrap();
        let found = contract.preflight(&method, path, &headers, Some("a.example"));
        found.map(|matched| format!("{} {}", matched.operation.id(), matched.path))
    };
    for (method, path, wanted, origin, expected) in [
        ("OPTIONS", "/a/%37", "DELETE", true, Some("delete /a/7")),
        ("OPTIONS", "/a/7", "GET", true, Some("get /a/7")),
        ("OPTIONS", "/a/7", "HEAD", true, Some("get /a/7")),
        ("OPTIONS", "/a/7", "PUT", true, None),
        ("OPTIONS", "/a/7", "delete", true, None),
        ("OPTIONS", "/a/7", "OPTIONS", true, None),
        ("OPTIONS", "/a/7", "DELETE", false, None),
        ("OPTIONS", "/b", "GET", true, None),
        ("OPTIONS", "/a//7", "GET", true, None),
        ("OPTIONS", "*", "GET", true, None),
        ("GET", "/a/7", "DELETE", true, None),
        ("PATCH", "/a/7", "DELETE", true, None),
        // Declared, it is an operation as any other.
        ("OPTIONS", "/own", "PUT", true, None),
        ("OPTIONS", "/old", "PUT", true, Some("new /old")),
        ("OPTIONS", "/old", "GET", true, None),
    ] {
        let found = asked(&passing, method, path, wanted, origin);
        assert_eq!(found.as_deref(), expected, "{method} {path} {wanted}");
        assert_eq!(asked(&refusing, method, path, wanted, origin), None);
    }
    let elsewhere = by(Verdict::Pass, &["b.example"]);
    assert_eq!(asked(&elsewhere, "OPTIONS", "/a/7", "GET", true), None);
    // Path and query are checked as those of the operation that is asked for.
    let matched = passing.route(&Method::GET, "/a/7", None).unwrap();
    assert_eq!(matched.operation.check_target(&matched, None), Ok(None));
    let unknown = matched.operation.check_target(&matched, Some("q=1")).unwrap_err();
    assert_eq!(told(&unknown), "parameter.unknown query:*");
}

// GitHub's own document has `DELETE …/{attestation_id}` and `GET …/{subject_digest}`.
#[test]
fn methods_of_one_hierarchy_may_be_told_apart_by_name() {
    let mut document = minimal(json!({}));
    let operation = |name: &str| {
        json!({"parameters": [{"name": name, "in": "path", "required": true, "schema": {"type": "integer"}}],
            "responses": {"200": {"description": "ok"}}})
    };
    document["paths"] =
        json!({"/a/{id}": {"delete": operation("id")}, "/a/{key}": {"get": operation("key")}});
    let errors = load_value(&document, &[]).err().unwrap();
    assert_eq!(errors[0].problem.unenforced(), Some("same-hierarchy"), "{errors:?}");
    let contract = load_value(&document, &["same-hierarchy"]).unwrap().contract;
    for (method, template) in [(Method::GET, "/a/{key}"), (Method::DELETE, "/a/{id}")] {
        let matched = contract.route(&method, "/a/7", None).unwrap();
        assert_eq!(matched.operation.template(), template);
        assert!(matched.operation.check_parameters(&matched, None, &HeaderMap::new()).is_ok());
        let matched = contract.route(&method, "/a/x", None).unwrap();
        assert!(matched.operation.check_parameters(&matched, None, &HeaderMap::new()).is_err());
    }
}

// DigitalOcean's document has its operations in files of their own.
#[test]
fn operations_by_reference_are_one_problem_and_followed_by_name() {
    let mut document = minimal(json!({}));
    document["paths"]["/things"]["get"] = json!({"$ref": "#/components/x-get"});
    document["components"] =
        json!({"x-get": {"operationId": "referred", "responses": {"200": {"description": "ok"}}}});
    let errors = load_value(&document, &[]).err().unwrap();
    let kinds: Vec<_> = errors.iter().map(|error| error.problem.unenforced()).collect();
    assert_eq!(kinds, [Some("operation-reference")], "{errors:?}");
    for version in ["3.0.3", "3.1.0"] {
        document["openapi"] = version.into();
        let contract = load_value(&document, &["operation-reference"]).unwrap().contract;
        assert_eq!(contract.operations()[0].id(), "referred");
    }
}

// Intercom's document has expressions that no parameter describes.
#[test]
fn expressions_without_a_parameter_pass_by_name_alone() {
    let mut document = minimal(json!({}));
    document["paths"] = json!({"/a/{id}": {"get": {"responses": {"200": {"description": "ok"}}}}});
    let errors = load_value(&document, &[]).err().unwrap();
    assert_eq!(errors[0].problem.unenforced(), Some("path-parameter"), "{errors:?}");
    let contract = load_value(&document, &["path-parameter"]).unwrap().contract;
    let matched = contract.route(&Method::GET, "/a/x%20y", None).unwrap();
    assert_eq!(matched.path, "/a/x%20y");
    assert!(contract.route(&Method::GET, "/a/", None).is_err(), "nothing is no value");
}
