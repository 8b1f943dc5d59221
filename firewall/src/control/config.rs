//! The configuration as written: one TOML file, every key known, every value of its type.
//!
//! `examples/firewall.toml` documents each key and is what `firewall config` prints; a test holds it
//! equal to the defaults.

mod apis;
mod headers;
mod http2;
mod listen;
mod packets;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::ban::aggregate::Aggregation;
use crate::ban::keeper::{BanMode, OFFENCE_PATIENCE};
use crate::ban::ledger::Capacity;
use crate::ban::threshold::Weights;
use crate::feeds::Format;

pub use self::apis::{Api, ApiLimits};
pub use self::headers::{Cookies, FieldRules, Headers};
pub use self::http2::{Http2, Http2Limits};
pub use self::listen::{Listen, Tls, TlsCertificate};
pub use self::packets::{Budgets, KernelLog, Pressure, Probation, Rate, StalePolicy, Standing};
pub use self::upstreams::{Check, Ejection, Endpoint, Retry, Statuses, Upstream, UpstreamTls};

/// Every key documented, at its default where it has one.
pub const EXAMPLE: &str = include_str!("../../examples/firewall.toml");

/// The file as a whole.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    pub listen: Listen,
    #[serde(default)]
    pub limits: Limits,
    pub api: Vec<Api>,
    #[serde(default)]
    pub headers: Headers,
    #[serde(default)]
    pub clients: Clients,
    #[serde(default)]
    pub bans: Bans,
    #[serde(default)]
    pub feed: Vec<Feed>,
    #[serde(default)]
    pub management: Management,
    #[serde(default)]
    pub kernel: Kernel,
    #[serde(default)]
    pub state: State,
    #[serde(default)]
    pub admin: Admin,
    #[serde(default)]
    pub metrics: Metrics,
    #[serde(default)]
    pub log: Log,
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub connections_per_worker: usize,
    pub connections_per_source: usize,
    pub tunnels_per_worker: usize,
    pub tunnels_per_source: usize,
    pub tls_handshakes_per_worker: usize,
    pub tls_handshakes_per_source: usize,
    pub head_octets: usize,
    pub head_fields: usize,
    pub target_octets: usize,
    pub body_octets: usize,
    pub response_octets: usize,
    pub json_depth: usize,
    pub tls_handshake_timeout: Span,
    pub proxy_header_timeout: Span,
    pub head_timeout: Span,
    pub idle_timeout: Span,
    pub body_timeout: Span,
    pub response_timeout: Span,
    pub response_body_timeout: Span,
    pub tunnel_idle_timeout: Span,
    pub tunnel_age: Span,
    pub drain_timeout: Span,
    pub http2: Http2Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_worker: 16_384,
            connections_per_source: 512,
            tunnels_per_worker: 4096,
            tunnels_per_source: 64,
            tls_handshakes_per_worker: 1024,
            tls_handshakes_per_source: 64,
            head_octets: 16 << 10,
            head_fields: 100,
            target_octets: 8 << 10,
            body_octets: 1 << 20,
            response_octets: 8 << 20,
            json_depth: 64,
            tls_handshake_timeout: Span::seconds(10),
            proxy_header_timeout: Span::seconds(5),
            head_timeout: Span::seconds(10),
            idle_timeout: Span::seconds(60),
            body_timeout: Span::seconds(30),
            response_timeout: Span::seconds(60),
            response_body_timeout: Span::seconds(60),
            tunnel_idle_timeout: Span::seconds(120),
            tunnel_age: Span::seconds(24 * 60 * 60),
            drain_timeout: Span::seconds(30),
            http2: Http2Limits::default(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    pub trusted_proxies: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bans {
    pub mode: BanMode,
    pub threshold: u32,
    pub leak_interval: Span,
    pub weights: Weights,
    pub durations: Vec<Span>,
    pub forgive_after: Span,
    pub patience: Span,
    pub capacity: usize,
    pub aggregate: Aggregation,
}

impl Default for Bans {
    fn default() -> Self {
        Self {
            mode: BanMode::Enforce,
            threshold: 100,
            leak_interval: Span::seconds(6),
            weights: Weights::default(),
            durations: [60, 300, 1800, 4 * 3600, 24 * 3600].map(Span::seconds).to_vec(),
            forgive_after: Span::seconds(24 * 3600),
            patience: Span(OFFENCE_PATIENCE),
            capacity: Capacity::default().bans,
            aggregate: Aggregation::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Management {
    pub allow: Vec<IpNet>,
    pub loopback: bool,
    pub own_addresses: bool,
    pub detect: BTreeSet<Detect>,
}

/// One `[[feed]]`.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    pub name: String,
    pub path: Option<PathBuf>,
    pub url: Option<String>,
    pub ca: Option<PathBuf>,
    #[serde(default)]
    pub insecure: bool,
    #[serde(default)]
    pub format: Format,
    #[serde(default = "defaults::feed_refresh")]
    pub refresh: Span,
    #[serde(default)]
    pub action: FeedAction,
    #[serde(default = "defaults::feed_entries")]
    pub max_entries: usize,
    #[serde(default = "defaults::feed_octets")]
    pub max_octets: usize,
    #[serde(default)]
    pub private_addresses: PrivateAddresses,
}

/// What becomes of those whom a feed lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedAction {
    #[default]
    Drop,
    /// They pass, and are counted.
    Observe,
}

/// What becomes of private and other special blocks that a feed lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrivateAddresses {
    #[default]
    Skip,
    List,
}

/// Whom the host itself shows to need a way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detect {
    /// The gateways of its default routes.
    Gateway,
    /// Its name servers.
    Dns,
    /// Who is logged in over SSH.
    Ssh,
}

