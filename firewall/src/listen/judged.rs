//! A connection's stream as hyper sees it: judged octets only.
//!
//! Reads go straight into hyper's buffer and are judged there; only an incomplete head is held
//! back. In place of a head that must be refused hyper is given a fixed, well-formed one, so that
//! the refusal takes its turn among the answers to pipelined requests; which request that is, and
//! why, stands in the connection's [`Judgement`]. After it nothing is read but to be thrown away.

#[cfg(test)]
mod tests;

use std::io::{Error, ErrorKind, Result};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::access_log::Ending;
use crate::clock::Monotonic;
use crate::pipeline::origin::{Judgement, Part};
use crate::violation::Rule;

use super::framing::{Framing, HeadLimits};
use super::taking::Taking;

/// What hyper reads where a refused head stood.
const SUBSTITUTE: &[u8] = b"GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";

/// How much is read at once while part of a head is held, and when what is read is thrown away.
const PIECE_OCTETS: usize = 4096;

/// A buffer for held octets larger than this is given back once it is empty.
const HELD_OCTETS_KEPT: usize = 4096;

/// How long a connection that has not yet asked anything is kept once the process drains.
const DRAIN_SILENCE: Duration = Duration::from_secs(1);

/// How often an alarm may ring for a client that owes nothing.
const ALARM_MIN: Duration = Duration::from_millis(100);

/// How patient a connection is with its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From a head's first octet to its last, and from the connection's start to the end of the
    /// first head.
    pub head: Duration,
    /// From an answer's end to the next head's first octet, and from one octet of an answer that
    /// the client takes to the next.
    pub idle: Duration,
    /// From our end of the stream to the client's, while what it still sends is thrown away: a
    /// socket closed with octets unread would reset the connection under the last answer
    /// (RFC 9112 section 9.6).
    pub linger: Duration,
    /// How many octets are thrown away at most.
    pub linger_octets: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_mins(1),
            linger: Duration::from_secs(2),
            linger_octets: 256 * 1024,
        }
    }
}

/// The judged side of a stream.
pub struct Judged<S> {
    stream: S,
    framing: Framing,
    judgement: Rc<Judgement>,
    patience: Patience,
    begun_at: Monotonic,
    source: Source,
    /// Octets that hyper has no room for yet (`given..ready`), then the incomplete head.
    held: Vec<u8>,
    given: usize,
    ready: usize,
    /// Since when part of which head is here.
    head_since: Option<(u64, Monotonic)>,
    alarm: Alarm,
    taking: Taking,
    /// Octets written, without the client being waited for, since a flush was last over: what encrypts
    /// takes them at once, and the client is waited for when they are flushed.
    unflushed: usize,
    ending: Option<Lingering>,
}

/// Where hyper's next octets come from, once it has taken the held ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Stream,
    /// A head was refused: nothing follows the one that stands in for it.
    Refused,
    /// A body was refused: reading it fails.
    Broken,
    /// The client has closed its side, or has been silent for too long.
    Ended,
}

/// The stream after our last octet.
struct Lingering {
    until: Monotonic,
    octets_left: usize,
}

impl<S> Judged<S> {
    pub fn new(
        stream: S,
        limits: HeadLimits,
        patience: Patience,
        begun_at: Monotonic,
        judgement: Rc<Judgement>,
    ) -> Self {
        Self {
            stream,
            framing: Framing::new(limits),
            judgement,
            patience,
            begun_at,
            source: Source::Stream,
            held: Vec::new(),
            given: 0,
            ready: 0,
            head_since: None,
            alarm: Alarm::default(),
            taking: Taking::new(patience.idle),
            unflushed: 0,
            ending: None,
        }
    }

    /// The same, where the stream's first octets have been read already.
    #[must_use]
    pub fn having_read(mut self, octets: &[u8]) -> Self {
        self.judge_on(octets);
        self
    }

    /// The stream, for what is done with it when the connection is over.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// The stream, and what has been read of it behind an offer that was accepted.
    pub fn into_upgraded(mut self) -> (S, Vec<u8>) {
        self.held.drain(..self.given);
        (self.stream, self.held)
    }

