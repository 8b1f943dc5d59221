//! The tools that the object is built with: their versions, and how they get here.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

const BPF_LINKER: &str = "0.13.0";

/// Equal versions give equal objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) rustc: String,
    pub(super) llvm: String,
    pub(super) bpf_linker: String,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rustc, llvm, bpf_linker } = self;
        write!(f, "rustc {rustc}, LLVM {llvm}, bpf-linker {bpf_linker}")
    }
}

/// The tools as found.
pub(super) struct Tools {
    pub(super) versions: Versions,
    pub(super) bpf_linker: PathBuf,
    pub(super) sysroot: PathBuf,
}

impl Tools {
    pub(super) fn find(root: &Path) -> anyhow::Result<Self> {
        let sysroot = sysroot()?;
        if !has_rust_src(&sysroot) {
            bail!("rust-src is missing: run `cargo xtask ebpf --setup`");
        }
        let Some(bpf_linker) = bpf_linker(root) else {
            bail!("bpf-linker {BPF_LINKER} is missing: run `cargo xtask ebpf --setup`");
        };
        let (rustc, llvm) = rustc()?;
        let versions = Versions { rustc, llvm, bpf_linker: BPF_LINKER.to_owned() };
        Ok(Self { versions, bpf_linker, sysroot })
    }
}

/// Installs what is missing of rust-src and bpf-linker.
pub(super) fn setup(root: &Path) -> anyhow::Result<()> {
    let sysroot = sysroot()?;
    if !has_rust_src(&sysroot) {
        let added = Command::new("rustup").args(["component", "add", "rust-src"]).status();
        if !added.is_ok_and(|status| status.success()) || !has_rust_src(&sysroot) {
            bail!(
                "the standard library's sources are not in {}: install them with \
                 `rustup component add rust-src`, or with the package of your distribution",
                sysroot.join(RUST_SRC).display()
            );
        }
    }
    if let Some(path) = bpf_linker(root) {
        eprintln!("bpf-linker {BPF_LINKER} is {}", path.display());
        return Ok(());
    }
    install_bpf_linker(root, &sysroot)
}

/// Builds bpf-linker against the LLVM that rustc brings along, so that no other is needed and both
/// speak one bitcode. It takes some minutes.
fn install_bpf_linker(root: &Path, sysroot: &Path) -> anyhow::Result<()> {
    let (_, llvm) = rustc()?;
    let major = llvm.split('.').next().unwrap_or_default();
    let tools = tools_directory(root);
    let prefix = tools.join("llvm");
    link_llvm(&sysroot.join("lib"), &prefix.join("lib"))?;
    eprintln!("building bpf-linker {BPF_LINKER} with rustc's LLVM {llvm}");
    let status = Command::new(cargo())
        .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{major}")])
        .arg("--root")
        .arg(&tools)
        .env("LLVM_PREFIX", &prefix)
        .env("CARGO_TARGET_DIR", tools.join("build"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("starting cargo install")?;
    if !status.success() {
        bail!(
            "bpf-linker {BPF_LINKER} could not be built against rustc's LLVM {llvm}; with an LLVM \
             {major} of your distribution: LLVM_PREFIX=/usr/lib/llvm-{major} cargo install \
             bpf-linker --version {BPF_LINKER} --locked --no-default-features \
             --features llvm-{major}"
        );
    }
    if bpf_linker(root).is_none() {
        bail!("bpf-linker was built but does not run: {}", tools.join("bin/bpf-linker").display());
    }
    Ok(())
}

/// Links rustc's libLLVM by the name that linkers look for, and by its own, which is looked for when
/// the program starts.
fn link_llvm(from: &Path, to: &Path) -> anyhow::Result<()> {
    let library = fs::read_dir(from)
        .with_context(|| format!("reading {}", from.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.file_name())
        .find(|name| name.to_string_lossy().starts_with("libLLVM.so."))
        .with_context(|| {
            format!("rustc has no shared libLLVM in {}: is it a rustup toolchain?", from.display())
        })?;
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("clearing {}", to.display()))?;
    }
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for name in [OsString::from("libLLVM.so"), library.clone()] {
        symlink(from.join(&library), to.join(&name))
            .with_context(|| format!("linking {}", name.display()))?;
    }
    Ok(())
}

const RUST_SRC: &str = "lib/rustlib/src/rust/library";

fn has_rust_src(sysroot: &Path) -> bool {
    sysroot.join(RUST_SRC).join("core/src/lib.rs").exists()
}

fn tools_directory(root: &Path) -> PathBuf {
    root.join("target/ebpf-tools")
}

/// A bpf-linker of the right version that runs: the one that setup made, or one in `PATH`.
fn bpf_linker(root: &Path) -> Option<PathBuf> {
    let own = tools_directory(root).join("bin/bpf-linker");
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates = vec![own];
    candidates.extend(env::split_paths(&path).map(|directory| directory.join("bpf-linker")));
    candidates.into_iter().find(|candidate| {
        let output = Command::new(candidate).arg("--version").output();
        output.is_ok_and(|output| {
            let version = String::from_utf8_lossy(&output.stdout);
            version.split_whitespace().nth(1) == Some(BPF_LINKER)
        })
    })
}

pub(super) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The versions of rustc and of its LLVM.
fn rustc() -> anyhow::Result<(String, String)> {
    let text = output("rustc", &["-vV"])?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_owned())
            .with_context(|| format!("rustc -vV does not tell its {name:?}"))
    };
    Ok((field("rustc ")?, field("LLVM version:")?))
}

fn sysroot() -> anyhow::Result<PathBuf> {
    Ok(PathBuf::from(output("rustc", &["--print", "sysroot"])?.trim()))
}

fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} did not write UTF-8"))
}
