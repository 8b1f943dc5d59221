//! Every metric, its name and its labels.
//!
//! Handles are resolved when a contract is compiled, so that a request adds to counters and looks
//! nothing up. No label holds an address or anything else that a client chooses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::violation::{Rule, Stage};

/// What became of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It kept its contract, or nothing looked.
    Passed,
    /// It broke the contract and passed, in observe mode.
    Observed,
    /// It was refused.
    Refused,
    /// The upstream gave no answer.
    Failed,
    /// The client left before there was an answer.
    Abandoned,
}

impl Outcome {
    pub const ALL: [Self; 5] =
        [Self::Passed, Self::Observed, Self::Refused, Self::Failed, Self::Abandoned];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Observed => "observed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The counters of one operation.
#[derive(Clone, Debug)]
pub struct OperationMetrics {
    /// The API's and the operation's name, shared with every log line that mentions them.
    pub api: Arc<str>,
    pub name: Arc<str>,
    outcomes: [IntCounter; 5],
    pub duration: Histogram,
}

impl OperationMetrics {
    pub fn outcome(&self, outcome: Outcome) -> &IntCounter {
        let [passed, observed, refused, failed, abandoned] = &self.outcomes;
        match outcome {
            Outcome::Passed => passed,
            Outcome::Observed => observed,
            Outcome::Refused => refused,
            Outcome::Failed => failed,
            Outcome::Abandoned => abandoned,
        }
    }
}

/// The counters of one API, or of what belongs to none.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    /// Of requests that no operation matched.
    pub unmatched: OperationMetrics,
    rules: Arc<[RuleMetrics]>,
}

impl ApiMetrics {
    /// Counts one message against `rule`.
    pub fn violation(&self, rule: Rule, outcome: Outcome) {
        let place = Rule::ALL.iter().position(|known| *known == rule);
        let Some(metrics) = place.and_then(|place| self.rules.get(place)) else { return };
        match outcome {
            Outcome::Observed => metrics.observed.inc(),
            _ => metrics.refused.inc(),
        }
    }
}

/// The counters of one rule.
#[derive(Debug)]
struct RuleMetrics {
    refused: IntCounter,
    observed: IntCounter,
}

/// The process's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    violations: IntCounterVec,
    /// By the names of APIs; those of earlier generations stay, as their counters do.
    rules: Mutex<BTreeMap<Arc<str>, Arc<[RuleMetrics]>>>,
    pub connections: IntGauge,
    pub connections_total: IntCounter,
    pub connections_refused: IntCounterVec,
    pub connections_ended: IntCounterVec,
    pub exchanges_ended: IntCounterVec,
    pub tls_handshakes: IntCounterVec,
    pub tls_hellos: IntCounterVec,
    pub tls_not_after: IntGaugeVec,
    pub tunnels: IntGaugeVec,
    pub tunnels_ended: IntCounterVec,
    pub tunnel_octets: IntCounterVec,
    pub upstream_connections: IntCounterVec,
    pub upstream_errors: IntCounterVec,
    pub upstream_retries: IntCounterVec,
    pub endpoint_up: IntGaugeVec,
    pub ejections: IntCounterVec,
    pub access_log_dropped: IntCounter,
    pub audit_log_dropped: IntCounter,
    pub exceptions: IntCounterVec,
    pub bans: IntGaugeVec,
    pub ban_events: IntCounterVec,
    pub offences_unheard: IntCounterVec,
    pub keeper_errors: IntCounterVec,
    pub kernel_attach_mode: IntGaugeVec,
    pub interface_events: IntCounterVec,
    pub required_unattached: IntGauge,
    pub loader_absent: IntGauge,
    pub kernel_packets: IntCounterVec,
    pub kernel_bytes: IntCounterVec,
    pub kernel_events: IntCounterVec,
    pub kernel_events_lost: IntCounter,
    pub stale_passed: IntCounter,
    pub rolled_back: IntGauge,
    pub captures_missed: IntCounter,
    pub pressure_level: IntGauge,
    pub good_standing: IntGauge,
    pub new_connections: IntCounter,
    pub new_connections_spared: IntCounter,
    pub reloads: IntCounterVec,
    pub last_reload_successful: IntGauge,
    pub generation: IntGauge,
    pub panic_allow: IntGauge,
    pub feed_entries: IntGaugeVec,
    pub feed_age: IntGaugeVec,
    pub feed_refreshes: IntCounterVec,
}

