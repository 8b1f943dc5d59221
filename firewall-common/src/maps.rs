//! The names and capacities of the program's maps, said once. The statics of the program bear these
//! names; the loader opens maps by them alone.

/// A map: the name of the static that declares it, and the number of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    pub name: &'static str,
    pub entries: u32,
}

/// The tables of bans: an array of arrays of [lines](crate::lines), by the numbers in [`bans`]. The
/// inner ones are made by the daemon, as large as they need be, and replaced whole.
pub const BANS: Map = Map { name: "BANS", entries: 3 };

/// Which inner map of [`BANS`] holds what.
pub mod bans {
    pub const V4: u32 = 0;
    pub const V6: u32 = 1;
    /// One [`record`](crate::lines::record) for each ban, by its owner's number.
    pub const RECORDS: u32 = 2;
}

/// `BPF_F_MMAPABLE`, and `BPF_F_INNER_MAP`, with which inner maps may differ in size.
pub const LINES_FLAGS: u32 = 1 << 10 | 1 << 12;

/// Banned IPv4 prefixes that the table has no room for, with their owner: a trie, which is slow.
pub const SPILL4: Map = Map { name: "SPILL4", entries: 4_096 };
/// The same for IPv6.
pub const SPILL6: Map = Map { name: "SPILL6", entries: 4_096 };
/// What each CPU has dropped for each list, by its number.
pub const LIST_DROPS: Map = Map { name: "LIST_DROPS", entries: crate::lines::LISTS };
/// IPv4 networks that nothing drops.
pub const ALLOW4: Map = Map { name: "ALLOW4", entries: 1_024 };
/// IPv6 networks that nothing drops.
pub const ALLOW6: Map = Map { name: "ALLOW6", entries: 1_024 };
/// The host's own addresses, of both families, as sixteen octets: an IPv4 address is the first four,
/// before zeros.
pub const OWN: Map = Map { name: "OWN", entries: 256 };
/// One [`Config`](crate::Config).
pub const CONFIG: Map = Map { name: "CONFIG", entries: 1 };
/// A [`Policy`](crate::Policy) for each interface, by [`policy_index`](crate::policy_index).
pub const POLICIES: Map = Map { name: "POLICIES", entries: crate::POLICIES };
/// [`Counter`](crate::Counter)s of each CPU, by [`counter`](crate::counter).
pub const COUNTERS: Map = Map { name: "COUNTERS", entries: crate::COUNTERS };
/// The ring buffer of [`DropEvent`](crate::DropEvent)s; its capacity is in octets.
pub const EVENTS: Map = Map { name: "EVENTS", entries: 1 << 18 };
/// One [`Budgets`](crate::Budgets).
pub const BUDGETS: Map = Map { name: "BUDGETS", entries: 1 };
/// [`BucketSet`](crate::BucketSet)s of each CPU.
pub const BUCKETS: Map = Map { name: "BUCKETS", entries: crate::BUCKET_SETS };
/// One [`Tally`](crate::Tally) of each CPU.
pub const TALLY: Map = Map { name: "TALLY", entries: 1 };
/// Networks of many hosts behind one address, as [`Payer::mapped`](crate::Payer::mapped), and by how
/// much their budgets are multiplied.
pub const MULTIPLIERS: Map = Map { name: "MULTIPLIERS", entries: 1_024 };
/// [`Payer`](crate::Payer)s in good standing, pre-allocated: about 100 B an entry.
pub const STANDING: Map = Map { name: "STANDING", entries: 65_536 };

/// The room of each CPU in which an answer to a SYN is put together: the stack has none.
pub const SCRATCH: Map = Map { name: "SCRATCH", entries: 1 };

/// The maps that a daemon takes over from the one before it where they are pinned: what is banned, what was
/// counted, for which interface, and what a program reads that may be put back.
pub const PINNED: [Map; 7] = [BANS, SPILL4, SPILL6, LIST_DROPS, CONFIG, POLICIES, COUNTERS];
