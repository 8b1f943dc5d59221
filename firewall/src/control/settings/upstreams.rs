//! The upstream of an API as meant.

use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::SettingsError;
use crate::control::config::{Check, Upstream};
use crate::upstream::address::{EndpointAddress, Scheme};
use crate::upstream::tls::TlsSettings;
use crate::upstream::{
    CheckRules, ENDPOINTS_MAX, EjectionRules, EndpointSettings, PingRules, RetryRules,
    UpstreamLimits, UpstreamSettings,
};

/// The upstream, or every problem of it.
pub(in crate::control) fn upstream(
    api: &str,
    written: &Upstream,
) -> Result<UpstreamSettings, Vec<SettingsError>> {
    let mut problems: Vec<_> = out_of_bounds(written)
        .into_iter()
        .map(|(key, expected)| SettingsError::ApiBound { api: api.to_owned(), key, expected })
        .collect();
    let mut endpoints: Vec<EndpointSettings> = Vec::new();
    for endpoint in &written.endpoints {
        match EndpointAddress::parse(&endpoint.url) {
            Ok((address, _)) if endpoints.iter().any(|known| known.address == address) => {
                let (api, endpoint) = (api.to_owned(), address.to_string());
                problems.push(SettingsError::EndpointTwice { api, endpoint });
            }
            Ok((address, scheme)) => {
                endpoints.push(EndpointSettings { address, scheme, weight: endpoint.weight });
            }
            Err(source) => {
                problems.push(SettingsError::Upstream { api: api.to_owned(), source });
            }
        }
    }
    let check = match written.check.as_ref().map(check).transpose() {
        Ok(check) => check,
        Err((key, expected)) => {
            problems.push(SettingsError::ApiBound { api: api.to_owned(), key, expected });
            None
        }
    };
    let is_encrypted = endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Tls);
    let tls = match tls(written, is_encrypted) {
        Ok(tls) => tls,
        Err((key, expected)) => {
            problems.push(SettingsError::ApiBound { api: api.to_owned(), key, expected });
            None
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(UpstreamSettings {
        tls,
        endpoints,
        protocol: written.protocol,
        pings: PingRules { interval: written.ping_interval.0, timeout: written.ping_timeout.0 },
        limits: UpstreamLimits {
            connect_timeout: written.connect_timeout.0,
            read_timeout: written.read_timeout.0,
            idle_timeout: written.idle_timeout.0,
            connections: written.connections,
            pending: written.pending,
            pending_timeout: written.pending_timeout.0,
        },
        resolve_interval: written.resolve_interval.0,
        ejection: EjectionRules {
            failures: written.ejection.failures,
            base: written.ejection.time.0,
            max: written.ejection.time_max.0,
            share: written.ejection.share,
        },
        check,
        retry: RetryRules {
            attempts: written.retry.attempts,
            share: written.retry.share,
            per_second: written.retry.per_second,
        },
        without_healthy: written.without_healthy,
    })
}

fn out_of_bounds(written: &Upstream) -> Vec<(&'static str, &'static str)> {
    let (ejection, retry) = (&written.ejection, &written.retry);
    let weights = written.endpoints.iter().map(|endpoint| endpoint.weight);
    let least = Duration::from_millis(1);
    [
        ("upstream.endpoints", "1 to 64", (1..=ENDPOINTS_MAX).contains(&written.endpoints.len())),
        ("upstream.endpoints: weight", "1 to 1000", weights.min().is_none_or(|least| least >= 1)),
        (
            "upstream.endpoints: weight",
            "1 to 1000",
            written.endpoints.iter().all(|endpoint| endpoint.weight <= 1000),
        ),
        ("upstream.connections", "1 to 65536", (1..=65_536).contains(&written.connections)),
        ("upstream.pending", "at most 65536", written.pending <= 65_536),
        ("upstream.connect_timeout", "at least 1ms", written.connect_timeout.0 >= least),
        ("upstream.read_timeout", "at least 1ms", written.read_timeout.0 >= least),
        ("upstream.ping_interval", "at least 100ms", written.ping_interval.0 >= 100 * least),
        ("upstream.ping_timeout", "at least 1ms", written.ping_timeout.0 >= least),
        (
            "upstream.resolve_interval",
            "at least 1s",
            written.resolve_interval.0 >= Duration::from_secs(1),
        ),
        ("upstream.ejection.share", "at most 100", ejection.share <= 100),
        ("upstream.ejection.time", "at least 100ms", ejection.time.0 >= 100 * least),
        (
            "upstream.ejection.time_max",
            "no less than upstream.ejection.time",
            ejection.time_max.0 >= ejection.time.0,
        ),
        ("upstream.retry.attempts", "at most 8", retry.attempts <= 8),
        ("upstream.retry.share", "at most 100", retry.share <= 100),
        ("upstream.retry.per_second", "at most 10000", retry.per_second <= 10_000),
    ]
    .into_iter()
    .filter(|(.., is_within)| !is_within)
    .map(|(key, expected, _)| (key, expected))
    .collect()
}

fn tls(
    upstream: &Upstream,
    is_encrypted: bool,
) -> Result<Option<TlsSettings>, (&'static str, &'static str)> {
    let protocol = upstream.protocol;
    let Some(written) = &upstream.tls else {
        return Ok(is_encrypted.then(|| TlsSettings { protocol, ..TlsSettings::default() }));
    };
    if !is_encrypted {
        return Err(("upstream.tls", "an endpoint whose address begins with https"));
    }
    let identity = match (&written.certificate, &written.key) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        _ => return Err(("upstream.tls.certificate", "it and upstream.tls.key, or neither")),
    };
    let server_name = written.server_name.as_deref().map(Into::into);
    Ok(Some(TlsSettings { ca: written.ca.clone(), identity, server_name, protocol }))
}

