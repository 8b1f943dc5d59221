//! What the keeper tells operators: bans with dates instead of deadlines.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::ban::record::{Ban, Origin};
use crate::clock::Moment;

/// One ban as the admin API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BanReport {
    pub target: IpNet,
    pub origin: Origin,
    pub reason: Box<str>,
    /// The identifier of the rule whose violation reached the threshold.
    pub rule: Option<String>,
    /// RFC 3339, UTC.
    pub since: String,
    /// RFC 3339, UTC; none for a ban without end.
    pub until: Option<String>,
    /// Whole seconds, rounded up; none for a ban without end.
    pub remaining_seconds: Option<u64>,
    /// Packets that the kernel dropped for it.
    pub drops: u64,
    /// How many automatic bans the source had before.
    pub step: u8,
    /// The planes that hold it now: `kernel`, `proxy`.
    pub planes: &'static [&'static str],
    /// Listed, but not enforced.
    pub observed: bool,
    /// How many bans of sources within it it took the place of; none unless it is an aggregate.
    pub joined: Option<u32>,
}

impl BanReport {
    pub(super) fn new(
        ban: &Ban,
        planes: &'static [&'static str],
        observed: bool,
        at: &Moment,
    ) -> Self {
        let until = at.wall_of(ban.until);
        let remaining = ban.remaining(at.monotonic);
        let seconds = remaining.as_secs() + u64::from(remaining.subsec_nanos() > 0);
        Self {
            target: ban.target,
            origin: ban.origin,
            reason: ban.reason.clone(),
            rule: ban.rule.as_deref().map(str::to_owned),
            since: at.wall_of(ban.since).unwrap_or(at.wall).to_string(),
            until: until.map(|until| until.to_string()),
            remaining_seconds: until.map(|_| seconds),
            drops: ban.drops.total(),
            step: ban.step,
            planes,
            observed,
            joined: (ban.joined > 0).then_some(ban.joined),
        }
    }
}

/// Some of the bans, in the order of targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BanPage {
    /// How many bans there are in all.
    pub total: usize,
    pub bans: Vec<BanReport>,
    /// Where the next page begins: behind this target; none on the last page.
    pub next: Option<IpNet>,
}

/// What would happen to an address now, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub address: IpAddr,
    /// Never banned: loopback, the host's own, a trusted proxy or of the management allowlist.
    pub exempt: bool,
    /// The most specific ban that covers it.
    pub ban: Option<BanReport>,
    /// What is scored and would be banned: the address, or its /64.
    pub source: IpNet,
    pub score: u32,
    /// The score at which it would be banned.
    pub threshold: u32,
    /// How many automatic bans it has had.
    pub step: u8,
    /// How long the next would be, in seconds.
    pub next_ban_seconds: u64,
    /// Under pressure it passes where strangers are shed.
    pub in_good_standing: bool,
    /// Requests that kept the contract, less what is forgotten.
    pub conforming_requests: u64,
}
