//! What each map is declared as, compared with what is found in its place.

use std::path::Path;

use aya::maps::{MapData, MapInfo, MapType};
use firewall_common::maps::{
    ALLOW4, ALLOW6, BANS, BUDGETS, CONFIG, EVENTS, LIST_DROPS, MULTIPLIERS, Map as Declared, OWN,
    POLICIES, SPILL4, SPILL6, STANDING, TALLY,
};
use firewall_common::{Budgets, Config, Counter, Payer, Policy, Tally};

use super::failed;
use crate::kernel::KernelError;
use crate::kernel::syscall::open_pin;

/// What else is pinned: a program that is put back goes on reading what the daemon writes, and a
/// process that has not loaded the program works with it.
pub(in crate::kernel) const SHARED: [Declared; 8] =
    [ALLOW4, ALLOW6, OWN, EVENTS, BUDGETS, TALLY, MULTIPLIERS, STANDING];

/// Refuses a pinned map that is not of the declared kind. The layout number guards against our own
/// earlier versions; this, against what others put there.
pub(in crate::kernel) fn check_pinned(path: &Path, declared: Declared) -> Result<(), KernelError> {
    if !path.exists() {
        return Ok(());
    }
    let told = |source| failed(declared, "tell its kind", source);
    let fd = open_pin(path, false).map_err(|source| KernelError::Pin {
        path: path.to_owned(),
        action: "opened",
        source,
    })?;
    let data = MapData::from_fd(fd).map_err(told)?;
    check(&data.info().map_err(told)?, path, declared)
}

/// The same of a map that is open.
pub(super) fn check(info: &MapInfo, path: &Path, declared: Declared) -> Result<(), KernelError> {
    let (kind, key_size, value_size) = kind(declared);
    let found = info.map_type().map_err(|source| failed(declared, "tell its kind", source))?;
    let is_ours = found == kind
        && info.key_size() as usize == key_size
        && info.value_size() as usize == value_size
        && info.max_entries() == declared.entries;
    if is_ours { Ok(()) } else { Err(KernelError::ForeignMap { path: path.to_owned() }) }
}

/// The type, and the octets of key and value.
fn kind(declared: Declared) -> (MapType, usize, usize) {
    match declared {
        BANS => (MapType::ArrayOfMaps, 4, 4),
        SPILL4 => (MapType::LpmTrie, 8, 8),
        SPILL6 => (MapType::LpmTrie, 20, 8),
        LIST_DROPS => (MapType::PerCpuArray, 4, 8),
        POLICIES => (MapType::Array, 4, size_of::<Policy>()),
        ALLOW4 => (MapType::LpmTrie, 8, 4),
        ALLOW6 | MULTIPLIERS => (MapType::LpmTrie, 20, 4),
        CONFIG => (MapType::Array, 4, size_of::<Config>()),
        OWN => (MapType::Hash, 16, 4),
        EVENTS => (MapType::RingBuf, 0, 0),
        BUDGETS => (MapType::Array, 4, size_of::<Budgets>()),
        TALLY => (MapType::PerCpuArray, 4, size_of::<Tally>()),
        STANDING => (MapType::Hash, size_of::<Payer>(), 4),
        // COUNTERS; a wrong one of the others would be found out by its test.
        _ => (MapType::PerCpuArray, 4, size_of::<Counter>()),
    }
}
