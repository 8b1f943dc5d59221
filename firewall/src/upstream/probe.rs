//! Asking one endpoint whether it is well, again and again.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::{Request, Uri};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Protocol;
use super::check::{CheckRules, Streak};
use super::connection;
use super::endpoint::Endpoint;
use super::multiplexed::{self, PingRules, convert};
use super::tls::UpstreamTls;
use crate::causes::Causes;

/// Asks at the interval, until dropped; `changed` is told whether the endpoint is well, when that is
/// news, and why it is not.
pub(super) async fn run(
    endpoint: Arc<Endpoint>,
    tls: Option<UpstreamTls>,
    (protocol, pings): (Protocol, PingRules),
    rules: CheckRules,
    mut changed: impl FnMut(bool, String),
) {
    let mut streak = Streak::default();
    let mut tick = interval(rules.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let asking = async {
            let request = question(&endpoint, &rules, protocol)?;
            let answer = match protocol {
                Protocol::Http1 => {
                    let opened = connection::open(&endpoint, tls.as_ref()).await;
                    opened.map_err(told)?.send_request(request).await
                }
                Protocol::Http2 => {
                    let opened = multiplexed::open(&endpoint, tls.as_ref(), pings).await;
                    let mut begun = opened.map_err(told)?;
                    begun.sender.send_request(request).await
                }
            };
            let status = answer.map_err(told)?.status().as_u16();
            if rules.accepts(status) { Ok(()) } else { Err(format!("status {status}")) }
        };
        let answer = timeout(rules.timeout, asking).await;
        let answer = answer.unwrap_or_else(|_elapsed| Err("no answer in time".into()));
        if let Some(is_well) = streak.note(&rules, answer.is_ok()) {
            changed(is_well, answer.err().unwrap_or_default());
        }
    }
}

fn question(
    endpoint: &Endpoint,
    rules: &CheckRules,
    protocol: Protocol,
) -> Result<Request<Nothing>, String> {
    let mut request = Request::new(Nothing);
    *request.uri_mut() = Uri::from(rules.path.clone());
    let host = rules.host.as_deref().map_or_else(|| endpoint.authority(), str::to_owned);
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&host).map_err(|error| error.to_string())?);
    headers.insert(USER_AGENT, HeaderValue::from_static("firewall-health-check"));
    match protocol {
        Protocol::Http1 => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Protocol::Http2 => {
            convert(&mut request, endpoint.scheme)
                .map_err(|_unwritable| "no such host".to_owned())?;
        }
    }
    Ok(request)
}

fn told(error: impl std::error::Error) -> String {
    Causes(&error).to_string()
}

/// The body of a request that has none.
struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}
