//! HTTP through the real program while a flood arrives at its interface.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use ipnet::Ipv4Net;
use nix::net::if_::if_nametoindex;
use tokio::task::LocalSet;
use xtask::lab::Topology;

use super::Session;
use super::commands::Commands;
use super::frame::datagram;
use super::lane::{LinkCounters, Priority, hardware_address};
use super::outcome::{Fate, Flood, Goodput, Loss};
use super::probes::{Probes, Table};
use super::sources::{KEYS, Keys};
use crate::clock::monotonic;
use crate::load::{Load, Route};
use crate::order::Order;
use crate::peer::{Running, Scratch, Site, firewall_config};
use crate::pin::{self, Placement};
use crate::upstream::Upstream;
use crate::workload::{CONTRACT, Conduct, Workload};

/// Packets a second.
const RATE: f64 = 1e6;

/// Frames in one burst: fewer are waited for, more are sent in the next one.
const BURST: (f64, f64) = (2_000.0, 100_000.0);

/// Frames that are made up for when others had the CPU; beyond that they are forgotten.
const DEBT_MAX: f64 = 500_000.0;

/// Keep-alive connections of good clients, each with one request at a time.
const CONNECTIONS: usize = 32;

/// Where floods come from: 65,536 addresses of nobody in particular.
const NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(45, 77, 0, 0), 16);

/// The interface by which good clients and the flood go out.
const CLIENT_INTERFACE: &str = "client0";

/// What watches the interface by which a flood comes in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    Ours,
    /// The least that can drop it: the source looked up in a trie of one prefix.
    Trie,
}

/// The firewall between clients and an upstream, while it stands.
struct Arena<'a> {
    topology: &'a Topology,
    commands: &'a Commands,
    address: SocketAddr,
    program: &'a Path,
    admin_socket: PathBuf,
    placement: Option<Placement>,
    seconds: f64,
}

/// Measures requests per second without a flood, and with one from banned sources and from others,
/// in rounds.
pub(super) fn run(session: &mut Session, program: &Path) -> anyhow::Result<Vec<Goodput>> {
    let topology = Topology::new()?;
    let placement = session.placement;
    let load = placement.map(|placement| placement.load);
    let upstream = (Topology::API_V4, 8080).into();
    let upstream = topology.api.run(|| Upstream::start(upstream, load))??;
    let scratch = Scratch::create("bench-flood")?;
    let arena = Arena {
        topology: &topology,
        commands: &session.commands,
        address: (Topology::GATEWAY_V4, 8080).into(),
        program,
        admin_socket: scratch.path("admin.sock"),
        placement,
        seconds: session.plan.flood_seconds,
    };
    let site = Site {
        scratch: &scratch,
        upstream: upstream.address,
        cpu: placement.map(|placement| placement.proxy),
    };
    let running = arena.start(&site, Guard::Ours)?;
    let generator = &mut session.source.generator;
    generator.set_keys(&keys(&mut session.order))?;
    session.commands.note(format!(
        "{CONNECTIONS} connections, GET, {} s; flood: BPF_F_TEST_XDP_LIVE_FRAMES, {RATE} a second",
        arena.seconds
    ));
    let floods = [Flood::None, Flood::Banned, Flood::NotBanned];
    let mut found = Vec::new();
    // The first round warms up.
    for round in 0..=session.plan.flood_rounds {
        for index in session.order.permutation(floods.len()) {
            let Some(&flood) = floods.get(index) else { continue };
            let sample = arena.measure(generator, flood, Priority::Normal, round)?;
            eprintln!(
                "round {round}: {flood:?}: {:.0} requests/s, {:.2} Mpps",
                sample.requests_per_second,
                sample.packets_per_second / 1e6
            );
            found.extend((round > 0).then_some(sample));
        }
    }
    let last = found.iter().rfind(|sample| sample.flood == Flood::Banned).map(|last| last.fate);
    let fifo = arena.measure(generator, Flood::Banned, Priority::Fifo, 0)?.fate;
    let flood = "paced, beside HTTP";
    session.losses.extend(last.map(|fate| Loss { flood, priority: Priority::Normal, fate }));
    session.losses.push(Loss { flood, priority: Priority::Fifo, fate: fifo });
    drop(running);
    // What making and carrying the flood costs, whatever drops it: a program that does nothing else.
    let _running = arena.start(&site, Guard::Trie)?;
    let mut filter = Probes::load(1, 0, None)?;
    filter.fill_lpm([NETWORK.into()])?;
    filter.attach(Table::Lpm, &topology.gateway, Topology::PUBLIC_INTERFACE)?;
    let floods = [Flood::TrieNone, Flood::TrieBanned];
    for round in 0..=session.plan.flood_rounds {
        for index in session.order.permutation(floods.len()) {
            let Some(&flood) = floods.get(index) else { continue };
            let sample = arena.measure(generator, flood, Priority::Normal, round)?;
            eprintln!("round {round}: {flood:?}: {:.0} requests/s", sample.requests_per_second);
            found.extend((round > 0).then_some(sample));
        }
    }
    Ok(found)
}

/// The sources of the flood, each as likely as any other.
fn keys(order: &mut Order) -> Keys {
    let first = NETWORK.network().to_bits();
    let host = |_| (first | u32::try_from(order.next() >> 48).unwrap_or(0)).to_be_bytes();
    Keys::V4((0..KEYS).map(host).collect())
}

