//! The way to the loader: one connection, made anew when it is lost.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::wire::{PROTOCOL, REPLY_MAX, Reply, Request, State, Welcome, receive, send};
use crate::clock::Monotonic;
use crate::kernel::KernelError;

/// How long an answer is waited for: whoever waits does nothing else meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a new array is, of which the largest are 64 MiB.
const ARRAY_PATIENCE: Duration = Duration::from_secs(2);
/// How long a loader that was silent is not asked again.
const PAUSE: Duration = Duration::from_secs(10);

/// A loader's other half.
#[derive(Debug)]
pub(in crate::kernel) struct Client {
    socket: PathBuf,
    /// Where this process has its maps from.
    maps: PathBuf,
    /// The number of the array by which it knows the tables of bans, once it does.
    bans: Mutex<Option<u32>>,
    way: Mutex<Way>,
}

#[derive(Debug, Default)]
struct Way {
    stream: Option<UnixStream>,
    /// Of the connection, the first one is 1.
    number: u64,
    welcome: Option<Welcome>,
    silent_until: Option<Monotonic>,
}

impl Client {
    pub(in crate::kernel) fn new(socket: &Path, maps: PathBuf) -> Self {
        let (socket, bans, way) = (socket.to_owned(), Mutex::default(), Mutex::default());
        Self { socket, maps, bans, way }
    }

    /// From now on a loader with other tables is refused.
    pub(in crate::kernel) fn bind(&self, bans: u32) {
        *self.bans.lock().unwrap_or_else(PoisonError::into_inner) = Some(bans);
    }

    /// Connects, unless it is; gives the number of the connection.
    pub(in crate::kernel) fn connect(&self) -> Result<u64, KernelError> {
        let mut way = self.way();
        // One that has ended is known by its end alone.
        if way.stream.as_ref().is_some_and(is_closed) {
            way.stream = None;
        }
        self.open(&mut way)?;
        Ok(way.number)
    }

    /// Who answered last, if it still does.
    pub(in crate::kernel) fn welcome(&self) -> Option<Welcome> {
        let way = self.way();
        let is_there = way.stream.as_ref().is_some_and(|stream| !is_closed(stream));
        way.welcome.clone().filter(|_| is_there)
    }

    /// A new array for the tables of bans.
    pub(in crate::kernel) fn make(&self, lines: u32) -> Result<OwnedFd, KernelError> {
        match self.ask(&Request::Lines { lines })? {
            (Reply::Lines, Some(descriptor)) => Ok(descriptor),
            (Reply::Refused { reason }, _) => Err(self.refused(reason)),
            _ => Err(self.refused("an answer to another question".into())),
        }
    }

    pub(in crate::kernel) fn state(&self, request: &Request) -> Result<State, KernelError> {
        match self.ask(request)? {
            (Reply::State(state), None) => Ok(state),
            (Reply::Refused { reason }, _) => Err(self.refused(reason)),
            _ => Err(self.refused("an answer to another question".into())),
        }
    }

    fn ask(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), KernelError> {
        let mut way = self.way();
        if way.stream.as_ref().is_some_and(is_closed) {
            way.stream = None;
        }
        let stream = self.open(&mut way)?;
        let patience = match request {
            Request::Lines { .. } => ARRAY_PATIENCE,
            _ => PATIENCE,
        };
        let answer = stream
            .set_read_timeout(Some(patience))
            .and_then(|()| send(stream, request, None))
            .and_then(|()| receive(stream, REPLY_MAX));
        answer.map_err(|error| self.lost(&mut way, error))
    }

    fn open<'a>(&self, way: &'a mut Way) -> Result<&'a UnixStream, KernelError> {
        if way.stream.is_none() {
            if way.silent_until.is_some_and(|until| Monotonic::now() < until) {
                return Err(self.absent(io::ErrorKind::TimedOut.into()));
            }
            match self.greet() {
                Ok((stream, welcome)) => {
                    self.accept(&welcome)?;
                    *way = Way {
                        stream: Some(stream),
                        number: way.number + 1,
                        welcome: Some(welcome),
                        silent_until: None,
                    };
                }
                Err(Unheard::Refused(reason)) => return Err(self.refused(reason)),
                Err(Unheard::Io(error)) => return Err(self.lost(way, error)),
            }
        }
        let absent = || self.absent(io::ErrorKind::NotConnected.into());
        way.stream.as_ref().ok_or_else(absent)
    }

    fn greet(&self) -> Result<(UnixStream, Welcome), Unheard> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        send(&stream, &Request::Hello { protocol: PROTOCOL }, None)?;
        match receive(&stream, REPLY_MAX)?.0 {
            Reply::Welcome(welcome) => Ok((stream, welcome)),
            Reply::Refused { reason } => Err(Unheard::Refused(reason)),
            Reply::Lines | Reply::State(_) => {
                Err(Unheard::Refused("an answer to another question".into()))
            }
        }
    }

    /// Whether the loader's program reads the maps that this process writes.
    fn accept(&self, welcome: &Welcome) -> Result<(), KernelError> {
        if welcome.maps != self.maps {
            return Err(KernelError::OtherMaps {
                socket: self.socket.clone(),
                version: welcome.version.clone(),
                theirs: welcome.maps.clone(),
                ours: self.maps.clone(),
            });
        }
        let bans = *self.bans.lock().unwrap_or_else(PoisonError::into_inner);
        if bans.is_some_and(|bans| bans != welcome.bans) {
            return Err(KernelError::NewTables { socket: self.socket.clone() });
        }
        Ok(())
    }

    fn lost(&self, way: &mut Way, error: io::Error) -> KernelError {
        way.stream = None;
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            way.silent_until = Some(Monotonic::now().after(PAUSE));
            return self.absent(io::ErrorKind::TimedOut.into());
        }
        self.absent(error)
    }

    fn absent(&self, source: io::Error) -> KernelError {
        KernelError::NoLoader { socket: self.socket.clone(), source }
    }

    fn refused(&self, reason: String) -> KernelError {
        KernelError::RefusedByLoader { socket: self.socket.clone(), reason }
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a loader has not welcomed.
enum Unheard {
    Io(io::Error),
    Refused(String),
}

impl From<io::Error> for Unheard {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whether the other end is gone. Nothing is sent unasked, so that there is nothing to read but the end.
fn is_closed(stream: &UnixStream) -> bool {
    use rustix::net::{RecvFlags, recv};
    let mut octet = [0; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    !matches!(recv(stream, &mut octet, flags), Err(rustix::io::Errno::AGAIN))
}
