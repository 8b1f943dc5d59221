//! From the socket to the pipeline: accepting, framing, and the life of a connection.

pub mod connection;
pub mod connections;
pub mod framing;
mod greeting;
pub mod http2;
pub mod inherit;
pub mod judged;
pub mod proxy_protocol;
pub mod socket;
mod taking;
pub mod tls;
pub mod transport;

use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tracing::debug;

use crate::access_log::Ending;
use crate::address::PeerAddr;
use crate::clock::Monotonic;
use crate::pipeline::origin::Origin;

use connection::{ConnectionSettings, Ended, serve};
use connections::{Connections, NoSeat, Ticket};
use proxy_protocol::{Balancers, HeaderError};
use socket::Listener;
use tls::NoTls;
use transport::{Transport, reset};

/// Why a connection was closed as soon as it was known whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turned {
    Banned,
    NoSeat(NoSeat),
    /// A balancer did not begin it with a PROXY header.
    NoHeader,
    /// A balancer did not say in time whose it is.
    HeaderTimeout,
    /// Its handshake did not come to a good end.
    NoTls(NoTls),
}

/// What becomes of connections, apart from their requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// One has come.
    Accepted,
    /// One was not let in.
    Turned(Turned),
    /// One was let in, and the firewall has ended it by itself.
    Ended(Ending),
}

/// Accepts and serves, on this thread's `LocalSet`, until dropped; then the connections go on, and
/// [`Connections::drain`] ends them.
///
/// `settings` are asked for with each connection, which keeps them. `is_banned` is asked for each, for
/// when no kernel program does, and again when a balancer has said whose it is; `tell` is told what
/// becomes of them.
pub async fn run<F, A, B>(
    mut listener: Listener,
    connections: Rc<Connections>,
    settings: impl Fn() -> Rc<ConnectionSettings>,
    is_banned: impl Fn(PeerAddr) -> bool + 'static,
    tell: impl Fn(PeerAddr, Event) + 'static,
    answer: Rc<F>,
) where
    F: Fn(Origin, Request<Incoming>) -> A + 'static,
    A: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let gate = Rc::new((is_banned, tell));
    loop {
        let (stream, peer) = listener.accept().await;
        // Before a seat is asked for: they tell how many there are.
        let settings = settings();
        let (is_banned, tell) = &*gate;
        tell(peer, Event::Accepted);
        let admitted = if is_banned(peer) {
            Err(Turned::Banned)
        } else {
            connections.admit(peer, Monotonic::now()).map_err(Turned::NoSeat)
        };
        match admitted {
            Ok(ticket) => {
                let (gate, answer) = (Rc::clone(&gate), Rc::clone(&answer));
                // Its ticket is how the connection is counted, ended and waited for.
                drop(spawn_local(async move {
                    let (is_banned, tell) = &*gate;
                    let judgement = Rc::clone(ticket.judgement());
                    let ready = prepare(stream, &ticket, &settings, is_banned).await;
                    let peer = ticket.peer();
                    match ready {
                        Ok(transport) => converse(transport, ticket, &settings, answer).await,
                        Err(Some(reason)) => return tell(peer, Event::Turned(reason)),
                        Err(None) => {}
                    }
                    if let Some(ending) = judgement.ending() {
                        tell(peer, Event::Ended(ending));
                    }
                }));
            }
            Err(reason) => {
                reset(&stream);
                tell(peer, Event::Turned(reason));
            }
        }
    }
}

/// What comes before the first request: who the client is, and how the connection is encrypted.
///
/// # Errors
/// Why the connection is turned away; none if it was told to end, or ended by itself.
async fn prepare(
    mut stream: TcpStream,
    ticket: &Ticket,
    settings: &ConnectionSettings,
    is_banned: impl Fn(PeerAddr) -> bool,
) -> Result<Transport, Option<Turned>> {
    if settings.balancers.contain(ticket.socket()) {
        let known = introduce(&mut stream, ticket, &settings.balancers).await;
        let entered = known.and_then(|peer| enter(ticket, peer, is_banned));
        if let Err(reason) = entered {
            reset(&stream);
            return Err(reason);
        }
    }
    match &settings.encryption {
        None => Ok(Transport::Plain(stream)),
        Some(encryption) => {
            let accepted = tls::accept(stream, ticket, encryption).await;
            accepted.map_err(|reason| reason.map(Turned::NoTls))
        }
    }
}

/// Requests and answers, until the connection is over.
async fn converse<F, A, B>(
    transport: Transport,
    ticket: Ticket,
    settings: &ConnectionSettings,
    answer: Rc<F>,
) where
    F: Fn(Origin, Request<Incoming>) -> A,
    A: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let id = ticket.id();
    if let Ended::Broken(error) = serve(transport, ticket, settings, answer).await {
        debug!(connection = id, %error, "connection broke off");
    }
}

/// Reads from a balancer whose connection this is; none if it is its own.
///
/// # Errors
/// Why the connection is turned away; none if it was told to end, or ended by itself.
async fn introduce(
    stream: &mut TcpStream,
    ticket: &Ticket,
    balancers: &Balancers,
) -> Result<Option<PeerAddr>, Option<Turned>> {
    let (id, balancer) = (ticket.id(), ticket.socket().0);
    let header = tokio::select! {
        biased;
        () = ticket.ended() => return Err(None),
        header = timeout(balancers.header_timeout, proxy_protocol::read(stream)) => header,
    };
    match header {
        Ok(Ok(header)) => Ok(header.source),
        Ok(Err(error @ HeaderError::Malformed(_))) => {
            debug!(connection = id, %balancer, %error, "turned away");
            Err(Some(Turned::NoHeader))
        }
        Ok(Err(error)) => {
            debug!(connection = id, %balancer, %error, "connection broke off");
            Err(None)
        }
        Err(_elapsed) => Err(Some(Turned::HeaderTimeout)),
    }
}

/// Lets in whom a balancer has named, as if he had connected himself.
fn enter(
    ticket: &Ticket,
    source: Option<PeerAddr>,
    is_banned: impl Fn(PeerAddr) -> bool,
) -> Result<(), Option<Turned>> {
    let Some(source) = source else { return Ok(()) };
    if is_banned(source) {
        return Err(Some(Turned::Banned));
    }
    let renamed = ticket.rename(source, Monotonic::now());
    renamed.map_err(|reason| Some(Turned::NoSeat(reason)))
}
