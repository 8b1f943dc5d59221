//! Mount namespaces of the daemon's own, as a service manager makes one for each start.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::mount::{MountPropagationFlags, mount_change};
use serde_json::Value;
use xtask::lab::Topology;
use xtask::skip::skipped;

use super::{Family, NEIGHBOUR, SCANNER, Site, notes_on, on};
use crate::contract::NOTES;
use crate::kit::gateway::{Gateway, Setup};
use crate::xdp::net::BpfFs;

/// A command line that starts what follows in a mount namespace of its own, as a service manager does
/// for `PrivateMounts=` and `ProtectSystem=`: it receives what is mounted outside.
fn receiving() -> Vec<String> {
    ["unshare", "--mount", "--propagation", "slave"].map(str::to_owned).to_vec()
}

/// The same, cut off from what is mounted outside, with something to be done there first. The first
/// process that it sees lives outside: it is one that may be asked where it lives.
fn cut_off(first: &str) -> Vec<String> {
    let outside =
        "unshare --pid --fork --kill-child --mount --mount-proc --propagation private sh -c";
    let inside = "unshare --mount --propagation private sh -c";
    let mut words: Vec<String> = outside.split(' ').map(str::to_owned).collect();
    // The first shell must stay, and not become what it starts.
    words.push(format!("{inside} '{first} exec \"$@\"' sh \"$@\"; exit $?"));
    words.push("sh".to_owned());
    words
}

/// Whether mount namespaces can be made here; if not, that is said.
fn may_mount(test: &str) -> bool {
    let probe = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    let may = probe.is_ok_and(|status| status.success());
    if !may {
        skipped(test, "no mount namespace can be made");
    }
    may
}

/// A firewall in such a namespace; none, and said so, where the machine cannot have one.
fn start(test: &str, wrapper: Vec<String>, pins: &str) -> Option<Site> {
    let topology = match Topology::new() {
        Ok(topology) => topology,
        Err(error) if error.is_unavailable() => {
            skipped(test, &error.to_string());
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let interface = Topology::PUBLIC_INTERFACE;
    let setup = Setup {
        listen: "address = \"[::]:8080\"\nplaintext = true".into(),
        kernel: format!("interfaces = [\"{interface}\"]\npin_dir = \"{pins}\""),
        wrapper,
        ..Setup::of(NOTES)
    };
    let listener = topology.api.bind(SocketAddr::new(Topology::API_V4.into(), 9000)).unwrap();
    let upstream = notes_on(listener);
    let gateway = Gateway::start_with(&setup, &upstream.url(), |command| on(&topology, command));
    assert_eq!(gateway.status()["mode"], "xdp-native", "{}", gateway.status());
    Some(Site { gateway, topology })
}

#[test]
fn pins_outlive_the_namespace_that_they_were_made_in() {
    let test = "kernel_loop::mounts::pins_outlive_the_namespace_that_they_were_made_in";
    if !may_mount(test) {
        return;
    }
    let file_system = BpfFs::new();
    mount_change(file_system.path(), MountPropagationFlags::SHARED).unwrap();
    let pins = file_system.path().join("firewall");
    let Some(site) = start(test, receiving(), pins.to_str().unwrap()) else { return };
    let status = site.gateway.status();
    assert_eq!((&status["pinned"], &status["reasons"]), (&true.into(), &Value::Array(Vec::new())));
    let namespace = |site: &Site| {
        let path = format!("/proc/{}/ns/mnt", site.gateway.pid());
        std::fs::read_link(path).unwrap()
    };
    let here = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_ne!(namespace(&site), here);
    site.scan(Family::V4);
    site.assert_dropped(Family::V4, SCANNER);

    let Site { gateway, topology } = site;
    let gateway = gateway.kill_and_restart_after(|command| on(&topology, command), || ());
    let site = Site { gateway, topology };
    // The first one has ended with its only process.
    assert_ne!(namespace(&site), here);
    let status = site.gateway.status();
    assert_eq!(status["interfaces"][0]["adopted"], true, "{status}");
    assert_eq!(site.gateway.bans().len(), 1);
    site.assert_dropped(Family::V4, SCANNER);
    site.assert_served(Family::V4, NEIGHBOUR);
}

#[test]
fn what_would_end_with_the_namespace_is_not_pinned_and_said_so() {
    let test = "kernel_loop::mounts::what_would_end_with_the_namespace_is_not_pinned_and_said_so";
    if !may_mount(test) {
        return;
    }
    let own = BpfFs::new();
    let own = own.path().join("firewall");
    for (first, pins) in [
        // Nobody but this namespace has it, and none is there at all.
        ("", own.to_str().unwrap()),
        ("umount --lazy /sys/fs/bpf 2>/dev/null;", "/sys/fs/bpf/firewall"),
    ] {
        let Some(site) = start(test, cut_off(first), pins) else { return };
        let status = site.gateway.status();
        assert_eq!(status["pinned"], false, "{pins}: {status}");
        let reasons = status["reasons"].to_string();
        for said in ["bans are lost on exit", "ends with the mount namespace of this process"] {
            assert!(reasons.contains(said), "{pins}: {reasons}");
        }
        // It works all the same, for as long as it lives.
        site.scan(Family::V4);
        site.assert_dropped(Family::V4, SCANNER);
    }
}
