//! The listening sockets: one for each worker on the same port, and how they accept.

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::warn;

use crate::address::PeerAddr;

/// How long accepting rests at first when the system has run out of something.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// How many connections in a row may fail before that, too, is taken for a lasting condition.
const ERRORS_PASSED_OVER: u32 = 64;
/// How long at most: a client that waits must not wait much longer than the shortage.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// One listening socket for each worker, among which the kernel spreads new connections.
///
/// With port 0 the first gets a free port, and the others the same. The unspecified IPv6 address
/// takes IPv4 as well. `backlog` is cut by the kernel to `net.core.somaxconn`.
///
/// # Errors
/// What the system says to a socket that cannot be made, bound, or listened on.
pub fn bind(
    address: SocketAddr,
    workers: NonZeroUsize,
    backlog: u16,
) -> io::Result<Vec<std::net::TcpListener>> {
    let first = bind_one(address, backlog)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers.get() {
        listeners.push(bind_one(address, backlog)?);
    }
    Ok(listeners)
}

fn bind_one(address: SocketAddr, backlog: u16) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let IpAddr::V6(ip) = address.ip() {
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Inherited by what is accepted, which saves each connection a system call.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog.into())?;
    Ok(socket.into())
}

/// One worker's listening sockets: one, unless some were [inherited](super::inherit::spread).
pub struct Listener {
    sockets: Vec<TcpListener>,
    /// The one that is asked first; every connection moves it on, so that none is passed over.
    first: usize,
    is_shared: bool,
    rest: Rest,
}

/// How long to rest after errors that follow on one another.
#[derive(Default)]
struct Rest {
    errors: u32,
    pause: Duration,
}

impl Listener {
    /// Takes sockets of [`bind`] into this thread's runtime. From a socket that is shared other
    /// workers, or another process's, accept as well.
    ///
    /// # Errors
    /// If the runtime cannot watch a socket.
    pub fn new(sockets: Vec<std::net::TcpListener>, is_shared: bool) -> io::Result<Self> {
        let sockets = sockets.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?;
        Ok(Self { sockets, first: 0, is_shared, rest: Rest::default() })
    }

    /// The next connection. Errors are dealt with here: one connection's are passed over, and when
    /// the system lacks descriptors or memory accepting rests, longer each time.
    pub async fn accept(&mut self) -> (TcpStream, PeerAddr) {
        if self.is_shared {
            // What was accepted is begun with first, while who is idle takes the next one: otherwise
            // the first to wake would take all that came at once.
            yield_now().await;
        }
        loop {
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok((stream, address)) => {
                    self.rest = Rest::default();
                    return (stream, PeerAddr::new(address.ip()));
                }
                Err(error) => {
                    if let Some(pause) = self.rest.after(&error) {
                        warn!(%error, ?pause, "accepting connections rests");
                        sleep(pause).await;
                    }
                }
            }
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let count = self.sockets.len();
        let (before, after) = self.sockets.split_at(self.first.min(count));
        let accepted = after.iter().chain(before).find_map(|socket| match socket.poll_accept(cx) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        });
        let Some(accepted) = accepted else { return Poll::Pending };
        self.first = (self.first + 1) % count;
        Poll::Ready(accepted)
    }
}

impl Rest {
    /// None where the next connection can be tried at once.
    fn after(&mut self, error: &io::Error) -> Option<Duration> {
        self.errors = self.errors.saturating_add(1);
        if is_of_one_connection(error) && self.errors <= ERRORS_PASSED_OVER {
            return None;
        }
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        Some(self.pause)
    }
}

/// The error befell a connection before it was accepted, and is gone with it (accept(2) lists the
/// network errors that Linux passes on).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::INTR
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::NONET
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::PERM
                | Errno::PROTO
                | Errno::TIMEDOUT
        )
    )
}
