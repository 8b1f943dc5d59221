//! The walk against jsonschema: generated schemas and instances, and each rule by hand.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::LoadOptions;
use super::super::pattern::Pattern;
use super::super::schema::{Patterns, Schema, SchemaSet, Vocabulary};
use crate::json::{JsonRules, with_tape};

/// Sources of the patterns that schemas here have.
const PATTERNS: [&str; 4] = ["^a", "[0-9]{2}$", "^[A-Z]{2}-[0-9]{4}$", LOOKING_AHEAD];

/// One for the engine that goes back.
const LOOKING_AHEAD: &str = "^(?=a)a";

/// The schemas with these definitions, by the keys 0, 1, ….
fn schemas(definitions: &[Value]) -> Vec<Schema> {
    let uri = |key: usize| json!({"$ref": format!("contract:///#/$defs/{key}")});
    let keys = 0..definitions.len();
    let properties: Map<_, _> = keys.clone().map(|key| (key.to_string(), uri(key))).collect();
    let own: Map<_, _> = definitions
        .iter()
        .enumerate()
        .map(|(key, value)| (key.to_string(), value.clone()))
        .collect();
    let root = json!({"$id": "contract:///", "properties": properties, "$defs": own});
    let patterns: Patterns = PATTERNS
        .iter()
        .map(|source| ((*source).to_owned(), Arc::new(Pattern::new(source).unwrap())))
        .collect();
    let set = Arc::new(SchemaSet::default());
    let built = set.build(&root, Vocabulary::default(), &patterns, &LoadOptions::default());
    assert_eq!(built, Ok(()), "{root}");
    keys.map(|key| Schema::new(Arc::clone(&set), key)).collect()
}

/// What the walk says and what jsonschema does.
fn verdicts(schema: &Schema, instance: &str) -> (Option<bool>, bool) {
    let rules = JsonRules { inexact_numbers: true, ..JsonRules::strict(64) };
    with_tape(instance.as_bytes(), rules, |root| schema.verdicts(root)).unwrap()
}

