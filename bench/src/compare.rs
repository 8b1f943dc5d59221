//! A comparison from start to end: peers started, rounds interleaved, samples taken.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use crate::load::{Load, Outcome, Route};
use crate::order::Order;
use crate::peer::{Identity, Peer, Running, Scratch, Site, YARDSTICK, program};
use crate::pin::{self, Placement};
use crate::process::{self, Usage};
use crate::report::{Machine, Missing, Party, Report, Sample, SampleUsage, Shape};
use crate::upstream::Upstream;
use crate::workload::{Door, Workload};

/// Compare the firewall with nginx as a plain proxy, side by side in one run
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The firewall's program; without it, it is reported as missing
    #[arg(long, value_name = "PATH")]
    firewall: Option<PathBuf>,
    /// How often each workload is measured on each peer
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long one measurement lasts, after a warm-up of a quarter of that
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Requests at once: each on a connection of its own, by HTTP/2 eight on each
    #[arg(long, default_value_t = 32, value_parser = connections)]
    connections: usize,
    /// These workloads alone
    #[arg(long, value_name = "WORKLOAD", num_args = 1..)]
    only: Vec<Workload>,
    /// The seed of the order, to repeat a run; by default the time of day
    #[arg(long)]
    seed: Option<u64>,
    /// Where to write every sample
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let within = |seconds: &f64| (0.05..=600.0).contains(seconds);
    text.parse().ok().filter(within).ok_or_else(|| "expected 0.05 to 600".to_owned())
}

fn connections(text: &str) -> Result<usize, String> {
    // nginx keeps at most 512 connections to the upstream, and the firewall takes as many from
    // one source.
    let within = |count: &usize| (1..=512).contains(count);
    text.parse().ok().filter(within).ok_or_else(|| "expected 1 to 512".to_owned())
}

/// Runs the comparison, prints its table and writes its samples. A wrong answer is an error.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let placement = Placement::choose()?;
    let machine = machine(placement)?;
    let load_cpu = placement.map(|placement| placement.load);
    load_cpu.map_or(Ok(()), pin::this_thread)?;
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into(), load_cpu)?;
    let scratch = Scratch::create("bench")?;
    let identity = Identity::create(&scratch)?;
    let site = Site {
        scratch: &scratch,
        upstream: upstream.address,
        cpu: placement.map(|placement| placement.proxy),
    };
    let (peers, missing) = start(options, &identity, &site).await?;
    let seed = options.seed.map_or_else(time_of_day, Ok)?;
    let shape = Shape {
        generator: "closed loop",
        connections: options.connections,
        rounds: options.rounds,
        seconds: options.seconds,
        warm_up_seconds: options.seconds / 4.0,
        seed,
    };
    let workloads = if options.only.is_empty() { &Workload::ALL[..] } else { &options.only };
    let samples = measure(&peers, workloads, &shape, &identity).await?;
    for (peer, cpu) in peers.iter().filter_map(|peer| peer.running.as_ref().zip(site.cpu)) {
        process::ensure_on(peer.pid(), cpu).context("a peer left the CPU that it was given")?;
    }
    // Each that is a peer is there by its plain door.
    let parties = peers.iter().filter(|peer| peer.door == Door::Plain).map(|peer| Party {
        name: peer.name,
        version: peer.version.clone(),
        conduct: peer.conduct,
    });
    let report = Report { machine, shape, peers: parties.collect(), missing, samples };
    std::io::stdout().write_all(report.text().as_bytes())?;
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&report)?;
        fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

async fn start(
    options: &Options,
    identity: &Identity,
    site: &Site<'_>,
) -> anyhow::Result<(Vec<Peer>, Vec<Missing>)> {
    let (mut peers, mut missing) = (vec![Peer::direct(site.upstream)], Vec::new());
    match &options.firewall {
        Some(path) => {
            for door in Door::ALL {
                peers.push(Peer::firewall(path, door, identity, site).await?);
            }
        }
        None => missing.push(Missing { name: "firewall", reason: "no --firewall given".into() }),
    }
    if let Some(path) = program(YARDSTICK) {
        for door in Door::ALL {
            peers.push(Peer::nginx(&path, door, identity, site).await?);
        }
    } else {
        let reason = "no such program in PATH: nothing to take ratios to".into();
        missing.push(Missing { name: YARDSTICK, reason });
    }
    Ok((peers, missing))
}

