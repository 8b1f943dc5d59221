//! The memory that a table of bans lies in, as the kernel's program reads it: lines of 64 octets, and
//! the hash that spreads keys over them.
//!
//! The daemon writes lines by plain stores while packets are looked up. What keeps a packet from
//! missing a ban that stands is said where the tables are written; what readers do for it is to read
//! each word once, in the order that [`table4`](crate::table4) and [`crate::table6`] name.

use crate::table6::{self, Prefix};

/// The words of a line: one cache line.
pub const LINE_WORDS: u32 = 8;

/// Buckets that hold the entries of one hash at most, one line each.
pub const PROBES_MAX: u32 = 8;

/// A word with the overflow flag says of its bucket that entries of its hash are in the next one.
pub const OVERFLOW: u64 = 1 << 63;
/// A word with this flag is an entry.
pub const VALID: u64 = 1 << 62;

/// The words of line 0 that every table has.
pub mod header {
    pub const SEED: u32 = 0;
    pub const SEED_TWO: u32 = 1;
    /// The number of buckets, a power of two, less one.
    pub const BUCKET_MASK: u32 = 2;
}

/// Lines that can be read. The kernel's are a map, the daemon's are that map's memory.
pub trait Lines {
    type Line: Copy;

    /// None where the table has fewer lines.
    fn line(&self, index: u32) -> Option<Self::Line>;

    /// The word at `index`, modulo [`LINE_WORDS`], read once.
    fn word(&self, line: Self::Line, index: u32) -> u64;

    /// The IPv6 ban of exactly a prefix, as [`table6::find`] gives it. The kernel's program has a
    /// function for it, for its verifier walks a function once, and a loop each time around.
    #[inline(always)]
    fn prefix6(&self, prefix: Prefix, hash: u64, seed: u64) -> Option<Found>
    where
        Self: Sized,
    {
        table6::find(self, prefix, hash, seed)
    }
}

/// A number that says where a key is, and says nothing to who does not know the seeds: an attacker
/// who may choose addresses must not choose their bucket.
#[inline(always)]
pub const fn mix(key: u64, seed: u64, seed_two: u64) -> u64 {
    let hash = (key ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = ((hash ^ (hash >> 32)) ^ seed_two).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

/// What a lookup found: nothing, or whose ban it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found(u32);

impl Found {
    pub const NONE: Self = Self(0);
    const BANNED: u32 = 1 << 31;
    const RANGE: u32 = 1 << 30;

    #[inline(always)]
    pub const fn new(owner: u32, is_range: bool) -> Self {
        Self(Self::BANNED | (is_range as u32) << 30 | owner & OWNER_MASK)
    }

    /// The same as a number, and back.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    #[inline(always)]
    pub const fn is_banned(self) -> bool {
        self.0 & Self::BANNED != 0
    }

    /// Whether the ban is of more than an address or an IPv6 /64.
    #[inline(always)]
    pub const fn is_range(self) -> bool {
        self.0 & Self::RANGE != 0
    }

    /// Whose drop it is: below [`LISTS`] a list's number, else the number of a record.
    #[inline(always)]
    pub const fn owner(self) -> u32 {
        self.0 & OWNER_MASK
    }
}

/// The owners that are lists. Number 0 is nobody's: drops that cannot be told whose they are.
pub const LISTS: u32 = 256;
/// Owners fit into 24 bits.
pub const OWNER_MASK: u32 = (1 << 24) - 1;

/// The records of bans, and what these have dropped.
///
/// Line 0 is empty. Behind it are the drops, one word for each ban, in a few lines so that a drop finds
/// them near: neighbours in number are in different lines, so that two CPUs that drop for two bans do
/// not wait for each other. Behind those is one line for each ban, which only the daemon reads.
pub mod record {
    use super::LINE_WORDS;

    pub const DROPS_LINE: u32 = 1;

    /// The line and the word of a ban's drops. Of 64 bans in a row each eighth is in the same line.
    #[inline(always)]
    pub const fn drops(owner: u32) -> (u32, u32) {
        let group = owner / (LINE_WORDS * LINE_WORDS);
        (DROPS_LINE + group * LINE_WORDS + owner % LINE_WORDS, owner / LINE_WORDS % LINE_WORDS)
    }

    /// The first eight octets of the network's address, as a big-endian number.
    pub const HIGH: u32 = 0;
    /// The last eight octets, or those of an IPv4 address.
    pub const LOW: u32 = 1;
    /// When the ban ends, on `CLOCK_MONOTONIC`. The kernel does not read it: the daemon lifts bans.
    pub const UNTIL_MONO_NS: u32 = 2;
    /// [`VALID`](super::VALID), [`V4`] for the one family, and the length of the prefix.
    pub const META: u32 = 3;
    pub const V4: u64 = 1 << 8;
}
