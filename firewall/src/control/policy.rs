//! From configuration and document to a ruleset, at start and at each reload; the old one serves
//! until the new one is whole.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};

use crate::contract::{self, Contract, ContractError};
use crate::control::cli::RunOptions;
use crate::control::config::ConfigError;
use crate::control::dropins::{self, Configuration};
use crate::control::generations::Contents;
use crate::control::settings::{ApiSettings, Settings, SettingsErrors, tls};
use crate::feeds::{FeedSettings, Origin};
use crate::metrics::Metrics;
use crate::pipeline::answer_fields::AnswerFields;
use crate::pipeline::choice::{Choice, Rivals};
use crate::pipeline::ruleset::{Api, Ruleset};
use crate::tls::authorities::AuthoritiesError;
use crate::tls::server::{Server, TlsError};
use crate::upstream::keeper::Upstreams;
use crate::upstream::tls::{UpstreamTls, UpstreamTlsError};

/// The configuration or the document cannot be used; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{}", path.display())]
    Settings { path: PathBuf, source: SettingsErrors },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("api {api}: upstream")]
    UpstreamTls { api: String, source: UpstreamTlsError },
    #[error("feed {name}: ca")]
    Feed { name: String, source: AuthoritiesError },
    #[error("the contract cannot be enforced: {}", first_of(.0))]
    Contract(Vec<ContractError>),
    #[error(
        "the APIs {one:?} and {other:?} claim the same requests: their hosts and base paths overlap \
         (servers of the documents, api.contract.hosts)"
    )]
    Rivals { one: String, other: String },
    #[error("{} cannot change without a restart", keys.join(", "))]
    Fixed { keys: Vec<&'static str> },
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
    /// As it was before anything was read.
    pub before: Before,
}

/// Why nothing was loaded.
#[derive(Debug)]
pub struct Failed {
    pub error: Box<LoadError>,
    /// What was read, or would have been: where one of them comes or changes, another load may succeed.
    pub files: Vec<PathBuf>,
}

/// Reads everything anew, and takes from `upstreams` those that are as they were. All of it is whole,
/// or nothing is changed. Sessions of clients of an `earlier` server go on.
pub fn load(
    options: &RunOptions,
    generation: u64,
    metrics: &Metrics,
    upstreams: &Upstreams,
    earlier: Option<&Server>,
) -> Result<Loaded, Failed> {
    let mut files = Vec::new();
    let loaded = load_noting(options, generation, metrics, upstreams, earlier, &mut files);
    loaded.map_err(|error| Failed { error: error.into(), files })
}

