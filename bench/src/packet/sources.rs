//! Whom packets come from: addresses and ranges at random, repeatable from a seed.

mod v6;

use std::collections::HashSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

pub(crate) use v6::Ranges6;

use crate::order::Order;

/// How many sources a run of packets goes through before they come again.
pub(crate) const KEYS: usize = 1 << 20;

/// The sources of a run of packets.
pub(crate) enum Keys {
    V4(Vec<[u8; 4]>),
    V6(Vec<[u8; 16]>),
}

/// Share in per mille of each prefix length in [`Ranges::random`]: roughly what a full BGP table
/// holds, and single addresses among it as threat feeds do.
const LENGTHS: [(u8, u64); 10] = [
    (24, 700),
    (32, 150),
    (22, 46),
    (23, 42),
    (21, 21),
    (20, 18),
    (19, 9),
    (18, 6),
    (16, 5),
    (17, 3),
];

/// Networks whose addresses some check or routing rule treats apart, by their first octet: private,
/// loopback, link-local, documentation and the like.
const APART: [u8; 9] = [10, 100, 127, 169, 172, 192, 198, 203, 0];

/// An address that may send to anybody on the internet.
fn address(order: &mut Order) -> u32 {
    loop {
        let bits = u32::try_from(order.next() >> 32).unwrap_or_default();
        let [first, ..] = bits.to_be_bytes();
        if first < 224 && !APART.contains(&first) {
            return bits;
        }
    }
}

/// Single addresses, each once, and as many that are not among them.
pub(crate) struct Singles {
    pub(crate) addresses: Vec<Ipv4Addr>,
    held: HashSet<u32>,
}

impl Singles {
    pub(crate) fn random(count: usize, order: &mut Order) -> Self {
        let mut held = HashSet::with_capacity(count);
        let mut addresses = Vec::with_capacity(count);
        while addresses.len() < count {
            let bits = address(order);
            if held.insert(bits) {
                addresses.push(Ipv4Addr::from_bits(bits));
            }
        }
        Self { addresses, held }
    }

    /// `count` of them in random order.
    pub(crate) fn hits(&self, count: usize, order: &mut Order) -> Vec<[u8; 4]> {
        (0..count).filter_map(|_| Some(pick(&self.addresses, order)?.octets())).collect()
    }

    /// `count` addresses that are none of them.
    pub(crate) fn misses(&self, count: usize, order: &mut Order) -> Vec<[u8; 4]> {
        outside(count, order, |bits| self.held.contains(&bits))
    }
}

/// Ranges of addresses, each once.
pub(crate) struct Ranges {
    pub(crate) networks: Vec<Ipv4Net>,
    /// First and last address of what they cover together, ascending, without overlaps.
    covered: Vec<(u32, u32)>,
}

impl Ranges {
    pub(crate) fn random(count: usize, order: &mut Order) -> Self {
        let mut seen = HashSet::with_capacity(count);
        let mut networks = Vec::with_capacity(count);
        while networks.len() < count {
            let address = Ipv4Addr::from_bits(address(order));
            let network = Ipv4Net::new_assert(address, length(order)).trunc();
            if seen.insert(network) {
                networks.push(network);
            }
        }
        let covered = merged(&networks);
        Self { networks, covered }
    }

    fn holds(&self, bits: u32) -> bool {
        let after = self.covered.partition_point(|(first, _)| *first <= bits);
        let before = after.checked_sub(1).and_then(|index| self.covered.get(index));
        before.is_some_and(|(_, last)| bits <= *last)
    }

    /// `count` addresses within them, each range as likely as any other.
    pub(crate) fn hits(&self, count: usize, order: &mut Order) -> Vec<[u8; 4]> {
        let within = |network: &Ipv4Net, order: &mut Order| {
            let host = u32::try_from(order.next() >> 32).unwrap_or_default();
            (network.addr().to_bits() | host & network.hostmask().to_bits()).to_be_bytes()
        };
        (0..count).filter_map(|_| Some(within(pick(&self.networks, order)?, order))).collect()
    }

    /// `count` addresses outside of them.
    pub(crate) fn misses(&self, count: usize, order: &mut Order) -> Vec<[u8; 4]> {
        outside(count, order, |bits| self.holds(bits))
    }
}

fn outside(count: usize, order: &mut Order, is_inside: impl Fn(u32) -> bool) -> Vec<[u8; 4]> {
    std::iter::repeat_with(|| address(order))
        .filter(|bits| !is_inside(*bits))
        .take(count)
        .map(u32::to_be_bytes)
        .collect()
}

fn pick<'a, T>(from: &'a [T], order: &mut Order) -> Option<&'a T> {
    let random = usize::try_from(order.next() >> 33).ok()?;
    from.get(random % from.len().max(1))
}

fn length(order: &mut Order) -> u8 {
    let mut drawn = order.next() % 1000;
    for (length, share) in LENGTHS {
        if drawn < share {
            return length;
        }
        drawn -= share;
    }
    24
}

fn merged(networks: &[Ipv4Net]) -> Vec<(u32, u32)> {
    let mut sorted: Vec<(u32, u32)> = networks
        .iter()
        .map(|network| (network.network().to_bits(), network.broadcast().to_bits()))
        .collect();
    sorted.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::new();
    for (first, last) in sorted {
        match merged.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singles_are_held_and_misses_are_not() {
        let order = &mut Order::seeded(1);
        let singles = Singles::random(1000, order);
        let held: HashSet<_> = singles.addresses.iter().map(Ipv4Addr::octets).collect();
        assert_eq!(held.len(), 1000);
        let hits = singles.hits(3000, order);
        assert_eq!(hits.len(), 3000);
        assert!(hits.iter().all(|key| held.contains(key)));
        let misses = singles.misses(3000, order);
        assert_eq!(misses.len(), 3000);
        assert!(misses.iter().all(|key| !held.contains(key)));
        assert!(misses.iter().all(|[first, ..]| *first < 224 && !APART.contains(first)));
    }

    #[test]
    fn ranges_hold_their_hits_and_not_their_misses() {
        let order = &mut Order::seeded(2);
        let ranges = Ranges::random(500, order);
        let holds = |key: &[u8; 4]| {
            ranges.networks.iter().any(|network| network.contains(&Ipv4Addr::from(*key)))
        };
        assert!(ranges.hits(2000, order).iter().all(holds));
        assert!(!ranges.misses(2000, order).iter().any(holds));
    }

    #[test]
    fn shares_of_the_lengths_add_up() {
        assert_eq!(LENGTHS.iter().map(|(_, share)| share).sum::<u64>(), 1000);
    }

    #[test]
    fn what_overlaps_is_merged() {
        let networks = ["10.0.0.0/24", "10.0.0.7/32", "10.0.2.0/24", "10.0.0.0/23"];
        let networks = networks.map(|network| network.parse().expect("a network"));
        let bits = |text: &str| text.parse::<Ipv4Addr>().expect("an address").to_bits();
        let expected = [("10.0.0.0", "10.0.1.255"), ("10.0.2.0", "10.0.2.255")];
        assert_eq!(merged(&networks), expected.map(|(first, last)| (bits(first), bits(last))));
    }
}
