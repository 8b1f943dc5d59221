//! The fixed-answer upstream: one thread, no work but the answers that the contract promises.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, server};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::pin;
use crate::workload::{CATALOGUE, ITEM, RECEIPT, TAKEN};

/// The largest request body that is read, in octets.
const BODY_OCTETS_MAX: usize = 1 << 20;

/// An upstream on a thread of its own, which stops when this is dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Listens on `address` (port 0 chooses one); its thread runs on `cpu` alone, if one is given.
    pub(crate) fn start(address: SocketAddr, cpu: Option<usize>) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind(address)
            .with_context(|| format!("listening on {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("upstream".into()).spawn(move || {
            let served = cpu.map_or(Ok(()), pin::this_thread).and_then(|()| {
                runtime.block_on(async {
                    let listener = TcpListener::from_std(listener)?;
                    tokio::select! {
                        served = serve(&listener) => served,
                        _ = stopped => Ok(()),
                    }
                })
            });
            if let Err(error) = served {
                eprintln!("upstream: {error:#}");
            }
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits for the thread, which ends only by an error.
    pub(crate) fn join(mut self) -> anyhow::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => anyhow::bail!("the upstream's thread panicked"),
            Some(Ok(())) | None => anyhow::bail!("the upstream stopped"),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("upstream: its thread panicked");
        }
    }
}

async fn serve(listener: &TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("accepting a connection")?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(stream));
    }
}

async fn connection(stream: TcpStream) {
    let served = server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
    // A peer that is stopped between two measurements resets its connections.
    if let Err(error) = served
        && (error.is_parse() || error.is_user())
    {
        eprintln!("upstream: {error}");
    }
}

/// What the bench's contract promises; 404, 405, 413 to everything else, so that a peer that
/// forwards something else than it was sent is found out.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let is_item =
        request.uri().path().strip_prefix("/items/").is_some_and(|id| id.parse::<u32>().is_ok());
    let (allowed, status, text) = match request.uri().path() {
        "/orders" => (Method::POST, StatusCode::CREATED, RECEIPT),
        "/imports" => (Method::POST, StatusCode::ACCEPTED, TAKEN),
        "/catalogue" => (Method::GET, StatusCode::OK, CATALOGUE.as_str()),
        _ if is_item => (Method::GET, StatusCode::OK, ITEM),
        _ => return Ok(empty(StatusCode::NOT_FOUND)),
    };
    if request.method() != allowed {
        let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
        let methods = HeaderValue::from_str(allowed.as_str());
        response.headers_mut().extend(methods.map(|methods| (ALLOW, methods)));
        return Ok(response);
    }
    let body = Limited::new(request.into_body(), BODY_OCTETS_MAX);
    if let Err(error) = body.collect().await {
        return match error.downcast::<hyper::Error>() {
            Ok(broken) => Err(*broken),
            Err(_too_long) => Ok(empty(StatusCode::PAYLOAD_TOO_LARGE)),
        };
    }
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// The status line and the body that the upstream gives to a request of these octets.
    fn exchange(upstream: &Upstream, request: &str) -> (String, String) {
        let mut stream = std::net::TcpStream::connect(upstream.address).expect("connected");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
    }

    #[test]
    fn upstream_keeps_the_contract_and_nothing_else() {
        let upstream = Upstream::start(([127, 0, 0, 1], 0).into(), None).expect("started");
        let too_long = format!("POST /orders {}", "x".repeat(BODY_OCTETS_MAX + 1));
        let cases = [
            ("GET /items/42", "200 OK", ITEM),
            ("GET /items/42?currency=EUR", "200 OK", ITEM),
            ("GET /items/", "404 Not Found", ""),
            ("GET /items/x", "404 Not Found", ""),
            ("POST /items/42", "405 Method Not Allowed", ""),
            ("GET /orders", "405 Method Not Allowed", ""),
            ("POST /orders {}", "201 Created", RECEIPT),
            ("POST /imports []", "202 Accepted", TAKEN),
            ("GET /catalogue", "200 OK", CATALOGUE.as_str()),
            (too_long.as_str(), "413 Payload Too Large", ""),
        ];
        for (case, status, body) in cases {
            let mut words = case.splitn(3, ' ');
            let mut word = || words.next().unwrap_or_default();
            let (method, target, sent) = (word(), word(), word());
            let length = sent.len();
            let (line, answered) = exchange(
                &upstream,
                &format!(
                    "{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                     Content-Length: {length}\r\n\r\n{sent}"
                ),
            );
            let case = case.get(..40).unwrap_or(case);
            assert_eq!(
                (line.as_str(), answered.as_str()),
                (&*format!("HTTP/1.1 {status}"), body),
                "{case}"
            );
        }
    }

    #[test]
    fn dropped_upstream_listens_no_more() {
        let upstream = Upstream::start(([127, 0, 0, 1], 0).into(), None).expect("started");
        let address = upstream.address;
        drop(upstream);
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
