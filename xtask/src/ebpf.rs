//! `cargo xtask ebpf`: builds the XDP object, and keeps the committed one honest.
//!
//! The object is committed beside a record of what it was built from, so that building the firewall
//! needs neither unstable Rust nor a BPF linker. A plain test compares record, sources and object;
//! `--check` rebuilds.

mod object;
mod record;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use record::Record;
use tools::Tools;

/// Exit code of `--check` if the object cannot be compared, having been built with other tools.
const NOT_COMPARABLE: u8 = 3;

/// How to build the XDP object.
#[derive(clap::Args, Debug)]
#[group(multiple = false)]
pub struct Options {
    /// Rebuild and compare with the committed object; exit 1 if they differ, 3 if it was built with
    /// other tools
    #[arg(long)]
    check: bool,
    /// Install what the build needs: rust-src and bpf-linker
    #[arg(long)]
    setup: bool,
}

/// Builds, checks, or sets up.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let root = root()?;
    if options.setup {
        tools::setup(&root)?;
        return Ok(ExitCode::SUCCESS);
    }
    let tools = Tools::find(&root)?;
    if options.check { check(&root, &tools) } else { write(&root, &tools) }
}

fn write(root: &Path, tools: &Tools) -> anyhow::Result<ExitCode> {
    let object = object::build(root, tools)?;
    let record = Record {
        sources: record::sources(root)?,
        object: record::sha256(&object),
        tools: tools.versions.clone(),
    };
    fs::write(object_path(root), &object).context("writing the object")?;
    fs::write(record_path(root), record.to_string()).context("writing its record")?;
    eprintln!("wrote {} ({} octets)", object_path(root).display(), object.len());
    Ok(ExitCode::SUCCESS)
}

fn check(root: &Path, tools: &Tools) -> anyhow::Result<ExitCode> {
    let record = Record::read(&record_path(root))?;
    if record.tools != tools.versions {
        eprintln!("not comparable, built with {}; here: {}", record.tools, tools.versions);
        return Ok(ExitCode::from(NOT_COMPARABLE));
    }
    let committed = fs::read(object_path(root)).context("reading the committed object")?;
    let rebuilt = object::build(root, tools)?;
    if committed != rebuilt {
        eprintln!(
            "the committed object is {}, its sources give {}: run `cargo xtask ebpf`",
            record::sha256(&committed),
            record::sha256(&rebuilt)
        );
        return Ok(ExitCode::FAILURE);
    }
    eprintln!("the committed object is what its sources give: {}", record.object);
    Ok(ExitCode::SUCCESS)
}

fn root() -> anyhow::Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().map(Path::to_owned).context("the package is not in a workspace")
}

fn object_path(root: &Path) -> PathBuf {
    root.join("firewall/src/kernel/firewall.bpf.o")
}

fn record_path(root: &Path) -> PathBuf {
    root.join("firewall/src/kernel/firewall.bpf.digest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_object_is_of_these_sources() {
        let root = root().unwrap();
        let record = Record::read(&record_path(&root)).unwrap();
        let advice = "run `cargo xtask ebpf` and commit what it writes";
        assert_eq!(record.sources, record::sources(&root).unwrap(), "sources changed: {advice}");
        let object = fs::read(object_path(&root)).unwrap();
        assert_eq!(record.object, record::sha256(&object), "the object is another one: {advice}");
    }
}
