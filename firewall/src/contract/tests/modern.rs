//! Schema Objects of OpenAPI 3.1 and 3.2: JSON Schema 2020-12 whole, and the policy's choices.

use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::super::policy::{ClosedObjects, Strength, Verdict};
use super::super::*;
use super::documents::{Temporary, load_value, minimal};
use super::told;

fn document(version: &str, schema: &Value, components: &Value) -> Value {
    let content = json!({"application/json": {"schema": schema}});
    let mut document = minimal(json!({}));
    document["openapi"] = version.into();
    document["paths"]["/things"] = json!({"post": {
        "requestBody": {"content": content},
        "responses": {"200": {"description": "ok", "content": content}},
    }});
    document["components"] = json!({"schemas": components});
    document
}

fn load_with(document: &Value, policy: Policy) -> Result<Loaded, Vec<ContractError>> {
    let file = Temporary::new(&document.to_string(), "json");
    load(&file.0, &LoadOptions { policy, ..LoadOptions::default() })
}

/// The verdicts of both directions, told together where they are equal.
fn verdict(contract: &Contract, body: &str) -> String {
    let operation = &contract.operations()[0];
    let json = HeaderValue::from_static("application/json");
    let request = operation.body().unwrap().content(Some(&json)).unwrap().check(body.as_bytes());
    let response = operation.response(StatusCode::OK).unwrap().content(Some(&json)).unwrap();
    let response = response.unwrap().check(body.as_bytes());
    let told = |result: Result<(), crate::violation::Violation>| match result {
        Ok(()) => "ok".to_owned(),
        Err(violation) => {
            let text = told(&violation);
            text.split_once("body:").map_or(text.clone(), |(_, place)| place.to_owned())
        }
    };
    let (request, response) = (told(request), told(response));
    if request == response { request } else { format!("{request} | {response}") }
}

#[track_caller]
fn check_policy(
    version: &str,
    schema: &Value,
    components: &Value,
    policy: Policy,
    cases: &[(&str, &str)],
) {
    let loaded = load_with(&document(version, schema, components), policy);
    let contract = loaded.unwrap_or_else(|errors| panic!("{schema}: {errors:#?}")).contract;
    for (body, expected) in cases {
        assert_eq!(verdict(&contract, body), *expected, "{schema} of {body}");
    }
}

#[track_caller]
fn check(schema: &Value, cases: &[(&str, &str)]) {
    for version in ["3.1.1", "3.2.0"] {
        check_policy(version, schema, &json!({}), Policy::default(), cases);
    }
}

