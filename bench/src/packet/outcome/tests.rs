//! Ratios, table and file from samples that were made up to show each of their rules.

use super::*;

fn sample(part: Part, peer: Peer, case: Case, entries: usize, round: usize, ns: f64) -> Sample {
    Sample { part, peer, case, entries, round, ns, packets: 1000, dropped: 1000 }
}

fn goodput(flood: Flood, round: usize, requests_per_second: f64) -> Goodput {
    let (latency_p99_us, packets_per_second) = (900.0, 1e6);
    let fate = Fate { sent: 10, dropped: 7, ring_full: 2, others_lost: 5 };
    Goodput { round, flood, requests_per_second, latency_p99_us, packets_per_second, fate }
}

fn outcome(samples: Vec<Sample>) -> Outcome {
    Outcome {
        machine: Machine {
            kernel: "6.1".into(),
            cpu: "Example".into(),
            load_average: "0.1".into(),
            placement: None,
            ticks_per_second: 100,
            unoptimised: false,
        },
        seed: 3,
        quick: false,
        versions: BTreeMap::from([("nftables".into(), "1.0".into())]),
        missing: Vec::new(),
        remarks: Vec::new(),
        commands: vec!["nft -f -".into()],
        samples,
        goodput: Vec::new(),
        loss: Vec::new(),
        load: Vec::new(),
    }
}

/// Two rounds of every figure that a ratio is made of; the machine is half as fast in the second.
fn everything() -> Outcome {
    use Case::{Banned, Clean};
    let mut samples = Vec::new();
    let mut pair = |part, case, entries, peer, ours, theirs| {
        for (round, slower) in [(0, 1.0), (1, 2.0)] {
            for peer in [Peer::Firewall, Peer::FirewallList, Peer::Table] {
                samples.push(sample(part, peer, case, entries, round, ours * slower));
            }
            samples.push(sample(part, peer, case, entries, round, theirs * slower));
        }
    };
    pair(Part::SameKey, Banned, 1, Peer::XdpFilter, 20.0, 40.0);
    pair(Part::SameKey, Banned, 10_000, Peer::XdpFilter, 30.0, 40.0);
    pair(Part::SameKey, Clean, 1, Peer::XdpFilter, 56.0, 40.0);
    pair(Part::SameKey, Clean, 10_000, Peer::XdpFilter, 40.0, 40.0);
    pair(Part::Ranges, Banned, 1_000_000, Peer::Lpm, 50.0, 1000.0);
    pair(Part::Ranges, Clean, 1_000_000, Peer::Lpm, 80.0, 1000.0);
    pair(Part::Singles, Banned, 1_000_000, Peer::Hash, 90.0, 200.0);
    pair(Part::Singles, Clean, 1_000_000, Peer::Hash, 30.0, 200.0);
    pair(Part::Live, Banned, 65_536, Peer::NftNetdev, 100.0, 200.0);
    let mut outcome = outcome(samples);
    for (round, none, banned) in [(1, 10_000.0, 9_800.0), (2, 5_000.0, 4_700.0)] {
        outcome.goodput.push(goodput(Flood::Banned, round, banned));
        outcome.goodput.push(goodput(Flood::NotBanned, round, 100.0));
        outcome.goodput.push(goodput(Flood::None, round, none));
    }
    outcome
}

#[test]
fn ratios_are_the_worst_of_their_parts_within_rounds() {
    let expected = [
        ("banned_vs_xdp_filter", 0.75, true),
        ("clean_vs_xdp_filter", 1.4, false),
        ("ranges_1m_vs_lpm_trie", 0.08, true),
        // The bar itself holds.
        ("singles_1m_vs_hash", 0.45, true),
        ("singles_64k_vs_nft", 0.5, false),
        ("flood_goodput", 0.96, true),
    ];
    let ratios = everything().ratios();
    assert_eq!(ratios.len(), expected.len());
    for (ratio, (name, value, holds)) in ratios.iter().zip(expected) {
        assert_eq!(ratio.name, name);
        let found = ratio.value.expect(name);
        assert!((found - value).abs() < 1e-9, "{name}: {found}");
        assert_eq!(ratio.holds(), holds, "{name}");
    }
}

#[test]
fn ratio_without_one_of_its_parts_is_not_measured() {
    let mut outcome = everything();
    outcome.samples.retain(|sample| sample.case != Case::Clean || sample.part != Part::Ranges);
    outcome.samples.retain(|sample| sample.peer != Peer::NftNetdev);
    outcome.goodput.clear();
    for name in ["ranges_1m_vs_lpm_trie", "singles_64k_vs_nft", "flood_goodput"] {
        let ratios = outcome.ratios();
        let ratio = ratios.iter().find(|ratio| ratio.name == name).expect(name);
        assert!(ratio.value.is_none() && !ratio.holds(), "{ratio:?}");
        assert!(ratio.line().contains("NOT MEASURED"), "{}", ratio.line());
    }
}

#[test]
fn file_holds_ratios_by_name_samples_and_commands() {
    let json = everything().json().expect("JSON");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let ratios = json["ratios"].as_object().expect("an object");
    let names: Vec<&str> = ratios.keys().map(String::as_str).collect();
    let expected = [
        "banned_vs_xdp_filter",
        "clean_vs_xdp_filter",
        "ranges_1m_vs_lpm_trie",
        "singles_1m_vs_hash",
        "singles_64k_vs_nft",
        "flood_goodput",
    ];
    assert_eq!(names, expected);
    assert_eq!(ratios["banned_vs_xdp_filter"], 0.75);
    assert_eq!(json["ratios_detail"]["ranges_1m_vs_lpm_trie"]["of"]["hit"]["median"], 0.05);
    assert_eq!(json["ratios_detail"]["ranges_1m_vs_lpm_trie"]["holds"], true);
    assert_eq!(json["ratios_detail"]["clean_vs_xdp_filter"]["bar"], "<= 1.3");
    assert_eq!(json["samples"].as_array().map(Vec::len), Some(72));
    assert_eq!(json["samples"][3]["peer"], "xdp-filter -f all");
    assert_eq!(json["goodput"][0]["fate"]["ring_full"], 2);
    assert_eq!(json["commands"][0], "nft -f -");
}

#[test]
fn what_is_not_measured_is_null_in_the_file() {
    let json = outcome(Vec::new()).json().expect("JSON");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let ratios = json["ratios"].as_object().expect("an object");
    assert_eq!(ratios.len(), 6);
    assert!(ratios.values().all(serde_json::Value::is_null), "{ratios:?}");
}

#[test]
fn table_says_what_holds_what_is_missing_and_where_frames_went() {
    let mut outcome = everything();
    outcome.missing.push(Missing { name: "iptables + ipset", reason: "no ipset in PATH".into() });
    let fate = Fate { sent: 10, dropped: 7, ring_full: 2, others_lost: 5 };
    outcome.loss.push(Loss { flood: "alone", priority: Priority::Fifo, fate });
    let text = outcome.text();
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).expect(start);
    assert!(line("clean_vs_xdp_filter").contains("1.400  ≤ 1.3  MISSED"), "{text}");
    assert!(line("flood_goodput").contains("0.960  ≥ 0.8  holds"), "{text}");
    assert_eq!(line("iptables + ipset"), "iptables + ipset: MISSING, no ipset in PATH");
    let cells: Vec<&str> = line("alone, SCHED_FIFO").split_whitespace().collect();
    assert_eq!(cells[2..], ["10", "7", "2", "1", "5"], "{text}");
    assert!(line("XDP + LPM_TRIE").contains("1500 (1000)"), "{text}");
    assert!(!text.contains("a quick run"), "{text}");
}
