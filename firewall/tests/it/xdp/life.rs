//! The program's life beyond the daemon's: how long it drops alone, and who comes after it.

use std::net::IpAddr;
use std::time::Duration;

use firewall::clock::Monotonic;
use firewall::kernel::{
    InterfaceOptions, Kernel, Mode, Options, ProbationRules, Reason, Trial, fault,
};
use ipnet::IpNet;

use super::attach::{Path, network};
use super::net::{CLIENT, Network};
use super::permitted;

/// Long against the coarse clock's tick, and no longer than a test may wait.
const STALE_AFTER: Duration = Duration::from_millis(800);

fn options(network: &Network) -> Options {
    Options {
        interfaces: vec![InterfaceOptions::of("gw0".parse().unwrap())],
        pin_dir: network.pins.path().join("firewall"),
        ..Options::default()
    }
}

#[test]
fn without_a_daemon_drops_end_when_they_were_told_to() {
    const TEST: &str = "without_a_daemon_drops_end_when_they_were_told_to";
    let Some(network) = network(TEST) else { return };
    let options = Options { stale_after: Some(STALE_AFTER), ..options(&network) };
    let start = || network.gateway.run(|| Kernel::start(&options)).unwrap();
    let Some(mut kernel) = permitted(TEST, start()) else { return };
    let (target, path) = (IpNet::from(IpAddr::V4(CLIENT)), Path::new(&network));
    kernel.ban(target, Monotonic::NEVER).unwrap();
    let began = Monotonic::now();
    while Monotonic::now().since(began) < STALE_AFTER * 2 {
        kernel.beat(Monotonic::now()).unwrap();
        path.is_shut(1);
    }
    assert_eq!(kernel.counters().unwrap().unattended().packets, 0);
    drop(kernel);
    path.is_shut(1);
    path.is_open();

    let Some(kernel) = permitted(TEST, start()) else { return };
    let counters = kernel.counters().unwrap();
    let unattended = counters.unattended().packets;
    assert!(unattended > 0);
    assert_eq!(counters.observed(Reason::Ban).packets, unattended, "{counters:?}");
    path.is_shut(1);
}

#[test]
fn unless_told_otherwise_drops_never_end() {
    const TEST: &str = "unless_told_otherwise_drops_never_end";
    let Some(network) = network(TEST) else { return };
    let options = options(&network);
    let start = network.gateway.run(|| Kernel::start(&options)).unwrap();
    let Some(mut kernel) = permitted(TEST, start) else { return };
    // Its own end has come: only a daemon lifts a ban.
    kernel.ban(IpNet::from(IpAddr::V4(CLIENT)), Monotonic::now()).unwrap();
    drop(kernel);
    let (path, began) = (Path::new(&network), Monotonic::now());
    while Monotonic::now().since(began) < STALE_AFTER {
        path.is_shut(1);
    }
}

/// Packets that a program is judged by here.
const PACKETS: u64 = 50;

fn rules(time: Duration) -> ProbationRules {
    ProbationRules { time, packets: PACKETS, ..ProbationRules::default() }
}

/// Looks after the program until its probation ends; gives why the one before it is back, if it is.
fn tended(kernel: &mut Kernel, mut meanwhile: impl FnMut()) -> Option<String> {
    let began = Monotonic::now();
    loop {
        assert!(Monotonic::now().since(began) < Duration::from_secs(20), "{:?}", kernel.trial());
        meanwhile();
        match kernel.tend(Monotonic::now()).unwrap() {
            None | Some(Trial::OnProbation { .. }) => {}
            Some(Trial::Settled) => return None,
            Some(Trial::RolledBack { reason }) => return Some(reason.clone()),
        }
    }
}

#[test]
fn a_program_that_does_wrong_gives_way_to_the_one_before_it() {
    const TEST: &str = "a_program_that_does_wrong_gives_way_to_the_one_before_it";
    for (fault, said) in [(fault::ABORT, "gave up on"), (fault::DROP, "0.0 % of the packets pass")]
    {
        let Some(network) = network(TEST) else { return };
        let sound = Options { probation: rules(Duration::from_hours(1)), ..options(&network) };
        let start = |options: &Options| network.gateway.run(|| Kernel::start(options)).unwrap();
        let Some(mut kernel) = permitted(TEST, start(&sound)) else { return };
        assert_eq!(*kernel.trial(), Trial::Settled, "there was none before it");
        let first = kernel.program_id().unwrap();
        let path = Path::new(&network);
        path.send(PACKETS);
        path.is_open();
        drop(kernel);

        let wrong = Options { fault, ..sound.clone() };
        let mut kernel = start(&wrong).unwrap();
        assert!(matches!(kernel.trial(), Trial::OnProbation { .. }), "{:?}", kernel.trial());
        assert_ne!(kernel.program_id().unwrap(), first);
        // Too few packets to tell.
        path.is_shut(PACKETS / 4);
        assert_eq!(kernel.tend(Monotonic::now()).unwrap(), None);
        let reason = tended(&mut kernel, || path.send(1)).expect("it is taken out");
        assert!(reason.contains(said), "{reason}");
        assert_eq!(kernel.program_id().unwrap(), first);
        path.is_open();

        // The one before it does as it is told.
        let target = IpNet::from(IpAddr::V4(CLIENT));
        kernel.ban(target, Monotonic::NEVER).unwrap();
        path.is_shut(3);
        assert!(kernel.drops(target).unwrap().unwrap() >= 3);
        kernel.pass_until(Monotonic::NEVER).unwrap();
        path.is_open();
        kernel.pass_until(Monotonic::from_ns(0)).unwrap();
        network.gateway.run(|| kernel.reconcile()).unwrap().unwrap();
        let [report] = kernel.interfaces() else { panic!("{:?}", kernel.interfaces()) };
        assert_eq!((report.mode, report.adopted), (Mode::Native, true));
        path.is_shut(1);
        drop(kernel);

        // It is what the next one is compared with.
        let mut kernel = start(&wrong).unwrap();
        assert!(kernel.unban(target).unwrap());
        tended(&mut kernel, || path.send(1)).expect("it is taken out again");
        assert_eq!(kernel.program_id().unwrap(), first);
        path.is_open();
    }
}

