//! The keeper with a real state file, and a table in memory in the kernel's place.

mod conduct;
mod evidence;
mod orders;
mod restored;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, atomic::Ordering};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::address::PeerAddr;
use crate::ban::ledger::LedgerError;
use crate::ban::scratch::Scratch;
use crate::ban::store::FILE_NAME;
use crate::clock::Wall;
use crate::violation::Offence;

const HOUR: Duration = Duration::from_hours(1);
/// Longer than anything here takes on a busy machine; never waited out.
const DEADLINE: Duration = Duration::from_secs(20);

/// A ban table in memory that remembers what was done to it, and can be told to fail.
#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    entries: BTreeMap<IpNet, (Monotonic, u64)>,
    standing: BTreeSet<IpAddr>,
    writes: usize,
    is_broken: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the table is broken")]
struct Broken;

impl Recorder {
    fn with(entries: &[(&str, Monotonic, u64)]) -> Self {
        let entries = entries.iter().map(|&(target, until, drops)| (net(target), (until, drops)));
        let recorded = Recorded { entries: entries.collect(), ..Recorded::default() };
        Self(Arc::new(Mutex::new(recorded)))
    }

    fn until(&self, target: &str) -> Option<Monotonic> {
        self.0.lock().unwrap().entries.get(&net(target)).map(|entry| entry.0)
    }

    fn set_drops(&self, target: &str, drops: u64) {
        self.0.lock().unwrap().entries.get_mut(&net(target)).unwrap().1 = drops;
    }

    fn set_broken(&self, is_broken: bool) {
        self.0.lock().unwrap().is_broken = is_broken;
    }

    fn ask<T>(&self, answer: impl FnOnce(&mut Recorded) -> T) -> Result<T, Broken> {
        let mut recorded = self.0.lock().unwrap();
        if recorded.is_broken { Err(Broken) } else { Ok(answer(&mut recorded)) }
    }
}

impl Plane for Recorder {
    type Error = Broken;

    fn ban(&mut self, target: IpNet, until: Monotonic) -> Result<(), Broken> {
        self.ask(|table| {
            table.writes += 1;
            table.entries.entry(target).or_default().0 = until;
        })
    }

    fn unban(&mut self, target: IpNet) -> Result<bool, Broken> {
        self.ask(|table| table.entries.remove(&target).is_some())
    }

    fn drops(&self, target: IpNet) -> Result<Option<u64>, Broken> {
        self.ask(|table| table.entries.get(&target).map(|entry| entry.1))
    }

    fn stand(&mut self, source: IpAddr) -> Result<(), Broken> {
        self.ask(|table| assert!(table.standing.insert(source)))
    }

    fn fall(&mut self, source: IpAddr) -> Result<(), Broken> {
        self.ask(|table| table.standing.retain(|held| *held != source))
    }

