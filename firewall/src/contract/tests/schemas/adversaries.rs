//! Schemas and instances that were made to slip through, or to cost much.

use super::*;

/// Whoever sends a member that is not theirs to send, or that nobody knows, must not thereby be taken
/// out of a condition.
#[test]
fn a_condition_is_not_escaped_by_members_that_are_refused_elsewhere() {
    let admin = json!({"type": "object", "required": ["role"], "properties": {
        "role": {"enum": ["admin"]}, "id": {"readOnly": true},
    }});
    let components =
        json!({"Admin": admin, "User": {"allOf": [{"$ref": "#/components/schemas/Admin"}]}});
    for target in ["Admin", "User"] {
        let reference = json!({"$ref": format!("#/components/schemas/{target}")});
        for (schema, keyword) in [
            (json!({"not": reference}), " not"),
            (json!({"not": {"not": {"not": reference}}}), " not"),
            (json!({"not": {"properties": {"role": true}, "allOf": [reference]}}), " not"),
            (json!({"if": reference, "then": {"required": ["token"]}}), " required"),
        ] {
            let mut document = document(&schema, &components);
            document["openapi"] = "3.1.0".into();
            for body in [r#"{"role":"admin"}"#, r#"{"role":"admin","id":1}"#] {
                assert_eq!(verdict(&document, body), format!("schema body:{keyword}"), "{schema}");
            }
            assert_eq!(verdict(&document, r#"{"role":"user","id":1}"#), "ok", "{schema}");
        }
        let list = json!({"contains": reference, "minContains": 0, "maxContains": 1});
        let mut document = document(&list, &components);
        document["openapi"] = "3.1.0".into();
        assert_eq!(verdict(&document, r#"[{"role":"admin"},{"role":"user","id":1}]"#), "ok");
        let twice = r#"[{"role":"admin"},{"role":"admin","id":1}]"#;
        assert!(verdict(&document, twice).starts_with("schema body:"), "{list}");
    }
    let inner = json!({"required": ["a"], "properties": {"a": {
        "type": "object", "required": ["role"], "properties": {"role": {"const": "admin"}},
    }}});
    let mut document = document(&json!({"not": inner}), &json!({}));
    document["openapi"] = "3.1.0".into();
    let policy = super::super::Policy {
        closed_objects: super::super::policy::ClosedObjects::Declared,
        ..super::super::Policy::default()
    };
    let contract = super::super::documents::loaded_under(&document, policy);
    let json = http::HeaderValue::from_static("application/json");
    let content = contract.operations()[0].body().unwrap().content(Some(&json)).unwrap();
    for (body, expected) in [
        (r#"{"a":{"role":"admin"}}"#, false),
        (r#"{"a":{"role":"admin","more":1}}"#, false),
        (r#"{"a":{"role":"user"}}"#, true),
    ] {
        assert_eq!(content.check(body.as_bytes()).is_ok(), expected, "{body}");
    }
}

#[test]
fn read_only_said_in_a_branch_of_all_of() {
    check_with(
        &json!({"type": "object", "properties": {
            "here": {"allOf": [{"$ref": "#/components/schemas/Id"}, {"readOnly": true}]},
            "there": {"allOf": [{"$ref": "#/components/schemas/Own"}], "description": "d"},
        }}),
        &json!({"Id": {"type": "integer"}, "Own": {"type": "integer", "readOnly": true}}),
        &[
            (r#"{"here":1}"#, "schema body:/here readOnly | ok"),
            (r#"{"there":1}"#, "schema body:/there readOnly | ok"),
            ("{}", "ok"),
        ],
    );
}

#[test]
fn hidden_members_do_not_multiply_schemas() {
    const COUNT: usize = 30;
    let mut components = serde_json::Map::new();
    for i in 0..COUNT {
        let names: Vec<_> = (0..10).map(|k| format!("p{i}-{k}")).collect();
        let hidden = names.iter().map(|name| (name.clone(), json!({"readOnly": true})));
        let hidden = Value::Object(hidden.collect());
        let next = json!({"$ref": format!("#/components/schemas/A{}", i + 1)});
        let own = json!({"required": names, "properties": hidden});
        components.insert(format!("A{i}"), json!({"allOf": [next, own]}));
    }
    let last = json!({"type": "object", "required": ["p0-0"]});
    components.insert(format!("A{COUNT}"), last);
    let all: Vec<_> = (1..COUNT).flat_map(|i| (0..10).map(move |k| format!("p{i}-{k}"))).collect();
    let all: serde_json::Map<_, _> = all.into_iter().map(|name| (name, json!(1))).collect();
    let all = Value::Object(all).to_string();
    check_with(
        &json!({"$ref": "#/components/schemas/A0"}),
        &components.into(),
        &[
            ("{}", "ok | schema body: required"),
            (r#"{"p7-3":1}"#, "schema body:/p7-3 readOnly | schema body: required"),
            (&all, "schema body:/p29-0 readOnly | schema body: required"),
        ],
    );
}

#[test]
fn a_name_of_digits_is_not_told_for_an_index() {
    check(
        &json!({"additionalProperties": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "integer"}}}}),
        &[
            (r#"{"4111111111111111":1}"#, "/* type"),
            (r#"{"7":[{"1":1},{"4111":"x"}]}"#, "/*/1/* type"),
            (r#"{"a":[[]]}"#, "/*/0 type"),
        ],
    );
}

/// Checking recurses as deep as schemas that speak of one value stand within one another, at each
/// level of the body: without a bound a body could exhaust a worker's stack, or its time.
#[test]
fn schemas_that_speak_of_one_value_are_bounded() {
    let chain = |count: usize| {
        let mut components = serde_json::Map::new();
        for i in 0..count {
            let next = json!({"$ref": format!("#/components/schemas/A{}", i + 1)});
            components.insert(format!("A{i}"), json!({"allOf": [next]}));
        }
        let back = json!({"$ref": "#/components/schemas/A0"});
        components
            .insert(format!("A{count}"), json!({"type": "object", "properties": {"c": back}}));
        components.into()
    };
    let doubling = |count: usize| {
        let mut components = serde_json::Map::new();
        for i in 0..count {
            let next = json!({"$ref": format!("#/components/schemas/A{}", i + 1)});
            components.insert(format!("A{i}"), json!({"anyOf": [next, next]}));
        }
        components.insert(format!("A{count}"), json!({"type": "string"}));
        components.into()
    };
    let start = json!({"$ref": "#/components/schemas/A0"});
    let within = json!({"type": "object", "properties": {"a": start}});
    for (components, is_taken) in [
        (chain(31), true),
        (chain(32), false),
        (chain(5_000), false),
        (doubling(11), true),
        (doubling(12), false),
        (doubling(31), false),
    ] as [(Value, bool); 6]
    {
        for schema in [&start, &within] {
            let loaded = load_value(&document(schema, &components), &[]);
            let told = loaded.err().map(|errors| errors[0].problem.to_string());
            let is_told = told.as_deref().is_some_and(|told| told.contains("speaks of one value"));
            assert_eq!(!is_told, is_taken, "{told:?}");
        }
    }
    // At the limit, and as deep as a body may be, on the stack that a worker has.
    let document = document(&start, &chain(31));
    let body = format!("{}1{}", "{\"c\":".repeat(63), "}".repeat(63));
    let stack = super::super::check_stack(64);
    let checking = move || verdict(&document, &body);
    let thread = std::thread::Builder::new().stack_size(stack).spawn(checking).unwrap();
    assert!(thread.join().unwrap().ends_with("/c type"));
}
