//! The ratios that the project holds itself to, and what they are made of.

use super::{Case, Flood, Outcome, Part, Peer, Sample, thousands};
use crate::statistics::Spread;

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

    /// Bar, verdict, and what it is made of.
    pub(super) fn detail(&self) -> serde_json::Value {
        let parts = self.parts.iter().chain(&self.beside).map(|(name, spread)| {
            let spread = spread.map(|Spread { median, min, max }| {
            serde_json::json!({ "median": median, "lowest": min, "highest": max })
        });
            (name.clone(), spread.into())
        });
        serde_json::json!({
            "bar": match self.bar {
                Bar::AtMost(bar) => format!("<= {bar}"),
                Bar::AtLeast(bar) => format!(">= {bar}"),
            },
            "holds": self.holds(),
            "of": serde_json::Value::Object(parts.collect()),
        })
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        let bar = match self.bar {
            Bar::AtMost(bar) => format!("≤ {bar}"),
            Bar::AtLeast(bar) => format!("≥ {bar}"),
        };
        let mut line = match self.value {
            Some(value) => {
                let verdict = if self.holds() { "holds" } else { "MISSED" };
                format!("{:<22} {value:.3}  {bar}  {verdict}", self.name)
            }
            None => format!("{:<22} –      {bar}  NOT MEASURED", self.name),
        };
        let parts = self.parts.iter().chain(&self.beside).filter_map(|(name, spread)| {
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

pub(super) const MILLION: usize = 1_000_000;

impl Outcome {
    /// The ratios of the run, each taken within its rounds, with like against like: the whole program
    /// against whole filters, a table by itself against the kernel's.
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
                vec![("requests/s".into(), self.under_flood(Flood::Banned, Flood::None))],
            )
            .beside(vec![(
                "filter of one prefix".into(),
                self.under_flood(Flood::TrieBanned, Flood::TrieNone),
            )]),
        ]
    }

    /// The first peer's figures by the second one's.
    fn ratio(&self, part: Part, case: Case, entries: usize, peers: [Peer; 2]) -> Option<Spread> {
        let [ours, theirs] = peers.map(|peer| self.figures(part, case, entries, peer));
        Spread::of_ratios(&ours, &theirs)
    }

    pub(super) fn figures(&self, part: Part, case: Case, entries: usize, peer: Peer) -> Vec<f64> {
        let is_asked = |sample: &&Sample| {
            (sample.part, sample.case, sample.entries, sample.peer) == (part, case, entries, peer)
        };
        self.samples.iter().filter(is_asked).map(|sample| sample.ns).collect()
    }

    fn under_flood(&self, flood: Flood, none: Flood) -> Option<Spread> {
        let of = |flood| -> Vec<f64> {
            let here = self.goodput.iter().filter(|goodput| goodput.flood == flood);
            here.map(|goodput| goodput.requests_per_second).collect()
        };
        Spread::of_ratios(&of(flood), &of(none))
    }
}
