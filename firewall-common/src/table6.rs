//! IPv6 bans: a filter by /48, and a table of prefixes of any length.
//!
//! Line 0 is the [`header`], with the lengths that are in use, the longest first. A clean packet reads
//! it, which every packet does, and one line of the filter, chosen by its /48: a prefix of 48 bits or
//! more sets three bits there for its /48 and three for itself. Shorter prefixes set a bit of 2^20 by
//! the first 32 bits, which is asked only while there are any. The entries, two words each, are exact:
//! the first 64 bits of the prefix stand in the table, and behind them, for a prefix longer than 64,
//! the other ones, in the room of two entries.
#![expect(clippy::cast_possible_truncation, reason = "the low half of a word is what is meant")]

use crate::lines::{Found, Lines, OVERFLOW, OWNER_MASK, VALID, mix};

/// The words of the header that this table has beside those of every table.
pub mod header {
    pub use crate::lines::header::{BUCKET_MASK, SEED, SEED_TWO};

    /// The number of the filter's lines, a power of two, less one.
    pub const FILTER_MASK: u32 = 3;
    /// The lengths in use from [`FINE_BITS`](super::FINE_BITS) on, the longest first, an octet each.
    pub const FINE_LENGTHS: u32 = 4;
    /// The other lengths in use but 0, likewise.
    pub const COARSE_LENGTHS: u32 = 5;
    /// The entry of `::/0`: no lookup leads to it.
    pub const EVERYTHING: u32 = 6;
}

/// Prefixes of this length or longer are in the filter by their /48.
pub const FINE_BITS: u32 = 48;
/// Lengths that may be in use at once, of each kind.
pub const LENGTHS_MAX: usize = 8;

/// The bits by the first 32 bits of an address: 128 KiB.
pub const COARSE_LINE: u32 = 1;
pub const COARSE_LINES: u32 = 1 << 11;
/// The first line of the filter. The first bucket is behind its last.
pub const FILTER_LINE: u32 = COARSE_LINE + COARSE_LINES;

/// Buckets that hold the entries of one hash at most: a bucket has room for two long prefixes only.
pub const PROBES_MAX: u32 = 16;

/// Entries in a bucket.
pub const SLOTS: u32 = 4;
/// Set in an entry that takes two places: its prefix is longer than 64.
pub const LONG: u64 = 1 << 61;
/// Where the length stands in an entry's second word.
pub const LENGTH_SHIFT: u32 = 32;
/// The bits of an entry's second word that a lookup compares.
const KEY_MASK: u64 = VALID | LONG | 0xff << LENGTH_SHIFT;

/// An entry's second word.
#[inline(always)]
pub const fn entry(length: u32, owner: u32) -> u64 {
    let long = if length > 64 { LONG } else { 0 };
    VALID | long | (length as u64) << LENGTH_SHIFT | (owner & OWNER_MASK) as u64
}

/// A prefix: its bits, with zeros behind them, and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    pub high: u64,
    pub low: u64,
    pub length: u32,
}

impl Prefix {
    /// The prefix of `length`, at least 1 and at most 128, of an address.
    #[inline(always)]
    pub const fn of(high: u64, low: u64, length: u32) -> Self {
        if length > 64 {
            return Self { high, low: low & (u64::MAX << ((128 - length) & 63)), length };
        }
        Self { high: high & (u64::MAX << ((64 - length) & 63)), low: 0, length }
    }

    #[inline(always)]
    pub const fn hash(self, seed: u64, seed_two: u64) -> u64 {
        let hash = mix(self.high ^ (self.length as u64).wrapping_mul(LENGTH_STEP), seed, seed_two);
        if self.length > 64 { mix(self.low ^ hash, seed, seed_two) } else { hash }
    }
}

/// Keeps prefixes that differ in their length alone apart.
const LENGTH_STEP: u64 = 0x00a5_4ff5_3a5f_1d36;

/// The word of a filter line, and three bits of it, that tell of a hash.
#[inline(always)]
pub const fn filter_bits(hash: u64) -> (u32, u64) {
    let bits = 1 << ((hash >> 40) & 63) | 1 << ((hash >> 46) & 63) | 1 << ((hash >> 52) & 63);
    ((hash >> 58) as u32 & 7, bits)
}

/// How far it is from one bucket of a hash to the next. Not one: where a bucket has room for two,
/// neighbours that are full would soon be a long row.
#[inline(always)]
pub const fn step(hash: u64) -> u64 {
    hash >> 32 | 1
}

