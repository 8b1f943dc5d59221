//! The bench's own XDP programs: the generator, and filters made of nothing but a kernel table.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, ProgramArray};
use aya::programs::{ProgramFd, Xdp, XdpMode, loaded_programs};
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunAttrs, TestRunOptions};
use ipnet::Ipv4Net;
use xtask::lab::NetNs;

use super::sources::KEYS;

static OBJECT: &[u8] = aya::include_bytes_aligned!("bench.bpf.o");

/// Keys in one element of the map of keys.
const KEYS_PER_PAGE: usize = 1024;

/// Frames that the kernel makes at once: two of its batches towards a virtual interface, and less
/// than that one's ring holds.
const BATCH: u32 = 64;

/// `XDP_ABORTED` and `XDP_DROP` of the kernel's `enum xdp_action`.
const ABORTED: u32 = 0;
pub(crate) const DROP: u32 = 1;

/// A filter of the bench's own object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Drops everything: a filter without a table.
    None,
    Lpm,
    Hash,
}

impl Table {
    const fn program(self) -> &'static str {
        match self {
            Self::None => "parse",
            Self::Lpm => "lpm",
            Self::Hash => "hash",
        }
    }
}

/// The loaded object.
pub(crate) struct Probes {
    object: Ebpf,
    run: Array<MapData, [u8; 16]>,
    programs: ProgramArray<MapData>,
    /// Where the generator is attached.
    kept: Option<NetNs>,
}

impl Probes {
    /// Loads the object, with tables for so many entries.
    pub(crate) fn load(entries: usize) -> anyhow::Result<Self> {
        let entries = u32::try_from(entries.max(1))?;
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for table in ["LPM4", "HASH4"] {
            loader.map_max_entries(table, entries);
        }
        let mut object = loader.load(OBJECT).context("loading the bench's XDP object")?;
        let run = take(&mut object, "RUN")?;
        let programs = take(&mut object, "PROGRAMS")?;
        Ok(Self { object, run, programs, kept: None })
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

    /// The sources that are drawn from now on, in this order; [`KEYS`] of them.
    pub(crate) fn set_keys(&mut self, keys: &[[u8; 4]]) -> anyhow::Result<()> {
        anyhow::ensure!(keys.len() == KEYS, "expected {KEYS} keys, found {}", keys.len());
        let map = self.object.map_mut("KEYS4").context("no map KEYS4")?;
        let mut map: Array<_, [[u8; 4]; KEYS_PER_PAGE]> = map.try_into()?;
        for (page, keys) in (0..).zip(keys.as_chunks::<KEYS_PER_PAGE>().0) {
            map.set(page, keys, 0)?;
        }
        Ok(())
    }

    /// Puts addresses into the table of single addresses.
    pub(crate) fn fill_hash(&mut self, addresses: &[Ipv4Addr]) -> anyhow::Result<()> {
        let map = self.object.map_mut("HASH4").context("no map HASH4")?;
        let mut map: HashMap<_, [u8; 4], u64> = map.try_into()?;
        addresses.iter().try_for_each(|address| Ok(map.insert(address.octets(), 1, 0)?))
    }

    /// Puts ranges into the trie.
    pub(crate) fn fill_lpm(
        &mut self,
        networks: impl IntoIterator<Item = Ipv4Net>,
    ) -> anyhow::Result<()> {
        let map = self.object.map_mut("LPM4").context("no map LPM4")?;
        let mut map: LpmTrie<_, [u8; 4], u64> = map.try_into()?;
        networks.into_iter().try_for_each(|network| {
            let key = Key::new(u32::from(network.prefix_len()), network.addr().octets());
            Ok(map.insert(&key, 1, 0)?)
        })
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
    /// source, one run after the end of the other. The time of one run, drawing its key included.
    pub(crate) fn draw(&mut self, frame: &[u8], runs: u32) -> anyhow::Result<Duration> {
        self.set_run(0)?;
        let options = TestRunOptions { data_in: Some(frame), repeat: runs, ..Default::default() };
        let result = self.program("draw4")?.test_run(options)?;
        anyhow::ensure!(result.return_value != ABORTED, "the program could not be called");
        Ok(result.duration)
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
