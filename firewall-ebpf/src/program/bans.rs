//! The tables of bans as the program reads them, and a function for each kind of look-up. The bench's
//! program holds this file too.
#![expect(unsafe_code, reason = "map values are raw pointers of the kernel's")]

use core::ptr::NonNull;

use aya_ebpf::btf_maps::{self, ArrayOfMaps};
use aya_ebpf::macros::btf_map;
use firewall_common::lines::{Found, LINE_WORDS, Lines};
use firewall_common::maps;
use firewall_common::table4;
use firewall_common::table6::{self, Prefix};

/// An inner map of [`BANS`]: the number of lines is the daemon's choice.
type LineArray = btf_maps::Array<[u64; LINE_WORDS as usize], 1, { maps::LINES_FLAGS as usize }>;

#[btf_map]
static BANS: ArrayOfMaps<LineArray, { maps::BANS.entries as usize }> = ArrayOfMaps::new();

/// One table of bans.
#[derive(Clone, Copy)]
pub(super) struct LineMap<'a>(&'a LineArray);

impl LineMap<'static> {
    #[inline(always)]
    pub(super) fn of(index: u32) -> Option<Self> {
        BANS.get(index).map(Self)
    }
}

impl Lines for LineMap<'_> {
    type Line = NonNull<[u64; LINE_WORDS as usize]>;

    #[inline(always)]
    fn line(&self, index: u32) -> Option<Self::Line> {
        NonNull::new(self.0.get_ptr_mut(index)?)
    }

    #[inline(always)]
    fn word(&self, line: Self::Line, index: u32) -> u64 {
        // The daemon writes while this is read: the compiler must neither repeat nor reorder.
        // SAFETY: a map's value stays valid while the program runs, and the index lies within it.
        unsafe {
            line.as_ptr().cast::<u64>().add((index & (LINE_WORDS - 1)) as usize).read_volatile()
        }
    }

    #[inline(always)]
    fn prefix6(&self, prefix: Prefix, hash: u64, seed: u64) -> Option<Found> {
        let Prefix { high, low, length } = prefix;
        match prefix6(high, low, length, hash, seed) {
            REPLACED => None,
            bits => Some(Found::from_bits(bits)),
        }
    }
}

/// The IPv4 ban that holds an address, as [`Found::bits`]. Exported, for the verifier walks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn ban4(address: u32) -> u32 {
    match LineMap::of(maps::bans::V4) {
        Some(lines) => table4::lookup(&lines, address).bits(),
        None => Found::NONE.bits(),
    }
}

/// The same for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn ban6(high: u64, low: u64) -> u32 {
    // The second time, the table was replaced during the first: that takes it milliseconds.
    for _ in 0..2 {
        let Some(lines) = LineMap::of(maps::bans::V6) else {
            break;
        };
        if let Some(found) = table6::lookup(&lines, high, low) {
            return found.bits();
        }
    }
    Found::NONE.bits()
}

/// What a function says in place of [`Found::bits`] if the table was replaced.
const REPLACED: u32 = 1;

/// The IPv6 ban of exactly a prefix.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn prefix6(high: u64, low: u64, length: u32, hash: u64, seed: u64) -> u32 {
    let found = LineMap::of(maps::bans::V6)
        .and_then(|lines| table6::find(&lines, Prefix { high, low, length }, hash, seed));
    match found {
        Some(found) => found.bits(),
        None => REPLACED,
    }
}
