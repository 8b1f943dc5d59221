//! What the program has counted, as the daemon reads it: by interface, family and reason.

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use firewall_common::maps::COUNTERS;
use firewall_common::{COUNTER_LOST, Counter, Reason, counter, given_up, unattended};

use super::failed;
use crate::kernel::KernelError;

/// Packets and octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Count {
    pub packets: u64,
    /// Octets of the frames, from the Ethernet header on.
    pub bytes: u64,
}

impl Count {
    const fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.wrapping_add(other.packets),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

/// What the program has counted, summed over the CPUs.
///
/// Each packet is counted once as acted upon, by what became of it; and once as observed for each
/// check that objected in observe mode.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    interfaces: Vec<InterfaceCounters>,
    /// Events that found the ring buffer full.
    pub events_lost: u64,
}

/// What was counted of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// The interface as it was called when it was attached to; none for all those without counters
    /// of their own.
    pub name: Option<String>,
    /// By [`cell`].
    cells: Vec<Count>,
}

impl InterfaceCounters {
    /// What became of packets of IPv6, or of everything else.
    pub fn acted(&self, reason: Reason, is_ipv6: bool) -> Count {
        self.cells.get(cell(reason, is_ipv6, false)).copied().unwrap_or_default()
    }

    /// The same of checks that only observed.
    pub fn observed(&self, reason: Reason, is_ipv6: bool) -> Count {
        self.cells.get(cell(reason, is_ipv6, true)).copied().unwrap_or_default()
    }

    /// Packets that would have been dropped, and passed because no daemon was there any more; see
    /// [`Options::stale_after`](crate::kernel::Options::stale_after).
    pub fn unattended(&self, is_ipv6: bool) -> Count {
        self.cells.get(unattended(0, is_ipv6) as usize).copied().unwrap_or_default()
    }

    /// Packets that the program gave up on.
    pub fn given_up(&self) -> u64 {
        self.cells.get(given_up(0) as usize).map_or(0, |count| count.packets)
    }
}

/// Where a slot's count is among its cells: as in the map, from the slot's first counter on.
const fn cell(reason: Reason, is_ipv6: bool, observed: bool) -> usize {
    counter(0, reason as u32, is_ipv6, observed) as usize
}

impl Counters {
    /// Reads the counters of these slots, each with its interface's name.
    pub(in crate::kernel) fn read(
        map: &PerCpuArray<MapData, Counter>,
        slots: impl Iterator<Item = (u32, Option<String>)>,
    ) -> Result<Self, KernelError> {
        let mut interfaces = Vec::new();
        for (slot, name) in slots {
            let mut cells = Vec::new();
            for &reason in Reason::ALL {
                for (is_ipv6, observed) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    cells.push(sum(map, counter(slot, reason as u32, is_ipv6, observed))?);
                }
            }
            interfaces.push(InterfaceCounters { name, cells });
        }
        Ok(Self { interfaces, events_lost: sum(map, COUNTER_LOST)?.packets })
    }

    /// Each interface that has counters of its own, and the others together.
    pub fn interfaces(&self) -> &[InterfaceCounters] {
        &self.interfaces
    }

    /// The packets of all interfaces and families.
    pub fn acted(&self, reason: Reason) -> Count {
        self.total(|interface, is_ipv6| interface.acted(reason, is_ipv6))
    }

    /// The packets of all interfaces and families that a check only observed.
    pub fn observed(&self, reason: Reason) -> Count {
        self.total(|interface, is_ipv6| interface.observed(reason, is_ipv6))
    }

    /// The packets of all interfaces and families that passed for want of a daemon.
    pub fn unattended(&self) -> Count {
        self.total(InterfaceCounters::unattended)
    }

    /// Packets that the program gave up on (`XDP_ABORTED`): none, unless it is wrong.
    pub fn given_up(&self) -> u64 {
        self.interfaces.iter().map(InterfaceCounters::given_up).sum()
    }

    fn total(&self, of: impl Fn(&InterfaceCounters, bool) -> Count) -> Count {
        let both =
            self.interfaces.iter().map(|interface| of(interface, false).plus(of(interface, true)));
        both.fold(Count::default(), Count::plus)
    }
}

fn sum(map: &PerCpuArray<MapData, Counter>, index: u32) -> Result<Count, KernelError> {
    let cpus = map.get(&index, 0).map_err(|source| failed(COUNTERS, "read", source))?;
    Ok(cpus.iter().fold(Count::default(), |sum, cpu| {
        sum.plus(Count { packets: cpu.packets, bytes: cpu.bytes })
    }))
}

/// Forgets what was counted in a slot, which another interface had.
pub(super) fn clear(map: &mut PerCpuArray<MapData, Counter>, slot: u32) -> Result<(), KernelError> {
    let failed = |source| failed(COUNTERS, "take a value", source);
    let zeros = || {
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        PerCpuValues::try_from(vec![Counter::default(); cpus])
    };
    for &reason in Reason::ALL {
        for (is_ipv6, observed) in [(false, false), (false, true), (true, false), (true, true)] {
            let zeros = zeros().map_err(|error| failed(error.into()))?;
            let index = counter(slot, reason as u32, is_ipv6, observed);
            map.set(index, zeros, 0).map_err(failed)?;
        }
    }
    Ok(())
}
