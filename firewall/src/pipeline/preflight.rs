//! CORS preflight requests for paths that declare no OPTIONS: passed on to the upstream, which alone
//! knows whom it trusts.
//!
//! Path and query are those of the request that is asked for, and are checked as its operation's;
//! nothing else of a preflight is the contract's. Its answer speaks in status and fields: a body,
//! which no browser reads, is not passed.

use http::{Method, Response};
use http_body::Body as _;
use hyper::body::Incoming;

use super::exchange::Exchange;
use super::headers::strip_hop_by_hop;
use super::message::streamed;
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
    let contract = &exchange.ruleset.api.contract;
    let path = request.uri.path();
    contract.preflight(&request.method, path, &request.headers, authority(request))
}

pub(super) fn admit<'a>(
    exchange: &mut Exchange<'a>,
    asked: &Matched<'a>,
) -> Result<Admitted<'a>, Violation> {
    let mode = exchange.ruleset.api.request_mode;
    let query = if mode == Mode::Off {
        None
    } else {
        let found = asked.operation.check_target(asked, exchange.request.uri.query());
        exchange.settle(mode, found)?.flatten()
    };
    let target = target(&exchange.request.uri, mode, Some(asked), query)?;
    Ok(Admitted { matched: None, is_preflight: true, target, body: Body::empty() })
}

pub(super) fn answer(
    exchange: &mut Exchange<'_>,
    mut response: Response<Incoming>,
    lease: Lease,
) -> Result<Response<Body>, Denied> {
    strip_hop_by_hop(response.headers_mut());
    let mode = exchange.ruleset.api.response_mode;
    if !response.body().is_end_stream() {
        exchange.settle::<()>(mode, Err(Violation::new(Rule::ResponseUnexpectedBody)))?;
    }
    Ok(response.map(|body| streamed(body, lease)))
}