/// The same; what was read or wanted stands in `files`, come what may.
fn load_noting(
    options: &RunOptions,
    generation: u64,
    metrics: &Metrics,
    upstreams: &Upstreams,
    earlier: Option<&Server>,
    files: &mut Vec<PathBuf>,
) -> Result<Loaded, LoadError> {
    let before = Before::default();
    let (settings, read) = configured(options).inspect_err(|error| {
        if let LoadError::Config(
            ConfigError::Unreadable { path, .. } | ConfigError::Invalid { path, .. },
        ) = error
        {
            files.push(path.clone());
        }
    })?;
    files.extend(read);
    files.extend(tls::files(settings.tls.as_ref()));
    let tls = settings.tls.as_ref().map(|tls| Server::load(tls, earlier)).transpose()?;
    let (mut contracts, mut warnings, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for api in &settings.apis {
        match contract::load(&api.spec, &api.load_options()) {
            Ok(loaded) => {
                contracts.push(loaded.contract);
                files.extend(loaded.files);
                warnings.extend(loaded.warnings);
            }
            Err(found) => {
                files.push(api.spec.clone());
                files.extend(found.iter().flat_map(ContractError::files).map(PathBuf::from));
                problems.extend(found);
            }
        }
    }
    if !problems.is_empty() {
        return Err(LoadError::Contract(problems));
    }
    let choice = choice(&settings.apis, &contracts)?;
    settings.feeds.iter().try_for_each(probe)?;
    let encrypted = settings.apis.iter().map(encryption).collect::<Result<Vec<_>, _>>();
    let encrypted = encrypted.inspect_err(|_| {
        let wanted = settings.apis.iter().filter_map(|api| api.upstream.tls.as_ref());
        for tls in wanted {
            let identity = tls.identity.iter().flat_map(|(chain, key)| [chain, key]);
            files.extend(tls.ca.iter().chain(identity).cloned());
        }
    })?;
    files.extend(encrypted.iter().flatten().flat_map(|tls| tls.files().to_vec()));
    files.sort_unstable();
    files.dedup();
    let apis = settings.apis.iter().zip(contracts).zip(encrypted).map(|((api, contract), tls)| {
        let operation = |id: &str| metrics.operation(&api.name, id);
        Api {
            name: Arc::from(api.name.as_str()),
            answer_fields: AnswerFields::new(&api.answers, &contract),
            operations: contract.operations().iter().map(|o| operation(o.id())).collect(),
            contract: Arc::new(contract),
            request_mode: api.requests,
            response_mode: api.responses,
            upstream: upstreams.of(&api.name, api.upstream.clone(), tls),
            limits: api.limits.clone(),
            client_certificate: api.client_certificate,
            metrics: metrics.api(&api.name),
        }
    });
    let ruleset = Ruleset {
        generation,
        apis: apis.collect(),
        choice,
        nobody: metrics.api(""),
        trusted_proxies: settings.trusted_proxies.clone(),
        tls: tls.map(Arc::new),
    };
    Ok(Loaded { settings, ruleset, warnings, files: std::mem::take(files), before })
}

/// How an API's upstream is spoken to, where that is by TLS.
pub fn encryption(api: &ApiSettings) -> Result<Option<UpstreamTls>, LoadError> {
    let tls = api.upstream.tls.as_ref().map(UpstreamTls::load).transpose();
    tls.map_err(|source| LoadError::UpstreamTls { api: api.name.clone(), source })
}

/// Whether it can be known that a feed comes from its origin.
pub fn probe(feed: &FeedSettings) -> Result<(), LoadError> {
    let Origin::Http(origin) = &feed.origin else { return Ok(()) };
    origin.probe().map_err(|source| LoadError::Feed { name: feed.name.to_string(), source })
}

/// What tells the APIs apart.
pub fn choice(apis: &[ApiSettings], contracts: &[Contract]) -> Result<Choice, LoadError> {
    let contracts: Vec<_> = contracts.iter().collect();
    Choice::among(&contracts).map_err(|Rivals(one, other)| {
        let name = |place: usize| apis.get(place).map(|api| api.name.clone()).unwrap_or_default();
        LoadError::Rivals { one: name(one), other: name(other) }
    })
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

/// The files that the present generation was read from, as they were then.
///
/// Identity is polled, not awaited: a `ConfigMap` is swapped by a symbolic link, which no watch on
/// the file itself reports.
#[derive(Clone, Debug)]
pub struct Watched {
    files: Vec<WatchedFile>,
    /// And those that the last attempt at another generation wanted, if it failed.
    wanted: Vec<WatchedFile>,
}

#[derive(Clone, Debug)]
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
    /// The inode, its name among it.
    changed: (i64, i64),
    octets: u64,
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            octets: metadata.size(),
        })
    }
}

/// How files were before they were read: what is written while they are, another load must read.
#[derive(Clone, Debug)]
pub struct Before {
    /// By the clock of the file systems.
    began: (i64, i64),
    known: Watched,
}

impl Default for Before {
    /// Of no file; of each then the time decides.
    fn default() -> Self {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        Self { began: (now.tv_sec, now.tv_nsec), known: Watched::new(Vec::new()) }
    }
}

