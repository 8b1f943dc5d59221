//! Whose packets are dropped most, by the samples that come up: a bounded ranking.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::address::ClientAddr;
use crate::kernel::Reason;

/// Sources that are told apart at most. A flood of random sources costs this much memory and no more.
pub const TALKERS_MAX: usize = 512;

/// One source in the ranking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Talker {
    pub address: IpAddr,
    /// Samples of its packets lately, an upper bound.
    pub samples: u64,
    /// How many of them may be another's, whose place it took.
    pub doubtful: u64,
    /// Why the last of its packets was dropped.
    pub reason: &'static str,
}

/// The sources with the most samples (Space-Saving; Metwally, Agrawal and El Abbadi 2005): one that
/// sends more than a 512th of all samples is always among them.
#[derive(Debug, Default)]
pub struct Talkers(HashMap<IpAddr, Place>);

#[derive(Clone, Copy, Debug)]
struct Place {
    samples: u64,
    doubtful: u64,
    reason: Reason,
}

impl Talkers {
    /// Counts one sample. IPv6 addresses are told apart by their /64.
    pub fn see(&mut self, address: IpAddr, reason: Reason) {
        let address = ClientAddr(address.to_canonical()).ban_target().addr();
        if let Some(place) = self.0.get_mut(&address) {
            place.samples += 1;
            place.reason = reason;
            return;
        }
        let mut doubtful = 0;
        if self.0.len() >= TALKERS_MAX {
            let least = self.0.iter().min_by_key(|(_, place)| place.samples);
            if let Some((address, place)) = least.map(|(address, place)| (*address, *place)) {
                self.0.remove(&address);
                doubtful = place.samples;
            }
        }
        self.0.insert(address, Place { samples: doubtful + 1, doubtful, reason });
    }

    /// Forgets half of everything, so that the ranking is of late.
    pub fn fade(&mut self) {
        self.0.retain(|_, place| {
            place.samples /= 2;
            place.doubtful /= 2;
            place.samples > 0
        });
    }

    /// The first `limit`, the busiest first.
    pub fn ranking(&self, limit: usize) -> Vec<Talker> {
        let mut ranking: Vec<_> = self.0.iter().map(talker).collect();
        ranking.sort_by_key(|talker| (std::cmp::Reverse(talker.samples), talker.address));
        ranking.truncate(limit);
        ranking
    }

    /// What was seen of this source lately.
    pub fn of(&self, address: IpAddr) -> Option<Talker> {
        let address = ClientAddr(address.to_canonical()).ban_target().addr();
        self.0.get_key_value(&address).map(talker)
    }
}

fn talker((address, place): (&IpAddr, &Place)) -> Talker {
    Talker {
        address: *address,
        samples: place.samples,
        doubtful: place.doubtful,
        reason: place.reason.id(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn v4(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn the_busiest_comes_first_and_the_last_reason_is_told() {
        let mut talkers = Talkers::default();
        for (source, reason) in [(1, Reason::T3), (2, Reason::T1), (2, Reason::T4)] {
            talkers.see(v4(source), reason);
        }
        let ranking = talkers.ranking(10);
        assert_eq!(
            ranking.iter().map(|t| (t.address, t.samples)).collect::<Vec<_>>(),
            [(v4(2), 2), (v4(1), 1)]
        );
        assert_eq!(ranking[0].reason, "T4");
        assert_eq!(talkers.ranking(1).len(), 1);
        assert_eq!(talkers.of(v4(3)), None);
    }

    #[test]
    fn a_flood_of_sources_takes_no_more_room_and_hides_no_heavy_one() {
        let mut talkers = Talkers::default();
        for n in 0..100_000 {
            talkers.see(v4(1_000 + n), Reason::T3);
            if n % 100 == 0 {
                talkers.see(v4(7), Reason::T2);
            }
            assert!(talkers.0.len() <= TALKERS_MAX);
        }
        let heavy = talkers.of(v4(7)).expect("one in a hundred is more than one in 512");
        assert!(heavy.samples >= 1_000, "{heavy:?}");
        assert!(heavy.samples - heavy.doubtful <= 1_000, "{heavy:?}");
    }

    #[test]
    fn an_ipv6_source_is_its_network() {
        let mut talkers = Talkers::default();
        talkers.see("2001:db8:1:2:3::4".parse().unwrap(), Reason::V1);
        talkers.see("2001:db8:1:2:5::6".parse().unwrap(), Reason::V1);
        assert_eq!(talkers.of("2001:db8:1:2::".parse().unwrap()).unwrap().samples, 2);
    }

    #[test]
    fn what_is_long_ago_fades() {
        let mut talkers = Talkers::default();
        for _ in 0..5 {
            talkers.see(v4(1), Reason::T3);
        }
        for left in [2, 1] {
            talkers.fade();
            assert_eq!(talkers.of(v4(1)).unwrap().samples, left);
        }
        talkers.fade();
        assert!(talkers.ranking(1).is_empty());
    }
}
