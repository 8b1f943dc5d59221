//! The program's tables, as the daemon writes and reads them: bans, allowlist, configuration,
//! counters.

mod allow;
mod bans;
mod counters;
mod declared;
mod judging;
mod own;
mod policies;
mod source;

use std::collections::BTreeSet;
use std::net::IpAddr;

use aya::maps::{Array, MapData, MapError};
use firewall_common::maps::{CONFIG, Map as Declared};
use firewall_common::{Ban, Config, Reasons, table};
use ipnet::IpNet;

use super::KernelError;
use super::table::Home;
pub(super) use allow::{Allowlist, Others};
use bans::BanTables;
pub use bans::{ListId, ListReport};
pub use counters::{Count, Counters, InterfaceCounters};
pub(super) use declared::{SHARED, check_pinned};
pub(super) use judging::{Judging, Slot};
use own::OwnAddresses;
pub(super) use source::{COUNTED, Source, id_of};

/// Every table; the daemon is their only writer, the program adds to drops and counters.
pub(super) struct Tables {
    bans: BanTables,
    config: Array<MapData, Config>,
    current: Config,
    /// What the program was told last.
    published: Option<Config>,
    own: OwnAddresses,
    allow: Allowlist,
    /// Bans that meet the allowlist.
    allowed_bans: usize,
    /// Lists that do.
    allowed_lists: BTreeSet<ListId>,
}

impl Tables {
    /// Opens the maps, counts what they hold, and tells the program what is allowed and what holds
    /// something. The program is not attached yet, still is another one, or is kept by another
    /// process that writes nothing of this.
    pub(super) fn open(
        source: &mut Source<'_>,
        (allow, others): (&[IpNet], Others),
        home: Home,
    ) -> Result<Self, KernelError> {
        let allow = Allowlist::open(source, allow, others)?;
        let config = source.open(CONFIG)?;
        let mut tables = Self {
            bans: BanTables::open(source, home)?,
            current: Config { tables: allow.bits(), ..earlier(&config)? },
            config,
            published: None,
            own: OwnAddresses::open(source)?,
            allow,
            allowed_bans: 0,
            allowed_lists: BTreeSet::new(),
        };
        tables.allowed_bans = tables.bans.targets().filter(|ban| tables.allow.meets(ban)).count();
        // Which of them an earlier daemon's lists meet is not known until they are replaced.
        tables.allowed_lists = tables.bans.lists().collect();
        tables.publish()?;
        Ok(tables)
    }

    /// Makes anew what could not be made when it was opened, for want of a loader.
    pub(super) fn renew(&mut self) -> Result<(), KernelError> {
        self.bans.renew()
    }

    /// Holds again what is to be allowed, whatever a loader has taken out.
    pub(super) fn allow_again(&mut self) -> Result<(), KernelError> {
        self.allow.fill(Others::Kept)?;
        self.current.tables |= self.allow.bits();
        self.publish()
    }

    pub(super) fn ban(&mut self, target: IpNet, until_ns: u64) -> Result<(), KernelError> {
        let is_new = self.bans.get(target).is_none();
        let meets = is_new && self.allow.meets(&target);
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

    pub(super) fn ban_all(&mut self, bans: &[(IpNet, u64)]) -> Result<(), KernelError> {
        if !self.bans.are_many(bans.len()) {
            return bans.iter().try_for_each(|&(target, until_ns)| self.ban(target, until_ns));
        }
        let is_new = |target: IpNet| self.bans.get(target).is_none();
        let meeting = bans.iter().filter(|(target, _)| self.allow.meets(target) && is_new(*target));
        // Of one that is there twice it is asked for longer than need be, until the next start.
        let meeting = meeting.count();
        if meeting > 0 {
            self.allowed_bans += meeting;
            self.publish()?;
        }
        let written = self.bans.put_all(bans);
        if written.is_err() {
            self.allowed_bans -= meeting;
        }
        self.publish()?;
        written
    }

    pub(super) fn unban(&mut self, target: IpNet) -> Result<bool, KernelError> {
        if !self.bans.remove(target)? {
            return Ok(false);
        }
        self.allowed_bans -= usize::from(self.allow.meets(&target));
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
        let meets = prefixes.iter().any(|prefix| self.allow.meets(prefix));
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
}

/// What an earlier daemon told the program that is still attached, as far as it is to know it until
/// it is told anew: what is served, whose addresses are the host's, and that everything passes.
fn earlier(config: &Array<MapData, Config>) -> Result<Config, KernelError> {
    let found = config.get(&0, 0).map_err(|source| failed(CONFIG, "read", source))?;
    let Config { served, ports, own, pass_until_mono_ns, .. } = found;
    Ok(Config { served, ports, own, pass_until_mono_ns, ..Config::new() })
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
