//! The configuration as meant: every limit a number, every address resolved, nothing left to decide.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZero, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::access_log::LogTarget;
use crate::ban::keeper::BanMode;
use crate::control::config::{ConfigFile, Limits, loopback};
use crate::kernel::Reason;
use crate::pipeline::ruleset::{ExchangeLimits, Mode};
use crate::upstream::{Upstream, UpstreamAddressError, UpstreamLimits};

/// More workers than this is a mistake, not a machine.
const WORKERS_MAX: usize = 256;

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

/// What the daemon runs by. Those parts that a reload may change are read from here each time.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    pub workers: NonZeroUsize,
    pub backlog: u16,
    pub limits: Limits,
    pub api: ApiSettings,
    pub trusted_proxies: Vec<IpNet>,
    pub bans: crate::control::config::Bans,
    /// Never banned, never dropped: configured, loopback and the host's own addresses.
    pub management: Vec<IpNet>,
    pub interfaces: Vec<String>,
    pub pin_dir: PathBuf,
    pub kernel_log: KernelLog,
    pub kernel_checks: Vec<(Reason, Mode)>,
    pub state_dir: Option<PathBuf>,
    pub admin_socket: PathBuf,
    pub metrics: Option<SocketAddr>,
    pub access_log: LogTarget,
}

/// One API as configured.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    pub name: String,
    pub spec: PathBuf,
    pub upstream: Upstream,
    pub requests: Mode,
    pub responses: Mode,
    pub unenforced: std::collections::BTreeSet<String>,
}

/// A value is of its type, and yet cannot be meant.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(
        "api: expected exactly one, found {found}; several APIs in one instance are not supported yet"
    )]
    Apis { found: usize },
    #[error("api.upstream of {api:?}")]
    Upstream { api: String, source: UpstreamAddressError },
    #[error("{key}: expected {expected}, found {found}")]
    Bound { key: &'static str, expected: &'static str, found: usize },
    #[error("kernel.checks: {found:?} is no check: expected one of {}", known_checks())]
    Check { found: String },
    #[error("the host's own addresses cannot be read")]
    OwnAddresses { source: std::io::Error },
}

