//! Networks inside one machine: namespaces, the cables between them, and what runs in them.
//!
//! Everything is done by system calls and netlink, so that no tool need be installed; everything is
//! held by descriptors, so that it is gone when they are dropped, or when the process dies. Whether
//! it may be done is found by doing it: a missing capability is [`LabError::NotPermitted`].

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use socket2::{Domain, Protocol, Socket, Type};

mod device;
mod error;
mod link;
mod topology;

pub use self::device::{Change, Device, add, change};
pub use self::error::LabError;
pub use self::link::{Port, cable, give, unplug};
pub use self::topology::Topology;

/// A network namespace, alive as long as this value, a process in it, or a socket of it.
#[derive(Debug)]
pub struct NetNs {
    file: File,
}

impl NetNs {
    /// A new namespace in which nothing but the loopback interface is up.
    pub fn new() -> Result<Self, LabError> {
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
                // A kernel without network namespaces calls the flag itself invalid.
                let errno = if errno == Errno::EINVAL { Errno::ENOSYS } else { errno };
                LabError::refused("making a network namespace", "CAP_SYS_ADMIN", errno.into())
            })?;
            let file = File::open("/proc/thread-self/ns/net")
                .map_err(|source| LabError::failed("opening the new network namespace", source))?;
            link::up("lo")?;
            Ok(Self { file })
        })
    }

    /// Runs `work` on a new thread inside the namespace and waits for it. Sockets that it makes, and
    /// threads and processes that it starts, stay in the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        on_own_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
                LabError::refused("entering a network namespace", "CAP_SYS_ADMIN", errno.into())
            })?;
            Ok(work())
        })
    }

    /// Starts a process inside the namespace.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, LabError> {
        self.run(|| command.spawn())?
            .map_err(|source| LabError::failed("starting a process in a network namespace", source))
    }

    /// A listening socket of the namespace; any thread may accept from it.
    pub fn bind(&self, address: SocketAddr) -> Result<TcpListener, LabError> {
        self.run(|| TcpListener::bind(address))?
            .map_err(|source| LabError::failed("binding a socket in a network namespace", source))
    }

    /// A connection out of the namespace from the local address of `from` (port 0: any); any thread
    /// may use it.
    ///
    /// The outer error is the lab's, the inner one what the network said to the connection.
    pub fn connect(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        patience: Duration,
    ) -> Result<io::Result<TcpStream>, LabError> {
        self.run(|| connect(from, to, patience))
    }

    /// A path by which tools such as `nsenter --net=PATH` enter, while this value lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

/// A TCP connection from the local address of `from`, within `patience`.
pub fn connect(from: SocketAddr, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&from.into())?;
    socket.connect_timeout(&to.into(), patience)?;
    Ok(socket.into())
}

/// Namespaces belong to threads: each change of one is made on a thread that ends with it.
fn on_own_thread<T: Send>(
    work: impl FnOnce() -> Result<T, LabError> + Send,
) -> Result<T, LabError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| LabError::failed("starting a thread", source))?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests;
