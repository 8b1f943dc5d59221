//! `cargo xtask fuzz`: the differential targets, led by coverage, bounded in time and memory.
//!
//! libFuzzer needs instrumentation, which a stable compiler gives when LLVM's own pass is asked for;
//! it needs neither a nightly one nor an address sanitizer, since what is fuzzed has no `unsafe`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::project;
use crate::report::{Stopwatch, say};

/// What the fuzzer's program calls its targets; `canary` is run beside them, and must crash.
const TARGETS: [&str; 8] =
    ["document", "frames", "framing", "hello", "json_tape", "parameters", "pattern", "router"];
/// Inputs of a repeatable run, about ten seconds of one core for each target.
const INPUTS: [u64; TARGETS.len()] = [4_000, 60_000, 60_000, 60_000, 40_000, 60_000, 1_200, 60_000];
/// Where libFuzzer's random numbers start in such a run.
const SEED: u32 = 1;
const CANARY: &str = "canary";
/// The canary is found within a second; a machine may be busy.
const CANARY_SECONDS: u64 = 60;
/// Octets that an input may have.
const INPUT_LIMIT: u32 = 4096;
/// Memory that a target may take, in MiB.
const MEMORY_LIMIT: u32 = 2048;
/// Seconds that one input may take.
const INPUT_PATIENCE: u32 = 20;
/// Lines of a crash that are shown.
const LINES_SHOWN: usize = 60;

/// What LLVM is to instrument: edges with counters, and comparisons, so that the fuzzer sees which
/// words the program looks for.
const INSTRUMENTATION: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// What nearly every input runs through.
const OPTIMISED: [&str; 6] =
    ["firewall", "firewall-fuzz", "regex-automata", "regex-syntax", "serde-saphyr", "simd-json"];

/// What is fuzzed, and for how long.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How long each target runs
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// The same inputs in every run instead, a few thousand of each target: a change is judged by
    /// what it does and not by luck
    #[arg(long, conflicts_with_all = ["seconds", "input"])]
    repeatable: bool,
    /// Only this input, as it was written when it was found
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
    /// Only this target
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    target: Option<String>,
}

/// Builds the targets and runs them one after another; a disagreement ends it.
pub fn run(options: &Options) -> Result<()> {
    let time = Stopwatch::start();
    let program = build()?;
    say(format_args!("built in {time}"));
    if let (Some(target), Some(input)) = (&options.target, &options.input) {
        let status =
            command(&program, target).arg(input).status().context("starting the fuzzer")?;
        ensure!(status.success(), "{target} disagrees on {}", input.display());
        return Ok(());
    }
    canary(&program)?;
    for (target, inputs) in TARGETS.iter().zip(INPUTS) {
        if options.target.as_deref().is_some_and(|wanted| wanted != *target) {
            continue;
        }
        let (place, bounds) = if options.repeatable {
            let place = Place::of(&format!("repeatable/{target}"))?;
            // What an earlier run kept would lead this one elsewhere.
            place.forget()?;
            (place, vec![format!("-seed={SEED}"), format!("-runs={inputs}")])
        } else {
            (Place::of(target)?, vec![format!("-max_total_time={}", options.seconds)])
        };
        let log = fuzz(&program, target, &place, &bounds)?;
        match Outcome::read(&log.text) {
            Outcome::Quiet(figures) if log.succeeded => {
                say(format_args!("passed  {target:<12} {figures}"));
            }
            _ => {
                show(&log.text);
                bail!(
                    "{target} has found something; the input is in {}; again: cargo xtask fuzz \
                     {target} --input FILE",
                    place.found.display()
                );
            }
        }
    }
    Ok(())
}

/// Shows that a crash would be found: the canary's must be.
fn canary(program: &Path) -> Result<()> {
    let place = Place::of(CANARY)?;
    // What an earlier run found would be no proof.
    place.forget()?;
    let log = fuzz(program, CANARY, &place, &[format!("-max_total_time={CANARY_SECONDS}")])?;
    let is_found = !log.succeeded && log.text.contains("the canary is dead");
    if !is_found {
        show(&log.text);
        bail!("the canary was not found to crash: what the fuzzer says of others is worth nothing");
    }
    say(format_args!("passed  {CANARY:<12} crashes, and is found"));
    Ok(())
}

/// The folders of a target: inputs that reached something new, and those that were found.
struct Place {
    corpus: PathBuf,
    found: PathBuf,
}

