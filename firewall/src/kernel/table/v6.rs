//! The IPv6 bans and lists, and how they are written into the table that
//! [`table6`](firewall_common::table6) looks up.

use std::collections::BTreeMap;

use firewall_common::lines::{OVERFLOW, VALID};
use firewall_common::table6::{
    COARSE_LINE, COARSE_LINES, FILTER_LINE, FINE_BITS, LENGTHS_MAX, LONG, PROBES_MAX, Prefix,
    SLOTS, coarse_bit, entry, filter_bits, hash_48, header, step,
};

use super::memory::{BATCH, Seed};
use super::records::halves;
use super::{Crowded, Memory};

/// Buckets of the smallest table: 64 KiB, for 2,000 prefixes.
const BUCKETS_MIN: u32 = 1 << 10;
/// Buckets of the largest: 64 MiB, for 2 million.
const BUCKETS_MAX: u32 = 1 << 20;
/// Entries to a bucket of four, on average, in a table that is made, and beyond which it grows.
const LOAD: usize = 2;
const LOAD_MAX: usize = 3;
/// Buckets to a line of the filter: 16 prefixes share 512 bits.
const BUCKETS_PER_FILTER_LINE: u32 = 8;

/// The length at which every bit of the first 32 is in the prefix.
const COARSE_BITS: u8 = 32;

/// What is banned of IPv6, and by whom.
#[derive(Debug)]
pub(crate) struct Bans6 {
    /// The owner of each ban, by its first address and its length.
    bans: BTreeMap<(u128, u8), u32>,
    /// The prefixes of each list, in order.
    lists: BTreeMap<u8, Vec<(u128, u8)>>,
    /// Bans and prefixes of lists of each length.
    lengths: [usize; 129],
    entries: usize,
    /// Prefixes that were erased: their bits in the filter stay until the table is made anew.
    erased: usize,
}

