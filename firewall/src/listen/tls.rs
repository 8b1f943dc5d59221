//! A connection's handshake: bounded in time, octets and number, and refused by its own reasons.

pub mod handshakes;

use std::fmt;
use std::io::{Error, ErrorKind, Result as IoResult};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::connections::Ticket;
use super::transport::{Transport, reset};
use crate::metrics::Metrics;
use crate::tls::hello::{ClientHello, Gathering, NoHello};
use crate::tls::ja4::Ja4;
use crate::tls::server::{BUFFERED_OCTETS_MAX, Server};
use crate::tls::session::Session;

use handshakes::Handshakes;

/// TLS 1.2.
const OLDEST_VERSION: u16 = 0x0303;
/// The alert that no version is spoken that the client does (RFC 5246 appendix E.1), as a record: fatal,
/// `protocol_version`.
const PROTOCOL_VERSION: [u8; 7] = [21, 3, 3, 0, 2, 2, 70];
/// The alert that no name is known (RFC 6066 section 3), as a record: fatal, `unrecognized_name`.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// How many octets of what a refused client has sent already are read, so that closing does not reset
/// the connection under our alert.
const UNREAD_OCTETS_MAX: usize = 16 * 1024;
/// How much of the first message is read at once.
const PIECE_OCTETS: usize = 2048;

/// How a listener encrypts.
#[derive(Clone)]
pub struct Encryption {
    /// Gives the server's present side, which a reload replaces.
    pub server: Rc<dyn Fn() -> Option<Arc<Server>>>,
    /// From the handshake's beginning to its end.
    pub timeout: Duration,
    pub handshakes: Rc<Handshakes>,
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timeout, handshakes, .. } = self;
        f.debug_struct("Encryption")
            .field("timeout", timeout)
            .field("handshakes", handshakes)
            .finish_non_exhaustive()
    }
}

/// Why a connection is not encrypted, and so is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoTls {
    /// The worker has as many handshakes in hand as it may, and this was the oldest.
    Busy,
    /// The source has as many handshakes in hand as it may.
    Source,
    /// The handshake was not over in time.
    Timeout,
    /// The client does not speak TLS; most often it speaks in plain text.
    Plaintext,
    /// The client's first message is malformed, or too long.
    Hello,
    /// No certificate is for the name that the client asked for.
    UnknownName,
    /// The client's certificate is missing, or was not accepted.
    ClientCertificate,
    /// The sides could not agree, or the client broke the protocol.
    Failed,
}

impl NoTls {
    pub const ALL: [Self; 8] = [
        Self::Busy,
        Self::Source,
        Self::Timeout,
        Self::Plaintext,
        Self::Hello,
        Self::UnknownName,
        Self::ClientCertificate,
        Self::Failed,
    ];

    /// For logs and metrics.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Busy => "tls-handshakes-full",
            Self::Source => "tls-handshakes-source",
            Self::Timeout => "tls-timeout",
            Self::Plaintext => "tls-plaintext",
            Self::Hello => "tls-hello",
            Self::UnknownName => "tls-unknown-name",
            Self::ClientCertificate => "tls-client-certificate",
            Self::Failed => "tls-failed",
        }
    }
}

/// A handshake that came to nothing: the client's fault, or a connection that broke off.
enum Failure {
    Refused(NoTls, String),
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(refused) => Self::Refused(reason(refused), refused.to_string()),
            None => Self::Broken(error),
        }
    }
}

/// Whose fault it is that the library gives up.
fn reason(error: &rustls::Error) -> NoTls {
    use rustls::Error as E;
    match error {
        E::NoCertificatesPresented | E::InvalidCertificate(_) | E::InvalidCertRevocationList(_) => {
            NoTls::ClientCertificate
        }
        _ => NoTls::Failed,
    }
}

/// Waits for the client's handshake; what it settled stands in the connection's judgement then.
///
/// # Errors
/// Why the connection is turned away; none if it was told to end, or broke off by itself.
pub(super) async fn accept(
    stream: TcpStream,
    ticket: &Ticket,
    encryption: &Encryption,
) -> Result<Transport, Option<NoTls>> {
    // Whatever drops it before it is settled resets it: nothing is kept for who does not come to the end.
    reset(&stream);
    // There is one: that TLS is spoken at all cannot change by a reload.
    let server = (encryption.server)().ok_or(None)?;
    let place = encryption.handshakes.begin(ticket.peer())?;
    let settled = tokio::select! {
        biased;
        () = ticket.ended() => return Err(None),
        () = place.lost() => return Err(Some(NoTls::Busy)),
        settled = timeout(encryption.timeout, shake(stream, &server, &encryption.metrics)) => settled,
    };
    drop(place);
    let id = ticket.id();
    match settled {
        Err(_elapsed) => Err(Some(NoTls::Timeout)),
        Ok(Ok((stream, ja4))) => {
            let session = Session::of(stream.get_ref().1, ja4, &server);
            if !session.is_accepted(&server) {
                debug!(connection = id, "the certificate of a session is no longer accepted");
                return Err(Some(NoTls::ClientCertificate));
            }
            let kind = if session.is_resumed { "resumed" } else { "full" };
            encryption.metrics.tls_handshakes.with_label_values(&[session.version, kind]).inc();
            ticket.judgement().encrypted(session);
            keep(stream.get_ref().0);
            Ok(Transport::Tls(Box::new(stream)))
        }
        Ok(Err((Failure::Refused(reason, why), stream))) => {
            debug!(connection = id, reason = reason.id(), why, "no handshake");
            part(&stream);
            Err(Some(reason))
        }
        Ok(Err((Failure::Broken(error), _))) => {
            debug!(connection = id, %error, "connection broke off");
            Err(None)
        }
    }
}

