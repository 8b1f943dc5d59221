//! The tables of bans as one: what is banned, and where it is written.

mod earlier;
mod spill;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;

use aya::maps::{Map, MapData, PerCpuArray};
use firewall_common::maps::{BANS, LIST_DROPS, bans as inner};
use firewall_common::{Ban, table};
use ipnet::IpNet;

use super::{Source, failed, write_error};
use crate::kernel::KernelError;
use crate::kernel::table::{Bans4, Bans6, Crowded, Home, Outer, Records, Region, Seed, interval};
use spill::Spill;

/// The number of a list of prefixes: 1 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId(u8);

impl ListId {
    /// None for 0, which is nobody's.
    pub const fn new(number: u8) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    pub const fn number(self) -> u8 {
        self.0
    }
}

/// What became of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ListReport {
    /// Prefixes that are enforced.
    pub prefixes: usize,
    /// IPv6 prefixes that are not, because more lengths are in use than a lookup tries.
    pub refused: usize,
}

/// Fewer bans than this are entered one by one, a few microseconds each.
const MANY: usize = 4096;
/// A ban costs so many times more than its share of a table that is made anew.
const REMADE: usize = 8;

/// How often a table is made before it is given up: with another hash, and every second time larger.
const ATTEMPTS: u32 = 6;

/// Everything that is banned, and the tables that tell the program so.
pub(super) struct BanTables {
    outer: Outer,
    bans: BTreeMap<IpNet, u32>,
    records: Records,
    record_lines: Region,
    v4: Bans4,
    v4_lines: Region,
    v6: Bans6,
    v6_lines: Region,
    /// Bans that are in no table but in the tries.
    spill: Spill,
    list_drops: PerCpuArray<MapData, u64>,
    /// Whether the tables are still those of an earlier process, with its hash.
    is_as_found: bool,
}

impl BanTables {
    /// Takes over what is there, makes the tables anew with another hash, and puts them into the
    /// place of the earlier ones. What was banned is banned throughout.
    pub(super) fn open(source: &mut Source<'_>, home: Home) -> Result<Self, KernelError> {
        let earlier = home.maps.as_deref().map(earlier::read).unwrap_or_default();
        let outer = match source.take(BANS)? {
            Map::ArrayOfMaps(map) => Outer::new(map, home),
            _ => return Err(KernelError::NoMap { map: BANS.name }),
        };
        let (mut v4, mut v6) = (Bans4::new(), Bans6::new());
        let record_lines = outer.adopt(inner::RECORDS)?;
        let (records, bans) = match &record_lines {
            Some(lines) => Records::adopt(lines.memory()),
            None => (Records::new(), BTreeMap::new()),
        };
        let (old4, old6) = (outer.adopt(inner::V4)?, outer.adopt(inner::V6)?);
        if let Some(lines) = &old4 {
            for (list, intervals) in Bans4::adopted_lists(lines.memory()) {
                v4.list(list, intervals);
            }
        }
        if let Some(lines) = &old6 {
            for (list, prefixes) in Bans6::adopted_lists(lines.memory()) {
                v6.list(list, prefixes);
            }
        }
        for (list, intervals) in earlier.lists4 {
            if !v4.has_list(list) {
                v4.list(list, intervals);
            }
        }
        for (list, prefixes) in earlier.lists6 {
            if !v6.has_list(list) {
                v6.list(list, prefixes);
            }
        }
        let record_lines = if let Some(lines) = record_lines {
            lines
        } else {
            let lines = outer.make(outer.record_lines())?;
            outer.put(inner::RECORDS, &lines)?;
            lines
        };
        let mut spill = Spill::open(source, &bans)?;
        let (spilled, others): (Vec<_>, Vec<_>) =
            bans.iter().partition(|(target, _)| spill.holds(**target));
        // Those of the tables first: their lengths stay in use, should the tables stay as found.
        for (&target, &owner) in others {
            if note(&mut v4, &mut v6, target, owner).is_err() {
                spill.insert(target, owner)?;
            }
        }
        let fits =
            |(target, owner): &(&IpNet, &u32)| note(&mut v4, &mut v6, **target, **owner).is_ok();
        let returning: Vec<IpNet> =
            spilled.into_iter().filter(fits).map(|(target, _)| *target).collect();
        let built =
            build4(&mut v4, &outer).and_then(|v4_lines| Ok((v4_lines, build6(&mut v6, &outer)?)));
        let (v4_lines, v6_lines, is_as_found) = match (built, old4, old6) {
            (Ok((v4_lines, v6_lines)), _, _) => {
                outer.put(inner::V4, &v4_lines)?;
                outer.put(inner::V6, &v6_lines)?;
                for target in returning {
                    spill.remove(target)?;
                }
                (v4_lines, v6_lines, false)
            }
            // The loader is away; what there is does until it comes.
            (Err(KernelError::NoLoader { .. }), Some(v4_lines), Some(v6_lines)) => {
                for target in returning {
                    forget(&mut v4, &mut v6, target);
                }
                v4.count_entries(v4_lines.memory());
                v6.count_entries(v6_lines.memory());
                (v4_lines, v6_lines, true)
            }
            (Err(error), _, _) => return Err(error),
        };
        let list_drops = source.open(LIST_DROPS)?;
        let mut tables = Self {
            outer,
            bans,
            records,
            record_lines,
            v4,
            v4_lines,
            v6,
            v6_lines,
            spill,
            list_drops,
            is_as_found,
        };
        tables.take_over(&earlier.bans)?;
        Ok(tables)
    }

