//! The names and capacities of the program's maps, said once. The statics of the program bear these
//! names; the loader opens maps by them alone.

/// A map: the name of the static that declares it, and the number of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    pub name: &'static str,
    pub entries: u32,
}

/// Banned IPv4 addresses, pre-allocated: about 90 B an entry.
pub const BAN4: Map = Map { name: "BAN4", entries: 131_072 };
/// Banned IPv6 /64 networks, by their first eight octets.
pub const BAN6_NETWORK: Map = Map { name: "BAN6_NETWORK", entries: 65_536 };
/// Banned single IPv6 addresses.
pub const BAN6: Map = Map { name: "BAN6", entries: 16_384 };
/// Banned IPv4 ranges of any other length: a trie, which is slow when large.
pub const RANGE4: Map = Map { name: "RANGE4", entries: 4_096 };
/// Banned IPv6 ranges of any other length.
pub const RANGE6: Map = Map { name: "RANGE6", entries: 4_096 };
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

/// The maps that outlive the daemon when they can be pinned: what is banned, what was
/// counted, and for which interface.
/// The others are made anew and filled before the program that reads them is attached.
pub const PINNED: [Map; 7] = [BAN4, BAN6_NETWORK, BAN6, RANGE4, RANGE6, POLICIES, COUNTERS];
