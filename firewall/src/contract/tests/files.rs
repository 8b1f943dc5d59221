//! Contracts made of several files, and references that lead out of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use super::super::*;
use super::documents::minimal;
use super::told;

/// A directory with these files, for as long as the value lives.
struct Directory(PathBuf);

impl Directory {
    fn new(files: &[(&str, String)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("firewall-files-{}-{number}", std::process::id());
        let directory = Self(std::env::temp_dir().join(name));
        for (name, text) in files {
            let path = directory.0.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        directory
    }

    fn load(&self, references: &[(&str, &str)]) -> Result<Loaded, Vec<ContractError>> {
        let references = references
            .iter()
            .map(|(prefix, name)| ((*prefix).to_owned(), self.0.join(name)))
            .collect::<BTreeMap<_, _>>();
        let path = self.0.join("api/openapi.json");
        load(&path, &LoadOptions { references, ..LoadOptions::default() })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A document whose one request body is what `reference` leads to.
fn entry(version: &str, reference: &str) -> String {
    let mut document = minimal(json!({}));
    document["openapi"] = version.into();
    document["paths"]["/things"] = json!({"post": {
        "requestBody": {"content": {"application/json": {"schema": {"$ref": reference}}}},
        "responses": {"200": {"description": "ok"}},
    }});
    document.to_string()
}

fn verdict(loaded: &Loaded, body: &str) -> String {
    let rule = loaded.contract.operations()[0].body().unwrap();
    let json = http::HeaderValue::from_static("application/json");
    let result = rule.content(Some(&json)).unwrap().check(body.as_bytes());
    result.map_or_else(|violation| told(&violation), |()| "ok".to_owned())
}

#[test]
fn references_lead_from_file_to_file_and_back() {
    for version in ["3.0.3", "3.1.0"] {
        let directory = Directory::new(&[
            ("api/openapi.json", entry(version, "schemas/order.yaml#/Order")),
            (
                "api/schemas/order.yaml",
                "Order:\n  type: object\n  properties:\n    lines: {type: array, items: {$ref: 'line%20items.json'}}\n    parent: {$ref: '#/Order'}\n    back: {$ref: '../openapi.json#/paths/~1things/post/requestBody/content/application~1json/schema'}\n".to_owned(),
            ),
            ("api/schemas/line items.json", r#"{"type": "integer", "minimum": 1}"#.to_owned()),
        ]);
        let loaded = directory.load(&[]).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert_eq!(loaded.files.len(), 3, "{:?}", loaded.files);
        for (body, expected) in [
            (r#"{"lines":[1]}"#, "ok"),
            (r#"{"lines":[0]}"#, "body.schema body:/lines/0 minimum"),
            (r#"{"parent":{"lines":[0]}}"#, "body.schema body:/parent/lines/0 minimum"),
            (r#"{"back":{"back":{"lines":[0]}}}"#, "body.schema body:/back/back/lines/0 minimum"),
        ] {
            assert_eq!(verdict(&loaded, body), expected, "{version} {body}");
        }
    }
}

#[test]
fn the_digest_changes_with_every_file() {
    let files = |minimum: u32| {
        [
            ("api/openapi.json", entry("3.1.0", "a.json")),
            ("api/a.json", json!({"minimum": minimum}).to_string()),
        ]
    };
    let digest = |minimum| Directory::new(&files(minimum)).load(&[]).unwrap().digest;
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}

#[test]
fn nothing_is_fetched_and_a_directory_may_stand_for_a_prefix() {
    let directory = Directory::new(&[
        ("api/openapi.json", entry("3.1.0", "https://example.com/schemas/v1/a.json#/$defs/a")),
        ("pinned/v1/a.json", r#"{"$defs": {"a": {"$ref": "b.json"}}}"#.to_owned()),
        (
            "pinned/v1/b.json",
            r#"{"$id": "https://example.com/schemas/v1/b.json", "type": "integer"}"#.to_owned(),
        ),
    ]);
    let errors = directory.load(&[]).err().unwrap();
    let [error] = &*errors else { panic!("{errors:#?}") };
    assert!(error.to_string().contains("leads to another host"), "{error}");
    let loaded = directory.load(&[("https://example.com/schemas/", "pinned")]).unwrap();
    assert_eq!(verdict(&loaded, "1"), "ok");
    assert_eq!(verdict(&loaded, "\"\""), "body.schema body: type");
}

#[test]
fn references_cannot_leave_the_directory() {
    let secret = ("secret.json", r#"{"type": "integer"}"#.to_owned());
    for (reference, part) in [
        ("../secret.json", "which is not below"),
        ("v1/../../secret.json", "which is not below"),
        ("%2e%2e/secret.json", "which is not below"),
        ("absent.json", "absent.json: cannot be read"),
        ("openapi.json#/none", "leads to nothing"),
        ("broken.json", "not JSON"),
        ("openapi.json#a%zz", "leads to nothing"),
        ("http://[::1", "leads to nothing"),
        ("file:///proc/self/environ", "which is not below"),
    ] {
        let directory = Directory::new(&[
            ("api/openapi.json", entry("3.1.0", reference)),
            ("api/v1/x.json", "{}".to_owned()),
            ("api/broken.json", "{".to_owned()),
            secret.clone(),
        ]);
        let errors = directory.load(&[]).err().unwrap_or_else(|| panic!("{reference} is followed"));
        let [error] = &*errors else { panic!("{reference}: {errors:#?}") };
        assert!(error.to_string().contains(part), "{reference}: {error}");
    }
    let directory = Directory::new(&[("api/openapi.json", entry("3.1.0", "link.json")), secret]);
    std::os::unix::fs::symlink("../secret.json", directory.0.join("api/link.json")).unwrap();
    let errors = directory.load(&[]).err().unwrap();
    assert!(errors[0].to_string().contains("which is not below"), "{errors:#?}");
}

#[test]
fn problems_stand_in_the_file_that_has_them() {
    let directory = Directory::new(&[
        ("api/openapi.json", entry("3.1.0", "a.yaml#/A")),
        (
            "api/a.yaml",
            "A:\n  type: object\n  properties:\n    b:\n      maxLenght: 1\n".to_owned(),
        ),
    ]);
    let errors = directory.load(&[]).err().unwrap();
    let [error] = &*errors else { panic!("{errors:#?}") };
    assert!(error.file.ends_with("api/a.yaml"), "{error}");
    assert_eq!((error.line, &*error.pointer), (Some(5), "/A/properties/b/maxLenght"));
}

#[test]
fn parts_of_every_kind_may_stand_in_other_files() {
    let mut document = minimal(json!({}));
    document["paths"]["/things"] = json!({"$ref": "things.yaml#/item"});
    let directory = Directory::new(&[
        ("api/openapi.json", document.to_string()),
        (
            "api/things.yaml",
            "item:\n  parameters: [{$ref: '#/limit'}]\n  get:\n    responses: {'200': {$ref: 'more/ok.yaml'}}\nlimit: {name: limit, in: query, schema: {$ref: 'more/ok.yaml#/x-limit'}}\n".to_owned(),
        ),
        ("api/more/ok.yaml", "description: ok\nx-limit: {type: integer, maximum: 9}\n".to_owned()),
    ]);
    let loaded = directory.load(&[]).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let judge = |query| {
        let matched = loaded.contract.route(&http::Method::GET, "/things", None).unwrap();
        let headers = http::HeaderMap::new();
        matched.operation.check_parameters(&matched, Some(query), &headers).map_err(|v| told(&v))
    };
    assert_eq!(judge("limit=9"), Ok(Some("limit=9".to_owned())));
    assert_eq!(judge("limit=10"), Err("parameter.schema query:limit maximum".to_owned()));
}

/// 3.2: `$self` is the base of references, whatever the file's own place.
#[test]
fn a_document_may_name_itself() {
    let mut document: serde_json::Value =
        serde_json::from_str(&entry("3.2.0", "https://example.com/api#/components/schemas/A"))
            .unwrap();
    document["$self"] = "https://example.com/api".into();
    document["components"] = json!({"schemas": {"A": {"type": "integer"}}});
    let directory = Directory::new(&[("api/openapi.json", document.to_string())]);
    let loaded = directory.load(&[]).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert_eq!(verdict(&loaded, "\"\""), "body.schema body: type");
    document["openapi"] = "3.1.0".into();
    let directory = Directory::new(&[("api/openapi.json", document.to_string())]);
    assert!(directory.load(&[]).is_err(), "3.1 has no $self");
}

/// What a reference leads to is a schema, also where data is expected: it was once passed over, and
/// its `readOnly` members with it.
#[test]
fn schemas_in_places_of_data_are_read_as_schemas() {
    let schema = json!({"type": "object", "properties": {
        "id": {"type": "integer", "readOnly": true},
        "next": {"$ref": "#/x-s/B"}, "far": {"$ref": "far.json#/default"}
    }});
    let other = json!({"properties": {"id": {"type": "integer", "readOnly": true}}});
    for reference in
        ["#/x-s/A", "#/components/examples/a/value", "other.json#/value", "#/x-s/enum/0"]
    {
        let mut document: serde_json::Value =
            serde_json::from_str(&entry("3.1.0", reference)).unwrap();
        document["x-s"] = json!({"A": schema, "B": other, "enum": [schema]});
        document["components"] = json!({"examples": {"a": {"value": schema}}});
        let directory = Directory::new(&[
            ("api/openapi.json", document.to_string()),
            ("api/other.json", json!({"value": schema, "x-s": {"B": other}}).to_string()),
            ("api/far.json", json!({"default": other}).to_string()),
        ]);
        let loaded =
            directory.load(&[]).unwrap_or_else(|errors| panic!("{reference}: {errors:#?}"));
        for (body, place) in [
            (r#"{"id":1}"#, "/id"),
            (r#"{"next":{"id":1}}"#, "/next/id"),
            (r#"{"far":{"id":1}}"#, "/far/id"),
        ] {
            let expected = format!("body.schema body:{place} readOnly");
            assert_eq!(verdict(&loaded, body), expected, "{reference}");
        }
        assert_eq!(verdict(&loaded, "{}"), "ok");
    }
}

/// A place that holds data as a rule is one that a reference may lead to all the same.
#[test]
fn directions_are_seen_wherever_a_reference_leads() {
    let schemas = json!({
        "x-schemas": {"A": {"properties": {"id": {"readOnly": true}}}},
        "default": {"allOf": [{"$ref": "#/x-schemas/A"}]},
        "value": [{"properties": {"a": {"$ref": "#/default"}}}],
    });
    for version in ["3.0.3", "3.1.0"] {
        for (pointer, body, place) in [
            ("/x-schemas/A", r#"{"id":1}"#, "/id"),
            ("/default", r#"{"id":1}"#, "/id"),
            ("/value/0", r#"{"a":{"id":1}}"#, "/a/id"),
        ] {
            let directory = Directory::new(&[
                ("api/openapi.json", entry(version, &format!("schemas.json#{pointer}"))),
                ("api/schemas.json", schemas.to_string()),
            ]);
            let loaded = directory.load(&[]).unwrap_or_else(|errors| panic!("{errors:#?}"));
            let expected = format!("body.schema body:{place} readOnly");
            assert_eq!(verdict(&loaded, body), expected, "{version} {pointer}");
        }
    }
}

/// A file must not stand for another by claiming its name before that is read.
#[test]
fn a_file_cannot_claim_the_name_of_another() {
    let strict = r#"{"type": "integer"}"#;
    let entry = |second: &str| {
        let mut document = minimal(json!({}));
        document["openapi"] = "3.1.0".into();
        let schema = json!({"allOf": [{"$ref": "first.json"}, {"$ref": second}]});
        document["paths"]["/things"] = json!({"post": {
            "requestBody": {"content": {"application/json": {"schema": schema}}},
            "responses": {"200": {"description": "ok"}},
        }});
        document.to_string()
    };
    let claim = |id: &str| json!({"$id": id}).to_string();
    let embedded = |id: &str| json!({"$defs": {"a": {"$id": id}}}).to_string();
    for (first, second, is_taken) in [
        (claim("second.json"), "second.json", false),
        (embedded("second.json"), "second.json", false),
        (claim("openapi.json"), "second.json", false),
        (claim("first.json"), "second.json", true),
        // Nobody else has that name.
        (claim("third.json"), "third.json", true),
        (claim("https://schemas.example/third"), "https://schemas.example/third", true),
    ] {
        let directory = Directory::new(&[
            ("api/openapi.json", entry(second)),
            ("api/first.json", first.clone()),
            ("api/second.json", strict.to_owned()),
        ]);
        let loaded = directory.load(&[]);
        assert_eq!(loaded.is_ok(), is_taken, "{first} {second}: {:?}", loaded.err());
    }
}

#[test]
fn files_of_other_hosts_and_of_prefixes_that_end_within_a_name_are_not_here() {
    let directory = Directory::new(&[
        ("api/openapi.json", String::new()),
        ("api/schema.json", r#"{"type": "integer"}"#.to_owned()),
        ("pinned/schema.json", r#"{"type": "integer"}"#.to_owned()),
        ("pinned/.evil/schema.json", r#"{"type": "integer"}"#.to_owned()),
    ]);
    let path = directory.0.canonicalize().unwrap().join("api/schema.json");
    let path = path.to_str().unwrap();
    for (reference, is_here) in [
        (format!("file://{path}"), true),
        (format!("file://localhost{path}"), true),
        (format!("FILE://{path}"), true),
        (format!("file://elsewhere{path}"), false),
        ("https://schemas.example/schema.json".to_owned(), true),
        ("HTTPS://SCHEMAS.example/schema.json".to_owned(), true),
        ("https://schemas.example.evil/schema.json".to_owned(), false),
        ("https://schemas.example@evil/schema.json".to_owned(), false),
        ("https://schemas.example/..%2f..%2fapi/schema.json".to_owned(), false),
    ] {
        std::fs::write(directory.0.join("api/openapi.json"), entry("3.0.3", &reference)).unwrap();
        let loaded = directory.load(&[("https://schemas.example", "pinned")]);
        assert_eq!(loaded.is_ok(), is_here, "{reference}: {:?}", loaded.err());
    }
}

#[test]
fn what_is_no_file_is_not_opened() {
    let directory = Directory::new(&[("api/openapi.json", entry("3.0.3", "pipe.json"))]);
    let pipe = directory.0.join("api/pipe.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let errors = directory.load(&[]).err().unwrap();
    assert!(errors[0].problem.to_string().contains("it is no file"), "{errors:?}");
}
