//! The admin socket: HTTP over a Unix socket that only the daemon's user and group can open.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream as StdStream};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::ban::is_too_wide;
use crate::ban::keeper::PAGE_MAX;
use crate::control::capture::{self, Wanted};
use crate::control::checks;
use crate::control::daemon::Control;
use crate::control::{confirmation, panic_allow, pressure, status};
use crate::feeds::FeedReport;
use crate::feeds::keeper::FeedsError;
use crate::kernel::Reason;

/// A command is a few hundred octets.
const REQUEST_OCTETS: usize = 64 << 10;
/// Commands in progress; what comes beyond waits to be accepted.
pub const CONNECTIONS: u32 = 32;
/// A caller that says nothing for this long is let go.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A capture costs the kernel a little and is forgotten easily.
const CAPTURE_SECONDS_MAX: u64 = 3600;
/// A loop that is silent for longer is stuck.
const LOOP_PATIENCE: Duration = Duration::from_secs(10);

/// Opens the socket, readable and writable for user and group. A socket left by a process that is no
/// more is replaced; one that answers is not.
pub fn bind(what: &str, path: &Path) -> anyhow::Result<UnixListener> {
    let context = || format!("{what} {}", path.display());
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).with_context(context)?;
    }
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        if StdStream::connect(path).is_ok() {
            bail!("{what} {}: another firewall answers there", path.display());
        }
        std::fs::remove_file(path).with_context(context)?;
    }
    let listener = UnixListener::bind(path).with_context(context)?;
    listener.set_nonblocking(true).with_context(context)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).with_context(context)?;
    Ok(listener)
}

