//! The program's tables, as the daemon writes and reads them: bans, allowlist, configuration,
//! counters.

mod bans;
mod counters;
mod own;
mod policies;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, Map, MapData, MapError, MapInfo, MapType, PerCpuArray};
use firewall_common::maps::{
    ALLOW4, ALLOW6, BAN4, BAN6_NETWORK, CONFIG, COUNTERS, Map as Declared, POLICIES, RANGE4, RANGE6,
};
use firewall_common::{Ban, Config, Counter, Policy, Reasons, table};
use ipnet::IpNet;

use super::KernelError;
use bans::{BanMaps, Table};
pub use counters::{Count, Counters, InterfaceCounters};
use own::OwnAddresses;
use policies::Policies;

/// Every table; the daemon is their only writer, the program adds to drops and counters.
pub(super) struct Tables {
    bans: BanMaps,
    config: Array<MapData, Config>,
    current: Config,
    policies: Policies,
    own: OwnAddresses,
    counters: PerCpuArray<MapData, Counter>,
    allow: Vec<IpNet>,
    /// Entries of each table, by its bit, and bans that meet the allowlist.
    entries: BTreeMap<u32, usize>,
    /// The deadlines of the ranges as they were asked for. What the trie holds of a range is the
    /// latest deadline of all ranges around it: the trie finds the innermost alone, which must not
    /// hide an outer one that lasts longer.
    ranges: BTreeMap<IpNet, u64>,
}

impl Tables {
    /// Opens the maps, counts what they hold, and tells the program how to judge. The program is not
    /// attached yet, or still is another one.
    pub(super) fn open(
        program: &mut Ebpf,
        default: Policy,
        allow: &[IpNet],
    ) -> Result<Self, KernelError> {
        let mut tables = Self {
            bans: BanMaps::open(program)?,
            config: open(program, CONFIG)?,
            current: Config::new(),
            policies: Policies::open(program, default)?,
            own: OwnAddresses::open(program)?,
            counters: open(program, COUNTERS)?,
            allow: allow.iter().map(IpNet::trunc).collect(),
            entries: BTreeMap::new(),
            ranges: BTreeMap::new(),
        };
        tables.fill_allowlist(program)?;
        for (target, ban) in tables.bans.all()? {
            tables.count(target, 1);
            if Table::of(target).is_range() {
                tables.ranges.insert(target, ban.until_mono_ns);
            }
        }
        tables.publish()?;
        Ok(tables)
    }

    fn fill_allowlist(&mut self, program: &mut Ebpf) -> Result<(), KernelError> {
        let mut allow4: LpmTrie<_, [u8; 4], u32> = open(program, ALLOW4)?;
        let mut allow6: LpmTrie<_, [u8; 16], u32> = open(program, ALLOW6)?;
        for &network in &self.allow {
            let length = u32::from(network.prefix_len());
            let (declared, bit, written) = match network.addr() {
                IpAddr::V4(address) => {
                    let key = Key::new(length, address.octets());
                    (ALLOW4, table::ALLOW4, allow4.insert(&key, 1, 0))
                }
                IpAddr::V6(address) => {
                    let key = Key::new(length, address.octets());
                    (ALLOW6, table::ALLOW6, allow6.insert(&key, 1, 0))
                }
            };
            written.map_err(|source| write_error(declared, network, source))?;
            self.current.tables |= bit;
        }
        Ok(())
    }

    pub(super) fn ban(&mut self, target: IpNet, until_ns: u64) -> Result<(), KernelError> {
        let earlier = self.entry(target)?;
        if earlier.is_none() {
            // The program must look into the table before there is something to find in it.
            self.count(target, 1);
            self.publish()?;
        }
        let drops = earlier.map_or(0, |ban| ban.drops);
        let is_range = Table::of(target).is_range();
        let mut until_mono_ns = until_ns;
        if is_range {
            self.ranges.insert(target, until_ns);
            until_mono_ns = self.effective_ns(target);
        }
        let written = self.bans.put(target, Ban { until_mono_ns, drops });
        if written.is_err() && earlier.is_none() {
            self.ranges.remove(&target);
            self.count(target, -1);
            self.publish()?;
        }
        written?;
        if is_range { self.rewrite_within(target) } else { Ok(()) }
    }

