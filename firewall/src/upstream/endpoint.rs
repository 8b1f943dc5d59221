//! The endpoints of an upstream, and what is known of them: shared by all workers, which read it, and
//! the keeper, which finds it out.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use super::address::{EndpointAddress, Scheme};
use super::tls::UpstreamTls;
use super::{EndpointSettings, UpstreamSettings};

/// It gets no requests since requests to it failed.
const EJECTED: u8 = 1;
/// It gets none since its checks fail.
const DOWN: u8 = 2;

/// Where an endpoint's connections lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(Arc<Path>),
}

/// One place that requests may be sent to.
#[derive(Debug)]
pub struct Endpoint {
    label: Arc<str>,
    pub(super) target: Target,
    pub(super) scheme: Scheme,
    /// The name that it was found by, where it was.
    pub(super) name: Option<Arc<str>>,
    pub(super) weight: u32,
    state: AtomicU8,
    /// In a row.
    failures: AtomicU32,
}

/// Whether an endpoint gets requests, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    Up,
    /// Requests to it failed.
    Ejected,
    /// Its checks fail.
    Down,
}

impl Endpoint {
    fn new(configured: &EndpointSettings, target: Target) -> Self {
        let EndpointSettings { address, scheme, weight } = configured;
        let name = address.name().cloned();
        let label = match (&name, &target) {
            (None, _) => address.to_string(),
            (Some(name), Target::Tcp(address)) => format!("{name}/{address}"),
            (Some(name), Target::Unix(_)) => name.to_string(),
        };
        Self {
            label: label.into(),
            target,
            scheme: *scheme,
            name,
            weight: *weight,
            state: AtomicU8::new(0),
            failures: AtomicU32::new(0),
        }
    }

    /// What it is called in logs and metrics: `10.0.0.1:9000`, `api.internal/10.0.0.1:9000`,
    /// `unix:/run/api.sock`.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// What names it in a `Host` that nobody else gives.
    pub(super) fn authority(&self) -> String {
        match (&self.target, &self.name) {
            (Target::Unix(_), _) => "localhost".to_owned(),
            (Target::Tcp(address), None) => address.to_string(),
            (Target::Tcp(address), Some(name)) => match (self.scheme, address.port()) {
                (Scheme::Plain, 80) | (Scheme::Tls, 443) => name.to_string(),
                (_, port) => format!("{name}:{port}"),
            },
        }
    }

    pub fn state(&self) -> EndpointState {
        match self.state.load(Ordering::Relaxed) {
            0 => EndpointState::Up,
            state if state & DOWN == DOWN => EndpointState::Down,
            _ => EndpointState::Ejected,
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        self.state.load(Ordering::Relaxed) == 0
    }

    pub(super) fn set_ejected(&self, is_ejected: bool) {
        self.set(EJECTED, is_ejected);
    }

    pub(super) fn set_down(&self, is_down: bool) {
        self.set(DOWN, is_down);
    }

    fn set(&self, bit: u8, is_set: bool) {
        if is_set {
            self.state.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.state.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(super) fn set_failures(&self, failures: u32) {
        self.failures.store(failures, Ordering::Relaxed);
    }

    /// A request to it succeeded. Writes only where that is news: all workers read the line.
    pub(super) fn succeeded(&self) {
        if self.failures() != 0 {
            self.set_failures(0);
        }
    }

    /// A request to it failed, by no fault of the client's; gives how many have in a row.
    pub(super) fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    fn is_like(&self, configured: &EndpointSettings, target: &Target) -> bool {
        self.target == *target
            && self.scheme == configured.scheme
            && self.weight == configured.weight
            && self.name.as_ref() == configured.address.name()
    }
}

/// One API's upstream: as it is configured, and as it was found. Generations that configure it alike
/// share it.
#[derive(Clone, Debug)]
pub struct Upstream(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) api: Arc<str>,
    pub(super) settings: UpstreamSettings,
    pub(super) tls: Option<UpstreamTls>,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    /// One more each time that the endpoints change, so that workers need to look no further.
    version: AtomicU64,
    /// Rings where something is to be looked at now.
    pub(super) alarm: Arc<Notify>,
    /// Whether every name has been looked up once.
    settled: watch::Sender<bool>,
}

impl Upstream {
    pub(super) fn new(
        api: &str,
        settings: UpstreamSettings,
        tls: Option<UpstreamTls>,
        alarm: Arc<Notify>,
    ) -> Self {
        let has_names = settings.names().next().is_some();
        let shared = Shared {
            api: api.into(),
            settings,
            tls,
            endpoints: ArcSwap::default(),
            version: AtomicU64::new(0),
            alarm,
            settled: watch::Sender::new(!has_names),
        };
        let upstream = Self(Arc::new(shared));
        upstream.0.publish(&[]);
        upstream
    }

    pub fn settings(&self) -> &UpstreamSettings {
        &self.0.settings
    }

    /// The endpoints at this moment, in the order of the configuration.
    pub fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.0.endpoints.load_full()
    }

    pub(super) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// Whether both are one, rather than alike.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Waits until every name has been looked up once, found or not.
    pub async fn settled(&self) {
        // What sends is part of what is asked.
        drop(self.0.settled.subscribe().wait_for(|is_settled| *is_settled).await.map(drop));
    }
}

impl Shared {
    pub(super) fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.endpoints.load_full()
    }

    /// Makes these the addresses of the names, in the order of [`UpstreamSettings::names`]; those
    /// endpoints that were there stay what they are.
    pub(super) fn publish(&self, found: &[Vec<SocketAddr>]) {
        let present = self.endpoints.load_full();
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        let mut found = found.iter();
        for configured in &self.settings.endpoints {
            let targets = match &configured.address {
                EndpointAddress::Address(address) => vec![Target::Tcp(*address)],
                EndpointAddress::Socket(path) => vec![Target::Unix(Arc::clone(path))],
                EndpointAddress::Name { .. } => {
                    found.next().into_iter().flatten().copied().map(Target::Tcp).collect()
                }
            };
            for target in targets {
                if endpoints.iter().any(|known| known.target == target) {
                    continue;
                }
                let known = present.iter().find(|known| known.is_like(configured, &target));
                let new = || Arc::new(Endpoint::new(configured, target.clone()));
                endpoints.push(known.map_or_else(new, Arc::clone));
            }
        }
        let is_same = endpoints.len() == present.len()
            && endpoints.iter().zip(&*present).all(|(one, other)| Arc::ptr_eq(one, other));
        if !is_same {
            self.endpoints.store(Arc::new(endpoints));
            self.version.fetch_add(1, Ordering::Release);
            self.alarm.notify_one();
        }
    }

    pub(super) fn settle(&self) {
        self.settled.send_replace(true);
    }
}
