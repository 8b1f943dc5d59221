//! What survives: a restart, a `kill -9`, a clock set wrong, a file that is not ours.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::ban::ledger::Record;
use crate::ban::record::{Ban, DropCount, Origin, Planes};
use crate::ban::scratch::Scratch;
use crate::ban::threshold::Threshold;
use crate::clock::{Moment, Monotonic, Wall};

const HOUR: Duration = Duration::from_hours(1);

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn moment(monotonic_s: u64, wall_s: u64) -> Moment {
    Moment {
        monotonic: Monotonic::from_ns(monotonic_s * 1_000_000_000),
        wall: Wall::from_ms(wall_s * 1_000),
        suspended: Duration::ZERO,
    }
}

fn ban(target: &str, origin: Origin, since: &Moment, ttl: Option<Duration>) -> Ban {
    Ban {
        target: net(target),
        since: since.monotonic,
        until: ttl.map_or(Monotonic::NEVER, |ttl| since.monotonic.after(ttl)),
        ttl,
        origin,
        rule: (origin == Origin::Automatic).then_some("route.unknown-path".into()),
        reason: "said so".into(),
        step: 3,
        planes: Planes::Proxy,
        observed: true,
        drops: DropCount::resumed(42, 0, since.monotonic),
        joined: if origin == Origin::Aggregate { 64 } else { 0 },
    }
}

fn put(bans: &[Ban], at: &Moment) -> Batch {
    let bans = bans.iter().map(|ban| (ban.target, Some(BanRow::new(ban, at)))).collect();
    Batch { bans, ..Batch::default() }
}

/// One ban, another for each round.
fn nth(round: u32) -> Batch {
    let target = IpNet::from(IpAddr::V4((0x0a00_0000 + round).into()));
    put(
        &[Ban { target, ..ban("10.0.0.0/32", Origin::Operator, &moment(0, 0), Some(HOUR)) }],
        &moment(0, 0),
    )
}

fn targets(loaded: &Loaded) -> Vec<IpNet> {
    loaded.bans.iter().map(|&(target, _)| target).collect()
}

#[test]
fn what_was_written_is_read_back() {
    let scratch = Scratch::new();
    let before = moment(1_000, 1_700_000_000);
    let bans = [
        ban("192.0.2.7/32", Origin::Automatic, &before, Some(HOUR)),
        ban("192.0.2.0/24", Origin::Operator, &before, None),
        ban("2001:db8::/64", Origin::Kernel, &before, Some(HOUR)),
        ban("2001:db8::1/128", Origin::Operator, &before, Some(HOUR)),
        ban("198.51.100.0/24", Origin::Aggregate, &before, Some(HOUR)),
    ];
    let record = Record { step: 3, forgive_at: before.monotonic.after(2 * HOUR) };
    {
        let (mut store, loaded) = Store::open(scratch.path()).unwrap();
        assert!(loaded.bans.is_empty() && loaded.set_aside.is_none());
        let mut batch = put(&bans, &before);
        batch.records.insert(net("192.0.2.7/32"), Some(RecordRow::new(record, &before)));
        assert_eq!(store.commit(&batch).unwrap(), Committed::Written);
    }
    let (mut store, loaded) = Store::open(scratch.path()).unwrap();
    assert_eq!(loaded.skipped, 0);
    // Ten minutes later, after a boot: the monotonic clock began anew.
    let after = moment(60, 1_700_000_600);
    let threshold = Threshold::default();
    for (target, row) in loaded.bans {
        let written = bans.iter().find(|ban| ban.target == target).unwrap();
        let read = row.ban(target, &threshold, &after).unwrap();
        let left = written.ttl.map(|ttl| ttl.saturating_sub(Duration::from_mins(10)));
        let expected = Ban {
            since: Monotonic::from_ns(0),
            until: left.map_or(Monotonic::NEVER, |left| after.monotonic.after(left)),
            drops: DropCount::resumed(42, 0, after.monotonic),
            ..written.clone()
        };
        assert_eq!(read, expected);
    }
    let (target, row) = loaded.records[0];
    let left = Duration::from_mins(110);
    let expected = Record { step: 3, forgive_at: after.monotonic.after(left) };
    assert_eq!((target, row.record(&threshold, &after)), (net("192.0.2.7/32"), Some(expected)));

    let mut batch = Batch::default();
    batch.bans.insert(net("192.0.2.7/32"), None);
    store.commit(&batch).unwrap();
    let whole = Batch { whole: true, ..nth(1) };
    drop(store);
    let (mut store, loaded) = Store::open(scratch.path()).unwrap();
    assert_eq!((loaded.bans.len(), loaded.records.len()), (4, 1));
    store.commit(&whole).unwrap();
    drop(store);
    let (_, loaded) = Store::open(scratch.path()).unwrap();
    assert_eq!((targets(&loaded), loaded.records.len()), (vec![net("10.0.0.1/32")], 0));
}

