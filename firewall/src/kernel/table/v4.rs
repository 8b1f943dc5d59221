//! The IPv4 bans and lists, and how they are written into the table that
//! [`table4`](firewall_common::table4) looks up.
//!
//! What the table holds of one ban or list depends on no other one, but for whose drop it is: a packet
//! that two bans cover stays banned while one of them goes.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use firewall_common::lines::{LINE_WORDS, OVERFLOW, PROBES_MAX, VALID, header, mix};
use firewall_common::table4::{
    BUCKETS_PER_FOLD_LINE, CELL, COVERS, FILTER_LINE, FILTER_LINES, FOLD_LINE, KEY_MASK, LONGER,
    OWNER_LINE, bucket_line, entry, filter_bit, owner,
};

use super::fold::{fold, is_stale, refold};
use super::memory::{BATCH, Seed};
use super::{Crowded, Memory};

/// Buckets of the smallest table: 64 KiB, for 5,000 addresses.
const BUCKETS_MIN: u32 = 1 << 10;
/// Buckets of the largest: 64 MiB, for 5 million.
const BUCKETS_MAX: u32 = 1 << 20;
/// Entries to a bucket of eight, on average, in a table that is made, and beyond which it grows.
const LOAD: usize = 4;
const LOAD_MAX: usize = 5;
const WHOLE: u64 = u64::MAX;

/// Addresses from the first to the last.
type Interval = (u32, u32);

/// What is banned of IPv4, and by whom.
#[derive(Debug)]
pub(crate) struct Bans4 {
    /// The owner of each ban, by its first address and its length.
    bans: BTreeMap<(u32, u8), u32>,
    /// Bans of each length.
    lengths: [usize; 33],
    /// The addresses of each list, in order, of which no two meet.
    lists: BTreeMap<u8, Vec<Interval>>,
    /// The list that covers a /24 of each /16 and is named as the owner of the others; 0 if none.
    line_lists: Vec<u8>,
    /// Entries in the table.
    entries: usize,
    /// How many /24s lost their entries since the fold was made.
    unfolded: u64,
}

