//! Which `format`s are enforced, and how: those of the OpenAPI Format Registry, which holds those of
//! JSON Schema 2020-12.
//!
//! What jsonschema checks without allocating, in one pass over the text, is left to it.

mod base64;
mod calendar;
mod field;
mod language;
mod mail;
mod numeral;

use super::pattern::is_pattern;

/// What a format demands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    /// Of strings; a check of jsonschema's or, where [`text_checks`] has one, ours.
    Text,
    /// Of numbers: whole, and within the bounds. Of strings, the same written in decimal.
    Integer { minimum: i128, maximum: i128 },
    /// Of numbers: within a single-precision float's range.
    Float,
    /// Of numbers: between the bound and its negative, and a multiple of the unit, where there are
    /// such. Of strings, a decimal; our check.
    Decimal { maximum: Option<f64>, unit: Option<f64> },
    /// Nothing, of the named type.
    Unconstrained(&'static str),
}

/// A check of a string. None allocates, and none takes longer than its octets, but for `regex` and
/// internationalised labels, whose length is bounded.
pub(crate) type Check = fn(&str) -> bool;

/// 2^53 - 1: with all smaller ones, the largest integer that a double keeps apart from its
/// neighbours.
const DOUBLE_INTEGER: i64 = 9_007_199_254_740_991;
/// Fifteen digits (RFC 9651 section 3.3.1).
const FIELD_INTEGER: i64 = 999_999_999_999_999;

/// The enforced formats.
pub(crate) fn format(name: &str) -> Option<Format> {
    Some(match name {
        "date"
        | "date-time"
        | "time"
        | "duration"
        | "hostname"
        | "idn-email"
        | "idn-hostname"
        | "ipv4"
        | "ipv6"
        | "uri"
        | "uri-reference"
        | "iri"
        | "iri-reference"
        | "uri-template"
        | "uuid"
        | "json-pointer"
        | "relative-json-pointer" => Format::Text,
        "int8" => integer(i8::MIN, i8::MAX),
        "int16" => integer(i16::MIN, i16::MAX),
        "int32" => integer(i32::MIN, i32::MAX),
        "int64" => integer(i64::MIN, i64::MAX),
        "uint8" => integer(u8::MIN, u8::MAX),
        "uint16" => integer(u16::MIN, u16::MAX),
        "uint32" => integer(u32::MIN, u32::MAX),
        "uint64" => integer(u64::MIN, u64::MAX),
        "double-int" => integer(-DOUBLE_INTEGER, DOUBLE_INTEGER),
        "sf-integer" => integer(-FIELD_INTEGER, FIELD_INTEGER),
        // Twelve digits before the point and three behind it (RFC 9651 section 3.3.2).
        "sf-decimal" => Format::Decimal { maximum: Some(999_999_999_999.999), unit: Some(0.001) },
        "decimal" | "decimal128" | "unixtime" => Format::Decimal { maximum: None, unit: None },
        "float" => Format::Float,
        // Every number on the tape is finite.
        "double" => Format::Unconstrained("number"),
        "binary" | "commonmark" | "html" | "password" => Format::Unconstrained("string"),
        _ => text_checks().find(|(known, _)| *known == name).map(|_| Format::Text)?,
    })
}

fn integer(minimum: impl Into<i128>, maximum: impl Into<i128>) -> Format {
    Format::Integer { minimum: minimum.into(), maximum: maximum.into() }
}

/// The octets of a text in base64, or in its alphabet for URLs; none where it is none.
pub(crate) fn decoded(text: &str, is_url: bool) -> Option<Vec<u8>> {
    let is_encoded = if is_url { base64::is_base64url(text) } else { base64::is_base64(text) };
    is_encoded.then(|| base64::decode(text, is_url))
}

/// The formats of strings that jsonschema must be taught, by name.
pub(crate) fn text_checks() -> impl Iterator<Item = (&'static str, Check)> {
    const CHECKS: [(&str, Check); 30] = [
        ("base64url", base64::is_base64url),
        ("byte", base64::is_base64),
        ("char", is_char),
        ("date-time-local", calendar::is_local_date_time),
        ("decimal", numeral::is_decimal),
        ("decimal128", numeral::is_decimal128),
        ("double-int", numeral::is_integer_to::<DOUBLE_INTEGER>),
        ("email", mail::is_mailbox),
        ("http-date", calendar::is_http_date),
        ("int8", numeral::is_integer::<i8>),
        ("int16", numeral::is_integer::<i16>),
        ("int32", numeral::is_integer::<i32>),
        ("int64", numeral::is_integer::<i64>),
        ("ipv4-cidr", numeral::is_ipv4_range),
        ("ipv6-cidr", numeral::is_ipv6_range),
        ("language", language::is_language_tag),
        ("media-range", field::is_media_range),
        ("regex", is_pattern),
        ("sf-binary", field::is_sf_binary),
        ("sf-boolean", field::is_sf_boolean),
        ("sf-decimal", field::is_sf_decimal),
        ("sf-integer", field::is_sf_integer),
        ("sf-string", field::is_sf_string),
        ("sf-token", field::is_sf_token),
        ("time-local", calendar::is_local_time),
        ("uint8", numeral::is_integer::<u8>),
        ("uint16", numeral::is_integer::<u16>),
        ("uint32", numeral::is_integer::<u32>),
        ("uint64", numeral::is_integer::<u64>),
        ("unixtime", numeral::is_decimal),
    ];
    CHECKS.into_iter()
}

fn is_char(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some() && chars.next().is_none()
}

#[cfg(test)]
mod tests;
