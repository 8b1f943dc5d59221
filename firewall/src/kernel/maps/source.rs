//! Where maps are opened: in the program that this process has loaded, or, where another one has,
//! by their pins.

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError};
use firewall_common::maps::{COUNTERS, LIST_DROPS, Map as Declared, POLICIES, TALLY};

use super::failed;
use crate::kernel::KernelError;
use crate::kernel::pin::{self, Pins};
use crate::kernel::syscall::open_pin;

/// What only the program and its loader write: another process may read them, and no more.
pub(in crate::kernel) const COUNTED: [Declared; 4] = [COUNTERS, LIST_DROPS, POLICIES, TALLY];

/// Where maps come from.
pub(in crate::kernel) enum Source<'a> {
    /// Each is given once.
    Program(&'a mut Ebpf),
    Pinned(&'a Pins),
}

impl Source<'_> {
    pub(in crate::kernel) fn take(&mut self, declared: Declared) -> Result<Map, KernelError> {
        match self {
            Self::Program(program) => {
                program.take_map(declared.name).ok_or(KernelError::NoMap { map: declared.name })
            }
            Self::Pinned(pins) => pinned(pins, declared),
        }
    }

    pub(in crate::kernel) fn open<M>(&mut self, declared: Declared) -> Result<M, KernelError>
    where
        M: TryFrom<Map, Error = MapError>,
    {
        M::try_from(self.take(declared)?).map_err(|source| failed(declared, "open", source))
    }
}

/// The number of a pinned map in this kernel.
pub(in crate::kernel) fn id_of(pins: &Pins, declared: Declared) -> Result<u32, KernelError> {
    let info = opened(pins, declared)?.info();
    Ok(info.map_err(|source| failed(declared, "tell its kind", source))?.id())
}

fn pinned(pins: &Pins, declared: Declared) -> Result<Map, KernelError> {
    Map::from_map_data(opened(pins, declared)?).map_err(|source| failed(declared, "open", source))
}

fn opened(pins: &Pins, declared: Declared) -> Result<MapData, KernelError> {
    let path = pins.map(declared.name);
    let told = |source| failed(declared, "tell its kind", source);
    let fd = open_pin(&path, COUNTED.contains(&declared));
    let data =
        MapData::from_fd(fd.map_err(|error| pin::not_shared(&path, error))?).map_err(told)?;
    super::declared::check(&data.info().map_err(told)?, &path, declared)?;
    Ok(data)
}
