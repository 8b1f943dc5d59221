//! `Operation`: all that one method of one path demands, looked up by index.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::content::BodyRule;
use super::parameter::{Encoding, ParameterRule};
use super::paths::{PathTable, Routed};
use super::query::QueryRules;
use super::response::{ResponseRule, Responses, check_field};
use super::security::{Presented, SecurityRule};
use super::uri::Plus;
use crate::violation::{Location, Violation};

/// The contract of an API: its operations, and how a request finds one. Never changes.
pub struct Contract {
    pub(crate) operations: Vec<Operation>,
    pub(crate) paths: PathTable,
}

impl Contract {
    /// In the order of the document.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operation that a request is for. `path` is the raw path of its target, without the query.
    /// HEAD is matched by the GET of its path where it is not declared itself.
    ///
    /// # Errors
    ///
    /// [`Rule::Path`](crate::violation::Rule::Path) for a path that could be read in two ways,
    /// [`Rule::UnknownPath`](crate::violation::Rule::UnknownPath), and
    /// [`Rule::Method`](crate::violation::Rule::Method) with the methods that are allowed.
    pub fn route(&self, method: &Method, path: &str) -> Result<Matched<'_>, Violation> {
        let Routed { operation: index, path, values } = self.paths.route(method, path)?;
        let operation = usize::try_from(index.0)
            .ok()
            .and_then(|index| self.operations.get(index))
            // Every index in the table was given by the list.
            .ok_or_else(|| Violation::new(crate::violation::Rule::UnknownPath))?;
        Ok(Matched { index, operation, path, values })
    }
}

impl fmt::Debug for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract").field("operations", &self.operations).finish_non_exhaustive()
    }
}

/// The place of an operation in [`Contract::operations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationIndex(pub u32);

/// A request's operation, and what of its path belongs to the parameters.
#[derive(Debug)]
pub struct Matched<'c> {
    pub index: OperationIndex,
    pub operation: &'c Operation,
    /// The path to forward: unreserved characters decoded, the others' escapes kept.
    pub path: String,
    /// Where in `path` the values of the expressions stand, encoded, in the template's order.
    values: Vec<(usize, usize)>,
}

impl Matched<'_> {
    /// The value of the template's expression at `index`, still percent-encoded.
    pub fn value(&self, index: usize) -> Option<&str> {
        let (start, end) = self.values.get(index)?;
        self.path.get(*start..*end)
    }
}

/// One method of one path.
pub struct Operation {
    pub(crate) id: Box<str>,
    pub(crate) method: Method,
    pub(crate) template: Arc<str>,
    /// With the place of each among the template's expressions.
    pub(crate) path: Vec<(usize, ParameterRule)>,
    pub(crate) query: QueryRules,
    pub(crate) headers: Vec<(HeaderName, ParameterRule)>,
    /// None where nothing is demanded.
    pub(crate) security: Option<Arc<SecurityRule>>,
    pub(crate) body: Option<BodyRule>,
    pub(crate) responses: Responses,
}

impl Operation {
    /// The `operationId`, or method and template: `GET /orders/{id}`.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// The path as the document writes it, without the servers' base paths.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// What credentials the operation demands; none where it demands nothing.
    pub fn security(&self) -> Option<&SecurityRule> {
        self.security.as_deref()
    }

    /// Checks that the credentials that the operation demands are there and well-formed; none where
    /// it demands none.
    ///
    /// # Errors
    ///
    /// The rules of the stage [`Authentication`](crate::violation::Stage::Authentication).
    pub fn check_credentials<'m>(
        &'m self,
        query: Option<&'m str>,
        headers: &'m HeaderMap,
    ) -> Result<Option<Presented<'m>>, Violation> {
        self.security.as_ref().map(|rule| rule.check(query, headers)).transpose()
    }

    /// Checks path, query and header parameters, and gives the query to forward, written anew; none
    /// where the request has none. Query names that are not declared are refused; header fields that
    /// are not declared pass.
    ///
    /// # Errors
    ///
    /// The rules of the stage [`Parameters`](crate::violation::Stage::Parameters).
    pub fn check_parameters(
        &self,
        matched: &Matched<'_>,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Option<String>, Violation> {
        for (index, rule) in &self.path {
            rule.check(|| matched.value(*index).into_iter(), Encoding::Uri(Plus::Literal))
                .map_err(|fault| fault.at(Location::Path(Arc::clone(&rule.name))))?;
        }
        let query = self.query.check(query)?;
        for (name, rule) in &self.headers {
            check_field(name, rule, headers)
                .map_err(|fault| fault.at(Location::Header(Arc::clone(&rule.name))))?;
        }
        Ok(query)
    }

    /// What the operation takes as its body; without one, any body is refused.
    pub fn body(&self) -> Option<&BodyRule> {
        self.body.as_ref()
    }

    /// The response that `status` must be: the exact code's, its range's, or the default.
    ///
    /// # Errors
    ///
    /// [`Rule::ResponseStatus`](crate::violation::Rule::ResponseStatus).
    pub fn response(&self, status: StatusCode) -> Result<&ResponseRule, Violation> {
        self.responses.select(status)
    }

    /// Whether an answer may be part of a representation, which the document says by declaring the
    /// status 206 itself.
    pub fn answers_in_parts(&self) -> bool {
        self.responses.are_partial()
    }

    /// Checks that a body that is as the contract declares it holds no exception, where the policy
    /// asks for that.
    ///
    /// # Errors
    ///
    /// [`Rule::ResponseException`](crate::violation::Rule::ResponseException), with the kind.
    pub fn check_exceptions(&self, status: StatusCode, body: &[u8]) -> Result<(), Violation> {
        self.responses.check_exceptions(status, body)
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operation").field(&self.id).finish()
    }
}
