//! Whether the comparison of packet filters still runs: every part, with next to no packets.

use std::path::Path;
use std::process::Command;

use xtask::lab::NetNs;
use xtask::skip::skipped;

#[test]
fn every_part_of_the_packet_bench_runs() {
    const TEST: &str = "every_part_of_the_packet_bench_runs";
    match NetNs::new() {
        Ok(_) => {}
        Err(error) if error.is_unavailable() => return skipped(TEST, &error.to_string()),
        Err(error) => panic!("{error}"),
    }
    let bench = Path::new(env!("CARGO_BIN_EXE_bench"));
    let file = std::env::temp_dir().join(format!("bench-packet-{}.json", std::process::id()));
    let mut command = Command::new(bench);
    command.args(["packet", "--smoke", "--json"]).arg(&file);
    // Beside it when the whole workspace is tested.
    let firewall = bench.with_file_name("firewall");
    if firewall.exists() {
        command.arg("--firewall").arg(&firewall);
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}", output.status);
    let found: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    for part in ["same-key", "live", "singles", "ranges"] {
        let samples = found["samples"].as_array().unwrap();
        let ours = |sample: &&serde_json::Value| {
            sample["part"] == part && sample["peer"] == "firewall, bans"
        };
        assert!(samples.iter().any(|sample| ours(&sample)), "no figure of {part}\n{errors}");
    }
    for loss in found["loss"].as_array().unwrap() {
        let count = |name: &str| loss["fate"][name].as_u64().unwrap();
        assert_eq!(count("sent"), count("dropped") + count("ring_full"), "{loss}");
    }
    let missing = found["missing"].as_array().unwrap();
    let missing: Vec<String> =
        missing.iter().map(|peer| format!("{} ({})", peer["name"], peer["reason"])).collect();
    if !missing.is_empty() {
        skipped(TEST, &format!("without {}", missing.join(", ")));
    }
}
