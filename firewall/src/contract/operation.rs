//! `Operation`: all that one method of one path demands, looked up by index.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::claim::Claim;
use super::content::BodyRule;
use super::cookie::CookieRules;
use super::grpc::GrpcRule;
use super::header::HeaderRules;
use super::parameter::{Fault, ParameterRule};
use super::paths::{PathTable, Routed};
use super::policy::{Exceptions, Verdict};
use super::preflight;
use super::query::QueryRules;
use super::response::{ResponseRule, Responses};
use super::security::{Presented, SecurityRule};
use super::upgrade::UpgradeRule;
use crate::violation::{Location, Rule, Violation};

/// The contract of an API: its operations, and how a request finds one. Never changes.
pub struct Contract {
    pub(crate) operations: Vec<Operation>,
    pub(crate) paths: PathTable,
    pub(crate) preflight: Verdict,
    pub(crate) claims: Vec<Claim>,
    pub(crate) has_grpc: bool,
}

impl Contract {
    /// In the order of the document.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Whether any of them is a method of gRPC.
    pub fn has_grpc(&self) -> bool {
        self.has_grpc
    }

    /// Which requests are for one of the operations, if for any.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The operation that a request is for. `path` is the raw path of its target, without the query;
    /// `authority` is its `Host`. HEAD is matched by the GET of its path where it is not declared
    /// itself and the policy lets it.
    ///
    /// # Errors
    ///
    /// The rules of the stage [`Route`](crate::violation::Stage::Route);
    /// [`Rule::Method`](crate::violation::Rule::Method) with the methods that are allowed.
    pub fn route(
        &self,
        method: &Method,
        path: &str,
        authority: Option<&str>,
    ) -> Result<Matched<'_>, Violation> {
        let routed = self.paths.route(method, path, authority)?;
        let Routed { operation: index, mut path, mut values } = routed;
        let operation = usize::try_from(index.0)
            .ok()
            .and_then(|index| self.operations.get(index))
            // Every index in the table was given by the list.
            .ok_or_else(|| Violation::new(Rule::UnknownPath))?;
        if path.contains(';') {
            operation.seal(&mut path, &mut values);
        }
        Ok(Matched { index, operation, path, values })
    }

    /// The operation that a CORS preflight request asks for, where the policy lets those pass and
    /// OPTIONS is not declared for the path; `headers` are the request's, which must have no body.
    ///
    /// A preflight carries no credentials (Fetch standard, section 4.8), so none may be demanded.
    pub fn preflight(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        authority: Option<&str>,
    ) -> Option<Matched<'_>> {
        if *method != Method::OPTIONS || self.preflight == Verdict::Refuse {
            return None;
        }
        let asked = preflight::asked(headers)?;
        let refused = self.route(method, path, authority).err()?;
        if refused.rule != Rule::Method {
            return None;
        }
        self.route(&asked, path, authority).ok()
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
    pub(crate) is_deprecated: bool,
    /// With the place of each among the template's expressions.
    pub(crate) path: Vec<(usize, ParameterRule)>,
    pub(crate) query: QueryRules,
    pub(crate) headers: HeaderRules,
    pub(crate) cookies: CookieRules,
    /// None where nothing is demanded.
    pub(crate) security: Option<Arc<SecurityRule>>,
    /// Genuine preflights need no credentials.
    pub(crate) passes_preflight: bool,
    pub(crate) body: Option<BodyRule>,
    pub(crate) responses: Responses,
    /// Where it is a method of gRPC.
    pub(crate) grpc: Option<GrpcRule>,
    pub(crate) upgrade: Option<UpgradeRule>,
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

    pub fn is_deprecated(&self) -> bool {
        self.is_deprecated
    }

    /// What credentials the operation demands; none where it demands nothing.
    pub fn security(&self) -> Option<&SecurityRule> {
        self.security.as_deref()
    }

    /// Checks that the credentials that the operation demands are there and well-formed; none where
    /// it demands none, or where a browser asks beforehand, which it does without (Fetch standard,
    /// section 4.8).
    ///
    /// # Errors
    ///
    /// The rules of the stage [`Authentication`](crate::violation::Stage::Authentication).
    pub fn check_credentials<'m>(
        &'m self,
        query: Option<&'m str>,
        headers: &'m HeaderMap,
    ) -> Result<Option<Presented<'m>>, Violation> {
        let rule = self.security.as_ref().filter(|_| !self.exempts(headers));
        rule.map(|rule| rule.check(query, headers)).transpose()
    }

    /// Whether these are the fields of a genuine preflight, which has no body.
    fn exempts(&self, headers: &HeaderMap) -> bool {
        self.passes_preflight
            && self.method == Method::OPTIONS
            && self.body.is_none()
            && preflight::asked(headers).is_some()
    }

    /// Checks path, query, header and cookie parameters, and gives the query to forward, written anew;
    /// none where the request has none.
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
        let query = self.check_target(matched, query)?;
        self.headers.check(headers)?;
        self.cookies.check(headers)?;
        Ok(query)
    }

    /// Checks what a CORS preflight has of the request that it asks for, as
    /// [`Operation::check_parameters`] does: path and query, and of the header fields those that are
    /// there.
    ///
    /// # Errors
    ///
    /// The rules of the stage [`Parameters`](crate::violation::Stage::Parameters).
    pub fn check_preflight(
        &self,
        matched: &Matched<'_>,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Option<String>, Violation> {
        let query = self.check_target(matched, query)?;
        self.headers.check_present(headers)?;
        Ok(query)
    }

    /// Escapes the semicolons in the values of the path, but for those that a style puts there: servlet
    /// containers cut a segment off at one, and would route and read another path than was checked
    /// (RFC 3986 section 3.3).
    fn seal(&self, path: &mut String, values: &mut [(usize, usize)]) {
        for index in 0..values.len() {
            let rule = self.path.iter().find(|(place, _)| *place == index).map(|(_, rule)| rule);
            let Some((start, end)) = values.get(index).copied() else { return };
            if rule.is_some_and(ParameterRule::has_semicolons) {
                continue;
            }
            let Some(value) = path.get(start..end) else { return };
            let sealed = value.replace(';', "%3B");
            let longer = sealed.len() - value.len();
            path.replace_range(start..end, &sealed);
            for (at, (from, to)) in values.iter_mut().enumerate().skip(index) {
                *from += if at > index { longer } else { 0 };
                *to += longer;
            }
        }
    }

    /// Checks path and query.
    pub(crate) fn check_target(
        &self,
        matched: &Matched<'_>,
        query: Option<&str>,
    ) -> Result<Option<String>, Violation> {
        for (index, rule) in &self.path {
            let checked =
                matched.value(*index).map_or(Err(Fault::Missing), |text| rule.check(text));
            checked.map_err(|fault| fault.at(Location::Path(Arc::clone(&rule.name))))?;
        }
        self.query.check(query)
    }

    /// Checks the fields that `Connection` named, which are no longer among the others.
    ///
    /// # Errors
    ///
    /// [`Rule::ParameterConnection`](crate::violation::Rule::ParameterConnection) where it named one
    /// that the contract knows.
    pub fn check_connection(&self, named: &[HeaderName]) -> Result<(), Violation> {
        self.headers.check_connection(named)
    }

    /// Whether a field is to be taken from a request that is forwarded, since an upstream may read
    /// another target, method or field from it than was checked.
    pub fn strips(&self, name: &HeaderName) -> bool {
        self.headers.strips(name)
    }

    /// Whether the contract names this field of requests.
    pub fn declares(&self, name: &HeaderName) -> bool {
        self.headers.is_declared(name)
    }

    /// What the operation takes as its body; without one, any body is refused.
    pub fn body(&self) -> Option<&BodyRule> {
        self.body.as_ref()
    }

    /// How calls are bounded, where it is a method of gRPC.
    pub fn grpc(&self) -> Option<&GrpcRule> {
        self.grpc.as_ref()
    }

    /// The response that `status` must be: the exact code's, its range's, or the default.
    ///
    /// # Errors
    ///
    /// [`Rule::ResponseStatus`](crate::violation::Rule::ResponseStatus).
    pub fn response(&self, status: StatusCode) -> Result<&ResponseRule, Violation> {
        self.responses.select(status)
    }

    /// Which connections may be left for a WebSocket, if any: `x-firewall-upgrade`.
    pub fn upgrade(&self) -> Option<&UpgradeRule> {
        self.upgrade.as_ref()
    }

    /// Checks the fields that the document declares for the answer that accepts an upgrade.
    ///
    /// # Errors
    ///
    /// [`Rule::ResponseHeader`](crate::violation::Rule::ResponseHeader) with the field's name.
    pub fn check_switching(&self, headers: &HeaderMap) -> Result<(), Violation> {
        let rule = self.responses.exactly(StatusCode::SWITCHING_PROTOCOLS);
        rule.map_or(Ok(()), |rule| rule.check_headers(headers))
    }

    /// Whether an answer may be part of a representation, which the document says by declaring the
    /// status 206 itself.
    pub fn answers_in_parts(&self) -> bool {
        self.responses.are_partial()
    }

    /// Whether any of the declared answers declares this header field.
    pub fn answers_with(&self, name: &HeaderName) -> bool {
        self.responses.declare(name)
    }

    /// Whether exceptions in answers are looked for at all.
    pub fn hides_exceptions(&self) -> bool {
        self.responses.exceptions != Exceptions::Pass
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