impl Before {
    /// What is to be watched of these files, which have been read since. One that was known is as it was
    /// then; another one is as it is now, unless it has changed since.
    pub fn after(self, files: Vec<PathBuf>) -> Watched {
        let Self { began, mut known } = self;
        let watched = |path: PathBuf| {
            if let Some(place) = known.files.iter().position(|file| file.path == path) {
                return known.files.swap_remove(place);
            }
            let file = WatchedFile::of(path);
            if file.identity.is_some_and(|identity| identity.changed > began) {
                return WatchedFile { identity: None, digest: None, ..file };
            }
            file
        };
        Watched { files: files.into_iter().map(watched).collect(), wanted: Vec::new() }
    }
}

impl WatchedFile {
    fn of(path: PathBuf) -> Self {
        Self { identity: Identity::of(&path), digest: digest(&path), path }
    }
}

impl Watched {
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { files: files.into_iter().map(WatchedFile::of).collect(), wanted: Vec::new() }
    }

    /// The same files as they are now, before they are read again.
    pub fn again(&self) -> Before {
        let known = Self::new(self.files.iter().map(|file| file.path.clone()).collect());
        Before { known, ..Before::default() }
    }

    /// Another generation could not be had; what it wanted is watched too, until one is.
    pub fn failed(&mut self, before: Before, mut wanted: Vec<PathBuf>) {
        wanted.retain(|path| self.files.iter().all(|file| file.path != *path));
        wanted.sort_unstable();
        wanted.dedup();
        self.wanted = before.after(wanted).files;
    }

    /// Each file, and the digest of what it held when it was last looked at.
    pub fn contents(&self) -> Contents {
        self.files.iter().map(|file| (file.path.clone(), file.digest)).collect()
    }

    /// Whether the content of any file differs from what was last seen; sees it only once.
    pub fn have_changed(&mut self) -> bool {
        let mut changed = false;
        for file in self.files.iter_mut().chain(&mut self.wanted) {
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
    fn what_is_written_while_it_is_read_is_read_again() {
        let name = format!("firewall-watch-while-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let (known, new) = (directory.join("known"), directory.join("new"));
        std::fs::write(&known, "one").unwrap();
        std::fs::write(&new, "one").unwrap();
        let files = || vec![known.clone(), new.clone()];
        let watched = Watched::new(vec![known.clone()]);
        // The file systems' clock stands still within a tick.
        let tick = || std::thread::sleep(std::time::Duration::from_millis(20));
        tick();
        assert!(!watched.again().after(files()).have_changed(), "nothing was written");
        for changed in [&known, &new] {
            let before = watched.again();
            tick();
            std::fs::write(changed, "two").unwrap();
            let mut after = before.after(files());
            assert!(after.have_changed(), "{}", changed.display());
            assert!(!after.have_changed(), "it is seen once");
            tick();
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_was_wanted_in_vain_is_watched_until_something_else_is() {
        let directory = std::env::temp_dir().join(format!("firewall-vain-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let [known, missing, other] =
            ["known", "missing", "other"].map(|name| directory.join(name));
        std::fs::write(&known, "one").unwrap();
        let mut watched = Watched::new(vec![known.clone()]);
        let contents = watched.contents();
        let before = watched.again();
        watched.failed(before, vec![missing.clone(), known.clone(), missing.clone()]);
        assert!(!watched.have_changed());
        assert_eq!(watched.contents(), contents, "it is no part of the generation");
        std::fs::write(&missing, "one").unwrap();
        assert!(watched.have_changed() && !watched.have_changed(), "seen once");
        // What came while it was looked for is not overlooked.
        let before = watched.again();
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&other, "one").unwrap();
        watched.failed(before, vec![other]);
        assert!(watched.have_changed());
        std::fs::write(&missing, "two").unwrap();
        assert!(!watched.have_changed(), "nobody wants it any more");
        std::fs::write(&known, "two").unwrap();
        assert!(watched.have_changed());
        std::fs::remove_dir_all(&directory).unwrap();
    }

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
