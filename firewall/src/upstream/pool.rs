//! One worker's connections to one upstream: kept alive, the newest used first; and the way of a
//! request through its endpoints.

mod member;
mod shared;
mod upgrade;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use prometheus::IntCounter;
use tokio::sync::Notify;
use tokio::time::timeout;

pub use self::member::Lease;
use self::member::{Member, Used};
pub use self::upgrade::{Switched, Upgraded};
use super::balance::least_loaded;
use super::body::Body;
use super::budget::Budget;
use super::{Protocol, Upstream, UpstreamError, WithoutHealthy, connection, framing};
use crate::causes::Causes;
use crate::clock::Monotonic;
use crate::metrics::Metrics;

/// How many pooled connections that turn out to be closed one request may meet before it gets a new
/// one.
const STALE_ATTEMPTS: usize = 3;

/// The connections of one worker.
#[derive(Debug)]
pub struct Pool {
    upstream: Upstream,
    members: RefCell<Rc<Vec<Rc<Member>>>>,
    /// Of the upstream's endpoints, when `members` were made of them.
    version: Cell<u64>,
    budget: RefCell<Budget>,
    /// Requests that wait until a connection is free.
    waiting: Cell<usize>,
    freed: Notify,
    new: IntCounter,
    reused: IntCounter,
    unsent: IntCounter,
    replayed: IntCounter,
    stalled: IntCounter,
}

/// Who has a request, and has not answered it.
struct Holder {
    member: Rc<Member>,
    since: Monotonic,
}

impl Holder {
    fn new(member: &Rc<Member>) -> Self {
        Self { member: Rc::clone(member), since: Monotonic::coarse() }
    }
}

/// What an endpoint made of a request.
struct Failure {
    error: UpstreamError,
    /// The request, where it may be sent again.
    again: Option<Box<Again>>,
}

struct Again {
    request: Request<Body>,
    /// The endpoint may have got it.
    was_sent: bool,
}

impl Again {
    fn new(request: Request<Body>, was_sent: bool) -> Box<Self> {
        Box::new(Self { request, was_sent })
    }
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        Self { error, again: None }
    }
}

impl Pool {
    pub fn new(upstream: Upstream, api: &str, metrics: &Metrics) -> Rc<Self> {
        let connections = |origin| metrics.upstream_connections.with_label_values(&[api, origin]);
        let retries = |reason| metrics.upstream_retries.with_label_values(&[api, reason]);
        Rc::new(Self {
            members: RefCell::default(),
            // No such version: the first request makes the members.
            version: Cell::new(u64::MAX),
            budget: RefCell::default(),
            waiting: Cell::new(0),
            freed: Notify::new(),
            new: connections("new"),
            reused: connections("reused"),
            unsent: retries("unsent"),
            replayed: retries("replayed"),
            stalled: metrics
                .upstream_errors
                .with_label_values(&[api, UpstreamError::ReadTimeout.id()]),
            upstream,
        })
    }

    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Sends `request`, and waits for the head of its answer at most for `patience`.
    ///
    /// Another endpoint gets what the first did not get at all; and, within a budget, what is
    /// idempotent and whole, where the first closed the connection before there was an answer
    /// (RFC 9110 section 9.2.2). On a connection that was kept, that is no failure of the endpoint's
    /// (RFC 9112 section 9.3.1).
    pub async fn send(
        self: &Rc<Self>,
        request: Request<Body>,
        patience: Duration,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        let is_whole = request.body().is_whole();
        self.budget.borrow_mut().request(Monotonic::coarse());
        let holder = RefCell::new(None);
        let answer = timeout(patience, self.attempts(request, is_whole, &holder)).await;
        answer.unwrap_or_else(|_elapsed| {
            // What is streamed may wait for the client. And who got it late, because it waited for a
            // connection or for others, has not had the time that an answer may take.
            let is_late = |holder: &Holder| Monotonic::coarse().since(holder.since) < patience / 2;
            if let Some(holder) = holder.take().filter(|holder| is_whole && !is_late(holder)) {
                self.failed(&holder.member);
            }
            Err(UpstreamError::ResponseTimeout)
        })
    }

