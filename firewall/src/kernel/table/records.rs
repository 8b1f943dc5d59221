//! One line for each ban: whom it bans, until when, and what it has dropped. It is what a later
//! daemon finds of the bans, and the number of the line is what a table's entry names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use firewall_common::Ban;
use firewall_common::lines::{LISTS, OWNER_MASK, VALID, record};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Memory;

/// Which lines hold records.
#[derive(Debug)]
pub(crate) struct Records {
    free: Vec<u32>,
    /// The first line that never was one.
    next: u32,
}

impl Records {
    /// Lines of the smallest array: 256 KiB.
    pub(crate) const LINES_MIN: u32 = 4_096;
    /// Lines of the largest: 64 MiB.
    pub(crate) const LINES_MAX: u32 = 1 << 20;

    pub(crate) const fn new() -> Self {
        Self { free: Vec::new(), next: LISTS }
    }

    /// Takes over what `memory` holds: every ban and the number of its line.
    pub(crate) fn adopt(memory: Memory<'_>) -> (Self, BTreeMap<IpNet, u32>) {
        let mut adopted = BTreeMap::new();
        let mut records = Self::new();
        for line in LISTS..memory.lines() {
            if let Some(target) = target(memory, line) {
                // Of two lines for one target, the later one is of a write that came to no end.
                adopted.entry(target).or_insert(line);
            }
        }
        let used: std::collections::BTreeSet<u32> = adopted.values().copied().collect();
        if let Some(&last) = used.last() {
            records.next = last + 1;
            records.free = (LISTS..last).filter(|line| !used.contains(line)).collect();
            for &line in &records.free {
                memory.store(line, record::META, 0);
            }
        }
        (records, adopted)
    }

    /// Writes a ban into a free line; none if all are taken.
    pub(crate) fn add(&mut self, memory: Memory<'_>, target: IpNet, until_ns: u64) -> Option<u32> {
        let line = self.free.pop().or_else(|| {
            (self.next < memory.lines().min(OWNER_MASK)).then(|| {
                self.next += 1;
                self.next - 1
            })
        })?;
        let (high, low, meta) = named(target);
        memory.store(line, record::HIGH, high);
        memory.store(line, record::LOW, low);
        memory.store(line, record::UNTIL_MONO_NS, until_ns);
        memory.store(line, record::DROPS, 0);
        memory.store(line, record::META, VALID | meta);
        Some(line)
    }

    /// Says that the ban is no more. Its line is taken again after [`Records::free`].
    pub(crate) fn end(memory: Memory<'_>, line: u32) {
        memory.store(line, record::META, 0);
    }

    pub(crate) fn free(&mut self, line: u32) {
        self.free.push(line);
    }

    pub(crate) fn extend(memory: Memory<'_>, line: u32, until_ns: u64) {
        memory.store(line, record::UNTIL_MONO_NS, until_ns);
    }

    pub(crate) fn ban(memory: Memory<'_>, line: u32) -> Ban {
        Ban {
            until_mono_ns: memory.load(line, record::UNTIL_MONO_NS),
            drops: memory.load(line, record::DROPS),
        }
    }

    /// Copies every record into a larger array.
    pub(crate) fn copy(from: Memory<'_>, to: Memory<'_>) {
        for line in LISTS..from.lines() {
            for word in record::HIGH..=record::META {
                to.store(line, word, from.load(line, word));
            }
        }
    }

    /// Adds what the kernel counted in `from` since it was copied, now that it counts in `to`.
    pub(crate) fn settle(from: Memory<'_>, copied: &[u64], to: Memory<'_>) {
        for (line, copied) in (LISTS..from.lines()).zip(copied) {
            let since = from.load(line, record::DROPS).wrapping_sub(*copied);
            if since != 0 {
                to.add(line, record::DROPS, since);
            }
        }
    }

    /// The drops of every record, by line.
    pub(crate) fn drops(memory: Memory<'_>) -> Vec<u64> {
        (LISTS..memory.lines()).map(|line| memory.load(line, record::DROPS)).collect()
    }
}

fn target(memory: Memory<'_>, line: u32) -> Option<IpNet> {
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
