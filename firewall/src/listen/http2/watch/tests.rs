//! What is counted of either direction, and what it amounts to.

use super::*;
use crate::listen::http2::Rate;

const LIMITS: Http2Limits = Http2Limits {
    streams: 10,
    stream_window: 1 << 16,
    connection_window: 1 << 16,
    continuations: 2,
    resets: Rate { per_second: 1, burst: 2 },
    errors: Rate { per_second: 1, burst: 2 },
    control: Rate { per_second: 1, burst: 2 },
};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags];
    octets.extend(stream.to_be_bytes());
    octets.extend(payload);
    octets
}

/// One connection after its preface, at one moment.
struct Connection(Watch, Report);

impl Connection {
    fn begun() -> Self {
        let mut connection = Self(Watch::new(&LIMITS), Report::default());
        assert!(!connection.1.has_greeted());
        connection.receive(&[0; PREFACE_OCTETS - 1]);
        assert!(!connection.1.has_greeted() && !connection.0.is_between_frames());
        connection.receive(&[0]);
        assert!(connection.1.has_greeted() && connection.0.is_between_frames());
        connection
    }

    fn receive(&mut self, octets: &[u8]) {
        self.0.received(octets, Monotonic::from_ns(1 << 40), &self.1);
    }

    fn send(&mut self, octets: &[u8]) {
        self.0.sent(octets, Monotonic::from_ns(1 << 40), &self.1);
    }

    /// Receives a frame so often; what is found, and whether that is the end.
    #[track_caller]
    fn flooded(frame: &[u8], count: usize) -> (Vec<Rule>, bool) {
        let mut connection = Self::begun();
        (0..count).for_each(|_| connection.receive(frame));
        (connection.1.take_violations(), connection.1.is_refused())
    }
}

#[test]
fn frames_of_the_client() {
    for (kind, flags, payload, rule) in [
        (0, 0, &b""[..], Some(Rule::Http2Frames)),
        (0, END_STREAM, b"", None),
        (0, 0, b"a", None),
        (2, 0, b"12345", Some(Rule::Http2Frames)),
        (3, 0, b"1234", Some(Rule::Http2Resets)),
        (4, 0, b"", Some(Rule::Http2Frames)),
        (4, 1, b"", Some(Rule::Http2Frames)),
        (5, 0, b"", Some(Rule::Http2Frames)),
        (6, 0, b"12345678", Some(Rule::Http2Frames)),
        (7, 0, b"12345678", Some(Rule::Http2Frames)),
        (8, 0, b"1234", Some(Rule::Http2Frames)),
        (9, 0, b"", Some(Rule::Http2Continuations)),
        (99, 0, b"", Some(Rule::Http2Frames)),
    ] {
        let octets = frame(kind, flags, 1, payload);
        assert_eq!(Connection::flooded(&octets, 2), (vec![], false), "{kind} {flags}");
        let expected = (Vec::from_iter(rule), rule.is_some());
        assert_eq!(Connection::flooded(&octets, 3), expected, "{kind} {flags}");
        assert_eq!(Connection::flooded(&octets, 9), expected, "{kind} {flags}: told once");
    }
}

#[test]
fn heads_are_new_streams_or_trailers() {
    let mut connection = Connection::begun();
    for stream in [1, 3, 5, 7, 9] {
        connection.receive(&frame(kind::HEADERS, END_HEADERS, stream, b"a"));
    }
    assert!(!connection.1.is_refused());
    for is_refused in [false, false, true] {
        connection.receive(&frame(kind::HEADERS, END_HEADERS, 9, b"a"));
        assert_eq!(connection.1.is_refused(), is_refused);
    }
    // Continuations are counted for each head anew.
    let mut connection = Connection::begun();
    for stream in [1, 3, 5] {
        connection.receive(&frame(kind::HEADERS, 0, stream, b"a"));
        assert!(connection.1.head_since().is_some());
        connection.receive(&frame(kind::CONTINUATION, 0, stream, b"a"));
        assert!(connection.1.head_since().is_some());
        connection.receive(&frame(kind::CONTINUATION, END_HEADERS, stream, b"a"));
        assert_eq!(connection.1.head_since(), None);
    }
    assert!(!connection.1.is_refused());
    let octets = frame(kind::HEADERS, END_HEADERS, 7, b"abc");
    connection.receive(&octets[..11]);
    assert!(connection.1.head_since().is_some(), "part of one frame");
    connection.receive(&octets[11..]);
    assert_eq!(connection.1.head_since(), None);
}