#[test]
fn each_rule_accepts_refuses_and_has_a_boundary() {
    for (schema, right, wrong) in [
        (json!(true), "null 1 []", ""),
        (json!(false), "", "null 1 []"),
        (json!({"type": "integer"}), "1 -1 1.0 18446744073709551615", "1.5 null \"1\""),
        (json!({"type": "number"}), "1 1.5 -0.0", "null true"),
        (json!({"type": ["string", "null"]}), "\"a\" null", "1 {} [] false"),
        (json!({"type": "boolean"}), "true false", "null 0"),
        (json!({"minimum": 1}), "1 1.0 2 \"a\"", "0 0.999999 -1"),
        (json!({"exclusiveMinimum": 1}), "1.000001 2", "1 1.0 0"),
        (json!({"maximum": 1.5}), "1 1.5 -9223372036854775808", "2 1.500001 18446744073709551615"),
        (json!({"exclusiveMaximum": -1.5}), "-2 -1.6", "-1.5 -1 0"),
        (json!({"maximum": 18_446_744_073_709_551_615_u64}), "18446744073709551615", "1e20"),
        // 2^53 and one more, which no double tells apart.
        (json!({"maximum": 9_007_199_254_740_992.0}), "9007199254740992", "9007199254740993"),
        (json!({"minimum": 9_007_199_254_740_993_u64}), "9007199254740993", "9007199254740992.0"),
        (json!({"minimum": -1e300}), "-1e300 0", "-1e301"),
        (json!({"multipleOf": 0.01}), "19.99 0 1", "19.995"),
        (
            json!({"minLength": 2, "maxLength": 3}),
            "\"ab\" \"äöü\" \"😀😀\" 1",
            "\"a\" \"😀\" \"abcd\"",
        ),
        (json!({"pattern": "[0-9]{2}$"}), "\"a42\" 1", "\"a4\""),
        (json!({"format": "uuid"}), "\"6f2d1c3a-8b4e-4f7a-9c5d-0e1f2a3b4c5d\" 1", "\"6f2d\""),
        (json!({"format": "email"}), "\"a@b.test\" 1", "\"a\""),
        (json!({"enum": ["a", 1, null, [1]]}), "\"a\" 1 1.0 null [1]", "\"b\" 2 [] [1,1]"),
        (
            json!({"enum": [3, 1, 2, 1.5, 18_446_744_073_709_551_615_u64]}),
            "1 2 3.0 1.5 18446744073709551615",
            "0 4 2.5 -1 18446744073709551614",
        ),
        (json!({"const": {"a": 1}}), "{\"a\":1.0}", "{} {\"a\":1,\"b\":1}"),
        (json!({"required": ["a"]}), "{\"a\":null} 1", "{} {\"b\":1}"),
        // Required and not declared, it is as the others.
        (
            json!({"required": ["a"], "additionalProperties": {"type": "null"}}),
            "{\"a\":null}",
            "{\"a\":1} {\"a\":null,\"b\":1}",
        ),
        (
            json!({"properties": {"a": {"type": "null"}}, "additionalProperties": false}),
            "{} {\"a\":null}",
            "{\"a\":1} {\"b\":null}",
        ),
        (json!({"properties": {"a": {"readOnly": true}}}), "{} {\"b\":1}", "{\"a\":1}"),
        (json!({"minProperties": 1, "maxProperties": 1}), "{\"a\":1} []", "{} {\"a\":1,\"b\":1}"),
        (json!({"propertyNames": {"maxLength": 1}}), "{} {\"a\":1}", "{\"ab\":1}"),
        (json!({"items": {"type": "null"}}), "[] [null] {}", "[1] [null,1]"),
        (
            json!({"prefixItems": [{"type": "null"}], "items": {"type": "integer"}}),
            "[] [null] [null,1]",
            "[1] [null,null]",
        ),
        (json!({"prefixItems": [{"type": "null"}]}), "[] [null,1]", "[1]"),
        (json!({"minItems": 1, "maxItems": 1}), "[1] {}", "[] [1,1]"),
        (json!({"uniqueItems": true}), "[] [1,2] [1,\"1\"]", "[1,1.0] [{},{}]"),
        (json!({"allOf": [{"minimum": 1}, {"maximum": 1}]}), "1", "0 2"),
        (json!({"anyOf": [{"maximum": 1}, {"minimum": 3}]}), "1 3", "2"),
        (json!({"oneOf": [{"maximum": 2}, {"minimum": 2}]}), "1 3", "2 null"),
        (json!({"not": {"type": "null"}}), "1", "null"),
        (
            json!({"if": {"type": "null"}, "then": false, "else": {"type": "integer"}}),
            "1",
            "null \"a\"",
        ),
        (json!({"if": {"type": "null"}}), "1 null", ""),
    ] {
        let compiled = schemas(std::slice::from_ref(&schema));
        for (instances, expected) in [(right, true), (wrong, false)] {
            for instance in instances.split(' ').filter(|instance| !instance.is_empty()) {
                let found = verdicts(&compiled[0], instance);
                assert_eq!(found, (Some(expected), expected), "{schema} of {instance}");
            }
        }
    }
}

