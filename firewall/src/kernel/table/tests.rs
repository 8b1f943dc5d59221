//! The tables against a reading of the same bans that searches them all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{ops::Range, thread};

use firewall_common::lines::{Found, LINE_WORDS, LISTS, header};
use firewall_common::{table4, table6};

use super::fold::refold;
use super::memory::{Line, Seed};
use super::{Bans4, Bans6, Crowded, Memory, v4};

/// Deterministic numbers (splitmix64): a failure names its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn words(lines: u32) -> Vec<Line> {
    (0..lines).map(|_| [const { AtomicU64::new(0) }; LINE_WORDS as usize]).collect()
}

/// What a table of one family must do: written in place, made anew, and asked.
trait Table: Sized {
    type Address: Copy + Ord + std::fmt::Debug;
    const BITS: u8;

    fn new() -> Self;
    fn mask(address: Self::Address, length: u8) -> Self::Address;
    fn random(random: &mut Random) -> Self::Address;
    fn note(&mut self, first: Self::Address, length: u8, owner: u32) -> Result<(), Crowded>;
    fn forget(&mut self, first: Self::Address, length: u8);
    fn list(&mut self, list: u8, prefixes: &[(Self::Address, u8)]) -> usize;
    fn lines(&self, larger: u32) -> Option<u32>;
    fn build(&mut self, memory: Memory<'_>, seed: Seed) -> Result<(), Crowded>;
    fn write(
        &mut self,
        memory: Memory<'_>,
        first: Self::Address,
        length: u8,
    ) -> Result<(), Crowded>;
    fn erase(&mut self, memory: Memory<'_>, first: Self::Address, length: u8);
    fn is_crowded(&self, lines: u32) -> bool;
    fn lookup(memory: Memory<'_>, address: Self::Address) -> Found;
    fn is_exact(length: u8) -> bool;
    /// The lists of a table, in another one.
    fn adopt(memory: Memory<'_>) -> Self;
}

impl Table for Bans4 {
    type Address = u32;
    const BITS: u8 = 32;

    fn new() -> Self {
        Self::new()
    }

    fn mask(address: u32, length: u8) -> u32 {
        v4::interval(address, length).0
    }

    /// In few places, so that prefixes meet.
    fn random(random: &mut Random) -> u32 {
        let [a, b, c, d] = [2, 3, 4, 64].map(|bound| u32::try_from(random.below(bound)).unwrap());
        let last = [0, 1, 2, 127, 128, 129, 254, 255].get(d as usize).copied().unwrap_or(d * 4);
        (a * 0x80 + 10) << 24 | (b * 0x7f) << 16 | (c * 0x55) << 8 | last
    }

    fn note(&mut self, first: u32, length: u8, owner: u32) -> Result<(), Crowded> {
        self.note(first, length, owner);
        Ok(())
    }

    fn forget(&mut self, first: u32, length: u8) {
        self.forget(first, length);
    }

    fn list(&mut self, list: u8, prefixes: &[(u32, u8)]) -> usize {
        self.list(
            list,
            prefixes.iter().map(|&(first, length)| v4::interval(first, length)).collect(),
        );
        0
    }

    fn lines(&self, larger: u32) -> Option<u32> {
        self.lines(larger)
    }

    fn build(&mut self, memory: Memory<'_>, seed: Seed) -> Result<(), Crowded> {
        self.build(memory, seed)
    }

    fn write(&mut self, memory: Memory<'_>, first: u32, length: u8) -> Result<(), Crowded> {
        self.write(memory, first, length)
    }

    fn erase(&mut self, memory: Memory<'_>, first: u32, length: u8) {
        self.erase(memory, first, length);
    }

    fn is_crowded(&self, lines: u32) -> bool {
        self.is_crowded(lines)
    }

    fn lookup(memory: Memory<'_>, address: u32) -> Found {
        table4::lookup(&memory, address)
    }

    fn is_exact(length: u8) -> bool {
        length == 32
    }

    fn adopt(memory: Memory<'_>) -> Self {
        let mut adopted = Self::new();
        for (list, intervals) in Self::adopted_lists(memory) {
            adopted.list(list, intervals);
        }
        adopted
    }
}

impl Table for Bans6 {
    type Address = u128;
    const BITS: u8 = 128;

    fn new() -> Self {
        Self::new()
    }

    fn mask(address: u128, length: u8) -> u128 {
        address & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
    }

    fn random(random: &mut Random) -> u128 {
        let mut address = 0x2001_0db8_u128 << 96;
        for (shift, bound) in
            [(120, 2), (100, 2), (84, 2), (72, 3), (64, 3), (40, 2), (1, 2), (0, 3)]
        {
            address ^= u128::from(random.below(bound)) << shift;
        }
        address
    }

    fn note(&mut self, first: u128, length: u8, owner: u32) -> Result<(), Crowded> {
        self.note(first, length, owner)
    }

    fn forget(&mut self, first: u128, length: u8) {
        self.forget(first, length);
    }

    fn list(&mut self, list: u8, prefixes: &[(u128, u8)]) -> usize {
        self.list(list, prefixes.to_vec()).1
    }

    fn lines(&self, larger: u32) -> Option<u32> {
        self.lines(larger)
    }

    fn build(&mut self, memory: Memory<'_>, seed: Seed) -> Result<(), Crowded> {
        self.build(memory, seed)
    }

    fn write(&mut self, memory: Memory<'_>, first: u128, length: u8) -> Result<(), Crowded> {
        self.write(memory, first, length)
    }

    fn erase(&mut self, memory: Memory<'_>, first: u128, length: u8) {
        self.erase(memory, first, length);
    }

    fn is_crowded(&self, lines: u32) -> bool {
        self.is_crowded(lines)
    }

    fn lookup(memory: Memory<'_>, address: u128) -> Found {
        let (high, low) = super::records::halves(address);
        table6::lookup(&memory, high, low).expect("nobody replaces the table")
    }

    fn is_exact(length: u8) -> bool {
        length == 64 || length == 128
    }

    fn adopt(memory: Memory<'_>) -> Self {
        let mut adopted = Self::new();
        for (list, prefixes) in Self::adopted_lists(memory) {
            adopted.list(list, prefixes);
        }
        adopted
    }
}

/// A table, and the same read naively.
struct Both<T: Table> {
    table: T,
    words: Vec<Line>,
    bans: BTreeMap<(T::Address, u8), u32>,
    lists: BTreeMap<u8, Vec<(T::Address, u8)>>,
    seed: u64,
}

impl<T: Table> Both<T> {
    fn new(seed: u64) -> Self {
        let (bans, lists) = (BTreeMap::new(), BTreeMap::new());
        let mut both = Self { table: T::new(), words: Vec::new(), bans, lists, seed };
        both.rebuild();
        both
    }

    fn rebuild(&mut self) {
        for larger in 0.. {
            self.words = words(self.table.lines(larger).expect("it fits"));
            let seed = Seed(self.seed, u64::from(larger));
            if self.table.build(Memory::new(&self.words), seed) == Ok(()) {
                return;
            }
        }
    }

    fn ban(&mut self, first: T::Address, length: u8, owner: u32) {
        if self.bans.contains_key(&(first, length)) {
            return;
        }
        if self.table.note(first, length, owner).is_err() {
            return;
        }
        self.bans.insert((first, length), owner);
        let memory = Memory::new(&self.words);
        let written = self.table.write(memory, first, length);
        if written.is_err() || self.table.is_crowded(memory.lines()) {
            self.rebuild();
        }
    }

    fn unban(&mut self, first: T::Address, length: u8) {
        if self.bans.remove(&(first, length)).is_some() {
            self.table.forget(first, length);
            self.table.erase(Memory::new(&self.words), first, length);
        }
    }

    #[track_caller]
    fn check(&self, address: T::Address, what: &str) {
        let found = T::lookup(Memory::new(&self.words), address);
        let covers = |&(first, length): &(T::Address, u8)| T::mask(address, length) == first;
        let longest = self.bans.iter().filter(|(ban, _)| covers(ban)).max_by_key(|((_, n), _)| *n);
        let lists: Vec<u32> = self
            .lists
            .iter()
            .filter(|(_, prefixes)| prefixes.iter().any(covers))
            .map(|(list, _)| u32::from(*list))
            .collect();
        let name = format!("seed {}, {what}: {address:x?}", self.seed);
        assert_eq!(found.is_banned(), longest.is_some() || !lists.is_empty(), "{name}");
        if !found.is_banned() {
            return;
        }
        match longest {
            Some((&(_, length), &owner)) if lists.is_empty() => {
                assert_eq!(found.owner(), owner, "{name}, banned by /{length}");
                assert_eq!(found.is_range(), !T::is_exact(length), "{name}, banned by /{length}");
            }
            _ => {
                let is_bans =
                    self.bans.iter().any(|(ban, owner)| covers(ban) && *owner == found.owner());
                assert!(
                    is_bans || lists.contains(&found.owner()),
                    "{name}: {found:?} of {lists:?}"
                );
            }
        }
    }
}

fn simulate<T: Table>(seed: u64, steps: u32) {
    let random = &mut Random(seed);
    let mut both = Both::<T>::new(seed);
    for step in 0..steps {
        let length = match random.below(4) {
            0 => T::BITS,
            1 => T::BITS / 2,
            2 => T::BITS / 4 * 3,
            _ => u8::try_from(random.below(u64::from(T::BITS) + 1)).unwrap(),
        };
        let address = T::random(random);
        let first = T::mask(address, length);
        let what = format!("step {step}, {first:x?}/{length}");
        match random.below(16) {
            0..7 => both.ban(first, length, LISTS + step),
            7..14 => {
                let bans = both.bans.len() as u64;
                if bans > 0 {
                    let at = usize::try_from(random.below(bans)).unwrap();
                    let &(first, length) = both.bans.keys().nth(at).unwrap();
                    both.unban(first, length);
                }
            }
            14 => {
                let list = u8::try_from(1 + random.below(3)).unwrap();
                let mut prefixes = Vec::new();
                for _ in 0..random.below(12) {
                    let length =
                        T::BITS - u8::try_from(random.below(u64::from(T::BITS) * 3 / 4)).unwrap();
                    prefixes.push((T::mask(T::random(random), length), length));
                }
                let refused = both.table.list(list, &prefixes);
                if refused > 0 {
                    // Which ones is the table's choice: the lookups of those that are left agree.
                    both.table.list(list, &[]);
                    prefixes.clear();
                }
                both.lists.insert(list, prefixes);
                both.rebuild();
            }
            _ => both.rebuild(),
        }
        both.check(address, &what);
        for _ in 0..24 {
            both.check(T::random(random), &what);
        }
    }
}

#[test]
fn ipv4_is_found_as_a_naive_search_finds_it() {
    for seed in 0..6 {
        simulate::<Bans4>(seed, 60);
    }
}

#[test]
fn ipv6_is_found_as_a_naive_search_finds_it() {
    for seed in 0..48 {
        simulate::<Bans6>(seed, 240);
    }
}

/// A later daemon finds in the tables what lists cover, though they name no prefixes.
fn adopt<T: Table>(seed: u64) {
    let random = &mut Random(seed);
    let mut both = Both::<T>::new(seed);
    for list in 1..4 {
        let prefix = |random: &mut Random| {
            let length =
                [T::BITS, T::BITS / 2, T::BITS / 8 * 7][usize::try_from(random.below(3)).unwrap()];
            (T::mask(T::random(random), length), length)
        };
        let prefixes: Vec<_> = (0..10).map(|_| prefix(random)).collect();
        assert_eq!(both.table.list(list, &prefixes), 0);
        both.lists.insert(list, prefixes);
    }
    both.rebuild();
    both.ban(T::random(random), T::BITS, LISTS);
    both.table = T::adopt(Memory::new(&both.words));
    both.bans.clear();
    both.rebuild();
    for _ in 0..2_000 {
        both.check(T::random(random), "adopted");
    }
}

#[test]
fn lists_are_adopted() {
    for seed in 0..3 {
        adopt::<Bans4>(seed);
        adopt::<Bans6>(seed);
    }
}

/// Fills a small table until it must grow, and empties half of it: what overflows its bucket is
/// found, and what was never banned is not.
fn crowd<T: Table>(seed: u64, address: impl Fn(u64) -> (T::Address, u8)) {
    let mut table = T::new();
    let words = words(table.lines(0).unwrap());
    let memory = Memory::new(&words);
    table.build(memory, Seed(seed, !seed)).unwrap();
    let mut banned = 0;
    loop {
        let (first, length) = address(banned);
        table.note(first, length, LISTS).unwrap();
        if table.write(memory, first, length).is_err() || table.is_crowded(memory.lines()) {
            break;
        }
        banned += 1;
    }
    assert!(banned > 1_000, "seed {seed}: crowded at {banned}");
    let is_banned = |number| T::lookup(memory, address(number).0).is_banned();
    assert_eq!((0..banned).find(|number| !is_banned(*number)), None, "seed {seed}");
    for number in (0..banned).step_by(2) {
        let (first, length) = address(number);
        table.forget(first, length);
        table.erase(memory, first, length);
    }
    let wrong = (0..banned).find(|number| is_banned(*number) != (number % 2 == 1));
    assert_eq!(wrong, None, "seed {seed}");
    assert_eq!((banned + 1..banned + 20_000).find(|number| is_banned(*number)), None);
}

#[test]
fn a_crowded_table_finds_what_overflows() {
    for seed in 0..8 {
        crowd::<Bans4>(seed, |number| {
            (u32::try_from(number).unwrap().wrapping_mul(0x9e37_79b1), 32)
        });
        crowd::<Bans6>(seed, |number| ((0x2001_0db8_u128 << 96) + (u128::from(number) << 64), 64));
        crowd::<Bans6>(seed, |number| ((0x2001_0db8_u128 << 96) + u128::from(number), 128));
    }
}

/// What `firewall/docs/operating.md` says that a million entries take at most.
#[test]
fn a_million_keep_within_the_memory_budget() {
    const MILLION: usize = 1_000_000;
    const MB: usize = 1_000_000;
    let mut random = Random(7);
    let octets = |lines: Option<u32>| lines.unwrap() as usize * LINE_WORDS as usize * 8;
    let bits = |random: &mut Random| u128::from(random.next()) << 64 | u128::from(random.next());

    let mut addresses = Bans4::new();
    let single = |random: &mut Random| u32::try_from(random.next() >> 32).unwrap();
    addresses.list(1, (0..MILLION).map(|_| v4::interval(single(&mut random), 32)).collect());
    let mut ranges = Bans4::new();
    // Random ranges are the dearest: real ones touch.
    let length = |random: &mut Random| match random.below(100) {
        0..70 => 24,
        70..85 => 32,
        _ => u8::try_from(17 + random.below(7)).unwrap(),
    };
    let range = |random: &mut Random| v4::interval(single(random), length(random));
    ranges.list(1, (0..MILLION).map(|_| range(&mut random)).collect());
    let (mut hosts, mut networks) = (Bans6::new(), Bans6::new());
    hosts.list(1, (0..MILLION).map(|_| (bits(&mut random), 128)).collect());
    let network = |random: &mut Random| {
        let length = [48, 56, 64, 128][usize::try_from(random.below(4)).unwrap()];
        (bits(random) & u128::MAX << (128 - u32::from(length)), length)
    };
    networks.list(1, (0..MILLION).map(|_| network(&mut random)).collect());
    for (kind, lines, most) in [
        ("IPv4 addresses", addresses.lines(0), 24 * MB),
        ("IPv4 ranges", ranges.lines(0), 12 * MB),
        ("IPv6 addresses", hosts.lines(0), 84 * MB),
        ("IPv6 ranges", networks.lines(0), 84 * MB),
    ] {
        assert!(octets(lines) <= most, "{kind} take {} octets", octets(lines));
    }
    // Bans have records besides.
    assert!(octets(Some(super::Records::LINES_MAX)) <= 76 * MB);
    let empty = octets(Bans4::new().lines(0)) + octets(Bans6::new().lines(0));
    assert!(empty + octets(Some(super::Records::LINES_MIN)) <= 5 * MB + MB / 10, "{empty}");
}

/// Bits that are set in the fold.
fn folded(memory: Memory<'_>) -> u32 {
    fold_lines(memory).flat_map(|line| memory.words(line)).map(u64::count_ones).sum()
}

fn fold_lines(memory: Memory<'_>) -> Range<u32> {
    table4::FOLD_LINE..table4::bucket_line(memory.load(0, header::BUCKET_MASK))
}

/// The fold is made anew, again and again, while another thread looks up: what stays banned is never
/// missed, and a fold that is emptied first would be seen.
#[test]
fn a_fold_that_is_renewed_never_misses_what_stays() {
    const STANDING: u32 = 4_000;
    let mut bans = Bans4::new();
    let store = words(bans.lines(0).unwrap());
    let memory = Memory::new(&store);
    bans.build(memory, Seed(3, 5)).unwrap();
    let address = |n: u32| n.wrapping_mul(0x9e37_79b1);
    for n in 0..STANDING {
        bans.note(address(n), 32, LISTS);
        bans.write(memory, address(n), 32).unwrap();
    }
    let emptied = |memory: Memory<'_>| {
        for line in fold_lines(memory) {
            (0..8).for_each(|word| memory.store(line, word, 0));
        }
        refold(memory);
    };
    let missed = |renew: &dyn Fn(Memory<'_>), is_enough: &dyn Fn(u64, u64) -> bool| {
        let (looked, missed) = (AtomicU64::new(0), AtomicU64::new(0));
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in (0..STANDING).cycle() {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let is_missed = !table4::lookup(&memory, address(n)).is_banned();
                    missed.fetch_add(u64::from(is_missed), Ordering::Relaxed);
                    looked.fetch_add(1, Ordering::Relaxed);
                }
            });
            while !is_enough(looked.load(Ordering::Relaxed), missed.load(Ordering::Relaxed)) {
                renew(memory);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        missed.into_inner()
    };
    assert_eq!(missed(&refold, &|looked, _| looked >= 2_000_000), 0);
    assert!(missed(&emptied, &|looked, missed| missed > 0 || looked >= 200_000_000) > 0);
}

/// Single addresses come and go until the fold was made anew twice: 4,097 of the smallest table's
/// 32,768 bits may be idle. Then a /24 is covered, and the fold no longer decides.
#[test]
fn single_addresses_are_found_by_a_fold_that_forgets() {
    const STANDING: usize = 64;
    let mut random = Random(7);
    let mut bans = Bans4::new();
    let store = words(bans.lines(0).unwrap());
    let memory = Memory::new(&store);
    bans.build(memory, Seed(3, 5)).unwrap();
    let is_banned = |address| table4::lookup(&memory, address).is_banned();
    let mut standing = VecDeque::new();
    let mut most = 0;
    for _ in 0..10_000 {
        let address = u32::try_from(random.next() >> 32).unwrap();
        assert!(!is_banned(address));
        bans.note(address, 32, LISTS);
        bans.write(memory, address, 32).unwrap();
        standing.push_back(address);
        if standing.len() > STANDING {
            let ended = standing.pop_front().unwrap();
            bans.forget(ended, 32);
            bans.erase(memory, ended, 32);
            assert!(!is_banned(ended));
        }
        assert!(is_banned(address) && standing.iter().all(|&address| is_banned(address)));
        most = most.max(folded(memory));
    }
    // A few share a bit.
    assert!((3_800..4_097 + 65).contains(&most), "{most} bits were set");
    let network = !standing.front().copied().unwrap() & !0xff;
    bans.note(network, 24, LISTS + 1);
    bans.write(memory, network, 24).unwrap();
    assert!(is_banned(network) && is_banned(network | 0xff) && !is_banned(network ^ 0x100));
    assert!(standing.iter().all(|&address| is_banned(address)));
}
