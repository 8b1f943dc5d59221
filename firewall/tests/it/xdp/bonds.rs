//! Bonds and their members: where the program runs, and by whose role their packets are judged. They
//! run where the kernel has bonds: in the machines of `cargo xtask test --kernels`.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use firewall::kernel::{
    Event, InterfaceOptions, InterfaceReport, Kernel, Mode, Options, Reason, Role,
};
use xtask::lab::{Change, Device, LabError, Port, add, change, give, unplug};
use xtask::skip::lacking;

use super::attach::network;
use super::net::Network;
use super::permitted;

const BOND: &str = "bond0";

fn near(cable: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 79, cable, 1)
}

fn far(cable: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 79, cable, 2)
}

/// A gateway with a bond, and cables to a client of which each has a network of its own, so that it is
/// known by which member a packet comes in.
struct Bond {
    network: Network,
}

impl Bond {
    /// None, and said so, where the kernel was built without bonds.
    fn new(test: &str, device: Device<'_>) -> Option<Self> {
        let network = network(test)?;
        match add(&network.gateway, BOND, device) {
            Err(LabError::Unsupported { .. }) => {
                lacking(test, "the kernel has no bonds");
                None
            }
            made => {
                made.unwrap();
                change(&network.gateway, BOND, Change::Up).unwrap();
                Some(Self { network })
            }
        }
    }

    fn change(&self, name: &str, what: Change<'_>) {
        change(&self.network.gateway, name, what).unwrap();
    }

    /// Lays a cable: `memberN` at the gateway, by itself and up.
    fn cable(&self, number: u8) -> String {
        let (name, peer) = (format!("member{number}"), format!("far{number}"));
        let Network { gateway, client, .. } = &self.network;
        add(gateway, &name, Device::Veth { peer: &peer, mtu: 1500 }).unwrap();
        self.change(&name, Change::Up);
        self.change(&peer, Change::Namespace(client));
        change(client, &peer, Change::Up).unwrap();
        let addresses = &[(far(number).into(), 24)];
        give(Port { namespace: client, interface: &peer, addresses, gateways: &[] }).unwrap();
        self.address(number);
        name
    }

    /// Gives the bond its address in the network of a cable.
    fn address(&self, cable: u8) {
        let addresses = &[(near(cable).into(), 24)];
        let namespace = &self.network.gateway;
        give(Port { namespace, interface: BOND, addresses, gateways: &[] }).unwrap();
    }

    /// Makes a member of an interface; what the kernel says.
    fn try_join(&self, name: &str) -> Result<(), LabError> {
        self.change(name, Change::Down);
        let joined = change(&self.network.gateway, name, Change::Master(BOND));
        self.change(name, Change::Up);
        joined
    }

    fn join(&self, name: &str) {
        self.try_join(name).unwrap();
    }

    fn leave(&self, name: &str) {
        self.change(name, Change::NoMaster);
        self.change(name, Change::Up);
    }

    fn start(&self, test: &str, interfaces: Vec<InterfaceOptions>) -> Option<Kernel> {
        let pin_dir = self.network.pins.path().join("firewall");
        let options = Options { interfaces, pin_dir, ..Options::default() };
        permitted(test, self.network.gateway.run(|| Kernel::start(&options)).unwrap())
    }

    fn reconcile(&self, kernel: &mut Kernel) -> Vec<(Event, String)> {
        let events = self.network.gateway.run(|| kernel.reconcile()).unwrap().unwrap();
        events.into_iter().map(|(event, report)| (event, report.name)).collect()
    }

    /// Whether a datagram arrives that comes in by this cable. One that should is waited for longer: an
    /// emulated machine is slow to answer ARP.
    fn is_open(&self, cable: u8, is_expected: bool) -> bool {
        let Network { gateway, client, .. } = &self.network;
        let receiver =
            gateway.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()).unwrap();
        let port = receiver.local_addr().unwrap().port();
        let sender = client.run(|| UdpSocket::bind((far(cable), 0)).unwrap()).unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        // The first ones may wait for an answer to ARP.
        let tries = if is_expected { 100 } else { 10 };
        (0..tries).any(|_| {
            sender.send_to(b"open?", (near(cable), port)).unwrap();
            receiver.recv(&mut [0; 16]).is_ok()
        })
    }
}

fn wish(name: &str, role: Role) -> InterfaceOptions {
    InterfaceOptions { role, ..InterfaceOptions::of(name.parse().unwrap()) }
}

#[track_caller]
fn report<'a>(kernel: &'a Kernel, name: &str) -> &'a InterfaceReport {
    let reports = kernel.interfaces();
    reports.iter().find(|report| report.name == name).unwrap_or_else(|| panic!("{reports:?}"))
}

