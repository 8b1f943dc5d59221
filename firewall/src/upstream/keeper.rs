//! The task that keeps the endpoints of all upstreams: looks up their names, asks whether they are
//! well, ejects those that fail. One in the process; workers tell it by counters that they share.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use super::ejection::{Change, Found, Record, tend};
use super::endpoint::{Endpoint, EndpointState, Shared, Upstream};
use super::tls::UpstreamTls;
use super::{Resolve, UpstreamSettings, probe, resolve};
use crate::clock::Monotonic;
use crate::metrics::Metrics;

/// How often it is looked whether an ejection is over.
const TICK: Duration = Duration::from_millis(200);
/// The longest that a start or a reload waits for name servers; what is found later is used then.
const FIRST_ANSWERS: Duration = Duration::from_secs(5);

/// All upstreams of the process, of whichever generation; each lives as long as a generation has it.
#[derive(Clone)]
pub struct Upstreams(Arc<Inner>);

struct Inner {
    known: Mutex<Vec<Weak<Shared>>>,
    alarm: Arc<Notify>,
    resolve: Arc<Resolve>,
    metrics: Arc<Metrics>,
}

impl Upstreams {
    /// Finds addresses by `resolve`.
    pub fn new(resolve: Arc<Resolve>, metrics: Arc<Metrics>) -> Self {
        let alarm = Arc::default();
        Self(Arc::new(Inner { known: Mutex::default(), alarm, resolve, metrics }))
    }

    /// The same with the system's resolver.
    pub fn of_the_system(metrics: Arc<Metrics>) -> Self {
        Self::new(resolve::system(), metrics)
    }

    /// The upstream of this API, with what is known of its endpoints where a generation that still
    /// lives has configured it alike.
    pub fn of(&self, api: &str, settings: UpstreamSettings, tls: Option<UpstreamTls>) -> Upstream {
        let mut known = self.known();
        known.retain(|known| known.strong_count() > 0);
        let alike = known
            .iter()
            .filter_map(Weak::upgrade)
            .find(|known| *known.api == *api && known.settings == settings && known.tls == tls);
        if let Some(alike) = alike {
            return Upstream(alike);
        }
        let upstream = Upstream::new(api, settings, tls, Arc::clone(&self.0.alarm));
        known.push(Arc::downgrade(&upstream.0));
        drop(known);
        self.0.alarm.notify_one();
        upstream
    }

    /// Waits until the names of these upstreams have been looked up once, though not for long. Needs
    /// [`Upstreams::run`] to run.
    pub async fn settled(&self, upstreams: impl Iterator<Item = &Upstream>) {
        let all = async {
            for upstream in upstreams {
                upstream.settled().await;
            }
        };
        if timeout(FIRST_ANSWERS, all).await.is_err() {
            tracing::warn!("not every name of an upstream is looked up yet");
        }
    }

    /// Keeps the endpoints until it is dropped; on a `LocalSet`.
    pub async fn run(self) {
        let mut kept: Vec<Kept> = Vec::new();
        loop {
            let alive: Vec<Arc<Shared>> = self.known().iter().filter_map(Weak::upgrade).collect();
            let mut gone = Vec::new();
            kept.retain_mut(|kept| {
                let is_alive = kept.upstream.strong_count() > 0;
                if !is_alive {
                    gone.append(&mut kept.endpoints);
                }
                is_alive
            });
            for shared in &alive {
                let is_kept = |kept: &Kept| kept.upstream.as_ptr() == Arc::as_ptr(shared);
                if !kept.iter().any(is_kept) {
                    kept.push(Kept::new(shared, &self.0.resolve, &self.0.metrics));
                }
            }
            drop(alive);
            let now = Monotonic::now();
            for kept in &mut kept {
                kept.tend(now, &mut gone);
            }
            // Consumed, so that no check of theirs is left to show them again.
            for gone in gone.into_iter().filter(|gone| !kept.iter().any(|kept| kept.has(gone))) {
                self.0.metrics.forget_endpoint(&gone.api, gone.endpoint.label());
            }
            // What a generation to which one may return has under the same name counts less.
            kept.iter().for_each(Kept::show);
            // Either way it is looked again.
            drop(timeout(TICK, self.0.alarm.notified()).await);
        }
    }

    fn known(&self) -> MutexGuard<'_, Vec<Weak<Shared>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that ends with whoever has started it.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One upstream, and what goes on for it.
struct Kept {
    upstream: Weak<Shared>,
    metrics: Arc<Metrics>,
    endpoints: Vec<Tended>,
    records: Vec<Record>,
    _following: Option<Task>,
}

/// One endpoint, and whoever asks whether it is well.
struct Tended {
    api: Arc<str>,
    endpoint: Arc<Endpoint>,
    _probe: Option<Task>,
}

impl Kept {
    fn new(shared: &Arc<Shared>, resolve: &Arc<Resolve>, metrics: &Arc<Metrics>) -> Self {
        let upstream = Arc::downgrade(shared);
        let following = shared.settings.names().next().map(|_| {
            let following = resolve::follow(Weak::clone(&upstream), Arc::clone(resolve));
            Task(spawn_local(following).abort_handle())
        });
        Self {
            upstream,
            metrics: Arc::clone(metrics),
            endpoints: Vec::new(),
            records: Vec::new(),
            _following: following,
        }
    }

