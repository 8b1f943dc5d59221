//! What is in tables and tries when a process comes after another one, with a loader or without.

use std::path::Path;
use std::sync::Arc;

use aya::maps::lpm_trie::LpmTrie;

use super::*;
use crate::kernel::pin::Pins;
use crate::kernel::split::Client;
use crate::kernel::table::Maker;
use crate::kernel::tests::BpfFs;

/// More lengths than a look-up of the table tries. The last in use is the first in order.
const LENGTHS: [&str; 8] = [
    "2a00:49::/49",
    "2a00:50::/50",
    "2a00:51::/51",
    "2a00:52::/52",
    "2a00:53::/53",
    "2a00:54::/54",
    "2a00:55::/55",
    "2a00:56::/56",
];
const NINTH: &str = "2a00:1::/57";

struct Pinned {
    fs: BpfFs,
}

impl Pinned {
    fn new(name: &str) -> Self {
        Self { fs: BpfFs::new(name) }
    }

    fn start(&self, test: &str) -> Option<Kernel> {
        start_with(test, &Options { pin_dir: self.fs.0.join("firewall"), ..Options::default() })
    }

    /// What is there, as a process opens it that would need a loader, and finds none.
    fn without_loader(&self) -> BanTables {
        let pins = Pins::at(&self.fs.0.join("firewall")).unwrap();
        let client = Client::new(Path::new("/proc/nowhere"), pins.maps());
        let maker = Maker::Loader(Arc::new(client));
        let home = Home { maker, pins: Some(pins.maps()), maps: Some(pins.maps()) };
        BanTables::open(&mut Source::Pinned(&pins), home).unwrap()
    }
}

fn is_dropped(kernel: &mut Kernel, target: &str) -> bool {
    kernel.probe(&frame(net(target).addr()), 1).unwrap().is_dropped
}

/// Bans the ninth length after eight others, so that it is in a trie.
fn ban_nine(kernel: &mut Kernel) {
    for target in LENGTHS.iter().chain([&NINTH]) {
        kernel.ban(net(target), Monotonic::NEVER).unwrap();
    }
    assert!(kernel.tables.bans.spill.holds(net(NINTH)));
}

#[test]
fn what_is_lifted_after_a_restart_passes() {
    const TEST: &str = "what_is_lifted_after_a_restart_passes";
    if start(TEST).is_none() {
        return;
    }
    let pinned = Pinned::new("lifted");
    let mut kernel = pinned.start(TEST).unwrap();
    ban_nine(&mut kernel);
    drop(kernel);

    let mut kernel = pinned.start(TEST).unwrap();
    for target in LENGTHS.iter().chain([&NINTH]) {
        assert!(is_dropped(&mut kernel, target), "{target}");
    }
    assert!(kernel.unban(net(NINTH)).unwrap());
    assert!(!is_dropped(&mut kernel, NINTH), "its place in the trie was forgotten");

    // There is room in the table when it comes back, and another one spills afterwards.
    kernel.ban(net(NINTH), Monotonic::NEVER).unwrap();
    assert!(kernel.unban(net(LENGTHS[0])).unwrap());
    drop(kernel);
    let mut kernel = pinned.start(TEST).unwrap();
    assert!(is_dropped(&mut kernel, NINTH));
    kernel.ban(net(LENGTHS[0]), Monotonic::NEVER).unwrap();
    assert!(kernel.tables.bans.spill.holds(net(LENGTHS[0])));
    assert!(kernel.unban(net(NINTH)).unwrap());
    assert!(!is_dropped(&mut kernel, NINTH), "it is in the table and in the trie");
    assert!(is_dropped(&mut kernel, LENGTHS[0]));
}

#[test]
fn what_ended_while_nobody_ran_leaves_the_tries() {
    const TEST: &str = "what_ended_while_nobody_ran_leaves_the_tries";
    if start(TEST).is_none() {
        return;
    }
    let pinned = Pinned::new("ended");
    let mut kernel = pinned.start(TEST).unwrap();
    ban_nine(&mut kernel);
    // As a process leaves it that dies between the two.
    let bans = &kernel.tables.bans;
    Records::end(bans.record_lines.memory(), bans.bans[&net(NINTH)]);
    drop(kernel);
    let mut kernel = pinned.start(TEST).unwrap();
    let tenth = "2a00:58::/58";
    kernel.ban(net(tenth), Monotonic::NEVER).unwrap();
    assert!(is_dropped(&mut kernel, tenth), "tries are looked up");
    assert!(!is_dropped(&mut kernel, NINTH));
    assert_eq!(kernel.bans().unwrap().len(), LENGTHS.len() + 1);
}