impl Bans4 {
    pub(crate) fn new() -> Self {
        Self {
            bans: BTreeMap::new(),
            lengths: [0; 33],
            lists: BTreeMap::new(),
            line_lists: vec![0; FILTER_LINES as usize],
            entries: 0,
            unfolded: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bans.is_empty() && self.lists.is_empty()
    }

    /// Notes a ban without writing it.
    pub(crate) fn note(&mut self, first: u32, length: u8, owner: u32) {
        if self.bans.insert((first, length), owner).is_none()
            && let Some(bans) = self.lengths.get_mut(usize::from(length))
        {
            *bans += 1;
        }
    }

    /// Forgets a ban without erasing it.
    pub(crate) fn forget(&mut self, first: u32, length: u8) {
        if self.bans.remove(&(first, length)).is_some()
            && let Some(bans) = self.lengths.get_mut(usize::from(length))
        {
            *bans -= 1;
        }
    }

    /// Replaces a list without writing it. Gives the earlier one.
    pub(crate) fn list(&mut self, list: u8, mut intervals: Vec<Interval>) -> Vec<Interval> {
        merge(&mut intervals);
        let earlier = if intervals.is_empty() {
            self.lists.remove(&list)
        } else {
            self.lists.insert(list, intervals)
        };
        earlier.unwrap_or_default()
    }

    pub(crate) fn has_list(&self, list: u8) -> bool {
        self.lists.contains_key(&list)
    }

    /// Counts the entries of a table, after another one was given up.
    pub(crate) fn count_entries(&mut self, memory: Memory<'_>) {
        let words = |line| (0..LINE_WORDS).map(move |slot| memory.load(line, slot));
        let entries = buckets_of(memory).flat_map(words);
        self.entries = entries.filter(|word| word & VALID != 0).count();
        for line in 0..FILTER_LINES {
            let list = u8::try_from(owner_of(memory, line)).unwrap_or(0);
            if let Some(known) = self.line_lists.get_mut(line as usize) {
                *known = list;
            }
        }
    }

    /// Lines of a table for what is noted; none if it would be larger than the largest. `larger`
    /// doubles the buckets as often.
    pub(crate) fn lines(&self, larger: u32) -> Option<u32> {
        let expanded = |(&(_, length), _): (&(u32, u8), &u32)| match length {
            25..=32 => 1_usize << (32 - length),
            17..=24 => 1_usize << (24 - length),
            _ => 0,
        };
        let bans: usize = self.bans.iter().map(expanded).sum();
        let lists: usize = self.lists.values().flatten().map(|&interval| edges(interval)).sum();
        let buckets = (bans + lists).div_ceil(LOAD).next_power_of_two();
        let buckets = u32::try_from(buckets).ok()?.max(BUCKETS_MIN).checked_shl(larger)?;
        (buckets <= BUCKETS_MAX).then(|| bucket_line(u64::from(buckets) - 1) + buckets)
    }

    /// Writes all that is noted into a table that is all zero.
    pub(crate) fn build(&mut self, memory: Memory<'_>, seed: Seed) -> Result<(), Crowded> {
        memory.store(0, header::SEED, seed.0);
        memory.store(0, header::SEED_TWO, seed.1);
        memory.store(0, header::BUCKET_MASK, u64::from(buckets_in(memory.lines())) - 1);
        (self.entries, self.unfolded) = (0, 0);
        self.line_lists.fill(0);
        let buckets = Buckets::of(memory);
        let lists = std::mem::take(&mut self.lists);
        let mut chunks =
            lists.iter().flat_map(|(list, all)| all.chunks(BATCH).map(|some| (*list, some)));
        let written = chunks.try_for_each(|(list, intervals)| {
            buckets.fetch(intervals.iter().flat_map(|&(first, last)| [first, last]));
            intervals.iter().try_for_each(|&at| self.write_interval(memory, list, at))
        });
        self.lists = lists;
        written?;
        for line in 0..FILTER_LINES {
            let list = self.line_list(line);
            if list != 0 {
                own(memory, line, list.into());
            }
        }
        let mut bans: Vec<_> = self.bans.iter().map(|(ban, owner)| (*ban, *owner)).collect();
        // The longest last: whose drop it is, is theirs.
        bans.sort_by_key(|&((_, length), _)| length);
        bans.chunks(BATCH).try_for_each(|bans| {
            buckets.fetch(bans.iter().map(|&((first, _), _)| first));
            bans.iter().try_for_each(|&((first, length), owner)| match length {
                // Of an address nothing is longer: there is nobody to look for.
                32 => self.put(memory, first.into(), owner, false),
                _ => self.write(memory, first, length),
            })
        })
    }

    /// Writes a ban that is noted. It holds when this returns; if it does not, some of it may.
    pub(crate) fn write(
        &mut self,
        memory: Memory<'_>,
        first: u32,
        length: u8,
    ) -> Result<(), Crowded> {
        match length {
            0..=16 => {
                memory.store(0, COVERS, 1);
                for line in lines_of(first, length) {
                    if let Some(owner) = self.owner_of_line(line) {
                        own(memory, line, owner);
                    }
                    for word in 0..LONGER {
                        memory.store(FILTER_LINE + line, word, WHOLE);
                    }
                }
                Ok(())
            }
            17..=24 => cells_of(first, length).try_for_each(|cell| {
                if let Some(owner) = self.owner_in(cell, 17..=24) {
                    self.put(memory, CELL | u64::from(cell), owner, true)?;
                }
                cover(memory, cell, true);
                Ok(())
            }),
            _ => addresses_of(first, length).try_for_each(|address| {
                let Some((owner, length)) = self.longest(address, 25..=32) else {
                    return Ok(());
                };
                self.put(memory, address.into(), owner, length != 32)
            }),
        }
    }

    /// Erases a ban that is forgotten, and leaves what others ban.
    pub(crate) fn erase(&mut self, memory: Memory<'_>, first: u32, length: u8) {
        match length {
            0..=16 => {
                for line in lines_of(first, length) {
                    let owner = self.owner_of_line(line);
                    if owner.is_none() && self.is_bare(line) {
                        for word in 0..LONGER {
                            memory.store(FILTER_LINE + line, word, 0);
                        }
                    } else if owner.is_none() {
                        for cell in cells_of(line << 16, 16) {
                            self.uncover(memory, cell);
                        }
                    }
                    own(memory, line, owner.unwrap_or_else(|| self.line_list(line).into()));
                }
            }
            17..=24 => {
                for cell in cells_of(first, length) {
                    self.uncover(memory, cell);
                    let list = self.list_covering(cell);
                    let other = list.filter(|list| self.line_list(cell >> 16) != *list);
                    let owner = self.owner_in(cell, 17..=24).or_else(|| other.map(u32::from));
                    self.replace(memory, CELL | u64::from(cell), owner, true);
                    self.trim(memory, cell);
                }
            }
            _ => {
                for address in addresses_of(first, length) {
                    let ban = self.longest(address, 25..=32);
                    let list = || Some((self.list_with(address)?.into(), 32));
                    let (owner, length) = ban.or_else(list).unzip();
                    self.replace(memory, address.into(), owner, length.unwrap_or(32) != 32);
                }
                self.trim(memory, first & !0xff);
            }
        }
        if is_stale(memory, self.unfolded) {
            refold(memory);
            self.unfolded = 0;
        }
    }

    /// Whether a table of so many lines has become too full for quick lookups.
    pub(crate) fn is_crowded(&self, lines: u32) -> bool {
        self.entries > buckets_in(lines) as usize * LOAD_MAX
    }

    /// What an earlier daemon's table holds of lists: all that no record owns.
    ///
    /// Of what a ban covered as well, the table does not tell.
    pub(crate) fn adopted_lists(memory: Memory<'_>) -> BTreeMap<u8, Vec<Interval>> {
        let mut lists = BTreeMap::<u8, Vec<Interval>>::new();
        let mut add = |owner: u32, interval| {
            if let Some(list) = u8::try_from(owner).ok().filter(|list| *list != 0) {
                lists.entry(list).or_default().push(interval);
            }
        };
        let mut cells = BTreeMap::new();
        for line in buckets_of(memory) {
            for word in (0..LINE_WORDS).map(|slot| memory.load(line, slot)) {
                let address = u32::try_from(word & 0xffff_ffff).unwrap_or(0);
                if word & VALID == 0 {
                } else if word & CELL == 0 {
                    add(owner(word), (address, address));
                } else {
                    cells.insert(address, owner(word));
                }
            }
        }
        for line in 0..FILTER_LINES {
            if (0..LONGER).all(|word| memory.load(FILTER_LINE + line, word) == 0) {
                continue;
            }
            let owner = owner_of(memory, line);
            for cell in cells_of(line << 16, 16) {
                let (word, bit) = filter_bit(cell);
                if memory.load(FILTER_LINE + line, word) >> bit & 1 != 0 {
                    let owner = cells.get(&cell).copied().unwrap_or(owner);
                    add(owner, (cell, cell | 0xff));
                }
            }
        }
        lists
    }

    /// Covers what an interval covers of whole /24s, and enters its other addresses.
    fn write_interval(
        &mut self,
        memory: Memory<'_>,
        list: u8,
        interval: Interval,
    ) -> Result<(), Crowded> {
        let (from, to) = interval;
        let mut cell = from & !0xff;
        loop {
            let end = cell | 0xff;
            if from <= cell && end <= to {
                let line = cell >> 16;
                let owner = self.line_lists.get_mut(line as usize);
                let owner = owner.map_or(0, |owner| {
                    if *owner == 0 {
                        *owner = list;
                    }
                    *owner
                });
                let (word, bit) = filter_bit(cell);
                let is_covered = memory.load(FILTER_LINE + line, word) >> bit & 1 != 0;
                if owner != list && !is_covered {
                    self.put(memory, CELL | u64::from(cell), list.into(), true)?;
                }
                cover(memory, cell, true);
            } else {
                for address in from.max(cell)..=to.min(end) {
                    self.put(memory, address.into(), list.into(), false)?;
                }
            }
            if end >= to {
                return Ok(());
            }
            cell = end + 1;
        }
    }

    /// Enters a key in the place that it has or in the first that is free, and then says in the
    /// filter that there is an entry.
    fn put(
        &mut self,
        memory: Memory<'_>,
        key: u64,
        owner: u32,
        is_range: bool,
    ) -> Result<(), Crowded> {
        let word = entry(key, owner, is_range);
        let buckets = Buckets::of(memory);
        let place = match buckets.find(key) {
            Ok((line, slot)) => (line, slot),
            Err(free) => {
                let Some(free) = free else {
                    return Err(Crowded);
                };
                self.entries += 1;
                (free.line, free.slot)
            }
        };
        let (line, slot) = place;
        memory.store(line, slot, word | memory.load(line, slot) & OVERFLOW);
        buckets.chain(key, line);
        let address = u32::try_from(key & 0xffff_ffff).unwrap_or(0);
        fold(memory, address);
        let (word, bit) = filter_bit(address);
        memory.set(FILTER_LINE + (address >> 16), word + LONGER, 1 << bit);
        Ok(())
    }

    /// Names another owner of an entry, or removes it.
    fn replace(&mut self, memory: Memory<'_>, key: u64, owner: Option<u32>, is_range: bool) {
        let Ok((line, slot)) = Buckets::of(memory).find(key) else { return };
        let flag = memory.load(line, slot) & OVERFLOW;
        if let Some(owner) = owner {
            memory.store(line, slot, flag | entry(key, owner, is_range));
        } else {
            memory.store(line, slot, flag);
            self.entries = self.entries.saturating_sub(1);
        }
    }

    /// Uncovers a /24 that neither a ban nor a list covers any more.
    fn uncover(&self, memory: Memory<'_>, cell: u32) {
        if self.longest(cell, 0..=24).is_none() && self.list_covering(cell).is_none() {
            cover(memory, cell, false);
        }
    }

    /// Clears the bit of a /24 that has no entries any more.
    fn trim(&mut self, memory: Memory<'_>, cell: u32) {
        let longer = self.bans.range((cell, 25)..=(cell | 0xff, 32)).any(|(&(_, n), _)| n > 24);
        let lists = self.lists.values().any(|list| {
            let met = interval_from(list, cell).filter(|(first, _)| *first <= cell | 0xff);
            met.is_some_and(|(first, last)| *first > cell || *last < cell | 0xff)
        });
        if !longer && !lists && Buckets::of(memory).find(CELL | u64::from(cell)).is_err() {
            let (word, bit) = filter_bit(cell);
            memory.clear(FILTER_LINE + (cell >> 16), word + LONGER, 1 << bit);
            self.unfolded += 1;
        }
    }

    /// The longest ban of one of the lengths that holds an address.
    fn longest(&self, address: u32, lengths: RangeInclusive<u8>) -> Option<(u32, u8)> {
        lengths
            .rev()
            .filter(|length| self.lengths.get(usize::from(*length)) != Some(&0))
            .find_map(|length| Some((*self.bans.get(&(address & mask(length), length))?, length)))
    }

    fn owner_in(&self, cell: u32, lengths: RangeInclusive<u8>) -> Option<u32> {
        self.longest(cell, lengths).map(|(owner, _)| owner)
    }

    fn owner_of_line(&self, line: u32) -> Option<u32> {
        self.owner_in(line << 16, 0..=16)
    }

    fn line_list(&self, line: u32) -> u8 {
        self.line_lists.get(line as usize).copied().unwrap_or(0)
    }

    /// The list that covers a whole /24.
    fn list_covering(&self, cell: u32) -> Option<u8> {
        let covers = |list: &Vec<Interval>| {
            interval_from(list, cell).is_some_and(|(a, b)| *a <= cell && cell | 0xff <= *b)
        };
        self.lists.iter().find(|(_, list)| covers(list)).map(|(number, _)| *number)
    }

    /// The list that holds an address, but not its whole /24.
    fn list_with(&self, address: u32) -> Option<u8> {
        let cell = address & !0xff;
        let holds = |list: &Vec<Interval>| {
            interval_from(list, address)
                .is_some_and(|(a, b)| *a <= address && (*a > cell || *b < cell | 0xff))
        };
        self.lists.iter().find(|(_, list)| holds(list)).map(|(number, _)| *number)
    }

    /// Whether neither a ban of 17 to 24 bits nor a list covers any of a /16.
    fn is_bare(&self, line: u32) -> bool {
        let (first, last) = (line << 16, line << 16 | 0xffff);
        let mut bans = self.bans.range((first, 17)..=(last, 32));
        let meets =
            |list: &Vec<Interval>| interval_from(list, first).is_some_and(|(a, _)| *a <= last);
        bans.all(|(&(_, length), _)| length > 24) && !self.lists.values().any(meets)
    }
}

/// A place for an entry.
#[derive(Clone, Copy)]
struct Free {
    line: u32,
    slot: u32,
}

/// The buckets of one table.
#[derive(Clone, Copy)]
struct Buckets<'a> {
    memory: Memory<'a>,
    seed: Seed,
    mask: u64,
}

