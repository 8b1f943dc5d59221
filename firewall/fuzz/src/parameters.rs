//! `parameters`: whether a parameter's text is what its style and schema demand, and by a reader
//! that makes a value of it, written from the table of the specification.

use std::sync::LazyLock;

use firewall::contract::Contract;
use http::{HeaderMap, HeaderValue, Method};
use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

use super::{Target, specimen};

pub(crate) const TARGET: Target = Target { name: "parameters", run, seeds, words: WORDS };

/// The name of every parameter.
const NAME: &str = "p";

/// Each part has one type, so that a text has one reading at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Integer,
    Text,
    Truth,
    Integers,
    Texts,
    /// `R`, an integer, and `G`, a text.
    Members,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Path,
    Query,
    Header,
}

struct Case {
    place: Place,
    style: &'static str,
    explode: bool,
    kind: Kind,
}

const fn case(place: Place, style: &'static str, explode: bool, kind: Kind) -> Case {
    Case { place, style, explode, kind }
}

/// The table of styles, places and types; what the specification leaves undefined is left out.
const CASES: [Case; 34] = [
    case(Place::Path, "simple", false, Kind::Integer),
    case(Place::Path, "simple", false, Kind::Text),
    case(Place::Path, "simple", false, Kind::Truth),
    case(Place::Path, "simple", false, Kind::Integers),
    case(Place::Path, "simple", true, Kind::Texts),
    case(Place::Path, "simple", false, Kind::Members),
    case(Place::Path, "simple", true, Kind::Members),
    case(Place::Path, "label", false, Kind::Text),
    case(Place::Path, "label", false, Kind::Integers),
    case(Place::Path, "label", true, Kind::Integers),
    case(Place::Path, "label", false, Kind::Members),
    case(Place::Path, "label", true, Kind::Members),
    case(Place::Path, "matrix", false, Kind::Integer),
    case(Place::Path, "matrix", false, Kind::Texts),
    case(Place::Path, "matrix", true, Kind::Texts),
    case(Place::Path, "matrix", false, Kind::Members),
    case(Place::Path, "matrix", true, Kind::Members),
    case(Place::Query, "form", true, Kind::Integer),
    case(Place::Query, "form", true, Kind::Text),
    case(Place::Query, "form", true, Kind::Truth),
    case(Place::Query, "form", false, Kind::Integers),
    case(Place::Query, "form", true, Kind::Integers),
    case(Place::Query, "form", true, Kind::Texts),
    case(Place::Query, "form", false, Kind::Members),
    case(Place::Query, "form", true, Kind::Members),
    case(Place::Query, "spaceDelimited", false, Kind::Integers),
    case(Place::Query, "spaceDelimited", false, Kind::Members),
    case(Place::Query, "pipeDelimited", false, Kind::Texts),
    case(Place::Query, "deepObject", true, Kind::Members),
    case(Place::Header, "simple", false, Kind::Integer),
    case(Place::Header, "simple", false, Kind::Text),
    case(Place::Header, "simple", false, Kind::Integers),
    case(Place::Header, "simple", false, Kind::Members),
    case(Place::Header, "simple", true, Kind::Members),
];

impl Kind {
    fn schema(self) -> Value {
        match self {
            Self::Integer => json!({"type": "integer", "minimum": -5, "maximum": 1_000_000}),
            Self::Text => json!({"type": "string", "maxLength": 4}),
            Self::Truth => json!({"type": "boolean"}),
            Self::Integers => {
                json!({"type": "array", "items": {"type": "integer"}, "maxItems": 3})
            }
            Self::Texts => json!({
                "type": "array", "uniqueItems": true, "items": {"type": "string", "maxLength": 3},
            }),
            Self::Members => json!({
                "type": "object",
                "required": ["R"],
                "properties": {
                    "R": {"type": "integer"},
                    "G": {"type": "string", "maxLength": 4},
                },
                "additionalProperties": false,
            }),
        }
    }
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
        }
    }
}

