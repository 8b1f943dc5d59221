//! Encode, decode, equal: every style, exploded or not, in every place, over values with delimiters,
//! escapes and nothing in them. The encoder is written from RFC 6570 and the table of the
//! specification, not from the decoder.

use std::fmt::Write;
use std::sync::Arc;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};

use super::super::super::super::LoadOptions;
use super::super::super::super::cookie::CookieRules;
use super::super::super::super::header::check_field;
use super::super::super::super::parameter::{Fault, ParameterRule};
use super::super::super::super::policy::{Policy, Verdict};
use super::super::super::super::query::QueryRules;
use super::super::super::super::schema::{Patterns, Schema, SchemaSet, Vocabulary};
use super::super::super::Version;

/// How a value's parts are written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Escape {
    /// All but the unreserved characters.
    Reserved,
    /// Every octet, in lower case.
    All,
    /// As `Reserved`, and a space as a plus sign.
    Form,
    /// Nothing: fields and cookies.
    Nothing,
}

impl Escape {
    fn write(self, text: &str) -> String {
        let mut out = String::new();
        for octet in text.bytes() {
            let is_unreserved = octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
            match self {
                Self::Nothing => return text.to_owned(),
                Self::Form if octet == b' ' => out.push('+'),
                Self::All => write!(out, "%{octet:02x}").unwrap(),
                _ if is_unreserved => out.push(octet.into()),
                _ => write!(out, "%{octet:02X}").unwrap(),
            }
        }
        out
    }
}

/// One column of the table.
#[derive(Clone, Copy, Debug)]
struct Cell {
    location: &'static str,
    style: &'static str,
    explode: bool,
    escape: Escape,
}

