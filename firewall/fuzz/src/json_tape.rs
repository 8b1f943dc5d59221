//! `json_tape`: what is well-formed and what a schema says of it, on the tape and by `serde_json`
//! with `jsonschema` on its values.

use std::fmt;
use std::sync::LazyLock;

use firewall::contract::Contract;
use firewall::violation::Rule;
use http::Method;
use jsonschema::{Draft, Keyword, ValidationError, Validator};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};

use super::{Target, specimen};

pub(crate) const TARGET: Target = Target { name: "json_tape", run, seeds, words: WORDS };

/// Levels of arrays and objects that a contract accepts by default.
const DEPTH_LIMIT: usize = 64;

/// Among them, every kind of assertion and applicator that looks at numbers, names and places.
const SCHEMAS: [&str; 14] = [
    "{}",
    r#"{"type":"integer","minimum":-9007199254740993,"maximum":18446744073709551614}"#,
    r#"{"type":"number","multipleOf":0.25}"#,
    r#"{"type":"string","minLength":1,"maxLength":3}"#,
    r#"{"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":4,"uniqueItems":true}"#,
    r#"{"type":"object","required":["a"],"properties":{"a":{"type":"string","enum":["x","é","\u0000"]},"b":{"type":"boolean"}},"additionalProperties":{"type":"number","maximum":10}}"#,
    r#"{"oneOf":[{"type":"object","required":["a"]},{"type":"object","required":["b"]},{"type":"string"}]}"#,
    r#"{"not":{"anyOf":[{"type":"integer","multipleOf":3},{"type":"object","minProperties":2}]}}"#,
    r#"{"enum":[1,"1",[1],{"a":1,"b":[true,false]},18446744073709551615,-9223372036854775808,1.5]}"#,
    r#"{"type":"array","uniqueItems":true,"items":{"allOf":[{"maxLength":2},{"maxProperties":1},{"maximum":5}]}}"#,
    r#"{"type":"object","propertyNames":{"maxLength":2},"dependentRequired":{"a":["b"]},"properties":{"a":true},"patternProperties":{"^c":{"type":"integer"}},"unevaluatedProperties":{"type":"string"}}"#,
    r#"{"type":"array","prefixItems":[{"type":"integer"},{"const":"x"}],"contains":{"type":"null"},"minContains":0,"maxContains":1,"unevaluatedItems":{"type":["boolean","null"]}}"#,
    r#"{"if":{"type":"object","required":["a"]},"then":{"minProperties":2},"else":{"not":{"type":"object"},"type":["integer","null","array"],"exclusiveMinimum":0,"exclusiveMaximum":1e2,"maxItems":2}}"#,
    r#"{"anyOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"properties":{"b":{"const":[1.5,null]}},"required":["b"]}],"unevaluatedProperties":false,"dependentSchemas":{"c":false}}"#,
];

struct Subject {
    contract: Contract,
    references: Vec<Validator>,
}

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| {
    let schemas: Vec<Value> =
        SCHEMAS.iter().map(|text| serde_json::from_str(text).expect("a schema")).collect();
    let mut paths = Map::new();
    for (index, schema) in schemas.iter().enumerate() {
        let body = json!({"required": true, "content": {"application/json": {"schema": schema}}});
        let responses = json!({"200": {"description": "d"}});
        paths.insert(
            format!("/{index}"),
            json!({"post": {"requestBody": body, "responses": responses}}),
        );
    }
    let info = json!({"title": "t", "version": "v"});
    let document = json!({"openapi": "3.1.1", "info": info, "paths": paths});
    let reference = |schema| {
        let options = jsonschema::options().with_draft(Draft::Draft202012);
        // Its own divides doubles: to that, 1.1e23 is a multiple of 3.
        let options = options.with_keyword("multipleOf", |_, divisor: &Value, _| {
            Ok(Box::new(MultipleOf::of(divisor)))
        });
        options.build(schema).expect("a schema")
    };
    Subject {
        contract: specimen::contract(&document.to_string()),
        references: schemas.iter().map(reference).collect(),
    }
});

