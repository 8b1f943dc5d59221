//! The request path: what is checked, and in which order.

pub mod answer_fields;
pub mod authentication;
pub mod choice;
pub mod client;
mod encryption;
pub mod exchange;
pub mod frames;
mod grpc;
pub mod headers;
pub mod message;
pub mod origin;
mod preflight;
pub mod refusal;
pub mod ruleset;
mod scheme;
pub mod set_cookie;
mod switching;
pub mod tunnel;
pub mod tunnels;
mod websocket;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts as Head;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::access_log::{AccessLog, Record, Settlement, TlsRecord, UpstreamRecord};
use crate::address::ClientAddr;
use crate::audit_log::{AuditLog, RefusedAnswer};
use crate::ban::keeper::{Conduct, Consequence, KeeperHandle};
use crate::ban::view::{BanView, Unwanted};
use crate::clock::Monotonic;
use crate::contract::{Matched, OperationIndex};
use crate::metrics::{Metrics, Outcome};
use crate::pipeline::authentication::authentication;
use crate::pipeline::client::client;
use crate::pipeline::encryption::encryption;
use crate::pipeline::exchange::{Exchange, RequestIds};
use crate::pipeline::headers::{Hops, forward_headers, strip_hop_by_hop};
use crate::pipeline::origin::Origin;
use crate::pipeline::refusal::{After, failure, refusal};
use crate::pipeline::ruleset::{Mode, Rulesets};
use crate::pipeline::scheme::is_over_tls;
use crate::pipeline::switching::Asking;
use crate::pipeline::tunnel::Tunnel;
use crate::pipeline::tunnels::Tunnels;
use crate::pipeline::websocket::Handshake;
use crate::upstream::UpstreamError;
use crate::upstream::body::Body;
use crate::upstream::flow::Stalled;
use crate::upstream::pool::{Lease, Pool};
use crate::violation::{Rule, Stage, Violation};

/// Logged as the status of an exchange whose client left before its answer; what nginx writes too.
const CLIENT_LEFT: u16 = 499;

/// One worker's request path.
pub struct Pipeline {
    rulesets: Rulesets,
    bans: Rc<RefCell<BanView>>,
    keeper: KeeperHandle,
    ids: RequestIds,
    metrics: Arc<Metrics>,
    log: Rc<AccessLog>,
    audit: AuditLog,
    tunnels: Rc<Tunnels>,
    /// What has not been reported to the keeper yet.
    conduct: RefCell<Conduct>,
}

/// What a worker's pipeline is made of.
pub struct Parts {
    pub rulesets: Rulesets,
    pub bans: Rc<RefCell<BanView>>,
    pub keeper: KeeperHandle,
    pub ids: RequestIds,
    pub metrics: Arc<Metrics>,
    pub log: Rc<AccessLog>,
    pub audit: AuditLog,
    pub tunnels: Rc<Tunnels>,
}

/// A request that has passed every stage; only [`Pipeline::admit`] makes one, and nothing else is
/// forwarded.
struct Admitted<'a> {
    matched: Option<Matched<'a>>,
    is_preflight: bool,
    target: PathAndQuery,
    body: Body,
    handshake: Option<Handshake<'a>>,
}

/// Why an exchange ended without the upstream's answer.
enum Denied {
    Violation(Violation),
    Upstream(UpstreamError),
}

impl From<Violation> for Denied {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<UpstreamError> for Denied {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

/// What the log needs to know of the way a request took.
#[derive(Default)]
struct Trace {
    operation: Option<OperationIndex>,
    upstream: Option<UpstreamRecord>,
    /// What the exchange has become.
    tunnel: Option<Tunnel>,
}

/// An exchange that has no answer yet.
///
/// When its client leaves, the connection drops it. It is settled then all the same: the upstream
/// may have done what it was asked.
struct Pending<'a> {
    pipeline: &'a Pipeline,
    origin: &'a Origin,
    exchange: Exchange<'a>,
    trace: Trace,
    is_answered: bool,
}

impl Pending<'_> {
    fn settlement(
        &self,
        outcome: Outcome,
        status: u16,
        violation: Option<Violation>,
    ) -> Settlement {
        let exchange = &self.exchange;
        let record = Record {
            id: exchange.id.get(),
            generation: exchange.ruleset.generation,
            client: exchange.client.0,
            peer: self.origin.peer.0,
            method: exchange.request.method.clone(),
            version: exchange.request.version,
            started: exchange.started,
            request_octets: exchange.request_octets,
            status,
            upstream: self.trace.upstream.clone(),
            violation,
            tls: exchange.session.map(TlsRecord::of),
            refused: exchange.refused.as_ref().map(RefusedAnswer::summary),
            ended: None,
        };
        let operation = Rc::clone(exchange.operation_metrics(self.trace.operation));
        let log = Rc::clone(&self.pipeline.log);
        Settlement::new(record, outcome, operation, log, self.origin.ending())
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let violation = self.exchange.observed().first().cloned();
            self.settlement(Outcome::Abandoned, CLIENT_LEFT, violation).settle();
        }
    }
}

