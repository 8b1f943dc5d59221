//! A call of gRPC on its way: both bodies are looked at while they flow, and the answer ends as gRPC ends
//! one, whoever ends it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use tokio::time::{Sleep, sleep};

use super::super::body::BodyError;
use super::{Fault, Faulty, Messages};
use crate::access_log::Settlement;
use crate::clock::Monotonic;
use crate::metrics::Outcome;
use crate::violation::{Rule, Violation};

/// Hears of what is found after the answer has begun.
pub type Tell = Box<dyn Fn(Rule, Outcome)>;

/// What judges the fields behind an answer.
pub type JudgeTrailers = Box<dyn Fn(&HeaderMap) -> Result<(), Violation>>;

/// `DEADLINE_EXCEEDED` (grpc/grpc doc/statuscodes.md).
const DEADLINE_EXCEEDED: u8 = 4;

/// One call, as its two bodies share it.
pub struct Call {
    deadline: Monotonic,
    tell: Tell,
    found: Cell<Option<(Rule, Outcome)>>,
    is_answering: Cell<bool>,
    request_octets: Cell<u64>,
    /// Of the answer, which waits for the upstream.
    waker: RefCell<Option<Waker>>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("found", &self.found).finish_non_exhaustive()
    }
}

impl Call {
    pub fn new(deadline: Monotonic, tell: Tell) -> Rc<Self> {
        Rc::new(Self {
            deadline,
            tell,
            found: Cell::default(),
            is_answering: Cell::default(),
            request_octets: Cell::default(),
            waker: RefCell::default(),
        })
    }

    /// When it is to be over.
    pub fn deadline(&self) -> Monotonic {
        self.deadline
    }

    /// What was wrong with its messages so far and ends it.
    pub fn refused(&self) -> Option<Rule> {
        self.found.get().and_then(|(rule, outcome)| (outcome == Outcome::Refused).then_some(rule))
    }

    pub fn request_octets(&self) -> u64 {
        self.request_octets.get()
    }

    /// The first is what counts.
    fn found(&self, rule: Rule, outcome: Outcome) {
        let earlier = self.found.get();
        let is_worse = outcome == Outcome::Refused && earlier.is_none_or(|(_, it)| it != outcome);
        if earlier.is_some() && !is_worse {
            return;
        }
        self.found.set(Some((rule, outcome)));
        if self.is_answering.get() {
            (self.tell)(rule, outcome);
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// One direction of a call.
#[derive(Debug)]
pub struct Passing {
    call: Rc<Call>,
    /// None where they are not looked at.
    messages: Option<Messages>,
    is_enforced: bool,
    side: Side,
    /// What is said when what is sound has been passed on.
    ending: Option<(u8, &'static str)>,
    is_over: bool,
}

enum Side {
    Request,
    Answer { judge: JudgeTrailers, alarm: Option<Pin<Box<Sleep>>> },
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "Request",
            Self::Answer { .. } => "Answer",
        })
    }
}

type End = Option<Result<Frame<Bytes>, BodyError>>;

impl Passing {
    /// The request's: messages of at most so many octets, if they are looked at.
    pub fn request(
        call: &Rc<Call>,
        octets_max: Option<u32>,
        may_be_compressed: bool,
        is_enforced: bool,
    ) -> Self {
        Self::new(call, octets_max, may_be_compressed, is_enforced, Side::Request)
    }

    /// The answer's, which has begun; `judge` is asked about its trailers.
    pub fn answer(
        call: &Rc<Call>,
        octets_max: Option<u32>,
        may_be_compressed: bool,
        is_enforced: bool,
        judge: JudgeTrailers,
    ) -> Self {
        call.is_answering.set(true);
        if let Some((rule, outcome)) = call.found.get() {
            (call.tell)(rule, outcome);
        }
        let side = Side::Answer { judge, alarm: None };
        Self::new(call, octets_max, may_be_compressed, is_enforced, side)
    }

    fn new(
        call: &Rc<Call>,
        octets_max: Option<u32>,
        may_be_compressed: bool,
        is_enforced: bool,
        side: Side,
    ) -> Self {
        Self {
            call: Rc::clone(call),
            messages: octets_max.map(|octets| Messages::new(octets, may_be_compressed)),
            is_enforced,
            side,
            ending: None,
            is_over: false,
        }
    }

