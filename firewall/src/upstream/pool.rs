//! One worker's connections to the upstream: kept alive, the newest used first.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::clock::Monotonic;
use crate::metrics::Metrics;
use crate::upstream::body::Body;
use crate::upstream::{Upstream, UpstreamError, framing};

/// How many pooled connections that turn out to be closed one request may meet before it gets a new
/// one.
const STALE_ATTEMPTS: usize = 3;

/// The connections of one worker.
#[derive(Debug)]
pub struct Pool {
    inner: Rc<Inner>,
    new: prometheus::IntCounter,
    reused: prometheus::IntCounter,
}

#[derive(Debug)]
struct Inner {
    /// The upstream that the idle connections lead to. A reload may change it.
    upstream: RefCell<Upstream>,
    idle: RefCell<Vec<Idle>>,
    exchanges: RefCell<Arc<Semaphore>>,
    /// One more after each change of `upstream`: connections of earlier times are not kept.
    era: Cell<u64>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Body>,
    since: Monotonic,
}

/// One connection in use. It goes back to its pool when dropped, and is dropped itself if it has
/// been closed meanwhile.
#[derive(Debug)]
pub struct Lease {
    pool: Rc<Inner>,
    sender: Option<SendRequest<Body>>,
    era: u64,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(sender) = self.sender.take() else { return };
        if self.era == self.pool.era.get() && !sender.is_closed() {
            self.pool.idle.borrow_mut().push(Idle { sender, since: Monotonic::coarse() });
        }
    }
}

impl Pool {
    pub fn new(upstream: &Upstream, metrics: &Metrics) -> Self {
        let exchanges = Arc::new(Semaphore::new(upstream.limits.connections));
        let inner = Inner {
            upstream: RefCell::new(upstream.clone()),
            idle: RefCell::new(Vec::new()),
            exchanges: RefCell::new(exchanges),
            era: Cell::new(0),
        };
        Self {
            inner: Rc::new(inner),
            new: metrics.upstream_connections.with_label_values(&["new"]),
            reused: metrics.upstream_connections.with_label_values(&["reused"]),
        }
    }

    /// Sends `request` and waits for the head of its answer.
    ///
    /// A request is tried again where hyper gave it back unsent; and, if it is idempotent, where the
    /// upstream closed a kept connection under it (RFC 9112 section 9.3.1).
    pub async fn send(
        &self,
        upstream: &Upstream,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        self.follow(upstream);
        let exchanges = Arc::clone(&self.inner.exchanges.borrow());
        let permit = match Arc::clone(&exchanges).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_busy) => timeout(upstream.limits.connect_timeout, exchanges.acquire_owned())
                .await
                .map_err(|_elapsed| UpstreamError::Saturated)?
                .map_err(|_closed| UpstreamError::Saturated)?,
        };
        // Of this time, whatever a reload does while the request is under way.
        let lease = Lease {
            pool: Rc::clone(&self.inner),
            sender: None,
            era: self.inner.era.get(),
            _permit: permit,
        };
        let mut unsent = request;
        for _ in 0..STALE_ATTEMPTS {
            let Some(mut sender) = self.idle(upstream) else { break };
            let replica = replica(&unsent);
            match sender.try_send_request(unsent).await {
                Ok(response) => {
                    self.reused.inc();
                    return answered(lease, sender, response);
                }
                Err(mut error) => {
                    let was_closed = was_closed(error.error());
                    let again = error.take_message().or(replica.filter(|_| was_closed));
                    unsent = again.ok_or(UpstreamError::Protocol)?;
                }
            }
        }
        let mut sender = connect(upstream).await?;
        self.new.inc();
        match sender.send_request(unsent).await {
            Ok(response) => answered(lease, sender, response),
            Err(_) => Err(UpstreamError::Protocol),
        }
    }

    /// Closes connections that have been idle for too long; called now and then.
    pub fn sweep(&self) {
        let now = Monotonic::coarse();
        let limit = self.inner.upstream.borrow().limits.idle_timeout;
        self.inner
            .idle
            .borrow_mut()
            .retain(|idle| now.since(idle.since) < limit && !idle.sender.is_closed());
    }

    fn follow(&self, upstream: &Upstream) {
        if *self.inner.upstream.borrow() == *upstream {
            return;
        }
        *self.inner.upstream.borrow_mut() = upstream.clone();
        *self.inner.exchanges.borrow_mut() = Arc::new(Semaphore::new(upstream.limits.connections));
        self.inner.era.set(self.inner.era.get() + 1);
        self.inner.idle.borrow_mut().clear();
    }

    fn idle(&self, upstream: &Upstream) -> Option<SendRequest<Body>> {
        let now = Monotonic::coarse();
        let mut idle = self.inner.idle.borrow_mut();
        idle.retain(|idle| !idle.sender.is_closed());
        let newest = idle.iter().rposition(|idle| {
            idle.sender.is_ready() && now.since(idle.since) < upstream.limits.idle_timeout
        })?;
        Some(idle.remove(newest).sender)
    }
}

/// A copy of a request that may be sent twice (RFC 9110 section 9.2.2) and whose body is here whole.
fn replica(request: &Request<Body>) -> Option<Request<Body>> {
    if !request.method().is_idempotent() {
        return None;
    }
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
        matches!(cause.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
    });
    error.is_incomplete_message() || error.is_canceled() || is_reset
}

fn answered(
    mut lease: Lease,
    sender: SendRequest<Body>,
    response: Response<Incoming>,
) -> Result<(Response<Incoming>, Lease), UpstreamError> {
    // No request asks for an upgrade, so no answer may switch protocols (RFC 9110 section 7.8).
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamError::Protocol);
    }
    if !framing::is_plain(response.status(), response.headers()) {
        return Err(UpstreamError::Protocol);
    }
    lease.sender = Some(sender);
    Ok((response, lease))
}

async fn connect(upstream: &Upstream) -> Result<SendRequest<Body>, UpstreamError> {
    let connecting = async {
        let mut last = UpstreamError::Connect;
        let addresses = upstream.addresses().await.map_err(|_unresolved| last)?;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return handshake(stream).await,
                Err(_) => last = UpstreamError::Connect,
            }
        }
        Err(last)
    };
    match timeout(upstream.limits.connect_timeout, connecting).await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(UpstreamError::ConnectTimeout),
    }
}

async fn handshake(stream: TcpStream) -> Result<SendRequest<Body>, UpstreamError> {
    // Small messages are written whole: waiting for more would only add delay.
    stream.set_nodelay(true).map_err(|_closed| UpstreamError::Connect)?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|_closed| UpstreamError::Connect)?;
    // Ends when the sender is dropped or the upstream closes.
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream connection ended");
        }
    });
    Ok(sender)
}
