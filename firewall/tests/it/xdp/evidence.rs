//! A flood in anybody's name through the kernel's program and the keeper: nobody is banned by it.

use std::sync::Arc;
use std::time::Duration;

use firewall::address::{ClientAddr, PeerAddr};
use firewall::ban::evidence::may_ban;
use firewall::ban::exempt::Exempt;
use firewall::ban::keeper::{Keeper, KeeperSettings};
use firewall::clock::{Moment, Monotonic};
use firewall::control::enforcement::heed;
use firewall::control::kernel_plane::KernelPlane;
use firewall::kernel::{DropEvent, Evidence, Reason};
use firewall::violation::Offence;
use firewall_ebpf::cases;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

use super::start;
use super::verdict::unpinned;

/// Runs of each frame: tens of thousands of packets in all.
const ROUNDS: u32 = 150;

/// What the program sends up of a flood of every frame that there is a case of, and how many of the
/// packets its checks dropped.
fn flood(test: &str) -> Option<(Vec<DropEvent>, u64)> {
    let mut kernel = start(test, &unpinned())?;
    kernel.serve(&[cases::SERVED], false).unwrap();
    kernel.capture(Reason::ALL).unwrap();
    let mut events = kernel.events().unwrap();
    for case in cases::all() {
        kernel.probe(&case.frame, ROUNDS).unwrap();
    }
    let counters = kernel.counters().unwrap();
    let checks = Reason::ALL.iter().filter(|reason| reason.is_check());
    let dropped = checks.map(|reason| counters.acted(*reason).packets).sum();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut seen = Vec::new();
    runtime.block_on(async {
        let quiet = Duration::from_millis(200);
        while let Ok(batch) = tokio::time::timeout(quiet, events.next()).await {
            seen.extend(batch.unwrap());
        }
    });
    Some((seen, dropped))
}

/// The bans that the events lead to, where this evidence may ban.
fn bans_after(events: &[DropEvent], may_ban: fn(Evidence) -> bool) -> usize {
    let settings =
        KeeperSettings { may_ban, exempt: Arc::<Exempt>::default(), ..KeeperSettings::default() };
    let (keeper, handle) = Keeper::<KernelPlane>::new(settings, None, None, Moment::now());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listing = async {
        let (stop, stopped) = oneshot::channel::<()>();
        let keeping = spawn_local(keeper.run(async { drop(stopped.await) }));
        for event in events.iter().cycle().take(2_000) {
            heed(&handle, Reason::try_from(event.reason).unwrap(), event);
        }
        let victim = ClientAddr(cases::CLEAN4.into());
        let is_suspected = handle.suspicion().holds(victim, Monotonic::coarse());
        assert_eq!(is_suspected, !may_ban(Evidence::Spoofable), "suspected instead of banned");
        // Judged behind all signals, which it must wait for.
        let last = "192.0.2.250".parse().unwrap();
        handle.offend(ClientAddr(last), PeerAddr(last), Offence::Body, "body.schema").await;
        let bans = handle.list(None, 1_000).await.unwrap().bans.len();
        stop.send(()).unwrap();
        keeping.await.unwrap();
        bans
    };
    runtime.block_on(LocalSet::new().run_until(listing))
}

#[test]
fn a_flood_in_anybodys_name_bans_nobody() {
    const TEST: &str = "a_flood_in_anybodys_name_bans_nobody";
    let Some((events, dropped)) = flood(TEST) else { return };
    assert!(dropped > 10_000, "{dropped} packets dropped are no flood");
    assert!(events.len() > 100, "{} samples of {dropped}", events.len());
    assert_eq!(bans_after(&events, may_ban), 0);
    // The same flood, were the rule turned round: the assertion above is one that can fail.
    assert!(bans_after(&events, |_| true) > 0);
}
