//! Media types of messages, and the media ranges that a document declares (RFC 9110 section 8.3).

/// Parameters that a media type may have.
const PARAMETERS_LIMIT: usize = 8;

/// A `Content-Type` as sent, read in place.
#[derive(Clone, Copy)]
pub(crate) struct MediaType<'t> {
    kind: &'t str,
    subtype: &'t str,
    parameters: &'t str,
}

impl<'t> MediaType<'t> {
    /// None where `text` is not one media type with a few well-formed parameters, each given once: of
    /// several of one name, each reader picks its own.
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        let (kind, subtype) = trim(essence).split_once('/')?;
        let parsed = Self { kind, subtype, parameters };
        let mut rest = parsed.parameters;
        let mut names = [""; PARAMETERS_LIMIT];
        for place in 0.. {
            if trim(rest).is_empty() {
                break;
            }
            let (name, _, behind) = parameter(rest)?;
            if names.iter().any(|known| is(known, name)) {
                return None;
            }
            *names.get_mut(place)? = name;
            rest = behind;
        }
        (is_token(kind) && is_token(subtype)).then_some(parsed)
    }

    /// `application/json` and its like, and what is built on it by the suffix (RFC 6839).
    pub(crate) fn is_json(&self) -> bool {
        let suffix = self.subtype.rsplit_once('+').map_or(self.subtype, |(_, suffix)| suffix);
        suffix.eq_ignore_ascii_case("json")
    }

    /// Whether a charset other than UTF-8 is claimed.
    pub(crate) fn is_foreign_charset(&self) -> bool {
        self.parameters()
            .any(|(name, value)| name.eq_ignore_ascii_case("charset") && !is_utf8(value))
    }

    fn parameters(&self) -> impl Iterator<Item = (&'t str, &'t str)> {
        let mut rest = self.parameters;
        std::iter::from_fn(move || {
            let (name, value, behind) = parameter(rest)?;
            rest = behind;
            Some((name, value))
        })
    }
}

/// The first parameter of `; name=value; …` without its leading semicolon, and what is behind it. A
/// quoted value keeps its escapes, so that it equals nothing else.
fn parameter(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name = trim(name);
    if !is_token(name) {
        return None;
    }
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut is_escaped = false;
        let end = quoted.find(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        })?;
        let behind = trim(quoted.get(end + 1..)?);
        let behind = if behind.is_empty() { behind } else { behind.strip_prefix(';')? };
        return Some((name, quoted.get(..end)?, behind));
    }
    let (value, behind) = rest.split_once(';').unwrap_or((rest, ""));
    let value = trim(value);
    is_token(value).then_some((name, value, behind))
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet))
}

fn is(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// The second is wrong and common.
fn is_utf8(charset: &str) -> bool {
    is(charset, "utf-8") || is(charset, "utf8")
}

/// A key of a `content` map: a media type, `type/*` or `*/*`, with parameters that must be sent too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaRange {
    kind: Box<str>,
    subtype: Box<str>,
    parameters: Vec<(Box<str>, Box<str>)>,
}

