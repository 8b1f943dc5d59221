//! IPv4 bans: two bits for each /24, and a table of what is longer.
//!
//! Line 0 is the [`header`]. A line of the filter holds the 256 /24s of a /16: four words with a bit
//! for each that is banned whole, four with a bit for each that has entries in the table. The entries,
//! eight to a bucket, are exact: the address is in the word.
//!
//! The filter is as large as the Internet, and no core's own cache holds it. As long as no /24 was
//! covered, it is not read, but the fold, which is as large as the entries are many: a bit for each of
//! those /24s whose hash leads to it. A bit of the fold may stand longer than the entries that it stands
//! for.
//!
//! A /24 or shorter is coverage, and nothing else is needed to drop. Whose drop it is: an entry of
//! the /24, if there is one, else the owner of the /16.
#![expect(clippy::cast_possible_truncation, reason = "the low half of a word is what is meant")]

use crate::lines::{Found, LINE_WORDS, Lines, OVERFLOW, PROBES_MAX, VALID, header, mix};

/// The first line of the filter; one line for each /16.
pub const FILTER_LINE: u32 = 1;
pub const FILTER_LINES: u32 = 1 << 16;
/// The owners of the /16s, two in a word.
pub const OWNER_LINE: u32 = FILTER_LINE + FILTER_LINES;
pub const OWNER_LINES: u32 = FILTER_LINES / (2 * LINE_WORDS);
/// The first line of the fold. What is before it takes 4.25 MiB, however little is banned.
pub const FOLD_LINE: u32 = OWNER_LINE + OWNER_LINES;
/// Buckets to each line of the fold: at four entries to a bucket eight bits to an entry, of which so
/// one in eight is set.
pub const BUCKETS_PER_FOLD_LINE: u32 = 16;

/// The first bucket of a table of so many buckets, less one: a power of two, and
/// [`BUCKETS_PER_FOLD_LINE`] at least.
#[inline(always)]
pub const fn bucket_line(bucket_mask: u64) -> u32 {
    FOLD_LINE + bucket_mask as u32 / BUCKETS_PER_FOLD_LINE + 1
}