/// Serves until the task is dropped.
pub async fn serve(listener: tokio::net::UnixListener, control: Rc<Control>) {
    loop {
        let place = std::sync::Arc::clone(&control.commands).acquire_owned().await;
        let Ok(place) = place else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let control = Rc::clone(&control);
                tokio::task::spawn_local(async move {
                    connection(stream, control).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin socket cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, control: Rc<Control>) {
    let caller = stream.peer_cred().map(|caller| caller.uid()).ok();
    let service = service_fn(move |request| {
        let control = Rc::clone(&control);
        async move { anyhow::Ok(respond(&control, caller, request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serving.await {
        tracing::debug!(%error, "an admin connection ended");
    }
}

/// A command failed.
struct Failure(StatusCode, String);

impl Failure {
    fn bad(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }
}

/// An answer's body: whole, or as it comes.
type Body = Either<Full<Bytes>, Channel<Bytes>>;

async fn respond(
    control: &Rc<Control>,
    caller: Option<u32>,
    request: Request<Incoming>,
) -> Response<Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    if method == Method::GET && path == "/v1/capture" {
        return captured(control, caller, request.uri().query().unwrap_or_default());
    }
    let result = command(control, request).await;
    if method != Method::GET {
        let outcome = match &result {
            Ok(_) => "done",
            Err(Failure(_, reason)) => reason,
        };
        tracing::info!(caller, %method, path, outcome, "admin command");
    }
    answered(result)
}

/// The answer to `firewall capture`: packets, as they are sampled.
fn captured(control: &Rc<Control>, caller: Option<u32>, query: &str) -> Response<Body> {
    let started = wanted(query).and_then(|wanted| {
        tracing::info!(caller, query, "capture");
        let started = capture::start(control, wanted);
        started.map_err(|reason| Failure(StatusCode::CONFLICT, reason))
    });
    match started {
        Ok(body) => {
            let mut response = Response::new(Body::Right(body));
            let media_type = HeaderValue::from_static("application/x-pcapng");
            response.headers_mut().insert(CONTENT_TYPE, media_type);
            response
        }
        Err(failure) => answered(Err(failure)),
    }
}

fn wanted(query: &str) -> Result<Wanted, Failure> {
    let ids: String = parameter(query, "reasons")?;
    let mut reasons = Vec::new();
    for id in ids.split(',').filter(|id| !id.is_empty()) {
        let known = Reason::ALL.iter().find(|reason| reason.id() == id);
        reasons.push(*known.ok_or_else(|| Failure::bad(format!("{id:?} is no reason")))?);
    }
    let seconds = parameter(query, "seconds")?;
    if seconds > CAPTURE_SECONDS_MAX {
        return Err(Failure::bad(format!("a capture takes at most {CAPTURE_SECONDS_MAX} s")));
    }
    let count = parameter(query, "count")?;
    Ok(Wanted { reasons, count, duration: Duration::from_secs(seconds) })
}

fn answered(result: Result<Value, Failure>) -> Response<Body> {
    let (status, answer) = match result {
        Ok(answer) => (StatusCode::OK, answer),
        Err(Failure(status, reason)) => (status, json!({ "error": reason })),
    };
    let mut response = Response::new(Body::Left(Full::new(Bytes::from(answer.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBan {
    target: IpNet,
    for_seconds: Option<u64>,
    reason: String,
    /// However wide the target is.
    #[serde(default)]
    force: bool,
    confirm_within_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PanicAllow {
    for_seconds: u64,
}

async fn command(control: &Control, request: Request<Incoming>) -> Result<Value, Failure> {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    match (head.method.as_str(), head.uri.path()) {
        ("GET", "/v1/health") => match control.watchdog.stuck(LOOP_PATIENCE).await {
            None => Ok(json!({ "healthy": true })),
            Some(reason) => Err(Failure(StatusCode::SERVICE_UNAVAILABLE, reason)),
        },
        ("GET", "/v1/status") => Ok(status::status(control)),
        ("GET", "/v1/top") => Ok(status::top(control)),
        ("GET", "/v1/checks") => Ok(checks::list(&control.enforcement.borrow())),
        ("POST", "/v1/checks") => {
            let body = Limited::new(body, REQUEST_OCTETS).collect().await;
            let octets = body.map_err(|error| Failure::bad(error.to_string()))?.to_bytes();
            let wanted: checks::NewMode =
                serde_json::from_slice(&octets).map_err(|error| Failure::bad(error.to_string()))?;
            let setting = wanted.setting().map_err(Failure::bad)?;
            let set = control.enforcement.borrow_mut().set_check(setting);
            set.map_err(|reason| Failure(StatusCode::CONFLICT, reason))?;
            Ok(checks::list(&control.enforcement.borrow()))
        }
        ("GET", "/v1/bans") => {
            let mut bans = Vec::new();
            let mut after = None;
            loop {
                let page = control.keeper.list(after, PAGE_MAX).await.map_err(internal)?;
                bans.extend(page.bans);
                after = page.next;
                if after.is_none() {
                    return Ok(json!(bans));
                }
            }
        }
        ("POST", "/v1/bans") => ban(control, content(body).await?).await,
        ("DELETE", "/v1/bans") => {
            let target = parameter::<IpNet>(query, "target")?;
            let lifted = control.keeper.remove(target).await;
            let lifted =
                lifted.map_err(|error| Failure(StatusCode::NOT_FOUND, error.to_string()))?;
            Ok(json!({ "target": target, "lifted": lifted }))
        }
        ("GET", "/v1/allow") => Ok(json!(control.settings.allowlist)),
        ("GET", "/v1/explain") => {
            let address = parameter(query, "address")?;
            status::explain(control, address).await.map_err(internal)
        }
        ("GET", "/v1/pressure") => Ok(control.pressure.borrow().report()),
        ("POST", "/v1/pressure") => {
            pressure::order(control, parameter(query, "level")?);
            Ok(control.pressure.borrow().report())
        }
        ("POST", "/v1/reload") => {
            let within = match query {
                "" => None,
                query => Some(within(parameter(query, "confirm_within")?)?),
            };
            match control.reload(within).await {
                Ok(generation) => Ok(json!({ "generation": generation })),
                Err(reason) => Err(Failure(StatusCode::CONFLICT, reason)),
            }
        }
        ("POST", "/v1/upgrade") => match control.upgrade().await {
            Ok(pid) => Ok(json!({ "pid": pid })),
            Err(reason) => Err(Failure(StatusCode::CONFLICT, reason)),
        },
        ("POST", "/v1/confirm") => confirmation::confirm(control).await.map_err(internal),
        ("POST", "/v1/panic-allow") => {
            let PanicAllow { for_seconds } = content(body).await?;
            let longest = panic_allow::LONGEST.as_secs();
            if !(1..=longest).contains(&for_seconds) {
                return Err(Failure::bad(format!("expected 1 to {longest} seconds")));
            }
            let granted = Duration::from_secs(for_seconds);
            panic_allow::begin(control, granted).map_err(|error| internal(format!("{error:#}")))
        }
        ("DELETE", "/v1/panic-allow") => {
            let ended = panic_allow::end(control);
            let ended = ended.map_err(|error| internal(format!("{error:#}")))?;
            Ok(json!({ "ended": ended }))
        }
        ("GET", "/v1/feeds") => told(control.feeds.list().await),
        ("POST", "/v1/feeds/refresh") => {
            let name = match query {
                "" => None,
                query => Some(parameter(query, "name")?),
            };
            told(control.feeds.refresh(name).await)
        }
        ("POST", "/v1/feeds/accept") => told(control.feeds.accept(parameter(query, "name")?).await),
        _ => Err(Failure(StatusCode::NOT_FOUND, "no such command".into())),
    }
}

/// The JSON of a command's body.
async fn content<T: for<'de> Deserialize<'de>>(body: Incoming) -> Result<T, Failure> {
    let body = Limited::new(body, REQUEST_OCTETS).collect().await;
    let octets = body.map_err(|error| Failure::bad(error.to_string()))?.to_bytes();
    serde_json::from_slice(&octets).map_err(|error| Failure::bad(error.to_string()))
}

async fn ban(control: &Control, ban: NewBan) -> Result<Value, Failure> {
    if is_too_wide(ban.target) && !ban.force {
        return Err(Failure::bad(format!(
            "{} is wider than /8, of IPv6 than /19: nobody but the allowlist would pass \
             (--force bans it all the same)",
            ban.target
        )));
    }
    let target = ban.target.trunc();
    let duration = ban.for_seconds.map(Duration::from_secs);
    let made = match ban.confirm_within_seconds {
        None => control.keeper.add(target, duration, ban.reason).await.map_err(Into::into),
        Some(seconds) => {
            confirmation::ban(control, target, duration, ban.reason, within(seconds)?).await
        }
    };
    made.map(|made| json!(made)).map_err(|error| Failure::bad(error.to_string()))
}

/// A time to confirm something in.
fn within(seconds: u64) -> Result<Duration, Failure> {
    let most = confirmation::WITHIN_MAX.as_secs();
    if !(1..=most).contains(&seconds) {
        return Err(Failure::bad(format!("expected 1 to {most} seconds to confirm in")));
    }
    Ok(Duration::from_secs(seconds))
}

fn told(reports: Result<Vec<FeedReport>, FeedsError>) -> Result<Value, Failure> {
    let reports = reports.map_err(|error| {
        let status = match error {
            FeedsError::Unknown { .. } => StatusCode::NOT_FOUND,
            FeedsError::NothingHeld { .. } => StatusCode::CONFLICT,
            FeedsError::Ended => StatusCode::SERVICE_UNAVAILABLE,
        };
        Failure(status, error.to_string())
    })?;
    Ok(json!(reports))
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// The value of `name=…`; addresses and prefixes need no escapes in a query (RFC 3986 section 3.4).
fn parameter<T: std::str::FromStr>(query: &str, name: &str) -> Result<T, Failure> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Failure::bad(format!("parameter {name} is missing or malformed")))
}
