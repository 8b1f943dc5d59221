//! The host's own addresses, as the program looks them up.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aya::maps::{HashMap, MapData};
use firewall_common::maps::OWN;
use firewall_common::own_bit;

use super::{Source, failed};
use crate::kernel::KernelError;

/// The addresses as the map holds them: an IPv4 address is the first four octets, before zeros.
pub(super) struct OwnAddresses {
    map: HashMap<MapData, [u8; 16], u32>,
    held: BTreeSet<[u8; 16]>,
}

impl OwnAddresses {
    /// With those that an earlier process told of, until others are told.
    pub(super) fn open(source: &mut Source<'_>) -> Result<Self, KernelError> {
        let map: HashMap<MapData, _, _> = source.open(OWN)?;
        let held = map.keys().collect::<Result<_, _>>();
        let held = held.map_err(|source| failed(OWN, "read", source))?;
        Ok(Self { map, held })
    }

    /// Holds exactly these addresses, as many as there is room for. Gives the filter of them, which
    /// lets an address through that was removed until the filter is told to the program.
    pub(super) fn set(&mut self, addresses: &[IpAddr]) -> Result<u64, KernelError> {
        let wanted: BTreeSet<[u8; 16]> =
            addresses.iter().map(octets).take(OWN.entries as usize).collect();
        for gone in self.held.difference(&wanted) {
            self.map.remove(gone).map_err(|source| failed(OWN, "lose a value", source))?;
        }
        for new in wanted.difference(&self.held) {
            self.map.insert(new, 1, 0).map_err(|source| failed(OWN, "take a value", source))?;
        }
        self.held = wanted;
        Ok(self.held.iter().fold(0, |filter, octets| filter | own_bit(words(*octets))))
    }
}

fn octets(address: &IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

fn words(octets: [u8; 16]) -> [u64; 2] {
    let (high, low) = octets.split_at(8);
    [high, low].map(|half| half.try_into().map_or(0, u64::from_ne_bytes))
}
