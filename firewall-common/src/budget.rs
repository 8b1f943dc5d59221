//! Budgets: how much of what kind a source may send, and everybody together; where it is kept, and
//! what is shed under pressure.
//!
//! A bucket is one moment, the one at which everything spent is earned again (the generic cell rate
//! algorithm, ITU-T I.371): a packet of a budget costs `interval_ns`, and may be paid for while the
//! debt stays within `burst_ns`. A bucket whose moment has passed is full, which is what an unused
//! one is, so that no state need be made for a source, and none be taken away.

/// How much may be sent: one packet in `interval_ns`, and `burst_ns` of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Budget {
    /// What one packet costs; at zero nothing is ever refused.
    pub interval_ns: u64,
    /// How much debt is borne.
    pub burst_ns: u64,
}

impl Budget {
    /// Every packet conforms.
    pub const UNLIMITED: Self = Self { interval_ns: 0, burst_ns: 0 };

    /// `rate` packets in a second, and `burst` of them at once; a rate above 10^9 is unlimited, one
    /// of zero never earns anything.
    pub const fn per_second(rate: u32, burst: u32) -> Self {
        if rate == 0 {
            return Self { interval_ns: u64::MAX, burst_ns: 0 };
        }
        let interval_ns = 1_000_000_000 / rate as u64;
        Self { interval_ns, burst_ns: interval_ns * burst as u64 }
    }
}

/// What has a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Budgeted {
    /// New TCP connections of one source.
    Syn = 0,
    /// UDP datagrams of one source.
    Udp = 1,
    /// ICMP echo requests of one source.
    Echo = 2,
    /// Packets of one source.
    Packets = 3,
    /// ICMP echo requests of all.
    EveryEcho = 4,
    /// ICMP errors of all.
    EveryError = 5,
}

impl Budgeted {
    pub const ALL: [Self; 6] =
        [Self::Syn, Self::Udp, Self::Echo, Self::Packets, Self::EveryEcho, Self::EveryError];
}

/// What the program is told of budgets: one entry, read by packets that have one, written by the
/// daemon alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Budgets {
    /// By [`Budgeted`].
    pub budgets: [Budget; Budgeted::ALL.len()],
    /// Until when new connections of sources that are not in good standing are shed. A deadline, and
    /// not a switch: a daemon that dies must not leave strangers shut out.
    pub shed_until_mono_ns: u64,
    /// What of them is shed, of 2^32; the highest value is all.
    pub shed: u32,
    /// Whether any source has a multiplier.
    pub has_multipliers: u32,
    /// Secrets of this daemon's run that place sources in [`Buckets`](BucketSet): another pair, and
    /// everything spent is forgotten.
    pub seeds: [u64; 2],
}

impl Budgets {
    #[inline(always)]
    pub const fn of(&self, budgeted: Budgeted) -> Budget {
        let [syn, udp, echo, packets, every_echo, every_error] = self.budgets;
        match budgeted {
            Budgeted::Syn => syn,
            Budgeted::Udp => udp,
            Budgeted::Echo => echo,
            Budgeted::Packets => packets,
            Budgeted::EveryEcho => every_echo,
            Budgeted::EveryError => every_error,
        }
    }

    /// The same with another budget.
    #[must_use]
    pub const fn with(mut self, budgeted: Budgeted, budget: Budget) -> Self {
        let [syn, udp, echo, packets, every_echo, every_error] = &mut self.budgets;
        match budgeted {
            Budgeted::Syn => *syn = budget,
            Budgeted::Udp => *udp = budget,
            Budgeted::Echo => *echo = budget,
            Budgeted::Packets => *packets = budget,
            Budgeted::EveryEcho => *every_echo = budget,
            Budgeted::EveryError => *every_error = budget,
        }
        self
    }
}

/// Buckets among which one source's is sought: a cache line of them.
pub const WAYS: usize = 4;

/// Sets of buckets, on each CPU: 16,384 buckets in 256 KiB, which a core's own cache holds.
pub const BUCKET_SETS: u32 = 4096;

