//! A connection's handshake: bounded in time and in octets, and refused by its own reasons.

use std::fmt;
use std::io::Result as IoResult;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::connections::Ticket;
use super::transport::Transport;
use crate::tls::session::Session;

/// How a listener encrypts.
#[derive(Clone)]
pub struct Encryption {
    /// Gives the server's present side, which a reload replaces.
    pub server: Rc<dyn Fn() -> Arc<ServerConfig>>,
    /// From the handshake's beginning to its end.
    pub handshake_timeout: Duration,
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption").field("handshake_timeout", &self.handshake_timeout).finish()
    }
}

/// Why a connection is not encrypted, and so is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoTls {
    /// The handshake was not over in time.
    Timeout,
    /// The sides could not agree, or the client broke the protocol.
    Failed,
}

/// Waits for the client's handshake; what it settled stands in the connection's judgement then.
///
/// # Errors
/// Why the connection is turned away; none if it was told to end.
pub(super) async fn accept(
    stream: TcpStream,
    ticket: &Ticket,
    encryption: &Encryption,
) -> Result<Transport, Option<NoTls>> {
    let handshake = TlsAcceptor::from((encryption.server)()).accept(stream);
    let settled: Result<IoResult<TlsStream<_>>, _> = tokio::select! {
        biased;
        () = ticket.ended() => return Err(None),
        settled = timeout(encryption.handshake_timeout, handshake) => settled,
    };
    match settled {
        Ok(Ok(stream)) => {
            ticket.judgement().encrypted(Session::of(stream.get_ref().1));
            Ok(Transport::Tls(Box::new(stream)))
        }
        Ok(Err(error)) => {
            debug!(connection = ticket.id(), %error, "no handshake");
            Err(Some(NoTls::Failed))
        }
        Err(_elapsed) => Err(Some(NoTls::Timeout)),
    }
}
