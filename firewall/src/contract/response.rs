//! What the upstream may answer: statuses, header fields and contents.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::content::{Content, Contents};
use super::header::check_field;
use super::parameter::{Fault, ParameterRule};
use crate::violation::{Location, Rule, Violation};

/// The declared responses of an operation.
#[derive(Default)]
pub(crate) struct Responses {
    pub(crate) exact: Vec<(u16, ResponseRule)>,
    /// `1XX` to `5XX`, by the first digit.
    pub(crate) ranges: Vec<(u16, ResponseRule)>,
    pub(crate) default: Option<ResponseRule>,
}

impl Responses {
    pub(crate) fn select(&self, status: StatusCode) -> Result<&ResponseRule, Violation> {
        let find = |rules: &'_ [(u16, ResponseRule)], wanted| {
            rules.iter().position(|(known, _)| *known == wanted)
        };
        let status = status.as_u16();
        let exact = find(&self.exact, status).and_then(|at| self.exact.get(at));
        let range = || find(&self.ranges, status / 100).and_then(|at| self.ranges.get(at));
        exact
            .or_else(range)
            .map(|(_, rule)| rule)
            .or(self.default.as_ref())
            .ok_or_else(|| Violation::new(Rule::ResponseStatus))
    }
}

/// What one response must be.
pub struct ResponseRule {
    pub(crate) headers: Vec<(HeaderName, ParameterRule)>,
    pub(crate) contents: Contents,
}

impl ResponseRule {
    /// Checks the declared header fields; others pass.
    ///
    /// # Errors
    ///
    /// [`Rule::ResponseHeader`] with the field's name.
    pub fn check_headers(&self, headers: &HeaderMap) -> Result<(), Violation> {
        for (name, rule) in &self.headers {
            check_field(name, rule, headers).map_err(|fault| {
                let at = Location::Header(rule.name.clone());
                let keyword =
                    if let Fault::Schema(mismatch) = fault { mismatch.keyword } else { None };
                Violation { keyword, ..Violation::at(Rule::ResponseHeader, at) }
            })?;
        }
        Ok(())
    }

    /// The declared content that a body of this `Content-Type` must be; none where no content is
    /// declared, so that any body is refused.
    ///
    /// # Errors
    ///
    /// [`Rule::ResponseMediaType`], [`Rule::ResponseEncoding`].
    pub fn content(
        &self,
        content_type: Option<&HeaderValue>,
    ) -> Result<Option<&Content>, Violation> {
        if self.contents.is_empty() {
            return Ok(None);
        }
        self.contents.select(content_type).map(Some)
    }
}

impl fmt::Debug for ResponseRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseRule").field("contents", &self.contents).finish_non_exhaustive()
    }
}