/// What was dropped by the role of the Internet, of what came in by an interface.
fn dropped(kernel: &Kernel, name: &str) -> u64 {
    let counters = kernel.counters().unwrap();
    let interface =
        counters.interfaces().iter().find(|counted| counted.name.as_deref() == Some(name));
    interface.map_or(0, |counted| counted.acted(Reason::I10, false).packets)
}

#[test]
fn members_are_judged_as_their_bond() {
    const TEST: &str = "members_are_judged_as_their_bond";
    // From the Internet nobody has a private address.
    for (role, passes) in [(Role::Lan, true), (Role::Internet, false)] {
        let Some(bond) = Bond::new(TEST, Device::Bond) else { return };
        let first = bond.cable(1);
        bond.join(&first);
        let Some(mut kernel) = bond.start(TEST, vec![wish(BOND, role)]) else { return };
        let on = |kernel: &Kernel| {
            let report = report(kernel, BOND);
            assert_eq!((report.mode, &report.reason, report.role), (Mode::Native, &None, role));
            report.on.clone()
        };
        assert_eq!(on(&kernel), ["member1"]);
        assert_eq!(bond.is_open(1, passes), passes, "{role:?}");
        assert_eq!(dropped(&kernel, "member1") > 0, !passes, "{role:?}");

        // One that joins runs the program from the start, and is judged so as soon as it is seen.
        let second = bond.cable(2);
        bond.join(&second);
        assert_eq!(bond.reconcile(&mut kernel), []);
        assert_eq!(on(&kernel), ["member1", "member2"]);
        assert_eq!(bond.is_open(2, passes), passes, "{role:?}");

        // One that leaves is an interface that nobody wants filtered.
        bond.leave(&first);
        assert_eq!(bond.reconcile(&mut kernel), []);
        assert_eq!(on(&kernel), ["member2"]);
        assert_eq!(kernel.interfaces().len(), 1);
    }
}

#[test]
fn a_member_of_a_filtered_bond_is_filtered_by_it() {
    const TEST: &str = "a_member_of_a_filtered_bond_is_filtered_by_it";
    let Some(bond) = Bond::new(TEST, Device::Bond) else { return };
    let wishes = vec![wish(BOND, Role::Lan), wish("member1", Role::Internet)];
    let Some(mut kernel) = bond.start(TEST, wishes) else { return };
    assert_eq!(report(&kernel, "member1").mode, Mode::None, "it is not there yet");
    let first = bond.cable(1);
    bond.join(&first);
    assert_eq!(bond.reconcile(&mut kernel), [(Event::Attached, first.clone())]);
    let found = report(&kernel, "member1").clone();
    assert_eq!((found.mode, found.role), (Mode::Native, Role::Internet));
    assert_eq!(found.on, [BOND]);
    assert!(found.reason.unwrap().contains("a member of bond0"));
    assert!(!bond.is_open(1, false), "it is judged by its own role");

    // Others join as they like; this one is attached to by itself when it leaves.
    let second = bond.cable(2);
    bond.join(&second);
    assert_eq!(bond.reconcile(&mut kernel), []);
    assert!(bond.is_open(2, true), "it is judged by the bond's");
    bond.leave(&first);
    assert_eq!(bond.reconcile(&mut kernel), [(Event::Attached, first.clone())]);
    let found = report(&kernel, &first);
    assert_eq!((found.mode, &found.reason, found.on.len()), (Mode::Native, &None, 0));

    // Back it cannot come: the kernel would have to run two programs in one driver.
    assert!(bond.try_join(&first).is_err());
    assert_eq!(report(&kernel, BOND).on, ["member2"]);
}

#[test]
fn a_bond_of_filtered_members_is_filtered_by_them() {
    const TEST: &str = "a_bond_of_filtered_members_is_filtered_by_them";
    let Some(bond) = Bond::new(TEST, Device::Bond) else { return };
    let first = bond.cable(1);
    let Some(mut kernel) = bond.start(TEST, vec![wish("member*", Role::Internet)]) else { return };
    assert_eq!(report(&kernel, &first).mode, Mode::Native);
    bond.join(&first);
    assert_eq!(bond.reconcile(&mut kernel), []);
    assert!(!bond.is_open(1, false), "a program stays where it is");
    drop(kernel);

    let wishes = vec![wish("*", Role::Internet)];
    let Some(mut kernel) = bond.start(TEST, wishes) else { return };
    let found = report(&kernel, BOND);
    assert_eq!((found.mode, &found.reason), (Mode::Native, &None));
    assert_eq!(found.on, ["member1"]);
    // Where the bond runs no program itself, one that runs it may join, or gets it.
    let second = bond.cable(2);
    assert_eq!(bond.reconcile(&mut kernel), [(Event::Attached, second.clone())]);
    bond.join(&second);
    let third = bond.cable(3);
    bond.join(&third);
    bond.reconcile(&mut kernel);
    let found = report(&kernel, BOND);
    assert_eq!((found.mode, &found.reason), (Mode::Native, &None));
    assert_eq!(found.on, ["member1", "member2", "member3"]);
    for cable in 1..=3 {
        assert!(!bond.is_open(cable, false), "{cable}");
    }
}

