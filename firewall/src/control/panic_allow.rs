//! Everything passes, for a bounded time: what an operator orders who has locked himself out.
//!
//! The order ends by itself. The kernel holds its deadline, so that it ends there without a daemon;
//! the state directory holds it too, so that a daemon that starts meanwhile goes on with it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::{Moment, Monotonic, Wall};
use crate::control::daemon::Control;
use crate::state_file;

/// Longer is no panic: set the modes to observe.
pub const LONGEST: Duration = Duration::from_hours(24);
const FILE: &str = "panic-allow.json";
const FILE_OCTETS_MAX: usize = 4096;

/// Whether everything passes, and until when.
#[derive(Debug, Default)]
pub struct PanicAllow {
    /// None without a state directory.
    path: Option<PathBuf>,
    order: Option<Order>,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    deadline: Monotonic,
    written: Written,
}

/// The file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    until_ms: Wall,
    granted_ms: u64,
}

impl Written {
    /// What is left of it: never more than was granted, whatever the clock was set to meanwhile.
    fn left(self, now: Wall) -> Duration {
        self.until_ms.since(now).min(Duration::from_millis(self.granted_ms)).min(LONGEST)
    }
}

impl PanicAllow {
    /// Goes on with an order that an earlier daemon was given.
    pub fn resume(state_dir: Option<&std::path::Path>, at: &Moment) -> Self {
        let Some(path) = state_dir.map(|directory| directory.join(FILE)) else {
            return Self::default();
        };
        let written = match state_file::read(&path, FILE_OCTETS_MAX) {
            Ok(None) => None,
            Ok(Some(octets)) => match serde_json::from_slice::<Written>(&octets) {
                Ok(written) => Some(written),
                Err(error) => {
                    tracing::error!(%error, path = %path.display(), "panic-allow is not resumed");
                    None
                }
            },
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "panic-allow is not resumed");
                None
            }
        };
        let order = written
            .filter(|written| !written.left(at.wall).is_zero())
            .map(|written| Order { deadline: at.monotonic.after(written.left(at.wall)), written });
        Self { path: Some(path), order }
    }

    /// The moment at which everything stops passing; none if it does not pass.
    pub fn deadline(&self) -> Option<Monotonic> {
        self.order.map(|order| order.deadline)
    }

    /// For `status`.
    pub fn report(&self, now: Monotonic) -> Value {
        self.order.map_or(Value::Null, |order| {
            json!({
                "until": order.written.until_ms.to_string(),
                "remaining_seconds": order.deadline.since(now).as_secs(),
            })
        })
    }

    /// Takes the order down; gives whether it would outlive the daemon.
    fn begin(&mut self, granted: Duration, at: &Moment) -> anyhow::Result<bool> {
        let granted_ms = u64::try_from(granted.as_millis()).unwrap_or(u64::MAX);
        let written = Written { until_ms: at.wall.after(granted), granted_ms };
        self.order = Some(Order { deadline: at.monotonic.after(granted), written });
        let Some(path) = &self.path else { return Ok(false) };
        state_file::replace(path, &serde_json::to_vec(&written)?)
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(true)
    }

    /// Whether the order has ended by now: on either clock, for one may stand still.
    fn is_over(&self, at: &Moment) -> bool {
        self.order.is_some_and(|order| {
            order.deadline <= at.monotonic || order.written.until_ms <= at.wall
        })
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.order = None;
        let Some(path) = &self.path else { return Ok(()) };
        state_file::remove(path).with_context(|| format!("removing {}", path.display()))
    }
}

/// `firewall panic-allow --for`. What fails is told, and yet as much passes as can.
pub fn begin(control: &Control, granted: Duration) -> anyhow::Result<Value> {
    let at = Moment::now();
    let begun = control.panic_allow.borrow_mut().begin(granted, &at);
    tracing::warn!(seconds = granted.as_secs(), "panic-allow: everything passes");
    enforce(control).context("the proxy lets everything pass, but the kernel does not")?;
    let survives = begun.context("everything passes, but a restart would end it")?;
    let mut report = control.panic_allow.borrow().report(at.monotonic);
    if let Some(report) = report.as_object_mut() {
        report.insert("survives_restart".into(), survives.into());
    }
    Ok(report)
}