    pub(in crate::upstream) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Ready when nothing more is to be taken from where the body comes from; with what is said of it.
    pub(in crate::upstream) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some((code, message)) = self.ending {
            return Poll::Ready(Some(self.end_by(code, message)));
        }
        let Side::Answer { alarm, .. } = &mut self.side else { return Poll::Pending };
        if let Some(rule) = self.call.refused() {
            return Poll::Ready(Some(self.end_by(rule.grpc_status(), rule.title())));
        }
        self.call.waker.replace(Some(cx.waker().clone()));
        let left = self.call.deadline.since(Monotonic::now());
        let alarm = alarm.get_or_insert_with(|| Box::pin(sleep(left)));
        if alarm.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Some(self.end_by(DEADLINE_EXCEEDED, "The call took too long")))
    }

    /// Ends the answer as gRPC ends one; within a message, which would be taken for a whole one by nobody,
    /// by a reset.
    fn end_by(&mut self, code: u8, message: &'static str) -> Result<Frame<Bytes>, BodyError> {
        self.is_over = true;
        if !self.messages.as_ref().is_none_or(Messages::is_between) && self.ending.is_none() {
            return Err(BodyError::Cut);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
        trailers.insert("grpc-message", HeaderValue::from_static(message));
        Ok(Frame::trailers(trailers))
    }

    /// Takes what is wrong; whether that is the end.
    fn found(&mut self, rule: Rule) -> bool {
        let outcome = if self.is_enforced { Outcome::Refused } else { Outcome::Observed };
        self.call.found(rule, outcome);
        if !self.is_enforced {
            // What follows cannot be told apart.
            self.messages = None;
        }
        self.is_enforced
    }

    /// Looks at a piece of the body, and gives what is to be passed on of it.
    pub(in crate::upstream) fn data(&mut self, octets: Bytes) -> Result<Bytes, BodyError> {
        if matches!(self.side, Side::Request) {
            let so_far = self.call.request_octets.get();
            self.call.request_octets.set(so_far.saturating_add(octets.len() as u64));
        }
        let read = self.messages.as_mut().map_or(Ok(()), |messages| messages.read(&octets));
        let Err(Faulty { fault, sound }) = read else { return Ok(octets) };
        let rule = match (&self.side, fault) {
            (Side::Request, Fault::Flag) => Rule::GrpcFraming,
            (Side::Request, Fault::TooLarge) => Rule::GrpcMessageTooLarge,
            (Side::Answer { .. }, Fault::Flag) => Rule::ResponseGrpcFraming,
            (Side::Answer { .. }, Fault::TooLarge) => Rule::ResponseGrpcMessageTooLarge,
        };
        if !self.found(rule) {
            return Ok(octets);
        }
        match (&self.side, sound) {
            (Side::Answer { .. }, Some(sound)) => {
                self.ending = Some((rule.grpc_status(), rule.title()));
                Ok(octets.slice(..sound))
            }
            (Side::Answer { .. }, None) | (Side::Request, _) => {
                self.is_over = true;
                Err(BodyError::Cut)
            }
        }
    }

    /// What comes of the fields behind the body; of a request's, which has none in gRPC, nothing.
    pub(in crate::upstream) fn trailers(&mut self, fields: HeaderMap) -> End {
        let Side::Answer { judge, .. } = &self.side else { return None };
        let judged = if self.messages.is_some() { judge(&fields) } else { Ok(()) };
        let is_cut = !self.messages.as_ref().is_none_or(Messages::is_between);
        let rule = match judged {
            _ if is_cut => Rule::ResponseGrpcFraming,
            Err(violation) => violation.rule,
            Ok(()) => {
                self.is_over = true;
                return Some(Ok(Frame::trailers(fields)));
            }
        };
        if self.found(rule) {
            return Some(self.end_by(rule.grpc_status(), rule.title()));
        }
        self.is_over = true;
        Some(Ok(Frame::trailers(fields)))
    }

    /// What comes of the body's end, where it was not told by trailers.
    pub(in crate::upstream) fn end(&mut self) -> End {
        let is_cut = !self.messages.as_ref().is_none_or(Messages::is_between);
        let rule = match self.side {
            Side::Request if is_cut => Rule::GrpcFraming,
            Side::Answer { .. } if is_cut => Rule::ResponseGrpcFraming,
            Side::Answer { .. } if self.messages.is_some() => Rule::ResponseGrpcTrailers,
            Side::Answer { .. } | Side::Request => {
                self.is_over = true;
                return None;
            }
        };
        if !self.found(rule) {
            self.is_over = true;
            return None;
        }
        if matches!(self.side, Side::Request) {
            self.is_over = true;
            return Some(Err(BodyError::Cut));
        }
        Some(self.end_by(rule.grpc_status(), rule.title()))
    }

    /// Tells the log what was found after the answer had begun.
    pub(in crate::upstream) fn conclude(&self, settlement: &mut Settlement) {
        settlement.record.request_octets = self.call.request_octets.get();
        if let Some((rule, outcome)) = self.call.found.get() {
            settlement.outcome = outcome;
            settlement.record.violation = Some(Violation::new(rule));
        }
    }
}
