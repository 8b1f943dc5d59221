//! The fields that answers get or lose on their way to the client: those by which a browser protects
//! whoever asks, the upstream's banners, and the attributes of cookies.
//!
//! An upstream's answer has been judged by then: what is added here is not what the contract speaks of.
//! CORS is the API's own; no field of it is ever named here.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use http::header::{Entry, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::de::{self, Deserialize, Deserializer};

use super::set_cookie::{CookieAttributes, CookieRules};
use crate::contract::{Contract, Operation, SecurityRule};

/// What becomes of one field of an answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldRule {
    /// It is left as it comes, or does not come.
    Pass,
    Remove,
    /// Set where the upstream does not set it.
    Absent(#[serde(deserialize_with = "value")] HeaderValue),
    /// Set in place of whatever the upstream sets.
    Always(#[serde(deserialize_with = "value")] HeaderValue),
}

fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderValue, D::Error> {
    let text = String::deserialize(deserializer)?;
    let value = HeaderValue::from_str(&text).ok();
    value.filter(|_| !text.is_empty() && text.is_ascii() && text.trim_ascii() == text).ok_or_else(
        || {
            de::Error::custom(
                "expected a field's value: printable ASCII, with no white space around it",
            )
        },
    )
}

/// What becomes of the fields of an API's answers, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRules {
    /// No name is there twice.
    pub fields: Vec<(HeaderName, FieldRule)>,
    pub cookies: CookieAttributes,
}

/// The same, ready to be applied.
#[derive(Clone, Debug)]
pub struct AnswerFields {
    removed: Vec<HeaderName>,
    always: Vec<Field>,
    absent: Vec<Field>,
    cookies: CookieRules,
}

#[derive(Clone, Debug)]
struct Field {
    name: HeaderName,
    value: HeaderValue,
    /// Not to be said in plain text (RFC 6797 section 7.2).
    is_of_tls: bool,
}

impl Field {
    fn new(name: &HeaderName, value: &HeaderValue) -> Self {
        let (name, value) = (name.clone(), value.clone());
        Self { is_of_tls: name == STRICT_TRANSPORT_SECURITY, name, value }
    }

    fn is_due(&self, is_over_tls: bool) -> bool {
        is_over_tls || !self.is_of_tls
    }

    fn set_where_absent(&self, headers: &mut HeaderMap) {
        if let Entry::Vacant(entry) = headers.entry(&self.name) {
            entry.insert(self.value.clone());
        }
    }

    /// The same octets in memory of their own.
    fn copied(&self) -> Self {
        let value = HeaderValue::from_bytes(self.value.as_bytes());
        Self {
            name: copied(&self.name),
            value: value.unwrap_or_else(|_invalid| self.value.clone()),
            is_of_tls: self.is_of_tls,
        }
    }
}

fn copied(name: &HeaderName) -> HeaderName {
    HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_invalid| name.clone())
}

impl AnswerFields {
    /// A field that the contract declares for any of its answers is never removed: clients were
    /// promised it.
    pub fn new(rules: &AnswerRules, contract: &Contract) -> Self {
        let operations = contract.operations();
        let is_declared =
            |name: &HeaderName| operations.iter().any(|operation| operation.answers_with(name));
        let (mut removed, mut always, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        for (name, rule) in &rules.fields {
            match rule {
                FieldRule::Pass => {}
                FieldRule::Remove if is_declared(name) => {}
                FieldRule::Remove => removed.push(name.clone()),
                FieldRule::Absent(value) => absent.push(Field::new(name, value)),
                FieldRule::Always(value) => always.push(Field::new(name, value)),
            }
        }
        let cookies = rules.cookies.for_credentials(|| {
            let rules = operations.iter().filter_map(Operation::security);
            let names: BTreeSet<&str> = rules.flat_map(SecurityRule::cookie_names).collect();
            names.into_iter().map(Into::into).collect()
        });
        Self { removed, always, absent, cookies }
    }

    /// A copy for one worker. What stands in an answer counts who refers to it, and a count that all
    /// workers moved would be a cache line that all of them write.
    pub(super) fn of_a_worker(&self) -> Self {
        Self {
            removed: self.removed.iter().map(copied).collect(),
            always: self.always.iter().map(Field::copied).collect(),
            absent: self.absent.iter().map(Field::copied).collect(),
            cookies: self.cookies.clone(),
        }
    }

    /// Completes the upstream's answer.
    pub(super) fn complete(&self, status: StatusCode, headers: &mut HeaderMap, is_over_tls: bool) {
        for name in &self.removed {
            headers.remove(name);
        }
        for field in self.always.iter().filter(|field| field.is_due(is_over_tls)) {
            headers.insert(&field.name, field.value.clone());
        }
        // What a 304 says replaces what its stored answer said (RFC 9111 section 3.2): a field that is
        // absent here may well be there.
        if status != StatusCode::NOT_MODIFIED {
            for field in self.absent.iter().filter(|field| field.is_due(is_over_tls)) {
                field.set_where_absent(headers);
            }
        }
        self.cookies.complete(headers, is_over_tls);
    }

    /// Completes an answer of the firewall's own, whose fields are what it means.
    pub(super) fn complete_own(&self, headers: &mut HeaderMap, is_over_tls: bool) {
        let fields = self.always.iter().chain(&self.absent);
        for field in fields.filter(|field| field.is_due(is_over_tls)) {
            field.set_where_absent(headers);
        }
    }
}