impl Pipeline {
    pub fn new(parts: Parts) -> Self {
        let Parts { rulesets, bans, keeper, ids, metrics, log, audit, tunnels } = parts;
        let conduct = RefCell::default();
        Self { rulesets, bans, keeper, ids, metrics, log, audit, tunnels, conduct }
    }

    /// Answers one request.
    pub async fn handle(&self, origin: &Origin, request: Request<Incoming>) -> Response<Body> {
        let held = self.rulesets.current();
        let (request, body) = request.into_parts();
        let chosen = held.choose(authority(&request), request.uri.path());
        let client = ClientAddr(origin.peer.0);
        let id = self.ids.next();
        let mut exchange = Exchange::new(id, chosen, client, Monotonic::now(), request);
        exchange.session = origin.session();
        exchange.is_call = grpc::is_call(&exchange.request, &chosen.api.contract);
        let trace = Trace::default();
        let mut pending = Pending { pipeline: self, origin, exchange, trace, is_answered: false };
        let Pending { exchange, trace, .. } = &mut pending;
        let answer = self.exchange(exchange, trace, origin, body, &chosen.working.pool).await;
        for violation in exchange.observed() {
            exchange.metrics().violation(violation.rule, Outcome::Observed);
            self.count_exception(violation);
        }
        let is_own = answer.is_err();
        let (outcome, violation, mut response) = match answer {
            Ok(response) => match exchange.observed().first() {
                None => (Outcome::Passed, None, response),
                Some(violation) => (Outcome::Observed, Some(violation.clone()), response),
            },
            Err(Denied::Violation(violation)) => {
                if let Some(answer) = &exchange.refused {
                    let operation = &exchange.operation_metrics(trace.operation).name;
                    self.audit.refused(id.get(), operation, &violation, answer);
                }
                self.count_exception(&violation);
                let response = self.refuse(exchange, origin, &violation).await;
                (Outcome::Refused, Some(violation), response)
            }
            Err(Denied::Upstream(error)) => {
                let labels = [&*exchange.api.name, error.id()];
                self.metrics.upstream_errors.with_label_values(&labels).inc();
                let violation = exchange.observed().first().cloned();
                let response =
                    if exchange.is_call { grpc::failure(error, id) } else { failure(&error, id) };
                (Outcome::Failed, violation, response)
            }
        };
        let (fields, is_over_tls) = (&chosen.working.answer_fields, exchange.is_over_tls);
        if is_own {
            fields.complete_own(response.headers_mut(), is_over_tls);
        } else if chosen.api.response_mode == Mode::Enforce {
            let status = response.status();
            fields.complete(status, response.headers_mut(), is_over_tls);
        }
        pending.is_answered = true;
        let is_success = response.status().is_success() && pending.trace.operation.is_some();
        let client = pending.exchange.client;
        self.note(origin, client, violation.as_ref(), outcome == Outcome::Passed && is_success);
        let settlement = pending.settlement(outcome, response.status().as_u16(), violation);
        if let Some(tunnel) = pending.trace.tunnel.take() {
            origin.leave_to(tunnel.settled_by(settlement));
            return response;
        }
        response.map(|body| body.settled_by(Box::new(settlement)))
    }

    /// Notes for the client's standing how it behaved. What the clients of a proxy or a balancer do
    /// is not theirs, whose packets alone the kernel sees.
    fn note(
        &self,
        origin: &Origin,
        client: ClientAddr,
        violation: Option<&Violation>,
        conforms: bool,
    ) {
        if client.0 != origin.socket.0 {
            return;
        }
        if conforms {
            self.conduct.borrow_mut().conform(client);
        } else if violation.is_some_and(|violation| violation.rule.offence().is_some()) {
            self.conduct.borrow_mut().violate(client);
        }
    }