#[test]
fn a_program_that_is_put_back_knows_what_the_daemon_was_told_since() {
    const TEST: &str = "a_program_that_is_put_back_knows_what_the_daemon_was_told_since";
    let Some(network) = network(TEST) else { return };
    let target = IpNet::from(IpAddr::V4(CLIENT));
    let options = Options { probation: rules(Duration::from_hours(1)), ..options(&network) };
    let start = |options: &Options| network.gateway.run(|| Kernel::start(options)).unwrap();
    let Some(mut kernel) = permitted(TEST, start(&options)) else { return };
    let first = kernel.program_id().unwrap();
    let path = Path::new(&network);
    kernel.ban(target, Monotonic::NEVER).unwrap();
    path.is_shut(1);
    drop(kernel);

    // Whom this configuration allows, the next one does not.
    let wrong = Options { fault: fault::ABORT, ..options };
    for allow in [vec![target], Vec::new()] {
        let mut kernel = start(&Options { allow: allow.clone(), ..wrong.clone() }).unwrap();
        assert!(kernel.unban(target).unwrap());
        tended(&mut kernel, || path.send(1)).expect("it is taken out");
        assert_eq!(kernel.program_id().unwrap(), first);
        kernel.ban(target, Monotonic::NEVER).unwrap();
        if allow.is_empty() {
            path.is_shut(3);
            continue;
        }
        let allowed = kernel.counters().unwrap().acted(Reason::Allowed).packets;
        path.is_open();
        assert!(kernel.counters().unwrap().acted(Reason::Allowed).packets > allowed);
        assert!(kernel.unban(target).unwrap());
        assert_eq!(kernel.counters().unwrap().observed(Reason::I15).packets, 0);
        kernel.set_own(&[IpAddr::V4(CLIENT)]).unwrap();
        path.is_open();
        assert!(kernel.counters().unwrap().observed(Reason::I15).packets > 0);
        kernel.set_own(&[]).unwrap();
        kernel.ban(target, Monotonic::NEVER).unwrap();
    }
}

#[test]
fn a_program_that_does_right_is_kept() {
    const TEST: &str = "a_program_that_does_right_is_kept";
    let Some(network) = network(TEST) else { return };
    let options = Options { probation: rules(Duration::from_secs(2)), ..options(&network) };
    let start = |options: &Options| network.gateway.run(|| Kernel::start(options)).unwrap();
    let Some(kernel) = permitted(TEST, start(&options)) else { return };
    let path = Path::new(&network);
    path.is_open();
    path.send(PACKETS);
    drop(kernel);

    let mut kernel = start(&options).unwrap();
    let second = kernel.program_id().unwrap();
    // A banned source is none of the program's doing.
    kernel.ban(IpNet::from(IpAddr::V4(CLIENT)), Monotonic::NEVER).unwrap();
    assert_eq!(tended(&mut kernel, || path.send(1)), None);
    assert_eq!(*kernel.trial(), Trial::Settled);
    assert!(kernel.counters().unwrap().acted(Reason::Ban).packets > PACKETS);
    assert!(kernel.unban(IpNet::from(IpAddr::V4(CLIENT))).unwrap());
    drop(kernel);

    // From now on it is the one to return to.
    let wrong = Options { fault: fault::ABORT, ..options.clone() };
    let mut kernel = start(&wrong).unwrap();
    tended(&mut kernel, || path.send(1)).expect("it is taken out");
    assert_eq!(kernel.program_id().unwrap(), second);
    drop(kernel);

    let unjudged = Options { probation: rules(Duration::ZERO), ..options };
    let kernel = start(&unjudged).unwrap();
    assert_eq!(*kernel.trial(), Trial::Settled);
}