impl<'a> Buckets<'a> {
    fn of(memory: Memory<'a>) -> Self {
        Self { memory, seed: memory.seed(), mask: memory.load(0, header::BUCKET_MASK) }
    }

    /// Fetches the lines in which addresses would be entered.
    fn fetch(self, addresses: impl Iterator<Item = u32>) {
        self.memory.fetch(addresses.filter_map(|address| self.lines(address.into()).next()));
    }

    /// Where an entry is, or else where it may go, if anywhere: behind what a lookup reads now, too.
    fn find(self, key: u64) -> Result<(u32, u32), Option<Free>> {
        let wanted = VALID | key;
        let (mut free, mut is_chained) = (None, true);
        for line in self.lines(key) {
            let words = self.memory.words(line);
            for (slot, word) in (0..).zip(words) {
                if is_chained && word & KEY_MASK == wanted {
                    return Ok((line, slot));
                }
                if word & VALID == 0 && free.is_none() {
                    free = Some(Free { line, slot });
                }
            }
            is_chained &= words.first().is_some_and(|first| first & OVERFLOW != 0);
            if !is_chained && free.is_some() {
                break;
            }
        }
        Err(free)
    }

    /// Lets lookups of a key go on up to the bucket that is `last`.
    fn chain(self, key: u64, last: u32) {
        for line in self.lines(key).take_while(|line| *line != last) {
            self.memory.set(line, 0, OVERFLOW);
        }
    }

