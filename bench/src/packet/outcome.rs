//! What a run found: raw samples, the table of figures, and the ratios that are held against bars.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::lane::Priority;
use crate::report::{Machine, Missing, aligned};
use crate::statistics::Spread;

/// A party of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Peer {
    #[serde(rename = "firewall, bans")]
    Firewall,
    #[serde(rename = "firewall, list")]
    FirewallList,
    #[serde(rename = "xdp-filter -f all")]
    XdpFilter,
    #[serde(rename = "nft netdev set")]
    NftNetdev,
    #[serde(rename = "nft inet input set")]
    NftInput,
    #[serde(rename = "iptables + ipset")]
    Ipset,
    /// Reads the source and looks it up in the firewall's tables, as those below do in the kernel's.
    #[serde(rename = "XDP + our tables")]
    Table,
    #[serde(rename = "XDP + LPM_TRIE")]
    Lpm,
    #[serde(rename = "XDP + HASH")]
    Hash,
    /// Reads the source and drops everything.
    #[serde(rename = "XDP, parse and drop")]
    Parse,
    /// Makes packets that go nowhere.
    #[serde(rename = "generator alone")]
    Generator,
}

impl Peer {
    pub(crate) const ALL: [Self; 11] = [
        Self::Firewall,
        Self::FirewallList,
        Self::XdpFilter,
        Self::NftNetdev,
        Self::NftInput,
        Self::Ipset,
        Self::Table,
        Self::Lpm,
        Self::Hash,
        Self::Parse,
        Self::Generator,
    ];

    /// As in the table and the file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Firewall => "firewall, bans",
            Self::FirewallList => "firewall, list",
            Self::XdpFilter => "xdp-filter -f all",
            Self::NftNetdev => "nft netdev set",
            Self::NftInput => "nft inet input set",
            Self::Ipset => "iptables + ipset",
            Self::Table => "XDP + our tables",
            Self::Lpm => "XDP + LPM_TRIE",
            Self::Hash => "XDP + HASH",
            Self::Parse => "XDP, parse and drop",
            Self::Generator => "generator alone",
        }
    }
}

/// How it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// One packet again and again through the loaded program: ns a run.
    SameKey,
    /// Live packets from random banned addresses: ns of CPU a packet, generator included.
    Live,
    /// Random sources through the loaded program, look-ups one after the other; the table holds
    /// single addresses: ns a run.
    Singles,
    /// The same; the table holds ranges.
    Ranges,
    /// The same with IPv6.
    Ranges6,
}

impl Part {
    const ALL: [Self; 5] = [Self::SameKey, Self::Live, Self::Singles, Self::Ranges, Self::Ranges6];

    const fn title(self) -> &'static str {
        match self {
            Self::SameKey => "One packet again and again, ns a run (BPF_PROG_TEST_RUN)",
            Self::Live => {
                "Live packets from random banned addresses, ns of CPU a packet, generator included"
            }
            Self::Singles => "Random sources, single addresses in the table, ns a run",
            Self::Ranges => "Random sources, ranges in the table, ns a run",
            Self::Ranges6 => {
                "Random IPv6 sources, ranges in the table, clean ones in the same /32, ns a run"
            }
        }
    }
}

/// Whom the packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Case {
    Banned,
    Clean,
}

/// One figure of one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) part: Part,
    pub(crate) peer: Peer,
    pub(crate) case: Case,
    /// Bans in the table.
    pub(crate) entries: usize,
    pub(crate) round: usize,
    pub(crate) ns: f64,
    /// Packets, or runs of the program.
    pub(crate) packets: u64,
    /// How many of them the filter counted as dropped by a ban.
    pub(crate) dropped: u64,
}

/// HTTP requests answered under a flood, or without one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Goodput {
    pub(crate) round: usize,
    pub(crate) flood: Flood,
    pub(crate) requests_per_second: f64,
    pub(crate) latency_p99_us: f64,
    /// Packets that the generator made, by second.
    pub(crate) packets_per_second: f64,
    pub(crate) fate: Fate,
}

/// What became of a flood's packets.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Fate {
    pub(crate) sent: u64,
    /// By the program that watches the interface.
    pub(crate) dropped: u64,
    /// Lost before the program: the virtual cable's ring had no room.
    pub(crate) ring_full: u64,
    /// Packets of others, of good clients, that were lost in the same way.
    pub(crate) others_lost: u64,
}

