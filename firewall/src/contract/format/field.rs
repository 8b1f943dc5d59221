//! Parts of header fields: media ranges (RFC 9110) and bare items of structured fields (RFC 9651).

use super::base64;

/// A media range with its parameters, without a list around it (RFC 9110 section 12.5.1).
pub(super) fn is_media_range(text: &str) -> bool {
    let essence_end = text.find([' ', '\t', ';']).unwrap_or(text.len());
    let (essence, mut rest) = text.split_at(essence_end);
    let is_range = essence.split_once('/').is_some_and(|(kind, subtype)| {
        is_token(kind) && is_token(subtype) && (kind != "*" || subtype == "*")
    });
    // Each turn takes a semicolon at least.
    while !rest.is_empty() {
        let Some(behind) = trim_start(rest).strip_prefix(';') else { return false };
        let Some(behind) = parameter(behind) else { return false };
        rest = behind;
    }
    is_range
}

/// What stands behind `OWS [ parameter ]` (RFC 9110 section 5.6.6).
fn parameter(text: &str) -> Option<&str> {
    let text = trim_start(text);
    let name_end = text.find(|c| !is_token_char(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    if name.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix('=')?;
    if let Some(quoted) = value.strip_prefix('"') {
        return behind_quoted(quoted);
    }
    let value_end = value.find(|c| !is_token_char(c)).unwrap_or(value.len());
    if value_end == 0 { None } else { value.get(value_end..) }
}

/// What stands behind a `quoted-string` without its first quote (RFC 9110 section 5.6.4).
fn behind_quoted(text: &str) -> Option<&str> {
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return text.get(index + 1..),
            '\\' if !chars.next().is_some_and(|(_, c)| c == '\t' || !c.is_ascii_control()) => {
                return None;
            }
            _ if c.is_ascii_control() && c != '\t' => return None,
            _ => {}
        }
    }
    None
}

fn trim_start(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// RFC 9651 section 3.3.1.
pub(super) fn is_sf_integer(text: &str) -> bool {
    is_digits(text.strip_prefix('-').unwrap_or(text), 15)
}

/// RFC 9651 section 3.3.2.
pub(super) fn is_sf_decimal(text: &str) -> bool {
    text.strip_prefix('-')
        .unwrap_or(text)
        .split_once('.')
        .is_some_and(|(whole, fraction)| is_digits(whole, 12) && is_digits(fraction, 3))
}

fn is_digits(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit())
}

/// RFC 9651 section 3.3.3, with its quotes.
pub(super) fn is_sf_string(text: &str) -> bool {
    let content = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let Some(content) = content else { return false };
    let mut octets = content.bytes();
    while let Some(octet) = octets.next() {
        let is_sound = match octet {
            b'\\' => matches!(octets.next(), Some(b'"' | b'\\')),
            b'"' => false,
            _ => matches!(octet, b' '..=b'~'),
        };
        if !is_sound {
            return false;
        }
    }
    true
}

/// RFC 9651 section 3.3.4.
pub(super) fn is_sf_token(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '*')
        && text.chars().all(|c| is_token_char(c) || matches!(c, ':' | '/'))
}

/// RFC 9651 section 3.3.5, with its colons.
pub(super) fn is_sf_binary(text: &str) -> bool {
    text.strip_prefix(':').and_then(|text| text.strip_suffix(':')).is_some_and(base64::is_lenient)
}

/// RFC 9651 section 3.3.6.
pub(super) fn is_sf_boolean(text: &str) -> bool {
    matches!(text, "?0" | "?1")
}
