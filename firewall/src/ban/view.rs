//! One worker's copy of the bans, asked on the request path: no lock, no system call, no sharing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::exempt::Exempt;
use super::prefix::{Family, Prefixes, bits, bounds, canonical};
use super::record::{BanChange, ChangeKind};
use super::shared::Shared;
use crate::clock::Monotonic;

/// The bans as one worker sees them: what the keeper's ledger held at the last change.
#[derive(Clone, Debug)]
pub struct BanView {
    exempt: Arc<Exempt>,
    shared: Arc<Shared>,
    v4: Prefixes<Monotonic>,
    v6: Prefixes<Monotonic>,
}

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwanted {
    Banned(BannedBy),
    /// The named feed lists it.
    Listed {
        feed: Arc<str>,
        is_observed: bool,
    },
}

/// The ban that covers an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BannedBy {
    pub target: IpNet,
    pub until: Monotonic,
}

impl BanView {
    pub fn new(exempt: Arc<Exempt>) -> Self {
        let shared = Arc::default();
        Self { exempt, shared, v4: Prefixes::new(), v6: Prefixes::new() }
    }

    /// The same view, which sees the feeds too.
    #[must_use]
    pub fn sharing(self, shared: Arc<Shared>) -> Self {
        Self { shared, ..self }
    }

    /// The ban that covers an address, or else the feed that lists it; the allowlist wins, and
    /// nobody is unwanted while everything is to pass.
    pub fn unwanted(&self, address: IpAddr, clock: impl FnOnce() -> Monotonic) -> Option<Unwanted> {
        if self.shared.passes_all() {
            return None;
        }
        if let Some(ban) = self.is_banned(address, clock) {
            return Some(Unwanted::Banned(ban));
        }
        let feeds = self.shared.feeds();
        let listed = feeds.find(address).filter(|_| !self.exempt.contains(address))?;
        Some(Unwanted::Listed { feed: Arc::clone(&listed.name), is_observed: listed.is_observed })
    }

    /// Whether an address may not even connect.
    pub fn refuses(&self, address: IpAddr, clock: impl FnOnce() -> Monotonic) -> bool {
        match self.unwanted(address, clock) {
            None | Some(Unwanted::Listed { is_observed: true, .. }) => false,
            Some(Unwanted::Banned(_) | Unwanted::Listed { .. }) => true,
        }
    }

    /// The most specific ban that covers an address and holds. The clock is read only if there is
    /// one to compare; the allowlist wins.
    pub fn is_banned(
        &self,
        address: IpAddr,
        clock: impl FnOnce() -> Monotonic,
    ) -> Option<BannedBy> {
        let (family, address_bits) = bits(address);
        let table = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        let mut covering = table.covering(address_bits).peekable();
        covering.peek()?;
        let now = clock();
        let (length, &until) = covering.find(|&(_, &until)| until > now)?;
        if self.exempt.contains(address) {
            return None;
        }
        let target = IpNet::new(address.to_canonical(), length).ok()?.trunc();
        Some(BannedBy { target, until })
    }

    pub fn apply(&mut self, change: &BanChange) {
        let (family, first, _) = bounds(change.target);
        let length = canonical(change.target).prefix_len();
        let table = match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        match change.kind {
            ChangeKind::Set { until } => table.insert(first, length, until),
            ChangeKind::Lift { .. } => table.remove(first, length),
        }
    }

