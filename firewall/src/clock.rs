//! The clocks: the one that the kernel's deadlines are kept in, and the one that people read.

use std::time::Duration;

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
