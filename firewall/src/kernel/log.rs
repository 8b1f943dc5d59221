//! What the program itself logs, when an operator switches it on: aya-log's records, as tracing
//! events of the target `firewall::kernel::program`.

use std::io;
use std::str::FromStr;

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};

use super::{KernelError, events};

/// The filter directive that lets everything through that the program writes.
pub const PROGRAM_LOG: &str = "firewall::kernel::program=trace";

/// The least severe record that the program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The number that the program compares with; below `Error` it writes nothing.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Warn => 2,
            Self::Info => 3,
            Self::Debug => 4,
            Self::Trace => 5,
        }
    }
}

/// A word that is no [`LogLevel`].
#[derive(Debug, thiserror::Error)]
#[error("expected error, warn, info, debug or trace, found {found:?}")]
pub struct UnknownLevel {
    found: String,
}

impl FromStr for LogLevel {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(UnknownLevel { found: text.to_owned() }),
        }
    }
}

/// The program's log.
pub struct LogStream {
    logger: EbpfLogger<Tracing>,
}

impl LogStream {
    pub(super) fn open(program: &mut Ebpf) -> Result<Self, KernelError> {
        match EbpfLogger::init_with_logger(program, Tracing) {
            Ok(logger) => Ok(Self { logger }),
            Err(aya_log::Error::MapError(source)) => {
                Err(KernelError::Map { map: "AYA_LOGS", action: "open", source })
            }
            Err(_) => Err(KernelError::NoMap { map: "AYA_LOGS" }),
        }
    }

    /// Passes records on to tracing for as long as it is polled.
    ///
    /// # Errors
    ///
    /// When the ring buffer cannot be waited for; outside of a runtime with I/O it panics.
    pub async fn run(self) -> io::Result<()> {
        let mut logger = events::register(self.logger)?;
        loop {
            let mut guard = logger.readable_mut().await?;
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    }
}

struct Tracing;

impl Log for Tracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        const TARGET: &str = "firewall::kernel::program";
        let message = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: TARGET, "{message}"),
            Level::Warn => tracing::warn!(target: TARGET, "{message}"),
            Level::Info => tracing::info!(target: TARGET, "{message}"),
            Level::Debug => tracing::debug!(target: TARGET, "{message}"),
            Level::Trace => tracing::trace!(target: TARGET, "{message}"),
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_aya() {
        for (text, level) in [
            ("error", aya_log::Level::Error),
            ("warn", aya_log::Level::Warn),
            ("info", aya_log::Level::Info),
            ("debug", aya_log::Level::Debug),
            ("trace", aya_log::Level::Trace),
        ] {
            assert_eq!(text.parse::<LogLevel>().unwrap().number(), level as u8, "{text}");
        }
        assert!("verbose".parse::<LogLevel>().is_err());
    }
}
