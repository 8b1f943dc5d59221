//! The few field values that frame a request or route it: length, coding, host.

use std::net::Ipv6Addr;

/// Octets of a host name, as the DNS limits them (RFC 1035 section 2.3.4).
const HOST_OCTETS: usize = 255;

/// Fields that the framing has to know; every other one is only looked at for its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Connection,
    ContentLength,
    Expect,
    Host,
    TransferEncoding,
    Upgrade,
    /// Belongs to an upgrade to HTTP/2 (RFC 7540 section 3.2.1).
    Http2Settings,
    Other,
}

impl Field {
    pub(super) fn named(name: &[u8]) -> Self {
        let (known, field): (&[u8], _) = match name.len() {
            4 => (b"host", Self::Host),
            6 => (b"expect", Self::Expect),
            7 => (b"upgrade", Self::Upgrade),
            10 => (b"connection", Self::Connection),
            14 if name.starts_with(b"C") || name.starts_with(b"c") => {
                (b"content-length", Self::ContentLength)
            }
            14 => (b"http2-settings", Self::Http2Settings),
            17 => (b"transfer-encoding", Self::TransferEncoding),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(known) { field } else { Self::Other }
    }
}

/// A value without the white space around it (RFC 9112 section 5.1).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether a list holds this token, in whichever case (RFC 9110 section 5.6.1).
pub(super) fn names(list: &[u8], token: &[u8]) -> bool {
    list.split(|octet| *octet == b',').any(|element| trim(element).eq_ignore_ascii_case(token))
}

/// One number: decimal digits alone, no superfluous zero before them, at most 2^63 - 1.
///
/// `010` is eight to some readers and ten to others, so it is refused although RFC 9110 section
/// 8.6 allows it.
pub(in crate::listen) fn content_length(value: &[u8]) -> Option<u64> {
    if value.len() > 1 && value.starts_with(b"0") || value.is_empty() || value.len() > 19 {
        return None;
    }
    let mut length = 0_u64;
    for octet in value {
        let digit = octet.checked_sub(b'0').filter(|digit| *digit < 10)?;
        length = length * 10 + u64::from(digit);
    }
    (length <= i64::MAX.unsigned_abs()).then_some(length)
}

/// A host, and a port if one is given (RFC 9110 section 7.2). Of the registered names of RFC 3986
/// only those that the DNS could hold: letters, digits, hyphen, underscore, tilde and full stop.
/// Percent-encoding and sub-delimiters name nothing, and are read differently by different servers.
pub(in crate::listen) fn is_host(value: &[u8]) -> bool {
    let (is_valid, after) = if let [b'[', rest @ ..] = value {
        let Some(end) = rest.iter().position(|octet| *octet == b']') else { return false };
        let (address, after) = rest.split_at(end);
        let is_address =
            std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok());
        (is_address, after.get(1..).unwrap_or_default())
    } else {
        let is_name = |octet: &u8| {
            octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_' | b'~')
        };
        let end = value.iter().take_while(|octet| is_name(octet)).count();
        let (name, after) = value.split_at(end);
        ((1..=HOST_OCTETS).contains(&name.len()), after)
    };
    is_valid
        && match after {
            [] => true,
            [b':', port @ ..] => is_port(port),
            _ => false,
        }
}

fn is_port(port: &[u8]) -> bool {
    (1..=5).contains(&port.len())
        && port.iter().all(u8::is_ascii_digit)
        && port.iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0')) <= 65_535
}
