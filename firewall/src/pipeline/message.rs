//! Bodies against the contract, in both directions, and the head of the answer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, IF_RANGE, RANGE};
use http::response::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::audit_log::RefusedAnswer;
use crate::contract::exception::{SCANNED_OCTETS, recognise};
use crate::contract::{Content, Operation};
use crate::pipeline::Denied;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::headers::{remove_in_order, strip_hop_by_hop};
use crate::pipeline::origin::Origin;
use crate::pipeline::ruleset::Mode;
use crate::upstream::UpstreamError;
use crate::upstream::body::{Body, Collected, beginning, collect};
use crate::upstream::pool::Lease;
use crate::violation::{Rule, Violation};

/// The longest that a refusal waits for the beginning of the answer that it stands for.
const AUDIT_PATIENCE: Duration = Duration::from_secs(1);

/// What the request's head and the contract say of the body to come.
enum Expected<'a> {
    Nothing,
    /// Octets would be against this rule: only an empty chunked body is none.
    NothingToRead(Rule),
    Content {
        content: &'a Content,
        is_required: bool,
    },
}

/// Reads and checks the request's body, and gives what is to be forwarded.
pub(super) async fn request_body(
    exchange: &mut Exchange<'_>,
    operation: Option<&Operation>,
    origin: &Origin,
    body: Incoming,
) -> Result<Body, Violation> {
    let mode = exchange.api.request_mode;
    let Some(operation) = operation.filter(|_| mode != Mode::Off) else {
        return Ok(passed_on(body));
    };
    let expected = expected(&exchange.request.headers, operation, &body);
    let (limit, rule, checked) = match exchange.settle(mode, expected)? {
        None => return Ok(passed_on(body)),
        Some(Expected::Nothing) => return Ok(Body::empty()),
        Some(Expected::NothingToRead(rule)) => (0, rule, None),
        Some(Expected::Content { content, .. }) if content.streams() => {
            let body = passed_on(body);
            return Ok(if mode == Mode::Enforce { body.within(content.limit()) } else { body });
        }
        Some(Expected::Content { content, is_required }) => {
            (content.limit(), Rule::BodyTooLarge, Some((content, is_required)))
        }
    };
    let reading = timeout(exchange.api.limits.body_timeout, collect(body, limit));
    let awaiting = origin.awaits_body();
    let read = reading.await;
    drop(awaiting);
    // Broken framing or a client that broke off leaves nothing that could pass, in any mode.
    let octets = match read {
        Ok(Collected::Whole(octets)) => octets,
        // HTTP/1 is refused them by its framing, in any mode.
        Ok(Collected::Trailed(_)) => return Err(Violation::new(Rule::Trailer)),
        Ok(Collected::TooLarge(read, rest)) => {
            exchange.settle::<()>(mode, Err(Violation::new(rule)))?;
            return Ok(Body::resumed(read, rest));
        }
        Ok(Collected::Failed) => {
            let broken = origin.body_violation();
            return Err(broken.unwrap_or_else(|| Violation::new(Rule::BodyIncomplete)));
        }
        Err(_elapsed) => return Err(Violation::new(Rule::BodyIncomplete)),
    };
    exchange.is_unread = false;
    exchange.request_octets = octets.len() as u64;
    if let Some((content, is_required)) = checked {
        let found = match (octets.is_empty(), is_required) {
            (true, true) => Err(Violation::new(Rule::BodyMissing)),
            (true, false) => Ok(()),
            (false, _) => content.check(&octets),
        };
        exchange.settle(mode, found)?;
    }
    Ok(Body::full(octets))
}

fn passed_on(body: Incoming) -> Body {
    if body.is_end_stream() { Body::empty() } else { Body::stream(body) }
}

