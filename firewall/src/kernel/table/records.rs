//! Whom each ban bans, until when, and what it has dropped. It is what a later daemon finds of the
//! bans, and the number of a record is what a table's entry names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use firewall_common::Ban;
use firewall_common::lines::{LINE_WORDS, LISTS, VALID, record};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Memory;

/// Which numbers are taken.
#[derive(Debug)]
pub(crate) struct Records {
    free: Vec<u32>,
    /// The first number that never was taken.
    next: u32,
}

impl Records {
    /// Lines of an array with room for 3,840 bans, the smallest: 295 KB.
    pub(crate) const LINES_MIN: u32 = Self::lines(1 << 9);
    /// Lines of the largest, with room for a million: 75 MB.
    pub(crate) const LINES_MAX: u32 = Self::lines(1 << 17);

    const fn lines(drops_lines: u32) -> u32 {
        record::DROPS_LINE + drops_lines * (1 + LINE_WORDS)
    }

    /// Lines of an array twice as large.
    pub(crate) const fn doubled(lines: u32) -> u32 {
        Self::lines((lines - record::DROPS_LINE) / (1 + LINE_WORDS) * 2)
    }

    pub(crate) const fn new() -> Self {
        Self { free: Vec::new(), next: LISTS }
    }

    /// Takes over what `memory` holds: every ban and its number.
    pub(crate) fn adopt(memory: Memory<'_>) -> (Self, BTreeMap<IpNet, u32>) {
        let mut records = Self::new();
        // Sorted first: a map of a million that grows at random takes a second more.
        let named = |owner| Some((target(memory, owner)?, owner));
        let mut found: Vec<(IpNet, u32)> = owners(memory).filter_map(named).collect();
        found.sort_unstable();
        // Of two for one target, the later one is of a write that came to no end.
        found.dedup_by_key(|(target, _)| *target);
        let mut used: Vec<u32> = found.iter().map(|(_, owner)| *owner).collect();
        used.sort_unstable();
        if let Some(&last) = used.last() {
            records.next = last + 1;
            let mut used = used.into_iter().peekable();
            records.free = (LISTS..last).filter(|owner| used.next_if_eq(owner).is_none()).collect();
            for &owner in &records.free {
                Self::end(memory, owner);
            }
        }
        (records, found.into_iter().collect())
    }

    /// Writes a ban under a free number; none if all are taken.
    pub(crate) fn add(&mut self, memory: Memory<'_>, target: IpNet, until_ns: u64) -> Option<u32> {
        let owner = self.free.pop().or_else(|| {
            owners(memory).contains(&self.next).then(|| {
                self.next += 1;
                self.next - 1
            })
        })?;
        let (high, low, meta) = named(target);
        let line = line(memory, owner);
        memory.store(line, record::HIGH, high);
        memory.store(line, record::LOW, low);
        memory.store(line, record::UNTIL_MONO_NS, until_ns);
        let (drops, word) = record::drops(owner);
        memory.store(drops, word, 0);
        memory.store(line, record::META, VALID | meta);
        Some(owner)
    }

    /// Says that the ban is no more. Its number is taken again after [`Records::free`].
    pub(crate) fn end(memory: Memory<'_>, owner: u32) {
        memory.store(line(memory, owner), record::META, 0);
    }

    pub(crate) fn free(&mut self, owner: u32) {
        self.free.push(owner);
    }

    /// Moves the end of a ban, also of one that was said to be no more and is not free yet.
    pub(crate) fn extend(memory: Memory<'_>, owner: u32, target: IpNet, until_ns: u64) {
        let (line, (_, _, meta)) = (line(memory, owner), named(target));
        memory.store(line, record::UNTIL_MONO_NS, until_ns);
        memory.store(line, record::META, VALID | meta);
    }

    /// Counts on from what an earlier table has counted.
    pub(crate) fn resume(memory: Memory<'_>, owner: u32, dropped: u64) {
        let (line, word) = record::drops(owner);
        memory.add(line, word, dropped);
    }

    pub(crate) fn ban(memory: Memory<'_>, owner: u32) -> Ban {
        let (drops, word) = record::drops(owner);
        Ban {
            until_mono_ns: memory.load(line(memory, owner), record::UNTIL_MONO_NS),
            drops: memory.load(drops, word),
        }
    }

    /// Copies every record into a larger array, and gives the drops that were copied.
    pub(crate) fn copy(from: Memory<'_>, to: Memory<'_>) -> Vec<u64> {
        let copy = |owner| {
            let (old, new) = (line(from, owner), line(to, owner));
            for word in record::HIGH..=record::META {
                to.store(new, word, from.load(old, word));
            }
            let (line, word) = record::drops(owner);
            let dropped = from.load(line, word);
            to.store(line, word, dropped);
            dropped
        };
        owners(from).map(copy).collect()
    }

    /// Adds what the kernel counted in `from` since it was copied, now that it counts in `to`.
    pub(crate) fn settle(from: Memory<'_>, copied: &[u64], to: Memory<'_>) {
        for (owner, copied) in owners(from).zip(copied) {
            let (line, word) = record::drops(owner);
            let since = from.load(line, word).wrapping_sub(*copied);
            if since != 0 {
                to.add(line, word, since);
            }
        }
    }
}

/// The lines of drops, eight or a multiple.
fn drops_lines(memory: Memory<'_>) -> u32 {
    (memory.lines() - record::DROPS_LINE) / (1 + LINE_WORDS)
}

/// The numbers for which there is room.
fn owners(memory: Memory<'_>) -> Range<u32> {
    LISTS..drops_lines(memory) * LINE_WORDS
}

/// The line of a record.
fn line(memory: Memory<'_>, owner: u32) -> u32 {
    record::DROPS_LINE + drops_lines(memory) + owner
}

fn target(memory: Memory<'_>, owner: u32) -> Option<IpNet> {
    let line = line(memory, owner);
    let meta = memory.load(line, record::META);
    if meta & VALID == 0 {
        return None;
    }
    let length = u8::try_from(meta & 0xff).ok()?;
    let [high, low] = [record::HIGH, record::LOW].map(|word| memory.load(line, word));
    if meta & record::V4 != 0 {
        return Ipv4Net::new(u32::try_from(low).ok()?.into(), length).ok().map(IpNet::from);
    }
    let address = u128::from(high) << 64 | u128::from(low);
    Ipv6Net::new(address.into(), length).ok().map(IpNet::from)
}

/// The words of a record that name its target.
fn named(target: IpNet) -> (u64, u64, u64) {
    let length = u64::from(target.prefix_len());
    match target.addr() {
        IpAddr::V4(address) => (0, address.to_bits().into(), record::V4 | length),
        IpAddr::V6(address) => {
            let (high, low) = halves(address.to_bits());
            (high, low, length)
        }
    }
}

/// The first and the last 64 bits of an IPv6 address.
pub(super) fn halves(bits: u128) -> (u64, u64) {
    let low = u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
    (u64::try_from(bits >> 64).unwrap_or(0), low)
}
