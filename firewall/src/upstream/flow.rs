//! A request's body on its way, as those see it who wait for the answer: whom it waits for, how long
//! already, and how much of it has passed.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::task::Waker;
use std::time::Duration;

use tokio::time::sleep;

use crate::clock::Monotonic;

/// Octets that a client must send for each further second, once its patience is spent.
const OCTETS_A_SECOND: u64 = 1024;

/// The state of one body.
#[derive(Debug)]
pub struct Flow {
    octets: Cell<u64>,
    /// Since when the client, or the upstream, has been waited for.
    since: Cell<Monotonic>,
    awaits_client: Cell<bool>,
    /// How long the client was waited for before that.
    waited: Cell<Duration>,
    is_too_large: Cell<bool>,
    is_given_up: Cell<bool>,
    /// Of who waits for the client.
    waker: RefCell<Option<Waker>>,
}

/// Why a body that flows is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// The client does not send it.
    Client,
    /// The upstream does not take it, or does not answer when it has it.
    Upstream,
}

impl Flow {
    pub(super) fn new(now: Monotonic) -> Self {
        Self {
            octets: Cell::default(),
            since: Cell::new(now),
            awaits_client: Cell::default(),
            waited: Cell::default(),
            is_too_large: Cell::default(),
            is_given_up: Cell::default(),
            waker: RefCell::default(),
        }
    }

    /// The octets that have passed.
    pub fn octets(&self) -> u64 {
        self.octets.get()
    }

    /// Whether it turned out to be longer than it may be.
    pub fn is_too_large(&self) -> bool {
        self.is_too_large.get()
    }

    pub(super) fn exceeded(&self) {
        self.is_too_large.set(true);
    }

    /// The answer is over: what is left of the body goes nowhere.
    pub(super) fn give_up(&self) {
        self.is_given_up.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.get()
    }

    /// Has this one woken when it is given up.
    pub(super) fn watch(&self, waker: &Waker) {
        self.waker.replace(Some(waker.clone()));
    }

    /// Nothing is there to be passed on.
    pub(super) fn awaits_client(&self, now: Monotonic) {
        if !self.awaits_client.replace(true) {
            self.since.set(now);
        }
    }

    /// So much was passed on, or nothing more will come.
    pub(super) fn passed(&self, octets: usize, now: Monotonic) {
        if self.awaits_client.replace(false) {
            let waited = now.since(self.since.get());
            self.waited.set(self.waited.get().saturating_add(waited));
        }
        self.since.set(now);
        self.octets.set(self.octets.get().saturating_add(octets as u64));
    }

    /// Until when whoever is waited for may take. The client has `client` in all, and a second more for
    /// each [`OCTETS_A_SECOND`], of which it may spend no more than `client` at once: an octet now and
    /// then is not worth an age. The upstream has `upstream` each time.
    fn deadline(&self, client: Duration, upstream: Duration) -> (Monotonic, Stalled) {
        let since = self.since.get();
        if !self.awaits_client.get() {
            return (since.after(upstream), Stalled::Upstream);
        }
        let earned = Duration::from_secs(self.octets.get() / OCTETS_A_SECOND);
        let left = client.saturating_add(earned).saturating_sub(self.waited.get());
        (since.after(left.min(client)), Stalled::Client)
    }

    /// Waits for what `answer` gives, for as long as the body flows.
    ///
    /// # Errors
    ///
    /// Who stopped.
    pub async fn supervise<T>(
        &self,
        answer: impl Future<Output = T>,
        client: Duration,
        upstream: Duration,
    ) -> Result<T, Stalled> {
        let mut answer = pin!(answer);
        loop {
            let (deadline, culprit) = self.deadline(client, upstream);
            let left = deadline.since(Monotonic::now());
            if left.is_zero() {
                return Err(culprit);
            }
            tokio::select! {
                answered = &mut answer => return Ok(answered),
                // It may have moved meanwhile.
                () = sleep(left) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Duration = Duration::from_secs(10);
    const UPSTREAM: Duration = Duration::from_mins(1);

    /// What happens to a body: waits for the client so many seconds, then passes so many octets.
    type Course = Vec<(u64, usize)>;

    /// When the one is given up who is waited for after all that, in seconds; none where one was
    /// given up before.
    fn given_up(course: &Course, awaits_client: bool) -> Option<(u64, Stalled)> {
        let began = Monotonic::from_ns(0);
        let mut now = began;
        let flow = Flow::new(now);
        let deadline = || flow.deadline(CLIENT, UPSTREAM);
        for (seconds, octets) in course {
            flow.awaits_client(now);
            // Asked again, without anything to give.
            flow.awaits_client(now.after(Duration::from_millis(1)));
            now = now.after(Duration::from_secs(*seconds));
            if deadline().0 < now {
                return None;
            }
            flow.passed(*octets, now);
        }
        if awaits_client {
            flow.awaits_client(now);
        }
        let (deadline, culprit) = deadline();
        Some((deadline.since(began).as_secs(), culprit))
    }

    #[test]
    fn whoever_stops_is_given_up() {
        let (client, upstream) = (Stalled::Client, Stalled::Upstream);
        for (course, awaits_client, expected) in [
            (vec![], true, Some((10, client))),
            (vec![], false, Some((60, upstream))),
            (vec![(5, 100)], false, Some((65, upstream))),
            (vec![(10, 100)], false, Some((70, upstream))),
            (vec![(11, 100)], false, None),
            // An octet a second earns nothing.
            (vec![(1, 1); 9], true, Some((10, client))),
            (vec![(1, 1); 11], true, None),
            // The least rate does, for ever.
            (vec![(1, 1024); 1000], true, Some((1010, client))),
            // What came in one go does not pay for an age of silence, but for several short ones.
            (vec![(0, 1 << 30)], true, Some((10, client))),
            (vec![(0, 1 << 30), (11, 1)], true, None),
            (vec![(0, 15 << 10), (10, 1), (10, 1)], true, Some((25, client))),
        ] {
            assert_eq!(given_up(&course, awaits_client), expected, "{course:?}");
        }
    }

    #[test]
    fn an_answer_ends_it_and_so_does_silence() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let flow = Flow::new(Monotonic::now());
            assert_eq!(flow.supervise(async { 7 }, CLIENT, UPSTREAM).await, Ok(7));
            let soon = Duration::from_millis(5);
            let silent = flow.supervise(std::future::pending::<()>(), CLIENT, soon).await;
            assert_eq!(silent, Err(Stalled::Upstream));
            flow.awaits_client(Monotonic::now());
            let silent = flow.supervise(std::future::pending::<()>(), soon, UPSTREAM).await;
            assert_eq!(silent, Err(Stalled::Client));
        });
    }
}
