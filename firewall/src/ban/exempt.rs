//! Who is never banned, whatever is asked: the allowlist as the ban plane sees it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::prefix::{Family, bits, bounds, canonical};

/// The sources that no ban reaches: their violations are refused and counted, never scored, and a
/// range that covers them spares them.
///
/// Loopback, the host's own addresses, trusted proxies and the management allowlist are collected
/// here by whoever reads the configuration.
#[derive(Clone, Debug, Default)]
pub struct Exempt {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl Exempt {
    /// The loopback prefixes (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
    pub fn loopback() -> [IpNet; 2] {
        [
            IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
            IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
        ]
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let (family, address) = bits(address);
        self.interval_at(family, address).is_some()
    }

    /// Whether every address of a prefix is exempt, so that banning it would do nothing.
    pub fn covers(&self, net: IpNet) -> bool {
        let (family, first, last) = bounds(net);
        self.interval_at(family, first).is_some_and(|(_, end)| end >= last)
    }

    /// Whether any address of a prefix is exempt.
    pub fn meets(&self, net: IpNet) -> bool {
        let (family, first, last) = bounds(net);
        let intervals = self.of(family);
        let from = intervals.partition_point(|&(_, end)| end < first);
        intervals.get(from).is_some_and(|&(begin, _)| begin <= last)
    }

    /// A prefix without what of it is exempt, as the fewest prefixes.
    pub fn cut_out_of(&self, net: IpNet) -> Vec<IpNet> {
        let net = canonical(net);
        let (family, first, last) = bounds(net);
        let intervals = self.of(family);
        let from = intervals.partition_point(|&(_, end)| end < first);
        let meeting: Vec<(u128, u128)> =
            intervals.iter().skip(from).take_while(|&&(begin, _)| begin <= last).copied().collect();
        if meeting.is_empty() {
            return vec![net];
        }
        let mut rest = Vec::new();
        // The first address that no interval has been compared with.
        let mut rest_from = Some(first);
        for (begin, end) in meeting {
            if let Some(from) = rest_from.filter(|from| *from < begin) {
                rest.extend(subnets(family, from, begin - 1));
            }
            // The last address of all has none behind it.
            rest_from = end.checked_add(1);
        }
        if let Some(from) = rest_from.filter(|from| *from <= last) {
            rest.extend(subnets(family, from, last));
        }
        rest
    }

