//! What the upstream answered where the contract refused it: for the operator alone, in a file that
//! nobody else may read, and only where the configuration names one.
//!
//! This is the one place where octets of a message are written down.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use prometheus::IntCounter;

use crate::clock::Wall;
use crate::log_lines::{Line, LogLines, LogWriter};
use crate::violation::Violation;

/// Octets of an answer's header fields that are written down.
const FIELDS_OCTETS: usize = 16 << 10;
/// Characters of a media type that the access log names.
const MEDIA_TYPE_LIMIT: usize = 100;

/// An answer that did not reach its client.
#[derive(Debug)]
pub struct RefusedAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// What was read of the body.
    pub body: Bytes,
    /// Whether that is all of it.
    pub is_whole: bool,
}

/// What the access log says of such an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedSummary {
    /// Type and subtype, where the answer has one that reads as such.
    pub media_type: Option<Box<str>>,
    /// Those of the body, where they are known.
    pub octets: Option<u64>,
}

impl RefusedAnswer {
    pub fn summary(&self) -> RefusedSummary {
        let media_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.and_then(|text| text.split(';').next()).map(str::trim);
        let octets = if self.is_whole {
            Some(self.body.len() as u64)
        } else {
            let length = self.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            length.and_then(|text| text.parse().ok())
        };
        let is_named = |text: &&str| text.contains('/') && text.len() <= MEDIA_TYPE_LIMIT;
        RefusedSummary { media_type: essence.filter(is_named).map(Into::into), octets }
    }
}

/// One worker's end of the file.
#[derive(Debug)]
pub struct AuditLog {
    lines: LogLines,
    /// Octets of a body that are written down.
    body_octets: usize,
}

impl AuditLog {
    pub fn new(writer: Option<LogWriter>, body_octets: usize, dropped: IntCounter) -> Self {
        Self { lines: LogLines::new(writer, dropped), body_octets }
    }

    /// Hands what has been collected to the writing thread.
    pub fn flush(&self) {
        self.lines.flush();
    }

    /// Writes one answer down; `id` is that of its line in the access log.
    pub fn refused(&self, id: u64, operation: &str, violation: &Violation, answer: &RefusedAnswer) {
        let octets = self.body_octets;
        self.lines.add(|line| write(line, id, operation, violation, answer, octets));
    }
}

fn write(
    line: &mut Line<'_>,
    id: u64,
    operation: &str,
    violation: &Violation,
    answer: &RefusedAnswer,
    body_octets: usize,
) -> fmt::Result {
    write!(line, r#"{{"time":"{}","id":"{id:016x}""#, Wall::now())?;
    line.member("operation", operation)?;
    line.member("rule", violation.rule.id())?;
    if let Some(exception) = violation.exception {
        line.member("exception", exception.id())?;
    }
    write!(line, r#","status":{},"fields":["#, answer.status.as_u16())?;
    let are_whole = fields(line, &answer.headers)?;
    write!(line, r#"],"fields_are_whole":{are_whole}"#)?;
    let shown = answer.body.get(..body_octets).unwrap_or(&answer.body);
    match std::str::from_utf8(shown) {
        Ok(text) => line.member("body", text)?,
        // A character that was cut at the end hides nothing.
        Err(error) if error.error_len().is_none() => {
            line.member("body", &String::from_utf8_lossy(shown))?;
        }
        Err(_) => {
            write!(line, r#","body_hexadecimal":""#)?;
            shown.iter().try_for_each(|octet| write!(line, "{octet:02x}"))?;
            line.write_char('"')?;
        }
    }
    let is_whole = answer.is_whole && shown.len() == answer.body.len();
    writeln!(line, r#","body_is_whole":{is_whole}}}"#)
}

/// Writes `["name","value"],…`; whether all fields found room.
fn fields(line: &mut Line<'_>, headers: &HeaderMap) -> Result<bool, fmt::Error> {
    let mut room = FIELDS_OCTETS;
    for (index, (name, value)) in headers.iter().enumerate() {
        let octets = name.as_str().len() + value.len();
        let Some(left) = room.checked_sub(octets) else { return Ok(false) };
        room = left;
        let value = serde_json::Value::from(String::from_utf8_lossy(value.as_bytes()));
        let separator = if index == 0 { "" } else { "," };
        write!(line, r#"{separator}["{name}",{value}]"#)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn answer(body: &'static [u8], is_whole: bool) -> RefusedAnswer {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("Text/HTML; charset=utf-8"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("77"));
        let body = Bytes::from_static(body);
        RefusedAnswer { status: StatusCode::OK, headers, body, is_whole }
    }

    #[test]
    fn lines_hold_what_was_read_up_to_their_limits() {
        let written = |answer: &RefusedAnswer, octets: usize| {
            let mut line = Vec::new();
            let violation = Violation::new(crate::violation::Rule::ResponseStatus);
            write(&mut Line::new(&mut line), 7, "op", &violation, answer, octets).unwrap();
            assert_eq!(line.pop(), Some(b'\n'));
            serde_json::from_slice::<serde_json::Value>(&line).unwrap()
        };
        for (body, octets, member, shown, is_whole) in [
            (&b"a\"\n"[..], 3, "body", "a\"\n", true),
            (b"abc", 2, "body", "ab", false),
            (b"abc", 0, "body", "", false),
            ("a\u{e9}".as_bytes(), 2, "body", "a\u{fffd}", false),
            (b"a\xff\x00b", 4, "body_hexadecimal", "61ff0062", true),
        ] {
            let line = written(&answer(body, true), octets);
            assert_eq!(line[member], shown, "{body:?}");
            assert_eq!(line["body_is_whole"], is_whole, "{body:?}");
            assert_eq!(line["id"], "0000000000000007");
            assert_eq!(line["fields"][0][0], "content-type");
        }
        assert_eq!(written(&answer(b"a", false), 9)["body_is_whole"], false);
        // Fields at their limit: those of the answer, then one that is just too long.
        for (length, are_whole) in [(FIELDS_OCTETS - 55, true), (FIELDS_OCTETS - 54, false)] {
            let mut answer = answer(b"", true);
            let value = HeaderValue::from_bytes(&vec![b'v'; length]).unwrap();
            answer.headers.insert("x-a", value);
            let line = written(&answer, 1);
            assert_eq!(line["fields_are_whole"], are_whole, "{length}");
            assert_eq!(line["fields"].as_array().unwrap().len(), 2 + usize::from(are_whole));
        }
    }

    #[test]
    fn summaries_know_what_they_can() {
        for (is_whole, octets) in [(true, 3), (false, 77)] {
            let summary = answer(b"abc", is_whole).summary();
            assert_eq!(summary.octets, Some(octets));
            assert_eq!(summary.media_type.as_deref(), Some("Text/HTML"));
        }
        for (value, expected) in [
            (&b"text/html"[..], true),
            (b"html", false),
            (b"\xe9/\xe9", false),
            (&[&[b'a'; 98][..], b"/b"].concat(), true),
            (&[&[b'a'; 99][..], b"/b"].concat(), false),
        ] {
            let mut answer = answer(b"", false);
            answer.headers.insert(CONTENT_TYPE, HeaderValue::from_bytes(value).unwrap());
            assert_eq!(answer.summary().media_type.is_some(), expected, "{value:?}");
        }
    }
}
