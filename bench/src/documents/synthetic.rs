//! A document of any number of operations, like those of large APIs: resources with lists, queries
//! and bodies, whose schemas are shared and refer to each other.

use serde_json::{Map, Value, json};

/// Operations of one resource: list, create, read, replace, delete.
const OPERATIONS_EACH: usize = 5;
/// Resources that share their schemas.
const SHARING: usize = 10;

/// The text of an OpenAPI 3.1 document with exactly `operations` operations.
pub(crate) fn document(operations: usize) -> String {
    let resources = operations.div_ceil(OPERATIONS_EACH);
    let mut paths = Map::new();
    let mut left = operations;
    for resource in 0..resources {
        for (path, mut item) in items(resource) {
            let Some(methods) = item.as_object_mut() else { continue };
            let is_method = |name: &String| name != "parameters";
            let surplus: Vec<String> =
                methods.keys().filter(|name| is_method(name)).skip(left).cloned().collect();
            methods.retain(|name, _| !surplus.contains(name));
            let kept = methods.keys().filter(|name| is_method(name)).count();
            left -= kept;
            if kept > 0 {
                paths.insert(path, item);
            }
        }
    }
    let mut schemas = shared();
    for group in 0..resources.div_ceil(SHARING) {
        schemas.insert(format!("Resource{group}"), resource_schema(group));
        schemas.insert(format!("Draft{group}"), draft_schema(group));
    }
    json!({
        "openapi": "3.1.1",
        "info": {"title": format!("{operations} operations"), "version": "1"},
        "servers": [{"url": "/v1"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": {
                "Tenant": {
                    "name": "tenant", "in": "path", "required": true,
                    "schema": {"type": "string", "format": "uuid"},
                },
                "Limit": {
                    "name": "limit", "in": "query",
                    "schema": {"type": "integer", "minimum": 1, "maximum": 200},
                },
            },
            "responses": {"Problem": {
                "description": "what went wrong",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }},
        },
    })
    .to_string()
}

fn items(resource: usize) -> [(String, Value); 2] {
    let group = resource / SHARING;
    let tenant = json!({"$ref": "#/components/parameters/Tenant"});
    let problem = json!({"$ref": "#/components/responses/Problem"});
    let content = |schema: Value| json!({"application/json": {"schema": schema}});
    let whole = json!({"$ref": format!("#/components/schemas/Resource{group}")});
    let draft = json!({
        "required": true,
        "content": content(json!({"$ref": format!("#/components/schemas/Draft{group}")})),
    });
    let one = |status: &str| {
        json!({
            status: {"description": "the resource", "content": content(whole.clone())},
            "4XX": problem.clone(),
        })
    };
    let page = content(json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": {"type": "array", "maxItems": 200, "items": whole},
            "next": {"type": ["string", "null"], "maxLength": 200},
        },
    }));
    let collection = json!({
        "parameters": [tenant.clone()],
        "get": {
            "operationId": format!("list-{resource}"),
            "parameters": [
                {"$ref": "#/components/parameters/Limit"},
                {"name": "tag", "in": "query", "schema": {
                    "type": "array", "maxItems": 10,
                    "items": {"type": "string", "pattern": "^[a-z][a-z0-9-]{0,30}$"},
                }},
                {"name": "order", "in": "query", "schema": {"enum": ["name", "-name", "created"]}},
            ],
            "responses": {
                "200": {"description": "a page", "content": page},
                "4XX": problem.clone(),
            },
        },
        "post": {
            "operationId": format!("create-{resource}"),
            "requestBody": draft.clone(),
            "responses": one("201"),
        },
    });
    let id = json!({
        "name": "id", "in": "path", "required": true,
        "schema": {"type": "integer", "format": "int64", "minimum": 1},
    });
    let member = json!({
        "parameters": [tenant, id],
        "get": {"operationId": format!("read-{resource}"), "responses": one("200")},
        "put": {
            "operationId": format!("replace-{resource}"),
            "requestBody": draft,
            "responses": one("200"),
        },
        "delete": {
            "operationId": format!("delete-{resource}"),
            "responses": {"204": {"description": "gone"}, "4XX": problem},
        },
    });
    let path = format!("/tenants/{{tenant}}/resource-{resource}");
    [(path.clone(), collection), (format!("{path}/{{id}}"), member)]
}

