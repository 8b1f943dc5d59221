//! CORS preflight requests for paths that declare no OPTIONS: passed on to the upstream, which alone
//! knows whom it trusts.
//!
//! Path, query and whichever header fields are there are those of the request that is asked for, and
//! are checked as its operation's; nothing else is demanded of a preflight. Its answer speaks in status
//! and fields: a body, which no browser reads, is not passed.

use http::{HeaderName, Method, Response};
use http_body::Body as _;
use hyper::body::Incoming;

use super::exchange::Exchange;
use super::headers::strip_hop_by_hop;
use super::message::{refused_unread, streamed};
use super::ruleset::Mode;
use super::{Admitted, Denied, authority, target};
use crate::contract::Matched;
use crate::upstream::body::Body;
use crate::upstream::pool::Lease;
use crate::violation::{Rule, Violation};

/// The operation that the request asks about, if it is a genuine preflight that is let pass.
pub(super) fn asked<'a>(exchange: &Exchange<'a>) -> Option<Matched<'a>> {
    let request = &exchange.request;
    // A browser sends it without a body.
    if request.method != Method::OPTIONS || exchange.is_unread {
        return None;
    }
    let contract = &exchange.api.contract;
    let path = request.uri.path();
    contract.preflight(&request.method, path, &request.headers, authority(request))
}

/// `named` are the fields that `Connection` named.
pub(super) fn admit<'a>(
    exchange: &mut Exchange<'a>,
    asked: Matched<'a>,
    named: &[HeaderName],
) -> Result<Admitted<'a>, Violation> {
    let mode = exchange.api.request_mode;
    let request = &exchange.request;
    let query = if mode == Mode::Off {
        None
    } else {
        let found = asked.operation.check_connection(named).and_then(|()| {
            asked.operation.check_preflight(&asked, request.uri.query(), &request.headers)
        });
        exchange.settle(mode, found)?.flatten()
    };
    let target = target(&exchange.request.uri, mode, Some(&asked), query)?;
    // The operation tells which fields must not be forwarded; nothing else of it is demanded.
    Ok(Admitted {
        matched: Some(asked),
        is_preflight: true,
        target,
        body: Body::empty(),
        handshake: None,
    })
}

pub(super) async fn answer(
    exchange: &mut Exchange<'_>,
    mut response: Response<Incoming>,
    lease: Lease,
) -> Result<Response<Body>, Denied> {
    strip_hop_by_hop(response.headers_mut());
    let mode = exchange.api.response_mode;
    let (head, body) = response.into_parts();
    if !body.is_end_stream() {
        let unexpected = Err(Violation::new(Rule::ResponseUnexpectedBody));
        if let Err(violation) = exchange.settle::<()>(mode, unexpected) {
            return Err(refused_unread(exchange, head, body, violation).await);
        }
    }
    Ok(Response::from_parts(head, streamed(body, lease)))
}
