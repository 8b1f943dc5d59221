//! From an answer of the upstream to its verdict.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::Contract;
use super::super::policy::{Exceptions, Policy, Verdict};
use super::documents::{load_value, loaded, loaded_under, minimal, problems};
use super::{JSON, check, headers, shop, told};
use crate::violation::{Rule, Violation};

/// The verdict on an answer, in the pipeline's order.
fn answered(
    contract: &Contract,
    request: (&str, &str),
    status: u16,
    fields: &[(&str, &str)],
    body: &str,
) -> Result<String, Violation> {
    let matched = contract.route(&request.0.parse().unwrap(), request.1, None)?;
    let rule = matched.operation.response(StatusCode::from_u16(status).unwrap())?;
    let headers = headers(fields);
    rule.check_headers(&headers)?;
    let content = if body.is_empty() { None } else { rule.content(headers.get("content-type"))? };
    match content {
        Some(content) => {
            content.check(body.as_bytes())?;
            let status = StatusCode::from_u16(status).unwrap();
            matched.operation.check_exceptions(status, body.as_bytes())?;
            Ok(if content.is_opaque() { "unread" } else { "checked" }.to_owned())
        }
        None if !body.is_empty() => Err(Violation::new(Rule::ResponseUnexpectedBody)),
        None => Ok("empty".to_owned()),
    }
}

