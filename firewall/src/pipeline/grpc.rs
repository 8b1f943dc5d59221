//! Calls of gRPC (grpc/grpc doc/PROTOCOL-HTTP2.md): what their heads and trailers must say, how long they
//! last, and how they are refused.
//!
//! A call is refused by an answer of gRPC's, status 200 and `grpc-status`: of any other status its clients
//! make an error of transport, lose the reason, and ask again where they should not.

use std::rc::Rc;
use std::time::Duration;

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, Version};
use tokio::task::spawn_local;

use crate::contract::exception::trace;
use crate::contract::{Contract, GrpcRule, Matched, Operation};
use crate::metrics::Outcome;
use crate::pipeline::exchange::{Exchange, RequestId};
use crate::pipeline::origin::Origin;
use crate::pipeline::ruleset::Mode;
use crate::pipeline::{Denied, Pipeline};
use crate::upstream::UpstreamError;
use crate::upstream::body::Body;
use crate::upstream::grpc::{Call, Passing, Tell};
use crate::violation::{Location, Rule, Violation};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Digits of a status, of which seventeen are known.
const STATUS_DIGITS: usize = 10;

/// Fields that frame a message, and are none of one that has ended (RFC 9110 section 6.5.1).
const FRAMING: [HeaderName; 8] =
    [CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

impl Pipeline {
    /// Checks the head of a call of gRPC, where the operation is a method, and begins the call.
    pub(super) fn call<'a>(
        &self,
        exchange: &mut Exchange<'a>,
        matched: &Matched<'a>,
        origin: &Origin,
        accepts_trailers: bool,
    ) -> Result<(), Violation> {
        let Some(rule) = matched.operation.grpc() else { return Ok(()) };
        let found = head(exchange, rule, accepts_trailers);
        let within = exchange.settle(exchange.api.request_mode, found)?.unwrap_or(rule.longest);
        let (metrics, keeper) = (exchange.metrics().clone(), self.keeper.clone());
        let (client, socket) = (exchange.client, origin.socket);
        let tell = move |rule: Rule, outcome| {
            metrics.violation(rule, outcome);
            if let Some(offence) = rule.offence().filter(|_| outcome == Outcome::Refused) {
                let keeper = keeper.clone();
                spawn_local(async move {
                    // It closes the source's connections where that makes a ban.
                    keeper.offend(client, socket, offence, rule.id()).await;
                });
            }
        };
        begin(exchange, within, Box::new(tell));
        Ok(())
    }
}

/// Whether whoever asks expects an answer of gRPC's, where there may be one.
pub(super) fn is_call(head: &Parts, contract: &Contract) -> bool {
    contract.has_grpc() && head.version == Version::HTTP_2 && is_grpc(&head.headers)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    const KIND: &[u8] = b"application/grpc";
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let Some((kind, rest)) = kind.split_at_checked(KIND.len()) else { return false };
    kind.eq_ignore_ascii_case(KIND) && matches!(rest, [] | [b'+' | b';' | b' ' | b'\t', ..])
}

/// Whether trailers are accepted, which belongs to the hop and is taken from the request.
pub(super) fn accepts_trailers(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(TE).iter();
    let is_it = lines.next().is_some_and(|value| value.as_bytes() == b"trailers");
    is_it && lines.next().is_none()
}

/// Checks the head of a call but for the type of its messages; gives how long it may take.
pub(super) fn head(
    exchange: &Exchange<'_>,
    rule: &GrpcRule,
    accepts_trailers: bool,
) -> Result<Duration, Violation> {
    if exchange.request.version != Version::HTTP_2 {
        return Err(Violation::new(Rule::GrpcVersion));
    }
    if !accepts_trailers {
        return Err(Violation::at(Rule::GrpcTrailers, Location::Header("te".into())));
    }
    let mut timeouts = exchange.request.headers.get_all(TIMEOUT).iter().map(HeaderValue::as_bytes);
    let (said, another) = (timeouts.next(), timeouts.next());
    rule.timeout(said)
        .filter(|_| another.is_none())
        .ok_or_else(|| Violation::at(Rule::GrpcTimeout, Location::Header(TIMEOUT.as_str().into())))
}

/// The call that a request begins, which may take so long from its beginning.
pub(super) fn begin(exchange: &mut Exchange<'_>, within: Duration, tell: Tell) {
    exchange.call = Some(Call::new(exchange.started.after(within), tell));
}

/// The request's body, which is looked at while it flows.
pub(super) fn request(exchange: &Exchange<'_>, operation: Option<&Operation>, body: Body) -> Body {
    let Some((call, rule)) = exchange.call.as_ref().zip(operation.and_then(Operation::grpc)) else {
        return body;
    };
    if body.is_whole() {
        return body;
    }
    let mode = exchange.api.request_mode;
    let is_compressed = is_compressed(&exchange.request.headers);
    let octets = (mode != Mode::Off).then_some(rule.message_octets);
    body.passing(Passing::request(call, octets, is_compressed, mode == Mode::Enforce))
}

