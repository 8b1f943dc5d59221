//! One connection of HTTP/2: hyper's over a watched stream, until it ends or is told to.
//!
//! The framing is the h2 crate's to read, and what it refuses never becomes a request. So the stream
//! beneath it is watched: what the client does too often, and what h2 answers with an error, are
//! violations of the connection, told by [`OnViolation`]. What h2 lets pass and HTTP/1 would not,
//! `head.rs` finds; the pipeline is told by [`Origin::refusal`].

mod head;
mod open;
mod streams;
mod watch;
mod watched;

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::access_log::Ending;
use crate::clock::Monotonic;
use crate::pipeline::origin::Origin;
use crate::violation::Rule;

pub use crate::http2::Rate;

use super::connection::{ConnectionSettings, Ended};
use super::connections::{LastWords, Ticket};
use super::judged::{Alarm, Patience};
use streams::{Answer, Streams};
use watched::{Farewell, Shared, Watched};

/// How much of an answer h2 keeps for a stream, in octets.
const SEND_BUFFER_OCTETS: usize = 32 * 1024;

/// What RFC 9113 section 6.5.2 adds to each field's size.
const FIELD_OVERHEAD: usize = 32;

/// Pseudo-fields of a request, which are fields too where a head is measured.
const PSEUDO_FIELDS: usize = 4;

/// From our last word to the end, where the client says nothing to it, and for a connection that has
/// not yet asked anything once the process drains.
const LAST_SILENCE: Duration = Duration::from_secs(1);

/// Where HTTP/2 is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    Off,
    /// Over TLS, to clients that ask for it.
    #[default]
    Tls,
    /// In plain text as well, to clients that begin with it.
    PriorKnowledge,
}

/// What one connection of HTTP/2 may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Limits {
    /// Requests at once.
    pub streams: u32,
    /// Octets of one request's body that may be on their way; at least 1.
    pub stream_window: u32,
    /// Octets of all requests' bodies that may be on their way; at least 65,535.
    pub connection_window: u32,
    /// CONTINUATION frames of one head.
    pub continuations: u32,
    /// Streams that the client resets.
    pub resets: Rate,
    /// Streams that are reset because of the client's errors.
    pub errors: Rate,
    /// Frames that bring nothing: SETTINGS, PING, PRIORITY, empty DATA, windows that nothing was sent
    /// through. What answers bring about is not counted.
    pub control: Rate,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            streams: 100,
            stream_window: 128 << 10,
            connection_window: 512 << 10,
            continuations: 4,
            resets: Rate { per_second: 20, burst: 200 },
            errors: Rate { per_second: 5, burst: 50 },
            control: Rate { per_second: 50, burst: 1_000 },
        }
    }
}

/// Hears of violations that no request stands for.
#[derive(Clone, Default)]
pub struct OnViolation(Option<Rc<dyn Fn(Origin, Rule)>>);

impl OnViolation {
    pub fn call(tell: impl Fn(Origin, Rule) + 'static) -> Self {
        Self(Some(Rc::new(tell)))
    }
}

impl fmt::Debug for OnViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnViolation")
    }
}

fn protocol(settings: &ConnectionSettings, streams: Streams) -> http2::Builder<Streams> {
    let (head, limits) = (&settings.head, &settings.http2_limits);
    let list = head.head_octets + (head.fields + PSEUDO_FIELDS) * FIELD_OVERHEAD;
    let mut protocol = http2::Builder::new(streams);
    protocol
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_send_buf_size(SEND_BUFFER_OCTETS)
        // Both are counted beneath it, by time.
        .max_pending_accept_reset_streams(limits.resets.burst as usize)
        .max_local_error_reset_streams(None);
    protocol
}

