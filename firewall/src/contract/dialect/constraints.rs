//! Keywords that constrain one value: types, bounds, formats, patterns.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::compile::Version;
use super::super::compile::reader::At;
use super::super::format::{Format, format};
use super::super::pattern::Pattern;
use super::super::policy::Strength;
use super::super::problem::Problem;
use super::rewrite::Rewriting;

const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "array", "object", "null"];

impl<'d> Rewriting<'_, 'd> {
    /// `minimum` with 3.0's boolean `exclusiveMinimum`, and the like for the maximum.
    pub(super) fn bounds(&mut self, at: &At<'d>, out: &mut Map<String, Value>) {
        for (bound, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")]
        {
            let mut keyword = bound;
            if let Some(field) = at.get(exclusive) {
                match (field.value, self.schemas.version) {
                    (Value::Bool(is_exclusive), Version::V3_0) => {
                        if *is_exclusive {
                            keyword = exclusive;
                        }
                    }
                    (_, Version::V3_0) => {
                        self.unexpected(&field, "a boolean");
                        continue;
                    }
                    (Value::Number(_), _) => {
                        out.insert(exclusive.to_owned(), field.value.clone());
                    }
                    _ => self.unexpected(&field, "a number"),
                }
            }
            match at.get(bound) {
                Some(field) if field.value.is_number() => {
                    out.insert(keyword.to_owned(), field.value.clone());
                }
                Some(field) => self.unexpected(&field, "a number"),
                None if keyword == exclusive => self.problem(at, Problem::Missing(bound.into())),
                None => {}
            }
        }
    }

    /// `type` with `nullable` and `format`.
    pub(super) fn types(&mut self, at: &At<'d>, out: &mut Map<String, Value>) {
        let named = at.get("type").and_then(|field| self.named_types(&field));
        if let Some(names) = &named {
            // 3.0.4: `nullable` adds null to the types named beside it, and to nothing else.
            let is_nullable = self.schemas.version == Version::V3_0
                && at.value.get("nullable").and_then(Value::as_bool) == Some(true);
            let types = match (&**names, is_nullable) {
                ([name], false) => json!(name),
                ([name], true) => json!([name, "null"]),
                (several, _) => json!(several),
            };
            out.insert("type".to_owned(), types);
            let is_array = names.contains(&"array") && self.schemas.version == Version::V3_0;
            if is_array && at.value.get("items").is_none() {
                self.problem(at, Problem::NotEnforced("keyword:items".into()));
            }
        }
        if let Some(field) = at.get("format") {
            match field.value.as_str() {
                Some(name) => self.format(name, named.as_deref(), &field, out),
                None => self.unexpected(&field, "a format's name"),
            }
        }
    }

    fn named_types(&mut self, field: &At<'d>) -> Option<Vec<&'d str>> {
        let is_old = self.schemas.version == Version::V3_0;
        let known = |name: &'d Value| {
            let name = name.as_str()?;
            (TYPES.contains(&name) && !(is_old && name == "null")).then_some(name)
        };
        let names = match field.value {
            Value::Array(names) if !is_old && !names.is_empty() => {
                names.iter().map(known).collect::<Option<Vec<_>>>()
            }
            name => known(name).map(|name| vec![name]),
        };
        let mut names = names;
        if let Some(names) = &mut names {
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            if names.len() < count {
                self.unexpected(field, "types that differ");
            }
        } else {
            let expected = if is_old { "one of the six types" } else { "types" };
            self.unexpected(field, expected);
        }
        names
    }

    fn format(
        &mut self,
        name: &str,
        named: Option<&[&str]>,
        at: &At<'d>,
        out: &mut Map<String, Value>,
    ) {
        if self.schemas.options.policy.formats == Strength::Annotate {
            return;
        }
        let includes =
            |wanted: &[&str]| named.is_none_or(|named| named.iter().any(|n| wanted.contains(n)));
        let of_strings = includes(&["string"]);
        let of_numbers = includes(&["number", "integer"]);
        let is_enforced = match format(name) {
            Some(Format::Text) if of_strings => {
                out.insert("format".to_owned(), name.into());
                true
            }
            Some(Format::Integer { minimum, maximum }) if of_strings || of_numbers => {
                if of_strings {
                    out.insert("format".to_owned(), name.into());
                }
                if of_numbers {
                    let range = json!({"minimum": number(minimum), "maximum": number(maximum), "multipleOf": 1});
                    constrain(out, range);
                }
                true
            }
            Some(Format::Decimal { maximum, unit }) if of_strings || of_numbers => {
                if of_strings {
                    out.insert("format".to_owned(), name.into());
                }
                if let (true, Some(maximum)) = (of_numbers, maximum) {
                    constrain(out, json!({"minimum": -maximum, "maximum": maximum}));
                }
                if let (true, Some(unit)) = (of_numbers, unit) {
                    constrain(out, json!({"multipleOf": unit}));
                }
                true
            }
            Some(Format::Float) if of_numbers => {
                constrain(out, json!({"minimum": f32::MIN, "maximum": f32::MAX}));
                true
            }
            Some(Format::Unconstrained(of)) => match of {
                "string" => of_strings,
                _ => of_numbers,
            },
            _ => false,
        };
        // JSON Schema 2020-12, validation, section 7.2.1: a format of other types constrains nothing.
        let is_beside_the_point = self.schemas.version > Version::V3_0 && format(name).is_some();
        if !is_enforced && !is_beside_the_point {
            self.problem(at, Problem::NotEnforced(format!("format:{name}").into()));
        }
    }

    /// The pattern at `at`, compiled for the contract; none where it cannot be.
    pub(super) fn pattern(&mut self, source: &str, at: &At<'d>) -> Option<Arc<Pattern>> {
        if let Some(known) = self.schemas.patterns.get(source) {
            return Some(Arc::clone(known));
        }
        match Pattern::new(source) {
            Ok(pattern) => {
                let pattern = Arc::new(pattern);
                self.schemas.patterns.insert(source.to_owned(), Arc::clone(&pattern));
                Some(pattern)
            }
            Err(reason) => {
                self.problem(at, Problem::Pattern(reason.into()));
                None
            }
        }
    }
}

/// Adds keywords that are not there yet to the schema itself, the others to an `allOf` branch.
fn constrain(out: &mut Map<String, Value>, keywords: Value) {
    let Value::Object(keywords) = keywords else { return };
    let mut branch = Map::new();
    for (keyword, value) in keywords {
        // Whole numbers need no `multipleOf` where the type says so.
        if keyword == "multipleOf" && out.get("type").is_some_and(is_integer) {
            continue;
        }
        let target = if out.contains_key(&keyword) { &mut branch } else { &mut *out };
        target.insert(keyword, value);
    }
    if !branch.is_empty()
        && let Value::Array(branches) = out.entry("allOf").or_insert_with(|| json!([]))
    {
        branches.push(Value::Object(branch));
    }
}

fn is_integer(types: &Value) -> bool {
    let has =
        |wanted: &str| types.as_array().is_some_and(|types| types.iter().any(|t| t == wanted));
    types == "integer" || has("integer") && !has("number")
}

fn number(value: i128) -> Value {
    u64::try_from(value)
        .map(Value::from)
        .or_else(|_| i64::try_from(value).map(Value::from))
        .unwrap_or_default()
}

/// A count, which JSON may write with a fraction of zero.
pub(super) fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and within range by the filter"
        )]
        Some(number)
            .filter(|number| number.fract() == 0.0 && (0.0..9e15).contains(number))
            .map(|number| number as u64)
    })
}