#[test]
fn no_clock_makes_a_ban_longer() {
    let written = moment(1_000_000, 1_700_000_000);
    let threshold = Threshold::default();
    let day = threshold.ladder.longest();
    for (origin, ttl, wall_s, left) in [
        (Origin::Automatic, Some(HOUR), 1_700_000_000, Some(HOUR)),
        (Origin::Automatic, Some(HOUR), 1_700_003_599, Some(Duration::from_secs(1))),
        (Origin::Automatic, Some(HOUR), 1_700_003_600, None),
        // The wall clock was set back by years, or the file comes from the future.
        (Origin::Automatic, Some(HOUR), 0, Some(HOUR)),
        (Origin::Automatic, Some(100 * day), 1_700_000_000, Some(day)),
        (Origin::Operator, Some(100 * day), 1_700_000_000, Some(100 * day)),
        (Origin::Operator, Some(HOUR), 0, Some(HOUR)),
        (Origin::Operator, None, 1_900_000_000, Some(Duration::MAX)),
        // What the policy made has an end.
        (Origin::Automatic, None, 1_700_000_000, None),
        (Origin::Aggregate, None, 1_700_000_000, None),
        (Origin::Aggregate, Some(100 * day), 1_700_000_000, Some(day)),
    ] {
        let row = BanRow::new(&ban("192.0.2.7/32", origin, &written, ttl), &written);
        let at = moment(50, wall_s);
        let found = row.ban(net("192.0.2.7/32"), &threshold, &at).map(|ban| ban.until);
        assert_eq!(found, left.map(|left| at.monotonic.after(left)), "{origin:?} {ttl:?} {wall_s}");
    }
    let record = Record { step: 1, forgive_at: written.monotonic.after(1000 * day) };
    let row = RecordRow::new(record, &written);
    let bound = written.monotonic.after(threshold.ladder.longest() + threshold.forgive_after);
    assert_eq!(row.record(&threshold, &written).unwrap().forgive_at, bound);
    let late = moment(50, 1_700_000_000 + 1001 * day.as_secs());
    assert_eq!(row.record(&threshold, &late), None);
}

#[test]
fn a_key_names_one_target_and_nothing_else_is_a_key() {
    for text in ["0.0.0.0/0", "192.0.2.7/32", "192.0.2.0/24", "::/0", "2001:db8::/64", "::1/128"] {
        assert_eq!(row::target(row::key(net(text))), Some(net(text)));
    }
    let valid = row::key(net("192.0.2.0/24"));
    for (place, value) in [(0, 5), (1, 33), (1, 23), (17, 1), (5, 1)] {
        let mut key = valid;
        key[place] = value;
        let expected = (place == 1 && value == 23).then(|| net("192.0.2.0/23"));
        assert_eq!(row::target(key), expected, "byte {place} = {value}");
    }
}

