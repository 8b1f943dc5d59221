//! One direction of a tunnel: read, judged, written, with no more in hand than one read brings.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::pipeline::frames::{CloseCode, Fault, Frames};

/// Octets that are read at once.
const PIECE_OCTETS: usize = 16 * 1024;

/// How a direction came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Who sends has ended, or is gone.
    Reader,
    /// Who receives is gone.
    Writer,
    /// What was sent may not pass. The direction is open still, for a last word.
    Faulty,
    /// The last word has been said.
    Said,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Way {
    /// None: octets pass as they come.
    frames: Option<Frames>,
    /// Octets that may pass (`written..judged`), then the few of an incomplete header.
    held: Vec<u8>,
    written: usize,
    judged: usize,
    is_flushed: bool,
    octets: u64,
    has_read: bool,
    last_words: Option<Vec<u8>>,
    /// Nothing more is read; what is held is written.
    ending: Option<Ended>,
    has_ended: bool,
}

impl Way {
    pub(super) fn new(frames: Option<Frames>) -> Self {
        Self {
            frames,
            held: Vec::new(),
            written: 0,
            judged: 0,
            is_flushed: true,
            octets: 0,
            has_read: false,
            last_words: None,
            ending: None,
            has_ended: false,
        }
    }

    /// Takes octets that were read before.
    pub(super) fn begin_with(&mut self, octets: &[u8]) {
        self.take(octets);
    }

    /// Octets that have been passed on.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// Whether anything has been read since this was last asked.
    pub(super) fn has_read(&mut self) -> bool {
        std::mem::take(&mut self.has_read)
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.frames.as_ref().and_then(Frames::fault)
    }

    /// By which code whoever sent it is told of a fault.
    pub(super) fn close_code(&self) -> CloseCode {
        match self.fault() {
            Some(Fault::TooLarge) => CloseCode::TooLarge,
            Some(Fault::Malformed) | None => CloseCode::ProtocolError,
        }
    }

    /// Judges no more: what is held passes, and what comes.
    pub(super) fn look_away(&mut self) {
        self.frames = None;
        self.judged = self.held.len();
    }

    /// Whether a close frame has passed.
    pub(super) fn has_closed(&self) -> bool {
        self.frames.as_ref().is_some_and(Frames::has_closed)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Ends it as soon as a frame of ours can be put behind what has passed; without one where the
    /// frames are not known, or the sender has closed already.
    pub(super) fn end_with(&mut self, frame: Vec<u8>) {
        let has_a_say = self.frames.as_ref().is_some_and(|frames| !frames.has_closed());
        self.last_words = Some(if has_a_say { frame } else { Vec::new() });
    }

    fn take(&mut self, octets: &[u8]) {
        self.held.extend_from_slice(octets);
        let unjudged = self.held.get(self.judged..).unwrap_or_default();
        self.judged += match &mut self.frames {
            None => unjudged.len(),
            Some(frames) => frames.scan(unjudged, self.last_words.is_some()),
        };
    }

    /// Passes on what can be; ready when this direction has come to its end, or to a fault.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Ended>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if ready!(self.poll_write(cx, writer)).is_err() {
                self.has_ended = true;
                return Poll::Ready(Ended::Writer);
            }
            if let Some(how) = self.ending {
                // Who does not hear the end is gone.
                drop(ready!(Pin::new(&mut *writer).poll_shutdown(cx)));
                self.has_ended = true;
                return Poll::Ready(how);
            }
            let is_between = self.frames.as_ref().is_none_or(Frames::is_between);
            if let Some(words) = self.last_words.as_mut().filter(|_| is_between) {
                // What is held is part of a header that will never be whole.
                self.held = std::mem::take(words);
                self.judged = self.held.len();
                self.ending = Some(Ended::Said);
                continue;
            }
            if self.fault().is_some() {
                return Poll::Ready(Ended::Faulty);
            }
            let mut piece = [MaybeUninit::uninit(); PIECE_OCTETS];
            let mut piece = ReadBuf::uninit(&mut piece);
            match Pin::new(&mut *reader).poll_read(cx, &mut piece) {
                Poll::Pending => {
                    if !self.is_flushed {
                        drop(ready!(Pin::new(&mut *writer).poll_flush(cx)));
                        self.is_flushed = true;
                    }
                    if self.held.is_empty() {
                        // Most tunnels are idle most of the time.
                        self.held = Vec::new();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    self.has_read = true;
                    self.take(piece.filled());
                }
                Poll::Ready(_) => self.ending = Some(Ended::Reader),
            }
        }
    }

    /// Writes what may pass.
    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<Result<(), ()>> {
        while let Some(octets @ [_, ..]) = self.held.get(self.written..self.judged) {
            match ready!(Pin::new(&mut *writer).poll_write(cx, octets)) {
                Ok(written @ 1..) => {
                    self.written += written;
                    self.octets = self.octets.saturating_add(written as u64);
                    self.is_flushed = false;
                }
                Ok(0) | Err(_) => return Poll::Ready(Err(())),
            }
        }
        self.held.drain(..self.judged);
        (self.written, self.judged) = (0, 0);
        Poll::Ready(Ok(()))
    }
}
