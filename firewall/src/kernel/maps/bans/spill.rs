//! The tries: they ban what no table takes, each entry at the price of a system call.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use firewall_common::lines::Found;
use firewall_common::maps::{Map as Declared, SPILL4, SPILL6};
use ipnet::IpNet;

use super::{Source, failed, write_error};
use crate::kernel::KernelError;

/// Both tries, and which bans they hold.
pub(super) struct Spill {
    pub(super) v4: LpmTrie<MapData, [u8; 4], u64>,
    pub(super) v6: LpmTrie<MapData, [u8; 16], u64>,
    held: BTreeSet<IpNet>,
}

impl Spill {
    /// Opens the tries as an earlier process has left them. An entry that is none of `bans`, or is of
    /// another owner, is a ban's that has ended, and goes.
    pub(super) fn open(
        source: &mut Source<'_>,
        bans: &BTreeMap<IpNet, u32>,
    ) -> Result<Self, KernelError> {
        let (v4, v6) = (source.open(SPILL4)?, source.open(SPILL6)?);
        let mut spill = Self { v4, v6, held: BTreeSet::new() };
        for (target, value) in spill.entries()? {
            if bans.get(&target).is_some_and(|&owner| entry(target, owner) == value) {
                spill.held.insert(target);
            } else {
                spill.remove(target)?;
            }
        }
        Ok(spill)
    }

    fn entries(&self) -> Result<Vec<(IpNet, u64)>, KernelError> {
        let of_v4 = self.v4.iter().map(|found| {
            let (key, value) = found.map_err(|source| failed(SPILL4, "read", source))?;
            Ok((net(SPILL4, key.data().into(), key.prefix_len())?, value))
        });
        let of_v6 = self.v6.iter().map(|found| {
            let (key, value) = found.map_err(|source| failed(SPILL6, "read", source))?;
            Ok((net(SPILL6, key.data().into(), key.prefix_len())?, value))
        });
        of_v4.chain(of_v6).collect()
    }

    pub(super) fn holds(&self, target: IpNet) -> bool {
        self.held.contains(&target)
    }

    /// Whether the trie of IPv4, or else that of IPv6, holds anything.
    pub(super) fn holds_any(&self, is_v4: bool) -> bool {
        self.held.iter().any(|target| target.addr().is_ipv4() == is_v4)
    }

    pub(super) fn insert(&mut self, target: IpNet, owner: u32) -> Result<(), KernelError> {
        let (value, length) = (entry(target, owner), target.prefix_len().into());
        let (declared, written) = match target.addr() {
            IpAddr::V4(address) => {
                (SPILL4, self.v4.insert(&Key::new(length, address.octets()), value, 0))
            }
            IpAddr::V6(address) => {
                (SPILL6, self.v6.insert(&Key::new(length, address.octets()), value, 0))
            }
        };
        written.map_err(|source| write_error(declared, target, source))?;
        self.held.insert(target);
        Ok(())
    }

    /// Takes a ban out. Where that fails it is held as before.
    pub(super) fn remove(&mut self, target: IpNet) -> Result<(), KernelError> {
        let length = target.prefix_len().into();
        let (declared, removed) = match target.addr() {
            IpAddr::V4(address) => (SPILL4, self.v4.remove(&Key::new(length, address.octets()))),
            IpAddr::V6(address) => (SPILL6, self.v6.remove(&Key::new(length, address.octets()))),
        };
        match removed {
            Err(source) if !is_absence(&source) => {
                return Err(failed(declared, "give up a value", source));
            }
            _ => {}
        }
        self.held.remove(&target);
        Ok(())
    }
}

fn is_absence(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

fn entry(target: IpNet, owner: u32) -> u64 {
    let is_range =
        !matches!((target, target.prefix_len()), (IpNet::V4(_), 32) | (IpNet::V6(_), 64 | 128));
    Found::new(owner, is_range).bits().into()
}

/// The prefix of a key, whose length no trie lets exceed the address's.
fn net(declared: Declared, address: IpAddr, length: u32) -> Result<IpNet, KernelError> {
    let length = u8::try_from(length).ok();
    length.and_then(|length| IpNet::new(address, length).ok()).ok_or_else(|| {
        let error = io::Error::new(io::ErrorKind::InvalidData, "a key is longer than an address");
        failed(declared, "read", MapError::IoError(error))
    })
}