#[test]
fn the_file_is_for_its_owner_alone() {
    let scratch = Scratch::new();
    let (store, _) = Store::open(scratch.path()).unwrap();
    let mode = std::fs::metadata(store.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_in_use_stays_where_it_is() {
    let scratch = Scratch::new();
    let (mut store, _) = Store::open(scratch.path()).unwrap();
    store.commit(&nth(7)).unwrap();
    let second = Store::open(scratch.path());
    assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
    drop(store);
    let (_, loaded) = Store::open(scratch.path()).unwrap();
    assert_eq!(targets(&loaded), [net("10.0.0.7/32")]);
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let missing = Store::open(Path::new("/nonexistent/state"));
    assert!(matches!(missing, Err(StoreError::Io { .. })), "{missing:?}");
}

#[test]
fn a_damaged_file_is_set_aside_and_kept() {
    let scratch = Scratch::new();
    let path = scratch.path().join(FILE_NAME);
    for number in 1..=11 {
        let bytes = format!("no database, take {number}").repeat(1_000);
        std::fs::write(&path, &bytes).unwrap();
        let (_, loaded) = Store::open(scratch.path()).unwrap();
        assert!(loaded.bans.is_empty());
        let (moved, error) = loaded.set_aside.unwrap();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        let name = format!("{FILE_NAME}.corrupt-{}", number.min(9));
        assert_eq!(moved, scratch.path().join(name));
        assert_eq!(std::fs::read(moved).unwrap(), bytes.as_bytes());
    }
}

#[test]
fn a_database_of_something_else_is_set_aside() {
    let scratch = Scratch::new();
    let foreign = |format: Option<u64>| {
        let database = Database::create(scratch.path().join(FILE_NAME)).unwrap();
        let transaction = database.begin_write().unwrap();
        if let Some(format) = format {
            transaction.open_table(META).unwrap().insert(FORMAT_KEY, format).unwrap();
        }
        let other: TableDefinition<'_, u64, u64> = TableDefinition::new("bans");
        transaction.open_table(other).unwrap().insert(1, 2).unwrap();
        transaction.commit().unwrap();
    };
    for (format, number) in [(None, 1), (Some(2), 2), (Some(1), 3)] {
        let path = scratch.path().join(FILE_NAME);
        if path.exists() {
            std::fs::remove_file(&path).unwrap();
        }
        foreign(format);
        let (_, loaded) = Store::open(scratch.path()).unwrap();
        let (moved, error) = loaded.set_aside.unwrap();
        assert!(moved.ends_with(format!("{FILE_NAME}.corrupt-{number}")), "{moved:?}");
        match (format, error) {
            (Some(1), StoreError::Damaged { .. }) => {}
            (format, StoreError::Format { found, .. }) => assert_eq!(found, format),
            (format, error) => panic!("{format:?}: {error:?}"),
        }
    }
}

#[test]
fn a_row_that_cannot_be_read_costs_only_itself() {
    let scratch = Scratch::new();
    let (mut store, _) = Store::open(scratch.path()).unwrap();
    store.commit(&nth(7)).unwrap();
    {
        let transaction = store.database.as_ref().unwrap().begin_write().unwrap();
        {
            let mut bans = transaction.open_table(BANS).unwrap();
            bans.insert(row::key(net("192.0.2.1/32")), b"{}".as_slice()).unwrap();
            bans.insert([9; 18], b"{}".as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }
    drop(store);
    let (_, loaded) = Store::open(scratch.path()).unwrap();
    assert_eq!((targets(&loaded), loaded.skipped), (vec![net("10.0.0.7/32")], 2));
}

/// Bytes of a good file are flipped one place at a time: it opens as it was, or is set aside.
#[test]
fn a_flipped_byte_never_keeps_the_firewall_from_starting() {
    let original = Scratch::new();
    let (mut store, _) = Store::open(original.path()).unwrap();
    for round in 0..50 {
        store.commit(&nth(round)).unwrap();
    }
    drop(store);
    let good = std::fs::read(original.path().join(FILE_NAME)).unwrap();
    // The header byte by byte, a prime stride over the rest, and the rows themselves.
    let rows = good.windows(7).enumerate().filter(|(_, bytes)| bytes == b"said so");
    let places = (0..400).step_by(3).chain((400..good.len()).step_by(40_009));
    let places = places.chain(rows.map(|(place, _)| place).step_by(17));
    let flipped = places.map(|place| {
        let mut bytes = good.clone();
        bytes[place] ^= 0x01;
        bytes
    });
    let cut = [1, 100, 4_096, good.len() / 2, good.len() - 1].map(|length| good[..length].to_vec());
    let (mut intact, mut damaged) = (0, 0);
    for bytes in flipped.chain(cut) {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join(FILE_NAME), bytes).unwrap();
        let (mut store, loaded) = Store::open(scratch.path()).unwrap();
        if loaded.set_aside.is_some() {
            damaged += 1;
            assert!(loaded.bans.is_empty());
        } else {
            intact += 1;
        }
        // An older commit may be what is left whole, but nothing that was never written.
        assert_eq!(loaded.skipped, 0);
        for ((target, row), round) in loaded.bans.into_iter().zip(0..) {
            assert_eq!(nth(round).bans, BTreeMap::from([(target, Some(row))]));
        }
        assert_eq!(store.commit(&nth(99)).unwrap(), Committed::Written);
    }
    assert!(intact > 10 && damaged > 10, "{intact} intact, {damaged} damaged");
}

#[test]
fn a_copy_made_while_the_file_is_open_holds_every_commit() {
    let (scratch, copy) = (Scratch::new(), Scratch::new());
    let (mut store, _) = Store::open(scratch.path()).unwrap();
    for round in 0..20 {
        store.commit(&nth(round)).unwrap();
        // What a crash leaves: no clean shutdown, only what is on disk.
        std::fs::copy(store.path(), copy.path().join(FILE_NAME)).unwrap();
        let (_, loaded) = Store::open(copy.path()).unwrap();
        assert!(loaded.set_aside.is_none(), "{:?}", loaded.set_aside);
        assert_eq!(loaded.bans.len(), usize::try_from(round).unwrap() + 1);
    }
}

/// The test runs itself again as a process that commits and says so, and kills that process.
#[test]
fn what_was_acknowledged_survives_kill_9() {
    const CHILD: &str = "FIREWALL_TEST_STORE_CHILD";
    if let Some(directory) = std::env::var_os(CHILD) {
        let (mut store, _) = Store::open(Path::new(&directory)).unwrap();
        for round in 0..100_000 {
            store.commit(&nth(round)).unwrap();
            // Not println!, which the test harness would keep.
            writeln!(io::stdout(), "acknowledged {round}").unwrap();
        }
        panic!("nobody killed the writer");
    }
    let scratch = Scratch::new();
    for acknowledged_min in [1, 5, 40] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "ban::store::tests::what_was_acknowledged_survives_kill_9",
            ])
            .env(CHILD, scratch.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = None;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some((_, round)) = line.unwrap().split_once("acknowledged ") {
                let round: usize = round.parse().unwrap();
                acknowledged = Some(round);
                if round >= acknowledged_min {
                    // SIGKILL; lines already in the pipe are still read.
                    child.kill().unwrap();
                }
            }
        }
        assert!(!child.wait().unwrap().success());
        let (_, loaded) = Store::open(scratch.path()).unwrap();
        assert!(loaded.set_aside.is_none(), "{:?}", loaded.set_aside);
        assert_eq!(loaded.skipped, 0);
        let acknowledged = acknowledged.expect("the writer acknowledges");
        let held = targets(&loaded);
        for round in 0..=acknowledged {
            let target =
                IpNet::from(IpAddr::V4((0x0a00_0000 + u32::try_from(round).unwrap()).into()));
            assert!(held.contains(&target), "{target} of {acknowledged} is lost");
        }
    }
}