/// Seconds; the firewall's own share is tens of microseconds, an upstream's may be minutes.
const DURATION_BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// A metric whose name is wrong or taken is a bug that the first start, and every test, would show.
const NAMED_ONCE: &str = "every metric is named once, by the rules of the text format";

fn registered<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> C {
    registry.register(Box::new(metric.clone())).expect(NAMED_ONCE);
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help).expect(NAMED_ONCE))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels).expect(NAMED_ONCE))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help).expect(NAMED_ONCE))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels).expect(NAMED_ONCE))
}

/// Brings a counter up to what the kernel or the keeper, who count themselves, have reached.
pub fn advance(counter: &IntCounter, reached: u64) {
    counter.inc_by(reached.saturating_sub(counter.get()));
}

impl Metrics {
    /// # Panics
    ///
    /// If two metrics have one name, which every start would show.
    #[expect(clippy::too_many_lines, reason = "a table: each metric is said once")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let build = gauges(r, "firewall_build_info", "The version that runs.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let duration = HistogramOpts::new(
            "firewall_http_request_duration_seconds",
            "From the request's head to the answer's last octet.",
        );
        let durations =
            HistogramVec::new(duration.buckets(DURATION_BUCKETS.to_vec()), &["api", "operation"]);
        Self {
            requests: counters(
                r,
                "firewall_http_requests_total",
                "Exchanges, by API, operation and outcome.",
                &["api", "operation", "outcome"],
            ),
            durations: registered(r, durations.expect(NAMED_ONCE)),
            violations: counters(
                r,
                "firewall_contract_violations_total",
                "Messages against a rule, by API, by rule and by what was done.",
                &["api", "rule", "action"],
            ),
            rules: Mutex::default(),
            connections: gauge(r, "firewall_connections", "Open client connections."),
            connections_total: counter(r, "firewall_connections_total", "Accepted connections."),
            connections_refused: counters(
                r,
                "firewall_connections_refused_total",
                "Connections closed at accept or early, by reason.",
                &["reason"],
            ),
            connections_ended: counters(
                r,
                "firewall_connections_ended_total",
                "Connections that were let in and that the firewall ended by itself, by reason.",
                &["reason"],
            ),
            exchanges_ended: counters(
                r,
                "firewall_http_exchanges_ended_total",
                "Exchanges that were given up with their connection or stream, by reason.",
                &["reason"],
            ),
            tls_handshakes: counters(
                r,
                "firewall_tls_handshakes_total",
                "Handshakes that came to a good end, by version, and whether a session went on.",
                &["version", "kind"],
            ),
            tls_hellos: counters(
                r,
                "firewall_tls_client_hellos_total",
                "First messages of clients, by the first four characters of JA4.",
                &["offered"],
            ),
            tls_not_after: gauges(
                r,
                "firewall_tls_certificate_not_after_seconds",
                "When a certificate, its OCSP status or a revocation list ends, in seconds since 1970.",
                &["kind", "file"],
            ),
            tunnels: gauges(r, "firewall_tunnels", "Upgraded connections that are open.", &["api"]),
            tunnels_ended: counters(
                r,
                "firewall_tunnels_ended_total",
                "Upgraded connections that ended, by why.",
                &["api", "reason"],
            ),
            tunnel_octets: counters(
                r,
                "firewall_tunnel_octets_total",
                "Octets that passed through upgraded connections: up from clients, down to them.",
                &["api", "direction"],
            ),
            upstream_connections: counters(
                r,
                "firewall_upstream_connections_total",
                "Connections to the upstream, new or taken from the pool.",
                &["api", "origin"],
            ),
            upstream_errors: counters(
                r,
                "firewall_upstream_errors_total",
                "Exchanges that the upstream gave no answer to, or no whole one, by reason.",
                &["api", "reason"],
            ),
            upstream_retries: counters(
                r,
                "firewall_upstream_retries_total",
                "Requests that another endpoint got: unsent to the first, or replayed.",
                &["api", "reason"],
            ),
            endpoint_up: gauges(
                r,
                "firewall_upstream_endpoint_up",
                "1 for an endpoint that gets requests; 0 for one that is ejected or whose checks fail.",
                &["api", "endpoint"],
            ),
            ejections: counters(
                r,
                "firewall_upstream_ejections_total",
                "How often an endpoint was ejected because requests to it failed.",
                &["api", "endpoint"],
            ),
            access_log_dropped: counter(
                r,
                "firewall_access_log_dropped_total",
                "Lines that the log's writer could not take in time.",
            ),
            audit_log_dropped: counter(
                r,
                "firewall_audit_log_dropped_total",
                "Refused answers that the disk was too slow to take down.",
            ),
            exceptions: counters(
                r,
                "firewall_exceptions_total",
                "Exceptions in answers against the contract, by kind.",
                &["exception"],
            ),
            bans: gauges(r, "firewall_bans", "Bans in force, by origin.", &["origin"]),
            ban_events: counters(
                r,
                "firewall_ban_events_total",
                "Bans made, extended, evicted and written to the kernel again.",
                &["action"],
            ),
            offences_unheard: counters(
                r,
                "firewall_offences_unheard_total",
                "Offences without a score, or acknowledged too late, by reason.",
                &["reason"],
            ),
            keeper_errors: counters(
                r,
                "firewall_ban_keeper_errors_total",
                "Reads and writes that failed, of the kernel's tables and of the state file.",
                &["component"],
            ),
            kernel_attach_mode: gauges(
                r,
                "firewall_xdp_attach_mode",
                "1 for the mode in which the program is attached.",
                &["interface", "mode"],
            ),
            interface_events: counters(
                r,
                "firewall_interface_events_total",
                "What happened to interfaces; missed: the kernel had more to tell than there was \
                 room for, and all were listed anew.",
                &["event"],
            ),
            required_unattached: gauge(
                r,
                "firewall_required_interfaces_unattached",
                "Required interfaces that nothing is attached to.",
            ),
            loader_absent: gauge(
                r,
                "firewall_loader_absent",
                "1 while the loader that is configured does not answer.",
            ),
            kernel_packets: counters(
                r,
                "firewall_xdp_packets_total",
                "Packets by interface, family and what the kernel program found, and whether it acted on it.",
                &["interface", "family", "reason", "action"],
            ),
            kernel_bytes: counters(
                r,
                "firewall_xdp_bytes_total",
                "Octets of those packets.",
                &["interface", "family", "reason", "action"],
            ),
            kernel_events: counters(
                r,
                "firewall_ring_events_total",
                "Sampled drop events that came up from the kernel.",
                &["reason"],
            ),
            kernel_events_lost: counter(
                r,
                "firewall_ring_lost_total",
                "Drop events for which the ring buffer had no room.",
            ),
            rolled_back: gauge(
                r,
                "firewall_xdp_rolled_back",
                "1 while an earlier kernel program is attached, this one having done wrong.",
            ),
            stale_passed: counter(
                r,
                "firewall_stale_passed_packets_total",
                "Packets that would have been dropped, and passed because no daemon was there.",
            ),
            captures_missed: counter(
                r,
                "firewall_capture_missed_total",
                "Events that a capture in progress was too slow for.",
            ),
            pressure_level: gauge(
                r,
                "firewall_pressure_level",
                "0 to 3: how hard the firewall is pressed, and so what of strangers' new connections it sheds.",
            ),
            good_standing: gauge(r, "firewall_good_standing", "Sources in good standing."),
            new_connections: counter(
                r,
                "firewall_xdp_new_connections_total",
                "SYNs that came as far as the budgets.",
            ),
            new_connections_spared: counter(
                r,
                "firewall_xdp_new_connections_spared_total",
                "Those of them that would have been shed but for the good standing of their source.",
            ),
            reloads: counters(r, "firewall_reloads_total", "Reloads, by result.", &["result"]),
            last_reload_successful: gauge(
                r,
                "firewall_config_last_reload_successful",
                "1 if the newest configuration is the one in force.",
            ),
            generation: gauge(r, "firewall_generation", "The generation of policy in force."),
            panic_allow: gauge(
                r,
                "firewall_panic_allow",
                "1 while everything passes by an operator's order.",
            ),
            feed_entries: gauges(
                r,
                "firewall_feed_entries",
                "Prefixes of a feed that are in force.",
                &["feed"],
            ),
            feed_age: gauges(
                r,
                "firewall_feed_age_seconds",
                "The time since a feed's origin said what is in force.",
                &["feed"],
            ),
            feed_refreshes: counters(
                r,
                "firewall_feed_refreshes_total",
                "Attempts to renew a feed: changed, unchanged, failed, or held for an operator.",
                &["feed", "result"],
            ),
            registry,
        }
    }

    /// Drops the gauges of a feed that is no more; what was counted stays.
    pub fn forget_feed(&self, name: &str) {
        for gauge in [&self.feed_entries, &self.feed_age] {
            // It may never have been set.
            drop(gauge.remove_label_values(&[name]));
        }
    }

    /// Drops what is counted of an endpoint that is no more: names may have ever new addresses.
    pub fn forget_endpoint(&self, api: &str, endpoint: &str) {
        // It may never have been set.
        drop(self.endpoint_up.remove_label_values(&[api, endpoint]));
        drop(self.ejections.remove_label_values(&[api, endpoint]));
    }

    /// The counters of one operation of an API, by their names; all without a name are for requests
    /// that are none's.
    pub fn operation(&self, api: &str, name: &str) -> OperationMetrics {
        OperationMetrics {
            api: Arc::from(api),
            name: Arc::from(name),
            outcomes: Outcome::ALL
                .map(|outcome| self.requests.with_label_values(&[api, name, outcome.name()])),
            duration: self.durations.with_label_values(&[api, name]),
        }
    }

    /// The counters of an API, by its name; without one, of what is none's.
    pub fn api(&self, name: &str) -> ApiMetrics {
        let counted = |rule: &Rule| {
            let counter = |action| self.violations.with_label_values(&[name, rule.id(), action]);
            RuleMetrics { refused: counter("refused"), observed: counter("observed") }
        };
        let mut known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let rules =
            known.entry(name.into()).or_insert_with(|| Rule::ALL.iter().map(counted).collect());
        ApiMetrics { unmatched: self.operation(name, ""), rules: Arc::clone(rules) }
    }

    /// The text exposition format, version 0.0.4.
    pub fn exposition(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// Refused and observed messages so far, of the stages that judge requests.
    pub fn violations(&self) -> u64 {
        let known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .values()
            .flat_map(|rules| Rule::ALL.iter().zip(&**rules))
            .filter(|(rule, _)| rule.stage() != Stage::Response)
            .map(|(_, metrics)| metrics.refused.get() + metrics.observed.get())
            .sum()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposition_has_the_handles_that_were_counted() {
        let metrics = Metrics::new();
        let operation = metrics.operation("shop", "getProduct");
        operation.outcome(Outcome::Passed).inc();
        let api = metrics.api("shop");
        api.violation(Rule::BodySchema, Outcome::Refused);
        api.violation(Rule::BodySchema, Outcome::Observed);
        api.violation(Rule::ResponseSchema, Outcome::Refused);
        metrics.api("").violation(Rule::Misdirected, Outcome::Refused);
        let text = String::from_utf8(metrics.exposition().unwrap()).unwrap();
        for line in [
            r#"firewall_http_requests_total{api="shop",operation="getProduct",outcome="passed"} 1"#,
            r#"firewall_contract_violations_total{action="refused",api="shop",rule="body.schema"} 1"#,
            r#"firewall_contract_violations_total{action="observed",api="shop",rule="body.schema"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(metrics.violations(), 3);
    }
}
