//! What every test needs: the real daemon, a real upstream that records, raw clients.

pub(crate) mod client;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod load;
pub(crate) mod multiplexed;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod websocket;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use xtask::skip::REQUIRE_DEVICES;

/// The longest that anything on loopback may take; a deadline for failures, never a measure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of the test's own, removed with all that is in it.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fw-it-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What no other directory of a test is called.
    pub(crate) fn name(&self) -> String {
        self.0.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// Writes a file; gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Asks until there is an answer, or fails with what was waited for.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let patience = if is_emulated() { 4 * PATIENCE } else { PATIENCE };
    #[expect(clippy::disallowed_methods, reason = "a test's deadline")]
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        #[expect(clippy::disallowed_methods, reason = "a test's deadline")]
        let now = Instant::now();
        assert!(now < deadline, "{what}: not within {patience:?}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Whether this is one of the machines of `cargo xtask test --kernels`, which take ten times as long.
fn is_emulated() -> bool {
    std::env::var_os(REQUIRE_DEVICES).is_some_and(|value| value == "1")
}

/// When a listed ban ends, in milliseconds since 1970; none for one without end.
pub(crate) fn until_ms(ban: &serde_json::Value) -> Option<u64> {
    let until = humantime::parse_rfc3339(ban["until"].as_str()?).unwrap();
    let since_1970 = until.duration_since(std::time::UNIX_EPOCH).unwrap();
    Some(u64::try_from(since_1970.as_millis()).unwrap())
}
