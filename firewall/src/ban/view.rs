//! One worker's copy of the bans, asked on the request path: no lock, no system call, no sharing.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::exempt::Exempt;
use super::prefix::{Family, Prefixes, bits, bounds, canonical};
use super::record::{BanChange, ChangeKind};
use crate::clock::Monotonic;

/// The bans as one worker sees them: what the keeper's ledger held at the last change.
#[derive(Debug)]
pub struct BanView {
    exempt: Arc<Exempt>,
    v4: Prefixes<Monotonic>,
    v6: Prefixes<Monotonic>,
}

/// The ban that covers an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BannedBy {
    pub target: IpNet,
    pub until: Monotonic,
}

impl BanView {
    pub const fn new(exempt: Arc<Exempt>) -> Self {
        Self { exempt, v4: Prefixes::new(), v6: Prefixes::new() }
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
        for change in snapshot {
            self.apply(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
