//! `router`: the operation that a path finds, and by a matcher that tries every template.

use std::sync::LazyLock;

use firewall::contract::Contract;
use firewall::violation::Rule;
use http::Method;
use serde_json::{Map, Value, json};

use super::{Target, specimen};

pub(crate) const TARGET: Target = Target { name: "router", run, seeds, words: WORDS };

/// In an order that would be wrong if order decided.
const TEMPLATES: [(&str, &str); 16] = [
    ("get", "/{entity}/{id}"),
    ("delete", "/{entity}/me"),
    ("get", "/books/{id}"),
    ("post", "/books/{id}"),
    ("get", "/books/mine"),
    ("put", "/a/{x}/c"),
    ("get", "/a/{x}/{y}"),
    ("get", "/a/b/{y}"),
    ("patch", "/a/b/c"),
    ("get", "/{x}/b/c"),
    ("get", "/{x}/{y}/{z}/{w}"),
    ("head", "/a/b/c/d"),
    ("get", "/dots.v1"),
    ("get", "/caf%C3%A9"),
    ("get", "/with/slash/"),
    ("options", "/"),
];

const METHODS: [&str; 9] =
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "QUERY"];

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    let mut paths = Map::new();
    for (method, template) in TEMPLATES {
        let parameters: Vec<Value> = names(template)
            .map(|name| {
                json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
            })
            .collect();
        let item = paths.entry(template).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(
                method.to_owned(),
                json!({
                    "operationId": format!("{method} {template}"),
                    "parameters": parameters,
                    "responses": {"200": {"description": "d"}},
                }),
            );
        }
    }
    let info = json!({"title": "t", "version": "v"});
    specimen::contract(&json!({"openapi": "3.0.3", "info": info, "paths": paths}).to_string())
});

fn names(template: &str) -> impl Iterator<Item = &str> {
    template.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn run(data: &[u8]) {
    let Some((choice, path)) = data.split_first() else { return };
    let Ok(path) = std::str::from_utf8(path) else { return };
    let Some(method) = METHODS.get(usize::from(*choice) % METHODS.len()) else { return };
    let known = Method::from_bytes(method.as_bytes()).expect("a method");
    let found = CONTRACT.route(&known, path);
    let expected = naive(method, path);
    match (&found, &expected) {
        (Ok(matched), Ok((id, values))) => {
            assert_eq!(matched.operation.id(), id, "{method} {path}");
            let found: Vec<String> = (0..values.len())
                .map(|index| {
                    let value = matched.value(index).expect("every expression has a value");
                    decode(value).expect("what is forwarded is well encoded")
                })
                .collect();
            assert_eq!(&found, values, "{method} {path}");
            assert_eq!(matched.value(values.len()), None, "{method} {path}");
            // What is forwarded means what was sent.
            assert_eq!(segments(&matched.path), segments(path), "{method} {path}");
        }
        (Err(violation), Err(rule)) => assert_eq!(violation.rule, *rule, "{method} {path}"),
        _ => panic!("{method} {path}: found {found:?}, expected {expected:?}"),
    }
}

/// The decoded segments; none where a path can be read in two ways.
fn segments(path: &str) -> Option<Vec<String>> {
    const PLAIN: &str = "-._~!$&'()*+,;=:@%";
    let rest = path.strip_prefix('/')?;
    let mut decoded = Vec::new();
    for segment in rest.split('/') {
        if segment.contains(|c: char| !c.is_ascii_alphanumeric() && !PLAIN.contains(c)) {
            return None;
        }
        let text = decode(segment)?;
        let is_hostile = |c: char| c == '/' || c == '\\' || c.is_control();
        if text == "." || text == ".." || text.contains(is_hostile) {
            return None;
        }
        decoded.push(text);
    }
    let is_gap = |segments: &[String]| segments.iter().any(String::is_empty);
    let (_, before) = decoded.split_last()?;
    if is_gap(before) { None } else { Some(decoded) }
}

fn decode(text: &str) -> Option<String> {
    let mut octets = Vec::new();
    let mut characters = text.bytes();
    while let Some(octet) = characters.next() {
        if octet == b'%' {
            let digits = [characters.next()?, characters.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            // `from_str_radix` would take a sign.
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            octets.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            octets.push(octet);
        }
    }
    String::from_utf8(octets).ok()
}

/// The operation and the values of its expressions, by trying each template.
fn naive(method: &str, path: &str) -> Result<(String, Vec<String>), Rule> {
    let sent = segments(path).ok_or(Rule::Path)?;
    let matches = |template: &str| -> Option<(Vec<bool>, Vec<String>)> {
        let parts: Vec<&str> = template.strip_prefix('/')?.split('/').collect();
        if parts.len() != sent.len() {
            return None;
        }
        let mut literals = Vec::new();
        let mut values = Vec::new();
        for (part, text) in parts.iter().zip(&sent) {
            let is_literal = !part.starts_with('{');
            if is_literal && decode(part)? != *text || !is_literal && text.is_empty() {
                return None;
            }
            literals.push(is_literal);
            if !is_literal {
                values.push(text.clone());
            }
        }
        Some((literals, values))
    };
    let best = TEMPLATES
        .iter()
        .filter_map(|(_, template)| Some((matches(template)?, *template)))
        .max_by(|((one, _), _), ((other, _), _)| one.cmp(other));
    let ((_, values), template) = best.ok_or(Rule::UnknownPath)?;
    let has = |wanted: &str| {
        TEMPLATES
            .iter()
            .any(|(method, known)| *known == template && method.eq_ignore_ascii_case(wanted))
    };
    let declared = if has(method) {
        method
    } else if method == "HEAD" && has("GET") {
        "GET"
    } else {
        return Err(Rule::Method);
    };
    Ok((format!("{} {template}", declared.to_ascii_lowercase()), values))
}

fn seeds() -> Vec<Vec<u8>> {
    let paths = TEMPLATES.iter().map(|(_, template)| template.replace(['{', '}'], ""));
    let more = PATHS.iter().map(|path| (*path).to_owned());
    let methods = (0_u8..).step_by(2);
    paths
        .chain(more)
        .zip(methods)
        .map(|(path, method)| std::iter::once(method).chain(path.into_bytes()).collect())
        .collect()
}

const PATHS: [&str; 16] = [
    "/books/me",
    "/a/b/c",
    "/a/b/c/",
    "//",
    "/a//c",
    "/a/%2e%2e/c",
    "/a/./c",
    "/a/%2F/c",
    "/a/%5c/c",
    "/books/%6dine",
    "/caf%c3%a9",
    "/caf%C0%A9",
    "/books/%",
    "/books/;v=1",
    "*",
    "/a/b/%00",
];

const WORDS: &[&str] = &[
    "/",
    "%2F",
    "%2e",
    "%",
    "%25",
    "%C3%A9",
    "books",
    "mine",
    "me",
    "a/b/c",
    "..",
    ";",
    "caf%C3%A9",
    "with/slash/",
    "dots.v1",
    "%6D",
];
