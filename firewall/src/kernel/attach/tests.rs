//! What is made of two listings.

use super::*;

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
