//! The bytes that the kernel's program and the daemon share: both compile this definition, and the
//! layout is asserted in both worlds.
//!
//! Integers and byte arrays only. Addresses are in network order, times are nanoseconds on
//! `CLOCK_MONOTONIC`.
#![cfg_attr(not(any(test, feature = "user")), no_std)]
#![expect(clippy::inline_always, reason = "the verifier walks a call anew for each way to it")]

mod budget;
pub mod lines;
pub mod maps;
mod reason;
pub mod table4;
pub mod table6;

pub use budget::{BUCKET_SETS, BucketSet, Budget, Budgeted, Budgets, Payer, Tally, WAYS};
pub use reason::{Evidence, Mode, Reason, Reasons, Role, UnknownReason};

/// The version of everything here and of the maps' capacities. Maps that outlive a daemon are pinned
/// beneath it, so that a daemon never reads another version's bytes: raise it with every change of
/// layout, capacity or meaning.
pub const LAYOUT: u32 = 6;

/// A ban with this deadline never ends.
pub const FOREVER: u64 = u64::MAX;

/// One ban, as a [`record`](lines::record) says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ban {
    /// When it ends; [`FOREVER`] does not. The daemon lifts it then, the kernel reads no clock.
    pub until_mono_ns: u64,
    /// Packets that this ban has dropped; the kernel adds to it.
    pub drops: u64,
}

/// What one CPU has counted of one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Counter {
    pub packets: u64,
    /// Octets of the frames, from the Ethernet header on.
    pub bytes: u64,
    /// No event of this reason is sent from this CPU before this moment.
    pub event_mono_ns: u64,
    /// The tick at which that was asked last: until the next one the answer is the same.
    pub asked_tick: u64,
}

/// What the program is told once: one entry, read once a packet, written by the daemon alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Config {
    /// Which tables are worth a lookup: bits of [`table`].
    pub tables: u32,
    /// What is served: bits of [`served`].
    pub served: u32,
    /// The least time between two events from one counter on one CPU.
    pub event_interval_ns: u64,
    /// The reasons of which more is wanted for the time being.
    pub captured: Reasons,
    /// The least time between two events of those.
    pub capture_interval_ns: u64,
    /// Nothing is dropped while the clock is before this, and all that would be is counted as
    /// observed. It ends by itself, whether the daemon lives or not.
    pub pass_until_mono_ns: u64,
    /// The ports at which the proxy listens; unused places repeat the first, or are zero.
    pub ports: [u16; PORTS],
    /// For each of the host's addresses the bit [`own_bit`]: whether the table of them is worth a
    /// lookup.
    pub own: u64,
    /// Nothing is dropped from this moment on, which the daemon keeps moving while it lives, and all
    /// that would be is counted as observed, and beside that as [`unattended`]. Zero if it never comes.
    pub drop_until_mono_ns: u64,
}

impl Config {
    /// Every table empty, nothing served, ten events a second.
    pub const fn new() -> Self {
        Self {
            tables: 0,
            served: 0,
            event_interval_ns: EVENT_INTERVAL_NS,
            captured: Reasons::NONE,
            capture_interval_ns: EVENT_INTERVAL_NS,
            pass_until_mono_ns: 0,
            ports: [0; PORTS],
            own: 0,
            drop_until_mono_ns: 0,
        }
    }

    /// The same with the proxy listening at `ports`; those beyond the first eight are not known.
    #[must_use]
    pub fn serving(mut self, ports: &[u16], quic: bool) -> Self {
        let first = ports.first().copied().unwrap_or(0);
        let listed = ports.iter().copied().chain(core::iter::repeat(first));
        for (place, port) in self.ports.iter_mut().zip(listed) {
            *place = port;
        }
        self.served = if quic { served::QUIC } else { 0 };
        self
    }

