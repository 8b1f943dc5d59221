//! From a feed's octets to prefixes: plain lists, Spamhaus' lines of JSON, Google's JSON.
//!
//! A feed is somebody else's file, and is often cut off, or a page that says why it is not there. What
//! cannot be read whole is refused whole; of a plain list a few lines may be broken.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde::Deserialize;

use crate::ban::canonical;

/// How a feed is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One of the others, by its first octets.
    #[default]
    Auto,
    /// An address, a prefix or a range `first-last` begins each line; `#` and `;` begin comments.
    Text,
    /// Lines of `{"cidr": …}`, and one with `"type": "metadata"` that says how many there are.
    Spamhaus,
    /// `{"prefixes": [{"ipv4Prefix": …}, {"ipv6Prefix": …}]}`.
    Google,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// In the feed's order, host bits cleared, IPv4-mapped prefixes as IPv4.
    pub prefixes: Vec<IpNet>,
    /// Lines of a plain list that are none of the above.
    pub broken: usize,
}

/// The feed cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("it is a page for people, not a list")]
    Page,
    #[error("it lists nothing")]
    Empty,
    #[error("expected at most {most} entries")]
    TooMany { most: usize },
    #[error(
        "line {line} is the first of {broken} that hold neither address nor prefix, of {lines}"
    )]
    Broken { line: usize, broken: usize, lines: usize },
    #[error("line {line}: {problem}")]
    Json { line: usize, problem: String },
    #[error("it is cut off: there is no metadata behind its {found} entries")]
    NoMetadata { found: usize },
    #[error("it is cut off: expected {declared} entries by its metadata, found {found}")]
    Incomplete { declared: usize, found: usize },
}

/// Broken lines that any plain list may have, and the share of its lines: one in so many.
const BROKEN_FEW: usize = 1;
const BROKEN_SHARE: usize = 20;
/// The byte order mark of UTF-8, which some editors write.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a feed of at most `most` entries.
pub fn parse(octets: &[u8], format: Format, most: usize) -> Result<Parsed, ParseError> {
    let octets = octets.strip_prefix(MARK).unwrap_or(octets).trim_ascii();
    let format = match (format, octets.first()) {
        (_, None) => return Err(ParseError::Empty),
        (_, Some(b'<')) => return Err(ParseError::Page),
        (Format::Auto, Some(b'{')) if is_lines(octets) => Format::Spamhaus,
        (Format::Auto, Some(b'{' | b'[')) => Format::Google,
        (format, _) => format,
    };
    let parsed = match format {
        Format::Auto | Format::Text => text(octets, most)?,
        Format::Spamhaus => spamhaus(octets, most)?,
        Format::Google => google(octets, most)?,
    };
    if parsed.prefixes.is_empty() { Err(ParseError::Empty) } else { Ok(parsed) }
}

/// The lines that are not blank, by their numbers from 1, without what is around them: CR LF too.
fn lines(octets: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = octets.split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii);
    (1..).zip(lines).filter(|(_, line)| !line.is_empty())
}

fn text(octets: &[u8], most: usize) -> Result<Parsed, ParseError> {
    let mut parsed = Parsed::default();
    let (mut first_broken, mut count) = (0, 0);
    for (number, line) in lines(octets) {
        let content = line.split(|octet| matches!(octet, b'#' | b';')).next().unwrap_or_default();
        let is_gap = |octet: &u8| octet.is_ascii_whitespace() || *octet == b',';
        let Some(word) = content.split(is_gap).find(|word| !word.is_empty()) else { continue };
        count += 1;
        let found = std::str::from_utf8(word).ok().and_then(entry);
        if let Some(prefixes) = found {
            parsed.prefixes.extend(prefixes);
        } else {
            parsed.broken += 1;
            if parsed.broken == 1 {
                first_broken = number;
            }
        }
        if parsed.prefixes.len() > most {
            return Err(ParseError::TooMany { most });
        }
    }
    let is_rubbish = parsed.broken > BROKEN_FEW && parsed.broken * BROKEN_SHARE > count;
    if is_rubbish || (parsed.broken > 0 && parsed.prefixes.is_empty()) {
        let broken = parsed.broken;
        return Err(ParseError::Broken { line: first_broken, broken, lines: count });
    }
    Ok(parsed)
}