struct Subject {
    contract: Contract,
    references: Vec<Validator>,
}

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| {
    let mut paths = Map::new();
    for (index, case) in CASES.iter().enumerate() {
        let path = match case.place {
            Place::Path => format!("/{index}/{{{NAME}}}"),
            _ => format!("/{index}"),
        };
        let parameter = json!({
            "name": NAME, "in": case.place.name(), "required": case.place == Place::Path,
            "style": case.style, "explode": case.explode, "schema": case.kind.schema(),
        });
        let responses = json!({"200": {"description": "d"}});
        paths.insert(path, json!({"get": {"parameters": [parameter], "responses": responses}}));
    }
    let info = json!({"title": "t", "version": "v"});
    let document = json!({"openapi": "3.1.1", "info": info, "paths": paths});
    let reference = |case: &Case| {
        let options = jsonschema::options().with_draft(Draft::Draft202012);
        options.build(&case.kind.schema()).expect("a schema")
    };
    Subject {
        contract: specimen::contract(&document.to_string()),
        references: CASES.iter().map(reference).collect(),
    }
});

fn run(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let index = usize::from(*choice) % CASES.len();
    let subject = &*SUBJECT;
    let (Some(case), Some(reference)) = (CASES.get(index), subject.references.get(index)) else {
        return;
    };
    let mut headers = HeaderMap::new();
    let (path, query) = match case.place {
        Place::Path => (format!("/{index}/{text}"), None),
        Place::Query => (format!("/{index}"), Some(text)),
        Place::Header => {
            // What cannot be a field's value never comes so far; the ends are the parser's.
            let Ok(value) = HeaderValue::from_str(text.trim_matches([' ', '\t'])) else { return };
            headers.insert(NAME, value);
            (format!("/{index}"), None)
        }
    };
    // Which paths find an operation is the router's question.
    let Ok(matched) = subject.contract.route(&Method::GET, &path, None) else { return };
    let found = matched.operation.check_parameters(&matched, query, &headers);
    let value = match case.place {
        Place::Path => in_path(case, &plain(text)),
        Place::Query => in_query(case, text),
        Place::Header => in_header(case, text),
    };
    let expected = match &value {
        Read::Absent => true,
        Read::Value(value) => reference.is_valid(value),
        Read::Nothing => false,
    };
    assert_eq!(
        found.is_ok(),
        expected,
        "{} {} explode {} {:?}: {text:?} is {value:?}, found {found:?}",
        case.place.name(),
        case.style,
        case.explode,
        case.kind
    );
}

/// What a text stands for.
#[derive(Debug)]
enum Read {
    Absent,
    Value(Value),
    /// It is not of the form that the style has.
    Nothing,
}

impl From<Option<Value>> for Read {
    fn from(value: Option<Value>) -> Self {
        value.map_or(Self::Nothing, Self::Value)
    }
}

/// A path in which what need not be escaped is not: whoever reads it may decode that first
/// (RFC 3986 section 6.2.2.2).
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let octet = rest.get(..3).filter(|_| c == '%').and_then(percent_decoded);
        match octet.as_deref() {
            Some(one) if one.bytes().all(is_unreserved) => {
                out.push_str(one);
                rest = rest.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(c);
                rest = rest.get(c.len_utf8()..).unwrap_or_default();
            }
        }
    }
    out
}

fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~".contains(&octet)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut octets = Vec::new();
    let mut parts = text.split('%');
    octets.extend(parts.next()?.bytes());
    for part in parts {
        let digits =
            part.get(..2).filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()))?;
        octets.push(u8::from_str_radix(digits, 16).ok()?);
        octets.extend(part.get(2..)?.bytes());
    }
    String::from_utf8(octets).ok().filter(|text| !text.contains('\0'))
}

fn integer(text: &str) -> Option<Value> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number || digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    let signed = text.parse::<i64>().ok().map(Value::from);
    signed.or_else(|| text.parse::<u64>().ok().map(Value::from))
}

