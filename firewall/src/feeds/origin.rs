//! Where a feed comes from: a file, or a server that is asked over HTTPS or plain HTTP.
//!
//! Plain HTTP proves nothing of who answers. It is for a server on this host, unless the operator says
//! that the network between is as good.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    USER_AGENT,
};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::clock::Wall;
use crate::tls::authorities::{Authorities, AuthoritiesError};
use crate::tls::provider;

/// The longest that a connection may take, TLS included, and the longest that a whole answer may.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_PATIENCE: Duration = Duration::from_mins(1);
/// Longest validator that is kept: they are the server's text.
const VALIDATOR_OCTETS_MAX: usize = 1024;

/// A file, or an address on the web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File(PathBuf),
    Http(HttpOrigin),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Http(origin) => origin.fmt(f),
        }
    }
}

/// An `http` or `https` URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOrigin {
    host: String,
    port: u16,
    target: PathAndQuery,
    authority: HeaderValue,
    /// None: plain text.
    trust: Option<Trust>,
}

/// How a server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The name, or the address, that its certificate must have.
    name: ServerName<'static>,
    /// The file of those who may have issued it; the system's authorities if none. Read whenever the
    /// server is asked, so that it may be renewed.
    ca: Option<PathBuf>,
}

impl fmt::Display for HttpOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.trust.is_some() { "https" } else { "http" };
        let authority = self.authority.to_str().unwrap_or_default();
        write!(f, "{scheme}://{authority}{}", self.target)
    }
}

/// A URL that a feed cannot be asked from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("{found:?} is no URL")]
    Malformed { found: String },
    #[error("expected the scheme https or http")]
    Scheme,
    #[error("it holds a user's name or password, which would stand in logs")]
    Credentials,
    #[error(
        "{host} is another host, and plain HTTP proves nothing of who answers there; ask over https, \
         or take its word all the same by `insecure = true`"
    )]
    Insecure { host: String },
    #[error("`{key}` says nothing of {scheme}")]
    Pointless { key: &'static str, scheme: &'static str },
}

impl HttpOrigin {
    /// A URL as configured, with the file of those who are believed about an `https` one.
    ///
    /// # Errors
    ///
    /// It cannot be asked, or not safely and nobody said that this is meant.
    pub fn parse(
        url: &str,
        ca: Option<PathBuf>,
        is_insecure_meant: bool,
    ) -> Result<Self, UrlError> {
        let malformed = || UrlError::Malformed { found: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_not_one| malformed())?;
        let is_encrypted = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(_) => return Err(UrlError::Scheme),
            None => return Err(malformed()),
        };
        let authority = uri.authority().ok_or_else(malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let trust = if is_encrypted {
            if is_insecure_meant {
                return Err(UrlError::Pointless { key: "insecure", scheme: "https" });
            }
            let name = ServerName::try_from(host.clone()).map_err(|_invalid| malformed())?;
            Some(Trust { name, ca })
        } else {
            if ca.is_some() {
                return Err(UrlError::Pointless { key: "ca", scheme: "http" });
            }
            let address = host.parse::<std::net::IpAddr>();
            let is_here = host.eq_ignore_ascii_case("localhost")
                || address.is_ok_and(|address| address.to_canonical().is_loopback());
            if !is_here && !is_insecure_meant {
                return Err(UrlError::Insecure { host });
            }
            None
        };
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port = match port.strip_prefix(':') {
            // What is no port is not left to be the scheme's own.
            Some(port) => port.parse().map_err(|_none| malformed())?,
            None if is_encrypted => 443,
            None => 80,
        };
        let named = HeaderValue::from_str(authority.as_str()).map_err(|_control| malformed())?;
        let target =
            uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { host, port, target, authority: named, trust })
    }

    /// Whether those can be read who are believed about the server.
    ///
    /// # Errors
    ///
    /// Their file cannot be used.
    pub fn probe(&self) -> Result<(), AuthoritiesError> {
        match &self.trust {
            Some(trust) => Authorities::load(trust.ca.as_deref()).map(drop),
            None => Ok(()),
        }
    }
}

/// What a server said of its last answer, to be asked whether it still holds (RFC 9110 section 13.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

/// What an origin gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    Content {
        octets: Vec<u8>,
        validators: Validators,
    },
    /// What was given last still holds.
    Unchanged,
}

/// The origin gave nothing that can be used.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("it cannot be read")]
    File { source: std::io::Error },
    #[error("expected at most {most} octets")]
    TooLarge { most: usize },
    #[error("the server cannot be connected to")]
    Connect { source: std::io::Error },
    #[error("nobody can be believed about the server")]
    Authorities { source: AuthoritiesError },
    #[error("TLS cannot be spoken")]
    Provider { source: rustls::Error },
    #[error("the server does not prove who it is")]
    Tls { source: std::io::Error },
    #[error("the server did not answer within {} s", patience.as_secs())]
    Late { patience: Duration },
    #[error("the exchange failed")]
    Exchange { source: hyper::Error },
    #[error("the answer broke off")]
    Body { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("expected status 200, found {found}")]
    Status { found: StatusCode },
    #[error("the answer is encoded, though that was not accepted")]
    Encoded,
}

