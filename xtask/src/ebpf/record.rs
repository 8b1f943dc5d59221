//! What an object was built from: a digest of its sources, its own, and the tools' versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use super::object::{FLAGS, Object};
use super::tools::Versions;

/// The file beside the object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) sources: String,
    pub(super) object: String,
    pub(super) tools: Versions,
}

impl Record {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut fields = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.split_once(": ") else {
                bail!("expected a name and a value, found {line:?}");
            };
            fields.insert(name, value.to_owned());
        }
        let mut take = |name| fields.remove(name).with_context(|| format!("{name} is missing"));
        Ok(Self {
            sources: take("sources")?,
            object: take("object")?,
            tools: Versions {
                rustc: take("rustc")?,
                llvm: take("llvm")?,
                bpf_linker: take("bpf-linker")?,
            },
        })
    }

    /// The file's text, which names the object's file.
    pub(super) fn text(&self, object: &Object) -> String {
        let Versions { rustc, llvm, bpf_linker } = &self.tools;
        format!(
            "# What {} was built from. Written by `cargo xtask ebpf`.\n\
             sources: {}\nobject: {}\nrustc: {rustc}\nllvm: {llvm}\nbpf-linker: {bpf_linker}\n",
            object.name(),
            self.sources,
            self.object
        )
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// A digest of everything of ours that the object depends on: code, manifests, the versions of what
/// it links, and the flags it is built with.
pub(super) fn sources(root: &Path, object: &Object) -> anyhow::Result<String> {
    let mut files = BTreeMap::new();
    for package in object.folders {
        add(root, &format!("{package}/Cargo.toml"), &mut files)?;
        add(root, &format!("{package}/src"), &mut files)?;
    }
    for file in object.shared {
        add(root, file, &mut files)?;
    }
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("reading Cargo.lock")?;
    files.insert("Cargo.lock".to_owned(), linked(&lock).into_bytes());
    files.insert("flags".to_owned(), FLAGS.join("\n").into_bytes());
    let mut digest = Sha256::new();
    for (path, content) in files {
        for part in [path.as_bytes(), &content] {
            digest.update(u64::try_from(part.len())?.to_le_bytes());
            digest.update(part);
        }
    }
    Ok(format!("{:x}", digest.finalize()))
}

/// Adds a file, or what is beneath a directory. What only tests compile is left out: it is not in
/// the object.
fn add(root: &Path, path: &str, files: &mut BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if matches!(name, "cases" | "cases.rs" | "tests.rs") {
        return Ok(());
    }
    let absolute = root.join(path);
    if absolute.is_dir() {
        for entry in fs::read_dir(&absolute).with_context(|| path.to_owned())? {
            let name = entry?.file_name();
            let name = name.to_str().with_context(|| format!("a name in {path} is not UTF-8"))?;
            add(root, &format!("{path}/{name}"), files)?;
        }
    } else {
        let content = fs::read(&absolute).with_context(|| format!("reading {path}"))?;
        files.insert(path.to_owned(), content);
    }
    Ok(())
}

/// Name and version of each package that the object links, one a line.
fn linked(lock: &str) -> String {
    let mut packages = String::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            name = value.trim_matches('"');
        } else if let Some(version) = line.strip_prefix("version = ")
            && (name.starts_with("aya-ebpf") || name.starts_with("aya-log-"))
        {
            packages.push_str(name);
            packages.push(' ');
            packages.push_str(version.trim_matches('"'));
            packages.push('\n');
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebpf::object::OBJECTS;

    fn record() -> Record {
        Record {
            sources: "aa".into(),
            object: "bb".into(),
            tools: Versions {
                rustc: "1.95.0 (59807616e 2026-04-14)".into(),
                llvm: "22.1.2".into(),
                bpf_linker: "0.13.0".into(),
            },
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        assert_eq!(Record::parse(&record().text(&OBJECTS[0])).unwrap(), record());
    }

    #[test]
    fn a_record_with_a_hole_is_refused() {
        let text = record().text(&OBJECTS[0]);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let error = Record::parse(&text.replace(&format!("{line}\n"), "")).unwrap_err();
            assert!(line.starts_with(error.to_string().trim_end_matches(" is missing")), "{error}");
        }
        assert!(Record::parse("sources\n").is_err());
    }

    #[test]
    fn only_what_is_linked_counts() {
        let lock = "[[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\n\n\
                    [[package]]\nname = \"tokio\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"aya-log-ebpf\"\nversion = \"0.2.0\"\n";
        assert_eq!(linked(lock), "aya-ebpf 0.2.1\naya-log-ebpf 0.2.0\n");
    }
}
