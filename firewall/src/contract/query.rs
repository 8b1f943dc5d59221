//! The query of a request: its names known, its values checked, and one spelling of it to forward.

use std::borrow::Cow;
use std::sync::Arc;

use super::pairs::{Conflict, PairRules};
use super::parameter::{Fault, ParameterRule, Spread};
use super::policy::Verdict;
use super::uri::{Part, Plus, decode, encode, normalize};
use crate::violation::{Location, Rule, Violation};

/// The query parameters of an operation.
pub(crate) struct QueryRules {
    pairs: PairRules,
    /// The parameter that is the query whole, in another form than pairs.
    whole: Option<ParameterRule>,
    /// Whether one parameter is the query whole (`in: querystring`).
    is_whole: bool,
    undeclared: Verdict,
}

impl QueryRules {
    pub(crate) fn new(undeclared: Verdict) -> Self {
        Self { pairs: PairRules::default(), whole: None, is_whole: false, undeclared }
    }

    /// Adds a parameter.
    ///
    /// # Errors
    ///
    /// What another one has already.
    pub(crate) fn push(&mut self, rule: ParameterRule) -> Result<(), Conflict> {
        if self.is_whole {
            return Err(Conflict::Whole);
        }
        self.pairs.push(rule)
    }

    /// Adds the parameter that is the query whole.
    ///
    /// # Errors
    ///
    /// There is another one in the query.
    pub(crate) fn push_whole(&mut self, rule: ParameterRule) -> Result<(), Conflict> {
        if self.is_whole || !self.pairs.is_empty() {
            return Err(Conflict::Whole);
        }
        self.is_whole = true;
        if rule.spread == Spread::Members {
            self.pairs.push(rule)
        } else {
            self.whole = Some(rule);
            Ok(())
        }
    }

    /// Accepts a name whose value is checked elsewhere: that of an API key.
    ///
    /// # Errors
    ///
    /// A parameter is the query whole, so that nothing else can be in it.
    pub(crate) fn allow(&mut self, name: &str) -> Result<(), Conflict> {
        if self.is_whole {
            return Err(Conflict::Whole);
        }
        self.pairs.allow(name);
        Ok(())
    }

    /// Checks `query` and gives what to forward of it; none where nothing is left.
    pub(crate) fn check(&self, query: Option<&str>) -> Result<Option<String>, Violation> {
        let query = query.unwrap_or_default();
        match &self.whole {
            Some(rule) => whole(rule, query),
            None => self.check_pairs(query),
        }
    }

    fn check_pairs(&self, query: &str) -> Result<Option<String>, Violation> {
        let unnamed = || Violation::at(Rule::ParameterEncoding, Location::Query("*".into()));
        let mut forwarded = String::with_capacity(query.len());
        let mut sent = self.pairs.sent();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(raw_name, Plus::Space).ok_or_else(unnamed)?;
            let owner = self.pairs.owner(&name);
            let is_refused =
                || self.undeclared == Verdict::Refuse || self.pairs.is_alias(&name, true);
            if owner.is_none() && is_refused() {
                // The name is the client's, so it is not told.
                let at = Location::Query("*".into());
                return Err(Violation::at(Rule::ParameterUnknown, at));
            }
            if !forwarded.is_empty() {
                forwarded.push('&');
            }
            normalize(raw_name, Part::Query, &mut forwarded).ok_or_else(unnamed)?;
            if pair.len() > raw_name.len() {
                forwarded.push('=');
            }
            let at = || owner.as_ref().map_or_else(|| "*".into(), |owner| self.name(owner.rule));
            normalize(value, Part::Query, &mut forwarded)
                .ok_or_else(|| Violation::at(Rule::ParameterEncoding, Location::Query(at())))?;
            match &owner {
                Some(owner) => sent
                    .take(owner, name, value)
                    .map_err(|fault| fault.at(Location::Query(self.name(owner.rule))))?,
                // What is not text is refused in any case.
                None => decode(value, Plus::Space).map(drop).ok_or_else(unnamed)?,
            }
        }
        sent.finish().map_err(|(rule, fault)| fault.at(Location::Query(self.name(rule))))?;
        Ok(Some(forwarded).filter(|query| !query.is_empty()))
    }

    fn name(&self, rule: usize) -> Arc<str> {
        self.pairs.rule(rule).map_or_else(|| "*".into(), |rule| Arc::clone(&rule.name))
    }
}

/// Checks a query that is one text; what is forwarded is written anew from what was decoded.
fn whole(rule: &ParameterRule, query: &str) -> Result<Option<String>, Violation> {
    let at = |fault: Fault| fault.at(Location::Query(Arc::clone(&rule.name)));
    if query.is_empty() {
        return if rule.required { Err(at(Fault::Missing)) } else { Ok(None) };
    }
    rule.check(query).map_err(at)?;
    let text: Cow<'_, str> = rule.encoding.decode(query).map_err(at)?;
    let mut forwarded = String::with_capacity(query.len());
    encode(&text, &mut forwarded);
    Ok(Some(forwarded))
}
