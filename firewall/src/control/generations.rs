//! The generations of policy: which one serves, and to which one it returns unless it is confirmed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::Monotonic;
use crate::control::policy::Watched;
use crate::control::settings::Settings;
use crate::pipeline::ruleset::{Mode, Ruleset};

/// How long the generation before the present one is kept. A changed file is taken within a second;
/// who then orders a reload that must be confirmed means to return to what was before.
const PREVIOUS_KEPT: Duration = Duration::from_mins(10);

/// The digest of each file that a generation was read from.
pub type Contents = Vec<(PathBuf, Option<[u8; 32]>)>;

/// One generation, and what it was made of.
#[derive(Clone)]
pub struct Generation {
    pub ruleset: Arc<Ruleset>,
    /// Feeds, checks and budgets are put in force by them.
    pub settings: Arc<Settings>,
    pub contents: Arc<Contents>,
}

impl Generation {
    pub fn new(ruleset: Ruleset, settings: &Arc<Settings>, read: &Watched) -> Self {
        Self {
            ruleset: Arc::new(ruleset),
            settings: Arc::clone(settings),
            contents: Arc::new(read.contents()),
        }
    }

    /// Takes certificates and revocation lists from a later generation that reads the same files: they
    /// may have been renewed since this one did.
    fn renewed_by(mut self, later: &Self) -> Self {
        if self.settings.tls == later.settings.tls {
            Arc::make_mut(&mut self.ruleset).tls.clone_from(&later.ruleset.tls);
        }
        self
    }
}

/// The present generation and those that it may give way to.
pub struct Generations {
    published: Arc<ArcSwap<Ruleset>>,
    settings: Arc<ArcSwap<Settings>>,
    current: Generation,
    /// The highest number that was given.
    last: u64,
    /// What the present one replaced, and when.
    previous: Option<(Generation, Monotonic)>,
    pending: Option<Pending>,
    passes_all: bool,
}

/// The present generation awaits its confirmation.
struct Pending {
    fallback: Generation,
    until: Monotonic,
}

impl Generations {
    pub fn new(first: Generation) -> Self {
        Self {
            published: Arc::new(ArcSwap::new(Arc::clone(&first.ruleset))),
            settings: Arc::new(ArcSwap::new(Arc::clone(&first.settings))),
            last: first.ruleset.generation,
            current: first,
            previous: None,
            pending: None,
            passes_all: false,
        }
    }

    /// What the workers serve by.
    pub fn published(&self) -> &Arc<ArcSwap<Ruleset>> {
        &self.published
    }

    /// What the workers open connections by.
    pub fn settings(&self) -> &Arc<ArcSwap<Settings>> {
        &self.settings
    }

    pub fn current(&self) -> &Generation {
        &self.current
    }

    /// The number of the next generation: no two have the same, also after a return.
    pub fn next_number(&self) -> u64 {
        self.last + 1
    }

    /// What a generation of these contents would return to; none where nothing has changed for too
    /// long to remember.
    pub fn fallback(&self, contents: &Contents) -> Option<Generation> {
        if let Some(pending) = &self.pending {
            return Some(pending.fallback.clone());
        }
        if *self.current.contents != *contents {
            return Some(self.current.clone());
        }
        self.previous.as_ref().map(|(previous, _)| previous.clone())
    }

    /// Puts a generation in force. One that is awaiting its confirmation goes on awaiting it.
    pub fn install(&mut self, generation: Generation, now: Monotonic) {
        self.last = self.last.max(generation.ruleset.generation);
        let replaced = std::mem::replace(&mut self.current, generation);
        if replaced.contents != self.current.contents {
            self.previous = Some((replaced, now));
        }
        self.publish();
    }

    /// Returns to `fallback` then, unless the present generation is confirmed before.
    pub fn confirm_until(&mut self, until: Monotonic, fallback: Generation) {
        self.pending = Some(Pending { fallback, until });
    }

    /// The present generation stays. Gives whether it had to be confirmed.
    pub fn confirm(&mut self) -> bool {
        self.pending.take().is_some()
    }

    /// The time left to confirm; none if there is nothing to confirm.
    pub fn unconfirmed(&self, now: Monotonic) -> Option<Duration> {
        self.pending.as_ref().map(|pending| pending.until.since(now))
    }

    /// Returns to the generation before, where nobody has confirmed the present one in time; gives
    /// the one that is in force again.
    pub fn tend(&mut self, now: Monotonic) -> Option<&Generation> {
        if self.previous.as_ref().is_some_and(|(_, since)| now.since(*since) > PREVIOUS_KEPT) {
            self.previous = None;
        }
        let pending = self.pending.take_if(|pending| pending.until <= now)?;
        self.current = pending.fallback.renewed_by(&self.current);
        self.previous = None;
        self.publish();
        Some(&self.current)
    }

    /// Lets pass what is against the contract, or no longer.
    pub fn pass_all(&mut self, passes: bool) {
        if self.passes_all != passes {
            self.passes_all = passes;
            self.publish();
        }
    }

    fn publish(&self) {
        let mut ruleset = Arc::clone(&self.current.ruleset);
        if self.passes_all {
            for api in &mut Arc::make_mut(&mut ruleset).apis {
                for mode in [&mut api.request_mode, &mut api.response_mode] {
                    if *mode == Mode::Enforce {
                        *mode = Mode::Observe;
                    }
                }
            }
        }
        self.published.store(ruleset);
        self.settings.store(Arc::clone(&self.current.settings));
    }
}

#[cfg(test)]
mod tests;
