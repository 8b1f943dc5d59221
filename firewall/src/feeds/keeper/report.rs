//! What an operator is told of a feed.

use std::net::IpAddr;

use serde::Serialize;

use super::Feed;
use crate::clock::Wall;

/// One feed, as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeedReport {
    pub name: String,
    pub origin: String,
    /// `drop` or `observe`.
    pub action: &'static str,
    /// Prefixes in force.
    pub entries: usize,
    pub entries_v6: usize,
    /// Entries of the feed that are not enforced because they are too wide.
    pub too_wide: usize,
    /// Lines that could not be read.
    pub broken: usize,
    /// When the origin last said so; none while nothing is in force.
    pub since: Option<String>,
    pub age_seconds: Option<u64>,
    /// Whether the kernel drops who is listed.
    pub in_kernel: bool,
    /// Why the last attempt changed nothing, if it failed.
    pub problem: Option<String>,
    pub kernel_problem: Option<String>,
    /// What waits for `firewall feed accept`.
    pub held: Option<String>,
}

impl FeedReport {
    pub(super) fn new(feed: &Feed, has_kernel: bool, now: Wall) -> Self {
        let current = feed.current.as_ref();
        let screened = current.map(|current| &current.screened);
        let count = |is_meant: fn(IpAddr) -> bool| {
            let prefixes = screened.into_iter().flat_map(|screened| &screened.prefixes);
            prefixes.filter(|prefix| is_meant(prefix.addr())).count()
        };
        Self {
            name: feed.settings.name.to_string(),
            origin: feed.settings.origin.to_string(),
            action: if feed.settings.is_observed { "observe" } else { "drop" },
            entries: count(|_| true),
            entries_v6: count(|address| address.is_ipv6()),
            too_wide: screened.map_or(0, |screened| screened.too_wide),
            broken: screened.map_or(0, |screened| screened.broken),
            since: current.map(|current| current.since.to_string()),
            age_seconds: current.map(|current| now.since(current.since).as_secs()),
            in_kernel: has_kernel
                && !feed.settings.is_observed
                && current.is_some()
                && feed.kernel_problem.is_none(),
            problem: feed.problem.clone(),
            kernel_problem: feed.kernel_problem.clone(),
            held: feed.held.as_ref().map(|(_, surprise)| surprise.to_string()),
        }
    }
}
