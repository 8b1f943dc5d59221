//! The configuration as meant: every limit a number, every address resolved, nothing left to decide.

mod apis;
mod bans;
mod clients;
mod feeds;
pub(super) mod headers;
pub(super) mod http2;
mod packets;
pub(super) mod tls;
pub(super) mod upstreams;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZero, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::ban::keeper::BanMode;
use crate::ban::threshold::{Threshold, ThresholdError};
use crate::causes::Causes;
use crate::contract::DEPTH_MAX;
use crate::contract::exception::SCANNED_OCTETS;
use crate::control::config::{
    Bans, CheckMode, ConfigFile, InterfaceRole, Kernel, KernelLog, Limits, Management, Pressure,
    Standing,
};
use crate::control::management::{Allowed, allowlist};
use crate::feeds::{FEEDS_MAX, FeedSettings, UrlError};
use crate::kernel::{
    self, Check, CheckSetting, InterfaceOptions, Pattern, PatternError, Reason, Role,
};
use crate::listen::http2::Http2;
use crate::log_lines::LogTarget;
use crate::pipeline::answer_fields::AnswerRules;
use crate::pipeline::ruleset::{ExchangeLimits, Mode};
use crate::tls::server::ServerOptions;
use crate::upstream::UpstreamSettings;
use crate::upstream::address::EndpointAddressError;

pub use self::tls::TlsSettingsError;

/// More workers than this is a mistake, not a machine.
const WORKERS_MAX: usize = 256;

/// What the daemon runs by. Those parts that a reload may change are read from here each time.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    pub workers: NonZeroUsize,
    pub backlog: u16,
    pub http2: Http2,
    /// Peers whose connections begin with a PROXY header.
    pub balancers: Vec<IpNet>,
    /// None: plain text.
    pub tls: Option<ServerOptions>,
    pub limits: Limits,
    /// At least one.
    pub apis: Vec<ApiSettings>,
    pub trusted_proxies: Vec<IpNet>,
    pub bans: Bans,
    /// What `bans` amounts to.
    pub threshold: Threshold,
    pub management: Management,
    /// Never banned, never dropped: what `management` and the host amounted to when this was read.
    pub allowlist: Vec<Allowed>,
    pub feeds: Arc<[FeedSettings]>,
    pub interfaces: Vec<InterfaceOptions>,
    pub pin_dir: PathBuf,
    pub loader: Option<PathBuf>,
    pub kernel_log: KernelLog,
    pub kernel_checks: Vec<CheckSetting>,
    pub syn_cookies: bool,
    /// How long packets are dropped while no daemon is there; none: for ever.
    pub stale_after: Option<Duration>,
    pub probation: kernel::ProbationRules,
    pub packets: kernel::Limits,
    pub pressure: Pressure,
    pub standing: Standing,
    pub state_dir: Option<PathBuf>,
    pub admin_socket: PathBuf,
    pub metrics: Option<SocketAddr>,
    pub access_log: LogTarget,
    pub refused_responses: LogTarget,
    /// Octets of a refused answer's body that are written down.
    pub refused_response_octets: usize,
}

/// One API as configured.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    pub name: String,
    pub spec: PathBuf,
    pub upstream: UpstreamSettings,
    pub limits: ExchangeLimits,
    pub body_octets: usize,
    pub response_octets: usize,
    pub json_depth: usize,
    pub requests: Mode,
    pub responses: Mode,
    pub unenforced: BTreeSet<String>,
    pub references: BTreeMap<String, PathBuf>,
    pub contract: crate::contract::Policy,
    pub answers: AnswerRules,
    /// Who has shown no certificate is refused.
    pub client_certificate: bool,
}

