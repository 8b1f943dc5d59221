//! Schema Objects of OpenAPI 3.0: what they accept once rewritten, in both directions.

use serde_json::{Value, json};

use super::documents::{load_value, loaded, minimal};
use super::told;

mod adversaries;
mod formats;

/// Loads a document whose request and response body is `schema`, beside `components.schemas`.
fn document(schema: &Value, components: &Value) -> Value {
    let content = json!({"application/json": {"schema": schema}});
    let mut document = minimal(json!({}));
    document["paths"]["/things"] = json!({"post": {
        "requestBody": {"content": content},
        "responses": {"200": {"description": "ok", "content": content}},
    }});
    document["components"] = json!({"schemas": components});
    document
}

/// The verdicts of both directions, which are told together where they are equal.
fn verdict(document: &Value, body: &str) -> String {
    let contract = loaded(document);
    let operation = &contract.operations()[0];
    let json = http::HeaderValue::from_static("application/json");
    let request = operation.body().unwrap().content(Some(&json)).unwrap().check(body.as_bytes());
    let response = operation
        .response(http::StatusCode::OK)
        .unwrap()
        .content(Some(&json))
        .unwrap()
        .unwrap()
        .check(body.as_bytes());
    let told = |result: Result<(), _>| {
        result.map_or_else(
            |violation| told(&violation).split_once('.').unwrap().1.to_owned(),
            |()| "ok".to_owned(),
        )
    };
    let (request, response) = (told(request), told(response));
    if request == response { request } else { format!("{request} | {response}") }
}

#[track_caller]
fn check(schema: &Value, cases: &[(&str, &str)]) {
    check_with(schema, &json!({}), cases);
}

#[track_caller]
fn check_with(schema: &Value, components: &Value, cases: &[(&str, &str)]) {
    let document = document(schema, components);
    for (body, expected) in cases {
        let expected = if *expected == "ok" || expected.contains('|') {
            (*expected).to_owned()
        } else {
            format!("schema body:{expected}")
        };
        assert_eq!(verdict(&document, body), expected, "{schema} of {body}");
    }
}

// python-openapi#130: an enum without null refuses null, `nullable` beside it or not.
#[test]
fn nullable_adds_null_to_the_type_beside_it() {
    check(
        &json!({"type": "string", "nullable": true}),
        &[("null", "ok"), ("\"a\"", "ok"), ("1", " type")],
    );
    check(&json!({"type": "string"}), &[("null", " type")]);
    // 3.0.4: other keywords keep their meaning, so null must be a value of the enum too.
    check(
        &json!({"type": "string", "nullable": true, "enum": ["a"]}),
        &[("null", " enum"), ("\"a\"", "ok")],
    );
    check(
        &json!({"type": "string", "nullable": true, "enum": ["a", null]}),
        &[("null", "ok"), ("\"b\"", " enum")],
    );
    check(&json!({"nullable": true}), &[("null", "ok"), ("1", "ok")]);
    check(
        &json!({"type": "integer", "nullable": true, "minimum": 3}),
        &[("null", "ok"), ("2", " minimum")],
    );
    check_with(
        &json!({"type": "object", "nullable": true, "allOf": [{"$ref": "#/components/schemas/A"}]}),
        &json!({"A": {"type": "object", "nullable": true, "properties": {"a": {"type": "integer"}}}}),
        &[("null", "ok"), ("{\"a\":1}", "ok"), ("{\"a\":\"\"}", "/a type")],
    );
    check_with(
        &json!({"nullable": true, "allOf": [{"$ref": "#/components/schemas/A"}]}),
        &json!({"A": {"type": "object"}}),
        &[("null", " type"), ("{}", "ok")],
    );
}

#[test]
fn boolean_exclusive_bounds() {
    check(
        &json!({"minimum": 1, "exclusiveMinimum": true}),
        &[("1", " exclusiveMinimum"), ("1.0001", "ok")],
    );
    check(&json!({"minimum": 1, "exclusiveMinimum": false}), &[("1", "ok"), ("0", " minimum")]);
    check(
        &json!({"maximum": 1, "exclusiveMaximum": true}),
        &[("1", " exclusiveMaximum"), ("0.9", "ok")],
    );
    check(
        &json!({"maximum": 9_007_199_254_740_993_i64}),
        &[("9007199254740993", "ok"), ("9007199254740994", " maximum")],
    );
}