/// What goes on beside the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Flood {
    None,
    Banned,
    NotBanned,
}

/// What became of every frame of one flood.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Loss {
    pub(crate) flood: &'static str,
    pub(crate) priority: Priority,
    pub(crate) fate: Fate,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) machine: Machine,
    pub(crate) seed: u64,
    pub(crate) quick: bool,
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) missing: Vec<Missing>,
    /// What a peer could not hold, or did not do.
    pub(crate) remarks: Vec<String>,
    pub(crate) commands: Vec<String>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) goodput: Vec<Goodput>,
    pub(crate) loss: Vec<Loss>,
}

/// How a ratio is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

/// A ratio that the project holds itself to.
#[derive(Debug)]
pub(crate) struct Ratio {
    pub(crate) name: &'static str,
    bar: Bar,
    /// The figure that counts: the worst of `parts`; none if one could not be measured.
    pub(crate) value: Option<f64>,
    /// What it is made of, with the spread over the rounds.
    parts: Vec<(String, Option<Spread>)>,
    /// What else is worth knowing.
    beside: Vec<(String, Option<Spread>)>,
}

impl Ratio {
    pub(crate) fn holds(&self) -> bool {
        self.value.is_some_and(|value| match self.bar {
            Bar::AtMost(bar) => value <= bar,
            Bar::AtLeast(bar) => value >= bar,
        })
    }

    fn beside(self, beside: Vec<(String, Option<Spread>)>) -> Self {
        Self { beside, ..self }
    }

    fn new(name: &'static str, bar: Bar, parts: Vec<(String, Option<Spread>)>) -> Self {
        let medians: Option<Vec<f64>> =
            parts.iter().map(|(_, spread)| Some((*spread)?.median)).collect();
        let worst = |medians: Vec<f64>| match bar {
            Bar::AtMost(_) => medians.into_iter().reduce(f64::max),
            Bar::AtLeast(_) => medians.into_iter().reduce(f64::min),
        };
        Self { name, bar, value: medians.and_then(worst), parts, beside: Vec::new() }
    }
}

const MILLION: usize = 1_000_000;

impl Outcome {
    /// The ratios of the run, each taken within its rounds. A single ban has an end and a count of its
    /// own, as has an entry of `xdp-filter`; an entry of a list has neither, as in nft's sets, in a
    /// trie and in a hash. So like is compared with like.
    pub(crate) fn ratios(&self) -> Vec<Ratio> {
        use Bar::{AtLeast, AtMost};
        use Case::{Banned, Clean};
        let same_key = |case, entries| {
            let name = format!("{} entries", thousands(entries));
            (name, self.ratio(Part::SameKey, case, entries, [Peer::Firewall, Peer::XdpFilter]))
        };
        let tables = |part, name: &str, ours, theirs| {
            let of = |case, found: &str| {
                (format!("{found}{name}"), self.ratio(part, case, MILLION, [ours, theirs]))
            };
            vec![of(Banned, "hit"), of(Clean, "miss")]
        };
        let whole = " of the whole program";
        let nft = |peer: Peer| {
            let peers = [peer, Peer::NftNetdev];
            (peer.name().to_owned(), self.ratio(Part::Live, Banned, 65_536, peers))
        };
        vec![
            Ratio::new(
                "banned_vs_xdp_filter",
                AtMost(1.0),
                vec![same_key(Banned, 1), same_key(Banned, 10_000)],
            ),
            Ratio::new(
                "clean_vs_xdp_filter",
                AtMost(1.3),
                vec![same_key(Clean, 1), same_key(Clean, 10_000)],
            ),
            Ratio::new(
                "ranges_1m_vs_lpm_trie",
                AtMost(0.1),
                tables(Part::Ranges, "", Peer::Table, Peer::Lpm),
            )
            .beside(
                [
                    tables(Part::Ranges, whole, Peer::FirewallList, Peer::Lpm),
                    tables(Part::Ranges6, ", IPv6", Peer::Table, Peer::Lpm),
                ]
                .concat(),
            ),
            Ratio::new(
                "singles_1m_vs_hash",
                AtMost(0.45),
                tables(Part::Singles, "", Peer::Table, Peer::Hash),
            )
            .beside(tables(Part::Singles, whole, Peer::FirewallList, Peer::Hash)),
            Ratio::new(
                "singles_64k_vs_nft",
                AtMost(0.45),
                vec![nft(Peer::FirewallList), nft(Peer::Firewall)],
            ),
            Ratio::new(
                "flood_goodput",
                AtLeast(0.8),
                vec![("requests/s".into(), self.under_flood())],
            ),
        ]
    }