/// Which file it is, and whether it was written: what is compared each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    octets: u64,
}

impl Identity {
    /// The file's, and the time of its last change; none if it is not there.
    pub fn of(path: &Path) -> Option<(Self, Wall)> {
        let metadata = std::fs::metadata(path).ok()?;
        let identity = Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            octets: metadata.size(),
        };
        let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
        Some((identity, Wall::from_ms(seconds.saturating_mul(1000))))
    }
}

/// Reads a file of at most `most` octets.
pub fn read(path: &Path, most: usize) -> Result<Vec<u8>, FetchError> {
    let file = |source| FetchError::File { source };
    let mut octets = Vec::new();
    let opened = std::fs::File::open(path).map_err(file)?;
    if !opened.metadata().map_err(file)?.is_file() {
        // A pipe would be waited for, for ever.
        return Err(file(std::io::ErrorKind::InvalidInput.into()));
    }
    opened.take((most as u64).saturating_add(1)).read_to_end(&mut octets).map_err(file)?;
    if octets.len() > most { Err(FetchError::TooLarge { most }) } else { Ok(octets) }
}

/// Asks a server. It is not followed to another place.
pub async fn fetch(
    origin: &HttpOrigin,
    validators: &Validators,
    most: usize,
) -> Result<Fetched, FetchError> {
    let late = |patience| FetchError::Late { patience };
    let connecting = async {
        let stream = TcpStream::connect((origin.host.as_str(), origin.port)).await;
        let stream = stream.map_err(|source| FetchError::Connect { source })?;
        let Some(trust) = &origin.trust else { return Ok(Box::new(stream) as Box<dyn Stream>) };
        let connector = connector(trust.ca.clone()).await?;
        let stream = connector.connect(trust.name.clone(), stream).await;
        Ok(Box::new(stream.map_err(|source| FetchError::Tls { source })?) as Box<dyn Stream>)
    };
    let connected = timeout(CONNECT_PATIENCE, connecting).await;
    let stream = connected.map_err(|_elapsed| late(CONNECT_PATIENCE))??;
    let exchanged = timeout(ANSWER_PATIENCE, exchange(stream, origin, validators, most)).await;
    exchanged.map_err(|_elapsed| late(ANSWER_PATIENCE))?
}

/// Octets there and back, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// TLS 1.2 or 1.3 to a server that these authorities vouch for.
async fn connector(ca: Option<PathBuf>) -> Result<TlsConnector, FetchError> {
    let read = spawn_blocking(move || Authorities::load(ca.as_deref())).await;
    let read = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    let authorities = read.map_err(|source| FetchError::Authorities { source })?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| FetchError::Provider { source })?;
    let mut config = config.with_root_certificates(authorities.roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn exchange(
    stream: Box<dyn Stream>,
    origin: &HttpOrigin,
    validators: &Validators,
    most: usize,
) -> Result<Fetched, FetchError> {
    let failed = |source| FetchError::Exchange { source };
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(failed)?;
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::from(origin.target.clone());
    let headers = request.headers_mut();
    headers.insert(HOST, origin.authority.clone());
    headers.insert(USER_AGENT, HeaderValue::from_static("firewall"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(etag) = &validators.etag {
        headers.insert(IF_NONE_MATCH, etag.clone());
    }
    if let Some(last_modified) = &validators.last_modified {
        headers.insert(IF_MODIFIED_SINCE, last_modified.clone());
    }
    let answering = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let (head, body) = response.into_parts();
        match head.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if *validators != Validators::default() => {
                return Ok(Fetched::Unchanged);
            }
            found => return Err(FetchError::Status { found }),
        }
        if head.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(FetchError::Encoded);
        }
        let body = Limited::new(body, most).collect().await;
        let octets = body.map_err(|source| {
            if source.is::<http_body_util::LengthLimitError>() {
                FetchError::TooLarge { most }
            } else {
                FetchError::Body { source }
            }
        })?;
        let kept = |name| {
            let value: Option<&HeaderValue> = head.headers.get(name);
            value.filter(|value| value.len() <= VALIDATOR_OCTETS_MAX).cloned()
        };
        let validators = Validators { etag: kept(ETAG), last_modified: kept(LAST_MODIFIED) };
        Ok(Fetched::Content { octets: octets.to_bytes().into(), validators })
    };
    let mut answering = std::pin::pin!(answering);
    tokio::select! {
        answered = &mut answering => answered,
        // The connection is what makes the answer come; when it is done, what came is read.
        _ended = connection => answering.await,
    }
}

#[cfg(test)]
mod tests;