#[test]
fn keywords_of_2020_12() {
    check(&json!(true), &[("1", "ok"), ("null", "ok")]);
    check(&json!(false), &[("1", " falseSchema")]);
    check(
        &json!({"type": ["string", "null"], "maxLength": 2}),
        &[("\"ab\"", "ok"), ("null", "ok"), ("\"abc\"", " maxLength"), ("1", " type")],
    );
    check(&json!({"const": {"a": [1]}}), &[("{\"a\":[1.0]}", "ok"), ("{\"a\":[2]}", " const")]);
    check(&json!({"exclusiveMinimum": 0}), &[("0.5", "ok"), ("0", " exclusiveMinimum")]);
    check(
        &json!({"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false}),
        &[("[\"a\",1]", "ok"), ("[\"a\"]", "ok"), ("[1]", "/0 type"), ("[\"a\",1,2]", "/2 items")],
    );
    check(
        &json!({"contains": {"const": 1}, "minContains": 2, "maxContains": 3}),
        &[("[1,1]", "ok"), ("[1]", " contains"), ("[1,1,1,1]", " contains")],
    );
    check(
        &json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"maxProperties": 0}}),
        &[("{\"a\":1,\"b\":1}", "ok"), ("{\"a\":1}", " required"), ("{\"c\":1}", " maxProperties")],
    );
    check(
        &json!({"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"c": {"minProperties": 2}}}),
        &[("{\"a\":1,\"b\":1}", "ok"), ("{\"a\":1}", " required"), ("{\"c\":1}", " minProperties")],
    );
    check(
        &json!({"propertyNames": {"pattern": "^[a-z]+$"}}),
        &[("{\"a\":1}", "ok"), ("{\"A\":1}", " propertyNames")],
    );
    // What is one pattern to the engine is three keywords of the document.
    check(
        &json!({"patternProperties": {
            "^x\\d$": {"type": "integer"}, "^x[0-9]$": {"maximum": 5}, "^x[\\d]$": {"minimum": 2},
        }}),
        &[
            ("{\"x1\":\"x\"}", "/* type"),
            ("{\"x1\":9}", "/* maximum"),
            ("{\"x1\":1}", "/* minimum"),
            ("{\"x1\":3}", "ok"),
        ],
    );
    check(
        &json!({"patternProperties": {"^x\\d$": {"type": "integer"}}, "additionalProperties": false}),
        &[
            ("{\"x1\":1}", "ok"),
            ("{\"x1\":\"\"}", "/* type"),
            ("{\"x\\u0661\":1}", " additionalProperties"),
        ],
    );
    check(
        &json!({"allOf": [{"properties": {"a": true}}], "properties": {"b": true}, "unevaluatedProperties": false}),
        &[("{\"a\":1,\"b\":1}", "ok"), ("{\"c\":1}", " unevaluatedProperties")],
    );
    check(
        &json!({"prefixItems": [true], "anyOf": [{"prefixItems": [true, {"const": 1}]}, true], "unevaluatedItems": false}),
        &[("[0]", "ok"), ("[0,1]", "ok"), ("[0,2]", " unevaluatedItems")],
    );
    check(
        &json!({"oneOf": [{"type": "integer"}, {"minimum": 5}]}),
        &[("4", "ok"), ("5.5", "ok"), ("6", " oneOf")],
    );
}

/// express-openapi-validator#839, `pyramid_openapi3#159`: from 3.1 on what stands beside `$ref` counts.
#[test]
fn siblings_of_references_count_from_3_1_on() {
    let schema = json!({"$ref": "#/components/schemas/A", "maxLength": 2});
    let components = json!({"A": {"type": "string", "minLength": 1}});
    let cases =
        [("\"ab\"", "ok"), ("\"\"", " minLength"), ("\"abc\"", " maxLength"), ("1", " type")];
    check_policy("3.1.0", &schema, &components, Policy::default(), &cases);
    let cases = [("\"abc\"", "ok"), ("\"\"", " minLength")];
    let loaded = load_with(&document("3.0.3", &schema, &components), Policy::default()).unwrap();
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    for (body, expected) in cases {
        assert_eq!(verdict(&loaded.contract, body), expected);
    }
}

#[test]
fn anchors_identifiers_and_dynamic_references() {
    let components = json!({
        "Tree": {
            "$id": "https://example.com/tree", "$dynamicAnchor": "node",
            "type": "object",
            "properties": {"data": true, "children": {"type": "array", "items": {"$dynamicRef": "#node"}}}
        },
        "Strict": {
            "$id": "https://example.com/strict-tree", "$dynamicAnchor": "node",
            "$ref": "tree", "unevaluatedProperties": false
        },
        "Named": {"$anchor": "named", "type": "integer"},
        "List": {"$id": "https://example.com/list", "$defs": {"item": {"$anchor": "item", "type": "string"}},
            "items": {"$ref": "#item"}}
    });
    let policy = Policy::default;
    let misspelt = "{\"children\":[{\"daat\":1}]}";
    let open = json!({"$ref": "https://example.com/tree"});
    check_policy("3.1.0", &open, &components, policy(), &[(misspelt, "ok"), ("1", " type")]);
    let strict = json!({"$ref": "https://example.com/strict-tree"});
    let refused = "/children/0 unevaluatedProperties";
    let cases = [(misspelt, refused), ("{\"children\":[{\"data\":1}]}", "ok")];
    check_policy("3.1.0", &strict, &components, policy(), &cases);
    check_policy(
        "3.1.0",
        &json!({"$ref": "#named"}),
        &components,
        policy(),
        &[("1", "ok"), ("\"\"", " type")],
    );
    let list = json!({"$ref": "https://example.com/list"});
    check_policy("3.1.0", &list, &components, policy(), &[("[\"a\"]", "ok"), ("[1]", "/0 type")]);
}

/// kin-openapi#101, `json_schemer#225`, `OpenAPIValidators#46`, kogito#609, express-openapi-validator#239:
/// an object is closed as a whole, never branch by branch.
#[test]
fn objects_are_closed_after_their_branches_are_merged() {
    let components = json!({
        "A": {"type": "object", "properties": {"a": {"type": "integer"}}},
        "Open": {"type": "object", "properties": {"a": {}}, "additionalProperties": true},
        "Free": {"type": "object"},
        "Node": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}}}
    });
    let both = json!({"allOf": [{"$ref": "#/components/schemas/A"}, {"type": "object", "properties": {"b": {"type": "integer"}}}]});
    let closed = |closed_objects| Policy { closed_objects, ..Policy::default() };
    for version in ["3.0.3", "3.1.0"] {
        let check = |schema: &Value, policy, cases: &[(&str, &str)]| {
            check_policy(version, schema, &components, policy, cases);
        };
        let extra = "{\"a\":1,\"b\":2,\"c\":3}";
        check(&both, closed(ClosedObjects::Off), &[(extra, "ok")]);
        for policy in [ClosedObjects::Declared, ClosedObjects::Strict] {
            check(
                &both,
                closed(policy),
                &[("{\"a\":1,\"b\":2}", "ok"), (extra, " unevaluatedProperties")],
            );
            let reference = json!({"$ref": "#/components/schemas/A"});
            check(
                &reference,
                closed(policy),
                &[("{\"a\":1}", "ok"), ("{\"c\":1}", " additionalProperties")],
            );
            let open = json!({"$ref": "#/components/schemas/Open"});
            check(&open, closed(policy), &[("{\"c\":1}", "ok")]);
            let node = json!({"$ref": "#/components/schemas/Node"});
            check(
                &node,
                closed(policy),
                &[("{\"next\":{}}", "ok"), ("{\"next\":{\"x\":1}}", "/next additionalProperties")],
            );
        }
        let free = json!({"$ref": "#/components/schemas/Free"});
        check(&free, closed(ClosedObjects::Declared), &[("{\"c\":1}", "ok")]);
        check(
            &free,
            closed(ClosedObjects::Strict),
            &[("{}", "ok"), ("{\"c\":1}", " additionalProperties")],
        );
    }
}