#[test]
fn a_bond_and_its_member_may_both_be_wanted() {
    const TEST: &str = "a_bond_and_its_member_may_both_be_wanted";
    // Attached to in the order of their numbers: the member's is lower, or the bond's.
    for is_bond_first in [true, false] {
        let Some(bond) = Bond::new(TEST, Device::Bond) else { return };
        let first = bond.cable(1);
        if !is_bond_first {
            unplug(&bond.network.gateway, BOND).unwrap();
            add(&bond.network.gateway, BOND, Device::Bond).unwrap();
            bond.change(BOND, Change::Up);
            bond.address(1);
        }
        bond.join(&first);
        let wishes = vec![wish(BOND, Role::Lan), wish(&first, Role::Internet)];
        let Some(mut kernel) = bond.start(TEST, wishes) else { return };
        let on = |kernel: &Kernel, name| {
            let report = report(kernel, name);
            assert_eq!(report.mode, Mode::Native, "{report:?}");
            report.on.clone()
        };
        assert_eq!(on(&kernel, BOND), ["member1"]);
        let expected: &[&str] = if is_bond_first { &[BOND] } else { &[] };
        assert_eq!(on(&kernel, &first), expected);
        assert!(!bond.is_open(1, false), "it is judged by its own role");
        assert_eq!(bond.reconcile(&mut kernel), []);
        assert_eq!(on(&kernel, &first), expected);
    }
}

#[test]
fn a_bond_of_a_mode_without_programs_is_filtered_on_its_members() {
    const TEST: &str = "a_bond_of_a_mode_without_programs_is_filtered_on_its_members";
    let Some(bond) = Bond::new(TEST, Device::AdaptiveBond) else { return };
    let first = bond.cable(1);
    bond.join(&first);
    let Some(mut kernel) = bond.start(TEST, vec![wish(BOND, Role::Internet)]) else { return };
    let found = report(&kernel, BOND);
    assert_eq!((found.mode, &found.reason), (Mode::Native, &None));
    assert_eq!(found.on, ["member1"]);
    assert!(!bond.is_open(1, false));
    bond.leave(&first);
    bond.reconcile(&mut kernel);
    let found = report(&kernel, &first);
    let reason = found.reason.as_deref().unwrap();
    assert!(found.mode == Mode::Native && reason.contains("no longer configured"), "{found:?}");
}

#[test]
fn a_member_without_native_mode_makes_its_bond_generic() {
    const TEST: &str = "a_member_without_native_mode_makes_its_bond_generic";
    let Some(bond) = Bond::new(TEST, Device::Bond) else { return };
    let first = bond.cable(1);
    bond.join(&first);
    add(&bond.network.gateway, "slow0", Device::Dummy).unwrap();
    bond.join("slow0");
    let wishes = vec![wish(BOND, Role::Internet), wish("slow0", Role::Lan)];
    let Some(mut kernel) = bond.start(TEST, wishes) else { return };
    let found = report(&kernel, BOND);
    assert_eq!((found.mode, found.on.len()), (Mode::Generic, 0), "{found:?}");
    let reason = found.reason.as_deref().unwrap();
    assert!(reason.contains("native mode: ") && reason.contains("its member slow0: "), "{reason}");
    assert!(!bond.is_open(1, false));
    let found = report(&kernel, "slow0");
    assert_eq!((found.mode, found.on.as_slice()), (Mode::Generic, [BOND.to_owned()].as_slice()));
    assert_eq!(bond.reconcile(&mut kernel), [], "the listing that it makes says the same");
    // A generic program keeps nobody from joining, and is not changed for another mode.
    let second = bond.cable(2);
    bond.join(&second);
    bond.leave("slow0");
    bond.reconcile(&mut kernel);
    assert_eq!(report(&kernel, BOND).mode, Mode::Generic);
    assert!(!bond.is_open(2, false));
}