/// A value is of its type, and yet cannot be meant.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("api: expected 1 to 64, found {found}")]
    Apis { found: usize },
    #[error(
        "api: expected a name of letters, digits, '-', '_' and '.', given once, found {found:?}"
    )]
    ApiName { found: String },
    #[error("api {api}: {key}: expected {expected}")]
    ApiBound { api: String, key: &'static str, expected: &'static str },
    #[error("api {api}: upstream.endpoints: {endpoint} is there twice")]
    EndpointTwice { api: String, endpoint: String },
    #[error("api {api}: upstream")]
    Upstream { api: String, source: EndpointAddressError },
    #[error("{key}: expected {expected}, found {found}")]
    Bound { key: &'static str, expected: &'static str, found: usize },
    #[error("bans.durations")]
    Durations { source: ThresholdError },
    #[error("kernel.checks: {found:?} is no check: expected one of {}", known_checks())]
    Check { found: String },
    #[error(
        "kernel.budgets.cgnat: expected no more than {} networks, found {found}",
        packets::MULTIPLIERS
    )]
    Multipliers { found: usize },
    #[error("kernel.budgets.cgnat: expected no longer prefix than a /64, found {network}")]
    LongMultiplier { network: IpNet },
    #[error("kernel.pressure.{key}: expected {expected}")]
    Levels { key: &'static str, expected: &'static str },
    #[error("kernel.probation.{key}: expected a share from 0 to 1")]
    Share { key: &'static str },
    #[error(
        "feed: expected a name of letters, digits, '-', '_' and '.', given once, found {found:?}"
    )]
    FeedName { found: String },
    #[error("feed: expected at most {FEEDS_MAX}, found {found}")]
    Feeds { found: usize },
    #[error("feed {name}: expected either path or url; ca and insecure belong to a url")]
    FeedOrigin { name: String },
    #[error("feed {name}: url")]
    FeedUrl { name: String, source: UrlError },
    #[error("feed {name}: {key}: expected {expected}")]
    FeedBound { name: String, key: &'static str, expected: &'static str },
    #[error("kernel.interfaces")]
    Interface { source: PatternError },
    #[error("kernel.interfaces: {name:?} is there twice")]
    InterfaceTwice { name: String },
    #[error(transparent)]
    Tls(TlsSettingsError),
    #[error("the host's own addresses cannot be read")]
    OwnAddresses { source: std::io::Error },
}

/// Every value that cannot be meant.
#[derive(Debug)]
pub struct SettingsErrors(pub Vec<SettingsError>);

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}", Causes(error))?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsErrors {}

