//! What the service manager is told of the daemon's state: `sd_notify(3)`, one datagram a message.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::clock::Monotonic;

/// Where the manager listens, and how often it wants to hear of us: names of environment variables.
const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";
/// Variables that a process which this one starts must not see.
pub const OF_THIS_PROCESS: [&str; 1] = [WATCHDOG_PID];
/// Octets of a status line; what is longer is cut.
const STATUS_OCTETS: usize = 512;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
}

/// A change of the daemon's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// It serves; with one line for people.
    Ready(&'a str),
    /// It reads its configuration anew; [`State::Ready`] follows, whatever comes of it.
    Reloading(Monotonic),
    /// It drains.
    Stopping,
    /// Another process has taken its place.
    Succeeded(u32),
    /// Every loop is alive.
    Alive,
    /// A line for people, and nothing else.
    Status(&'a str),
}

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(status) => write!(f, "READY=1\nSTATUS={}", line(status)),
            Self::Reloading(now) => {
                write!(f, "RELOADING=1\nMONOTONIC_USEC={}", now.ns() / 1000)
            }
            Self::Stopping => f.write_str("STOPPING=1\nSTATUS=draining"),
            Self::Succeeded(pid) => write!(f, "MAINPID={pid}"),
            Self::Alive => f.write_str("WATCHDOG=1"),
            Self::Status(status) => write!(f, "STATUS={}", line(status)),
        }
    }
}

/// The first line of a text, not longer than may be sent.
fn line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.get(..line.floor_char_boundary(STATUS_OCTETS)).unwrap_or_default()
}

impl Notifier {
    /// The manager that the environment names; none, and said why, if it cannot be reached.
    pub fn from_environment() -> Self {
        let Some(address) = std::env::var_os(SOCKET) else { return Self::default() };
        match connect(&address) {
            Ok(socket) => Self { socket: Some(socket) },
            Err(error) => {
                tracing::warn!(?address, %error, "the service manager is told nothing");
                Self::default()
            }
        }
    }

    /// Tells of a state. A manager that does not listen is not waited for.
    pub fn tell(&self, state: &State<'_>) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(state.to_string().as_bytes())
        {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// `/path`, or `@name` in the abstract namespace; there are others, to other machines.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(address)?,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// How long the manager waits for [`State::Alive`] before it ends this process; none if it does not.
pub fn watchdog_interval() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    interval(number(WATCHDOG_USEC), number(WATCHDOG_PID), std::process::id())
}

/// The interval is that of the process it was meant for: `sd_watchdog_enabled(3)`.
fn interval(microseconds: Option<u64>, meant: Option<u64>, own: u32) -> Option<Duration> {
    let is_ours = meant.is_none_or(|meant| meant == u64::from(own));
    microseconds.filter(|&time| time > 0 && is_ours).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_written_as_the_protocol_has_them() {
        let long = "ä".repeat(400);
        for (state, text) in [
            (State::Ready("xdp-native"), "READY=1\nSTATUS=xdp-native".to_owned()),
            (
                State::Reloading(Monotonic::from_ns(5_000_999)),
                "RELOADING=1\nMONOTONIC_USEC=5000".to_owned(),
            ),
            (State::Stopping, "STOPPING=1\nSTATUS=draining".to_owned()),
            (State::Succeeded(708), "MAINPID=708".to_owned()),
            (State::Alive, "WATCHDOG=1".to_owned()),
            (State::Status("one\nREADY=1"), "STATUS=one".to_owned()),
            (State::Status(""), "STATUS=".to_owned()),
            (State::Status(&long), format!("STATUS={}", "ä".repeat(256))),
        ] {
            assert_eq!(state.to_string(), text);
        }
    }

    #[test]
    fn the_interval_is_for_the_process_that_it_was_meant_for() {
        for (microseconds, meant, expected) in [
            (Some(20_000_000), None, Some(20)),
            (Some(20_000_000), Some(7), Some(20)),
            (Some(20_000_000), Some(8), None),
            (Some(0), None, None),
            (None, Some(7), None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(interval(microseconds, meant, 7), expected, "{microseconds:?} {meant:?}");
        }
    }

    #[test]
    fn a_manager_is_reached_by_path_and_by_name() {
        let name = format!("firewall-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let by_path = UnixDatagram::bind(&path).unwrap();
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
        let named = format!("@{name}");
        for (manager, address) in [(by_path, path.as_os_str()), (by_name, OsStr::new(&named))] {
            let notifier = Notifier { socket: Some(connect(address).unwrap()) };
            notifier.tell(&State::Alive);
            let mut octets = [0; 64];
            let length = manager.recv(&mut octets).unwrap();
            assert_eq!(&octets[..length], b"WATCHDOG=1");
        }
        std::fs::remove_file(path).unwrap();
        for address in ["vsock:2:1234", "relative", ""] {
            assert!(connect(OsStr::new(address)).is_err(), "{address}");
        }
        // Neither a missing manager nor one that has gone away is waited for.
        Notifier::default().tell(&State::Stopping);
    }
}
