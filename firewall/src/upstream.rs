//! Where admitted requests go.

pub mod body;
pub mod flow;
mod framing;
pub mod pool;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;

/// The API behind the firewall, and the bounds of speaking with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    host: Host,
    port: u16,
    pub limits: UpstreamLimits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// Resolved anew for each connection.
    Name(Box<str>),
}

/// Bounds of one worker's connections to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// Longest time to resolve the name and connect.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept. Shorter than what the upstream allows, or a request
    /// may meet a connection that is being closed; five seconds are usual there.
    pub idle_timeout: Duration,
    /// Exchanges in flight, and so connections, of one worker; what comes beyond waits for at most
    /// the connect timeout.
    pub connections: usize,
}

/// The upstream's address cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UpstreamAddressError {
    #[error("{given:?} is not an absolute URL")]
    NotAbsolute { given: Box<str> },
    #[error("scheme {scheme:?} is not supported: expected http")]
    Scheme { scheme: Box<str> },
    #[error("path {path:?} is not supported: the contract's paths are forwarded as they are")]
    Path { path: Box<str> },
    #[error("credentials in the URL are not supported")]
    Credentials,
}

impl Upstream {
    /// Reads `http://host[:port]`; the port is 80 if absent.
    pub fn parse(url: &str, limits: UpstreamLimits) -> Result<Self, UpstreamAddressError> {
        let not_absolute = || UpstreamAddressError::NotAbsolute { given: url.into() };
        let Ok(uri) = url.parse::<Uri>() else { return Err(not_absolute()) };
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(not_absolute());
        };
        if scheme != "http" {
            return Err(UpstreamAddressError::Scheme { scheme: scheme.into() });
        }
        if authority.as_str().contains('@') {
            return Err(UpstreamAddressError::Credentials);
        }
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if path != "/" {
            return Err(UpstreamAddressError::Path { path: path.into() });
        }
        let name = authority.host();
        if name.is_empty() {
            return Err(not_absolute());
        }
        let unbracketed = name.trim_start_matches('[').trim_end_matches(']');
        let host = unbracketed.parse().map_or_else(|_| Host::Name(name.into()), Host::Address);
        Ok(Self { host, port: authority.port_u16().unwrap_or(80), limits })
    }

    async fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        match &self.host {
            Host::Address(address) => Ok(vec![SocketAddr::new(*address, self.port)]),
            Host::Name(name) => Ok(tokio::net::lookup_host((&**name, self.port)).await?.collect()),
        }
    }
}

/// The upstream gave no answer that could be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamError {
    /// All connections were busy for too long.
    Saturated,
    Connect,
    ConnectTimeout,
    ResponseTimeout,
    /// It closed the connection, or did not speak HTTP.
    Protocol,
}

impl UpstreamError {
    pub const fn id(self) -> &'static str {
        match self {
            Self::Saturated => "saturated",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect-timeout",
            Self::ResponseTimeout => "response-timeout",
            Self::Protocol => "protocol",
        }
    }

    /// RFC 9110 sections 15.6.3 to 15.6.5.
    pub const fn status(self) -> u16 {
        match self {
            Self::Saturated => 503,
            Self::Connect | Self::Protocol => 502,
            Self::ConnectTimeout | Self::ResponseTimeout => 504,
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::Saturated => "The service is busy",
            Self::Connect => "The service cannot be reached",
            Self::ConnectTimeout | Self::ResponseTimeout => "The service did not answer in time",
            Self::Protocol => "The service gave no valid answer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: UpstreamLimits = UpstreamLimits {
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(4),
        connections: 8,
    };

    #[test]
    fn urls() {
        for (url, host, port) in [
            ("http://127.0.0.1:9000", Host::Address([127, 0, 0, 1].into()), 9000),
            ("http://[::1]:9000/", Host::Address(IpAddr::V6(1.into())), 9000),
            ("http://api.internal", Host::Name("api.internal".into()), 80),
        ] {
            let upstream = Upstream::parse(url, LIMITS).unwrap();
            assert_eq!((upstream.host, upstream.port), (host, port), "{url}");
        }
        for (url, error) in [
            ("https://api", UpstreamAddressError::Scheme { scheme: "https".into() }),
            ("http://api/v1", UpstreamAddressError::Path { path: "/v1".into() }),
            ("http://api/?a", UpstreamAddressError::Path { path: "/?a".into() }),
            ("http://me:secret@api/", UpstreamAddressError::Credentials),
            ("api:80", UpstreamAddressError::NotAbsolute { given: "api:80".into() }),
            ("/api", UpstreamAddressError::NotAbsolute { given: "/api".into() }),
        ] {
            assert_eq!(Upstream::parse(url, LIMITS), Err(error), "{url}");
        }
    }
}
