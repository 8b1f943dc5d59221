//! What packets may be sent, and when new connections are shed, as the settings have it.

use std::time::Duration;

use ipnet::IpNet;

use super::SettingsError;
use crate::control::config::{Budgets, Kernel, Pressure, Probation, Rate, StalePolicy};
use crate::kernel::{Budget, Budgeted, Limits, ProbationRules};

/// Networks that the kernel's table has room for.
pub(super) const MULTIPLIERS: usize = 1_024;
/// No interface receives more packets in a second.
const RATE_MAX: usize = 1_000_000_000;

/// The limits that the kernel is told.
pub(super) fn limits(budgets: &Budgets) -> Result<Limits, SettingsError> {
    if budgets.cgnat.len() > MULTIPLIERS {
        return Err(SettingsError::Multipliers { found: budgets.cgnat.len() });
    }
    let is_long = |network: &&IpNet| network.addr().is_ipv6() && network.prefix_len() > 64;
    if let Some(&network) = budgets.cgnat.keys().find(is_long) {
        return Err(SettingsError::LongMultiplier { network });
    }
    let limits = rates(budgets)
        .map(|(budgeted, _, Rate { rate, burst })| (budgeted, Budget::per_second(rate, burst)));
    Ok(Limits {
        budgets: limits.to_vec(),
        multipliers: budgets.cgnat.iter().map(|(net, times)| (net.trunc(), *times)).collect(),
    })
}

