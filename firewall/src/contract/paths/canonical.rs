//! The one spelling of a request's path: split at `/` first, decoded once afterwards.

use super::super::uri::{Part, Plus, decode, normalize};

/// A path that can be read in one way only.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Canonical {
    /// Unreserved characters are decoded, the others' escapes kept.
    pub(super) path: String,
    /// The first segment, counted from 0, in which an encoded slash stands.
    pub(super) encoded_slash: Option<usize>,
}

/// Which octets a segment may hold without being decoded or escaped: `pchar` of RFC 3986 appendix A
/// but for the percent sign.
static PLAIN: [bool; 256] = plain();

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, over the whole array")]
const fn plain() -> [bool; 256] {
    let mut plain = [false; 256];
    let mut octet = 0_u8;
    while octet < 128 {
        plain[octet as usize] = octet.is_ascii_alphanumeric()
            || matches!(octet, b'-' | b'.' | b'_' | b'~' | b':' | b'@')
            || matches!(octet, b'!' | b'$' | b'&' | b'\'' | b'(' | b')')
            || matches!(octet, b'*' | b'+' | b',' | b';' | b'=');
        octet += 1;
    }
    plain
}

/// None where the path is ambiguous: empty and dot segments, encoded backslashes and control
/// characters, whatever is not UTF-8; or where a slash is encoded and what it separates could not
/// stand as segments.
pub(super) fn canonical(path: &str) -> Option<Canonical> {
    let mut out = String::with_capacity(path.len());
    let mut encoded_slash = None;
    let mut segments = path.split('/').enumerate().peekable();
    if !segments.next()?.1.is_empty() {
        return None;
    }
    while let Some((index, segment)) = segments.next() {
        // Only the last may be empty: a trailing slash.
        if segment.is_empty() && segments.peek().is_some() {
            return None;
        }
        out.push('/');
        if segment.bytes().all(|octet| PLAIN.get(usize::from(octet)).is_some_and(|plain| *plain)) {
            if is_dots(segment) {
                return None;
            }
            out.push_str(segment);
            continue;
        }
        let start = out.len();
        normalize(segment, Part::Segment, &mut out)?;
        let decoded = decode(out.get(start..)?, Plus::Literal)?;
        if is_dots(&decoded) || decoded.contains(|c: char| c == '\\' || c.is_control()) {
            return None;
        }
        if decoded.contains('/') {
            // Whoever decodes it before splitting must not find a way up, or an empty segment.
            if decoded.split('/').any(|part| part.is_empty() || is_dots(part)) {
                return None;
            }
            encoded_slash = encoded_slash.or(Some(index - 1));
        }
    }
    Some(Canonical { path: out, encoded_slash }).filter(|canonical| !canonical.path.is_empty())
}

fn is_dots(text: &str) -> bool {
    matches!(text, "." | "..")
}
