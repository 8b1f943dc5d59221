//! The table from samples that were made up to show each of its rules.

use super::*;

fn sample(round: u32, peer: &'static str, rate: f64, cpu: Option<f64>) -> Sample {
    Sample {
        round,
        workload: Workload::SmallGet,
        peer,
        status: 200,
        requests: 1000,
        reconnects: 0,
        elapsed_seconds: 1.0,
        requests_per_second: rate,
        latency_p50_us: 100.0,
        latency_p99_us: 300.0,
        latency_max_us: 900.0,
        usage: cpu.map(|cpu_us_per_request| SampleUsage {
            cpu_ticks: 95,
            cpu_us_per_request,
            busy: 0.95,
            peak_rss_kib: 13_312,
        }),
    }
}

fn report(samples: Vec<Sample>) -> Report {
    let party = |name| Party { name, version: format!("{name} 1.0"), conduct: Conduct::Passes };
    Report {
        machine: Machine {
            kernel: "6.1".into(),
            cpu: "Example".into(),
            load_average: "0.1".into(),
            placement: Some(Placement { proxy: 0, load: 1 }),
            ticks_per_second: 100,
            unoptimised: false,
        },
        shape: Shape {
            generator: "closed loop",
            connections: 32,
            rounds: 2,
            seconds: 1.0,
            warm_up_seconds: 0.3,
            seed: 9,
        },
        peers: ["no proxy", "firewall", "nginx"].map(party).into(),
        missing: Vec::new(),
        samples,
    }
}

fn two_rounds() -> Vec<Sample> {
    vec![
        sample(0, "no proxy", 90_000.0, None),
        sample(0, "firewall", 30_000.0, Some(12.0)),
        sample(0, "nginx", 40_000.0, Some(10.0)),
        sample(1, "nginx", 20_000.0, Some(20.0)),
        sample(1, "firewall", 16_000.0, Some(22.0)),
        sample(1, "no proxy", 80_000.0, None),
    ]
}

/// The line that begins with this name, its columns parted by two spaces.
fn columns<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name)).expect(name);
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn rows_hold_medians_spreads_and_ratios_within_rounds() {
    let text = report(two_rounds()).text();
    let expected = [
        "firewall",
        "200",
        "23000 (16000–30000)",
        "17.0 (12.0–22.0)",
        "95",
        "100 (100–100)",
        "300 (300–300)",
        "13.0",
        "1.15 (1.10–1.20)",
        "0.78 (0.75–0.80)",
    ];
    assert_eq!(columns(&text, "firewall "), expected, "{text}");
    assert!(columns(&text, "nginx ").ends_with(&["1.00 (1.00–1.00)"; 2]), "{text}");
    let direct = columns(&text, "no proxy ");
    assert_eq!(direct[3..5], ["–", "–"], "{text}");
    assert_eq!(direct[7..9], ["–", "–"], "{text}");
}

#[test]
fn ratios_are_absent_without_the_yardstick_and_its_lack_is_said() {
    let mut report = report(two_rounds());
    report.peers.retain(|peer| peer.name != YARDSTICK);
    report.samples.retain(|sample| sample.peer != YARDSTICK);
    report.missing.push(Missing { name: YARDSTICK, reason: "no such program in PATH".into() });
    let text = report.text();
    assert!(columns(&text, "firewall ").ends_with(&["–", "–"]), "{text}");
    assert!(text.contains("nginx: MISSING, no such program in PATH"), "{text}");
}

#[test]
fn columns_align_by_characters() {
    let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
    let found = aligned(&row(["peer", "µs"]), &[row(["a", "1 (1–2)"]), row(["longer", "3"])]);
    assert_eq!(found, "peer         µs\na       1 (1–2)\nlonger        3\n");
}

#[test]
fn doubts_are_said_only_where_they_apply() {
    let sound = report(two_rounds()).text();
    for doubt in ["were the limit", "WITHOUT OPTIMISATION", "one CPU for everything"] {
        assert!(!sound.contains(doubt), "{sound}");
    }
    let mut doubtful = report(two_rounds());
    doubtful.machine.unoptimised = true;
    doubtful.machine.placement = None;
    doubtful.samples.iter_mut().filter_map(|sample| sample.usage.as_mut()).for_each(|usage| {
        usage.busy = 0.89;
    });
    let doubtful = doubtful.text();
    for doubt in ["were the limit", "WITHOUT OPTIMISATION", "one CPU for everything"] {
        assert!(doubtful.contains(doubt), "{doubtful}");
    }
}

#[test]
fn json_holds_every_sample_and_the_load_shape() {
    let json = serde_json::to_value(report(two_rounds())).expect("JSON");
    assert_eq!(json["samples"].as_array().map(Vec::len), Some(6));
    assert_eq!(json["samples"][1]["usage"]["cpu_us_per_request"], 12.0);
    assert_eq!(json["samples"][0]["workload"], "small-get");
    assert_eq!(json["samples"][0]["usage"], serde_json::Value::Null);
    assert_eq!(json["shape"]["connections"], 32);
    assert_eq!(json["shape"]["seed"], 9);
    assert_eq!(json["peers"][2]["version"], "nginx 1.0");
    assert_eq!(json["machine"]["placement"]["load"], 1);
}