impl Settings {
    /// Decides what the file leaves open. Reads the host's addresses, but no other file.
    ///
    /// # Errors
    ///
    /// Every value that is out of bounds, not the first alone.
    pub fn of(file: ConfigFile) -> Result<Self, SettingsErrors> {
        // Knows the affinity mask and the cgroup's quota.
        let cpus = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let workers = file.listen.workers.unwrap_or_else(cpus);
        let mut problems = out_of_bounds(&file, workers);
        let mut or_problem = |problem: SettingsError| problems.push(problem);
        let kernel_checks = checks(&file.kernel).map_err(&mut or_problem).ok();
        let packets = packets::limits(&file.kernel.budgets).map_err(&mut or_problem).ok();
        let interfaces = interfaces(&file.kernel).map_err(&mut or_problem).ok();
        let stale_after = packets::stale_after(&file.kernel);
        let probation = packets::probation(&file.kernel.probation);
        let threshold = bans::threshold(&file.bans).map_err(&mut or_problem).ok();
        let balancers = clients::networks(&file.listen.proxy_protocol);
        let trusted_proxies = clients::networks(&file.clients.trusted_proxies);
        let allowlist = allowlist(&file.management, trusted_proxies.iter().chain(&balancers))
            .map_err(|source| or_problem(SettingsError::OwnAddresses { source }))
            .ok();
        let feeds = feeds::feeds(file.feed, file.bans.mode).map_err(&mut or_problem).ok();
        let tls = tls::server(&file.listen, &file.api);
        let tls = tls.map_err(|source| or_problem(SettingsError::Tls(source))).ok();
        let apis = apis::apis(file.api, &file.limits, &file.headers);
        let apis = apis.map_err(|found| found.into_iter().for_each(&mut or_problem)).ok();
        let (Some(kernel_checks), Some(packets), Some(interfaces), Some(threshold)) =
            (kernel_checks, packets, interfaces, threshold)
        else {
            return Err(SettingsErrors(problems));
        };
        let (Some(allowlist), Some(feeds), Some(tls), Some(apis), true) =
            (allowlist, feeds, tls, apis, problems.is_empty())
        else {
            return Err(SettingsErrors(problems));
        };
        Ok(Self {
            listen: file.listen.address,
            workers: NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN),
            backlog: file.listen.backlog,
            http2: http2::spoken(file.listen.http2),
            balancers,
            tls,
            limits: file.limits,
            apis,
            trusted_proxies,
            bans: file.bans,
            threshold,
            management: file.management,
            allowlist,
            feeds,
            interfaces,
            pin_dir: file.kernel.pin_dir,
            loader: file.kernel.loader,
            kernel_log: file.kernel.log,
            kernel_checks,
            syn_cookies: file.kernel.syn_cookies,
            stale_after,
            probation,
            packets,
            pressure: file.kernel.pressure,
            standing: file.kernel.standing,
            state_dir: file.state.dir,
            admin_socket: file.admin.socket,
            metrics: file.metrics.listen,
            access_log: match file.log.access.as_str() {
                "stdout" => LogTarget::Stdout,
                "off" => LogTarget::Off,
                path => LogTarget::File(PathBuf::from(path).into()),
            },
            refused_responses: match file.log.refused_responses.as_str() {
                "off" => LogTarget::Off,
                path => LogTarget::PrivateFile(PathBuf::from(path).into()),
            },
            refused_response_octets: file.log.refused_response_octets,
        })
    }

    /// Whom no ban reaches, in either plane.
    pub fn exempt(&self) -> impl Iterator<Item = IpNet> {
        let networks = self.allowlist.iter().map(|allowed| allowed.network);
        networks.collect::<BTreeSet<_>>().into_iter()
    }

    /// The keys that differ from `other` and that a running daemon cannot change.
    pub fn fixed_differences(&self, other: &Self) -> Vec<&'static str> {
        let differences = [
            ("listen.address", self.listen != other.listen),
            ("listen.workers", self.workers != other.workers),
            ("listen.backlog", self.backlog != other.backlog),
            ("listen.http2", self.http2 != other.http2),
            ("listen.tls (whether it is there)", self.tls.is_some() != other.tls.is_some()),
            ("listen.proxy_protocol", self.balancers != other.balancers),
            ("bans", self.bans != other.bans),
            ("management", self.management != other.management),
            ("clients.trusted_proxies", self.trusted_proxies != other.trusted_proxies),
            ("kernel.interfaces", self.interfaces != other.interfaces),
            ("kernel.pin_dir", self.pin_dir != other.pin_dir),
            ("kernel.loader", self.loader != other.loader),
            ("kernel.log", self.kernel_log != other.kernel_log),
            ("kernel.syn_cookies", self.syn_cookies != other.syn_cookies),
            ("kernel.stale_policy", self.stale_after != other.stale_after),
            ("kernel.probation", self.probation != other.probation),
            ("kernel.pressure", self.pressure != other.pressure),
            ("kernel.standing", self.standing != other.standing),
            ("state.dir", self.state_dir != other.state_dir),
            ("admin.socket", self.admin_socket != other.admin_socket),
            ("metrics.listen", self.metrics != other.metrics),
            ("log.access", self.access_log != other.access_log),
            ("log.refused_responses", self.refused_responses != other.refused_responses),
            (
                "log.refused_response_octets",
                self.refused_response_octets != other.refused_response_octets,
            ),
        ];
        differences.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}

fn known_checks() -> String {
    let known = Reason::ALL.iter().filter(|reason| reason.is_check());
    known.map(|reason| reason.id()).collect::<Vec<_>>().join(", ")
}

/// The check of this identifier.
pub fn check_of(id: &str) -> Result<Reason, SettingsError> {
    let known = Reason::ALL.iter().find(|reason| reason.id() == id && reason.is_check());
    known.copied().ok_or_else(|| SettingsError::Check { found: id.to_owned() })
}

/// What the configuration's word means to the kernel.
pub fn check_mode(mode: CheckMode) -> Check {
    match mode {
        CheckMode::Drop => Check::Drop,
        CheckMode::Observe => Check::Observe,
        CheckMode::Off => Check::Off,
    }
}

/// The modes of checks: of all interfaces, then of those with a table of their own.
fn checks(kernel: &Kernel) -> Result<Vec<CheckSetting>, SettingsError> {
    let mut settings = Vec::new();
    let mut add = |written: &BTreeMap<String, CheckMode>, interface: Option<Pattern>| {
        for (id, mode) in written {
            let (reason, mode) = (check_of(id)?, check_mode(*mode));
            settings.push(CheckSetting { reason, mode, interface: interface.clone() });
        }
        Ok::<_, SettingsError>(())
    };
    add(&kernel.checks, None)?;
    for interface in &kernel.interface {
        let pattern = interface.name.parse();
        add(
            &interface.checks,
            Some(pattern.map_err(|source| SettingsError::Interface { source })?),
        )?;
    }
    Ok(settings)
}

