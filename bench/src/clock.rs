//! The clock that latencies and rounds are measured by.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time on `CLOCK_MONOTONIC`; a read by way of the vDSO, about 30 ns.
pub(crate) fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    // The kernel keeps both fields of this clock non-negative, and the second below 10^9.
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