/// The peers of one workload are measured right after one another, in an order of their own each
/// time: what disturbs the machine for long disturbs both sides of a ratio.
async fn measure(
    peers: &[Peer],
    workloads: &[Workload],
    shape: &Shape,
    identity: &Identity,
) -> anyhow::Result<Vec<Sample>> {
    let mut order = Order::seeded(shape.seed);
    let mut samples = Vec::new();
    eprintln!("order by seed {}", shape.seed);
    for round in 0..shape.rounds {
        for workload in order.permutation(workloads.len()) {
            for peer in order.permutation(peers.len()) {
                let (Some(&workload), Some(peer)) = (workloads.get(workload), peers.get(peer))
                else {
                    anyhow::bail!("a permutation holds an index beyond its length");
                };
                if workload.door() != peer.door {
                    continue;
                }
                let sample =
                    sample(round, workload, peer, shape, identity).await.with_context(|| {
                        let log = peer.running.as_ref().map(Running::log_end);
                        format!("{workload:?} on {}\n{}", peer.name, log.unwrap_or_default())
                    })?;
                eprintln!(
                    "round {} of {}: {workload:?} on {}: {:.0} requests/s",
                    round + 1,
                    shape.rounds,
                    peer.name,
                    sample.requests_per_second
                );
                samples.push(sample);
            }
        }
    }
    Ok(samples)
}

async fn sample(
    round: u32,
    workload: Workload,
    peer: &Peer,
    shape: &Shape,
    identity: &Identity,
) -> anyhow::Result<Sample> {
    let is_encrypted = peer.door == Door::Tls;
    let route = Route {
        peer: peer.address,
        manner: workload.manner(),
        certificate: is_encrypted.then(|| identity.certificate.clone()),
    };
    let mut load = Load::connect(route, shape.connections).await?;
    let warm_up = Duration::from_secs_f64(shape.warm_up_seconds);
    load.run(workload, peer.conduct, warm_up).await.context("warming up")?;
    let usage = || peer.running.as_ref().map(|running| process::usage(running.pid())).transpose();
    let before = usage()?;
    let duration = Duration::from_secs_f64(shape.seconds);
    let outcome = load.run(workload, peer.conduct, duration).await?;
    let used = before.zip(usage()?);
    let Outcome { elapsed, latency_ns, reconnects } = &outcome;
    let (requests, elapsed_seconds) = (outcome.requests(), elapsed.as_secs_f64());
    let us =
        |quantile| Duration::from_nanos(latency_ns.value_at_quantile(quantile)).as_secs_f64() * 1e6;
    Ok(Sample {
        round,
        workload,
        peer: peer.name,
        status: workload.expected(peer.conduct).status.as_u16(),
        requests,
        reconnects: *reconnects,
        elapsed_seconds,
        requests_per_second: float(requests) / elapsed_seconds,
        latency_p50_us: us(0.5),
        latency_p99_us: us(0.99),
        latency_max_us: us(1.0),
        usage: used.map(|(before, after)| used_by(before, after, requests, elapsed_seconds)),
    })
}

fn used_by(before: Usage, after: Usage, requests: u64, elapsed_seconds: f64) -> SampleUsage {
    let cpu_ticks = after.cpu_ticks.saturating_sub(before.cpu_ticks);
    let cpu_seconds = float(cpu_ticks) / float(process::ticks_per_second());
    SampleUsage {
        cpu_ticks,
        cpu_us_per_request: cpu_seconds * 1e6 / float(requests),
        busy: cpu_seconds / elapsed_seconds,
        peak_rss_kib: after.peak_rss_kib,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

pub(crate) fn time_of_day() -> anyhow::Result<u64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(u64::try_from(since.as_millis())?)
}

pub(crate) fn machine(placement: Option<Placement>) -> anyhow::Result<Machine> {
    let read = |path| fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let cpus = read("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(Machine {
        kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        cpu: model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned()),
        load_average: read("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
        placement,
        ticks_per_second: process::ticks_per_second(),
        unoptimised: cfg!(debug_assertions),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_the_difference_by_requests_and_by_time() {
        let before = Usage { cpu_ticks: 50, peak_rss_kib: 900 };
        let per_second = process::ticks_per_second();
        let after = Usage { cpu_ticks: 50 + per_second, peak_rss_kib: 1000 };
        let used = used_by(before, after, 40_000, 2.0);
        assert_eq!(used.cpu_ticks, per_second);
        assert!((used.cpu_us_per_request - 25.0).abs() < 1e-9, "{used:?}");
        assert!((used.busy - 0.5).abs() < 1e-9, "{used:?}");
        assert_eq!(used.peak_rss_kib, 1000);
    }

    #[test]
    fn options_are_bounded() {
        for (text, accepted) in [
            ("0.05", true),
            ("600", true),
            ("0.04", false),
            ("601", false),
            ("NaN", false),
            ("x", false),
        ] {
            assert_eq!(seconds(text).is_ok(), accepted, "{text}");
        }
        for (text, accepted) in [("1", true), ("512", true), ("0", false), ("513", false)] {
            assert_eq!(connections(text).is_ok(), accepted, "{text}");
        }
    }
}