type Settled = (TlsStream<TcpStream>, Option<Ja4>);

/// The handshake from its first octet to its last. Where it fails, the client has been sent its alert.
async fn shake(
    mut stream: TcpStream,
    server: &Server,
    metrics: &Metrics,
) -> Result<Settled, (Failure, TcpStream)> {
    let (accepted, ja4) = match greet(&mut stream, server, metrics).await {
        Ok(greeted) => greeted,
        Err(failure) => return Err((failure, stream)),
    };
    let config = Arc::clone(server.config());
    let accepting = StartHandshake::from_parts(accepted, stream)
        .into_stream_with(config, |session| session.set_buffer_limit(Some(BUFFERED_OCTETS_MAX)));
    match accepting.into_fallible().await {
        Ok(stream) => Ok((stream, ja4)),
        Err((error, stream)) => Err((error.into(), stream)),
    }
}

/// Reads the client's first message, and looks whether it is one to answer.
async fn greet(
    stream: &mut TcpStream,
    server: &Server,
    metrics: &Metrics,
) -> Result<(Accepted, Option<Ja4>), Failure> {
    let mut gathering = Gathering::default();
    let mut piece = [0; PIECE_OCTETS];
    while let Some(wanted) = gathering.wants() {
        let place = piece.get_mut(..wanted.min(PIECE_OCTETS)).unwrap_or_default();
        let read = match stream.read(place).await? {
            0 => return Err(Failure::Broken(ErrorKind::UnexpectedEof.into())),
            read => read,
        };
        let taken = gathering.take(place.get(..read).unwrap_or_default());
        if let Err(none) = taken {
            let reason = match none {
                NoHello::NotTls => NoTls::Plaintext,
                NoHello::NotHello | NoHello::TooLarge => NoTls::Hello,
            };
            if let Err((_, mut alert)) = acceptor(gathering.octets()) {
                tell(stream, &mut alert).await?;
            }
            return Err(Failure::Refused(reason, none.to_string()));
        }
    }
    let hello = ClientHello::parse(gathering.message());
    if let Some(hello) = &hello {
        metrics.tls_hellos.with_label_values(&[Ja4::offered(hello)]).inc();
        // The library would miss an extension first, and name that.
        if hello.version() < OLDEST_VERSION {
            stream.write_all(&PROTOCOL_VERSION).await?;
            return Err(Failure::Refused(NoTls::Failed, "a version that is not spoken".into()));
        }
    }
    let accepted = match acceptor(gathering.octets()) {
        Ok(Some(accepted)) => accepted,
        Ok(None) => return Err(Failure::Refused(NoTls::Hello, "not whole".into())),
        Err((error, mut alert)) => {
            tell(stream, &mut alert).await?;
            return Err(Failure::Refused(NoTls::Hello, error.to_string()));
        }
    };
    if !server.answers(&accepted.client_hello()) {
        stream.write_all(&UNRECOGNIZED_NAME).await?;
        return Err(Failure::Refused(NoTls::UnknownName, "no certificate for the name".into()));
    }
    Ok((accepted, hello.as_ref().map(Ja4::of)))
}

/// Gives the library the first message. None where it is not whole.
fn acceptor(octets: &[u8]) -> Result<Option<Accepted>, (rustls::Error, Option<AcceptedAlert>)> {
    let (mut acceptor, mut rest) = (Acceptor::default(), octets);
    while !rest.is_empty() {
        let general = |error: Error| (rustls::Error::General(error.to_string()), None);
        acceptor.read_tls(&mut rest).map_err(general)?;
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return Ok(Some(accepted)),
            Err((error, alert)) => return Err((error, Some(alert))),
        }
    }
    Ok(None)
}

/// Sends the library's alert, if it has one.
async fn tell(stream: &mut TcpStream, alert: &mut Option<AcceptedAlert>) -> IoResult<()> {
    let mut octets = Vec::new();
    if let Some(alert) = alert {
        alert.write_all(&mut octets)?;
    }
    stream.write_all(&octets).await
}

/// Lets the connection end in the common way.
fn keep(stream: &TcpStream) {
    let kept = SockRef::from(stream).set_linger(None);
    kept.unwrap_or_else(|error| debug!(%error, "the connection will end by a reset"));
}

/// Ends a connection so that the client can read our alert: what has come of its octets already is read,
/// else closing would reset the connection.
fn part(stream: &TcpStream) {
    keep(stream);
    let (mut scrap, mut left) = ([0; PIECE_OCTETS], UNREAD_OCTETS_MAX);
    while let Ok(read @ 1..) = stream.try_read(&mut scrap) {
        left = left.saturating_sub(read);
        if left == 0 {
            return;
        }
    }
}