impl Bans6 {
    pub(crate) fn new() -> Self {
        Self {
            bans: BTreeMap::new(),
            lists: BTreeMap::new(),
            lengths: [0; 129],
            entries: 0,
            erased: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bans.is_empty() && self.lists.is_empty()
    }

    /// Notes a ban without writing it.
    ///
    /// # Errors
    ///
    /// When too many lengths are in use already.
    pub(crate) fn note(&mut self, first: u128, length: u8, owner: u32) -> Result<(), Crowded> {
        if !self.has_length(length) {
            return Err(Crowded);
        }
        if self.bans.insert((first, length), owner).is_none() {
            self.count(length, 1);
        }
        Ok(())
    }

    /// Forgets a ban without erasing it.
    pub(crate) fn forget(&mut self, first: u128, length: u8) {
        if self.bans.remove(&(first, length)).is_some() {
            self.count(length, -1);
        }
    }

    /// Replaces a list without writing it. Gives the earlier one, and how many prefixes are left out
    /// because too many lengths are in use.
    pub(crate) fn list(
        &mut self,
        list: u8,
        mut prefixes: Vec<(u128, u8)>,
    ) -> (Vec<(u128, u8)>, usize) {
        let earlier = self.lists.remove(&list).unwrap_or_default();
        for &(_, length) in &earlier {
            self.count(length, -1);
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        let asked = prefixes.len();
        prefixes.retain(|&(_, length)| {
            let has = self.has_length(length);
            if has {
                self.count(length, 1);
            }
            has
        });
        let refused = asked - prefixes.len();
        if !prefixes.is_empty() {
            self.lists.insert(list, prefixes);
        }
        (earlier, refused)
    }

    pub(crate) fn has_list(&self, list: u8) -> bool {
        self.lists.contains_key(&list)
    }

    /// Counts the entries of a table, after another one was given up.
    pub(crate) fn count_entries(&mut self, memory: Memory<'_>) {
        let lines = Table::of(memory).bucket_line..memory.lines();
        let metas =
            lines.flat_map(|line| (0..SLOTS).map(move |slot| memory.load(line, 2 * slot + 1)));
        let places = |meta: u64| match meta & (VALID | LONG) {
            VALID => 1,
            0 | LONG => 0,
            _ => 2,
        };
        self.entries = metas.map(places).sum();
        self.publish_lengths(memory);
    }

    /// Lines of a table for what is noted; none if it would be larger than the largest. `larger`
    /// doubles the buckets as often.
    pub(crate) fn lines(&self, larger: u32) -> Option<u32> {
        let places =
            |(length, count): (usize, &usize)| if length > 64 { count * 2 } else { *count };
        let entries: usize = self.lengths.iter().enumerate().map(places).sum();
        let buckets = u32::try_from(entries.div_ceil(LOAD).next_power_of_two()).ok()?;
        let buckets = buckets.max(BUCKETS_MIN).checked_shl(larger)?;
        let filter = buckets / BUCKETS_PER_FILTER_LINE;
        (buckets <= BUCKETS_MAX).then_some(FILTER_LINE + filter + buckets)
    }

    /// Writes all that is noted into a table that is all zero.
    pub(crate) fn build(&mut self, memory: Memory<'_>, seed: Seed) -> Result<(), Crowded> {
        let filter = (memory.lines() - FILTER_LINE) / (BUCKETS_PER_FILTER_LINE + 1);
        let buckets = filter * BUCKETS_PER_FILTER_LINE;
        memory.store(0, header::SEED, seed.0);
        memory.store(0, header::SEED_TWO, seed.1);
        memory.store(0, header::BUCKET_MASK, u64::from(buckets) - 1);
        memory.store(0, header::FILTER_MASK, u64::from(filter) - 1);
        (self.entries, self.erased) = (0, 0);
        let lists = self.lists.iter().flat_map(|(&list, prefixes)| {
            prefixes.iter().map(move |&(first, length)| (prefix(first, length), list.into()))
        });
        let bans =
            self.bans.iter().map(|(&(first, length), &owner)| (prefix(first, length), owner));
        self.entries = Table::of(memory).fill(lists.chain(bans))?;
        self.publish_lengths(memory);
        Ok(())
    }

    /// Writes a ban that is noted. It holds when this returns.
    pub(crate) fn write(
        &mut self,
        memory: Memory<'_>,
        first: u128,
        length: u8,
    ) -> Result<(), Crowded> {
        let Some(&owner) = self.bans.get(&(first, length)) else { return Ok(()) };
        self.entries += Table::of(memory).put(prefix(first, length), owner)?;
        self.publish_lengths(memory);
        Ok(())
    }

    /// Erases a ban that is forgotten, but for a list's claim to the same prefix.
    pub(crate) fn erase(&mut self, memory: Memory<'_>, first: u128, length: u8) {
        let wanted = (first, length);
        let holds = |list: &Vec<(u128, u8)>| list.binary_search(&wanted).is_ok();
        let list = self.lists.iter().find(|(_, list)| holds(list)).map(|(number, _)| *number);
        let table = Table::of(memory);
        let gone = table.replace(prefix(first, length), list.map(u32::from));
        self.entries = self.entries.saturating_sub(gone);
        self.erased += gone;
        self.publish_lengths(memory);
    }

    /// Whether the table has become too full, or its filter too dull, for quick lookups.
    pub(crate) fn is_crowded(&self, lines: u32) -> bool {
        let buckets =
            (lines - FILTER_LINE) / (BUCKETS_PER_FILTER_LINE + 1) * BUCKETS_PER_FILTER_LINE;
        self.entries + self.erased > buckets as usize * LOAD_MAX
    }

    /// What an earlier daemon's table holds of lists: all that no record owns.
    pub(crate) fn adopted_lists(memory: Memory<'_>) -> BTreeMap<u8, Vec<(u128, u8)>> {
        let mut lists = BTreeMap::<u8, Vec<(u128, u8)>>::new();
        let mut add = |high: u64, low: u64, meta: u64| {
            let list = u8::try_from(meta & u64::from(firewall_common::lines::OWNER_MASK));
            let length = u8::try_from(meta >> firewall_common::table6::LENGTH_SHIFT & 0xff);
            if let (true, Ok(list @ 1..), Ok(length)) = (meta & VALID != 0, list, length) {
                let low = if meta & LONG == 0 { 0 } else { low };
                lists
                    .entry(list)
                    .or_default()
                    .push((u128::from(high) << 64 | u128::from(low), length));
            }
        };
        let table = Table::of(memory);
        for line in table.bucket_line..memory.lines() {
            for slot in 0..SLOTS {
                let [high, meta] = [0, 1].map(|word| memory.load(line, 2 * slot + word));
                let low = if slot % 2 == 0 { memory.load(line, 2 * slot + 2) } else { 0 };
                add(high, low, meta);
            }
        }
        add(0, 0, memory.load(0, header::EVERYTHING));
        lists
    }

    /// Tells lookups which lengths there are.
    fn publish_lengths(&self, memory: Memory<'_>) {
        for (word, is_fine) in [(header::FINE_LENGTHS, true), (header::COARSE_LENGTHS, false)] {
            let lengths = self.in_use(is_fine).enumerate();
            let packed =
                lengths.fold(0, |packed, (at, length)| packed | u64::from(length) << (8 * at));
            if memory.load(0, word) != packed {
                memory.store(0, word, packed);
            }
        }
    }

    /// The lengths in use but 0, the longest first.
    fn in_use(&self, is_fine: bool) -> impl Iterator<Item = u8> {
        let used = (1_u8..).zip(self.lengths.iter().skip(1)).filter(|(_, count)| **count > 0);
        let kind = used.map(|(length, _)| length).filter(move |&length| fine(length) == is_fine);
        kind.collect::<Vec<_>>().into_iter().rev()
    }

    fn has_length(&self, length: u8) -> bool {
        let is_used = self.lengths.get(usize::from(length)).is_some_and(|count| *count > 0);
        is_used || length == 0 || self.in_use(fine(length)).count() < LENGTHS_MAX
    }

    fn count(&mut self, length: u8, change: isize) {
        if let Some(count) = self.lengths.get_mut(usize::from(length)) {
            *count = count.saturating_add_signed(change);
        }
    }
}

fn fine(length: u8) -> bool {
    u32::from(length) >= FINE_BITS
}

fn prefix(first: u128, length: u8) -> Prefix {
    let (high, low) = halves(first);
    Prefix { high, low, length: length.into() }
}

/// The buckets and the filter of one table.
#[derive(Clone, Copy)]
struct Table<'a> {
    memory: Memory<'a>,
    seed: Seed,
    filter_mask: u64,
    bucket_line: u32,
    bucket_mask: u64,
}

/// A place for an entry: the first of its words.
#[derive(Clone, Copy)]
struct Place {
    line: u32,
    slot: u32,
}

impl<'a> Table<'a> {
    fn of(memory: Memory<'a>) -> Self {
        let filter_mask = memory.load(0, header::FILTER_MASK);
        Self {
            memory,
            seed: memory.seed(),
            filter_mask,
            bucket_line: FILTER_LINE + 1 + u32::try_from(filter_mask).unwrap_or(0),
            bucket_mask: memory.load(0, header::BUCKET_MASK),
        }
    }

