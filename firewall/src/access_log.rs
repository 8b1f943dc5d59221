//! One line of JSON for each exchange, written when its answer has been sent.
//!
//! A worker fills a buffer of its own; a thread writes full buffers out, so that a slow disk delays
//! no request. What the thread cannot take in time is dropped, and counted.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use http::Method;

use crate::clock::{Monotonic, Wall};
use crate::metrics::{Metrics, OperationMetrics, Outcome};
use crate::violation::{Location, Violation};

/// A worker hands its buffer over when it holds this many octets, or when the worker flushes.
const BUFFER_OCTETS: usize = 32 << 10;
/// Buffers that may wait for the writing thread: 8 MiB at most.
const BUFFERS_WAITING: usize = 256;

/// Where the lines go. Dropping every clone ends the thread once all is written.
#[derive(Clone, Debug)]
pub struct LogWriter {
    buffers: SyncSender<Vec<u8>>,
}

/// The destination of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    File(Box<Path>),
    Off,
}

impl LogWriter {
    /// Opens the destination and starts the writing thread; none where the log is off.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn start(target: &LogTarget) -> io::Result<Option<(Self, JoinHandle<()>)>> {
        let output: Box<dyn Write + Send> = match target {
            LogTarget::Off => return Ok(None),
            LogTarget::Stdout => Box::new(io::stdout()),
            LogTarget::File(path) => {
                Box::new(OpenOptions::new().create(true).append(true).open(path)?)
            }
        };
        let (buffers, waiting) = sync_channel(BUFFERS_WAITING);
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_out(&waiting, output))?;
        Ok(Some((Self { buffers }, thread)))
    }
}

fn write_out(waiting: &Receiver<Vec<u8>>, mut output: Box<dyn Write + Send>) {
    let mut failing = false;
    while let Ok(buffer) = waiting.recv() {
        let written = output.write_all(&buffer).and_then(|()| output.flush());
        match written {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "the access log cannot be written; lines are lost");
            }
            Err(_) => {}
        }
    }
}

/// One worker's end of the log.
#[derive(Debug)]
pub struct AccessLog {
    writer: Option<LogWriter>,
    buffer: RefCell<Vec<u8>>,
    metrics: Arc<Metrics>,
}

impl AccessLog {
    pub fn new(writer: Option<LogWriter>, metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self { writer, buffer: RefCell::new(Vec::new()), metrics })
    }

    /// Hands what has been collected to the writing thread.
    pub fn flush(&self) {
        let Some(writer) = &self.writer else { return };
        let mut buffer = self.buffer.borrow_mut();
        if buffer.is_empty() {
            return;
        }
        let full = std::mem::replace(&mut *buffer, Vec::with_capacity(BUFFER_OCTETS));
        if let Err(refused) = writer.buffers.try_send(full) {
            let (std::sync::mpsc::TrySendError::Full(lines)
            | std::sync::mpsc::TrySendError::Disconnected(lines)) = refused;
            let lines = lines.split(|octet| *octet == b'\n').count() - 1;
            self.metrics.access_log_dropped.inc_by(lines as u64);
        }
    }

    fn line(&self, settlement: &Settlement, ended: Monotonic) {
        if self.writer.is_none() {
            return;
        }
        let full = {
            let mut buffer = self.buffer.borrow_mut();
            settlement
                .write(&mut Line(&mut buffer), ended)
                .expect("a vector takes what is written");
            buffer.len() >= BUFFER_OCTETS
        };
        if full {
            self.flush();
        }
    }
}

/// Text appended to octets.
struct Line<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
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
    pub started: Monotonic,
    pub request_octets: u64,
    pub status: u16,
    pub upstream: Option<UpstreamRecord>,
    pub violation: Option<Violation>,
}

/// Writes `,"name":"text"` with the escapes of RFC 8259 section 7.
fn member(line: &mut Line<'_>, name: &str, text: &str) -> std::fmt::Result {
    let quoted = serde_json::Value::from(text);
    write!(line, r#","{name}":{quoted}"#)
}

/// What the upstream did.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamRecord {
    pub status: u16,
    /// From the request handed over to the head of the answer.
    pub waited: Duration,
}

/// The end of an exchange, carried by the answer's body.
#[derive(Debug)]
pub struct Settlement {
    pub record: Record,
    pub outcome: Outcome,
    pub operation: OperationMetrics,
    pub log: Rc<AccessLog>,
    sent: u64,
}

impl Settlement {
    pub fn new(
        record: Record,
        outcome: Outcome,
        operation: OperationMetrics,
        log: Rc<AccessLog>,
    ) -> Self {
        Self { record, outcome, operation, log, sent: 0 }
    }

    /// Counts octets of the answer's body.
    pub fn sent(&mut self, octets: usize) {
        self.sent = self.sent.saturating_add(octets as u64);
    }

    /// Counts and logs the exchange.
    pub fn settle(&self) {
        let ended = Monotonic::now();
        self.operation.outcome(self.outcome).inc();
        self.operation.duration.observe(ended.since(self.record.started).as_secs_f64());
        self.log.line(self, ended);
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
        write!(line, r#","method":"{method}","status":{}"#, record.status)?;
        member(line, "operation", &self.operation.name)?;
        write!(line, r#","verdict":"{}""#, self.outcome.name())?;
        if let Some(violation) = &record.violation {
            write!(line, r#","rule":"{}""#, violation.rule.id())?;
            match &violation.at {
                Location::Message => {}
                Location::Body(pointer) => member(line, "pointer", pointer)?,
                at => member(line, "parameter", &at.to_string())?,
            }
            if let Some(keyword) = &violation.keyword {
                member(line, "keyword", keyword)?;
            }
        }
        write!(line, r#","duration_us":{}"#, ended.since(record.started).as_micros())?;
        if let Some(upstream) = &record.upstream {
            let waited = upstream.waited.as_micros();
            write!(line, r#","upstream_status":{},"upstream_us":{waited}"#, upstream.status)?;
        }
        let (received, sent) = (record.request_octets, self.sent);
        writeln!(line, r#","request_octets":{received},"response_octets":{sent}}}"#)
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
