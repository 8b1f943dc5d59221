//! Which `format`s are enforced, and how.

/// What a format demands.
#[derive(Clone, Copy)]
pub(crate) enum Format {
    /// Of strings; jsonschema's own check.
    Standard,
    /// Of strings; our check.
    Text(fn(&str) -> bool),
    /// Of numbers: whole, and within the bounds. Of strings, the same written in decimal.
    Integer { minimum: i128, maximum: i128 },
    /// Of numbers: within a single-precision float's range.
    Float,
    /// Nothing, of the named type.
    Unconstrained(&'static str),
}

/// The enforced formats: those of OpenAPI 3.0 and its registry, and of JSON Schema 2020-12 as far as
/// a check is at hand. `regex` is not among them: it would compile what a client sends.
pub(crate) fn format(name: &str) -> Option<Format> {
    Some(match name {
        "date"
        | "date-time"
        | "time"
        | "duration"
        | "email"
        | "hostname"
        | "ipv4"
        | "ipv6"
        | "uri"
        | "uri-reference"
        | "iri"
        | "iri-reference"
        | "uri-template"
        | "uuid"
        | "json-pointer"
        | "relative-json-pointer" => Format::Standard,
        "byte" => Format::Text(is_base64),
        "char" => Format::Text(|text| text.chars().count() == 1),
        "int8" => integer(i8::MIN, i8::MAX),
        "int16" => integer(i16::MIN, i16::MAX),
        "int32" => integer(i32::MIN, i32::MAX),
        "int64" => integer(i64::MIN, i64::MAX),
        "uint8" => integer(u8::MIN, u8::MAX),
        "uint16" => integer(u16::MIN, u16::MAX),
        "uint32" => integer(u32::MIN, u32::MAX),
        "uint64" => integer(u64::MIN, u64::MAX),
        "float" => Format::Float,
        // Every number on the tape is finite.
        "double" => Format::Unconstrained("number"),
        "binary" | "password" => Format::Unconstrained("string"),
        _ => return None,
    })
}

fn integer(minimum: impl Into<i128>, maximum: impl Into<i128>) -> Format {
    Format::Integer { minimum: minimum.into(), maximum: maximum.into() }
}

/// A check of a string.
type Check = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The formats of strings that jsonschema must be taught, by name.
pub(crate) fn text_checks() -> impl Iterator<Item = (&'static str, Check)> {
    ["byte", "char", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
        .into_iter()
        .filter_map(|name| {
            Some((
                name,
                match format(name)? {
                    Format::Text(check) => Box::new(check) as Check,
                    Format::Integer { minimum, maximum } => Box::new(move |text: &str| {
                        is_decimal(text)
                            && text.parse().is_ok_and(|n: i128| (minimum..=maximum).contains(&n))
                    }),
                    _ => return None,
                },
            ))
        })
}

/// An integer as JSON writes it: no plus sign, no leading zero.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|digit| digit.is_ascii_digit())
        && (digits == "0" || !digits.is_empty() && !digits.starts_with('0'))
}

/// RFC 4648 section 4, with padding; unused bits of the last character must be zero (section 3.5).
fn is_base64(text: &str) -> bool {
    let value = |octet: u8| {
        Some(match octet {
            b'A'..=b'Z' => octet - b'A',
            b'a'..=b'z' => octet - b'a' + 26,
            b'0'..=b'9' => octet - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    let data = text.trim_end_matches('=').as_bytes();
    let unused_bits = match text.len() - data.len() {
        0 => 0,
        1 => 0b11,
        2 => 0b1111,
        _ => return false,
    };
    text.len().is_multiple_of(4)
        && data.iter().all(|octet| value(*octet).is_some())
        && data.last().is_none_or(|octet| value(*octet).is_some_and(|bits| bits & unused_bits == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_formats() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (
                "byte",
                &["", "Zg==", "Zm8=", "Zm9v", "+/+/"],
                &["Zg", "Zg=", "Zh==", "Zm9=", "Zm9v=", "====", "Z m9", "-_-_", "Zg==Zg=="],
            ),
            ("char", &["a", "é", "😀"], &["", "ab"]),
            (
                "int8",
                &["-128", "0", "127"],
                &["-129", "128", "", "-", "+1", "01", "1.0", "1e1", " 1"],
            ),
            (
                "uint64",
                &["0", "18446744073709551615"],
                &["-1", "18446744073709551616", "99999999999999999999999999999999999999999"],
            ),
            ("int64", &["9223372036854775807", "-9223372036854775808"], &["9223372036854775808"]),
        ];
        for (name, accepted, refused) in cases {
            let (_, check) = text_checks().find(|(known, _)| known == name).unwrap();
            for text in *accepted {
                assert!(check(text), "{name} refuses {text:?}");
            }
            for text in *refused {
                assert!(!check(text), "{name} accepts {text:?}");
            }
        }
    }
}
