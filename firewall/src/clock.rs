//! The clocks: the one that the kernel's deadlines are kept in, and the one that people read.

use std::fmt;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// A moment on `CLOCK_MONOTONIC`, in nanoseconds: the clock of every deadline in the kernel's maps
/// (`bpf_ktime_get_coarse_ns`). It stands still while the machine is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(u64);

impl Monotonic {
    /// A deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time now; a system call by way of the vDSO, about 30 ns.
    pub fn now() -> Self {
        Self::read(ClockId::Monotonic)
    }

    /// The time at the kernel's last tick, at most 10 ms ago; about 5 ns.
    pub fn coarse() -> Self {
        Self::read(ClockId::MonotonicCoarse)
    }

    fn read(clock: ClockId) -> Self {
        let time = clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
    }

    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    pub const fn ns(self) -> u64 {
        self.0
    }

    /// The moment `duration` later; [`Monotonic::NEVER`] where that would overflow.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The moment `duration` earlier, at the earliest the clock's zero; [`Monotonic::NEVER`] stays.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        if self == Self::NEVER {
            return self;
        }
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A moment in milliseconds since 1970, UTC: for files and people, never for a deadline.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Wall(u64);

impl Wall {
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Realtime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let milliseconds = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000;
        Self(seconds.saturating_mul(1000).saturating_add(milliseconds))
    }

    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    pub const fn ms(self) -> u64 {
        self.0
    }

    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339, UTC, with milliseconds: `2026-11-21T22:41:37.250Z`.
/// RFC 3339 in UTC, to the millisecond; `never` from the year 10000 on, for which it has no digits.
impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const YEAR_10000_MS: u64 = 253_402_300_800_000;
        match SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.0)) {
            Some(time) if self.0 < YEAR_10000_MS => humantime::format_rfc3339_millis(time).fmt(f),
            _ => f.write_str("never"),
        }
    }
}

/// One moment on every clock: what turns a deadline into a date, and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub monotonic: Monotonic,
    pub wall: Wall,
    /// How long the machine has been suspended since boot (`CLOCK_BOOTTIME` less
    /// `CLOCK_MONOTONIC`): time that no monotonic deadline has seen.
    pub suspended: Duration,
}

impl Moment {
    pub fn now() -> Self {
        let monotonic = Monotonic::now();
        let boot = Monotonic::read(ClockId::Boottime);
        Self { monotonic, wall: Wall::now(), suspended: boot.since(monotonic) }
    }

    /// The date of a deadline; none for one that never comes.
    pub fn wall_of(&self, deadline: Monotonic) -> Option<Wall> {
        if deadline == Monotonic::NEVER {
            return None;
        }
        if deadline >= self.monotonic {
            return Some(self.wall.after(deadline.since(self.monotonic)));
        }
        let past = u64::try_from(self.monotonic.since(deadline).as_millis()).unwrap_or(u64::MAX);
        Some(Wall(self.wall.0.saturating_sub(past)))
    }

    /// The place of a date on the monotonic clock; what lies before its zero is its zero.
    pub fn monotonic_of(&self, date: Wall) -> Monotonic {
        if date >= self.wall {
            return self.monotonic.after(date.since(self.wall));
        }
        self.monotonic.before(self.wall.since(date))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_rfc_3339() {
        for (ms, date) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_795_300_897_250, "2026-11-21T22:41:37.250Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (4_107_456_000_000, "2100-02-28T00:00:00.000Z"),
        ] {
            assert_eq!(Wall::from_ms(ms).to_string(), date);
        }
    }

    #[test]
    fn deadlines_become_dates_and_come_back() {
        let moment = Moment {
            monotonic: Monotonic::from_ns(5_000_000_000),
            wall: Wall::from_ms(1_000_000),
            suspended: Duration::ZERO,
        };
        for (deadline_ns, date_ms) in [
            (5_000_000_000, 1_000_000),
            (6_500_000_000, 1_001_500),
            (4_000_000_000, 999_000),
            (0, 995_000),
        ] {
            let deadline = Monotonic::from_ns(deadline_ns);
            assert_eq!(moment.wall_of(deadline), Some(Wall::from_ms(date_ms)));
            assert_eq!(moment.monotonic_of(Wall::from_ms(date_ms)), deadline);
        }
        assert_eq!(moment.wall_of(Monotonic::NEVER), None);
        assert_eq!(moment.monotonic_of(Wall::from_ms(0)), Monotonic::from_ns(0));
    }

    #[test]
    fn never_is_not_moved() {
        let hour = Duration::from_hours(1);
        assert_eq!(Monotonic::NEVER.before(hour), Monotonic::NEVER);
        assert_eq!(Monotonic::NEVER.after(hour), Monotonic::NEVER);
        assert_eq!(Monotonic::from_ns(5).before(hour), Monotonic::from_ns(0));
    }
}
