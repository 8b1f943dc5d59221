//! Where a request comes from, and what its framing was judged to be.
//!
//! A connection's socket side writes a [`Judgement`]; the pipeline reads it through the [`Origin`]
//! that comes with each request. Both run on one thread, so nothing here locks.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use crate::access_log::{Ending, SharedEnding};
use crate::address::PeerAddr;
use crate::clock::Monotonic;
use crate::pipeline::tunnel::Tunnel;
use crate::tls::session::Session;
use crate::violation::{Rule, Violation};

/// Octets by which a client that is waited for shows that it gets on. To seem so while it does not, on
/// many connections, would take a flood.
const PROGRESS_OCTETS: u64 = 16 * 1024;

/// The part of a message that was being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Head,
    Body,
}

/// The one message on a connection that could not be read, and after which nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which request of the connection, counted from 0.
    pub ordinal: u64,
    pub part: Part,
    pub rule: Rule,
}

/// What the socket side of one connection knows, and what the pipeline wants of it.
#[derive(Debug, Default)]
pub struct Judgement {
    refusal: Cell<Option<Refusal>>,
    requests: Cell<u64>,
    /// One at most in HTTP/1.
    answering: Cell<u32>,
    /// Answers of HTTP/2 that were handed over, and wait for the client's window.
    untaken: Cell<usize>,
    is_in_head: Cell<bool>,
    is_blocked: Cell<bool>,
    is_closing: Cell<bool>,
    refusing: Cell<u32>,
    is_draining: Cell<bool>,
    /// While it drains, the client may come to its next request first.
    is_awaited: Cell<bool>,
    quiet_since: Cell<Monotonic>,
    /// Requests of which the body is waited for.
    awaiting_body: Cell<u32>,
    /// Answers of HTTP/2 of which a piece waits for the client's window.
    waiting_pieces: Cell<u32>,
    /// Since when part of a head is here, or a body is waited for, or a piece waits.
    waiting_since: Cell<Monotonic>,
    /// What had been received by then.
    waiting_octets: Cell<u64>,
    ending: SharedEnding,
    octets_received: Cell<u64>,
    octets_sent: Cell<u64>,
    session: OnceCell<Box<Session>>,
    /// The request that offered another protocol, and the tunnel that its answer makes of the
    /// connection.
    offer: Cell<Option<u64>>,
    tunnel: RefCell<Option<Box<Tunnel>>>,
    is_tunnel: Cell<bool>,
}

impl Judgement {
    pub fn new(accepted_at: Monotonic) -> Self {
        Self { quiet_since: Cell::new(accepted_at), ..Self::default() }
    }

    /// Records the connection's refusal; the first one stands.
    pub fn refuse(&self, refusal: Refusal) {
        if self.refusal.get().is_none() {
            self.refusal.set(Some(refusal));
        }
    }

    /// Counts a request as it reaches the service; gives its ordinal.
    pub fn begin(&self) -> u64 {
        let ordinal = self.requests.get();
        self.requests.set(ordinal + 1);
        self.answering.set(self.answering.get().saturating_add(1));
        ordinal
    }

    /// The answer to the request has been handed over whole, or given up.
    pub fn end(&self, now: Monotonic) {
        self.answering.set(self.answering.get().saturating_sub(1));
        self.quiet_since.set(now);
    }

    /// A request has reached the service, and its answer is not yet handed over.
    pub fn is_answering(&self) -> bool {
        self.answering.get() > 0
    }

    /// How many requests have reached the service whose answers are not yet handed over.
    pub fn answering(&self) -> u32 {
        self.answering.get()
    }

    /// Says how many answers were handed over that the client does not yet take.
    pub fn set_untaken(&self, untaken: usize) {
        self.untaken.set(untaken);
    }

    /// How many requests are under way: being answered, or their answers not yet taken.
    pub fn under_way(&self) -> usize {
        self.untaken.get() + self.answering.get() as usize
    }

