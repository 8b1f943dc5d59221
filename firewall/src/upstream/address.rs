//! Where endpoints are, as it is written.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use http::Uri;

/// Octets of a socket's path, without the zero at its end (unix(7)).
const SOCKET_PATH_OCTETS: usize = 107;

/// Where one endpoint, or the several that have one name, are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointAddress {
    Address(SocketAddr),
    /// Each address that the name has is an endpoint.
    Name {
        name: Arc<str>,
        port: u16,
    },
    Socket(Arc<Path>),
}

/// An endpoint's address cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointAddressError {
    #[error("{given:?} is neither an absolute URL nor unix:/path")]
    NotAbsolute { given: Box<str> },
    #[error("scheme {scheme:?} is not supported: expected http, or unix:/path")]
    Scheme { scheme: Box<str> },
    #[error("path {path:?} is not supported: the contract's paths are forwarded as they are")]
    Path { path: Box<str> },
    #[error("credentials in the URL are not supported")]
    Credentials,
    #[error(
        "{given:?}: expected unix: and an absolute path of at most {SOCKET_PATH_OCTETS} octets"
    )]
    Socket { given: Box<str> },
}

impl EndpointAddress {
    /// Reads `http://host[:port]`, or `unix:` and the absolute path of a stream socket. The port is 80
    /// if absent.
    ///
    /// # Errors
    ///
    /// What else a URL may hold and a proxy that forwards paths as they are has no use for.
    pub fn parse(text: &str) -> Result<Self, EndpointAddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.len() > SOCKET_PATH_OCTETS || path.contains('\0') {
                return Err(EndpointAddressError::Socket { given: text.into() });
            }
            return Ok(Self::Socket(Path::new(path).into()));
        }
        let not_absolute = || EndpointAddressError::NotAbsolute { given: text.into() };
        let Ok(uri) = text.parse::<Uri>() else { return Err(not_absolute()) };
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(not_absolute());
        };
        if scheme != "http" {
            return Err(EndpointAddressError::Scheme { scheme: scheme.into() });
        }
        if authority.as_str().contains('@') {
            return Err(EndpointAddressError::Credentials);
        }
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if path != "/" {
            return Err(EndpointAddressError::Path { path: path.into() });
        }
        let name = authority.host();
        if name.is_empty() {
            return Err(not_absolute());
        }
        let port = authority.port_u16().unwrap_or(80);
        let unbracketed = name.trim_start_matches('[').trim_end_matches(']');
        Ok(match unbracketed.parse::<IpAddr>() {
            Ok(address) => Self::Address(SocketAddr::new(address, port)),
            Err(_name) => Self::Name { name: name.into(), port },
        })
    }

    /// The name, where its addresses are to be looked up.
    pub(crate) fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Name { name, .. } => Some(name),
            Self::Address(_) | Self::Socket(_) => None,
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name { name, port } => write!(f, "{name}:{port}"),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let place = |text: &str| EndpointAddress::Address(text.parse().unwrap());
        let name = |name: &str, port| EndpointAddress::Name { name: name.into(), port };
        let socket = |path: &str| EndpointAddress::Socket(Path::new(path).into());
        let longest = format!("unix:/{}", "a".repeat(SOCKET_PATH_OCTETS - 1));
        for (text, expected) in [
            ("http://127.0.0.1:9000", place("127.0.0.1:9000")),
            ("http://[::1]:9000/", place("[::1]:9000")),
            ("http://api.internal", name("api.internal", 80)),
            ("unix:/run/api.sock", socket("/run/api.sock")),
            (&longest, socket(&longest["unix:".len()..])),
        ] {
            assert_eq!(EndpointAddress::parse(text), Ok(expected), "{text}");
        }
        let too_long = format!("{longest}a");
        for (text, error) in [
            ("ftp://api", EndpointAddressError::Scheme { scheme: "ftp".into() }),
            ("https://api", EndpointAddressError::Scheme { scheme: "https".into() }),
            ("http://api/v1", EndpointAddressError::Path { path: "/v1".into() }),
            ("http://api/?a", EndpointAddressError::Path { path: "/?a".into() }),
            ("http://me:secret@api/", EndpointAddressError::Credentials),
            ("api:80", EndpointAddressError::NotAbsolute { given: "api:80".into() }),
            ("/api", EndpointAddressError::NotAbsolute { given: "/api".into() }),
            ("unix:api.sock", EndpointAddressError::Socket { given: "unix:api.sock".into() }),
            ("unix:", EndpointAddressError::Socket { given: "unix:".into() }),
            (&too_long, EndpointAddressError::Socket { given: (&*too_long).into() }),
        ] {
            assert_eq!(EndpointAddress::parse(text), Err(error), "{text}");
        }
    }
}