/// kin-openapi#71 and #502, libopenapi-validator#281, express-openapi-validator#145: `readOnly` binds
/// requests, `writeOnly` answers, through references and `allOf`.
#[test]
fn members_of_one_direction_through_references() {
    let components = json!({
        "Base": {"type": "object", "required": ["id", "secret"], "properties": {
            "id": {"type": "integer", "readOnly": true},
            "secret": {"type": "string", "writeOnly": true}
        }},
        "Demand": {"required": ["id"]},
        "Thing": {"allOf": [{"$ref": "#/components/schemas/Base"}, {"$ref": "#/components/schemas/Demand"}]}
    });
    let schema = json!({"$ref": "#/components/schemas/Thing"});
    let refuse = [
        ("{\"secret\":\"s\"}", "ok |  required"),
        ("{\"id\":1}", " required | ok"),
        ("{\"id\":1,\"secret\":\"s\"}", "/id readOnly | /secret writeOnly"),
    ];
    let pass = [
        ("{\"secret\":\"s\"}", "ok |  required"),
        ("{\"id\":1,\"secret\":\"s\"}", "ok"),
        ("{\"id\":\"\",\"secret\":\"\"}", "/id type"),
    ];
    for version in ["3.0.3", "3.1.0"] {
        check_policy(version, &schema, &components, Policy::default(), &refuse);
        let policy = Policy { read_and_write_only: Verdict::Pass, ..Policy::default() };
        check_policy(version, &schema, &components, policy, &pass);
    }
}

#[test]
fn formats_are_assertions_or_annotations() {
    let schema = json!({"type": ["string", "integer"], "format": "int32"});
    let cases = [("1", "ok"), ("\"1\"", "ok"), ("2147483648", " maximum"), ("\"x\"", " format")];
    check_policy("3.1.0", &schema, &json!({}), Policy::default(), &cases);
    let policy = Policy { formats: Strength::Annotate, ..Policy::default() };
    check_policy("3.1.0", &schema, &json!({}), policy, &[("2147483648", "ok"), ("\"x\"", "ok")]);
    let policy = Policy { formats: Strength::Annotate, ..Policy::default() };
    check_policy("3.1.0", &json!({"format": "whatever"}), &json!({}), policy, &[("\"x\"", "ok")]);
}

