//! Which types a schema leaves to a text, in 3.0 and in 3.1.

use serde_json::{Value, json};

use super::super::super::super::parameter::scalar::Types;
use super::super::super::super::policy::Policy;
use super::super::super::Version;
use super::{Nesting, compile, shape};

/// The forms of a schema: `s` with the types of a scalar, `a` with those of the items, `o` with those
/// of each member, in the order of their names; `*` for the others.
fn forms(version: Version, document: &Value) -> String {
    let letters = |types: Types| {
        let known = [(Types::BOOLEAN, 'b'), (Types::INTEGER, 'i'), (Types::STRING, 's')];
        let mut letters: String = known
            .iter()
            .filter(|(one, _)| types.overlaps(*one))
            .map(|(_, letter)| *letter)
            .collect();
        if types.intersection(Types::NUMBER) == Types::NUMBER {
            letters = letters.replace('i', "n");
        }
        letters
    };
    let (found, _) = compile(version, Policy::default(), document, |compiler, at| {
        let (documents, version) = (compiler.documents, compiler.version);
        let at = at.get("schema").unwrap();
        let Ok(outline) = shape::outline(documents, version, &at, Types::ANY, Nesting::None) else {
            return "nested".to_owned();
        };
        let mut told = Vec::new();
        told.extend(outline.scalar.map(|types| format!("s:{}", letters(types))));
        told.extend(outline.array.map(|items| {
            let all = items.prefix.iter().chain([&items.rest]);
            format!("a:{}", all.map(|piece| letters(piece.types)).collect::<Vec<_>>().join(","))
        }));
        told.extend(outline.object.map(|members| {
            let named = members
                .named
                .iter()
                .map(|(name, piece)| format!("{name}={}", letters(piece.types)));
            let rest = format!("*={}", letters(members.rest.types));
            let open = if members.is_open { " open" } else { "" };
            format!("o:{}{open}", named.chain([rest]).collect::<Vec<_>>().join(","))
        }));
        told.join(" ")
    });
    found
}

#[test]
fn the_types_that_a_schema_allows() {
    let integer = json!({"type": "integer"});
    let text = json!({"type": "string"});
    for (schema, expected) in [
        (json!({}), "s:bns"),
        (integer.clone(), "s:i"),
        (json!({"type": "number"}), "s:n"),
        (json!({"type": "integer", "nullable": true}), "s:i"),
        (json!({"type": ["integer", "null"]}), "s:i"),
        (json!({"type": ["integer", "string"]}), "s:is"),
        (json!({"type": "null"}), "s:"),
        (json!({"type": ["string", "array"], "items": {"type": "integer"}}), "s:s a:i"),
        (json!({"enum": [1, "x", null]}), "s:ns"),
        (json!({"enum": [1], "type": "integer"}), "s:i"),
        (json!({"const": true}), "s:b"),
        (json!({"allOf": [integer, {"minimum": 1}]}), "s:i"),
        (json!({"allOf": [{"type": "number"}, integer]}), "s:i"),
        (json!({"oneOf": [integer, text]}), "s:is"),
        (json!({"oneOf": [integer, {"minLength": 1}]}), "s:bns"),
        (json!({"anyOf": [{"type": "boolean"}, {"$ref": "#/named/integer"}]}), "s:bi"),
        (json!({"oneOf": [text, {"type": "array", "items": integer}]}), "s:s a:i"),
        (json!({"if": {"minimum": 1}, "then": integer, "else": {"type": "boolean"}}), "s:bi"),
        (json!({"if": {"minimum": 1}, "then": integer}), "s:bns"),
        (json!({"not": text}), "s:bns"),
        (json!({"$ref": "#/named/integer"}), "s:i"),
        (json!({"$ref": "#/named/loop"}), "s:bns"),
        (json!({"$ref": "#/named/nothing"}), "s:bns"),
        (json!({"type": "array"}), "a:bns"),
        (json!({"items": integer}), "a:i"),
        (
            json!({"type": "array", "prefixItems": [integer, text], "items": {"type": "boolean"}}),
            "a:i,s,b",
        ),
        (json!({"type": "array", "items": {"$ref": "#/named/integer"}}), "a:i"),
        (json!({"type": "array", "items": {"type": "array"}}), "nested"),
        (json!({"type": "array", "items": {"oneOf": [integer, {"type": "object"}]}}), "a:i"),
        (json!({"type": "object"}), "o:*=bns open"),
        (json!({"properties": {"a": integer}}), "o:a=i,*=bns"),
        (json!({"type": "object", "additionalProperties": integer}), "o:*=i open"),
        (
            json!({"type": "object", "properties": {"a": text}, "additionalProperties": true}),
            "o:a=s,*=bns open",
        ),
        (
            json!({"type": "object", "properties": {"a": text}, "additionalProperties": false}),
            "o:a=s,*=bns",
        ),
        (json!({"type": "object", "properties": {"a": {"type": "object"}}}), "nested"),
        (
            json!({"type": "object", "allOf": [{"properties": {"a": integer}}, {"properties": {"a": {"minimum": 1}, "b": text}}]}),
            "o:a=i,b=s,*=bns",
        ),
        (
            json!({"type": "object", "oneOf": [{"properties": {"a": integer}}, {"properties": {"a": text}}]}),
            "o:a=is,*=bns",
        ),
        (
            json!({"type": "object", "properties": {"a": integer}, "patternProperties": {"^x": text}}),
            "o:a=i,*=bns open",
        ),
    ] {
        let document = json!({
            "schema": schema,
            "named": {"integer": {"type": "integer"}, "loop": {"allOf": [{"$ref": "#/named/loop"}]}},
        });
        assert_eq!(forms(Version::V3_1, &document), expected, "{schema}");
    }
}

#[test]
fn what_stands_beside_a_reference_counts_from_3_1_on() {
    let document = json!({
        "schema": {"$ref": "#/named/number", "type": "integer"},
        "named": {"number": {"type": "number"}},
    });
    assert_eq!(forms(Version::V3_0, &document), "s:n");
    assert_eq!(forms(Version::V3_1, &document), "s:i");
}

#[test]
fn a_schema_that_refers_to_itself_everywhere_is_surveyed_once() {
    let branches: Vec<_> = (0..40).map(|_| json!({"$ref": "#/named/deep"})).collect();
    let document = json!({
        "schema": {"$ref": "#/named/deep"},
        "named": {"deep": {"type": "object", "oneOf": branches, "allOf": branches, "properties": {"a": {"type": "integer"}}}},
    });
    assert_eq!(forms(Version::V3_1, &document), "o:a=i,*=bns");
}
