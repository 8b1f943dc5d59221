//! The bench's own XDP programs: the generator, and filters made of nothing but a kernel table.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, ProgramArray};
use aya::programs::{ProgramFd, Xdp, XdpMode, loaded_programs};
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunAttrs, TestRunOptions};
use ipnet::IpNet;
use xtask::lab::NetNs;

use super::sources::{KEYS, Keys};

static OBJECT: &[u8] = aya::include_bytes_aligned!("bench.bpf.o");

/// The firewall's map of tables.
pub(crate) const BANS: &str = "BANS";

/// Keys in one element of the map of keys.
const KEYS_PER_PAGE: usize = 1024;

/// Frames that the kernel makes at once: two of its batches towards a virtual interface, and less
/// than that one's ring holds.
const BATCH: u32 = 64;

/// `XDP_DROP` and `XDP_PASS` of the kernel's `enum xdp_action`.
pub(crate) const DROP: u32 = 1;
pub(crate) const PASS: u32 = 2;

/// A filter of the bench's own object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Drops everything: a filter without a table.
    None,
    Lpm,
    Hash,
    /// The firewall's own.
    Ours,
}

impl Table {
    const fn program(self) -> &'static str {
        match self {
            Self::None => "parse",
            Self::Lpm => "lpm",
            Self::Hash => "hash",
            Self::Ours => "table",
        }
    }
}

/// The loaded object.
pub(crate) struct Probes {
    object: Ebpf,
    run: Array<MapData, [u8; 16]>,
    programs: ProgramArray<MapData>,
    /// The program that draws keys of the family that was set last.
    draw: &'static str,
    /// Where the generator is attached.
    kept: Option<NetNs>,
}

impl Probes {
    /// Loads the object, with tables for so many entries of IPv4 and of IPv6.
    /// The firewall's tables are those that are pinned at `bans`, or empty.
    pub(crate) fn load(
        entries4: usize,
        entries6: usize,
        bans: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        if let Some(path) = bans {
            loader.map_pin_path(BANS, path);
        }
        for (tables, entries) in [(["LPM4", "HASH4"], entries4), (["LPM6", "HASH6"], entries6)] {
            let entries = u32::try_from(entries.max(1))?;
            for table in tables {
                loader.map_max_entries(table, entries);
            }
        }
        let mut object = loader.load(OBJECT).context("loading the bench's XDP object")?;
        let run = take(&mut object, "RUN")?;
        let programs = take(&mut object, "PROGRAMS")?;
        Ok(Self { object, run, programs, draw: "draw4", kept: None })
    }

    fn program(&mut self, name: &'static str) -> anyhow::Result<&mut Xdp> {
        let program =
            self.object.program_mut(name).with_context(|| format!("no program {name}"))?;
        let program: &mut Xdp = program.try_into()?;
        if program.fd().is_err() {
            program.load().with_context(|| format!("loading the program {name}"))?;
        }
        Ok(program)
    }

    /// The sources that are drawn or sent from now on, in this order; [`KEYS`] of them.
    pub(crate) fn set_keys(&mut self, keys: &Keys) -> anyhow::Result<()> {
        match keys {
            Keys::V4(keys) => {
                self.draw = "draw4";
                self.write_keys("KEYS4", keys)
            }
            Keys::V6(keys) => {
                self.draw = "draw6";
                self.write_keys("KEYS6", keys)
            }
        }
    }

    fn write_keys<const N: usize>(&mut self, map: &str, keys: &[[u8; N]]) -> anyhow::Result<()> {
        anyhow::ensure!(keys.len() == KEYS, "expected {KEYS} keys, found {}", keys.len());
        let map = self.object.map_mut(map).with_context(|| format!("no map {map}"))?;
        let mut map: Array<_, [[u8; N]; KEYS_PER_PAGE]> = map.try_into()?;
        for (page, keys) in (0..).zip(keys.as_chunks::<KEYS_PER_PAGE>().0) {
            map.set(page, keys, 0)?;
        }
        Ok(())
    }

