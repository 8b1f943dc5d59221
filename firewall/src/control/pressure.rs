//! How hard the firewall is pressed, from 0 to 3, and what of strangers' new connections the kernel
//! program sheds for it.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::causes::Causes;
use crate::clock::Monotonic;
use crate::control::config;
use crate::control::daemon::Control;
use crate::control::enforcement::Enforcement;
use crate::control::settings::Settings;
use crate::kernel::Tally;

/// How often the load is looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long the kernel sheds without hearing from us: a daemon that hangs must not shut strangers
/// out, nor one that is late for a moment let them in.
const HOLD: Duration = Duration::from_secs(5);
/// Looks in a row at which a higher level must be due: one is a hiccup.
const RISE_AFTER: u8 = 2;

/// A level, from none to only those in good standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Level(u8);

impl Level {
    pub const MAX: Self = Self(3);

    pub const fn number(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Level {
    type Error = ();

    fn try_from(number: u8) -> Result<Self, ()> {
        if number <= Self::MAX.0 { Ok(Self(number)) } else { Err(()) }
    }
}

/// An operator's word: a level, or to find it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order(pub Option<Level>);

impl FromStr for Order {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self(None));
        }
        let level = text.parse().ok().and_then(|number: u8| Level::try_from(number).ok());
        level.map(|level| Self(Some(level))).ok_or("expected auto or a level from 0 to 3")
    }
}

/// What one worker says of itself.
#[derive(Debug, Default)]
pub struct WorkerLoad {
    /// Open connections.
    seats: AtomicU64,
    /// The most that it was late since this was last read, in microseconds.
    lag_us: AtomicU64,
}

impl WorkerLoad {
    pub fn tell(&self, seats: usize, lag: Duration) {
        self.seats.store(seats as u64, Ordering::Relaxed);
        let lag = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.lag_us.fetch_max(lag, Ordering::Relaxed);
    }
}

/// What bears on the firewall.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Load {
    /// The share of its seats that the fullest worker has given away.
    pub seats: f64,
    /// By how much the latest worker was late.
    pub lag: Duration,
    /// Connections in a second that the accept queues had no room for.
    pub overflows: f64,
    /// New connections in a second that came as far as the budgets.
    pub syns: f64,
}

/// From load to level, and not back before it has been calm for a while.
#[derive(Clone, Debug)]
pub struct Gauge {
    settings: config::Pressure,
    level: Level,
    order: Option<Level>,
    load: Load,
    /// The least of the higher levels that were due at the last looks, and how many these were.
    rising: Option<(Level, u8)>,
    /// Since when a lower level would do.
    calm_since: Option<Monotonic>,
}

impl Gauge {
    pub fn new(settings: config::Pressure) -> Self {
        let (level, load) = (Level::default(), Load::default());
        Self { settings, level, order: None, load, rising: None, calm_since: None }
    }

    /// The level in force.
    pub fn level(&self) -> Level {
        self.order.unwrap_or(self.level)
    }

    pub fn order(&mut self, order: Order) {
        self.order = order.0;
    }

    /// Follows the load: up at the second look in a row, down by one step after each calm while.
    pub fn observe(&mut self, load: Load, now: Monotonic) {
        self.load = load;
        let due = due(&self.settings, &load);
        if due > self.level {
            self.calm_since = None;
            let (least, looks) =
                self.rising.map_or((due, 0), |(least, looks)| (least.min(due), looks));
            self.rising = Some((least, looks + 1));
            if looks + 1 >= RISE_AFTER {
                self.level = least;
                self.rising = None;
            }
            return;
        }
        self.rising = None;
        if due == self.level {
            self.calm_since = None;
            return;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now.since(since) >= self.settings.calm.0 {
            self.level = Level(self.level.0.saturating_sub(1));
            self.calm_since = Some(now);
        }
    }

    /// What of strangers' new connections is shed at this level, of 2^32; none if nothing is.
    fn share(&self) -> Option<u32> {
        let place = usize::from(self.level().0).checked_sub(1)?;
        let share = *self.settings.shed.get(place)?;
        if share <= 0.0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "of a share from 0 to 1, and the cast saturates"
        )]
        let share = (share * 4_294_967_296.0 - 1.0) as u32;
        Some(share)
    }

    /// For `firewall status`.
    pub fn report(&self) -> Value {
        let Load { seats, lag, overflows, syns } = self.load;
        json!({
            "level": self.level().0,
            "by_order": self.order.is_some(),
            "load_level": self.level.0,
            "shed_share": self.share().map_or(0.0, |share| (f64::from(share) + 1.0) / 4_294_967_296.0),
            "seats_share": seats,
            "lag_ms": u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
            "accept_overflows_per_second": overflows,
            "syns_per_second": syns,
        })
    }
}