fn rates(budgets: &Budgets) -> [(Budgeted, &'static str, Rate); 6] {
    [
        (Budgeted::Syn, "kernel.budgets.syn", budgets.syn),
        (Budgeted::Udp, "kernel.budgets.udp", budgets.udp),
        (Budgeted::Echo, "kernel.budgets.echo", budgets.echo),
        (Budgeted::Packets, "kernel.budgets.packets", budgets.packets),
        (Budgeted::EveryEcho, "kernel.budgets.every_echo", budgets.every_echo),
        (Budgeted::EveryError, "kernel.budgets.every_error", budgets.every_error),
    ]
}

fn is_share(share: f64) -> bool {
    (0.0..=1.0).contains(&share)
}

/// What of the shares cannot be meant.
pub(super) fn shares(probation: &Probation) -> Vec<SettingsError> {
    let Probation { given_up, passing, .. } = *probation;
    [("given_up", given_up), ("passing", passing)]
        .into_iter()
        .filter(|(_, share)| !is_share(*share))
        .map(|(key, _)| SettingsError::Share { key })
        .collect()
}

/// What of the levels cannot be meant.
pub(super) fn levels(pressure: &Pressure) -> Vec<SettingsError> {
    let Pressure { seats, lag, overflows, shed, .. } = pressure;
    [
        (
            "seats",
            "three shares from 0 to 1 that rise",
            seats.is_sorted() && seats.iter().copied().all(is_share),
        ),
        (
            "shed",
            "three shares from 0 to 1 that rise",
            shed.is_sorted() && shed.iter().copied().all(is_share),
        ),
        ("lag", "three durations that rise", lag.is_sorted_by_key(|span| span.0)),
        ("overflows", "three numbers that rise", overflows.is_sorted()),
    ]
    .into_iter()
    .filter(|(.., is_sound)| !is_sound)
    .map(|(key, expected, _)| SettingsError::Levels { key, expected })
    .collect()
}

/// A number, what it is to be, and its bounds.
type Bound = (&'static str, &'static str, usize, usize, usize);

/// A daemon that is busy for less is not gone.
const STALE_AFTER_MIN_S: usize = 10;

/// How long the kernel program goes on dropping without us; none: for ever.
pub(super) fn stale_after(kernel: &Kernel) -> Option<Duration> {
    match kernel.stale_policy {
        StalePolicy::Keep => None,
        StalePolicy::Observe => Some(kernel.stale_after.0),
    }
}

/// What the kernel's half goes by.
pub(super) fn probation(probation: &Probation) -> ProbationRules {
    let Probation { time, packets, given_up, passing } = *probation;
    ProbationRules { time: time.0, packets: packets.into(), given_up, passing }
}

/// Rates, bursts, multiples and times, and their bounds.
pub(super) fn bounds(kernel: &Kernel) -> Vec<Bound> {
    let (budgets, most) = (&kernel.budgets, usize::MAX);
    let stale_after = usize::try_from(kernel.stale_after.0.as_secs()).unwrap_or(most);
    let packets = kernel.probation.packets as usize;
    let mut bounds = vec![
        ("kernel.stale_after", "at least 10s", stale_after, STALE_AFTER_MIN_S, most),
        ("kernel.probation.packets", "at least 1", packets, 1, most),
    ];
    for (_, key, Rate { rate, burst }) in rates(budgets) {
        bounds.push((key, "a rate of 1 to 1000000000", rate as usize, 1, RATE_MAX));
        bounds.push((key, "a burst of 1 to 1000000000", burst as usize, 1, RATE_MAX));
    }
    for times in budgets.cgnat.values() {
        bounds.push(("kernel.budgets.cgnat", "1 to 1000000", *times as usize, 1, 1_000_000));
    }
    bounds
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use crate::control::config::ConfigFile;
    use crate::control::settings::Settings;
    use crate::control::settings::tests::{SOUND, problems};

    #[test]
    fn budgets_and_levels_at_their_bounds() {
        for (accepted, refused, part) in [
            (
                "[kernel.budgets]\nsyn = { rate = 1, burst = 1 }\n",
                "[kernel.budgets]\nsyn = { rate = 0, burst = 1 }\n",
                "kernel.budgets.syn",
            ),
            (
                "[kernel.budgets]\nudp = { rate = 1000000000, burst = 1000000000 }\n",
                "[kernel.budgets]\nudp = { rate = 1, burst = 1000000001 }\n",
                "kernel.budgets.udp",
            ),
            (
                "[kernel.budgets.cgnat]\n\"2001:db8::/64\" = 1\n",
                "[kernel.budgets.cgnat]\n\"2001:db8::/65\" = 1\n",
                "no longer prefix than a /64",
            ),
            (
                "[kernel.budgets.cgnat]\n\"192.0.2.0/32\" = 1000000\n",
                "[kernel.budgets.cgnat]\n\"192.0.2.0/32\" = 0\n",
                "kernel.budgets.cgnat",
            ),
            (
                "[kernel.pressure]\nshed = [0.0, 0.5, 1.0]\n",
                "[kernel.pressure]\nshed = [0.0, 0.5, 1.1]\n",
                "kernel.pressure.shed",
            ),
            (
                "[kernel.pressure]\nlag = [\"1s\", \"1s\", \"2s\"]\n",
                "[kernel.pressure]\nlag = [\"2s\", \"1s\", \"2s\"]\n",
                "kernel.pressure.lag",
            ),
            (
                "[kernel.standing]\nrequests = 1\n",
                "[kernel.standing]\nrequests = 0\n",
                "kernel.standing.requests",
            ),
            (
                "[kernel]\nstale_policy = \"observe\"\nstale_after = \"10s\"\n",
                "[kernel]\nstale_policy = \"observe\"\nstale_after = \"9s 999ms\"\n",
                "kernel.stale_after",
            ),
            (
                "[kernel.probation]\npackets = 1\ngiven_up = 0.0\npassing = 1.0\ntime = \"0s\"\n",
                "[kernel.probation]\npackets = 0\n",
                "kernel.probation.packets",
            ),
            (
                "[kernel.probation]\ngiven_up = 1.0\n",
                "[kernel.probation]\ngiven_up = 1.1\n",
                "kernel.probation.given_up",
            ),
            (
                "[kernel.probation]\npassing = 0.0\n",
                "[kernel.probation]\npassing = -0.1\n",
                "kernel.probation.passing",
            ),
        ] {
            assert_eq!(problems(&format!("{SOUND}{accepted}")), Vec::<String>::new(), "{accepted}");
            let found = problems(&format!("{SOUND}{refused}"));
            assert!(found.iter().any(|problem| problem.contains(part)), "{refused}: {found:?}");
        }
    }

    #[test]
    fn what_is_kept_never_goes_stale() {
        let stale_after = |text: &str| {
            let file = ConfigFile::parse(Path::new("f.toml"), &format!("{SOUND}{text}")).unwrap();
            Settings::of(file).unwrap().stale_after
        };
        assert_eq!(stale_after(""), None);
        assert_eq!(stale_after("[kernel]\nstale_after = \"1m\"\n"), None);
        let observed = "[kernel]\nstale_policy = \"observe\"\n";
        assert_eq!(stale_after(observed), Some(Duration::from_mins(5)));
        let minute = format!("{observed}stale_after = \"1m\"\n");
        assert_eq!(stale_after(&minute), Some(Duration::from_mins(1)));
    }

    #[test]
    fn a_budget_may_change_while_it_runs_and_the_levels_may_not() {
        let settings = |text: &str| {
            let file = ConfigFile::parse(Path::new("f.toml"), &format!("{SOUND}{text}")).unwrap();
            Settings::of(file).unwrap()
        };
        let plain = settings("");
        let budget = settings("[kernel.budgets]\nsyn = { rate = 1, burst = 1 }\n");
        assert!(plain.fixed_differences(&budget).is_empty());
        assert_ne!(plain.packets, budget.packets);
        let levels = settings("[kernel.pressure]\nsyns = 1\n");
        assert_eq!(plain.fixed_differences(&levels), ["kernel.pressure"]);
    }
}