/// The line, the word and the bit of the fold that tell of an address's /24.
#[inline(always)]
pub const fn fold_bit(address: u32, bucket_mask: u64) -> (u32, u32, u32) {
    let hash = (address as u64 >> 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let line = (hash >> 9) as u32 & (bucket_mask as u32 / BUCKETS_PER_FOLD_LINE);
    (FOLD_LINE + line, (hash >> 6) as u32 & 7, hash as u32 & 63)
}

/// Word of the header: 0 as long as no /24 was ever covered.
pub const COVERS: u32 = 3;

/// What the header of a table tells of its buckets. It never changes.
#[derive(Clone, Copy)]
struct Buckets {
    /// Their number, a power of two, less one.
    mask: u64,
    seed: u64,
    seed_two: u64,
}

/// Set in the entry of a /24: its key is an address that may be banned itself.
pub const CELL: u64 = 1 << 32;
/// Set in the entry of an address that is banned as part of a range.
pub const RANGE: u64 = 1 << 61;
/// Where the owner stands in an entry.
pub const OWNER_SHIFT: u32 = 33;
/// The bits of an entry that a lookup compares.
pub const KEY_MASK: u64 = VALID | CELL | 0xffff_ffff;

/// The entry that bans `key`: an address, or [`CELL`] and the first address of a /24.
#[inline(always)]
pub const fn entry(key: u64, owner: u32, is_range: bool) -> u64 {
    VALID | key | (owner as u64) << OWNER_SHIFT | if is_range { RANGE } else { 0 }
}

/// The owner in an entry.
#[inline(always)]
pub const fn owner(entry: u64) -> u32 {
    (entry >> OWNER_SHIFT) as u32 & crate::lines::OWNER_MASK
}

/// The word of a filter line that tells of an address's /24, and the bit in it. The word of the /24's
/// entries is [`LONGER`] further.
#[inline(always)]
pub const fn filter_bit(address: u32) -> (u32, u32) {
    ((address >> 14) & 3, (address >> 8) & 63)
}

/// The words of a filter line between what is covered and what has entries.
pub const LONGER: u32 = 4;

/// The ban that holds `address`.
///
/// Coverage is read before entries: what is covered no more may have entries that are older.
#[inline(always)]
pub fn lookup<L: Lines>(lines: &L, address: u32) -> Found {
    let Some(head) = lines.line(0) else {
        return Found::NONE;
    };
    let buckets = Buckets {
        mask: lines.word(head, header::BUCKET_MASK),
        seed: lines.word(head, header::SEED),
        seed_two: lines.word(head, header::SEED_TWO),
    };
    if lines.word(head, COVERS) == 0 {
        let (line, word, bit) = fold_bit(address, buckets.mask);
        let Some(fold) = lines.line(line) else {
            return Found::NONE;
        };
        if lines.word(fold, word) >> bit & 1 != 0 {
            let found = find(lines, address.into(), buckets);
            if found != 0 {
                return Found::new(owner(found), found & RANGE != 0);
            }
        }
        // As long as nothing was covered, entries are all there is.
        if lines.word(head, COVERS) == 0 {
            return Found::NONE;
        }
    }
    let Some(filter) = lines.line(FILTER_LINE + (address >> 16)) else {
        return Found::NONE;
    };
    let (word, bit) = filter_bit(address);
    let is_covered = lines.word(filter, word) >> bit & 1 != 0;
    let has_entries = lines.word(filter, word + LONGER) >> bit & 1 != 0;
    if has_entries {
        let found = find(lines, address.into(), buckets);
        if found != 0 {
            return Found::new(owner(found), found & RANGE != 0);
        }
    }
    if !is_covered {
        return Found::NONE;
    }
    if has_entries {
        let found = find(lines, CELL | u64::from(address & !0xff), buckets);
        if found != 0 {
            return Found::new(owner(found), true);
        }
    }
    let prefix = address >> 16;
    let Some(owners) = lines.line(OWNER_LINE + prefix / (2 * LINE_WORDS)) else {
        return Found::new(0, true);
    };
    let pair = lines.word(owners, prefix >> 1);
    Found::new((pair >> ((prefix & 1) * 32)) as u32, true)
}

/// The entry of `key`, or zero.
#[inline(always)]
fn find<L: Lines>(lines: &L, key: u64, buckets: Buckets) -> u64 {
    let Buckets { mask, seed, seed_two } = buckets;
    let first_line = bucket_line(mask);
    let mut bucket = mix(key, seed, seed_two);
    // Opaque, for the compiler would make branches of `same` again.
    let wanted = core::hint::black_box(VALID | key);
    // An opaque bound keeps the compiler from unrolling what the verifier then walks in every way.
    for _ in 0..core::hint::black_box(u64::from(PROBES_MAX)) {
        let Some(line) = lines.line(first_line + (bucket & mask) as u32) else {
            return 0;
        };
        let first = lines.word(line, 0);
        let mut found = same(first, wanted);
        let mut slot = 1;
        while slot < LINE_WORDS {
            found |= same(lines.word(line, slot), wanted);
            slot += 1;
        }
        if found != 0 || first & OVERFLOW == 0 {
            return found;
        }
        bucket = bucket.wrapping_add(1);
    }
    0
}

/// The entry if its key is the wanted one, else zero. Without a branch: which of eight it is, no
/// processor foresees.
#[inline(always)]
const fn same(entry: u64, wanted: u64) -> u64 {
    let differs = (entry & KEY_MASK) ^ wanted;
    // The key leaves the highest bit free: zero alone is negative when it is less by one.
    entry & (differs.wrapping_sub(1).cast_signed() >> 63).cast_unsigned()
}
