//! HTTP/1.1 framing, judged by RFC 9112 before hyper sees an octet.
//!
//! Two readers of one message must find the same requests in it. hyper is lenient where the
//! standard allows it, and hides what it mended; so this scanner, which does no I/O, reads every
//! head and every chunk first, and passes only what can be read in one way. Nothing is mended: what
//! is not exactly right is refused.

mod chunked;
pub(super) mod field;
mod head;
pub(super) mod octets;
#[cfg(test)]
mod tests;

use crate::pipeline::origin::{Part, Refusal};
use crate::violation::Rule;

use chunked::Chunked;
pub(super) use head::METHOD_OCTETS;
use head::{Body, Head};

/// How much of a request head is read before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The whole head with the empty line that ends it, in octets.
    pub head_octets: usize,
    /// Field lines.
    pub fields: usize,
    /// The request target, in octets; above 65,534 hyper's own limit holds.
    pub target_octets: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_octets: 16 * 1024, fields: 100, target_octets: 8 * 1024 }
    }
}

impl HeadLimits {
    /// The longest target that `http::Uri` holds.
    const TARGET_OCTETS_MAX: usize = 65_534;

    fn within_hyper(self) -> Self {
        Self { target_octets: self.target_octets.min(Self::TARGET_OCTETS_MAX), ..self }
    }
}

/// One connection's inbound octets as a sequence of requests.
///
/// Feed it with [`Framing::scan`]. Every octet is looked at once, however the stream is cut into
/// reads, and the verdict does not depend on the cuts: it is that of the first octet in the stream
/// that proves a violation.
pub struct Framing {
    limits: HeadLimits,
    state: State,
    heads: u64,
}

enum State {
    Head(Head),
    /// Octets left of a body whose length was given.
    Length(u64),
    Chunked(Chunked),
    /// A head has offered another protocol. What follows is not ours to read: only the answer tells
    /// whether it is still HTTP.
    Offered,
    Refused(Refusal),
}

impl Framing {
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits: limits.within_hyper(), state: State::Head(Head::default()), heads: 0 }
    }

    /// How many of the first octets of `unjudged` are well-framed and may be passed on.
    ///
    /// `unjudged` begins with the first octet that no earlier call has let pass. A head is let pass
    /// whole, so the octets of an incomplete one must be kept, and shown again with what follows
    /// them; a body is let pass as it comes. After a refusal nothing more is let pass: see
    /// [`Framing::refusal`].
    pub fn scan(&mut self, unjudged: &[u8]) -> usize {
        let mut judged = 0;
        loop {
            let rest = unjudged.get(judged..).unwrap_or_default();
            if rest.is_empty() {
                return judged;
            }
            match &mut self.state {
                State::Head(head) => match head.read(rest, &self.limits) {
                    Ok(None) => return judged,
                    Ok(Some((octets, body))) => {
                        judged += octets;
                        self.heads += 1;
                        self.state = match body {
                            Body::None | Body::Length(0) => State::Head(Head::default()),
                            Body::Length(octets) => State::Length(octets),
                            Body::Chunked => State::Chunked(Chunked::default()),
                            Body::Offer => State::Offered,
                        };
                    }
                    Err(rule) => self.refuse(rule),
                },
                State::Length(left) => {
                    let taken = u64::try_from(rest.len()).map_or(*left, |here| here.min(*left));
                    *left -= taken;
                    judged += usize::try_from(taken).unwrap_or(rest.len());
                    if *left == 0 {
                        self.state = State::Head(Head::default());
                    }
                }
                State::Chunked(chunked) => {
                    let (octets, outcome) = chunked.read(rest);
                    judged += octets;
                    match outcome {
                        Ok(false) => {}
                        Ok(true) => self.state = State::Head(Head::default()),
                        Err(rule) => self.refuse(rule),
                    }
                }
                State::Offered | State::Refused(_) => return judged,
            }
        }
    }

    /// Refuses what is now being read, for a reason that is not in its octets: time.
    pub fn refuse(&mut self, rule: Rule) {
        let (ordinal, part) = match self.state {
            State::Head(_) => (self.heads, Part::Head),
            State::Length(_) | State::Chunked(_) | State::Offered => {
                (self.heads.saturating_sub(1), Part::Body)
            }
            State::Refused(_) => return,
        };
        self.state = State::Refused(Refusal { ordinal, part, rule });
    }

    /// Why no more octets pass, and which request it was, counted from 0.
    pub fn refusal(&self) -> Option<Refusal> {
        match self.state {
            State::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Which request offered another protocol, counted from 0; nothing behind it is let pass.
    pub fn offer(&self) -> Option<u64> {
        matches!(self.state, State::Offered).then(|| self.heads.saturating_sub(1))
    }

    /// The number of heads let pass.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// The next octet belongs to a head.
    pub fn is_in_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }
}