impl Settings {
    /// Decides what the file leaves open. Reads the host's addresses, but no other file.
    pub fn of(file: ConfigFile) -> Result<Self, SettingsError> {
        // Knows the affinity mask and the cgroup's quota.
        let cpus = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let workers = file.listen.workers.unwrap_or_else(cpus);
        bound("listen.workers", "1 to 256", workers, 1, WORKERS_MAX)?;
        let limits = file.limits;
        bound("limits.json_depth", "1 to 1024", limits.json_depth, 1, 1024)?;
        bound("limits.head_octets", "256 to 1048576", limits.head_octets, 256, 1 << 20)?;
        bound("limits.head_fields", "1 to 1000", limits.head_fields, 1, 1000)?;
        bound(
            "limits.target_octets",
            "1 to head_octets",
            limits.target_octets,
            1,
            limits.head_octets,
        )?;
        let most = usize::MAX;
        bound(
            "limits.connections_per_worker",
            "at least 1",
            limits.connections_per_worker,
            1,
            most,
        )?;
        bound(
            "limits.connections_per_source",
            "at least 1",
            limits.connections_per_source,
            1,
            most,
        )?;
        bound("bans.durations", "at least one", file.bans.durations.len(), 1, 64)?;
        bound("bans.threshold", "at least 1", file.bans.threshold as usize, 1, most)?;
        let kernel_checks = checks(&file.kernel.checks)?;
        let found = file.api.len();
        let [api] =
            <[_; 1]>::try_from(file.api).map_err(|_several| SettingsError::Apis { found })?;
        let upstream_limits = UpstreamLimits {
            connect_timeout: api.upstream_limits.connect_timeout.0,
            idle_timeout: api.upstream_limits.idle_timeout.0,
            connections: api.upstream_limits.connections,
        };
        bound(
            "api.upstream_limits.connections",
            "1 to 65536",
            upstream_limits.connections,
            1,
            65_536,
        )?;
        let upstream = Upstream::parse(&api.upstream, upstream_limits)
            .map_err(|source| SettingsError::Upstream { api: api.name.clone(), source })?;
        let mut management = file.management.allow;
        if file.management.loopback {
            management.extend(loopback());
        }
        if file.management.own_addresses {
            let own = own_addresses().map_err(|source| SettingsError::OwnAddresses { source })?;
            // Loopback is ruled by its own key.
            management.extend(own.into_iter().filter(|net| !net.addr().is_loopback()));
        }
        management.sort_unstable();
        management.dedup();
        Ok(Self {
            listen: file.listen.address,
            workers: NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN),
            backlog: file.listen.backlog,
            limits,
            api: ApiSettings {
                name: api.name,
                spec: api.spec,
                upstream,
                requests: api.requests,
                responses: api.responses,
                unenforced: api.unenforced,
            },
            trusted_proxies: file.clients.trusted_proxies,
            bans: file.bans,
            management,
            interfaces: file.kernel.interfaces,
            pin_dir: file.kernel.pin_dir,
            kernel_log: file.kernel.log,
            kernel_checks,
            state_dir: file.state.dir,
            admin_socket: file.admin.socket,
            metrics: file.metrics.listen,
            access_log: match file.log.access.as_str() {
                "stdout" => LogTarget::Stdout,
                "off" => LogTarget::Off,
                path => LogTarget::File(PathBuf::from(path).into()),
            },
        })
    }

    /// Whom no ban reaches, in either plane.
    pub fn exempt(&self) -> impl Iterator<Item = IpNet> {
        self.management.iter().chain(&self.trusted_proxies).copied()
    }

    pub fn exchange_limits(&self) -> ExchangeLimits {
        ExchangeLimits {
            body_timeout: self.limits.body_timeout.0,
            response_timeout: self.limits.response_timeout.0,
            response_body_timeout: self.limits.response_body_timeout.0,
        }
    }

    /// The first key that differs from `other` and that a running daemon cannot change.
    pub fn fixed_difference(&self, other: &Self) -> Option<&'static str> {
        let differences = [
            ("listen.address", self.listen != other.listen),
            ("listen.workers", self.workers != other.workers),
            ("listen.backlog", self.backlog != other.backlog),
            (
                "limits (of connections and heads)",
                connection_limits(&self.limits) != connection_limits(&other.limits),
            ),
            ("bans", self.bans != other.bans),
            ("management", self.management != other.management),
            ("clients.trusted_proxies", self.trusted_proxies != other.trusted_proxies),
            ("kernel.interfaces", self.interfaces != other.interfaces),
            ("kernel.pin_dir", self.pin_dir != other.pin_dir),
            ("kernel.log", self.kernel_log != other.kernel_log),
            ("kernel.checks", self.kernel_checks != other.kernel_checks),
            ("state.dir", self.state_dir != other.state_dir),
            ("admin.socket", self.admin_socket != other.admin_socket),
            ("metrics.listen", self.metrics != other.metrics),
            ("log.access", self.access_log != other.access_log),
        ];
        differences.into_iter().find_map(|(key, differs)| differs.then_some(key))
    }
}

/// The limits that connections are opened with.
fn connection_limits(limits: &Limits) -> (usize, usize, usize, usize, usize, [Duration; 3]) {
    (
        limits.connections_per_worker,
        limits.connections_per_source,
        limits.head_octets,
        limits.head_fields,
        limits.target_octets,
        [limits.head_timeout.0, limits.idle_timeout.0, limits.drain_timeout.0],
    )
}

/// The checks whose mode may be set: bans have a mode of their own.
fn settable(reason: Reason) -> bool {
    !matches!(reason, Reason::Passed | Reason::Allowed | Reason::Ban | Reason::BanRange)
}

fn known_checks() -> String {
    let known = Reason::ALL.iter().filter(|reason| settable(**reason));
    known.map(|reason| reason.id()).collect::<Vec<_>>().join(", ")
}

fn checks(written: &BTreeMap<String, Mode>) -> Result<Vec<(Reason, Mode)>, SettingsError> {
    let check = |(name, mode): (&String, &Mode)| {
        let known = Reason::ALL.iter().find(|reason| reason.id() == name && settable(**reason));
        let unknown = || SettingsError::Check { found: name.clone() };
        Ok((*known.ok_or_else(unknown)?, *mode))
    };
    written.iter().map(check).collect()
}

fn bound(
    key: &'static str,
    expected: &'static str,
    found: usize,
    least: usize,
    most: usize,
) -> Result<(), SettingsError> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(SettingsError::Bound { key, expected, found })
    }
}

/// The addresses of every interface in this network namespace, each as a single host.
fn own_addresses() -> std::io::Result<Vec<IpNet>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let addresses = interfaces.filter_map(|interface| interface.address).filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    Ok(addresses.map(IpNet::from).collect())
}

/// Which bans are enforced, as a word.
pub fn ban_mode_name(mode: BanMode) -> &'static str {
    match mode {
        BanMode::Enforce => "enforce",
        BanMode::Observe => "observe",
        BanMode::Off => "off",
    }
}
