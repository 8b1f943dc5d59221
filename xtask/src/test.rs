//! `cargo xtask test`: every test there is, and in the last lines what could not be run.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::end::End;
use crate::report::{Stopwatch, say};
use crate::tally::Tally;
use crate::{kernels, project, skip, tidy};

/// A group that takes longer hangs.
const GROUP_PATIENCE: Duration = Duration::from_mins(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Of the log of a group that failed.
const LOG_LINES_SHOWN: usize = 300;

/// Every unit test, integration test and binary of the workspace: named at once, so that each
/// dependency is compiled once, with the features that all of them ask for.
const WORKSPACE: [&str; 2] = ["test", "--workspace"];

/// Which tests.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The packet path on kernels of other ages, in virtual machines, instead
    #[arg(long)]
    kernels: bool,
    /// Write what the kernels made of the program into firewall/docs/kernels.md
    #[arg(long, requires = "kernels")]
    write: bool,
}

/// Runs all groups, whatever becomes of one, and fails if any failed.
pub fn run(options: &Options) -> Result<()> {
    if options.kernels {
        return kernels::run(options.write);
    }
    let time = Stopwatch::start();
    let mut run = Run::new()?;
    run.group("tidy", |_| tidy::check().map(|files| Done::of(format!("{files} files"))))?;
    run.group("build", |run| {
        // Cargo shows its own progress.
        let status = run.wait(project::cargo().args(WORKSPACE).args(["--tests", "--no-run"]))?;
        ensure!(status.success(), "cargo ended with {status}");
        Ok(Done::of("all targets"))
    })?;
    run.group("host tests", |run| run.tests(&["--lib", "--bins"], &[]))?;
    run.group("integration", |run| run.tests(&["--test", "*"], &[]))?;
    run.group("examples", |run| run.tests(&["--doc"], &[]))?;
    run.group("docs", |run| {
        let mut command = project::cargo();
        command.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        run.quietly(&mut command).map(|_log| Done::of("no warnings"))
    })?;
    run.conclude(time)
}

/// What a group that passed has to say for itself.
#[derive(Debug)]
struct Done {
    what: String,
}

impl Done {
    fn of(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

#[derive(Debug)]
struct Group {
    name: &'static str,
    outcome: Result<Done>,
    time: String,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, what) = match &self.outcome {
            Ok(done) => ("passed", done.what.clone()),
            Err(error) => ("FAILED", format!("{error:#}")),
        };
        write!(f, "{verdict}  {:<12} {:>9}  {what}", self.name, self.time)
    }
}

/// The groups so far, and the folder of their logs.
#[derive(Debug)]
struct Run {
    end: End,
    folder: PathBuf,
    groups: Vec<Group>,
}

impl Run {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("firewall-test-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { end: End::listen()?, folder, groups: Vec::new() })
    }

