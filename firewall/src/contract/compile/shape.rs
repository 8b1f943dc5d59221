//! How a parameter's text is split and typed, read off its schema before it is rewritten.

use std::collections::HashSet;

use serde_json::Value;

use super::super::dialect::resolve;
use super::super::parameter::{Shape, Types};

/// The shape of a parameter with this schema.
///
/// # Errors
///
/// The kind of what is not enforced.
pub(super) fn shape(root: &Value, schema: &Value, explode: bool) -> Result<Shape, &'static str> {
    let Some(schema) = follow(root, schema) else { return Ok(Shape::Scalar(Types::ANY)) };
    match declared(root, schema, 0).as_deref() {
        Some("array") => {
            let items =
                find(root, schema, "items", 0).map_or(Ok(Types::ANY), |s| types(root, s))?;
            Ok(Shape::Array { items, explode })
        }
        Some("object") => {
            let mut properties = Vec::new();
            collect(root, schema, &mut properties, 0)?;
            let additional = match find(root, schema, "additionalProperties", 0) {
                Some(schema) if schema.is_object() => types(root, schema)?,
                _ => Types::ANY,
            };
            Ok(Shape::Object { properties, additional, explode })
        }
        _ => types(root, schema).map(Shape::Scalar),
    }
}

const DEPTH: usize = 16;
const NESTED: &str = "nested-parameters";

/// The types of a text that the schema describes.
fn types(root: &Value, schema: &Value) -> Result<Types, &'static str> {
    let mut found = scalar(root, schema, 0)?;
    if found == Types::default() {
        found = Types::ANY;
    }
    Ok(found)
}

/// The scalar types that the schema allows; none where it does not say.
fn scalar(root: &Value, schema: &Value, depth: usize) -> Result<Types, &'static str> {
    let none = Types::default();
    let Some(schema) = follow(root, schema).filter(|_| depth < DEPTH) else { return Ok(none) };
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => return Ok(Types { string: true, ..none }),
        Some("integer") => return Ok(Types { integer: true, ..none }),
        Some("number") => return Ok(Types { number: true, ..none }),
        Some("boolean") => return Ok(Types { boolean: true, ..none }),
        Some("array" | "object") => return Err(NESTED),
        _ => {}
    }
    for branch in branches(schema, "allOf") {
        let found = scalar(root, branch, depth + 1)?;
        if found != none {
            return Ok(found);
        }
    }
    let mut union = none;
    for branch in branches(schema, "oneOf").chain(branches(schema, "anyOf")) {
        let found = scalar(root, branch, depth + 1)?;
        // A branch that does not say allows all.
        union = union.union(if found == none { Types::ANY } else { found });
    }
    Ok(union)
}

/// The type named by the schema or by an `allOf` branch of it.
fn declared(root: &Value, schema: &Value, depth: usize) -> Option<String> {
    let schema = follow(root, schema).filter(|_| depth < DEPTH)?;
    let named = schema.get("type").and_then(Value::as_str).map(str::to_owned);
    named.or_else(|| branches(schema, "allOf").find_map(|branch| declared(root, branch, depth + 1)))
}

/// A keyword of the schema or of an `allOf` branch of it.
fn find<'d>(root: &'d Value, schema: &'d Value, keyword: &str, depth: usize) -> Option<&'d Value> {
    let schema = follow(root, schema).filter(|_| depth < DEPTH)?;
    let found = schema.get(keyword);
    found.or_else(|| {
        branches(schema, "allOf").find_map(|branch| find(root, branch, keyword, depth + 1))
    })
}

fn collect(
    root: &Value,
    schema: &Value,
    properties: &mut Vec<(Box<str>, Types)>,
    depth: usize,
) -> Result<(), &'static str> {
    let Some(schema) = follow(root, schema).filter(|_| depth < DEPTH) else { return Ok(()) };
    for (name, property) in
        schema.get("properties").and_then(Value::as_object).into_iter().flatten()
    {
        if !properties.iter().any(|(known, _)| **known == **name) {
            properties.push((name.as_str().into(), types(root, property)?));
        }
    }
    branches(schema, "allOf").try_for_each(|branch| collect(root, branch, properties, depth + 1))
}

fn branches<'d>(schema: &'d Value, keyword: &str) -> impl Iterator<Item = &'d Value> {
    schema.get(keyword).and_then(Value::as_array).into_iter().flatten()
}

fn follow<'d>(root: &'d Value, mut schema: &'d Value) -> Option<&'d Value> {
    let mut seen = HashSet::new();
    while let Some(reference) = schema.get("$ref") {
        let pointer = resolve(root, reference.as_str()?).ok()?;
        schema = root.pointer(&pointer)?;
        if !seen.insert(pointer) {
            return None;
        }
    }
    Some(schema)
}
