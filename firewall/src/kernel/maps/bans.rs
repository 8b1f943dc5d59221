//! The five maps of bans, told apart by the target's prefix length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, MapData, MapError};
use firewall_common::maps::{BAN4, BAN6, BAN6_NETWORK, Map as Declared, RANGE4, RANGE6};
use firewall_common::{Ban, table};
use ipnet::IpNet;

use super::{failed, open, write_error};
use crate::kernel::KernelError;

/// The table that holds the bans of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Ban4(Ipv4Addr),
    Network6(Ipv6Addr),
    Ban6(Ipv6Addr),
    Range4(Ipv4Addr, u8),
    Range6(Ipv6Addr, u8),
}

impl Table {
    pub(super) fn of(target: IpNet) -> Self {
        match (target.addr(), target.prefix_len()) {
            (IpAddr::V4(address), 32) => Self::Ban4(address),
            (IpAddr::V4(address), length) => Self::Range4(address, length),
            (IpAddr::V6(address), 64) => Self::Network6(address),
            (IpAddr::V6(address), 128) => Self::Ban6(address),
            (IpAddr::V6(address), length) => Self::Range6(address, length),
        }
    }

    const fn declared(self) -> Declared {
        match self {
            Self::Ban4(_) => BAN4,
            Self::Network6(_) => BAN6_NETWORK,
            Self::Ban6(_) => BAN6,
            Self::Range4(..) => RANGE4,
            Self::Range6(..) => RANGE6,
        }
    }

    pub(super) const fn bit(self) -> u32 {
        match self {
            Self::Ban4(_) => table::BAN4,
            Self::Network6(_) => table::BAN6_NETWORK,
            Self::Ban6(_) => table::BAN6,
            Self::Range4(..) => table::RANGE4,
            Self::Range6(..) => table::RANGE6,
        }
    }

    pub(super) const fn is_range(self) -> bool {
        matches!(self, Self::Range4(..) | Self::Range6(..))
    }
}

/// The five maps of bans.
pub(super) struct BanMaps {
    ban4: HashMap<MapData, [u8; 4], Ban>,
    ban6_network: HashMap<MapData, [u8; 8], Ban>,
    ban6: HashMap<MapData, [u8; 16], Ban>,
    range4: LpmTrie<MapData, [u8; 4], Ban>,
    range6: LpmTrie<MapData, [u8; 16], Ban>,
}

impl BanMaps {
    pub(super) fn open(program: &mut Ebpf) -> Result<Self, KernelError> {
        Ok(Self {
            ban4: open(program, BAN4)?,
            ban6_network: open(program, BAN6_NETWORK)?,
            ban6: open(program, BAN6)?,
            range4: open(program, RANGE4)?,
            range6: open(program, RANGE6)?,
        })
    }

    /// The entry of `target`; for a range that has none, the entry of the range around it.
    pub(super) fn get(&self, target: IpNet) -> Result<Option<Ban>, KernelError> {
        let table = Table::of(target);
        let found = match table {
            Table::Ban4(address) => self.ban4.get(&address.octets(), 0),
            Table::Network6(address) => self.ban6_network.get(&network(address), 0),
            Table::Ban6(address) => self.ban6.get(&address.octets(), 0),
            Table::Range4(address, length) => {
                self.range4.get(&Key::new(u32::from(length), address.octets()), 0)
            }
            Table::Range6(address, length) => {
                self.range6.get(&Key::new(u32::from(length), address.octets()), 0)
            }
        };
        absent_is_none(table.declared(), found)
    }

    pub(super) fn put(&mut self, target: IpNet, ban: Ban) -> Result<(), KernelError> {
        let table = Table::of(target);
        let written = match table {
            Table::Ban4(address) => self.ban4.insert(address.octets(), ban, 0),
            Table::Network6(address) => self.ban6_network.insert(network(address), ban, 0),
            Table::Ban6(address) => self.ban6.insert(address.octets(), ban, 0),
            Table::Range4(address, length) => {
                self.range4.insert(&Key::new(u32::from(length), address.octets()), ban, 0)
            }
            Table::Range6(address, length) => {
                self.range6.insert(&Key::new(u32::from(length), address.octets()), ban, 0)
            }
        };
        written.map_err(|source| write_error(table.declared(), target, source))
    }

    /// Whether there was an entry of exactly `target`.
    pub(super) fn remove(&mut self, target: IpNet) -> Result<bool, KernelError> {
        let table = Table::of(target);
        let removed = match table {
            Table::Ban4(address) => self.ban4.remove(&address.octets()),
            Table::Network6(address) => self.ban6_network.remove(&network(address)),
            Table::Ban6(address) => self.ban6.remove(&address.octets()),
            Table::Range4(address, length) => {
                self.range4.remove(&Key::new(u32::from(length), address.octets()))
            }
            Table::Range6(address, length) => {
                self.range6.remove(&Key::new(u32::from(length), address.octets()))
            }
        };
        Ok(absent_is_none(table.declared(), removed)?.is_some())
    }

    pub(super) fn all(&self) -> Result<Vec<(IpNet, Ban)>, KernelError> {
        let mut bans = Vec::new();
        for entry in &self.ban4 {
            let (octets, ban) = entry.map_err(|source| failed(BAN4, "read", source))?;
            bans.push((IpNet::from(IpAddr::from(octets)), ban));
        }
        for entry in &self.ban6_network {
            let (octets, ban) = entry.map_err(|source| failed(BAN6_NETWORK, "read", source))?;
            let address = Ipv6Addr::from(u128::from(u64::from_be_bytes(octets)) << 64);
            bans.push((IpNet::new_assert(address.into(), 64), ban));
        }
        for entry in &self.ban6 {
            let (octets, ban) = entry.map_err(|source| failed(BAN6, "read", source))?;
            bans.push((IpNet::from(IpAddr::from(octets)), ban));
        }
        for entry in &self.range4 {
            let (key, ban) = entry.map_err(|source| failed(RANGE4, "read", source))?;
            bans.extend(range(key.data().into(), key.prefix_len()).map(|range| (range, ban)));
        }
        for entry in &self.range6 {
            let (key, ban) = entry.map_err(|source| failed(RANGE6, "read", source))?;
            bans.extend(range(key.data().into(), key.prefix_len()).map(|range| (range, ban)));
        }
        Ok(bans)
    }
}

fn network(address: Ipv6Addr) -> [u8; 8] {
    address.octets().first_chunk().copied().unwrap_or_default()
}

fn range(address: IpAddr, length: u32) -> Option<IpNet> {
    IpNet::new(address, u8::try_from(length).ok()?).ok()
}

fn absent_is_none<V>(
    declared: Declared,
    found: Result<V, MapError>,
) -> Result<Option<V>, KernelError> {
    const ENOENT: i32 = 2;
    match found {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(ENOENT) => {
            Ok(None)
        }
        Err(source) => Err(failed(declared, "read", source)),
    }
}
