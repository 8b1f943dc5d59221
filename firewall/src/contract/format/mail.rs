//! `email`: RFC 5321's mailbox, and nothing around it.
//!
//! jsonschema's own check copies the address, and takes `Ada <ada@shop.example>` for one.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use jsonschema::Validator;
use jsonschema::json::Json;
use serde_json::json;

use crate::json::TapeJson;

/// Octets that a local part may have (RFC 5321 section 4.5.3.1.1).
const LOCAL_LIMIT: usize = 64;
/// Octets that a domain may have, as written (RFC 1123 section 2.1).
const DOMAIN_LIMIT: usize = 253;
/// Octets that a label may have (RFC 1034 section 3.1).
const LABEL_LIMIT: usize = 63;

/// `Mailbox` of RFC 5321 section 4.1.2.
pub(super) fn is_mailbox(text: &str) -> bool {
    // A quoted local part may hold an at sign, a domain none.
    text.rsplit_once('@').is_some_and(|(local, domain)| is_local_part(local) && is_domain(domain))
}

fn is_local_part(text: &str) -> bool {
    if text.len() > LOCAL_LIMIT {
        return false;
    }
    match text.as_bytes() {
        [b'"', content @ .., b'"'] => is_quoted(content),
        octets => octets.split(|octet| *octet == b'.').all(is_atom),
    }
}

/// RFC 5322 section 3.2.3.
fn is_atom(octets: &[u8]) -> bool {
    !octets.is_empty()
        && octets
            .iter()
            .all(|octet| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(octet))
}

/// `*QcontentSMTP`.
fn is_quoted(content: &[u8]) -> bool {
    let mut octets = content.iter();
    while let Some(octet) = octets.next() {
        let is_sound = match octet {
            b'\\' => matches!(octets.next(), Some(b' '..=b'~')),
            b'"' => false,
            _ => matches!(octet, b' '..=b'~'),
        };
        if !is_sound {
            return false;
        }
    }
    true
}

fn is_domain(text: &str) -> bool {
    if let Some(literal) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return match literal.split_at_checked(5) {
            Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => {
                address.parse::<Ipv6Addr>().is_ok()
            }
            _ => literal.parse::<Ipv4Addr>().is_ok(),
        };
    }
    if text.len() > DOMAIN_LIMIT {
        return false;
    }
    let mut has_reserved = false;
    for label in text.as_bytes().split(|octet| *octet == b'.') {
        let is_sound = (1..=LABEL_LIMIT).contains(&label.len())
            && label.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-')
            && !label.starts_with(b"-")
            && !label.ends_with(b"-");
        if !is_sound {
            return false;
        }
        has_reserved |= label.get(2..4) == Some(b"--");
    }
    !has_reserved || is_hostname(text)
}

/// jsonschema's own check, for the names of which it decodes a label: `xn--bcher-kva.example`.
#[cold]
fn is_hostname(text: &str) -> bool {
    static HOSTNAME: LazyLock<Option<Validator<TapeJson>>> = LazyLock::new(|| {
        let options = jsonschema::options_for::<TapeJson>().should_validate_formats(true);
        options.offline().build(&json!({"format": "hostname"})).ok()
    });
    // A schema that could not be compiled must not let anything pass.
    HOSTNAME.as_ref().is_some_and(|hostname| {
        TapeJson::with_string_node(&mut (), text, |node| hostname.is_valid(node))
    })
}

#[cfg(test)]
mod tests;