    /// The first peer's figures by the second one's.
    fn ratio(&self, part: Part, case: Case, entries: usize, peers: [Peer; 2]) -> Option<Spread> {
        let [ours, theirs] = peers.map(|peer| self.figures(part, case, entries, peer));
        Spread::of_ratios(&ours, &theirs)
    }

    fn figures(&self, part: Part, case: Case, entries: usize, peer: Peer) -> Vec<f64> {
        let is_asked = |sample: &&Sample| {
            (sample.part, sample.case, sample.entries, sample.peer) == (part, case, entries, peer)
        };
        self.samples.iter().filter(is_asked).map(|sample| sample.ns).collect()
    }

    fn under_flood(&self) -> Option<Spread> {
        let of = |flood| -> Vec<f64> {
            let here = self.goodput.iter().filter(|goodput| goodput.flood == flood);
            here.map(|goodput| goodput.requests_per_second).collect()
        };
        Spread::of_ratios(&of(Flood::Banned), &of(Flood::None))
    }

    /// The file: every sample, and the ratios by name.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        let mut value = serde_json::to_value(self)?;
        let ratios = self.ratios();
        if let Some(file) = value.as_object_mut() {
            let by_name = ratios.iter().map(|ratio| (ratio.name.to_owned(), ratio.value.into()));
            file.insert("ratios".into(), serde_json::Value::Object(by_name.collect()));
            let detail = ratios.iter().map(|ratio| (ratio.name.to_owned(), detail(ratio)));
            file.insert("ratios_detail".into(), serde_json::Value::Object(detail.collect()));
        }
        serde_json::to_string_pretty(&value)
    }

    /// Tables, ratios, and what has to be known to read them.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for part in Part::ALL {
            self.push_part(&mut text, part);
        }
        self.push_goodput(&mut text);
        self.push_loss(&mut text);
        text.push('\n');
        for ratio in self.ratios() {
            push(&mut text, &line(&ratio));
        }
        text.push('\n');
        for (name, version) in &self.versions {
            push(&mut text, &format!("{name}: {version}"));
        }
        for Missing { name, reason } in &self.missing {
            push(&mut text, &format!("{name}: MISSING, {reason}"));
        }
        for remark in &self.remarks {
            push(&mut text, remark);
        }
        let Machine { kernel, cpu, load_average, unoptimised, .. } = &self.machine;
        push(&mut text, &format!("{cpu}, Linux {kernel}, load average {load_average}"));
        push(
            &mut text,
            "median (lowest) over interleaved rounds; a ratio is the median of the rounds' ratios",
        );
        if self.quick {
            push(&mut text, "a quick run: few rounds, a wide spread");
        }
        if *unoptimised {
            push(&mut text, "THE BENCH WAS BUILT WITHOUT OPTIMISATION");
        }
        text
    }

    fn push_part(&self, text: &mut String, part: Part) {
        let here = || self.samples.iter().filter(|sample| sample.part == part);
        let mut columns: Vec<(usize, Case)> = here().map(|s| (s.entries, s.case)).collect();
        columns.sort_unstable();
        columns.dedup();
        if columns.is_empty() {
            return;
        }
        let mut header = vec![String::new()];
        header.extend(columns.iter().map(|(entries, case)| {
            format!("{} {}", thousands(*entries), format!("{case:?}").to_lowercase())
        }));
        let rows = Peer::ALL.into_iter().filter(|peer| here().any(|s| s.peer == *peer));
        let rows: Vec<Vec<String>> = rows
            .map(|peer| {
                let mut row = vec![peer.name().to_owned()];
                row.extend(columns.iter().map(|(entries, case)| {
                    let spread = Spread::of(&self.figures(part, *case, *entries, peer));
                    spread.map_or_else(
                        || "–".to_owned(),
                        |spread| format!("{:.0} ({:.0})", spread.median, spread.min),
                    )
                }));
                row
            })
            .collect();
        text.push('\n');
        push(text, part.title());
        text.push_str(&aligned(&header, &rows));
    }

    fn push_goodput(&self, text: &mut String) {
        if self.goodput.is_empty() {
            return;
        }
        let header = ["", "requests/s", "p99 µs", "flood Mpps"].map(str::to_owned);
        let row = |(flood, name): (Flood, &str)| {
            let of = |figure: fn(&Goodput) -> f64| {
                let here = self.goodput.iter().filter(|goodput| goodput.flood == flood);
                Spread::of(&here.map(figure).collect::<Vec<_>>())
            };
            let cell = |figure: fn(&Goodput) -> f64, digits: usize| {
                of(figure).map_or_else(String::new, |spread| {
                    let Spread { median, min, max } = spread;
                    format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
                })
            };
            vec![
                name.to_owned(),
                cell(|goodput| goodput.requests_per_second, 0),
                cell(|goodput| goodput.latency_p99_us, 0),
                cell(|goodput| goodput.packets_per_second / 1e6, 2),
            ]
        };
        let rows: Vec<_> = [
            (Flood::None, "no flood"),
            (Flood::Banned, "flood of banned sources"),
            (Flood::NotBanned, "the same flood, no bans"),
        ]
        .map(row)
        .into();
        text.push('\n');
        push(text, "HTTP through the firewall, median (lowest–highest)");
        text.push_str(&aligned(&header, &rows));
    }

    fn push_loss(&self, text: &mut String) {
        if self.loss.is_empty() {
            return;
        }
        let header = ["", "sent", "dropped by XDP", "ring full", "not found", "good ones lost"];
        let rows: Vec<Vec<String>> = self
            .loss
            .iter()
            .map(|Loss { flood, priority, fate }| {
                let Fate { sent, dropped, ring_full, others_lost } = *fate;
                let rest = sent.saturating_sub(dropped).saturating_sub(ring_full);
                let mut row = vec![format!("{flood}, {}", priority.name())];
                let cells = [sent, dropped, ring_full, rest, others_lost];
                row.extend(cells.map(|count| count.to_string()));
                row
            })
            .collect();
        text.push('\n');
        push(text, "Where a flood's frames end that never reach the program");
        text.push_str(&aligned(&header.map(str::to_owned), &rows));
    }
}

