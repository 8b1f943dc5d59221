//! Budgets, pressure, good standing and the program's own life as written.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::Span;

/// What may be sent, on each CPU that receives; which reason is heard for each, `checks` says.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budgets {
    pub syn: Rate,
    pub udp: Rate,
    pub echo: Rate,
    pub packets: Rate,
    pub every_echo: Rate,
    pub every_error: Rate,
    pub cgnat: BTreeMap<IpNet, u32>,
}

/// So many in a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub rate: u32,
    pub burst: u32,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            syn: Rate { rate: 200, burst: 400 },
            udp: Rate { rate: 5_000, burst: 10_000 },
            echo: Rate { rate: 20, burst: 40 },
            packets: Rate { rate: 50_000, burst: 100_000 },
            every_echo: Rate { rate: 1_000, burst: 1_000 },
            every_error: Rate { rate: 1_000, burst: 1_000 },
            cgnat: BTreeMap::new(),
        }
    }
}

/// When new connections of strangers are shed, and how many: a value for each of three levels.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pressure {
    pub seats: [f64; 3],
    pub lag: [Span; 3],
    pub overflows: [u32; 3],
    pub syns: u32,
    pub shed: [f64; 3],
    pub calm: Span,
}

impl Default for Pressure {
    fn default() -> Self {
        Self {
            seats: [0.7, 0.85, 0.95],
            lag: [Span::millis(100), Span::millis(300), Span::seconds(1)],
            overflows: [1, 100, 1_000],
            syns: 500,
            shed: [0.25, 0.75, 1.0],
            calm: Span::seconds(10),
        }
    }
}

/// How much the kernel program says of its own work (aya-log).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KernelLog {
    #[default]
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What the kernel program does once the firewall has been gone for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StalePolicy {
    /// Drops what it dropped: every ban holds, also beyond its end.
    #[default]
    Keep,
    /// Lets everything pass, and counts it.
    Observe,
}

/// When a kernel program that has taken another's place is taken out again.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probation {
    pub time: Span,
    pub packets: u32,
    pub given_up: f64,
    pub passing: f64,
}

impl Default for Probation {
    fn default() -> Self {
        Self { time: Span::seconds(60), packets: 1000, given_up: 0.01, passing: 0.5 }
    }
}

/// How a source comes into good standing.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Standing {
    pub requests: u32,
    pub age: Span,
    pub decay: Span,
}

impl Default for Standing {
    fn default() -> Self {
        Self { requests: 20, age: Span::seconds(60), decay: Span::seconds(24 * 3600) }
    }
}
