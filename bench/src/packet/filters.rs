//! The packet filters that are compared, each set up on a lane with the same banned addresses.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aya::maps::{Map, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues};
use aya::programs::{Xdp, loaded_programs};
use aya::util::nr_cpus;
use aya_obj::programs::XdpAttachType;
use firewall::clock::Monotonic;
use firewall::kernel::{Check, CheckSetting, InterfaceOptions, Kernel, ListId, Options, Reason};
use ipnet::IpNet;
use xtask::lab::NetNs;

use super::commands::Commands;
use super::lane::{INTERFACE, Lane};
use super::outcome::Peer;
use super::probes::{Probes, Table};

/// What `xdp-filter` holds at most; its map cannot be made larger.
pub(crate) const XDP_FILTER_ENTRIES: usize = 10_000;

/// Where `xdp-filter` pins its program and maps.
const XDP_FILTER_PINS: &str = "/sys/fs/bpf/xdp-filter";

/// A filter at work.
pub(crate) trait Filter {
    /// Packets that it has dropped because their source is banned.
    fn dropped(&mut self) -> anyhow::Result<u64>;
}

/// Sets up a filter that drops what comes from these addresses. The inner error is why it cannot be.
pub(crate) fn set_up<'a>(
    peer: Peer,
    lane: &'a Lane,
    addresses: &[Ipv4Addr],
    commands: &'a Commands,
) -> anyhow::Result<Result<Box<dyn Filter + 'a>, String>> {
    if peer == Peer::XdpFilter && addresses.len() > XDP_FILTER_ENTRIES {
        return Ok(Err(format!("holds at most {XDP_FILTER_ENTRIES} addresses")));
    }
    Ok(Ok(match peer {
        Peer::Firewall | Peer::FirewallList => {
            let networks = networks(addresses);
            match Firewall::ban(Kept::by(peer), Some(lane), &networks)? {
                Ok(filter) => Box::new(filter),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        Peer::XdpFilter => Box::new(XdpFilter::load(&lane.namespace, addresses, commands)?),
        Peer::NftNetdev | Peer::NftInput => Box::new(nft(peer, lane, addresses, commands)?),
        Peer::Ipset => Box::new(ipset(lane, addresses, commands)?),
        Peer::Lpm => Box::new(probe(Table::Lpm, lane, addresses)?),
        Peer::Hash => Box::new(probe(Table::Hash, lane, addresses)?),
        Peer::Parse => Box::new(probe(Table::None, lane, addresses)?),
        Peer::Table | Peer::Generator => anyhow::bail!("{} is no filter by itself", peer.name()),
    }))
}

/// Our program with every check on.
pub(crate) struct Firewall {
    pub(crate) kernel: Kernel,
}

/// How the firewall keeps what it drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// As bans, each with its end and a count of its own.
    Bans,
    /// As a list, which has one count.
    List,
}

impl Kept {
    pub(crate) fn by(peer: Peer) -> Self {
        if peer == Peer::FirewallList { Self::List } else { Self::Bans }
    }
}

/// Bans that are made one by one here: more of them come as lists.
const BANS_MAX: usize = 100_000;

impl Firewall {
    /// Attached to a lane's end, or to nothing. The inner error is why it cannot hold the bans.
    pub(crate) fn ban(
        kept: Kept,
        lane: Option<&Lane>,
        networks: &[IpNet],
    ) -> anyhow::Result<Result<Self, String>> {
        if kept == Kept::Bans && networks.len() > BANS_MAX {
            return Ok(Err(format!("more than {BANS_MAX} come as a list")));
        }
        let interface = INTERFACE.parse()?;
        let options = Options {
            interfaces: lane.map(|_| InterfaceOptions::of(interface)).into_iter().collect(),
            // Not on a BPF file system: program and tables end with this value.
            pin_dir: PathBuf::from("/"),
            checks: every_check(),
            ..Options::default()
        };
        let started = match lane {
            Some(lane) => lane.namespace.run(|| Kernel::start(&options))?,
            None => Kernel::start(&options),
        };
        let mut kernel = started.context("starting the firewall's program")?;
        for report in kernel.interfaces() {
            anyhow::ensure!(
                report.mode == firewall::kernel::Mode::Native,
                "the firewall is attached to {} in mode {:?}: {:?}",
                report.name,
                report.mode,
                report.reason
            );
        }
        if kept == Kept::List {
            let list = ListId::new(1).context("there is no list 1")?;
            let report = kernel.replace_list(list, networks)?;
            if report.refused > 0 {
                return Ok(Err(format!("{} have no room", report.refused)));
            }
            return Ok(Ok(Self { kernel }));
        }
        for network in networks {
            if let Err(error) = kernel.ban(*network, Monotonic::NEVER) {
                return Ok(Err(error.to_string()));
            }
        }
        Ok(Ok(Self { kernel }))
    }

