//! What a test says when it cannot run here: by name, with its reason, where the runner finds it.

use std::fs::OpenOptions;
use std::io::Write;

/// The environment variable that names the file which skips are appended to, one on a line:
/// `TEST: REASON`.
pub const SKIPS: &str = "FIREWALL_SKIPS";

/// What the line of a test begins with of which only a part could not run.
pub const PARTLY: &str = "a part of ";

/// With `1`, the kernel must have every kind of device.
pub const REQUIRE_DEVICES: &str = "FIREWALL_REQUIRE_DEVICES";

/// Reports that `test` cannot run here for `reason`.
///
/// # Panics
///
/// With `FIREWALL_REQUIRE_KERNEL=1` or `CI=true`, under which everything must run; and if the report
/// cannot be written, for an unreported skip would pass for a success.
pub fn skipped(test: &str, reason: &str) {
    assert!(!required(), "{test} must run here (FIREWALL_REQUIRE_KERNEL or CI is set): {reason}");
    report(test, reason);
}

/// Reports that a part of `test` cannot run here, for the kernel was built without what it takes. The
/// machines of `cargo xtask test --kernels` have it, and run the whole test.
///
/// # Panics
///
/// With `FIREWALL_REQUIRE_DEVICES=1`, which those machines set; and if the report cannot be written.
pub fn lacking(test: &str, reason: &str) {
    assert!(!is(REQUIRE_DEVICES, "1"), "{test} must run whole here: {reason}");
    report(&format!("{PARTLY}{test}"), &format!("{reason} (`cargo xtask test --kernels` has it)"));
}

fn report(test: &str, reason: &str) {
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
    is("FIREWALL_REQUIRE_KERNEL", "1") || is("CI", "true")
}

fn is(name: &str, value: &str) -> bool {
    std::env::var_os(name).is_some_and(|found| found == value)
}