/// What every resource refers to.
fn shared() -> Map<String, Value> {
    let schemas = json!({
        "Problem": {
            "type": "object",
            "required": ["title", "status"],
            "properties": {
                "title": {"type": "string"},
                "status": {"type": "integer", "minimum": 400, "maximum": 499},
                "causes": {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}},
            },
        },
        "Money": {
            "type": "object",
            "required": ["amount", "currency"],
            "properties": {
                "amount": {"type": "number", "multipleOf": 0.01},
                "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
            },
            "additionalProperties": false,
        },
        "Address": {
            "type": "object",
            "required": ["lines", "country"],
            "properties": {
                "lines": {"type": "array", "minItems": 1, "maxItems": 5, "items": {"type": "string"}},
                "country": {"type": "string", "minLength": 2, "maxLength": 2},
            },
        },
        "Owner": {"oneOf": [
            {
                "type": "object", "required": ["person"],
                "properties": {
                    "person": {"type": "string", "format": "email"},
                    "home": {"$ref": "#/components/schemas/Address"},
                },
            },
            {
                "type": "object", "required": ["company"],
                "properties": {
                    "company": {"type": "string"},
                    "seat": {"$ref": "#/components/schemas/Address"},
                },
            },
        ]},
    });
    if let Value::Object(schemas) = schemas { schemas } else { Map::new() }
}

fn draft_schema(group: usize) -> Value {
    let mut properties = Map::new();
    for member in 0..12 {
        let schema = match (group + member) % 4 {
            0 => json!({"type": "string", "maxLength": 100 + group}),
            1 => json!({"type": "integer", "minimum": 0, "maximum": 1000 + group}),
            2 => json!({"$ref": "#/components/schemas/Money"}),
            _ => {
                json!({"type": "array", "maxItems": 20, "items": {"type": "string", "format": "date"}})
            }
        };
        properties.insert(format!("member{member}"), schema);
    }
    properties.insert("owner".to_owned(), json!({"$ref": "#/components/schemas/Owner"}));
    // Each group knows the next, so that one reference leads on to others.
    if group > 0 {
        let before = format!("#/components/schemas/Draft{}", group - 1);
        properties.insert("replaces".to_owned(), json!({"$ref": before}));
    }
    json!({"type": "object", "required": ["member0", "owner"], "properties": properties})
}

fn resource_schema(group: usize) -> Value {
    json!({"allOf": [
        {"$ref": format!("#/components/schemas/Draft{group}")},
        {
            "type": "object",
            "required": ["id", "created"],
            "properties": {
                "id": {"type": "integer", "format": "int64", "readOnly": true},
                "created": {"type": "string", "format": "date-time", "readOnly": true},
            },
        },
    ]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_operations_as_were_asked_for() {
        for operations in [0, 1, 2, 3, 5, 7, 1_000] {
            let document: Value = serde_json::from_str(&document(operations)).unwrap();
            let items = document["paths"].as_object().unwrap().values();
            let methods = items.flat_map(|item| item.as_object().unwrap().keys());
            let count = methods.filter(|name| *name != "parameters").count();
            assert_eq!(count, operations);
        }
    }

    #[test]
    fn every_reference_leads_to_something() {
        fn check(root: &Value, value: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(root.pointer(pointer).is_some(), "{reference}");
                    }
                    members.values().for_each(|value| check(root, value));
                }
                Value::Array(items) => items.iter().for_each(|value| check(root, value)),
                _ => {}
            }
        }
        let document: Value = serde_json::from_str(&document(333)).unwrap();
        check(&document, &document);
    }
}