    /// The buckets in which an entry may be.
    fn lines(self, key: u64) -> impl Iterator<Item = u32> {
        let hash = mix(key, self.seed.0, self.seed.1);
        let first = bucket_line(self.mask);
        (0..u64::from(PROBES_MAX)).map(move |probe| {
            first + u32::try_from(hash.wrapping_add(probe) & self.mask).unwrap_or(0)
        })
    }
}

/// Sets or clears the bit of a /24 that is banned whole.
fn cover(memory: Memory<'_>, cell: u32, is_covered: bool) {
    let (word, bit) = filter_bit(cell);
    let line = FILTER_LINE + (cell >> 16);
    if is_covered {
        memory.store(0, COVERS, 1);
        memory.set(line, word, 1 << bit);
    } else {
        memory.clear(line, word, 1 << bit);
    }
}

/// The buckets of a table of so many lines.
fn buckets_in(lines: u32) -> u32 {
    lines.saturating_sub(FOLD_LINE) / (BUCKETS_PER_FOLD_LINE + 1) * BUCKETS_PER_FOLD_LINE
}

/// The lines of its buckets.
fn buckets_of(memory: Memory<'_>) -> Range<u32> {
    bucket_line(memory.load(0, header::BUCKET_MASK))..memory.lines()
}

/// Where the owner of a /16 stands: line, word, and the first of its bits.
fn owner_place(line: u32) -> (u32, u32, u32) {
    (OWNER_LINE + line / (2 * LINE_WORDS), line / 2 % LINE_WORDS, line % 2 * 32)
}