    fn count_exception(&self, violation: &Violation) {
        if let Some(exception) = violation.exception {
            self.metrics.exceptions.with_label_values(&[exception.id()]).inc();
        }
    }

    async fn exchange(
        &self,
        exchange: &mut Exchange<'_>,
        trace: &mut Trace,
        origin: &Origin,
        body: Incoming,
        pool: &Rc<Pool>,
    ) -> Result<Response<Body>, Denied> {
        let admitted = self.admit(exchange, trace, origin, body).await?;
        self.forward(exchange, trace, origin, admitted, pool).await
    }

    /// The order is the policy: what is cheap and certain comes before what is dear.
    async fn admit<'a>(
        &self,
        exchange: &mut Exchange<'a>,
        trace: &mut Trace,
        origin: &Origin,
        body: Incoming,
    ) -> Result<Admitted<'a>, Violation> {
        exchange.is_unread = !http_body::Body::is_end_stream(&body);
        if let Some(violation) = origin.refusal() {
            return Err(violation);
        }
        let mode = exchange.api.request_mode;
        let (proxies, fields) = (&exchange.ruleset.trusted_proxies, &exchange.request.headers);
        exchange.is_over_tls =
            is_over_tls(origin.session().is_some(), origin.peer, proxies, fields);
        exchange.client = client(origin.peer, proxies, fields)?;
        self.unwanted(exchange)?;
        if let Some(rule) = exchange.missed {
            return Err(Violation::new(rule));
        }
        encryption(exchange)?;
        let accepts_trailers = grpc::accepts_trailers(&exchange.request.headers);
        let named = strip_hop_by_hop(&mut exchange.request.headers);
        if let Some(asked) = preflight::asked(exchange) {
            return preflight::admit(exchange, asked, &named);
        }
        let found = route(exchange);
        let matched = exchange.settle(mode, found)?;
        trace.operation = matched.as_ref().map(|matched| matched.index);
        let query = match (&matched, mode) {
            (Some(matched), Mode::Off) => {
                self.call(exchange, matched, origin, accepts_trailers)?;
                None
            }
            (None, _) => None,
            (Some(matched), _) => {
                let found = authentication(exchange, matched);
                exchange.settle(mode, found)?;
                self.call(exchange, matched, origin, accepts_trailers)?;
                let found = parameters(exchange, matched, &named);
                exchange.settle(mode, found)?.flatten()
            }
        };
        let handshake = websocket::asked(exchange, origin, matched.as_ref())?;
        let operation = matched.as_ref().map(|matched| matched.operation);
        let body = message::request_body(exchange, operation, origin, body).await?;
        let body = grpc::request(exchange, operation, body);
        let target = target(&exchange.request.uri, mode, matched.as_ref(), query)?;
        Ok(Admitted { matched, is_preflight: false, target, body, handshake })
    }

    /// Refuses who is banned or listed; who stands behind a trusted proxy is seen here alone.
    fn unwanted(&self, exchange: &mut Exchange<'_>) -> Result<(), Violation> {
        match self.bans.borrow().unwanted(exchange.client.0, Monotonic::coarse) {
            None => Ok(()),
            Some(Unwanted::Banned(_)) => Err(Violation::new(Rule::Banned)),
            Some(Unwanted::Listed { feed, is_observed }) => {
                let mode = if is_observed { Mode::Observe } else { Mode::Enforce };
                let violation = Violation { feed: Some(feed), ..Violation::new(Rule::Listed) };
                exchange.settle(mode, Err::<(), _>(violation)).map(drop)
            }
        }
    }

    async fn forward(
        &self,
        exchange: &mut Exchange<'_>,
        trace: &mut Trace,
        origin: &Origin,
        admitted: Admitted<'_>,
        pool: &Rc<Pool>,
    ) -> Result<Response<Body>, Denied> {
        let api = exchange.api;
        let mut request = Request::new(admitted.body);
        request.method_mut().clone_from(&exchange.request.method);
        *request.uri_mut() = Uri::from(admitted.target);
        *request.headers_mut() = std::mem::take(&mut exchange.request.headers);
        let (requests, responses) = (api.request_mode, api.response_mode);
        let operation = admitted.matched.as_ref().map(|matched| matched.operation);
        let enforced = operation.filter(|_| requests == Mode::Enforce);
        let headers = request.headers_mut();
        let hops =
            Hops { peer: origin.peer, client: exchange.client, is_over_tls: exchange.is_over_tls };
        forward_headers(headers, hops, enforced, responses);
        message::ask_for_the_whole(headers, operation, responses);
        grpc::ask_for_trailers(exchange.call.as_ref(), headers);
        if http_body::Body::size_hint(request.body()).exact().is_none() {
            // Unless told so, hyper takes a GET for one without a body.
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if let Some(handshake) = admitted.handshake {
            let tunnels = Tunnels::admit(&self.tunnels, exchange.client);
            let seat = tunnels.map_err(Violation::new)?;
            let asking = Asking { handshake, seat, request };
            return self.switch(exchange, trace, origin, operation, asking, pool).await;
        }
        let sent = Monotonic::now();
        let (response, lease) = send(exchange, origin, pool, request).await?;
        let waited = Monotonic::now().since(sent);
        let (status, endpoint) = (response.status().as_u16(), Rc::clone(lease.endpoint()));
        trace.upstream = Some(UpstreamRecord { status, endpoint, waited });
        if admitted.is_preflight {
            return preflight::answer(exchange, response, lease).await;
        }
        let response = message::response(exchange, operation, response, lease).await?;
        grpc::answer(exchange, operation, response)
    }

    /// Answers a violation, once the keeper has heard of it: where it makes a ban, the kernel holds
    /// that before the answer is written.
    async fn refuse(
        &self,
        exchange: &Exchange<'_>,
        origin: &Origin,
        violation: &Violation,
    ) -> Response<Body> {
        exchange.metrics().violation(violation.rule, Outcome::Refused);
        // A proxy's connection carries others' requests too.
        let is_direct = exchange.client.0 == origin.peer.0;
        // A stream of HTTP/2 ends by itself, read or not, and leaves the others' framing as it is.
        let is_alone = !origin.is_multiplexed;
        let is_unreadable = exchange.is_unread || violation.rule.stage() == Stage::Framing;
        let mut after = After::KeepAlive;
        let is_over = violation.rule == Rule::ClientCertificateOver;
        let is_ban = violation.rule.stage() == Stage::Ban && is_direct;
        if (is_alone && is_unreadable) || is_ban || is_over {
            after = After::Close;
        }
        let offence = violation.rule.offence();
        // The keeper closes the source's connections at once; this one still has an answer to give.
        let _refusing = offence.map(|_| origin.refusing());
        if let Some(offence) = offence {
            let (client, socket) = (exchange.client, origin.socket);
            let consequence =
                self.keeper.offend(client, socket, offence, violation.rule.id()).await;
            if is_direct && matches!(consequence, Consequence::Banned(_)) {
                after = After::Close;
            }
        }
        if after == After::Close {
            origin.close_after_response();
        }
        if exchange.is_call {
            return grpc::refusal(violation.rule, exchange.id);
        }
        refusal(violation, exchange.id, after)
    }

    /// Takes a violation of a connection's that no request stands for: counts and logs it as one that
    /// was refused, and tells the keeper.
    pub async fn violated(&self, origin: &Origin, rule: Rule) {
        let held = self.rulesets.current();
        let chosen = held.choose(None, "/");
        let (client, violation) = (ClientAddr(origin.peer.0), Violation::new(rule));
        let mut request = Request::new(()).into_parts().0;
        (request.method, request.version) = (no_method(), Version::HTTP_2);
        let started = Monotonic::now();
        let mut exchange = Exchange::new(self.ids.next(), chosen, client, started, request);
        exchange.session = origin.session();
        let trace = Trace::default();
        let pending = Pending { pipeline: self, origin, exchange, trace, is_answered: true };
        pending.exchange.metrics().violation(rule, Outcome::Refused);
        self.note(origin, client, Some(&violation), false);
        pending.settlement(Outcome::Refused, rule.status(), Some(violation)).settle();
        if let Some(offence) = rule.offence() {
            // The keeper closes the source's connections where that makes a ban.
            self.keeper.offend(client, origin.socket, offence, rule.id()).await;
        }
    }

    /// Closes what has been idle for too long, and hands the log over; called a few times a second.
    pub fn tend(&self) {
        // An idle worker, too, lets go of a generation that is over.
        self.rulesets.current().pools().for_each(Pool::sweep);
        self.keeper.report(&mut self.conduct.borrow_mut());
        self.log.flush();
        self.audit.flush();
        // Who stands behind a proxy is banned without the proxy's connection.
        let bans = self.bans.borrow();
        self.tunnels.end_where(|client| bans.refuses(client.0, Monotonic::coarse));
    }

    /// How often [`Pipeline::tend`] wants to be called.
    pub const TENDING: Duration = Duration::from_millis(200);
}

