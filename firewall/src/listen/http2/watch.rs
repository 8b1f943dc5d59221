//! What a client's frames amount to, and what h2 thinks of them: both are read off the octets.
//!
//! h2 keeps to itself what it refuses. Its own frames tell: a stream that it resets for an error, or a
//! connection that it ends with one, is a violation of the client's.

use std::cell::{Cell, Ref, RefCell};

use crate::clock::Monotonic;
use crate::http2::allowance::Allowance;
use crate::http2::frames::{END_HEADERS, END_STREAM, Found, Frames, Header, kind};
use crate::violation::Rule;

use super::Http2Limits;
use super::open::OpenStreams;

/// Octets with which a client begins (RFC 9113 section 3.4).
pub(super) const PREFACE_OCTETS: usize = 24;

/// How many frames beside requests a client may send for each that it asks by, and for each frame of
/// an answer: it opens windows, and measures the way with pings.
const FRAMES_PER_ANSWER: u64 = 4;

/// Violations that are not yet told; the connection's task tells them each time it has run.
const UNTOLD: usize = 64;

/// Error codes (RFC 9113 section 7).
mod code {
    pub(super) const NO_ERROR: u32 = 0;
    pub(super) const PROTOCOL_ERROR: u32 = 1;
    pub(super) const INTERNAL_ERROR: u32 = 2;
    pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
    pub(super) const STREAM_CLOSED: u32 = 5;
    pub(super) const FRAME_SIZE_ERROR: u32 = 6;
    pub(super) const REFUSED_STREAM: u32 = 7;
    pub(super) const CANCEL: u32 = 8;
    pub(super) const COMPRESSION_ERROR: u32 = 9;
    pub(super) const ENHANCE_YOUR_CALM: u32 = 11;
}

/// What the connection's task is to know.
#[derive(Debug, Default)]
pub(super) struct Report {
    violations: RefCell<Vec<Rule>>,
    /// The client has gone too far, or is given up: nothing more is read.
    is_refused: Cell<bool>,
    has_greeted: Cell<bool>,
    head_since: Cell<Option<Monotonic>>,
    open: RefCell<OpenStreams>,
}

impl Report {
    fn violated(&self, rule: Rule) {
        let mut violations = self.violations.borrow_mut();
        if violations.len() < UNTOLD {
            violations.push(rule);
        }
    }

    /// Ends the connection, for nothing that the client has to answer for.
    pub(super) fn give_up(&self) {
        self.is_refused.set(true);
    }

    /// Ends the connection for this reason.
    pub(super) fn refuse(&self, rule: Rule) {
        if !self.is_refused.replace(true) {
            self.violated(rule);
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.get()
    }

    /// What has been found since it was last asked.
    pub(super) fn take_violations(&self) -> Vec<Rule> {
        self.violations.take()
    }

    /// The client has begun as HTTP/2 begins.
    pub(super) fn has_greeted(&self) -> bool {
        self.has_greeted.get()
    }

    /// Since when part of a head is here.
    pub(super) fn head_since(&self) -> Option<Monotonic> {
        self.head_since.get()
    }

    /// The streams that are open.
    pub(super) fn open(&self) -> Ref<'_, OpenStreams> {
        self.open.borrow()
    }
}

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Watch {
    preface_left: usize,
    inbound: Frames,
    outbound: Frames,
    counters: Counters,
}

#[derive(Debug)]
struct Counters {
    control: Allowance,
    resets: Allowance,
    errors: Allowance,
    /// Frames of streams that are long forgotten.
    late: Allowance,
    continuations_max: u32,
    continuations: u32,
    newest_stream: u32,
}

impl Watch {
    pub(super) fn new(limits: &Http2Limits) -> Self {
        let counters = Counters {
            control: Allowance::new(limits.control),
            resets: Allowance::new(limits.resets),
            errors: Allowance::new(limits.errors),
            late: Allowance::new(limits.errors),
            continuations_max: limits.continuations,
            continuations: 0,
            newest_stream: 0,
        };
        let (inbound, outbound) = (Frames::new(), Frames::new());
        Self { preface_left: PREFACE_OCTETS, inbound, outbound, counters }
    }

    /// Takes what the client has sent.
    pub(super) fn received(&mut self, octets: &[u8], now: Monotonic, report: &Report) {
        let preface = self.preface_left.min(octets.len());
        self.preface_left -= preface;
        if self.preface_left == 0 {
            report.has_greeted.set(true);
        }
        let counters = &mut self.counters;
        self.inbound.read(octets.get(preface..).unwrap_or_default(), |found| match found {
            Found::Begun(header) => {
                if let Err(rule) = counters.begun(header, now) {
                    report.refuse(rule);
                }
                if is_of_head(header) && report.head_since.get().is_none() {
                    report.head_since.set(Some(now));
                }
            }
            Found::Ended(header, _) => {
                if is_of_head(header) && header.has(END_HEADERS) {
                    report.head_since.set(None);
                    report.open.borrow_mut().head(header.stream, now);
                } else if header.kind == kind::RST_STREAM {
                    report.open.borrow_mut().ended(header.stream);
                }
            }
        });
    }

