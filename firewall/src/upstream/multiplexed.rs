//! Connections of HTTP/2 to one endpoint, which exchanges share; and the heads of requests on them.

mod begin;
mod watched;

use std::cell::{Cell, OnceCell, RefCell};
use std::error::Error as _;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::{Authority, Parts, Scheme as UriScheme};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::timeout;

pub use begin::PingRules;
pub(super) use begin::open;

use super::UpstreamError;
use super::address::Scheme;
use super::body::Body;
use super::endpoint::Endpoint;
use super::flow::Flow;
use super::tls::UpstreamTls;
use crate::causes::Causes;
use crate::clock::Monotonic;

/// Exchanges of one connection, although the endpoint may allow more: what ends with it is bounded, and
/// so is the memory that their answers take.
pub(super) const STREAMS_MAX: usize = 100;

/// One worker's connections to one endpoint. A further one is opened where those that there are have as
/// many exchanges as they may have, so that there are never more than exchanges in flight.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: RefCell<Vec<Rc<Shared>>>,
    opening: RefCell<Option<Rc<Opening>>>,
}

/// One connection.
struct Shared {
    begun: begin::Begun<Body>,
    exchanges: Cell<usize>,
    idle_since: Cell<Monotonic>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("exchanges", &self.exchanges).finish_non_exhaustive()
    }
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.begun.sender.is_closed()
    }

    fn has_room(&self) -> bool {
        !self.is_closed() && self.exchanges.get() < (self.begun.allowed)().min(STREAMS_MAX)
    }
}

/// A connection that is being opened, and what came of it. Whoever needs it waits for it; it is opened
/// although they leave.
#[derive(Debug, Default)]
struct Opening {
    outcome: OnceCell<Result<Rc<Shared>, UpstreamError>>,
    is_counted: Cell<bool>,
    done: Notify,
}

/// No connection could be opened.
pub(super) struct NotOpened {
    pub(super) error: UpstreamError,
    /// Of those that waited for it, one is to count it.
    pub(super) is_first: bool,
}

impl Connections {
    /// A place on a connection, which is opened if there is none.
    pub(super) async fn place(
        self: &Rc<Self>,
        endpoint: &Arc<Endpoint>,
        how: &How<'_>,
    ) -> Result<Place, NotOpened> {
        let mut is_new = false;
        loop {
            let with_room = self.open.borrow().iter().find(|shared| shared.has_room()).cloned();
            if let Some(shared) = with_room {
                return Ok(Place::new(shared, is_new));
            }
            let opening = self.opening(endpoint, how);
            loop {
                let done = opening.done.notified();
                if let Some(outcome) = opening.outcome.get() {
                    let is_first = !opening.is_counted.replace(true);
                    let error = match outcome {
                        Err(error) => Some(*error),
                        // It would be the same with the next.
                        Ok(shared) if shared.is_closed() => Some(UpstreamError::Protocol),
                        Ok(_) => None,
                    };
                    if let Some(error) = error {
                        return Err(NotOpened { error, is_first });
                    }
                    is_new = is_first;
                    break;
                }
                done.await;
            }
        }
    }

    fn opening(self: &Rc<Self>, endpoint: &Arc<Endpoint>, how: &How<'_>) -> Rc<Opening> {
        if let Some(opening) = &*self.opening.borrow() {
            return Rc::clone(opening);
        }
        let opening = Rc::<Opening>::default();
        self.opening.replace(Some(Rc::clone(&opening)));
        let (connections, given) = (Rc::clone(self), Rc::clone(&opening));
        let (endpoint, tls) = (Arc::clone(endpoint), how.tls.cloned());
        let (patience, pings) = (how.connect_timeout, how.pings);
        spawn_local(async move {
            let opened = open(&endpoint, tls.as_ref(), pings);
            let outcome = match timeout(patience, opened).await {
                // Who allows none would be asked for one connection after another.
                Ok(Ok(begun)) if (begun.allowed)() == 0 => Err(UpstreamError::Refused),
                Ok(Ok(begun)) => {
                    let (exchanges, idle_since) = (Cell::new(0), Cell::new(Monotonic::coarse()));
                    let shared = Rc::new(Shared { begun, exchanges, idle_since });
                    connections.open.borrow_mut().push(Rc::clone(&shared));
                    Ok(shared)
                }
                Ok(Err(error)) => {
                    let endpoint = &**endpoint.label();
                    tracing::debug!(endpoint, error = %Causes(&error), "no connection");
                    Err(error.outward())
                }
                Err(_elapsed) => Err(UpstreamError::ConnectTimeout),
            };
            connections.opening.replace(None);
            // Nobody else sets it.
            given.outcome.set(outcome).unwrap_or_default();
            given.done.notify_waiters();
        });
        opening
    }

