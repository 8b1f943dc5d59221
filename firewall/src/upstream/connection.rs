//! Opening one connection to an endpoint, by whichever way it is reached.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, Error as TlsError};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

use super::UpstreamError;
use super::address::Scheme;
use super::endpoint::{Endpoint, Target};
use super::stream::Stream;
use super::tls::UpstreamTls;

/// The endpoint cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("connecting")]
    Connect(#[source] std::io::Error),
    #[error("starting TLS")]
    Tls(#[source] std::io::Error),
    #[error("starting TLS: no name to expect of the endpoint")]
    NoName,
    #[error("starting HTTP")]
    Handshake(#[source] hyper::Error),
    #[error("the endpoint does not take up HTTP/2 in TLS (ALPN)")]
    NotChosen,
    #[error("the endpoint does not begin as HTTP/2 does")]
    NotHttp2,
}

impl ConnectError {
    /// What the client is told, and the counters.
    pub(super) const fn outward(&self) -> UpstreamError {
        match self {
            Self::Tls(_) | Self::NoName => UpstreamError::Tls,
            Self::Connect(_) | Self::Handshake(_) => UpstreamError::Connect,
            Self::NotChosen | Self::NotHttp2 => UpstreamError::NotHttp2,
        }
    }
}

/// Connects. Takes as long as it takes.
pub(super) async fn connect(
    endpoint: &Endpoint,
    tls: Option<&UpstreamTls>,
) -> Result<Stream, ConnectError> {
    match &endpoint.target {
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(ConnectError::Connect)?;
            // Small messages are written whole: waiting for more would only add delay.
            stream.set_nodelay(true).map_err(ConnectError::Connect)?;
            if endpoint.scheme == Scheme::Plain {
                return Ok(Stream::Plain(stream));
            }
            let tls = tls.ok_or(ConnectError::NoName)?;
            let name = tls.name_of(endpoint).ok_or(ConnectError::NoName)?;
            let connector = TlsConnector::from(Arc::clone(&tls.client));
            let stream = connector.connect(name, stream).await.map_err(not_encrypted)?;
            Ok(Stream::Tls(Box::new(stream)))
        }
        Target::Unix(path) => {
            Ok(Stream::Unix(UnixStream::connect(path).await.map_err(ConnectError::Connect)?))
        }
    }
}

/// Who speaks nothing that we offer may end the handshake by saying so (RFC 7301 section 3.2).
fn not_encrypted(error: std::io::Error) -> ConnectError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>());
    let alert = AlertDescription::NoApplicationProtocol;
    if cause.is_some_and(|cause| *cause == TlsError::AlertReceived(alert)) {
        return ConnectError::NotChosen;
    }
    ConnectError::Tls(error)
}

/// Connects, and speaks HTTP/1.1; on this thread's `LocalSet`, the connection lives until its sender
/// is dropped or the endpoint closes it. Takes as long as it takes.
pub(super) async fn open<B>(
    endpoint: &Endpoint,
    tls: Option<&UpstreamTls>,
) -> Result<SendRequest<B>, ConnectError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let stream = connect(endpoint, tls).await?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(ConnectError::Handshake)?;
    spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream connection ended");
        }
    });
    Ok(sender)
}
