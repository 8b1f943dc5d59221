//! The program's life beyond the daemon's: how long it drops alone.

use std::net::IpAddr;
use std::time::Duration;

use firewall::clock::Monotonic;
use firewall::kernel::{InterfaceOptions, Kernel, Options, Reason};
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
