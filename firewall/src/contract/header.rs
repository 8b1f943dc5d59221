//! The header parameters of a request, and the fields by which an upstream may read another request
//! than the one that was checked.

use std::sync::Arc;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName};

use super::parameter::{Fault, ParameterRule};
use super::policy::{OverrideFields, Policy, Verdict};
use crate::violation::{Location, Rule, Violation};

/// By which some upstreams take another target or method than the request line's.
const OVERRIDES: [&str; 11] = [
    "x-original-url",
    "x-original-uri",
    "x-original-path",
    "x-envoy-original-path",
    "x-rewrite-url",
    "x-forwarded-path",
    "x-forwarded-uri",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
];

/// Fields for which no other spelling may stand, whatever the contract declares.
const UNIQUE: [&str; 8] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "transfer-encoding",
];

/// What clients, browsers and proxies send without being told: the request fields of RFC 9110,
/// RFC 9111, RFC 9112, RFC 9218, RFC 6265, RFC 6454, RFC 8470, RFC 8942, of Fetch, Client Hints and
/// Trace Context, and those of forwarding. Sorted. `Sec-` and `Access-Control-` fields belong to them.
const USUAL: [&str; 59] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "baggage",
    "cache-control",
    "connection",
    "content-digest",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-type",
    "cookie",
    "date",
    "device-memory",
    "dnt",
    "downlink",
    "dpr",
    "early-data",
    "ect",
    "expect",
    "forwarded",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "repr-digest",
    "rtt",
    "save-data",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "viewport-width",
    "want-content-digest",
    "want-repr-digest",
    "warning",
    "width",
    "x-real-ip",
    "x-request-id",
];

/// The header parameters of an operation.
pub(crate) struct HeaderRules {
    rules: Vec<(HeaderName, ParameterRule)>,
    /// Names that are declared without a rule: those of API keys.
    allowed: Vec<HeaderName>,
    /// Whether a declared name holds something else than letters, digits and hyphens.
    has_odd_names: bool,
    undeclared: Verdict,
    overrides: OverrideFields,
    connection: Verdict,
}

impl HeaderRules {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            rules: Vec::new(),
            allowed: Vec::new(),
            has_odd_names: false,
            undeclared: policy.undeclared_headers,
            overrides: policy.override_fields,
            connection: policy.connection_names_declared,
        }
    }

    pub(crate) fn push(&mut self, field: HeaderName, rule: ParameterRule) {
        self.has_odd_names |= has_odd_spelling(field.as_str());
        self.rules.push((field, rule));
    }

    /// Takes a field for declared whose value is checked elsewhere: that of an API key.
    pub(crate) fn allow(&mut self, field: HeaderName) {
        self.has_odd_names |= has_odd_spelling(field.as_str());
        self.allowed.push(field);
    }

    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Violation> {
        self.check_names(headers)?;
        self.check_values(headers, |_| true)
    }

    /// The same of a request from which declared fields may be missing.
    pub(crate) fn check_present(&self, headers: &HeaderMap) -> Result<(), Violation> {
        self.check_names(headers)?;
        self.check_values(headers, |name| headers.contains_key(name))
    }

    fn check_names(&self, headers: &HeaderMap) -> Result<(), Violation> {
        if self.overrides == OverrideFields::Refuse
            && let Some(known) = headers.keys().find_map(|name| self.disguised(name))
        {
            return Err(Violation::at(Rule::ParameterOverride, Location::Header(known.into())));
        }
        if self.undeclared == Verdict::Refuse
            && !headers.keys().all(|name| self.is_declared(name) || is_usual(name))
        {
            let at = Location::Header("*".into());
            return Err(Violation::at(Rule::ParameterUnknown, at));
        }
        Ok(())
    }

    fn check_values(
        &self,
        headers: &HeaderMap,
        is_checked: impl Fn(&HeaderName) -> bool,
    ) -> Result<(), Violation> {
        for (name, rule) in self.rules.iter().filter(|(name, _)| is_checked(name)) {
            check_field(name, rule, headers)
                .map_err(|fault| fault.at(Location::Header(Arc::clone(&rule.name))))?;
        }
        Ok(())
    }

    /// Checks what `Connection` named: nothing that was checked, or is to be, may be taken from the
    /// request on its way.
    pub(crate) fn check_connection(&self, named: &[HeaderName]) -> Result<(), Violation> {
        if self.connection == Verdict::Pass {
            return Ok(());
        }
        let is_known = |name: &&HeaderName| {
            self.is_declared(name)
                || matches!(name.as_str(), "authorization" | "content-type" | "cookie")
        };
        match named.iter().find(is_known) {
            Some(name) => {
                let at = Location::Header(name.as_str().into());
                Err(Violation::at(Rule::ParameterConnection, at))
            }
            None => Ok(()),
        }
    }

    /// Whether the field is to be taken from a request that is forwarded.
    pub(crate) fn strips(&self, name: &HeaderName) -> bool {
        self.overrides == OverrideFields::Strip && self.disguised(name).is_some()
    }

    fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.rules.iter().map(|(known, _)| known).chain(&self.allowed)
    }

    pub(crate) fn is_declared(&self, name: &HeaderName) -> bool {
        self.names().any(|known| known == name)
    }

    /// The field that an upstream may take this one for, or that overrides what was judged. What the
    /// contract declares is what it says.
    fn disguised(&self, field: &HeaderName) -> Option<&str> {
        let name = field.as_str();
        let is_odd = has_odd_spelling(name);
        // Most names can be seen to be neither an override nor a twin.
        if !name.starts_with('x') && !is_odd && !self.has_odd_names || self.is_declared(field) {
            return None;
        }
        let declared = self.names().map(HeaderName::as_str);
        let twins = UNIQUE.into_iter().chain(declared).filter(|known| *known != name);
        OVERRIDES.into_iter().chain(twins).find(|known| reads_as(name, known))
    }
}

/// Whether a name holds what its twins have a hyphen for.
fn has_odd_spelling(name: &str) -> bool {
    name.bytes().any(|octet| plain(octet) != octet)
}

/// CGI and its heirs read an underscore as a hyphen (RFC 3875 section 4.1.18), and some of them
/// whatever else is no letter and no digit.
fn plain(octet: u8) -> u8 {
    if octet.is_ascii_alphanumeric() { octet } else { b'-' }
}

/// Whether an upstream may take a field of this name, in lower case, for the `known` one.
pub fn reads_as(name: &str, known: &str) -> bool {
    name.len() == known.len() && name.bytes().map(plain).eq(known.bytes().map(plain))
}

fn is_usual(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("sec-")
        || name.starts_with("access-control-")
        || name.starts_with("x-forwarded-")
        || USUAL.binary_search(&name).is_ok()
}

/// Checks one header field, of a request or a response, in style `simple`.
pub(crate) fn check_field(
    name: &HeaderName,
    rule: &ParameterRule,
    headers: &HeaderMap,
) -> Result<(), Fault> {
    let lines = || headers.get_all(name).iter().map(|line| std::str::from_utf8(line.as_bytes()));
    if lines().any(|line| line.is_err()) {
        return Err(Fault::Encoding);
    }
    let texts = || lines().flatten();
    // The one field whose lines are no list (RFC 9110 section 5.3).
    if *name == SET_COOKIE && texts().next().is_some() {
        return texts().try_for_each(|text| rule.check(text));
    }
    rule.check_lines(texts)
}
