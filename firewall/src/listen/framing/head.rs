//! One request head (RFC 9112 sections 3 and 5), read octet by octet: one state machine.

use crate::violation::Rule;

use super::HeadLimits;
use super::field::{Field, content_length, is_host, names, trim};
use super::octets::{PATH, QUERY, TOKEN, printable, run};

/// Octets of a method; the longest that is registered has seventeen.
pub(in crate::listen) const METHOD_OCTETS: usize = 32;

/// What follows the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Body {
    #[default]
    None,
    Length(u64),
    Chunked,
    /// Nothing, or what the protocol begins with that the head offers to speak.
    Offer,
}

/// A head while it is read. Offsets count from its first octet.
#[derive(Default)]
pub(super) struct Head {
    element: Element,
    /// Where the element begins.
    start: usize,
    /// The first octet that was not yet looked at.
    at: usize,
    method: Method,
    is_version_1_0: bool,
    fields: usize,
    has_host: bool,
    expects_continue: bool,
    offer: Offer,
    body: Body,
}

/// A WebSocket that is offered.
#[derive(Clone, Copy, Default)]
struct Offer {
    /// By `Upgrade`.
    is_made: bool,
    /// That field by `Connection`.
    is_named: bool,
}

#[derive(Clone, Copy, Default)]
enum Element {
    #[default]
    Method,
    Path,
    Query,
    Version,
    LineStart,
    Name,
    Value(Field),
}

/// The methods for which another form of the target is defined (RFC 9112 section 3.2), and the one by
/// which a WebSocket is opened.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Method {
    Connect,
    Get,
    Options,
    #[default]
    Other,
}

enum Step {
    /// The element ends here; go on with the next one.
    Next,
    /// More octets are needed.
    Starved,
    /// The head ends here.
    End,
}

