//! `cargo xtask ebpf`: builds the XDP objects, and keeps the committed ones honest.
//!
//! Each object is committed beside a record of what it was built from, so that building the firewall
//! needs neither unstable Rust nor a BPF linker. A plain test compares record, sources and object;
//! `--check` rebuilds.

mod object;
mod record;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use object::{OBJECTS, Object};
use record::Record;
use tools::Tools;

/// Exit code of `--check` if an object cannot be compared, having been built with other tools.
const NOT_COMPARABLE: u8 = 3;

/// How to build the XDP objects.
#[derive(clap::Args, Debug)]
#[group(multiple = false)]
pub struct Options {
    /// Rebuild and compare with the committed objects; exit 1 if one differs, 3 if one was built with
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
    for object in &OBJECTS {
        let code =
            if options.check { check(&root, object, &tools) } else { write(&root, object, &tools) };
        let code = code.with_context(|| object.path.to_owned())?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(root: &Path, object: &Object, tools: &Tools) -> anyhow::Result<ExitCode> {
    let built = object.build(root, tools)?;
    let record = Record {
        sources: record::sources(root, object)?,
        object: record::sha256(&built),
        tools: tools.versions.clone(),
    };
    fs::write(root.join(object.path), &built).context("writing the object")?;
    fs::write(root.join(object.record), record.text(object)).context("writing its record")?;
    eprintln!("wrote {} ({} octets)", object.path, built.len());
    Ok(ExitCode::SUCCESS)
}

fn check(root: &Path, object: &Object, tools: &Tools) -> anyhow::Result<ExitCode> {
    let Object { path, .. } = object;
    let record = Record::read(&root.join(object.record))?;
    if record.tools != tools.versions {
        eprintln!("{path}: not comparable, built with {}; here: {}", record.tools, tools.versions);
        return Ok(ExitCode::from(NOT_COMPARABLE));
    }
    let committed = fs::read(root.join(path)).context("reading the committed object")?;
    let rebuilt = object.build(root, tools)?;
    if committed != rebuilt {
        eprintln!(
            "{path}: the committed object is {}, its sources give {}: run `cargo xtask ebpf`",
            record::sha256(&committed),
            record::sha256(&rebuilt)
        );
        return Ok(ExitCode::FAILURE);
    }
    eprintln!("{path} is what its sources give: {}", record.object);
    Ok(ExitCode::SUCCESS)
}

fn root() -> anyhow::Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().map(Path::to_owned).context("the package is not in a workspace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_objects_are_of_these_sources() {
        let root = root().unwrap();
        let advice = "run `cargo xtask ebpf` and commit what it writes";
        for object in &OBJECTS {
            let Object { path, .. } = object;
            let record = Record::read(&root.join(object.record)).unwrap();
            let sources = record::sources(&root, object).unwrap();
            assert_eq!(record.sources, sources, "{path}: sources changed: {advice}");
            let digest = record::sha256(&fs::read(root.join(path)).unwrap());
            assert_eq!(record.object, digest, "{path} is another object: {advice}");
        }
    }
}
