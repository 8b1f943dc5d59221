//! Whether the upstream's answer ends where every reader takes it to end.

use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};

/// Octets of a length; nineteen digits hold every one that HTTP's readers agree on.
const LENGTH_DIGITS: usize = 19;

/// Whether the answer's head says at most once, and plainly, how long its body is.
///
/// hyper reads by `Transfer-Encoding` where a length stands beside it, and keeps both: sent on, the
/// length would cut the answer in two for the client (RFC 9112 section 6.3). It also takes the last
/// of several codings for the only one.
pub(super) fn is_plain(status: StatusCode, headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    // RFC 9110 section 15.3.5: there is no body to speak of.
    let is_empty = status == StatusCode::NO_CONTENT;
    match (codings.next(), lengths.next()) {
        (None, None) => true,
        (Some(coding), None) => {
            let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            is_chunked && codings.next().is_none() && !is_empty
        }
        (None, Some(length)) => {
            let is_fitting = !is_empty || length == "0";
            is_length(length) && lengths.next().is_none() && is_fitting
        }
        (Some(_), Some(_)) => false,
    }
}

/// Whether an answer's head of HTTP/2 is one of HTTP/1.1 too, once it is passed on: at most one plain
/// length, no field of a connection (RFC 9113 section 8.2.2), no value that who trims it reads otherwise
/// (section 8.2.1).
///
/// h2 refuses the fields of a connection too, and lengths that DATA contradicts.
pub(super) fn is_plain_stream(status: StatusCode, headers: &HeaderMap) -> bool {
    let of_connection = [CONNECTION.as_str(), TRANSFER_ENCODING.as_str(), UPGRADE.as_str()];
    let is_of_connection = |name: &str| {
        of_connection.contains(&name)
            || matches!(name, "keep-alive" | "proxy-connection")
            || name == TE.as_str()
    };
    let is_blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    let is_trimmed = |value: &HeaderValue| {
        let octets = value.as_bytes();
        !is_blank(octets.first()) && !is_blank(octets.last())
    };
    is_plain(status, headers)
        && headers.iter().all(|(name, value)| !is_of_connection(name.as_str()) && is_trimmed(value))
}

fn is_length(value: &HeaderValue) -> bool {
    let digits = value.as_bytes();
    let is_one_way_to_write_it = digits.len() == 1 || !digits.starts_with(b"0");
    (1..=LENGTH_DIGITS).contains(&digits.len())
        && is_one_way_to_write_it
        && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_http2_have_no_fields_of_a_connection() {
        let plain = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            is_plain_stream(StatusCode::OK, &headers)
        };
        assert!(plain(&[("content-length", "7"), ("x-a", "b\tc"), ("x-empty", "")]));
        for line in [
            ("connection", "x-a"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("content-length", "+7"),
            ("x-a", " b"),
            ("x-a", "b\t"),
        ] {
            assert!(!plain(&[line]), "{line:?}");
        }
        assert!(!plain(&[("content-length", "7"), ("content-length", "7")]));
    }

    #[test]
    fn answers_by_their_length() {
        let (length, coding) = (CONTENT_LENGTH, TRANSFER_ENCODING);
        for (status, lines, expected) in [
            (200, vec![], true),
            (200, vec![(&length, "0")], true),
            (200, vec![(&length, "9223372036854775807")], true),
            (200, vec![(&length, "10000000000000000000")], false),
            (200, vec![(&length, "")], false),
            (200, vec![(&length, "+1")], false),
            (200, vec![(&length, "01")], false),
            (200, vec![(&length, "1, 1")], false),
            (200, vec![(&length, "1"), (&length, "1")], false),
            (200, vec![(&coding, "chunked")], true),
            (200, vec![(&coding, "Chunked")], true),
            (200, vec![(&coding, "gzip, chunked")], false),
            (200, vec![(&coding, "identity")], false),
            (200, vec![(&coding, "chunked"), (&coding, "chunked")], false),
            (200, vec![(&coding, "chunked"), (&length, "1")], false),
            (204, vec![], true),
            (204, vec![(&length, "0")], true),
            (204, vec![(&length, "1")], false),
            (204, vec![(&coding, "chunked")], false),
            (304, vec![(&length, "7")], true),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in &lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_plain(status, &headers), expected, "{status} {lines:?}");
        }
    }
}
