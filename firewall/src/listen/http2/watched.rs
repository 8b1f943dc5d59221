//! A connection's stream as h2 sees it: nothing is held back, everything is looked at, and a client
//! that goes too far or takes nothing is given up.

use std::cell::Cell;
use std::io::{ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::access_log::Ending;
use crate::clock::Monotonic;
use crate::pipeline::origin::Judgement;

use super::super::taking::Taking;
use super::Http2Limits;
use super::watch::{Report, Watch};

/// What the client gets when the stream is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Farewell {
    /// What has been written.
    #[default]
    None,
    /// And a GOAWAY, where one can be written at once.
    Calm,
    /// A reset, which takes the kernel's buffers and timers along.
    Reset,
}

/// What the connection's task and its stream share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) report: Report,
    pub(super) farewell: Cell<Farewell>,
}

pub(super) struct Watched<S: AsyncWrite + Unpin> {
    stream: S,
    reset: fn(&S),
    /// Octets that were read before it was known whose they are.
    begun: Vec<u8>,
    given: usize,
    watch: Watch,
    shared: Rc<Shared>,
    judgement: Rc<Judgement>,
    taking: Taking,
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    pub(super) fn new(
        (stream, reset): (S, fn(&S)),
        begun: Vec<u8>,
        limits: &Http2Limits,
        patience: Duration,
        judgement: Rc<Judgement>,
    ) -> (Self, Rc<Shared>) {
        let shared = Rc::<Shared>::default();
        let watched = Self {
            stream,
            reset,
            begun,
            given: 0,
            watch: Watch::new(limits),
            shared: Rc::clone(&shared),
            judgement,
            taking: Taking::new(patience),
        };
        (watched, shared)
    }

    fn received(&mut self, octets: &[u8]) -> Result<()> {
        self.watch.received(octets, Monotonic::coarse(), &self.shared.report);
        if self.shared.report.is_refused() { Err(ErrorKind::InvalidData.into()) } else { Ok(()) }
    }

    /// Takes what came of writing. A client that takes nothing for too long is given up: it keeps
    /// answers, and perhaps the upstream's connections, waiting.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        written: Poll<Result<usize>>,
    ) -> Poll<Result<usize>> {
        let Poll::Ready(written) = written else {
            let now = Monotonic::coarse();
            if !self.taking.is_waiting() {
                self.judgement.set_blocked(true, now);
            }
            ready!(self.taking.poll_spent(cx, now));
            self.judgement.ended_for(Ending::Untaken);
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        };
        let mut left = *written.as_ref().unwrap_or(&0);
        if self.taking.is_waiting() {
            let now = Monotonic::coarse();
            self.judgement.set_blocked(false, now);
            self.taking.took(left, now);
        }
        self.judgement.count_sent(left);
        for buf in bufs {
            let taken = buf.get(..left).unwrap_or(buf);
            self.watch.sent(taken, Monotonic::coarse(), &self.shared.report);
            left -= taken.len();
            if left == 0 {
                break;
            }
        }
        if self.shared.report.is_refused() {
            // Its task ends the connection when it has run.
            return Poll::Ready(Err(ErrorKind::InvalidData.into()));
        }
        Poll::Ready(written)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.shared.report.is_refused() {
            return Poll::Ready(Err(ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        let begun = this.begun.get(this.given..).unwrap_or_default();
        if begun.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            let now = begun.get(..buf.remaining()).unwrap_or(begun);
            buf.put_slice(now);
            this.given += now.len();
            if this.given == this.begun.len() {
                (this.begun, this.given) = (Vec::new(), 0);
            }
        }
        let fresh = buf.filled().get(before..).unwrap_or_default();
        this.judgement.count_received(fresh.len());
        Poll::Ready(this.received(fresh))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(cx, &[IoSlice::new(buf)], written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(cx, bufs, written)
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

impl<S: AsyncWrite + Unpin> Drop for Watched<S> {
    fn drop(&mut self) {
        match self.shared.farewell.get() {
            Farewell::Reset => (self.reset)(&self.stream),
            Farewell::Calm if self.watch.is_between_frames() => {
                let mut cx = Context::from_waker(Waker::noop());
                let (stream, calm) = (&mut self.stream, self.watch.calm_please());
                // Nobody waits for a client that has gone too far.
                let written = Pin::new(&mut *stream).poll_write(&mut cx, &calm);
                if let Poll::Ready(Ok(_)) = written {
                    drop(Pin::new(stream).poll_flush(&mut cx));
                }
            }
            Farewell::None | Farewell::Calm => {}
        }
    }
}
