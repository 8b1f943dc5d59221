//! One connection: hyper's HTTP/1.1 over a judged stream, until it ends or is told to.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Parts};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite as _;

use crate::clock::Monotonic;
use crate::pipeline::origin::{Judgement, Origin};
use crate::pipeline::tunnel::{Farewell, Order, Tunnel};

use super::connections::{self, LastWords, Ticket};
use super::framing::HeadLimits;
use super::greeting;
use super::http2::{self, Http2, Http2Limits, OnViolation};
use super::judged::{Judged, Patience};
use super::proxy_protocol::Balancers;
use super::tls::Encryption;
use super::transport::{Protocol, Transport};

/// hyper's read buffer, in octets: no read and no frame of a body is larger.
const READ_OCTETS: usize = 64 * 1024;

/// hyper's own limit on field lines; one more than it costs an allocation with each request.
const HYPER_FIELDS: usize = 100;

/// What every connection of a listener has in common.
#[derive(Clone, Debug, Default)]
pub struct ConnectionSettings {
    pub head: HeadLimits,
    pub patience: Patience,
    pub balancers: Balancers,
    pub http2: Http2,
    pub http2_limits: Http2Limits,
    pub on_violation: OnViolation,
    /// None: plain text.
    pub encryption: Option<Encryption>,
}

impl ConnectionSettings {
    fn protocol(&self) -> http1::Builder {
        let mut protocol = http1::Builder::new();
        protocol
            .header_read_timeout(None)
            .max_buf_size(READ_OCTETS.max(self.head.head_octets.saturating_mul(2)));
        if self.head.fields > HYPER_FIELDS {
            protocol.max_headers(self.head.fields);
        }
        protocol
    }
}

/// How a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// Both sides had said what they had to say, or the client had been silent for too long.
    Closed,
    /// It was told to end at once: see [`super::connections::Connections`].
    Dropped,
    /// The client went too far, by a rule of HTTP/2.
    Refused,
    /// The client went away in the middle of a message, or reading or writing failed.
    Broken(hyper::Error),
}

