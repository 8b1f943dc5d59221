//! The closed-loop load generator: each connection asks again as soon as it was answered.
//!
//! So it measures what a peer can do at saturation. Its latencies are not what a client sees at a
//! fixed rate: a slow answer delays the next question instead of queueing behind it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HeaderValue;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::clock;
use crate::workload::{Conduct, Expected, Workload};

/// How long the last answers may take after a measurement's end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer that is read, in octets.
const ANSWER_OCTETS_MAX: usize = 1 << 20;

/// Keep-alive connections to one peer.
pub(crate) struct Load {
    connections: Vec<Connection>,
}

/// What one measurement counted.
pub(crate) struct Outcome {
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// One value a request: from the question to the end of the answer, in nanoseconds.
    pub(crate) latency_ns: Histogram<u64>,
    /// Connections that the peer closed and that had to be opened again.
    pub(crate) reconnects: u64,
}

struct Connection {
    peer: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

struct Tally {
    latency_ns: Histogram<u64>,
    reconnects: u64,
}

impl Load {
    /// Opens `count` connections. Must be called, as [`Load::run`], within a `LocalSet`.
    pub(crate) async fn connect(peer: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(Connection { peer, sender: open(peer).await? });
        }
        Ok(Self { connections })
    }

    /// Asks on every connection for `duration`, and waits for the last answers. The first wrong
    /// answer, or none, is an error.
    pub(crate) async fn run(
        &mut self,
        workload: Workload,
        conduct: Conduct,
        duration: Duration,
    ) -> anyhow::Result<Outcome> {
        let tally = Rc::new(RefCell::new(Tally {
            latency_ns: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
            reconnects: 0,
        }));
        let expected = workload.expected(conduct);
        let start = clock::monotonic();
        let mut asking = JoinSet::new();
        for connection in self.connections.drain(..) {
            let host = HeaderValue::from_str(&connection.peer.to_string())?;
            let (request, tally) = (workload.request(host), Rc::clone(&tally));
            asking.spawn_local(ask(connection, request, expected, start + duration, tally));
        }
        let finished = async {
            while let Some(connection) = asking.join_next().await {
                self.connections.push(connection??);
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(duration + PATIENCE, finished)
            .await
            .with_context(|| format!("no answer within {PATIENCE:?}"))??;
        let elapsed = clock::monotonic().saturating_sub(start);
        let Tally { latency_ns, reconnects } =
            tally.replace(Tally { latency_ns: Histogram::new(1)?, reconnects: 0 });
        Ok(Outcome { elapsed, latency_ns, reconnects })
    }
}

impl Outcome {
    pub(crate) fn requests(&self) -> u64 {
        self.latency_ns.len()
    }
}

async fn ask(
    mut connection: Connection,
    request: Request<Full<Bytes>>,
    expected: Expected,
    until: Duration,
    tally: Rc<RefCell<Tally>>,
) -> anyhow::Result<Connection> {
    loop {
        let start = clock::monotonic();
        if start >= until {
            return Ok(connection);
        }
        if connection.sender.ready().await.is_err() {
            connection.sender = open(connection.peer).await?;
            connection.sender.ready().await?;
            tally.borrow_mut().reconnects += 1;
        }
        let answer = connection.sender.send_request(request.clone()).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_OCTETS_MAX).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        let latency = clock::monotonic().saturating_sub(start);
        judge(expected, status, &body)?;
        let ns = u64::try_from(latency.as_nanos())?;
        tally.borrow_mut().latency_ns.saturating_record(ns);
    }
}

async fn open(peer: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(peer).await.with_context(|| format!("connecting to {peer}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // What goes wrong on the connection is told to the request that is on it.
    tokio::task::spawn_local(async { drop(connection.await) });
    Ok(sender)
}

fn judge(expected: Expected, status: StatusCode, body: &[u8]) -> anyhow::Result<()> {
    let right_body = expected.body.is_none_or(|right| right.as_bytes() == body);
    if status == expected.status && right_body {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(body.get(..300).unwrap_or(body));
    anyhow::ensure!(
        status == expected.status,
        "expected {}, got {status}: {shown}",
        expected.status
    );
    anyhow::bail!("{status} with another body than the upstream's: {shown}")
}

#[cfg(test)]
mod tests;
