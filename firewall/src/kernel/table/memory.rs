//! Lines of a table as the daemon reads and writes them.

use std::hint;
use std::sync::atomic::{AtomicU64, Ordering};

use firewall_common::lines::{LINE_WORDS, Lines, header};

/// A line of a table.
pub(crate) type Line = [AtomicU64; LINE_WORDS as usize];

/// The lines of a table. One thread writes them, programs of the kernel read them meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory<'a>(&'a [Line]);

/// Entries whose lines are [fetched](Memory::fetch) at once where a table is made: more than a CPU
/// has reads under way, few enough that the first is still in its cache when the last has come.
pub(super) const BATCH: usize = 32;

/// An entry finds no room within the buckets that a lookup reads: the table must grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

/// What makes the hash of one table unlike that of every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) u64, pub(crate) u64);

impl<'a> Memory<'a> {
    pub(crate) const fn new(lines: &'a [Line]) -> Self {
        Self(lines)
    }

    pub(crate) fn lines(self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    pub(crate) const fn octets(self) -> usize {
        size_of_val(self.0)
    }

    /// The words of a line, as they are one after the other; zeros beyond the end.
    pub(crate) fn words(self, line: u32) -> [u64; LINE_WORDS as usize] {
        let Some(line) = self.0.get(line as usize) else {
            return [0; LINE_WORDS as usize];
        };
        std::array::from_fn(|word| line.get(word).map_or(0, |at| at.load(Ordering::Acquire)))
    }

    /// The word, or zero beyond the end.
    pub(crate) fn load(self, line: u32, word: u32) -> u64 {
        self.at(line, word).map_or(0, |at| at.load(Ordering::Acquire))
    }

    /// Writes a word, so that whoever reads it reads all that was written before it.
    pub(crate) fn store(self, line: u32, word: u32, value: u64) {
        if let Some(at) = self.at(line, word) {
            at.store(value, Ordering::Release);
        }
    }

    pub(crate) fn set(self, line: u32, word: u32, bits: u64) {
        let old = self.load(line, word);
        if old & bits != bits {
            self.store(line, word, old | bits);
        }
    }

    pub(crate) fn clear(self, line: u32, word: u32, bits: u64) {
        let old = self.load(line, word);
        if old & bits != 0 {
            self.store(line, word, old & !bits);
        }
    }

    /// Adds to a word that the kernel adds to as well.
    pub(crate) fn add(self, line: u32, word: u32, value: u64) {
        if let Some(at) = self.at(line, word) {
            at.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// Reads a word of each line, so that what is looked at next is in the cache. The CPU waits for
    /// all of them at once, where who looks at one after the other waits for each.
    pub(crate) fn fetch(self, lines: impl Iterator<Item = u32>) {
        let words = lines.filter_map(|line| self.at(line, 0));
        hint::black_box(words.fold(0, |sum, word| sum ^ word.load(Ordering::Relaxed)));
    }

    pub(crate) fn seed(self) -> Seed {
        Seed(self.load(0, header::SEED), self.load(0, header::SEED_TWO))
    }

    fn at(self, line: u32, word: u32) -> Option<&'a AtomicU64> {
        self.0.get(line as usize)?.get(word as usize)
    }
}

impl Lines for Memory<'_> {
    type Line = u32;

    fn line(&self, index: u32) -> Option<u32> {
        (index < self.lines()).then_some(index)
    }

    fn word(&self, line: u32, index: u32) -> u64 {
        self.load(line, index % LINE_WORDS)
    }
}