fn own(memory: Memory<'_>, line: u32, owner: u32) {
    let (at, word, bit) = owner_place(line);
    let other = memory.load(at, word) & !(u64::from(u32::MAX) << bit);
    memory.store(at, word, other | u64::from(owner) << bit);
}

fn owner_of(memory: Memory<'_>, line: u32) -> u32 {
    let (at, word, bit) = owner_place(line);
    u32::try_from(memory.load(at, word) >> bit & u64::from(u32::MAX)).unwrap_or(0)
}

/// Addresses of an interval that are in no /24 which it covers whole.
fn edges((first, last): Interval) -> usize {
    let covered_from = first.div_ceil(256);
    let covered_to = (u64::from(last) + 1) / 256;
    let covered = covered_to.saturating_sub(covered_from.into()) * 256;
    usize::try_from(u64::from(last) - u64::from(first) + 1 - covered).unwrap_or(usize::MAX)
}

/// Sorts intervals, and makes one of those that meet.
fn merge(intervals: &mut Vec<Interval>) {
    intervals.sort_unstable();
    intervals.dedup_by(|next, earlier| {
        let meet = next.0 <= earlier.1.saturating_add(1);
        if meet {
            earlier.1 = earlier.1.max(next.1);
        }
        meet
    });
}

/// The first interval that does not end before an address.
fn interval_from(list: &[Interval], address: u32) -> Option<&Interval> {
    list.get(list.partition_point(|(_, last)| *last < address))
}

/// The first and the last address of a prefix.
pub(crate) fn interval(first: u32, length: u8) -> Interval {
    (first & mask(length), first | !mask(length))
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(length.into())).unwrap_or(0)
}

/// The /16s that a prefix of at most 16 bits covers.
fn lines_of(first: u32, length: u8) -> impl Iterator<Item = u32> {
    let (first, last) = interval(first, length);
    first >> 16..=last >> 16
}

/// The first addresses of the /24s that a prefix of at most 24 bits covers.
fn cells_of(first: u32, length: u8) -> impl Iterator<Item = u32> {
    let (first, last) = interval(first, length);
    (first >> 8..=last >> 8).map(|cell| cell << 8)
}

fn addresses_of(first: u32, length: u8) -> impl Iterator<Item = u32> {
    let (first, last) = interval(first, length);
    first..=last
}
