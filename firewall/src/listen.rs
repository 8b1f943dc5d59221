//! From the socket to the pipeline: accepting, framing, and the life of a connection.

pub mod connection;
pub mod connections;
pub mod framing;
pub mod judged;
pub mod socket;

use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::task::spawn_local;
use tracing::debug;

use crate::address::PeerAddr;
use crate::clock::Monotonic;
use crate::pipeline::origin::Origin;

use connection::{ConnectionSettings, Ended, serve};
use connections::{Connections, NoSeat};
use socket::Listener;

/// Why a connection was closed as soon as it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turned {
    Banned,
    NoSeat(NoSeat),
}

/// Accepts and serves, on this thread's `LocalSet`, until dropped; then the connections go on, and
/// [`Connections::drain`] ends them.
///
/// `is_banned` is asked for each connection, for when no kernel program does; `turned` is told of
/// each connection that was not let in.
pub async fn run<F, A, B>(
    mut listener: Listener,
    connections: Rc<Connections>,
    settings: ConnectionSettings,
    is_banned: impl Fn(PeerAddr) -> bool,
    turned: impl Fn(PeerAddr, Turned),
    answer: Rc<F>,
) where
    F: Fn(Origin, Request<Incoming>) -> A + 'static,
    A: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        let (stream, peer) = listener.accept().await;
        let admitted = if is_banned(peer) {
            Err(Turned::Banned)
        } else {
            connections.admit(peer, Monotonic::now()).map_err(Turned::NoSeat)
        };
        match admitted {
            Ok(ticket) => {
                let answer = Rc::clone(&answer);
                // Its ticket is how the connection is counted, ended and waited for.
                drop(spawn_local(async move {
                    let id = ticket.id();
                    if let Ended::Broken(error) = serve(stream, ticket, &settings, answer).await {
                        debug!(connection = id, %error, "connection broke off");
                    }
                }));
            }
            Err(reason) => {
                // A reset leaves nothing behind, on either side.
                stream.set_zero_linger().unwrap_or_else(|error| debug!(%error, "no reset"));
                turned(peer, reason);
            }
        }
    }
}
