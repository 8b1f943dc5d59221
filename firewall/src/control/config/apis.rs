//! One `[[api]]` as written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{Headers, Span, Upstream};
use crate::contract::Policy;
use crate::pipeline::ruleset::Mode;

/// One API: its document, what becomes of messages against it, and where requests go.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    pub name: String,
    pub spec: PathBuf,
    pub upstream: Upstream,
    #[serde(default = "enforce")]
    pub requests: Mode,
    #[serde(default = "enforce")]
    pub responses: Mode,
    #[serde(default)]
    pub unenforced: BTreeSet<String>,
    #[serde(default)]
    pub references: BTreeMap<String, PathBuf>,
    #[serde(default)]
    pub contract: Policy,
    /// What is other than in the file's own.
    #[serde(default)]
    pub headers: Headers,
    #[serde(default)]
    pub limits: ApiLimits,
    /// Who has shown no certificate is refused.
    #[serde(default)]
    pub client_certificate: bool,
}

const fn enforce() -> Mode {
    Mode::Enforce
}

/// Those of `[limits]` that an API may have of its own.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiLimits {
    pub body_octets: Option<usize>,
    pub response_octets: Option<usize>,
    pub json_depth: Option<usize>,
    pub body_timeout: Option<Span>,
    pub response_timeout: Option<Span>,
    pub response_body_timeout: Option<Span>,
}

impl Api {
    /// What the command line says of its only API, and everything else at its default.
    pub fn new(spec: PathBuf, upstream: String) -> Self {
        Self {
            name: "api".into(),
            spec,
            upstream: Upstream::of_one(upstream),
            requests: Mode::Enforce,
            responses: Mode::Enforce,
            unenforced: BTreeSet::new(),
            references: BTreeMap::new(),
            contract: Policy::default(),
            headers: Headers::default(),
            limits: ApiLimits::default(),
            client_certificate: false,
        }
    }
}
