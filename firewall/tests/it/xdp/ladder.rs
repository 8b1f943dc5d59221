//! The ladder of modes on real devices, and what comes and goes.

use firewall::kernel::{Event, InterfaceOptions, Kernel, Mode, Options, detach};
use ipnet::IpNet;
use xtask::lab::{Change, Device, LabError, add, change};
use xtask::skip::lacking;

use super::attach::{Path, network};
use super::net::{CLIENT, INTERFACE, Network};
use super::permitted;
use crate::kit::eventually;

fn options(network: &Network, interfaces: Vec<InterfaceOptions>) -> Options {
    Options { interfaces, pin_dir: network.pins.path().join("firewall"), ..Options::default() }
}

fn interface(name: &str, beneath: bool) -> InterfaceOptions {
    InterfaceOptions { beneath, ..InterfaceOptions::of(name.parse().unwrap()) }
}

fn start(test: &str, network: &Network, options: &Options) -> Option<Kernel> {
    permitted(test, network.gateway.run(|| Kernel::start(options)).unwrap())
}

/// False, and said so, if the kernel was built without this kind.
fn make(test: &str, network: &Network, name: &str, device: Device<'_>) -> bool {
    match add(&network.gateway, name, device) {
        Err(LabError::Unsupported { .. }) => {
            lacking(test, &format!("the kernel has no {device:?}"));
            false
        }
        made => {
            made.unwrap();
            true
        }
    }
}

#[test]
fn each_kind_of_device_has_its_rung() {
    const TEST: &str = "each_kind_of_device_has_its_rung";
    let Some(network) = network(TEST) else { return };
    // Beyond a page a frame has fragments, which the program takes.
    let devices = [
        ("jumbo0", Device::Veth { peer: "jumbo1", mtu: 9000 }, Mode::Native),
        ("macvlan0", Device::Macvlan { on: INTERFACE }, Mode::Generic),
        ("vlan5", Device::Vlan { on: INTERFACE, id: 5 }, Mode::Generic),
        ("dummy0", Device::Dummy, Mode::Generic),
        ("bond0", Device::Bond, Mode::Native),
    ];
    for (name, device, mode) in devices {
        if !make(TEST, &network, name, device) {
            continue;
        }
        let options = options(&network, vec![interface(name, false)]);
        let Some(kernel) = start(TEST, &network, &options) else { return };
        let report = kernel.interfaces().iter().find(|report| report.name == name).unwrap();
        assert_eq!(report.mode, mode, "{report:?}");
        let reason = report.reason.as_deref().unwrap_or_default();
        let expected =
            if mode == Mode::Native { "" } else { "native mode: Operation not supported" };
        assert!(reason.starts_with(expected), "{report:?}");
        assert_eq!(reason.is_empty(), mode == Mode::Native, "{report:?}");
    }
}

#[test]
fn what_is_beneath_is_filtered_only_where_that_is_allowed() {
    const TEST: &str = "what_is_beneath_is_filtered_only_where_that_is_allowed";
    for (name, device) in [
        ("macvlan0", Device::Macvlan { on: INTERFACE }),
        ("vlan5", Device::Vlan { on: INTERFACE, id: 5 }),
    ] {
        let Some(network) = network(TEST) else { return };
        if !make(TEST, &network, name, device) {
            continue;
        }
        let options = options(&network, vec![interface(name, true)]);
        let Some(mut kernel) = start(TEST, &network, &options) else { return };
        let [report] = kernel.interfaces() else { panic!("{:?}", kernel.interfaces()) };
        assert_eq!(
            (report.mode, report.on.as_slice()),
            (Mode::Native, [INTERFACE.to_owned()].as_slice())
        );
        let reason = report.reason.clone().unwrap();
        assert!(reason.contains("all that gw0 receives is filtered"), "{reason}");
        kernel
            .ban(IpNet::from(std::net::IpAddr::from(CLIENT)), firewall::clock::Monotonic::NEVER)
            .unwrap();
        Path::new(&network).is_shut(2);
        // Nothing is done again.
        assert_eq!(network.gateway.run(|| kernel.reconcile()).unwrap().unwrap(), []);
        drop(kernel);
        let Some(kernel) = start(TEST, &network, &options) else { return };
        let [report] = kernel.interfaces() else { panic!("{:?}", kernel.interfaces()) };
        assert_eq!((report.mode, report.reason.as_ref()), (Mode::Native, Some(&reason)));
    }
}

#[test]
fn what_a_wildcard_covers_is_filtered_once() {
    const TEST: &str = "what_a_wildcard_covers_is_filtered_once";
    let Some(network) = network(TEST) else { return };
    add(&network.gateway, "gw0mac", Device::Macvlan { on: INTERFACE }).unwrap();
    let options = options(&network, vec![interface("*", false)]);
    let Some(kernel) = start(TEST, &network, &options) else { return };
    let [report] = kernel.interfaces() else { panic!("{:?}", kernel.interfaces()) };
    assert_eq!((report.name.as_str(), report.mode), (INTERFACE, Mode::Native));
}

#[test]
fn another_program_that_goes_makes_room() {
    const TEST: &str = "another_program_that_goes_makes_room";
    let Some(network) = network(TEST) else { return };
    let first_options = options(&network, vec![interface(INTERFACE, false)]);
    let Some(first) = start(TEST, &network, &first_options) else { return };
    let elsewhere =
        Options { pin_dir: network.pins.path().join("elsewhere"), ..first_options.clone() };
    let Some(mut second) = start(TEST, &network, &elsewhere) else { return };
    assert_eq!(second.interfaces()[0].mode, Mode::None);
    let mut reconcile = || network.gateway.run(|| second.reconcile()).unwrap().unwrap();
    assert_eq!(reconcile(), []);
    drop(first);
    network.gateway.run(|| detach(&first_options.pin_dir)).unwrap().unwrap();
    // The kernel lets go of a link aside, in its own time.
    let attached = eventually("attached", || Some(reconcile()).filter(|events| !events.is_empty()));
    let [(Event::Attached, report)] = &attached[..] else { panic!("{attached:?}") };
    assert_eq!((report.name.as_str(), report.mode), (INTERFACE, Mode::Native));
    assert_eq!(reconcile(), []);
}

#[test]
fn an_interface_may_grow_while_it_is_filtered() {
    const TEST: &str = "an_interface_may_grow_while_it_is_filtered";
    let Some(network) = network(TEST) else { return };
    let options = options(&network, vec![interface(INTERFACE, false)]);
    let Some(mut kernel) = start(TEST, &network, &options) else { return };
    change(&network.client, "cl0", Change::Mtu(9000)).unwrap();
    change(&network.gateway, INTERFACE, Change::Mtu(9000)).unwrap();
    assert_eq!(network.gateway.run(|| kernel.reconcile()).unwrap().unwrap(), []);
    assert_eq!(kernel.interfaces()[0].mode, Mode::Native);
}
