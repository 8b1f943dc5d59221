//! Facts in, findings out.

use std::io;

use super::*;

fn machine() -> Machine {
    Machine {
        release: "6.1.0-13-amd64".into(),
        has_btf: true,
        jit: Some(1),
        unprivileged_bpf_disabled: Some(2),
        memory_max: None,
        memlock_max: Some(8 << 20),
        capabilities: 1 << 12 | 1 << 38 | 1 << 39,
        pins: PinState::Ready { directory: "/sys/fs/bpf/firewall/net-1".into(), holder: None },
        program: Ok(Some(1155)),
    }
}

fn refused(kind: i32) -> Result<Option<u32>, KernelError> {
    Err(KernelError::Refused { source: io::Error::from_raw_os_error(kind), log: String::new() })
}

/// What is not as it should be: identifier and severity.
fn of(machine: &Machine) -> Vec<(&'static str, Severity)> {
    let findings = of_machine(machine).into_iter();
    let findings = findings.filter(|finding| finding.severity > Severity::Ok);
    findings.map(|finding| (finding.id, finding.severity)).collect()
}

#[test]
fn a_sound_machine_is_sound() {
    assert_eq!(of(&machine()), []);
    let holder = PinState::Ready { directory: "/p".into(), holder: Some(7) };
    let running = Machine { pins: holder, ..machine() };
    assert_eq!(of(&running), []);
    assert!(of_machine(&running).iter().any(|finding| finding.what.contains("process 7")));
}

#[test]
fn each_lack_is_found() {
    use Severity::{Fatal, Note, Warning};
    let refused_pins = PinState::Refused { reason: "not on a BPF file system".into() };
    for (machine, id, severity) in [
        (Machine { release: "5.15.0".into(), ..machine() }, "kernel.version", Warning),
        (Machine { release: "strange".into(), ..machine() }, "kernel.version", Warning),
        (Machine { has_btf: false, ..machine() }, "kernel.btf", Note),
        (Machine { jit: Some(0), ..machine() }, "bpf.jit", Warning),
        (Machine { jit: None, ..machine() }, "bpf.jit", Note),
        (Machine { unprivileged_bpf_disabled: Some(0), ..machine() }, "bpf.unprivileged", Warning),
        (Machine { unprivileged_bpf_disabled: None, ..machine() }, "bpf.unprivileged", Note),
        (Machine { memory_max: Some((256 << 20) - 1), ..machine() }, "memory", Warning),
        (Machine { pins: PinState::Unmounted, ..machine() }, "bpf.pins", Warning),
        (Machine { pins: refused_pins, ..machine() }, "bpf.pins", Warning),
        (Machine { program: refused(1), ..machine() }, "kernel.program", Fatal),
        (Machine { program: refused(22), ..machine() }, "kernel.program", Fatal),
    ] {
        assert_eq!(of(&machine), [(id, severity)], "{machine:?}");
    }
    assert_eq!(of(&Machine { memory_max: Some(256 << 20), ..machine() }), []);
    let old = Machine { release: "5.11.0".into(), ..machine() };
    assert_eq!(of(&old), [("kernel.version", Warning),]);
    let older = Machine { release: "5.10.0".into(), ..machine() };
    assert_eq!(of(&older), [("kernel.version", Warning), ("memory", Warning)]);
}

