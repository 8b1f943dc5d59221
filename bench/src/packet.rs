//! The packet path, measured beside the other filters of this kernel in one run.

mod commands;
mod filters;
mod frame;
mod goodput;
mod lane;
mod live;
mod loading;
mod loss;
mod outcome;
mod probes;
mod same_key;
mod sources;
mod structures;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::compare::{machine, time_of_day};
use crate::order::Order;
use crate::pin::{self, Placement};
use crate::report::Missing;
use commands::Commands;
use lane::Source;
use outcome::{Goodput, Load, Loss, Outcome, Peer, Sample};

/// Compare the packet path with xdp-filter, nftables, ipset and the kernel's own tables
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The firewall's program, for HTTP under a flood; without it that part is reported as missing
    #[arg(long, value_name = "PATH")]
    firewall: Option<PathBuf>,
    /// Under three minutes, for a first look; its spread is wide
    #[arg(long)]
    quick: bool,
    /// Only whether every part runs: installs nothing, and its figures mean nothing
    #[arg(long, conflicts_with = "quick", hide = true)]
    smoke: bool,
    /// Only these parts, to look at one closely; the ratios of the others are missing then
    #[arg(long, value_enum)]
    only: Vec<Step>,
    /// The seed of addresses and order, to repeat a run
    #[arg(long)]
    seed: Option<u64>,
    /// Where to write every sample
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Step {
    SameKey,
    Live,
    Tables,
    Load,
    Flood,
    Loss,
}

/// How much is measured.
struct Plan {
    same_key_sizes: &'static [usize],
    same_key_rounds: usize,
    /// Of one program in one round.
    runs: u32,
    live_sizes: &'static [usize],
    live_rounds: usize,
    frames: u32,
    structure_sizes: &'static [usize],
    structure_rounds: usize,
    look_ups: u32,
    load_sizes: &'static [usize],
    load_rounds: usize,
    flood_rounds: usize,
    flood_seconds: f64,
}

impl Plan {
    const FULL: Self = Self {
        same_key_sizes: &[1, 10_000],
        same_key_rounds: 21,
        runs: 1_000_000,
        live_sizes: &[1, 10_000, 65_536, 100_000, 1_000_000],
        live_rounds: 9,
        frames: 500_000,
        structure_sizes: &[1, 10_000, 100_000, 1_000_000],
        structure_rounds: 9,
        look_ups: 400_000,
        load_sizes: &[1_000_000],
        load_rounds: 5,
        flood_rounds: 5,
        flood_seconds: 10.0,
    };
    const QUICK: Self = Self {
        same_key_sizes: &[1, 10_000],
        same_key_rounds: 9,
        runs: 500_000,
        live_sizes: &[65_536],
        live_rounds: 5,
        frames: 250_000,
        structure_sizes: &[1_000_000],
        structure_rounds: 5,
        look_ups: 200_000,
        load_sizes: &[1_000_000],
        load_rounds: 1,
        flood_rounds: 3,
        flood_seconds: 2.0,
    };
    const SMOKE: Self = Self {
        same_key_sizes: &[1],
        same_key_rounds: 1,
        runs: 1000,
        live_sizes: &[16],
        live_rounds: 1,
        frames: 1000,
        structure_sizes: &[16],
        structure_rounds: 1,
        look_ups: 1000,
        load_sizes: &[1_000],
        load_rounds: 1,
        flood_rounds: 1,
        flood_seconds: 0.3,
    };

    const fn of(options: &Options) -> Self {
        if options.smoke {
            Self::SMOKE
        } else if options.quick {
            Self::QUICK
        } else {
            Self::FULL
        }
    }
}

/// What all parts of a run share.
struct Session {
    plan: Plan,
    peers: Vec<Peer>,
    order: Order,
    commands: Commands,
    source: Source,
    samples: Vec<Sample>,
    remarks: Vec<String>,
    losses: Vec<Loss>,
    loads: Vec<Load>,
    placement: Option<Placement>,
}

impl Session {
    fn remark(&mut self, remark: String) {
        eprintln!("{remark}");
        self.remarks.push(remark);
    }
}

