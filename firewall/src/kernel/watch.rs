//! Hears that interfaces changed. What changed is not read from the messages but by listing the
//! interfaces anew: so a lost message loses nothing.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::unix::AsyncFd;

use super::{events, netlink};

/// Some thousand messages that nobody has read yet; beyond this they are lost, which is noticed.
const ROOM_OCTETS: usize = 1 << 20;
/// Messages taken at once, so that a storm cannot keep its reader from everything else.
const BATCH: u64 = 1024;

/// What was heard since it was last asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Heard {
    /// Messages about interfaces of this network namespace.
    pub messages: u64,
    /// Whether there were more than there was room for.
    pub has_lost: bool,
}

/// The kernel's messages about interfaces, from when it was made.
pub struct Watch {
    socket: Socket,
}

/// Registered with the runtime when first waited for, so that it can be made outside of one.
enum Socket {
    Idle(OwnedFd),
    Registered(AsyncFd<OwnedFd>),
    Failed,
}

impl Watch {
    /// Begins to listen, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// When the kernel gives no socket for it.
    pub fn open() -> io::Result<Self> {
        Self::with_room(ROOM_OCTETS)
    }

    /// With room for `octets` of messages; the kernel has a minimum of its own.
    pub(super) fn with_room(octets: usize) -> io::Result<Self> {
        Ok(Self { socket: Socket::Idle(netlink::listen_for_links(octets)?) })
    }

    /// Waits until something changed. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// When the socket cannot be waited for or read; outside of a runtime with I/O it panics.
    pub async fn changed(&mut self) -> io::Result<Heard> {
        let socket = self.registered()?;
        loop {
            let mut guard = socket.readable().await?;
            let (heard, is_drained) = take(guard.get_inner())?;
            if is_drained {
                guard.clear_ready();
            }
            if heard != Heard::default() {
                return Ok(heard);
            }
        }
    }

    fn registered(&mut self) -> io::Result<&mut AsyncFd<OwnedFd>> {
        if let Socket::Idle(_) = self.socket
            && let Socket::Idle(socket) = std::mem::replace(&mut self.socket, Socket::Failed)
        {
            self.socket = Socket::Registered(events::register(socket)?);
        }
        match &mut self.socket {
            Socket::Registered(socket) => Ok(socket),
            Socket::Idle(_) | Socket::Failed => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Takes what there is, and tells whether nothing is left.
fn take(socket: &OwnedFd) -> io::Result<(Heard, bool)> {
    // The content is of no interest: the kernel cuts it off.
    let mut buffer = [0; 64];
    let mut heard = Heard::default();
    while heard.messages < BATCH {
        match recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok(_) => heard.messages += 1,
            Err(Errno::NOBUFS) => heard.has_lost = true,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok((heard, true)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((heard, false))
}
