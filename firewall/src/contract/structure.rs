//! The typed reading of a 3.0 document's structure, by `openapiv3`: a second opinion on what our own
//! reader takes.

use openapiv3::OpenAPI;
use serde_json::{Map, Value};

/// Reads everything but the Schema Objects, which typed models cannot hold.
///
/// # Errors
///
/// What `openapiv3` finds wrong.
pub(crate) fn read(root: &Value) -> Result<OpenAPI, serde_json::Error> {
    serde_json::from_value(without_schemas(root, true))
}

/// A copy in which each Schema Object is `{}`. `names` tells whether the keys of `value` are fields
/// of the specification, or names that the document's author chose.
fn without_schemas(value: &Value, fields: bool) -> Value {
    match value {
        Value::Object(object) => object
            .iter()
            .filter(|(key, _)| !(fields && matches!(&***key, "example" | "examples")))
            .map(|(key, value)| {
                let copy = match &**key {
                    "schema" if fields => Value::Object(Map::new()),
                    "schemas" if fields => named_schemas(value),
                    _ => without_schemas(value, !(fields && holds_names(key))),
                };
                (key.clone(), copy)
            })
            .collect(),
        Value::Array(items) => items.iter().map(|item| without_schemas(item, fields)).collect(),
        scalar => scalar.clone(),
    }
}

/// Whether the keys below this field are names.
fn holds_names(field: &str) -> bool {
    matches!(
        field,
        "paths"
            | "responses"
            | "parameters"
            | "requestBodies"
            | "headers"
            | "securitySchemes"
            | "links"
            | "callbacks"
            | "content"
            | "encoding"
            | "variables"
            | "scopes"
            | "mapping"
    )
}

fn named_schemas(schemas: &Value) -> Value {
    match schemas {
        Value::Object(schemas) => {
            schemas.keys().map(|name| (name.clone(), Value::Object(Map::new()))).collect()
        }
        other => other.clone(),
    }
}
