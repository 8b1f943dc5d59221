//! `firewall top`: what is dropped at present, by reason and by source.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Monotonic;
use crate::control::cli::{member, text};

/// Sources in one view.
const SOURCES: usize = 15;
/// Moves the cursor home and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows the difference between one answer and the next, `count` times or until interrupted.
pub fn run(
    interval: Duration,
    count: Option<u64>,
    is_json: bool,
    ask: impl Fn() -> anyhow::Result<Value>,
) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    let clear = if out.is_terminal() && !is_json { CLEAR } else { "" };
    let (mut before, mut asked) = (ask()?, Monotonic::now());
    let mut shown = 0;
    while count.is_none_or(|count| shown < count) {
        std::thread::sleep(interval);
        let (now, at) = (ask()?, Monotonic::now());
        let view = view(&before, &now, at.since(asked));
        let text = if is_json { view.to_string() } else { table(&view) };
        // A reader that has gone away wants no more.
        if writeln!(out, "{clear}{text}").and_then(|()| out.flush()).is_err() {
            break;
        }
        (before, asked) = (now, at);
        shown += 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// Packets a second of each reason that had any, and the busiest sources.
fn view(before: &Value, now: &Value, elapsed: Duration) -> Value {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let mut rates = BTreeMap::new();
    for (reason, counted) in member(now, "packets").as_object().into_iter().flatten() {
        let earlier = member(member(before, "packets"), reason);
        let rate = |key| {
            let packets = |counted: &Value| member(counted, key).as_f64().unwrap_or(0.0);
            // The kernel's counters begin anew with its maps.
            ((packets(counted) - packets(earlier)) / seconds).max(0.0).round()
        };
        let (acted, observed, bytes) = (rate("packets"), rate("observed_packets"), rate("bytes"));
        if acted > 0.0 || observed > 0.0 {
            let rate = json!({ "packets": acted, "bytes": bytes, "observed_packets": observed });
            rates.insert(reason.clone(), rate);
        }
    }
    json!({
        "mode": member(now, "mode"),
        "bans": member(now, "bans"),
        "events_lost": member(now, "events_lost"),
        "per_second": rates,
        "sources": member(now, "sources"),
    })
}

fn table(view: &Value) -> String {
    let mut lines = vec![
        format!(
            "{}, {} bans, {} samples lost",
            text(member(view, "mode")),
            member(view, "bans"),
            member(view, "events_lost")
        ),
        String::new(),
        format!("{:<12} {:>14} {:>16} {:>14}", "REASON", "PACKETS/S", "OCTETS/S", "OBSERVED/S"),
    ];
    let number = |value: &Value| format!("{:.0}", value.as_f64().unwrap_or(0.0));
    for (reason, rate) in member(view, "per_second").as_object().into_iter().flatten() {
        lines.push(format!(
            "{reason:<12} {:>14} {:>16} {:>14}",
            number(member(rate, "packets")),
            number(member(rate, "bytes")),
            number(member(rate, "observed_packets"))
        ));
    }
    lines.push(String::new());
    lines
        .push(format!("{:<40} {:>8} {:<12}", "SOURCE (sampled, fading)", "SAMPLES", "LAST REASON"));
    for source in member(view, "sources").as_array().into_iter().flatten().take(SOURCES) {
        lines.push(format!(
            "{:<40} {:>8} {:<12}",
            text(member(source, "address")),
            member(source, "samples"),
            text(member(source, "reason"))
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences() {
        let at = |packets: u64, observed: u64| {
            json!({
                "mode": "xdp-native", "bans": 2, "events_lost": 0,
                "packets": {
                    "T3": { "packets": packets, "bytes": packets * 60, "observed_packets": observed },
                    "I1": { "packets": 5, "bytes": 300, "observed_packets": 0 },
                },
                "sources": [{ "address": "192.0.2.7", "samples": 9, "reason": "T3" }],
            })
        };
        let view = view(&at(100, 0), &at(300, 4), Duration::from_secs(2));
        let expected =
            json!({ "T3": { "packets": 100.0, "bytes": 6000.0, "observed_packets": 2.0 } });
        assert_eq!(view["per_second"], expected);
        let text = table(&view);
        for part in ["xdp-native, 2 bans", "T3", "100", "6000", "192.0.2.7"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("I1"), "{text}");
    }

    #[test]
    fn counters_that_began_anew_are_no_negative_rate() {
        let at = |packets: u64| json!({ "packets": { "T3": { "packets": packets } } });
        let view = view(&at(100), &at(3), Duration::from_secs(1));
        assert_eq!(view["per_second"], json!({}));
    }
}