#[test]
fn what_stands_beside_a_reference_has_no_effect_and_is_told() {
    let schema = json!({"$ref": "#/components/schemas/A", "maxLength": 1, "description": "d"});
    let document = document(&schema, &json!({"A": {"type": "string"}}));
    assert_eq!(verdict(&document, "\"long\""), "ok");
    let warnings = load_value(&document, &[]).ok().unwrap().warnings;
    let told: Vec<_> = warnings.iter().map(|warning| warning.problem.to_string()).collect();
    assert_eq!(told, ["`maxLength` has no effect beside `$ref`"; 2]);
}

#[test]
fn read_only_and_write_only_by_direction() {
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["id", "secret", "name"],
        "properties": {
            "id": {"type": "integer", "readOnly": true},
            "secret": {"type": "string", "writeOnly": true},
            "name": {"type": "string"},
        },
    });
    check(
        &schema,
        &[
            (r#"{"name":"n","secret":"s"}"#, "ok | schema body: required"),
            (r#"{"name":"n","id":1}"#, "schema body: required | ok"),
            (
                r#"{"name":"n","id":1,"secret":"s"}"#,
                "schema body:/id readOnly | schema body:/secret writeOnly",
            ),
            (r#"{"id":1,"secret":"s"}"#, "schema body: required | schema body: required"),
        ]
        .map(|(body, expected)| {
            (
                body,
                if expected.ends_with("required | schema body: required") {
                    " required"
                } else {
                    expected
                },
            )
        }),
    );
    // Marked behind a reference, and required beside the branch that declares it.
    check_with(
        &json!({"required": ["id"], "allOf": [{"$ref": "#/components/schemas/Base"}, {"required": ["id", "a"]}]}),
        &json!({"Base": {"properties": {"id": {"$ref": "#/components/schemas/Id"}, "a": {}}}, "Id": {"type": "integer", "readOnly": true}}),
        &[
            (r#"{"a":1}"#, "ok | schema body: required"),
            (r#"{"a":1,"id":1}"#, "schema body:/id readOnly | ok"),
        ],
    );
}

#[test]
fn recursive_schemas() {
    // Kong 3.5: "valid recursive schemas always rejected".
    let components = json!({
        "Tree": {"type": "object", "required": ["v"], "additionalProperties": false, "properties": {
            "v": {"type": "integer"},
            "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
            "parent": {"$ref": "#/components/schemas/Node"},
        }},
        "Node": {"oneOf": [{"$ref": "#/components/schemas/Tree"}, {"type": "string"}]},
    });
    check_with(
        &json!({"$ref": "#/components/schemas/Tree"}),
        &components,
        &[
            (
                r#"{"v":1,"children":[{"v":2,"children":[{"v":3}]}],"parent":{"v":0,"parent":"root"}}"#,
                "ok",
            ),
            (
                r#"{"v":1,"children":[{"v":2,"children":[{"v":"3"}]}]}"#,
                "/children/0/children/0/v type",
            ),
            (r#"{"v":1,"parent":{"v":0,"parent":7}}"#, "/parent oneOf"),
        ],
    );
    // A part of a schema, by its pointer.
    check_with(
        &json!({"type": "array", "items": {"$ref": "#/components/schemas/Tree/properties/children/items"}}),
        &components,
        &[(r#"[{"v":1}]"#, "ok"), ("[{}]", "/0 required")],
    );
}

#[test]
fn explaining_does_not_cost_exponentially() {
    // Each level has two branches, and every error holds those of both.
    let branch = |name: &str| json!({"type": "object", "required": [name], "properties": {"c": {"$ref": "#/components/schemas/N"}, name: {}}});
    let components = json!({"N": {"anyOf": [branch("a"), branch("b")]}});
    let document = document(&json!({"$ref": "#/components/schemas/N"}), &components);
    let body = format!("{}{{}}{}", "{\"a\":1,\"b\":1,\"c\":".repeat(60), "}".repeat(60));
    let told = verdict(&document, &body);
    assert!(told.starts_with("schema body:"), "{told}");
}

#[test]
fn additional_properties() {
    check(&json!({"type": "object", "properties": {"a": {}}}), &[("{\"b\":1}", "ok")]);
    check(
        &json!({"additionalProperties": false}),
        &[("{}", "ok"), ("{\"b\":1}", " additionalProperties"), ("1", "ok")],
    );
    check(
        &json!({"additionalProperties": {"type": "integer"}, "properties": {"a": {}}}),
        &[
            ("{\"a\":\"x\",\"b\":1}", "ok"),
            ("{\"b\":\"x\"}", "/* type"),
            ("{\"b\":{\"c\":1}}", "/* type"),
        ],
    );
    check(
        &json!({"additionalProperties": {"properties": {"a/~b": {"type": "integer"}}}}),
        &[("{\"x\":{\"a/~b\":\"\"}}", "/*/a~1~0b type")],
    );
}

#[test]
fn compositions() {
    check(
        &json!({"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 2}]}),
        &[("1", "ok"), ("2.5", "ok"), ("3", " oneOf"), ("1.5", " oneOf")],
    );
    check(
        &json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        &[("1", "ok"), ("1.5", " anyOf")],
    );
    check(&json!({"not": {"type": "string"}}), &[("1", "ok"), ("\"a\"", " not")]);
    check(
        &json!({"allOf": [{"required": ["a"]}, {"properties": {"a": {"type": "integer"}}}]}),
        &[("{\"a\":1}", "ok"), ("{}", " required"), ("{\"a\":\"\"}", "/a type")],
    );
}

#[test]
fn a_discriminator_does_not_change_the_outcome() {
    let components = json!({
        "Cat": {"type": "object", "required": ["kind", "lives"], "properties": {"kind": {"type": "string"}, "lives": {"type": "integer"}}},
        "Dog": {"type": "object", "required": ["kind", "barks"], "properties": {"kind": {"type": "string"}, "barks": {"type": "boolean"}}},
    });
    let schema = json!({
        "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}],
        "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/components/schemas/Cat", "dog": "Dog"}},
    });
    check_with(
        &schema,
        &components,
        &[
            (r#"{"kind":"cat","lives":9}"#, "ok"),
            (r#"{"kind":"dog","lives":9}"#, "ok"),
            (r#"{"kind":"cow"}"#, " oneOf"),
        ],
    );
    let broken = json!({"discriminator": {"propertyName": "kind", "mapping": {"cat": "#/components/schemas/Cow"}}});
    // What changes no outcome stops no API.
    let warnings = load_value(&document(&broken, &json!({})), &[]).unwrap().warnings;
    assert!(warnings[0].pointer.ends_with("/discriminator/mapping/cat"), "{warnings:?}");
}

#[test]
fn patterns_are_enforced_or_refused() {
    // libopenapi-validator#292: a pattern that did not compile let every value pass.
    check(
        &json!({"type": "string", "pattern": "^[0-9]+$"}),
        &[("\"12\"", "ok"), ("\"12\\n\"", " pattern"), ("\"\"", " pattern"), ("1", " type")],
    );
    check(
        &json!({"pattern": r"^(?!admin)\w+$"}),
        &[("\"user\"", "ok"), ("\"administrator\"", " pattern"), ("\"é\"", " pattern")],
    );
    // The fallback engine gives up: refused, below `not` too.
    let text = format!("\"{}b\"", "a".repeat(40));
    let greedy = r"^(?:(?=a)(?:a|aa))+c$";
    check(&json!({"pattern": greedy}), &[(&text, " pattern")]);
    check(&json!({"not": {"pattern": greedy}}), &[(&text, " pattern"), ("\"b\"", "ok")]);
    check(&json!({"anyOf": [{"pattern": greedy}, {}]}), &[("\"b\"", "ok")]);
}

#[test]
fn unenforceable_schemas_are_refused_where_they_stand() {
    for (schema, pointer, expected) in [
        (
            json!({"const": 1}),
            "/const",
            "`keyword:const` is not enforced; accept that by naming it in `unenforced`",
        ),
        (
            json!({"if": {}, "then": {}}),
            "/if",
            "`keyword:if` is not enforced; accept that by naming it in `unenforced`",
        ),
        (
            json!({"maxLenght": 1}),
            "/maxLenght",
            "`keyword:maxLenght` is not enforced; accept that by naming it in `unenforced`",
        ),
        (json!({"type": ["string"]}), "/type", "expected one of the six types, found a list"),
        (json!({"type": "null"}), "/type", "expected one of the six types, found \"null\""),
        (
            json!({"type": "array"}),
            "",
            "`keyword:items` is not enforced; accept that by naming it in `unenforced`",
        ),
        (json!({"items": [{}]}), "/items", "expected a schema, found a list"),
        (json!(true), "", "expected a schema, found true"),
        (json!({"exclusiveMinimum": 1}), "/exclusiveMinimum", "expected a boolean, found 1"),
        (json!({"exclusiveMinimum": true}), "", "`minimum` is missing"),
        (json!({"minimum": "1"}), "/minimum", "expected a number, found \"1\""),
        (json!({"multipleOf": 0}), "/multipleOf", "expected a number above 0, found 0"),
        (json!({"minLength": -1}), "/minLength", "expected a whole number from 0, found -1"),
        (json!({"maxItems": 1.5}), "/maxItems", "expected a whole number from 0, found 1.5"),
        (
            json!({"enum": []}),
            "/enum",
            "expected a list of at least one value, found an empty list",
        ),
        (json!({"required": "a"}), "/required", "expected a list of member names, found \"a\""),
        (json!({"required": [1]}), "/required", "expected a list of member names, found a list"),
        (
            json!({"allOf": []}),
            "/allOf",
            "expected a list of at least one schema, found an empty list",
        ),
        (json!({"nullable": "yes"}), "/nullable", "expected a boolean, found \"yes\""),
        (
            json!({"pattern": "["}),
            "/pattern",
            "the pattern cannot be enforced: a class is not closed",
        ),
        (
            json!({"format": "phone"}),
            "/format",
            "`format:phone` is not enforced; accept that by naming it in `unenforced`",
        ),
        (
            json!({"type": "integer", "format": "date"}),
            "/format",
            "`format:date` is not enforced; accept that by naming it in `unenforced`",
        ),
        (
            json!({"$ref": "#/components/schemas/None"}),
            "/$ref",
            "the reference #/components/schemas/None leads to nothing",
        ),
        (
            json!({"properties": {"a/b": {"type": "x"}}}),
            "/properties/a~1b/type",
            "expected one of the six types, found \"x\"",
        ),
    ] {
        let base = "/paths/~1things/post/requestBody/content/application~1json/schema";
        let errors = load_value(&document(&schema, &json!({})), &[]).err().unwrap_or_default();
        let found = errors.iter().any(|error| {
            *error.pointer == *format!("{base}{pointer}") && error.problem.to_string() == expected
        });
        assert!(found, "{schema}: {errors:?}");
    }
}

#[test]
fn what_is_named_may_stay_unenforced() {
    let schema = json!({"type": "string", "format": "postcode", "const": "a", "maxLength": 3});
    let document = document(&schema, &json!({}));
    assert!(load_value(&document, &["format:postcode"]).is_err());
    let loaded = load_value(&document, &["format:postcode", "keyword:const"]).ok().unwrap();
    assert_eq!(loaded.warnings.len(), 4, "each in both directions' places: {:?}", loaded.warnings);
    let json = http::HeaderValue::from_static("application/json");
    let body = loaded.contract.operations()[0].body().unwrap().content(Some(&json)).unwrap();
    assert!(body.check(b"\"abc\"").is_ok());
    assert!(body.check(b"\"abcd\"").is_err(), "the rest is enforced");
}

#[test]
fn wildcard_media_types_take_only_json() {
    let mut document = minimal(json!({}));
    document["paths"]["/things"] = json!({"post": {
        "requestBody": {"content": {
            "*/*": {"schema": {"type": "integer"}},
            "application/*": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "boolean"}},
            "application/json; v=2": {"schema": {"type": "array", "items": {}}},
        }},
        "responses": {"200": {"description": "ok"}},
    }});
    let contract = loaded(&document);
    let body = contract.operations()[0].body().unwrap();
    for (sent, accepted) in [
        ("text/json", Some("1")),
        ("application/x+json", Some("\"a\"")),
        ("application/json", Some("true")),
        ("application/json; v=1", Some("true")),
        ("application/json; v=2", Some("[]")),
        ("text/plain", None),
        ("application/xml", None),
        ("application/octet-stream", None),
    ] {
        let sent_value = http::HeaderValue::from_str(sent).unwrap();
        let content = body.content(Some(&sent_value));
        assert_eq!(content.is_ok(), accepted.is_some(), "{sent}");
        for text in ["1", "\"a\"", "true", "[]"] {
            if let Ok(content) = &content {
                assert_eq!(
                    content.check(text.as_bytes()).is_ok(),
                    Some(text) == accepted,
                    "{sent} {text}"
                );
            }
        }
    }
}

#[test]
fn a_body_is_optional_unless_required() {
    // openapi4j#119, mojolicious#170: an absent body was refused.
    let document = document(&json!({}), &json!({}));
    assert!(!loaded(&document).operations()[0].body().unwrap().required());
    let mut document = document;
    document["paths"]["/things"]["post"]["requestBody"]["required"] = json!(true);
    assert!(loaded(&document).operations()[0].body().unwrap().required());
}

#[test]
fn content_without_a_schema_is_still_json() {
    // GHSA-jpcw-4wr7-c3vq: a missing schema made a validator panic.
    let mut document = minimal(json!({}));
    document["paths"]["/things"]["get"]["responses"]["200"]["content"] =
        json!({"application/json": {}});
    let contract = loaded(&document);
    let json = http::HeaderValue::from_static("application/json");
    let rule = contract.operations()[0].response(http::StatusCode::OK).unwrap();
    let content = rule.content(Some(&json)).unwrap().unwrap();
    assert!(content.check(b"{\"a\":[1]}").is_ok());
    assert!(content.check(b"<html>").is_err());
}
