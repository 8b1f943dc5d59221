//! Documents that load, and documents that do not: each problem with its line and pointer.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::*;

/// A document whose one operation is `GET /things` with these fields added.
pub(crate) fn minimal(operation: Value) -> Value {
    let mut document = json!({
        "openapi": "3.0.3",
        "info": {"title": "t", "version": "1"},
        "paths": {"/things": {"get": {"responses": {"200": {"description": "ok"}}}}}
    });
    let Value::Object(fields) = operation else { panic!("fields of an operation") };
    let target = document.pointer_mut("/paths/~1things/get").unwrap().as_object_mut().unwrap();
    target.extend(fields);
    document
}

/// A file with this text, for as long as the value lives.
pub(crate) struct Temporary(pub(crate) PathBuf);

impl Temporary {
    pub(crate) fn new(text: &str, extension: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("firewall-contract-{}-{number}.{extension}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

pub(crate) fn load_value(
    document: &Value,
    unenforced: &[&str],
) -> Result<Loaded, Vec<ContractError>> {
    let unenforced = unenforced.iter().map(|kind| (*kind).to_owned()).collect();
    load_with(document, &LoadOptions { unenforced, ..LoadOptions::default() })
}

pub(crate) fn load_with(
    document: &Value,
    options: &LoadOptions,
) -> Result<Loaded, Vec<ContractError>> {
    let file = Temporary::new(&document.to_string(), "json");
    load(&file.0, options)
}

/// The contract of a document under this policy.
#[track_caller]
pub(super) fn loaded_under(document: &Value, policy: Policy) -> Contract {
    let file = Temporary::new(&document.to_string(), "json");
    match load(&file.0, &LoadOptions { policy, ..LoadOptions::default() }) {
        Ok(loaded) => loaded.contract,
        Err(errors) => panic!("{errors:#?}"),
    }
}

#[track_caller]
pub(crate) fn loaded(document: &Value) -> Contract {
    match load_value(document, &[]) {
        Ok(loaded) => loaded.contract,
        Err(errors) => panic!("{errors:#?}"),
    }
}

/// Pointer and message of each problem.
pub(super) fn problems(document: &Value) -> Vec<String> {
    let errors = load_value(document, &[]).err().unwrap_or_default();
    errors.iter().map(|error| format!("{} {}", error.pointer, error.problem)).collect()
}

#[test]
fn every_problem_is_told_with_file_line_and_pointer() {
    let yaml = "\
openapi: 3.0.3
info: {title: t, version: '1'}
security:
  - key: []
paths:
  /a/{id}:
    get:
      operationID: typo
      parameters:
        - name: id
          in: path
          schema: {type: string}
        - name: c
          in: cookie
          schema: {type: array, items: {type: string}}
      responses:
        200:
          description: ok
          content:
            application/json:
              schema:
                type: object
                patternProperties: {}
            text/csv: {}
  /a/{key}:
    get:
      parameters:
        - {name: key, in: path, required: true, schema: {$ref: '#/components/schemas/None'}}
      responses:
        '200': {description: ok}
components:
  schemas:
    A: {type: string, format: postcode, pattern: '('}
";
    let file = Temporary::new(yaml, "yaml");
    let errors = load(&file.0, &LoadOptions::default()).err().unwrap();
    let name = file.0.display();
    let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        "4: #/security/0/key: `key` is no security scheme of this document",
        "8: #/paths/~1a~1{id}/get/operationID: `operationID` is not a field that OpenAPI 3.0 defines here",
        "10: #/paths/~1a~1{id}/get/parameters/0: a path parameter must have `required: true`",
        "13: #/paths/~1a~1{id}/get/parameters/1: the cookie parameter `c`: a list or an object in a cookie needs `explode: false`: exploded, which is the default, its parts are joined by `&`, which no cookie can hold (from 3.2 on, `style: cookie` explodes into several cookies); accept that it is not enforced by naming `style:form` in `unenforced`",
        "23: #/paths/~1a~1{id}/get/responses/200/content/application~1json/schema/patternProperties: `keyword:patternProperties` is not enforced; accept that by naming it in `unenforced`",
        "24: #/paths/~1a~1{id}/get/responses/200/content/text~1csv: `media-type:text/csv` is not enforced; accept that by naming it in `unenforced`",
        "26: #/paths/~1a~1{key}/get: /a/{id} and /a/{key} match the same requests",
        "28: #/paths/~1a~1{key}/get/parameters/0/schema/$ref: the reference #/components/schemas/None leads to nothing",
        "33: #/components/schemas/A/format: `format:postcode` is not enforced; accept that by naming it in `unenforced`",
        "33: #/components/schemas/A/pattern: the pattern cannot be enforced: unclosed group",
    ];
    let expected: Vec<_> = expected.iter().map(|line| format!("{name}:{line}")).collect();
    let (mut told, mut expected) = (told, expected);
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    let json = serde_json::to_value(&errors[0]).unwrap();
    assert_eq!(json["line"], 4);
    assert_eq!(json["pointer"], "/security/0/key");
    assert_eq!(json["unenforced"], Value::Null);
    assert_eq!(json["file"], name.to_string());
}

#[test]
fn what_is_accepted_by_name_becomes_a_warning() {
    let mut document = minimal(json!({
        "security": [{"key": []}],
        "parameters": [{"name": "p", "in": "query", "style": "pipeDelimited", "schema": {"type": "string"}},
                       {"name": "n", "in": "query", "schema": {"type": "array", "items": {"type": "object"}}},
                       {"name": "x", "in": "query", "content": {"text/csv": {}}}],
    }));
    document["components"] =
        json!({"securitySchemes": {"key": {"type": "http", "scheme": "digest"}}});
    let kinds =
        ["security:digest", "nested-parameters", "style:pipeDelimited", "media-type:text/csv"];
    let loaded = load_value(&document, &kinds).ok().unwrap();
    let mut told: Vec<_> = loaded.warnings.iter().filter_map(|w| w.problem.unenforced()).collect();
    told.sort_unstable();
    let mut expected = kinds.to_vec();
    expected.sort_unstable();
    assert_eq!(told, expected);
    for missing in 0..kinds.len() {
        let named: Vec<_> =
            kinds.iter().enumerate().filter(|(i, _)| *i != missing).map(|(_, k)| *k).collect();
        let errors = load_value(&document, &named).err().unwrap();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0].problem.unenforced(), Some(kinds[missing]));
    }
    // No demand, no problem.
    document["paths"]["/things"]["get"] =
        json!({"security": [{}], "responses": {"200": {"description": "ok"}}});
    assert!(loaded_without_warnings(&document));
}