    /// What its packets came to, for whom it is not as expected.
    pub(crate) fn reasons(&self) -> anyhow::Result<Vec<(Reason, u64)>> {
        let counters = self.kernel.counters()?;
        let packets = |reason: &Reason| (*reason, counters.acted(*reason).packets);
        Ok(Reason::ALL.iter().map(packets).filter(|(_, packets)| *packets > 0).collect())
    }

    /// Pins the map of this name that its program reads.
    pub(crate) fn pin(&mut self, name: &str, path: &Path) -> anyhow::Result<()> {
        let id = self.kernel.program_id()?;
        let program = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
        let maps = program.context("the firewall's program is not loaded")?.map_ids()?;
        for id in maps.unwrap_or_default() {
            let map = MapData::from_id(id)?;
            if map.info()?.name_as_str() == Some(name) {
                return Ok(map.pin(path)?);
            }
        }
        anyhow::bail!("the firewall's program has no map {name}")
    }

    pub(crate) fn banned_packets(&self) -> anyhow::Result<u64> {
        let counters = self.kernel.counters()?;
        Ok([Reason::Ban, Reason::BanRange]
            .map(|reason| counters.acted(reason).packets)
            .iter()
            .sum())
    }
}

/// Every check that lets ordinary traffic pass, to drop: nothing is cheaper than it could be in use.
fn every_check() -> Vec<CheckSetting> {
    // Those that are left out object to what is ordinary, where an operator does not want it.
    let is_check = |reason: &&Reason| {
        reason.is_check()
            && !matches!(reason, Reason::I3 | Reason::I13 | Reason::T14 | Reason::U3 | Reason::U4)
    };
    let checks = Reason::ALL.iter().filter(is_check);
    checks
        .map(|reason| CheckSetting { reason: *reason, mode: Check::Drop, interface: None })
        .collect()
}

/// Each address by itself.
pub(crate) fn networks(addresses: &[Ipv4Addr]) -> Vec<IpNet> {
    addresses.iter().map(|address| IpNet::from(IpAddr::V4(*address))).collect()
}

impl Filter for Firewall {
    fn dropped(&mut self) -> anyhow::Result<u64> {
        self.banned_packets()
    }
}

impl Filter for Probes {
    fn dropped(&mut self) -> anyhow::Result<u64> {
        self.hits()
    }
}

fn probe(table: Table, lane: &Lane, addresses: &[Ipv4Addr]) -> anyhow::Result<Probes> {
    let mut probes = Probes::load(addresses.len(), 0, None)?;
    let addresses = addresses.iter().copied().map(IpAddr::V4);
    match table {
        Table::None | Table::Ours => {}
        Table::Lpm => probes.fill_lpm(addresses.map(IpNet::from))?,
        Table::Hash => probes.fill_hash(addresses)?,
    }
    probes.attach(table, &lane.namespace, INTERFACE)?;
    Ok(probes)
}

/// `xdp-filter` with all its features, on one interface at a time: its maps are one for all.
pub(crate) struct XdpFilter<'a> {
    pub(crate) program: Xdp,
    namespace: &'a NetNs,
    commands: &'a Commands,
}

impl<'a> XdpFilter<'a> {
    /// Loads it on the lane's end, where it drops what comes from these addresses.
    pub(crate) fn load(
        namespace: &'a NetNs,
        addresses: &[Ipv4Addr],
        commands: &'a Commands,
    ) -> anyhow::Result<Self> {
        commands.run(Some(namespace), "xdp-filter", &["load", INTERFACE, "-f", "all"], "")?;
        let directory = format!("{XDP_FILTER_PINS}/programs/{INTERFACE}");
        let entry = std::fs::read_dir(&directory).context(directory)?.next();
        let path = entry.context("xdp-filter has pinned no program")??.path();
        let program = Xdp::from_pin(path, XdpAttachType::Interface)?;
        let filter = Self { program, namespace, commands };
        let path = format!("{XDP_FILTER_PINS}/filter_ipv4");
        let map = Map::PerCpuHashMap(MapData::from_pin(&path)?);
        let mut map: PerCpuHashMap<_, [u8; 4], u64> = map.try_into()?;
        // What `xdp-filter ip ADDRESS -m src` writes, without a process for each.
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        for address in addresses {
            map.insert(address.octets(), PerCpuValues::try_from(vec![1; cpus])?, 0)?;
        }
        commands.note(format!(
            "xdp-filter ip ADDRESS -m src  # {} times, written to {path}",
            addresses.len()
        ));
        Ok(filter)
    }
}

