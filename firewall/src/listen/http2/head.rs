//! A request's head as HTTP/2 brings it (RFC 9113 section 8.3), made what HTTP/1 would have brought: one
//! place for what h2 lets pass and the framing of HTTP/1 does not.
//!
//! h2 refuses by itself: pseudo-fields that are unknown, repeated, missing or behind others; names in
//! upper case; octets that no field may hold; the fields of one hop; lengths that DATA contradicts.

use http::header::{
    CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE,
};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Uri};

use crate::violation::Rule;

use super::super::framing::field::{content_length, is_host};
use super::super::framing::octets::{PATH, QUERY, printable, run};
use super::super::framing::{HeadLimits, METHOD_OCTETS};

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Octets that a field line of HTTP/1 has beside name and value.
const LINE_OCTETS: usize = 4;

/// Octets that a request line of HTTP/1 has beside method and target, with the empty line at the end.
const FRAME_OCTETS: usize = 14;

/// Makes the head of a request of HTTP/1 of it, one `Host` and one line of cookies included.
///
/// # Errors
/// The rule that it breaks; it is left as it came then.
pub(super) fn judge(head: &mut Parts, limits: &HeadLimits) -> Result<(), Rule> {
    let method = head.method.as_str();
    if method.len() > METHOD_OCTETS {
        return Err(Rule::RequestLine);
    }
    let target = target(head, limits)?;
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = host(authority, &head.headers)?;
    let host = HeaderValue::from_bytes(host).map_err(|_not_ascii| Rule::Host)?;
    if head.headers.len() > limits.fields {
        return Err(Rule::HeadTooLarge);
    }
    let mut octets = method.len() + target.as_str().len() + FRAME_OCTETS;
    if !head.headers.contains_key(HOST) {
        octets += HOST.as_str().len() + host.len() + LINE_OCTETS;
    }
    for (name, value) in &head.headers {
        octets += name.as_str().len() + value.len() + LINE_OCTETS;
        field(name, value)?;
    }
    if octets > limits.head_octets {
        return Err(Rule::HeadTooLarge);
    }
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        content_length(length.as_bytes()).ok_or(Rule::ContentLength)?;
    }
    if lengths.next().is_some() {
        return Err(Rule::ContentLength);
    }
    head.uri = Uri::from(target);
    head.headers = lines(host, std::mem::take(&mut head.headers));
    Ok(())
}

/// Origin form, or the asterisk of OPTIONS, of a scheme that is served here.
fn target(head: &Parts, limits: &HeadLimits) -> Result<PathAndQuery, Rule> {
    let is_web = |scheme: &Scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
    // Without :authority the scheme is not handed up.
    if !head.uri.scheme().is_none_or(is_web) || head.method == Method::CONNECT {
        return Err(Rule::Target);
    }
    let target = head.uri.path_and_query().ok_or(Rule::Target)?;
    let octets = target.as_str().as_bytes();
    if octets.len() > limits.target_octets {
        return Err(Rule::TargetTooLong);
    }
    if octets == b"*" && head.method == Method::OPTIONS {
        return Ok(target.clone());
    }
    if !octets.starts_with(b"/") {
        return Err(Rule::Target);
    }
    let path = run(PATH, octets, 0);
    let end = if octets.get(path) == Some(&b'?') { path + run(QUERY, octets, path) } else { path };
    if end == octets.len() { Ok(target.clone()) } else { Err(Rule::Target) }
}

/// What the request names as its host, in one or in two places that say the same (section 8.3.1).
fn host<'a>(authority: Option<&'a [u8]>, fields: &'a HeaderMap) -> Result<&'a [u8], Rule> {
    let mut lines = fields.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let (line, another) = (lines.next(), lines.next());
    let host = authority.or(line).ok_or(Rule::Host)?;
    let is_one = line.is_none_or(|line| line.eq_ignore_ascii_case(host));
    if another.is_none() && is_one && is_host(host) { Ok(host) } else { Err(Rule::Host) }
}

fn field(name: &HeaderName, value: &HeaderValue) -> Result<(), Rule> {
    let octets = value.as_bytes();
    let is_blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    // Section 8.2.1: who trims it reads another value than who does not.
    if is_blank(octets.first()) || is_blank(octets.last()) {
        return Err(Rule::FieldLine);
    }
    let is_text = |part: &[u8]| printable(part) == part.len();
    if !octets.split(|octet| *octet == b'\t').all(is_text) {
        return Err(Rule::FieldLine);
    }
    if *name == EXPECT && !octets.eq_ignore_ascii_case(b"100-continue") {
        return Err(Rule::Expectation);
    }
    if *name == UPGRADE || *name == HTTP2_SETTINGS { Err(Rule::Upgrade) } else { Ok(()) }
}

/// The fields with `Host` before them, and with the crumbs of cookies as one line where the first of
/// them stood (section 8.2.3).
fn lines(host: HeaderValue, mut fields: HeaderMap) -> HeaderMap {
    let cookie = {
        let mut crumbs = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
        match (crumbs.next(), crumbs.next()) {
            (Some(_), Some(_)) => {
                let crumbs: Vec<_> =
                    fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
                // What were field values make one.
                HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).ok()
            }
            _ => None,
        }
    };
    if let Some(cookie) = cookie {
        fields.insert(COOKIE, cookie);
    }
    let mut lines = HeaderMap::with_capacity(fields.len() + 1);
    lines.insert(HOST, host);
    for (name, value) in &fields {
        if *name != HOST {
            lines.append(name.clone(), value.clone());
        }
    }
    lines
}

#[cfg(test)]
mod tests;
