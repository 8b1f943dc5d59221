//! How long it takes to load what is banned, and how much memory it takes then.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use firewall::ban::keeper::{Keeper, KeeperSettings};
use firewall::ban::ledger::Capacity;
use firewall::ban::record::{Ban, DropCount, Origin, Planes};
use firewall::ban::store::{BanRow, Batch, Store};
use firewall::clock::{Moment, Monotonic};
use firewall::control::kernel_plane::KernelPlane;
use firewall::kernel::{Kernel, ListId, Options};
use ipnet::IpNet;

use super::Session;
use super::filters::networks;
use super::outcome::{Load, Way};
use super::sources::{Ranges, Ranges6, Singles};

/// Where the tables of one start wait for the next, on the BPF file system of this process alone.
const PINS: &str = "/sys/fs/bpf/bench-load";

/// The kind of which a state file is read as well.
const RESTARTED: &str = "IPv4 addresses";

/// Lists and bans of `entries` each, into programs of their own that are attached to nothing.
pub(super) fn run(session: &mut Session, entries: usize) -> anyhow::Result<()> {
    for round in 0..session.plan.load_rounds {
        for (kind, networks) in kinds(session, entries) {
            list(session, kind, round, &networks)?;
            if round == 0 {
                bans(session, kind, &networks)?;
                if kind == RESTARTED {
                    restart(session, &networks)?;
                }
            }
        }
    }
    Ok(())
}

/// The bans of a state file, as a daemon without the kernel takes them up again: ledger, and the view
/// of one worker.
fn restart(session: &mut Session, networks: &[IpNet]) -> anyhow::Result<()> {
    let directory = std::env::temp_dir().join(format!("bench-load-{}", std::process::id()));
    std::fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
    let restarted = restart_in(&directory, networks);
    std::fs::remove_dir_all(&directory)?;
    let seconds = restarted?;
    let (kind, way, entries) = (RESTARTED, Way::Restart, networks.len());
    session.loads.push(Load { kind, way, round: 0, entries, seconds, octets: 0 });
    Ok(())
}

fn restart_in(directory: &Path, networks: &[IpNet]) -> anyhow::Result<f64> {
    let at = Moment::now();
    let day = Duration::from_hours(24);
    let row = |target: IpNet| {
        let ban = Ban {
            target,
            since: at.monotonic,
            until: at.monotonic.after(day),
            ttl: Some(day),
            origin: Origin::Automatic,
            rule: Some("route.unknown-path".into()),
            reason: Box::default(),
            step: 4,
            planes: Planes::Both,
            observed: false,
            drops: DropCount::default(),
            joined: 0,
        };
        (target, Some(BanRow::new(&ban, &at)))
    };
    let bans = networks.iter().copied().map(row).collect();
    let (mut store, _) = Store::open(directory)?;
    store.commit(&Batch { whole: true, bans, ..Batch::default() })?;
    drop(store);
    let capacity = Capacity { bans: networks.len(), ..Capacity::default() };
    let settings = KeeperSettings { capacity, ..KeeperSettings::default() };
    let began = Monotonic::now();
    let saved = Store::open(directory)?;
    let (mut keeper, handle) =
        Keeper::<KernelPlane>::new(settings, Some(saved), None, Moment::now());
    let (_view, _link) = keeper.worker();
    let seconds = Monotonic::now().since(began).as_secs_f64();
    let restored = handle.stats().bans_automatic.load(Ordering::Relaxed)
        + handle.stats().bans_aggregate.load(Ordering::Relaxed);
    anyhow::ensure!(restored > 0, "no ban was restored");
    Ok(seconds)
}

fn kinds(session: &mut Session, entries: usize) -> Vec<(&'static str, Vec<IpNet>)> {
    let order = &mut session.order;
    let singles = networks(&Singles::random(entries, order).addresses);
    let ranges = Ranges::random(entries, order).networks.into_iter().map(IpNet::V4).collect();
    let ranges6: Vec<IpNet> =
        Ranges6::random(entries, order).networks.into_iter().map(IpNet::V6).collect();
    let hosts6 = ranges6.iter().map(|net| IpNet::from(net.broadcast())).collect();
    vec![
        (RESTARTED, singles),
        ("IPv4 ranges", ranges),
        ("IPv6 addresses", hosts6),
        ("IPv6 ranges", ranges6),
    ]
}

fn options(pin_dir: &str) -> Options {
    Options { interfaces: Vec::new(), pin_dir: pin_dir.into(), ..Options::default() }
}

fn list(
    session: &mut Session,
    kind: &'static str,
    round: usize,
    networks: &[IpNet],
) -> anyhow::Result<()> {
    let mut kernel = Kernel::load(&options("/"))?;
    let list = ListId::new(1).context("there is no list 1")?;
    let began = Monotonic::now();
    let report = kernel.replace_list(list, networks)?;
    let seconds = Monotonic::now().since(began).as_secs_f64();
    let octets = kernel.ban_octets();
    let entries = report.prefixes;
    session.loads.push(Load { kind, way: Way::List, round, entries, seconds, octets });
    Ok(())
}

/// One by one, and taken over by the next start.
fn bans(session: &mut Session, kind: &'static str, networks: &[IpNet]) -> anyhow::Result<()> {
    let mut kernel = Kernel::load(&options(PINS))?;
    let began = Monotonic::now();
    for (before, network) in networks.iter().enumerate() {
        if let Err(error) = kernel.ban(*network, Monotonic::NEVER) {
            session.remark(format!("{kind}, bans one by one: {before}, then: {error}"));
            break;
        }
    }
    let seconds = Monotonic::now().since(began).as_secs_f64();
    // Of two ranges the last address may be the same.
    let entries = kernel.bans()?.len();
    let octets = kernel.ban_octets();
    session.loads.push(Load { kind, way: Way::OneByOne, round: 0, entries, seconds, octets });
    drop(kernel);
    let began = Monotonic::now();
    let kernel = Kernel::load(&options(PINS))?;
    let seconds = Monotonic::now().since(began).as_secs_f64();
    let found = kernel.bans()?.len();
    anyhow::ensure!(found == entries, "{found} of {entries} {kind} are taken over");
    let octets = kernel.ban_octets();
    session.loads.push(Load { kind, way: Way::TakenOver, round: 0, entries, seconds, octets });
    drop(kernel);
    if Path::new(PINS).exists() {
        std::fs::remove_dir_all(PINS).with_context(|| PINS.to_owned())?;
    }
    Ok(())
}
