//! What is banned in the pinned tables of an older layout.

use std::fs;
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use firewall_common::maps::{BANS, bans as inner};
use firewall_common::{Ban, LAYOUT};
use ipnet::IpNet;

use super::failed;
use crate::kernel::KernelError;
use crate::kernel::maps::check_pinned;
use crate::kernel::pin::TABLES;
use crate::kernel::table::{Bans4, Bans6, Home, Maker, Outer, Records};

/// The first layout whose tables of bans are as they are now: raised where they change. No daemon ever
/// wrote 5: it is the tests' older one.
const READABLE_FROM: u32 = 5;

/// What an older layout's tables say.
#[derive(Default)]
pub(super) struct Earlier {
    pub(super) bans: Vec<(IpNet, Ban)>,
    pub(super) lists4: Vec<(u8, Vec<(u32, u32)>)>,
    pub(super) lists6: Vec<(u8, Vec<(u128, u8)>)>,
}

/// Reads the newest tables that are older than those in the directory `maps`, if there are any. They
/// stay in force until the program that reads them is replaced. What cannot be read is said: of
/// those bans the state file alone tells.
pub(super) fn read(maps: &Path) -> Earlier {
    let Some((layout, directory)) = older(maps) else { return Earlier::default() };
    if layout < READABLE_FROM {
        tracing::warn!(layout, "an older firewall's tables cannot be read: the state file tells");
        return Earlier::default();
    }
    match of(&directory) {
        Ok(earlier) => {
            tracing::info!(layout, bans = earlier.bans.len(), "bans are taken over");
            earlier
        }
        Err(error) => {
            let error = error.told();
            tracing::error!(layout, error, "an older firewall's bans are not taken over");
            Earlier::default()
        }
    }
}

fn older(maps: &Path) -> Option<(u32, PathBuf)> {
    let entries = fs::read_dir(maps.parent()?).ok()?;
    let layouts = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let layout: u32 = entry.file_name().to_str()?.strip_prefix('v')?.parse().ok()?;
        (layout < LAYOUT).then(|| (layout, entry.path()))
    });
    layouts.max()
}

fn of(directory: &Path) -> Result<Earlier, KernelError> {
    let path = directory.join(BANS.name);
    if !path.exists() {
        return Ok(Earlier::default());
    }
    check_pinned(&path, BANS)?;
    let map = MapData::from_pin(&path).map_err(|source| failed(BANS, "be opened", source))?;
    // Of a loader and its proxy, or of one process.
    let tables = Some(directory.join(TABLES)).filter(|tables| tables.exists());
    let pins = tables.or_else(|| Some(directory.to_owned()));
    let outer = Outer::new(map, Home { maker: Maker::Here, pins, maps: None });
    let mut earlier = Earlier::default();
    if let Some(lines) = outer.adopt(inner::RECORDS)? {
        let (_, owners) = Records::adopt(lines.memory());
        let ban = |(target, owner)| (target, Records::ban(lines.memory(), owner));
        earlier.bans = owners.into_iter().map(ban).collect();
    }
    if let Some(lines) = outer.adopt(inner::V4)? {
        earlier.lists4 = Bans4::adopted_lists(lines.memory()).into_iter().collect();
    }
    if let Some(lines) = outer.adopt(inner::V6)? {
        earlier.lists6 = Bans6::adopted_lists(lines.memory()).into_iter().collect();
    }
    Ok(earlier)
}