    /// Enters many prefixes. Gives the places taken.
    fn fill(self, entries: impl Iterator<Item = (Prefix, u32)>) -> Result<usize, Crowded> {
        let mut entries = entries.map(|(prefix, owner)| (prefix, owner, self.hash(prefix)));
        let (mut batch, mut taken) = (Vec::with_capacity(BATCH), 0);
        loop {
            batch.extend(entries.by_ref().take(BATCH));
            if batch.is_empty() {
                return Ok(taken);
            }
            self.memory.fetch(batch.iter().flat_map(|&(prefix, _, hash)| {
                [self.line(hash), self.filter_line(hash_48(prefix.high, self.seed.0, self.seed.1))]
            }));
            for (prefix, owner, hash) in batch.drain(..) {
                taken += self.enter(prefix, owner, hash)?;
            }
        }
    }

    /// Enters a prefix, and then says so in the filter. Gives the places newly taken.
    fn put(self, prefix: Prefix, owner: u32) -> Result<usize, Crowded> {
        self.enter(prefix, owner, self.hash(prefix))
    }

    fn enter(self, prefix: Prefix, owner: u32, hash: u64) -> Result<usize, Crowded> {
        let meta = entry(prefix.length, owner);
        if prefix.length == 0 {
            self.memory.store(0, header::EVERYTHING, meta);
            return Ok(0);
        }
        let taken = match self.find(prefix, hash) {
            Ok(Place { line, slot }) => {
                let flag = self.memory.load(line, 2 * slot + 1) & OVERFLOW;
                self.memory.store(line, 2 * slot + 1, meta | flag);
                0
            }
            Err(None) => return Err(Crowded),
            Err(Some(Place { line, slot })) => {
                let flag = self.memory.load(line, 2 * slot + 1) & OVERFLOW;
                self.memory.store(line, 2 * slot, prefix.high);
                if meta & LONG != 0 {
                    self.memory.store(line, 2 * slot + 2, prefix.low);
                }
                self.memory.store(line, 2 * slot + 1, meta | flag);
                for line_before in self.bucket_lines(hash).take_while(|before| *before != line) {
                    self.memory.set(line_before, 1, OVERFLOW);
                }
                if meta & LONG == 0 { 1 } else { 2 }
            }
        };
        self.filter(prefix, hash);
        Ok(taken)
    }