/// A scalar as a text.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Cell {
    /// What stands between parts of one text, and cannot stand in a part.
    fn delimiter(self) -> &'static str {
        match (self.style, self.explode) {
            ("label", true) => ".",
            ("matrix", true) => ";",
            ("spaceDelimited", _) => "%20",
            ("pipeDelimited", _) => "%7C",
            _ => ",",
        }
    }

    /// Whether the style has no way to write such a part of a list or an object: its delimiter is not
    /// escaped, or is written like its escape.
    fn is_beyond(self, part: &str, is_name: bool, is_listed: bool) -> bool {
        let raw = self.escape == Escape::Nothing;
        let is_field = self.location == "header";
        let edges = part.trim_matches([' ', '\t']) != part;
        match self.style {
            "label" if self.explode && is_listed => {
                part.contains('.') && self.escape != Escape::All
            }
            "spaceDelimited" => part.contains(' '),
            "pipeDelimited" => part.contains('|'),
            "deepObject" => is_name && (part.is_empty() || part.contains(['[', ']'])),
            _ if is_field => {
                edges || is_listed && part.contains(',') || is_name && part.contains('=')
            }
            "cookie" => {
                let is_plain = part.bytes().all(|o| o.is_ascii_graphic() && !b"\"\\;".contains(&o));
                let splits = is_listed && !self.explode && part.contains(',');
                !is_plain
                    || splits
                    || is_name && (part.is_empty() || part.contains('=') || part.contains(','))
            }
            _ => raw && part.contains(';'),
        }
    }

    /// The request's text; none where the style cannot write the value.
    fn encode(self, value: &Value) -> Option<String> {
        let write = |text: &str| self.escape.write(text);
        let named = |name: &str, value: &str| match (self.style, value) {
            // RFC 6570 section 3.2.7: the only operator without an equals sign there.
            ("matrix", "") => name.to_owned(),
            _ => format!("{name}={value}"),
        };
        let is_pairs = matches!(self.location, "query" | "cookie");
        let (prefix, own_name) = match self.style {
            "label" => (".", false),
            "matrix" => (";", true),
            _ => ("", is_pairs),
        };
        let whole = |text: &str| {
            let text = if own_name { named("p", text) } else { text.to_owned() };
            format!("{prefix}{text}")
        };
        let between = match (self.location, self.style) {
            ("query", _) => "&",
            ("cookie", _) => "; ",
            _ => self.delimiter(),
        };
        match value {
            Value::Array(items) => {
                let parts: Vec<_> = items.iter().map(text).collect();
                if parts.is_empty() || parts.iter().any(|part| self.is_beyond(part, false, true)) {
                    return None;
                }
                let parts: Vec<_> = parts.iter().map(|part| write(part)).collect();
                if self.explode && own_name {
                    let each: Vec<_> = parts.iter().map(|part| named("p", part)).collect();
                    return Some(format!("{prefix}{}", each.join(between)));
                }
                Some(whole(&parts.join(self.delimiter())))
            }
            Value::Object(members) => {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| (&**name, text(value))).collect();
                let is_beyond = |(name, value): &(&str, String)| {
                    self.is_beyond(name, true, true) || self.is_beyond(value, false, true)
                };
                if members.is_empty() || members.iter().any(is_beyond) {
                    return None;
                }
                let members: Vec<_> =
                    members.iter().map(|(name, value)| (write(name), write(value))).collect();
                if self.style == "deepObject" {
                    let (open, close) =
                        if self.escape == Escape::All { ("%5b", "%5D") } else { ("[", "]") };
                    let each = members.iter().map(|(n, v)| format!("p{open}{n}{close}={v}"));
                    return Some(each.collect::<Vec<_>>().join("&"));
                }
                if self.explode {
                    let each = members.iter().map(|(n, v)| named(n, v)).collect::<Vec<_>>();
                    return Some(format!("{prefix}{}", each.join(between)));
                }
                let flat: Vec<_> = members.into_iter().flat_map(|(n, v)| [n, v]).collect();
                Some(whole(&flat.join(self.delimiter())))
            }
            scalar => {
                let text = text(scalar);
                (!self.is_beyond(&text, false, false)).then(|| whole(&write(&text)))
            }
        }
    }

    fn check(self, rule: ParameterRule, sent: &str) -> Result<(), String> {
        let told = |fault: Fault| format!("{fault:?}");
        let name = http::HeaderName::from_static("p");
        let mut headers = HeaderMap::new();
        match self.location {
            "path" => rule.check(sent).map_err(told),
            "query" => {
                let mut rules = QueryRules::new(Verdict::Refuse);
                rules.push(rule).unwrap();
                let forwarded = rules.check(Some(sent)).map_err(|v| format!("{v:?}"))?;
                // One spelling: what is forwarded is checked in the same way, and forwarded as it is.
                let again = rules.check(forwarded.as_deref()).map_err(|v| format!("{v:?}"))?;
                assert_eq!(again, forwarded, "{sent}");
                Ok(())
            }
            "header" => {
                headers.insert(&name, HeaderValue::from_bytes(sent.as_bytes()).unwrap());
                check_field(&name, &rule, &headers).map_err(told)
            }
            _ => {
                headers.insert(COOKIE, HeaderValue::from_bytes(sent.as_bytes()).unwrap());
                let mut rules = CookieRules::new(Verdict::Refuse);
                rules.push(rule).unwrap();
                rules.check(&headers).map_err(|violation| format!("{violation:?}"))
            }
        }
    }
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (location, style, escapes) in [
        ("path", "simple", &[Escape::Reserved, Escape::All][..]),
        ("path", "label", &[Escape::Reserved, Escape::All]),
        ("path", "matrix", &[Escape::Reserved, Escape::All]),
        ("query", "form", &[Escape::Reserved, Escape::All, Escape::Form]),
        ("query", "spaceDelimited", &[Escape::Reserved, Escape::All]),
        ("query", "pipeDelimited", &[Escape::Reserved, Escape::All, Escape::Form]),
        ("query", "deepObject", &[Escape::Reserved, Escape::All, Escape::Form]),
        ("header", "simple", &[Escape::Nothing]),
        ("cookie", "form", &[Escape::Reserved, Escape::All]),
        ("cookie", "cookie", &[Escape::Nothing]),
    ] {
        for explode in [false, true] {
            cells.extend(escapes.iter().map(|escape| Cell {
                location,
                style,
                explode,
                escape: *escape,
            }));
        }
    }
    cells
}