    const fn of(&self, family: Family) -> &Vec<(u128, u128)> {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn interval_at(&self, family: Family, address: u128) -> Option<(u128, u128)> {
        let intervals = self.of(family);
        let after = intervals.partition_point(|&(first, _)| first <= address);
        let interval = *intervals.get(after.checked_sub(1)?)?;
        (address <= interval.1).then_some(interval)
    }
}

impl FromIterator<IpNet> for Exempt {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let mut exempt = Self::default();
        for net in nets {
            let (family, first, last) = bounds(net);
            match family {
                Family::V4 => exempt.v4.push((first, last)),
                Family::V6 => exempt.v6.push((first, last)),
            }
        }
        exempt.v4 = merged(exempt.v4);
        exempt.v6 = merged(exempt.v6);
        exempt
    }
}

/// The fewest prefixes of the addresses from `first` to `last`, which are left-aligned.
fn subnets(family: Family, first: u128, last: u128) -> Vec<IpNet> {
    match family {
        Family::V4 => {
            let address =
                |bits: u128| Ipv4Addr::from(u32::try_from(bits >> 96).unwrap_or(u32::MAX));
            Ipv4Subnets::new(address(first), address(last), 0).map(IpNet::V4).collect()
        }
        Family::V6 => {
            let (first, last) = (Ipv6Addr::from(first), Ipv6Addr::from(last));
            Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
        }
    }
}

/// The intervals in order, with those joined that overlap or touch.
fn merged(mut intervals: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    intervals.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(intervals.len());
    for (first, last) in intervals {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exempt(nets: &[&str]) -> Exempt {
        nets.iter().map(|net| net.parse::<IpNet>().unwrap()).collect()
    }

    #[test]
    fn contains_to_the_last_address() {
        let exempt = exempt(&["192.0.2.0/25", "10.0.0.5/32", "2001:db8::/64"]);
        for (address, expected) in [
            ("192.0.1.255", false),
            ("192.0.2.0", true),
            ("192.0.2.127", true),
            ("192.0.2.128", false),
            ("10.0.0.4", false),
            ("10.0.0.5", true),
            ("10.0.0.6", false),
            ("::ffff:10.0.0.5", true),
            ("2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::", false),
        ] {
            assert_eq!(exempt.contains(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn covers_only_what_is_wholly_exempt() {
        // The two /25 touch and so cover their /24; a /25 and the next /26 do not.
        let exempt = exempt(&["192.0.2.0/25", "192.0.2.128/25", "10.0.0.0/25", "10.0.0.128/26"]);
        for (net, expected) in [
            ("192.0.2.0/24", true),
            ("192.0.2.64/26", true),
            ("192.0.2.0/23", false),
            ("10.0.0.0/24", false),
            ("10.0.0.160/27", true),
            ("10.0.0.192/32", false),
            ("::ffff:10.0.0.1/128", true),
            ("0.0.0.0/0", false),
        ] {
            assert_eq!(exempt.covers(net.parse().unwrap()), expected, "{net}");
        }
    }

    #[test]
    fn meets_with_one_address() {
        let exempt = exempt(&["192.0.2.128/25", "10.0.0.5/32", "2001:db8:0:1::/64"]);
        for (net, expected) in [
            ("192.0.2.0/24", true),
            ("192.0.2.0/25", false),
            ("192.0.2.255/32", true),
            ("192.0.3.0/24", false),
            ("10.0.0.4/32", false),
            ("10.0.0.4/31", true),
            ("10.0.0.6/31", false),
            ("2001:db8::/56", true),
            ("2001:db8:0:100::/56", false),
            ("0.0.0.0/0", true),
        ] {
            assert_eq!(exempt.meets(net.parse().unwrap()), expected, "{net}");
        }
    }

    #[test]
    fn what_is_exempt_is_cut_out() {
        let exempt = exempt(&["192.0.2.128/25", "192.0.2.1/32", "10.0.0.0/8", "2001:db8::1/128"]);
        for (net, rest) in [
            ("198.51.100.0/24", &["198.51.100.0/24"][..]),
            ("192.0.2.128/26", &[]),
            ("192.0.2.128/25", &[]),
            ("192.0.2.1/32", &[]),
            ("10.0.0.0/7", &["11.0.0.0/8"]),
            ("192.0.2.0/30", &["192.0.2.0/32", "192.0.2.2/31"]),
            (
                "192.0.2.64/25",
                &[
                    "192.0.2.0/32",
                    "192.0.2.2/31",
                    "192.0.2.4/30",
                    "192.0.2.8/29",
                    "192.0.2.16/28",
                    "192.0.2.32/27",
                    "192.0.2.64/26",
                ],
            ),
            ("2001:db8::/126", &["2001:db8::/128", "2001:db8::2/127"]),
            ("2001:db8::/127", &["2001:db8::/128"]),
        ] {
            let rest: Vec<IpNet> = rest.iter().map(|net| net.parse().unwrap()).collect();
            assert_eq!(exempt.cut_out_of(net.parse().unwrap()), rest, "{net}");
        }
    }

    #[test]
    fn what_is_left_and_what_is_exempt_are_the_whole() {
        let mut state = 3_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        // The last addresses of all are among them.
        for v6 in [false, true] {
            for _ in 0..100 {
                let mut net = || {
                    let octet = u8::try_from(random(256)).unwrap();
                    let length = random(9);
                    let (address, length): (IpAddr, u64) = if v6 {
                        (Ipv6Addr::from(u128::MAX - u128::from(octet)).into(), 120 + length)
                    } else {
                        (Ipv4Addr::from(u32::MAX - u32::from(octet)).into(), 24 + length)
                    };
                    IpNet::new(address, u8::try_from(length).unwrap()).unwrap().trunc()
                };
                let exempt: Exempt = [net(), net(), net()].into_iter().collect();
                let whole = net();
                let rest = exempt.cut_out_of(whole);
                for octet in 0..=255_u8 {
                    let address: IpAddr = if v6 {
                        Ipv6Addr::from(u128::MAX - u128::from(octet)).into()
                    } else {
                        Ipv4Addr::from(u32::MAX - u32::from(octet)).into()
                    };
                    let expected = whole.contains(&address) && !exempt.contains(address);
                    let found = rest.iter().filter(|net| net.contains(&address)).count();
                    assert_eq!(found, usize::from(expected), "{address} of {whole}: {rest:?}");
                }
            }
        }
    }

    #[test]
    fn everything_can_be_exempt_and_nothing_is_by_default() {
        let all = exempt(&["::/0", "0.0.0.0/0"]);
        assert!(all.contains(IpAddr::V6(Ipv6Addr::from(u128::MAX))));
        assert!(all.covers("0.0.0.0/0".parse().unwrap()));
        assert!(!Exempt::default().contains(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn loopback_is_both_families() {
        let loopback: Exempt = Exempt::loopback().into_iter().collect();
        assert!(loopback.contains("127.255.255.255".parse().unwrap()));
        assert!(loopback.contains("::1".parse().unwrap()));
        assert!(!loopback.contains("::2".parse().unwrap()));
    }
}