fn scalar(kind: Kind, text: String) -> Option<Value> {
    match kind {
        Kind::Integer | Kind::Integers => integer(&text),
        Kind::Text | Kind::Texts => Some(text.into()),
        Kind::Truth => match text.as_str() {
            "true" => Some(true.into()),
            "false" => Some(false.into()),
            _ => None,
        },
        Kind::Members => None,
    }
}

/// Decoded parts, in their order.
fn list(kind: Kind, parts: impl IntoIterator<Item = Option<String>>) -> Option<Value> {
    let items: Option<Vec<Value>> = parts.into_iter().map(|part| scalar(kind, part?)).collect();
    items.map(Value::from)
}

/// Decoded names and values; a name may stand once.
fn object(members: impl IntoIterator<Item = Option<(String, String)>>) -> Option<Value> {
    let mut object = Map::new();
    for member in members {
        let (name, value) = member?;
        let value = if name == "R" { integer(&value)? } else { value.into() };
        if object.insert(name, value).is_some() {
            return None;
        }
    }
    Some(object.into())
}

/// Name, value, name, value.
fn flat_object(parts: &[Option<String>]) -> Option<Value> {
    let pairs = parts.chunks(2).map(|pair| match pair {
        [Some(name), Some(value)] => Some((name.clone(), value.clone())),
        _ => None,
    });
    object(pairs)
}

fn in_path(case: &Case, text: &str) -> Read {
    let decoded = |text: &str| percent_decoded(text);
    let assigned = |part: &str| {
        let (name, value) = part.split_once('=')?;
        Some((decoded(name)?, decoded(value)?))
    };
    // RFC 6570 section 3.2.7: of an empty value only the name is written.
    let named = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decoded(name)?, value.to_owned()))
    };
    let own = |part: &str| {
        let (name, value) = named(part)?;
        (name == NAME).then_some(value)
    };
    let read = || {
        let (rest, delimiter) = match (case.style, case.explode) {
            ("label", true) => (text.strip_prefix('.')?.to_owned(), '.'),
            ("label", false) => (text.strip_prefix('.')?.to_owned(), ','),
            ("matrix", true) => (text.strip_prefix(';')?.to_owned(), ';'),
            ("matrix", false) => (own(text.strip_prefix(';')?)?, ','),
            _ => (text.to_owned(), ','),
        };
        let parts = rest.split(delimiter);
        let is_matrix = case.style == "matrix" && case.explode;
        match case.kind {
            Kind::Integers | Kind::Texts if is_matrix => {
                list(case.kind, parts.map(|part| decoded(&own(part)?)))
            }
            Kind::Integers | Kind::Texts => list(case.kind, parts.map(decoded)),
            Kind::Members if is_matrix => object(parts.map(|part| {
                let (name, value) = named(part)?;
                Some((name, decoded(&value)?))
            })),
            Kind::Members if case.explode => object(parts.map(assigned)),
            Kind::Members => flat_object(&parts.map(decoded).collect::<Vec<_>>()),
            kind => scalar(kind, decoded(&rest)?),
        }
    };
    read().into()
}

