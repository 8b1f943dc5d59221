//! What a run found: raw samples, the table of figures, and the ratios that are held against bars.

mod ratio;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use ratio::MILLION;

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
    /// None, and none of our programs on the interface, but a filter that knows one prefix.
    TrieNone,
    /// From what that filter drops.
    TrieBanned,
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
    pub(crate) load: Vec<Load>,
}

/// How what is banned comes into the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// A feed's, all at once.
    List,
    /// Bans, each by itself.
    OneByOne,
    /// Bans that an earlier start left.
    TakenOver,
    /// Bans of a state file, by a daemon without the kernel.
    Restart,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::List => "a list",
            Self::OneByOne => "bans, one by one",
            Self::TakenOver => "bans, taken over",
            Self::Restart => "bans of a state file",
        }
    }
}

/// What was loaded, how long that took, and the memory of all tables then.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Load {
    pub(crate) kind: &'static str,
    pub(crate) way: Way,
    pub(crate) round: usize,
    pub(crate) entries: usize,
    pub(crate) seconds: f64,
    pub(crate) octets: usize,
}

impl Outcome {
    /// The file: every sample, and the ratios by name.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        let mut value = serde_json::to_value(self)?;
        let ratios = self.ratios();
        if let Some(file) = value.as_object_mut() {
            let by_name = ratios.iter().map(|ratio| (ratio.name.to_owned(), ratio.value.into()));
            file.insert("ratios".into(), serde_json::Value::Object(by_name.collect()));
            let detail = ratios.iter().map(|ratio| (ratio.name.to_owned(), ratio.detail()));
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
        self.push_load(&mut text);
        text.push('\n');
        for ratio in self.ratios() {
            push(&mut text, &ratio.line());
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
            (Flood::TrieNone, "no flood, filter of one prefix"),
            (Flood::TrieBanned, "the flood, filter of one prefix"),
        ]
        .map(row)
        .into();
        text.push('\n');
        push(text, "HTTP through the firewall, median (lowest–highest)");
        text.push_str(&aligned(&header, &rows));
    }

    fn push_load(&self, text: &mut String) {
        if self.load.is_empty() {
            return;
        }
        let row = |load: &Load| {
            let cells =
                [load.entries.to_string(), format!("{:.3}", load.seconds), load.octets.to_string()];
            let name = format!("{}, as {}", load.kind, load.way.name());
            [vec![name], cells.to_vec()].concat()
        };
        let rows: Vec<Vec<String>> = self.load.iter().map(row).collect();
        text.push('\n');
        push(text, "Loading what is banned, and the octets of the tables then");
        text.push_str(&aligned(&["", "entries", "s", "octets"].map(str::to_owned), &rows));
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
