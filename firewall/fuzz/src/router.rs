//! `router`: the operation that a path finds, and by a matcher that tries every template.

use std::sync::LazyLock;

use firewall::contract::Contract;
use firewall::violation::Rule;
use http::Method;
use serde_json::{Map, Value, json};

use super::{Target, specimen};

pub(crate) const TARGET: Target = Target { name: "router", run, seeds, words: WORDS };

/// In an order that would be wrong if order decided.
const TEMPLATES: [(&str, &str); 22] = [
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
    ("get", "/files/{id}"),
    ("get", "/files/{name}.{extension}"),
    ("put", "/files/{name}.json"),
    ("get", "/{owner}/{base}...{head}/x"),
    ("get", "/v{major}/x"),
    ("get", "/v{major}.{minor}/x"),
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
    template.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0))
}

fn run(data: &[u8]) {
    let Some((choice, path)) = data.split_first() else { return };
    let Ok(path) = std::str::from_utf8(path) else { return };
    let Some(method) = METHODS.get(usize::from(*choice) % METHODS.len()) else { return };
    let known = Method::from_bytes(method.as_bytes()).expect("a method");
    let found = CONTRACT.route(&known, path, None);
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

/// How much of a segment is literal: all of it, some of it, nothing; then by the literal before the
/// first expression, the one behind the last, and all of them.
type Rank = (u8, usize, usize, usize);

/// Every way to split a text among the expressions of a template's segment, the leftmost first.
fn splits(segment: &str, text: &str) -> Vec<Vec<String>> {
    let Some((literal, rest)) = segment.split_once('{') else {
        return if text == segment { vec![Vec::new()] } else { Vec::new() };
    };
    let Some(text) = text.strip_prefix(literal) else { return Vec::new() };
    let (_, behind) = rest.split_once('}').expect("a template's braces are closed");
    let ends = text.char_indices().skip(1).map(|(end, _)| end).chain([text.len()]);
    let mut found = Vec::new();
    for end in ends.filter(|end| *end > 0) {
        let (value, left) = text.split_at(end);
        for further in splits(behind, left) {
            found.push(std::iter::once(value.to_owned()).chain(further).collect());
        }
    }
    found
}

fn rank(segment: &str) -> Rank {
    let literals: Vec<&str> = segment
        .split('{')
        .enumerate()
        .map(
            |(index, part)| {
                if index == 0 { part } else { part.split_once('}').map_or("", |(_, rest)| rest) }
            },
        )
        .collect();
    match literals.as_slice() {
        [_] => (3, 0, 0, 0),
        [first, .., last] => {
            let all = literals.iter().map(|literal| literal.len()).sum();
            (if all == 0 { 1 } else { 2 }, first.len(), last.len(), all)
        }
        [] => (0, 0, 0, 0),
    }
}

/// What of a path matches a template.
struct Match {
    ranks: Vec<Rank>,
    values: Vec<String>,
    is_ambiguous: bool,
}

fn matches(template: &str, sent: &[String]) -> Option<Match> {
    let parts: Vec<String> =
        template.strip_prefix('/')?.split('/').map(decode).collect::<Option<_>>()?;
    if parts.len() != sent.len() {
        return None;
    }
    let mut found = Match { ranks: Vec::new(), values: Vec::new(), is_ambiguous: false };
    for (part, text) in parts.iter().zip(sent) {
        let splits = splits(part, text);
        found.values.extend_from_slice(splits.first()?);
        found.is_ambiguous |= splits.len() > 1;
        found.ranks.push(rank(part));
    }
    Some(found)
}

/// The operation and the values of its expressions, by trying each template.
fn naive(method: &str, path: &str) -> Result<(String, Vec<String>), Rule> {
    let sent = segments(path).ok_or(Rule::Path)?;
    let best = TEMPLATES
        .iter()
        .filter_map(|(_, template)| Some((matches(template, &sent)?, *template)))
        .max_by(|(one, _), (other, _)| one.ranks.cmp(&other.ranks));
    let (found, template) = best.ok_or(Rule::UnknownPath)?;
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
    if found.is_ambiguous {
        return Err(Rule::Segment);
    }
    Ok((format!("{} {template}", declared.to_ascii_lowercase()), found.values))
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

const PATHS: [&str; 22] = [
    "/files/a.b",
    "/files/a.b.c",
    "/files/.json",
    "/files/a.json",
    "/o/a...b/x",
    "/v1.2/x",
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
