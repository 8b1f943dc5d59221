//! Percent-encoding: decoded once, and written anew in one spelling, so that whoever reads the
//! target after us reads what was checked.

use std::borrow::Cow;

/// What a plus sign means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    Literal,
    /// As in `application/x-www-form-urlencoded`, which `form` parameters follow.
    Space,
}

/// The text behind percent-encoding; none where a `%` is malformed, the octets are not UTF-8 (an
/// overlong form is not), or a NUL is among them.
pub(crate) fn decode(text: &str, plus: Plus) -> Option<Cow<'_, str>> {
    let is_plain = |octet: &u8| *octet != b'%' && !(*octet == b'+' && plus == Plus::Space);
    if text.bytes().all(|octet| is_plain(&octet)) {
        return Some(Cow::Borrowed(text)).filter(|text| !text.contains('\0'));
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [octet, after @ ..] = rest {
        rest = after;
        octets.push(match octet {
            b'%' => {
                let (octet, after) = escaped(rest)?;
                rest = after;
                octet
            }
            b'+' if plus == Plus::Space => b' ',
            _ => *octet,
        });
    }
    if octets.contains(&0) {
        return None;
    }
    String::from_utf8(octets).ok().map(Cow::Owned)
}

/// The octet that two hexadecimal digits name, and what stands behind them.
fn escaped(digits: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, rest @ ..] = digits else { return None };
    Some((hexadecimal(*high)? << 4 | hexadecimal(*low)?, rest))
}

fn hexadecimal(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Which characters may stand unescaped (RFC 3986 appendix A).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A path segment: others are malformed.
    Segment,
    /// A name or value within a query: other ASCII characters are escaped, since many clients leave
    /// brackets and bars as they are; so is a semicolon, at which some readers end a pair; a plus sign
    /// is written as the space it means.
    Query,
}

/// Appends `text` with its escaped unreserved characters decoded, its other escapes in upper case,
/// and nothing unescaped that `part` does not allow; none where it is malformed.
pub(crate) fn normalize(text: &str, part: Part, out: &mut String) -> Option<()> {
    let mut rest = text.as_bytes();
    while let [octet, after @ ..] = rest {
        rest = after;
        match octet {
            b'%' => {
                let (octet, after) = escaped(rest)?;
                rest = after;
                if is_unreserved(octet) { out.push(octet.into()) } else { escape(octet, out) }
            }
            b'+' if part == Part::Query => escape(b' ', out),
            octet if is_unreserved(*octet) || is_allowed(*octet, part) => out.push((*octet).into()),
            octet if part == Part::Query && octet.is_ascii_graphic() => escape(*octet, out),
            _ => return None,
        }
    }
    Some(())
}

fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` without the unreserved; a query may hold `/` and `?` besides, and here no semicolon.
fn is_allowed(octet: u8, part: Part) -> bool {
    matches!(
        octet,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
    ) || match part {
        Part::Segment => octet == b';',
        Part::Query => matches!(octet, b'/' | b'?'),
    }
}

/// Appends `text` with all but its unreserved characters escaped.
pub(crate) fn encode(text: &str, out: &mut String) {
    for octet in text.bytes() {
        if is_unreserved(octet) { out.push(octet.into()) } else { escape(octet, out) }
    }
}

fn escape(octet: u8, out: &mut String) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    out.push('%');
    for digit in [octet >> 4, octet & 15] {
        out.extend(DIGITS.get(usize::from(digit)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding() {
        for (text, plus, expected) in [
            ("abc", Plus::Literal, Some("abc")),
            ("a%20b", Plus::Literal, Some("a b")),
            ("a+b", Plus::Literal, Some("a+b")),
            ("a+b%2Bc", Plus::Space, Some("a b+c")),
            ("%C3%a9", Plus::Literal, Some("é")),
            ("%F0%9F%98%80", Plus::Literal, Some("😀")),
            ("%2525", Plus::Literal, Some("%25")),
            ("%", Plus::Literal, None),
            ("%4", Plus::Literal, None),
            ("%4g", Plus::Literal, None),
            ("%+1", Plus::Literal, None),
            ("%u0041", Plus::Literal, None),
            ("%00", Plus::Literal, None),
            ("%c0%af", Plus::Literal, None),
            ("%e0%80%af", Plus::Literal, None),
            ("%ed%a0%80", Plus::Literal, None),
            ("%ff", Plus::Literal, None),
            ("%C3", Plus::Literal, None),
        ] {
            assert_eq!(decode(text, plus).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn one_spelling() {
        for (text, part, expected) in [
            ("a-b_c.d~e", Part::Segment, Some("a-b_c.d~e")),
            ("%61%2D%7e", Part::Segment, Some("a-~")),
            ("a%2fb%3a", Part::Segment, Some("a%2Fb%3A")),
            ("a;b=c,d:e@f!$&'()*+", Part::Segment, Some("a;b=c,d:e@f!$&'()*+")),
            ("%c3%A9", Part::Segment, Some("%C3%A9")),
            ("a b", Part::Segment, None),
            ("a|b", Part::Segment, None),
            ("a\"b", Part::Segment, None),
            ("é", Part::Segment, None),
            ("%zz", Part::Segment, None),
            ("a+b%2bc", Part::Query, Some("a%20b%2Bc")),
            ("a[b]|c", Part::Query, Some("a%5Bb%5D%7Cc")),
            ("a/b?c:d@e,f%2Cg", Part::Query, Some("a/b?c:d@e,f%2Cg")),
            ("a;b=c", Part::Query, Some("a%3Bb=c")),
            ("%26%3D%23", Part::Query, Some("%26%3D%23")),
            ("a\u{7f}", Part::Query, None),
            ("é", Part::Query, None),
        ] {
            let mut out = String::new();
            let result = normalize(text, part, &mut out).map(|()| out);
            assert_eq!(result.as_deref(), expected, "{text}");
        }
    }
}