#[test]
fn missing_capabilities_are_named() {
    let all = 1 << 12 | 1 << 38 | 1 << 39;
    for (has, missing) in [
        (all, vec![]),
        (0, vec!["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]),
        (all & !(1 << 38), vec!["CAP_PERFMON"]),
        (1 << 21 | 1 << 12, vec![]),
        (1 << 21, vec!["CAP_NET_ADMIN"]),
    ] {
        assert_eq!(missing_capabilities(has), missing, "{has:x}");
    }
    let without = Machine { capabilities: 1 << 12, program: refused(1), ..machine() };
    let found = program(&without);
    assert_eq!(found.remedy.as_deref(), Some("give it CAP_PERFMON, CAP_BPF"));
}

fn interface() -> InterfaceFacts {
    InterfaceFacts {
        name: "eth0".into(),
        driver: Some("ice".into()),
        mtu: 1500,
        is_up: true,
        is_native: Some(true),
        takes_fragments: Some(true),
        ..InterfaceFacts::default()
    }
}

#[test]
fn interfaces_are_judged() {
    use Severity::{Fatal, Note, Warning};
    let stacked = InterfaceFacts {
        kind: Some("vlan".into()),
        is_native: Some(false),
        beneath: Some("eth0".into()),
        ..interface()
    };
    let one_page = InterfaceFacts { takes_fragments: Some(false), ..interface() };
    let foreign = InterfaceFacts { foreign: Some("XDP program 7".into()), ..interface() };
    let member = |is_wanted, open: &[&str]| {
        let open = open.iter().map(|name| (*name).to_owned()).collect();
        let bond = BondFacts { name: "bond0".into(), is_wanted, open };
        InterfaceFacts { bond: Some(bond), ..interface() }
    };
    let bond = InterfaceFacts {
        kind: Some("bond".into()),
        driver: None,
        is_native: Some(false),
        ..interface()
    };
    let with = |offload: &str| InterfaceFacts { offloads: vec![offload.into()], ..interface() };
    for (facts, expected) in [
        (interface(), vec![]),
        (InterfaceFacts { is_native: None, ..interface() }, vec![("interface.mode", Note)]),
        (
            InterfaceFacts { is_native: Some(false), ..interface() },
            vec![("interface.mode", Warning)],
        ),
        (stacked.clone(), vec![("interface.mode", Warning)]),
        (InterfaceFacts { may_go_beneath: true, ..stacked }, vec![]),
        (InterfaceFacts { mtu: 3498, ..one_page.clone() }, vec![]),
        (InterfaceFacts { mtu: 3499, ..one_page }, vec![("interface.mtu", Warning)]),
        (InterfaceFacts { mtu: 9000, ..interface() }, vec![]),
        (InterfaceFacts { is_up: false, ..interface() }, vec![("interface.down", Note)]),
        (foreign.clone(), vec![("interface.foreign", Warning)]),
        (InterfaceFacts { is_required: true, ..foreign }, vec![("interface.foreign", Fatal)]),
        (member(true, &["eth0", "eth1"]), vec![("interface.member", Note)]),
        (member(false, &["eth1"]), vec![("interface.member", Warning)]),
        (member(false, &[]), vec![]),
        (bond.clone(), vec![("interface.mode", Warning)]),
        (InterfaceFacts { is_native: Some(true), ..bond.clone() }, vec![]),
        (with("rx-lro"), vec![("interface.merging", Warning)]),
        (with("rx-gro-hw"), vec![("interface.merging", Warning)]),
        (with("rx-vlan-hw-parse"), vec![("interface.vlan-offload", Note)]),
    ] {
        let findings = of_interface(&facts);
        assert!(findings.iter().all(|finding| finding.interface.as_deref() == Some("eth0")));
        let found: Vec<_> = findings
            .iter()
            .filter(|finding| finding.severity > Severity::Ok)
            .map(|finding| (finding.id, finding.severity))
            .collect();
        assert_eq!(found, expected, "{facts:?}");
    }
    let named = |facts: &InterfaceFacts, words: &str| {
        let findings = of_interface(facts);
        let found = findings.iter().any(|found| found.text().contains(words));
        assert!(found, "{findings:?}");
    };
    named(
        &member(false, &["eth1", "eth2"]),
        "a member of bond0, of which eth1, eth2 is not filtered",
    );
    named(&bond, "802.3ad");
    let lro = of_interface(&with("rx-lro"));
    assert!(lro.iter().any(|found| found.remedy.as_deref() == Some("ethtool -K eth0 lro off")));
    let mut absent = InterfaceOptions::of("wan*".parse().unwrap());
    assert_eq!(missing(&absent).severity, Warning);
    absent.is_required = true;
    assert_eq!(missing(&absent).severity, Fatal);
}