/// The answer, which is looked at while it flows; judged at once where its head is its end.
pub(super) fn answer(
    exchange: &mut Exchange<'_>,
    operation: Option<&Operation>,
    response: Response<Body>,
) -> Result<Response<Body>, Denied> {
    let Some((operation, rule)) = operation.and_then(|it| Some((it, it.grpc()?))) else {
        return Ok(response);
    };
    let Some(call) = exchange.call.clone() else { return Ok(response) };
    let mode = exchange.api.response_mode;
    let hides_exceptions = operation.hides_exceptions();
    if response.body().is_whole() {
        let found = trailers(response.headers(), hides_exceptions);
        exchange.settle(mode, found)?;
        return Ok(response);
    }
    let is_looked_at =
        mode == Mode::Enforce || mode == Mode::Observe && is_grpc(response.headers());
    let octets = is_looked_at.then_some(rule.message_octets);
    let is_compressed = is_compressed(response.headers());
    let judge = Box::new(move |fields: &HeaderMap| {
        if fields.keys().any(|name| FRAMING.contains(name)) {
            return Err(Violation::new(Rule::ResponseGrpcTrailers));
        }
        trailers(fields, hides_exceptions)
    });
    let passing = Passing::answer(&call, octets, is_compressed, mode == Mode::Enforce, judge);
    Ok(response.map(|body| body.passing(passing)))
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get(ENCODING).is_some_and(|value| value.as_bytes() != b"identity")
}

/// Checks the fields that end a call.
fn trailers(fields: &HeaderMap, hides_exceptions: bool) -> Result<(), Violation> {
    let wrong = || Violation::new(Rule::ResponseGrpcTrailers);
    let only = |name: &HeaderName| {
        let mut lines = fields.get_all(name).iter().map(HeaderValue::as_bytes);
        (lines.next(), lines.next().is_none())
    };
    let (Some(status), true) = only(&STATUS) else { return Err(wrong()) };
    let is_number = status.iter().all(u8::is_ascii_digit);
    if !is_number || !(1..=STATUS_DIGITS).contains(&status.len()) {
        return Err(wrong());
    }
    let (message, true) = only(&MESSAGE) else { return Err(wrong()) };
    let message = message.unwrap_or_default();
    if !message.iter().all(|octet| (b' '..=b'~').contains(octet)) {
        return Err(wrong());
    }
    for (name, value) in fields {
        if name.as_str().ends_with("-bin") && !value.as_bytes().iter().copied().all(is_of_base64) {
            return Err(wrong());
        }
    }
    let exception = hides_exceptions.then(|| trace(&unescaped(message))).flatten();
    match exception {
        None => Ok(()),
        exception => Err(Violation { exception, ..Violation::new(Rule::ResponseException) }),
    }
}

/// Whether an octet may stand in a value that is written in base64, or between several.
fn is_of_base64(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"+/=,".contains(&octet)
}

/// The text of a message that is written with percent signs; what is wrongly written stays as it is.
fn unescaped(message: &[u8]) -> Vec<u8> {
    let digit =
        |octet: Option<&u8>| char::from(*octet?).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let mut text = Vec::with_capacity(message.len());
    let mut at = 0;
    while let Some(octet) = message.get(at) {
        let escaped = (*octet == b'%')
            .then(|| Some(digit(message.get(at + 1))? * 16 + digit(message.get(at + 2))?))
            .flatten();
        text.push(escaped.unwrap_or(*octet));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    text
}

/// The answer to a call that broke a rule.
pub(super) fn refusal(rule: Rule, id: RequestId) -> Response<Body> {
    told(rule.grpc_status(), rule.title(), Some(rule), id)
}

/// The answer to a call where the upstream failed.
pub(super) fn failure(error: UpstreamError, id: RequestId) -> Response<Body> {
    // DEADLINE_EXCEEDED, UNAVAILABLE.
    let code = if error.status() == 504 { 4 } else { 14 };
    told(code, error.title(), None, id)
}

fn told(code: u8, message: &'static str, rule: Option<Rule>, id: RequestId) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(STATUS, HeaderValue::from(u16::from(code)));
    headers.insert(MESSAGE, HeaderValue::from_static(message));
    if let Some(rule) = rule {
        headers.insert("firewall-rule", HeaderValue::from_static(rule.id()));
    }
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert("firewall-request-id", id);
    }
    response
}

/// Has the upstream send trailers, which belongs to the hop.
pub(super) fn ask_for_trailers(call: Option<&Rc<Call>>, headers: &mut HeaderMap) {
    if call.is_some() {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

#[cfg(test)]
mod tests;