    /// Takes what we have sent.
    pub(super) fn sent(&mut self, octets: &[u8], now: Monotonic, report: &Report) {
        let counters = &mut self.counters;
        self.outbound.read(octets, |found| {
            let Found::Ended(header, payload) = found else { return };
            report.open.borrow_mut().sent(header, now);
            match header.kind {
                kind::DATA if header.length > 0 => counters.control.give(FRAMES_PER_ANSWER),
                kind::HEADERS => counters.control.give(FRAMES_PER_ANSWER),
                kind::RST_STREAM => counters.reset(payload, now, report),
                kind::GOAWAY => {
                    if let Some(last) = first_number(payload) {
                        report.open.borrow_mut().gone_away(last);
                    }
                    if let Some(rule) = gone_away(payload) {
                        report.violated(rule);
                    }
                }
                _ => {}
            }
        });
    }

    /// The next octet that we send begins a frame, and the client expects frames.
    pub(super) fn is_between_frames(&self) -> bool {
        self.outbound.is_between() && self.preface_left == 0
    }

    /// A GOAWAY that asks for calm; none of the client's streams was certainly not acted upon.
    pub(super) fn calm_please(&self) -> [u8; 17] {
        let [s0, s1, s2, s3] = self.counters.newest_stream.to_be_bytes();
        let [c0, c1, c2, c3] = code::ENHANCE_YOUR_CALM.to_be_bytes();
        [0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0, s0, s1, s2, s3, c0, c1, c2, c3]
    }
}

fn is_of_head(header: Header) -> bool {
    matches!(header.kind, kind::HEADERS | kind::CONTINUATION)
}

impl Counters {
    /// Counts a frame of the client's.
    fn begun(&mut self, header: Header, now: Monotonic) -> Result<(), Rule> {
        match header.kind {
            kind::HEADERS => {
                self.continuations = 0;
                if header.stream > self.newest_stream {
                    self.newest_stream = header.stream;
                    return Ok(());
                }
                // Trailers, of which a stream has one set at most.
                self.control(now)
            }
            kind::CONTINUATION => {
                self.continuations += 1;
                let is_within = self.continuations <= self.continuations_max;
                if is_within { Ok(()) } else { Err(Rule::Http2Continuations) }
            }
            kind::RST_STREAM => {
                if self.resets.take(now) {
                    Ok(())
                } else {
                    Err(Rule::Http2Resets)
                }
            }
            kind::DATA if header.length > 0 || header.has(END_STREAM) => Ok(()),
            // Empty DATA, SETTINGS, PING, WINDOW_UPDATE, PRIORITY, and what nobody knows.
            _ => self.control(now),
        }
    }

    fn control(&mut self, now: Monotonic) -> Result<(), Rule> {
        if self.control.take(now) { Ok(()) } else { Err(Rule::Http2Frames) }
    }

    /// Counts a stream that we have reset.
    fn reset(&mut self, payload: &[u8], now: Monotonic, report: &Report) {
        match first_number(payload) {
            // We need no more of it, have given it up ourselves, or were failed by the upstream.
            Some(code::NO_ERROR | code::CANCEL | code::INTERNAL_ERROR) | None => return,
            // What was on its way while the stream was ended comes late; h2 forgets the stream soon.
            Some(code::STREAM_CLOSED) => {
                if !self.late.take(now) {
                    report.give_up();
                }
                return;
            }
            // More at once than there may be: no work was done for it, and the client may not have known.
            Some(code::REFUSED_STREAM) => {
                report.violated(Rule::Http2Streams);
                if let Err(rule) = self.control(now) {
                    report.refuse(rule);
                }
                return;
            }
            // What these say cannot be an accident, nor be too late.
            Some(
                code::PROTOCOL_ERROR
                | code::FLOW_CONTROL_ERROR
                | code::FRAME_SIZE_ERROR
                | code::COMPRESSION_ERROR,
            ) => report.violated(Rule::Http2Malformed),
            Some(_) => {}
        }
        if !self.errors.take(now) {
            report.refuse(Rule::Http2Errors);
        }
    }
}

/// The code of a `RST_STREAM`, or the last stream of a GOAWAY.
fn first_number(octets: &[u8]) -> Option<u32> {
    octets.first_chunk::<4>().map(|number| u32::from_be_bytes(*number))
}

/// What the client did, if it is for that that we end the connection. h2 says why it wants calm.
fn gone_away(payload: &[u8]) -> Option<Rule> {
    let (_newest_stream, rest) = payload.split_at_checked(4)?;
    match first_number(rest)? {
        code::ENHANCE_YOUR_CALM => match rest.get(4..).unwrap_or_default() {
            b"too_many_continuations" => Some(Rule::Http2Continuations),
            b"header_list_way_too_large" => Some(Rule::HeadTooLarge),
            b"too_many_resets" => Some(Rule::Http2Resets),
            b"too_many_internal_resets" => Some(Rule::Http2Errors),
            // h2 counts the empty ones over the connection's whole life, in which an honest client
            // may come to a hundred. What is a flood, the allowance of control frames says.
            b"too_many_data_frames" => None,
            _ => Some(Rule::Http2Frames),
        },
        code::PROTOCOL_ERROR
        | code::FLOW_CONTROL_ERROR
        | code::FRAME_SIZE_ERROR
        | code::COMPRESSION_ERROR => Some(Rule::Http2Malformed),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
