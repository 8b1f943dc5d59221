//! `cargo xtask suite`: brings the JSON-Schema-Test-Suite, and runs it through the real program.
//!
//! The suite is no part of the repository. Its own npm package holds none of its files (it depends
//! on a commit of 2019 by URL), so it is taken from the source distribution of the Python package
//! `jsonschema`, which ships it whole, at a pinned version whose digest is checked here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::project;
use crate::report::say;

mod group;

pub use group::{Group, Test, read};

/// What ships the suite, and in which version.
const PACKAGE: &str = "jsonschema";
const VERSION: &str = "4.26.0";
/// The SHA-256 of its source distribution: 438 groups of draft 2020-12, as of January 2026.
const DIGEST: &str = "0c26707e2efad8aa1bfc5b7ce170f3fccc2e4918ff85989ba9ffa9facb2be326";
/// What of the distribution is unpacked.
const PARTS: [&str; 3] = ["json/tests/draft2020-12", "json/remotes", "json/LICENSE"];

/// How the suite is brought and run.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Only bring it, so that `cargo xtask test` runs it
    #[arg(long)]
    bring: bool,
}

/// Brings the suite unless it is there, and runs it.
pub fn run(options: Options) -> Result<()> {
    let suite = match cached() {
        Some(suite) => suite,
        None => bring()?,
    };
    say(format_args!("the suite of {PACKAGE} {VERSION} is in {}", suite.display()));
    if options.bring {
        return Ok(());
    }
    // The workspace is named so that dependencies are those of `cargo xtask test`.
    let status = project::cargo()
        .args(["test", "--quiet", "--workspace", "--test", "it", "--"])
        .args(["suite::", "--nocapture", "--test-threads", "1"])
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "the suite does not pass: cargo ended with {status}");
    Ok(())
}

/// The suite's folder, with `tests/draft2020-12` and `remotes`, if it has been brought.
pub fn cached() -> Option<PathBuf> {
    let place = place();
    let suite = place.join("json");
    // Written last, so that what was cut short is brought again.
    let brought = fs::read_to_string(place.join("brought")).ok()?;
    (brought == DIGEST).then_some(suite)
}

/// Why a test that needs the suite cannot run without it.
pub const NOT_CACHED: &str =
    "the JSON-Schema-Test-Suite is not here: `cargo xtask suite` brings and runs it";

fn place() -> PathBuf {
    project::root().join("target/suite").join(format!("{PACKAGE}-{VERSION}"))
}

fn bring() -> Result<PathBuf> {
    let place = place();
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("removing {}", place.display()))?;
    }
    fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
    let archive = download(&place)?;
    verify(&fs::read(&archive)?, DIGEST)
        .with_context(|| format!("checking {}", archive.display()))?;
    unpack(&archive, &place)?;
    fs::write(place.join("brought"), DIGEST)?;
    cached().context("what was brought is not found")
}

/// Has pip download the source distribution from the registry that it is configured for.
fn download(place: &Path) -> Result<PathBuf> {
    let pin = place.join("requirements.txt");
    fs::write(&pin, format!("{PACKAGE}=={VERSION} --hash=sha256:{DIGEST}\n"))?;
    let pip = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(["-m", "pip"]).args(arguments).stdin(Stdio::null()).current_dir(place);
        command
    };
    let is_there = pip(&["--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !is_there.is_ok_and(|status| status.success()) {
        bail!(
            "the suite is brought by pip, which is missing: install it (Debian: apt-get install \
             python3-pip)"
        );
    }
    // With hashes required, pip checks the archive before it looks inside.
    let mut command = pip(&["download", "--quiet", "--disable-pip-version-check", "--no-input"]);
    command.args(["--no-deps", "--no-binary", PACKAGE, "--require-hashes", "--dest", "."]);
    command.args(["--requirement", "requirements.txt"]);
    say(format_args!("bringing {PACKAGE} {VERSION} by pip"));
    let status = command.status().context("starting pip")?;
    ensure!(status.success(), "pip download ended with {status}; it needs a package registry");
    Ok(place.join(format!("{PACKAGE}-{VERSION}.tar.gz")))
}

/// # Errors
///
/// Both digests, where they differ.
fn verify(octets: &[u8], expected: &str) -> Result<()> {
    let found = format!("{:x}", Sha256::digest(octets));
    ensure!(found == expected, "its SHA-256 is {found}, not {expected}: it is not what was pinned");
    Ok(())
}

/// Unpacks the parts that are used, without the folder that holds them all.
fn unpack(archive: &Path, place: &Path) -> Result<()> {
    let status = Command::new("tar")
        .args(["--extract", "--gzip", "--strip-components=1", "--no-same-owner", "--file"])
        .arg(archive)
        .args(PARTS.map(|part| format!("{PACKAGE}-{VERSION}/{part}")))
        .current_dir(place)
        .status()
        .context("starting tar")?;
    ensure!(status.success(), "tar ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_pinned_is_refused() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(verify(b"", empty).is_ok());
        let error = verify(b"x", empty).unwrap_err().to_string();
        assert!(error.starts_with("its SHA-256 is 2d711642"), "{error}");
        assert!(error.contains(empty), "{error}");
    }

    #[test]
    fn only_the_parts_that_are_used_are_unpacked() {
        let folder = std::env::temp_dir().join(format!("firewall-suite-{}", std::process::id()));
        let source = folder.join(format!("{PACKAGE}-{VERSION}"));
        for part in ["json/tests/draft2020-12/a", "json/remotes/b", "json/LICENSE", "setup.py"] {
            let file = source.join(part);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, part).unwrap();
        }
        let archive = folder.join("archive.tar.gz");
        let status = Command::new("tar")
            .args(["czf", "archive.tar.gz", &format!("{PACKAGE}-{VERSION}")])
            .current_dir(&folder)
            .status()
            .unwrap();
        assert!(status.success());
        let place = folder.join("unpacked");
        fs::create_dir(&place).unwrap();
        unpack(&archive, &place).unwrap();
        let read = |path: &str| fs::read_to_string(place.join(path)).ok();
        assert_eq!(read("json/remotes/b").as_deref(), Some("json/remotes/b"));
        assert_eq!(read("json/tests/draft2020-12/a").as_deref(), Some("json/tests/draft2020-12/a"));
        assert_eq!(read("setup.py"), None);
        fs::write(&archive, "no archive").unwrap();
        assert!(unpack(&archive, &place).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