    /// Names another owner of an entry, or removes it. Gives the places that are free now.
    fn replace(self, prefix: Prefix, owner: Option<u32>) -> usize {
        if prefix.length == 0 {
            let word = owner.map_or(0, |owner| entry(0, owner));
            self.memory.store(0, header::EVERYTHING, word);
            return 0;
        }
        let Ok(Place { line, slot }) = self.find(prefix, self.hash(prefix)) else { return 0 };
        let flag = self.memory.load(line, 2 * slot + 1) & OVERFLOW;
        let word = owner.map_or(0, |owner| entry(prefix.length, owner));
        self.memory.store(line, 2 * slot + 1, word | flag);
        match owner {
            Some(_) => 0,
            None if prefix.length > 64 => 2,
            None => 1,
        }
    }

    /// Where an entry is, or else where it may go, if anywhere.
    fn find(self, prefix: Prefix, hash: u64) -> Result<Place, Option<Place>> {
        let is_long = prefix.length > 64;
        let wanted = entry(prefix.length, 0);
        let (mut free, mut is_chained) = (None, true);
        for line in self.bucket_lines(hash) {
            let word = |index| self.memory.load(line, index);
            let is_long_at = |slot: u32| word(2 * slot + 1) & (VALID | LONG) == VALID | LONG;
            let is_free = |slot: u32| {
                word(2 * slot + 1) & VALID == 0 && (slot.is_multiple_of(2) || !is_long_at(slot - 1))
            };
            for slot in 0..SLOTS {
                let is_same = word(2 * slot + 1) & !(OVERFLOW | u64::from(OWNER)) == wanted
                    && word(2 * slot) == prefix.high
                    && (!is_long || word(2 * slot + 2) == prefix.low);
                if is_chained && is_same {
                    return Ok(Place { line, slot });
                }
                let fits =
                    is_free(slot) && (!is_long || slot.is_multiple_of(2) && is_free(slot + 1));
                if free.is_none() && fits {
                    free = Some(Place { line, slot });
                }
            }
            is_chained &= word(1) & OVERFLOW != 0;
            if !is_chained && free.is_some() {
                break;
            }
        }
        Err(free)
    }

    /// Sets the bits without which a lookup does not look for a prefix.
    fn filter(self, prefix: Prefix, hash: u64) {
        let Seed(seed, seed_two) = self.seed;
        if prefix.length >= FINE_BITS {
            let hash_48 = hash_48(prefix.high, seed, seed_two);
            let line = self.filter_line(hash_48);
            for (word, bits) in [filter_bits(hash), filter_bits(hash_48)] {
                self.memory.set(line, word, bits);
            }
            return;
        }
        let missing = u32::from(COARSE_BITS).saturating_sub(prefix.length);
        if missing > 16 {
            // Too many to hash each of them: every lookup asks for what is so short.
            for line in (COARSE_LINE..).take(COARSE_LINES as usize) {
                (0..8).for_each(|word| self.memory.set(line, word, u64::MAX));
            }
            return;
        }
        for more in 0..1_u64 << missing {
            let (line, word, bit) = coarse_bit(prefix.high | more << 32, seed, seed_two);
            self.memory.set(line, word, 1 << bit);
        }
    }

    fn hash(self, prefix: Prefix) -> u64 {
        prefix.hash(self.seed.0, self.seed.1)
    }

    fn filter_line(self, hash_48: u64) -> u32 {
        FILTER_LINE + u32::try_from(hash_48 & self.filter_mask).unwrap_or(0)
    }

    /// The bucket that a lookup reads first.
    fn line(self, hash: u64) -> u32 {
        self.bucket_line + u32::try_from(hash & self.bucket_mask).unwrap_or(0)
    }

    fn bucket_lines(self, hash: u64) -> impl Iterator<Item = u32> {
        let bucket = move |probe: u64| hash.wrapping_add(probe.wrapping_mul(step(hash)));
        (0..u64::from(PROBES_MAX)).map(move |probe| self.line(bucket(probe)))
    }
}

/// The owner's bits in an entry.
const OWNER: u32 = firewall_common::lines::OWNER_MASK;
