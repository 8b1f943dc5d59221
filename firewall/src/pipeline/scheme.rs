//! Whether the client's own connection is encrypted, be it ours or a trusted proxy's to end.

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::address::PeerAddr;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether the client speaks TLS: as a trusted peer says, else as the peer does itself, which
/// `is_encrypted` tells of; nobody else is believed.
///
/// The first hop that a field names is the client's. A client that a proxy lets write there itself can
/// deceive nobody but itself: its own cookies are marked, and a browser ignores what it is told of TLS
/// in plain text (RFC 6797 section 8.1).
pub(super) fn is_over_tls(
    is_encrypted: bool,
    peer: PeerAddr,
    trusted: &[IpNet],
    fields: &HeaderMap,
) -> bool {
    if !trusted.iter().any(|network| network.contains(&peer.0)) {
        return is_encrypted;
    }
    let by_standard = fields.get(FORWARDED).and_then(forwarded);
    let by_custom = fields.get(X_FORWARDED_PROTO).map(|value| is_https(first(value)));
    let said = [by_standard, by_custom];
    match said {
        [None, None] => is_encrypted,
        _ => !said.contains(&Some(false)),
    }
}

/// The first element of a list; where its quoted text holds a comma, not all of it.
fn first(value: &HeaderValue) -> &[u8] {
    value.as_bytes().split(|octet| *octet == b',').next().unwrap_or_default()
}

/// What `proto` of the first element says (RFC 7239 section 5.4); none where it is not there.
fn forwarded(value: &HeaderValue) -> Option<bool> {
    first(value).split(|octet| *octet == b';').find_map(|pair| {
        let (name, value) = pair.split_at_checked(pair.iter().position(|octet| *octet == b'=')?)?;
        let value = value.get(1..)?;
        let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        let is_proto = name.trim_ascii().eq_ignore_ascii_case(b"proto");
        is_proto.then(|| is_https(quoted.unwrap_or(value)))
    })
}

fn is_https(scheme: &[u8]) -> bool {
    scheme.trim_ascii().eq_ignore_ascii_case(b"https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trusted_proxy_says_whether_its_client_speaks_tls() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        for (fields, expected) in [
            (vec![], false),
            (vec![("x-forwarded-proto", "https")], true),
            (vec![("x-forwarded-proto", "HTTPS")], true),
            (vec![("x-forwarded-proto", "http")], false),
            (vec![("x-forwarded-proto", "httpss")], false),
            (vec![("x-forwarded-proto", "")], false),
            (vec![("x-forwarded-proto", "https, http")], true),
            (vec![("x-forwarded-proto", "http, https")], false),
            (vec![("forwarded", "for=192.0.2.1;proto=https")], true),
            (vec![("forwarded", "for=192.0.2.1; Proto=\"https\"")], true),
            (vec![("forwarded", "for=192.0.2.1;proto=http")], false),
            (vec![("forwarded", "for=192.0.2.1, for=10.0.0.1;proto=https")], false),
            (vec![("forwarded", "for=192.0.2.1")], false),
            (vec![("forwarded", "proto")], false),
            (vec![("forwarded", "for=a"), ("x-forwarded-proto", "https")], true),
            (vec![("forwarded", "proto=https"), ("x-forwarded-proto", "http")], false),
            (vec![("forwarded", "proto=http"), ("x-forwarded-proto", "https")], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in &fields {
                map.append(*name, HeaderValue::from_static(value));
            }
            let said = |is_encrypted, peer: &str| {
                is_over_tls(is_encrypted, PeerAddr(peer.parse().unwrap()), &trusted, &map)
            };
            assert_eq!(said(false, "10.0.0.1"), expected, "{fields:?}");
            assert!(!said(false, "192.0.2.1"), "a stranger is not believed: {fields:?}");
            assert!(said(true, "192.0.2.1"), "his own connection is what it is: {fields:?}");
        }
        // What a trusted proxy says nothing of is as its own connection is.
        for (value, expected) in [(None, true), (Some("http"), false), (Some("https"), true)] {
            let mut map = HeaderMap::new();
            if let Some(value) = value {
                map.append("x-forwarded-proto", HeaderValue::from_static(value));
            }
            let peer = PeerAddr("10.0.0.1".parse().unwrap());
            assert_eq!(is_over_tls(true, peer, &trusted, &map), expected, "{value:?}");
        }
    }
}
