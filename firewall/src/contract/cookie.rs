//! The cookies of a request (RFC 6265 section 4.2): the declared ones checked, whoever set the others.
//!
//! Browsers send what any page of the site has set, so that a cookie which is no parameter may be
//! malformed. What is read in two ways only by way of such a cookie is refused all the same.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use http::header::COOKIE;

use super::pairs::{Conflict, PairRules};
use super::parameter::{Fault, ParameterRule};
use super::policy::Verdict;
use crate::violation::{Location, Rule, Violation};

/// The cookie parameters of an operation.
pub(crate) struct CookieRules {
    pairs: PairRules,
    undeclared: Verdict,
    /// Names that are declared without a rule: those of API keys.
    allowed: Vec<Box<str>>,
}

impl CookieRules {
    pub(crate) fn new(undeclared: Verdict) -> Self {
        Self { pairs: PairRules::default(), undeclared, allowed: Vec::new() }
    }

    /// Adds a parameter.
    ///
    /// # Errors
    ///
    /// What another one has already.
    pub(crate) fn push(&mut self, rule: ParameterRule) -> Result<(), Conflict> {
        self.pairs.push(rule)
    }

    /// Takes a cookie for declared whose value is checked elsewhere: that of an API key.
    pub(crate) fn allow(&mut self, name: &str) {
        self.allowed.push(name.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Checks the cookies of every `Cookie` line, which are one list (RFC 9113 section 8.2.3).
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Violation> {
        if self.is_empty() && self.undeclared == Verdict::Pass {
            return Ok(());
        }
        let any = |rule| Violation::at(rule, Location::Cookie("*".into()));
        let mut sent = self.pairs.sent();
        let lines = headers.get_all(COOKIE).iter();
        for pair in lines.flat_map(|line| line.as_bytes().split(|octet| *octet == b';')) {
            let pair = trim(pair);
            if pair.is_empty() {
                continue;
            }
            let at = pair.iter().position(|octet| *octet == b'=');
            let (name, value) = at.and_then(|at| pair.split_at_checked(at)).unwrap_or((pair, b""));
            let value = value.strip_prefix(b"=");
            if value.is_some_and(is_open_quote) {
                return Err(any(Rule::ParameterEncoding));
            }
            if hides(value.unwrap_or_default(), |name| self.declares(name)) {
                return Err(any(Rule::ParameterEncoding));
            }
            // Only the names of other sites' making are no text.
            let known = std::str::from_utf8(trim(name)).ok();
            let owner = known.and_then(|known| Some((known, self.pairs.owner(known)?)));
            let Some((known, owner)) = owner else {
                let is_allowed = known
                    .is_some_and(|known| self.allowed.iter().any(|allowed| **allowed == *known));
                // Case is left alone: whoever set the cookie may have meant another one.
                let is_alias = || known.is_some_and(|known| self.pairs.is_alias(known, false));
                if !is_allowed && (self.undeclared == Verdict::Refuse || is_alias()) {
                    return Err(any(Rule::ParameterUnknown));
                }
                continue;
            };
            let at = |fault: Fault| fault.at(Location::Cookie(self.name(owner.rule)));
            // A name without an equals sign is to some the value of a cookie without a name, and so is
            // white space part of the name.
            let value = value.filter(|_| known.len() == name.len()).ok_or(Fault::Encoding);
            let value = value.and_then(text).map_err(at)?;
            sent.take(&owner, Cow::Borrowed(known), value).map_err(at)?;
        }
        sent.finish().map_err(|(rule, fault)| fault.at(Location::Cookie(self.name(rule))))
    }

    fn declares(&self, name: &[u8]) -> bool {
        let name = std::str::from_utf8(name).ok();
        name.is_some_and(|name| {
            self.pairs.owner(name).is_some() || self.allowed.iter().any(|known| **known == *name)
        })
    }

    fn name(&self, rule: usize) -> Arc<str> {
        self.pairs.rule(rule).map_or_else(|| "*".into(), |rule| Arc::clone(&rule.name))
    }
}

fn trim(octets: &[u8]) -> &[u8] {
    octets.trim_ascii()
}

/// A value that begins with a quote and does not end with the next: readers that honour quotes take
/// what follows, up to another cookie's quote, for part of it.
pub(crate) fn is_open_quote(value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(b"\"") else { return false };
    let end = rest.iter().position(|octet| *octet == b'"');
    // Behind a backslash the quote is part of the value for some of them.
    end.is_none_or(|end| end + 1 != rest.len()) || rest.ends_with(b"\\\"")
}

/// Whether readers that take a comma for the end of a cookie (RFC 2109 section 4.3.4) find another one
/// within this value, and one that `is_known`.
pub(crate) fn hides(value: &[u8], is_known: impl Fn(&[u8]) -> bool) -> bool {
    value.split(|octet| *octet == b',').skip(1).any(|piece| {
        let end = piece.iter().position(|octet| *octet == b'=');
        end.and_then(|end| piece.get(..end)).is_some_and(|name| is_known(trim(name)))
    })
}

/// The value of a declared cookie: `cookie-octet`s, quotes around them, and the comma by which a style
/// joins the items of a list.
fn text(value: &[u8]) -> Result<&str, Fault> {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let is_plain = |octet: &u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\');
    if !inner.unwrap_or(value).iter().all(is_plain) {
        return Err(Fault::Encoding);
    }
    std::str::from_utf8(value).map_err(|_unreachable| Fault::Encoding)
}
