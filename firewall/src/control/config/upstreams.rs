//! An API's upstream as written: an address alone, or `[api.upstream]`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::Span;
use crate::upstream::{Protocol, WithoutHealthy};

/// `upstream = "http://127.0.0.1:9000"`, or the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub endpoints: Vec<Endpoint>,
    pub protocol: Protocol,
    pub connect_timeout: Span,
    pub read_timeout: Span,
    pub idle_timeout: Span,
    pub connections: usize,
    pub pending: usize,
    pub pending_timeout: Span,
    pub ping_interval: Span,
    pub ping_timeout: Span,
    pub resolve_interval: Span,
    pub without_healthy: WithoutHealthy,
    pub check: Option<Check>,
    pub tls: Option<UpstreamTls>,
    pub ejection: Ejection,
    pub retry: Retry,
}

impl Upstream {
    /// One endpoint, and everything else at its default.
    pub fn of_one(url: String) -> Self {
        Table { endpoints: vec![Endpoint { url, weight: 1 }], ..Table::default() }.into()
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an address, or a table with endpoints")]
struct Table {
    endpoints: Vec<Endpoint>,
    protocol: Protocol,
    connect_timeout: Span,
    read_timeout: Span,
    idle_timeout: Span,
    connections: usize,
    pending: usize,
    pending_timeout: Span,
    ping_interval: Span,
    ping_timeout: Span,
    resolve_interval: Span,
    without_healthy: WithoutHealthy,
    check: Option<Check>,
    tls: Option<UpstreamTls>,
    ejection: Ejection,
    retry: Retry,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            protocol: Protocol::default(),
            connect_timeout: Span::seconds(5),
            read_timeout: Span::seconds(60),
            idle_timeout: Span::seconds(4),
            connections: 1024,
            pending: 1024,
            pending_timeout: Span::seconds(5),
            ping_interval: Span::seconds(10),
            ping_timeout: Span::seconds(5),
            resolve_interval: Span::seconds(30),
            without_healthy: WithoutHealthy::default(),
            check: None,
            tls: None,
            ejection: Ejection::default(),
            retry: Retry::default(),
        }
    }
}

impl From<Table> for Upstream {
    fn from(table: Table) -> Self {
        Self {
            endpoints: table.endpoints,
            protocol: table.protocol,
            connect_timeout: table.connect_timeout,
            read_timeout: table.read_timeout,
            idle_timeout: table.idle_timeout,
            connections: table.connections,
            pending: table.pending,
            pending_timeout: table.pending_timeout,
            ping_interval: table.ping_interval,
            ping_timeout: table.ping_timeout,
            resolve_interval: table.resolve_interval,
            without_healthy: table.without_healthy,
            check: table.check,
            tls: table.tls,
            ejection: table.ejection,
            retry: table.retry,
        }
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Upstream;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, as \"http://127.0.0.1:9000\", or a table with endpoints")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<Upstream, E> {
                Ok(Upstream::of_one(url.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Upstream, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map)).map(Upstream::from)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// One of `endpoints`: an address, or a table with its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub url: String,
    pub weight: u32,
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Weighed {
            url: String,
            #[serde(default = "one")]
            weight: u32,
        }
        const fn one() -> u32 {
            1
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, or a table with url and weight")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<Endpoint, E> {
                Ok(Endpoint { url: url.to_owned(), weight: 1 })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                let Weighed { url, weight } =
                    Weighed::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Endpoint { url, weight })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// `[api.upstream.check]`.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    pub path: String,
    pub host: Option<String>,
    #[serde(default = "Check::interval")]
    pub interval: Span,
    #[serde(default = "Check::timeout")]
    pub timeout: Span,
    #[serde(default = "Check::healthy")]
    pub healthy: u32,
    #[serde(default = "Check::unhealthy")]
    pub unhealthy: u32,
    #[serde(default = "Check::statuses")]
    pub statuses: Vec<Statuses>,
}

impl Check {
    const fn interval() -> Span {
        Span::seconds(5)
    }

    const fn timeout() -> Span {
        Span::seconds(2)
    }

    const fn healthy() -> u32 {
        2
    }

    const fn unhealthy() -> u32 {
        3
    }