    /// The number of requests that have reached the service.
    pub fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Says whether part of a head has arrived.
    pub fn set_in_head(&self, is_in_head: bool) {
        if is_in_head {
            self.waits(Monotonic::coarse());
        }
        self.is_in_head.set(is_in_head);
    }

    /// The client is waited for, from now on unless it was already: what it begins beside what it does
    /// not end must not make it look quick.
    fn waits(&self, now: Monotonic) {
        if !self.is_in_head.get() && self.awaiting_body.get() + self.waiting_pieces.get() == 0 {
            self.moved(now);
        }
    }

    fn moved(&self, now: Monotonic) {
        self.waiting_since.set(now);
        self.waiting_octets.set(self.octets_received.get());
    }

    pub fn is_in_head(&self) -> bool {
        self.is_in_head.get()
    }

    /// Says whether part of an answer waits for the client to take it, be the answer handed over
    /// whole or not.
    pub fn set_blocked(&self, is_blocked: bool, now: Monotonic) {
        self.is_blocked.set(is_blocked);
        self.quiet_since.set(now);
    }

    pub fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// Nothing is asked, nothing is being asked, nothing is being answered.
    pub fn is_idle(&self) -> bool {
        let is_at_work = self.is_answering() || self.is_tunnel.get();
        !is_at_work && !self.is_in_head.get() && !self.is_blocked.get()
    }

    /// Since when nothing is waited for but the client: for the rest of a head or of the bodies of all
    /// requests, or until it takes what it is sent. None where it is idle, or we have work to do.
    pub fn awaits_client_since(&self) -> Option<Monotonic> {
        if self.is_tunnel.get() {
            return None;
        }
        if self.is_blocked.get() {
            return Some(self.quiet_since.get());
        }
        let awaiting = self.awaiting_body.get() + self.waiting_pieces.get();
        let awaits = self.answering.get() <= awaiting && (awaiting > 0 || self.is_in_head.get());
        awaits.then(|| self.waiting_since.get())
    }

    /// A piece of an answer waits for the client's window.
    pub fn piece_waits(&self, now: Monotonic) {
        self.waits(now);
        self.waiting_pieces.set(self.waiting_pieces.get().saturating_add(1));
    }

    /// It has gone, or is given up.
    pub fn piece_went(&self) {
        self.waiting_pieces.set(self.waiting_pieces.get().saturating_sub(1));
    }

    /// Says that the firewall ends the connection by itself; the first word stands.
    pub fn ended_for(&self, ending: Ending) {
        if self.ending.get().is_none() {
            self.ending.set(Some(ending));
        }
    }

    /// Why the firewall ends the connection by itself, if it does.
    pub fn ending(&self) -> Option<Ending> {
        self.ending.get()
    }

    /// When the last answer ended, or the client last began or ceased to take it, or the connection
    /// was accepted.
    pub fn quiet_since(&self) -> Monotonic {
        self.quiet_since.get()
    }

    /// The connection is to be closed when the answer in hand has been written.
    pub fn close_after_response(&self) {
        self.is_closing.set(true);
    }

    pub fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// Whether the answer in hand may still be written when the connection's source is banned.
    pub fn has_last_word(&self) -> bool {
        self.is_closing.get() || self.refusing.get() > 0
    }

    /// Whether no request after this one will be answered, so that its answer should say so.
    pub fn is_last(&self, ordinal: u64) -> bool {
        let is_refused = self.refusal.get().is_some_and(|refusal| refusal.ordinal == ordinal);
        is_refused || self.is_closing.get() || self.is_draining.get()
    }

    /// The process wants to stop: the next answer is the connection's last. Whether that is waited
    /// for where nothing is being asked now.
    pub fn drain(&self, is_awaited: bool) {
        self.is_draining.set(true);
        self.is_awaited.set(is_awaited);
    }