fn detail(ratio: &Ratio) -> serde_json::Value {
    let parts = ratio.parts.iter().chain(&ratio.beside).map(|(name, spread)| {
        let spread = spread.map(|Spread { median, min, max }| {
            serde_json::json!({ "median": median, "lowest": min, "highest": max })
        });
        (name.clone(), spread.into())
    });
    serde_json::json!({
        "bar": match ratio.bar {
            Bar::AtMost(bar) => format!("<= {bar}"),
            Bar::AtLeast(bar) => format!(">= {bar}"),
        },
        "holds": ratio.holds(),
        "of": serde_json::Value::Object(parts.collect()),
    })
}

fn line(ratio: &Ratio) -> String {
    let bar = match ratio.bar {
        Bar::AtMost(bar) => format!("≤ {bar}"),
        Bar::AtLeast(bar) => format!("≥ {bar}"),
    };
    let mut line = match ratio.value {
        Some(value) => {
            let verdict = if ratio.holds() { "holds" } else { "MISSED" };
            format!("{:<22} {value:.3}  {bar}  {verdict}", ratio.name)
        }
        None => format!("{:<22} –      {bar}  NOT MEASURED", ratio.name),
    };
    let parts = ratio.parts.iter().chain(&ratio.beside).filter_map(|(name, spread)| {
        let Spread { median, min, max } = (*spread)?;
        Some(format!("{name} {median:.3} ({min:.3}–{max:.3})"))
    });
    let parts: Vec<String> = parts.collect();
    if !parts.is_empty() {
        line.push_str("   ");
        line.push_str(&parts.join(", "));
    }
    line
}

fn thousands(entries: usize) -> String {
    match entries {
        65_536 => "64 k".to_owned(),
        MILLION => "1 M".to_owned(),
        _ if entries >= 1000 && entries.is_multiple_of(1000) => format!("{} k", entries / 1000),
        _ => entries.to_string(),
    }
}

fn push(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    writeln!(text, "{line}").ok();
}

#[cfg(test)]
mod tests;
