//! A client of the gateway: one request, one connection, and what came of it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::network::Network;

/// Long enough for a second SYN, a second after the first: two packets to be seen dropped.
const CONNECT_PATIENCE: Duration = Duration::from_millis(1_500);
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: usize = 1 << 20;

/// What a client saw of its request.
#[derive(Debug)]
pub(super) enum Seen {
    Answer {
        status: u16,
        content_type: String,
        /// The parsed body; null if it is not JSON.
        body: Value,
    },
    /// No answer to the connection's first packets.
    ConnectTimeout,
    /// The connection was refused, reset, or closed without an answer.
    Closed(String),
}

/// What the demonstration sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// A field besides Host and Content-Type.
    pub(super) field: Option<(&'a str, &'a str)>,
    pub(super) body: Option<&'a str>,
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Sends `call` from the address `from` over a connection of its own.
pub(super) fn send(
    network: &Network,
    from: IpAddr,
    to: SocketAddr,
    call: Call<'_>,
) -> Result<Seen> {
    let stream = match network.connect(from, to, CONNECT_PATIENCE)? {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(Seen::ConnectTimeout),
        Err(error) => return Ok(Seen::Closed(error.to_string())),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(ANSWER_PATIENCE, exchange(stream, to, call)).await.unwrap_or_else(
            |_elapsed| Ok(Seen::Closed(format!("no answer within {ANSWER_PATIENCE:?}"))),
        )
    })
}

async fn exchange(stream: TcpStream, to: SocketAddr, call: Call<'_>) -> Result<Seen> {
    stream.set_nonblocking(true)?;
    let stream = TokioIo::new(tokio::net::TcpStream::from_std(stream)?);
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(stream).await {
        Ok(parts) => parts,
        Err(error) => return Ok(Seen::Closed(chain(&error))),
    };
    // Ends with the connection, at the latest with the runtime.
    let connection = tokio::spawn(connection);
    let mut request =
        Request::builder().method(call.method).uri(call.path).header(HOST, to.to_string());
    if let Some((name, value)) = call.field {
        request = request.header(name, value);
    }
    if call.body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let body = Bytes::copy_from_slice(call.body.unwrap_or_default().as_bytes());
    let response = match sender.send_request(request.body(Full::new(body))?).await {
        Ok(response) => response,
        Err(error) => return Ok(Seen::Closed(chain(&error))),
    };
    let seen = read(response).await?;
    connection.abort();
    Ok(seen)
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Seen> {
    let status = response.status().as_u16();
    let content_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = match Limited::new(response.into_body(), ANSWER_LIMIT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(Seen::Closed(format!("{status}, then {error}"))),
    };
    Ok(Seen::Answer {
        status,
        content_type,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl Seen {
    /// The body of an answer with this status.
    pub(super) fn answered(&self, expected: u16) -> Result<&Value> {
        match self {
            Self::Answer { status, body, .. } if *status == expected => Ok(body),
            _ => bail!("expected {expected}, saw {self}"),
        }
    }

    /// A refusal by `rule` in problem details (RFC 9457), with `pointer` where the body is at fault.
    pub(super) fn refused(&self, status: u16, rule: &str, pointer: Option<&str>) -> Result<()> {
        let place = pointer.map(|pointer| format!(" at {pointer}")).unwrap_or_default();
        let Self::Answer { status: found, content_type, body } = self else {
            bail!("expected {status} {rule}{place}, saw {self}");
        };
        let member = |name| body.get(name).and_then(Value::as_str);
        ensure!(
            *found == status && member("rule") == Some(rule) && member("pointer") == pointer,
            "expected {status} {rule}{place}, saw {self}"
        );
        ensure!(
            content_type == "application/problem+json",
            "expected application/problem+json, saw {content_type}"
        );
        Ok(())
    }

    /// Whether the client got nothing that another client would get: the ways in which a ban shows
    /// where no packet can be dropped.
    pub(super) fn shut_out(&self) -> bool {
        match self {
            Self::Answer { status, body, .. } => {
                *status == 403 && body.get("rule").and_then(Value::as_str) == Some("ban.source")
            }
            Self::ConnectTimeout | Self::Closed(_) => true,
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { status, body, .. } => {
                write!(f, "{status}")?;
                let member = |name| body.get(name).and_then(Value::as_str);
                if let Some(rule) = member("rule") {
                    write!(f, " {rule}")?;
                    for place in ["pointer", "parameter"] {
                        match member(place) {
                            None => {}
                            Some("") => write!(f, " at the top of the body")?,
                            Some(place) => write!(f, " at {place}")?,
                        }
                    }
                    return member("keyword")
                        .map_or(Ok(()), |keyword| write!(f, " (keyword {keyword})"));
                }
                // Of somebody else's answer the beginning is enough.
                let text = body.to_string();
                let excerpt: String = text.chars().take(60).collect();
                let more = if excerpt.len() < text.len() { " …" } else { "" };
                write!(f, " {excerpt}{more}")
            }
            Self::ConnectTimeout => write!(f, "no answer within {CONNECT_PATIENCE:?}"),
            Self::Closed(error) => write!(f, "connection closed ({error})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problem(status: u16, body: Value) -> Seen {
        Seen::Answer { status, content_type: "application/problem+json".to_owned(), body }
    }

    #[test]
    fn a_refusal_is_held_to_status_rule_and_pointer() {
        let seen = problem(400, json!({"rule": "body.schema", "pointer": "/lines/0/quantity"}));
        seen.refused(400, "body.schema", Some("/lines/0/quantity")).unwrap();
        for (status, rule, pointer) in [
            (404, "body.schema", Some("/lines/0/quantity")),
            (400, "body.malformed", Some("/lines/0/quantity")),
            (400, "body.schema", Some("/lines/0")),
            (400, "body.schema", None),
        ] {
            assert!(seen.refused(status, rule, pointer).is_err(), "{status} {rule} {pointer:?}");
        }
        let html = Seen::Answer {
            status: 404,
            content_type: "text/html".to_owned(),
            body: json!({"rule": "route.unknown-path"}),
        };
        assert!(html.refused(404, "route.unknown-path", None).is_err());
    }

    #[test]
    fn a_ban_is_told_from_other_refusals() {
        assert!(Seen::ConnectTimeout.shut_out());
        assert!(Seen::Closed("reset".to_owned()).shut_out());
        assert!(problem(403, json!({"rule": "ban.source"})).shut_out());
        assert!(!problem(403, json!({"rule": "auth.scope"})).shut_out());
        assert!(!problem(404, json!({"rule": "ban.source"})).shut_out());
        assert!(!problem(200, json!([])).shut_out());
    }
}
