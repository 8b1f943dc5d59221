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

/// What looks after all loops.
#[derive(Debug)]
pub struct Watchdog {
    pulses: Pulses,
    keeper: KeeperHandle,
}

impl Watchdog {
    pub fn new(pulses: Pulses, keeper: KeeperHandle) -> Self {
        Self { pulses, keeper }
    }

    /// Which loop is stuck, if one has been silent for longer than `patience`.
    pub async fn stuck(&self, patience: Duration) -> Option<String> {
        // Where bans are switched off there is no keeper to ask.
        let answer = timeout(patience, self.keeper.list(None, 1)).await;
        let keeper_answers = matches!(answer, Ok(Ok(_) | Err(KeeperError::Off)));
        match self.pulses.stuck(Monotonic::coarse(), patience) {
            Some((name, silent)) => Some(format!("{name} is stuck for {} ms", silent.as_millis())),
            None if !keeper_answers => Some("the ban keeper is stuck".to_owned()),
            None => None,
        }
    }

    /// Tells the manager that all is well for as long as it is, four times in each `interval`. A loop
    /// may be silent for half of it.
    pub async fn run(self: Rc<Self>, notifier: Rc<Notifier>, interval: Duration) {
        let mut ticks = tokio::time::interval(interval / 4);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_stuck = false;
        loop {
            ticks.tick().await;
            let stuck = self.stuck(interval / 2).await;
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
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;
    use crate::ban::keeper::{BanMode, Held, Keeper, KeeperSettings, Plane};
    use crate::clock::Moment;

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

    /// A plane that is never asked.
    struct NoPlane;

    impl Plane for NoPlane {
        type Error = std::io::Error;

        fn ban(&mut self, _: IpNet, _: Monotonic) -> std::io::Result<()> {
            Ok(())
        }

        fn unban(&mut self, _: IpNet) -> std::io::Result<bool> {
            Ok(false)
        }

        fn drops(&self, _: IpNet) -> std::io::Result<Option<u64>> {
            Ok(None)
        }

        fn held(&self) -> std::io::Result<Vec<Held>> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn a_keeper_that_does_not_answer_is_stuck() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (mode, is_run, expected) in [
            (BanMode::Enforce, false, Some("the ban keeper is stuck")),
            (BanMode::Enforce, true, None),
            (BanMode::Off, false, None),
        ] {
            let settings = KeeperSettings { mode, ..KeeperSettings::default() };
            let (keeper, handle) = Keeper::new(settings, None, None::<NoPlane>, Moment::now());
            let watchdog = Watchdog::new(Pulses::default(), handle);
            let found = runtime.block_on(async {
                let keeping = async {
                    if is_run {
                        keeper.run(std::future::pending()).await;
                    }
                    std::future::pending::<()>().await;
                };
                let patience = Duration::from_millis(if is_run { 20_000 } else { 20 });
                tokio::select! {
                    () = keeping => None,
                    found = watchdog.stuck(patience) => found,
                }
            });
            assert_eq!(found.as_deref(), expected, "{mode:?} {is_run}");
        }
    }
}
