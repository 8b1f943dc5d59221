//! Asking one origin: what it gives is read and screened aside, where it delays nobody.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::ban::exempt::Exempt;
use crate::clock::Wall;
use crate::feeds::origin::{self, Fetched, Identity, Origin, Validators};
use crate::feeds::parse::Format;
use crate::feeds::screen::{Screened, Surprise, screen, surprise};
use crate::feeds::{FeedSettings, FeedsEnvironment, kept};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One attempt at one feed.
pub(super) struct Job {
    pub(super) settings: FeedSettings,
    pub(super) exempt: Arc<Exempt>,
    pub(super) validators: Validators,
    /// Of what came last.
    pub(super) digest: Option<[u8; 32]>,
    pub(super) current: Option<Arc<Screened>>,
}

/// What came of it.
pub(super) struct Done {
    pub(super) settings: FeedSettings,
    pub(super) found: Result<Found, BoxError>,
    /// The file as it was before it was read.
    pub(super) identity: Option<Identity>,
}

pub(super) enum Found {
    /// What came last still holds.
    Unchanged {
        since: Wall,
    },
    New {
        candidate: Box<Candidate>,
        surprise: Option<Surprise>,
    },
}

/// What an origin gave, screened.
pub(super) struct Candidate {
    pub(super) screened: Screened,
    pub(super) digest: [u8; 32],
    pub(super) validators: Validators,
    pub(super) since: Wall,
}

impl Job {
    pub(super) async fn run(self) -> Done {
        let settings = self.settings.clone();
        match settings.origin.clone() {
            Origin::File(path) => {
                let identity = Identity::of(&path);
                let since = identity.map_or_else(Wall::now, |(_, written)| written);
                let most = settings.octets_max;
                let found = aside(move || {
                    let octets = origin::read(&path, most)?;
                    self.judge(&octets, Validators::default(), since)
                });
                let found = found.await;
                Done { settings, found, identity: identity.map(|(identity, _)| identity) }
            }
            Origin::Http(http) => {
                let fetched = origin::fetch(&http, &self.validators, settings.octets_max).await;
                let found = match fetched {
                    Err(error) => Err(error.into()),
                    Ok(Fetched::Unchanged) => Ok(Found::Unchanged { since: Wall::now() }),
                    Ok(Fetched::Content { octets, validators }) => {
                        aside(move || self.judge(&octets, validators, Wall::now())).await
                    }
                };
                Done { settings, found, identity: None }
            }
        }
    }

    fn judge(&self, octets: &[u8], validators: Validators, since: Wall) -> Result<Found, BoxError> {
        let digest = Sha256::digest(octets).into();
        if self.digest == Some(digest) {
            return Ok(Found::Unchanged { since });
        }
        let screened = screen(octets, &self.settings, &self.exempt)?;
        let surprise = self.current.as_ref().and_then(|before| surprise(before, &screened));
        let candidate = Box::new(Candidate { screened, digest, validators, since });
        Ok(Found::New { candidate, surprise })
    }
}

/// The last good copy, screened anew: the allowlist may be another now.
pub(super) async fn kept(
    settings: &FeedSettings,
    environment: &FeedsEnvironment,
) -> Result<Option<(Screened, Wall)>, BoxError> {
    let Some(directory) = environment.directory.clone() else { return Ok(None) };
    let exempt = Arc::clone(&environment.exempt);
    // A copy is a plain list, of as many entries as its feed has after ranges are taken apart.
    let settings =
        FeedSettings { format: Format::Text, entries_max: usize::MAX, ..settings.clone() };
    aside(move || {
        let Some(copy) = kept::load(&directory, &settings.name)? else { return Ok(None) };
        Ok(Some((screen(&copy.list, &settings, &exempt)?, copy.since)))
    })
    .await
}

/// Keeps a copy of what was taken.
pub(super) async fn keep(
    name: &str,
    screened: Arc<Screened>,
    since: Wall,
    environment: &FeedsEnvironment,
) -> Result<(), BoxError> {
    let Some(directory) = environment.directory.clone() else { return Ok(()) };
    let name = name.to_owned();
    aside(move || Ok(kept::store(&directory, &name, &screened.listed, since)?)).await
}

/// Works on a thread that may wait and compute.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BoxError> + Send + 'static,
) -> Result<T, BoxError> {
    tokio::task::spawn_blocking(work).await?
}
