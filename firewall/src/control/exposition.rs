//! `GET /metrics`, on a listener of its own.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::control::daemon::Control;
use crate::control::status;

/// Scrapes in progress; what comes beyond waits.
const CONNECTIONS: usize = 16;
/// A scraper that says nothing for this long is let go.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the metrics listener, if there is to be one.
pub fn bind(address: Option<SocketAddr>) -> anyhow::Result<Option<std::net::TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let context = || format!("metrics listener {address}");
    let listener = std::net::TcpListener::bind(address).with_context(context)?;
    listener.set_nonblocking(true).with_context(context)?;
    Ok(Some(listener))
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, control: Rc<Control>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the metrics listener cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let control = Rc::clone(&control);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let control = Rc::clone(&control);
                async move { anyhow::Ok(respond(&control, &request)) }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a metrics connection ended");
            }
            drop(place);
        });
    }
}

fn respond(control: &Control, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET || request.uri().path() != "/metrics" {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    status::refresh(control);
    let (status, text) = match control.metrics.exposition() {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}
