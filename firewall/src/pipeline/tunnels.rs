//! The open tunnels of one worker: how many there may be, and whose must end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ipnet::IpNet;

use crate::address::ClientAddr;
use crate::violation::Rule;

/// How many tunnels one worker keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelLimits {
    /// In all.
    pub total: usize,
    /// Of one client: an IPv4 address, or an IPv6 /64; also behind a proxy.
    pub per_source: usize,
}

/// The open tunnels of one worker, by whose they are. Bounded by [`TunnelLimits::total`].
#[derive(Debug)]
pub struct Tunnels {
    limits: Cell<TunnelLimits>,
    open: Cell<usize>,
    by_source: RefCell<HashMap<IpNet, Vec<Rc<Place>>>>,
}

#[derive(Debug)]
struct Place {
    client: ClientAddr,
    is_unwanted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The right to a tunnel; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    tunnels: Rc<Tunnels>,
    place: Rc<Place>,
}

impl Tunnels {
    pub fn new(limits: TunnelLimits) -> Rc<Self> {
        let limits = Cell::new(limits);
        Rc::new(Self { limits, open: Cell::new(0), by_source: RefCell::default() })
    }

    /// Admits so many from now on. Those that are open stay.
    pub fn limit(&self, limits: TunnelLimits) {
        self.limits.set(limits);
    }

    /// A seat for one more of this client's.
    ///
    /// # Errors
    ///
    /// [`Rule::Tunnels`], [`Rule::TunnelsOfSource`].
    pub(super) fn admit(self: &Rc<Self>, client: ClientAddr) -> Result<Seat, Rule> {
        let mut by_source = self.by_source.borrow_mut();
        let source = client.ban_target();
        if by_source.get(&source).map_or(0, Vec::len) >= self.limits.get().per_source {
            return Err(Rule::TunnelsOfSource);
        }
        if self.open.get() >= self.limits.get().total {
            return Err(Rule::Tunnels);
        }
        let (is_unwanted, waker) = (Cell::new(false), RefCell::default());
        let place = Rc::new(Place { client, is_unwanted, waker });
        by_source.entry(source).or_default().push(Rc::clone(&place));
        self.open.set(self.open.get() + 1);
        Ok(Seat { tunnels: Rc::clone(self), place })
    }

    /// Ends those whose client is no longer wanted.
    pub(super) fn end_where(&self, is_unwanted: impl Fn(ClientAddr) -> bool) {
        let by_source = self.by_source.borrow();
        for place in by_source.values().flatten().filter(|place| is_unwanted(place.client)) {
            place.is_unwanted.set(true);
            if let Some(waker) = place.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

impl Seat {
    /// Ready once the client is no longer wanted.
    pub(super) fn poll_unwanted(&self, cx: &Context<'_>) -> Poll<()> {
        if self.place.is_unwanted.get() {
            return Poll::Ready(());
        }
        let mut waker = self.place.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_source = self.tunnels.by_source.borrow_mut();
        let source = self.place.client.ban_target();
        if let Some(places) = by_source.get_mut(&source) {
            places.retain(|place| !Rc::ptr_eq(place, &self.place));
            if places.is_empty() {
                by_source.remove(&source);
            }
        }
        self.tunnels.open.set(self.tunnels.open.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_by_client_and_in_all() {
        let tunnels = Tunnels::new(TunnelLimits { total: 3, per_source: 2 });
        let client = |text: &str| ClientAddr(text.parse().unwrap());
        let admit = |text| tunnels.admit(client(text));
        let first = admit("2001:db8::1").unwrap();
        let second = admit("2001:db8::2").unwrap();
        assert_eq!(admit("2001:db8::3").unwrap_err(), Rule::TunnelsOfSource, "of one /64");
        let third = admit("192.0.2.1").unwrap();
        assert_eq!(admit("192.0.2.2").unwrap_err(), Rule::Tunnels);
        drop(second);
        let fourth = admit("2001:db8::3").unwrap();
        let context = Context::from_waker(Waker::noop());
        tunnels.end_where(|client| client.0.is_ipv4());
        for (seat, is_unwanted) in [(&first, false), (&third, true), (&fourth, false)] {
            assert_eq!(seat.poll_unwanted(&context).is_ready(), is_unwanted);
        }
        drop((first, third, fourth));
        assert_eq!((tunnels.open.get(), tunnels.by_source.borrow().len()), (0, 0));
    }
}