/// Runs the comparison, prints its tables and ratios, and writes its samples. What cannot be
/// measured is an error only if it is the firewall.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    own_mounts().context("making a mount namespace, which needs CAP_SYS_ADMIN")?;
    let placement = Placement::choose()?;
    // The CPU that everything is measured on; the other is left to the rest of the machine.
    let cpu = placement.map_or(0, |placement| placement.load);
    pin::this_thread(cpu)?;
    let commands = Commands::new(!options.smoke);
    let (peers, mut missing, versions) = peers(&commands);
    let seed = options.seed.map_or_else(time_of_day, Ok)?;
    let mut session = Session {
        plan: Plan::of(options),
        peers,
        order: Order::seeded(seed),
        commands,
        source: Source::new(cpu)?,
        samples: Vec::new(),
        remarks: Vec::new(),
        losses: Vec::new(),
        loads: Vec::new(),
        placement,
    };
    let goodput = measure(&mut session, options, &mut missing)?;
    let outcome = Outcome {
        machine: machine(placement)?,
        seed,
        quick: options.quick || options.smoke,
        versions,
        missing,
        remarks: session.remarks,
        commands: session.commands.lines(),
        samples: session.samples,
        goodput,
        loss: session.losses,
        load: session.loads,
    };
    std::io::stdout().write_all(outcome.text().as_bytes())?;
    if let Some(path) = &options.json {
        fs::write(path, outcome.json()?).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Every part that was asked for, one after the other.
fn measure(
    session: &mut Session,
    options: &Options,
    missing: &mut Vec<Missing>,
) -> anyhow::Result<Vec<Goodput>> {
    let does = |step| options.only.is_empty() || options.only.contains(&step);
    for entries in session.plan.same_key_sizes {
        if does(Step::SameKey) {
            eprintln!("one packet again and again, {entries} entries");
            same_key::run(session, *entries)?;
        }
    }
    for entries in session.plan.live_sizes {
        if does(Step::Live) {
            eprintln!("live packets, {entries} entries");
            live::run(session, *entries)?;
        }
    }
    for entries in session.plan.structure_sizes {
        if does(Step::Tables) {
            eprintln!("random sources, {entries} entries");
            structures::singles(session, *entries)?;
            structures::ranges(session, *entries)?;
            structures::ranges6(session, *entries)?;
        }
    }
    for entries in session.plan.load_sizes {
        if does(Step::Load) {
            eprintln!("loading, {entries} entries");
            loading::run(session, *entries)?;
        }
    }
    let follows = session.commands.find("ethtool", "ethtool");
    if let Err(reason) = &follows {
        missing.push(Missing { name: "lost frames, HTTP under a flood", reason: reason.clone() });
    }
    if does(Step::Loss) && follows.is_ok() {
        eprintln!("lost frames");
        loss::run(session)?;
    }
    match &options.firewall {
        Some(program) if does(Step::Flood) && follows.is_ok() => {
            eprintln!("HTTP under a flood");
            let program = program.canonicalize().with_context(|| program.display().to_string())?;
            return goodput::run(session, &program);
        }
        Some(_) => {}
        None => {
            let reason = "no --firewall given: no HTTP under a flood".to_owned();
            missing.push(Missing { name: "firewall's program", reason });
        }
    }
    Ok(Vec::new())
}

/// Leaves the mounts that others see, and mounts a BPF file system where `xdp-filter` looks for one:
/// whatever is pinned there ends with this process. Must come before the first thread.
fn own_mounts() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("bpf", "/sys/fs/bpf", "bpf", MountFlags::empty(), None)?;
    Ok(())
}

/// What some peers cannot do without.
struct Need {
    peers: &'static [Peer],
    /// Each with the Debian package that holds it.
    programs: &'static [(&'static str, &'static str)],
}

const NEEDS: [Need; 3] = [
    Need {
        peers: &[Peer::XdpFilter],
        programs: &[("xdp-filter", "xdp-tools"), ("ethtool", "ethtool")],
    },
    Need {
        peers: &[Peer::NftNetdev, Peer::NftInput],
        programs: &[("nft", "nftables"), ("ethtool", "ethtool")],
    },
    Need {
        peers: &[Peer::Ipset],
        programs: &[("ipset", "ipset"), ("iptables", "iptables"), ("ethtool", "ethtool")],
    },
];

/// Who takes part, who is missing and why, and in which versions.
fn peers(commands: &Commands) -> (Vec<Peer>, Vec<Missing>, BTreeMap<String, String>) {
    let mut peers = vec![
        Peer::Firewall,
        Peer::FirewallList,
        Peer::Lpm,
        Peer::Hash,
        Peer::Parse,
        Peer::Generator,
    ];
    let (mut missing, mut versions) = (Vec::new(), BTreeMap::new());
    versions.insert("firewall".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    for Need { peers: found, programs } in &NEEDS {
        let lack = programs.iter().find_map(|(name, package)| commands.find(name, package).err());
        if let Some(reason) = lack {
            for peer in *found {
                eprintln!("MISSING: {}: {reason}", peer.name());
                missing.push(Missing { name: peer.name(), reason: reason.clone() });
            }
            continue;
        }
        peers.extend(*found);
        for (_, package) in *programs {
            versions.insert((*package).to_owned(), commands.version(package));
        }
    }
    peers.sort_unstable();
    (peers, missing, versions)
}