/// The interfaces, those with a table of their own first.
pub(crate) fn interfaces(kernel: &Kernel) -> Result<Vec<InterfaceOptions>, SettingsError> {
    let parse = |name: &str| {
        let pattern = name.parse().map_err(|source| SettingsError::Interface { source })?;
        Ok(InterfaceOptions::of(pattern))
    };
    let mut interfaces: Vec<InterfaceOptions> = Vec::new();
    for interface in &kernel.interface {
        let role = match interface.role {
            InterfaceRole::Internet => Role::Internet,
            InterfaceRole::Lan => Role::Lan,
        };
        let (is_required, beneath) = (interface.required, interface.beneath);
        interfaces.push(InterfaceOptions { role, is_required, beneath, ..parse(&interface.name)? });
    }
    for name in &kernel.interfaces {
        interfaces.push(parse(name)?);
    }
    for (place, interface) in interfaces.iter().enumerate() {
        if interfaces.iter().take(place).any(|earlier| earlier.pattern == interface.pattern) {
            return Err(SettingsError::InterfaceTwice { name: interface.pattern.to_string() });
        }
    }
    Ok(interfaces)
}

/// The numbers that are out of their bounds.
fn out_of_bounds(file: &ConfigFile, workers: usize) -> Vec<SettingsError> {
    let (limits, most) = (&file.limits, usize::MAX);
    let mut bounds = vec![
        ("listen.workers", "1 to 256", workers, 1, WORKERS_MAX),
        ("limits.json_depth", "1 to 1024", limits.json_depth, 1, DEPTH_MAX),
        ("limits.head_octets", "256 to 1048576", limits.head_octets, 256, 1 << 20),
        ("limits.head_fields", "1 to 1000", limits.head_fields, 1, 1000),
        ("limits.target_octets", "1 to head_octets", limits.target_octets, 1, limits.head_octets),
        ("limits.connections_per_worker", "at least 1", limits.connections_per_worker, 1, most),
        ("limits.connections_per_source", "at least 1", limits.connections_per_source, 1, most),
        ("limits.tunnels_per_worker", "at least 1", limits.tunnels_per_worker, 1, most),
        ("limits.tunnels_per_source", "at least 1", limits.tunnels_per_source, 1, most),
        (
            "limits.tls_handshakes_per_worker",
            "at least 1",
            limits.tls_handshakes_per_worker,
            1,
            most,
        ),
        (
            "limits.tls_handshakes_per_source",
            "at least 1",
            limits.tls_handshakes_per_source,
            1,
            most,
        ),
        (
            "log.refused_response_octets",
            "at most 65536",
            file.log.refused_response_octets,
            0,
            SCANNED_OCTETS,
        ),
    ];
    bounds.extend(http2::bounds(&limits.http2));
    bounds.extend(bans::bounds(&file.bans));
    bounds.extend(packets::bounds(&file.kernel));
    let requests = file.kernel.standing.requests as usize;
    bounds.push(("kernel.standing.requests", "at least 1", requests, 1, most));
    let decay_ms = usize::try_from(file.kernel.standing.decay.0.as_millis()).unwrap_or(most);
    bounds.push(("kernel.standing.decay", "at least 1 ms", decay_ms, 1, most));
    let shares = packets::shares(&file.kernel.probation);
    let levels = packets::levels(&file.kernel.pressure).into_iter().chain(shares);
    bounds
        .into_iter()
        .filter(|(_, _, found, least, most)| !(least..=most).contains(&found))
        .map(|(key, expected, found, ..)| SettingsError::Bound { key, expected, found })
        .chain(levels)
        .collect()
}

