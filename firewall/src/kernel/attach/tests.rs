//! What is made of two listings, and of bonds.

use xtask::lab::{self, Device, NetNs};
use xtask::skip::skipped;

use super::*;
use crate::kernel::attacher::Parts;
use crate::kernel::{Kernel, Options, xdp};

fn report(index: u32, name: &str, mode: Mode) -> InterfaceReport {
    InterfaceReport {
        name: name.into(),
        index,
        mode,
        reason: None,
        adopted: false,
        role: Role::Lan,
        is_required: false,
        on: Vec::new(),
    }
}

#[test]
fn what_happened_is_told() {
    let before = [
        report(0, "eth9", Mode::None),
        report(2, "eth0", Mode::Native),
        report(3, "eth1", Mode::Native),
        report(4, "eth2", Mode::None),
        report(5, "eth3", Mode::Generic),
        report(6, "eth4", Mode::Native),
        report(8, "eth6", Mode::Native),
    ];
    let after = [
        report(0, "eth8", Mode::None),
        report(2, "eth0", Mode::Native),
        report(3, "wan", Mode::Native),
        report(4, "eth2", Mode::Generic),
        report(5, "eth3", Mode::None),
        report(7, "eth5", Mode::None),
        report(8, "eth6", Mode::Native),
    ];
    let told: Vec<_> = events(&before, &after, &BTreeSet::from([8]))
        .into_iter()
        .map(|(event, report)| format!("{} {}", report.name, event.name()))
        .collect();
    let expected = [
        "eth4 gone",
        "wan renamed",
        "eth2 attached",
        "eth3 unattached",
        "eth5 unattached",
        "eth6 attached",
    ];
    assert_eq!(told, expected);
    assert_eq!(events(&after, &after, &BTreeSet::new()), []);
}

/// Interfaces of a namespace, and a program that nothing is pinned of.
struct Bench {
    machine: NetNs,
    kernel: Kernel,
}

impl Bench {
    /// `veth0` to `veth2` with the other ends `far0` to `far2`, and `macvlan0`, which has no native
    /// mode.
    fn new(test: &str) -> Option<Self> {
        let machine = match NetNs::new() {
            Err(error) if error.is_unavailable() => {
                skipped(test, &error.to_string());
                return None;
            }
            made => made.unwrap(),
        };
        for number in 0..3 {
            let (name, peer) = (format!("veth{number}"), format!("far{number}"));
            lab::add(&machine, &name, Device::Veth { peer: &peer, mtu: 1500 }).unwrap();
        }
        lab::add(&machine, "macvlan0", Device::Macvlan { on: "far2" }).unwrap();
        let options = Options { pin_dir: "/proc/nowhere".into(), ..Options::default() };
        match machine.run(|| Kernel::start(&options)).unwrap() {
            Err(error) if error.is_not_permitted() => {
                skipped(test, &error.to_string());
                None
            }
            kernel => Some(Self { machine, kernel: kernel.unwrap() }),
        }
    }

    /// What is made of `name` if it is a bond with these members. No kernel feature is needed: the
    /// interfaces are there, only their kind and master are made up.
    fn cover_bond(&mut self, name: &str, members: &[&str]) -> InterfaceReport {
        let Self { machine, kernel } = self;
        let cover = || {
            let Parts { program, judging, attachments } = kernel.attacher().unwrap().parts();
            let mut links = attachments.links().unwrap();
            let bond = links.iter().position(|link| link.name == name).unwrap();
            links[bond].kind = Some("bond".into());
            let master = Some(links[bond].index);
            for link in links.iter_mut().filter(|link| members.contains(&link.name.as_str())) {
                link.master = master;
            }
            let option = InterfaceOptions {
                role: Role::Internet,
                ..InterfaceOptions::of(name.parse().unwrap())
            };
            let wanted = [(&links[bond], &option)];
            let own = xdp(program).unwrap().info().unwrap().id();
            let mut hands = Hands {
                program: xdp(program).unwrap(),
                judging,
                policy: &|role, _| Policy::new(role),
            };
            let mut new = BTreeSet::new();
            let mut site =
                Site { hands: &mut hands, own, links: &links, wanted: &wanted, new: &mut new };
            attachments.cover(&mut site, &links[bond], &option).unwrap()
        };
        machine.run(cover).unwrap()
    }

    fn modes(&mut self) -> Vec<(String, Mode)> {
        let Self { machine, kernel } = self;
        let links = machine
            .run(|| kernel.attacher().unwrap().parts().attachments.links().unwrap())
            .unwrap();
        let modes = links.into_iter().map(|link| (link.name, link.attached.mode()));
        modes.filter(|(_, mode)| *mode != Mode::None).collect()
    }
}

#[test]
fn a_bond_without_native_mode_is_filtered_on_its_members() {
    let Some(mut bench) = Bench::new("a_bond_without_native_mode_is_filtered_on_its_members")
    else {
        return;
    };
    let native = |name: &str| (name.to_owned(), Mode::Native);
    let report = bench.cover_bond("lo", &["veth0", "veth1"]);
    assert_eq!((report.mode, &report.reason, report.role), (Mode::Native, &None, Role::Internet));
    assert_eq!(report.on, ["veth0", "veth1"]);
    let mut modes = bench.modes();
    modes.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(modes, [native("veth0"), native("veth1")]);

    // One that joins is filtered too, as well as it can be.
    let report = bench.cover_bond("lo", &["veth0", "veth1", "macvlan0"]);
    assert_eq!(report.mode, Mode::Generic);
    assert_eq!(report.reason.as_deref(), Some("its member macvlan0 has no native mode"));
    assert_eq!(bench.modes().len(), 3);
    let before = bench.modes();
    assert_eq!(bench.cover_bond("lo", &["veth0", "veth1", "macvlan0"]), report);
    assert_eq!(bench.modes(), before);
}

#[test]
fn a_bond_with_a_member_without_native_mode_is_generic() {
    let Some(mut bench) = Bench::new("a_bond_with_a_member_without_native_mode_is_generic") else {
        return;
    };
    let report = bench.cover_bond("lo", &["veth0", "macvlan0"]);
    assert_eq!((report.mode, report.on.len()), (Mode::Generic, 0));
    let reason = report.reason.unwrap();
    for part in ["native mode: Operation not supported", "its member macvlan0: "] {
        assert!(reason.contains(part), "{reason}");
    }
    // The member that could have been attached to is not left behind.
    assert_eq!(bench.modes(), [("lo".to_owned(), Mode::Generic)]);
}