/// With every delimiter and escape, with what only looks like a number or like nothing.
const TEXTS: [&str; 24] = [
    "blue", "", "a,b", "a b", "a+b", "a%20b", "a%2Cb", "100%", "a&b", "a=b", "a;b", "a.b", "a|b",
    ".", "é😀", "/x?y#z", "[k]", "a\"b", "a\\b", "'", "1", "true", "null", "-",
];

fn scalars() -> Vec<(Value, Vec<Value>)> {
    vec![
        (json!({"type": "string"}), TEXTS.map(|text| json!(text)).to_vec()),
        (json!({"type": "integer"}), vec![json!(0), json!(-7), json!(u64::MAX), json!(i64::MIN)]),
        (json!({"type": "number"}), vec![json!(1), json!(-1.5), json!(0.1), json!(1e300)]),
        (json!({"type": "boolean"}), vec![json!(true), json!(false)]),
    ]
}

/// Schemas, and values of each.
fn values() -> Vec<(Value, Vec<Value>)> {
    let mut all = scalars();
    for (schema, values) in scalars() {
        let mut lists: Vec<_> = values.iter().map(|value| json!([value])).collect();
        lists.extend(values.windows(2).map(|pair| json!(pair)));
        lists.extend([json!([]), json!(values)]);
        all.push((json!({"type": "array", "items": schema}), lists));
        let names = ["R", "G", "a b", "a,b", "a=b", "a.b", "a;b", "a|b", "a[b]", "é", "%41", ""];
        // Odd names are the same to all types.
        let count = if schema["type"] == "string" { names.len() } else { 1 };
        for (index, name) in names.iter().enumerate().take(count) {
            let mut schemas = Map::new();
            schemas.insert((*name).to_owned(), schema.clone());
            schemas.insert("second".to_owned(), schema.clone());
            let objects = values.iter().enumerate().map(|(place, value)| {
                let second = &values[(place + index) % values.len()];
                json!({*name: value, "second": second})
            });
            let mut objects: Vec<_> = objects.collect();
            objects.push(json!({}));
            all.push((json!({"type": "object", "properties": schemas}), objects));
        }
    }
    all
}

/// For each value a schema that it alone matches.
fn only(values: &[Value]) -> Vec<Arc<Schema>> {
    let each = values.iter().enumerate();
    let each: Map<_, _> = each.map(|(i, value)| (i.to_string(), json!({"const": value}))).collect();
    let set = Arc::new(SchemaSet::default());
    let whole = json!({"properties": each});
    set.build(&whole, Vocabulary::default(), &Patterns::new(), &LoadOptions::default()).unwrap();
    (0..values.len()).map(|key| Arc::new(Schema::new(Arc::clone(&set), key))).collect()
}

#[test]
fn what_is_encoded_is_decoded_to_the_same_value() {
    let mut checked = 0;
    for (schema, values) in values() {
        let schemas = only(&values);
        for cell in cells() {
            let fields = json!({"style": cell.style, "explode": cell.explode, "required": true, "schema": schema});
            let rule = super::rule(Version::V3_2, Policy::default(), cell.location, &fields);
            let Ok(rule) = rule else { continue };
            for (index, value) in values.iter().enumerate() {
                let Some(sent) = cell.encode(value) else { continue };
                let of = |index: usize| {
                    let schema = Some(Arc::clone(&schemas[index % values.len()]));
                    ParameterRule { schema, ..rule.clone() }
                };
                let found = cell.check(of(index), &sent);
                assert_eq!(found, Ok(()), "{cell:?} {schema} {value} as {sent}");
                let other = cell.check(of(index + 1), &sent);
                assert!(other.is_err(), "{cell:?} {schema} {value} as {sent}");
                checked += 1;
            }
        }
    }
    assert!(checked > 8_000, "only {checked} values were encoded");
}