    /// Moves what is held and judged to hyper; true if there was any.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let judged = self.held.get(self.given..self.ready).unwrap_or_default();
        if judged.is_empty() {
            return false;
        }
        let now = judged.get(..buf.remaining()).unwrap_or(judged);
        buf.put_slice(now);
        self.given += now.len();
        if self.given == self.ready {
            self.held.drain(..self.ready);
            (self.given, self.ready) = (0, 0);
            if self.held.is_empty() && self.held.capacity() > HELD_OCTETS_KEPT {
                self.held = Vec::new();
            }
        }
        true
    }

    /// Judges what was just read to the end of `buf`, behind its first `before` octets, and takes
    /// back what may not pass yet.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let fresh = buf.filled().get(before..).unwrap_or_default();
        self.judgement.count_received(fresh.len());
        let judged = self.framing.scan(fresh);
        self.held.extend_from_slice(fresh.get(judged..).unwrap_or_default());
        buf.set_filled(before + judged);
        self.settle();
    }

    /// Judges what was just read behind the part of a head that is held.
    fn judge_on(&mut self, fresh: &[u8]) {
        self.judgement.count_received(fresh.len());
        self.held.extend_from_slice(fresh);
        self.ready = self.framing.scan(&self.held);
        self.settle();
    }

    /// Turns a refusal of the framing into what hyper is to see of it.
    fn settle(&mut self) {
        if let (Source::Stream, Some(refusal)) = (self.source, self.framing.refusal()) {
            self.judgement.refuse(refusal);
            self.held.truncate(self.ready);
            self.source = match refusal.part {
                Part::Head => {
                    self.held.extend_from_slice(SUBSTITUTE);
                    self.ready = self.held.len();
                    Source::Refused
                }
                Part::Body => Source::Broken,
            };
        }
        if let Some(ordinal) = self.framing.offer() {
            self.judgement.offered(ordinal);
        }
        self.judgement.set_in_head(self.is_in_head());
    }

    fn is_in_head(&self) -> bool {
        self.source == Source::Stream && self.framing.is_in_head() && self.held.len() > self.ready
    }

    /// When the client will have been silent for too long; none while it owes us nothing, or owes
    /// a body, whose time the pipeline keeps.
    fn due(&mut self) -> Option<Monotonic> {
        let heads = self.framing.heads();
        if !self.is_in_head() {
            self.head_since = None;
            return match heads {
                0 if self.judgement.is_draining() => {
                    Some(self.begun_at.after(self.patience.head.min(DRAIN_SILENCE)))
                }
                0 => Some(self.begun_at.after(self.patience.head)),
                _ if self.judgement.is_answering() || self.judgement.is_blocked() => None,
                _ if !self.framing.is_in_head() => None,
                _ => Some(self.judgement.quiet_since().after(self.patience.idle)),
            };
        }
        let since = match self.head_since {
            Some((head, since)) if head == heads => since,
            _ if heads == 0 => self.begun_at,
            _ => Monotonic::coarse(),
        };
        self.head_since = Some((heads, since));
        Some(since.after(self.patience.head))
    }

    /// Nothing can be read now. True if the client's time is up, and [`Self::source`] has changed.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let due = self.due();
        // hyper does not read again by itself when an answer ends: so the alarm is set in any case,
        // to ring before the client can become overdue.
        let early = || Monotonic::coarse().after(self.patience.idle.max(ALARM_MIN));
        let alarm = self.alarm.poll(cx, due.unwrap_or_else(early));
        if due.is_none() || alarm.is_pending() {
            return false;
        }
        if self.is_in_head() {
            self.framing.refuse(Rule::HeadTimeout);
            self.settle();
        } else {
            self.source = Source::Ended;
            if !self.judgement.is_draining() {
                let is_first = self.framing.heads() == 0;
                self.judgement.ended_for(if is_first { Ending::Silent } else { Ending::Idle });
            }
        }
        true
    }
}

