//! Whether every loop of the daemon is alive: the workers' by their pulse, the keeper's by asking it,
//! the main one by running this. One that is stuck ends the messages that the service manager waits
//! for, and the manager ends the daemon; the kernel holds its bans meanwhile.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, timeout};

use crate::ban::keeper::{KeeperError, KeeperHandle};
use crate::clock::Monotonic;
use crate::control::notify::{Notifier, State};

/// Of a worker that has ended: it is not stuck, and who waits for it knows.
const ENDED: u64 = u64::MAX;

/// One loop's sign of life; dropped when the loop ends.
#[derive(Debug)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Says that the loop goes round; to be called several times a second.
    pub fn beat(&self) {
        self.0.store(Monotonic::coarse().ns(), Ordering::Relaxed);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.store(ENDED, Ordering::Relaxed);
    }
}

/// The pulses of all loops.
#[derive(Debug, Default)]
pub struct Pulses {
    loops: Vec<(String, Arc<AtomicU64>)>,
}

impl Pulses {
    /// The pulse of a new loop, which has just beaten.
    pub fn pulse(&mut self, name: String) -> Pulse {
        let pulse = Pulse(Arc::default());
        pulse.beat();
        self.loops.push((name, Arc::clone(&pulse.0)));
        pulse
    }

    /// A loop that has not beaten for longer than `patience`, and for how long.
    fn stuck(&self, now: Monotonic, patience: Duration) -> Option<(&str, Duration)> {
        self.loops.iter().find_map(|(name, last)| {
            let last = Monotonic::from_ns(last.load(Ordering::Relaxed));
            let silent = now.since(last);
            (silent > patience).then_some((name.as_str(), silent))
        })
    }
}

/// Tells the manager that all is well for as long as it is, four times in each `interval`. A loop may
/// be silent for half of it.
pub async fn run(notifier: Rc<Notifier>, interval: Duration, pulses: Pulses, keeper: KeeperHandle) {
    let patience = interval / 2;
    let mut ticks = tokio::time::interval(interval / 4);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_stuck = false;
    loop {
        ticks.tick().await;
        // Where bans are switched off there is no keeper to ask.
        let answer = timeout(patience, keeper.list(None, 1)).await;
        let keeper_answers = matches!(answer, Ok(Ok(_) | Err(KeeperError::Off)));
        let stuck = match pulses.stuck(Monotonic::coarse(), patience) {
            Some((name, silent)) => Some(format!("{name} is stuck for {} ms", silent.as_millis())),
            None if !keeper_answers => Some("the ban keeper is stuck".to_owned()),
            None => None,
        };
        match &stuck {
            Some(reason) => {
                if !was_stuck {
                    tracing::error!(reason, "the watchdog is told nothing");
                }
                notifier.tell(&State::Status(reason));
            }
            None => notifier.tell(&State::Alive),
        }
        was_stuck = stuck.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_loop_is_found() {
        let second = Duration::from_secs(1);
        let mut pulses = Pulses::default();
        let started = Monotonic::coarse();
        let first = pulses.pulse("first".to_owned());
        let second_pulse = pulses.pulse("second".to_owned());
        let later = |ms| started.after(Duration::from_millis(ms));
        assert_eq!(pulses.stuck(later(900), second), None);
        let (name, silent) = pulses.stuck(later(1500), second).unwrap();
        assert_eq!((name, silent <= Duration::from_millis(1500)), ("first", true));
        drop(first);
        assert_eq!(pulses.stuck(later(1500), second).unwrap().0, "second");
        drop(second_pulse);
        assert_eq!(pulses.stuck(later(1500), second), None);
    }
}
