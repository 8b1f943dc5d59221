//! The open connections of one worker: how many there may be, and which must end.

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep, timeout};

use crate::access_log::Ending;
use crate::address::{ClientAddr, PeerAddr};
use crate::ban::suspicion::Suspicion;
use crate::clock::Monotonic;
use crate::pipeline::origin::Judgement;

/// How many seats are looked at to find one that can be given up.
const IDLE_SAMPLE: usize = 32;

/// How long a connection may wait for its client before its seat is given to another one, where all are
/// taken: the rest of an honest head is there after a round trip.
const SEAT_PATIENCE: Duration = Duration::from_secs(1);

/// How many connections one worker keeps.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// Of one source: an IPv4 address, or an IPv6 /64. The kernel spreads a source's connections
    /// over the workers, so that all of them together may keep this many times their number.
    pub per_source: usize,
    /// Peers that speak for many clients, and are held to the total alone.
    pub exempt: Vec<IpNet>,
    /// Sources that may have half as many, rounded up.
    pub suspicion: Arc<Suspicion>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 10_000, per_source: 256, exempt: Vec::new(), suspicion: Arc::default() }
    }
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoSeat {
    /// Every seat is taken by a connection that is at work.
    Worker,
    /// The source has as many connections as it may.
    Source,
    /// The worker is draining.
    Draining,
}

/// What a connection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Serve,
    /// Write what is being written, within this time, then end.
    LastWords(Duration),
    /// End at once.
    Drop,
}

/// The open connections of one worker.
pub struct Connections {
    limits: ConnectionLimits,
    total: Cell<usize>,
    per_source: Cell<usize>,
    /// Added to the low bits of each connection's number, to tell the workers' apart.
    first_id: u64,
    accepted: Cell<u64>,
    is_draining: Cell<bool>,
    seats: RefCell<Seats>,
    left: Notify,
}

/// The seats taken and free, and which source sits where. Bounded by [`ConnectionLimits::total`],
/// and by the few idle connections that have been told to give up theirs.
#[derive(Default)]
struct Seats {
    places: Vec<Option<Rc<Seat>>>,
    free: Vec<usize>,
    by_source: HashMap<IpNet, Vec<usize>>,
    /// Where the search for an idle connection goes on.
    cursor: usize,
}

struct Seat {
    peer: Cell<PeerAddr>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    judgement: Rc<Judgement>,
}

impl Seat {
    fn order(&self, order: Order) {
        self.order.set(order);
        self.wake();
    }

    /// Ends the connection: at once, or after the answer that is its last.
    fn end(&self, patience: Duration) {
        let is_last = self.judgement.has_last_word();
        if is_last {
            self.order(Order::LastWords(patience));
        } else {
            self.drop_for(Ending::Banned);
        }
    }

