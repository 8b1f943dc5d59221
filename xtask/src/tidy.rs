//! `cargo xtask tidy`: the rules of the code base that neither compiler nor clippy knows.
//!
//! A rule that is not run is not a rule. Each reports every place it objects to, as `file:line`.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::project;
use crate::report::say;

mod code;
mod constructs;
mod files;
mod layers;
mod links;
mod places;

/// One text file under version control.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the workspace's folder, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Whether all of it is compiled for tests alone.
    pub(crate) test: bool,
}

impl Source {
    fn new(path: &str, text: String) -> Self {
        Self { path: path.to_owned(), text, test: code::is_test_path(path) }
    }

    /// Whether the file's name ends in a full stop and `extension`.
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }
}

/// One place that breaks one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// From 1; 0 for the file as a whole.
    pub(crate) line: usize,
    pub(crate) problem: String,
}

impl Finding {
    fn new(source: &Source, line: usize, problem: impl Into<String>) -> Self {
        Self { path: source.path.clone(), line, problem: problem.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.problem),
            line => write!(f, "{}:{line}: {}", self.path, self.problem),
        }
    }
}

/// Checks the whole tree.
pub fn run() -> Result<()> {
    let files = check()?;
    say(format_args!("tidy: {files} files"));
    Ok(())
}

/// Prints every finding, and fails if there is one; otherwise the number of files.
pub(crate) fn check() -> Result<usize> {
    let sources = sources(project::root())?;
    let findings = findings(&sources);
    for finding in &findings {
        say(finding);
    }
    ensure!(findings.is_empty(), "{} problems", findings.len());
    Ok(sources.len())
}

fn findings(sources: &[Source]) -> Vec<Finding> {
    let mut findings = [
        files::check(sources),
        constructs::check(sources),
        layers::check(sources),
        links::check(sources),
        places::check(sources),
    ]
    .concat();
    findings.sort();
    findings
}

/// The text files that are under version control, or will be once they are added.
fn sources(root: &Path) -> Result<Vec<Source>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("starting git, which knows the files of the project")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let mut sources = Vec::new();
    for path in String::from_utf8(output.stdout)?.split_terminator('\0') {
        let file = root.join(path);
        // Deleted but not yet committed; or a link, whose target is looked at by itself.
        if !file.symlink_metadata().is_ok_and(|found| found.is_file()) {
            continue;
        }
        // Objects and the like are not text, but they too have their place in the tree.
        let text = String::from_utf8(std::fs::read(&file)?).unwrap_or_default();
        sources.push(Source::new(path, text));
    }
    ensure!(!sources.is_empty(), "git ls-files named no file");
    let test_modules: Vec<String> = sources.iter().flat_map(code::test_modules).collect();
    for source in &mut sources {
        source.test |= test_modules.contains(&source.path);
    }
    Ok(sources)
}

/// A file of a test's making.
#[cfg(test)]
pub(crate) fn source(path: &str, text: &str) -> Source {
    Source::new(path, text.to_owned())
}

/// What a rule says of one file of a test's making, as `line: problem`.
#[cfg(test)]
pub(crate) fn problems(rule: fn(&[Source]) -> Vec<Finding>, path: &str, text: &str) -> Vec<String> {
    let findings = rule(&[source(path, text)]);
    findings.iter().map(|finding| format!("{}: {}", finding.line, finding.problem)).collect()
}
