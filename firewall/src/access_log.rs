//! One line of JSON for each exchange, written when its answer has been sent.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Version};
use prometheus::IntCounterVec;

use crate::audit_log::RefusedSummary;
use crate::clock::{Monotonic, Wall};
use crate::log_lines::{Line, LogLines, LogWriter};
use crate::metrics::{Metrics, OperationMetrics, Outcome};
use crate::tls::ja4::Ja4;
use crate::tls::session::Session;
use crate::violation::{Location, Violation};

/// One worker's end of the log.
#[derive(Debug)]
pub struct AccessLog {
    lines: LogLines,
    /// Exchanges by [`Ending`].
    ended: IntCounterVec,
}

/// Why the firewall ends a connection by itself, or gives up one answer on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Nothing was asked any more.
    Idle,
    /// Nothing was ever asked.
    Silent,
    /// The client took nothing of what it was sent, or next to nothing.
    Untaken,
    /// It waited for its client while every seat was taken, and another client came.
    Room,
    /// Its source was banned.
    Banned,
    /// The process was to end, and did not wait any longer.
    Drained,
}

impl Ending {
    pub const ALL: [Self; 6] =
        [Self::Idle, Self::Silent, Self::Untaken, Self::Room, Self::Banned, Self::Drained];

    /// For logs and metrics.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Silent => "silent",
            Self::Untaken => "untaken",
            Self::Room => "room",
            Self::Banned => "banned",
            Self::Drained => "drained",
        }
    }
}

/// Where a connection tells its exchanges that it is being ended.
pub type SharedEnding = Rc<Cell<Option<Ending>>>;

impl AccessLog {
    pub fn new(writer: Option<LogWriter>, metrics: &Arc<Metrics>) -> Rc<Self> {
        let lines = LogLines::new(writer, metrics.access_log_dropped.clone());
        Rc::new(Self { lines, ended: metrics.exchanges_ended.clone() })
    }

    /// Hands what has been collected to the writing thread.
    pub fn flush(&self) {
        self.lines.flush();
    }
}

/// What is known of one exchange when it ends. Holds nothing of the message but its method, where
/// that is a registered one.
#[derive(Debug)]
pub struct Record {
    pub id: u64,
    pub generation: u64,
    pub client: IpAddr,
    pub peer: IpAddr,
    pub method: Method,
    /// Of HTTP.
    pub version: Version,
    pub started: Monotonic,
    pub request_octets: u64,
    pub status: u16,
    pub upstream: Option<UpstreamRecord>,
    pub violation: Option<Violation>,
    pub tls: Option<TlsRecord>,
    /// Of the upstream's answer, where that was refused.
    pub refused: Option<RefusedSummary>,
    /// Why the tunnel ended that it became.
    pub ended: Option<&'static str>,
}

/// What the connection's handshake settled.
#[derive(Clone, Debug)]
pub struct TlsRecord {
    pub version: &'static str,
    pub ja4: Option<Ja4>,
    /// Whose verified certificate the client has shown.
    pub subject: Option<Rc<str>>,
}

impl TlsRecord {
    pub fn of(session: &Session) -> Self {
        let subject = session.client.as_ref().map(|client| Rc::clone(&client.subject));
        Self { version: session.version, ja4: session.ja4, subject }
    }