    fn show(&self) {
        for Tended { api, endpoint, .. } in &self.endpoints {
            show(&self.metrics, api, endpoint);
        }
    }

    /// Whether an endpoint here is called the same in logs and metrics.
    fn has(&self, other: &Tended) -> bool {
        let is_alike =
            |own: &Tended| own.api == other.api && own.endpoint.label() == other.endpoint.label();
        self.endpoints.iter().any(is_alike)
    }

    fn tend(&mut self, now: Monotonic, gone: &mut Vec<Tended>) {
        let Some(shared) = self.upstream.upgrade() else { return };
        self.follow(&shared, gone);
        let rules = &shared.settings.ejection;
        let endpoints = &self.endpoints;
        let found = |place: usize| match endpoints.get(place).map(|tended| &tended.endpoint) {
            Some(endpoint) if endpoint.state() == EndpointState::Down => Found::Down,
            Some(endpoint) if endpoint.failures() >= rules.failures => Found::Failing,
            _ => Found::Sound,
        };
        let api = &*shared.api;
        for change in tend(rules, &mut self.records, now, found) {
            let (Change::Ejected { place, .. } | Change::Returned { place }) = change;
            let Some(Tended { endpoint, .. }) = self.endpoints.get(place) else { continue };
            match change {
                Change::Ejected { lasting, .. } => {
                    endpoint.set_ejected(true);
                    self.metrics.ejections.with_label_values(&[api, endpoint.label()]).inc();
                    let (endpoint, failures) = (&**endpoint.label(), endpoint.failures());
                    tracing::warn!(api, endpoint, failures, ?lasting, "an endpoint is ejected");
                }
                Change::Returned { .. } => {
                    // One more failure, and it goes again.
                    endpoint.set_failures(rules.failures.saturating_sub(1));
                    endpoint.set_ejected(false);
                    let endpoint = &**endpoint.label();
                    tracing::info!(api, endpoint, "an endpoint is tried again");
                }
            }
        }
    }

    /// Takes up endpoints that are new, and gives those that are no more.
    fn follow(&mut self, shared: &Arc<Shared>, all_gone: &mut Vec<Tended>) {
        let present = shared.endpoints();
        let is_same = present.len() == self.endpoints.len()
            && present
                .iter()
                .zip(&self.endpoints)
                .all(|(one, tended)| Arc::ptr_eq(one, &tended.endpoint));
        if is_same {
            return;
        }
        let mut earlier: Vec<(Tended, Record)> =
            self.endpoints.drain(..).zip(self.records.drain(..)).collect();
        for endpoint in &*present {
            let place =
                earlier.iter().position(|(tended, _)| Arc::ptr_eq(&tended.endpoint, endpoint));
            let (tended, record) = match place {
                Some(place) => earlier.swap_remove(place),
                None => (self.take_up(shared, endpoint), Record::default()),
            };
            self.endpoints.push(tended);
            self.records.push(record);
        }
        for (gone, _) in earlier {
            let (api, endpoint) = (&*shared.api, &**gone.endpoint.label());
            tracing::info!(api, endpoint, "an endpoint is no more");
            all_gone.push(gone);
        }
    }

    fn take_up(&self, shared: &Arc<Shared>, endpoint: &Arc<Endpoint>) -> Tended {
        let api = Arc::clone(&shared.api);
        tracing::debug!(api = &*api, endpoint = &**endpoint.label(), "an endpoint is there");
        let probe = shared.settings.check.clone().map(|rules| {
            let changed = {
                let (api, metrics) = (Arc::clone(&api), Arc::clone(&self.metrics));
                let (endpoint, alarm) = (Arc::clone(endpoint), Arc::clone(&shared.alarm));
                let mut is_first = true;
                move |is_well: bool, reason: String| {
                    endpoint.set_down(!is_well);
                    show(&metrics, &api, &endpoint);
                    let (api, endpoint) = (&*api, &**endpoint.label());
                    if !is_well {
                        // One that is ejected may be needed now.
                        alarm.notify_one();
                        tracing::warn!(api, endpoint, reason, "an endpoint's checks fail");
                    } else if !is_first {
                        tracing::info!(api, endpoint, "an endpoint's checks succeed");
                    }
                    is_first = false;
                }
            };
            let spoken = (shared.settings.protocol, shared.settings.pings);
            let tls = shared.tls.clone();
            let probing = probe::run(Arc::clone(endpoint), tls, spoken, rules, changed);
            Task(spawn_local(probing).abort_handle())
        });
        Tended { api, endpoint: Arc::clone(endpoint), _probe: probe }
    }
}

fn show(metrics: &Metrics, api: &str, endpoint: &Endpoint) {
    let is_up = endpoint.state() == EndpointState::Up;
    metrics.endpoint_up.with_label_values(&[api, endpoint.label()]).set(i64::from(is_up));
}