impl Place {
    fn of(target: &str) -> Result<Self> {
        let folder = folder().join(target);
        let place = Self { corpus: folder.join("corpus"), found: folder.join("found") };
        for folder in [&place.corpus, &place.found] {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        Ok(place)
    }

    /// Empties the folders.
    fn forget(&self) -> Result<()> {
        for folder in [&self.corpus, &self.found] {
            fs::remove_dir_all(folder)
                .and_then(|()| fs::create_dir(folder))
                .with_context(|| format!("emptying {}", folder.display()))?;
        }
        Ok(())
    }
}

fn folder() -> PathBuf {
    project::root().join("target/fuzz")
}

/// Builds the targets with the workspace's own crates instrumented, and what is generic in others
/// with them. The others whole would take minutes more, and their counters, which are read after
/// every input, make it ten times slower. Most dependencies are those of the tests, built once.
fn build() -> Result<PathBuf> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let compiler = folder.join("instrumenting-rustc");
    let script = format!("#!/bin/sh\nexec \"$@\" {}\n", INSTRUMENTATION.join(" "));
    // Written only if it changes, for cargo asks for its age.
    if fs::read_to_string(&compiler).ok().as_ref() != Some(&script) {
        fs::write(&compiler, &script)?;
        fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755))?;
    }
    let level = |name| format!("profile.dev.package.{name}.opt-level=1");
    project::build("fuzz", |command| {
        command.args(["--features", "firewall-fuzz/libfuzzer-sys"]);
        command.args(OPTIMISED.into_iter().flat_map(|name| ["--config".to_owned(), level(name)]));
        command.env("RUSTC_WORKSPACE_WRAPPER", compiler);
    })
    .context("building the targets; libFuzzer needs a C++ compiler (Debian: apt-get install g++)")
}

/// The fuzzer's program, told its target.
fn command(program: &Path, target: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("FIREWALL_FUZZ_TARGET", target)
        .args([format!("-rss_limit_mb={MEMORY_LIMIT}"), format!("-timeout={INPUT_PATIENCE}")])
        .stdin(Stdio::null());
    command
}

struct Log {
    text: String,
    succeeded: bool,
}

fn fuzz(program: &Path, target: &str, place: &Place, bounds: &[String]) -> Result<Log> {
    let prefix = format!("-artifact_prefix={}/", place.found.display());
    let output = command(program, target)
        .env("FIREWALL_FUZZ_SEEDS", &place.corpus)
        .args([prefix, format!("-max_len={INPUT_LIMIT}")])
        .args(bounds)
        .arg("-print_final_stats=1")
        .arg(format!("-dict={}", place.corpus.with_file_name("dictionary").display()))
        .arg(&place.corpus)
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Log { text, succeeded: output.status.success() })
}

/// What libFuzzer's log says of a run.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing was found: how much was tried.
    Quiet(String),
    /// Something was, or nothing was tried at all.
    Loud,
}

impl Outcome {
    fn read(log: &str) -> Self {
        let figure = |name: &str| {
            let line =
                log.lines().rev().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
            line.and_then(|line| line.trim_start_matches(':').trim().parse::<u64>().ok())
        };
        // Without instrumentation it would run blind, and say so only here.
        let is_led = log.contains("inline 8-bit counters");
        let covered = log.lines().rev().find_map(|line| {
            let (_, rest) = line.split_once(" cov: ")?;
            rest.split(' ').next()?.parse::<u64>().ok()
        });
        match (figure("number_of_executed_units"), figure("peak_rss_mb"), covered) {
            (Some(tried), Some(memory), Some(edges)) if is_led && tried > 0 => {
                Self::Quiet(format!(
                    "{tried} inputs, {edges} edges, {memory} MiB at most, {} new inputs kept",
                    figure("new_units_added").unwrap_or_default()
                ))
            }
            _ => Self::Loud,
        }
    }
}

fn show(log: &str) {
    let lines: Vec<&str> = log.lines().collect();
    let hidden = lines.len().saturating_sub(LINES_SHOWN);
    say(lines.get(hidden..).unwrap_or_default().join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: &str = "INFO: Loaded 1 modules   (12 inline 8-bit counters): 12 [0x1, 0x2),\n\
        #2\tINITED cov: 100 ft: 3 corp: 1/1b\n#9\tDONE   cov: 120 ft: 3 corp: 1/1b\n\
        stat::number_of_executed_units: 9\nstat::new_units_added:          2\n\
        stat::peak_rss_mb:              41\n";

    #[test]
    fn a_log_is_read() {
        let figures = "9 inputs, 120 edges, 41 MiB at most, 2 new inputs kept";
        assert_eq!(Outcome::read(QUIET), Outcome::Quiet(figures.to_owned()));
        for (of, with) in [
            ("inline 8-bit counters", "nothing"),
            ("executed_units: 9", "executed_units: 0"),
            ("stat::peak", "peak"),
            (" cov: ", " "),
        ] {
            assert_eq!(Outcome::read(&QUIET.replace(of, with)), Outcome::Loud, "without {of}");
        }
    }

    #[test]
    fn targets_are_those_of_the_program() {
        let source = project::root().join("firewall/fuzz/src");
        let lib = fs::read_to_string(source.join("lib.rs")).unwrap();
        let mut named: Vec<&str> =
            lib.lines().filter_map(|line| line.trim().strip_suffix("::TARGET,")).collect();
        named.retain(|name| *name != CANARY);
        assert_eq!(named, TARGETS);
    }
}