fn expected<'a>(
    headers: &HeaderMap,
    operation: &'a Operation,
    body: &Incoming,
) -> Result<Expected<'a>, Violation> {
    let is_empty = body.is_end_stream();
    let Some(rule) = operation.body() else {
        let unexpected = Expected::NothingToRead(Rule::BodyUnexpected);
        return Ok(if is_empty { Expected::Nothing } else { unexpected });
    };
    if is_empty {
        let is_required = rule.required();
        return if is_required {
            Err(Violation::new(Rule::BodyMissing))
        } else {
            Ok(Expected::Nothing)
        };
    }
    let media_type = single(headers).map_err(|()| Violation::new(Rule::BodyMediaType))?;
    let content = match rule.content(media_type) {
        // What no type was named for may turn out to be nothing.
        Err(violation)
            if media_type.is_none() && !rule.required() && body.size_hint().lower() == 0 =>
        {
            return Ok(Expected::NothingToRead(violation.rule));
        }
        found => found?,
    };
    if is_encoded(headers) && !content.is_opaque() {
        return Err(Violation::new(Rule::BodyEncoding));
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > content.limit() {
        return Err(Violation::new(Rule::BodyTooLarge));
    }
    Ok(Expected::Content { content, is_required: rule.required() })
}

/// Any coding but `identity` (RFC 9110 section 8.4) hides the octets that the contract speaks of.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The only `Content-Type`, if there is one; several are an error, for each reader picks its own.
fn single(headers: &HeaderMap) -> Result<Option<&HeaderValue>, ()> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first) }
}

/// Checks the upstream's answer, and gives what the client gets.
pub(super) async fn response(
    exchange: &mut Exchange<'_>,
    operation: Option<&Operation>,
    mut response: Response<Incoming>,
    lease: Lease,
) -> Result<Response<Body>, Denied> {
    strip_hop_by_hop(response.headers_mut());
    let mode = exchange.api.response_mode;
    let (head, body) = response.into_parts();
    let Some(operation) = operation.filter(|_| mode != Mode::Off) else {
        return Ok(Response::from_parts(head, streamed(body, lease)));
    };
    let found = declared(operation, &exchange.request.method, head.status, &head.headers);
    let content = match exchange.settle(mode, found) {
        Ok(Some(Declared::Content(content))) => content,
        Ok(Some(Declared::Nothing)) if body.is_end_stream() => {
            return Ok(Response::from_parts(head, Body::empty()));
        }
        Ok(Some(Declared::Nothing)) => {
            let unexpected = Err(Violation::new(Rule::ResponseUnexpectedBody));
            return match exchange.settle::<()>(mode, unexpected) {
                Ok(_) => Ok(Response::from_parts(head, streamed(body, lease))),
                Err(violation) => Err(refused_unread(exchange, head, body, violation).await),
            };
        }
        Ok(None) => return Ok(Response::from_parts(head, streamed(body, lease))),
        Err(violation) => return Err(refused_unread(exchange, head, body, violation).await),
    };
    if content.streams() {
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > content.limit() {
            let too_large = Err(Violation::new(Rule::ResponseTooLarge));
            if let Err(violation) = exchange.settle::<()>(mode, too_large) {
                return Err(refused_unread(exchange, head, body, violation).await);
            }
            return Ok(Response::from_parts(head, streamed(body, lease)));
        }
        let body = streamed(body, lease);
        let body = if mode == Mode::Enforce { body.within(content.limit()) } else { body };
        return Ok(Response::from_parts(head, body));
    }
    let reading =
        timeout(exchange.api.limits.response_body_timeout, collect(body, content.limit()));
    let octets = match reading.await {
        Ok(Collected::Whole(octets) | Collected::Trailed(octets)) => octets,
        Ok(Collected::TooLarge(read, rest)) => {
            let too_large = named(Violation::new(Rule::ResponseTooLarge), &read);
            if let Err(violation) = exchange.settle::<()>(mode, Err(too_large)) {
                return Err(refused(exchange, head, read, false, violation));
            }
            let body = Body::resumed(read, rest).leased(lease);
            return Ok(Response::from_parts(head, body));
        }
        Ok(Collected::Failed) => return Err(UpstreamError::Protocol.into()),
        Err(_elapsed) => return Err(UpstreamError::ResponseTimeout.into()),
    };
    let found = match (octets.is_empty(), content.may_be_absent()) {
        (true, true) => Ok(()),
        (true, false) => Err(Violation::new(Rule::ResponseMissingBody)),
        (false, _) => {
            content.check(&octets).and_then(|()| operation.check_exceptions(head.status, &octets))
        }
    };
    match exchange.settle(mode, found.map_err(|violation| named(violation, &octets))) {
        Ok(_) => Ok(Response::from_parts(head, Body::full(octets))),
        Err(violation) => Err(refused(exchange, head, octets, true, violation)),
    }
}