impl Head {
    /// Reads on. `octets` begins with the head's first octet and holds no fewer than last time;
    /// gives the length of the head once it is complete.
    pub(super) fn read(
        &mut self,
        octets: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(usize, Body)>, Rule> {
        // What stands beyond the limit is not looked at, so that the verdict cannot depend on how
        // much of it has arrived.
        let window = octets.get(..limits.head_octets).unwrap_or(octets);
        loop {
            let step = match self.element {
                Element::Method => self.method(window),
                Element::Path | Element::Query => self.target(window, limits),
                Element::Version => self.version(window),
                Element::LineStart => self.line_start(window, limits),
                Element::Name => self.name(window),
                Element::Value(field) => self.value(window, field),
            }?;
            match step {
                Step::Next => {}
                Step::Starved if window.len() == limits.head_octets => {
                    return Err(Rule::HeadTooLarge);
                }
                Step::Starved => return Ok(None),
                Step::End if !self.has_host => return Err(Rule::Host),
                Step::End => return Ok(Some((self.at, self.body()?))),
            }
        }
    }

    /// What follows the head. An offer that not every reader takes for one is refused: what comes
    /// behind it would be the new protocol to some, and requests to others (RFC 6455 section 4.1).
    fn body(&self) -> Result<Body, Rule> {
        if !self.offer.is_made {
            return Ok(self.body);
        }
        let is_bodiless = matches!(self.body, Body::None | Body::Length(0));
        let is_plain = is_bodiless && !self.expects_continue && !self.is_version_1_0;
        let is_offer = is_plain && self.offer.is_named && self.method == Method::Get;
        if is_offer { Ok(Body::Offer) } else { Err(Rule::Upgrade) }
    }

    fn go(&mut self, element: Element, start: usize) -> Step {
        self.element = element;
        self.start = start;
        self.at = start;
        Step::Next
    }

    fn method(&mut self, window: &[u8]) -> Result<Step, Rule> {
        self.at += run(TOKEN, window, self.at);
        match window.get(self.at) {
            _ if self.at > METHOD_OCTETS => Err(Rule::RequestLine),
            None => Ok(Step::Starved),
            Some(b' ') if self.at > 0 => {
                self.method = match window.get(..self.at) {
                    Some(b"CONNECT") => Method::Connect,
                    Some(b"GET") => Method::Get,
                    Some(b"OPTIONS") => Method::Options,
                    _ => Method::Other,
                };
                Ok(self.go(Element::Path, self.at + 1))
            }
            Some(_) => Err(Rule::RequestLine),
        }
    }

    /// Origin form, or the asterisk of OPTIONS: a gateway is not asked for anything else.
    fn target(&mut self, window: &[u8], limits: &HeadLimits) -> Result<Step, Rule> {
        if self.at == self.start {
            match window.get(self.at) {
                None => return Ok(Step::Starved),
                Some(b'/') if self.method != Method::Connect => {}
                Some(b'*') if self.method == Method::Options => {
                    return match window.get(self.at + 1) {
                        None => Ok(Step::Starved),
                        Some(b' ') => Ok(self.go(Element::Version, self.at + 2)),
                        Some(_) => Err(Rule::Target),
                    };
                }
                Some(_) => return Err(Rule::Target),
            }
        }
        let end = self.start.saturating_add(limits.target_octets);
        let allowed = window.get(..end).unwrap_or(window);
        if let Element::Path = self.element {
            self.at += run(PATH, allowed, self.at);
            if allowed.get(self.at) == Some(&b'?') {
                self.element = Element::Query;
            }
        }
        if let Element::Query = self.element {
            self.at += run(QUERY, allowed, self.at);
        }
        match window.get(self.at) {
            None => Ok(Step::Starved),
            Some(b' ') => Ok(self.go(Element::Version, self.at + 1)),
            Some(_) if self.at == end => Err(Rule::TargetTooLong),
            // HTTP/0.9 names no version.
            Some(b'\r') => Err(Rule::Version),
            Some(b'\n') => Err(Rule::BareLineFeed),
            Some(_) => Err(Rule::Target),
        }
    }

    fn version(&mut self, window: &[u8]) -> Result<Step, Rule> {
        const NAME: &[u8] = b"HTTP/";
        const MAJOR: &[u8] = b"1.";
        let line = window.get(self.start..).unwrap_or_default();
        for (at, expected) in NAME.iter().chain(MAJOR).enumerate() {
            match line.get(at) {
                None => return Ok(Step::Starved),
                Some(octet) if octet == expected => {}
                Some(_) if at < NAME.len() => return Err(Rule::RequestLine),
                Some(_) => return Err(Rule::Version),
            }
        }
        let mut rest = line.iter().skip(NAME.len() + MAJOR.len());
        match rest.next() {
            None => return Ok(Step::Starved),
            Some(b'1') => {}
            Some(b'0') => self.is_version_1_0 = true,
            Some(_) => return Err(Rule::Version),
        }
        match (rest.next(), rest.next()) {
            (None, _) | (Some(b'\r'), None) => Ok(Step::Starved),
            (Some(b'\r'), Some(b'\n')) => {
                let octets = NAME.len() + MAJOR.len() + b"1\r\n".len();
                Ok(self.go(Element::LineStart, self.start + octets))
            }
            (Some(b'\r'), Some(_)) => Err(Rule::BareCarriageReturn),
            (Some(b'\n'), _) => Err(Rule::BareLineFeed),
            (Some(octet), _) if octet.is_ascii_digit() => Err(Rule::Version),
            (Some(_), _) => Err(Rule::RequestLine),
        }
    }

    fn line_start(&mut self, window: &[u8], limits: &HeadLimits) -> Result<Step, Rule> {
        match (window.get(self.at), window.get(self.at + 1)) {
            (None, _) | (Some(b'\r'), None) => Ok(Step::Starved),
            (Some(b'\r'), Some(b'\n')) => {
                self.at += 2;
                Ok(Step::End)
            }
            (Some(b'\r'), Some(_)) => Err(Rule::BareCarriageReturn),
            (Some(b'\n'), _) => Err(Rule::BareLineFeed),
            // RFC 9112 sections 2.2 and 5.2: a folded line, or a field that would be skipped.
            (Some(b' ' | b'\t'), _) => Err(Rule::FieldLine),
            (Some(_), _) if self.fields == limits.fields => Err(Rule::HeadTooLarge),
            (Some(_), _) => {
                self.fields += 1;
                Ok(self.go(Element::Name, self.at))
            }
        }
    }

    fn name(&mut self, window: &[u8]) -> Result<Step, Rule> {
        self.at += run(TOKEN, window, self.at);
        match window.get(self.at) {
            None => Ok(Step::Starved),
            Some(b':') if self.at > self.start => {
                let name = window.get(self.start..self.at).unwrap_or_default();
                Ok(self.go(Element::Value(Field::named(name)), self.at + 1))
            }
            Some(b'\n') => Err(Rule::BareLineFeed),
            Some(_) => Err(Rule::FieldLine),
        }
    }

    fn value(&mut self, window: &[u8], field: Field) -> Result<Step, Rule> {
        loop {
            self.at += printable(window.get(self.at..).unwrap_or_default());
            match (window.get(self.at), window.get(self.at + 1)) {
                (Some(b'\t'), _) => self.at += 1,
                (None, _) | (Some(b'\r'), None) => return Ok(Step::Starved),
                (Some(b'\r'), Some(b'\n')) => {
                    if field != Field::Other {
                        let value = window.get(self.start..self.at).unwrap_or_default();
                        self.field(field, trim(value))?;
                    }
                    return Ok(self.go(Element::LineStart, self.at + 2));
                }
                (Some(b'\r'), Some(_)) => return Err(Rule::BareCarriageReturn),
                (Some(b'\n'), _) => return Err(Rule::BareLineFeed),
                (Some(_), _) => return Err(Rule::FieldLine),
            }
        }
    }

    fn field(&mut self, field: Field, value: &[u8]) -> Result<(), Rule> {
        match field {
            Field::Host if self.has_host || !is_host(value) => return Err(Rule::Host),
            Field::Host => self.has_host = true,
            Field::ContentLength => {
                self.body = match self.body {
                    Body::None => Body::Length(content_length(value).ok_or(Rule::ContentLength)?),
                    Body::Length(_) => return Err(Rule::ContentLength),
                    // RFC 9112 section 6.1: this is smuggling, not a conflict to resolve.
                    Body::Chunked | Body::Offer => return Err(Rule::LengthConflict),
                };
            }
            Field::TransferEncoding => {
                self.body = match self.body {
                    Body::None if self.is_version_1_0 => return Err(Rule::TransferEncoding),
                    Body::None if value.eq_ignore_ascii_case(b"chunked") => Body::Chunked,
                    Body::None | Body::Chunked | Body::Offer => {
                        return Err(Rule::TransferEncoding);
                    }
                    Body::Length(_) => return Err(Rule::LengthConflict),
                };
            }
            Field::Expect => {
                if self.expects_continue || !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Rule::Expectation);
                }
                self.expects_continue = true;
            }
            Field::Upgrade if self.offer.is_made || !value.eq_ignore_ascii_case(b"websocket") => {
                return Err(Rule::Upgrade);
            }
            Field::Upgrade => self.offer.is_made = true,
            Field::Http2Settings => return Err(Rule::Upgrade),
            Field::Connection => self.offer.is_named |= names(value, b"upgrade"),
            Field::Other => {}
        }
        Ok(())
    }
}