/// The hash that chooses a /48's line of the filter, by the low bits, and its bits there.
#[inline(always)]
pub const fn hash_48(high: u64, seed: u64, seed_two: u64) -> u64 {
    mix(high >> 16, seed_two, seed)
}

/// The line, the word and the bit that tell whether prefixes shorter than 48 begin as an address does.
#[inline(always)]
pub const fn coarse_bit(high: u64, seed: u64, seed_two: u64) -> (u32, u32, u32) {
    let hash = mix(high >> 32, seed_two, seed);
    let line = COARSE_LINE + ((hash >> 9) as u32 & (COARSE_LINES - 1));
    (line, (hash >> 6) as u32 & 7, hash as u32 & 63)
}

/// The ban that holds the address whose octets are `high` and `low`, as big-endian numbers; none if
/// the table was replaced meanwhile, which is to be asked again.
#[inline(always)]
pub fn lookup<L: Lines>(lines: &L, high: u64, low: u64) -> Option<Found> {
    let Some(head) = lines.line(0) else {
        return Some(Found::NONE);
    };
    let (seed, seed_two) = (lines.word(head, header::SEED), lines.word(head, header::SEED_TWO));
    let filter_mask = lines.word(head, header::FILTER_MASK);
    let mut lengths = lines.word(head, header::FINE_LENGTHS);
    if lengths != 0 {
        let hash = hash_48(high, seed, seed_two);
        let Some(filter) = lines.line(FILTER_LINE + (hash & filter_mask) as u32) else {
            return Some(Found::NONE);
        };
        let (word, bits) = filter_bits(hash);
        if lines.word(filter, word) & bits == bits {
            for _ in 0..core::hint::black_box(LENGTHS_MAX) {
                let length = lengths as u32 & 0xff;
                if length == 0 {
                    break;
                }
                lengths >>= 8;
                let prefix = Prefix::of(high, low, length);
                let hash = prefix.hash(seed, seed_two);
                let (word, bits) = filter_bits(hash);
                if lines.word(filter, word) & bits == bits {
                    let found = lines.prefix6(prefix, hash, seed)?;
                    if found.is_banned() {
                        return Some(found);
                    }
                }
            }
        }
    }
    lengths = lines.word(head, header::COARSE_LENGTHS);
    if lengths != 0 {
        let (line, word, bit) = coarse_bit(high, seed, seed_two);
        let Some(coarse) = lines.line(line) else {
            return Some(Found::NONE);
        };
        if lines.word(coarse, word) >> bit & 1 != 0 {
            for _ in 0..core::hint::black_box(LENGTHS_MAX) {
                let length = lengths as u32 & 0xff;
                if length == 0 {
                    break;
                }
                lengths >>= 8;
                let prefix = Prefix::of(high, low, length);
                let found = lines.prefix6(prefix, prefix.hash(seed, seed_two), seed)?;
                if found.is_banned() {
                    return Some(found);
                }
            }
        }
    }
    let everything = lines.word(head, header::EVERYTHING);
    if everything & VALID != 0 {
        return Some(Found::new(everything as u32, true));
    }
    Some(Found::NONE)
}

/// The ban of exactly `prefix`, whose hash was made with `seed`; none if the table has another one.
#[inline(always)]
pub fn find<L: Lines>(lines: &L, prefix: Prefix, hash: u64, seed: u64) -> Option<Found> {
    let head = lines.line(0)?;
    if lines.word(head, header::SEED) != seed {
        return None;
    }
    let first_line = FILTER_LINE + lines.word(head, header::FILTER_MASK) as u32 + 1;
    let mask = lines.word(head, header::BUCKET_MASK);
    let wanted = entry(prefix.length, 0);
    let mut bucket = hash;
    // An opaque bound keeps the compiler from unrolling what the verifier then walks in every way.
    for _ in 0..core::hint::black_box(u64::from(PROBES_MAX)) {
        let Some(line) = lines.line(first_line + (bucket & mask) as u32) else {
            break;
        };
        let first = lines.word(line, 1);
        let mut slot = 0;
        while slot < SLOTS {
            let meta = lines.word(line, 2 * slot + 1);
            if meta & KEY_MASK == wanted
                && lines.word(line, 2 * slot) == prefix.high
                && (prefix.length <= 64 || lines.word(line, 2 * slot + 2) == prefix.low)
                // While it was read the place may have become another's.
                && lines.word(line, 2 * slot + 1) == meta
            {
                return Some(Found::new(meta as u32, prefix.length != 64 && prefix.length != 128));
            }
            slot += 1;
        }
        if first & OVERFLOW == 0 {
            break;
        }
        bucket = bucket.wrapping_add(step(hash));
    }
    Some(Found::NONE)
}
