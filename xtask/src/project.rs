//! The project itself: where it is, and how its programs are built.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    // Where this crate was built from; tasks are always run from a checkout.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the workspace")
}

/// The cargo that runs this task, in the folder of the workspace.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(root());
    command
}

/// Builds the firewall's program, with cargo's own progress on standard error, and says where it is.
pub(crate) fn build_firewall() -> Result<PathBuf> {
    build("firewall", |_| ())
}

/// Builds the program `name` by a command that `change` may add to.
pub(crate) fn build(name: &str, change: impl FnOnce(&mut Command)) -> Result<PathBuf> {
    // The whole workspace is named so that dependencies have the features that they have in the
    // tests: they are compiled once for both.
    let mut command = cargo();
    command.args(["build", "--workspace", "--bin", name]);
    change(&mut command);
    let program = programs(&mut command)?.remove(name);
    program.with_context(|| format!("cargo named no program called {name}"))
}

/// Builds a binary of integration tests, and with it the program that it tests; by their names.
pub(crate) fn build_tests(tests: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = cargo();
    programs(command.args(["test", "--workspace", "--no-run", "--test", tests]))
}

/// Runs cargo; the programs that it names, by their names.
fn programs(command: &mut Command) -> Result<BTreeMap<String, PathBuf>> {
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = command.spawn().context("starting cargo")?;
    let stdout = child.stdout.take().context("cargo has no standard output")?;
    let mut programs = BTreeMap::new();
    for line in BufReader::new(stdout).lines() {
        let message: Value = serde_json::from_str(&line?).context("reading cargo's messages")?;
        if let Some(name) = message.pointer("/target/name").and_then(Value::as_str)
            && let Some(executable) = message.get("executable").and_then(Value::as_str)
        {
            programs.insert(name.to_owned(), PathBuf::from(executable));
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "cargo ended with {status}");
    Ok(programs)
}
