//! Captures: sampled drops, as they come up, to whoever asked for them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, timeout_at};

use crate::clock::{Monotonic, Wall};
use crate::control::daemon::Control;
use crate::control::enforcement::Enforcement;
use crate::control::pcapng::{self, Losses};
use crate::kernel::{DropEvent, Reason, SAMPLE_OCTETS};

/// Captures in progress at most.
const CAPTURES_MAX: usize = 4;
/// Events that one capture may be behind; beyond, it misses some and says so.
const EVENTS_WAITING: usize = 4096;
/// How long a capture is quiet before it looks whether its caller is still there.
const QUIET: Duration = Duration::from_secs(1);
/// How long after its end a capture may still be read.
const READER_PATIENCE: Duration = Duration::from_secs(1);
/// Blocks on their way to the caller.
const BLOCKS_WAITING: usize = 64;
/// Interfaces that one capture tells apart; what comes in by another is the last one's.
const INTERFACES_MAX: u32 = 256;

/// What a capture wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Drops of these reasons; of all if there is none.
    pub reasons: Vec<Reason>,
    /// Packets at most.
    pub count: u64,
    /// For how long at most.
    pub duration: Duration,
}

/// The captures in progress.
#[derive(Debug, Default)]
pub struct Captures(Vec<Sink>);

#[derive(Debug)]
struct Sink {
    reasons: Vec<Reason>,
    events: mpsc::Sender<DropEvent>,
    missed: Missed,
}

/// How many events of each interface a capture had no room for.
type Missed = Rc<RefCell<BTreeMap<u32, u64>>>;

/// A capture's end of it.
#[derive(Debug)]
pub struct Samples {
    events: mpsc::Receiver<DropEvent>,
    missed: Missed,
}

impl Samples {
    /// Takes no more, and counts what still waits as missed: it came before the end, and is not given.
    fn give_up(&mut self) {
        self.events.close();
        while let Ok(event) = self.events.try_recv() {
            *self.missed.borrow_mut().entry(event.interface).or_default() += 1;
        }
    }
}

impl Captures {
    /// None if there are as many as there may be.
    pub fn open(&mut self, reasons: Vec<Reason>) -> Option<Samples> {
        self.0.retain(|sink| !sink.events.is_closed());
        if self.0.len() >= CAPTURES_MAX {
            return None;
        }
        let (sender, events) = mpsc::channel(EVENTS_WAITING);
        let missed = Missed::default();
        self.0.push(Sink { reasons, events: sender, missed: Rc::clone(&missed) });
        Some(Samples { events, missed })
    }

    /// Gives an event to those who want it. Gives how many had no room for it.
    pub fn offer(&self, reason: Reason, event: &DropEvent) -> usize {
        let wanting = self.0.iter().filter(|sink| sink.reasons.contains(&reason));
        wanting
            .filter(|sink| {
                let is_full = matches!(sink.events.try_send(*event), Err(TrySendError::Full(_)));
                if is_full {
                    *sink.missed.borrow_mut().entry(event.interface).or_default() += 1;
                }
                is_full
            })
            .count()
    }

    /// The reasons that any capture in progress wants.
    pub fn wanted(&mut self) -> Vec<Reason> {
        self.0.retain(|sink| !sink.events.is_closed());
        let mut reasons: Vec<_> =
            self.0.iter().flat_map(|sink| sink.reasons.iter().copied()).collect();
        reasons.sort_by_key(|reason| *reason as u32);
        reasons.dedup();
        reasons
    }
}

/// Starts a capture: gives it as the body of an answer, in the pcapng format.
///
/// # Errors
///
/// Why there can be none.
pub fn start(control: &Rc<Control>, wanted: Wanted) -> Result<Channel<Bytes>, String> {
    let Wanted { mut reasons, count, duration } = wanted;
    if reasons.is_empty() {
        reasons = Reason::ALL.iter().copied().filter(|reason| *reason != Reason::Passed).collect();
    }
    let events = control.enforcement.borrow_mut().capture(reasons)?;
    let (sender, body) = Channel::new(BLOCKS_WAITING);
    let control = Rc::clone(control);
    tokio::task::spawn_local(async move {
        let until = Instant::now() + duration;
        // The caller may go away at any time, or stop reading; its place is another's after a while.
        let written = write(&control.enforcement, events, sender, count, until);
        drop(timeout_at(until + READER_PATIENCE, written).await);
        control.enforcement.borrow_mut().capture_ended();
    });
    Ok(body)
}

/// The section that a capture is written as.
struct Section<'a> {
    enforcement: &'a RefCell<Enforcement>,
    body: Sender<Bytes, Infallible>,
    /// The place of each interface among those of the section.
    places: BTreeMap<u32, u32>,
    /// What is written of each place's losses.
    written: BTreeMap<u32, Losses>,
    /// What the kernel had lost when it began.
    lost_before: u64,
}

type Sent = Result<(), http_body_util::channel::SendError>;

async fn write(
    enforcement: &RefCell<Enforcement>,
    mut samples: Samples,
    body: Sender<Bytes, Infallible>,
    count: u64,
    until: Instant,
) -> Sent {
    let (places, written) = (BTreeMap::new(), BTreeMap::new());
    let lost_before = enforcement.borrow().events_lost();
    let mut section = Section { enforcement, body, places, written, lost_before };
    let application = concat!("firewall ", env!("CARGO_PKG_VERSION"));
    section.send(pcapng::section(application)).await?;
    let mut left = count;
    // Asked by itself: to who is behind there is always another event to give at once.
    while left > 0 && Instant::now() < until {
        let next = timeout_at(until.min(Instant::now() + QUIET), samples.events.recv()).await;
        match next {
            Ok(Some(event)) => {
                left -= 1;
                section.packet(&event).await?;
            }
            Err(_) if Instant::now() < until => {
                // Nothing is sent by it, but one learns whether the caller is still there.
                section.send(Vec::new()).await?;
            }
            Ok(None) | Err(_) => break,
        }
        section.losses(&samples.missed, 0).await?;
    }
    if left > 0 {
        samples.give_up();
    }
    let lost = enforcement.borrow().events_lost().saturating_sub(section.lost_before);
    section.losses(&samples.missed, lost).await
}