    async fn attempts(
        self: &Rc<Self>,
        mut request: Request<Body>,
        is_whole: bool,
        holder: &RefCell<Option<Holder>>,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        let retry = &self.upstream.settings().retry;
        let mut lease = self.seat().await?;
        let mut tried = Vec::new();
        loop {
            let member = Rc::clone(lease.member());
            let attempt = match self.upstream.settings().protocol {
                Protocol::Http1 => self.attempt(lease, request, is_whole, holder).await,
                Protocol::Http2 => {
                    // Its state would be every request's, of HTTP/1.1 too.
                    Box::pin(self.attempt_shared(lease, request, is_whole, holder)).await
                }
            };
            let failure = match attempt {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            holder.take();
            let Failure { error, again } = failure;
            let Some(again) = again.filter(|_| tried.len() < retry.attempts) else {
                return Err(error);
            };
            tried.push(member);
            let Ok(Some(next)) = self.free_seat(&tried) else { return Err(error) };
            if again.was_sent {
                if !self.budget.borrow_mut().withdraw(retry, Monotonic::coarse()) {
                    return Err(error);
                }
                self.replayed.inc();
            } else {
                self.unsent.inc();
            }
            (lease, request) = (next, again.request);
        }
    }

    /// One endpoint's try, on connections that were kept and then on a new one.
    async fn attempt(
        &self,
        lease: Lease,
        mut request: Request<Body>,
        is_whole: bool,
        holder: &RefCell<Option<Holder>>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let limits = &self.upstream.settings().limits;
        let member = Rc::clone(lease.member());
        let mut was_sent = false;
        for _ in 0..STALE_ATTEMPTS {
            let Some(mut sender) = member.kept(limits.idle_timeout) else { break };
            let replica = replica(&request);
            holder.replace(Some(Holder::new(&member)));
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.reused.inc();
                    return self.answered(lease, Used::Alone(sender), response);
                }
                Err(mut error) => {
                    let was_closed = was_closed(error.error());
                    request = if let Some(unsent) = error.take_message() {
                        unsent
                    } else {
                        was_sent = true;
                        replica.filter(|_| was_closed).ok_or(UpstreamError::Protocol)?
                    };
                }
            }
        }
        holder.take();
        let opening = connection::open(&member.endpoint, self.upstream.0.tls.as_ref());
        // Boxed: most requests open none, and would carry its state.
        let opening = timeout(limits.connect_timeout, Box::pin(opening)).await;
        let mut sender = match opening {
            Ok(Ok(sender)) => sender,
            failed => {
                self.failed(&member);
                let error = match failed {
                    Ok(Err(error)) => {
                        let endpoint = &**member.endpoint.label();
                        tracing::debug!(endpoint, error = %Causes(&error), "no connection");
                        error.outward()
                    }
                    _ => UpstreamError::ConnectTimeout,
                };
                let again = Some(Again::new(request, was_sent));
                return Err(Failure { error, again });
            }
        };
        self.new.inc();
        let replica = replica(&request);
        holder.replace(Some(Holder::new(&member)));
        match sender.try_send_request(request).await {
            Ok(response) => self.answered(lease, Used::Alone(sender), response),
            Err(mut error) => {
                // Where the body is the client's stream, so may be what broke off.
                if is_whole {
                    self.failed(&member);
                }
                let was_closed = was_closed(error.error());
                let again = match error.take_message() {
                    Some(request) => Some(Again::new(request, was_sent)),
                    None => replica.filter(|_| was_closed).map(|request| Again::new(request, true)),
                };
                Err(Failure { error: UpstreamError::Protocol, again })
            }
        }
    }

    fn answered(
        &self,
        mut lease: Lease,
        used: Used,
        response: Response<Incoming>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let status = response.status();
        // No request asks for an upgrade, so no answer may switch protocols (RFC 9110 section 7.8).
        let is_plain = match used {
            Used::Alone(_) => framing::is_plain(status, response.headers()),
            Used::Shared(_) => framing::is_plain_stream(status, response.headers()),
        };
        let is_valid = status != StatusCode::SWITCHING_PROTOCOLS && is_plain;
        if !is_valid {
            self.failed(lease.member());
            return Err(UpstreamError::Protocol.into());
        }
        self.judge(lease.member(), status);
        lease.keep(used);
        Ok((response, lease))
    }

    /// Notes what the status of a valid answer says of its endpoint.
    fn judge(&self, member: &Member, status: StatusCode) {
        if matches!(
            status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        ) {
            self.failed(member);
        } else {
            member.seat.succeeded();
            member.endpoint.succeeded();
        }
    }

    /// Notes a failure that is the endpoint's own.
    fn failed(&self, member: &Member) {
        member.seat.failed(Monotonic::coarse());
        if member.endpoint.failed() == self.upstream.settings().ejection.failures {
            self.upstream.0.alarm.notify_one();
        }
    }

    /// Waits until an endpoint has room for one more exchange.
    async fn seat(self: &Rc<Self>) -> Result<Lease, UpstreamError> {
        // Nobody overtakes those that wait.
        if self.waiting.get() == 0
            && let Some(lease) = self.free_seat(&[])?
        {
            return Ok(lease);
        }
        let limits = &self.upstream.settings().limits;
        if self.waiting.get() >= limits.pending {
            return Err(UpstreamError::QueueFull);
        }
        let _waiting = Waiting::new(&self.waiting);
        let waiting = async {
            loop {
                self.freed.notified().await;
                if let Some(lease) = self.free_seat(&[])? {
                    return Ok(lease);
                }
            }
        };
        timeout(limits.pending_timeout, waiting).await.unwrap_or(Err(UpstreamError::Saturated))
    }

    /// A place at the least busy of the endpoints that are well, or of all if none is; none if all
    /// are busy, or have been `tried`.
    fn free_seat(self: &Rc<Self>, tried: &[Rc<Member>]) -> Result<Option<Lease>, UpstreamError> {
        let members = self.members();
        if members.is_empty() {
            return Err(UpstreamError::Unresolved);
        }
        let settings = self.upstream.settings();
        let has_usable = members.iter().any(|member| member.endpoint.is_usable());
        if !has_usable && settings.without_healthy == WithoutHealthy::Refuse {
            return Err(UpstreamError::Unhealthy);
        }
        let limit = u32::try_from(settings.limits.connections).unwrap_or(u32::MAX);
        let is_candidate = |member: &Rc<Member>| {
            (!has_usable || member.endpoint.is_usable())
                && member.exchanges() < limit
                && !tried.iter().any(|tried| Rc::ptr_eq(tried, member))
        };
        let chosen = match &**members {
            [only] => Some(only).filter(|only| is_candidate(only)),
            several => {
                let candidates =
                    several.iter().enumerate().filter(|(_, member)| is_candidate(member));
                let seats = candidates.map(|(place, member)| (place, &member.seat));
                least_loaded(seats, Monotonic::coarse()).and_then(|place| several.get(place))
            }
        };
        Ok(chosen.map(|member| Lease::new(self, member)))
    }

    /// One for each endpoint; made anew when those have changed.
    fn members(&self) -> Rc<Vec<Rc<Member>>> {
        let version = self.upstream.version();
        if self.version.get() != version {
            self.version.set(version);
            let endpoints = self.upstream.endpoints();
            let mut members = self.members.borrow_mut();
            let kept = |endpoint| {
                members.iter().find(|member| Arc::ptr_eq(&member.endpoint, endpoint)).cloned()
            };
            let present: Vec<_> = endpoints
                .iter()
                .map(|endpoint| kept(endpoint).unwrap_or_else(|| Member::new(endpoint)))
                .collect();
            for gone in members.iter().filter(|m| !present.iter().any(|p| Rc::ptr_eq(p, m))) {
                gone.retire();
            }
            *members = Rc::new(present);
        }
        Rc::clone(&self.members.borrow())
    }

    /// Closes connections that have been idle for too long; called now and then.
    pub fn sweep(&self) {
        let limit = self.upstream.settings().limits.idle_timeout;
        for member in self.members().iter() {
            member.sweep(limit);
        }
        if self.waiting.get() > 0 {
            // An endpoint may be well again.
            self.freed.notify_waiters();
        }
    }
}

/// Counts one that waits, as long as it does.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A copy of a request that may be sent twice (RFC 9110 section 9.2.2) and whose body is here whole.
fn replica(request: &Request<Body>) -> Option<Request<Body>> {
    request.method().is_idempotent().then(|| copy(request)).flatten()
}

/// A copy of a request whose body is here whole.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut replica = Request::new(request.body().replica()?);
    replica.method_mut().clone_from(request.method());
    replica.uri_mut().clone_from(request.uri());
    replica.headers_mut().clone_from(request.headers());
    Some(replica)
}

/// Whether the connection ended before there was an answer, rather than with a bad one.
fn was_closed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let is_reset = cause.is_some_and(|cause| {
        matches!(
            cause.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                // TLS without a word of farewell.
                | ErrorKind::UnexpectedEof
        )
    });
    error.is_incomplete_message() || error.is_canceled() || is_reset
}
