//! What the firewall is doing, as JSON for the admin socket and as gauges for the metrics.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

use crate::ban::feed_set::Listed;
use crate::ban::keeper::{Explanation, KeeperError, KeeperStats};
use crate::clock::Monotonic;
use crate::control::confirmation;
use crate::control::daemon::Control;
use crate::control::pressure;
use crate::control::settings::ban_mode_name;
use crate::control::talkers::Talker;
use crate::kernel::{Counters, Reason};
use crate::metrics::{Metrics, advance};
use crate::pipeline::ruleset::Api;

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// `firewall status`.
pub fn status(control: &Control) -> Value {
    let ruleset = control.rulesets.load();
    let enforcement = control.enforcement.borrow();
    let stats = control.keeper.stats();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "mode": enforcement.mode(),
        "degraded": enforcement.is_degraded(),
        "reasons": enforcement.reasons(),
        "interfaces": enforcement.interfaces(),
        "link_messages": enforcement.link_messages(),
        "loader": enforcement.loader(),
        "pins": enforcement.pins(),
        "pinned": enforcement.is_pinned(),
        "packets": packets(control),
        "events": enforcement.events_seen(),
        "events_lost": enforcement.events_lost(),
        "listen": [control.listening.to_string()],
        "metrics": control.metrics_listening.map(|address| address.to_string()),
        "generation": ruleset.generation,
        "operations": ruleset.apis.iter().map(|api| api.contract.operations().len()).sum::<usize>(),
        "apis": ruleset.apis.iter().map(api).collect::<Vec<_>>(),
        "ban_mode": ban_mode_name(control.keeper.mode()),
        "bans": bans(stats).iter().map(|(_, bans)| bans).sum::<u64>(),
        "bans_by_origin": bans(stats).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "allowlist": control.settings.allowlist,
        "program": enforcement.trial(),
        "stale": {
            "after_seconds": control.settings.stale_after.map(|after| after.as_secs()),
            "passed_packets": enforcement.unattended(),
        },
        "panic_allow": control.panic_allow.borrow().report(Monotonic::now()),
        "unconfirmed": confirmation::report(control),
        "state": stats.persistence(),
        "pressure": control.pressure.borrow().report(),
        "good_standing": read(&stats.standing),
        "offences": read(&stats.offences),
        "violations": control.metrics.violations(),
        "uptime_seconds": Monotonic::now().since(control.started).as_secs(),
    })
}

