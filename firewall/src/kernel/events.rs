//! The ring buffer of sampled drops.

use std::io;
use std::os::fd::AsRawFd;

use aya::maps::{Map, MapData, RingBuf};
use firewall_common::DropEvent;
use firewall_common::maps::EVENTS;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::KernelError;

/// Events in one batch at most, so that a flood cannot keep its reader from everything else.
const BATCH: usize = 256;

/// The sampled drops, oldest first.
pub struct Events {
    ring: Ring,
}

/// Registered with the runtime when first waited for, so that it can be made outside of one.
enum Ring {
    Idle(RingBuf<MapData>),
    Registered(AsyncFd<RingBuf<MapData>>),
    Failed,
}

impl Events {
    pub(super) fn open(map: Map) -> Result<Self, KernelError> {
        let ring = RingBuf::try_from(map).map_err(|source| KernelError::Map {
            map: EVENTS.name,
            action: "open",
            source,
        })?;
        Ok(Self { ring: Ring::Idle(ring) })
    }

    /// The next events, at least one and at most 256. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// When the ring buffer cannot be waited for; outside of a runtime with I/O it panics.
    pub async fn next(&mut self) -> io::Result<Vec<DropEvent>> {
        let ring = self.registered()?;
        loop {
            let mut guard = ring.readable_mut().await?;
            let events = read(guard.get_inner_mut());
            if events.len() < BATCH {
                guard.clear_ready();
            }
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    fn registered(&mut self) -> io::Result<&mut AsyncFd<RingBuf<MapData>>> {
        if let Ring::Idle(_) = self.ring
            && let Ring::Idle(ring) = std::mem::replace(&mut self.ring, Ring::Failed)
        {
            self.ring = Ring::Registered(register(ring)?);
        }
        match &mut self.ring {
            Ring::Registered(ring) => Ok(ring),
            Ring::Idle(_) | Ring::Failed => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

fn read(ring: &mut RingBuf<MapData>) -> Vec<DropEvent> {
    let mut events = Vec::new();
    while events.len() < BATCH
        && let Some(record) = ring.next()
    {
        events.extend(DropEvent::from_bytes(&record));
    }
    events
}

/// Registers a ring buffer with the runtime.
///
/// # Panics
///
/// Outside of a runtime with I/O.
#[expect(
    deprecated,
    reason = "the ring owns the one descriptor it ever names, which is all that \
    the unsafe successor asks for"
)]
pub(super) fn register<T: AsRawFd>(ring: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(ring, Interest::READABLE)
}
