//! When certificates, their statuses and revocation lists end: shown always, warned of in time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::control::daemon::Control;
use crate::metrics::Metrics;
use crate::tls::server::{Expiry, Server};

/// How often it is looked whether there are others.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is warned.
const WARN_INTERVAL: Duration = Duration::from_hours(24);
const DAY_SECONDS: i64 = 24 * 3600;
/// Certificates are warned of from this on: those that renew themselves do so earlier.
const CERTIFICATE_NOTICE: i64 = 14 * DAY_SECONDS;
/// Statuses and lists live for days.
const STATUS_NOTICE: i64 = DAY_SECONDS;

/// Shows what is in force, and warns once a day of what ends soon.
pub(super) async fn follow(control: Rc<Control>) {
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut shown: Option<Arc<Server>> = None;
    let mut warned = tokio::time::Instant::now();
    loop {
        let now = tick.tick().await;
        let server = control.rulesets.load().tls.clone();
        let is_same = match (&server, &shown) {
            (Some(server), Some(shown)) => Arc::ptr_eq(server, shown),
            (None, None) => true,
            _ => false,
        };
        if is_same && now.duration_since(warned) < WARN_INTERVAL {
            continue;
        }
        if let Some(server) = &server {
            show(server, &control.metrics);
            for warning in server.expiries().filter_map(|expiry| warning(expiry, wall_seconds())) {
                tracing::warn!("{warning}");
            }
        }
        (shown, warned) = (server, now);
    }
}

fn show(server: &Server, metrics: &Metrics) {
    metrics.tls_not_after.reset();
    for expiry in server.expiries() {
        let file = expiry.path.display().to_string();
        metrics.tls_not_after.with_label_values(&[expiry.kind, &file]).set(expiry.not_after);
    }
}

fn wall_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// What is to be said of it now; none if all is well.
fn warning(expiry: &Expiry, now: i64) -> Option<String> {
    let Expiry { path, kind, not_before, not_after } = expiry;
    let (file, left) = (path.display(), not_after - now);
    let (what, consequence, notice) = match *kind {
        "ocsp" => ("the status", "it is no longer stapled", STATUS_NOTICE),
        "crl" => ("the revocation list", "no client's certificate is accepted", STATUS_NOTICE),
        _ => ("the certificate", "clients refuse it", CERTIFICATE_NOTICE),
    };
    if not_before.is_some_and(|not_before| now < not_before) {
        return Some(format!("{file}: {what} is not valid yet: {consequence}"));
    }
    if left <= 0 {
        let days = -left / DAY_SECONDS;
        return Some(format!("{file}: {what} ended {days} days ago: {consequence}"));
    }
    let days = left / DAY_SECONDS;
    (left < notice).then(|| format!("{file}: {what} ends in {days} days; then {consequence}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_soon_is_warned_of() {
        let now = 1_800_000_000;
        let ends = |kind, in_days: i64| {
            let not_before = (kind == "certificate").then_some(now - 10);
            let not_after = now + in_days * DAY_SECONDS;
            warning(&Expiry { path: "a.pem".into(), kind, not_before, not_after }, now)
        };
        for (kind, days, expected) in [
            ("certificate", 14, None),
            (
                "certificate",
                13,
                Some("a.pem: the certificate ends in 13 days; then clients refuse it"),
            ),
            ("certificate", 0, Some("a.pem: the certificate ended 0 days ago: clients refuse it")),
            ("certificate", -2, Some("a.pem: the certificate ended 2 days ago: clients refuse it")),
            ("ocsp", 1, None),
            ("ocsp", 0, Some("a.pem: the status ended 0 days ago: it is no longer stapled")),
            ("crl", 1, None),
            (
                "crl",
                -1,
                Some(
                    "a.pem: the revocation list ended 1 days ago: no client's certificate is accepted",
                ),
            ),
        ] {
            assert_eq!(ends(kind, days).as_deref(), expected, "{kind} {days}");
        }
        let early = Expiry {
            path: "a.pem".into(),
            kind: "certificate",
            not_before: Some(now + 1),
            not_after: now + 100 * DAY_SECONDS,
        };
        assert!(warning(&early, now).is_some_and(|text| text.contains("not valid yet")));
        assert_eq!(warning(&early, now + 1), None);
    }
}