/// Names the exception that a body against the contract is.
fn named(violation: Violation, body: &[u8]) -> Violation {
    let exception = violation.exception.or_else(|| recognise(body));
    Violation { exception, ..violation }
}

/// Keeps an answer that is refused for the audit.
fn refused(
    exchange: &mut Exchange<'_>,
    head: Parts,
    body: Bytes,
    is_whole: bool,
    violation: Violation,
) -> Denied {
    let Parts { status, headers, .. } = head;
    exchange.refused = Some(RefusedAnswer { status, headers, body, is_whole });
    violation.into()
}

/// The same, where nothing of the body was read: its beginning may tell why it is what it is.
pub(super) async fn refused_unread(
    exchange: &mut Exchange<'_>,
    head: Parts,
    body: Incoming,
    violation: Violation,
) -> Denied {
    let mut read = BytesMut::new();
    let reading = beginning(body, SCANNED_OCTETS, &mut read);
    let is_whole = timeout(AUDIT_PATIENCE, reading).await.unwrap_or(false);
    let violation = named(violation, &read);
    refused(exchange, head, read.freeze(), is_whole, violation)
}

/// Has the upstream answer with the whole representation where answers are enforced, since a part of
/// one matches no schema; a recipient may ignore `Range` (RFC 9110 section 14.2). Not where the
/// operation declares parts.
pub(super) fn ask_for_the_whole(
    headers: &mut HeaderMap,
    operation: Option<&Operation>,
    response_mode: Mode,
) {
    if response_mode == Mode::Enforce && !operation.is_some_and(Operation::answers_in_parts) {
        remove_in_order(headers, |name| *name == RANGE || *name == IF_RANGE);
    }
}

/// An unread body on its way to the client, with the connection that it comes from.
pub(super) fn streamed(body: Incoming, lease: Lease) -> Body {
    if body.is_end_stream() { Body::empty() } else { Body::stream(body).leased(lease) }
}

/// What the contract says of the answer's body.
enum Declared<'a> {
    Nothing,
    Content(&'a Content),
}

fn declared<'a>(
    operation: &'a Operation,
    method: &Method,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Declared<'a>, Violation> {
    // What a conditional request gets is HTTP's own, not the contract's (OAI/OpenAPI-Specification
    // issue 851).
    if status == StatusCode::NOT_MODIFIED {
        return Ok(Declared::Nothing);
    }
    let rule = operation.response(status)?;
    let may_be_partial =
        matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE);
    if headers.contains_key(CONTENT_RANGE) && !may_be_partial {
        return Err(Violation::new(Rule::ResponsePartial));
    }
    rule.check_headers(headers)?;
    if status == StatusCode::NO_CONTENT {
        return Ok(Declared::Nothing);
    }
    let media_type = single(headers).map_err(|()| Violation::new(Rule::ResponseMediaType))?;
    if *method == Method::HEAD {
        // Its fields are those of the GET; the type alone may be left out (RFC 9110 section 9.3.2).
        media_type.map(|value| rule.content(Some(value))).transpose()?;
        return Ok(Declared::Nothing);
    }
    let content = rule.content(media_type)?;
    if content.is_some_and(|content| !content.is_opaque()) && is_encoded(headers) {
        return Err(Violation::new(Rule::ResponseEncoding));
    }
    Ok(content.map_or(Declared::Nothing, Declared::Content))
}
