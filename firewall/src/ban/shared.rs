//! What the views of all workers share: the feeds, and whether everything passes for now.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};

use super::feed_set::FeedSet;

/// Replaced by the control plane, read by every worker; nobody waits for anybody.
#[derive(Debug, Default)]
pub struct Shared {
    feeds: ArcSwap<FeedSet>,
    passes_all: AtomicBool,
}

impl Shared {
    pub fn feeds(&self) -> Guard<Arc<FeedSet>> {
        self.feeds.load()
    }

    pub fn replace_feeds(&self, feeds: FeedSet) {
        self.feeds.store(Arc::new(feeds));
    }

    /// Whether bans and feeds refuse nobody for now.
    pub fn passes_all(&self) -> bool {
        self.passes_all.load(Ordering::Relaxed)
    }

    pub fn pass_all(&self, passes: bool) {
        self.passes_all.store(passes, Ordering::Relaxed);
    }
}