    /// Forgets what it held and takes every change of a snapshot.
    pub fn replace(&mut self, snapshot: &[BanChange]) {
        (self.v4, self.v6) = (Prefixes::new(), Prefixes::new());
        let mut lengths = BTreeMap::<(bool, u8), usize>::new();
        for change in snapshot {
            let target = canonical(change.target);
            *lengths.entry((target.addr().is_ipv4(), target.prefix_len())).or_default() += 1;
        }
        for ((is_v4, length), count) in lengths {
            if is_v4 { &mut self.v4 } else { &mut self.v6 }.reserve(length, count);
        }
        for change in snapshot {
            self.apply(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ban::feed_set::{FeedSet, Listed};
    use crate::ban::record::{LiftCause, Planes};

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_ns(seconds * 1_000_000_000)
    }

    fn set(target: &str, until: u64) -> BanChange {
        let kind = ChangeKind::Set { until: at(until) };
        BanChange { target: target.parse().unwrap(), planes: Planes::Both, kind }
    }

    fn lift(target: &str) -> BanChange {
        BanChange { kind: ChangeKind::Lift { cause: LiftCause::Expired }, ..set(target, 0) }
    }

    #[track_caller]
    fn assert_banned(view: &BanView, now: u64, address: &str, by: Option<&str>) {
        let found = view.is_banned(address.parse().unwrap(), || at(now));
        assert_eq!(
            found.map(|found| found.target.to_string()).as_deref(),
            by,
            "{address} at {now}"
        );
    }

    #[test]
    fn the_most_specific_ban_that_holds_answers() {
        let exempt = ["192.0.2.9/32".parse().unwrap()].into_iter().collect();
        let mut view = BanView::new(Arc::new(exempt));
        for change in [
            set("192.0.2.7/32", 10),
            set("192.0.2.0/24", 20),
            set("2001:db8::/64", 10),
            set("2001:db8:0:1::1/128", 10),
            set("2001:db8::/32", 5),
        ] {
            view.apply(&change);
        }
        for (now, address, by) in [
            (0, "192.0.2.7", Some("192.0.2.7/32")),
            (9, "192.0.2.7", Some("192.0.2.7/32")),
            (10, "192.0.2.7", Some("192.0.2.0/24")),
            (20, "192.0.2.7", None),
            (0, "192.0.2.8", Some("192.0.2.0/24")),
            (0, "::ffff:192.0.2.8", Some("192.0.2.0/24")),
            (0, "192.0.2.9", None),
            (0, "192.0.3.0", None),
            (6, "2001:db8::ffff", Some("2001:db8::/64")),
            (6, "2001:db8:0:1::1", Some("2001:db8:0:1::1/128")),
            (4, "2001:db8:0:1::2", Some("2001:db8::/32")),
            (5, "2001:db8:0:1::2", None),
        ] {
            assert_banned(&view, now, address, by);
        }
        view.apply(&lift("192.0.2.0/24"));
        assert_banned(&view, 0, "192.0.2.8", None);
        assert_banned(&view, 0, "192.0.2.7", Some("192.0.2.7/32"));
    }

    #[test]
    fn the_clock_is_read_only_on_a_hit() {
        let mut view = BanView::new(Arc::default());
        view.apply(&set("192.0.2.7/32", 10));
        let mut reads = 0;
        let mut ask = |address: &str| {
            view.is_banned(address.parse().unwrap(), || {
                reads += 1;
                at(0)
            })
            .is_some()
        };
        assert!(!ask("192.0.2.8"));
        assert!(!ask("2001:db8::1"));
        assert!(ask("192.0.2.7"));
        assert_eq!(reads, 1);
    }

    #[test]
    fn nobody_bans_or_lists_the_allowlist() {
        let mut state = 11_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut net = move || -> IpNet {
            let octet = u8::try_from(random(256)).unwrap();
            if random(2) == 0 {
                let length = u8::try_from(random(33)).unwrap();
                return IpNet::new([192, 0, 2, octet].into(), length).unwrap().trunc();
            }
            let length = u8::try_from(random(129)).unwrap();
            let address = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, octet.into()]);
            IpNet::new(address, length).unwrap().trunc()
        };
        let (mut refused, mut passed) = (0, 0);
        for _ in 0..300 {
            let allowed = [net(), net()].map(|net| match net {
                // The allowlist is of hosts and their networks; else nobody is left to be refused.
                IpNet::V4(net) => IpNet::new(net.addr().into(), net.prefix_len().max(28)),
                IpNet::V6(net) => IpNet::new(net.addr().into(), net.prefix_len().max(124)),
            });
            let allowed = allowed.map(|net| net.unwrap().trunc());
            let exempt: Arc<Exempt> = Arc::new(allowed.into_iter().collect());
            let shared = Arc::<Shared>::default();
            let mut view = BanView::new(Arc::clone(&exempt)).sharing(Arc::clone(&shared));
            let bans = [net(), net(), net()];
            for ban in bans {
                view.apply(&set(&ban.to_string(), 10));
            }
            // Not cut: the view must hold even against a feed that nobody has screened.
            let listed = [net(), net(), net()];
            let addresses = Arc::new(listed.iter().collect());
            let feed = Listed { name: "feed".into(), is_observed: false, addresses };
            shared.replace_feeds(FeedSet::new(vec![feed]));
            for octet in 0..=255 {
                for address in [
                    IpAddr::from([192, 0, 2, octet]),
                    IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(octet)]),
                ] {
                    let is_hit = bans.iter().chain(&listed).any(|target| target.contains(&address));
                    let expected = is_hit && !exempt.contains(address);
                    assert_eq!(view.refuses(address, || at(0)), expected, "{address}: {allowed:?}");
                    refused += usize::from(expected);
                    passed += usize::from(is_hit && !expected);
                    shared.pass_all(true);
                    assert!(!view.refuses(address, || at(0)), "everything passes");
                    shared.pass_all(false);
                }
            }
        }
        assert!(refused > 10_000 && passed > 1_000, "{refused} and {passed} are no test");
    }

    #[test]
    fn a_snapshot_leaves_nothing_of_before() {
        let mut view = BanView::new(Arc::default());
        view.apply(&set("192.0.2.7/32", 10));
        view.apply(&set("2001:db8::/64", 10));
        view.replace(&[set("192.0.2.8/32", 10)]);
        assert_banned(&view, 0, "192.0.2.7", None);
        assert_banned(&view, 0, "2001:db8::1", None);
        assert_banned(&view, 0, "192.0.2.8", Some("192.0.2.8/32"));
    }
}