#[test]
fn what_3_1_does_not_define_is_refused_where_it_stands() {
    for (schema, pointer, part) in [
        (json!({"nullable": true}), "/nullable", "`keyword:nullable`"),
        (json!({"maxLenght": 1}), "/maxLenght", "`keyword:maxLenght`"),
        (json!({"dependencies": {}}), "/dependencies", "`keyword:dependencies`"),
        (json!({"items": [true]}), "/items", "expected a schema"),
        (json!({"exclusiveMinimum": true}), "/exclusiveMinimum", "expected a number"),
        (json!({"type": ["string", "string"]}), "/type", "types that differ"),
        (json!({"type": "strnig"}), "/type", "expected types"),
        (json!({"$schema": "http://json-schema.org/draft-07/schema#"}), "/$schema", "dialect"),
        (json!({"$ref": "#/components/schemas/None"}), "/$ref", "leads to nothing"),
        (json!({"$ref": "#none"}), "/$ref", "leads to nothing"),
        (
            json!({"patternProperties": {"^(?=a)": true}}),
            "/patternProperties/^(?=a)",
            "`keyword:patternProperties`",
        ),
        (
            json!({"patternProperties": {"(": true}}),
            "/patternProperties/(",
            "pattern cannot be enforced",
        ),
        (json!({"format": "no-such"}), "/format", "`format:no-such`"),
        (json!({"prefixItems": []}), "/prefixItems", "at least one schema"),
        (json!({"minContains": -1}), "/minContains", "whole number"),
        (json!({"$defs": {"a": {"maxLenght": 1}}}), "/$defs/a/maxLenght", "`keyword:maxLenght`"),
    ] {
        let errors = load_with(&document("3.1.0", &schema, &json!({})), Policy::default()).err();
        let errors = errors.unwrap_or_else(|| panic!("{schema} is accepted"));
        let at =
            format!("/paths/~1things/post/requestBody/content/application~1json/schema{pointer}");
        let found = errors
            .iter()
            .any(|error| *error.pointer == *at && error.problem.to_string().contains(part));
        assert!(found, "{schema}: {errors:#?}");
    }
    // 3.0 keeps its own keywords to itself, and does not know those of 3.1.
    for schema in
        [json!({"const": 1}), json!({"$id": "x"}), json!({"examples": []}), json!({"if": {}})]
    {
        let errors = load_with(&document("3.0.3", &schema, &json!({})), Policy::default()).err();
        assert!(errors.is_some(), "3.0 accepts {schema}");
    }
}

#[test]
fn every_problem_of_every_component_is_told_in_one_run() {
    let components =
        json!({"A": {"maxLenght": 1}, "B": {"$ref": "#/components/schemas/A"}, "C": {"type": "x"}});
    let errors =
        load_with(&document("3.1.0", &json!({"format": "no"}), &components), Policy::default());
    let errors: Vec<_> =
        errors.err().unwrap().iter().map(|error| error.pointer.to_string()).collect();
    for pointer in ["/components/schemas/A/maxLenght", "/components/schemas/C/type"] {
        assert!(errors.iter().any(|known| known == pointer), "{pointer} is not among {errors:?}");
    }
    assert!(errors.iter().any(|known| known.ends_with("/schema/format")), "{errors:?}");
}

#[test]
fn a_discriminator_changes_no_outcome() {
    let components = json!({
        "Pet": {"oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}],
            "discriminator": {"propertyName": "kind", "mapping": {"c": "Cat", "d": "#/components/schemas/Dog"}}},
        "Cat": {"type": "object", "required": ["claws"]},
        "Dog": {"type": "object", "required": ["bark"], "properties": {"bark": {"type": "integer"}}}
    });
    // kin-openapi#80: the named schema must hold; and one that no mapping names holds just as well.
    let cases = [
        ("{\"kind\":\"c\",\"claws\":1}", "ok"),
        ("{\"kind\":\"c\",\"bark\":1}", "ok"),
        ("{\"kind\":\"c\"}", " required"),
        ("{\"kind\":\"Dog\",\"bark\":\"x\"}", "/bark type"),
        ("{\"kind\":\"cow\"}", " oneOf"),
        ("{\"kind\":7}", " oneOf"),
        ("{\"claws\":1,\"bark\":1}", " oneOf"),
    ];
    let schema = json!({"$ref": "#/components/schemas/Pet"});
    for version in ["3.0.3", "3.1.0", "3.2.0"] {
        check_policy(version, &schema, &components, Policy::default(), &cases);
    }
}

