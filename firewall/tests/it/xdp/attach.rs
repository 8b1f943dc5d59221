//! On real interfaces: attaching, pinning, adoption, and packets that do not arrive.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use firewall::clock::Monotonic;
use firewall::kernel::{
    BanMode, InterfaceOptions, Kernel, KernelError, Mode, Options, Pinning, Reason, detach,
};
use ipnet::IpNet;

use super::net::{CLIENT, GATEWAY, Network};
use super::{permitted, skipped};

const CLIENT_NET: IpAddr = IpAddr::V4(CLIENT);

pub(super) fn network(test: &str) -> Option<Network> {
    match Network::new() {
        Ok(network) => Some(network),
        Err(error) if error.is_unavailable() => {
            skipped(test, &error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn interface(name: &str) -> InterfaceOptions {
    InterfaceOptions::of(name.parse().unwrap())
}

fn options(network: &Network) -> Options {
    Options {
        interfaces: vec![interface("gw0")],
        pin_dir: network.pins.path().join("firewall"),
        ..Options::default()
    }
}

fn start(test: &str, network: &Network, options: &Options) -> Option<Kernel> {
    permitted(test, network.gateway.run(|| Kernel::start(options)).unwrap())
}

/// Whether a datagram of the client's arrives. A second socket pair would be no proof of a loss: the
/// marker is sent until it arrives or the kernel has counted it as dropped.
pub(super) struct Path {
    receiver: UdpSocket,
    sender: UdpSocket,
}

impl Path {
    pub(super) fn new(network: &Network) -> Self {
        let receiver = network.gateway.run(|| UdpSocket::bind((GATEWAY, 0)).unwrap()).unwrap();
        let sender = network.client.run(|| UdpSocket::bind((CLIENT, 0)).unwrap()).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        Self { receiver, sender }
    }

    /// Sends until a datagram arrives: the kernel lets go of a detached program a moment later.
    #[track_caller]
    pub(super) fn is_open(&self) {
        self.receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut buffer = [0; 16];
        let arrives = (0..100).any(|_| {
            self.sender.send(b"open?").unwrap();
            self.receiver.recv(&mut buffer).is_ok()
        });
        assert!(arrives, "no datagram arrives");
        // Those that were on their way would be taken for what came after a ban.
        self.receiver.set_nonblocking(true).unwrap();
        while self.receiver.recv(&mut buffer).is_ok() {}
        self.receiver.set_nonblocking(false).unwrap();
    }

    /// Sends datagrams, whatever becomes of them.
    pub(super) fn send(&self, datagrams: u64) {
        for _ in 0..datagrams {
            self.sender.send(b"what?").unwrap();
        }
    }

    /// Sends datagrams, of which none may arrive.
    #[track_caller]
    pub(super) fn is_shut(&self, datagrams: u64) {
        self.receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        self.send(datagrams);
        let mut buffer = [0; 16];
        let received = self.receiver.recv(&mut buffer);
        assert!(received.is_err(), "a datagram of a banned source arrived");
    }
}

#[test]
fn a_ban_outlives_the_daemon_and_is_adopted() {
    const TEST: &str = "a_ban_outlives_the_daemon_and_is_adopted";
    let Some(network) = network(TEST) else { return };
    let options = options(&network);
    let Some(mut kernel) = start(TEST, &network, &options) else { return };
    let [report] = kernel.interfaces() else { panic!("{:?}", kernel.interfaces()) };
    assert_eq!((report.mode, report.adopted, &report.reason), (Mode::Native, false, &None));
    assert!(matches!(kernel.pinning(), Pinning::Pinned(_)), "{:?}", kernel.pinning());

    let path = Path::new(&network);
    path.is_open();
    let target = IpNet::from(CLIENT_NET);
    let until = Monotonic::now().after(Duration::from_hours(1));
    kernel.ban(target, until).unwrap();
    path.is_shut(5);
    let drops = kernel.drops(target).unwrap().unwrap();
    assert!(drops >= 5, "{drops} drops");
    assert_eq!(kernel.counters().unwrap().acted(Reason::Ban).packets, drops);

    drop(kernel);
    path.is_shut(3);

    let Some(mut kernel) = start(TEST, &network, &options) else { return };
    let [report] = kernel.interfaces() else { panic!("{:?}", kernel.interfaces()) };
    assert_eq!((report.mode, report.adopted, &report.reason), (Mode::Native, true, &None));
    let bans = kernel.bans().unwrap();
    let [(adopted, ban)] = bans.as_slice() else { panic!("{bans:?}") };
    assert_eq!((*adopted, ban.until_mono_ns), (target, until.ns()));
    assert!(ban.drops >= drops + 3, "{ban:?}");
    assert!(kernel.counters().unwrap().acted(Reason::Ban).packets >= drops + 3);
    path.is_shut(1);
    assert!(kernel.unban(target).unwrap());
    path.is_open();
}

#[test]
fn only_a_command_detaches() {
    const TEST: &str = "only_a_command_detaches";
    let Some(network) = network(TEST) else { return };
    let options = options(&network);
    let Some(mut kernel) = start(TEST, &network, &options) else { return };
    kernel.ban(IpNet::from(CLIENT_NET), Monotonic::NEVER).unwrap();
    let path = Path::new(&network);
    path.is_shut(1);
    drop(kernel);

    // An interface that is no longer asked for stays enforced, and is reported.
    let unasked = Options { interfaces: Vec::new(), ..options.clone() };
    let Some(kernel) = start(TEST, &network, &unasked) else { return };
    let [report] = kernel.interfaces() else { panic!("{:?}", kernel.interfaces()) };
    assert_eq!((report.name.as_str(), report.mode, report.adopted), ("gw0", Mode::Native, true));
    assert!(report.reason.as_deref().unwrap().contains("firewall detach"), "{report:?}");
    path.is_shut(1);

    // Not while a daemon would attach again.
    let error = network.gateway.run(|| detach(&options.pin_dir)).unwrap().unwrap_err();
    assert!(matches!(error, KernelError::InUse { .. }), "{error}");
    path.is_shut(1);
    drop(kernel);
    let detached = network.gateway.run(|| detach(&options.pin_dir)).unwrap().unwrap();
    assert_eq!(detached, ["gw0"]);
    path.is_open();
    assert_eq!(network.gateway.run(|| detach(&options.pin_dir)).unwrap().unwrap(), [""; 0]);
    assert_eq!(std::fs::read_dir(&options.pin_dir).unwrap().count(), 0);
}

#[test]
fn modes_change_with_a_restart() {
    const TEST: &str = "modes_change_with_a_restart";
    let Some(network) = network(TEST) else { return };
    let mut options = options(&network);
    let Some(mut kernel) = start(TEST, &network, &options) else { return };
    kernel.ban(IpNet::from(CLIENT_NET), Monotonic::NEVER).unwrap();
    let path = Path::new(&network);
    path.is_shut(1);
    drop(kernel);

    options.bans = BanMode::Observe;
    let Some(kernel) = start(TEST, &network, &options) else { return };
    path.is_open();
    assert!(kernel.counters().unwrap().observed(Reason::Ban).packets >= 1);
    drop(kernel);

    options.bans = BanMode::Enforce;
    options.allow = vec![IpNet::from(CLIENT_NET)];
    let Some(kernel) = start(TEST, &network, &options) else { return };
    path.is_open();
    assert!(kernel.counters().unwrap().acted(Reason::Allowed).packets >= 1);
    drop(kernel);

    options.allow.clear();
    let Some(_kernel) = start(TEST, &network, &options) else { return };
    path.is_shut(1);
}

#[test]
fn a_link_whose_interface_is_gone_is_replaced() {
    const TEST: &str = "a_link_whose_interface_is_gone_is_replaced";
    let Some(network) = network(TEST) else { return };
    let options = options(&network);
    let Some(mut kernel) = start(TEST, &network, &options) else { return };
    kernel.ban(IpNet::from(CLIENT_NET), Monotonic::NEVER).unwrap();
    drop(kernel);
    network.unplug();
    network.plug();
    let path = Path::new(&network);
    path.is_open();
    let Some(kernel) = start(TEST, &network, &options) else { return };
    let [report] = kernel.interfaces() else { panic!("{:?}", kernel.interfaces()) };
    assert_eq!((report.mode, report.adopted), (Mode::Native, false));
    path.is_shut(1);
}

#[test]
fn another_program_is_named_and_not_replaced() {
    const TEST: &str = "another_program_is_named_and_not_replaced";
    let Some(network) = network(TEST) else { return };
    let options = options(&network);
    let Some(mut first) = start(TEST, &network, &options) else { return };
    first.ban(IpNet::from(CLIENT_NET), Monotonic::NEVER).unwrap();
    let elsewhere = Options { pin_dir: network.pins.path().join("elsewhere"), ..options.clone() };
    let Some(second) = start(TEST, &network, &elsewhere) else { return };
    let [report] = second.interfaces() else { panic!("{:?}", second.interfaces()) };
    assert_eq!((report.mode, report.adopted), (Mode::None, false));
    let reason = report.reason.as_deref().unwrap();
    assert!(reason.contains("(firewall) is attached there: not replaced"), "{reason}");
    Path::new(&network).is_shut(1);
}

#[test]
fn without_native_mode_it_is_generic_and_says_why() {
    const TEST: &str = "without_native_mode_it_is_generic_and_says_why";
    let Some(network) = network(TEST) else { return };
    let options = Options { interfaces: vec![interface("lo")], ..options(&network) };
    for adopted in [false, true] {
        let Some(kernel) = start(TEST, &network, &options) else { return };
        let [report] = kernel.interfaces() else { panic!("{:?}", kernel.interfaces()) };
        assert_eq!((report.mode, report.adopted), (Mode::Generic, adopted));
        let reason = report.reason.as_deref().unwrap_or_default();
        assert!(adopted || reason.contains("native mode: Operation not supported"), "{reason:?}");
    }
}

#[test]
fn unpinned_links_end_with_the_daemon() {
    const TEST: &str = "unpinned_links_end_with_the_daemon";
    let Some(network) = network(TEST) else { return };
    let options = Options { pin_dir: "/proc/nowhere".into(), ..options(&network) };
    let Some(mut kernel) = start(TEST, &network, &options) else { return };
    assert_eq!(kernel.interfaces()[0].mode, Mode::Native);
    kernel.ban(IpNet::from(CLIENT_NET), Monotonic::NEVER).unwrap();
    let path = Path::new(&network);
    path.is_shut(1);
    drop(kernel);
    path.is_open();
}
