//! The memory of the tables of bans: arrays of lines that the kernel's program and the daemon share,
//! written by plain stores, grown by putting a larger one in its place.
#![expect(unsafe_code, reason = "memory that a system call maps has no other door")]

mod fold;
mod memory;
mod records;
#[cfg(test)]
mod tests;
mod v4;
mod v6;

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use aya::maps::MapData;
use firewall_common::lines::LINE_WORDS;
use firewall_common::maps::{BANS, LINES_FLAGS};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::KernelError;
use super::pin;
use super::split::Client;
use super::syscall::{create_array, inner_id, open_pin, set_inner};
use memory::Line;
pub(super) use memory::{Crowded, Memory, Seed};
pub(super) use records::Records;
pub(super) use v4::{Bans4, interval};
pub(super) use v6::Bans6;

/// More lines than any table has: 128 MiB.
const LINES_MAX: u32 = 1 << 21;
/// Octets of a line.
const LINE_OCTETS: u32 = LINE_WORDS * 8;

/// An inner map, in this process's memory as well.
#[derive(Debug)]
pub(super) struct Region {
    map: MapData,
    start: NonNull<Line>,
    lines: u32,
}

/// Makes a map of `lines` lines, all zero, which takes `CAP_BPF`.
pub(super) fn create(lines: u32) -> Result<OwnedFd, KernelError> {
    if lines > LINES_MAX {
        return Err(memory_error("make", io::ErrorKind::InvalidInput.into()));
    }
    create_array(b"firewall_lines", LINE_OCTETS, lines, LINES_FLAGS)
        .map_err(|source| memory_error("make", source))
}

impl Region {
    fn of(fd: OwnedFd) -> Result<Self, KernelError> {
        Self::map(MapData::from_fd(fd).map_err(|source| failed("be opened", source))?)
    }

    fn map(map: MapData) -> Result<Self, KernelError> {
        let info = map.info().map_err(|source| failed("tell its kind", source))?;
        let lines = info.max_entries();
        if info.value_size() != LINE_OCTETS || info.map_flags() != LINES_FLAGS {
            let source = io::Error::new(io::ErrorKind::InvalidData, "it is another kind of map");
            return Err(memory_error("map", source));
        }
        let length = octets(lines);
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice meets no other memory.
        let start = unsafe {
            mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, map.fd().as_fd(), 0)
        };
        let start = start.map_err(|error| memory_error("map", error.into()))?;
        let start = NonNull::new(start.cast())
            .ok_or_else(|| memory_error("map", io::ErrorKind::OutOfMemory.into()))?;
        Ok(Self { map, start, lines })
    }

    /// The words, which the kernel reads, and in records writes, while this process does.
    pub(super) fn memory(&self) -> Memory<'_> {
        // SAFETY: the mapping is of this many lines, starts at a page, and lives as long as `self`;
        // atomics are what both sides access it by.
        Memory::new(unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.lines as usize) })
    }

    pub(super) const fn lines(&self) -> u32 {
        self.lines
    }
}

// The memory is shared with the kernel whichever thread asks, and is only accessed by atomics.
// SAFETY: nothing in the mapping is bound to the thread that made it.
unsafe impl Send for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: it is this mapping, and borrows of its memory have ended.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), octets(self.lines)) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

const fn octets(lines: u32) -> usize {
    lines as usize * LINE_OCTETS as usize
}

/// Who makes the inner maps.
#[derive(Debug)]
pub(super) enum Maker {
    /// This process.
    Here,
    /// The loader, for a process that may not.
    Loader(Arc<Client>),
}

/// Where the inner maps come from, and where they are pinned.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) maker: Maker,
    pub(super) pins: Option<PathBuf>,
    /// Where the other maps are.
    pub(super) maps: Option<PathBuf>,
}

/// The array of maps that the program finds the tables by.
#[derive(Debug)]
pub(super) struct Outer {
    map: MapData,
    home: Home,
}