    /// Lets go of those that are closed, or have been idle for too long.
    pub(super) fn sweep(&self, idle_timeout: Duration) {
        let now = Monotonic::coarse();
        self.open.borrow_mut().retain(|shared| {
            let is_idle =
                shared.exchanges.get() == 0 && now.since(shared.idle_since.get()) >= idle_timeout;
            !is_idle && !shared.is_closed()
        });
    }

    /// Takes no further exchange; those that there are end by themselves.
    pub(super) fn retire(&self) {
        self.open.borrow_mut().clear();
    }
}

/// How connections are opened.
pub(super) struct How<'a> {
    pub(super) tls: Option<&'a UpstreamTls>,
    pub(super) connect_timeout: Duration,
    pub(super) pings: PingRules,
}

/// One exchange's place on a connection. Dropped, what is still to come of the request is not sent: in
/// HTTP/2 its stream would outlive the answer's.
#[derive(Debug)]
pub(super) struct Place {
    shared: Rc<Shared>,
    /// How the request's body flows, where it is not here whole.
    flow: Option<Rc<Flow>>,
    /// The connection was opened for it.
    pub(super) is_new: bool,
}

impl Place {
    fn new(shared: Rc<Shared>, is_new: bool) -> Self {
        shared.exchanges.set(shared.exchanges.get() + 1);
        Self { shared, flow: None, is_new }
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Unanswered> {
        self.flow = request.body_mut().flow();
        let mut sender: SendRequest<Body> = self.shared.begun.sender.clone();
        match sender.try_send_request(request).await {
            Ok(mut response) => {
                // What the next hop's framing is, is not this one's matter.
                *response.version_mut() = Version::HTTP_11;
                Ok(response)
            }
            Err(error) => {
                let unanswered = Unanswered::of(error);
                if matches!(unanswered, Unanswered::Unsent(_)) {
                    // Its body is to flow by another connection.
                    self.flow = None;
                }
                Err(unanswered)
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.exchanges.set(self.shared.exchanges.get() - 1);
        self.shared.idle_since.set(Monotonic::coarse());
        if let Some(flow) = &self.flow {
            flow.give_up();
        }
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// It was not sent.
    Unsent(Box<Request<Body>>),
    /// The endpoint says that it has done nothing about it (RFC 9113 section 8.7).
    Unprocessed,
    /// The connection ended.
    Closed,
    /// The endpoint gave it up, or did not keep to the protocol.
    Broken,
}

impl Unanswered {
    fn of(mut error: TrySendError<Request<Body>>) -> Self {
        if let Some(request) = error.take_message() {
            return Self::Unsent(Box::new(request));
        }
        let error = error.into_error();
        if error.is_canceled() || error.is_timeout() {
            return Self::Closed;
        }
        let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()) else {
            return Self::Broken;
        };
        // By GOAWAY h2 ends those streams alone that come after the last one that was acted upon.
        let is_unprocessed = cause.is_remote()
            && (cause.is_go_away()
                || cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM));
        if is_unprocessed {
            return Self::Unprocessed;
        }
        match cause.get_io().map(std::io::Error::kind) {
            Some(ErrorKind::InvalidData) | None => Self::Broken,
            Some(_) => Self::Closed,
        }
    }
}

/// Makes the head of a request of HTTP/2 of one of HTTP/1.1, which has been judged: the authority from
/// its `Host`, no field of a hop. Has no effect on one that is made already.
pub(super) fn convert<B>(request: &mut Request<B>, scheme: Scheme) -> Result<(), UpstreamError> {
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    let host = headers.remove(HOST);
    let mut uri = Parts::from(std::mem::take(request.uri_mut()));
    if let Some(host) = host {
        let authority = Authority::try_from(host.as_bytes());
        uri.authority = Some(authority.map_err(|_invalid| UpstreamError::Protocol)?);
    }
    uri.scheme = Some(match scheme {
        Scheme::Plain => UriScheme::HTTP,
        Scheme::Tls => UriScheme::HTTPS,
    });
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_unwritable| UpstreamError::Protocol)?;
    Ok(())
}
