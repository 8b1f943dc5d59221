//! The beginning of a connection of HTTP/2 to an endpoint, and the bounds of what the endpoint may do
//! on it.

use std::cell::RefCell;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::spawn_local;

use super::STREAMS_MAX;
use super::watched::Watched;
use crate::causes::Causes;
use crate::upstream::Protocol;
use crate::upstream::connection::{ConnectError, connect};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::tls::UpstreamTls;

/// Octets of one answer's body that may be on their way.
const STREAM_WINDOW: u32 = 128 << 10;

/// The same of all: as much as the streams have together, or clients that take nothing of their
/// answers would keep the others waiting for theirs.
#[expect(clippy::cast_possible_truncation, reason = "a small number")]
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX as u32;

/// Octets of an answer's head, or of its trailers, with 32 for each field (RFC 9113 section 6.5.2). h2
/// bounds the CONTINUATION frames by it.
const HEADER_LIST_OCTETS: u32 = 64 << 10;

/// Octets of a request's body that h2 keeps while the endpoint's window is closed.
const SEND_BUFFER_OCTETS: usize = 64 << 10;

/// Streams that we may reset for the endpoint's errors before the connection is given up.
const ERRORS_MAX: usize = 128;

/// Streams that we have taken back and that are remembered for a second, by which what still comes for
/// them is no error of the endpoint's: clients that leave in crowds must not end what others share.
const TAKEN_BACK_MAX: usize = 8192;

/// How it is found out that an endpoint is gone without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingRules {
    /// From what came last to a PING, while there is an exchange.
    pub interval: Duration,
    /// From a PING to its answer, at most.
    pub timeout: Duration,
}

/// A connection that has begun.
pub(in crate::upstream) struct Begun<B> {
    pub(in crate::upstream) sender: SendRequest<B>,
    /// How many streams the endpoint allows at once, at this moment.
    pub(super) allowed: Box<dyn Fn() -> usize>,
}

/// Connects, and speaks HTTP/2; on this thread's `LocalSet`. Over TLS if that agreed upon it, in plain
/// text by knowing so beforehand (RFC 9113 section 3.3). Takes as long as it takes: it has begun when the
/// endpoint's SETTINGS are here, so that no request is sent to who speaks something else, nor more than
/// are allowed.
pub(in crate::upstream) async fn open<B>(
    endpoint: &Endpoint,
    tls: Option<&UpstreamTls>,
    pings: PingRules,
) -> Result<Begun<B>, ConnectError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + 'static,
{
    let stream = connect(endpoint, tls).await?;
    if !stream.speaks(Protocol::Http2.alpn()) {
        return Err(ConnectError::NotChosen);
    }
    let (stream, greeting) = Watched::new(stream);
    let mut protocol = http2::Builder::new(Local);
    protocol
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST_OCTETS)
        .max_send_buf_size(SEND_BUFFER_OCTETS)
        .max_concurrent_reset_streams(TAKEN_BACK_MAX)
        .max_local_error_reset_streams(ERRORS_MAX)
        .keep_alive_interval(pings.interval)
        .keep_alive_timeout(pings.timeout);
    let (sender, connection) =
        protocol.handshake::<_, B>(TokioIo::new(stream)).await.map_err(ConnectError::Handshake)?;
    let connection = Rc::new(RefCell::new(Some(connection)));
    let allowed = {
        let connection = Rc::clone(&connection);
        let allowed =
            move || connection.borrow().as_ref().map(http2::Connection::current_max_send_streams);
        Box::new(move || allowed().unwrap_or_default())
    };
    spawn_local(async move {
        let ended = poll_fn(|cx| {
            let mut connection = connection.borrow_mut();
            let Some(running) = connection.as_mut() else { return Poll::Ready(Ok(())) };
            let ended = ready!(Pin::new(running).poll(cx));
            // Its sender learns that nobody takes requests any more.
            *connection = None;
            Poll::Ready(ended)
        });
        if let Err(error) = ended.await {
            tracing::debug!(error = %Causes(&error), "an upstream connection ended");
        }
    });
    if greeting.await { Ok(Begun { sender, allowed }) } else { Err(ConnectError::NotHttp2) }
}

/// Runs hyper's tasks where the connection was opened.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        drop(spawn_local(task));
    }
}