    fn drop_for(&self, ending: Ending) {
        self.judgement.ended_for(ending);
        self.order(Order::Drop);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// The right to be connected; given back when it is dropped.
pub struct Ticket {
    connections: Rc<Connections>,
    seat: Rc<Seat>,
    index: usize,
    id: u64,
    socket: PeerAddr,
    accepted_at: Monotonic,
}

impl Connections {
    /// The connections of the worker with this number; workers are numbered from 0.
    pub fn new(limits: ConnectionLimits, worker: u16) -> Rc<Self> {
        Rc::new(Self {
            total: Cell::new(limits.total),
            per_source: Cell::new(limits.per_source),
            limits,
            first_id: u64::from(worker) << 48,
            accepted: Cell::new(0),
            is_draining: Cell::new(false),
            seats: RefCell::default(),
            left: Notify::new(),
        })
    }

    /// Admits so many from now on, in all and of one source. Who has a seat keeps it.
    pub fn limit(&self, total: usize, per_source: usize) {
        self.total.set(total);
        self.per_source.set(per_source);
    }

    /// A seat for a new connection. When none is left, one that is idle has to make room, or else one
    /// that waits for its client for long, if any is found among a few: so who holds connections open
    /// by saying little, from however many sources, keeps nobody out.
    pub fn admit(self: &Rc<Self>, peer: PeerAddr, now: Monotonic) -> Result<Ticket, NoSeat> {
        if self.is_draining.get() {
            return Err(NoSeat::Draining);
        }
        let mut seats = self.seats.borrow_mut();
        if self.has_many(&seats, peer, now) {
            return Err(NoSeat::Source);
        }
        if seats.taken() >= self.total.get() && !seats.make_room(now) {
            return Err(NoSeat::Worker);
        }
        let judgement = Rc::new(Judgement::new(now));
        let seat = Rc::new(Seat {
            peer: Cell::new(peer),
            order: Cell::new(Order::Serve),
            waker: RefCell::default(),
            judgement,
        });
        let index = seats.sit(Rc::clone(&seat));
        let id = self.first_id | self.accepted.get();
        self.accepted.set(self.accepted.get() + 1);
        let connections = Rc::clone(self);
        Ok(Ticket { connections, seat, index, id, socket: peer, accepted_at: now })
    }

    /// Whether this peer's source has as many seats as it may.
    fn has_many(&self, seats: &Seats, peer: PeerAddr, now: Monotonic) -> bool {
        let of_source = seats.by_source.get(&source(peer)).map_or(0, Vec::len);
        let half = self.per_source.get().div_ceil(2);
        let is_suspect = || self.limits.suspicion.holds(ClientAddr(peer.0), now);
        // Nearly every source has few: nobody is looked up before it has many.
        let has_many = of_source >= half && (of_source >= self.per_source.get() || is_suspect());
        has_many && !self.is_exempt(peer)
    }

    /// Whether this peer speaks for many clients.
    fn is_exempt(&self, peer: PeerAddr) -> bool {
        self.limits.exempt.iter().any(|net| net.contains(&peer.0))
    }

    /// Whether this peer's source has as many requests under way as it may have connections: in HTTP/2
    /// each costs what a connection costs.
    fn asks_much(&self, peer: PeerAddr) -> bool {
        // First: who is exempt may have thousands of connections to look through.
        if self.is_exempt(peer) {
            return false;
        }
        let seats = self.seats.borrow();
        let indices = seats.by_source.get(&source(peer)).into_iter().flatten();
        let seated = indices.filter_map(|index| seats.places.get(*index)?.as_ref());
        let requests: usize = seated.map(|seat| seat.judgement.under_way()).sum();
        requests >= self.per_source.get()
    }

    /// The number of connections that have a seat.
    pub fn open(&self) -> usize {
        self.seats.borrow().taken()
    }

    /// Ends every connection of a source that has been banned, with a reset; gives their number.
    ///
    /// The one whose answer is its last ([`crate::pipeline::origin::Origin::close_after_response`])
    /// may write it to the end, within `patience`. Connections through a proxy are the proxy's, if
    /// it is no balancer that names each one's source: their clients are turned away request by
    /// request.
    pub fn close_source(&self, target: IpNet, patience: Duration) -> usize {
        let seats = self.seats.borrow();
        let end = |indices: &Vec<usize>| {
            let sitting = indices.iter().filter_map(|index| seats.places.get(*index)?.as_ref());
            let meant = sitting.filter(|seat| target.contains(&seat.peer.get().0));
            meant.map(|seat| seat.end(patience)).count()
        };
        match seats.by_source.get(&target) {
            Some(indices) => end(indices),
            None => seats
                .by_source
                .iter()
                .filter(|(source, _)| target.contains(*source) || source.contains(&target))
                .map(|(_, indices)| end(indices))
                .sum(),
        }
    }

    /// The same for every connection whose peer is chosen.
    pub fn close_where(&self, is_chosen: impl Fn(PeerAddr) -> bool, patience: Duration) -> usize {
        let seats = self.seats.borrow();
        let chosen = seats.places.iter().flatten().filter(|seat| is_chosen(seat.peer.get()));
        chosen.map(|seat| seat.end(patience)).count()
    }

    /// Lets every connection finish what its client has begun to ask, and admits no more. After
    /// `patience` those that are left are dropped; gives their number.
    ///
    /// Connections on which nothing is asked are closed after `grace`, and until then by the answer to
    /// their next request: what a client sends while its connection is being closed is lost, which is
    /// no matter only where nobody else would answer it either.
    pub async fn drain(&self, patience: Duration, grace: Duration) -> usize {
        self.is_draining.set(true);
        let grace = grace.min(patience);
        for (is_awaited, time) in [(true, grace), (false, patience.saturating_sub(grace))] {
            if is_awaited && grace.is_zero() {
                continue;
            }
            for seat in self.seats.borrow().places.iter().flatten() {
                seat.judgement.drain(is_awaited);
                seat.wake();
            }
            if timeout(time, self.emptied()).await.is_ok() {
                return 0;
            }
        }
        let mut dropped = 0;
        for seat in self.seats.borrow().places.iter().flatten() {
            dropped += 1;
            seat.drop_for(Ending::Drained);
        }
        self.emptied().await;
        dropped
    }

    async fn emptied(&self) {
        while self.open() > 0 {
            self.left.notified().await;
        }
    }
}

impl Seats {
    fn taken(&self) -> usize {
        self.places.len() - self.free.len()
    }

    fn sit(&mut self, seat: Rc<Seat>) -> usize {
        let source = source(seat.peer.get());
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        if let Some(place) = self.places.get_mut(index) {
            *place = Some(seat);
        }
        self.by_source.entry(source).or_default().push(index);
        index
    }

    /// Frees the seat, if it is still this connection's.
    fn leave(&mut self, index: usize, seat: &Rc<Seat>) {
        let Some(place) = self.places.get_mut(index) else { return };
        if place.take_if(|sitting| Rc::ptr_eq(sitting, seat)).is_none() {
            return;
        }
        self.free.push(index);
        self.forget(source(seat.peer.get()), index);
    }

    /// Counts the seat under another peer, if it is still this connection's.
    fn rename(&mut self, index: usize, seat: &Rc<Seat>, peer: PeerAddr) {
        let former = seat.peer.replace(peer);
        let sitting = self.places.get(index).and_then(Option::as_ref);
        if sitting.is_some_and(|sitting| Rc::ptr_eq(sitting, seat)) {
            self.forget(source(former), index);
            self.by_source.entry(source(peer)).or_default().push(index);
        }
    }

    fn forget(&mut self, source: IpNet, index: usize) {
        if let Some(indices) = self.by_source.get_mut(&source) {
            indices.retain(|other| *other != index);
            if indices.is_empty() {
                self.by_source.remove(&source);
            }
        }
    }

    /// Takes the seat of the connection that has been idle for longest since it was answered, of the next
    /// few; where none is, of the one that has waited for its client for longest, be it for the first
    /// octet: who has just come is not who makes room.
    fn make_room(&mut self, now: Monotonic) -> bool {
        let count = self.places.len();
        let next = (0..count.min(IDLE_SAMPLE))
            .map(|step| (self.cursor + step) % count)
            .filter_map(|index| Some((index, self.places.get(index)?.as_ref()?)));
        let mut longest: Option<(bool, Monotonic, usize, &Rc<Seat>)> = None;
        for (index, seat) in next {
            let judgement = &seat.judgement;
            let is_silent = judgement.is_idle();
            let is_idle = is_silent && judgement.requests() > 0;
            let since = if is_silent {
                Some(judgement.quiet_since())
            } else {
                judgement.awaits_client_since()
            };
            let since = since.filter(|since| is_idle || now.since(*since) >= SEAT_PATIENCE);
            // An idle one goes before any that is not.
            let is_longer = |since| {
                longest.is_none_or(|(at_work, longest, ..)| (!is_idle, since) < (at_work, longest))
            };
            if let Some(since) = since.filter(|since| is_longer(*since)) {
                longest = Some((!is_idle, since, index, seat));
            }
        }
        self.cursor = self.cursor.wrapping_add(IDLE_SAMPLE);
        let Some((_, _, index, seat)) = longest else { return false };
        let seat = Rc::clone(seat);
        seat.drop_for(Ending::Room);
        self.leave(index, &seat);
        true
    }
}

impl Ticket {
    /// Who speaks on the connection.
    pub fn peer(&self) -> PeerAddr {
        self.seat.peer.get()
    }

    /// The socket's other end.
    pub fn socket(&self) -> PeerAddr {
        self.socket
    }

    /// Counts the connection as this peer's, for whom the socket's other end passes it on.
    ///
    /// # Errors
    /// If the peer has as many connections as it may; the seat is still to be given back.
    pub(super) fn rename(&self, peer: PeerAddr, now: Monotonic) -> Result<(), NoSeat> {
        let mut seats = self.connections.seats.borrow_mut();
        if self.connections.has_many(&seats, peer, now) {
            return Err(NoSeat::Source);
        }
        seats.rename(self.index, &self.seat, peer);
        Ok(())
    }

    /// Whether the source has so many requests under way that it may not have another.
    pub(super) fn asks_much(&self) -> bool {
        self.connections.asks_much(self.peer())
    }

    /// Waits until the connection is to end at once.
    pub(super) async fn ended(&self) {
        poll_fn(|cx| match self.order(cx) {
            Order::Serve => Poll::Pending,
            Order::LastWords(_) | Order::Drop => Poll::Ready(()),
        })
        .await;
    }

    /// Waits until the connection is to end in some way, be it after an answer.
    pub(super) async fn must_end(&self) {
        poll_fn(|cx| match self.order(cx) {
            Order::Serve if !self.judgement().is_draining() => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
    }

    /// The connection's number, unique in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn accepted_at(&self) -> Monotonic {
        self.accepted_at
    }

    pub(super) fn judgement(&self) -> &Rc<Judgement> {
        &self.seat.judgement
    }

    /// What the connection is to do now; it is woken when that changes.
    pub(super) fn order(&self, cx: &Context<'_>) -> Order {
        let mut waker = self.seat.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        self.seat.order.get()
    }
}

/// The time that is left to a connection for the answers in hand, once it has been told to end.
#[derive(Default)]
pub(super) struct LastWords(Option<Pin<Box<Sleep>>>);

impl LastWords {
    /// Whether the connection of this ticket must end now, whatever it is doing.
    pub(super) fn are_over(&mut self, ticket: &Ticket, cx: &mut Context<'_>) -> bool {
        match ticket.order(cx) {
            Order::Serve => false,
            Order::Drop => true,
            Order::LastWords(patience) => {
                let time = self.0.get_or_insert_with(|| Box::pin(sleep(patience)));
                time.as_mut().poll(cx).is_ready()
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.connections.seats.borrow_mut().leave(self.index, &self.seat);
        self.connections.left.notify_waiters();
    }
}

/// What a peer's connections are counted under.
fn source(peer: PeerAddr) -> IpNet {
    ClientAddr(peer.0).ban_target()
}
