//! The API behind the gateway: the shop that `firewall/examples/shop.yaml` describes, with one slip.
//!
//! The slip is real life's: one product is answered straight from the database, purchase price and
//! all. The contract declares no such member, and the firewall keeps the answer to itself.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// The product whose answer says more than the contract.
pub(super) const INDISCREET_PRODUCT: u64 = 3;

const CONNECTIONS_MAX: usize = 256;
const BODY_LIMIT: usize = 64 * 1024;
const ORDERS_MAX: usize = 1_000;
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// What the shop remembers: the lines of each order, the first of which has number 1.
type Orders = Arc<Mutex<Vec<Value>>>;

/// Serves the shop on a thread of its own for the rest of the process.
pub(super) fn serve(listener: TcpListener) -> Result<SocketAddr> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name("demo-api".to_owned())
        .spawn(move || runtime.block_on(accept(listener)))
        .context("starting the demonstration's API")?;
    Ok(address)
}

async fn accept(listener: TcpListener) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let orders = Orders::default();
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        let Ok((stream, _peer)) = listener.accept().await else {
            // Out of descriptors, or a connection that was gone before it was taken.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let orders = Arc::clone(&orders);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&orders)));
            // A connection that breaks is the other side's affair.
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
            drop(place);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    orders: Orders,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await;
    let (status, document) = match (method, path.split('/').skip(1).collect::<Vec<_>>().as_slice())
    {
        (Method::GET, ["products"]) => {
            (StatusCode::OK, [1, 2].into_iter().filter_map(product).collect())
        }
        (Method::GET, ["products", id]) => found(id.parse().ok().and_then(product)),
        (Method::POST, ["orders"]) => match body {
            Ok(body) => place(&orders, &body.to_bytes()),
            Err(_too_long_or_broken) => (StatusCode::PAYLOAD_TOO_LARGE, Value::Null),
        },
        (Method::GET, ["orders", id]) => {
            let orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
            let index = id.parse::<usize>().ok().and_then(|id| id.checked_sub(1));
            found(index.and_then(|index| orders.get(index)).cloned())
        }
        _ => (StatusCode::NOT_FOUND, Value::Null),
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    if !document.is_null() {
        *response.body_mut() = Full::from(document.to_string());
        let json = hyper::header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
    }
    Ok(response)
}

fn product(id: u64) -> Option<Value> {
    match id {
        1 => Some(json!({"id": 1, "name": "Kettle", "price": 39.9})),
        2 => Some(json!({"id": 2, "name": "Teapot", "price": 24.5})),
        INDISCREET_PRODUCT => {
            Some(json!({"id": 3, "name": "Tea set", "price": 89.0, "purchase_price": 31.75}))
        }
        _ => None,
    }
}

fn place(orders: &Orders, body: &[u8]) -> (StatusCode, Value) {
    let Some(lines) = serde_json::from_slice(body)
        .ok()
        .and_then(|order: Value| order.get("lines").filter(|lines| lines.is_array()).cloned())
    else {
        return (StatusCode::BAD_REQUEST, Value::Null);
    };
    let mut orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
    if orders.len() >= ORDERS_MAX {
        return (StatusCode::SERVICE_UNAVAILABLE, Value::Null);
    }
    let order = json!({"id": orders.len() + 1, "lines": lines});
    orders.push(order.clone());
    (StatusCode::CREATED, order)
}

fn found(document: Option<Value>) -> (StatusCode, Value) {
    document.map_or((StatusCode::NOT_FOUND, Value::Null), |document| (StatusCode::OK, document))
}
