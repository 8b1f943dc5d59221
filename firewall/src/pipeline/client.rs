//! Who the client is, where trusted proxies stand between: RFC 7239 and `X-Forwarded-For`.
//!
//! A field is only as true as the one who wrote it last. The hops are read from the right, and only
//! as long as each is a trusted proxy: what stands left of the first stranger is the stranger's own
//! claim, and is not even read.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{AsHeaderName, FORWARDED, HeaderMap};
use ipnet::IpNet;

use crate::address::{ClientAddr, PeerAddr};
use crate::violation::{Rule, Violation};

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Octets of all lines of one of the fields together.
const OCTETS_MAX: usize = 10 * 1024;
/// Hops that one of the fields names, true or not.
const HOPS_MAX: usize = 32;

/// The client of a request that came from `peer`.
///
/// A peer that is not trusted is itself the client, and its fields are ignored. A hop that its
/// proxy calls `unknown` or by a made-up name hides who stands behind it, so the proxy is the
/// client.
///
/// # Errors
/// [`Rule::Forwarded`], if a trusted proxy lets through a field that is malformed where it has to
/// be read, that exceeds 10 KiB or 32 hops, or that names another client than the other field does:
/// then one of them is forged, and it cannot be told which.
pub fn client(
    peer: PeerAddr,
    trusted: &[IpNet],
    fields: &HeaderMap,
) -> Result<ClientAddr, Violation> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    if !is_trusted(peer.0) {
        return Ok(ClientAddr(peer.0));
    }
    let malformed = || Violation::new(Rule::Forwarded);
    let forwarded = lines(fields, FORWARDED).ok_or_else(malformed)?;
    let listed = lines(fields, X_FORWARDED_FOR).ok_or_else(malformed)?;
    let behind = |hops: Option<Vec<Option<&str>>>| {
        hops.and_then(|hops| first_stranger(peer.0, &hops, is_trusted)).ok_or_else(malformed)
    };
    let by_standard = if forwarded.is_empty() { None } else { Some(behind(elements(&forwarded))?) };
    let by_custom = if listed.is_empty() { None } else { Some(behind(entries(&listed))?) };
    match (by_standard, by_custom) {
        (Some(one), Some(other)) if one != other => Err(malformed()),
        (Some(address), _) | (None, Some(address)) => Ok(ClientAddr(address)),
        (None, None) => Ok(ClientAddr(peer.0)),
    }
}

/// The field's lines in their order; none if they are too long, or not plain text.
fn lines(fields: &HeaderMap, name: impl AsHeaderName) -> Option<Vec<&str>> {
    let mut octets = 0;
    let mut lines = Vec::new();
    for value in fields.get_all(name) {
        octets += value.len();
        lines.push(value.to_str().ok()?);
        if octets > OCTETS_MAX || lines.len() > HOPS_MAX {
            return None;
        }
    }
    Some(lines)
}

/// From the right: the first hop that is no trusted proxy, or the last proxy before one whose
/// address is kept from us. None if a hop that has to be read is malformed.
fn first_stranger(
    peer: IpAddr,
    hops: &[Option<&str>],
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut nearest = peer;
    for hop in hops.iter().rev() {
        match hop.map_or(Some(Node::Hidden), node)? {
            Node::Hidden => return Some(nearest),
            Node::Address(address) if is_trusted(address) => nearest = address,
            Node::Address(address) => return Some(address),
        }
    }
    Some(nearest)
}

/// The entries of `X-Forwarded-For`.
fn entries<'a>(lines: &[&'a str]) -> Option<Vec<Option<&'a str>>> {
    let mut hops = Vec::new();
    for entry in lines.iter().flat_map(|line| line.split(',')) {
        hops.push(Some(entry.trim_matches([' ', '\t'])));
        if hops.len() > HOPS_MAX {
            return None;
        }
    }
    Some(hops)
}