impl Default for Management {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            loopback: true,
            own_addresses: true,
            detect: [Detect::Gateway, Detect::Dns, Detect::Ssh].into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kernel {
    pub interfaces: Vec<String>,
    pub interface: Vec<Interface>,
    pub pin_dir: PathBuf,
    /// The socket of the process that loads the program for this one; none if this one does.
    pub loader: Option<PathBuf>,
    pub log: KernelLog,
    pub checks: BTreeMap<String, CheckMode>,
    pub syn_cookies: bool,
    pub stale_policy: StalePolicy,
    pub stale_after: Span,
    pub probation: Probation,
    pub budgets: Budgets,
    pub pressure: Pressure,
    pub standing: Standing,
}

/// What a check does with the packets it objects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckMode {
    /// `enforce` is an earlier word for it.
    #[serde(alias = "enforce")]
    Drop,
    Observe,
    Off,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            interface: Vec::new(),
            pin_dir: "/sys/fs/bpf/firewall".into(),
            loader: None,
            log: KernelLog::Off,
            checks: BTreeMap::new(),
            syn_cookies: false,
            stale_policy: StalePolicy::default(),
            stale_after: Span::seconds(300),
            probation: Probation::default(),
            budgets: Budgets::default(),
            pressure: Pressure::default(),
            standing: Standing::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    pub name: String,
    #[serde(default)]
    pub role: InterfaceRole,
    #[serde(default)]
    pub required: bool,
    #[serde(default)]
    pub beneath: bool,
    #[serde(default)]
    pub checks: BTreeMap<String, CheckMode>,
}

/// What an interface faces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceRole {
    Internet,
    #[default]
    Lan,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    pub dir: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    pub socket: PathBuf,
}

impl Default for Admin {
    fn default() -> Self {
        Self { socket: "/run/firewall/admin.sock".into() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    pub listen: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub access: String,
    pub refused_responses: String,
    pub refused_response_octets: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            access: "stdout".into(),
            refused_responses: "off".into(),
            refused_response_octets: 4096,
        }
    }
}

mod defaults {
    use super::Span;

    pub(super) const fn feed_refresh() -> Span {
        Span::seconds(3600)
    }

    pub(super) const fn feed_entries() -> usize {
        200_000
    }

    pub(super) const fn feed_octets() -> usize {
        32 << 20
    }
}

/// A duration with its unit: `"30s"`, `"5m"`, `"1h 30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, as \"30s\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                humantime::parse_duration(text).map(Span).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The configuration cannot be used as written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}", at(path, *line, message))]
    Invalid { path: PathBuf, line: Option<usize>, message: String },
}

fn at(path: &Path, line: Option<usize>, message: &str) -> String {
    match line {
        Some(line) => format!("{}:{line}: {message}", path.display()),
        None => format!("{}: {message}", path.display()),
    }
}

