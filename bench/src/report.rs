//! What a run found: every sample for programs, a table of medians and ratios for people.

use std::fmt::Write;

use serde::Serialize;

use crate::peer::YARDSTICK;
use crate::pin::Placement;
use crate::statistics::Spread;
use crate::workload::{Conduct, Workload};

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) shape: Shape,
    pub(crate) peers: Vec<Party>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) samples: Vec<Sample>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    /// How many processes wanted to run in the minute before; others share the figures.
    pub(crate) load_average: String,
    /// `None` where there is one CPU: then generator and proxy take it from each other.
    pub(crate) placement: Option<Placement>,
    pub(crate) ticks_per_second: u64,
    /// Generator and upstream were built without optimisation and hold the peers back.
    pub(crate) unoptimised: bool,
}

/// What the load was like.
#[derive(Debug, Serialize)]
pub(crate) struct Shape {
    pub(crate) generator: &'static str,
    pub(crate) connections: usize,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) warm_up_seconds: f64,
    pub(crate) seed: u64,
}

/// A peer that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Party {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) conduct: Conduct,
}

/// A peer that was not.
#[derive(Debug, Serialize)]
pub(crate) struct Missing {
    pub(crate) name: &'static str,
    pub(crate) reason: String,
}

/// One workload on one peer in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) workload: Workload,
    pub(crate) peer: &'static str,
    /// The status that every answer had.
    pub(crate) status: u16,
    pub(crate) requests: u64,
    pub(crate) reconnects: u64,
    pub(crate) elapsed_seconds: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) latency_p50_us: f64,
    pub(crate) latency_p99_us: f64,
    pub(crate) latency_max_us: f64,
    /// Of the peer's processes; `None` where there is no proxy.
    pub(crate) usage: Option<SampleUsage>,
}

/// What the peer's process tree used in one sample.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct SampleUsage {
    pub(crate) cpu_ticks: u64,
    pub(crate) cpu_us_per_request: f64,
    /// CPU time by elapsed time: well below 1 something else than the proxy was the limit.
    pub(crate) busy: f64,
    /// Since the peer was started, not since the sample began.
    pub(crate) peak_rss_kib: u64,
}

impl Report {
    /// The table, the peers that are missing, and what has to be known to read it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for workload in Workload::ALL {
            let rows: Vec<Vec<String>> =
                self.peers.iter().filter_map(|peer| self.row(workload, peer.name)).collect();
            if rows.is_empty() {
                continue;
            }
            text.push('\n');
            push_line(&mut text, workload.title());
            text.push_str(&aligned(&header(), &rows));
        }
        text.push('\n');
        for peer in &self.peers {
            push_line(&mut text, &format!("{}: {}", peer.name, peer.version));
        }
        for Missing { name, reason } in &self.missing {
            push_line(&mut text, &format!("{name}: MISSING, {reason}"));
        }
        for note in self.notes() {
            push_line(&mut text, &note);
        }
        text
    }

    fn notes(&self) -> Vec<String> {
        let Machine { kernel, cpu, load_average, placement, ticks_per_second, .. } = &self.machine;
        let Shape { generator, connections, rounds, seconds, warm_up_seconds, seed } = &self.shape;
        let placed = placement.map_or_else(
            || "one CPU for everything: the figures include the generator's rivalry".into(),
            |Placement { proxy, load }| {
                format!("proxy on CPU {proxy}, load and upstream on {load}")
            },
        );
        let mut notes = vec![
            format!("{cpu}, Linux {kernel}, load average {load_average}; {placed}"),
            format!(
                "{generator}, {connections} requests at once, {rounds} rounds of {seconds} s after \
                 {warm_up_seconds} s of warm-up, order by seed {seed}"
            ),
            "median (lowest–highest); a ratio is taken within each round; latencies are those of a \
             closed loop at saturation"
                .into(),
        ];
        let usages = self.samples.iter().filter_map(|sample| sample.usage);
        if let Some(fewest) = usages.clone().map(|usage| usage.cpu_ticks).min() {
            notes.push(format!(
                "CPU time is counted in ticks of 1/{ticks_per_second} s, at least {fewest} of them \
                 a sample"
            ));
        }
        if usages.clone().any(|usage| usage.busy < 0.9) {
            notes.push(
                "busy below 90 %: the generator, or others on the machine, were the limit there; \
                 requests/s says less than CPU, and CPU includes more wake-ups"
                    .into(),
            );
        }
        if self.machine.unoptimised {
            notes.push("THE BENCH WAS BUILT WITHOUT OPTIMISATION: not for comparison".into());
        }
        notes
    }

    fn row(&self, workload: Workload, peer: &str) -> Option<Vec<String>> {
        let of = |name: &str, figure: &dyn Fn(&Sample) -> Option<f64>| -> Vec<f64> {
            let here = |sample: &&Sample| sample.workload == workload && sample.peer == name;
            self.samples.iter().filter(here).filter_map(figure).collect()
        };
        let column = |figure: &dyn Fn(&Sample) -> Option<f64>, digits| {
            cell(Spread::of(&of(peer, figure)), digits)
        };
        let ratio = |figure: &dyn Fn(&Sample) -> Option<f64>| {
            cell(Spread::of_ratios(&of(peer, figure), &of(YARDSTICK, figure)), 2)
        };
        let rate = |sample: &Sample| Some(sample.requests_per_second);
        let cpu = |sample: &Sample| Some(sample.usage?.cpu_us_per_request);
        let status = self.samples.iter().find(|s| s.workload == workload && s.peer == peer)?.status;
        Some(vec![
            peer.to_owned(),
            status.to_string(),
            column(&rate, 0),
            column(&cpu, 1),
            median(&of(peer, &|sample| Some(sample.usage?.busy * 100.0)), 0),
            column(&|sample| Some(sample.latency_p50_us), 0),
            column(&|sample| Some(sample.latency_p99_us), 0),
            median(&of(peer, &|sample| Some(mebibytes(sample.usage?.peak_rss_kib))), 1),
            ratio(&cpu),
            ratio(&rate),
        ])
    }
}

fn header() -> Vec<String> {
    let cpu_ratio = format!("CPU / {YARDSTICK}");
    let rate_ratio = format!("req/s / {YARDSTICK}");
    [
        "peer",
        "answer",
        "req/s",
        "CPU µs/req",
        "busy %",
        "p50 µs",
        "p99 µs",
        "peak RSS MiB",
        &cpu_ratio,
        &rate_ratio,
    ]
    .map(str::to_owned)
    .to_vec()
}

#[expect(clippy::cast_precision_loss, reason = "a size in KiB is far below 2^52")]
fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn cell(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |Spread { median, min, max }| format!("{median:.digits$} ({min:.digits$}–{max:.digits$})"),
    )
}

fn median(samples: &[f64], digits: usize) -> String {
    Spread::of(samples)
        .map_or_else(|| "–".to_owned(), |spread| format!("{:.digits$}", spread.median))
}

/// The first column to the left, the others to the right.
pub(crate) fn aligned(header: &[String], rows: &[Vec<String>]) -> String {
    let lines = || std::iter::once(header).chain(rows.iter().map(Vec::as_slice));
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = lines().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines() {
        let mut padded = String::new();
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let written = if at == 0 {
                write!(padded, "{cell:<width$}")
            } else {
                write!(padded, "  {cell:>width$}")
            };
            written.expect("a String takes whatever is written");
        }
        push_line(&mut text, &padded);
    }
    text
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests;