#[test]
fn responses() {
    let shop = shop();
    let product = r#"{"id":7,"name":"Spade","category":"garden","price":{"amount":12.5,"currency":"EUR"},"updatedAt":"2026-11-21T10:00:00Z"}"#;
    let page = format!(r#"{{"items":[{product}],"next":null}}"#);
    let problem = r#"{"title":"Gone","status":410}"#;
    let problem_type = ("content-type", "application/problem+json; charset=utf-8");
    let total = ("x-total-count", "1");
    let get = ("GET", "/products/7");
    let list = ("GET", "/products");
    for (request, status, fields, body, expected) in [
        (get, 200, vec![JSON], product, Ok("checked")),
        (get, 200, vec![JSON], r#"{"id":7}"#, Err("response.schema body: required")),
        (
            get,
            200,
            vec![JSON],
            r#"{"name":"Spade","category":"garden","price":{"amount":12.5,"currency":"EUR"}}"#,
            Err("response.schema body: required"),
        ),
        (get, 200, vec![JSON], "{\"id\":7", Err("response.malformed")),
        (get, 200, vec![JSON], "{\"id\":7,\"id\":7}", Err("response.malformed")),
        (get, 200, vec![JSON], "<html>", Err("response.malformed")),
        (get, 200, vec![("content-type", "text/html")], "<html>", Err("response.media-type")),
        (get, 200, vec![], product, Err("response.media-type")),
        (
            get,
            200,
            vec![("content-type", "application/json; charset=utf-16")],
            product,
            Err("response.encoding"),
        ),
        (get, 404, vec![problem_type], r#"{"title":"No","status":404}"#, Ok("checked")),
        (get, 404, vec![JSON], r#"{"title":"No","status":404}"#, Err("response.media-type")),
        (
            get,
            500,
            vec![problem_type],
            r#"{"title":"Oops","status":500,"trace":"at x"}"#,
            Ok("checked"),
        ),
        (
            get,
            500,
            vec![problem_type],
            r#"{"title":"Oops","status":200}"#,
            Err("response.schema body:/status minimum"),
        ),
        (list, 200, vec![JSON, total], &page, Ok("checked")),
        (list, 200, vec![JSON], &page, Err("response.header header:X-Total-Count")),
        (
            list,
            200,
            vec![JSON, ("x-total-count", "many")],
            &page,
            Err("response.header header:X-Total-Count"),
        ),
        (
            list,
            200,
            vec![JSON, ("x-total-count", "-1")],
            &page,
            Err("response.header header:X-Total-Count minimum"),
        ),
        (list, 200, vec![JSON, total, total], &page, Err("response.header header:X-Total-Count")),
        (("HEAD", "/products"), 200, vec![JSON, total], "", Ok("empty")),
        (list, 410, vec![problem_type], problem, Ok("checked")),
        (("DELETE", "/products/7"), 204, vec![], "", Ok("empty")),
        (("DELETE", "/products/7"), 204, vec![JSON], "{}", Err("response.unexpected-body")),
        (("POST", "/products/7/reviews"), 201, vec![JSON], "{}", Err("response.unexpected-body")),
    ] {
        let result = answered(&shop, request, status, &fields, body);
        check(result, expected, &format!("{request:?} {status} {fields:?} {body}"));
    }
}

#[test]
fn a_status_that_is_not_declared_is_refused() {
    let document = minimal(json!({"responses": {
        "200": {"description": "ok"},
        "2XX": {"description": "range", "content": {"application/json": {}}},
        "4XX": {"description": "range"},
    }}));
    let contract = loaded(&document);
    let operation = &contract.operations()[0];
    for (status, expected) in [
        (200, Some(true)),
        (201, Some(false)),
        (299, Some(false)),
        (404, Some(true)),
        (304, None),
        (500, None),
    ] {
        let rule = operation.response(StatusCode::from_u16(status).unwrap());
        let found = rule.as_ref().ok().map(|rule| rule.content(None).is_ok());
        assert_eq!(found, expected, "{status}");
        if let Err(violation) = rule {
            assert_eq!(violation.rule, Rule::ResponseStatus);
        }
    }
}

#[test]
fn write_only_members_stay_behind() {
    let shop = shop();
    let order = |payment: &str| {
        format!(
            r#"{{"id":"0d5b2a3c-7d6e-4f00-9a11-b2c3d4e5f607","status":"paid","customer":{{"email":"ada@example.org"}},
        "shipTo":{{"name":"A","street":"B","city":"C","postcode":"123","country":"GB"}},
        "lines":[{{"product":1,"quantity":1}}],"payment":{payment}}}"#
        )
    };
    let request = ("GET", "/orders/0d5b2a3c-7d6e-4f00-9a11-b2c3d4e5f607");
    let shown = order(r#"{"method":"card","lastDigits":"4242"}"#);
    check(answered(&shop, request, 200, &[JSON], &shown), Ok("checked"), "as the shop answers");
    let leaked = order(r#"{"method":"card","token":"tok_0123456789abcdef"}"#);
    let refused = Err("response.schema body:/payment/token writeOnly");
    check(answered(&shop, request, 200, &[JSON], &leaked), refused, "the token leaks");
}

#[test]
fn header_fields_in_their_styles() {
    let header = |schema: Value| json!({"required": true, "schema": schema});
    let document = minimal(json!({"responses": {"200": {"description": "ok", "headers": {
        "X-List": {"schema": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}},
        "X-Map": {"explode": true, "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        "Set-Cookie": header(json!({"type": "string", "pattern": "^[a-z]+=[^;]+; Secure(; Expires=.*)?$"})),
        "Content-Type": header(json!({"type": "integer"})),
    }}}}));
    let contract = loaded(&document);
    let rule = contract.operations()[0].response(StatusCode::OK).unwrap();
    let cookie = ("set-cookie", "a=1; Secure");
    // A comma that separates nothing.
    let dated = ("set-cookie", "b=2; Secure; Expires=Sat, 21 Nov 2026 10:00:00 GMT");
    for (fields, expected) in [
        (vec![cookie], Ok(())),
        (vec![cookie, dated], Ok(())),
        (vec![cookie, ("set-cookie", "c=3")], Err("response.header header:Set-Cookie pattern")),
        (vec![], Err("response.header header:Set-Cookie")),
        (vec![cookie, ("x-list", "1,2"), ("x-list", "3")], Ok(())),
        (
            vec![cookie, ("x-list", "1,2"), ("x-list", "3,4")],
            Err("response.header header:X-List maxItems"),
        ),
        (vec![cookie, ("x-list", "1,b")], Err("response.header header:X-List")),
        (vec![cookie, ("x-map", "a=1,b=2")], Ok(())),
        (vec![cookie, ("x-map", "a=x")], Err("response.header header:X-Map")),
        (vec![cookie, ("x-undeclared", "1")], Ok(())),
    ] {
        let result = rule.check_headers(&headers(&fields)).map_err(|violation| told(&violation));
        assert_eq!(result, expected.map_err(str::to_owned), "{fields:?}");
    }
}

/// `GET /things` with one answer of 200.
fn answering(response: &Value) -> Value {
    minimal(json!({"responses": {"200": response}}))
}

const GET: (&str, &str) = ("GET", "/things");

#[test]
fn what_is_undeclared_passes_where_the_policy_says_so() {
    let strict = Policy::default();
    let document = answering(&json!({"description": "ok", "content": {"application/json": {}}}));
    let policy = Policy { undeclared_media_types: Verdict::Pass, ..strict.clone() };
    let csv = ("content-type", "text/csv");
    for (policy, expected) in [(strict.clone(), Err("response.media-type")), (policy, Ok("unread"))]
    {
        let contract = loaded_under(&document, policy);
        check(answered(&contract, GET, 200, &[csv], "a,b"), expected, "media type");
        check(answered(&contract, GET, 200, &[JSON], "{"), Err("response.malformed"), "declared");
    }

    let bodiless = answering(&json!({"description": "ok"}));
    let policy = Policy { undeclared_response_bodies: Verdict::Pass, ..strict.clone() };
    // Wallarm's api-firewall and kin-openapi pass any body where `content` is empty.
    for (policy, expected) in
        [(strict.clone(), Err("response.unexpected-body")), (policy, Ok("unread"))]
    {
        let contract = loaded_under(&bodiless, policy);
        check(answered(&contract, GET, 200, &[csv], "a,b"), expected, "body");
        check(answered(&contract, GET, 200, &[], ""), Ok("empty"), "none");
    }

    let policy = Policy { undeclared_statuses: Verdict::Pass, ..strict.clone() };
    for (policy, other, partial) in [
        (strict, Err("response.status"), Err("response.partial")),
        (policy, Ok("unread"), Ok("unread")),
    ] {
        let contract = loaded_under(&document, policy);
        check(answered(&contract, GET, 500, &[csv], "a,b"), other, "status");
        check(answered(&contract, GET, 206, &[csv], "a,b"), partial, "part");
        check(answered(&contract, GET, 200, &[csv], "a"), Err("response.media-type"), "declared");
    }
}

#[test]
fn parts_of_a_representation_are_declared_by_their_own_status() {
    let json = json!({"description": "ok", "content": {"application/json": {"schema": {"type": "object"}}}});
    // A range and a default do not mean them: their schemas are those of the whole.
    for key in ["2XX", "default"] {
        let contract = loaded(&minimal(json!({"responses": {"200": json, key: json}})));
        assert!(!contract.operations()[0].answers_in_parts());
        check(answered(&contract, GET, 206, &[JSON], "{\"a\""), Err("response.partial"), key);
    }
    let document = minimal(json!({"responses": {"200": json, "206": json}}));
    let message = "`partial-content` is not enforced; accept that by naming it in `unenforced`";
    assert_eq!(problems(&document), [format!("/paths/~1things/get/responses/206 {message}")]);
    let contract = load_value(&document, &["partial-content"]).unwrap().contract;
    assert!(contract.operations()[0].answers_in_parts());
    check(answered(&contract, GET, 206, &[JSON], "{\"a\""), Ok("unread"), "206");
    check(answered(&contract, GET, 200, &[JSON], "{\"a\""), Err("response.malformed"), "200");
}

#[test]
fn a_description_is_required_up_to_3_1_and_a_summary_known_from_3_2() {
    for (version, response, expected) in [
        ("3.0.4", json!({}), "`description` is missing"),
        ("3.1.1", json!({}), "`description` is missing"),
        ("3.1.1", json!({"description": "d", "summary": "s"}), "`summary` is not a field"),
        ("3.2.0", json!({}), ""),
        ("3.2.0", json!({"summary": "s"}), ""),
        ("3.2.0", json!({"summary": 1}), "expected a string"),
    ] {
        let mut document = answering(&response);
        document["openapi"] = version.into();
        let problems = problems(&document);
        assert_eq!(problems.is_empty(), expected.is_empty(), "{version} {response} {problems:?}");
        assert!(problems.iter().all(|problem| problem.contains(expected)), "{problems:?}");
    }
}

#[test]
fn a_definition_of_the_content_type_field_is_ignored_and_told() {
    let header = json!({"required": true, "schema": {"type": "integer"}});
    let document = answering(&json!({"description": "ok", "headers": {"content-type": header}}));
    let loaded = load_value(&document, &[]).unwrap();
    assert_eq!(
        loaded.warnings.iter().map(|warning| warning.problem.to_string()).collect::<Vec<_>>(),
        ["`content-type` among the headers of a response has no effect"]
    );
    check(answered(&loaded.contract, GET, 200, &[], ""), Ok("empty"), "it is required in vain");
}

#[test]
fn the_type_is_the_answers_own() {
    // wallarm/api-firewall#56 took the request's, Kong 3.11 failed where there was none.
    let contract = loaded(&answering(
        &json!({"description": "ok", "content": {"application/*": {"schema": {"type": "object"}}}}),
    ));
    for (fields, body, expected) in [
        (vec![("content-type", "application/hal+json")], "{}", Ok("checked")),
        (vec![("content-type", "application/hal+json")], "[]", Err("response.schema body: type")),
        (vec![("content-type", "application/xml")], "<a/>", Err("response.media-type")),
        (vec![("accept", "application/json")], "{}", Err("response.media-type")),
    ] {
        check(answered(&contract, GET, 200, &fields, body), expected, &format!("{fields:?}"));
    }
}

#[test]
fn exceptions_within_what_the_schema_allows() {
    let content = json!({"application/json": {"schema": {"type": "object"}}});
    let response = json!({"description": "r", "content": content});
    let document =
        minimal(json!({"responses": {"200": response, "404": response, "500": response}}));
    let trace = r#"{"error":"java.lang.NullPointerException\n\tat a.B.c(B.java:1)"}"#;
    for (exceptions, refused) in [
        (Exceptions::Pass, &[][..]),
        (Exceptions::RefuseInErrors, &[404, 500]),
        (Exceptions::Refuse, &[200, 404, 500]),
    ] {
        let contract = loaded_under(&document, Policy { exceptions, ..Policy::default() });
        for status in [200, 404, 500] {
            let is_refused = refused.contains(&status);
            let expected = if is_refused { Err("response.exception") } else { Ok("checked") };
            let what = format!("{exceptions:?} {status}");
            let found = answered(&contract, GET, status, &[JSON], trace);
            if let Err(violation) = &found {
                let exception = violation.exception.map(crate::violation::Exception::id);
                assert_eq!(exception, Some("java-stack-trace"), "{what}");
            }
            check(found, expected, &what);
            check(answered(&contract, GET, status, &[JSON], "{}"), Ok("checked"), &what);
        }
    }
}
