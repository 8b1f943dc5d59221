//! Budgets, whom they are multiplied for, and who is in good standing, as the daemon writes them.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use firewall_common::maps::{BUDGETS, MULTIPLIERS, STANDING, TALLY};
use firewall_common::{Budget, Budgeted, Budgets, Payer, Tally};
use ipnet::IpNet;

use super::KernelError;
use super::maps::{Source, failed, write_error};
use crate::clock::Monotonic;

/// What may be sent, by each source and by all; what is not named is unlimited.
///
/// A budget is one CPU's: a source whose packets the interface spreads over several CPUs has it on
/// each of them. It is not divided, because a source of few flows meets one CPU alone.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Limits {
    pub budgets: Vec<(Budgeted, Budget)>,
    /// Networks of many hosts behind each address, and by how much an address's budgets are
    /// multiplied; at most 1,024, of IPv6 no longer than a /64.
    pub multipliers: Vec<(IpNet, u32)>,
}

/// The maps of the budgets. A daemon that starts anew knows nobody yet.
pub(super) struct BudgetMaps {
    budgets: Array<MapData, Budgets>,
    current: Budgets,
    tally: PerCpuArray<MapData, Tally>,
    multipliers: LpmTrie<MapData, [u8; 16], u32>,
    multiplied: BTreeSet<IpNet>,
    standing: HashMap<MapData, Payer, u32>,
}

impl BudgetMaps {
    /// Opens the maps, and tells the program its limits.
    pub(super) fn open(source: &mut Source<'_>, limits: &Limits) -> Result<Self, KernelError> {
        let mut maps = Self {
            budgets: source.open(BUDGETS)?,
            current: Budgets::default(),
            tally: source.open(TALLY)?,
            multipliers: source.open(MULTIPLIERS)?,
            multiplied: BTreeSet::new(),
            standing: source.open(STANDING)?,
        };
        maps.limit(limits)?;
        maps.forget_others()?;
        Ok(maps)
    }

    /// Takes out what a process before this one has left in the maps, if they are not new.
    fn forget_others(&mut self) -> Result<(), KernelError> {
        let wanted: Vec<_> = self.multiplied.iter().map(|network| mapped(*network)).collect();
        let known: Result<Vec<_>, _> = self.multipliers.keys().collect();
        for key in known.map_err(|source| failed(MULTIPLIERS, "read", source))? {
            let is_same = |wanted: &Key<[u8; 16]>| {
                (wanted.prefix_len(), wanted.data()) == (key.prefix_len(), key.data())
            };
            if !wanted.iter().any(is_same) {
                let removed = self.multipliers.remove(&key);
                removed.map_err(|source| failed(MULTIPLIERS, "give up a value", source))?;
            }
        }
        let standing: Result<Vec<_>, _> = self.standing.keys().collect();
        for payer in standing.map_err(|source| failed(STANDING, "read", source))? {
            let removed = self.standing.remove(&payer);
            removed.map_err(|source| failed(STANDING, "give up a value", source))?;
        }
        Ok(())
    }

    /// Budgets and multipliers from now on. What was spent of earlier ones is forgotten.
    pub(super) fn limit(&mut self, limits: &Limits) -> Result<(), KernelError> {
        let wanted: BTreeSet<IpNet> = limits.multipliers.iter().map(|(net, _)| *net).collect();
        for &(network, times) in &limits.multipliers {
            let written = self.multipliers.insert(&mapped(network), times, 0);
            written.map_err(|source| write_error(MULTIPLIERS, network, source))?;
            self.multiplied.insert(network);
        }
        for network in self.multiplied.difference(&wanted) {
            let removed = self.multipliers.remove(&mapped(*network));
            removed.map_err(|source| failed(MULTIPLIERS, "give up a value", source))?;
        }
        let mut budgets = Budgets {
            shed_until_mono_ns: self.current.shed_until_mono_ns,
            shed: self.current.shed,
            has_multipliers: u32::from(!wanted.is_empty()),
            seeds: seeds(),
            ..Budgets::default()
        };
        self.multiplied = wanted;
        for &(budgeted, budget) in &limits.budgets {
            budgets = budgets.with(budgeted, budget);
        }
        self.write(budgets)
    }

    /// Sheds so many of 2^32 new connections, the highest value all of them, until then.
    pub(super) fn shed(&mut self, share: u32, until: Monotonic) -> Result<(), KernelError> {
        self.write(Budgets { shed_until_mono_ns: until.ns(), shed: share, ..self.current })
    }

    fn write(&mut self, budgets: Budgets) -> Result<(), KernelError> {
        let written = self.budgets.set(0, budgets, 0);
        written.map_err(|source| failed(BUDGETS, "take a value", source))?;
        self.current = budgets;
        Ok(())
    }

    /// Puts an address, or the /64 of an IPv6 address, into good standing.
    pub(super) fn stand(&mut self, source: IpAddr) -> Result<(), KernelError> {
        let written = self.standing.insert(payer(source), 1, 0);
        written.map_err(|error| write_error(STANDING, source.into(), error))
    }

    /// Takes it out; false if it was not in.
    pub(super) fn fall(&mut self, source: IpAddr) -> Result<bool, KernelError> {
        match self.standing.remove(&payer(source)) {
            Ok(()) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(false)
            }
            Err(source) => Err(failed(STANDING, "give up a value", source)),
        }
    }

    /// What the CPUs have counted, in sum.
    pub(super) fn tally(&self) -> Result<Tally, KernelError> {
        let cpus = self.tally.get(&0, 0).map_err(|source| failed(TALLY, "read", source))?;
        let sum = |of: fn(&Tally) -> u64| cpus.iter().map(of).fold(0, u64::wrapping_add);
        Ok(Tally { syns: sum(|cpu| cpu.syns), spared: sum(|cpu| cpu.spared), ..Tally::default() })
    }
}

/// Nobody is to foresee where a source's bucket lies.
fn seeds() -> [u64; 2] {
    let secret = RandomState::new();
    [secret.hash_one(0), secret.hash_one(1)]
}

fn payer(source: IpAddr) -> Payer {
    match source.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            Payer { word: u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), family: 4 }
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            let network = octets.first_chunk::<8>().copied().unwrap_or_default();
            Payer { word: u64::from_ne_bytes(network), family: 6 }
        }
    }
}

/// The trie's key of a network; see [`Payer::mapped`].
fn mapped(network: IpNet) -> Key<[u8; 16]> {
    let length = u32::from(network.prefix_len());
    match network.network() {
        IpAddr::V4(address) => Key::new(96 + length, address.to_ipv6_mapped().octets()),
        IpAddr::V6(address) => Key::new(length, address.octets()),
    }
}
