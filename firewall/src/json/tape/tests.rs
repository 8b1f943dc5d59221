//! The tape's verdict is `serde_json`'s verdict.

use jsonschema::json::conformance;
use jsonschema::{Validator, options_for};
use serde_json::{Value, json};

use super::*;
use crate::json::{JsonRules, with_tape};

fn validator(schema: &Value) -> Validator<TapeJson> {
    options_for::<TapeJson>().offline().build(schema).unwrap()
}

#[test]
fn conforms_to_what_the_validator_relies_on() {
    let text = conformance::document().to_string();
    with_tape(text.as_bytes(), JsonRules::strict(64), |root| {
        conformance::assert_conformance::<TapeJson>(&root);
    })
    .unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "two tables")]
fn the_tape_and_a_tree_get_the_same_verdict() {
    let schemas = [
        json!({"type": "integer"}),
        json!({"type": "number", "minimum": 0, "exclusiveMaximum": 10}),
        json!({"minimum": -9_223_372_036_854_775_808_i64, "maximum": 9_223_372_036_854_775_807_i64}),
        json!({"maximum": 18_446_744_073_709_551_614_u64}),
        json!({"multipleOf": 0.01}),
        json!({"multipleOf": 3}),
        json!({"type": "string", "minLength": 2, "maxLength": 3}),
        json!({"pattern": "^[a-z]+$"}),
        json!({"uniqueItems": true, "maxItems": 40}),
        json!({"items": {"uniqueItems": true}}),
        json!({"enum": [1, "a", null, {"a": [1, {"b": 2.0}]}, [1, 2], 1e3, true]}),
        json!({"const": {"b": 2, "a": 1}}),
        json!({"const": 9_007_199_254_740_993_i64}),
        json!({"required": ["a"], "properties": {"a": {"type": "string"}}}),
        json!({"additionalProperties": false, "properties": {"a": {}, "é": {}}}),
        json!({"propertyNames": {"maxLength": 2}}),
        json!({"minProperties": 1, "maxProperties": 2}),
        json!({"oneOf": [{"type": "integer"}, {"minimum": 2}]}),
        json!({"anyOf": [{"type": "string"}, {"type": "array", "contains": {"const": 1}}]}),
        json!({"not": {"type": ["object", "null"]}}),
        json!({"$ref": "#/$defs/tree", "$defs": {"tree": {
            "type": "object", "additionalProperties": false, "required": ["v"],
            "properties": {"v": {"type": "integer"}, "c": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}}}),
    ];
    let many: Vec<i64> = (0..30).collect();
    let mut with_a_float = many.iter().map(|n| json!(n)).collect::<Vec<_>>();
    with_a_float.push(json!(7.0));
    let mut objects = many.iter().map(|n| json!({"a": n, "b": [n]})).collect::<Vec<_>>();
    objects.push(json!({"b": [3], "a": 3.0}));
    let documents = [
        json!(null),
        json!(true),
        json!(0),
        json!(-0.0),
        json!(1),
        json!(1.0),
        json!(1.5),
        json!(3),
        json!(10),
        json!(1000),
        json!(0.07),
        json!(0.075),
        json!(19.99),
        json!(-1),
        json!(1e300),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(u64::MAX - 1),
        json!(9_007_199_254_740_992_i64),
        json!(9_007_199_254_740_993_i64),
        json!(9.223_372_036_854_776e18),
        json!(""),
        json!("a"),
        json!("ab"),
        json!("日本語"),
        json!("日本語x"),
        json!("😀"),
        json!("a\nb\"\\"),
        json!([]),
        json!([1, 2]),
        json!([1, 1.0]),
        json!([1, true]),
        json!([[1, 2], [1, 2.0]]),
        json!([{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]),
        json!([{"a": 1}, {"a": 2}]),
        json!([0, -0.0]),
        json!(["a", "b", "a"]),
        json!([[], {}]),
        json!([null, false, 0, "", [], {}]),
        json!(many),
        json!(with_a_float),
        json!(objects),
        json!({}),
        json!({"a": "x"}),
        json!({"a": 1}),
        json!({"é": 1}),
        json!({"b": 2.0, "a": 1}),
        json!({"a": [1, {"b": 2}]}),
        json!({"abc": 1}),
        json!({"a": 1, "b": 2, "c": 3}),
        json!({"v": 1, "c": [{"v": 2}, {"v": 3, "c": [{"v": 4}]}]}),
        json!({"v": 1, "c": [{"v": 2}, {"v": 3, "c": [{"v": "4"}]}]}),
    ];
    for schema in &schemas {
        let on_tape = validator(schema);
        let on_tree = jsonschema::validator_for(schema).unwrap();
        for document in &documents {
            let text = document.to_string();
            let (valid, explained) = with_tape(text.as_bytes(), JsonRules::strict(64), |root| {
                assert_eq!(
                    root.to_value().as_ref(),
                    &serde_json::from_str::<Value>(&text).unwrap()
                );
                (on_tape.is_valid(root), on_tape.validate(root).is_ok())
            })
            .unwrap();
            assert_eq!(valid, on_tree.is_valid(document), "{schema} of {document}");
            assert_eq!(valid, explained, "{schema} of {document}");
        }
    }
}

#[test]
fn a_member_is_found_by_its_whole_name() {
    let name = "abcdefghijklmnopqrstuvwxyz";
    for len in 0..name.len() {
        for position in 0..len {
            let key = &name[..len];
            let mut other = key.to_owned();
            other.replace_range(position..=position, "Z");
            let text = format!("{{\"{other}\":1,\"{key}x\":2,\"{key}\":3}}");
            let found = with_tape(text.as_bytes(), JsonRules::strict(64), |root| {
                Object::get(&root, &TapeJson::prepare_key(key))
                    .map(|value| value.to_value().into_owned())
            });
            assert_eq!(found, Ok(Some(json!(3))), "{text}");
            let text = format!("{{\"{other}\":1}}");
            let found = with_tape(text.as_bytes(), JsonRules::strict(64), |root| {
                Object::get(&root, &TapeJson::prepare_key(key)).is_some()
            });
            assert_eq!(found, Ok(false), "{text}");
        }
    }
}

#[test]
fn an_error_holds_no_copy_of_the_instance() {
    let validator = validator(&json!({"additionalProperties": false, "properties": {"a": {}}}));
    let text = format!("{{\"unknown\":[{}1]}}", "1,".repeat(10_000));
    with_tape(text.as_bytes(), JsonRules::strict(64), |root| {
        let error = validator.validate(root).unwrap_err();
        assert_eq!(error.instance().as_ref(), &Value::Null);
        assert_eq!(error.kind().keyword(), "additionalProperties");
    })
    .unwrap();
}

#[test]
fn without_fuel_nothing_more_is_visited() {
    let validator = validator(&json!({"items": {"type": "integer"}}));
    let text = format!("[{}\"x\"]", "1,".repeat(100));
    let schema = json!({"properties": {"v": {"items": {"type": "integer"}}}});
    let enclosing = options_for::<TapeJson>().offline().build(&schema).unwrap();
    with_tape(text.as_bytes(), JsonRules::strict(64), |root| {
        assert!(validator.validate(root).is_err());
        let scope = Scope::new("v", root).with_fuel(50);
        assert!(enclosing.validate(scope.root()).is_ok(), "the end is out of reach");
        assert_eq!(scope.fuel(), Some(0));
        let scope = Scope::new("v", root).with_fuel(1_000);
        assert!(enclosing.validate(scope.root()).is_err());
        assert!(scope.fuel() > Some(0));
    })
    .unwrap();
}