/// The buckets that one hash leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct BucketSet {
    /// Whose bucket each is, by a hash of source and budget.
    pub owners: [u64; WAYS],
    /// When what was spent is earned again.
    pub settled_mono_ns: [u64; WAYS],
}

/// What one CPU keeps of all sources together: one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Tally {
    /// The buckets of budgets that are everybody's: echo requests, errors.
    pub echo_settled_mono_ns: u64,
    pub error_settled_mono_ns: u64,
    /// SYNs that came as far as the budgets.
    pub syns: u64,
    /// Those of them whose source was in good standing while others were shed.
    pub spared: u64,
}

/// Who pays: an IPv4 address, or an IPv6 /64, in which one host may take any address it likes
/// (RFC 7934).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct Payer {
    /// The octets in network order, as they stand in memory: an address's four before zeros, or the
    /// first eight of an IPv6 address.
    pub word: u64,
    /// 4 or 6.
    pub family: u64,
}

impl Payer {
    /// The octets by which networks are told apart in one trie: IPv4 addresses mapped into IPv6
    /// (RFC 4291 2.5.5.2).
    #[inline(always)]
    pub const fn mapped(self) -> [u64; 2] {
        let [a, b, c, d, ..] = self.word.to_ne_bytes();
        if self.family == 4 {
            [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])]
        } else {
            [self.word, 0]
        }
    }
}

// The kernel copies these as raw bytes: a hole would leak, a moved field would lie.
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Budget>() == 16);
    assert!(size_of::<Budgets>() == 128);
    assert!(offset_of!(Budgets, shed_until_mono_ns) == 96);
    assert!(offset_of!(Budgets, seeds) == 112);
    assert!(size_of::<BucketSet>() == 64);
    assert!(size_of::<Tally>() == 32);
    assert!(size_of::<Payer>() == 16);
    assert!(BUCKET_SETS.is_power_of_two());
};

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya asks for the promise that these are plain bytes")]
mod pod {
    use super::{BucketSet, Budgets, Payer, Tally};

    // SAFETY: `repr(C)`, `Copy`, no padding (asserted above), every bit pattern is a value.
    unsafe impl aya::Pod for BucketSet {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Budgets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Payer {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Tally {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_budget_is_its_own() {
        let mut budgets = Budgets::default();
        for (rate, budgeted) in (1..).zip(Budgeted::ALL) {
            budgets = budgets.with(budgeted, Budget::per_second(rate, 1));
        }
        for ((rate, budgeted), number) in (1..).zip(Budgeted::ALL).zip(0..) {
            assert_eq!(budgets.of(budgeted), Budget::per_second(rate, 1));
            assert_eq!(budgeted as u32, number);
        }
    }

    #[test]
    fn rates_at_their_bounds() {
        assert_eq!(
            Budget::per_second(200, 400),
            Budget { interval_ns: 5_000_000, burst_ns: 2_000_000_000 }
        );
        assert_eq!(Budget::per_second(u32::MAX, 1), Budget::UNLIMITED);
        assert_eq!(Budget::per_second(0, 9).burst_ns, 0);
        let most = Budget::per_second(1, u32::MAX);
        assert_eq!(most.burst_ns, u64::from(u32::MAX) * 1_000_000_000);
    }

    #[test]
    fn payers_are_mapped_as_their_addresses_are() {
        let octets = |payer: Payer| payer.mapped().map(u64::to_ne_bytes).concat();
        let v4 = Payer { word: u64::from_ne_bytes([192, 0, 2, 7, 0, 0, 0, 0]), family: 4 };
        let address: std::net::Ipv6Addr = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(octets(v4), address.octets());
        let v6 = Payer { word: u64::from_ne_bytes([0x20, 1, 0xd, 0xb8, 0, 1, 0, 2]), family: 6 };
        let address: std::net::Ipv6Addr = "2001:db8:1:2::".parse().unwrap();
        assert_eq!(octets(v6), address.octets());
    }
}