    fn statuses() -> Vec<Statuses> {
        vec![Statuses(200, 299)]
    }
}

/// A status, or from one to another: `204`, `"200-299"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses(pub u16, pub u16);

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Statuses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status from 100 to 599, or two, as \"200-299\"")
            }

            fn visit_i64<E: de::Error>(self, status: i64) -> Result<Statuses, E> {
                let status = u16::try_from(status).ok().filter(|status| is_status(*status));
                status.map(|status| Statuses(status, status)).ok_or_else(|| {
                    de::Error::invalid_value(de::Unexpected::Other("another number"), &self)
                })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Statuses, E> {
                let ends = text
                    .split_once('-')
                    .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
                ends.filter(|(from, to)| is_status(*from) && is_status(*to) && from <= to)
                    .map(|(from, to)| Statuses(from, to))
                    .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn is_status(status: u16) -> bool {
    (100..=599).contains(&status)
}

/// `[api.upstream.tls]`.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    pub ca: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub server_name: Option<String>,
}

impl Upstream {
    /// Puts every path of a file that is read in its place.
    pub(in crate::control) fn locate(&mut self, place: impl Fn(&Path) -> PathBuf) {
        let tls = self.tls.iter_mut();
        let paths = tls.flat_map(|tls| [&mut tls.ca, &mut tls.certificate, &mut tls.key]);
        for path in paths.flatten() {
            *path = place(path);
        }
    }
}

/// `[api.upstream.ejection]`.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ejection {
    pub failures: u32,
    pub time: Span,
    pub time_max: Span,
    pub share: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, time: Span::seconds(10), time_max: Span::seconds(300), share: 50 }
    }
}

/// `[api.upstream.retry]`.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    pub attempts: usize,
    pub share: u32,
    pub per_second: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 2, share: 20, per_second: 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, ConfigFile};
    use super::*;

    fn parse(upstream: &str) -> Result<Upstream, String> {
        let text = format!(
            "[listen]\naddress = \"127.0.0.1:0\"\n[[api]]\nname = \"a\"\nspec = \"a.yaml\"\n\
             {upstream}\n"
        );
        match ConfigFile::parse(Path::new("f.toml"), &text) {
            Ok(mut file) => Ok(file.api.remove(0).upstream),
            Err(ConfigError::Invalid { message, line: Some(_), .. }) => Err(message),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_or_a_table() {
        let one = parse("upstream = \"http://a\"").unwrap();
        assert_eq!(one, parse("[api.upstream]\nendpoints = [\"http://a\"]").unwrap());
        let text = "[api.upstream]\nendpoints = [\"http://a\", { url = \"unix:/b\", weight = 3 }]\n\
                    pending = 0\n[api.upstream.check]\npath = \"/up\"\nstatuses = [204, \"300-302\"]\n\
                    [api.upstream.ejection]\nfailures = 1\n[api.upstream.retry]\nattempts = 0";
        let found = parse(text).unwrap();
        let endpoint = |url: &str, weight| Endpoint { url: url.into(), weight };
        assert_eq!(found.endpoints, [endpoint("http://a", 1), endpoint("unix:/b", 3)]);
        assert_eq!((found.pending, found.retry.attempts, found.ejection.failures), (0, 0, 1));
        assert_eq!(found.connect_timeout, one.connect_timeout);
        let check = found.check.unwrap();
        assert_eq!(check.statuses, [Statuses(204, 204), Statuses(300, 302)]);
        assert_eq!((check.healthy, check.unhealthy), (2, 3));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        let check = |statuses: &str| {
            format!("[api.upstream]\n[api.upstream.check]\npath = \"/\"\nstatuses = {statuses}")
        };
        for (text, part) in [
            ("upstream = 1".to_owned(), "an address"),
            ("[api.upstream]\nendpoint = \"http://a\"".to_owned(), "unknown field `endpoint`"),
            ("[api.upstream]\nendpoints = [1]".to_owned(), "an address, or a table"),
            ("[api.upstream]\nendpoints = [{ weight = 1 }]".to_owned(), "missing field `url`"),
            ("[api.upstream]\n[api.upstream.check]\ninterval = \"1s\"".to_owned(), "path"),
            ("[api.upstream]\nwithout_healthy = \"pass\"".to_owned(), "unknown variant"),
            (check("[99]"), "a status"),
            (check("[600]"), "a status"),
            (check("[\"299-200\"]"), "a status"),
            (check("[\"2xx\"]"), "a status"),
        ] {
            let message = parse(&text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
