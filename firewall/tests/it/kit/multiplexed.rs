//! Upstreams of HTTP/2: by the h2 crate, which keeps to the protocol, and frame by frame, which need not.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

use super::frames::Http2;
use super::tls::Issued;

/// A request's head, as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and path.
    pub(crate) line: String,
    pub(crate) scheme: Option<String>,
    pub(crate) authority: Option<String>,
    pub(crate) fields: HeaderMap,
}

impl Asked {
    fn of(request: &Request<RecvStream>) -> Self {
        let uri = request.uri();
        Self {
            line: format!("{} {}", request.method(), uri.path_and_query().unwrap()),
            scheme: uri.scheme_str().map(Into::into),
            authority: uri.authority().map(|authority| authority.as_str().into()),
            fields: request.headers().clone(),
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.to_str().ok()
    }
}

/// One request that is to be answered.
pub(crate) struct Exchange {
    /// Of its connection.
    pub(crate) connection: usize,
    pub(crate) asked: Asked,
    body: RecvStream,
    respond: SendResponse<Bytes>,
}

impl Exchange {
    /// The next piece of the request's body; none at its end, or where the stream was reset.
    pub(crate) async fn piece(&mut self) -> Option<Bytes> {
        let piece = self.body.data().await?.ok()?;
        self.body.flow_control().release_capacity(piece.len()).unwrap();
        Some(piece)
    }

    /// How the request's body was reset, once it is.
    pub(crate) async fn reset(&mut self) -> Option<h2::Reason> {
        loop {
            match self.body.data().await? {
                Ok(piece) => self.body.flow_control().release_capacity(piece.len()).unwrap(),
                Err(error) => return error.reason(),
            }
        }
    }

    pub(crate) async fn whole(&mut self) -> Vec<u8> {
        let mut whole = Vec::new();
        while let Some(piece) = self.piece().await {
            whole.extend_from_slice(&piece);
        }
        whole
    }

    /// Begins the answer.
    pub(crate) fn head(&mut self, status: u16, fields: &[(&str, &str)]) -> SendStream<Bytes> {
        self.begin(status, fields).unwrap()
    }

    /// The same; none where whoever asked has left.
    pub(crate) fn begin(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
    ) -> Option<SendStream<Bytes>> {
        self.respond.send_response(head(status, fields), false).ok()
    }

    /// The whole answer, and no body.
    pub(crate) fn bodiless(&mut self, status: u16, fields: &[(&str, &str)]) {
        self.respond.send_response(head(status, fields), true).unwrap();
    }

    pub(crate) fn json(&mut self, status: u16, body: &str) {
        let mut stream = self.head(status, &[("content-type", "application/json")]);
        stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
    }

    pub(crate) fn refuse(&mut self, reason: h2::Reason) {
        self.respond.send_reset(reason);
    }
}

fn head(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let mut head = Response::builder().status(status);
    for (name, value) in fields {
        head = head.header(*name, *value);
    }
    head.body(()).unwrap()
}

pub(crate) type Answering = Pin<Box<dyn Future<Output = ()>>>;

type Answer = dyn Fn(Exchange) -> Answering + Send + Sync;

/// The server; it ends with the process.
#[derive(Clone)]
pub(crate) struct Multiplexed {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    encrypted: bool,
}

impl Multiplexed {
    pub(crate) fn start(answer: impl Fn(Exchange) -> Answering + Send + Sync + 'static) -> Self {
        Self::tuned(|_| {}, None, answer)
    }

    /// With other settings than h2's, and by TLS with these protocols where it is given.
    pub(crate) fn tuned(
        tune: impl Fn(&mut Builder) + Send + 'static,
        tls: Option<(&Issued, &[&str])>,
        answer: impl Fn(Exchange) -> Answering + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let tls = tls.map(|(issued, protocols)| acceptor(issued, protocols));
        let server = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            connections: Arc::default(),
            ended: Arc::default(),
            encrypted: tls.is_some(),
        };
        let (shared, answer): (_, Arc<Answer>) = (server.clone(), Arc::new(answer));
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    let (shared, answer) = (shared.clone(), Arc::clone(&answer));
                    let mut builder = Builder::new();
                    tune(&mut builder);
                    let tls = tls.clone();
                    spawn_local(async move {
                        match tls {
                            None => shared.serve(builder, stream, &answer).await,
                            Some(tls) => {
                                let Ok(stream) = tls.accept(stream).await else { return };
                                shared.serve(builder, stream, &answer).await;
                            }
                        }
                    });
                }
            });
        });
        server
    }

    async fn serve<S>(self, builder: Builder, stream: S, answer: &Arc<Answer>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let Ok(mut serving) = builder.handshake::<_, Bytes>(stream).await else { return };
        while let Some(Ok((request, respond))) = serving.accept().await {
            let asked = Asked::of(&request);
            self.asked.lock().unwrap().push(asked.clone());
            if asked.field("x-last").is_some() {
                serving.graceful_shutdown();
            }
            let body = request.into_body();
            drop(spawn_local(answer(Exchange { connection, asked, body, respond })));
        }
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// All requests so far, in the order of their arrival.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Those of them that have ended.
    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    pub(crate) fn url(&self) -> String {
        format!("http{}://{}", if self.encrypted { "s" } else { "" }, self.address)
    }
}

fn acceptor(issued: &Issued, protocols: &[&str]) -> TlsAcceptor {
    let server = ServerConfig::builder_with_provider(firewall::tls::provider());
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_slice(issued.chain.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let mut server = server.with_single_cert(chain, key).unwrap();
    server.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(server))
}

/// Serves each connection, after the client's preface, as it is told; gives where.
pub(crate) fn raw(serve: impl Fn(&mut Http2) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            thread::spawn(move || {
                if let Some(mut connection) = Http2::accepted(stream) {
                    serve(&mut connection);
                }
            });
        }
    });
    address
}
