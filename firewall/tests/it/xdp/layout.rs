//! Another version's tables: an older one's are followed without a gap, a newer one's are respected.

use std::path::PathBuf;

use firewall::clock::Monotonic;
use firewall::kernel::{InterfaceOptions, Kernel, KernelError, ListId, Options};
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
    // To a version that comes later they are tables of a layout that nobody knows any more.
    renamed(&tables(&options), -2);

    let mut later = network.gateway.run(|| Kernel::load(&options)).unwrap().unwrap();
    assert_eq!(later.bans().unwrap(), [], "nobody can read them");
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

#[test]
fn an_older_layouts_bans_are_taken_over() {
    const TEST: &str = "an_older_layouts_bans_are_taken_over";
    let Some(network) = network(TEST) else { return };
    let options = options(&network);
    let start = || network.gateway.run(|| Kernel::start(&options)).unwrap();
    let Some(mut kernel) = permitted(TEST, start()) else { return };
    let target = |text: &str| text.parse::<IpNet>().unwrap();
    let (client, path) = (IpNet::from(std::net::IpAddr::V4(CLIENT)), Path::new(&network));
    let until = Monotonic::now().after(std::time::Duration::from_hours(1));
    kernel.ban(client, until).unwrap();
    for other in ["198.51.100.0/24", "2001:db8:7::/48", "2001:db8::1/128"] {
        kernel.ban(target(other), Monotonic::NEVER).unwrap();
    }
    let list = ListId::new(7).unwrap();
    let listed = [target("203.0.113.0/28"), target("2001:db8:f00d::/64")];
    kernel.replace_list(list, &listed).unwrap();
    path.is_shut(4);
    drop(kernel);
    renamed(&tables(&options), -1);
    path.is_shut(2);

    let mut later = network.gateway.run(|| Kernel::load(&options)).unwrap().unwrap();
    let mut bans = later.bans().unwrap();
    bans.sort_by_key(|(target, _)| *target);
    let targets: Vec<_> = bans.iter().map(|(target, _)| target.to_string()).collect();
    let expected = ["10.77.0.2/32", "198.51.100.0/24", "2001:db8::1/128", "2001:db8:7::/48"];
    assert_eq!(targets, expected);
    let (_, ban) = bans[0];
    assert_eq!(ban.until_mono_ns, until.ns());
    assert!(ban.drops >= 6, "{ban:?}");
    // One that ends before the older program is replaced, and a start that came to no end.
    assert!(later.unban(target("198.51.100.0/24")).unwrap());
    path.is_shut(1);
    drop(later);

    let Some(mut later) = permitted(TEST, start()) else { return };
    assert_eq!(later.bans().unwrap().len(), 4, "what is taken over twice is there once");
    path.is_shut(3);
    assert!(later.drops(client).unwrap().unwrap() >= 9, "they are counted on");
    for listed in [[203, 0, 113, 15], [198, 51, 100, 1]] {
        let mut frame = vec![0; 14];
        frame[12] = 8;
        frame.extend([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0]);
        frame.extend(listed.iter().chain(&[10, 77, 0, 1]));
        assert!(later.probe(&frame, 1).unwrap().is_dropped, "{listed:?}");
    }
    assert_eq!(later.list_drops(list).unwrap(), 1);
    drop(later);
    let Some(again) = permitted(TEST, start()) else { return };
    assert_eq!(again.bans().unwrap().len(), 4);
}
