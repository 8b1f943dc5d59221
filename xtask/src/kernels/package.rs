//! Debian's kernels: the newest of a series, as apt knows it, unpacked beside what was built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::report::say;

/// Of cloud kernels, which are the same source with fewer drivers.
const FLAVOUR: &str = "-cloud-amd64";
/// Modules that the tests need, each behind those that it needs.
const MODULES: [&str; 10] = [
    "kernel/drivers/net/veth.ko",
    "kernel/drivers/net/macvlan.ko",
    "kernel/drivers/net/dummy.ko",
    "kernel/net/llc/llc.ko",
    "kernel/net/802/stp.ko",
    "kernel/net/802/garp.ko",
    "kernel/net/802/mrp.ko",
    "kernel/net/8021q/8021q.ko",
    "kernel/net/tls/tls.ko",
    "kernel/drivers/net/bonding/bonding.ko",
];

/// A series of kernels.
pub(super) struct Series {
    pub(super) name: &'static str,
    /// What the names of its packages begin with.
    pub(super) package: &'static str,
    /// Whether it is an error that there is none.
    pub(super) is_required: bool,
}

/// A kernel, unpacked.
pub(super) struct Kernel {
    pub(super) series: String,
    /// As in its name: `6.1.0-56`.
    pub(super) version: String,
    pub(super) image: PathBuf,
    /// In the order in which they load.
    pub(super) modules: Vec<PathBuf>,
}

impl Kernel {
    /// The newest kernel of the series, from `folder` where it is there already.
    pub(super) fn get(series: &Series, folder: &Path) -> Result<Option<Self>> {
        let names = Command::new("apt-cache")
            .args(["pkgnames", series.package])
            .output()
            .context("there is no apt-cache to ask for Debian's kernels")?;
        let Some(name) = newest(&String::from_utf8_lossy(&names.stdout)) else {
            ensure!(!series.is_required, "apt knows no {}*{FLAVOUR}", series.package);
            return Ok(None);
        };
        let unpacked = folder.join(&name);
        if !unpacked.is_dir() {
            fetch(&name, folder, &unpacked)?;
        }
        let release = name.trim_start_matches("linux-image-");
        let modules = unpacked.join("lib/modules").join(release);
        Ok(Some(Self {
            series: series.name.to_owned(),
            version: release.trim_end_matches(FLAVOUR).to_owned(),
            image: unpacked.join("boot").join(format!("vmlinuz-{release}")),
            modules: MODULES
                .iter()
                .map(|module| uncompressed(&modules.join(module)))
                .collect::<Result<_>>()?,
        }))
    }
}

/// The newest of the packages of the right flavour, by the numbers in their names.
fn newest(names: &str) -> Option<String> {
    let signed = names.lines().filter(|name| name.ends_with(FLAVOUR));
    // The name of a series alone is a package without a kernel.
    let kernels = signed.filter(|name| numbers(name).len() > 2);
    kernels.max_by_key(|name| numbers(name)).map(str::to_owned)
}

fn numbers(name: &str) -> Vec<u32> {
    let version = name.trim_end_matches(FLAVOUR);
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

fn fetch(name: &str, folder: &Path, unpacked: &Path) -> Result<()> {
    say(format_args!("fetching {name} by apt"));
    let part = folder.join("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir(&part)?;
    let status = Command::new("apt-get")
        .args(["download", "-qq", name])
        .current_dir(&part)
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "apt-get download {name} ended with {status}");
    let Some(package) = fs::read_dir(&part)?.next() else { bail!("apt-get brought no file") };
    let package = package?.path();
    let tree = part.join("tree");
    let status = Command::new("dpkg").arg("-x").arg(&package).arg(&tree).status()?;
    ensure!(status.success(), "dpkg -x ended with {status}");
    // Whole, or not there.
    fs::rename(&tree, unpacked)?;
    Ok(fs::remove_dir_all(&part)?)
}

/// The module without the compression that newer packages have.
fn uncompressed(module: &Path) -> Result<PathBuf> {
    let compressed = module.with_extension("ko.xz");
    if !module.exists() && compressed.exists() {
        let status = Command::new("xz").args(["--decompress", "--keep"]).arg(&compressed).status();
        let status = status.context("starting xz")?;
        ensure!(status.success(), "xz ended with {status}");
    }
    ensure!(module.exists(), "the kernel has no {}", module.display());
    Ok(module.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_by_number() {
        let names = "linux-image-6.12-cloud-amd64\nlinux-image-6.12.9+deb12-cloud-amd64\n\
            linux-image-6.12.117+deb12-cloud-amd64\nlinux-image-6.12.118+deb12-amd64\n\
            linux-image-6.12.119+deb12-cloud-amd64-unsigned\n";
        assert_eq!(newest(names).as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        let names = "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(newest(names).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(newest("linux-image-6.12-cloud-amd64\n"), None);
        assert_eq!(newest(""), None);
    }
}