fn loaded_without_warnings(document: &Value) -> bool {
    load_value(document, &[]).is_ok_and(|loaded| loaded.warnings.is_empty())
}

#[test]
fn what_is_no_matter_of_enforcement_is_ignored() {
    let document = minimal(json!({
        "tags": ["t"], "summary": "s", "description": "d", "deprecated": true, "x-anything": {"schema": 1},
        "externalDocs": {"url": "https://example.org"},
        "callbacks": {"done": {"{$request.body#/url}": {"post": {"responses": {"200": {"description": "ok"}}}}}},
        "responses": {"200": {
            "description": "ok",
            "links": {"next": {"operationId": "other"}},
            "content": {"application/json": {
                "schema": {"type": "string", "example": 1, "x-y": 2, "xml": {"name": "n"}},
                "examples": {"a": {"value": {"schema": {"type": "nonsense"}}}},
            }},
        }},
    }));
    assert!(loaded_without_warnings(&document));
}

#[test]
fn versions() {
    for (version, accepted) in [
        (json!("3.0.0"), true),
        (json!("3.0.4"), true),
        (json!("3.1.0"), true),
        (json!("3.1.2"), true),
        (json!("3.2.0"), true),
        (json!("3.2.0-rc1"), true),
        (json!("3.3.0"), false),
        (json!("3.1"), false),
        (json!("3.1."), false),
        (json!("3.1.x"), false),
        (json!("2.0"), false),
        (json!("3.00.1"), false),
        (json!(3.0), false),
    ] {
        let mut document = minimal(json!({}));
        document["openapi"] = version.clone();
        let problems = problems(&document);
        assert_eq!(problems.is_empty(), accepted, "{version}: {problems:?}");
        if !accepted {
            assert_eq!(
                problems,
                [format!("/openapi `openapi` is {version}; supported: 3.0.x, 3.1.x, 3.2.x")]
            );
        }
    }
}

#[track_caller]
fn refused(document: &Value, expected: &str) {
    let problems = problems(document);
    assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
}

