//! What the upstream may answer: statuses, header fields and contents.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::content::{Content, Contents};
use super::exception;
use super::header::check_field;
use super::parameter::{Fault, ParameterRule};
use super::policy::Exceptions;
use super::schema::Direction;
use crate::violation::{Location, Rule, Violation};

/// The declared responses of an operation.
pub(crate) struct Responses {
    pub(crate) exact: Vec<(u16, ResponseRule)>,
    /// `1XX` to `5XX`, by the first digit.
    pub(crate) ranges: Vec<(u16, ResponseRule)>,
    pub(crate) default: Option<ResponseRule>,
    /// For every other status, where the policy lets those pass.
    pub(crate) undeclared: Option<ResponseRule>,
    pub(crate) exceptions: Exceptions,
}

impl Responses {
    pub(crate) fn select(&self, status: StatusCode) -> Result<&ResponseRule, Violation> {
        let find = |rules: &'_ [(u16, ResponseRule)], wanted| {
            rules.iter().position(|(known, _)| *known == wanted)
        };
        let is_partial = status == StatusCode::PARTIAL_CONTENT;
        let status = status.as_u16();
        let exact = find(&self.exact, status).and_then(|at| self.exact.get(at));
        let range = || find(&self.ranges, status / 100).and_then(|at| self.ranges.get(at));
        let declared = match exact {
            Some((_, rule)) => Some(rule),
            // A range and a default speak of whole representations.
            None if is_partial => None,
            None => range().map(|(_, rule)| rule).or(self.default.as_ref()),
        };
        let rule = if is_partial { Rule::ResponsePartial } else { Rule::ResponseStatus };
        declared.or(self.undeclared.as_ref()).ok_or_else(|| Violation::new(rule))
    }

    /// The one that is declared by this very status.
    pub(crate) fn exactly(&self, status: StatusCode) -> Option<&ResponseRule> {
        let mut exact = self.exact.iter();
        exact.find(|(known, _)| *known == status.as_u16()).map(|(_, rule)| rule)
    }

    /// Whether any answer is declared that means success, by its status or its range.
    pub(crate) fn have_success(&self) -> bool {
        self.exact.iter().any(|(status, _)| (200..300).contains(status))
            || self.ranges.iter().any(|(digit, _)| *digit == 2)
    }

    /// Whether parts of a representation are declared, by their status.
    pub(crate) fn are_partial(&self) -> bool {
        self.exact.iter().any(|(status, _)| *status == StatusCode::PARTIAL_CONTENT.as_u16())
    }

    /// Whether any of them declares this header field.
    pub(crate) fn declare(&self, name: &HeaderName) -> bool {
        let by_status = self.exact.iter().chain(&self.ranges).map(|(_, rule)| rule);
        let mut declared = by_status.chain(&self.default).flat_map(|rule| &rule.headers);
        declared.any(|(field, _)| field == name)
    }

    /// Whether a body that is as declared must also hold no exception.
    pub(crate) fn check_exceptions(
        &self,
        status: StatusCode,
        body: &[u8],
    ) -> Result<(), Violation> {
        let is_checked = match self.exceptions {
            Exceptions::Pass => false,
            Exceptions::RefuseInErrors => status.is_client_error() || status.is_server_error(),
            Exceptions::Refuse => true,
        };
        let found = if is_checked { exception::trace(body) } else { None };
        match found {
            None => Ok(()),
            found => {
                let violation = Violation::new(Rule::ResponseException);
                Err(Violation { exception: found, ..violation })
            }
        }
    }
}

/// What one response must be.
pub struct ResponseRule {
    pub(crate) headers: Vec<(HeaderName, ParameterRule)>,
    pub(crate) contents: Contents,
}

impl ResponseRule {
    /// Whatever may come where nothing is declared.
    pub(crate) fn unread(limit: usize) -> Self {
        let content = Content::unread(Direction::Response, limit);
        let contents = Contents::new(Direction::Response, vec![content]);
        Self { headers: Vec::new(), contents }
    }

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
