//! A connection of its own for a request that asks for another protocol (RFC 9110 section 7.8).

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Parts};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::super::body::Body;
use super::super::connection;
use super::super::stream::Stream;
use super::super::{Protocol, UpstreamError, framing};
use super::member::Lease;
use super::{Holder, Pool};
use crate::causes::Causes;

/// What an endpoint made of a request for another protocol.
pub enum Switched {
    /// It speaks the other protocol now; this is the head of its answer.
    Upgraded(Response<()>, Upgraded),
    /// An answer like any other, on a connection that serves no further request.
    Answered(Response<Incoming>, Lease),
}

/// A connection that speaks another protocol, and its place at the endpoint.
#[derive(Debug)]
pub struct Upgraded {
    stream: Stream,
    /// What came behind the answer's head.
    begun: Bytes,
    lease: Lease,
}

impl Upgraded {
    /// Its place at the endpoint.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }
}

impl Pool {
    /// Sends a request without a body that asks for another protocol, and waits for the head of its
    /// answer at most for `patience`. A switch counts only if `is_accepted` by the answer's fields.
    ///
    /// Another endpoint gets what the first could not be connected for.
    pub async fn upgrade(
        self: &Rc<Self>,
        request: Request<Body>,
        patience: Duration,
        is_accepted: impl Fn(&HeaderMap) -> bool,
    ) -> Result<Switched, UpstreamError> {
        let holder = RefCell::new(None);
        let switched = timeout(patience, self.switch(request, is_accepted, &holder)).await;
        switched.unwrap_or_else(|_elapsed| {
            if let Some(Holder { member, .. }) = holder.take() {
                self.failed(&member);
            }
            Err(UpstreamError::ResponseTimeout)
        })
    }

    async fn switch(
        self: &Rc<Self>,
        request: Request<Body>,
        is_accepted: impl Fn(&HeaderMap) -> bool,
        holder: &RefCell<Option<Holder>>,
    ) -> Result<Switched, UpstreamError> {
        let (stream, mut lease) = self.reach().await?;
        self.new.inc();
        let member = Rc::clone(lease.member());
        holder.replace(Some(Holder::new(&member)));
        let failed = |error: hyper::Error| {
            tracing::debug!(%error, "no upgrade");
            self.failed(&member);
            UpstreamError::Protocol
        };
        let (mut sender, mut connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let (giving, parts) = oneshot::channel();
        spawn_local(async move {
            let polled = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
            match polled {
                // Who asked may be gone, and the connection with it.
                Ok(()) => drop(giving.send(connection.into_parts())),
                Err(error) => tracing::debug!(%error, "an upstream connection ended"),
            }
        });
        let response = sender.send_request(request).await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers());
        if status != StatusCode::SWITCHING_PROTOCOLS {
            if !framing::is_plain(status, headers) {
                self.failed(&member);
                return Err(UpstreamError::Protocol);
            }
            self.judge(&member, status);
            return Ok(Switched::Answered(response, lease));
        }
        let parts = if is_accepted(headers) { parts.await.ok() } else { None };
        let Some(Parts { io, read_buf, .. }) = parts else {
            self.failed(&member);
            return Err(UpstreamError::Protocol);
        };
        self.judge(&member, status);
        lease.leave_to_a_tunnel();
        let upgraded = Upgraded { stream: io.into_inner(), begun: read_buf, lease };
        Ok(Switched::Upgraded(response.map(drop), upgraded))
    }

    /// A new connection to one endpoint, or to the next where that fails.
    async fn reach(self: &Rc<Self>) -> Result<(Stream, Lease), UpstreamError> {
        let settings = self.upstream.settings();
        if settings.protocol != Protocol::Http1 {
            // HTTP/2 has no upgrades of this kind, and RFC 8441 is not spoken.
            return Err(UpstreamError::Protocol);
        }
        let mut lease = self.seat().await?;
        let mut tried = Vec::new();
        loop {
            let member = Rc::clone(lease.member());
            let opening = connection::connect(&member.endpoint, self.upstream.0.tls.as_ref());
            let error = match timeout(settings.limits.connect_timeout, opening).await {
                Ok(Ok(stream)) => return Ok((stream, lease)),
                Ok(Err(error)) => {
                    let endpoint = &**member.endpoint.label();
                    tracing::debug!(endpoint, error = %Causes(&error), "no connection");
                    error.outward()
                }
                Err(_elapsed) => UpstreamError::ConnectTimeout,
            };
            self.failed(&member);
            tried.push(member);
            if tried.len() > settings.retry.attempts {
                return Err(error);
            }
            let Ok(Some(next)) = self.free_seat(&tried) else { return Err(error) };
            self.unsent.inc();
            lease = next;
        }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.begun.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let now = this.begun.len().min(buf.remaining());
        buf.put_slice(this.begun.get(..now).unwrap_or_default());
        this.begun.advance(now);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
