//! Lines of JSON on their way to a file.
//!
//! A worker fills a buffer of its own; a thread writes full buffers out, so that a slow disk delays
//! no request. What the thread cannot take in time is dropped, and counted.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use prometheus::IntCounter;

/// A worker hands its buffer over when it holds this many octets, or when the worker flushes.
const BUFFER_OCTETS: usize = 32 << 10;
/// Buffers that may wait for the writing thread: 8 MiB at most, for lines are short.
const BUFFERS_WAITING: usize = 256;
/// The same where lines hold what messages held, and one may be longer than a buffer.
const PRIVATE_BUFFERS_WAITING: usize = 32;
/// Who may read a file that holds what messages held.
const OWNER_ALONE: u32 = 0o600;

/// The destination of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    File(Box<Path>),
    /// A file that its owner alone may read.
    PrivateFile(Box<Path>),
    Off,
}

/// Where the lines go. Dropping every clone ends the thread once all is written.
#[derive(Clone, Debug)]
pub struct LogWriter {
    buffers: SyncSender<Vec<u8>>,
}

impl LogWriter {
    /// Opens the destination and starts the writing thread, which is called `name`; none where the log
    /// is off.
    ///
    /// # Errors
    ///
    /// The file cannot be opened for appending, or not be made private.
    pub fn start(
        target: &LogTarget,
        name: &'static str,
    ) -> io::Result<Option<(Self, JoinHandle<()>)>> {
        let mut appending = OpenOptions::new();
        appending.create(true).append(true);
        let output: Box<dyn Write + Send> = match target {
            LogTarget::Off => return Ok(None),
            LogTarget::Stdout => Box::new(io::stdout()),
            LogTarget::File(path) => Box::new(appending.open(path)?),
            LogTarget::PrivateFile(path) => {
                let file = appending.mode(OWNER_ALONE).open(path)?;
                // It may have been there before, open to others.
                file.set_permissions(Permissions::from_mode(OWNER_ALONE))?;
                Box::new(file)
            }
        };
        let (buffers, waiting) = sync_channel(match target {
            LogTarget::PrivateFile(_) => PRIVATE_BUFFERS_WAITING,
            _ => BUFFERS_WAITING,
        });
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || write_out(name, &waiting, output))?;
        Ok(Some((Self { buffers }, thread)))
    }
}

fn write_out(name: &str, waiting: &Receiver<Vec<u8>>, mut output: Box<dyn Write + Send>) {
    let mut failing = false;
    while let Ok(buffer) = waiting.recv() {
        let written = output.write_all(&buffer).and_then(|()| output.flush());
        match written {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, log = name, "the log cannot be written; lines are lost");
            }
            Err(_) => {}
        }
    }
}

/// One worker's end of a log.
#[derive(Debug)]
pub struct LogLines {
    writer: Option<LogWriter>,
    buffer: RefCell<Vec<u8>>,
    /// Lines that were lost.
    dropped: IntCounter,
}

impl LogLines {
    pub fn new(writer: Option<LogWriter>, dropped: IntCounter) -> Self {
        Self { writer, buffer: RefCell::new(Vec::new()), dropped }
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
            let (TrySendError::Full(lines) | TrySendError::Disconnected(lines)) = refused;
            let lines = lines.split(|octet| *octet == b'\n').count() - 1;
            self.dropped.inc_by(lines as u64);
        }
    }

    /// Adds what `write` writes, one line; nothing where the log is off.
    pub fn add(&self, write: impl FnOnce(&mut Line<'_>) -> fmt::Result) {
        if self.writer.is_none() {
            return;
        }
        let is_full = {
            let mut buffer = self.buffer.borrow_mut();
            // A vector takes whatever is written.
            write(&mut Line::new(&mut buffer)).unwrap_or(());
            buffer.len() >= BUFFER_OCTETS
        };
        if is_full {
            self.flush();
        }
    }
}

/// Text appended to octets.
#[derive(Debug)]
pub struct Line<'a>(&'a mut Vec<u8>);

impl fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl<'a> Line<'a> {
    pub fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self(buffer)
    }

    /// Writes `,"name":"text"` with the escapes of RFC 8259 section 7.
    pub fn member(&mut self, name: &str, text: &str) -> fmt::Result {
        let quoted = serde_json::Value::from(text);
        write!(self, r#","{name}":{quoted}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_lines_and_counts_them() {
        let (buffers, waiting) = sync_channel(1);
        let dropped = IntCounter::new("dropped", "d").unwrap();
        let lines = LogLines::new(Some(LogWriter { buffers }), dropped.clone());
        for line in ["a", "b", "c"] {
            lines.add(|out| writeln!(out, "{line}"));
            lines.add(|out| writeln!(out, "{line}"));
            lines.flush();
        }
        assert_eq!(dropped.get(), 4);
        assert_eq!(waiting.recv().unwrap(), b"a\na\n");
        lines.add(|out| writeln!(out, "{}", "d".repeat(BUFFER_OCTETS)));
        assert_eq!(waiting.try_recv().unwrap().len(), BUFFER_OCTETS + 1, "full is handed over");
        let off = LogLines::new(None, dropped.clone());
        off.add(|_| Err(fmt::Error));
        off.flush();
        assert_eq!(dropped.get(), 4);
    }

    #[test]
    fn a_private_file_is_private_although_it_was_not() {
        let path = std::env::temp_dir().join(format!("firewall-lines-{}", std::process::id()));
        for before in [None, Some(0o644)] {
            if let Some(mode) = before {
                std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
            let target = LogTarget::PrivateFile(path.clone().into());
            let (writer, thread) = LogWriter::start(&target, "test").unwrap().unwrap();
            drop(writer);
            thread.join().unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, OWNER_ALONE, "{before:?}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