impl Arena<'_> {
    /// Starts the firewall on the gateway, in front of the site's upstream.
    fn start(&self, site: &Site<'_>, guard: Guard) -> anyhow::Result<Running> {
        let contract = site.scratch.write("contract.yaml", CONTRACT)?;
        // Not on a BPF file system: the program ends with the process.
        let pins = serde_json::to_string(&site.scratch.path("pins"))?;
        let mut config =
            firewall_config(self.address, site.upstream, &contract, &self.admin_socket)?;
        if guard == Guard::Ours {
            let interface = Topology::PUBLIC_INTERFACE;
            writeln!(config, "\n[kernel]\ninterfaces = [\"{interface}\"]\npin_dir = {pins}")?;
        }
        let config = site.scratch.write("firewall.toml", &config)?;
        let mut command = Command::new(self.program);
        command.arg("run").arg("--config").arg(config);
        self.topology.gateway.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(Running::start("firewall", command, self.address, site))
        })?
    }

    fn ban(&self, action: &str) -> anyhow::Result<()> {
        let (program, socket) =
            (self.program.display().to_string(), self.admin_socket.display().to_string());
        let arguments = ["ban", action, &NETWORK.to_string(), "--admin-socket", &socket];
        self.commands.run(None, &program, &arguments, "")?;
        Ok(())
    }

    /// The client's and the gateway's end of the cable.
    fn counters(&self) -> anyhow::Result<[LinkCounters; 2]> {
        let Topology { client, gateway, .. } = self.topology;
        Ok([
            LinkCounters::of(client, CLIENT_INTERFACE, self.commands)?,
            LinkCounters::of(gateway, Topology::PUBLIC_INTERFACE, self.commands)?,
        ])
    }

    fn measure(
        &self,
        generator: &mut Probes,
        flood: Flood,
        priority: Priority,
        round: usize,
    ) -> anyhow::Result<Goodput> {
        if flood == Flood::Banned {
            self.ban("add")?;
        }
        let [client, gateway] = self.counters()?;
        let stop = AtomicBool::new(false);
        let (sent, packets_per_second, answered) = std::thread::scope(|scope| {
            let flooding = (!matches!(flood, Flood::None | Flood::TrieNone)).then(|| {
                let stop = &stop;
                scope.spawn(move || self.send(generator, priority, stop))
            });
            let answered = self.ask();
            stop.store(true, Ordering::Relaxed);
            let (sent, rate) = match flooding.map(std::thread::ScopedJoinHandle::join) {
                Some(Ok(sent)) => sent?,
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                None => (0, 0.0),
            };
            anyhow::Ok((sent, rate, answered?))
        })?;
        let [client_after, gateway_after] = self.counters()?;
        let (client, gateway) = (client_after.since(client), gateway_after.since(gateway));
        if flood == Flood::Banned {
            self.ban("del")?;
        }
        let (requests_per_second, latency_p99_us) = answered;
        let fate = Fate {
            sent,
            dropped: gateway.xdp_drops,
            ring_full: client.xmit_errors,
            others_lost: client.tx_dropped.saturating_sub(client.xmit_errors),
        };
        Ok(Goodput { round, flood, requests_per_second, latency_p99_us, packets_per_second, fate })
    }

    /// Requests answered in a second, and the 99th percentile of their latencies in µs.
    fn ask(&self) -> anyhow::Result<(f64, f64)> {
        self.topology.client.run(|| {
            self.placement.map_or(Ok(()), |placement| pin::this_thread(placement.load))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(LocalSet::new().run_until(async {
                let mut load = Load::connect(Route::plain(self.address), CONNECTIONS).await?;
                let (workload, conduct) = (Workload::SmallGet, Conduct::Refuses);
                load.run(workload, conduct, Duration::from_secs_f64(self.seconds / 4.0)).await?;
                let outcome =
                    load.run(workload, conduct, Duration::from_secs_f64(self.seconds)).await?;
                let requests = u32::try_from(outcome.requests()).context("too many requests")?;
                let p99 = Duration::from_nanos(outcome.latency_ns.value_at_quantile(0.99));
                Ok((f64::from(requests) / outcome.elapsed.as_secs_f64(), p99.as_secs_f64() * 1e6))
            }))
        })?
    }

    /// Sends at [`RATE`] until it is stopped; how many frames, and how many a second.
    ///
    /// On the CPU of the program under test, which is where a network card's interrupts would be.
    fn send(
        &self,
        generator: &mut Probes,
        priority: Priority,
        stop: &AtomicBool,
    ) -> anyhow::Result<(u64, f64)> {
        let Topology { client, gateway, .. } = self.topology;
        let to = gateway.run(|| hardware_address(Topology::PUBLIC_INTERFACE))??;
        let frame = datagram(to, Ipv4Addr::UNSPECIFIED, Topology::GATEWAY_V4);
        client.run(|| {
            self.placement.map_or(Ok(()), |placement| pin::this_thread(placement.proxy))?;
            priority.take()?;
            let interface = if_nametoindex(CLIENT_INTERFACE)?;
            let start = monotonic();
            let elapsed = || monotonic().saturating_sub(start).as_secs_f64();
            let (mut sent, mut settled) = (0_u64, 0.0);
            while !stop.load(Ordering::Relaxed) {
                let due = elapsed().mul_add(RATE, -settled);
                settled += (due - DEBT_MAX).max(0.0);
                if due < BURST.0 {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "between the bounds of a burst"
                )]
                let burst = due.min(BURST.1) as u32;
                generator.generate(&frame, burst, interface)?;
                settled += f64::from(burst);
                sent += u64::from(burst);
            }
            let sent_f64 = u32::try_from(sent).map(f64::from).context("too many frames")?;
            Ok((sent, sent_f64 / elapsed()))
        })?
    }
}