#[test]
fn many_names_are_found_in_any_order() {
    let names: Vec<String> = (0..40).map(|n| format!("member{}", n * 7 % 40)).collect();
    let integer = json!({"type": "integer"});
    let properties: Map<_, _> = names.iter().map(|name| (name.clone(), integer.clone())).collect();
    let schema = json!({
        "properties": properties, "required": names, "additionalProperties": false,
    });
    let schema = &schemas(&[schema])[0];
    let object = |names: &[String], value: &str| {
        let members: Vec<_> = names.iter().map(|name| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let mut reversed = names.clone();
    reversed.reverse();
    for names in [&names, &reversed] {
        assert_eq!(verdicts(schema, &object(names, "1")), (Some(true), true));
        assert_eq!(verdicts(schema, &object(names, "1.5")), (Some(false), false));
        assert_eq!(verdicts(schema, &object(&names[1..], "1")), (Some(false), false));
    }
    reversed[20] = "member".to_owned();
    assert_eq!(verdicts(schema, &object(&reversed, "1")), (Some(false), false));
}

#[test]
fn what_is_not_walked_is_left_whole_and_so_is_what_leads_there() {
    let of = |key: usize| json!({"$ref": format!("contract:///#/$defs/{key}")});
    let required: Vec<String> = (0..65).map(|n| format!("m{n}")).collect();
    let compiled = schemas(&[
        json!({"properties": {"a": of(1)}}),
        json!({"items": of(2)}),
        json!({"contains": {"type": "null"}}),
        json!({"properties": {"a": of(3)}, "maxProperties": 1}),
        json!({"required": required}),
        json!({"allOf": [of(3), {"unevaluatedProperties": false}]}),
        // Each is the other's alternative: jsonschema ends where it comes back.
        json!({"oneOf": [of(7)], "required": ["a"]}),
        json!({"allOf": [of(6)], "required": ["b"]}),
        json!({"not": of(6)}),
        // A step into the value ends by itself.
        json!({"anyOf": [{"type": "null"}, {"items": of(9)}]}),
    ]);
    for (key, instance, expected) in [
        (0, "{\"a\":[[1]]}", (None, false)),
        (1, "[[null]]", (None, true)),
        (2, "[1]", (None, false)),
        // A definition may refer to itself.
        (3, "{\"a\":{\"a\":{}}}", (Some(true), true)),
        (3, "{\"a\":{\"a\":{},\"b\":1}}", (Some(false), false)),
        (4, "{}", (None, false)),
        (5, "{\"b\":1}", (None, false)),
        (6, "{\"a\":1,\"b\":1}", (None, true)),
        (8, "{}", (None, true)),
        (9, "[null,[[],null]]", (Some(true), true)),
    ] {
        assert_eq!(verdicts(&compiled[key], instance), expected, "{key} of {instance}");
    }
}

#[test]
fn alternatives_within_alternatives_end_the_walk() {
    let of = |key: usize| json!({"$ref": format!("contract:///#/$defs/{key}")});
    // Each level is judged twice as often as the one around it.
    let doubling = json!({"anyOf": [
        {"type": "array", "items": of(0), "maxItems": 1},
        {"type": "array", "items": of(0)},
        {"type": "integer"},
    ]});
    let schema = &schemas(&[doubling])[0];
    let nested = |levels: usize, inner: &str| "[".repeat(levels) + inner + &"]".repeat(levels);
    assert_eq!(verdicts(schema, &nested(60, "1")), (Some(true), true));
    assert_eq!(verdicts(schema, &nested(4, "null")), (Some(false), false));
    assert_eq!(verdicts(schema, &nested(60, "null")), (None, false));
}

/// What is never visited must not pay for what is visited over and over.
#[test]
fn a_walk_ends_by_what_it_does() {
    let of = |key: usize| json!({"$ref": format!("contract:///#/$defs/{key}")});
    let both = json!({"anyOf": [
        {"required": ["x"], "properties": {"args": {"items": of(0)}}},
        {"required": ["y"], "properties": {"args": {"items": of(0)}, "leaf": of(1)}},
    ]});
    let costly = [
        (json!({"pattern": "^a"}), format!("\"{}\"", "b".repeat(200_000))),
        (json!({"minLength": 200_001}), format!("\"{}\"", "b".repeat(200_000))),
        (json!({"uniqueItems": true, "minItems": 1}), format!("[{}0]", "0,".repeat(50_000))),
        (json!({"maxProperties": 1}), members(50_000)),
        (json!({"required": ["z"]}), members(50_000)),
    ];
    for (leaf, value) in costly {
        let schema = &schemas(&[both.clone(), leaf])[0];
        let mut body = format!("{{\"leaf\":{value},\"y\":1}}");
        for _ in 0..25 {
            body = format!("{{\"args\":[{body}]}}");
        }
        let body = format!("{{\"args\":[{body}],\"pad\":[{}0]}}", "0,".repeat(100_000));
        // Were each of the 2^25 visits done, this would take days.
        let (walked, _) = verdicts(schema, &body);
        assert_eq!(walked, None);
    }
}

fn members(count: usize) -> String {
    let members: Vec<_> = (0..count).map(|at| format!("\"m{at}\":0")).collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn what_a_pattern_leaves_undecided_is_asked_of_jsonschema() {
    let schema = json!({"anyOf": [
        {"required": ["x"], "properties": {"t": {"pattern": LOOKING_AHEAD}}},
        {"properties": {"t": {"type": "string"}}},
    ]});
    let schema = &schemas(&[schema])[0];
    let long = format!("{{\"t\":\"{}\"}}", "a".repeat(17 << 10));
    let rules = JsonRules::strict(64);
    let checked = with_tape(long.as_bytes(), rules, |root| schema.check(root));
    assert_eq!(checked.unwrap(), Ok(()), "the second alternative does not ask");
}

/// Numbers that look random and are the same each time (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn scalar(&mut self) -> Value {
        let scalars = json!([
            null,
            true,
            0,
            1,
            2,
            -1,
            1.5,
            1.0,
            9_007_199_254_740_993_u64,
            "",
            "a",
            "ab",
            "a42",
            "KE-0042",
            "äö",
            "b@c.test",
            18_446_744_073_709_551_615_u64,
            1e20,
            -1.5
        ]);
        self.one(scalars.as_array().unwrap()).clone()
    }

    fn name(&mut self) -> &'static str {
        const NAMES: [&str; 5] = ["a", "b", "ab", "a-name-of-more-than-16", "eight888"];
        NAMES[self.below(NAMES.len())]
    }

    fn instance(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 2 } else { 5 }) {
            2 => (0..self.below(4)).map(|_| self.instance(depth - 1)).collect(),
            3 | 4 => {
                let members =
                    (0..self.below(5)).map(|_| (self.name().to_owned(), self.instance(depth - 1)));
                Value::Object(members.collect())
            }
            _ => self.scalar(),
        }
    }

    /// A schema of a few keywords. References lead to `later` definitions or, from members, to any.
    fn schema(&mut self, depth: usize, later: &[usize]) -> Value {
        if depth == 0 {
            return json!({"type": *self.one(&["string", "integer", "number", "null", "object"])});
        }
        let mut schema = Map::new();
        for _ in 0..=self.below(3) {
            let (keyword, value) = self.keyword(depth, later);
            schema.insert(keyword.to_owned(), value);
        }
        Value::Object(schema)
    }

    fn member(&mut self, depth: usize, later: &[usize]) -> Value {
        if self.below(4) == 0 {
            return json!({"$ref": format!("contract:///#/$defs/{}", self.below(DEFINITIONS))});
        }
        self.schema(depth - 1, later)
    }

    fn keyword(&mut self, depth: usize, later: &[usize]) -> (&'static str, Value) {
        let types = ["string", "integer", "number", "null", "object", "array", "boolean"];
        match self.below(21) {
            0 => ("type", json!([self.one(&types)])),
            1 => ("type", json!(self.one(&types))),
            2 => ("minimum", json!(self.one(&[0.5, 1.0, -1.5]))),
            3 => ("maximum", json!(self.one(&[1, 2, 9_007_199_254_740_992_i64]))),
            4 => ("exclusiveMaximum", json!(self.one(&[1, 2]))),
            5 => ("multipleOf", json!(self.one(&[0.5, 2.0]))),
            6 => ("minLength", json!(self.below(3))),
            7 => ("maxLength", json!(self.below(4))),
            8 => ("pattern", json!(self.one(&PATTERNS))),
            9 => ("format", json!(self.one(&["email", "uuid", "date-time"]))),
            10 => ("enum", (0..3).map(|_| self.instance(1)).collect()),
            11 | 12 => {
                let members =
                    (0..self.below(4)).map(|_| (self.name().to_owned(), self.member(depth, later)));
                ("properties", Value::Object(members.collect()))
            }
            13 => ("required", json!([self.name()])),
            14 => ("additionalProperties", json!(self.below(2) == 0)),
            15 => ("additionalProperties", self.member(depth, later)),
            16 => ("items", self.member(depth, later)),
            17 => ("uniqueItems", json!(true)),
            18 => {
                let keyword = *self.one(&["allOf", "anyOf", "oneOf"]);
                (keyword, (0..2).map(|_| self.schema(depth - 1, later)).collect())
            }
            19 => ("not", self.schema(depth - 1, later)),
            _ => match later {
                [] => ("minItems", json!(1)),
                later => ("$ref", json!(format!("contract:///#/$defs/{}", self.one(later)))),
            },
        }
    }
}

/// Definitions of a generated set.
const DEFINITIONS: usize = 4;

#[test]
fn generated_schemas_are_judged_as_jsonschema_judges() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut counts = [0_u32; 2];
    for _ in 0..400 {
        let definitions: Vec<Value> = (0..DEFINITIONS)
            .map(|key| numbers.schema(3, &(key + 1..DEFINITIONS).collect::<Vec<_>>()))
            .collect();
        let compiled = schemas(&definitions);
        for _ in 0..60 {
            let instance = numbers.instance(3).to_string();
            for (key, schema) in compiled.iter().enumerate() {
                let (walked, expected) = verdicts(schema, &instance);
                let case = || format!("{key} of {definitions:#?} of {instance}");
                assert_eq!(walked, Some(expected), "{}", case());
                counts[usize::from(expected)] += 1;
            }
        }
    }
    // Neither of them is the rule.
    assert!(counts.iter().all(|count| *count > 15_000), "{counts:?}");
}
