//! What takes a loader that the outside has no use for.

use std::collections::BTreeSet;

use aya::maps::MapInfo;
use aya::programs::loaded_programs;
use firewall_common::maps::PINNED;
use firewall_ebpf::cases;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use xtask::lab::{self, Change, Device, NetNs};
use xtask::skip::skipped;

use super::maps::SHARED;
use super::*;

/// The smallest ring buffer: room for 73 events.
const PAGE_OCTETS: u32 = 4096;
/// Longer than it takes to fill: every reason is sampled ten times a second.
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn events_without_room_are_counted_as_lost() {
    let options = Options { pin_dir: "/proc/nowhere".into(), ..Options::default() };
    let mut kernel = match Kernel::with_ring(&options, PAGE_OCTETS) {
        Err(error) if error.is_not_permitted() => {
            return skipped("events_without_room_are_counted_as_lost", &error.to_string());
        }
        started => started.unwrap(),
    };
    assert_eq!(kernel.counters().unwrap().events_lost, 0);
    // Nobody reads the events.
    let cases = cases::all();
    let started = Monotonic::now();
    while kernel.counters().unwrap().events_lost == 0 {
        assert!(Monotonic::now().since(started) < DEADLINE, "the ring buffer is never full");
        for case in &cases {
            kernel.probe(&case.frame, 1).unwrap();
        }
    }
}

/// A BPF file system, unmounted when dropped.
pub(super) struct BpfFs(pub(super) PathBuf);

impl BpfFs {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("firewall-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        mount("bpf", &path, "bpf", MountFlags::empty(), None).unwrap();
        Self(path)
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        // What cannot be unmounted cannot be removed.
        if unmount(&self.0, UnmountFlags::DETACH).is_ok() {
            drop(std::fs::remove_dir(&self.0));
        }
    }
}

fn machine(test: &str) -> Option<NetNs> {
    match NetNs::new() {
        Err(error) if error.is_unavailable() => {
            skipped(test, &error.to_string());
            None
        }
        made => Some(made.unwrap()),
    }
}

#[test]
fn restarts_leave_maps_and_programs_as_they_were() {
    const RESTARTS: usize = 60;
    let Some(machine) = machine("restarts_leave_maps_and_programs_as_they_were") else { return };
    lab::add(&machine, "wan0", Device::Veth { peer: "far0", mtu: 1500 }).unwrap();
    let pins = BpfFs::new("restarts");
    let options = Options {
        interfaces: vec![InterfaceOptions::of("wan0".parse().unwrap())],
        pin_dir: pins.0.join("firewall"),
        ..Options::default()
    };
    let (mut seen, mut first) = (BTreeSet::new(), None);
    for restart in 0..=RESTARTS {
        let mut kernel = machine.run(|| Kernel::start(&options)).unwrap().unwrap();
        let [report] = kernel.interfaces() else { panic!("{:?}", kernel.interfaces()) };
        assert_eq!((report.mode, report.adopted), (Mode::Native, restart > 0));
        let Pinning::Pinned(directory) = kernel.pinning().clone() else { panic!("not pinned") };
        let version = directory.join(format!("v{}", firewall_common::LAYOUT));
        let maps: Vec<u32> = PINNED
            .iter()
            .chain(&SHARED)
            .map(|map| MapInfo::from_pin(version.join(map.name)).unwrap().id())
            .collect();
        // Programs that use our maps, which are no other test's.
        let programs = loaded_programs().filter_map(Result::ok).filter(|program| {
            let uses = program.map_ids().ok().flatten().unwrap_or_default();
            uses.contains(&maps[0])
        });
        let own = xdp(&mut kernel.attacher().unwrap().program).unwrap().info().unwrap().id();
        // The first one is kept while those after it are on probation.
        let first = *first.get_or_insert(own);
        let programs: BTreeSet<u32> = programs.map(|program| program.id()).collect();
        assert_eq!(programs, BTreeSet::from([first, own]), "{restart}");
        let links = std::fs::read_dir(directory).unwrap().count();
        seen.insert((maps, links));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn lost_messages_are_noticed() {
    let Some(machine) = machine("lost_messages_are_noticed") else { return };
    lab::add(&machine, "wan0", Device::Veth { peer: "far0", mtu: 1500 }).unwrap();
    let mut watch = machine.run(|| Watch::with_room(1)).unwrap().unwrap();
    for _ in 0..40 {
        for change in [Change::Up, Change::Down] {
            lab::change(&machine, "wan0", change).unwrap();
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (heard, later) = runtime.block_on(async {
        let mut heard = watch.changed().await.unwrap();
        while !heard.has_lost {
            heard = watch.changed().await.unwrap();
        }
        // It goes on hearing.
        lab::change(&machine, "wan0", Change::Up).unwrap();
        (heard, watch.changed().await.unwrap())
    });
    assert!(heard.has_lost, "{heard:?}");
    assert!(later.messages > 0, "{later:?}");
}
