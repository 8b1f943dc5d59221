//! Where admitted requests go: the endpoints of an API, which of them are well, and the connections to
//! them.

pub mod address;
mod balance;
pub mod body;
mod budget;
mod check;
mod connection;
mod ejection;
mod endpoint;
pub mod flow;
mod framing;
pub mod grpc;
pub mod keeper;
mod multiplexed;
pub mod pool;
mod probe;
mod resolve;
mod stream;
pub mod tls;

use std::net::SocketAddr;
use std::time::Duration;

pub use budget::RetryRules;
pub use check::CheckRules;
pub use ejection::EjectionRules;
pub use endpoint::{Endpoint, EndpointState, Upstream};
pub use multiplexed::PingRules;

use address::{EndpointAddress, Scheme};

/// Addresses of one name that are used.
pub const ADDRESSES_MAX: usize = 16;
/// Endpoints that one upstream may be configured with.
pub const ENDPOINTS_MAX: usize = 64;

/// The API behind the firewall, and the bounds of speaking with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    pub endpoints: Vec<EndpointSettings>,
    pub protocol: Protocol,
    pub limits: UpstreamLimits,
    /// Of connections of HTTP/2.
    pub pings: PingRules,
    /// How long the addresses of names are used before they are asked for again.
    pub resolve_interval: Duration,
    pub ejection: EjectionRules,
    pub check: Option<CheckRules>,
    /// Where an endpoint is spoken to by TLS.
    pub tls: Option<tls::TlsSettings>,
    pub retry: RetryRules,
    pub without_healthy: WithoutHealthy,
}

impl UpstreamSettings {
    /// The names among the endpoints, with their ports.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, u16)> {
        self.endpoints.iter().filter_map(|endpoint| match &endpoint.address {
            EndpointAddress::Name { name, port } => Some((&**name, *port)),
            EndpointAddress::Address(_) | EndpointAddress::Socket(_) => None,
        })
    }
}

/// One entry of the configuration's list; as a name it may stand for several endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSettings {
    pub address: EndpointAddress,
    pub scheme: Scheme,
    /// At least 1; one of weight 2 gets twice as much as one of weight 1.
    pub weight: u32,
}

/// Bounds of one worker's connections to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// Longest time to connect, to one endpoint.
    pub connect_timeout: Duration,
    /// Longest time between two octets of an answer's body that is passed on as it comes.
    pub read_timeout: Duration,
    /// How long an unused connection is kept. Shorter than what the upstream allows, or a request
    /// may meet a connection that is being closed; five seconds are usual there.
    pub idle_timeout: Duration,
    /// Exchanges in flight, of one worker and one endpoint; of HTTP/1.1 so many connections, of HTTP/2
    /// fewer.
    pub connections: usize,
    /// Requests of one worker that may wait until there is room …
    pub pending: usize,
    /// … for so long.
    pub pending_timeout: Duration,
}

/// What is spoken to the endpoints; no other is fallen back to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Http1,
    Http2,
}

impl Protocol {
    /// What TLS calls it (RFC 7301 section 6).
    pub(crate) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// What becomes of requests where no endpoint is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WithoutHealthy {
    /// They are sent all the same, as if all were: it is likelier that the checks are wrong than that
    /// everything is down.
    #[default]
    Try,
    Refuse,
}

/// What looks up the addresses of a name; may block.
pub type Resolve = dyn Fn(&str, u16) -> std::io::Result<Vec<SocketAddr>> + Send + Sync;

/// The upstream gave no answer that could be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamError {
    /// All connections were busy for too long.
    Saturated,
    /// All connections were busy, and too many requests waited already.
    QueueFull,
    /// No endpoint is well, and the configuration says not to try.
    Unhealthy,
    /// No address is known.
    Unresolved,
    Connect,
    /// It is not who it is to be, or does not take us for who we are.
    Tls,
    /// It does not speak HTTP/2, as it is to.
    NotHttp2,
    /// It says that it has done nothing about the request (RFC 9113 section 8.7), too often.
    Refused,
    ConnectTimeout,
    ResponseTimeout,
    /// Nothing more came of an answer that had begun.
    ReadTimeout,
    /// It closed the connection, or did not speak HTTP.
    Protocol,
}

impl UpstreamError {
    pub const fn id(self) -> &'static str {
        match self {
            Self::Saturated => "saturated",
            Self::QueueFull => "queue-full",
            Self::Unhealthy => "unhealthy",
            Self::Unresolved => "unresolved",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::NotHttp2 => "not-http2",
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect-timeout",
            Self::ResponseTimeout => "response-timeout",
            Self::ReadTimeout => "read-timeout",
            Self::Protocol => "protocol",
        }
    }

    /// RFC 9110 sections 15.6.3 to 15.6.5.
    pub const fn status(self) -> u16 {
        match self {
            Self::Saturated | Self::QueueFull | Self::Unhealthy | Self::Refused => 503,
            Self::Unresolved | Self::Connect | Self::Tls | Self::NotHttp2 | Self::Protocol => 502,
            Self::ConnectTimeout | Self::ResponseTimeout | Self::ReadTimeout => 504,
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::Saturated | Self::QueueFull | Self::Refused => "The service is busy",
            Self::Unhealthy => "The service is not available",
            Self::Unresolved | Self::Connect | Self::Tls | Self::NotHttp2 => {
                "The service cannot be reached"
            }
            Self::ConnectTimeout | Self::ResponseTimeout | Self::ReadTimeout => {
                "The service did not answer in time"
            }
            Self::Protocol => "The service gave no valid answer",
        }
    }
}

#[cfg(test)]
mod tests;