/// Stands for the method of what is no request; no client's is logged as it is either.
fn no_method() -> Method {
    Method::from_bytes(b"-").unwrap_or_default()
}

fn route<'a>(exchange: &Exchange<'a>) -> Result<Matched<'a>, Violation> {
    let request = &exchange.request;
    let contract = &exchange.api.contract;
    contract.route(&request.method, request.uri.path(), authority(request))
}

/// What the request names as its host; the framing sees to it that it is one, and the only one.
fn authority(request: &Head) -> Option<&str> {
    request.headers.get(HOST)?.to_str().ok()
}

/// Sends the request, with its body as that comes, and waits for the head of the answer. A body that
/// breaks off on its way takes the upstream's connection with it.
async fn send(
    exchange: &mut Exchange<'_>,
    origin: &Origin,
    pool: &Rc<Pool>,
    mut request: Request<Body>,
) -> Result<(Response<Incoming>, Lease), Denied> {
    let limits = &exchange.api.limits;
    let (client, upstream) = (limits.body_timeout, limits.response_timeout);
    let broken = |rule| origin.body_violation().unwrap_or_else(|| Violation::new(rule));
    if let Some(call) = exchange.call.clone() {
        let left = call.deadline().since(Monotonic::now());
        let answered = timeout(left, Box::pin(pool.send(request, Duration::MAX))).await;
        exchange.request_octets = call.request_octets();
        if let Some(rule) = call.refused() {
            return Err(broken(rule).into());
        }
        let answered = answered.unwrap_or(Err(UpstreamError::ResponseTimeout));
        return answered.map_err(|error| match origin.body_violation() {
            Some(violation) => violation.into(),
            None => error.into(),
        });
    }
    let flow = request.body_mut().flow();
    let answered = match &flow {
        None => pool.send(request, upstream).await,
        Some(flow) => {
            let answered =
                flow.supervise(pool.send(request, Duration::MAX), client, upstream).await;
            exchange.request_octets = flow.octets();
            match answered {
                Ok(Err(_)) if flow.is_too_large() => return Err(broken(Rule::BodyTooLarge).into()),
                Ok(answered) => answered,
                Err(Stalled::Client) => return Err(broken(Rule::BodyIncomplete).into()),
                Err(Stalled::Upstream) => Err(UpstreamError::ResponseTimeout),
            }
        }
    };
    answered.map_err(|error| {
        if let Some(violation) = origin.body_violation() {
            return Denied::Violation(violation);
        }
        if flow.is_some() {
            // What is left of the body has nowhere to go.
            origin.close_after_response();
        }
        Denied::Upstream(error)
    })
}

/// Checks the parameters, and that `Connection` named none of them; gives the query to forward.
fn parameters(
    exchange: &Exchange<'_>,
    matched: &Matched<'_>,
    named: &[HeaderName],
) -> Result<Option<String>, Violation> {
    let request = &exchange.request;
    matched.operation.check_connection(named)?;
    matched.operation.check_parameters(matched, request.uri.query(), &request.headers)
}

/// What was checked is what is forwarded: where the contract is enforced the target is written anew
/// from its parsed form, elsewhere its octets pass as they came.
fn target(
    uri: &Uri,
    mode: Mode,
    matched: Option<&Matched<'_>>,
    query: Option<String>,
) -> Result<PathAndQuery, Violation> {
    let written = match (mode, matched, query) {
        (Mode::Enforce, Some(matched), None) => PathAndQuery::try_from(matched.path.as_str()),
        (Mode::Enforce, Some(matched), Some(query)) => {
            PathAndQuery::try_from(format!("{}?{query}", matched.path))
        }
        _ => Ok(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))),
    };
    written.map_err(|_unwritable| Violation::new(Rule::Path))
}
