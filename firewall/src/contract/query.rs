//! The query of a request: its names known, its values checked, and one spelling of it to forward.

use std::sync::Arc;

use super::parameter::{Encoding, ParameterRule, Shape};
use super::uri::{Part, Plus, decode, normalize};
use crate::violation::{Location, Rule, Violation};

/// Stands for the rule of a name that has none.
const NO_RULE: usize = usize::MAX;

/// The query parameters of an operation.
#[derive(Default)]
pub(crate) struct QueryRules {
    rules: Vec<ParameterRule>,
    /// Every name that may stand in the query, with the rule that it belongs to: the parameter's, or
    /// for an exploded object those of its members.
    names: Vec<(Box<str>, usize)>,
}

impl QueryRules {
    /// Adds a rule.
    ///
    /// # Errors
    ///
    /// The name that another rule has already.
    pub(crate) fn push(&mut self, rule: ParameterRule) -> Result<(), Box<str>> {
        let names = if let Some(properties) = spread(&rule) {
            properties.iter().map(|(name, _)| name.clone()).collect()
        } else {
            vec![Box::from(&*rule.name)]
        };
        for name in names {
            if self.names.iter().any(|(known, _)| *known == name) {
                return Err(name);
            }
            self.names.push((name, self.rules.len()));
        }
        self.rules.push(rule);
        Ok(())
    }

    /// Accepts a name whose value is checked elsewhere: that of an API key.
    pub(crate) fn allow(&mut self, name: &str) {
        if !self.names.iter().any(|(known, _)| **known == *name) {
            self.names.push((name.into(), NO_RULE));
        }
    }

    /// Checks `query` and gives what to forward of it; none where nothing is left.
    pub(crate) fn check(&self, query: Option<&str>) -> Result<Option<String>, Violation> {
        let query = query.unwrap_or_default();
        let mut forwarded = String::with_capacity(query.len());
        // At most one for every two octets of the target, which has its limit.
        let mut sent: Vec<(usize, usize, &str)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let encoding = |name| Violation::at(Rule::ParameterEncoding, Location::Query(name));
            let name = decode(raw_name, Plus::Space).ok_or_else(|| encoding("*".into()))?;
            let place = self.names.iter().position(|(known, _)| **known == *name);
            let Some((place, (_, rule))) = place.and_then(|at| Some((at, self.names.get(at)?)))
            else {
                // The name is the client's, so it is not told.
                let at = Location::Query("*".into());
                return Err(Violation::at(Rule::ParameterUnknown, at));
            };
            if !forwarded.is_empty() {
                forwarded.push('&');
            }
            normalize(raw_name, Part::Query, &mut forwarded).ok_or_else(|| encoding("*".into()))?;
            if pair.len() > raw_name.len() {
                forwarded.push('=');
            }
            normalize(value, Part::Query, &mut forwarded)
                .ok_or_else(|| encoding(self.name(*rule)))?;
            sent.push((*rule, place, value));
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let own = || sent.iter().filter(|(owner, ..)| *owner == index);
            let checked = if spread(rule).is_some() {
                rule.check_members(own().filter_map(|(_, place, value)| {
                    self.names.get(*place).map(|(name, _)| (&**name, *value))
                }))
            } else {
                rule.check(|| own().map(|(.., value)| *value), Encoding::Uri(Plus::Space))
            };
            checked.map_err(|fault| fault.at(Location::Query(Arc::clone(&rule.name))))?;
        }
        Ok(Some(forwarded).filter(|query| !query.is_empty()))
    }

    fn name(&self, rule: usize) -> Arc<str> {
        self.rules.get(rule).map_or_else(|| "*".into(), |rule| Arc::clone(&rule.name))
    }
}

/// The members that stand in the query by their own names.
fn spread(rule: &ParameterRule) -> Option<&[(Box<str>, super::parameter::Types)]> {
    match &rule.shape {
        Shape::Object { properties, explode: true, .. } => Some(properties),
        _ => None,
    }
}