    /// Bans what tables of an older layout banned, unless it was taken over before.
    fn take_over(&mut self, earlier: &[(IpNet, Ban)]) -> Result<(), KernelError> {
        for &(target, ban) in earlier {
            if self.bans.contains_key(&target) {
                continue;
            }
            self.put(target, ban.until_mono_ns)?;
            if let Some(&line) = self.bans.get(&target) {
                Records::resume(self.record_lines.memory(), line, ban.drops);
            }
        }
        Ok(())
    }

    /// Makes anew what could not be made when it was opened.
    pub(super) fn renew(&mut self) -> Result<(), KernelError> {
        if self.is_as_found {
            self.rebuild4()?;
            self.rebuild6()?;
            self.is_as_found = false;
        }
        Ok(())
    }

    /// The bits of [`table`] for what holds something.
    pub(super) fn bits(&self) -> u32 {
        [
            (!self.v4.is_empty(), table::BAN4),
            (!self.v6.is_empty(), table::BAN6),
            (self.spill.holds_any(true), table::SPILL4),
            (self.spill.holds_any(false), table::SPILL6),
        ]
        .into_iter()
        .fold(0, |bits, (holds, bit)| if holds { bits | bit } else { bits })
    }

    pub(super) fn get(&self, target: IpNet) -> Option<Ban> {
        let line = *self.bans.get(&target)?;
        Some(Records::ban(self.record_lines.memory(), line))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (IpNet, Ban)> {
        let memory = self.record_lines.memory();
        self.bans.iter().map(move |(target, line)| (*target, Records::ban(memory, *line)))
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = IpNet> {
        self.bans.keys().copied()
    }

    pub(super) fn lists(&self) -> impl Iterator<Item = ListId> {
        (1..=u8::MAX).filter(|list| self.v4.has_list(*list) || self.v6.has_list(*list)).map(ListId)
    }

    /// Bans a target, or moves the end of its ban: stores, and no system call unless a table grows.
    pub(super) fn put(&mut self, target: IpNet, until_ns: u64) -> Result<(), KernelError> {
        let Some(line) = self.record(target, until_ns)? else { return Ok(()) };
        let written = match self.write(target, line) {
            Ok(()) => Ok(()),
            Err(NotWritten::Crowded) => {
                self.erase(target);
                self.spill.insert(target, line)
            }
            Err(NotWritten::Kernel(error)) => Err(error),
        };
        if written.is_err() {
            self.withdraw(target);
        }
        written
    }

    /// Whether so many bans are entered sooner with tables that are made anew than one by one.
    pub(super) fn are_many(&self, bans: usize) -> bool {
        bans >= MANY && bans >= self.bans.len() / REMADE
    }

    /// Bans many targets, or moves the ends of their bans, with tables that are made anew. Where it
    /// fails, none is banned that was not before.
    pub(super) fn put_all(&mut self, bans: &[(IpNet, u64)]) -> Result<(), KernelError> {
        let mut new = Vec::with_capacity(bans.len());
        let written = self.note_all(bans, &mut new).and_then(|()| {
            let (v4, v6): (Vec<IpNet>, _) = new.iter().partition(|target| target.addr().is_ipv4());
            if !v4.is_empty() {
                self.rebuild4()?;
            }
            if v6.is_empty() { Ok(()) } else { self.rebuild6() }
        });
        if written.is_err() {
            for target in new {
                self.withdraw(target);
            }
        }
        written
    }

    fn note_all(&mut self, bans: &[(IpNet, u64)], new: &mut Vec<IpNet>) -> Result<(), KernelError> {
        for &(target, until_ns) in bans {
            let Some(line) = self.record(target, until_ns)? else { continue };
            new.push(target);
            if note(&mut self.v4, &mut self.v6, target, line).is_err() {
                self.spill.insert(target, line)?;
            }
        }
        Ok(())
    }

    /// Moves the end of a ban that there is, or gives the number of a new one, which is in no table.
    fn record(&mut self, target: IpNet, until_ns: u64) -> Result<Option<u32>, KernelError> {
        if let Some(&line) = self.bans.get(&target) {
            Records::extend(self.record_lines.memory(), line, target, until_ns);
            return Ok(None);
        }
        let added = self.records.add(self.record_lines.memory(), target, until_ns);
        let line = if let Some(line) = added {
            line
        } else {
            self.grow_records(target)?;
            let added = self.records.add(self.record_lines.memory(), target, until_ns);
            added.ok_or_else(|| full(self.record_lines.lines(), target))?
        };
        self.bans.insert(target, line);
        Ok(Some(line))
    }

    /// Takes back what was begun of a ban. What a trie does not give up stays banned.
    fn withdraw(&mut self, target: IpNet) {
        let Some(&line) = self.bans.get(&target) else { return };
        if self.spill.holds(target) {
            if self.spill.remove(target).is_err() {
                return;
            }
        } else {
            self.erase(target);
        }
        self.bans.remove(&target);
        Records::end(self.record_lines.memory(), line);
        self.records.free(line);
    }

    /// Whether there was a ban of exactly `target`. Where it fails it is there as before, to be tried
    /// again.
    pub(super) fn remove(&mut self, target: IpNet) -> Result<bool, KernelError> {
        let Some(&line) = self.bans.get(&target) else {
            return Ok(false);
        };
        // First of all, so that a daemon that comes after this one does not take it up again.
        Records::end(self.record_lines.memory(), line);
        if self.spill.holds(target) {
            self.spill.remove(target)?;
        } else {
            self.erase(target);
        }
        self.bans.remove(&target);
        self.records.free(line);
        Ok(true)
    }

    /// Replaces a list at once: a packet meets the earlier one or this one, and what neither changes
    /// is not noticed by any.
    pub(super) fn replace_list(
        &mut self,
        list: ListId,
        prefixes: &[IpNet],
    ) -> Result<ListReport, KernelError> {
        let (mut of_v4, mut of_v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => of_v4.push(interval(net.addr().to_bits(), net.prefix_len())),
                IpNet::V6(net) => of_v6.push((net.trunc().addr().to_bits(), net.prefix_len())),
            }
        }
        let is_v4_kept = of_v4.is_empty() && !self.v4.has_list(list.0);
        let is_v6_kept = of_v6.is_empty() && !self.v6.has_list(list.0);
        let earlier4 = self.v4.list(list.0, of_v4);
        let (earlier6, refused) = self.v6.list(list.0, of_v6);
        let replaced = (|| {
            // Both are made before either is put in place, so that neither is alone if one fails.
            let v4 = if is_v4_kept { None } else { Some(build4(&mut self.v4, &self.outer)?) };
            let v6 = if is_v6_kept { None } else { Some(build6(&mut self.v6, &self.outer)?) };
            if let Some(lines) = v4 {
                self.outer.put(inner::V4, &lines)?;
                self.v4_lines = lines;
            }
            if let Some(lines) = v6 {
                self.outer.put(inner::V6, &lines)?;
                self.v6_lines = lines;
            }
            Ok(ListReport { prefixes: prefixes.len() - refused, refused })
        })();
        if replaced.is_err() {
            self.v4.list(list.0, earlier4);
            self.v6.list(list.0, earlier6);
            self.v4.count_entries(self.v4_lines.memory());
            self.v6.count_entries(self.v6_lines.memory());
        }
        replaced
    }

    /// Packets dropped for a list, on every CPU.
    pub(super) fn list_drops(&self, list: ListId) -> Result<u64, KernelError> {
        let cpus = self.list_drops.get(&list.0.into(), 0);
        let cpus = cpus.map_err(|source| failed(LIST_DROPS, "read", source))?;
        Ok(cpus.iter().fold(0, |sum, drops| sum.wrapping_add(*drops)))
    }

    /// Octets of the tables.
    pub(super) fn octets(&self) -> usize {
        [&self.record_lines, &self.v4_lines, &self.v6_lines]
            .into_iter()
            .map(|region| region.memory().octets())
            .sum()
    }

    fn write(&mut self, target: IpNet, owner: u32) -> Result<(), NotWritten> {
        note(&mut self.v4, &mut self.v6, target, owner)?;
        let length = target.prefix_len();
        match target.addr() {
            IpAddr::V4(address) => {
                let memory = self.v4_lines.memory();
                let written = self.v4.write(memory, address.to_bits(), length);
                if written.is_err() || self.v4.is_crowded(memory.lines()) {
                    grown(self.rebuild4(), written.is_ok())?;
                }
            }
            IpAddr::V6(address) => {
                let memory = self.v6_lines.memory();
                let written = self.v6.write(memory, address.to_bits(), length);
                if written.is_err() || self.v6.is_crowded(memory.lines()) {
                    grown(self.rebuild6(), written.is_ok())?;
                }
            }
        }
        Ok(())
    }

    /// Makes the IPv4 table anew and puts it into the earlier one's place; if it cannot, that stays.
    fn rebuild4(&mut self) -> Result<(), KernelError> {
        let built = build4(&mut self.v4, &self.outer);
        let put = built.and_then(|lines| self.outer.put(inner::V4, &lines).map(|()| lines));
        let replaced = put.map(|lines| self.v4_lines = lines);
        if replaced.is_err() {
            self.v4.count_entries(self.v4_lines.memory());
        }
        replaced
    }

    fn rebuild6(&mut self) -> Result<(), KernelError> {
        let built = build6(&mut self.v6, &self.outer);
        let put = built.and_then(|lines| self.outer.put(inner::V6, &lines).map(|()| lines));
        let replaced = put.map(|lines| self.v6_lines = lines);
        if replaced.is_err() {
            self.v6.count_entries(self.v6_lines.memory());
        }
        replaced
    }

    fn erase(&mut self, target: IpNet) {
        forget(&mut self.v4, &mut self.v6, target);
        let length = target.prefix_len();
        match target.addr() {
            IpAddr::V4(address) => {
                self.v4.erase(self.v4_lines.memory(), address.to_bits(), length);
            }
            IpAddr::V6(address) => {
                self.v6.erase(self.v6_lines.memory(), address.to_bits(), length);
            }
        }
    }

    /// Doubles the records. What the kernel counts meanwhile is not lost.
    fn grow_records(&mut self, target: IpNet) -> Result<(), KernelError> {
        let lines = self.record_lines.lines();
        if lines >= Records::LINES_MAX {
            return Err(full(lines, target));
        }
        let larger = self.outer.make(Records::doubled(lines))?;
        let (from, to) = (self.record_lines.memory(), larger.memory());
        let copied = Records::copy(from, to);
        self.outer.put(inner::RECORDS, &larger)?;
        Records::settle(from, &copied, to);
        self.record_lines = larger;
        Ok(())
    }
}

/// Why a ban is in no table.
enum NotWritten {
    Crowded,
    Kernel(KernelError),
}

impl From<Crowded> for NotWritten {
    fn from(Crowded: Crowded) -> Self {
        Self::Crowded
    }
}

impl From<KernelError> for NotWritten {
    fn from(error: KernelError) -> Self {
        // What has no memory for a larger table may still have room in a trie.
        match error {
            KernelError::Memory { .. }
            | KernelError::NoLoader { .. }
            | KernelError::RefusedByLoader { .. } => Self::Crowded,
            other => Self::Kernel(other),
        }
    }
}

/// What a larger table has come to. A ban that is written in the one that there is needs none: that it
/// cannot be had now makes look-ups slower, and no more.
fn grown(rebuilt: Result<(), KernelError>, is_written: bool) -> Result<(), NotWritten> {
    match rebuilt.map_err(NotWritten::from) {
        Err(NotWritten::Crowded) if is_written => Ok(()),
        rebuilt => rebuilt,
    }
}

fn note(v4: &mut Bans4, v6: &mut Bans6, target: IpNet, owner: u32) -> Result<(), Crowded> {
    let length = target.prefix_len();
    match target.addr() {
        IpAddr::V4(address) => {
            v4.note(address.to_bits(), length, owner);
            Ok(())
        }
        IpAddr::V6(address) => v6.note(address.to_bits(), length, owner),
    }
}

fn forget(v4: &mut Bans4, v6: &mut Bans6, target: IpNet) {
    let length = target.prefix_len();
    match target.addr() {
        IpAddr::V4(address) => v4.forget(address.to_bits(), length),
        IpAddr::V6(address) => v6.forget(address.to_bits(), length),
    }
}

fn build4(bans: &mut Bans4, outer: &Outer) -> Result<Region, KernelError> {
    for attempt in 0..ATTEMPTS {
        let Some(lines) = bans.lines(attempt / 2) else { break };
        let region = outer.make(lines)?;
        if bans.build(region.memory(), seed()?) == Ok(()) {
            return Ok(region);
        }
    }
    Err(too_large())
}

fn build6(bans: &mut Bans6, outer: &Outer) -> Result<Region, KernelError> {
    for attempt in 0..ATTEMPTS {
        let Some(lines) = bans.lines(attempt / 2) else { break };
        let region = outer.make(lines)?;
        if bans.build(region.memory(), seed()?) == Ok(()) {
            return Ok(region);
        }
    }
    Err(too_large())
}

/// Numbers that nobody can guess.
fn seed() -> Result<Seed, KernelError> {
    let failed = |source| KernelError::Memory { action: "be seeded", source };
    let mut octets = [[0; 8]; 2];
    let mut random = File::open("/dev/urandom").map_err(failed)?;
    random.read_exact(octets.as_flattened_mut()).map_err(failed)?;
    let [one, two] = octets.map(u64::from_ne_bytes);
    Ok(Seed(one, two))
}

fn full(entries: u32, target: IpNet) -> KernelError {
    KernelError::Full { map: BANS.name, entries, target }
}

fn too_large() -> KernelError {
    let source = std::io::Error::new(
        std::io::ErrorKind::OutOfMemory,
        "what is banned does not fit into the largest table",
    );
    KernelError::Memory { action: "grow", source }
}

#[cfg(test)]
mod tests;