/// The level that a load calls for. To shed new connections helps against those: a worker that is
/// late while few come is late for another reason.
fn due(settings: &config::Pressure, load: &Load) -> Level {
    let count = |reached: [bool; 3]| reached.into_iter().filter(|reached| *reached).count();
    let mut level = count(settings.seats.map(|least| load.seats >= least));
    if load.syns >= f64::from(settings.syns) {
        level = level.max(count(settings.lag.map(|least| load.lag >= least.0)));
        let overflows = settings.overflows.map(|least| load.overflows >= f64::from(least));
        level = level.max(count(overflows));
    }
    Level(u8::try_from(level).unwrap_or(Level::MAX.0))
}

/// Counters that grow, as they were at some moment.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    at: Monotonic,
    syns: u64,
    overflows: u64,
}

/// Looks at the load for as long as the daemon runs, and tells the kernel.
pub async fn follow(control: Rc<Control>, workers: Vec<Arc<WorkerLoad>>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut earlier: Option<Reading> = None;
    loop {
        interval.tick().await;
        let tally = control.enforcement.borrow().tally();
        let reading = Reading {
            at: Monotonic::now(),
            syns: tally.map_or(0, |tally| tally.syns),
            overflows: overflows(&std::fs::read_to_string(NETSTAT).unwrap_or_default()),
        };
        let settings = Arc::clone(&control.generations.borrow().current().settings);
        let seats_of_each = settings.limits.connections_per_worker;
        let load = load(&workers, seats_of_each, earlier.unwrap_or(reading), reading);
        earlier = Some(reading);
        observe(&control, load, reading.at);
    }
}

fn observe(control: &Control, load: Load, now: Monotonic) {
    let before = control.pressure.borrow().level();
    control.pressure.borrow_mut().observe(load, now);
    apply(control, before);
}

/// Obeys an operator.
pub fn order(control: &Control, order: Order) {
    let before = control.pressure.borrow().level();
    control.pressure.borrow_mut().order(order);
    apply(control, before);
}

/// Brings kernel, metric and log in line with the level.
fn apply(control: &Control, before: Level) {
    let gauge = control.pressure.borrow();
    let level = gauge.level();
    control.metrics.pressure_level.set(i64::from(level.0));
    let share = gauge.share();
    if share.is_some() || level != before {
        let until = Monotonic::now().after(if share.is_some() { HOLD } else { Duration::ZERO });
        control.enforcement.borrow_mut().shed(share.unwrap_or(0), until);
    }
    if level != before {
        let Load { seats, lag, overflows, syns } = gauge.load;
        let (from, by_order) = (before.0, gauge.order.is_some());
        tracing::warn!(
            level = level.0,
            from,
            by_order,
            seats,
            ?lag,
            overflows,
            syns,
            "pressure changed"
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares and rates need no more than 53 bits")]
fn load(workers: &[Arc<WorkerLoad>], seats_of_each: usize, earlier: Reading, now: Reading) -> Load {
    let elapsed = now.at.since(earlier.at).as_secs_f64();
    let rate = |from: u64, to: u64| {
        if elapsed > 0.0 { to.saturating_sub(from) as f64 / elapsed } else { 0.0 }
    };
    let mut load = Load {
        syns: rate(earlier.syns, now.syns),
        overflows: rate(earlier.overflows, now.overflows),
        ..Load::default()
    };
    for worker in workers {
        let seats = worker.seats.load(Ordering::Relaxed) as f64;
        load.seats = load.seats.max(seats / seats_of_each.max(1) as f64);
        let lag = Duration::from_micros(worker.lag_us.swap(0, Ordering::Relaxed));
        load.lag = load.lag.max(lag);
    }
    load
}

/// Of this process's network namespace.
const NETSTAT: &str = "/proc/self/net/netstat";

/// The connections that the kernel's accept queues had no room for; none where it does not say.
fn overflows(netstat: &str) -> u64 {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return 0;
    };
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let found = pairs.find(|(name, _)| *name == "ListenOverflows");
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

impl Enforcement {
    /// New connections as the kernel counted them; none without kernel program.
    pub fn tally(&self) -> Option<Tally> {
        self.kernel()?.tally().ok()
    }

    /// Sheds so many of 2^32 new connections of strangers until then.
    pub fn shed(&mut self, share: u32, until: Monotonic) {
        if let Some(kernel) = self.kernel_mut()
            && let Err(error) = kernel.shed(share, until)
        {
            tracing::error!(error = %Causes(&error), "the kernel's budgets cannot be written");
        }
    }

    /// Budgets as these settings have them, from now on.
    pub fn limit(&mut self, settings: &Settings) {
        self.note_limits(&settings.packets);
        if let Some(kernel) = self.kernel_mut()
            && let Err(error) = kernel.limit(&settings.packets)
        {
            tracing::error!(error = %Causes(&error), "the kernel's budgets cannot be written");
        }
    }
}

/// The gauge of these settings.
pub fn gauge(settings: &config::Pressure) -> RefCell<Gauge> {
    RefCell::new(Gauge::new(settings.clone()))
}

/// New connections as the kernel counted them, for the metrics.
pub fn counted(control: &Control) -> Tally {
    control.enforcement.borrow().tally().unwrap_or_default()
}