/// Does what an earlier daemon was ordered, if that is not over.
pub fn resume(control: &Control) {
    if let Some(deadline) = control.panic_allow.borrow().deadline() {
        let seconds = deadline.since(Monotonic::now()).as_secs();
        tracing::warn!(seconds, "panic-allow goes on: everything passes");
    }
    if let Err(error) = enforce(control) {
        tracing::error!("panic-allow: {error:#}");
    }
}

/// `firewall panic-allow --end`, and the end by itself. Gives whether there was something to end.
pub fn end(control: &Control) -> anyhow::Result<bool> {
    if control.panic_allow.borrow().deadline().is_none() {
        return Ok(false);
    }
    let ended = control.panic_allow.borrow_mut().end();
    tracing::warn!("panic-allow has ended: bans, checks and contracts are enforced again");
    enforce(control).context("the kernel lets everything pass until its deadline")?;
    ended.context("it has ended, but a restart within its time would resume it")?;
    Ok(true)
}

/// Ends an order whose time is over; called a few times a second.
pub fn tend(control: &Control) {
    let is_over = control.panic_allow.borrow().is_over(&Moment::now());
    if is_over && let Err(error) = end(control) {
        tracing::error!("panic-allow: {error:#}");
    }
}

/// Makes both planes do what the order says.
fn enforce(control: &Control) -> anyhow::Result<()> {
    let deadline = control.panic_allow.borrow().deadline();
    let passes = deadline.is_some();
    control.shared.pass_all(passes);
    control.generations.borrow_mut().pass_all(passes);
    control.metrics.panic_allow.set(i64::from(passes));
    let until = deadline.unwrap_or(Monotonic::from_ns(0));
    control.enforcement.borrow_mut().pass_until(until)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(monotonic_s: u64, wall_s: u64) -> Moment {
        Moment {
            monotonic: Monotonic::from_ns(monotonic_s * 1_000_000_000),
            wall: Wall::from_ms(wall_s * 1000),
            suspended: Duration::ZERO,
        }
    }

    /// A state directory of the test's own.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("fw-panic-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn an_order_outlives_the_daemon_and_its_clock() {
        let directory = Directory::new("resume");
        let mut order = PanicAllow::resume(Some(&directory.0), &at(100, 1_000));
        assert_eq!(order.deadline(), None);
        assert!(order.begin(Duration::from_mins(1), &at(100, 1_000)).unwrap());
        assert_eq!(order.deadline(), Some(at(160, 0).monotonic));
        for (restarted, deadline) in [
            // After a reboot, whose monotonic clock begins anew.
            (at(5, 1_020), Some(at(45, 0).monotonic)),
            (at(200, 1_059), Some(at(201, 0).monotonic)),
            (at(200, 1_060), None),
            (at(200, 9_999), None),
            // The wall clock was set back by an hour: no more than was granted.
            (at(200, 400), Some(at(260, 0).monotonic)),
        ] {
            let resumed = PanicAllow::resume(Some(&directory.0), &restarted);
            assert_eq!(resumed.deadline(), deadline, "{restarted:?}");
        }
        order.end().unwrap();
        assert_eq!(PanicAllow::resume(Some(&directory.0), &at(101, 1_001)).deadline(), None);
    }

    #[test]
    fn it_ends_on_whichever_clock_is_first() {
        let directory = Directory::new("end");
        let mut order = PanicAllow::resume(Some(&directory.0), &at(100, 1_000));
        order.begin(Duration::from_mins(1), &at(100, 1_000)).unwrap();
        for (now, expected) in [
            (at(100, 1_000), false),
            (at(159, 1_059), false),
            (at(160, 1_059), true),
            // It slept: its monotonic clock stood still.
            (at(110, 1_060), true),
            // The wall clock was set back.
            (at(160, 0), true),
        ] {
            assert_eq!(order.is_over(&now), expected, "{now:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_order() {
        let directory = Directory::new("garbage");
        for text in ["", "{", "{\"until_ms\":1}", "[]"] {
            std::fs::write(directory.0.join(FILE), text).unwrap();
            let resumed = PanicAllow::resume(Some(&directory.0), &at(0, 0));
            assert_eq!(resumed.deadline(), None, "{text:?}");
        }
        let mut order = PanicAllow::resume(None, &at(0, 0));
        assert!(!order.begin(LONGEST, &at(0, 0)).unwrap(), "without a directory it is not kept");
        order.end().unwrap();
    }
}
