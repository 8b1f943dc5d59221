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

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Plain,
    Tls,
}

/// An endpoint's address cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointAddressError {
    #[error("{given:?} is neither an absolute URL nor unix:/path")]
    NotAbsolute { given: Box<str> },
    #[error("scheme {scheme:?} is not supported: expected http, https, or unix:/path")]
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
    /// Reads `http://host[:port]`, `https://host[:port]`, or `unix:` and the absolute path of a
    /// stream socket. The port is the scheme's own if absent.
    ///
    /// # Errors
    ///
    /// What else a URL may hold and a proxy that forwards paths as they are has no use for.
    pub fn parse(text: &str) -> Result<(Self, Scheme), EndpointAddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.len() > SOCKET_PATH_OCTETS || path.contains('\0') {
                return Err(EndpointAddressError::Socket { given: text.into() });
            }
            return Ok((Self::Socket(Path::new(path).into()), Scheme::Plain));
        }
        let not_absolute = || EndpointAddressError::NotAbsolute { given: text.into() };
        let Ok(uri) = text.parse::<Uri>() else { return Err(not_absolute()) };
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(not_absolute());
        };
        let (scheme, port) = match scheme {
            "http" => (Scheme::Plain, 80),
            "https" => (Scheme::Tls, 443),
            _ => return Err(EndpointAddressError::Scheme { scheme: scheme.into() }),
        };
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
        let port = authority.port_u16().unwrap_or(port);
        let unbracketed = name.trim_start_matches('[').trim_end_matches(']');
        let address = match unbracketed.parse::<IpAddr>() {
            Ok(address) => Self::Address(SocketAddr::new(address, port)),
            Err(_name) => Self::Name { name: name.into(), port },
        };
        Ok((address, scheme))
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
        for (text, expected, scheme) in [
            ("http://127.0.0.1:9000", place("127.0.0.1:9000"), Scheme::Plain),
            ("http://[::1]:9000/", place("[::1]:9000"), Scheme::Plain),
            ("http://api.internal", name("api.internal", 80), Scheme::Plain),
            ("https://api.internal", name("api.internal", 443), Scheme::Tls),
            ("https://192.0.2.1:8443", place("192.0.2.1:8443"), Scheme::Tls),
            ("unix:/run/api.sock", socket("/run/api.sock"), Scheme::Plain),
            (&longest, socket(&longest["unix:".len()..]), Scheme::Plain),
        ] {
            assert_eq!(EndpointAddress::parse(text), Ok((expected, scheme)), "{text}");
        }
        let too_long = format!("{longest}a");
        for (text, error) in [
            ("ftp://api", EndpointAddressError::Scheme { scheme: "ftp".into() }),
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
