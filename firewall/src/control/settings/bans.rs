//! Who is banned, for how long, and how many at once, as the settings have it.

use std::time::Duration;

use super::SettingsError;
use crate::ban::aggregate::Aggregation;
use crate::ban::threshold::{Ladder, Threshold};
use crate::control::config::Bans;

/// Bans that the kernel's records have room for.
const BANS_MAX: usize = 1_000_000;

/// The numbers, each with what it may be: key, words, found, least, most.
pub(super) fn bounds(bans: &Bans) -> Vec<(&'static str, &'static str, usize, usize, usize)> {
    let most = usize::MAX;
    let leak_ms = usize::try_from(bans.leak_interval.0.as_millis()).unwrap_or(most);
    let Aggregation { ipv4, ipv6, watermark, crowded } = bans.aggregate;
    let mut bounds = vec![
        ("bans.threshold", "at least 1", bans.threshold as usize, 1, most),
        ("bans.leak_interval", "at least 1 ms", leak_ms, 1, most),
        ("bans.capacity", "1000 to 1000000", bans.capacity, 1_000, BANS_MAX),
        ("bans.aggregate.watermark", "1 to 100", watermark.into(), 1, 100),
    ];
    for (key, neighbours) in [
        ("bans.aggregate.ipv4", ipv4),
        ("bans.aggregate.ipv6", ipv6),
        ("bans.aggregate.crowded", crowded),
    ] {
        // One ban has no neighbour.
        let least = if neighbours == 0 { 0 } else { 2 };
        bounds.push((key, "0, or 2 to 256", neighbours as usize, least, 256));
    }
    bounds
}

pub(super) fn threshold(bans: &Bans) -> Result<Threshold, SettingsError> {
    let rungs: Vec<Duration> = bans.durations.iter().map(|rung| rung.0).collect();
    let ladder = Ladder::try_from(rungs).map_err(|source| SettingsError::Durations { source })?;
    Ok(Threshold {
        capacity: bans.threshold,
        leak_interval: bans.leak_interval.0,
        weights: bans.weights,
        ladder,
        forgive_after: bans.forgive_after.0,
        release_after: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_their_ends() {
        let refused = |change: fn(&mut Bans)| -> Vec<&'static str> {
            let mut bans = Bans::default();
            change(&mut bans);
            let out = |&(_, _, found, least, most): &(_, _, usize, usize, usize)| {
                !(least..=most).contains(&found)
            };
            bounds(&bans).into_iter().filter(out).map(|(key, ..)| key).collect()
        };
        let none: [&str; 0] = [];
        assert_eq!(refused(|_| {}), none);
        assert_eq!(refused(|bans| bans.capacity = 999), ["bans.capacity"]);
        assert_eq!(refused(|bans| bans.capacity = 1_000), none);
        assert_eq!(refused(|bans| bans.capacity = 1_000_000), none);
        assert_eq!(refused(|bans| bans.capacity = 1_000_001), ["bans.capacity"]);
        assert_eq!(refused(|bans| bans.aggregate.watermark = 0), ["bans.aggregate.watermark"]);
        assert_eq!(refused(|bans| bans.aggregate.watermark = 101), ["bans.aggregate.watermark"]);
        assert_eq!(refused(|bans| bans.aggregate.ipv4 = 0), none);
        assert_eq!(refused(|bans| bans.aggregate.ipv4 = 1), ["bans.aggregate.ipv4"]);
        assert_eq!(refused(|bans| bans.aggregate.ipv6 = 2), none);
        assert_eq!(refused(|bans| bans.aggregate.ipv6 = 256), none);
        assert_eq!(refused(|bans| bans.aggregate.crowded = 257), ["bans.aggregate.crowded"]);
        assert_eq!(refused(|bans| bans.threshold = 0), ["bans.threshold"]);
    }
}