/// Which bans are enforced, as a word.
pub fn ban_mode_name(mode: BanMode) -> &'static str {
    match mode {
        BanMode::Enforce => "enforce",
        BanMode::Observe => "observe",
        BanMode::Off => "off",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    pub(super) fn problems(text: &str) -> Vec<String> {
        let file = ConfigFile::parse(Path::new("f.toml"), text).unwrap();
        match Settings::of(file) {
            Ok(_) => Vec::new(),
            Err(SettingsErrors(errors)) => {
                errors.iter().map(|error| Causes(error).to_string()).collect()
            }
        }
    }

    pub(super) const SOUND: &str = "[listen]\naddress = \"127.0.0.1:0\"\n[[api]]\nname = \"a\"\n\
                         spec = \"a.yaml\"\nupstream = \"http://127.0.0.1:1\"\n";

    #[test]
    fn every_value_that_cannot_be_meant_is_told() {
        assert_eq!(problems(SOUND), Vec::<String>::new());
        let broken = SOUND.replace("http:", "ftp:")
            + "[limits]\njson_depth = 0\nhead_octets = 255\n\
               [bans]\ndurations = [\"5m\", \"1m\"]\n[kernel.checks]\nX9 = \"off\"\n";
        let found = problems(&broken);
        for part in ["json_depth", "head_octets", "bans.durations", "X9", "ftp"] {
            assert!(found.iter().any(|problem| problem.contains(part)), "{part}: {found:?}");
        }
    }

    #[test]
    fn what_only_a_restart_changes() {
        let settings = |text: &str| {
            Settings::of(ConfigFile::parse(Path::new("f.toml"), text).unwrap()).unwrap()
        };
        let (sound, feed) = (settings(SOUND), "[[feed]]\nname = \"a\"\npath = \"a\"\n");
        assert!(sound.fixed_differences(&settings(&format!("{SOUND}{feed}"))).is_empty());
        let less = settings(&format!("{SOUND}[management]\ndetect = [\"dns\"]\n"));
        assert_eq!(sound.fixed_differences(&less), ["management"]);
        // Others may be logged in by now: it is what was configured that is compared.
        let later = Settings { allowlist: Vec::new(), ..settings(SOUND) };
        assert!(sound.fixed_differences(&later).is_empty());
        // Each is named, not the first alone.
        let both = SOUND.replace("[listen]", "[listen]\nworkers = 7\nbacklog = 7");
        let both = sound.fixed_differences(&settings(&both));
        assert_eq!(both, ["listen.workers", "listen.backlog"]);
    }

    #[test]
    fn interfaces_are_patterns() {
        let table = |keys: &str| format!("{SOUND}[[kernel.interface]]\n{keys}\n");
        for sound in [
            format!("{SOUND}[kernel]\ninterfaces = [\"eth*\", \"eth0\"]\n"),
            table("name = \"eth*\"\nrole = \"internet\"\nrequired = true\nbeneath = true"),
        ] {
            assert_eq!(problems(&sound), Vec::<String>::new());
        }
        for (text, part) in [
            (format!("{SOUND}[kernel]\ninterfaces = [\"a b\"]\n"), "a b"),
            (format!("{SOUND}[kernel]\ninterfaces = [\"e\", \"e\"]\n"), "twice"),
            (table("name = \"\""), "empty"),
        ] {
            assert!(problems(&text).iter().any(|problem| problem.contains(part)), "{text}");
        }
        let text =
            table("name = \"eth0\"\nrole = \"internet\"") + "[kernel]\ninterfaces = [\"lan*\"]";
        let file = ConfigFile::parse(Path::new("f.toml"), &text).unwrap();
        let settings = Settings::of(file).unwrap();
        let [eth0, lan] = settings.interfaces.as_slice() else { panic!() };
        assert_eq!((eth0.role, lan.role), (Role::Internet, Role::Lan));
        assert_eq!((eth0.is_required, lan.is_required), (false, false));
    }

    #[test]
    fn limits_at_their_bounds() {
        for (key, accepted, refused) in [
            ("json_depth", [1, 1024], [0, 1025]),
            ("head_fields", [1, 1000], [0, 1001]),
            ("head_octets", [8192, 1 << 20], [255, (1 << 20) + 1]),
        ] {
            for value in accepted {
                let text = format!("{SOUND}[limits]\n{key} = {value}\n");
                assert_eq!(problems(&text), Vec::<String>::new(), "{key} = {value}");
            }
            for value in refused {
                let text = format!("{SOUND}[limits]\n{key} = {value}\n");
                assert!(problems(&text).iter().any(|p| p.contains(key)), "{key} = {value}");
            }
        }
    }
}
