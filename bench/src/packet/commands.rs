//! The tools that peers are set up with: found or installed, run, and written down.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use xtask::lab::NetNs;

use crate::peer::program;

/// Every command that was run, in order.
pub(crate) struct Commands {
    /// Whether what is missing may be installed.
    installs: bool,
    lines: Mutex<Vec<String>>,
}

impl Commands {
    pub(crate) fn new(installs: bool) -> Self {
        Self { installs, lines: Mutex::default() }
    }

    /// Finds a program, or installs the Debian package that holds it, saying so. The error is why it
    /// is not there.
    pub(crate) fn find(&self, name: &str, package: &str) -> Result<(), String> {
        if program(name).is_some() {
            return Ok(());
        }
        if !self.installs {
            return Err(format!("no {name} in PATH, which the package {package} brings"));
        }
        eprintln!("{name} is missing: installing the package {package}");
        for arguments in [
            &["update", "-qq"] as &[&str],
            &["install", "-y", "-qq", "--no-install-recommends", package],
        ] {
            self.run(None, "apt-get", arguments, "").map_err(|error| format!("{error:#}"))?;
        }
        let installed = program(name).map(|_| ());
        installed.ok_or_else(|| format!("the package {package} brought no {name}"))
    }

    /// Runs a program to its end, in a network namespace if one is given, and gives what it wrote.
    pub(crate) fn run(
        &self,
        place: Option<&NetNs>,
        name: &str,
        arguments: &[&str],
        input: &str,
    ) -> anyhow::Result<String> {
        let mut line =
            std::iter::once(&name).chain(arguments).copied().collect::<Vec<_>>().join(" ");
        if let Some(first) = input.lines().next() {
            write!(line, "  # reads {} lines: {first} …", input.lines().count())?;
        }
        let path = program(name).with_context(|| format!("{name} is missing"))?;
        let mut command = Command::new(path);
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        let output = match place {
            Some(namespace) => namespace.run(|| output(command, input))?,
            None => output(command, input),
        };
        let output = output.with_context(|| format!("running {line}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{line}: {}: {}", output.status, said.trim());
        self.note(line);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Notes a call that is made without a program, in the words of one.
    pub(crate) fn note(&self, line: String) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The version of a Debian package that is installed.
    pub(crate) fn version(&self, package: &str) -> String {
        let version = self.run(None, "dpkg-query", &["-W", "-f=${Version}", package], "");
        version.map_or_else(|_| "of unknown version".to_owned(), |text| text.trim().to_owned())
    }
}

fn output(mut command: Command, input: &str) -> std::io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take();
    // Written beside the reading: neither side waits for the other with a full pipe.
    std::thread::scope(|scope| {
        let written =
            scope.spawn(move || stdin.as_mut().map(|pipe| pipe.write_all(input.as_bytes())));
        let output = child.wait_with_output();
        match written.join() {
            // A program that fails before it has read everything says why by its status.
            Ok(_) => output,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