    pub(super) fn unban(&mut self, target: IpNet) -> Result<bool, KernelError> {
        if !self.bans.remove(target)? {
            return Ok(false);
        }
        self.count(target, -1);
        if self.ranges.remove(&target).is_some() {
            self.rewrite_within(target)?;
        }
        self.publish()?;
        Ok(true)
    }

    /// The latest deadline of the ranges around and of `target`.
    fn effective_ns(&self, target: IpNet) -> u64 {
        let around = self.ranges.iter().filter(|(range, _)| range.contains(&target));
        around.map(|(_, until_ns)| *until_ns).max().unwrap_or(0)
    }

    /// Writes the ranges within `outer` anew, whose deadline has changed.
    fn rewrite_within(&mut self, outer: IpNet) -> Result<(), KernelError> {
        let within: Vec<IpNet> =
            self.ranges.keys().filter(|range| outer.contains(*range)).copied().collect();
        for target in within {
            let until_mono_ns = self.effective_ns(target);
            let Some(ban) = self.entry(target)? else {
                continue;
            };
            if ban.until_mono_ns != until_mono_ns {
                self.bans.put(target, Ban { until_mono_ns, ..ban })?;
            }
        }
        Ok(())
    }

    pub(super) fn ban_of(&self, target: IpNet) -> Result<Option<Ban>, KernelError> {
        Ok(self.entry(target)?.map(|ban| self.as_asked(target, ban)))
    }

    /// The entry of exactly `target`. A trie's lookup would give a range around it instead.
    fn entry(&self, target: IpNet) -> Result<Option<Ban>, KernelError> {
        if Table::of(target).is_range() && !self.ranges.contains_key(&target) {
            return Ok(None);
        }
        self.bans.get(target)
    }

    pub(super) fn bans(&self) -> Result<Vec<(IpNet, Ban)>, KernelError> {
        let mut bans = self.bans.all()?;
        for (target, ban) in &mut bans {
            *ban = self.as_asked(*target, *ban);
        }
        Ok(bans)
    }

    fn as_asked(&self, target: IpNet, ban: Ban) -> Ban {
        let until_mono_ns = self.ranges.get(&target).copied().unwrap_or(ban.until_mono_ns);
        Ban { until_mono_ns, ..ban }
    }

    fn count(&mut self, target: IpNet, change: isize) {
        let meets = |allowed: &IpNet| allowed.contains(&target) || target.contains(allowed);
        let mut bits = vec![Table::of(target).bit()];
        if self.allow.iter().any(meets) {
            bits.push(table::ALLOWED_BAN);
        }
        for bit in bits {
            let entries = self.entries.entry(bit).or_default();
            *entries = entries.saturating_add_signed(change);
        }
    }

    /// Lets everything pass until then.
    pub(super) fn pass_until(&mut self, until_ns: u64) -> Result<(), KernelError> {
        self.current.pass_until_mono_ns = until_ns;
        self.publish()
    }

    /// Tells the program which tables hold something.
    fn publish(&mut self) -> Result<(), KernelError> {
        let allowlist = self.current.tables & (table::ALLOW4 | table::ALLOW6);
        let full = self.entries.iter().filter(|(_, entries)| **entries > 0);
        let tables = full.fold(allowlist, |tables, (bit, _)| tables | bit);
        let config = Config { tables, ..self.current };
        self.config.set(0, config, 0).map_err(|source| failed(CONFIG, "take a value", source))?;
        self.current = config;
        Ok(())
    }

    /// Asks for more events of these reasons, one in `interval_ns` from each counter and CPU.
    pub(super) fn capture(
        &mut self,
        reasons: Reasons,
        interval_ns: u64,
    ) -> Result<(), KernelError> {
        self.current.captured = reasons;
        self.current.capture_interval_ns = interval_ns;
        self.publish()
    }

