//! One Schema Object of OpenAPI 3.0 to JSON Schema 2020-12, keyword by keyword.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::document::escape;
use super::super::format::{Format, format};
use super::super::pattern::Pattern;
use super::super::problem::Problem;
use super::super::schema::Direction;
use super::{Schemas, kind, resolve};

/// One walk through one schema.
pub(super) struct Rewriting<'s, 'd> {
    pub(super) schemas: &'s mut Schemas<'d>,
    pub(super) direction: Direction,
    pub(super) references: Vec<String>,
    pub(super) names: HashSet<Box<str>>,
}

impl<'d> Rewriting<'_, 'd> {
    fn problem(&mut self, pointer: &str, problem: Problem) {
        self.schemas.problems.push((pointer.to_owned(), problem));
    }

    fn unexpected(&mut self, pointer: &str, expected: &'static str, found: &Value) {
        let found = kind(found).into();
        self.problem(pointer, Problem::Unexpected { expected, found });
    }

    /// The schema at `pointer` rewritten. `hidden` are members that a schema around it keeps from this
    /// direction.
    pub(super) fn schema(
        &mut self,
        value: &'d Value,
        pointer: &str,
        hidden: &HashSet<&'d str>,
    ) -> Value {
        let Some(object) = value.as_object() else {
            self.unexpected(pointer, "a schema", value);
            return Value::Bool(false);
        };
        if let Some(reference) = object.get("$ref") {
            return self.reference(object, reference, pointer);
        }
        let mut hidden = hidden.clone();
        self.hide(object, &mut hidden, &mut HashSet::new());
        let mut out = Map::new();
        for (keyword, value) in object {
            let at = format!("{pointer}/{}", escape(keyword));
            self.keyword(keyword, value, &at, &hidden, &mut out);
        }
        self.bounds(object, pointer, &mut out);
        self.types(object, pointer, &mut out);
        Value::Object(out)
    }

    fn reference(
        &mut self,
        object: &'d Map<String, Value>,
        reference: &'d Value,
        pointer: &str,
    ) -> Value {
        for sibling in object.keys() {
            let is_prose = matches!(&**sibling, "$ref" | "description" | "title" | "summary")
                || is_annotation(sibling);
            if !is_prose {
                let at = format!("{pointer}/{}", escape(sibling));
                self.problem(&at, Problem::BesideReference(sibling.as_str().into()));
            }
        }
        let at = format!("{pointer}/$ref");
        let Some(text) = reference.as_str() else {
            self.unexpected(&at, "a string", reference);
            return Value::Bool(false);
        };
        match resolve(self.schemas.root, text) {
            Ok(target) => {
                let key = self.schemas.key(&target);
                self.references.push(target);
                json!({"$ref": format!("#/$defs/{key}")})
            }
            Err(problem) => {
                self.problem(&at, problem);
                Value::Bool(false)
            }
        }
    }

    /// Adds the members that `object`, or an `allOf` branch of it, keeps from this direction.
    fn hide(
        &self,
        object: &'d Map<String, Value>,
        hidden: &mut HashSet<&'d str>,
        seen: &mut HashSet<*const Map<String, Value>>,
    ) {
        if !seen.insert(std::ptr::from_ref(object)) {
            return;
        }
        let marker = match self.direction {
            Direction::Request => "readOnly",
            Direction::Response => "writeOnly",
        };
        for (name, property) in
            object.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            let flag = self.follow(property).and_then(|property| property.get(marker));
            if flag.and_then(Value::as_bool) == Some(true) {
                hidden.insert(name);
            }
        }
        for branch in object.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            if let Some(branch) = self.follow(branch) {
                self.hide(branch, hidden, seen);
            }
        }
    }

    /// The schema object behind `$ref`s, if there is one.
    fn follow(&self, mut schema: &'d Value) -> Option<&'d Map<String, Value>> {
        // A chain longer than this is a cycle, or will be reported as too long elsewhere.
        for _ in 0..64 {
            let object = schema.as_object()?;
            let Some(reference) = object.get("$ref") else { return Some(object) };
            let target = resolve(self.schemas.root, reference.as_str()?).ok()?;
            schema = self.schemas.root.pointer(&target)?;
        }
        None
    }

    fn keyword(
        &mut self,
        keyword: &str,
        value: &'d Value,
        at: &str,
        hidden: &HashSet<&'d str>,
        out: &mut Map<String, Value>,
    ) {
        match keyword {
            // Together with others, in `types` and `bounds`.
            "type" | "format" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
            }
            "nullable" | "readOnly" | "writeOnly" => {
                if !value.is_boolean() {
                    self.unexpected(at, "a boolean", value);
                }
            }
            "multipleOf" => {
                if value.as_f64().is_some_and(|number| number > 0.0) {
                    out.insert(keyword.to_owned(), value.clone());
                } else {
                    self.unexpected(at, "a number above 0", value);
                }
            }
            "maxLength" | "minLength" | "maxItems" | "minItems" | "maxProperties"
            | "minProperties" => match count(value) {
                Some(count) => {
                    out.insert(keyword.to_owned(), count.into());
                }
                None => self.unexpected(at, "a whole number from 0", value),
            },
            "uniqueItems" => {
                if value.is_boolean() {
                    out.insert(keyword.to_owned(), value.clone());
                } else {
                    self.unexpected(at, "a boolean", value);
                }
            }
            "enum" => {
                if value.as_array().is_some_and(|values| !values.is_empty()) {
                    out.insert(keyword.to_owned(), value.clone());
                } else {
                    self.unexpected(at, "a list of at least one value", value);
                }
            }
            "pattern" => self.pattern(value, at, out),
            "required" => self.required(value, at, hidden, out),
            "properties" => self.properties(value, at, hidden, out),
            "allOf" | "anyOf" | "oneOf" => {
                let Some(branches) = value.as_array().filter(|branches| !branches.is_empty())
                else {
                    return self.unexpected(at, "a list of at least one schema", value);
                };
                let none = HashSet::new();
                let hidden = if keyword == "allOf" { hidden } else { &none };
                let branches = branches
                    .iter()
                    .enumerate()
                    .map(|(index, branch)| self.schema(branch, &format!("{at}/{index}"), hidden));
                let branches = branches.collect();
                out.insert(keyword.to_owned(), Value::Array(branches));
            }
            "additionalProperties" if value.is_boolean() => {
                out.insert(keyword.to_owned(), value.clone());
            }
            "not" | "items" | "additionalProperties" => {
                let schema = self.schema(value, at, &HashSet::new());
                out.insert(keyword.to_owned(), schema);
            }
            "discriminator" => self.discriminator(value, at),
            _ if is_annotation(keyword) => {}
            _ => self.problem(at, Problem::NotEnforced(format!("keyword:{keyword}").into())),
        }
    }

    fn pattern(&mut self, value: &Value, at: &str, out: &mut Map<String, Value>) {
        let Some(source) = value.as_str() else {
            return self.unexpected(at, "a pattern", value);
        };
        if !self.schemas.patterns.contains_key(source) {
            match Pattern::new(source) {
                Ok(pattern) => {
                    self.schemas.patterns.insert(source.to_owned(), Arc::new(pattern));
                }
                Err(reason) => return self.problem(at, Problem::Pattern(reason.into())),
            }
        }
        out.insert("pattern".to_owned(), value.clone());
    }

    fn required(
        &mut self,
        value: &'d Value,
        at: &str,
        hidden: &HashSet<&'d str>,
        out: &mut Map<String, Value>,
    ) {
        let names: Option<Vec<&str>> =
            value.as_array().and_then(|names| names.iter().map(Value::as_str).collect());
        let Some(names) = names else {
            return self.unexpected(at, "a list of member names", value);
        };
        let mut unique = HashSet::new();
        let names = names.into_iter().filter(|name| !hidden.contains(name) && unique.insert(*name));
        out.insert("required".to_owned(), names.collect());
    }

    fn properties(
        &mut self,
        value: &'d Value,
        at: &str,
        hidden: &HashSet<&'d str>,
        out: &mut Map<String, Value>,
    ) {
        let Some(properties) = value.as_object() else {
            return self.unexpected(at, "schemas by member name", value);
        };
        let mut rewritten = Map::new();
        for (name, property) in properties {
            self.names.insert(name.as_str().into());
            let at = format!("{at}/{}", escape(name));
            let schema = self.schema(property, &at, &HashSet::new());
            let schema = if hidden.contains(&**name) { Value::Bool(false) } else { schema };
            rewritten.insert(name.clone(), schema);
        }
        out.insert("properties".to_owned(), Value::Object(rewritten));
    }

    /// A discriminator never changes the outcome (OpenAPI 3.1.1, section 4.8.25); it must only make
    /// sense.
    fn discriminator(&mut self, value: &Value, at: &str) {
        if !value.get("propertyName").is_some_and(Value::is_string) {
            self.problem(at, Problem::Missing("propertyName".into()));
        }
        for (name, target) in value.get("mapping").and_then(Value::as_object).into_iter().flatten()
        {
            let at = format!("{at}/mapping/{}", escape(name));
            let Some(text) = target.as_str() else {
                self.unexpected(&at, "a schema's name or reference", target);
                continue;
            };
            let named = format!("#/components/schemas/{}", escape(text));
            if resolve(self.schemas.root, &named).is_err()
                && let Err(problem) = resolve(self.schemas.root, text)
            {
                self.problem(&at, problem);
            }
        }
    }

    /// `minimum` with its boolean `exclusiveMinimum`, and the like for the maximum.
    fn bounds(
        &mut self,
        object: &'d Map<String, Value>,
        pointer: &str,
        out: &mut Map<String, Value>,
    ) {
        for (bound, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")]
        {
            let is_exclusive = match object.get(exclusive) {
                None => false,
                Some(Value::Bool(is_exclusive)) => *is_exclusive,
                Some(other) => {
                    self.unexpected(&format!("{pointer}/{exclusive}"), "a boolean", other);
                    continue;
                }
            };
            match object.get(bound) {
                Some(limit) if limit.is_number() => {
                    let keyword = if is_exclusive { exclusive } else { bound };
                    out.insert(keyword.to_owned(), limit.clone());
                }
                Some(other) => self.unexpected(&format!("{pointer}/{bound}"), "a number", other),
                None if is_exclusive => self.problem(pointer, Problem::Missing(bound.into())),
                None => {}
            }
        }
    }

    /// `type` with `nullable` and `format`.
    fn types(
        &mut self,
        object: &'d Map<String, Value>,
        pointer: &str,
        out: &mut Map<String, Value>,
    ) {
        let named = match object.get("type") {
            None => None,
            Some(Value::String(name))
                if matches!(
                    &**name,
                    "string" | "number" | "integer" | "boolean" | "array" | "object"
                ) =>
            {
                Some(&**name)
            }
            Some(other) => {
                self.unexpected(&format!("{pointer}/type"), "one of the six types", other);
                None
            }
        };
        if let Some(name) = named {
            // 3.0.4: `nullable` adds null to the types named beside it, and to nothing else.
            let is_nullable = object.get("nullable").and_then(Value::as_bool) == Some(true);
            let types = if is_nullable { json!([name, "null"]) } else { json!(name) };
            out.insert("type".to_owned(), types);
            if name == "array" && !object.contains_key("items") {
                self.problem(pointer, Problem::Missing("items".into()));
            }
        }
        if let Some(value) = object.get("format") {
            let at = format!("{pointer}/format");
            match value.as_str() {
                Some(name) => self.format(name, named, &at, out),
                None => self.unexpected(&at, "a format's name", value),
            }
        }
    }

    fn format(&mut self, name: &str, named: Option<&str>, at: &str, out: &mut Map<String, Value>) {
        let of_strings = matches!(named, None | Some("string"));
        let of_numbers = matches!(named, None | Some("number" | "integer"));
        let is_enforced = match format(name) {
            Some(Format::Standard | Format::Text(_)) if of_strings => {
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
        if !is_enforced {
            self.problem(at, Problem::NotEnforced(format!("format:{name}").into()));
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
    types == "integer" || types.get(0).is_some_and(|first| first == "integer")
}

fn number(value: i128) -> Value {
    u64::try_from(value)
        .map(Value::from)
        .or_else(|_| i64::try_from(value).map(Value::from))
        .unwrap_or_default()
}

/// A count, which JSON may write with a fraction of zero.
fn count(value: &Value) -> Option<u64> {
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

/// What describes and does not constrain.
fn is_annotation(keyword: &str) -> bool {
    matches!(
        keyword,
        "title" | "description" | "default" | "example" | "externalDocs" | "deprecated" | "xml"
    ) || keyword.starts_with("x-")
}
