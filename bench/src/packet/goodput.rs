//! HTTP through the real program while a flood arrives at its interface.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use ipnet::Ipv4Net;
use nix::net::if_::if_nametoindex;
use tokio::task::LocalSet;
use xtask::lab::Topology;

use super::Session;
use super::frame::datagram;
use super::lane::hardware_address;
use super::outcome::{Flood, Goodput};
use super::probes::Probes;
use super::sources::KEYS;
use crate::clock::monotonic;
use crate::load::Load;
use crate::peer::{Running, Scratch, Site, firewall_config};
use crate::pin;
use crate::upstream::Upstream;
use crate::workload::{CONTRACT, Conduct, Workload};

/// Packets a second.
const RATE: f64 = 1e6;

/// Keep-alive connections of good clients, each with one request at a time.
const CONNECTIONS: usize = 32;

/// Frames in one burst at most: what has been missed by more is not caught up with.
const BURST_MAX: f64 = 50_000.0;

/// Where floods come from: 65,536 addresses of nobody in particular.
const NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(45, 77, 0, 0), 16);

/// The whole arrangement while it stands.
struct Site4Flood<'a> {
    topology: &'a Topology,
    address: SocketAddr,
    /// The CPU of the program under test, which the flood arrives on.
    proxy: Option<usize>,
    load: Option<usize>,
}

/// Measures requests per second without a flood, and with one from banned sources and from others,
/// in rounds.
pub(super) fn run(session: &mut Session, program: &Path) -> anyhow::Result<Vec<Goodput>> {
    let topology = Topology::new()?;
    let placement = session.placement;
    let (proxy, load) = (placement.map(|p| p.proxy), placement.map(|p| p.load));
    let upstream = (Topology::API_V4, 8080).into();
    let upstream = topology.api.run(|| Upstream::start(upstream, load))??;
    let scratch = Scratch::create("bench-flood")?;
    let contract = scratch.write("contract.yaml", CONTRACT)?;
    let socket = scratch.path("admin.sock");
    let address = SocketAddr::from((Topology::GATEWAY_V4, 8080));
    let pins = serde_json::to_string(&scratch.path("pins"))?;
    let config = firewall_config(address, upstream.address, &contract, &socket)?
        + &format!(
            "\n[kernel]\ninterfaces = [\"{}\"]\npin_dir = {pins}\n",
            Topology::PUBLIC_INTERFACE
        );
    let config = scratch.write("firewall.toml", &config)?;
    let site = Site { scratch: &scratch, upstream: upstream.address, cpu: proxy };
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(config);
    let _running = topology.gateway.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(Running::start("firewall", command, address, &site))
    })??;
    let mut generator = Probes::load(1)?;
    generator.set_keys(&keys(session))?;
    let site = Site4Flood { topology: &topology, address, proxy, load };
    let seconds = session.plan.flood_seconds;
    session.commands.note(format!(
        "32 connections, GET, {seconds} s; flood: BPF_F_TEST_XDP_LIVE_FRAMES paced to {RATE} a second"
    ));
    let floods = [Flood::None, Flood::Banned, Flood::NotBanned];
    let mut found = Vec::new();
    for round in 0..=session.plan.flood_rounds {
        for index in session.order.permutation(floods.len()) {
            let Some(&flood) = floods.get(index) else { continue };
            let ban = |action: &str| {
                let program = program.display().to_string();
                let network = NETWORK.to_string();
                let admin = socket.display().to_string();
                let arguments = ["ban", action, &network, "--admin-socket", &admin];
                session.commands.run(None, &program, &arguments, "")
            };
            if flood == Flood::Banned {
                ban("add")?;
            }
            let sample = measure(&site, &mut generator, flood, round, seconds)?;
            if flood == Flood::Banned {
                ban("del")?;
            }
            eprintln!(
                "round {round}: {flood:?}: {:.0} requests/s, {:.2} Mpps",
                sample.requests_per_second,
                sample.packets_per_second / 1e6
            );
            // The first round warms up.
            found.extend((round > 0).then_some(sample));
        }
    }
    Ok(found)
}

/// The sources of the flood, each as often as any other.
fn keys(session: &mut Session) -> Vec<[u8; 4]> {
    let first = NETWORK.network().to_bits();
    let host = |_| (first | u32::try_from(session.order.next() >> 48).unwrap_or(0)).to_be_bytes();
    (0..KEYS).map(host).collect()
}

fn measure(
    site: &Site4Flood<'_>,
    generator: &mut Probes,
    flood: Flood,
    round: usize,
    seconds: f64,
) -> anyhow::Result<Goodput> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flooding = (flood != Flood::None).then(|| {
            let stop = &stop;
            scope.spawn(move || send(site, generator, stop))
        });
        let outcome = ask(site, seconds);
        stop.store(true, Ordering::Relaxed);
        let packets_per_second = match flooding.map(std::thread::ScopedJoinHandle::join) {
            Some(Ok(rate)) => rate?,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => 0.0,
        };
        let (requests_per_second, latency_p99_us) = outcome?;
        Ok(Goodput { round, flood, requests_per_second, latency_p99_us, packets_per_second })
    })
}

/// Requests answered in a second, and the 99th percentile of their latencies in µs.
fn ask(site: &Site4Flood<'_>, seconds: f64) -> anyhow::Result<(f64, f64)> {
    site.topology.client.run(|| {
        site.load.map_or(Ok(()), pin::this_thread)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(LocalSet::new().run_until(async {
            let mut load = Load::connect(site.address, CONNECTIONS).await?;
            let (workload, conduct) = (Workload::SmallGet, Conduct::Refuses);
            load.run(workload, conduct, Duration::from_secs_f64(seconds / 4.0)).await?;
            let outcome = load.run(workload, conduct, Duration::from_secs_f64(seconds)).await?;
            let requests = u32::try_from(outcome.requests()).context("too many requests")?;
            let p99 = Duration::from_nanos(outcome.latency_ns.value_at_quantile(0.99));
            Ok((f64::from(requests) / outcome.elapsed.as_secs_f64(), p99.as_secs_f64() * 1e6))
        }))
    })?
}

/// Sends at [`RATE`] until it is stopped, and gives the rate that came of it.
fn send(site: &Site4Flood<'_>, generator: &mut Probes, stop: &AtomicBool) -> anyhow::Result<f64> {
    let Site4Flood { topology, proxy, .. } = site;
    let to = topology.gateway.run(|| hardware_address(Topology::PUBLIC_INTERFACE))??;
    let frame = datagram(to, Ipv4Addr::UNSPECIFIED, Topology::GATEWAY_V4);
    topology.client.run(|| {
        proxy.map_or(Ok(()), pin::this_thread)?;
        let interface = if_nametoindex("client0")?;
        let start = monotonic();
        let (mut sent, mut skipped) = (0.0, 0.0);
        while !stop.load(Ordering::Relaxed) {
            let elapsed = monotonic().saturating_sub(start).as_secs_f64();
            let due = elapsed.mul_add(RATE, -sent - skipped);
            let burst = due.min(BURST_MAX);
            skipped += due - burst;
            if burst >= 1000.0 {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "between the two bounds"
                )]
                generator.generate(&frame, burst as u32, interface)?;
                sent += burst;
            } else {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let elapsed = monotonic().saturating_sub(start).as_secs_f64();
        Ok(sent / elapsed)
    })?
}