fn api(api: &Api) -> Value {
    let endpoints = api.upstream.endpoints();
    let endpoints = endpoints
        .iter()
        .map(|endpoint| json!({ "endpoint": **endpoint.label(), "state": endpoint.state() }));
    json!({
        "name": *api.name,
        "operations": api.contract.operations().len(),
        "requests": api.request_mode,
        "responses": api.response_mode,
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

fn bans(stats: &KeeperStats) -> [(&'static str, u64); 4] {
    [
        ("automatic", read(&stats.bans_automatic)),
        ("aggregate", read(&stats.bans_aggregate)),
        ("operator", read(&stats.bans_operator)),
        ("kernel", read(&stats.bans_kernel)),
    ]
}

/// Sources in one answer.
const SOURCES: usize = 64;

/// `firewall top`: what its rates are made of.
pub fn top(control: &Control) -> Value {
    let enforcement = control.enforcement.borrow();
    json!({
        "mode": enforcement.mode(),
        "bans": bans(control.keeper.stats()).iter().map(|(_, bans)| bans).sum::<u64>(),
        "events_lost": enforcement.events_lost(),
        "packets": packets(control),
        "sources": enforcement.talkers().ranking(SOURCES),
    })
}

/// Packets by reason: what was done to them, and what was only observed.
fn packets(control: &Control) -> Value {
    let mut reasons = Map::new();
    for counted in control.enforcement.borrow().counters() {
        reasons.insert(
            counted.reason.into(),
            json!({
                "packets": counted.acted.packets,
                "bytes": counted.acted.bytes,
                "observed_packets": counted.observed.packets,
                "observed_bytes": counted.observed.bytes,
            }),
        );
    }
    Value::Object(reasons)
}

/// `firewall explain`: one address through both planes.
pub async fn explain(control: &Control, address: IpAddr) -> Result<Value, KeeperError> {
    let explanation = control.keeper.explain(address).await?;
    let kernel = control.enforcement.borrow().ban_of(address);
    let allowed_as: Vec<&'static str> = control
        .settings
        .allowlist
        .iter()
        .filter(|allowed| allowed.network.contains(&address.to_canonical()))
        .map(|allowed| allowed.source.name())
        .collect();
    let feeds: Vec<Listing> = control.shared.feeds().all(address).map(Listing::of).collect();
    let sampled = control.enforcement.borrow().talkers().of(address);
    let verdict = match (&explanation.ban, explanation.exempt) {
        _ if control.shared.passes_all() => "everything passes: panic-allow".to_owned(),
        (_, true) => "never banned: it is exempt".to_owned(),
        (None, false) => match feeds.first() {
            Some(Listing { feed, action: "observe" }) => {
                format!("not banned: feed {feed} lists it, which is only observed")
            }
            Some(Listing { feed, .. }) if kernel.is_some() => {
                format!("listed by feed {feed}: the kernel drops its packets")
            }
            Some(Listing { feed, .. }) => {
                format!("listed by feed {feed}: its requests are refused")
            }
            None if kernel.is_some() => "the kernel drops its packets".to_owned(),
            None => "not banned".to_owned(),
        },
        (Some(ban), false) if ban.observed => {
            format!("would be banned as {}: bans are only observed", ban.target)
        }
        (Some(ban), false) => {
            let aggregate = ban.joined.map(|joined| format!(", an aggregate of {joined} bans"));
            let (target, aggregate) = (ban.target, aggregate.unwrap_or_default());
            match kernel {
                Some(_) => format!("banned as {target}{aggregate}: the kernel drops its packets"),
                None => format!("banned as {target}{aggregate}: its requests are refused"),
            }
        }
    };
    Ok(json!(Explained { explanation, verdict, allowed_as, feeds, kernel, sampled }))
}

/// What the keeper knows of an address, and what the kernel holds.
#[derive(serde::Serialize)]
struct Explained {
    #[serde(flatten)]
    explanation: Explanation,
    verdict: String,
    /// Why it is exempt.
    allowed_as: Vec<&'static str>,
    /// The feeds that list it, the one that counts first.
    feeds: Vec<Listing>,
    kernel: Option<Value>,
    /// What the kernel program sampled of its packets lately.
    sampled: Option<Talker>,
}

#[derive(serde::Serialize)]
struct Listing {
    feed: String,
    action: &'static str,
}

impl Listing {
    fn of(listed: &Listed) -> Self {
        let action = if listed.is_observed { "observe" } else { "drop" };
        Self { feed: listed.name.to_string(), action }
    }
}

/// Brings those metrics up to date that others count.
pub fn refresh(control: &Control) {
    let metrics = &control.metrics;
    let stats = control.keeper.stats();
    for (origin, bans) in bans(stats) {
        metrics.bans.with_label_values(&[origin]).set(i64::try_from(bans).unwrap_or(i64::MAX));
    }
    for (action, counter) in [
        ("banned", &stats.banned),
        ("joined", &stats.joined),
        ("evicted", &stats.evicted),
        ("reasserted", &stats.reasserted),
    ] {
        advance(&metrics.ban_events.with_label_values(&[action]), read(counter));
    }
    for (reason, counter) in [
        ("exempt", &stats.offences_exempt),
        ("dropped", &stats.offences_dropped),
        ("late", &stats.offences_late),
    ] {
        advance(&metrics.offences_unheard.with_label_values(&[reason]), read(counter));
    }
    for (component, counter) in [("kernel", &stats.kernel_errors), ("store", &stats.store_errors)] {
        advance(&metrics.keeper_errors.with_label_values(&[component]), read(counter));
    }
    let new = pressure::counted(control);
    advance(&metrics.new_connections, new.syns);
    advance(&metrics.new_connections_spared, new.spared);
    metrics.good_standing.set(i64::try_from(read(&stats.standing)).unwrap_or(i64::MAX));
    let enforcement = control.enforcement.borrow();
    if let Some(counters) = enforcement.counted_by_interface() {
        refresh_packets(metrics, &counters);
    }
    advance(&metrics.kernel_events_lost, enforcement.events_lost());
    advance(&metrics.stale_passed, enforcement.unattended());
}

/// Brings the counters of packets up to date: those of each interface, of all others together under
/// none.
fn refresh_packets(metrics: &Metrics, counters: &Counters) {
    for interface in counters.interfaces() {
        let name = interface.name.as_deref().unwrap_or_default();
        for &reason in Reason::ALL {
            for (family, is_ipv6) in [("ipv4", false), ("ipv6", true)] {
                for (action, count) in [
                    ("acted", interface.acted(reason, is_ipv6)),
                    ("observed", interface.observed(reason, is_ipv6)),
                ] {
                    let labels = [name, family, reason.id(), action];
                    advance(&metrics.kernel_packets.with_label_values(&labels), count.packets);
                    advance(&metrics.kernel_bytes.with_label_values(&labels), count.bytes);
                }
            }
        }
    }
}