impl Section<'_> {
    async fn send(&mut self, block: Vec<u8>) -> Sent {
        self.body.send_data(block.into()).await
    }

    async fn packet(&mut self, event: &DropEvent) -> Sent {
        let place = self.place(event.interface).await?;
        let verdict = if event.observed == 0 { "dropped" } else { "observed" };
        let reason = Reason::try_from(event.reason).map_or("unknown", Reason::id);
        let comment = format!("{reason} {verdict}");
        let (sample, at) = (event.sample(), unix_ns(event));
        self.send(pcapng::packet(place, at, sample, event.length, &comment)).await
    }

    /// The place of an interface, which is told of with its first packet.
    async fn place(&mut self, interface: u32) -> Result<u32, http_body_util::channel::SendError> {
        let next = u32::try_from(self.places.len()).unwrap_or(INTERFACES_MAX);
        if let Some(&known) = self.places.get(&interface) {
            return Ok(known);
        }
        if next >= INTERFACES_MAX {
            return Ok(INTERFACES_MAX - 1);
        }
        self.places.insert(interface, next);
        let octets = u32::try_from(SAMPLE_OCTETS).unwrap_or(u32::MAX);
        let name = self.enforcement.borrow().interface_name(interface);
        self.send(pcapng::interface(&name, octets)).await?;
        Ok(next)
    }

    /// Writes the losses that are not written yet. The kernel does not tell by which interface came
    /// what it lost: they are the first one's.
    async fn losses(&mut self, missed: &Missed, in_kernel: u64) -> Sent {
        let missed: Vec<(u32, u64)> = missed.borrow().iter().map(|(i, n)| (*i, *n)).collect();
        let mut found = BTreeMap::<u32, Losses>::new();
        for (interface, behind) in missed {
            found.entry(self.place(interface).await?).or_default().behind += behind;
        }
        if in_kernel > 0 {
            if self.places.is_empty() {
                self.place(0).await?;
            }
            found.entry(0).or_default().in_kernel += in_kernel;
        }
        for (place, losses) in found {
            if self.written.insert(place, losses) != Some(losses) {
                let now_ns = Wall::now().ms().saturating_mul(1_000_000);
                self.send(pcapng::statistics(place, now_ns, losses)).await?;
            }
        }
        Ok(())
    }
}

/// When the packet came in, in nanoseconds of Unix time; as exact as the kernel's coarse clock.
fn unix_ns(event: &DropEvent) -> u64 {
    let ago = Monotonic::now().since(Monotonic::from_ns(event.mono_ns));
    let ago_ns = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
    (Wall::now().ms().saturating_mul(1_000_000)).saturating_sub(ago_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reason: Reason) -> DropEvent {
        let record = [0; size_of::<DropEvent>()];
        DropEvent { reason: reason as u32, ..DropEvent::from_bytes(&record).unwrap() }
    }

    #[test]
    fn a_capture_gets_what_it_wants_and_no_more() {
        let mut captures = Captures::default();
        let mut wanting = captures.open(vec![Reason::T3]).unwrap();
        let both = captures.open(vec![Reason::T1, Reason::T3]).unwrap();
        assert_eq!(captures.wanted(), [Reason::T1, Reason::T3]);
        for reason in [Reason::T1, Reason::T3, Reason::T2] {
            assert_eq!(captures.offer(reason, &event(reason)), 0);
        }
        assert_eq!(wanting.events.try_recv().unwrap().reason, Reason::T3 as u32);
        assert!(wanting.events.try_recv().is_err());
        assert_eq!(both.events.len(), 2);
        drop(wanting);
        drop(both);
        assert_eq!(captures.wanted(), []);
    }

    #[test]
    fn what_waits_at_the_end_is_missed() {
        let mut captures = Captures::default();
        let mut samples = captures.open(vec![Reason::T1]).unwrap();
        for interface in [3, 3, 4] {
            let event = DropEvent { interface, ..event(Reason::T1) };
            assert_eq!(captures.offer(Reason::T1, &event), 0);
        }
        samples.give_up();
        assert_eq!(*samples.missed.borrow(), BTreeMap::from([(3, 2), (4, 1)]));
        assert_eq!(captures.offer(Reason::T1, &event(Reason::T1)), 0);
        assert_eq!(samples.missed.borrow().len(), 2, "its end is no loss of what came later");
    }

    #[test]
    fn captures_and_what_waits_for_them_are_bounded() {
        let mut captures = Captures::default();
        let open: Vec<_> =
            (0..CAPTURES_MAX).map(|_| captures.open(vec![Reason::T1]).unwrap()).collect();
        assert!(captures.open(vec![Reason::T1]).is_none());
        for _ in 0..EVENTS_WAITING {
            assert_eq!(captures.offer(Reason::T1, &event(Reason::T1)), 0);
        }
        assert_eq!(captures.offer(Reason::T1, &event(Reason::T1)), CAPTURES_MAX);
        assert!(open.iter().all(|samples| *samples.missed.borrow() == BTreeMap::from([(0, 1)])));
        drop(open);
        assert!(captures.open(vec![Reason::T1]).is_some());
    }
}