/// An address, a prefix, or a range of addresses.
fn entry(word: &str) -> Option<Vec<IpNet>> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(vec![IpNet::from(address.to_canonical())]);
    }
    if let Ok(net) = word.parse::<IpNet>() {
        return Some(vec![canonical(net)]);
    }
    let (first, last) = word.split_once('-')?;
    match (first.parse().ok()?, last.parse().ok()?) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            Some(Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            Some(Ipv6Subnets::new(first, last, 0).map(|net| canonical(IpNet::V6(net))).collect())
        }
        _ => None,
    }
}

#[derive(Deserialize)]
struct SpamhausLine<'a> {
    #[serde(borrow)]
    cidr: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    r#type: Option<std::borrow::Cow<'a, str>>,
    records: Option<usize>,
}

/// Whether the first line is an object by itself.
fn is_lines(octets: &[u8]) -> bool {
    let first = lines(octets).next().and_then(|(_, line)| serde_json::from_slice(line).ok());
    first.is_some_and(|line: SpamhausLine<'_>| line.cidr.is_some() || line.r#type.is_some())
}

fn spamhaus(octets: &[u8], most: usize) -> Result<Parsed, ParseError> {
    let mut parsed = Parsed::default();
    let mut declared = None;
    for (number, line) in lines(octets) {
        let problem = |problem: &str| ParseError::Json { line: number, problem: problem.into() };
        let line: SpamhausLine<'_> =
            serde_json::from_slice(line).map_err(|error| problem(&error.to_string()))?;
        match (line.cidr, line.r#type.as_deref()) {
            (Some(cidr), _) => {
                let net = cidr.parse().map_err(|_not_one| problem("cidr is no prefix"))?;
                parsed.prefixes.push(canonical(net));
            }
            (None, Some("metadata")) => declared = Some(line.records),
            (None, _) => return Err(problem("neither cidr nor metadata")),
        }
        if parsed.prefixes.len() > most {
            return Err(ParseError::TooMany { most });
        }
    }
    let found = parsed.prefixes.len();
    match declared {
        None => Err(ParseError::NoMetadata { found }),
        Some(Some(declared)) if declared != found => {
            Err(ParseError::Incomplete { declared, found })
        }
        Some(_) => Ok(parsed),
    }
}

#[derive(Deserialize)]
struct GoogleList {
    prefixes: Vec<GooglePrefix>,
}

#[derive(Deserialize)]
struct GooglePrefix {
    #[serde(rename = "ipv4Prefix")]
    v4: Option<IpNet>,
    #[serde(rename = "ipv6Prefix")]
    v6: Option<IpNet>,
}

fn google(octets: &[u8], most: usize) -> Result<Parsed, ParseError> {
    let list: GoogleList = serde_json::from_slice(octets)
        .map_err(|error| ParseError::Json { line: error.line(), problem: error.to_string() })?;
    let mut prefixes = Vec::with_capacity(list.prefixes.len().min(most));
    for (prefix, number) in list.prefixes.into_iter().zip(1_usize..) {
        let before = prefixes.len();
        prefixes.extend([prefix.v4, prefix.v6].into_iter().flatten().map(canonical));
        if prefixes.len() == before {
            let problem = format!("its entry {number} has neither ipv4Prefix nor ipv6Prefix");
            return Err(ParseError::Json { line: 1, problem });
        }
        if prefixes.len() > most {
            return Err(ParseError::TooMany { most });
        }
    }
    Ok(Parsed { prefixes, broken: 0 })
}

#[cfg(test)]
mod tests;
