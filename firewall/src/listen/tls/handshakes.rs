//! The handshakes that a worker has in hand: each costs a signature, and an attacker nothing.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use ipnet::IpNet;

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

/// The handshakes in hand, bounded by [`HandshakeLimits::total`].
#[derive(Debug, Default)]
pub struct Handshakes {
    limits: HandshakeLimits,
    in_hand: Cell<usize>,
    by_source: RefCell<HashMap<IpNet, usize>>,
}

/// The right to a handshake; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    handshakes: Rc<Handshakes>,
    source: IpNet,
}

impl Handshakes {
    pub fn new(limits: HandshakeLimits) -> Rc<Self> {
        Rc::new(Self { limits, ..Self::default() })
    }

    pub(super) fn begin(self: &Rc<Self>, peer: PeerAddr) -> Result<Place, NoTls> {
        if self.in_hand.get() >= self.limits.total {
            return Err(NoTls::Busy);
        }
        let source = ClientAddr(peer.0).ban_target();
        let mut by_source = self.by_source.borrow_mut();
        let of_source = by_source.get(&source).copied().unwrap_or(0);
        let is_exempt = || self.limits.exempt.iter().any(|network| network.contains(&peer.0));
        if of_source >= self.limits.per_source && !is_exempt() {
            return Err(NoTls::Source);
        }
        by_source.insert(source, of_source + 1);
        self.in_hand.set(self.in_hand.get() + 1);
        Ok(Place { handshakes: Rc::clone(self), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let handshakes = &self.handshakes;
        handshakes.in_hand.set(handshakes.in_hand.get().saturating_sub(1));
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
    use super::*;

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
        let fourth = handshakes.begin(peer("2001:db8::2")).unwrap();
        assert_eq!(handshakes.begin(peer("198.51.100.1")).unwrap_err(), NoTls::Busy);
        drop(fourth);
        drop(handshakes.begin(peer("198.51.100.1")).unwrap());
        assert_eq!(handshakes.by_source.borrow().len(), 2);
    }

    #[test]
    fn who_speaks_for_many_is_held_to_the_total_alone() {
        let exempt = vec!["10.0.0.0/8".parse().unwrap()];
        let handshakes = Handshakes::new(HandshakeLimits { total: 3, per_source: 1, exempt });
        let places: Vec<_> = (0..3).map(|_| handshakes.begin(peer("10.0.0.1")).unwrap()).collect();
        assert_eq!(handshakes.begin(peer("10.0.0.1")).unwrap_err(), NoTls::Busy);
        drop(places);
        assert!(handshakes.by_source.borrow().is_empty());
    }
}
