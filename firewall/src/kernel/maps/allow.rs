//! Whom nothing drops: the management allowlist, as the program looks it up.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aya::maps::MapData;
use aya::maps::lpm_trie::{Key, LpmTrie};
use firewall_common::maps::{ALLOW4, ALLOW6};
use firewall_common::table;
use ipnet::IpNet;

use super::{Source, failed, write_error};
use crate::kernel::KernelError;

/// What becomes of networks in the tables that were not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) enum Others {
    Kept,
    Removed,
}

/// The networks that the tables hold.
pub(in crate::kernel) struct Allowlist {
    v4: LpmTrie<MapData, [u8; 4], u32>,
    v6: LpmTrie<MapData, [u8; 16], u32>,
    asked: BTreeSet<IpNet>,
    held: BTreeSet<IpNet>,
}

impl Allowlist {
    pub(in crate::kernel) fn open(
        source: &mut Source<'_>,
        allow: &[IpNet],
        others: Others,
    ) -> Result<Self, KernelError> {
        let mut list = Self {
            v4: source.open(ALLOW4)?,
            v6: source.open(ALLOW6)?,
            asked: allow.iter().map(IpNet::trunc).collect(),
            held: BTreeSet::new(),
        };
        list.fill(others)?;
        Ok(list)
    }

    /// Makes the tables hold what was asked for.
    pub(in crate::kernel) fn fill(&mut self, others: Others) -> Result<(), KernelError> {
        let held = self.read()?;
        for &network in self.asked.difference(&held) {
            let written = match network {
                IpNet::V4(net) => self.v4.insert(&key4(net), 1, 0).map_err(|error| (ALLOW4, error)),
                IpNet::V6(net) => self.v6.insert(&key6(net), 1, 0).map_err(|error| (ALLOW6, error)),
            };
            written.map_err(|(map, source)| write_error(map, network, source))?;
        }
        if others == Others::Removed {
            for &network in held.difference(&self.asked) {
                let removed = match network {
                    IpNet::V4(net) => self.v4.remove(&key4(net)).map_err(|error| (ALLOW4, error)),
                    IpNet::V6(net) => self.v6.remove(&key6(net)).map_err(|error| (ALLOW6, error)),
                };
                removed.map_err(|(map, source)| failed(map, "give up a value", source))?;
            }
        }
        self.held = self.read()?;
        Ok(())
    }

    /// Whether a ban of the target would ban what is allowed.
    pub(in crate::kernel) fn meets(&self, target: &IpNet) -> bool {
        self.held.iter().any(|allowed| allowed.contains(target) || target.contains(allowed))
    }

    /// The bits of [`table`] for what holds something.
    pub(in crate::kernel) fn bits(&self) -> u32 {
        let bit = |network: &IpNet| match network {
            IpNet::V4(_) => table::ALLOW4,
            IpNet::V6(_) => table::ALLOW6,
        };
        self.held.iter().fold(0, |bits, network| bits | bit(network))
    }

    fn read(&self) -> Result<BTreeSet<IpNet>, KernelError> {
        let mut held = BTreeSet::new();
        for key in self.v4.keys() {
            let key = key.map_err(|source| failed(ALLOW4, "read", source))?;
            held.extend(network(key.data().into(), key.prefix_len()));
        }
        for key in self.v6.keys() {
            let key = key.map_err(|source| failed(ALLOW6, "read", source))?;
            held.extend(network(key.data().into(), key.prefix_len()));
        }
        Ok(held)
    }
}

fn network(address: IpAddr, length: u32) -> Option<IpNet> {
    IpNet::new(address, u8::try_from(length).ok()?).ok()
}

fn key4(net: ipnet::Ipv4Net) -> Key<[u8; 4]> {
    Key::new(net.prefix_len().into(), net.addr().octets())
}

fn key6(net: ipnet::Ipv6Net) -> Key<[u8; 16]> {
    Key::new(net.prefix_len().into(), net.addr().octets())
}
