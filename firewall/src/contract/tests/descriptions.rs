//! Fields that only describe, which load in silence, and those whose form is checked although no
//! message depends on it.

use serde_json::{Value, json};

use super::super::*;
use super::documents::{load_value, minimal};

/// Every field that describes and constrains nothing, in the version that has most of them.
#[test]
fn fields_that_only_describe_load_in_silence() {
    let documentation = json!({"description": "more", "url": "https://example.com/docs"});
    let mut document = minimal(json!({
        "summary": "s", "description": "d", "externalDocs": documentation, "tags": ["t"],
        "callbacks": {"later": {"{$request.body#/url}": {"post": {"responses": {"200": {"description": "ok"}}}}}},
        "servers": [{"url": "/v{n}", "description": "d", "name": "n",
            "variables": {"n": {"default": "1", "enum": ["1"], "description": "d"}}}],
    }));
    document["openapi"] = "3.2.0".into();
    document["info"] = json!({
        "title": "t", "version": "1", "summary": "s", "description": "d",
        "termsOfService": "https://example.com/terms",
        "contact": {"name": "n", "url": "https://example.com", "email": "a@example.com"},
        "license": {"name": "MIT", "identifier": "MIT", "url": "https://example.com/license"},
    });
    document["jsonSchemaDialect"] = "https://spec.openapis.org/oas/3.2/dialect/2025-09-17".into();
    document["externalDocs"] = documentation.clone();
    document["tags"] = json!([{"name": "t", "summary": "s", "description": "d", "kind": "nav",
        "parent": "u", "externalDocs": documentation}, {"name": "u"}]);
    document["webhooks"] =
        json!({"event": {"post": {"responses": {"200": {"description": "ok"}}}}});
    let schema = json!({
        "type": "object", "title": "t", "description": "d", "default": {}, "examples": [{}], "example": {},
        "deprecated": true, "externalDocs": documentation, "$comment": "c", "$vocabulary": {},
        "xml": {"name": "n", "namespace": "https://example.com/ns", "prefix": "p", "attribute": true,
            "wrapped": true, "nodeType": "element"},
        "properties": {"kind": {"type": "string"}},
        "discriminator": {"propertyName": "kind", "defaultMapping": "Thing"},
    });
    let header = json!({"description": "d", "deprecated": true, "example": "x", "schema": {"type": "string"}});
    let content = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Thing"},
        "examples": {"one": {"$ref": "#/components/examples/One"}}}});
    document["paths"]["/things"]["post"] = json!({
        "requestBody": {"description": "d", "content": content},
        "responses": {"200": {"summary": "s", "description": "d", "content": content,
            "headers": {"X-Rate": {"$ref": "#/components/headers/Rate", "description": "other"}},
            "links": {"next": {"$ref": "#/components/links/Next", "summary": "other"}}}},
    });
    document["components"] = json!({
        "schemas": {"Thing": schema},
        "headers": {"Rate": header},
        "examples": {"One": {"summary": "s", "description": "d", "dataValue": {"a": 1},
            "serializedValue": "{\"a\":1}"}, "Two": {"externalValue": "https://example.com/x"}},
        "links": {"Next": {"operationRef": "#/paths/~1things/get", "parameters": {"a": 1},
            "requestBody": {}, "description": "d", "server": {"url": "/"}}},
        "callbacks": {"Later": {"{$url}": {}}},
        "securitySchemes": {"unused": {"type": "http", "scheme": "basic", "description": "d"}},
    });
    let loaded = load_value(&document, &[]).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert_eq!(loaded.warnings, []);
}

