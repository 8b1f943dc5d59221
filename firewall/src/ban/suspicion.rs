//! Sources in whose name packets came that were dropped: for a while the proxy is stricter with them.
//!
//! It may be somebody else who sends them, so nothing is refused for it alone. Written by the control
//! plane, read by every worker: a table of words without a lock, of a fixed size.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::address::ClientAddr;
use crate::clock::Monotonic;

/// How long a source is suspected after the last packet that was seen of it.
pub const SUSPECTED_FOR: Duration = Duration::from_mins(1);

/// Sources at once, at most; a new one takes the place of another: 32 KiB.
const PLACES: usize = 4_096;

/// Bits of a place that say until when, in seconds; the others say of whom.
const SECONDS: u64 = (1 << 32) - 1;

/// The suspected sources: IPv4 addresses, and IPv6 /64.
///
/// Of two sources that share a place the later is remembered. One that was never seen is taken for
/// suspected once in 2³², and nobody can choose which: the hash is keyed anew with each start.
#[derive(Debug)]
pub struct Suspicion {
    places: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Default for Suspicion {
    fn default() -> Self {
        let places = std::iter::repeat_with(AtomicU64::default).take(PLACES).collect();
        Self { places, hasher: RandomState::new() }
    }
}

impl Suspicion {
    /// Suspects a source from `now` on.
    pub fn note(&self, source: ClientAddr, now: Monotonic) {
        let (place, tag) = self.find(source);
        let until = now.after(SUSPECTED_FOR).ns() / NANOSECONDS;
        if let Some(place) = place {
            place.store(tag | until & SECONDS, Ordering::Relaxed);
        }
    }

    /// Whether a source is suspected.
    pub fn holds(&self, source: ClientAddr, now: Monotonic) -> bool {
        let (place, tag) = self.find(source);
        let found = place.map_or(0, |place| place.load(Ordering::Relaxed));
        found & !SECONDS == tag && now.ns() / NANOSECONDS < found & SECONDS
    }

    /// Where a source is remembered, and as what.
    fn find(&self, source: ClientAddr) -> (Option<&AtomicU64>, u64) {
        let hash = self.hasher.hash_one(source.ban_target());
        let index = usize::try_from(hash & SECONDS).unwrap_or(0) % PLACES;
        (self.places.get(index), hash & !SECONDS)
    }
}

const NANOSECONDS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> ClientAddr {
        ClientAddr(text.parse().unwrap())
    }

    #[test]
    fn a_source_is_suspected_for_a_while() {
        let suspicion = Suspicion::default();
        let (victim, other) = (source("192.0.2.7"), source("192.0.2.8"));
        let start = Monotonic::from_ns(5_000_000_000);
        assert!(!suspicion.holds(victim, start));
        suspicion.note(victim, start);
        let last = start.after(Duration::from_secs(59));
        assert!(suspicion.holds(victim, start) && suspicion.holds(victim, last));
        assert!(!suspicion.holds(victim, start.after(SUSPECTED_FOR)));
        assert!(!suspicion.holds(other, start));
        suspicion.note(victim, last);
        assert!(suspicion.holds(victim, start.after(SUSPECTED_FOR)));
    }

    #[test]
    fn a_network_of_one_host_is_one_source() {
        let suspicion = Suspicion::default();
        let now = Monotonic::from_ns(1);
        suspicion.note(source("2001:db8:1:2:3::4"), now);
        assert!(suspicion.holds(source("2001:db8:1:2:ffff::1"), now));
        assert!(!suspicion.holds(source("2001:db8:1:3::4"), now));
    }

    #[test]
    fn more_sources_than_places_forget_the_earlier() {
        let suspicion = Suspicion::default();
        let now = Monotonic::from_ns(1);
        let address = |index: u32| ClientAddr(std::net::IpAddr::V4(index.into()));
        for index in 0..100_000 {
            suspicion.note(address(index), now);
            assert!(suspicion.holds(address(index), now), "{index}");
        }
        let held = (0..100_000).filter(|index| suspicion.holds(address(*index), now)).count();
        assert!(held <= PLACES, "{held}");
    }
}
