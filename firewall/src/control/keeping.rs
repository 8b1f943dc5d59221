//! The keepers of bans, of feeds and of upstreams as the settings want them.

use std::sync::Arc;

use anyhow::Context as _;

use crate::ban::evidence::may_ban;
use crate::ban::exempt::Exempt;
use crate::ban::keeper::{Keeper, KeeperHandle, KeeperSettings};
use crate::ban::ledger::Capacity;
use crate::ban::shared::Shared;
use crate::ban::standing::StandingRules;
use crate::ban::store::Store;
use crate::clock::Moment;
use crate::control::kernel_plane::KernelPlane;
use crate::control::settings::Settings;
use crate::feeds::{Feeds, FeedsEnvironment, FeedsHandle};
use crate::metrics::Metrics;
use crate::pipeline::ruleset::Ruleset;
use crate::upstream::keeper::Upstreams;

/// Makes the keeper, with the bans that state file and kernel still hold.
pub fn start(
    settings: &Settings,
    plane: Option<KernelPlane>,
) -> anyhow::Result<(Keeper<KernelPlane>, KeeperHandle)> {
    let keeper_settings = KeeperSettings {
        mode: settings.bans.mode,
        threshold: settings.threshold.clone(),
        exempt: Arc::new(settings.exempt().collect::<Exempt>()),
        capacity: Capacity { bans: settings.bans.capacity, ..Capacity::default() },
        aggregation: settings.bans.aggregate,
        patience: settings.bans.patience.0,
        standing: StandingRules {
            requests: settings.standing.requests,
            age: settings.standing.age.0,
            decay: settings.standing.decay.0,
        },
        may_ban,
    };
    let state = if let Some(directory) = &settings.state_dir {
        let context = || format!("state directory {}", directory.display());
        std::fs::create_dir_all(directory).with_context(context)?;
        Some(Store::open(directory).with_context(context)?)
    } else {
        tracing::warn!("no state directory: bans are lost on exit, but for the kernel's");
        None
    };
    Ok(Keeper::new(keeper_settings, state, plane, Moment::now()))
}

/// Starts the keeper of the upstreams, and waits until it has found the first ones' addresses.
pub async fn upstreams(upstreams: &Upstreams, ruleset: &Ruleset) {
    drop(tokio::task::spawn_local(upstreams.clone().run()));
    upstreams.settled(ruleset.apis.iter().map(|api| &api.upstream)).await;
}

/// Makes the keeper of the feeds, with the last good copies in force.
pub async fn feeds(
    settings: &Settings,
    plane: Option<KernelPlane>,
    shared: &Arc<Shared>,
    metrics: &Arc<Metrics>,
) -> (Feeds<KernelPlane>, FeedsHandle) {
    let environment = FeedsEnvironment {
        directory: settings.state_dir.as_ref().map(|directory| directory.join("feeds")),
        exempt: Arc::new(settings.exempt().collect()),
    };
    let feeds = Arc::clone(&settings.feeds);
    Feeds::start(environment, feeds, plane, Arc::clone(shared), Arc::clone(metrics)).await
}