    /// Puts addresses into the hash maps.
    pub(crate) fn fill_hash(
        &mut self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> anyhow::Result<()> {
        let (mut hash4, mut hash6) = (None, None);
        for (name, map) in self.object.maps_mut() {
            match name {
                "HASH4" => hash4 = Some(HashMap::<_, [u8; 4], u64>::try_from(map)?),
                "HASH6" => hash6 = Some(HashMap::<_, [u8; 16], u64>::try_from(map)?),
                _ => {}
            }
        }
        let (mut hash4, mut hash6) = hash4.zip(hash6).context("no hash maps")?;
        for address in addresses {
            match address {
                IpAddr::V4(address) => hash4.insert(address.octets(), 1, 0)?,
                IpAddr::V6(address) => hash6.insert(address.octets(), 1, 0)?,
            }
        }
        Ok(())
    }

    /// Puts ranges into the tries.
    pub(crate) fn fill_lpm(
        &mut self,
        networks: impl IntoIterator<Item = IpNet>,
    ) -> anyhow::Result<()> {
        let (mut lpm4, mut lpm6) = (None, None);
        for (name, map) in self.object.maps_mut() {
            match name {
                "LPM4" => lpm4 = Some(LpmTrie::<_, [u8; 4], u64>::try_from(map)?),
                "LPM6" => lpm6 = Some(LpmTrie::<_, [u8; 16], u64>::try_from(map)?),
                _ => {}
            }
        }
        let (mut lpm4, mut lpm6) = lpm4.zip(lpm6).context("no tries")?;
        for network in networks {
            let length = u32::from(network.prefix_len());
            match network.addr() {
                IpAddr::V4(address) => lpm4.insert(&Key::new(length, address.octets()), 1, 0)?,
                IpAddr::V6(address) => lpm6.insert(&Key::new(length, address.octets()), 1, 0)?,
            }
        }
        Ok(())
    }

    /// Attaches a filter in native mode to the interface of a namespace; it stays as long as this.
    pub(crate) fn attach(
        &mut self,
        table: Table,
        namespace: &NetNs,
        interface: &str,
    ) -> anyhow::Result<()> {
        let program = self.program(table.program())?;
        namespace.run(|| program.attach(interface, XdpMode::Driver))??;
        Ok(())
    }

    /// Packets in which the filters have found a source of theirs.
    pub(crate) fn hits(&self) -> anyhow::Result<u64> {
        let map = self.object.map("HITS").context("no map HITS")?;
        let map: PerCpuArray<_, u64> = map.try_into()?;
        Ok(map.get(&0, 0)?.iter().sum())
    }

    /// Makes [`Probes::draw`] call one of the filters from now on.
    pub(crate) fn aim(&mut self, table: Table) -> anyhow::Result<()> {
        let target = self.program(table.program())?.fd()?.try_clone()?;
        self.aim_at(&target)
    }

    /// Makes [`Probes::draw`] call the program of this number from now on.
    pub(crate) fn aim_at_id(&mut self, id: u32) -> anyhow::Result<()> {
        let target = loaded_programs()
            .filter_map(Result::ok)
            .find(|program| program.id() == id)
            .with_context(|| format!("program {id} is not loaded"))?;
        self.aim_at(&target.fd()?)
    }

    fn aim_at(&mut self, target: &ProgramFd) -> anyhow::Result<()> {
        self.programs.set(0, target, 0).context("the program cannot be called from another")
    }

    /// Runs the program that was aimed at `runs` times on this frame, each time from the next
    /// source, one run after the end of the other. The time of one run, drawing its key included, and
    /// what the last one returned.
    pub(crate) fn draw(&mut self, frame: &[u8], runs: u32) -> anyhow::Result<(Duration, u32)> {
        self.set_run(0)?;
        let options = TestRunOptions { data_in: Some(frame), repeat: runs, ..Default::default() };
        let result = self.program(self.draw)?.test_run(options)?;
        Ok((result.duration, result.return_value))
    }

    /// Sends `frames` copies of the frame, each from the next source, out of the interface of this
    /// number in the calling thread's namespace; with 0 it makes them only.
    pub(crate) fn generate(
        &mut self,
        frame: &[u8],
        frames: u32,
        interface: u32,
    ) -> anyhow::Result<()> {
        self.set_run(interface)?;
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..Default::default()
        };
        self.program("generate")?.test_run(options).context("sending live frames")?;
        Ok(())
    }

    /// Keeps the generator in use, on an interface that never receives a packet. Else the kernel
    /// rewrites code of its own at the beginning and the end of each call of
    /// [`Probes::generate`], and waits some 40 ms for all CPUs to have seen it.
    pub(crate) fn keep_generator(
        &mut self,
        namespace: NetNs,
        interface: &str,
    ) -> anyhow::Result<()> {
        let program = self.program("generate")?;
        namespace.run(|| program.attach(interface, XdpMode::Driver))??;
        self.kept = Some(namespace);
        Ok(())
    }

    /// Starts over with the keys.
    fn set_run(&mut self, interface: u32) -> anyhow::Result<()> {
        let mut run = [0; 16];
        let words = [0_u32.to_ne_bytes(), 0_u32.to_ne_bytes(), interface.to_ne_bytes()];
        for (octet, from) in run.iter_mut().zip(words.as_flattened()) {
            *octet = *from;
        }
        Ok(self.run.set(0, run, 0)?)
    }
}

fn take<M: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &str) -> anyhow::Result<M> {
    let map = object.take_map(name).with_context(|| format!("the object has no map {name}"))?;
    Ok(M::try_from(map)?)
}
