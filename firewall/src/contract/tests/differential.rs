//! Verdicts of contracts against those of jsonschema on `serde_json` values, for schemas and instances
//! made up from a seed: what rewriting and the tape make of a schema must be what it says.

use std::fmt::Write;

use http::HeaderValue;
use serde_json::{Map, Value, json};

use super::documents::{load_value, minimal};

/// Names that say something to some layer, and plain ones.
const NAMES: [&str; 10] =
    ["a", "b", "c", "properties", "$ref", "__proto__", "", "a/b~c", "a%25b", "enum"];
/// Definitions that a schema may refer to.
const DEFINITIONS: u64 = 4;

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        let count = u64::try_from(choices.len()).unwrap();
        choices[usize::try_from(self.below(count)).unwrap()]
    }

    fn list(&mut self, depth: u64, make: fn(&mut Self, u64) -> Value) -> Value {
        (0..=self.below(2)).map(|_| make(self, depth)).collect()
    }

    fn map(&mut self, names: &[&str], depth: u64) -> Value {
        let count = self.below(3) + 1;
        let members = (0..count).map(|_| (self.of(names).to_owned(), self.schema(depth)));
        Value::Object(members.collect())
    }

    fn instance(&mut self, depth: u64) -> Value {
        match self.below(if depth == 0 { 6 } else { 10 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.of(&[-1_i64, 0, 1, 2, 3, 9_007_199_254_740_993])),
            3 => json!(self.of(&[0.5, 1.0, 1.5, 2.0, 0.3])),
            4 | 5 => json!(self.of(&["", "a", "ab", "é", "aé😀", "1", "b"])),
            6 | 7 => (0..self.below(4)).map(|_| self.instance(depth - 1)).collect(),
            _ => {
                let count = self.below(4);
                let members =
                    (0..count).map(|_| (self.of(&NAMES).to_owned(), self.instance(depth - 1)));
                Value::Object(members.collect())
            }
        }
    }

    fn schema(&mut self, depth: u64) -> Value {
        const TYPES: [&str; 7] =
            ["string", "number", "integer", "boolean", "array", "object", "null"];
        if self.below(12) == 0 {
            return json!(self.below(3) > 0);
        }
        let mut out = Map::new();
        for _ in 0..=self.below(3) {
            let (keyword, value) = match self.below(if depth == 0 { 10 } else { 28 }) {
                0 => ("type", json!(self.of(&TYPES))),
                1 => ("type", json!([self.of(&TYPES[..3]), self.of(&TYPES[3..])])),
                2 => ("enum", self.list(1, Self::instance)),
                3 => ("const", self.instance(1)),
                4 => (self.of(&["minimum", "exclusiveMinimum"]), json!(self.below(3))),
                5 => (self.of(&["maximum", "exclusiveMaximum"]), json!(self.below(3))),
                6 => (self.of(&["minLength", "minItems", "minProperties"]), json!(self.below(3))),
                7 => (self.of(&["maxLength", "maxItems", "maxProperties"]), json!(self.below(3))),
                8 => ("required", json!([self.of(&NAMES)])),
                9 => ("pattern", json!(self.of(&["a", "^a", "b$", "^[0-9]+$", "^.{2}$"]))),
                10 | 11 => ("properties", self.map(&NAMES, depth - 1)),
                12 => ("patternProperties", self.map(&["^a", "b", "^\\$", "^$"], depth - 1)),
                13 => (self.of(&["additionalProperties", "items"]), self.schema(depth - 1)),
                14 => ("prefixItems", self.list(depth - 1, Self::schema)),
                15 => ("propertyNames", self.schema(depth - 1)),
                16 => ("contains", self.schema(depth - 1)),
                17 => (self.of(&["minContains", "maxContains"]), json!(self.below(3))),
                18 => ("uniqueItems", json!(true)),
                19 => (self.of(&["unevaluatedProperties", "unevaluatedItems"]), self.schema(0)),
                20 => (self.of(&["if", "then", "else"]), self.schema(depth - 1)),
                21 => ("not", self.schema(depth - 1)),
                22 => ("dependentSchemas", self.map(&NAMES[..3], depth - 1)),
                23 => ("dependentRequired", json!({self.of(&NAMES): [self.of(&NAMES)]})),
                24 => ("multipleOf", json!(self.of(&[1.0, 0.5, 2.0]))),
                25 | 26 => {
                    (self.of(&["allOf", "anyOf", "oneOf"]), self.list(depth - 1, Self::schema))
                }
                _ => {
                    let number = self.below(DEFINITIONS);
                    ("$ref", format!("#/components/schemas/D{number}").into())
                }
            };
            out.insert(keyword.to_owned(), value);
        }
        Value::Object(out)
    }
}

/// Whether a definition leads back to itself without a step down the instance: then what it means is
/// not defined (JSON Schema 2020-12, core, section 9.4.1).
fn is_endless(schema: &Value, definitions: &Value, level: u64) -> bool {
    const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
    if level > 40 {
        return true;
    }
    let Some(object) = schema.as_object() else { return false };
    object.iter().any(|(keyword, value)| match (&**keyword, value) {
        ("$ref", Value::String(target)) => {
            let (_, name) = target.rsplit_once('/').unwrap();
            is_endless(&definitions[name], definitions, level + 1)
        }
        ("dependentSchemas", Value::Object(map)) => {
            map.values().any(|schema| is_endless(schema, definitions, level + 1))
        }
        (keyword, Value::Array(branches)) if IN_PLACE.contains(&keyword) => {
            branches.iter().any(|schema| is_endless(schema, definitions, level + 1))
        }
        (keyword, schema) if IN_PLACE.contains(&keyword) => {
            is_endless(schema, definitions, level + 1)
        }
        _ => false,
    })
}

#[test]
fn verdicts_are_those_of_jsonschema_on_values() {
    let mut random = Random(3);
    let (mut accepted, mut refused, mut differing) = (0, 0, String::new());
    for round in 0..150 {
        let definitions = (0..DEFINITIONS).map(|i| (format!("D{i}"), random.schema(2)));
        let definitions = Value::Object(definitions.collect());
        let schema = random.schema(3);
        let all = definitions.as_object().unwrap().values().chain([&schema]);
        if all.into_iter().any(|schema| is_endless(schema, &definitions, 0)) {
            continue;
        }
        let mut plain = json!({"$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": [schema], "components": {"schemas": definitions}});
        let Ok(theirs) = jsonschema::draft202012::new(&plain) else { continue };
        let mut document = minimal(json!({}));
        document["openapi"] = "3.1.0".into();
        document["paths"]["/things"] = json!({"post": {
            "requestBody": {"content": {"application/json": {"schema": schema}}},
            "responses": {"200": {"description": "ok"}},
        }});
        document["components"] = plain["components"].take();
        let loaded = load_value(&document, &[]).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let operation = &loaded.contract.operations()[0];
        let json = HeaderValue::from_static("application/json");
        let ours = operation.body().unwrap().content(Some(&json)).unwrap();
        for _ in 0..12 {
            let instance = random.instance(3);
            let expected = theirs.is_valid(&instance);
            let found = ours.check(instance.to_string().as_bytes());
            *if expected { &mut accepted } else { &mut refused } += 1;
            if found.is_ok() != expected {
                writeln!(differing, "{round}: {document} of {instance}: {expected}").unwrap();
            }
        }
    }
    assert_eq!(differing, "");
    assert!(accepted > 300 && refused > 300, "{accepted} {refused}");
}