    /// Tells the program how to judge what comes in by an interface, and gives it counters of its own
    /// while there are any left.
    pub(super) fn admit(
        &mut self,
        interface: u32,
        name: &str,
        policy: Policy,
    ) -> Result<(), KernelError> {
        if let Some(slot) = self.policies.admit(interface, name, policy)? {
            counters::clear(&mut self.counters, slot)?;
        }
        Ok(())
    }

    /// Judges by this what comes in by interfaces of which nothing was told.
    pub(super) fn set_default_policy(&mut self, default: Policy) -> Result<(), KernelError> {
        self.policies.set_default(default)
    }

    /// Tells the program what the proxy serves.
    pub(super) fn serve(&mut self, ports: &[u16], quic: bool) -> Result<(), KernelError> {
        self.current = self.current.serving(ports, quic);
        self.publish()
    }

    /// Tells the program the host's own addresses.
    pub(super) fn set_own(&mut self, addresses: &[IpAddr]) -> Result<(), KernelError> {
        self.current.own = self.own.set(addresses)?;
        self.publish()
    }

    /// Takes back what was told of an interface that is gone.
    pub(super) fn dismiss(&mut self, interface: u32) -> Result<(), KernelError> {
        self.policies.dismiss(interface)
    }

    pub(super) fn counters(&self) -> Result<Counters, KernelError> {
        Counters::read(&self.counters, self.policies.slots())
    }
}

/// Takes a map out of the loaded object.
pub(super) fn take(program: &mut Ebpf, map: &'static str) -> Result<Map, KernelError> {
    program.take_map(map).ok_or(KernelError::NoMap { map })
}

fn open<M>(program: &mut Ebpf, declared: Declared) -> Result<M, KernelError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = take(program, declared.name)?;
    M::try_from(map).map_err(|source| failed(declared, "open", source))
}

/// Refuses a pinned map that is not of the declared kind. The layout number guards against our own
/// earlier versions; this, against what others put there.
pub(super) fn check_pinned(path: &Path, declared: Declared) -> Result<(), KernelError> {
    if !path.exists() {
        return Ok(());
    }
    let failed = |source| failed(declared, "tell its kind", source);
    let info = MapInfo::from_pin(path).map_err(failed)?;
    let (kind, key_size) = match declared.name {
        name if name == RANGE4.name => (MapType::LpmTrie, 8),
        name if name == RANGE6.name => (MapType::LpmTrie, 20),
        name if name == COUNTERS.name => (MapType::PerCpuArray, 4),
        name if name == POLICIES.name => (MapType::Array, 4),
        name if name == BAN4.name => (MapType::Hash, 4),
        name if name == BAN6_NETWORK.name => (MapType::Hash, 8),
        _ => (MapType::Hash, 16),
    };
    let value_size = match declared {
        COUNTERS => size_of::<Counter>(),
        POLICIES => size_of::<Policy>(),
        _ => size_of::<Ban>(),
    };
    let is_ours = info.map_type().map_err(failed)? == kind
        && info.key_size() == key_size
        && info.value_size() as usize == value_size
        && info.max_entries() == declared.entries;
    if is_ours { Ok(()) } else { Err(KernelError::ForeignMap { path: path.to_owned() }) }
}

fn write_error(declared: Declared, target: IpNet, source: MapError) -> KernelError {
    const E2BIG: i32 = 7;
    const ENOSPC: i32 = 28;
    if let MapError::SyscallError(error) = &source
        && matches!(error.io_error.raw_os_error(), Some(E2BIG | ENOSPC))
    {
        return KernelError::Full { map: declared.name, entries: declared.entries, target };
    }
    failed(declared, "take a value", source)
}

fn failed(declared: Declared, action: &'static str, source: MapError) -> KernelError {
    KernelError::Map { map: declared.name, action, source }
}