    /// Whether the last request before the connection ends is waited for.
    pub fn is_awaited(&self) -> bool {
        self.is_awaited.get()
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// Says that the connection is encrypted, and what its handshake settled; the first word stands.
    pub fn encrypted(&self, session: Session) {
        self.session.set(Box::new(session)).unwrap_or(());
    }

    /// Says that the request of this ordinal offers another protocol, and is the connection's last
    /// that is one of HTTP.
    pub fn offered(&self, ordinal: u64) {
        self.offer.set(Some(ordinal));
    }

    /// Whether that request is the one of this ordinal.
    pub fn is_offer(&self, ordinal: u64) -> bool {
        self.offer.get() == Some(ordinal)
    }

    /// Whether any request has offered another protocol.
    pub fn has_offer(&self) -> bool {
        self.offer.get().is_some()
    }

    /// The tunnel that the connection has become, once; from then on it is at work until it ends.
    pub fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        let tunnel = self.tunnel.take();
        self.is_tunnel.set(tunnel.is_some());
        tunnel
    }

    pub fn count_received(&self, octets: usize) {
        add(&self.octets_received, octets);
        let since = self.octets_received.get().saturating_sub(self.waiting_octets.get());
        if since >= PROGRESS_OCTETS {
            self.moved(Monotonic::coarse());
        }
    }

    pub fn count_sent(&self, octets: usize) {
        add(&self.octets_sent, octets);
    }
}

/// A refusal that may turn out to be the connection's last answer, as long as it is being settled: a
/// stream that its client takes back ends that too.
#[derive(Debug)]
#[must_use]
pub struct Refusing<'a>(&'a Judgement);

impl<'a> Refusing<'a> {
    fn new(judgement: &'a Judgement) -> Self {
        judgement.refusing.set(judgement.refusing.get().saturating_add(1));
        Self(judgement)
    }
}

impl Drop for Refusing<'_> {
    fn drop(&mut self) {
        self.0.refusing.set(self.0.refusing.get().saturating_sub(1));
    }
}

/// An answer that alone is given up, and not its connection: whatever of it is dropped before this is
/// settled so.
#[derive(Debug)]
#[must_use]
pub struct GivenUp(Rc<Judgement>, Option<Ending>);

impl GivenUp {
    pub fn new(judgement: &Rc<Judgement>, ending: Ending) -> Self {
        let before = judgement.ending.replace(Some(ending));
        Self(Rc::clone(judgement), before)
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.ending.set(self.1);
    }
}

/// A request's body is being read, as long as this is kept.
#[derive(Debug)]
#[must_use]
pub struct AwaitingBody<'a>(&'a Judgement);

impl Drop for AwaitingBody<'_> {
    fn drop(&mut self) {
        self.0.awaiting_body.set(self.0.awaiting_body.get().saturating_sub(1));
    }
}

fn add(counter: &Cell<u64>, octets: usize) {
    counter.set(counter.get().saturating_add(u64::try_from(octets).unwrap_or(u64::MAX)));
}

/// Where one request comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    pub peer: PeerAddr,
    /// The socket's other end, which alone the kernel sees. Not the peer where a balancer passes the
    /// peer's connection on.
    pub socket: PeerAddr,
    /// The connection's number, unique in this process.
    pub connection: u64,
    pub accepted_at: Monotonic,
    /// Which request of the connection, counted from 0.
    pub ordinal: u64,
    /// Other requests may be under way on the connection, and outlive this one (HTTP/2).
    pub is_multiplexed: bool,
    /// What is wrong with the head, where that was not the connection's to find.
    malformed: Option<Rule>,
    judgement: Rc<Judgement>,
}

impl Origin {
    /// The origin of the request that the connection's service is now given.
    pub fn begin(
        peer: PeerAddr,
        socket: PeerAddr,
        connection: u64,
        accepted_at: Monotonic,
        judgement: Rc<Judgement>,
    ) -> Self {
        let (ordinal, is_multiplexed, malformed) = (judgement.begin(), false, None);
        Self {
            peer,
            socket,
            connection,
            accepted_at,
            ordinal,
            is_multiplexed,
            malformed,
            judgement,
        }
    }

