//! `cargo xtask test --kernels`: the tests of the packet path on kernels of other ages, each in a
//! virtual machine, and what each kernel's verifier made of the program.
//!
//! The machine boots a Debian kernel with an archive of this program, the integration tests and the
//! firewall in memory, without disk or network. It is emulated, and so needs no privilege.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};

use crate::end::End;
use crate::report::{Stopwatch, say};
use crate::{project, tally::Tally};

mod archive;
pub mod guest;
mod machine;
mod package;
mod record;

use archive::Archive;
use package::{Kernel, Series};
use record::{Measured, Record};

/// What is tested, oldest first.
const SERIES: [Series; 2] = [
    Series { name: "6.1", package: "linux-image-6.1.0-", is_required: true },
    // From Debian's backports, which a machine may not know of.
    Series { name: "6.12", package: "linux-image-6.12.", is_required: false },
];

/// Tests that are run, by their whole names.
const TESTS: [&str; 17] = [
    "kernel_loop::a_violation_becomes_a_kernel_drop",
    "privileges::an_unprivileged_user_needs_three_capabilities",
    "split::a_proxy_without_capability_has_the_kernel_drop",
    "split::tables_grow_by_way_of_the_loader",
    "xdp::attach::a_ban_outlives_the_daemon_and_is_adopted",
    "xdp::bonds::a_bond_and_its_member_may_both_be_wanted",
    "xdp::bonds::a_bond_of_a_mode_without_programs_is_filtered_on_its_members",
    "xdp::bonds::a_bond_of_filtered_members_is_filtered_by_them",
    "xdp::bonds::a_member_of_a_filtered_bond_is_filtered_by_it",
    "xdp::bonds::a_member_without_native_mode_makes_its_bond_generic",
    "xdp::bonds::members_are_judged_as_their_bond",
    "xdp::ladder::each_kind_of_device_has_its_rung",
    "xdp::ladder::what_is_beneath_is_filtered_only_where_that_is_allowed",
    "xdp::portable::every_case_is_judged_as_on_the_host",
    "xdp::verdict::drops_come_up_as_few_events",
    "xdp::verdict::headers_outside_of_the_linear_buffer_are_read",
    VERIFIER_TEST,
];

/// The test that prints what the verifier walked, and what it prints before the number.
const VERIFIER_TEST: &str = "xdp::verdict::the_verifier_has_room_to_spare";
const VERIFIED: [&str; 2] = [
    "verified instructions at log level None: ",
    "verified instructions at log level Some(Trace): ",
];