/// What the firewall is to do with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// Well-formed, and not what the schema demands.
    Unlike,
    /// Before any schema is asked.
    Refused,
}

fn run(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let index = usize::from(*choice) % SCHEMAS.len();
    let subject = &*SUBJECT;
    let Some(reference) = subject.references.get(index) else { return };
    let matched = subject.contract.route(&Method::POST, &format!("/{index}"), None);
    let matched = matched.expect("each schema has its path");
    let body = matched.operation.body().expect("each has a body");
    let found = body
        .content(Some(&http::HeaderValue::from_static("application/json")))
        .expect("JSON is declared")
        .check(text);
    let verdict = match &found {
        Ok(()) => Verdict::Passed,
        Err(violation) if violation.rule == Rule::BodySchema => Verdict::Unlike,
        Err(_) => Verdict::Refused,
    };
    let expected = match read(text) {
        None => Verdict::Refused,
        Some(value) if reference.is_valid(&value) => Verdict::Passed,
        Some(_) => Verdict::Unlike,
    };
    let schema = SCHEMAS.get(index).unwrap_or(&"");
    let text = String::from_utf8_lossy(text);
    assert_eq!(verdict, expected, "{found:?} for schema {schema}\n{text}");
}

/// The value that `text` is, where the firewall is to accept it as JSON: what `serde_json` accepts,
/// but for depth, member names given twice, and numbers that receivers could read differently.
fn read(text: &[u8]) -> Option<Value> {
    let is_plain =
        depth(text) <= DEPTH_LIMIT && numbers(text).iter().all(|number| is_exact(number));
    is_plain.then(|| serde_json::from_slice::<Unique>(text).ok()).flatten().map(|unique| unique.0)
}

/// The octets outside strings, and where there are several strings, a space for each.
fn outside_strings(text: &[u8]) -> Vec<u8> {
    let mut outside = Vec::new();
    let mut octets = text.iter();
    while let Some(octet) = octets.next() {
        if *octet != b'"' {
            outside.push(*octet);
            continue;
        }
        outside.push(b' ');
        while let Some(octet) = octets.next() {
            match octet {
                b'"' => break,
                b'\\' => drop(octets.next()),
                _ => {}
            }
        }
    }
    outside
}

fn depth(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut deepest = 0;
    for octet in outside_strings(text) {
        match octet {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whatever could be a number.
fn numbers(text: &[u8]) -> Vec<String> {
    let is_part = |octet: &u8| octet.is_ascii_alphanumeric() || b"+-.".contains(octet);
    outside_strings(text)
        .split(|octet| !is_part(octet))
        .filter(|part| part.iter().any(u8::is_ascii_digit))
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

/// Whether a number is an integer of 64 bits, or the shortest decimal of the double that it names,
/// whatever its zeros and its exponent's form.
fn is_exact(number: &str) -> bool {
    if !number.contains(['.', 'e', 'E']) {
        return number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    }
    let Ok(double) = number.parse::<f64>() else { return false };
    double.is_finite() && scientific(number) == scientific(&format!("{double:e}"))
}

/// Sign, digits without zeros at either end, and the power of ten of the first of them.
fn scientific(number: &str) -> (bool, String, i64) {
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    let leading = digits.len() - significant.len();
    let significant = significant.trim_end_matches('0').to_owned();
    if significant.is_empty() {
        // Nought is nought, of whatever sign and exponent.
        return (false, significant, 0);
    }
    let place = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    // Beyond 64 bits no double is named.
    let exponent: i64 = exponent.parse().unwrap_or(i64::MAX / 2);
    (
        negative,
        significant,
        exponent.saturating_add(place(whole.len())).saturating_sub(place(leading)),
    )
}

/// `multipleOf` by long division of the digits as they are written in decimals.
struct MultipleOf {
    divisor: u64,
    /// The place of the divisor's last digit.
    exponent: i64,
}

impl MultipleOf {
    fn of(divisor: &Value) -> Self {
        let (_, digits, exponent) = scientific(&divisor.to_string());
        let last = exponent - i64::try_from(digits.len()).expect("a short number");
        Self { divisor: digits.parse().expect("a positive number"), exponent: last }
    }

    fn divides(&self, number: &Number) -> bool {
        let (_, digits, exponent) = scientific(&number.to_string());
        if digits.is_empty() {
            return true;
        }
        // The digits end in no zero, so that nothing smaller than their last one is left.
        let last = exponent - i64::try_from(digits.len()).unwrap_or(i64::MAX);
        let Ok(zeros) = usize::try_from(last - self.exponent) else { return false };
        let digits = digits.bytes().chain(std::iter::repeat_n(b'0', zeros));
        digits.fold(0, |rest, digit| (rest * 10 + u64::from(digit - b'0')) % self.divisor) == 0
    }
}

impl<'i> Keyword<'i> for MultipleOf {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            Ok(())
        } else {
            Err(ValidationError::custom("not a multiple"))
        }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        instance.as_number().is_none_or(|number| self.divides(number))
    }
}

/// A value whose objects name no member twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Unique(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Unique(value))) = access.next_entry::<String, Unique>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member twice"));
            }
        }
        Ok(members.into())
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = TEXTS.iter().flat_map(|text| (0..SCHEMAS.len()).map(move |index| (index, text)));
    texts
        .map(|(index, text)| {
            let choice = u8::try_from(index).unwrap_or_default();
            std::iter::once(choice).chain(text.bytes()).collect()
        })
        .collect()
}