impl<S> Judged<S> {
    /// Takes what came of writing. A client that takes nothing for too long is given up: it keeps
    /// an answer, and perhaps the upstream's connection, waiting.
    fn count_written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<Result<usize>>,
    ) -> Poll<Result<usize>> {
        let octets = match &written {
            Poll::Ready(Ok(octets)) => *octets,
            _ => 0,
        };
        self.judgement.count_sent(octets);
        if !self.judgement.is_blocked() {
            self.unflushed = self.unflushed.saturating_add(octets);
        }
        self.watch(cx, written, octets)
    }

    /// Gives what came of writing so many octets, of flushing or ending, none of which a client may hold
    /// up for long. Only what encrypts keeps octets that flushing and ending must still write.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<Result<T>>,
        octets: usize,
    ) -> Poll<Result<T>> {
        let Poll::Ready(outcome) = outcome else {
            let now = Monotonic::coarse();
            if !self.judgement.is_blocked() {
                self.judgement.set_blocked(true, now);
            }
            ready!(self.taking.poll_spent(cx, now));
            self.judgement.ended_for(Ending::Untaken);
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        };
        if self.judgement.is_blocked() {
            let now = Monotonic::coarse();
            self.judgement.set_blocked(false, now);
            self.taking.took(octets, now);
        }
        Poll::Ready(outcome)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Judged<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        loop {
            if this.give(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.source {
                // What was read behind an offer waits for its answer, and no more is read meanwhile.
                Source::Stream if this.framing.offer().is_some() && !this.held.is_empty() => {
                    return Poll::Pending;
                }
                Source::Stream => {}
                // Only the answer can move the connection on, and it closes it.
                Source::Refused => return Poll::Pending,
                Source::Broken => return Poll::Ready(Err(ErrorKind::InvalidData.into())),
                Source::Ended => return Poll::Ready(Ok(())),
            }
            match this.poll_stream(cx, buf) {
                Poll::Pending if this.is_overdue(cx) => {}
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(0)) => this.source = Source::Ended,
                Poll::Ready(Ok(_)) if buf.filled().len() == before => {}
                Poll::Ready(Ok(_)) => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Judged<S> {
    /// Reads and judges; gives the number of octets read, none at the stream's end.
    fn poll_stream(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<usize>> {
        if self.held.is_empty() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            let octets = buf.filled().len() - before;
            self.judge(buf, before);
            return Poll::Ready(Ok(octets));
        }
        // Little at a time, so that what follows the head, and is held with it, stays little.
        let mut piece = [MaybeUninit::uninit(); PIECE_OCTETS];
        let mut piece = ReadBuf::uninit(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        self.judge_on(piece.filled());
        Poll::Ready(Ok(piece.filled().len()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Judged<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.count_written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.count_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        let octets = if flushed.is_ready() { std::mem::take(&mut this.unflushed) } else { 0 };
        this.watch(cx, flushed, octets)
    }

    /// Ends our side, then waits for the client to end its own, as long as its patience lasts.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.ending.is_none() {
            let ended = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.watch(cx, ended, 0))?;
            if this.source == Source::Ended {
                return Poll::Ready(Ok(()));
            }
        }
        let ending = this.ending.get_or_insert_with(|| Lingering {
            until: Monotonic::coarse().after(this.patience.linger),
            octets_left: this.patience.linger_octets,
        });
        let mut scrap = [MaybeUninit::uninit(); PIECE_OCTETS];
        loop {
            let mut buf = ReadBuf::uninit(&mut scrap);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buf) {
                Poll::Pending => return this.alarm.poll(cx, ending.until).map(Ok),
                // The answer is out; what the client makes of it is no error of ours.
                Poll::Ready(Err(Error { .. })) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {}
            }
            let octets = buf.filled().len();
            this.judgement.count_received(octets);
            match ending.octets_left.checked_sub(octets) {
                Some(left) if octets > 0 => ending.octets_left = left,
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// One timer, moved only when it has rung or must ring earlier: most deadlines are met, and a
/// request should not pay for setting one.
#[derive(Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    rings_at: Monotonic,
}

impl Alarm {
    /// Ready once `due` has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, due: Monotonic) -> Poll<()> {
        let mut now = Monotonic::coarse();
        loop {
            if now >= due {
                return Poll::Ready(());
            }
            let rest = due.since(now);
            let sleep = match &mut self.sleep {
                Some(sleep) if self.rings_at <= due && !sleep.is_elapsed() => sleep,
                Some(sleep) => {
                    self.rings_at = due;
                    sleep.as_mut().reset(Instant::now() + rest);
                    sleep
                }
                empty @ None => {
                    self.rings_at = due;
                    empty.insert(Box::pin(sleep_until(Instant::now() + rest)))
                }
            };
            ready!(sleep.as_mut().poll(cx));
            now = Monotonic::now();
        }
    }
}