    /// Runs a group and says how it went. Only an interruption is an error.
    fn group(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&Self) -> Result<Done>,
    ) -> Result<()> {
        self.end.not_yet()?;
        let time = Stopwatch::start();
        let outcome = work(self);
        self.end.not_yet()?;
        let group = Group { name, outcome, time: time.to_string() };
        say(&group);
        self.groups.push(group);
        Ok(())
    }

    /// Runs tests of the workspace; those that cannot run here write why into the file of skips.
    fn tests(&self, targets: &[&str], arguments: &[&str]) -> Result<Done> {
        let mut command = project::cargo();
        command.args(WORKSPACE).args(targets).arg("--no-fail-fast").arg("--").args(arguments);
        command.env(skip::SKIPS, self.skips_file());
        let before = self.skipped_whole()?;
        let tally = Tally::read(&self.quietly(&mut command)?);
        ensure!(tally.failed.is_empty(), "{}", tally.failed.join(", "));
        let skipped = self.skipped_whole()?.saturating_sub(before);
        // A test that reports a skip returns, and so is counted as passed.
        let passed = tally.passed.saturating_sub(skipped);
        if skipped == 0 {
            return Ok(Done::of(format!("{passed} tests")));
        }
        ensure!(
            !skip::required(),
            "{skipped} tests were skipped, but all must run: FIREWALL_REQUIRE_KERNEL or CI is set"
        );
        Ok(Done::of(format!("{passed} tests, {skipped} could not run")))
    }

    /// Runs a command with its output in a log, which is shown if it fails.
    fn quietly(&self, command: &mut Command) -> Result<String> {
        let path = self.folder.join(format!("{}.log", self.groups.len()));
        let log = File::create(&path)?;
        let status = self.wait(command.stdout(log.try_clone()?).stderr(log))?;
        let log = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        if !status.success() {
            let lines: Vec<&str> = log.lines().collect();
            let hidden = lines.len().saturating_sub(LOG_LINES_SHOWN);
            say(lines.get(hidden..).unwrap_or_default().join("\n"));
            let failed = Tally::read(&log).failed;
            ensure!(failed.is_empty(), "{}", failed.join(", "));
            bail!("{} ended with {status}", command.get_program().display());
        }
        Ok(log)
    }

    /// Waits for a command, with all that it starts, to end in time.
    fn wait(&self, command: &mut Command) -> Result<ExitStatus> {
        let mut child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let group = Pid::from_raw(i32::try_from(child.id())?);
        let waiting = Stopwatch::start();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let hangs = waiting.elapsed() > GROUP_PATIENCE;
            if hangs || self.end.not_yet().is_err() {
                killpg(group, Signal::SIGKILL)?;
                child.wait()?;
                ensure!(!hangs, "did not end within {GROUP_PATIENCE:?}");
                bail!("interrupted");
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn skips_file(&self) -> PathBuf {
        self.folder.join("skips")
    }

    /// How many tests could not run at all.
    fn skipped_whole(&self) -> Result<usize> {
        Ok(self.skips()?.iter().filter(|line| !line.starts_with(skip::PARTLY)).count())
    }

    /// What could not run, as `TEST: REASON`.
    fn skips(&self) -> Result<Vec<String>> {
        let path: &Path = &self.skips_file();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(path).context("reading which tests were skipped")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The last lines: each group once more, and what could not run, with its reason.
    fn conclude(&self, time: Stopwatch) -> Result<()> {
        let failed = self.groups.iter().filter(|group| group.outcome.is_err()).count();
        say(format_args!("\nIn {time}:"));
        for group in &self.groups {
            say(group);
        }
        for (reason, tests) in by_reason(&self.skips()?) {
            say(format_args!("COULD NOT RUN: {}: {reason}", tests.join(", ")));
        }
        ensure!(failed == 0, "{failed} of {} groups failed", self.groups.len());
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("warning: removing {}: {error}", self.folder.display());
        }
    }
}

/// Tests that could not run for the same reason.
fn by_reason(skips: &[String]) -> BTreeMap<&str, Vec<&str>> {
    let mut reasons = BTreeMap::<&str, Vec<&str>>::new();
    for (test, reason) in skips.iter().filter_map(|line| line.split_once(": ")) {
        reasons.entry(reason).or_default().push(test);
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_for_tests(name: &str) -> Run {
        let folder =
            std::env::temp_dir().join(format!("firewall-run-{}-{name}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Run { end: End::never(), folder, groups: Vec::new() }
    }

    #[test]
    fn skips_are_told_by_their_reason() {
        let skips = ["a::b: no: x", "c: yes", "d: no: x"].map(str::to_owned);
        let expected = BTreeMap::from([("no: x", vec!["a::b", "d"]), ("yes", vec!["c"])]);
        assert_eq!(by_reason(&skips), expected);
    }

    #[test]
    fn a_failed_group_is_named_and_the_next_one_runs() {
        let mut run = run_for_tests("groups");
        run.group("first", |_| bail!("broken")).unwrap();
        run.group("second", |_| Ok(Done::of("3 tests"))).unwrap();
        let [first, second] = run.groups.as_slice() else { panic!("{:?}", run.groups) };
        assert!(first.to_string().starts_with("FAILED  first"), "{first}");
        assert!(first.to_string().ends_with("broken"), "{first}");
        assert!(second.to_string().starts_with("passed  second"), "{second}");
        let error = run.conclude(Stopwatch::start()).unwrap_err();
        assert_eq!(error.to_string(), "1 of 2 groups failed");
    }

    #[test]
    fn a_command_that_fails_is_known_by_its_failed_tests() {
        let run = run_for_tests("failure");
        let script = "echo 'test a::b ... FAILED'; echo 'test c ... ok'; exit 101";
        let error = run.quietly(Command::new("sh").args(["-c", script])).unwrap_err();
        assert_eq!(error.to_string(), "a::b");
        let error = run.quietly(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert!(error.to_string().starts_with("sh ended with exit status: 3"), "{error}");
        assert_eq!(run.quietly(Command::new("echo").arg("fine")).unwrap(), "fine\n");
    }
}