impl ConfigFile {
    /// Parses the text of the file that is called `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::Invalid {
            path: path.to_owned(),
            line: error.span().map(|span| {
                let before = text.get(..span.start).unwrap_or(text);
                before.matches('\n').count() + 1
            }),
            message: error.message().to_owned(),
        })
    }

    /// What `run --spec … --upstream … --listen …` means: everything else at its default.
    pub fn of_one_api(listen: SocketAddr, spec: PathBuf, upstream: String) -> Self {
        Self {
            listen: Listen::at(listen),
            limits: Limits::default(),
            api: vec![Api::new(spec, upstream)],
            headers: Headers::default(),
            clients: Clients::default(),
            bans: Bans::default(),
            feed: Vec::new(),
            management: Management::default(),
            kernel: Kernel::default(),
            state: State::default(),
            admin: Admin::default(),
            metrics: Metrics::default(),
            log: Log::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        [listen]
        address = "127.0.0.1:8080"
        [[api]]
        name = "shop"
        spec = "shop.yaml"
        upstream = "http://127.0.0.1:9000"
    "#;

    #[test]
    fn example_says_the_defaults() {
        let path = Path::new("firewall.toml");
        let example = ConfigFile::parse(path, EXAMPLE).unwrap();
        let defaults = ConfigFile::parse(path, MINIMAL).unwrap();
        assert_eq!(example.limits, defaults.limits);
        assert_eq!(example.bans, defaults.bans);
        assert_eq!(example.clients, defaults.clients);
        assert_eq!(example.management, defaults.management);
        assert_eq!(example.kernel, defaults.kernel);
        assert_eq!(example.admin, defaults.admin);
        assert_eq!(example.log, defaults.log);
        assert_eq!(example.listen.backlog, defaults.listen.backlog);
        assert_eq!(example.listen.proxy_protocol, defaults.listen.proxy_protocol);
        let (example, defaults) = (&example.api[0], &defaults.api[0]);
        assert_eq!(example.upstream, defaults.upstream);
        assert_eq!(example.limits, defaults.limits);
        assert_eq!(example.contract, defaults.contract);
        for name in toml::Table::try_from(&defaults.contract).unwrap().keys() {
            let is_named = EXAMPLE.lines().any(|line| line.starts_with(&format!("{name} = ")));
            assert!(is_named, "{name} is not in the example");
        }
        assert_eq!((example.requests, example.responses), (defaults.requests, defaults.responses));
    }

    /// `docs/limits.md` has a row for each key of `[limits]`, with its default, and names what there is.
    #[test]
    fn the_document_of_limits_is_true() {
        use crate::access_log::Ending;
        use crate::listen::tls::NoTls;
        use crate::violation::Rule;
        const DOCUMENT: &str = include_str!("../../docs/limits.md");
        let mut table = "";
        let mut keys = BTreeMap::new();
        for line in EXAMPLE.lines() {
            let line = line.split_once('#').map_or(line, |(said, _)| said).trim();
            if let Some(name) = line.strip_prefix('[') {
                table = name.trim_end_matches(']');
            } else if let ("limits" | "limits.http2", Some((key, value))) =
                (table, line.split_once(" = "))
            {
                keys.insert(format!("{table}.{key}"), value.to_owned());
            }
        }
        assert_eq!(keys.len(), 29, "{keys:?}");
        let rows = DOCUMENT.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `limits.")?.split(" | ");
            let (key, default) = (cells.next()?.strip_suffix('`')?, cells.next()?);
            Some((format!("limits.{key}"), default.trim_matches('`').to_owned()))
        });
        assert_eq!(rows.collect::<BTreeMap<_, _>>(), keys);
        for (place, word) in DOCUMENT.split('`').enumerate() {
            let stage = word.split_once('.').map_or("", |(stage, _)| stage);
            if place % 2 == 1
                && ["framing", "client", "body", "response", "upgrade"].contains(&stage)
            {
                assert!(Rule::ALL.iter().any(|rule| rule.id() == word), "{word} is no rule");
            }
        }
        let endings = Ending::ALL.iter().map(|ending| ending.id());
        for reason in endings.chain(NoTls::ALL.iter().map(|reason| reason.id())) {
            assert!(DOCUMENT.contains(&format!("`{reason}`")), "{reason} is not told of");
        }
    }

    #[test]
    fn example_says_the_defaults_of_a_feed() {
        let commented = EXAMPLE.lines().skip_while(|line| *line != "# [[feed]]");
        let commented = commented.map_while(|line| line.strip_prefix("# "));
        let is_of_a_file = |line: &&str| !line.starts_with("url") && !line.starts_with("ca ");
        let feed = commented.filter(is_of_a_file).collect::<Vec<_>>().join("\n");
        let parse = |feed: &str| {
            let file = ConfigFile::parse(Path::new("f.toml"), &format!("{MINIMAL}\n{feed}"));
            file.unwrap().feed.remove(0)
        };
        let minimal = "[[feed]]\nname = \"spamhaus-drop\"\npath = \"drop_v4.json\"";
        assert_eq!(parse(&feed), parse(minimal));
        // Every key is there: one for each line of the table, and the two of the other origin.
        assert_eq!(feed.lines().count(), 10, "{feed}");
    }

    #[test]
    fn example_says_the_defaults_of_a_check() {
        let commented =
            EXAMPLE.lines().skip_while(|line| !line.starts_with("# [api.upstream.check]"));
        let commented = commented.map_while(|line| line.strip_prefix("# ")).collect::<Vec<_>>();
        assert_eq!(commented.len(), 8, "every key is there: {commented:?}");
        let table = |check: &str| {
            let upstream = MINIMAL.replace("upstream = \"http://127.0.0.1:9000\"", check);
            ConfigFile::parse(Path::new("f.toml"), &upstream).unwrap().api.remove(0).upstream.check
        };
        let without_host = commented.iter().filter(|line| !line.starts_with("host"));
        let example = without_host.copied().collect::<Vec<_>>().join("\n");
        let minimal = "[api.upstream.check]\npath = \"/healthz\"";
        assert_eq!(table(&example), table(minimal));
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line, part) in [
            ("[listen]\naddress = 1\n", 2, "invalid type"),
            ("[listen]\naddress = \"127.0.0.1:1\"\nadress = 2\n", 3, "unknown field `adress`"),
            ("[limits]\nhead_timeout = \"10\"\n", 2, "time unit needed"),
            ("[bans]\nmode = \"maybe\"\n", 2, "unknown variant `maybe`"),
            ("x", 1, "key with no value"),
        ] {
            match ConfigFile::parse(Path::new("f.toml"), text) {
                Err(ConfigError::Invalid { line: Some(found), message, .. }) => {
                    assert_eq!(found, line, "{text}: {message}");
                    assert!(message.contains(part), "{text}: {message}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