/// Serves one connection, of which `begun` was already read. `reset` has the stream end with a reset.
/// `answer` is called for many requests at once; it must ask [`Origin::refusal`] first.
pub(super) async fn serve<S, F, A, B>(
    (stream, reset): (S, fn(&S)),
    begun: Vec<u8>,
    ticket: Ticket,
    settings: &ConnectionSettings,
    answer: Rc<F>,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Origin, Request<Incoming>) -> A,
    A: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let judgement = ticket.judgement();
    let (peer, socket) = (ticket.peer(), ticket.socket());
    let (id, accepted_at) = (ticket.id(), ticket.accepted_at());
    let patience = settings.patience.idle;
    let (watched, shared) = Watched::new(
        (stream, reset),
        begun,
        &settings.http2_limits,
        patience,
        Rc::clone(judgement),
    );
    let (streams, _tasks) = Streams::new(patience);
    let head_limits = settings.head;
    let beginning = streams.clone();
    let service = service_fn(|request: Request<Incoming>| {
        let (mut head, body) = request.into_parts();
        let asks_much = ticket.asks_much().then_some(Rule::RequestsAtOnce);
        let malformed = head::judge(&mut head, &head_limits).err().or(asks_much);
        let origin = Origin::begin(peer, socket, id, accepted_at, Rc::clone(judgement));
        let turn = beginning.begin(judgement);
        let answer = answer(origin.of_stream(malformed), Request::from_parts(head, body));
        async move {
            let mut response = answer.await;
            // It speaks of the connection, of which HTTP/2 speaks by frames.
            response.headers_mut().remove(CONNECTION);
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, turn)))
        }
    });
    let connection = protocol(settings, streams.clone());
    let mut connection = connection.serve_connection(TokioIo::new(watched), service);
    let mut course = Course::new(&ticket, &shared, settings.patience);
    let tell = || {
        for rule in shared.report.take_violations() {
            if let Some(tell) = &settings.on_violation.0 {
                tell(Origin::of_connection(peer, socket, id, accepted_at, judgement), rule);
            }
        }
    };
    poll_fn(|cx| {
        let mut connection = Pin::new(&mut connection);
        loop {
            if course.last_words.are_over(course.ticket, cx) {
                shared.farewell.set(Farewell::Reset);
                return Poll::Ready(Ended::Dropped);
            }
            streams.reap(cx);
            let outcome = connection.as_mut().poll(cx);
            let step = course.next(cx);
            tell();
            match (outcome, step) {
                (_, Step::Refused | Step::GiveUp) => {
                    shared.farewell.set(Farewell::Calm);
                    return Poll::Ready(Ended::Refused);
                }
                (Poll::Ready(outcome), _) => {
                    return Poll::Ready(outcome.map_or_else(Ended::Broken, |()| Ended::Closed));
                }
                (Poll::Pending, Step::Over) => return Poll::Ready(Ended::Closed),
                (Poll::Pending, Step::End) => connection.as_mut().graceful_shutdown(),
                (Poll::Pending, Step::Wait) => return Poll::Pending,
            }
        }
    })
    .await
}

/// What a connection is to do next.
enum Step {
    Wait,
    /// Say that no further request will be answered.
    End,
    /// Both sides have said what they had to say.
    Over,
    /// The client does not take what it asked for.
    GiveUp,
    Refused,
}

/// What the outside has ordered a connection to do, and what time orders.
struct Course<'a> {
    ticket: &'a Ticket,
    shared: &'a Shared,
    patience: Patience,
    begun_at: Monotonic,
    last_words: LastWords,
    /// Since when hyper has been told that no further request will be answered.
    ending_since: Option<Monotonic>,
    alarm: Alarm,
}

impl<'a> Course<'a> {
    fn new(ticket: &'a Ticket, shared: &'a Shared, patience: Patience) -> Self {
        let (begun_at, alarm) = (Monotonic::now(), Alarm::default());
        let last_words = LastWords::default();
        Self { ticket, shared, patience, begun_at, last_words, ending_since: None, alarm }
    }

    /// When the client will have let us wait for too long, and what then.
    fn due(&self) -> Option<(Monotonic, Step)> {
        let answering = self.ticket.judgement().answering();
        let untaken_since = self.shared.report.open().untaken_since(answering);
        let untaken = untaken_since.map(|at| (at.after(self.patience.idle), Step::GiveUp));
        self.silence_due().into_iter().chain(untaken).min_by_key(|(due, _)| *due)
    }

    /// When a silence will have lasted too long, and what then; none while the client owes nothing.
    fn silence_due(&self) -> Option<(Monotonic, Step)> {
        let (judgement, patience) = (self.ticket.judgement(), &self.patience);
        if let Some(since) = self.shared.report.head_since() {
            return Some((since.after(patience.head), Step::Refused));
        }
        if !self.shared.report.has_greeted() {
            let silence = if judgement.is_draining() {
                patience.head.min(LAST_SILENCE)
            } else {
                patience.head
            };
            return Some((self.begun_at.after(silence), Step::Over));
        }
        if judgement.is_answering() || judgement.is_blocked() {
            return None;
        }
        let quiet = judgement.quiet_since().max(self.begun_at);
        Some(match self.ending_since {
            Some(since) => (since.max(quiet).after(LAST_SILENCE), Step::Over),
            None => (quiet.after(patience.idle), Step::End),
        })
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Step {
        let (judgement, report) = (self.ticket.judgement(), &self.shared.report);
        judgement.set_in_head(report.head_since().is_some());
        judgement.set_untaken(report.open().untaken(judgement.answering()));
        if report.is_refused() {
            return Step::Refused;
        }
        let is_wanted = judgement.is_closing() || judgement.is_draining();
        if is_wanted && report.has_greeted() && self.ending_since.is_none() {
            self.ending_since = Some(Monotonic::now());
            return Step::End;
        }
        let Some((due, step)) = self.due() else { return Step::Wait };
        if self.alarm.poll(cx, due).is_pending() {
            return Step::Wait;
        }
        match step {
            Step::Refused => report.refuse(Rule::HeadTimeout),
            Step::End => self.ending_since = Some(Monotonic::now()),
            Step::GiveUp | Step::Over | Step::Wait => {}
        }
        let is_silent = judgement.requests() == 0;
        match step {
            Step::GiveUp => judgement.ended_for(Ending::Untaken),
            Step::End | Step::Over if judgement.is_draining() || judgement.is_closing() => {}
            Step::End | Step::Over if is_silent => judgement.ended_for(Ending::Silent),
            Step::End => judgement.ended_for(Ending::Idle),
            Step::Over | Step::Refused | Step::Wait => {}
        }
        step
    }
}
