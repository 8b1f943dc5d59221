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
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

/// The product whose answer says more than the contract.
pub(super) const INDISCREET_PRODUCT: u64 = 3;

const CONNECTIONS_MAX: usize = 256;
const BODY_LIMIT: usize = 64 * 1024;
const ORDERS_MAX: usize = 1_000;
const PAGE: usize = 20;
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// The orders that were placed; the first has number 0.
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

/// What the shop says to a request.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    /// Null where there is no body.
    document: Value,
    field: Option<(&'static str, String)>,
}

impl Answer {
    fn new(status: StatusCode, document: Value) -> Self {
        Self { status, document, field: None }
    }

    /// Problem details (RFC 9457).
    fn problem(status: StatusCode) -> Self {
        let title = status.canonical_reason().unwrap_or("Problem");
        Self::new(status, json!({"title": title, "status": status.as_u16()}))
    }

    fn with(mut self, field: &'static str, value: String) -> Self {
        self.field = Some((field, value));
        self
    }

    fn found(document: Option<Value>) -> Self {
        document.map_or_else(
            || Self::problem(StatusCode::NOT_FOUND),
            |document| Self::new(StatusCode::OK, document),
        )
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = self.status;
        if !self.document.is_null() {
            *response.body_mut() = Full::from(self.document.to_string());
            let media_type = if self.status.is_client_error() || self.status.is_server_error() {
                "application/problem+json"
            } else {
                "application/json"
            };
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        if let Some((name, value)) = self.field
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

async fn answer(
    request: Request<Incoming>,
    orders: Orders,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let method = request.method().clone();
    let uri = request.uri().clone();
    let answer = match Limited::new(request.into_body(), BODY_LIMIT).collect().await {
        Ok(body) => shop(&method, &uri, &body.to_bytes(), &orders),
        Err(_too_long_or_broken) => Answer::problem(StatusCode::PAYLOAD_TOO_LARGE),
    };
    Ok(answer.into_response())
}

/// The shop itself. It trusts its gateway, as such shops do: nothing that the contract rules out is
/// checked here.
fn shop(method: &Method, uri: &Uri, body: &[u8], orders: &Orders) -> Answer {
    let segments: Vec<&str> = uri.path().split('/').skip(1).collect();
    let query = uri.query().unwrap_or_default();
    let mut orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
    match (method.as_str(), segments.as_slice()) {
        ("GET", ["products"]) => {
            let catalogue = [1, 2];
            let items: Vec<Value> =
                catalogue.into_iter().take(limit(query)).filter_map(product).collect();
            Answer::new(StatusCode::OK, json!({"items": items}))
                .with("x-total-count", catalogue.len().to_string())
        }
        ("GET", ["products", "featured"]) => {
            Answer::new(StatusCode::OK, product(1).into_iter().collect())
        }
        ("GET", ["products", id]) => Answer::found(id.parse().ok().and_then(product)),
        ("POST", ["products", id, "reviews"]) => match id.parse().ok().and_then(product) {
            Some(_) => Answer::new(StatusCode::CREATED, Value::Null),
            None => Answer::problem(StatusCode::NOT_FOUND),
        },
        ("GET", ["orders"]) => {
            let items: Vec<&Value> = orders.iter().rev().take(limit(query)).collect();
            Answer::new(StatusCode::OK, json!({"items": items}))
        }
        ("POST", ["orders"]) => place(&mut orders, body),
        ("GET", ["orders", id]) => {
            let order =
                orders.iter().find(|order| order.get("id").is_some_and(|found| found == id));
            Answer::found(order.cloned())
        }
        _ => Answer::problem(StatusCode::NOT_IMPLEMENTED),
    }
}

/// How many entries a page has.
fn limit(query: &str) -> usize {
    let limit = query.split('&').find_map(|pair| pair.strip_prefix("limit="));
    limit.and_then(|limit| limit.parse().ok()).unwrap_or(PAGE)
}

fn product(id: u64) -> Option<Value> {
    let (name, amount) = match id {
        1 => ("Kettle", 40.0),
        2 => ("Teapot", 24.5),
        INDISCREET_PRODUCT => ("Tea set", 89.0),
        _ => return None,
    };
    let price = json!({"amount": amount, "currency": "EUR"});
    let mut product = Map::from_iter([
        ("id".to_owned(), id.into()),
        ("name".to_owned(), name.into()),
        ("category".to_owned(), "kitchen".into()),
        ("price".to_owned(), price),
    ]);
    if id == INDISCREET_PRODUCT {
        let price = json!({"amount": 31.75, "currency": "EUR"});
        product.insert("purchasePrice".to_owned(), price);
    }
    Some(Value::Object(product))
}

fn place(orders: &mut Vec<Value>, body: &[u8]) -> Answer {
    let Ok(mut order) = serde_json::from_slice::<Map<String, Value>>(body) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    if orders.len() >= ORDERS_MAX {
        return Answer::problem(StatusCode::SERVICE_UNAVAILABLE);
    }
    let id = format!("00000000-0000-4000-8000-{:012}", orders.len());
    order.insert("id".to_owned(), id.as_str().into());
    order.insert("status".to_owned(), "placed".into());
    // What was written to the shop alone is not told again.
    if let Some(payment) = order.get_mut("payment").and_then(Value::as_object_mut) {
        payment.remove("token");
    }
    let order = Value::Object(order);
    orders.push(order.clone());
    Answer::new(StatusCode::CREATED, order).with("location", format!("/orders/{id}"))
}
