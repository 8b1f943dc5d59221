//! A connection's stream as h2 reads it: what an endpoint may send beside answers is counted, and an
//! answer that is cut off is not taken for a whole one.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::{ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::clock::Monotonic;
use crate::http2::Rate;
use crate::http2::allowance::Allowance;
use crate::http2::frames::{ACK, END_STREAM, Found, Frames, kind};

/// Frames that bring nothing: SETTINGS, PING, `WINDOW_UPDATE`, `RST_STREAM`, empty DATA, more heads than
/// requests. What our own frames may bring about is not counted.
const CONTROL: Rate = Rate { per_second: 100, burst: 1_000 };

/// How many such frames an endpoint may send for each head of ours and each frame of a request's body.
const FRAMES_PER_REQUEST: u64 = 8;

/// Octets with which we begin (RFC 9113 section 3.4).
const PREFACE_OCTETS: usize = 24;

/// Codes of `RST_STREAM` (RFC 9113 section 7): the first in its octets, of the other the last one.
const NO_ERROR: &[u8] = &[0; 4];
const INTERNAL_ERROR: u8 = 2;

pub(super) struct Watched<S> {
    stream: S,
    preface_left: usize,
    inbound: Frames,
    outbound: Frames,
    control: Allowance,
    /// Requests that have been sent and whose answers have not ended.
    unanswered: BTreeSet<u32>,
    greeting: Option<oneshot::Sender<()>>,
    has_gone_too_far: bool,
}

impl<S> Watched<S> {
    /// Gives also what tells when the endpoint has begun as HTTP/2 begins, and whether it has.
    pub(super) fn new(stream: S) -> (Self, impl Future<Output = bool>) {
        let (greeting, greeted) = oneshot::channel();
        let watched = Self {
            stream,
            preface_left: PREFACE_OCTETS,
            inbound: Frames::new(),
            outbound: Frames::new(),
            control: Allowance::new(CONTROL),
            unanswered: BTreeSet::new(),
            greeting: Some(greeting),
            has_gone_too_far: false,
        };
        (watched, async { greeted.await.is_ok() })
    }

    /// Takes what the endpoint has sent. A reset that says that all is well (RFC 9113 section 8.1) would
    /// be taken for an answer's end; before the end has come it is none, and is made an error.
    fn received(&mut self, octets: &mut [u8], now: Monotonic) {
        let Self { control, unanswered, greeting, has_gone_too_far, .. } = self;
        let mut cut_off = Vec::new();
        self.inbound.read_with_places(octets, |found, place| match found {
            Found::Begun(header) => {
                if greeting.is_some() {
                    let is_greeting = header.kind == kind::SETTINGS && !header.has(ACK);
                    *has_gone_too_far |= !is_greeting;
                }
                let brings = match header.kind {
                    kind::DATA => header.length > 0 || header.has(END_STREAM),
                    // The one that each request is to have.
                    kind::HEADERS => header.has(END_STREAM),
                    _ => false,
                };
                *has_gone_too_far |= !brings && !control.take(now);
            }
            Found::Ended(header, payload) => {
                if let Some(greeting) = greeting.take().filter(|_| !*has_gone_too_far) {
                    // Nobody waits where it took too long.
                    greeting.send(()).unwrap_or(());
                }
                match header.kind {
                    kind::DATA | kind::HEADERS if header.has(END_STREAM) => {
                        unanswered.remove(&header.stream);
                    }
                    kind::RST_STREAM
                        if unanswered.remove(&header.stream) && payload == NO_ERROR =>
                    {
                        cut_off.push(place);
                    }
                    _ => {}
                }
            }
        });
        for place in cut_off {
            if let Some(last) = place.checked_sub(1).and_then(|last| octets.get_mut(last)) {
                *last = INTERNAL_ERROR;
            }
        }
    }

    /// Takes what we have sent.
    fn sent(&mut self, octets: &[u8]) {
        let preface = self.preface_left.min(octets.len());
        self.preface_left -= preface;
        let Self { control, unanswered, .. } = self;
        self.outbound.read(octets.get(preface..).unwrap_or_default(), |found| {
            let Found::Ended(header, _) = found else { return };
            match header.kind {
                kind::HEADERS => {
                    unanswered.insert(header.stream);
                    control.give(FRAMES_PER_REQUEST);
                }
                kind::DATA => control.give(FRAMES_PER_REQUEST),
                kind::RST_STREAM => {
                    unanswered.remove(&header.stream);
                }
                _ => {}
            }
        });
    }

    fn written(&mut self, bufs: &[IoSlice<'_>], written: usize) {
        let mut left = written;
        for buf in bufs {
            let taken = buf.get(..left).unwrap_or(buf);
            self.sent(taken);
            left -= taken.len();
            if left == 0 {
                break;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let fresh = buf.filled_mut().get_mut(before..).unwrap_or_default();
        this.received(fresh, Monotonic::coarse());
        if this.has_gone_too_far {
            this.greeting = None;
            return Poll::Ready(Err(ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.written(&[IoSlice::new(buf)], written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        this.written(bufs, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
