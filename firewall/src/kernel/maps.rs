//! The program's tables, as the daemon writes and reads them: bans, allowlist, configuration,
//! counters.

mod bans;
mod counters;
mod own;
mod policies;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, Map, MapData, MapError, MapInfo, MapType, PerCpuArray};
use firewall_common::maps::{
    ALLOW4, ALLOW6, BANS, CONFIG, COUNTERS, LIST_DROPS, Map as Declared, POLICIES, SPILL4, SPILL6,
};
use firewall_common::{Ban, Config, Counter, Policy, Reasons, table};
use ipnet::IpNet;

use super::KernelError;
use bans::BanTables;
pub use bans::{ListId, ListReport};
pub use counters::{Count, Counters, InterfaceCounters};
use own::OwnAddresses;
use policies::Policies;

/// Every table; the daemon is their only writer, the program adds to drops and counters.
pub(super) struct Tables {
    bans: BanTables,
    config: Array<MapData, Config>,
    current: Config,
    /// What the program was told last.
    published: Option<Config>,
    policies: Policies,
    own: OwnAddresses,
    counters: PerCpuArray<MapData, Counter>,
    allow: Vec<IpNet>,
    /// Bans that meet the allowlist.
    allowed_bans: usize,
    /// Lists that do.
    allowed_lists: BTreeSet<ListId>,
}

impl Tables {
    /// Opens the maps, counts what they hold, and tells the program how to judge. The program is not
    /// attached yet, or still is another one.
    pub(super) fn open(
        program: &mut Ebpf,
        default: Policy,
        allow: &[IpNet],
        pins: Option<PathBuf>,
    ) -> Result<Self, KernelError> {
        let config = open(program, CONFIG)?;
        let mut tables = Self {
            bans: BanTables::open(program, pins)?,
            current: earlier(&config)?,
            config,
            published: None,
            policies: Policies::open(program, default)?,
            own: OwnAddresses::open(program)?,
            counters: open(program, COUNTERS)?,
            allow: allow.iter().map(IpNet::trunc).collect(),
            allowed_bans: 0,
            allowed_lists: BTreeSet::new(),
        };
        tables.fill_allowlist(program)?;
        tables.allowed_bans = tables.bans.targets().filter(|ban| tables.meets_allowed(ban)).count();
        // Which of them an earlier daemon's lists meet is not known until they are replaced.
        tables.allowed_lists = tables.bans.lists().collect();
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
        let is_new = self.bans.get(target).is_none();
        let meets = is_new && self.meets_allowed(&target);
        if meets {
            // The program must ask the allowlist before there is a ban to ask it for.
            self.allowed_bans += 1;
            self.publish()?;
        }
        let written = self.bans.put(target, until_ns);
        if meets && written.is_err() {
            self.allowed_bans -= 1;
        }
        self.publish()?;
        written
    }

    pub(super) fn unban(&mut self, target: IpNet) -> Result<bool, KernelError> {
        if !self.bans.remove(target)? {
            return Ok(false);
        }
        self.allowed_bans -= usize::from(self.meets_allowed(&target));
        self.publish()?;
        Ok(true)
    }

    /// Replaces a list at once.
    pub(super) fn replace_list(
        &mut self,
        list: ListId,
        prefixes: &[IpNet],
    ) -> Result<ListReport, KernelError> {
        let met = self.allowed_lists.contains(&list);
        let meets = prefixes.iter().any(|prefix| self.meets_allowed(prefix));
        if meets {
            self.allowed_lists.insert(list);
            self.publish()?;
        }
        let replaced = self.bans.replace_list(list, prefixes);
        let meets = if replaced.is_ok() { meets } else { met };
        if !meets {
            self.allowed_lists.remove(&list);
        }
        self.publish()?;
        replaced
    }

    pub(super) fn list_drops(&self, list: ListId) -> Result<u64, KernelError> {
        self.bans.list_drops(list)
    }

    pub(super) fn ban_of(&self, target: IpNet) -> Option<Ban> {
        self.bans.get(target)
    }