#[test]
fn answers_make_up_for_what_they_bring_about() {
    let (ping, window) = (frame(6, 0, 0, b"12345678"), frame(8, 0, 0, b"1234"));
    let mut connection = Connection::begun();
    for _ in 0..100 {
        connection.receive(&ping);
        connection.receive(&window);
        connection.send(&frame(kind::DATA, 0, 1, b"a"));
    }
    assert!(!connection.1.is_refused());
    connection.send(&frame(kind::DATA, END_STREAM, 1, b""));
    connection.receive(&ping.repeat(3));
    assert!(connection.1.is_refused(), "what brings nothing makes up for nothing");
}

#[test]
fn what_our_own_frames_tell() {
    let reset = |code: u32| frame(kind::RST_STREAM, 0, 1, &code.to_be_bytes());
    let goaway = |code: u32, text: &str| {
        let payload = [&[0, 0, 0, 1], &code.to_be_bytes(), text.as_bytes()].concat();
        frame(kind::GOAWAY, 0, 0, &payload)
    };
    for (octets, expected) in [
        (reset(code::NO_ERROR), None),
        (reset(code::CANCEL), None),
        (reset(code::INTERNAL_ERROR), None),
        (reset(code::STREAM_CLOSED), None),
        (reset(code::REFUSED_STREAM), Some(Rule::Http2Streams)),
        (reset(code::PROTOCOL_ERROR), Some(Rule::Http2Malformed)),
        (reset(code::FLOW_CONTROL_ERROR), Some(Rule::Http2Malformed)),
        (reset(code::FRAME_SIZE_ERROR), Some(Rule::Http2Malformed)),
        (reset(code::COMPRESSION_ERROR), Some(Rule::Http2Malformed)),
        (goaway(code::NO_ERROR, ""), None),
        (goaway(code::INTERNAL_ERROR, ""), None),
        (goaway(code::PROTOCOL_ERROR, ""), Some(Rule::Http2Malformed)),
        (goaway(code::COMPRESSION_ERROR, ""), Some(Rule::Http2Malformed)),
        (goaway(code::ENHANCE_YOUR_CALM, ""), Some(Rule::Http2Frames)),
        (goaway(code::ENHANCE_YOUR_CALM, "too_many_data_frames"), None),
        (goaway(code::ENHANCE_YOUR_CALM, "too_many_resets"), Some(Rule::Http2Resets)),
        (goaway(code::ENHANCE_YOUR_CALM, "too_many_internal_resets"), Some(Rule::Http2Errors)),
        (goaway(code::ENHANCE_YOUR_CALM, "header_list_way_too_large"), Some(Rule::HeadTooLarge)),
        (goaway(code::ENHANCE_YOUR_CALM, "too_many_continuations"), Some(Rule::Http2Continuations)),
        (frame(kind::GOAWAY, 0, 0, b"123"), None),
        (frame(kind::RST_STREAM, 0, 1, b"123"), None),
    ] {
        let mut connection = Connection::begun();
        connection.send(&octets);
        assert_eq!(connection.1.take_violations(), Vec::from_iter(expected), "{octets:?}");
        assert!(!connection.1.is_refused());
    }
    let mut connection = Connection::begun();
    for is_refused in [false, false, true] {
        connection.send(&reset(13));
        assert_eq!(connection.1.is_refused(), is_refused);
    }
    assert_eq!(connection.1.take_violations(), [Rule::Http2Errors]);
    connection.send(&reset(code::PROTOCOL_ERROR)[..5]);
    assert!(!connection.0.is_between_frames());

    // What the upstream failed in, or the client could not know of, is no fault of the client's.
    let mut connection = Connection::begun();
    for _ in 0..9 {
        connection.send(&reset(code::INTERNAL_ERROR));
        assert!(!connection.1.is_refused());
    }
    for is_refused in [false, false, true] {
        connection.send(&reset(code::STREAM_CLOSED));
        assert_eq!(connection.1.is_refused(), is_refused);
    }
    assert_eq!(connection.1.take_violations(), []);
}

/// Streams beyond those that may be open cost little, and are no offence before they are a flood.
#[test]
fn refused_streams_count_as_frames_that_bring_nothing() {
    let mut connection = Connection::begun();
    let refused = frame(kind::RST_STREAM, 0, 1, &code::REFUSED_STREAM.to_be_bytes());
    for is_refused in [false, false, true] {
        connection.send(&refused);
        assert_eq!(connection.1.is_refused(), is_refused);
    }
    let streams = Rule::Http2Streams;
    assert_eq!(connection.1.take_violations(), [streams, streams, streams, Rule::Http2Frames]);
}

#[test]
fn what_is_not_told_is_bounded() {
    let mut connection = Connection::begun();
    for _ in 0..10 * UNTOLD {
        connection.send(&frame(kind::RST_STREAM, 0, 1, &code::PROTOCOL_ERROR.to_be_bytes()));
    }
    assert_eq!(connection.1.take_violations().len(), UNTOLD);
}