/// Changes one thing of a sound document; each is told where it stands.
#[test]
fn what_describes_must_have_its_form() {
    let rows: &[(&str, &str, Value, &str, &str)] = &[
        ("3.1.0", "/info", Value::Null, "", "`info` is missing"),
        ("3.1.0", "/info/title", Value::Null, "/info", "`title` is missing"),
        ("3.1.0", "/info/version", json!(1), "/info/version", "expected a string"),
        ("3.1.0", "/info/contact", json!("c"), "/info/contact", "expected an object"),
        ("3.1.0", "/info/license", json!({}), "/info/license", "`name` is missing"),
        ("3.0.3", "/info/summary", json!("s"), "/info/summary", "not a field that OpenAPI 3.0"),
        (
            "3.1.0",
            "/jsonSchemaDialect",
            json!("http://json-schema.org/draft-07/schema#"),
            "/jsonSchemaDialect",
            "dialect",
        ),
        ("3.1.0", "/jsonSchemaDialect", json!(1), "/jsonSchemaDialect", "expected a URI"),
        ("3.1.0", "/tags", json!("t"), "/tags", "a list of tags"),
        ("3.1.0", "/tags", json!([{}]), "/tags/0", "`name` is missing"),
        ("3.1.0", "/externalDocs", json!({}), "/externalDocs", "`url` is missing"),
        ("3.1.0", "/webhooks", json!([]), "/webhooks", "expected an object"),
        ("3.0.3", "/paths", Value::Null, "", "`paths` is missing"),
        (
            "3.1.0",
            "/paths/~1things/get/responses",
            Value::Null,
            "/paths/~1things/get",
            "`responses` is missing",
        ),
        (
            "3.1.0",
            "/components",
            json!({"requestBodies": {"b": {}}}),
            "/components/requestBodies/b",
            "`content` is missing",
        ),
        (
            "3.1.0",
            "/components",
            json!({"schemas": {"s": {"discriminator": {}}}}),
            "/components/schemas/s/discriminator",
            "`propertyName` is missing",
        ),
        (
            "3.1.0",
            "/components",
            json!({"headers": {"h": {"schema": {}, "deprecated": 1}}}),
            "/components/headers/h/deprecated",
            "a boolean",
        ),
        (
            "3.1.0",
            "/components",
            json!({"headers": {"h": {"schema": {}, "example": 1, "examples": {}}}}),
            "/components/headers/h",
            "both `example` and `examples`",
        ),
    ];
    for (version, pointer, value, at, part) in rows {
        let mut document = minimal(json!({}));
        document["openapi"] = (*version).into();
        assert!(load_value(&document, &[]).is_ok());
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
        if value.is_null() {
            parent.remove(name).unwrap();
        } else {
            parent.insert(name.to_owned(), value.clone());
        }
        let errors = load_value(&document, &[]).err().unwrap_or_default();
        let is_told = errors
            .iter()
            .any(|error| *error.pointer == **at && error.problem.to_string().contains(part));
        assert!(is_told, "{version} {pointer} {value}: {errors:#?}");
    }
}

#[test]
fn an_operation_id_names_one_operation() {
    let mut document = minimal(json!({"operationId": "a"}));
    document["paths"]["/others"] = document["paths"]["/things"].clone();
    let errors = load_value(&document, &[]).err().unwrap();
    assert!(matches!(errors[0].problem, Problem::OperationIdRepeated(_)), "{errors:?}");
}

#[test]
fn what_stands_beside_a_reference_object_is_told() {
    let mut document =
        minimal(json!({"responses": {"200": {"$ref": "#/components/responses/R", "headers": {}}}}));
    document["components"] = json!({"responses": {"R": {"description": "ok"}}});
    let warnings = load_value(&document, &[]).unwrap().warnings;
    let [warning] = &*warnings else { panic!("{warnings:?}") };
    assert_eq!(&*warning.pointer, "/paths/~1things/get/responses/200/headers");
}

#[test]
fn a_default_mapping_that_leads_nowhere_is_told() {
    let mut document = minimal(json!({}));
    document["openapi"] = "3.2.0".into();
    let discriminator = json!({"propertyName": "kind", "defaultMapping": "Nothing"});
    document["components"] = json!({"schemas": {"S": {"discriminator": discriminator}}});
    let warnings = load_value(&document, &[]).unwrap().warnings;
    assert!(matches!(warnings[0].problem, Problem::Discriminator(_)), "{warnings:?}");
}