#[test]
fn after_an_error_the_next_commit_opens_the_file_again() {
    let scratch = Scratch::new();
    let (mut store, _) = Store::open(scratch.path()).unwrap();
    store.commit(&nth(1)).unwrap();
    store.database = None;
    assert_eq!(store.commit(&nth(2)).unwrap(), Committed::Written);
    store.database = None;
    std::fs::remove_file(store.path()).unwrap();
    assert_eq!(store.commit(&nth(2)).unwrap(), Committed::Anew);
    store.database = None;
    std::fs::write(store.path(), "no database any more").unwrap();
    // The caller learns that only this batch is in the file.
    assert_eq!(store.commit(&nth(3)).unwrap(), Committed::Anew);
    drop(store);
    let (_, loaded) = Store::open(scratch.path()).unwrap();
    assert_eq!(targets(&loaded), [net("10.0.0.3/32")]);
}

#[test]
fn a_newer_batch_wins_over_an_older_one() {
    let (one, two, three) = (net("10.0.0.1/32"), net("10.0.0.2/32"), net("10.0.0.3/32"));
    let mut older = nth(1);
    older.bans.extend(nth(2).bans);
    older.records.insert(three, None);
    let mut newer = Batch::default();
    newer.bans.insert(one, None);
    newer.absorb(older.clone());
    assert_eq!(newer.len(), 3);
    assert_eq!(newer.bans[&one], None);
    assert_eq!(newer.bans[&two], older.bans[&two]);
    let mut whole = Batch { whole: true, ..nth(3) };
    whole.absorb(older);
    assert_eq!(whole.bans.keys().collect::<Vec<_>>(), [&three]);
}