#[test]
fn equal_schemas_are_one_and_keep_their_verdicts() {
    let mut document = document("3.1.0", &json!({"type": "string"}), &json!({}));
    for index in 0..50 {
        let schema = json!({"type": "integer", "minimum": index % 5});
        document["paths"][format!("/n{index}")] = json!({"post": {
            "requestBody": {"content": {"application/json": {"schema": schema}}},
            "responses": {"200": {"description": "ok"}},
        }});
    }
    let contract = load_value(&document, &[]).unwrap().contract;
    let json = HeaderValue::from_static("application/json");
    for (index, operation) in contract.operations().iter().skip(1).enumerate() {
        let content = operation.body().unwrap().content(Some(&json)).unwrap();
        for number in 0..6_usize {
            let is_ok = content.check(number.to_string().as_bytes()).is_ok();
            assert_eq!(is_ok, number >= index % 5, "{number} for {index}");
        }
    }
}

#[test]
fn the_content_of_texts_where_the_policy_asserts_it() {
    let asserting = || Policy { content_keywords: Strength::Assert, ..Policy::default() };
    let none = json!({});
    let schema = json!({"contentEncoding": "base64"});
    let cases = [("\"AAEC\"", "ok"), ("\"AAE\"", " contentEncoding"), ("7", "ok")];
    check_policy("3.1.0", &schema, &none, asserting(), &cases);
    check_policy("3.1.0", &schema, &none, Policy::default(), &[("\"AAE\"", "ok")]);
    let schema = json!({
        "contentMediaType": "application/json", "contentEncoding": "base64url",
        "contentSchema": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    });
    // {"a":1}, {"a":""}, {"a":1, cut off; and a pattern that cannot be decided within.
    let cases = [
        ("\"eyJhIjoxfQ\"", "ok"),
        ("\"eyJhIjoiIn0\"", " contentMediaType"),
        ("\"eyJhIjox\"", " contentMediaType"),
        ("\"!\"", " contentMediaType"),
    ];
    check_policy("3.1.0", &schema, &none, asserting(), &cases);
    let undecided = json!({"contentMediaType": "application/json",
        "contentSchema": {"not": {"pattern": "^(?:(?=a)(?:a|aa))+c$"}}});
    let text = format!("\"\\\"{}b\\\"\"", "a".repeat(40));
    check_policy(
        "3.1.0",
        &undecided,
        &none,
        asserting(),
        &[(&text, " pattern"), ("\"\\\"x\\\"\"", "ok")],
    );
    for schema in
        [json!({"contentEncoding": "quoted-printable"}), json!({"contentMediaType": "image/png"})]
    {
        assert!(load_with(&document("3.1.0", &schema, &none), asserting()).is_err(), "{schema}");
    }
}

/// jsonschema takes a schema to hold where it comes back for the same value; whoever relies on more
/// is told.
#[test]
fn schemas_that_lead_back_to_themselves_are_told() {
    let components = json!({
        "Pet": {"oneOf": [{"$ref": "#/components/schemas/Cat"}], "required": ["kind"]},
        "Cat": {"allOf": [{"$ref": "#/components/schemas/Pet"}], "required": ["claws"]},
        "Tree": {"properties": {"left": {"$ref": "#/components/schemas/Tree"}}}
    });
    for (name, is_told) in [("Pet", true), ("Tree", false)] {
        let schema = json!({"$ref": format!("#/components/schemas/{name}")});
        let mut document = document("3.1.0", &schema, &components);
        if !is_told {
            document["components"]["schemas"].as_object_mut().unwrap().retain(|key, _| key == name);
        }
        let loaded = load_with(&document, Policy::default()).unwrap();
        let told = loaded.warnings.iter().any(|warning| warning.problem == Problem::CyclicSchema);
        assert_eq!(told, is_told, "{name}: {:?}", loaded.warnings);
        if is_told {
            assert_eq!(verdict(&loaded.contract, r#"{"kind":1,"claws":1}"#), "ok");
            assert_ne!(verdict(&loaded.contract, r#"{"kind":1}"#), "ok");
        }
    }
}
