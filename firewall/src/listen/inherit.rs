//! Listening sockets that somebody else has opened: a service manager (`sd_listen_fds(3)`), or the
//! process whose place this one takes.
//!
//! Connections wait in the socket itself, so that whoever holds it loses none: neither while nobody
//! accepts, nor where two processes do.

#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use socket2::{Domain, Socket, Type};

/// Whom the descriptors are for, how many there are, what they are called. A process that is started
/// by this one must not see them: they would be meant for another.
pub const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
/// `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;
/// More descriptors than this are a mistake, not a machine.
const DESCRIPTORS_MAX: usize = 256;
/// What a descriptor without a name is called.
const NAMELESS: &str = "unknown";

/// Why sockets that were handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    #[error("{name}: expected {expected}, found {found:?}")]
    Variable { name: &'static str, expected: &'static str, found: String },
    #[error("descriptor {number} ({name}) was announced, and is not open")]
    NotOpen { number: RawFd, name: String, source: io::Error },
    #[error("the socket {name} is {found}, not a listening TCP socket")]
    Kind { name: String, found: &'static str },
    #[error("the socket {name} listens on {found}, the configuration says {expected}")]
    Address { name: String, found: SocketAddr, expected: SocketAddr },
    #[error("the socket {name}")]
    Socket { name: String, source: io::Error },
}

/// A descriptor, and what whoever opened it calls it.
#[derive(Debug)]
pub struct Inherited {
    pub name: String,
    pub descriptor: OwnedFd,
}

/// The descriptors that a service manager has opened for this process; none where there is no such
/// manager, or a second time. To be called before anything else is opened: they are known by their
/// numbers.
///
/// # Errors
///
/// When what is announced makes no sense, or is not there.
pub fn from_manager() -> Result<Vec<Inherited>, InheritError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let [pid, count, names] = VARIABLES.map(|name| std::env::var(name).ok());
    let names = announced(pid.as_deref(), count.as_deref(), names.as_deref(), std::process::id())?;
    (FIRST..).zip(names).map(|(number, name)| take(number, name)).collect()
}

/// The names of the descriptors that the variables announce to the process `own`.
fn announced(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
    own: u32,
) -> Result<Vec<String>, InheritError> {
    let (Some(pid), Some(count)) = (pid, count) else { return Ok(Vec::new()) };
    let [of_pid, of_count, of_names] = VARIABLES;
    let wrong = |name, expected, found: &str| InheritError::Variable {
        name,
        expected,
        found: found.to_owned(),
    };
    let meant: u32 = pid.parse().map_err(|_not| wrong(of_pid, "a process", pid))?;
    if meant != own {
        return Ok(Vec::new());
    }
    let number = count.parse().ok().filter(|number| *number <= DESCRIPTORS_MAX);
    let number: usize = number.ok_or_else(|| wrong(of_count, "a number up to 256", count))?;
    let Some(names) = names.filter(|_| number > 0) else {
        return Ok(vec![NAMELESS.to_owned(); number]);
    };
    let found: Vec<_> = names.split(':').map(str::to_owned).collect();
    if found.len() == number { Ok(found) } else { Err(wrong(of_names, "a name for each", names)) }
}

/// Makes an announced descriptor this process's own, and no later one's.
fn take(number: RawFd, name: String) -> Result<Inherited, InheritError> {
    #[expect(unsafe_code, reason = "a number is all that the service manager gives")]
    // SAFETY: the number stands for a descriptor only while the next two calls are made, and they are
    // made whether there is one or not: they answer EBADF where there is none.
    let announced = unsafe { BorrowedFd::borrow_raw(number) };
    let kept = fcntl_getfd(announced).and_then(|_| fcntl_setfd(announced, FdFlags::CLOEXEC));
    if let Err(error) = kept {
        return Err(InheritError::NotOpen { number, name, source: error.into() });
    }
    #[expect(unsafe_code, reason = "a number is all that the service manager gives")]
    // SAFETY: it is open, as the calls above have shown. The manager opened it for this very process,
    // whose number it names, so that nothing here owns it: `from_manager` is called before anything
    // is opened, and gives each descriptor once.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    Ok(Inherited { name, descriptor })
}

/// The TCP sockets among them that listen where the configuration says. Of an address with port 0
/// any port will do.
///
/// # Errors
///
/// When one is something else or listens elsewhere: what it was meant for would be closed.
pub fn listeners(
    inherited: Vec<Inherited>,
    expected: SocketAddr,
) -> Result<Vec<TcpListener>, InheritError> {
    let listener = |Inherited { name, descriptor }| {
        let socket = Socket::from(descriptor);
        let failed = |name: &str| {
            let name = name.to_owned();
            move |source| InheritError::Socket { name, source }
        };
        let found = match (socket.domain(), socket.r#type(), socket.is_listener()) {
            (Ok(Domain::IPV4 | Domain::IPV6), Ok(Type::STREAM), Ok(true)) => None,
            (Ok(Domain::IPV4 | Domain::IPV6), Ok(Type::STREAM), Ok(false)) => Some("not listening"),
            (Ok(Domain::IPV4 | Domain::IPV6), Ok(_), _) => Some("of another protocol"),
            (Ok(_), ..) => Some("of another family"),
            (Err(_), ..) => Some("no socket"),
        };
        if let Some(found) = found {
            return Err(InheritError::Kind { name, found });
        }
        // As `socket::bind` has them; accepting must not wait, and connections inherit the option.
        let prepared = socket.set_nonblocking(true).and_then(|()| socket.set_tcp_nodelay(true));
        prepared.map_err(failed(&name))?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().map_err(failed(&name))?;
        let is_expected = address.ip() == expected.ip()
            && (expected.port() == 0 || address.port() == expected.port());
        if is_expected {
            Ok(listener)
        } else {
            Err(InheritError::Address { name, found: address, expected })
        }
    };
    inherited.into_iter().map(listener).collect()
}

/// Which sockets each worker accepts from: each has at least one, and each socket is somebody's.
///
/// As many sockets as workers is the usual case. Of fewer sockets several workers share one, and
/// whichever is free takes the next connection. To close one of more sockets would lose what waits in
/// it, so that a worker takes several.
///
/// # Errors
///
/// If there is no socket, or no descriptor left.
pub fn spread(sockets: &[TcpListener], workers: NonZeroUsize) -> io::Result<Vec<Vec<TcpListener>>> {
    if sockets.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let workers = workers.get();
    let of_worker = |worker: usize| {
        if workers >= sockets.len() {
            let own = sockets.get(worker % sockets.len());
            return own.into_iter().map(TcpListener::try_clone).collect();
        }
        sockets.iter().skip(worker).step_by(workers).map(TcpListener::try_clone).collect()
    };
    (0..workers).map(of_worker).collect()
}
