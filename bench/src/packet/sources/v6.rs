//! IPv6 ranges as they are handed out: some networks hold many, most hold none.

use std::collections::HashSet;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::pick;
use crate::order::Order;

/// Share in per mille of each prefix length.
const LENGTHS: [(u8, u64); 5] = [(64, 450), (48, 250), (56, 150), (128, 148), (32, 2)];

/// Ranges in one allocation.
const PER_ALLOCATION: usize = 50;

/// Ranges of addresses, each once, and the /32 networks that they lie in.
pub(crate) struct Ranges6 {
    pub(crate) networks: Vec<Ipv6Net>,
    allocations: Vec<u128>,
    held: HashSet<Ipv6Net>,
}

impl Ranges6 {
    pub(crate) fn random(count: usize, order: &mut Order) -> Self {
        let allocations: Vec<u128> =
            (0..count.div_ceil(PER_ALLOCATION)).map(|_| allocation(order)).collect();
        let mut held = HashSet::with_capacity(count);
        let mut networks = Vec::with_capacity(count);
        while networks.len() < count {
            let address = within(&allocations, order);
            let network = Ipv6Net::new_assert(Ipv6Addr::from_bits(address), length(order)).trunc();
            if held.insert(network) {
                networks.push(network);
            }
        }
        Self { networks, allocations, held }
    }

    /// `count` addresses within them, each range as likely as any other.
    pub(crate) fn hits(&self, count: usize, order: &mut Order) -> Vec<[u8; 16]> {
        let within = |network: &Ipv6Net, order: &mut Order| {
            (network.addr().to_bits() | bits(order) & network.hostmask().to_bits()).to_be_bytes()
        };
        (0..count).filter_map(|_| Some(within(pick(&self.networks, order)?, order))).collect()
    }

    /// `count` addresses beside them, in the same /32 networks.
    pub(crate) fn misses(&self, count: usize, order: &mut Order) -> Vec<[u8; 16]> {
        std::iter::repeat_with(|| within(&self.allocations, order))
            .filter(|bits| !self.holds(*bits))
            .take(count)
            .map(u128::to_be_bytes)
            .collect()
    }

    fn holds(&self, bits: u128) -> bool {
        LENGTHS.iter().any(|(length, _)| {
            self.held.contains(&Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), *length).trunc())
        })
    }
}

/// A /32 of the global unicast addresses, `2000::/3`, apart from `2001::/16`, which holds special ones.
fn allocation(order: &mut Order) -> u128 {
    loop {
        let network = bits(order) >> 99 | 0x2000_0000;
        if network >> 16 != 0x2001 {
            return network << 96;
        }
    }
}

fn within(allocations: &[u128], order: &mut Order) -> u128 {
    let network = pick(allocations, order).copied().unwrap_or_default();
    network | bits(order) >> 32
}

fn bits(order: &mut Order) -> u128 {
    u128::from(order.next()) << 64 | u128::from(order.next())
}

fn length(order: &mut Order) -> u8 {
    let mut drawn = order.next() % 1000;
    for (length, share) in LENGTHS {
        if drawn < share {
            return length;
        }
        drawn -= share;
    }
    64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_hits_and_not_their_misses() {
        let order = &mut Order::seeded(4);
        let ranges = Ranges6::random(500, order);
        assert_eq!(ranges.networks.len(), 500);
        let global: Ipv6Net = "2000::/3".parse().expect("a network");
        assert!(ranges.networks.iter().all(|network| global.contains(network)));
        let holds = |key: &[u8; 16]| {
            ranges.networks.iter().any(|network| network.contains(&Ipv6Addr::from(*key)))
        };
        assert!(ranges.hits(2000, order).iter().all(holds));
        assert!(!ranges.misses(2000, order).iter().any(holds));
    }

    #[test]
    fn shares_of_the_lengths_add_up() {
        assert_eq!(LENGTHS.iter().map(|(_, share)| share).sum::<u64>(), 1000);
    }
}