fn check(written: &Check) -> Result<CheckRules, (&'static str, &'static str)> {
    let path = PathAndQuery::try_from(written.path.as_str()).ok();
    let path = path.filter(|_| written.path.starts_with('/'));
    let path = path.ok_or(("upstream.check.path", "a path that begins with a slash"))?;
    let is_host = |host: &String| !host.is_empty() && HeaderValue::from_str(host).is_ok();
    if !written.host.as_ref().is_none_or(is_host) {
        return Err(("upstream.check.host", "a host"));
    }
    let bounds = [
        (
            "upstream.check.interval",
            "at least 100ms",
            written.interval.0 >= Duration::from_millis(100),
        ),
        ("upstream.check.timeout", "at least 1ms", written.timeout.0 >= Duration::from_millis(1)),
        ("upstream.check.healthy", "1 to 100", (1..=100).contains(&written.healthy)),
        ("upstream.check.unhealthy", "1 to 100", (1..=100).contains(&written.unhealthy)),
        ("upstream.check.statuses", "at least one", !written.statuses.is_empty()),
    ];
    if let Some((key, expected, _)) = bounds.into_iter().find(|(.., is_within)| !is_within) {
        return Err((key, expected));
    }
    Ok(CheckRules {
        path,
        host: written.host.as_deref().map(Into::into),
        interval: written.interval.0,
        timeout: written.timeout.0,
        healthy: written.healthy,
        unhealthy: written.unhealthy,
        statuses: written.statuses.iter().map(|range| range.0..=range.1).collect(),
    })
}

#[cfg(test)]
mod tests {
    use crate::control::settings::tests::{SOUND, problems};

    #[test]
    fn upstreams_at_their_bounds() {
        let table = |keys: &str| {
            let table = format!("[api.upstream]\nendpoints = [\"http://127.0.0.1:1\"]\n{keys}");
            SOUND.replace("upstream = \"http://127.0.0.1:1\"", &table)
        };
        let check = |keys: &str| table(&format!("[api.upstream.check]\npath = \"/\"\n{keys}"));
        for text in [
            table(""),
            table("connections = 65536\npending = 0\nresolve_interval = \"1s\""),
            table("[api.upstream.ejection]\nfailures = 0\nshare = 100\ntime = \"100ms\""),
            table("[api.upstream.retry]\nattempts = 0\nshare = 0\nper_second = 0"),
            table("[api.upstream.tls]\nserver_name = \"b\"\ncertificate = \"c\"\nkey = \"k\"")
                .replace("http://127.0.0.1:1", "https://127.0.0.1:1"),
            check("interval = \"100ms\"\ntimeout = \"1ms\"\nhealthy = 1\nunhealthy = 100"),
        ] {
            assert_eq!(problems(&text), Vec::<String>::new(), "{text}");
        }
        let endpoints = |list: &str| table("").replace("\"http://127.0.0.1:1\"", list);
        let many = (1..66).map(|port| format!("\"http://a:{port}\"")).collect::<Vec<_>>();
        for (text, part) in [
            (endpoints(""), "upstream.endpoints"),
            (endpoints(&many.join(",")), "upstream.endpoints"),
            (endpoints("\"http://a\", \"http://a:80\""), "a:80 is there twice"),
            (endpoints("{ url = \"http://a\", weight = 0 }"), "weight"),
            (endpoints("{ url = \"http://a\", weight = 1001 }"), "weight"),
            (endpoints("\"ftp://a\""), "ftp"),
            (table("connections = 0"), "connections"),
            (table("connections = 65537"), "connections"),
            (table("pending = 65537"), "pending"),
            (table("connect_timeout = \"0s\""), "connect_timeout"),
            (table("resolve_interval = \"999ms\""), "resolve_interval"),
            (table("[api.upstream.ejection]\nshare = 101"), "share"),
            (table("[api.upstream.ejection]\ntime = \"10m\""), "time_max"),
            (table("[api.upstream.retry]\nattempts = 9"), "attempts"),
            (check("interval = \"99ms\""), "interval"),
            (check("healthy = 0"), "healthy"),
            (check("statuses = []"), "statuses"),
            (check("host = \"\""), "host"),
            (table("[api.upstream.tls]"), "https"),
            (endpoints("\"https://a\"") + "[api.upstream.tls]\nkey = \"k\"", "or neither"),
            (check("").replace("\"/\"", "\"up\""), "check.path"),
        ] {
            let found = problems(&text);
            assert!(found.iter().any(|problem| problem.contains(part)), "{text}: {found:?}");
        }
    }
}
