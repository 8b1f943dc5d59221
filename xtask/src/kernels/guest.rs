//! The first process of a virtual machine: mounts what tests need, loads modules, runs the tests,
//! and ends the machine.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

use crate::skip::REQUIRE_DEVICES;

/// Where the machine has this program, the tests and the modules.
pub(super) const INIT: &str = "/xtask";
pub(super) const TESTS: &str = "/it";
pub(super) const MODULES: &str = "/modules";
/// By which tests run a program as another user; in the directory that is searched for programs.
pub(super) const SETPRIV: &str = "/setpriv";
/// The serial line that results go to; the kernel talks on the first one.
const RESULTS: &str = "/dev/ttyS1";
/// The last line, with the exit code of the tests behind it.
pub(super) const ENDED: &str = "TESTS ENDED: ";

/// Runs `tests` and restarts the machine, which for a virtual one is its end.
///
/// # Errors
///
/// When it is not the first process: it would restart a machine that is somebody's.
pub fn run(tests: &[String]) -> Result<Infallible> {
    ensure!(std::process::id() == 1, "this is for the first process of a virtual machine");
    if let Err(error) = report(tests) {
        eprintln!("{error:#}");
    }
    Ok(reboot(RebootMode::RB_AUTOBOOT)?)
}

fn report(tests: &[String]) -> Result<()> {
    let kinds = [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("bpf", "/sys/fs/bpf"),
        ("tmpfs", "/tmp"),
    ];
    for (kind, path) in kinds {
        mount(Some(kind), path, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting {path}"))?;
    }
    let mut results = OpenOptions::new().write(true).open(RESULTS)?;
    let outcome = run_tests(tests, &results);
    match outcome {
        Ok(code) => writeln!(results, "\n{ENDED}{code}")?,
        Err(error) => writeln!(results, "\n{error:#}")?,
    }
    // What is written reaches the line before the machine ends.
    nix::unistd::fsync(&results).ok();
    Ok(())
}

fn run_tests(tests: &[String], results: &File) -> Result<i32> {
    let modules = fs::read_dir(MODULES)?.map(|module| Ok(module?.path()));
    let mut modules = modules.collect::<Result<Vec<_>>>()?;
    // Their names begin with their place.
    modules.sort();
    for module in modules {
        load(&module)?;
    }
    let status = Command::new(TESTS)
        .args(tests)
        // One processor; and output of tests that pass, which is what is measured.
        .args(["--exact", "--test-threads=1", "--show-output"])
        .env("FIREWALL_REQUIRE_KERNEL", "1")
        .env(REQUIRE_DEVICES, "1")
        .env("PATH", "/")
        .stdout(results.try_clone()?)
        .stderr(results.try_clone()?)
        .status()
        .context("starting the tests")?;
    status.code().context("the tests were killed")
}

fn load(module: &Path) -> Result<()> {
    let file = File::open(module)?;
    finit_module(file, &CString::default(), ModuleInitFlags::empty())
        .with_context(|| format!("loading {}", module.display()))
}
