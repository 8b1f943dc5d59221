//! What a test says when it cannot run here: by name, with its reason, where the runner finds it.

use std::fs::OpenOptions;
use std::io::Write;

/// The environment variable that names the file which skips are appended to, one on a line:
/// `TEST: REASON`.
pub const SKIPS: &str = "FIREWALL_SKIPS";

/// Reports that `test` cannot run here for `reason`.
///
/// # Panics
///
/// With `FIREWALL_REQUIRE_KERNEL=1` or `CI=true`, under which everything must run; and if the report
/// cannot be written, for an unreported skip would pass for a success.
pub fn skipped(test: &str, reason: &str) {
    assert!(!required(), "{test} must run here (FIREWALL_REQUIRE_KERNEL or CI is set): {reason}");
    lacking(test, reason);
}

/// The same for what the kernel was built without: nobody can require that.
///
/// # Panics
///
/// If the report cannot be written.
pub fn lacking(test: &str, reason: &str) {
    eprintln!("SKIPPED: {test}: {reason}");
    if let Some(path) = std::env::var_os(SKIPS) {
        // One short write in append mode: lines of concurrent tests do not mix.
        let line = format!("{test}: {}\n", reason.replace('\n', " "));
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the file named by FIREWALL_SKIPS can be appended to");
    }
}

/// Whether what cannot run is a failure.
pub fn required() -> bool {
    let is = |name, value| std::env::var_os(name).is_some_and(|found| found == value);
    is("FIREWALL_REQUIRE_KERNEL", "1") || is("CI", "true")
}
