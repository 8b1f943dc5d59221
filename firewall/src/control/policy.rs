//! From configuration and document to a ruleset, at start and at each reload; the old one serves
//! until the new one is whole.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::contract::{self, ContractError, LoadOptions};
use crate::control::cli::RunOptions;
use crate::control::config::ConfigError;
use crate::control::dropins::{self, Configuration};
use crate::control::generations::Contents;
use crate::control::settings::{Settings, SettingsErrors};
use crate::metrics::Metrics;
use crate::pipeline::answer_fields::AnswerFields;
use crate::pipeline::ruleset::{Api, Ruleset};

/// The configuration or the document cannot be used; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{}", path.display())]
    Settings { path: PathBuf, source: SettingsErrors },
    #[error("the contract cannot be enforced: {}", first_of(.0))]
    Contract(Vec<ContractError>),
    #[error("{key} cannot change without a restart")]
    Fixed { key: &'static str },
}

fn first_of(errors: &[ContractError]) -> String {
    match errors {
        [] => "no reason given".into(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more problems)", rest.len()),
    }
}

/// A ruleset, and what it was made of.
pub struct Loaded {
    pub settings: Settings,
    pub ruleset: Ruleset,
    pub warnings: Vec<ContractError>,
    pub files: Vec<PathBuf>,
}

/// Reads everything anew.
pub fn load(options: &RunOptions, generation: u64, metrics: &Metrics) -> Result<Loaded, LoadError> {
    let (settings, read) = configured(options)?;
    let loaded = contract::load(&settings.api.spec, &load_options(&settings))
        .map_err(LoadError::Contract)?;
    let mut files = loaded.files;
    files.extend(read);
    let operations =
        loaded.contract.operations().iter().map(|o| metrics.operation(o.id())).collect();
    let ruleset = Ruleset {
        generation,
        api: Api {
            name: Arc::from(settings.api.name.as_str()),
            answer_fields: AnswerFields::new(&settings.api.answers, &loaded.contract),
            contract: Arc::new(loaded.contract),
            request_mode: settings.api.requests,
            response_mode: settings.api.responses,
            upstream: settings.api.upstream.clone(),
            operations,
            unmatched: metrics.operation(""),
        },
        limits: settings.exchange_limits(),
        trusted_proxies: settings.trusted_proxies.clone(),
    };
    Ok(Loaded { settings, ruleset, warnings: loaded.warnings, files })
}

/// The configuration alone, and the files and directories that it was read from.
pub fn configured(options: &RunOptions) -> Result<(Settings, Vec<PathBuf>), LoadError> {
    let Configuration { mut file, read } = match &options.config {
        Some(path) => dropins::read(path)?,
        None => Configuration { file: options.of_one_api(), read: Vec::new() },
    };
    options.override_keys(&mut file);
    let path = options.config.clone().unwrap_or_else(|| "command line".into());
    let settings = Settings::of(file).map_err(|source| LoadError::Settings { path, source })?;
    Ok((settings, read))
}

/// What the contract is compiled with.
pub fn load_options(settings: &Settings) -> LoadOptions {
    LoadOptions {
        unenforced: settings.api.unenforced.clone(),
        policy: settings.api.contract.clone(),
        references: settings.api.references.clone(),
        body_limit: settings.limits.body_octets,
        response_limit: settings.limits.response_octets,
        depth_limit: settings.limits.json_depth,
    }
}

/// The files that the present generation was read from, as they were then.
///
/// Identity is polled, not awaited: a `ConfigMap` is swapped by a symbolic link, which no watch on
/// the file itself reports.
#[derive(Debug)]
pub struct Watched(Vec<WatchedFile>);

#[derive(Debug)]
struct WatchedFile {
    path: PathBuf,
    identity: Option<Identity>,
    digest: Option<[u8; 32]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    octets: u64,
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            octets: metadata.size(),
        })
    }
}

impl Watched {
    pub fn new(files: Vec<PathBuf>) -> Self {
        let watched = |path: PathBuf| WatchedFile {
            identity: Identity::of(&path),
            digest: digest(&path),
            path,
        };
        Self(files.into_iter().map(watched).collect())
    }

    /// Each file, and the digest of what it held when it was last looked at.
    pub fn contents(&self) -> Contents {
        self.0.iter().map(|file| (file.path.clone(), file.digest)).collect()
    }

    /// Whether the content of any file differs from what was last seen; sees it only once.
    pub fn have_changed(&mut self) -> bool {
        let mut changed = false;
        for file in &mut self.0 {
            let identity = Identity::of(&file.path);
            if identity == file.identity {
                continue;
            }
            file.identity = identity;
            let digest = digest(&file.path);
            if digest != file.digest {
                file.digest = digest;
                changed = true;
            }
        }
        changed
    }
}

/// Of a file's octets, or of the names of the drop-ins in a directory.
fn digest(path: &Path) -> Option<[u8; 32]> {
    if !path.is_dir() {
        return std::fs::read(path).ok().map(|octets| Sha256::digest(octets).into());
    }
    let mut digest = Sha256::new();
    for name in dropins::names(path).ok()? {
        digest.update(name.as_os_str().as_encoded_bytes());
        digest.update([0]);
    }
    Some(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_content_is_seen_once_and_a_touch_never() {
        let directory = std::env::temp_dir().join(format!("firewall-watch-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("spec.yaml");
        std::fs::write(&path, "one").unwrap();
        let mut watched = Watched::new(vec![path.clone()]);
        assert!(!watched.have_changed());

        std::fs::write(directory.join("other"), "one").unwrap();
        std::fs::rename(directory.join("other"), &path).unwrap();
        assert!(!watched.have_changed(), "another inode, the same content");

        std::fs::write(directory.join("other"), "two").unwrap();
        std::fs::rename(directory.join("other"), &path).unwrap();
        assert!(watched.have_changed());
        assert!(!watched.have_changed());

        std::fs::remove_file(&path).unwrap();
        assert!(watched.have_changed(), "the file is gone");

        let dropins = directory.join("firewall.d");
        let mut watched = Watched::new(vec![dropins.clone()]);
        std::fs::create_dir(&dropins).unwrap();
        assert!(watched.have_changed(), "there are drop-ins");
        std::fs::write(dropins.join("a.toml"), "").unwrap();
        assert!(watched.have_changed(), "there is one more");
        std::fs::write(dropins.join("a.toml.swp"), "").unwrap();
        assert!(!watched.have_changed(), "that is none");
        std::fs::rename(dropins.join("a.toml"), dropins.join("b.toml")).unwrap();
        assert!(watched.have_changed(), "its place in the order is another");
        std::fs::remove_file(dropins.join("b.toml")).unwrap();
        assert!(watched.have_changed(), "it is gone");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
