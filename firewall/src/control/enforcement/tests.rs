//! What goes on while a driver takes its time to be attached to.

use firewall_common::Mode as CheckMode;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::sleep;
use xtask::lab::{self, Device, NetNs};
use xtask::skip::skipped;

use super::*;
use crate::ban::keeper::{Keeper, KeeperSettings};
use crate::clock::Moment;
use crate::control::kernel_plane::KernelPlane;
use crate::kernel::InterfaceOptions;

/// How long attaching takes here.
const SLOWNESS: Duration = Duration::from_secs(8);
/// How long anything else may take, on a machine that does much else.
const PROMPTLY: Duration = Duration::from_secs(4);

#[test]
fn the_keeper_answers_while_attaching_takes_its_time() {
    const TEST: &str = "the_keeper_answers_while_attaching_takes_its_time";
    let machine = match NetNs::new() {
        Err(error) if error.is_unavailable() => return skipped(TEST, &error.to_string()),
        made => made.unwrap(),
    };
    let pair = |name, peer| lab::add(&machine, name, Device::Veth { peer, mtu: 1500 }).unwrap();
    pair("wan0", "far0");
    let options = kernel::Options {
        interfaces: vec![InterfaceOptions::of("wan?".parse().unwrap())],
        pin_dir: "/proc/nowhere".into(),
        ..kernel::Options::default()
    };
    let options = kernel::Options { slowness: SLOWNESS, ..options };
    let kernel = match machine.run(|| Kernel::start(&options)).unwrap() {
        Err(error) if error.is_not_permitted() => return skipped(TEST, &error.to_string()),
        started => started.unwrap(),
    };
    pair("wan1", "far1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    machine.run(|| LocalSet::new().block_on(&runtime, attaching(kernel))).unwrap();
}

async fn attaching(kernel: Kernel) {
    let enforcement = Enforcement { kernel: Some(kernel), ..Enforcement::default() };
    let enforcement = Rc::new(RefCell::new(enforcement));
    let plane = KernelPlane::new(&enforcement).unwrap();
    let (keeper, handle) = Keeper::new(KeeperSettings::default(), None, Some(plane), Moment::now());
    let (stop, stopped) = oneshot::channel::<()>();
    let keeping = tokio::task::spawn_local(keeper.run(async { drop(stopped.await) }));
    let (metrics, mut tasks) = (Arc::new(Metrics::new()), JoinSet::new());
    let began = Monotonic::now();
    Enforcement::follow(&enforcement, &handle, &metrics, &mut tasks);
    let is_attached = |name: &str| {
        let enforcement = enforcement.borrow();
        let mut reports = enforcement.interface_reports().iter();
        reports.any(|report| report.name == name && report.mode == Mode::Native)
    };
    // The thread has begun when the attacher is lent.
    while enforcement.borrow_mut().kernel.as_mut().unwrap().program_id().is_ok() {
        tokio::task::yield_now().await;
    }

    let asked = Monotonic::now();
    let target = "192.0.2.7/32".parse().unwrap();
    handle.add(target, None, String::new()).await.unwrap();
    {
        let mut enforcement = enforcement.borrow_mut();
        assert_eq!(enforcement.kernel().unwrap().drops(target).unwrap(), Some(0));
        assert!(enforcement.counted_by_interface().is_some());
        assert_eq!(enforcement.trial().unwrap()["state"], "settled");
        let setting =
            CheckSetting { reason: Reason::T3, mode: CheckMode::Observe, interface: None };
        enforcement.set_check(setting).unwrap();
        enforcement.tend_program(Monotonic::now(), &metrics);
        enforcement.beat(Monotonic::now());
    }
    let answered = Monotonic::now();
    assert!(answered.since(asked) < PROMPTLY, "after {:?}", answered.since(asked));
    assert!(answered.since(began) < SLOWNESS, "it is attached by now: this shows nothing");
    assert!(is_attached("wan0") && !is_attached("wan1"));

    while !is_attached("wan1") {
        assert!(Monotonic::now().since(began) < SLOWNESS * 4, "it is never attached to");
        sleep(SETTLE_TIME).await;
    }
    assert!(Monotonic::now().since(began) >= SLOWNESS);
    // What was set meanwhile holds.
    let modes = enforcement.borrow().judged(Reason::T3);
    assert!(modes.len() > 2 && modes.iter().all(|judged| judged.mode == CheckMode::Observe));
    tasks.abort_all();
    drop(stop);
    keeping.await.unwrap();
}
