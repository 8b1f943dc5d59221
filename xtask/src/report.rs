//! What a task tells the person who ran it, and how long things took.

use std::fmt;
use std::time::{Duration, Instant};

/// Prints a line at once.
#[expect(clippy::print_stdout, reason = "what a task says is its product")]
pub(crate) fn say(line: impl fmt::Display) {
    println!("{line}");
}

/// The time since a task or a part of it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "durations shown to people and deadlines of tasks; no rule of the firewall"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

impl fmt::Display for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed().as_secs_f64();
        if seconds < 60.0 {
            write!(f, "{seconds:.1} s")
        } else {
            write!(f, "{} m {:.0} s", (seconds / 60.0).trunc(), seconds % 60.0)
        }
    }
}