#[test]
fn broken_structures() {
    let things = "/paths/~1things/get";
    for (fields, expected) in [
        (json!({"responses": null}), "/responses expected an object, found null"),
        (json!({"responses": {"200": {}}}), "`description` is missing"),
        (json!({"responses": {"20": {"description": ""}}}), "`20` is no status"),
        (json!({"responses": {"600": {"description": ""}}}), "`600` is no status"),
        (json!({"responses": {"2xx": {"description": ""}}}), "`2xx` is no status"),
        (json!({"responses": {"200": {"$ref": "#/components/responses/R"}}}), "leads to nothing"),
        (json!({"responses": {"200": {"$ref": "other.yaml#/R"}}}), "other.yaml: cannot be read"),
        (json!({"responses": {"200": {"$ref": "https://example.org/R"}}}), "leads to another host"),
        (
            json!({"parameters": [{"name": "a", "in": "query"}]}),
            "the query parameter `a` has neither `schema` nor `content`",
        ),
        (json!({"parameters": [{"name": "a", "schema": {}}]}), "`in` is missing"),
        (
            json!({"parameters": [{"name": "a", "in": "body", "schema": {}}]}),
            "expected path, query, header or cookie",
        ),
        (
            json!({"parameters": [{"name": "a", "in": "path", "required": true, "schema": {}}]}),
            "has no expression {a}",
        ),
        (
            json!({"parameters": [{"name": "a", "in": "query", "schema": {}}, {"name": "a", "in": "query", "schema": {}}]}),
            "listed twice",
        ),
        (
            json!({"parameters": [{"name": "a", "in": "header", "schema": {}}, {"name": "A", "in": "header", "schema": {}}]}),
            "listed twice",
        ),
        (
            json!({"parameters": [{"name": "a b", "in": "header", "schema": {}}]}),
            "cannot name a header field",
        ),
        (
            json!({"parameters": [{"name": "a", "in": "query", "style": "simple", "schema": {}}]}),
            "the query parameter `a`: `style: simple` is not defined there",
        ),
        (
            json!({"parameters": [{"name": "a", "in": "query", "schema": {"type": "array", "items": {"type": "array", "items": {}}}}]}),
            "naming `nested-parameters`",
        ),
        (
            json!({"parameters": [{"name": "a", "in": "query", "schema": {"type": "object", "properties": {"q": {}}}}, {"name": "q", "in": "query", "schema": {}}]}),
            "share the name `q`",
        ),
        (json!({"servers": [{"url": "https://{host}/v1"}]}), "the variable {host} is not declared"),
        (json!({"servers": [{"url": "v1"}]}), "relative URL"),
        (json!({"servers": [{"url": "/v1?x=1"}]}), "no query"),
        (json!({"tags": "t"}), ""),
    ] {
        let document = minimal(fields.clone());
        let problems = problems(&document);
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{fields}: {problems:?}"
        );
        assert!(
            problems.iter().all(|p| p.starts_with(things) || p.starts_with(' ')),
            "{problems:?}"
        );
    }
}

