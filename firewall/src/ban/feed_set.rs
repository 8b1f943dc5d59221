//! Every address that a feed lists, as the workers ask for it: immutable, replaced whole.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::prefix::{Family, bounds};

/// Addresses as sorted intervals that neither overlap nor touch: a look-up is one binary search.
#[derive(Clone, Debug, Default)]
pub struct Intervals {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Intervals {
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.v4, u32::from(address)),
            IpAddr::V6(address) => holds(&self.v6, u128::from(address)),
        }
    }

    /// Whether every address of a prefix is among them.
    pub fn covers(&self, net: IpNet) -> bool {
        let (family, first, last) = bounds(net);
        match family {
            Family::V4 => spans(&self.v4, high(first), high(last)),
            Family::V6 => spans(&self.v6, first, last),
        }
    }

    fn union<'a>(parts: impl Iterator<Item = &'a Self> + Clone) -> Self {
        Self {
            v4: merged(parts.clone().flat_map(|part| part.v4.iter().copied()).collect()),
            v6: merged(parts.flat_map(|part| part.v6.iter().copied()).collect()),
        }
    }
}

impl<'a> FromIterator<&'a IpNet> for Intervals {
    fn from_iter<I: IntoIterator<Item = &'a IpNet>>(nets: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for &net in nets {
            let (family, first, last) = bounds(net);
            match family {
                // Both are left-aligned: the lower 96 bits are nothing of an IPv4 address.
                Family::V4 => v4.push((high(first), high(last))),
                Family::V6 => v6.push((first, last)),
            }
        }
        Self { v4: merged(v4), v6: merged(v6) }
    }
}

fn high(bits: u128) -> u32 {
    u32::try_from(bits >> 96).unwrap_or(u32::MAX)
}

fn holds<T: Ord + Copy>(intervals: &[(T, T)], address: T) -> bool {
    spans(intervals, address, address)
}

/// Whether one of the intervals reaches from `first` to `last`.
fn spans<T: Ord + Copy>(intervals: &[(T, T)], first: T, last: T) -> bool {
    let after = intervals.partition_point(|&(begin, _)| begin <= first);
    let before = after.checked_sub(1).and_then(|place| intervals.get(place));
    before.is_some_and(|&(_, end)| last <= end)
}

/// An integer that has a next one.
trait Next: Ord + Copy {
    /// The next one, or the last itself.
    fn next(self) -> Self;
}

impl Next for u32 {
    fn next(self) -> Self {
        self.saturating_add(1)
    }
}

impl Next for u128 {
    fn next(self) -> Self {
        self.saturating_add(1)
    }
}

fn merged<T: Next>(mut intervals: Vec<(T, T)>) -> Box<[(T, T)]> {
    intervals.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(intervals.len());
    for (first, last) in intervals {
        match joined.last_mut() {
            Some(before) if first <= before.1.next() => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined.into()
}

/// What one feed lists.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The feed.
    pub name: Arc<str>,
    /// Who is listed is let pass, and counted.
    pub is_observed: bool,
    pub addresses: Arc<Intervals>,
}

/// All feeds.
#[derive(Clone, Debug, Default)]
pub struct FeedSet {
    /// Those that are enforced before those that are observed.
    feeds: Vec<Listed>,
    /// All of them: nearly everybody is in none, and costs one search.
    any: Intervals,
}

impl FeedSet {
    /// In the order of the configuration, which decides where several feeds list an address; a feed
    /// that is enforced goes before all that are only observed.
    pub fn new(mut feeds: Vec<Listed>) -> Self {
        feeds.sort_by_key(|feed| feed.is_observed);
        let any = Intervals::union(feeds.iter().map(|feed| &*feed.addresses));
        Self { feeds, any }
    }

    /// The feed that lists an address.
    pub fn find(&self, address: IpAddr) -> Option<&Listed> {
        if !self.any.contains(address) {
            return None;
        }
        self.feeds.iter().find(|feed| feed.addresses.contains(address))
    }

    /// Every feed that lists an address.
    pub fn all(&self, address: IpAddr) -> impl Iterator<Item = &Listed> {
        self.feeds.iter().filter(move |feed| feed.addresses.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ban::prefix::bits;

    fn listed(name: &str, is_observed: bool, nets: &[&str]) -> Listed {
        let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
        Listed { name: name.into(), is_observed, addresses: Arc::new(nets.iter().collect()) }
    }

    #[test]
    fn addresses_at_the_ends_of_intervals() {
        let set = FeedSet::new(vec![
            listed("watch", true, &["192.0.2.0/24", "2001:db8::/33"]),
            listed("drop", false, &["192.0.2.128/25", "192.0.3.0/25", "255.255.255.255/32"]),
            listed("more", false, &["192.0.2.200/32", "2001:db8::/32", "ffff::/16"]),
        ]);
        for (address, name) in [
            ("192.0.1.255", None),
            ("192.0.2.0", Some("watch")),
            ("192.0.2.127", Some("watch")),
            ("192.0.2.128", Some("drop")),
            ("192.0.2.200", Some("drop")),
            ("192.0.3.127", Some("drop")),
            ("192.0.3.128", None),
            ("::ffff:192.0.3.1", Some("drop")),
            ("255.255.255.255", Some("drop")),
            ("255.255.255.254", None),
            ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", None),
            ("2001:db8::", Some("more")),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Some("more")),
            ("2001:db9::", None),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some("more")),
        ] {
            let found = set.find(address.parse().unwrap());
            assert_eq!(found.map(|feed| &*feed.name), name, "{address}");
        }
        let all: Vec<&str> =
            set.all("192.0.2.200".parse().unwrap()).map(|feed| &*feed.name).collect();
        assert_eq!(all, ["drop", "more", "watch"]);
    }

    #[test]
    fn an_empty_set_lists_nobody() {
        assert!(FeedSet::default().find(IpAddr::from([0, 0, 0, 0])).is_none());
        let set = FeedSet::new(vec![listed("none", false, &[])]);
        assert!(set.find("::".parse().unwrap()).is_none());
    }

    #[test]
    fn look_ups_agree_with_the_prefixes_themselves() {
        // Small prefixes over a small space, so that neighbours meet.
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let nets: Vec<IpNet> = (0..random(12))
                .map(|_| {
                    let octet = u8::try_from(random(256)).unwrap();
                    let length = u8::try_from(24 + random(9)).unwrap();
                    IpNet::new([10, 0, 0, octet].into(), length).unwrap().trunc()
                })
                .collect();
            let intervals: Intervals = nets.iter().collect();
            for octet in 0..=255 {
                let address = IpAddr::from([10, 0, 0, octet]);
                let expected = nets.iter().any(|net| net.contains(&address));
                assert_eq!(intervals.contains(address), expected, "{address} in {nets:?}");
            }
        }
    }

    #[test]
    fn bits_of_ipv4_are_the_highest() {
        let (_, address) = bits("192.0.2.1".parse().unwrap());
        assert_eq!(high(address), u32::from_be_bytes([192, 0, 2, 1]));
    }
}
