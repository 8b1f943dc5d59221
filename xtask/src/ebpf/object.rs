//! Builds the objects: the same octets from any directory, given the same tools.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::object::build::elf::{Builder, SectionData};
use ::object::elf::SHT_STRTAB;
use anyhow::{Context as _, bail};

use super::tools::{self, Tools};

/// Flags of rustc for an object, part of its digest.
///
/// Packets are read at any address: the feature lets LLVM load whole words where it would else load
/// octets and put them together, for which the kernel's verifier asks no alignment.
pub(super) const FLAGS: &[&str] = &[
    "--cfg=bpf_target_arch=\"x86_64\"",
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "-Ctarget-cpu=v3",
    "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
];

const TARGET: &str = "bpfel-unknown-none";

/// An object that is committed, and where everything of it is, from the workspace's folder.
pub(super) struct Object {
    pub(super) path: &'static str,
    pub(super) record: &'static str,
    package: &'static str,
    binary: &'static str,
    /// The folders of the packages of ours that it is made of.
    pub(super) folders: &'static [&'static str],
    /// The files of other packages that are compiled into it.
    pub(super) shared: &'static [&'static str],
}

pub(super) const OBJECTS: [Object; 2] = [
    Object {
        path: "firewall/src/kernel/firewall.bpf.o",
        record: "firewall/src/kernel/firewall.bpf.digest",
        package: "firewall-ebpf",
        binary: "firewall-xdp",
        folders: &["firewall-common", "firewall-ebpf"],
        shared: &[],
    },
    Object {
        path: "bench/src/packet/bench.bpf.o",
        record: "bench/src/packet/bench.bpf.digest",
        package: "bench-ebpf",
        binary: "bench-xdp",
        folders: &["bench/ebpf", "firewall-common"],
        shared: &["firewall-ebpf/src/program/bans.rs"],
    },
];

impl Object {
    /// The name of its file.
    pub(super) fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// Builds the object from the sources beneath `root`.
    pub(super) fn build(&self, root: &Path, tools: &Tools) -> anyhow::Result<Vec<u8>> {
        build(root, self, tools)
    }
}

fn build(root: &Path, object: &Object, tools: &Tools) -> anyhow::Result<Vec<u8>> {
    let Object { package, binary, .. } = object;
    let target = root.join("target/ebpf");
    let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
    flags.push(format!("-Clinker={}", tools.bpf_linker.display()));
    for (from, to) in places(root, &tools.sysroot)? {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    let status = Command::new(tools::cargo())
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--release", "--package", package])
        .args(["--bin", binary, "-Z", "build-std=core", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status()
        .context("starting cargo build")?;
    if !status.success() {
        bail!("the object does not build");
    }
    let path = target.join(TARGET).join("release").join(binary);
    let object = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    strip(&object)
}

/// The directories whose names must not be in the object, and what stands there instead.
fn places(root: &Path, sysroot: &Path) -> anyhow::Result<Vec<(PathBuf, &'static str)>> {
    let mut places = vec![(root.to_owned(), "/firewall")];
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => env::home_dir().context("neither CARGO_HOME nor HOME is set")?.join(".cargo"),
    };
    // One directory for each registry or mirror, named by its address.
    for entry in fs::read_dir(home.join("registry/src")).into_iter().flatten() {
        places.push((entry?.path(), "/registry"));
    }
    places.push((sysroot.join("lib/rustlib/src/rust"), "/rust"));
    Ok(places)
}

/// Removes DWARF, which is nine tenths of the object and of no use to the kernel. BTF stays.
fn strip(object: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("reading the object")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug_") || name.starts_with(".rel.debug_");
    }
    // LLVM keeps the names of sections and symbols in one table; the builder wants two.
    let names = builder.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("writing the object")?;
    Ok(stripped)
}