#[test]
fn references_between_parts() {
    let document = json!({
        "openapi": "3.0.3",
        "info": {"title": "t", "version": "1"},
        "paths": {
            "/a~b/{id}": {"$ref": "#/components/x-items/I"},
            "/c/{id}": {"get": {
                "parameters": [{"$ref": "#/paths/~1a~0b~1%7Bid%7D/x-parameter"}, {"$ref": "#/components/parameters/Chain"}],
                "responses": {"200": {"$ref": "#/components/responses/R"}},
            }},
        },
        "components": {
            "x-items": {"I": {"parameters": [{"$ref": "#/components/parameters/Id"}], "get": {"responses": {"default": {"$ref": "#/components/responses/R"}}}}},
            "parameters": {
                "Id": {"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}},
                "Chain": {"$ref": "#/components/parameters/Id"},
            },
            "responses": {"R": {"description": "ok", "headers": {"X": {"$ref": "#/components/headers/X"}}}},
            "headers": {"X": {"schema": {"type": "integer"}}},
        },
    });
    let mut document = document;
    document["paths"]["/a~b/{id}"]["x-parameter"] =
        json!({"name": "q", "in": "query", "schema": {"$ref": "#/components/headers/X/schema"}});
    let contract = loaded(&document);
    assert_eq!(contract.operations().len(), 2);
    let route = |path| contract.route(&http::Method::GET, path, None).unwrap();
    for (path, query, accepted) in [
        ("/a~b/7", None, true),
        ("/a%7Eb/x", None, false),
        ("/c/7", Some("q=1"), true),
        ("/c/7", Some("q=x"), false),
        ("/c/x", None, false),
    ] {
        let matched = route(path);
        let checked = matched.operation.check_parameters(&matched, query, &http::HeaderMap::new());
        assert_eq!(checked.is_ok(), accepted, "{path} {query:?}");
    }
}

#[test]
fn reference_cycles_are_refused() {
    let mut document = minimal(json!({"responses": {"200": {"$ref": "#/components/responses/A"}}}));
    document["components"] = json!({
        "responses": {"A": {"$ref": "#/components/responses/B"}, "B": {"$ref": "#/components/responses/A"}},
        "schemas": {"S": {"$ref": "#/components/schemas/T"}, "T": {"$ref": "#/components/schemas/S"}},
    });
    let problems = problems(&document);
    for pointer in ["/components/responses/", "/components/schemas/"] {
        assert!(
            problems.iter().any(|p| p.starts_with(pointer) && p.ends_with("leads back to itself")),
            "{problems:?}"
        );
    }
}

#[test]
fn path_level_parameters_bind_and_are_overridden() {
    // openapi4j#116: the path item's list was forgotten.
    let mut document = minimal(
        json!({"parameters": [{"name": "b", "in": "query", "schema": {"type": "integer"}}]}),
    );
    document["paths"]["/things"]["parameters"] = json!([
        {"name": "a", "in": "query", "required": true, "schema": {"type": "integer"}},
        {"name": "b", "in": "query", "required": true, "schema": {"type": "boolean"}},
    ]);
    let contract = loaded(&document);
    let matched = contract.route(&http::Method::GET, "/things", None).unwrap();
    for (query, expected) in
        [("a=1", true), ("a=1&b=2", true), ("a=1&b=true", false), ("b=2", false), ("a=x", false)]
    {
        let checked =
            matched.operation.check_parameters(&matched, Some(query), &http::HeaderMap::new());
        assert_eq!(checked.is_ok(), expected, "{query}");
    }
}

#[test]
fn servers_give_base_paths_and_override_one_another() {
    let mut document = minimal(json!({}));
    document["servers"] =
        json!([{"url": "https://api.example.org/v1/"}, {"url": "/v2"}, {"url": "http://other/v1"}]);
    document["paths"]["/own"] = json!({
        "servers": [{"url": "https://files.example.org"}],
        "get": {"responses": {"200": {"description": "ok"}}},
        "post": {"servers": [{"url": "/upload/"}], "responses": {"200": {"description": "ok"}}},
    });
    let contract = loaded(&document);
    for (method, path, expected) in [
        ("GET", "/v1/things", true),
        ("GET", "/v2/things", true),
        ("GET", "/things", false),
        ("GET", "/v3/things", false),
        ("GET", "/own", true),
        ("GET", "/v1/own", false),
        ("POST", "/upload/own", true),
    ] {
        assert_eq!(
            contract.route(&method.parse().unwrap(), path, None).is_ok(),
            expected,
            "{method} {path}"
        );
    }
    // A base path that makes two paths one.
    document["paths"]["/v1/things"] =
        json!({"servers": [{"url": "/"}], "get": {"responses": {"200": {"description": "ok"}}}});
    refused(&document, "/things and /v1/things match the same requests");
}

#[test]
fn a_contract_without_operations_knows_no_path() {
    let mut document = minimal(json!({}));
    document["paths"] = json!({});
    let contract = loaded(&document);
    assert!(contract.operations().is_empty());
    let violation = contract.route(&http::Method::GET, "/", None).err().unwrap();
    assert_eq!(violation.rule, crate::violation::Rule::UnknownPath);
}

#[test]
fn the_typed_reading_has_a_say() {
    let mut document = minimal(json!({}));
    document["info"] = json!({"title": "t", "version": "1", "description": 5});
    let problems = problems(&document);
    let expected =
        " is not a valid OpenAPI 3.0 document: invalid type: integer `5`, expected a string";
    assert_eq!(problems, [expected]);
}

#[test]
fn broken_files_are_told_with_their_line() {
    for (text, extension, line) in [
        ("openapi: 3.0.3\npaths:\n  /a: {}\n  /a: {}\n", "yaml", Some(4)),
        ("{\n\"openapi\": \"3.0.3\",\n\"openapi\": \"3.0.3\"}", "json", Some(3)),
        ("openapi: [", "yml", None),
        ("", "json", None),
    ] {
        let file = Temporary::new(text, extension);
        let errors = load(&file.0, &LoadOptions::default()).err().unwrap();
        assert_eq!(errors.len(), 1);
        assert!(matches!(errors[0].problem, Problem::Syntax(_)), "{errors:?}");
        if line.is_some() {
            assert_eq!(errors[0].line, line, "{text}");
        }
    }
}