fn in_query(case: &Case, text: &str) -> Read {
    // RFC 3986 has fewer characters, but these are what clients leave as they are.
    if !text.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Read::Nothing;
    }
    let decoded = |text: &str| percent_decoded(&text.replace('+', " "));
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pairs: Option<Vec<(String, &str)>> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            decoded(value)?;
            Some((decoded(name)?, value))
        })
        .collect();
    let Some(pairs) = pairs else { return Read::Nothing };
    if pairs.is_empty() {
        return Read::Absent;
    }
    let spreads = case.kind == Kind::Members && case.explode;
    if spreads {
        let member = |name: &str| -> Option<String> {
            if case.style == "form" {
                return Some(name.to_owned());
            }
            Some(name.strip_prefix(NAME)?.strip_prefix('[')?.strip_suffix(']')?.to_owned())
        };
        return object(pairs.iter().map(|(name, value)| Some((member(name)?, decoded(value)?))))
            .into();
    }
    if pairs.iter().any(|(name, _)| name != NAME) {
        return Read::Nothing;
    }
    let values: Vec<&str> = pairs.iter().map(|(_, value)| *value).collect();
    if case.explode && matches!(case.kind, Kind::Integers | Kind::Texts) {
        return list(case.kind, values.into_iter().map(decoded)).into();
    }
    let [value] = values.as_slice() else { return Read::Nothing };
    let parts: Vec<Option<String>> = match case.style {
        "spaceDelimited" => value.replace("%20", "+").split('+').map(decoded).collect(),
        "pipeDelimited" => {
            value.replace("%7C", "|").replace("%7c", "|").split('|').map(decoded).collect()
        }
        _ => value.split(',').map(decoded).collect(),
    };
    match case.kind {
        Kind::Integers | Kind::Texts => list(case.kind, parts),
        Kind::Members => flat_object(&parts),
        kind => decoded(value).and_then(|value| scalar(kind, value)),
    }
    .into()
}

fn in_header(case: &Case, text: &str) -> Read {
    let trimmed = |text: &str| Some(text.trim_matches([' ', '\t']).to_owned());
    let parts = text.split(',');
    match case.kind {
        Kind::Integers | Kind::Texts => list(case.kind, parts.map(trimmed)),
        Kind::Members if case.explode => object(parts.map(|part| {
            let (name, value) = part.split_once('=')?;
            Some((trimmed(name)?, trimmed(value)?))
        })),
        Kind::Members => flat_object(&parts.map(trimmed).collect::<Vec<_>>()),
        kind => trimmed(text).and_then(|text| scalar(kind, text)),
    }
    .into()
}

fn seeds() -> Vec<Vec<u8>> {
    let cases = CASES.iter().zip(0_u8..);
    let texts = cases.flat_map(|(case, index)| {
        let texts = TEXTS.iter().filter(|(place, _)| *place == case.place);
        texts.map(move |(_, text)| std::iter::once(index).chain(text.bytes()).collect())
    });
    texts.collect()
}

const TEXTS: [(Place, &str); 30] = [
    (Place::Path, "7"),
    (Place::Path, "true"),
    (Place::Path, "1,2,3"),
    (Place::Path, "R,1,G,a%2Cb"),
    (Place::Path, "R=1,G=x"),
    (Place::Path, ".7"),
    (Place::Path, ".1,2"),
    (Place::Path, ".1.2.3"),
    (Place::Path, ".R,1,G,x"),
    (Place::Path, ".R=1.G=x"),
    (Place::Path, ";p=7"),
    (Place::Path, ";p=a,b"),
    (Place::Path, ";p=a;p=b;p"),
    (Place::Path, ";p=R,1,G,x"),
    (Place::Path, ";R=1;G=%C3%A9"),
    (Place::Query, "p=7"),
    (Place::Query, "p=a+b"),
    (Place::Query, "p=1,2,3&"),
    (Place::Query, "p=1&p=2&%70=3"),
    (Place::Query, "p=R,1,G,x"),
    (Place::Query, "R=1&G=x%26"),
    (Place::Query, "p=1%202+3"),
    (Place::Query, "p=a|b%7Cc"),
    (Place::Query, "p[R]=1&p%5BG%5D=x"),
    (Place::Query, "p"),
    (Place::Query, "p=false&q=1"),
    (Place::Header, "7"),
    (Place::Header, "1, 2 ,3"),
    (Place::Header, "R, 1, G, x"),
    (Place::Header, "R=1, G=x=y"),
];

const WORDS: &[&str] = &[
    "p=",
    "&p=",
    ";p=",
    ".",
    ",",
    "%2C",
    "%2E",
    "%20",
    "%7C",
    "|",
    "+",
    "R",
    "G",
    "R=1",
    "&R=",
    "[R]",
    "%5BR%5D",
    "true",
    "-5",
    "1000000",
    "18446744073709551616",
    "%C3%A9",
    "%",
    "%00",
    "p[",
    "][",
];
