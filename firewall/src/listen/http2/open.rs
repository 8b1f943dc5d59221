//! The streams of one connection that are open, as the frames in both directions tell. hyper's tasks
//! tell less: they end while the last piece of an answer still waits within h2 for the client's window.

use std::collections::BTreeMap;

use crate::clock::Monotonic;
use crate::http2::frames::{END_STREAM, Header, kind};

/// How many streams are watched, more than a connection has at once; those beyond are passed over.
const STREAMS_MAX: usize = 4_096;

/// Streams whose head has arrived, and of whose answer the end has not been sent.
#[derive(Debug)]
pub(super) struct OpenStreams {
    /// When something of its answer was last sent on each, or its head arrived.
    moved_at: BTreeMap<u32, Monotonic>,
    newest: u32,
    /// Those after this one are not acted upon.
    last: u32,
}

impl Default for OpenStreams {
    fn default() -> Self {
        Self { moved_at: BTreeMap::new(), newest: 0, last: u32::MAX }
    }
}

impl OpenStreams {
    /// A head is complete; that of a stream that was opened before is its trailers.
    pub(super) fn head(&mut self, stream: u32, now: Monotonic) {
        if stream <= self.newest {
            return;
        }
        self.newest = stream;
        if stream <= self.last && self.moved_at.len() < STREAMS_MAX {
            self.moved_at.insert(stream, now);
        }
    }

    /// A frame of ours has been sent.
    pub(super) fn sent(&mut self, header: Header, now: Monotonic) {
        match header.kind {
            kind::RST_STREAM => self.ended(header.stream),
            kind::HEADERS | kind::DATA if header.has(END_STREAM) => self.ended(header.stream),
            kind::HEADERS | kind::DATA => {
                if let Some(at) = self.moved_at.get_mut(&header.stream) {
                    *at = now;
                }
            }
            _ => {}
        }
    }

    /// The answer's end has been sent, or either side has reset the stream.
    pub(super) fn ended(&mut self, stream: u32) {
        self.moved_at.remove(&stream);
    }

    /// We have said that no stream after this one is acted upon.
    pub(super) fn gone_away(&mut self, last: u32) {
        self.last = last;
        self.moved_at.retain(|stream, _| *stream <= last);
    }

    /// How many wait for nothing but the client, if so many requests are being answered.
    pub(super) fn untaken(&self, answering: u32) -> usize {
        self.moved_at.len().saturating_sub(answering as usize)
    }

    /// Since when nothing was sent on some stream that waits for nothing but the client, at the latest:
    /// of the streams that have been still for longest, all but one may still be being answered.
    pub(super) fn untaken_since(&self, answering: u32) -> Option<Monotonic> {
        if self.untaken(answering) == 0 {
            return None;
        }
        let mut times: Vec<_> = self.moved_at.values().copied().collect();
        times.sort_unstable();
        times.get(answering as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Monotonic {
        Monotonic::from_ns(second * 1_000_000_000)
    }

    fn header(kind: u8, flags: u8, stream: u32) -> Header {
        Header { length: 1, kind, flags, stream }
    }

    #[test]
    fn streams_that_wait_for_the_client_alone() {
        let mut open = OpenStreams::default();
        for (stream, second) in [(1, 1), (3, 2), (5, 3)] {
            open.head(stream, at(second));
        }
        let since = |open: &OpenStreams| [0, 1, 2, 3, 4].map(|count| open.untaken_since(count));
        assert_eq!(since(&open), [Some(at(1)), Some(at(2)), Some(at(3)), None, None]);
        open.sent(header(kind::DATA, 0, 1), at(4));
        assert_eq!(since(&open), [Some(at(2)), Some(at(3)), Some(at(4)), None, None]);
        open.sent(header(kind::DATA, END_STREAM, 3), at(5));
        assert_eq!(since(&open), [Some(at(3)), Some(at(4)), None, None, None]);
        assert_eq!([0, 1, 2, 3].map(|count| open.untaken(count)), [2, 1, 0, 0]);
        // Trailers, and answers to what has ended, open nothing.
        open.head(3, at(5));
        open.sent(header(kind::DATA, 0, 3), at(5));
        assert_eq!(since(&open), [Some(at(3)), Some(at(4)), None, None, None]);
        open.sent(header(kind::RST_STREAM, 0, 5), at(5));
        assert_eq!(since(&open), [Some(at(4)), None, None, None, None]);
        open.sent(header(kind::HEADERS, END_STREAM, 1), at(5));
        assert_eq!(since(&open), [None; 5]);
    }

    #[test]
    fn streams_that_are_not_acted_upon_are_not_open() {
        let mut open = OpenStreams::default();
        for stream in [1, 3, 5] {
            open.head(stream, at(1));
        }
        open.gone_away(0x7fff_ffff);
        assert_eq!(open.untaken(0), 3);
        open.gone_away(3);
        assert_eq!(open.untaken(0), 2);
        open.head(7, at(1));
        assert_eq!(open.untaken(0), 2);
    }

    #[test]
    fn no_more_are_watched_than_a_bound() {
        let mut open = OpenStreams::default();
        (1..10_000).for_each(|stream| open.head(stream, at(1)));
        assert_eq!(open.untaken(0), STREAMS_MAX);
    }
}