    fn write(&self, line: &mut Line<'_>) -> std::fmt::Result {
        write!(line, r#","tls":"{}""#, self.version)?;
        if let Some(ja4) = self.ja4 {
            // The first protocol's name, of which the fingerprint keeps two characters, may be anything
            // that is a letter or a digit.
            write!(line, r#","ja4":"{ja4}""#)?;
        }
        self.subject.as_ref().map_or(Ok(()), |subject| line.member("client_subject", subject))
    }
}

/// What the upstream did.
#[derive(Clone, Debug)]
pub struct UpstreamRecord {
    pub status: u16,
    /// Which endpoint answered.
    pub endpoint: Rc<str>,
    /// From the request handed over to the head of the answer.
    pub waited: Duration,
}

/// The end of an exchange, carried by the answer's body.
#[derive(Debug)]
pub struct Settlement {
    pub record: Record,
    pub outcome: Outcome,
    pub operation: Rc<OperationMetrics>,
    pub log: Rc<AccessLog>,
    ending: SharedEnding,
    sent: u64,
}

impl Settlement {
    pub fn new(
        record: Record,
        outcome: Outcome,
        operation: Rc<OperationMetrics>,
        log: Rc<AccessLog>,
        ending: SharedEnding,
    ) -> Self {
        Self { record, outcome, operation, log, ending, sent: 0 }
    }

    /// Counts octets of the answer's body.
    pub fn sent(&mut self, octets: usize) {
        self.sent = self.sent.saturating_add(octets as u64);
    }

    /// Counts and logs the exchange.
    pub fn settle(&self) {
        let ended = Monotonic::now();
        self.count_at(ended);
        self.log.lines.add(|line| self.write(line, ended));
    }

    /// Counts it alone: it is over as an exchange, and goes on as something else.
    pub fn count(&self) {
        self.count_at(Monotonic::now());
    }

    /// Logs it alone.
    pub fn log(&self) {
        let ended = Monotonic::now();
        self.log.lines.add(|line| self.write(line, ended));
    }

    fn count_at(&self, ended: Monotonic) {
        self.operation.outcome(self.outcome).inc();
        self.operation.duration.observe(ended.since(self.record.started).as_secs_f64());
        if let Some(ending) = self.ending.get() {
            self.log.ended.with_label_values(&[ending.id()]).inc();
        }
    }

    fn write(&self, line: &mut Line<'_>, ended: Monotonic) -> std::fmt::Result {
        let record = &self.record;
        write!(
            line,
            r#"{{"time":"{}","id":"{:016x}","generation":{},"client":"{}","peer":"{}""#,
            Wall::now(),
            record.id,
            record.generation,
            record.client,
            record.peer,
        )?;
        let method = registered_method(&record.method);
        let protocol = protocol(record.version);
        write!(line, r#","protocol":"{protocol}","method":"{method}","status":{}"#, record.status)?;
        line.member("api", &self.operation.api)?;
        line.member("operation", &self.operation.name)?;
        write!(line, r#","verdict":"{}""#, self.outcome.name())?;
        if let Some(violation) = &record.violation {
            write!(line, r#","rule":"{}""#, violation.rule.id())?;
            match &violation.at {
                Location::Message => {}
                Location::Body(pointer) => line.member("pointer", pointer)?,
                at => line.member("parameter", &at.to_string())?,
            }
            if let Some(keyword) = &violation.keyword {
                line.member("keyword", keyword)?;
            }
            if let Some(exception) = violation.exception {
                line.member("exception", exception.id())?;
            }
            if let Some(feed) = &violation.feed {
                line.member("feed", feed)?;
            }
        }
        if let Some(ending) = self.ending.get() {
            write!(line, r#","ended":"{}""#, ending.id())?;
        }
        if let Some(tls) = &record.tls {
            tls.write(line)?;
        }
        write!(line, r#","duration_us":{}"#, ended.since(record.started).as_micros())?;
        if let Some(upstream) = &record.upstream {
            let waited = upstream.waited.as_micros();
            line.member("endpoint", &upstream.endpoint)?;
            write!(line, r#","upstream_status":{},"upstream_us":{waited}"#, upstream.status)?;
        }
        let refused = self.record.refused.as_ref();
        if let Some(media_type) = refused.and_then(|refused| refused.media_type.as_deref()) {
            line.member("upstream_media_type", media_type)?;
        }
        if let Some(octets) = refused.and_then(|refused| refused.octets) {
            write!(line, r#","upstream_octets":{octets}"#)?;
        }
        if let Some(ended) = record.ended {
            write!(line, r#","tunnel_end":"{ended}""#)?;
        }
        let (received, sent) = (record.request_octets, self.sent);
        writeln!(line, r#","request_octets":{received},"response_octets":{sent}}}"#)
    }
}

/// As request lines name it, and as logs name what has none.
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// The method, where it is a registered one: a client may make up any token.
fn registered_method(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "TRACE" | "PATCH") => {
            known
        }
        _ => "other",
    }
}