impl Filter for XdpFilter<'_> {
    fn dropped(&mut self) -> anyhow::Result<u64> {
        let map = Map::PerCpuArray(MapData::from_pin(format!("{XDP_FILTER_PINS}/xdp_stats_map"))?);
        // By action; packets, then octets.
        let map: PerCpuArray<_, [u64; 2]> = map.try_into()?;
        Ok(map.get(&super::probes::DROP, 0)?.iter().map(|[packets, _]| packets).sum())
    }
}

impl Drop for XdpFilter<'_> {
    fn drop(&mut self) {
        let unload = ["unload", INTERFACE];
        if let Err(error) = self.commands.run(Some(self.namespace), "xdp-filter", &unload, "") {
            eprintln!("{error:#}");
        }
    }
}

/// A filter whose counter a command prints.
struct Counted<'a> {
    namespace: &'a NetNs,
    commands: &'a Commands,
    program: &'static str,
    arguments: &'static [&'static str],
    packets: fn(&str) -> Option<u64>,
}

impl Filter for Counted<'_> {
    fn dropped(&mut self) -> anyhow::Result<u64> {
        let printed = self.commands.run(Some(self.namespace), self.program, self.arguments, "")?;
        (self.packets)(&printed).with_context(|| format!("{}: no count in {printed}", self.program))
    }
}

fn nft<'a>(
    peer: Peer,
    lane: &'a Lane,
    addresses: &[Ipv4Addr],
    commands: &'a Commands,
) -> anyhow::Result<Counted<'a>> {
    let (family, hook) = if peer == Peer::NftNetdev {
        ("netdev", format!("ingress device \"{INTERFACE}\""))
    } else {
        ("inet", "input".to_owned())
    };
    // With a size, nft takes its fastest set: a hash table of fixed size for keys of four octets.
    let mut rules = format!(
        "table {family} bench {{\n counter banned {{}}\n\
         set banned {{ type ipv4_addr; size {}; }}\n\
         chain judge {{ type filter hook {hook} priority 0; policy accept;\n\
         ip saddr @banned counter name banned drop\n }}\n}}\n",
        addresses.len()
    );
    for some in addresses.chunks(4096) {
        let list: Vec<String> = some.iter().map(Ipv4Addr::to_string).collect();
        writeln!(rules, "add element {family} bench banned {{ {} }}", list.join(", "))?;
    }
    commands.run(Some(&lane.namespace), "nft", &["-f", "-"], &rules)?;
    lane.receive_without_xdp(commands)?;
    Ok(Counted {
        namespace: &lane.namespace,
        commands,
        program: "nft",
        arguments: if peer == Peer::NftNetdev {
            &["list", "counter", "netdev", "bench", "banned"]
        } else {
            &["list", "counter", "inet", "bench", "banned"]
        },
        packets: |text| text.split("packets ").nth(1)?.split(' ').next()?.parse().ok(),
    })
}

fn ipset<'a>(
    lane: &'a Lane,
    addresses: &[Ipv4Addr],
    commands: &'a Commands,
) -> anyhow::Result<Counted<'a>> {
    let namespace = &lane.namespace;
    let count = addresses.len();
    let mut entries = format!("create banned hash:ip maxelem {count} hashsize {count}\n");
    for address in addresses {
        writeln!(entries, "add banned {address}")?;
    }
    commands.run(Some(namespace), "ipset", &["restore"], &entries)?;
    let rule = ["-A", "INPUT", "-m", "set", "--match-set", "banned", "src", "-j", "DROP"];
    commands.run(Some(namespace), "iptables", &rule, "")?;
    lane.receive_without_xdp(commands)?;
    Ok(Counted {
        namespace,
        commands,
        program: "iptables",
        arguments: &["-L", "INPUT", "-v", "-x", "-n"],
        packets: |text| {
            let rule = text.lines().find(|line| line.contains("match-set"))?;
            rule.split_whitespace().next()?.parse().ok()
        },
    })
}
