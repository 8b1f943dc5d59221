//! Asking the upstream for a WebSocket.

use std::rc::Rc;

use http::{HeaderMap, Request, Response};

use super::origin::Origin;
use super::tunnel::{Terms, Tunnel, TunnelCounts};
use super::tunnels::Seat;
use super::websocket::{self, Handshake};
use super::{Denied, Pipeline, Trace, message};
use crate::access_log::UpstreamRecord;
use crate::clock::Monotonic;
use crate::contract::Operation;
use crate::pipeline::exchange::Exchange;
use crate::upstream::body::Body;
use crate::upstream::pool::{Pool, Switched};

/// A request for a WebSocket that has its place.
pub(super) struct Asking<'a> {
    pub(super) handshake: Handshake<'a>,
    pub(super) seat: Seat,
    pub(super) request: Request<Body>,
}

impl Pipeline {
    /// Asks the upstream for a WebSocket; where it agrees, the exchange becomes a tunnel.
    pub(super) async fn switch(
        &self,
        exchange: &mut Exchange<'_>,
        trace: &mut Trace,
        origin: &Origin,
        operation: Option<&Operation>,
        asking: Asking<'_>,
        pool: &Rc<Pool>,
    ) -> Result<Response<Body>, Denied> {
        let api = exchange.api;
        let Asking { handshake, seat, mut request } = asking;
        websocket::ask(request.headers_mut());
        let sent = Monotonic::now();
        let patience = api.limits.response_timeout;
        let is_accepted = |headers: &HeaderMap| handshake.is_accepted(headers);
        let switched = pool.upgrade(request, patience, is_accepted).await?;
        let waited = Monotonic::now().since(sent);
        let (status, lease) = match &switched {
            Switched::Upgraded(head, upgraded) => (head.status(), upgraded.lease()),
            Switched::Answered(response, lease) => (response.status(), lease),
        };
        let endpoint = Rc::clone(lease.endpoint());
        trace.upstream = Some(UpstreamRecord { status: status.as_u16(), endpoint, waited });
        let (head, upgraded) = match switched {
            Switched::Upgraded(head, upgraded) => (head, upgraded),
            Switched::Answered(response, lease) => {
                return message::response(exchange, operation, response, lease).await;
            }
        };
        let found = operation.map_or(Ok(()), |it| it.check_switching(head.headers()));
        exchange.settle(api.response_mode, found)?;
        let terms = Terms {
            times: api.limits.tunnel,
            client: exchange.client,
            socket: origin.socket,
            keeper: self.keeper.clone(),
            metrics: exchange.metrics().clone(),
            counts: TunnelCounts::new(&self.metrics, &api.name),
            request_mode: api.request_mode,
            response_mode: api.response_mode,
        };
        let frames = handshake.frames(head.headers());
        trace.tunnel = Some(Tunnel::new(upgraded, seat, frames, terms));
        let mut response = head.map(|()| Body::empty());
        websocket::accept_as_asked(response.headers_mut());
        Ok(response)
    }
}
