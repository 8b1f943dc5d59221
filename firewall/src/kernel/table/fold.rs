//! The fold of the IPv4 table: a bit for each /24 that has entries, in as few lines as those need.

use firewall_common::lines::{LINE_WORDS, header};
use firewall_common::table4::{
    FILTER_LINE, FILTER_LINES, FOLD_LINE, LONGER, bucket_line, filter_bit, fold_bit,
};

use super::Memory;

/// Of so many bits one may stand for nothing any more, before the fold is made anew.
const SHARE: u64 = 8;

/// Whether so many /24s without entries are to be forgotten.
pub(super) fn is_stale(memory: Memory<'_>, idle: u64) -> bool {
    let lines = bucket_line(memory.load(0, header::BUCKET_MASK)) - FOLD_LINE;
    idle * SHARE > u64::from(lines * LINE_WORDS) * 64
}

/// Says in the fold that an address's /24 has entries.
pub(super) fn fold(memory: Memory<'_>, address: u32) {
    let (line, word, bit) = fold_bit(address, memory.load(0, header::BUCKET_MASK));
    memory.set(line, word, 1 << bit);
}

/// Makes the fold anew of the entries that the filter tells of. Each of its words goes at once from bits
/// that hold all that stands there to fewer that do.
pub(super) fn refold(memory: Memory<'_>) {
    let mask = memory.load(0, header::BUCKET_MASK);
    let (from, to) = (FOLD_LINE, bucket_line(mask));
    let mut folded = vec![[0_u64; LINE_WORDS as usize]; (to - from) as usize];
    for line in 0..FILTER_LINES {
        let words = memory.words(FILTER_LINE + line);
        if words.iter().skip(LONGER as usize).all(|word| *word == 0) {
            continue;
        }
        for cell in (0..256).map(|cell| line << 16 | cell << 8) {
            let (word, bit) = filter_bit(cell);
            let longer = words.get((word + LONGER) as usize);
            if longer.is_some_and(|longer| longer >> bit & 1 != 0) {
                let (line, word, bit) = fold_bit(cell, mask);
                let at = folded.get_mut((line - from) as usize);
                if let Some(at) = at.and_then(|line| line.get_mut(word as usize)) {
                    *at |= 1 << bit;
                }
            }
        }
    }
    for (line, words) in (from..to).zip(folded) {
        for (word, bits) in (0..).zip(words) {
            memory.store(line, word, bits);
        }
    }
}