    pub(super) fn bans(&self) -> impl Iterator<Item = (IpNet, Ban)> {
        self.bans.all()
    }

    pub(super) fn ban_octets(&self) -> usize {
        self.bans.octets()
    }

    fn meets_allowed(&self, target: &IpNet) -> bool {
        self.allow.iter().any(|allowed| allowed.contains(target) || target.contains(allowed))
    }

    /// Lets everything pass until then.
    pub(super) fn pass_until(&mut self, until_ns: u64) -> Result<(), KernelError> {
        self.current.pass_until_mono_ns = until_ns;
        self.publish()
    }

    /// Drops nothing from then on, unless it is put off; zero: whatever happens.
    pub(super) fn drop_until(&mut self, until_ns: u64) -> Result<(), KernelError> {
        self.current.drop_until_mono_ns = until_ns;
        self.publish()
    }

    /// The bits of what holds something.
    fn bits(&self) -> u32 {
        let allowlist = self.current.tables & (table::ALLOW4 | table::ALLOW6);
        let meets = self.allowed_bans > 0 || !self.allowed_lists.is_empty();
        allowlist | self.bans.bits() | if meets { table::ALLOWED_BAN } else { 0 }
    }

    /// Tells the program what has changed: which tables hold something, and all else in `current`.
    fn publish(&mut self) -> Result<(), KernelError> {
        let config = Config { tables: self.bits(), ..self.current };
        // No system call for a ban among others.
        if self.published == Some(config) {
            return Ok(());
        }
        self.config.set(0, config, 0).map_err(|source| failed(CONFIG, "take a value", source))?;
        self.current = config;
        self.published = Some(config);
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

/// What an earlier daemon told the program that is still attached, as far as it is to know it until
/// it is told anew: what is served, whose addresses are the host's, and that everything passes.
fn earlier(config: &Array<MapData, Config>) -> Result<Config, KernelError> {
    let found = config.get(&0, 0).map_err(|source| failed(CONFIG, "read", source))?;
    let Config { served, ports, own, pass_until_mono_ns, .. } = found;
    Ok(Config { served, ports, own, pass_until_mono_ns, ..Config::new() })
}

/// Takes a map out of the loaded object.
pub(super) fn take(program: &mut Ebpf, map: &'static str) -> Result<Map, KernelError> {
    program.take_map(map).ok_or(KernelError::NoMap { map })
}

pub(super) fn open<M>(program: &mut Ebpf, declared: Declared) -> Result<M, KernelError>
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
    let (kind, key_size, value_size) = match declared {
        BANS => (MapType::ArrayOfMaps, 4, 4),
        SPILL4 => (MapType::LpmTrie, 8, 8),
        SPILL6 => (MapType::LpmTrie, 20, 8),
        LIST_DROPS => (MapType::PerCpuArray, 4, 8),
        CONFIG => (MapType::Array, 4, size_of::<Config>()),
        POLICIES => (MapType::Array, 4, size_of::<Policy>()),
        _ => (MapType::PerCpuArray, 4, size_of::<Counter>()),
    };
    let is_ours = info.map_type().map_err(failed)? == kind
        && info.key_size() == key_size
        && info.value_size() as usize == value_size
        && info.max_entries() == declared.entries;
    if is_ours { Ok(()) } else { Err(KernelError::ForeignMap { path: path.to_owned() }) }
}

pub(super) fn write_error(declared: Declared, target: IpNet, source: MapError) -> KernelError {
    const E2BIG: i32 = 7;
    const ENOSPC: i32 = 28;
    if let MapError::SyscallError(error) = &source
        && matches!(error.io_error.raw_os_error(), Some(E2BIG | ENOSPC))
    {
        return KernelError::Full { map: declared.name, entries: declared.entries, target };
    }
    failed(declared, "take a value", source)
}

pub(super) fn failed(declared: Declared, action: &'static str, source: MapError) -> KernelError {
    KernelError::Map { map: declared.name, action, source }
}