    fn held(&self) -> Result<Vec<Held>, Broken> {
        let held = |(&target, &(until, drops)): (&_, &_)| Held { target, until, drops };
        self.ask(|table| table.entries.iter().map(held).collect())
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn client(text: &str) -> (ClientAddr, PeerAddr) {
    let address = text.parse().unwrap();
    (ClientAddr(address), PeerAddr::new(address))
}

fn settings(mode: BanMode) -> KeeperSettings {
    // A busy machine must not make refusals late but in the test that is about it.
    KeeperSettings { mode, patience: DEADLINE, ..KeeperSettings::default() }
}

fn memory(mode: BanMode, plane: &Recorder) -> (Keeper<Recorder>, KeeperHandle) {
    Keeper::new(settings(mode), None, Some(plane.clone()), Moment::now())
}

fn durable(scratch: &Scratch, plane: &Recorder) -> (Keeper<Recorder>, KeeperHandle) {
    let state = Store::open(scratch.path()).unwrap();
    Keeper::new(settings(BanMode::Enforce), Some(state), Some(plane.clone()), Moment::now())
}

/// A keeper that runs until told to stop.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn run(keeper: Keeper<Recorder>) -> Running {
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(keeper.run(async { stopped.await.unwrap() }));
    Running { stop, task }
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

async fn offend(handle: &KeeperHandle, address: &str, offence: Offence) -> Consequence {
    let (client, peer) = client(address);
    handle.offend(client, peer, offence, "framing.host").await
}

/// Two framing offences reach the threshold.
async fn get_banned(handle: &KeeperHandle, address: &str) -> Consequence {
    assert_eq!(offend(handle, address, Offence::Framing).await, Consequence::Noted);
    offend(handle, address, Offence::Framing).await
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}: not within {DEADLINE:?}");
}

/// What a process would find if this one were killed now: a copy of the file as it is.
fn on_disk(scratch: &Scratch) -> Vec<IpNet> {
    let copy = Scratch::new();
    std::fs::copy(scratch.path().join(FILE_NAME), copy.path().join(FILE_NAME)).unwrap();
    stored(copy.path())
}

fn stored(directory: &Path) -> Vec<IpNet> {
    let (_, loaded) = Store::open(directory).unwrap();
    loaded.bans.into_iter().map(|(target, _)| target).collect()
}

fn is_banned(view: &BanView, address: &str) -> bool {
    view.is_banned(address.parse().unwrap(), Monotonic::now).is_some()
}

/// The second of the offences that ban, already sent.
async fn accused(handle: &KeeperHandle) -> JoinHandle<Consequence> {
    assert_eq!(offend(handle, "192.0.2.7", Offence::Framing).await, Consequence::Noted);
    let handle = handle.clone();
    tokio::spawn(async move { offend(&handle, "192.0.2.7", Offence::Framing).await })
}

#[tokio::test]
async fn a_ban_is_acknowledged_only_when_the_kernel_and_every_view_hold_it() {
    let plane = Recorder::default();
    let (mut keeper, handle) = memory(BanMode::Enforce, &plane);
    let (mut first, mut first_link) = keeper.worker();
    let (mut second, mut second_link) = keeper.worker();
    let running = run(keeper);

    let offender = accused(&handle).await;
    let update = first_link.next().await.unwrap();
    // Who sees the change sees it after the kernel does.
    assert!(plane.until("192.0.2.7/32").is_some());
    assert_eq!(update.apply(&mut first), Unwelcome::Within(net("192.0.2.7/32")));
    assert!(is_banned(&first, "192.0.2.7"));
    let update = second_link.next().await.unwrap();
    tokio::task::yield_now().await;
    assert!(!offender.is_finished(), "the second worker's view does not hold the ban yet");
    update.apply(&mut second);
    assert_eq!(offender.await.unwrap(), Consequence::Banned(net("192.0.2.7/32")));
    assert_eq!(handle.stats().banned.load(Ordering::Relaxed), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_worker_that_does_not_listen_delays_a_refusal_by_a_bounded_time() {
    let plane = Recorder::default();
    let impatient = KeeperSettings::default();
    let (mut keeper, mut handle) = Keeper::new(impatient, None, Some(plane.clone()), Moment::now());
    let (_view, link) = keeper.worker();
    let running = run(keeper);
    let began = Monotonic::now();
    assert_eq!(get_banned(&handle, "192.0.2.7").await, Consequence::Unsettled);
    assert!(Monotonic::now().since(began) >= OFFENCE_PATIENCE);
    assert!(plane.until("192.0.2.7/32").is_some());
    assert_eq!(handle.stats().offences_late.load(Ordering::Relaxed), 1);
    // One that has gone is not waited for.
    drop(link);
    handle.patience = DEADLINE;
    assert_eq!(get_banned(&handle, "192.0.2.8").await, Consequence::Banned(net("192.0.2.8/32")));
    running.stop().await;
}

#[tokio::test]
async fn a_full_queue_is_counted_and_not_waited_for() {
    let (keeper, handle) = memory(BanMode::Enforce, &Recorder::default());
    let (client, peer) = client("192.0.2.7");
    for _ in 0..OFFENCES_MAX {
        let (reply, _) = oneshot::channel();
        let offence = Offence::Body;
        let accusation = Accusation { client, peer, offence, rule: "body.schema", reply };
        handle.accusations.try_send(accusation).unwrap();
    }
    let unsettled = Consequence::Unsettled;
    assert_eq!(offend(&handle, "192.0.2.7", Offence::Body).await, unsettled);
    assert_eq!(handle.stats().offences_dropped.load(Ordering::Relaxed), 1);
    // With the keeper gone it is the same.
    drop(keeper);
    assert_eq!(offend(&handle, "192.0.2.7", Offence::Body).await, unsettled);
    assert_eq!(handle.stats().offences_dropped.load(Ordering::Relaxed), 2);
    assert_eq!(handle.list(None, 1).await, Err(KeeperError::Ended));
}

#[tokio::test]
async fn a_worker_far_behind_is_sent_the_whole_table() {
    let (mut keeper, handle) = memory(BanMode::Enforce, &Recorder::default());
    let (mut view, mut link) = keeper.worker();
    let total = u32::try_from(LINK_CAPACITY).unwrap() + 50;
    let at = Moment::now();
    for host in 0..total {
        let target = IpNet::from(IpAddr::V4((0x0a00_0000 + host).into()));
        let changes = keeper.ledger.add(target, Some(HOUR), String::new(), at.monotonic).unwrap();
        keeper.apply(&changes, &at, None);
    }
    let change = keeper.ledger.remove(net("10.0.0.1/32"), at.monotonic).unwrap();
    keeper.apply(&change, &at, None);
    assert_eq!(handle.stats().worker_overflows.load(Ordering::Relaxed), 1);
    // No room yet, so nothing is sent; and what fits again later is not sent out of turn.
    keeper.tick(at);
    let mut updates = 0;
    while let Ok(update) = tokio::time::timeout(Duration::ZERO, link.next()).await {
        updates += 1;
        update.unwrap().apply(&mut view);
    }
    assert_eq!(updates, LINK_CAPACITY);
    assert!(is_banned(&view, "10.0.0.1"), "the lift is not known yet");
    keeper.tick(at);
    assert_eq!(link.next().await.unwrap().apply(&mut view), Unwelcome::Anyone);
    assert!(!is_banned(&view, "10.0.0.1"));
    for host in 2..total {
        assert!(view.is_banned(IpAddr::V4((0x0a00_0000 + host).into()), Monotonic::now).is_some());
    }
    // From then on single changes arrive again.
    let change = keeper.ledger.remove(net("10.0.0.2/32"), at.monotonic).unwrap();
    keeper.apply(&change, &at, None);
    assert_eq!(link.next().await.unwrap().apply(&mut view), Unwelcome::Nobody);
    assert!(!is_banned(&view, "10.0.0.2"));
}

#[tokio::test]
async fn exempt_sources_are_counted_and_never_scored() {
    let plane = Recorder::default();
    let (keeper, handle) = memory(BanMode::Enforce, &plane);
    let running = run(keeper);
    for _ in 0..10 {
        assert_eq!(offend(&handle, "127.0.0.1", Offence::Framing).await, Consequence::Noted);
    }
    assert_eq!(handle.stats().offences_exempt.load(Ordering::Relaxed), 10);
    let explained = handle.explain("127.0.0.1".parse().unwrap()).await.unwrap();
    assert_eq!((explained.exempt, explained.score, explained.ban), (true, 0, None));
    let refused = handle.add(net("127.0.0.1/32"), None, String::new()).await;
    assert_eq!(refused, Err(LedgerError::Exempt { target: net("127.0.0.1/32") }.into()));
    assert!(plane.held().unwrap().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn an_operators_order_is_on_disk_when_it_is_answered() {
    let (scratch, plane) = (Scratch::new(), Recorder::default());
    let (keeper, handle) = durable(&scratch, &plane);
    assert_eq!(handle.stats().persistence(), Persistence::Durable);
    let running = run(keeper);
    let added = handle.add(net("192.0.2.0/24"), Some(HOUR), "mine".to_owned()).await.unwrap();
    assert_eq!(on_disk(&scratch), [net("192.0.2.0/24")]);
    assert_eq!(added.target, net("192.0.2.0/24"));
    assert_eq!((added.origin, &*added.reason, added.rule), (Origin::Operator, "mine", None));
    assert_eq!(added.remaining_seconds, Some(3600));
    assert_eq!((added.planes, added.observed), (&["kernel", "proxy"][..], false));
    assert!(plane.until("192.0.2.0/24").is_some());
    let removed = handle.remove(net("192.0.2.0/24")).await.unwrap();
    assert_eq!(removed.target, net("192.0.2.0/24"));
    assert_eq!(on_disk(&scratch), []);
    assert_eq!(plane.until("192.0.2.0/24"), None);
    let again = handle.remove(net("192.0.2.0/24")).await;
    let target = net("192.0.2.0/24");
    assert_eq!(again, Err(LedgerError::NotBanned { target, covering: None }.into()));
    running.stop().await;
}

#[tokio::test]
async fn an_automatic_ban_is_on_disk_without_being_waited_for() {
    let (scratch, plane) = (Scratch::new(), Recorder::default());
    let (keeper, handle) = durable(&scratch, &plane);
    let running = run(keeper);
    get_banned(&handle, "192.0.2.7").await;
    eventually("the ban is on disk", || on_disk(&scratch) == [net("192.0.2.7/32")]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_ends_and_steps() {
    let (scratch, plane) = (Scratch::new(), Recorder::default());
    let (keeper, handle) = durable(&scratch, &plane);
    let running = run(keeper);
    get_banned(&handle, "192.0.2.7").await;
    get_banned(&handle, "2001:db8::1").await;
    handle.remove(net("2001:db8::/64")).await.unwrap();
    handle.add(net("198.51.100.1/32"), None, "for good".to_owned()).await.unwrap();
    let before = handle.list(None, 10).await.unwrap();
    let end = plane.until("192.0.2.7/32").unwrap();
    running.stop().await;

    // The kernel has forgotten everything, as after a boot.
    let plane = Recorder::default();
    let (mut keeper, handle) = durable(&scratch, &plane);
    let (view, _link) = keeper.worker();
    assert!(is_banned(&view, "192.0.2.7") && is_banned(&view, "198.51.100.1"));
    let restored = plane.until("192.0.2.7/32").unwrap();
    let moved = restored.since(end).max(end.since(restored));
    assert!(moved < Duration::from_secs(1), "{moved:?}");
    assert_eq!(plane.until("198.51.100.1/32"), Some(Monotonic::NEVER));
    let running = run(keeper);
    let after = handle.list(None, 10).await.unwrap();
    assert_eq!((before.total, after.total), (2, 2));
    for (before, after) in before.bans.into_iter().zip(after.bans) {
        // Dates differ by the milliseconds that reading two clocks takes.
        let undated = |ban: BanReport| BanReport {
            since: String::new(),
            until: ban.until.map(|_| String::new()),
            remaining_seconds: None,
            ..ban
        };
        assert_eq!(undated(after), undated(before));
    }
    let explained = handle.explain("192.0.2.7".parse().unwrap()).await.unwrap();
    assert_eq!((explained.step, explained.next_ban_seconds), (1, 300));
    let forgiven = handle.explain("2001:db8::1".parse().unwrap()).await.unwrap();
    assert_eq!((forgiven.step, forgiven.next_ban_seconds), (0, 60));
    running.stop().await;
}

#[tokio::test]
async fn the_kernels_pinned_table_and_the_file_become_one() {
    let scratch = Scratch::new();
    let at = Moment::now();
    let hour = at.monotonic.after(HOUR);
    {
        let (keeper, handle) = durable(&scratch, &Recorder::default());
        let running = run(keeper);
        for target in ["192.0.2.1/32", "192.0.2.2/32"] {
            handle.add(net(target), Some(HOUR), "stored".to_owned()).await.unwrap();
        }
        get_banned(&handle, "192.0.2.3").await;
        running.stop().await;
    }
    // .1 was lost; .2 has counted; .3 was banned anew after the last commit; the others are strangers.
    let anew = at.monotonic.after(Duration::from_mins(30));
    let soon = at.monotonic.after(HOUR + Duration::from_millis(500));
    let plane = Recorder::with(&[
        ("192.0.2.2/32", soon, 17),
        ("192.0.2.3/32", anew, 4),
        ("192.0.2.4/32", hour, 5),
        ("192.0.2.5/32", at.monotonic, 5),
        ("192.0.2.6/32", Monotonic::NEVER, 5),
        ("127.0.0.1/32", hour, 5),
    ]);
    let (keeper, handle) = durable(&scratch, &plane);
    let running = run(keeper);
    let page = handle.list(None, 10).await.unwrap();
    let seen: Vec<_> =
        page.bans.iter().map(|ban| (ban.target.to_string(), ban.origin, ban.drops)).collect();
    let expected = [
        ("192.0.2.1/32", Origin::Operator, 0),
        ("192.0.2.2/32", Origin::Operator, 17),
        ("192.0.2.3/32", Origin::Automatic, 4),
        ("192.0.2.4/32", Origin::Kernel, 5),
        ("192.0.2.6/32", Origin::Kernel, 5),
    ];
    assert_eq!(seen, expected.map(|(target, origin, drops)| (target.to_owned(), origin, drops)));
    assert!(plane.until("192.0.2.1/32").is_some(), "what the kernel lost is written");
    assert_eq!(plane.until("192.0.2.2/32"), Some(soon), "what is right is left alone");
    assert_eq!(plane.until("192.0.2.3/32"), Some(anew));
    assert_eq!(plane.until("192.0.2.5/32"), None, "what has ended goes");
    assert_eq!(plane.until("127.0.0.1/32"), None, "what is exempt now goes");
    let adopted = page.bans.iter().find(|ban| ban.target == net("192.0.2.6/32")).unwrap();
    assert_eq!((&*adopted.reason, adopted.until.as_deref()), ("adopted", None));
    let writes = plane.0.lock().unwrap().writes;
    assert_eq!(writes, 1, "only the lost one is written");
    assert_eq!(handle.stats().bans_kernel.load(Ordering::Relaxed), 2);
    running.stop().await;
    assert_eq!(on_disk(&scratch).len(), 5);
}

#[tokio::test]
async fn observing_lists_and_scores_but_refuses_nobody() {
    let (scratch, plane) = (Scratch::new(), Recorder::default());
    let state = Store::open(scratch.path()).unwrap();
    let observe = settings(BanMode::Observe);
    let (mut keeper, handle) =
        Keeper::new(observe, Some(state), Some(plane.clone()), Moment::now());
    let (_, mut link) = keeper.worker();
    let running = run(keeper);
    assert_eq!(get_banned(&handle, "192.0.2.7").await, Consequence::Noted);
    let page = handle.list(None, 10).await.unwrap();
    assert_eq!((page.total, page.bans[0].observed), (1, true));
    assert_eq!(handle.stats().banned.load(Ordering::Relaxed), 1);
    running.stop().await;
    assert!(link.next().await.is_none(), "no view was told");

    // Enforcement does not begin with what was never announced.
    let (mut keeper, _) = durable(&scratch, &plane);
    let (view, _link) = keeper.worker();
    assert!(!is_banned(&view, "192.0.2.7"));
    assert_eq!(plane.until("192.0.2.7/32"), None);
    run(keeper).stop().await;
    assert_eq!(on_disk(&scratch), []);
}

#[tokio::test]
async fn switched_off_nothing_is_scored_and_nothing_is_lost() {
    let (scratch, plane) = (Scratch::new(), Recorder::default());
    let (keeper, handle) = durable(&scratch, &plane);
    let running = run(keeper);
    handle.add(net("192.0.2.7/32"), None, String::new()).await.unwrap();
    running.stop().await;

    let state = Store::open(scratch.path()).unwrap();
    let off = settings(BanMode::Off);
    let (mut keeper, handle) = Keeper::new(off, Some(state), Some(plane.clone()), Moment::now());
    let (view, _link) = keeper.worker();
    assert!(!is_banned(&view, "192.0.2.7"));
    let running = run(keeper);
    for _ in 0..5 {
        assert_eq!(offend(&handle, "192.0.2.8", Offence::Framing).await, Consequence::Noted);
    }
    assert_eq!(handle.list(None, 10).await, Err(KeeperError::Off));
    assert_eq!(handle.stats().offences.load(Ordering::Relaxed), 0);
    running.stop().await;
    assert_eq!(on_disk(&scratch), [net("192.0.2.7/32")]);
    assert!(plane.until("192.0.2.7/32").is_some());
}

#[tokio::test]
async fn a_broken_kernel_table_is_told_and_tried_again() {
    let plane = Recorder::default();
    let (mut keeper, handle) = memory(BanMode::Enforce, &plane);
    let (mut view, mut link) = keeper.worker();
    let at = Moment::now();
    let order = |keeper: &mut Keeper<Recorder>, order: fn(handle::Reply<BanReport>) -> Order| {
        let (reply, mut answer) = oneshot::channel();
        keeper.obey(order(reply), at);
        answer.try_recv().unwrap()
    };
    let add =
        |reply| Order::Add { target: net("192.0.2.7/32"), ttl: None, reason: String::new(), reply };
    let remove = |reply| Order::Remove { target: net("192.0.2.7/32"), reply };

    plane.set_broken(true);
    // The proxy enforces it all the same, and the report says where.
    assert_eq!(order(&mut keeper, add).unwrap().planes, ["proxy"]);
    link.next().await.unwrap().apply(&mut view);
    assert!(is_banned(&view, "192.0.2.7"));
    plane.set_broken(false);
    keeper.tick(at);
    assert_eq!(plane.until("192.0.2.7/32"), Some(Monotonic::NEVER));

    plane.set_broken(true);
    let kept = KeeperError::KernelKept { target: net("192.0.2.7/32") };
    assert_eq!(order(&mut keeper, remove), Err(kept));
    keeper.tick(at);
    plane.set_broken(false);
    keeper.tick(at);
    assert_eq!(plane.until("192.0.2.7/32"), None);
    assert!(handle.stats().kernel_errors.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn what_the_kernel_loses_is_written_again() {
    let plane = Recorder::default();
    let (mut keeper, handle) = memory(BanMode::Enforce, &plane);
    let at = Moment::now();
    for target in ["192.0.2.7/32", "192.0.2.8/32"] {
        let changes = keeper.ledger.add(net(target), None, String::new(), at.monotonic).unwrap();
        keeper.apply(&changes, &at, None);
    }
    plane.0.lock().unwrap().entries.clear();
    keeper.tick(at);
    assert!(plane.until("192.0.2.7/32").is_some() && plane.until("192.0.2.8/32").is_some());
    assert_eq!(handle.stats().reasserted.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_the_kernel_drops_extends_a_ban_in_neither_plane() {
    let plane = Recorder::default();
    let (mut keeper, _handle) = memory(BanMode::Enforce, &plane);
    let (mut view, mut link) = keeper.worker();
    let at = Moment::now();
    let later = |seconds: u64| {
        let passed = Duration::from_secs(seconds);
        let (monotonic, wall) = (at.monotonic.after(passed), at.wall.after(passed));
        Moment { monotonic, wall, ..at }
    };
    let (client, peer) = client("192.0.2.7");
    for _ in 0..2 {
        let (reply, _) = oneshot::channel();
        let offence = Offence::Framing;
        keeper.judge(Accusation { client, peer, offence, rule: "framing.host", reply }, &at);
    }
    link.next().await.unwrap().apply(&mut view);
    let end = at.monotonic.after(Duration::from_mins(1));
    for second in 1..60 {
        // As many as anybody likes, for they are sent in the source's name by whoever does.
        plane.set_drops("192.0.2.7/32", second * 1_000_000);
        keeper.tick(later(second));
        assert_eq!(plane.until("192.0.2.7/32"), Some(end), "after {second} s");
    }
    let address = "192.0.2.7".parse().unwrap();
    assert_eq!(view.is_banned(address, || later(59).monotonic).unwrap().until, end);
    keeper.tick(later(60));
    assert_eq!(plane.until("192.0.2.7/32"), None);
    assert_eq!(link.next().await.unwrap().apply(&mut view), Unwelcome::Nobody);
    assert!(!is_banned(&view, "192.0.2.7"));
}

#[tokio::test]
async fn a_sleep_of_the_machine_moves_every_deadline() {
    let plane = Recorder::default();
    let at = Moment::now();
    let enforce = settings(BanMode::Enforce);
    let (mut keeper, _handle) = Keeper::new(enforce, None, Some(plane.clone()), at);
    let (mut view, mut link) = keeper.worker();
    let changes = keeper.ledger.add(net("192.0.2.7/32"), Some(HOUR), String::new(), at.monotonic);
    keeper.apply(&changes.unwrap(), &at, None);
    link.next().await.unwrap().apply(&mut view);
    let end = plane.until("192.0.2.7/32").unwrap();
    let half = HOUR / 2;
    // Just below the measure nothing moves, and it is not forgotten either.
    let below = Duration::from_millis(999);
    keeper.tick(Moment { suspended: at.suspended + below, wall: at.wall.after(below), ..at });
    assert_eq!(plane.until("192.0.2.7/32"), Some(end));
    keeper.tick(Moment { suspended: at.suspended + half, wall: at.wall.after(half), ..at });
    assert_eq!(plane.until("192.0.2.7/32"), Some(end.before(half)));
    assert_eq!(link.next().await.unwrap().apply(&mut view), Unwelcome::Anyone);
    let by = view.is_banned("192.0.2.7".parse().unwrap(), || at.monotonic).unwrap();
    assert_eq!(by.until, end.before(half));
}

#[tokio::test]
async fn a_step_of_the_wall_clock_rewrites_the_file_and_moves_no_deadline() {
    let (scratch, plane) = (Scratch::new(), Recorder::default());
    // The machine boots with a clock at the epoch, and is told the time later.
    let booted = Moment { wall: Wall::from_ms(5_000), ..Moment::now() };
    let state = Store::open(scratch.path()).unwrap();
    let enforce = settings(BanMode::Enforce);
    let (mut keeper, _) = Keeper::new(enforce, Some(state), Some(plane.clone()), booted);
    let changes =
        keeper.ledger.add(net("192.0.2.7/32"), Some(HOUR), String::new(), booted.monotonic);
    keeper.apply(&changes.unwrap(), &booted, None);
    let end = plane.until("192.0.2.7/32");
    keeper.tick(Moment::now());
    assert_eq!(plane.until("192.0.2.7/32"), end);
    run(keeper).stop().await;
    // Had the file kept the ends of 1970, all would be over.
    let (_keeper, _handle) = durable(&scratch, &plane);
    assert_eq!(plane.until("192.0.2.7/32"), end);
    assert_eq!(on_disk(&scratch), [net("192.0.2.7/32")]);
}
