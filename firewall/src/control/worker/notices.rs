//! Connections that are turned away or ended: each counted, and of each reason one logged now and then.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::access_log::Ending;
use crate::address::PeerAddr;
use crate::clock::Monotonic;
use crate::listen::connections::NoSeat;
use crate::listen::{Event, Turned};
use crate::metrics::Metrics;

/// How often one worker logs a reason: who is turned away comes back, as often as he likes.
const INTERVAL: Duration = Duration::from_secs(10);

/// One worker's counts and notices.
pub(super) struct Notices {
    metrics: Arc<Metrics>,
    /// By reason, of which there are few: when it was last logged, and how often it came since.
    told: RefCell<HashMap<&'static str, (Monotonic, u64)>>,
}

impl Notices {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, told: RefCell::default() }
    }

    pub(super) fn tell(&self, peer: PeerAddr, event: Event) {
        match event {
            Event::Accepted => self.metrics.connections_total.inc(),
            Event::Turned(turned) => {
                let reason = turned_id(turned);
                self.metrics.connections_refused.with_label_values(&[reason]).inc();
                // A ban has been told of already, and so has the end.
                if !matches!(turned, Turned::Banned | Turned::NoSeat(NoSeat::Draining)) {
                    self.log(peer, reason, "connection turned away");
                }
            }
            Event::Ended(ending) => {
                self.metrics.connections_ended.with_label_values(&[ending.id()]).inc();
                // Silence is what every connection comes to.
                if matches!(ending, Ending::Untaken | Ending::Room) {
                    self.log(peer, ending.id(), "connection ended");
                }
            }
        }
    }

    fn log(&self, peer: PeerAddr, reason: &'static str, what: &str) {
        if let Some(untold) = self.due(reason, Monotonic::coarse()) {
            tracing::info!(peer = %peer.0, reason, untold, "{what}");
        }
    }

    /// Whether this one is to be logged: how many before it were not.
    fn due(&self, reason: &'static str, now: Monotonic) -> Option<u64> {
        let mut told = self.told.borrow_mut();
        let Some((last, untold)) = told.get_mut(reason) else {
            told.insert(reason, (now, 0));
            return Some(0);
        };
        if now.since(*last) < INTERVAL {
            *untold += 1;
            return None;
        }
        *last = now;
        Some(std::mem::take(untold))
    }
}

/// The label of a connection that was not let in.
fn turned_id(reason: Turned) -> &'static str {
    match reason {
        Turned::Banned => "banned",
        Turned::NoSeat(NoSeat::Worker) => "worker-full",
        Turned::NoSeat(NoSeat::Source) => "source-full",
        Turned::NoSeat(NoSeat::Draining) => "draining",
        Turned::NoHeader => "proxy-header",
        Turned::HeaderTimeout => "proxy-header-timeout",
        Turned::NoTls(reason) => reason.id(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_logged_now_and_then() {
        let notices = Notices::new(Arc::new(Metrics::new()));
        let at = |seconds: u64| Monotonic::from_ns(seconds * 1_000_000_000);
        assert_eq!(notices.due("source-full", at(100)), Some(0));
        for _ in 0..7 {
            assert_eq!(notices.due("source-full", at(109)), None);
        }
        assert_eq!(notices.due("room", at(109)), Some(0), "another reason");
        assert_eq!(notices.due("source-full", at(110)), Some(7));
        assert_eq!(notices.due("source-full", at(111)), None);
        assert_eq!(notices.due("source-full", at(121)), Some(1));
    }

    #[test]
    fn each_is_counted_by_its_reason() {
        let notices = Notices::new(Arc::new(Metrics::new()));
        let peer = PeerAddr([192, 0, 2, 1].into());
        notices.tell(peer, Event::Accepted);
        notices.tell(peer, Event::Turned(Turned::NoSeat(NoSeat::Source)));
        for ending in Ending::ALL {
            notices.tell(peer, Event::Ended(ending));
        }
        assert_eq!(notices.metrics.connections_total.get(), 1);
        let refused = &notices.metrics.connections_refused;
        assert_eq!(refused.with_label_values(&["source-full"]).get(), 1);
        for ending in Ending::ALL {
            let ended = notices.metrics.connections_ended.with_label_values(&[ending.id()]);
            assert_eq!(ended.get(), 1, "{}", ending.id());
        }
    }
}
