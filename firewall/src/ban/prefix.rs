//! Prefixes as left-aligned bits, so that both address families share one arithmetic.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// The family of an address; an IPv4-mapped IPv6 address is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The address with its first bit as the highest of 128.
pub(crate) fn bits(address: IpAddr) -> (Family, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (Family::V4, u128::from(u32::from(address)) << 96),
        IpAddr::V6(address) => (Family::V6, u128::from(address)),
    }
}

/// The first and the last address of a prefix, left-aligned; the last is filled with ones.
pub(crate) fn bounds(net: IpNet) -> (Family, u128, u128) {
    let net = canonical(net);
    let (family, first) = bits(net.network());
    (family, first, first | !mask(net.prefix_len()))
}

/// The highest `length` bits set.
pub(crate) fn mask(length: u8) -> u128 {
    128_u32
        .checked_sub(length.into())
        .map_or(u128::MAX, |low| u128::MAX.checked_shl(low).unwrap_or(0))
}

/// The one name of a prefix: host bits cleared, IPv4-mapped prefixes written as IPv4.
pub fn canonical(net: IpNet) -> IpNet {
    match net.trunc() {
        IpNet::V6(v6) => {
            let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
            match mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok()) {
                Some(v4) => IpNet::V4(v4),
                None => IpNet::V6(v6),
            }
        }
        v4 @ IpNet::V4(_) => v4,
    }
}

/// Shortest IPv4 prefix that is banned without force, and that a feed may hold.
const FLOOR_V4: u8 = 8;
/// The same of IPv6: the shortest that a registry ever gave to one organisation.
const FLOOR_V6: u8 = 19;

/// Whether a prefix is wider than anybody means it: shorter than /8, of IPv6 than /19.
pub fn is_too_wide(net: IpNet) -> bool {
    match canonical(net) {
        IpNet::V4(net) => net.prefix_len() < FLOOR_V4,
        IpNet::V6(net) => net.prefix_len() < FLOOR_V6,
    }
}

/// Whether a prefix is neither a single address nor an IPv6 /64: it lives in the table of ranges.
pub(crate) fn is_range(net: IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.prefix_len() != 32,
        IpNet::V6(net) => !matches!(net.prefix_len(), 64 | 128),
    }
}

/// Values by prefix of one family, found by any address that a prefix covers.
///
/// One hash table for each prefix length in use: a look-up costs as many probes as there are
/// lengths, which is one or two while nobody bans ranges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prefixes<V> {
    /// The longest prefix first.
    lengths: Vec<(u8, HashMap<u128, V>)>,
}

impl<V> Prefixes<V> {
    pub(crate) const fn new() -> Self {
        Self { lengths: Vec::new() }
    }

    pub(crate) fn insert(&mut self, first: u128, length: u8, value: V) {
        if let Some(table) = self.of_length(length) {
            table.insert(first, value);
        }
    }

    /// Makes room for so many more prefixes of a length.
    pub(crate) fn reserve(&mut self, length: u8, more: usize) {
        if let Some(table) = self.of_length(length) {
            table.reserve(more);
        }
    }

    fn of_length(&mut self, length: u8) -> Option<&mut HashMap<u128, V>> {
        let place = self.lengths.binary_search_by(|(known, _)| length.cmp(known));
        let place = place.unwrap_or_else(|place| {
            self.lengths.insert(place, (length, HashMap::new()));
            place
        });
        self.lengths.get_mut(place).map(|(_, table)| table)
    }

    pub(crate) fn remove(&mut self, first: u128, length: u8) {
        let Ok(place) = self.lengths.binary_search_by(|(known, _)| length.cmp(known)) else {
            return;
        };
        if let Some((_, table)) = self.lengths.get_mut(place) {
            table.remove(&first);
            if table.is_empty() {
                self.lengths.remove(place);
            }
        }
    }

    /// The prefixes that cover an address, the most specific first.
    pub(crate) fn covering(&self, address: u128) -> impl Iterator<Item = (u8, &V)> {
        self.lengths.iter().filter_map(move |(length, table)| {
            table.get(&(address & mask(*length))).map(|value| (*length, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn one_prefix_has_one_name() {
        for (written, meant) in [
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("::ffff:192.0.2.7/128", "192.0.2.7/32"),
            ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
            ("2001:db8::1/64", "2001:db8::/64"),
        ] {
            assert_eq!(canonical(net(written)), net(meant));
        }
    }

    #[test]
    fn what_is_too_wide() {
        for (written, expected) in [
            ("0.0.0.0/0", true),
            ("10.0.0.0/7", true),
            ("10.0.0.0/8", false),
            ("::/0", true),
            ("2000::/18", true),
            ("2000::/19", false),
            ("::ffff:0:0/96", true),
            ("::ffff:10.0.0.0/104", false),
        ] {
            assert_eq!(is_too_wide(net(written)), expected, "{written}");
        }
    }

    #[test]
    fn masks_at_their_ends() {
        assert_eq!(mask(0), 0);
        assert_eq!(mask(1), 1 << 127);
        assert_eq!(mask(64), u128::from(u64::MAX) << 64);
        assert_eq!(mask(127), u128::MAX - 1);
        assert_eq!(mask(128), u128::MAX);
        assert_eq!(mask(255), u128::MAX);
    }

    #[test]
    fn the_most_specific_prefix_comes_first() {
        let mut prefixes = Prefixes::new();
        for prefix in ["10.0.0.0/8", "10.1.2.3/32", "10.1.0.0/16", "0.0.0.0/0"] {
            let prefix = net(prefix);
            prefixes.insert(bits(prefix.addr()).1, prefix.prefix_len(), prefix);
        }
        let covering = |address: &str| -> Vec<u8> {
            prefixes.covering(bits(address.parse().unwrap()).1).map(|(length, _)| length).collect()
        };
        assert_eq!(covering("10.1.2.3"), [32, 16, 8, 0]);
        assert_eq!(covering("10.1.2.4"), [16, 8, 0]);
        assert_eq!(covering("10.2.0.0"), [8, 0]);
        assert_eq!(covering("11.0.0.0"), [0]);
    }

    #[test]
    fn removal_leaves_the_other_lengths() {
        let mut prefixes = Prefixes::new();
        let address = bits("10.1.2.3".parse().unwrap()).1;
        prefixes.insert(address, 32, 'a');
        prefixes.insert(address & mask(8), 8, 'b');
        prefixes.remove(address, 32);
        prefixes.remove(address, 32);
        assert_eq!(prefixes.covering(address).collect::<Vec<_>>(), [(8, &'b')]);
        assert_eq!(prefixes.lengths.len(), 1);
    }
}
