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

/// Accepts and serves, on this thread's `LocalSet`, until dropped; then the connections go on, and
/// [`Connections::drain`] ends them.
///
/// `settings` are asked for with each connection, which keeps them.
/// `accepted` is told of each connection. `is_banned` is asked for each, for when no kernel program
/// does, and again when a balancer has said whose it is; `turned` is told of each that was not let
/// in.
pub async fn run<F, A, B>(
    mut listener: Listener,
    connections: Rc<Connections>,
    settings: impl Fn() -> Rc<ConnectionSettings>,
    accepted: impl Fn(),
    is_banned: impl Fn(PeerAddr) -> bool + 'static,
    turned: impl Fn(PeerAddr, Turned) + 'static,
    answer: Rc<F>,
) where
    F: Fn(Origin, Request<Incoming>) -> A + 'static,
    A: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let gate = Rc::new((is_banned, turned));
    loop {
        let (mut stream, peer) = listener.accept().await;
        accepted();
        // Before it is asked for a seat: they tell how many there are.
        let settings = settings();
        let (is_banned, turned) = &*gate;
        let admitted = if is_banned(peer) {
            Err(Turned::Banned)
        } else {
            connections.admit(peer, Monotonic::now()).map_err(Turned::NoSeat)
        };
        match admitted {
            Ok(ticket) => {
                let gate = Rc::clone(&gate);
                let answer = Rc::clone(&answer);
                // Its ticket is how the connection is counted, ended and waited for.
                drop(spawn_local(async move {
                    let id = ticket.id();
                    let (is_banned, turned) = &*gate;
                    if settings.balancers.contain(peer) {
                        let known = introduce(&mut stream, &ticket, &settings.balancers).await;
                        let entered = known.and_then(|peer| enter(&ticket, peer, is_banned));
                        if let Err(reason) = entered {
                            reset(&stream);
                            return reason.map_or((), |reason| turned(ticket.peer(), reason));
                        }
                    }
                    let transport = match &settings.encryption {
                        None => Transport::Plain(stream),
                        Some(encryption) => match tls::accept(stream, &ticket, encryption).await {
                            Ok(transport) => transport,
                            Err(reason) => {
                                let turned = |reason| turned(ticket.peer(), Turned::NoTls(reason));
                                return reason.map_or((), turned);
                            }
                        },
                    };
                    if let Ended::Broken(error) = serve(transport, ticket, &settings, answer).await
                    {
                        debug!(connection = id, %error, "connection broke off");
                    }
                }));
            }
            Err(reason) => {
                reset(&stream);
                turned(peer, reason);
            }
        }
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