/// Runs the tests on each kernel. With `write` the record becomes what was found; else it is an
/// error that they differ.
pub fn run(write: bool) -> Result<()> {
    let time = Stopwatch::start();
    let end = End::listen()?;
    machine::install()?;
    let programs = Programs::build()?;
    let folder = project::root().join("target/kernels");
    fs::create_dir_all(&folder)?;
    let mut kernels = Vec::new();
    for series in &SERIES {
        end.not_yet()?;
        match Kernel::get(series, &folder)? {
            Some(kernel) => kernels.push(kernel),
            None => {
                say(format_args!("COULD NOT RUN: {}: apt has no such kernel", series.name));
            }
        }
    }
    // Each machine has one processor of its own.
    let mut found = thread::scope(|scope| {
        let test = |kernel| {
            let (programs, folder, end) = (&programs, &folder, &end);
            scope.spawn(move || {
                let time = Stopwatch::start();
                let measured = on(kernel, programs, folder, end)?;
                say(format_args!("{measured}, in {time}"));
                Ok(measured)
            })
        };
        let machines: Vec<_> = kernels.iter().map(test).collect();
        let outcomes = machines
            .into_iter()
            .map(|machine| machine.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        outcomes.collect::<Result<Vec<Measured>>>()
    })?;
    end.not_yet()?;
    found.push(here(&programs)?);
    let path = project::root().join("firewall/docs/kernels.md");
    let text = fs::read_to_string(&path).context("reading the record of kernels")?;
    let record = Record::parse(&text)?;
    if write {
        fs::write(&path, record.with(&found).written_into(&text)?)?;
        say(format_args!("wrote {}", path.display()));
    } else {
        let differences = record.differences(&found);
        for difference in &differences {
            say(difference);
        }
        let advice = "if it is meant, run `cargo xtask test --kernels --write`";
        ensure!(differences.is_empty(), "not as firewall/docs/kernels.md has it: {advice}");
    }
    say(format_args!("{} kernels, in {time}", found.len()));
    Ok(())
}

/// What a machine runs.
struct Programs {
    /// This program, which is the machine's first process.
    xtask: PathBuf,
    tests: PathBuf,
    firewall: PathBuf,
}

impl Programs {
    fn build() -> Result<Self> {
        let mut programs = project::build_tests("it")?;
        let mut take = |name| programs.remove(name).with_context(|| format!("no program {name}"));
        Ok(Self {
            xtask: std::env::current_exe()?,
            tests: take("it")?,
            firewall: take("firewall")?,
        })
    }

    /// Everything that the machine has in memory.
    fn archive(&self, kernel: &Kernel, folder: &Path) -> Result<PathBuf> {
        let mut archive = Archive::new(&folder.join("initrd"))?;
        for directory in ["dev", "proc", "sys", "tmp", "run", "modules"] {
            archive.directory(Path::new(directory))?;
        }
        archive.program(&self.xtask, Path::new(guest::INIT), folder)?;
        archive.program(&self.tests, Path::new(guest::TESTS), folder)?;
        // The tests start it by the path that it was built at.
        archive.program(&self.firewall, &self.firewall, folder)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut candidates = std::env::split_paths(&path).map(|folder| folder.join("setpriv"));
        let setpriv = candidates.find(|candidate| candidate.is_file());
        let setpriv = setpriv.context("there is no setpriv, of util-linux")?;
        archive.program(&setpriv, Path::new(guest::SETPRIV), folder)?;
        for (place, module) in kernel.modules.iter().enumerate() {
            let name = module.file_name().context("a module without a name")?;
            let name = format!("{place:02}-{}", name.display());
            archive.file(module, &Path::new(guest::MODULES).join(name))?;
        }
        archive.finish()
    }
}

fn on(kernel: &Kernel, programs: &Programs, folder: &Path, end: &End) -> Result<Measured> {
    let folder = folder.join(&kernel.series);
    fs::create_dir_all(&folder)?;
    let archive = programs.archive(kernel, &folder)?;
    let log = machine::boot(&kernel.image, &archive, &folder, &TESTS, end)
        .with_context(|| format!("on Linux {}", kernel.version))?;
    measured(&kernel.series, &kernel.version, &log, TESTS.len())
}

/// The running kernel, with its verifier alone: the rest is what every test run does.
fn here(programs: &Programs) -> Result<Measured> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let version = release.split(|c: char| !c.is_ascii_digit() && c != '.').next();
    let version = version.context("a kernel without a version")?.trim_end_matches('.');
    let mut numbers = version.splitn(3, '.');
    let series =
        format!("{}.{}", numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let output = Command::new(&programs.tests)
        .args([VERIFIER_TEST, "--exact", "--show-output"])
        .env("FIREWALL_REQUIRE_KERNEL", "1")
        .output()
        .context("starting the integration tests")?;
    let log = String::from_utf8_lossy(&output.stdout);
    let measured = measured(&series, version, &log, 1)?;
    say(format_args!("{measured}, here"));
    Ok(measured)
}

/// Reads the log of `tests` tests; none of them may have failed, or be missing.
fn measured(series: &str, version: &str, log: &str, tests: usize) -> Result<Measured> {
    let tally = Tally::read(log);
    if !tally.failed.is_empty() || tally.passed != tests {
        say(log);
        let (passed, failed) = (tally.passed, tally.failed.join(", "));
        bail!("on Linux {version}: {passed} of {tests} tests passed; failed: {failed}");
    }
    let verified = VERIFIED.map(|words| {
        let line = log.lines().find_map(|line| line.strip_prefix(words));
        line.and_then(|number| number.trim().parse().ok())
    });
    let [Some(instructions), Some(with_log)] = verified else {
        say(log);
        bail!("on Linux {version}: {VERIFIER_TEST} does not say how many instructions");
    };
    let unable: Vec<String> =
        log.lines().filter_map(|line| line.strip_prefix("SKIPPED: ")).map(str::to_owned).collect();
    let passed = tally.passed.saturating_sub(unable.len());
    Ok(Measured {
        series: series.to_owned(),
        version: version.to_owned(),
        instructions,
        with_log,
        passed,
        unable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "running 3 tests\ntest xdp::a ... ok\n---- xdp::a stdout ----\n\
        verified instructions at log level None: 2852\n\
        verified instructions at log level Some(Trace): 4321\n\
        SKIPPED: headers: since Linux 6.18\n\n\
        test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";

    #[test]
    fn a_log_is_read() {
        let found = measured("6.1", "6.1.192-2", LOG, 3).unwrap();
        assert_eq!((found.instructions, found.with_log, found.passed), (2852, 4321, 2));
        assert_eq!(found.unable, ["headers: since Linux 6.18"]);
    }

    #[test]
    fn a_log_without_success_is_none() {
        let broken = [
            String::new(),
            LOG.replace("test xdp::a ... ok", "test xdp::a ... FAILED"),
            LOG.replace("3 passed", "2 passed"),
            LOG.replace("None: 2852", "None: many"),
        ];
        for log in broken {
            assert!(measured("6.1", "6.1", &log, 3).is_err(), "{log}");
        }
    }
}
