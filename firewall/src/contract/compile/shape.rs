//! How a parameter's text is split and typed, read off its schema before it is rewritten.

use std::collections::HashSet;

use serde_json::Value;

use super::super::documents::Documents;
use super::super::parameter::{Shape, Types};
use super::reader::At;

/// The shape of a parameter with this schema.
///
/// # Errors
///
/// The kind of what is not enforced.
pub(super) fn shape(
    documents: &Documents,
    schema: &At<'_>,
    explode: bool,
) -> Result<Shape, &'static str> {
    let Some(schema) = &follow(documents, schema) else { return Ok(Shape::Scalar(Types::ANY)) };
    match declared(documents, schema, 0).as_deref() {
        Some("array") => {
            let items = find(documents, schema, "items", 0);
            let items = items.map_or(Ok(Types::ANY), |items| types(documents, &items))?;
            Ok(Shape::Array { items, explode })
        }
        Some("object") => {
            let mut properties = Vec::new();
            collect(documents, schema, &mut properties, 0)?;
            let additional = match find(documents, schema, "additionalProperties", 0) {
                Some(schema) if schema.value.is_object() => types(documents, &schema)?,
                _ => Types::ANY,
            };
            Ok(Shape::Object { properties, additional, explode })
        }
        _ => types(documents, schema).map(Shape::Scalar),
    }
}

const DEPTH: usize = 16;
const NESTED: &str = "nested-parameters";

/// The types of a text that the schema describes.
fn types(documents: &Documents, schema: &At<'_>) -> Result<Types, &'static str> {
    let mut found = scalar(documents, schema, 0)?;
    if found == Types::default() {
        found = Types::ANY;
    }
    Ok(found)
}

/// The scalar types that the schema allows; none where it does not say.
fn scalar(documents: &Documents, schema: &At<'_>, depth: usize) -> Result<Types, &'static str> {
    let none = Types::default();
    let followed = follow(documents, schema).filter(|_| depth < DEPTH);
    let Some(schema) = &followed else { return Ok(none) };
    match schema.value.get("type").and_then(Value::as_str) {
        Some("string") => return Ok(Types { string: true, ..none }),
        Some("integer") => return Ok(Types { integer: true, ..none }),
        Some("number") => return Ok(Types { number: true, ..none }),
        Some("boolean") => return Ok(Types { boolean: true, ..none }),
        Some("array" | "object") => return Err(NESTED),
        _ => {}
    }
    for branch in branches(schema, "allOf") {
        let found = scalar(documents, &branch, depth + 1)?;
        if found != none {
            return Ok(found);
        }
    }
    let mut union = none;
    for branch in branches(schema, "oneOf").into_iter().chain(branches(schema, "anyOf")) {
        let found = scalar(documents, &branch, depth + 1)?;
        // A branch that does not say allows all.
        union = union.union(if found == none { Types::ANY } else { found });
    }
    Ok(union)
}

/// The type named by the schema or by an `allOf` branch of it.
fn declared(documents: &Documents, schema: &At<'_>, depth: usize) -> Option<String> {
    let schema = follow(documents, schema).filter(|_| depth < DEPTH)?;
    let named = schema.value.get("type").and_then(Value::as_str).map(str::to_owned);
    named.or_else(|| {
        branches(&schema, "allOf").iter().find_map(|branch| declared(documents, branch, depth + 1))
    })
}

/// A keyword of the schema or of an `allOf` branch of it.
fn find<'d>(
    documents: &'d Documents,
    schema: &At<'d>,
    keyword: &str,
    depth: usize,
) -> Option<At<'d>> {
    let schema = follow(documents, schema).filter(|_| depth < DEPTH)?;
    schema.get(keyword).or_else(|| {
        let branches = branches(&schema, "allOf");
        branches.iter().find_map(|branch| find(documents, branch, keyword, depth + 1))
    })
}

fn collect(
    documents: &Documents,
    schema: &At<'_>,
    properties: &mut Vec<(Box<str>, Types)>,
    depth: usize,
) -> Result<(), &'static str> {
    let followed = follow(documents, schema).filter(|_| depth < DEPTH);
    let Some(schema) = followed else { return Ok(()) };
    for (name, property) in schema.get("properties").iter().flat_map(At::members) {
        if !properties.iter().any(|(known, _)| **known == *name) {
            properties.push((name.into(), types(documents, &property)?));
        }
    }
    let branches = branches(&schema, "allOf");
    branches.iter().try_for_each(|branch| collect(documents, branch, properties, depth + 1))
}

fn branches<'d>(schema: &At<'d>, keyword: &str) -> Vec<At<'d>> {
    schema.get(keyword).iter().flat_map(At::items).collect()
}

fn follow<'d>(documents: &'d Documents, schema: &At<'d>) -> Option<At<'d>> {
    let mut at = schema.clone();
    let mut seen = HashSet::new();
    while let Some(reference) = at.value.get("$ref") {
        at = documents.resolve(&at, reference.as_str()?).ok()?;
        if !seen.insert(at.place()) {
            return None;
        }
    }
    Some(at)
}
