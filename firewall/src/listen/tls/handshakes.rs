//! The handshakes that a worker has in hand: each costs a signature, and an attacker nothing.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use ipnet::IpNet;
use tokio::sync::Notify;

use super::NoTls;
use crate::address::{ClientAddr, PeerAddr};

/// How many handshakes one worker has in hand at once.
#[derive(Clone, Debug)]
pub struct HandshakeLimits {
    /// In all.
    pub total: usize,
    /// Of one source, as connections are counted.
    pub per_source: usize,
    /// Peers that speak for many clients, and are held to the total alone.
    pub exempt: Vec<IpNet>,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self { total: 1024, per_source: 64, exempt: Vec::new() }
    }
}

/// The handshakes in hand, bounded by [`HandshakeLimits::total`]. One more ends the oldest: an honest one
/// is over after a round trip, so that who holds his open for long, from however many sources, loses them,
/// and keeps nobody out.
#[derive(Debug, Default)]
pub struct Handshakes {
    limits: RefCell<HandshakeLimits>,
    begun: Cell<u64>,
    /// The oldest first.
    in_hand: RefCell<BTreeMap<u64, Rc<Notify>>>,
    by_source: RefCell<HashMap<IpNet, usize>>,
}

/// The right to a handshake; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    handshakes: Rc<Handshakes>,
    source: IpNet,
    number: u64,
    lost: Rc<Notify>,
}

impl Handshakes {
    pub fn new(limits: HandshakeLimits) -> Rc<Self> {
        Rc::new(Self { limits: RefCell::new(limits), ..Self::default() })
    }

    /// Takes so many at once from now on, in all and of one source.
    pub fn limit(&self, total: usize, per_source: usize) {
        let mut limits = self.limits.borrow_mut();
        (limits.total, limits.per_source) = (total, per_source);
    }

    /// A place for one more, which may be another's: that one is told to end.
    ///
    /// # Errors
    /// [`NoTls::Source`] where the peer's source has as many as it may.
    pub(super) fn begin(self: &Rc<Self>, peer: PeerAddr) -> Result<Place, NoTls> {
        let (source, limits) = (ClientAddr(peer.0).ban_target(), self.limits.borrow());
        let mut by_source = self.by_source.borrow_mut();
        let of_source = by_source.get(&source).copied().unwrap_or(0);
        let is_exempt = || limits.exempt.iter().any(|network| network.contains(&peer.0));
        if of_source >= limits.per_source && !is_exempt() {
            return Err(NoTls::Source);
        }
        by_source.insert(source, of_source + 1);
        let mut in_hand = self.in_hand.borrow_mut();
        // More than one where there may be fewer than there were.
        while in_hand.len() >= limits.total
            && let Some((_, oldest)) = in_hand.pop_first()
        {
            oldest.notify_one();
        }
        let (number, lost) = (self.begun.get(), Rc::new(Notify::new()));
        self.begun.set(number.wrapping_add(1));
        in_hand.insert(number, Rc::clone(&lost));
        Ok(Place { handshakes: Rc::clone(self), source, number, lost })
    }
}

impl Place {
    /// Comes when the place is another's.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let handshakes = &self.handshakes;
        handshakes.in_hand.borrow_mut().remove(&self.number);
        let mut by_source = handshakes.by_source.borrow_mut();
        if let Some(of_source) = by_source.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_lost(place: &Place) -> bool {
        pin!(place.lost()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn peer(address: &str) -> PeerAddr {
        PeerAddr(address.parse().unwrap())
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let exempt = vec!["10.0.0.0/8".parse().unwrap()];
        let handshakes = Handshakes::new(HandshakeLimits { total: 4, per_source: 2, exempt });
        let first = handshakes.begin(peer("192.0.2.1")).unwrap();
        let _second = handshakes.begin(peer("192.0.2.1")).unwrap();
        assert_eq!(handshakes.begin(peer("192.0.2.1")).unwrap_err(), NoTls::Source);
        drop(first);
        let _again = handshakes.begin(peer("192.0.2.1")).unwrap();
        // A /64 is one source.
        let _third = handshakes.begin(peer("2001:db8::1")).unwrap();
        let _fourth = handshakes.begin(peer("2001:db8::2")).unwrap();
        assert_eq!(handshakes.begin(peer("2001:db8::3")).unwrap_err(), NoTls::Source);
        assert_eq!(handshakes.in_hand.borrow().len(), 4);
        assert_eq!(handshakes.by_source.borrow().len(), 2);
    }

    #[test]
    fn one_more_than_all_ends_the_oldest() {
        let limits = HandshakeLimits { total: 3, per_source: 2, exempt: Vec::new() };
        let handshakes = Handshakes::new(limits);
        let first = handshakes.begin(peer("192.0.2.1")).unwrap();
        let second = handshakes.begin(peer("192.0.2.2")).unwrap();
        let third = handshakes.begin(peer("192.0.2.3")).unwrap();
        assert!(!is_lost(&first), "no more than all");
        let fourth = handshakes.begin(peer("192.0.2.4")).unwrap();
        assert!(is_lost(&first) && !is_lost(&second));
        // It frees its own place alone, which is another's already.
        drop(first);
        assert_eq!(handshakes.in_hand.borrow().len(), 3);
        drop(third);
        let fifth = handshakes.begin(peer("192.0.2.4")).unwrap();
        assert!(!is_lost(&second), "there was room");
        // Who has as many as he may ends nobody else's.
        assert_eq!(handshakes.begin(peer("192.0.2.4")).unwrap_err(), NoTls::Source);
        assert!([&second, &fourth, &fifth].iter().all(|place| !is_lost(place)));
        drop((second, fourth, fifth));
        assert!(handshakes.in_hand.borrow().is_empty() && handshakes.by_source.borrow().is_empty());
    }

    #[test]
    fn fewer_places_end_the_oldest_when_one_more_comes() {
        let limits = HandshakeLimits { total: 4, per_source: 4, exempt: Vec::new() };
        let handshakes = Handshakes::new(limits);
        let begun = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let places = begun.map(|address| handshakes.begin(peer(address)).unwrap());
        handshakes.limit(2, 1);
        assert!(!places.iter().any(is_lost));
        assert_eq!(handshakes.begin(peer("192.0.2.3")).unwrap_err(), NoTls::Source);
        let _more = handshakes.begin(peer("192.0.2.4")).unwrap();
        assert_eq!(places.each_ref().map(is_lost), [true, true, false]);
    }

    #[test]
    fn who_speaks_for_many_is_held_to_the_total_alone() {
        let exempt = vec!["10.0.0.0/8".parse().unwrap()];
        let handshakes = Handshakes::new(HandshakeLimits { total: 3, per_source: 1, exempt });
        let places: Vec<_> = (0..3).map(|_| handshakes.begin(peer("10.0.0.1")).unwrap()).collect();
        let more = handshakes.begin(peer("10.0.0.1")).unwrap();
        let lost: Vec<_> = places.iter().map(is_lost).collect();
        assert_eq!(lost, [true, false, false]);
        drop((places, more));
        assert!(handshakes.by_source.borrow().is_empty());
    }
}