/// The `for` of each element of `Forwarded` (RFC 7239 section 4), without its quotation marks;
/// none for an element that has no `for`, and nothing in it for one that is empty. The standard
/// allows empty ones, but where it would have to be read somebody's word is missing: to pass it
/// over would be to believe the next.
///
/// Elements are told apart from the left, because commas may be quoted. A stranger who leaves a
/// quotation open to swallow what the proxies append to the line leaves it open to the line's end,
/// since theirs come in pairs; that is malformed.
fn elements<'a>(lines: &[&'a str]) -> Option<Vec<Option<&'a str>>> {
    let mut hops = Vec::new();
    for line in lines {
        let mut rest = *line;
        loop {
            let mut hop = None;
            rest = element(rest, &mut hop)?;
            hops.push(hop);
            if hops.len() > HOPS_MAX {
                return None;
            }
            let Some(after) = rest.strip_prefix(',') else { break };
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    Some(hops)
}

/// One element, any of whose pairs may be empty; gives what stands behind it.
fn element<'a>(text: &'a str, hop: &mut Option<&'a str>) -> Option<&'a str> {
    let mut is_empty = true;
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with([';', ',']) {
            rest = pair(rest, hop)?.trim_start_matches([' ', '\t']);
            is_empty = false;
        }
        match rest.strip_prefix(';') {
            Some(next) => rest = next,
            None => break,
        }
    }
    if is_empty {
        *hop = Some("");
    }
    Some(rest)
}

/// One parameter of an element; gives what stands behind it.
fn pair<'a>(text: &'a str, hop: &mut Option<&'a str>) -> Option<&'a str> {
    let end = text.find(|octet: char| !is_token(octet))?;
    let (name, after) = text.split_at(end);
    let (value, after) = value(after.strip_prefix('=')?)?;
    if name.is_empty() || value.is_empty() {
        return None;
    }
    if name.eq_ignore_ascii_case("for") && hop.replace(value).is_some() {
        return None;
    }
    Some(after)
}

/// A parameter's value, and what stands behind it. Colons and brackets outside of quotation marks
/// are against the standard, but cannot be misread, and some proxies write them. What an escape
/// stands for is not worked out: no address and no name needs one.
fn value(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let is_inner = |octet: char| is_token(octet) || matches!(octet, ':' | '[' | ']');
        let end = text.find(|octet| !is_inner(octet)).unwrap_or(text.len());
        return Some(text.split_at(end));
    };
    let mut is_escaped = false;
    for (at, octet) in quoted.char_indices() {
        match octet {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return Some((quoted.get(..at)?, quoted.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

fn is_token(octet: char) -> bool {
    octet.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(octet)
}

/// One hop, as RFC 7239 section 6 names it.
enum Node {
    Address(IpAddr),
    /// `unknown`, or a name that only the proxy understands.
    Hidden,
}

fn node(text: &str) -> Option<Node> {
    let address = |address: IpAddr| Some(Node::Address(address.to_canonical()));
    if let Some(inner) = text.strip_prefix('[') {
        let (inner, after) = inner.split_once(']')?;
        let is_whole = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        return is_whole.then(|| inner.parse::<Ipv6Addr>().ok())?.and_then(|ip| address(ip.into()));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return address(ip);
    }
    let (name, is_whole) = match text.split_once(':') {
        Some((name, port)) => (name, is_port(port)),
        None => (text, true),
    };
    if !is_whole {
        return None;
    }
    if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) {
        return Some(Node::Hidden);
    }
    name.parse::<Ipv4Addr>().ok().and_then(|ip| address(ip.into()))
}

/// A port's number, or a made-up name for it.
fn is_port(text: &str) -> bool {
    let is_number = (1..=5).contains(&text.len())
        && text.bytes().all(|octet| octet.is_ascii_digit())
        && text.parse::<u16>().is_ok();
    is_number || is_obfuscated(text)
}

fn is_obfuscated(text: &str) -> bool {
    text.strip_prefix('_').is_some_and(|rest| {
        let is_inner = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
        !rest.is_empty() && rest.bytes().all(is_inner)
    })
}