#[test]
fn tables_as_found_enforce_what_was_spilled() {
    const TEST: &str = "tables_as_found_enforce_what_was_spilled";
    if start(TEST).is_none() {
        return;
    }
    let pinned = Pinned::new("found");
    let mut kernel = pinned.start(TEST).unwrap();
    ban_nine(&mut kernel);
    drop(kernel);

    let mut tables = pinned.without_loader();
    assert!(tables.is_as_found);
    assert!(tables.spill.holds(net(NINTH)));
    assert_eq!(tables.bits(), table::BAN6 | table::SPILL6);
    // One more of a length that the table has, and one of those that it held.
    tables.put(net("2a00:149::/49"), u64::MAX).unwrap();
    assert!(tables.remove(net(LENGTHS[0])).unwrap());
    assert!(tables.remove(net(NINTH)).unwrap());
    assert!(!tables.spill.holds_any(false));
    drop(tables);

    let mut kernel = pinned.start(TEST).unwrap();
    for target in LENGTHS[1..].iter().chain([&"2a00:149::/49"]) {
        assert!(is_dropped(&mut kernel, target), "{target}");
    }
    for target in [LENGTHS[0], NINTH] {
        assert!(!is_dropped(&mut kernel, target), "{target}");
    }
}

/// 42 networks of 128 entries each: more than a table of 8,192 places has without being crowded. By few of
/// the seeds, which are random, one of them has no room all the same; another seed is taken then.
#[test]
fn a_crowded_table_that_cannot_grow_takes_what_it_has_room_for() {
    const TEST: &str = "a_crowded_table_that_cannot_grow_takes_what_it_has_room_for";
    if start(TEST).is_none() {
        return;
    }
    let targets: Vec<String> = (0..42).map(|n| format!("198.51.{n}.0/25")).collect();
    let crowded = |_| {
        let pinned = Pinned::new("crowded");
        drop(pinned.start(TEST).unwrap());
        let mut tables = pinned.without_loader();
        for target in &targets {
            tables.put(net(target), u64::MAX).unwrap();
        }
        assert!(tables.is_as_found && tables.v4.is_crowded(tables.v4_lines.lines()));
        (!tables.spill.holds_any(true)).then_some((pinned, tables))
    };
    let (pinned, mut tables) = (0..8).find_map(crowded).expect("the table has room");
    assert_eq!(tables.bits(), table::BAN4);
    // Not even what it held before.
    assert!(tables.remove(net(&targets[0])).unwrap());
    tables.put(net(&targets[0]), u64::MAX).unwrap();
    assert!(!tables.spill.holds_any(true));
    drop(tables);
    let mut kernel = pinned.start(TEST).unwrap();
    for target in &targets {
        assert!(is_dropped(&mut kernel, target), "{target}");
    }
}

#[test]
fn what_a_trie_does_not_give_up_is_tried_again() {
    const TEST: &str = "what_a_trie_does_not_give_up_is_tried_again";
    // BPF_F_NO_PREALLOC, and BPF_F_RDONLY: by this descriptor nothing is taken out.
    const FLAGS: u32 = 1 | 1 << 3;
    if start(TEST).is_none() {
        return;
    }
    let pinned = Pinned::new("kept");
    let mut kernel = pinned.start(TEST).unwrap();
    ban_nine(&mut kernel);
    let until = Monotonic::from_ns(u64::MAX / 2);
    for is_banned_anew in [true, false] {
        let refusing = LpmTrie::create(1, FLAGS).unwrap();
        let trie = std::mem::replace(&mut kernel.tables.bans.spill.v6, refusing);
        assert!(kernel.unban(net(NINTH)).is_err());
        kernel.tables.bans.spill.v6 = trie;
        assert!(is_dropped(&mut kernel, NINTH));
        if is_banned_anew {
            kernel.ban(net(NINTH), until).unwrap();
            drop(kernel);
            kernel = pinned.start(TEST).unwrap();
            let ban = kernel.tables.ban_of(net(NINTH)).expect("a restart knows it");
            assert_eq!(ban.until_mono_ns, until.ns());
        }
    }
    assert!(kernel.unban(net(NINTH)).unwrap(), "it is forgotten, and stays");
    assert!(!is_dropped(&mut kernel, NINTH));
    assert!(!kernel.unban(net(NINTH)).unwrap());
}

#[test]
fn a_table_whose_pin_keeps_its_first_name_is_used() {
    const TEST: &str = "a_table_whose_pin_keeps_its_first_name_is_used";
    if start(TEST).is_none() {
        return;
    }
    let pinned = Pinned::new("renamed");
    let mut kernel = pinned.start(TEST).unwrap();
    let maps = Pins::at(&pinned.fs.0.join("firewall")).unwrap().maps();
    let pin = maps.join(format!("{}-{}", BANS.name, inner::V4));
    // Nothing is renamed to what is a directory.
    std::fs::remove_file(&pin).unwrap();
    std::fs::create_dir(&pin).unwrap();
    let prefixes = [net("203.0.113.0/24")];
    kernel.replace_list(LIST, &prefixes).unwrap();
    kernel.ban(net("198.51.100.7/32"), Monotonic::NEVER).unwrap();
    for target in ["203.0.113.0/24", "198.51.100.7/32"] {
        assert!(is_dropped(&mut kernel, target), "{target}");
    }
    drop(kernel);
    std::fs::remove_dir(&pin).unwrap();
    let kernel = pinned.start(TEST).unwrap();
    assert_eq!(kernel.tables.bans.lists().collect::<Vec<_>>(), [LIST]);
    assert!(pin.exists(), "the next table is pinned as ever");
}
