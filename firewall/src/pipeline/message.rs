//! Bodies against the contract, in both directions, and the head of the answer.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::contract::{Content, Operation};
use crate::pipeline::Denied;
use crate::pipeline::exchange::Exchange;
use crate::pipeline::headers::strip_hop_by_hop;
use crate::pipeline::origin::Origin;
use crate::pipeline::ruleset::Mode;
use crate::upstream::UpstreamError;
use crate::upstream::body::{Body, Collected, collect};
use crate::upstream::pool::Lease;
use crate::violation::{Rule, Violation};

/// What the request's head and the contract say of the body to come.
enum Expected<'a> {
    Nothing,
    /// Octets that no operation takes: only an empty chunked body is none.
    NothingToRead,
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
    let mode = exchange.ruleset.api.request_mode;
    let Some(operation) = operation.filter(|_| mode != Mode::Off) else {
        return Ok(passed_on(body));
    };
    let expected = expected(&exchange.request.headers, operation, &body);
    let (limit, checked) = match exchange.settle(mode, expected)? {
        None => return Ok(passed_on(body)),
        Some(Expected::Nothing) => return Ok(Body::empty()),
        Some(Expected::NothingToRead) => (0, None),
        Some(Expected::Content { content, is_required }) => {
            (content.limit(), Some((content, is_required)))
        }
    };
    let reading = timeout(exchange.ruleset.limits.body_timeout, collect(body, limit));
    // Broken framing or a client that broke off leaves nothing that could pass, in any mode.
    let octets = match reading.await {
        Ok(Collected::Whole(octets)) => octets,
        Ok(Collected::TooLarge(read, rest)) => {
            let rule = if checked.is_some() { Rule::BodyTooLarge } else { Rule::BodyUnexpected };
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
        return Ok(if is_empty { Expected::Nothing } else { Expected::NothingToRead });
    };
    if is_empty {
        let is_required = rule.required();
        return if is_required {
            Err(Violation::new(Rule::BodyMissing))
        } else {
            Ok(Expected::Nothing)
        };
    }
    if is_encoded(headers) {
        return Err(Violation::new(Rule::BodyEncoding));
    }
    let media_type = single(headers).map_err(|()| Violation::new(Rule::BodyMediaType))?;
    let content = rule.content(media_type)?;
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
    let mode = exchange.ruleset.api.response_mode;
    let (head, body) = response.into_parts();
    let Some(operation) = operation.filter(|_| mode != Mode::Off) else {
        return Ok(Response::from_parts(head, streamed(body, lease)));
    };
    let is_bodiless = exchange.request.method == Method::HEAD
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let found = declared(operation, head.status, &head.headers, is_bodiless);
    let content = match exchange.settle(mode, found)? {
        Some(Declared::Content(content)) => content,
        Some(Declared::Nothing) if body.is_end_stream() => {
            return Ok(Response::from_parts(head, Body::empty()));
        }
        Some(Declared::Nothing) => {
            let unexpected = Err(Violation::new(Rule::ResponseUnexpectedBody));
            exchange.settle::<()>(mode, unexpected)?;
            return Ok(Response::from_parts(head, streamed(body, lease)));
        }
        None => return Ok(Response::from_parts(head, streamed(body, lease))),
    };
    let reading =
        timeout(exchange.ruleset.limits.response_body_timeout, collect(body, content.limit()));
    let octets = match reading.await {
        Ok(Collected::Whole(octets)) => octets,
        Ok(Collected::TooLarge(read, rest)) => {
            exchange.settle::<()>(mode, Err(Violation::new(Rule::ResponseTooLarge)))?;
            let body = Body::resumed(read, rest).leased(lease);
            return Ok(Response::from_parts(head, body));
        }
        Ok(Collected::Failed) => return Err(UpstreamError::Protocol.into()),
        Err(_elapsed) => return Err(UpstreamError::ResponseTimeout.into()),
    };
    let found = if octets.is_empty() {
        Err(Violation::new(Rule::ResponseMissingBody))
    } else {
        content.check(&octets)
    };
    exchange.settle(mode, found)?;
    Ok(Response::from_parts(head, Body::full(octets)))
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
    status: StatusCode,
    headers: &HeaderMap,
    is_bodiless: bool,
) -> Result<Declared<'a>, Violation> {
    // What a conditional request gets is HTTP's own, not the contract's (OAI/OpenAPI-Specification
    // issue 851).
    if status == StatusCode::NOT_MODIFIED {
        return Ok(Declared::Nothing);
    }
    let rule = operation.response(status)?;
    rule.check_headers(headers)?;
    if is_bodiless {
        return Ok(Declared::Nothing);
    }
    if is_encoded(headers) {
        return Err(Violation::new(Rule::ResponseEncoding));
    }
    let media_type = single(headers).map_err(|()| Violation::new(Rule::ResponseMediaType))?;
    Ok(rule.content(media_type)?.map_or(Declared::Nothing, Declared::Content))
}
