//! What must be confirmed, or else is undone: bans that an operator is not sure to survive.
//!
//! Until its confirmation such a ban is one of a short time, in both planes and on disk: it ends by
//! itself, whatever becomes of this process.

use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::ban::keeper::{BanReport, KeeperError};
use crate::clock::Monotonic;
use crate::control::daemon::Control;

/// Bans that may wait for their confirmation.
const WAITING_MAX: usize = 64;
/// Longest time to confirm anything in.
pub const WITHIN_MAX: Duration = Duration::from_hours(1);

/// A ban as it was meant.
#[derive(Clone, Debug)]
struct Meant {
    target: IpNet,
    /// None without end.
    duration: Option<Duration>,
    reason: String,
    since: Monotonic,
    until: Monotonic,
}

/// The bans that wait for their confirmation.
#[derive(Debug, Default)]
pub struct Unconfirmed(Vec<Meant>);

/// Why a ban cannot wait for its confirmation.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmationError {
    #[error("{target} is banned already, and lifting that is not what a lapse would do")]
    Banned { target: IpNet },
    #[error("expected at most {WAITING_MAX} bans to confirm, and there are as many")]
    Full,
    #[error(transparent)]
    Keeper(#[from] KeeperError),
}

/// Bans for as long as the confirmation may take; what was meant is kept for it.
pub async fn ban(
    control: &Control,
    target: IpNet,
    duration: Option<Duration>,
    reason: String,
    within: Duration,
) -> Result<BanReport, ConfirmationError> {
    if control.keeper.find(target).await?.is_some() {
        return Err(ConfirmationError::Banned { target });
    }
    let now = Monotonic::now();
    if control.unconfirmed.borrow().0.len() >= WAITING_MAX {
        return Err(ConfirmationError::Full);
    }
    let first = duration.map_or(within, |duration| duration.min(within));
    let made = control.keeper.add(target, Some(first), reason.clone()).await?;
    let meant = Meant { target, duration, reason, since: now, until: now.after(first) };
    control.unconfirmed.borrow_mut().0.push(meant);
    Ok(made)
}

/// Whether something is undone unless it is confirmed.
pub fn is_awaited(control: &Control) -> bool {
    let now = Monotonic::now();
    control.generations.borrow().unconfirmed(now).is_some()
        || control.unconfirmed.borrow().0.iter().any(|meant| meant.until > now)
}

/// `firewall confirm`: generation and bans stay. Gives what was confirmed.
pub async fn confirm(control: &Control) -> Result<Value, KeeperError> {
    let generation = {
        let mut generations = control.generations.borrow_mut();
        let number = generations.current().ruleset.generation;
        generations.confirm().then_some(number)
    };
    let waiting = std::mem::take(&mut control.unconfirmed.borrow_mut().0);
    let now = Monotonic::now();
    let mut bans = Vec::new();
    for ban in waiting {
        // What has ended meanwhile, or was lifted, is not made anew.
        if ban.until <= now || control.keeper.find(ban.target).await?.is_none() {
            continue;
        }
        let left = ban.duration.map(|duration| duration.saturating_sub(now.since(ban.since)));
        if left.is_none_or(|left| left >= Duration::from_secs(1)) {
            control.keeper.add(ban.target, left, ban.reason).await?;
        }
        bans.push(ban.target);
    }
    tracing::info!(generation, bans = bans.len(), "confirmed");
    Ok(json!({ "generation": generation, "bans": bans }))
}

/// Undoes what nobody has confirmed in time; called a few times a second.
pub fn tend(control: &Control) {
    let now = Monotonic::now();
    control.unconfirmed.borrow_mut().0.retain(|ban| {
        let is_over = ban.until <= now;
        if is_over {
            tracing::warn!(banned = %ban.target, "not confirmed: the ban has ended");
        }
        !is_over
    });
    let returned = control.generations.borrow_mut().tend(now).cloned();
    if let Some(generation) = returned {
        let number = generation.ruleset.generation;
        tracing::warn!(generation = number, "not confirmed: the generation before is in force");
        control.metrics.generation.set(i64::try_from(number).unwrap_or(i64::MAX));
        control.metrics.reloads.with_label_values(&["returned"]).inc();
        control.metrics.last_reload_successful.set(0);
        let settings = &generation.settings;
        control.feeds.configure(&settings.feeds);
        let mut enforcement = control.enforcement.borrow_mut();
        enforcement.limit(settings);
        if let Err(error) = enforcement.configure_checks(&settings.kernel_checks) {
            tracing::error!(error, "the checks of the generation before are not in force");
        }
    }
}

/// For `status`: the seconds left to confirm a generation, and the bans that wait.
pub fn report(control: &Control) -> Value {
    let left = control.generations.borrow().unconfirmed(Monotonic::now());
    let bans: Vec<IpNet> = control.unconfirmed.borrow().0.iter().map(|ban| ban.target).collect();
    json!({ "generation_seconds": left.map(|left| left.as_secs()), "bans": bans })
}