impl Outer {
    pub(super) fn new(map: MapData, home: Home) -> Self {
        Self { map, home }
    }

    /// Lines of the first records: room for 512 bans, or for 8,192 where a loader must be there for
    /// more.
    pub(super) fn record_lines(&self) -> u32 {
        match self.home.maker {
            Maker::Here => Records::LINES_MIN,
            Maker::Loader(_) => (0..4).fold(Records::LINES_MIN, |lines, _| Records::doubled(lines)),
        }
    }

    /// Makes an inner map of `lines` lines, all zero. It is read by nobody yet.
    pub(super) fn make(&self, lines: u32) -> Result<Region, KernelError> {
        let fd = match &self.home.maker {
            Maker::Here => create(lines)?,
            Maker::Loader(client) => client.make(lines)?,
        };
        let region = Region::of(fd)?;
        if region.lines() != lines {
            let source = io::Error::new(io::ErrorKind::InvalidData, "it is of another size");
            return Err(memory_error("make", source));
        }
        Ok(region)
    }

    /// What an earlier daemon left at `index`.
    ///
    /// The pins tell, because only a process with every privilege may open a map by its number.
    pub(super) fn adopt(&self, index: u32) -> Result<Option<Region>, KernelError> {
        let id = inner_id(self.map.fd().as_fd(), index);
        let Some(id) = id.map_err(|source| memory_error("tell what it holds", source))? else {
            return Ok(None);
        };
        for path in [self.pin(index), self.new_pin(index)].into_iter().flatten() {
            if !path.exists() {
                continue;
            }
            let opened = open_pin(&path, false);
            let opened = opened.map_err(|error| pin::not_shared(&path, error))?;
            let map = MapData::from_fd(opened).map_err(|source| failed("be opened", source))?;
            if map.info().map_err(|source| failed("tell its kind", source))?.id() == id {
                return Region::map(map).map(Some);
            }
        }
        let map = MapData::from_id(id).map_err(|source| failed("be opened", source))?;
        Region::map(map).map(Some)
    }

    /// Puts `region` at `index` for the packets to come, and returns when none sees the earlier one
    /// any more: about 10 ms.
    pub(super) fn put(&self, index: u32, region: &Region) -> Result<(), KernelError> {
        // The pin comes first and is renamed last: at every moment one of both names leads to what
        // the program reads.
        let pins = self.new_pin(index).zip(self.pin(index));
        if let Some((new, _)) = &pins {
            remove_if_there(new)?;
            region.map.pin(new).map_err(|source| pin_error(new, source))?;
        }
        set_inner(self.map.fd().as_fd(), index, region.map.fd().as_fd())
            .map_err(|source| memory_error("be replaced", source))?;
        if let Some((new, pin)) = &pins
            && let Err(error) = fs::rename(new, pin)
        {
            // The program reads it already, and by the new name it is found as well.
            let path = new.display();
            tracing::warn!(%error, %path, "a pin of the tables of bans keeps its first name");
        }
        Ok(())
    }

    fn pin(&self, index: u32) -> Option<PathBuf> {
        self.home.pins.as_ref().map(|pins| pins.join(format!("{}-{index}", BANS.name)))
    }

    fn new_pin(&self, index: u32) -> Option<PathBuf> {
        self.home.pins.as_ref().map(|pins| pins.join(format!("{}-{index}-new", BANS.name)))
    }
}

fn remove_if_there(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::Pin { path: path.to_owned(), action: "removed", source: error })
        }
        _ => Ok(()),
    }
}

fn pin_error(path: &Path, source: aya::pin::PinError) -> KernelError {
    KernelError::Pin { path: path.to_owned(), action: "pinned", source: io::Error::other(source) }
}

fn memory_error(action: &'static str, source: io::Error) -> KernelError {
    KernelError::Memory { action, source }
}

fn failed(action: &'static str, source: aya::maps::MapError) -> KernelError {
    KernelError::Map { map: BANS.name, action, source }
}
