//! One endpoint as a worker has it: the exchanges in flight, and the connections that wait for the next.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;

use super::super::balance::Seat;
use super::super::body::Body;
use super::super::endpoint::Endpoint;
use super::super::multiplexed::{Connections, Place};
use super::Pool;
use crate::clock::Monotonic;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    /// The endpoint's own is all workers': each request would write to its count of references.
    label: Rc<str>,
    pub(super) seat: Seat,
    idle: RefCell<Vec<Idle>>,
    /// Where HTTP/2 is spoken.
    pub(super) shared: Rc<Connections>,
    /// The upstream has it no more: its connections are not kept.
    is_retired: Cell<bool>,
    /// Of the seat's exchanges, those that have become tunnels.
    tunnels: Cell<u32>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Body>,
    since: Monotonic,
}

impl Member {
    pub(super) fn new(endpoint: &Arc<Endpoint>) -> Rc<Self> {
        Rc::new(Self {
            endpoint: Arc::clone(endpoint),
            label: Rc::from(&**endpoint.label()),
            seat: Seat::new(endpoint.weight),
            idle: RefCell::default(),
            shared: Rc::default(),
            is_retired: Cell::new(false),
            tunnels: Cell::new(0),
        })
    }

    /// Exchanges in flight. Tunnels are bounded elsewhere: who holds them open for long does not
    /// keep requests from the endpoint, although it counts as busy with them.
    pub(super) fn exchanges(&self) -> u32 {
        self.seat.in_flight().saturating_sub(self.tunnels.get())
    }

    /// The connection that was used last, of those that are not too old and still open.
    pub(super) fn kept(&self, idle_timeout: Duration) -> Option<SendRequest<Body>> {
        let now = Monotonic::coarse();
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| !idle.sender.is_closed());
        let newest = idle
            .iter()
            .rposition(|idle| idle.sender.is_ready() && now.since(idle.since) < idle_timeout)?;
        Some(idle.remove(newest).sender)
    }

    pub(super) fn sweep(&self, idle_timeout: Duration) {
        let now = Monotonic::coarse();
        self.idle
            .borrow_mut()
            .retain(|idle| now.since(idle.since) < idle_timeout && !idle.sender.is_closed());
        self.shared.sweep(idle_timeout);
    }

    pub(super) fn retire(&self) {
        self.is_retired.set(true);
        self.idle.borrow_mut().clear();
        self.shared.retire();
    }
}

/// The connection of an exchange.
#[derive(Debug)]
pub(super) enum Used {
    /// It has it for itself.
    Alone(SendRequest<Body>),
    Shared(#[expect(dead_code, reason = "held until the exchange is over")] Place),
}

/// A place at one endpoint, and the connection in use. The connection is kept when this is dropped,
/// unless it has been closed meanwhile.
#[derive(Debug)]
pub struct Lease {
    pool: Rc<Pool>,
    member: Rc<Member>,
    used: Option<Used>,
    is_tunnel: bool,
}

impl Lease {
    pub(super) fn new(pool: &Rc<Pool>, member: &Rc<Member>) -> Self {
        member.seat.enter();
        Self { pool: Rc::clone(pool), member: Rc::clone(member), used: None, is_tunnel: false }
    }

    pub(super) fn member(&self) -> &Rc<Member> {
        &self.member
    }

    pub(super) fn keep(&mut self, used: Used) {
        self.used = Some(used);
    }

    /// The exchange has become a tunnel, and makes room for another one.
    pub(super) fn leave_to_a_tunnel(&mut self) {
        if !std::mem::replace(&mut self.is_tunnel, true) {
            self.member.tunnels.set(self.member.tunnels.get().saturating_add(1));
            self.pool.freed.notify_one();
        }
    }

    /// What the endpoint is called in the log.
    pub fn endpoint(&self) -> &Rc<str> {
        &self.member.label
    }

    /// Longest time between two octets of the answer.
    pub(in crate::upstream) fn read_timeout(&self) -> Duration {
        self.pool.upstream.settings().limits.read_timeout
    }

    /// The endpoint has begun to answer, and does not go on.
    pub(in crate::upstream) fn stalled(&mut self) {
        self.pool.stalled.inc();
        self.pool.failed(&self.member);
        self.used = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.member.seat.leave();
        if self.is_tunnel {
            self.member.tunnels.set(self.member.tunnels.get().saturating_sub(1));
        }
        if let Some(Used::Alone(sender)) = self.used.take()
            && !self.member.is_retired.get()
            && !sender.is_closed()
        {
            self.member.idle.borrow_mut().push(Idle { sender, since: Monotonic::coarse() });
        }
        self.pool.freed.notify_one();
    }
}