    /// The origin of what is no request: a connection's frames.
    pub fn of_connection(
        peer: PeerAddr,
        socket: PeerAddr,
        connection: u64,
        accepted_at: Monotonic,
        judgement: &Rc<Judgement>,
    ) -> Self {
        let (ordinal, malformed) = (judgement.requests(), None);
        let (judgement, is_multiplexed) = (Rc::clone(judgement), true);
        Self {
            peer,
            socket,
            connection,
            accepted_at,
            ordinal,
            is_multiplexed,
            malformed,
            judgement,
        }
    }

    /// The same for one stream of HTTP/2, whose head was found to be `malformed`, or to be none.
    #[must_use]
    pub fn of_stream(self, malformed: Option<Rule>) -> Self {
        Self { is_multiplexed: true, malformed, ..self }
    }

    /// Why this request must be refused, whatever it seems to say: it stands in for a head that
    /// could not be read in one way, or did not arrive in time.
    pub fn refusal(&self) -> Option<Violation> {
        self.malformed.map(Violation::new).or_else(|| self.refused(Part::Head))
    }

    /// Why this request's body broke off; ask after reading it has failed.
    pub fn body_violation(&self) -> Option<Violation> {
        self.refused(Part::Body)
    }

    fn refused(&self, part: Part) -> Option<Violation> {
        let refusal = self.judgement.refusal.get()?;
        (refusal.ordinal == self.ordinal && refusal.part == part)
            .then(|| Violation::new(refusal.rule))
    }

    /// Says that nothing is done for the request but to read its body.
    pub fn awaits_body(&self) -> AwaitingBody<'_> {
        let judgement = &*self.judgement;
        judgement.waits(Monotonic::coarse());
        judgement.awaiting_body.set(judgement.awaiting_body.get().saturating_add(1));
        AwaitingBody(judgement)
    }

    /// Where it is told that the connection is being ended.
    pub fn ending(&self) -> SharedEnding {
        Rc::clone(&self.judgement.ending)
    }

    /// Whether the request offers another protocol, as framing lets it: well-formed, and nothing
    /// behind it has been read as HTTP.
    pub fn offers_upgrade(&self) -> bool {
        !self.is_multiplexed && self.judgement.is_offer(self.ordinal)
    }

    /// Leaves the connection to this tunnel when the answer in hand, a 101, has been written.
    pub fn leave_to(&self, tunnel: Tunnel) {
        if self.offers_upgrade() {
            self.judgement.tunnel.replace(Some(Box::new(tunnel)));
        }
    }

    /// Says that a refusal is being settled: a ban that it causes lets this connection write it.
    pub fn refusing(&self) -> Refusing<'_> {
        Refusing::new(&self.judgement)
    }

    /// Closes the connection when this answer's last octet has been written, and what else is under way
    /// on it. A source that is banned for this request keeps this connection until then, and loses
    /// all others at once.
    pub fn close_after_response(&self) {
        self.judgement.close_after_response();
    }

    /// What the handshake of the peer's own connection to us settled; none in plain text.
    pub fn session(&self) -> Option<&Session> {
        self.judgement.session.get().map(|session| &**session)
    }

    /// Octets that have arrived on the connection so far, of all its requests.
    pub fn octets_received(&self) -> u64 {
        self.judgement.octets_received.get()
    }

    /// Octets that have been sent on the connection so far, of all its answers.
    pub fn octets_sent(&self) -> u64 {
        self.judgement.octets_sent.get()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_refusal_that_is_given_up_has_no_last_word() {
        let judgement = Rc::new(Judgement::default());
        let peer = PeerAddr([192, 0, 2, 1].into());
        let origin = Origin::of_connection(peer, peer, 0, Monotonic::default(), &judgement);
        let another = origin.refusing();
        {
            let mut settling = pin!(async {
                let _refusing = origin.refusing();
                pending::<()>().await;
            });
            let mut context = Context::from_waker(Waker::noop());
            assert!(settling.as_mut().poll(&mut context).is_pending());
            assert!(judgement.has_last_word());
        }
        assert!(judgement.has_last_word(), "the other goes on");
        drop(another);
        assert!(!judgement.has_last_word());
    }
}
