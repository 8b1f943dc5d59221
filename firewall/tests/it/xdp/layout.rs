//! Another version's tables: an older one's are followed without a gap, a newer one's are respected.

use std::path::PathBuf;

use firewall::clock::Monotonic;
use firewall::kernel::{InterfaceOptions, Kernel, KernelError, Options};
use ipnet::IpNet;

use super::attach::{Path, network};
use super::net::{CLIENT, Network};
use super::permitted;

fn options(network: &Network) -> Options {
    Options {
        interfaces: vec![InterfaceOptions::of("gw0".parse().unwrap())],
        pin_dir: network.pins.path().join("firewall"),
        ..Options::default()
    }
}

/// The directory of the present layout's maps.
fn tables(options: &Options) -> PathBuf {
    let namespace = std::fs::read_dir(&options.pin_dir).unwrap().next().unwrap().unwrap();
    let entries = std::fs::read_dir(namespace.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut tables = entries.filter(|path| path.is_dir());
    tables.next().expect("pinned maps")
}

fn renamed(tables: &std::path::Path, by: i64) {
    let name = tables.file_name().unwrap().to_str().unwrap();
    let layout: i64 = name.strip_prefix('v').unwrap().parse().unwrap();
    std::fs::rename(tables, tables.with_file_name(format!("v{}", layout + by))).unwrap();
}

#[test]
fn what_is_written_before_attaching_is_in_force_from_the_first_packet_on() {
    const TEST: &str = "what_is_written_before_attaching_is_in_force_from_the_first_packet_on";
    let Some(network) = network(TEST) else { return };
    let options = options(&network);
    let start = || network.gateway.run(|| Kernel::start(&options)).unwrap();
    let Some(mut kernel) = permitted(TEST, start()) else { return };
    let (target, path) = (IpNet::from(std::net::IpAddr::V4(CLIENT)), Path::new(&network));
    kernel.ban(target, Monotonic::NEVER).unwrap();
    drop(kernel);
    // To a version that comes later they are tables of another layout.
    renamed(&tables(&options), -1);

    let mut later = network.gateway.run(|| Kernel::load(&options)).unwrap().unwrap();
    assert_eq!(later.bans().unwrap(), [], "its tables are its own");
    path.is_shut(3);
    later.ban(target, Monotonic::NEVER).unwrap();
    network.gateway.run(|| later.attach()).unwrap().unwrap();
    path.is_shut(3);
    assert!(later.drops(target).unwrap().unwrap() >= 3, "its program drops them");
    let left = std::fs::read_dir(tables(&options).parent().unwrap()).unwrap();
    let directories = left.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(directories, 1, "the older tables are gone");
}

#[test]
fn a_newer_versions_tables_stay_in_force() {
    const TEST: &str = "a_newer_versions_tables_stay_in_force";
    let Some(network) = network(TEST) else { return };
    let options = options(&network);
    let start = || network.gateway.run(|| Kernel::start(&options)).unwrap();
    let Some(mut kernel) = permitted(TEST, start()) else { return };
    let path = Path::new(&network);
    kernel.ban(IpNet::from(std::net::IpAddr::V4(CLIENT)), Monotonic::NEVER).unwrap();
    drop(kernel);
    renamed(&tables(&options), 1);

    let refused = start().err().expect("an error");
    assert!(matches!(refused, KernelError::NewerLayout { .. }), "{refused}");
    for part in ["newer", "firewall detach"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    path.is_shut(3);
}