    /// Whether the proxy listens at this port.
    #[inline(always)]
    pub const fn serves(&self, port: u16) -> bool {
        let [p0, p1, p2, p3, p4, p5, p6, p7] = self.ports;
        let low = p0 == port || p1 == port || p2 == port || p3 == port;
        let high = p4 == port || p5 == port || p6 == port || p7 == port;
        (low || high) && port != 0
    }

    /// Whether QUIC is answered at the ports.
    #[inline(always)]
    pub const fn serves_quic(&self) -> bool {
        self.served & served::QUIC != 0
    }

    /// Whether any of the tables `bits` of [`table`] is worth a lookup.
    #[inline(always)]
    pub const fn has(&self, bits: u32) -> bool {
        self.tables & bits != 0
    }
}

/// Ports that the proxy can be known to listen at.
pub const PORTS: usize = 8;

/// The bits of [`Config::served`].
pub mod served {
    /// QUIC is answered at the proxy's ports.
    pub const QUIC: u32 = 1;
}

/// The bit of [`Config::own`] that an address has, given as the two words of its sixteen octets in
/// memory, an IPv4 address being the first four before zeros.
#[inline(always)]
pub const fn own_bit([high, low]: [u64; 2]) -> u64 {
    // Fibonacci hashing: the top bits of a product are the mixed ones.
    1 << ((high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

/// What the program is told of the interface that a packet came in by: read once a packet, written
/// by the daemon alone, at [`policy_index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Policy {
    /// The reasons that drop.
    pub drop: Reasons,
    /// The reasons that are counted and pass. A reason in neither set is off.
    pub observe: Reasons,
    /// Whose counters these packets are counted in, below [`SLOTS`].
    pub slot: u32,
    pub reserved: u32,
}

impl Policy {
    /// Every reason in the mode that is its default in this role, counted in [`SLOT_OTHERS`].
    pub const fn new(role: Role) -> Self {
        let mut policy =
            Self { drop: Reasons::NONE, observe: Reasons::NONE, slot: SLOT_OTHERS, reserved: 0 };
        let mut rest = Reason::ALL;
        while let [reason, tail @ ..] = rest {
            policy = policy.with(*reason, reason.default_mode(role));
            rest = tail;
        }
        policy
    }

    /// The same with `reason` in `mode`.
    #[must_use]
    pub const fn with(mut self, reason: Reason, mode: Mode) -> Self {
        self.drop = self.drop.without(reason);
        self.observe = self.observe.without(reason);
        match mode {
            Mode::Drop => self.drop = self.drop.with(reason),
            Mode::Observe => self.observe = self.observe.with(reason),
            Mode::Off => {}
        }
        self
    }
}

/// Entries of policies: interfaces whose indices are alike modulo this share one.
pub const POLICIES: u32 = 1024;

/// The index of an interface's [`Policy`].
#[inline(always)]
pub const fn policy_index(interface: u32) -> u32 {
    interface & (POLICIES - 1)
}

/// Interfaces that have counters of their own, and [`SLOT_OTHERS`].
pub const SLOTS: u32 = 32;

/// The counters of interfaces that have none of their own.
pub const SLOT_OTHERS: u32 = 0;

/// The bits of [`Config::tables`]. A bit is set before the first entry of its table is written and
/// cleared after the last was removed.
pub mod table {
    pub const BAN4: u32 = 1;
    pub const BAN6: u32 = 1 << 2;
    /// What the memory-mapped tables refused.
    pub const SPILL4: u32 = 1 << 3;
    pub const SPILL6: u32 = 1 << 4;
    pub const ALLOW4: u32 = 1 << 5;
    pub const ALLOW6: u32 = 1 << 6;
    /// Some ban covers an allowed address: only then does a ban that is hit ask the allowlist, which
    /// keeps the commonest drop free of a trie lookup.
    pub const ALLOWED_BAN: u32 = 1 << 7;
}

/// Octets of a frame that an event holds at most: the headers.
pub const SAMPLE_OCTETS: usize = 148;

/// One packet that was dropped, or would have been: a sample, at most one in
/// [`Config::event_interval_ns`] for each counter and CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DropEvent {
    /// When, on the kernel's coarse clock.
    pub mono_ns: u64,
    /// An IPv4 address stands in the first four octets.
    pub source: [u8; 16],
    /// Octets of the frame.
    pub length: u32,
    pub interface: u32,
    /// A [`Reason`].
    pub reason: u32,
    /// 4, 6, or 0 where the frame ended before its source.
    pub family: u16,
    /// 1 if the packet was let pass, the reason's mode being observe.
    pub observed: u16,
    /// Octets of `frame` that are the packet's; what follows is nothing.
    pub sampled: u32,
    /// The frame's first octets, from the Ethernet header on.
    pub frame: [u8; SAMPLE_OCTETS],
}

/// The least time between two events from one counter on one CPU, unless more is wanted.
pub const EVENT_INTERVAL_NS: u64 = 100_000_000;

/// Counters of one interface slot: room for [`Reasons::BITS`] reasons, each in both families, acted
/// upon or only observed.
pub const COUNTERS_PER_SLOT: u32 = Reasons::BITS * 4;

/// The number of counters: those of each slot, and one for events that found the ring full.
pub const COUNTERS: u32 = SLOTS * COUNTERS_PER_SLOT + 1;

/// The index of the counter of events that found the ring full.
pub const COUNTER_LOST: u32 = SLOTS * COUNTERS_PER_SLOT;

/// The index of the counter of the reason with this number in a slot, of IPv6 or of everything else,
/// acted upon or only observed.
#[inline(always)]
pub const fn counter(slot: u32, reason: u32, is_ipv6: bool, observed: bool) -> u32 {
    (slot & (SLOTS - 1)) * COUNTERS_PER_SLOT
        + (reason & (Reasons::BITS - 1)) * 4
        + is_ipv6 as u32 * 2
        + observed as u32
}

/// The index of the counter of packets that passed because no daemon was there any more: what passed
/// has no other use for a counter of what was only observed.
pub const fn unattended(slot: u32, is_ipv6: bool) -> u32 {
    counter(slot, Reason::Passed as u32, is_ipv6, true)
}

/// The index of the counter of packets that the program gave up on (`XDP_ABORTED`): the allowlist, too,
/// has no other use for a counter of what was only observed.
#[inline(always)]
pub const fn given_up(slot: u32) -> u32 {
    counter(slot, Reason::Allowed as u32, false, true)
}

/// What the program can be made to do wrong with every packet when it is loaded, for tests alone.
pub mod fault {
    pub const NONE: u8 = 0;
    /// Gives up on it.
    pub const ABORT: u8 = 1;
    /// Drops it, and counts it under its first check.
    pub const DROP: u8 = 2;
}

// The kernel copies these as raw bytes: a hole would leak, a moved field would lie.
const _: () = {
    use core::mem::offset_of;
    // Two in a cache line, none across.
    assert!(size_of::<Counter>() == 32);
    assert!(offset_of!(Counter, event_mono_ns) == 16);
    assert!(size_of::<Config>() == 72);
    assert!(offset_of!(Config, captured) == 16);
    assert!(size_of::<Policy>() == 24);
    assert!(offset_of!(Policy, slot) == 16);
    assert!(POLICIES.is_power_of_two() && SLOTS.is_power_of_two());
    assert!(size_of::<DropEvent>() == 192);
    assert!(offset_of!(DropEvent, length) == 24);
    assert!(offset_of!(DropEvent, observed) == 38);
    assert!(offset_of!(DropEvent, frame) == 44);
    assert!(Reason::COUNT <= Reasons::BITS);
    assert!(counter(SLOTS - 1, Reasons::BITS - 1, true, true) + 1 == COUNTER_LOST);
};

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya asks for the promise that these are plain bytes")]
mod pod {
    use super::{Config, Counter, Policy};

    // SAFETY: `repr(C)`, `Copy`, no padding (asserted above), every bit pattern is a value.
    unsafe impl aya::Pod for Counter {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Config {}
    // SAFETY: as above; `Reasons` is a transparent `u64`.
    unsafe impl aya::Pod for Policy {}
}

#[cfg(feature = "user")]
impl DropEvent {
    /// The event in one record of the ring buffer; none if the record is of another size.
    pub fn from_bytes(record: &[u8]) -> Option<Self> {
        let (mono_ns, rest) = record.split_first_chunk::<8>()?;
        let (source, rest) = rest.split_first_chunk::<16>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (interface, rest) = rest.split_first_chunk::<4>()?;
        let (reason, rest) = rest.split_first_chunk::<4>()?;
        let (family, rest) = rest.split_first_chunk::<2>()?;
        let (observed, rest) = rest.split_first_chunk::<2>()?;
        let (sampled, rest) = rest.split_first_chunk::<4>()?;
        Some(Self {
            mono_ns: u64::from_ne_bytes(*mono_ns),
            source: *source,
            length: u32::from_ne_bytes(*length),
            interface: u32::from_ne_bytes(*interface),
            reason: u32::from_ne_bytes(*reason),
            family: u16::from_ne_bytes(*family),
            observed: u16::from_ne_bytes(*observed),
            sampled: u32::from_ne_bytes(*sampled),
            frame: rest.try_into().ok()?,
        })
    }

    /// The frame's first octets.
    pub fn sample(&self) -> &[u8] {
        let sampled = usize::try_from(self.sampled).unwrap_or(0);
        self.frame.get(..sampled).unwrap_or_default()
    }

    /// The source that the packet named; none where the frame ended before it.
    pub fn address(&self) -> Option<std::net::IpAddr> {
        match self.family {
            4 => self.source.first_chunk::<4>().map(|octets| std::net::IpAddr::from(*octets)),
            6 => Some(std::net::IpAddr::from(self.source)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_in_one_mode() {
        let policy = Policy::new(Role::Lan);
        for &reason in Reason::ALL {
            let mode = match (policy.drop.holds(reason), policy.observe.holds(reason)) {
                (true, false) => Mode::Drop,
                (false, true) => Mode::Observe,
                (false, false) => Mode::Off,
                (true, true) => panic!("{} both drops and passes", reason.id()),
            };
            assert_eq!(mode, reason.default_mode(Role::Lan), "{}", reason.id());
        }
        let policy = policy.with(Reason::T1, Mode::Observe);
        assert!(policy.observe.holds(Reason::T1) && !policy.drop.holds(Reason::T1));
        let policy = policy.with(Reason::T1, Mode::Off);
        assert!(!policy.observe.holds(Reason::T1) && !policy.drop.holds(Reason::T1));
    }

    #[test]
    fn counters_do_not_meet() {
        let mut seen = std::collections::HashSet::from([COUNTER_LOST]);
        for slot in 0..SLOTS {
            for &reason in Reason::ALL {
                for (is_ipv6, observed) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    let index = counter(slot, reason as u32, is_ipv6, observed);
                    assert!(index < COUNTERS && seen.insert(index), "{slot} {}", reason.id());
                }
            }
        }
    }

    #[cfg(feature = "user")]
    #[test]
    fn an_event_is_read_whole_or_not_at_all() {
        let mut record = [0; size_of::<DropEvent>()];
        record[8..12].copy_from_slice(&[192, 0, 2, 7]);
        record[36..38].copy_from_slice(&4_u16.to_ne_bytes());
        let event = DropEvent::from_bytes(&record).unwrap();
        assert_eq!(event.address(), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(event.sample(), [0_u8; 0]);
        record[40..44].copy_from_slice(&3_u32.to_ne_bytes());
        record[44..47].copy_from_slice(&[7, 8, 9]);
        assert_eq!(DropEvent::from_bytes(&record).unwrap().sample(), [7, 8, 9]);
        for short in 0..record.len() {
            assert_eq!(DropEvent::from_bytes(&record[..short]), None);
        }
        assert_eq!(DropEvent::from_bytes(&[0; 193]), None);
    }
}
