//! Operations that are methods of gRPC (gRPC over HTTP/2, grpc/grpc doc/PROTOCOL-HTTP2.md): how a call is
//! bounded. What its messages say is not looked into.

use std::time::Duration;

/// Octets of a message where the document says nothing: what gRPC's own implementations take.
pub(crate) const MESSAGE_OCTETS: u32 = 4 << 20;

/// The longest that a call takes where the document says nothing.
pub(crate) const LONGEST: Duration = Duration::from_hours(1);

/// `TimeoutValue` has at most so many digits.
const TIMEOUT_DIGITS: usize = 8;

/// What an operation that is a method of gRPC takes: `x-firewall-grpc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcRule {
    /// Octets of one message, in either direction, as it is sent.
    pub message_octets: u32,
    /// From the head of the request to the end of the answer, whatever the client asks for.
    pub longest: Duration,
}

impl GrpcRule {
    /// How long a call may take for which the client says this in `grpc-timeout`.
    ///
    /// None where it is not as the protocol writes it.
    pub fn timeout(&self, said: Option<&[u8]>) -> Option<Duration> {
        let Some(said) = said else { return Some(self.longest) };
        let (unit, digits) = said.split_last()?;
        let is_number =
            (1..=TIMEOUT_DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        let number: u64 = std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()?;
        let said = match unit {
            b'H' => Duration::from_secs(number * 3_600),
            b'M' => Duration::from_secs(number * 60),
            b'S' => Duration::from_secs(number),
            b'm' => Duration::from_millis(number),
            b'u' => Duration::from_micros(number),
            b'n' => Duration::from_nanos(number),
            _ => return None,
        };
        Some(said.min(self.longest))
    }
}

/// Whether this is how the protocol calls what is sent: `application/grpc`, with or without the format of
/// the messages, and without parameters.
pub(crate) fn is_media_type(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("application/grpc") else { return false };
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b".-_".contains(&octet))
    };
    rest.is_empty() || rest.strip_prefix('+').is_some_and(is_token)
}

/// Whether a path is one of a method: `/package.Service/Method`.
pub(crate) fn is_method(path: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_')
            && !name.starts_with(|first: char| first.is_ascii_digit())
    };
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/'))
    else {
        return false;
    };
    service.split('.').all(is_name) && is_name(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_as_the_protocol_writes_them() {
        let rule = GrpcRule { message_octets: 1, longest: Duration::from_mins(1) };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (said, expected) in [
            (None, seconds(60)),
            (Some("1S"), seconds(1)),
            (Some("59S"), seconds(59)),
            (Some("61S"), seconds(60)),
            (Some("1M"), seconds(60)),
            (Some("99999999H"), seconds(60)),
            (Some("0S"), seconds(0)),
            (Some("250m"), Some(Duration::from_millis(250))),
            (Some("00000007u"), Some(Duration::from_micros(7))),
            (Some("9n"), Some(Duration::from_nanos(9))),
            (Some(""), None),
            (Some("S"), None),
            (Some("1"), None),
            (Some("100000000n"), None),
            (Some("-1S"), None),
            (Some("+1S"), None),
            (Some("1.5S"), None),
            (Some("1s"), None),
            (Some("1 S"), None),
            (Some("1S "), None),
            (Some("\u{662}S"), None),
        ] {
            assert_eq!(rule.timeout(said.map(str::as_bytes)), expected, "{said:?}");
        }
    }

    #[test]
    fn paths_of_methods() {
        for path in ["/a.B/C", "/B/C", "/a.b_1.C/_d"] {
            assert!(is_method(path), "{path}");
        }
        for path in
            ["", "/", "/a", "/a/", "//a", "a/b", "/a/b/c", "/a..b/c", "/{a}/b", "/a/b-c", "/1/a"]
        {
            assert!(!is_method(path), "{path}");
        }
    }

    #[test]
    fn media_types() {
        for name in ["application/grpc", "application/grpc+proto", "application/grpc+json"] {
            assert!(is_media_type(name), "{name}");
        }
        for name in [
            "application/grpc+",
            "application/grpc-web",
            "application/grpc;a=b",
            "*/*",
            "text/grpc",
        ] {
            assert!(!is_media_type(name), "{name}");
        }
    }
}