/// Serves one connection. `answer` is called for one request after another; it must ask
/// [`Origin::refusal`] first, and [`Origin::body_violation`] when reading the body fails.
pub async fn serve<F, A, B>(
    mut stream: Transport,
    ticket: Ticket,
    settings: &ConnectionSettings,
    answer: Rc<F>,
) -> Ended
where
    F: Fn(Origin, Request<Incoming>) -> A,
    A: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut protocol, mut begun) = (stream.protocol(), Vec::new());
    if let (Transport::Plain(socket), Http2::PriorKnowledge) = (&mut stream, settings.http2)
        && greeting::tells_http2(socket, &ticket, settings.patience.head, &mut begun).await
    {
        protocol = Protocol::Http2;
    }
    if protocol == Protocol::Http2 {
        return http2::serve((stream, Transport::reset), begun, ticket, settings, answer).await;
    }
    let judgement = ticket.judgement();
    let (peer, socket) = (ticket.peer(), ticket.socket());
    let (id, accepted_at) = (ticket.id(), ticket.accepted_at());
    // A handshake has had its own time.
    let begun_at = if stream.is_encrypted() { Monotonic::now() } else { accepted_at };
    let judged =
        Judged::new(stream, settings.head, settings.patience, begun_at, Rc::clone(judgement))
            .having_read(&begun);
    let service = service_fn(|request| {
        let origin = Origin::begin(peer, socket, id, accepted_at, Rc::clone(judgement));
        let (ordinal, turn) = (origin.ordinal, Turn(Rc::clone(judgement)));
        let answer = answer(origin, request);
        async move {
            let mut response = answer.await;
            let is_tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            if turn.0.is_offer(ordinal) && !is_tunnel {
                // Nothing behind an offer was read as HTTP, and nothing will be.
                turn.0.close_after_response();
            }
            // hyper says so by itself for a request that asked for it, not for a broken body.
            if turn.0.is_last(ordinal) && !is_tunnel {
                let offers = response.headers().contains_key(UPGRADE);
                let options = if offers { "close, upgrade" } else { "close" };
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static(options));
            }
            Ok::<_, Infallible>(response.map(|body| Answer { body, _turn: turn }))
        }
    });
    let mut connection = settings.protocol().serve_connection(TokioIo::new(judged), service);
    let mut course = Course { ticket: &ticket, last_words: LastWords::default(), is_ending: false };
    let ended = poll_fn(|cx| {
        let mut connection = Pin::new(&mut connection);
        loop {
            if course.last_words.are_over(&ticket, cx) {
                return Poll::Ready(Ended::Dropped);
            }
            if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
                return Poll::Ready(outcome.map_or_else(Ended::Broken, |()| Ended::Closed));
            }
            if !course.must_end() {
                return Poll::Pending;
            }
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
    if !judgement.has_offer() || !matches!(ended, Ended::Closed | Ended::Dropped) {
        if let Ended::Dropped = ended {
            connection.into_parts().io.into_inner().into_inner().reset();
        }
        return ended;
    }
    let Parts { io, read_buf, .. } = connection.into_parts();
    let mut judged = io.into_inner();
    match (judgement.take_tunnel(), ended) {
        // hyper lets go of such a stream also where part of an answer waits to be written, and drops
        // that part: no frame may stand behind a head that was cut off.
        (Some(tunnel), Ended::Closed) if !judgement.is_blocked() => {
            let (stream, held) = judged.into_upgraded();
            let begun = [&*read_buf, &*held].concat();
            pass(*tunnel, stream, &begun, &ticket).await
        }
        (_, Ended::Closed) => {
            // hyper leaves a stream as it is on which an upgrade was asked for.
            let mut course = Course { last_words: LastWords::default(), ..course };
            poll_fn(|cx| {
                let is_over = course.last_words.are_over(&ticket, cx);
                let closed = Pin::new(&mut judged).poll_shutdown(cx);
                if is_over || closed.is_ready() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            Ended::Closed
        }
        (_, ended) => {
            judged.into_inner().reset();
            ended
        }
    }
}

/// Passes on what follows an upgrade, until that ends or is told to.
async fn pass(tunnel: Tunnel, mut stream: Transport, begun: &[u8], ticket: &Ticket) -> Ended {
    let (judgement, mut last_words) = (ticket.judgement(), LastWords::default());
    // A ban leaves it time to say so.
    judgement.close_after_response();
    let order = |cx: &mut Context<'_>| {
        if last_words.are_over(ticket, cx) {
            return Order::End;
        }
        match ticket.order(cx) {
            connections::Order::Serve if judgement.is_draining() => Order::GoAway,
            connections::Order::Serve => Order::GoOn,
            connections::Order::LastWords(_) => Order::TurnAway,
            connections::Order::Drop => Order::End,
        }
    };
    match tunnel.run(&mut stream, begun, order).await {
        Farewell::Close => Ended::Closed,
        Farewell::Reset => {
            stream.reset();
            Ended::Dropped
        }
    }
}

/// What the outside has ordered a connection to do, against what it is doing.
struct Course<'a> {
    ticket: &'a Ticket,
    last_words: LastWords,
    is_ending: bool,
}

impl Course<'_> {
    /// Whether hyper must now be told, once, that no further request will be answered. A client
    /// that has begun to ask, or has just come, is first given its answer.
    fn must_end(&mut self) -> bool {
        let judgement = self.ticket.judgement();
        let is_wanted = judgement.is_closing() || judgement.is_draining();
        let is_through = judgement.is_idle() && judgement.requests() > 0;
        let is_time = judgement.is_answering() || (is_through && !judgement.is_awaited());
        let must_end = is_wanted && is_time && !self.is_ending;
        self.is_ending |= must_end;
        must_end
    }
}

/// One request's turn: from its call of the service until its answer is handed over or given up.
struct Turn(Rc<Judgement>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.end(Monotonic::coarse());
    }
}

/// An answer's body, and the turn that ends with it.
struct Answer<B> {
    body: B,
    _turn: Turn,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
