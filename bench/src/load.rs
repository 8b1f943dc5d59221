//! The closed-loop load generator: each connection asks again as soon as it was answered.
//!
//! So it measures what a peer can do at saturation. Its latencies are not what a client sees at a
//! fixed rate: a slow answer delays the next question instead of queueing behind it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::HeaderValue;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::clock;
use crate::workload::{Conduct, Expected, Manner, STREAMS, Workload};

/// How long the last answers may take after a measurement's end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer that is read, in octets.
const ANSWER_OCTETS_MAX: usize = 1 << 20;

/// Where requests go, and how.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) peer: SocketAddr,
    pub(crate) manner: Manner,
    /// The certificate that the peer must show; none: plain text.
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

/// So many requests to one peer at once.
pub(crate) struct Load {
    askers: Vec<Asker>,
}

/// What one measurement counted.
pub(crate) struct Outcome {
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// One value a request: from the question to the end of the answer, in nanoseconds; where each
    /// has a connection of its own, from the beginning of that.
    pub(crate) latency_ns: Histogram<u64>,
    /// Kept connections that the peer closed and that had to be opened again.
    pub(crate) reconnects: u64,
}

/// One request at a time.
struct Asker {
    route: Route,
    tls: Option<TlsConnector>,
    /// It has been at the peer before.
    has_session: bool,
    sender: Option<Sender>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    /// One of those on a connection.
    Http2(http2::SendRequest<Full<Bytes>>),
}

struct Tally {
    latency_ns: Histogram<u64>,
    reconnects: u64,
}

impl Load {
    /// Opens what is needed for `count` requests at once. Must be called, as [`Load::run`], within a
    /// `LocalSet`.
    pub(crate) async fn connect(route: Route, count: usize) -> anyhow::Result<Self> {
        let mut askers: Vec<Asker> = Vec::with_capacity(count);
        for place in 0..count {
            let mut asker = Asker {
                route: route.clone(),
                tls: route.connector()?,
                has_session: false,
                sender: None,
            };
            let is_guest = route.manner == Manner::Multiplexed && place % STREAMS > 0;
            match askers.last().and_then(|last| last.sender.as_ref()) {
                Some(Sender::Http2(host)) if is_guest => {
                    asker.sender = Some(Sender::Http2(host.clone()));
                }
                // What is to be resumed must have been begun, and the ticket comes with an answer.
                _ if matches!(route.manner, Manner::Fresh { .. }) => {}
                _ => asker.sender = Some(asker.open().await?),
            }
            askers.push(asker);
        }
        Ok(Self { askers })
    }

    /// Asks for `duration`, and waits for the last answers. The first wrong answer, or none, is an
    /// error.
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
        for asker in self.askers.drain(..) {
            let host = HeaderValue::from_str(&asker.route.peer.to_string())?;
            let (request, tally) = (workload.request(&host)?, Rc::clone(&tally));
            asking.spawn_local(ask(asker, request, expected, start + duration, tally));
        }
        let finished = async {
            while let Some(asker) = asking.join_next().await {
                self.askers.push(asker??);
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
    mut asker: Asker,
    request: Request<Full<Bytes>>,
    expected: Expected,
    until: Duration,
    tally: Rc<RefCell<Tally>>,
) -> anyhow::Result<Asker> {
    let is_kept = !matches!(asker.route.manner, Manner::Fresh { .. });
    loop {
        let start = clock::monotonic();
        if start >= until {
            return Ok(asker);
        }
        let mut sender = match asker.sender.take() {
            Some(sender) => sender,
            None => asker.open().await?,
        };
        if sender.ready().await.is_err() {
            sender = asker.open().await?;
            sender.ready().await?;
            tally.borrow_mut().reconnects += 1;
        }
        let answer = sender.send(request.clone()).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_OCTETS_MAX).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        let latency = clock::monotonic().saturating_sub(start);
        judge(expected, status, &body)?;
        let ns = u64::try_from(latency.as_nanos())?;
        tally.borrow_mut().latency_ns.saturating_record(ns);
        asker.sender = Some(sender).filter(|_| is_kept);
    }
}

impl Route {
    /// Plain HTTP/1.1 on kept connections.
    pub(crate) const fn plain(peer: SocketAddr) -> Self {
        Self { peer, manner: Manner::Kept, certificate: None }
    }

    /// By TLS 1.3, with sessions of its own.
    fn connector(&self) -> anyhow::Result<Option<TlsConnector>> {
        let Some(certificate) = &self.certificate else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone())?;
        // What every peer can do: others than the firewall know no post-quantum group yet.
        let x25519 = vec![aws_lc_rs::kx_group::X25519];
        let provider = CryptoProvider { kx_groups: x25519, ..aws_lc_rs::default_provider() };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        let (protocol, resumption) = match self.manner {
            Manner::Multiplexed => ("h2", Resumption::disabled()),
            Manner::Fresh { is_resumed: true } => ("http/1.1", Resumption::in_memory_sessions(1)),
            Manner::Kept | Manner::Fresh { is_resumed: false } => {
                ("http/1.1", Resumption::disabled())
            }
        };
        config.alpn_protocols = vec![protocol.into()];
        config.resumption = resumption;
        Ok(Some(TlsConnector::from(Arc::new(config))))
    }
}

impl Asker {
    async fn open(&mut self) -> anyhow::Result<Sender> {
        let Route { peer, manner, .. } = self.route;
        let stream =
            TcpStream::connect(peer).await.with_context(|| format!("connecting to {peer}"))?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return begin(manner, stream).await };
        let stream = tls.connect(ServerName::from(peer.ip()), stream).await.context("TLS")?;
        let kind = stream.get_ref().1.handshake_kind();
        if let Manner::Fresh { is_resumed: true } = manner
            && self.has_session
        {
            anyhow::ensure!(kind == Some(HandshakeKind::Resumed), "a session was not resumed");
        }
        self.has_session = true;
        begin(manner, stream).await
    }
}

async fn begin<S>(manner: Manner, stream: S) -> anyhow::Result<Sender>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // What goes wrong on the connection is told to the request that is on it.
    if manner == Manner::Multiplexed {
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async { drop(connection.await) });
        return Ok(Sender::Http2(sender));
    }
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async { drop(connection.await) });
    Ok(Sender::Http1(sender))
}

impl Sender {
    async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
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