const TEXTS: [&str; 20] = [
    r#"{"a":1,"b":"x","c1":2,"c":3}"#,
    r#"[1,"x",null,true]"#,
    r#"{"a":1.0,"b":[15e-1,null]}"#,
    "99.99999999999999",
    "null",
    "-9007199254740993",
    "18446744073709551615",
    "1.25e2",
    "1.0",
    "0.1000000000000000055",
    r#""a\u00e9\ud83d\ude00""#,
    r#"{"a":"x","b":true,"c":9.5}"#,
    r#"{"a":1,"a":2}"#,
    "[1,2,3,1.0]",
    "[[1],[1.0]]",
    r#"[{"a":1},{"a":1},"ab"]"#,
    r#"{"a":1,"b":[true,false]}"#,
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    " { } \r\n\t",
];

const WORDS: &[&str] = &[
    "true",
    "false",
    "null",
    "\\ud83d\\ude00",
    "\\u0000",
    "\\u0061",
    "1e308",
    "1e400",
    "-0.0",
    "9007199254740993",
    "18446744073709551616",
    "0.30000000000000004",
    "\"a\":",
    "\u{feff}",
    "1E+2",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_are_exact() {
        for (number, divisor, expected) in [
            ("0", "3", true),
            ("-0.0", "0.25", true),
            ("9", "3", true),
            ("-10", "3", false),
            ("1.1e23", "3", false),
            ("1.2e23", "3", true),
            ("0.75", "0.25", true),
            ("0.7", "0.25", false),
            ("18446744073709551615", "3", true),
            ("1e-300", "0.25", false),
        ] {
            let value = |text| serde_json::from_str::<Value>(text).unwrap();
            let found = MultipleOf::of(&value(divisor)).divides(value(number).as_number().unwrap());
            assert_eq!(found, expected, "{number} by {divisor}");
        }
    }

    #[test]
    fn exact_numbers() {
        for (number, expected) in [
            ("0.1", true),
            ("1.10E+2", true),
            ("11e-1", true),
            ("0.1000000000000000055", false),
            ("1e400", false),
            ("1e-400", false),
            ("0e-400", true),
            ("18446744073709551615", true),
            ("18446744073709551616", false),
            ("-9223372036854775809", false),
        ] {
            assert_eq!(is_exact(number), expected, "{number}");
        }
    }
}