impl MediaRange {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parsed = MediaType::parse(text)?;
        if parsed.kind == "*" && parsed.subtype != "*" {
            return None;
        }
        let parameters = parsed
            .parameters()
            // Nothing but UTF-8 is accepted, so that naming it says nothing.
            .filter(|(name, value)| !(is(name, "charset") && is_utf8(value)))
            .map(|(name, value)| (name.to_ascii_lowercase().into(), value.into()))
            .collect();
        Some(Self {
            kind: parsed.kind.to_ascii_lowercase().into(),
            subtype: parsed.subtype.to_ascii_lowercase().into(),
            parameters,
        })
    }

    /// `*/*`.
    pub(crate) fn any() -> Self {
        Self { kind: "*".into(), subtype: "*".into(), parameters: Vec::new() }
    }

    /// The more specific range comes first: wildcards, then the number of parameters.
    pub(crate) fn rank(&self) -> (bool, bool, std::cmp::Reverse<usize>) {
        (&*self.kind == "*", &*self.subtype == "*", std::cmp::Reverse(self.parameters.len()))
    }

    /// Whether every type within the range is JSON, or only JSON is taken from it.
    pub(crate) fn is_json_or_wildcard(&self) -> bool {
        let as_type = MediaType { kind: &self.kind, subtype: &self.subtype, parameters: "" };
        &*self.kind == "*"
            || &*self.kind == "application" && &*self.subtype == "*"
            || as_type.is_json()
    }

    pub(crate) fn matches(&self, sent: &MediaType<'_>) -> bool {
        (&*self.kind == "*" || is(&self.kind, sent.kind))
            && (&*self.subtype == "*" || is(&self.subtype, sent.subtype))
            && self.parameters.iter().all(|(name, value)| {
                sent.parameters()
                    .any(|(sent_name, sent_value)| is(name, sent_name) && **value == *sent_value)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_one_media_type() {
        for (text, expected) in [
            ("application/json", true),
            ("Application/JSON ; charset=UTF-8", true),
            ("application/json;charset=\"utf-8\"", true),
            ("application/json; profile=\"a;b\\\"c\"; v=1", true),
            ("application/json;", true),
            ("application/vnd.api+json", true),
            ("application", false),
            ("/json", false),
            ("application/", false),
            ("application/json, text/plain", false),
            ("application/json; charset", false),
            ("application/json; charset=", false),
            ("application/json; =utf-8", false),
            ("application/json; a=\"b", false),
            ("application/json; a=\"b\"c", false),
            ("application/json; v=1; V=2", false),
            ("application/json; charset=utf-8; charset=utf-7", false),
            ("application/json; a=1; b=1; c=1; d=1; e=1; f=1; g=1; h=1;", true),
            ("application/json; a=1; b=1; c=1; d=1; e=1; f=1; g=1; h=1; i=1", false),
            ("application/js on", false),
            ("", false),
        ] {
            assert_eq!(MediaType::parse(text).is_some(), expected, "{text}");
        }
    }

    #[test]
    fn json_and_charsets() {
        for (text, is_json, is_foreign) in [
            ("application/json", true, false),
            ("application/problem+json; charset=utf-8", true, false),
            ("APPLICATION/LD+JSON", true, false),
            ("application/json; charset=\"UTF-8\"", true, false),
            ("application/json; charset=utf-16", true, true),
            ("application/jsonp", false, false),
            ("application/json-seq", false, false),
            ("application/json+xml", false, false),
            ("text/plain; charset=iso-8859-1", false, true),
        ] {
            let parsed = MediaType::parse(text).unwrap();
            assert_eq!(
                (parsed.is_json(), parsed.is_foreign_charset()),
                (is_json, is_foreign),
                "{text}"
            );
        }
    }

    #[test]
    fn ranges_match_and_the_specific_ones_first() {
        for (range, sent, expected) in [
            ("application/json", "APPLICATION/json; charset=utf8", true),
            ("application/json; charset=utf-8", "application/json", true),
            ("application/json", "application/problem+json", false),
            ("application/json; v=1", "application/json; a=b; V=1", true),
            ("application/json; v=1", "application/json; v=2", false),
            ("application/json; v=1", "application/json", false),
            ("application/*", "application/json", true),
            ("application/*", "text/json", false),
            ("*/*", "text/json", true),
        ] {
            let range = MediaRange::parse(range).unwrap();
            assert_eq!(
                range.matches(&MediaType::parse(sent).unwrap()),
                expected,
                "{range:?} {sent}"
            );
        }
        let mut ranges = ["*/*", "application/*", "application/json", "application/json; v=1"]
            .map(|text| MediaRange::parse(text).unwrap());
        let expected = {
            let mut sorted = ranges.clone();
            sorted.reverse();
            sorted
        };
        ranges.sort_by_key(MediaRange::rank);
        assert_eq!(ranges, expected);
        assert_eq!(MediaRange::parse("*/json"), None);
    }
}
