//! Without an interface: `BPF_PROG_TEST_RUN`, tables, counters, events, the program's own log.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use firewall::clock::Monotonic;
use firewall::kernel::{
    BanMode, Check, CheckSetting, Counters, InterfaceOptions, Kernel, LogLevel, Mode, Options,
    Pinning, Reason, Role,
};
use firewall_ebpf::cases::{self, Case, Prefix};
use firewall_ebpf::verdict::verdict;
use ipnet::IpNet;

use super::start;

/// Frames shorter than an Ethernet header are refused by `BPF_PROG_TEST_RUN`.
const FRAME_MIN: usize = 14;
/// Truncations beyond the headers change nothing.
const TRUNCATION_MAX: usize = 140;

pub(super) fn unpinned() -> Options {
    Options { pin_dir: PathBuf::from("/proc/nowhere"), ..Options::default() }
}

pub(super) fn options(case: &Case) -> Options {
    let mut options = unpinned();
    options.allow = case.allow.iter().copied().map(net).collect();
    options.limits.budgets.clone_from(&case.budgets);
    for &(reason, mode) in &case.modes {
        match (reason, mode) {
            (Reason::Ban | Reason::BanRange, Check::Observe) => options.bans = BanMode::Observe,
            (Reason::Ban | Reason::BanRange, Check::Off) => options.bans = BanMode::Off,
            _ => options.checks.push(CheckSetting { reason, mode, interface: None }),
        }
    }
    if case.role == Role::Internet {
        // A program that is run by itself is called by no interface: it judges by the default.
        for &reason in Reason::ALL.iter().filter(|reason| reason.is_check()) {
            let mode = reason.default_mode(Role::Internet);
            if mode != reason.default_mode(Role::Lan) {
                options.checks.insert(0, CheckSetting { reason, mode, interface: None });
            }
        }
    }
    options
}

pub(super) fn net((address, length): Prefix) -> IpNet {
    IpNet::new(address, length).unwrap()
}

/// What `after` has more than `before`, as (reason, acted, observed).
fn difference(before: &Counters, after: &Counters) -> Vec<(Reason, u64, u64)> {
    let mut changes = Vec::new();
    for &reason in Reason::ALL {
        let acted = after.acted(reason).packets - before.acted(reason).packets;
        let observed = after.observed(reason).packets - before.observed(reason).packets;
        if acted + observed > 0 {
            changes.push((reason, acted, observed));
        }
    }
    changes
}

/// Runs the case and its truncations in the kernel, and expects of each what the host says.
fn check(kernel: &mut Kernel, case: &Case) {
    let tables = case.tables();
    let mut before = kernel.counters().unwrap();
    let truncations = FRAME_MIN..case.frame.len().min(TRUNCATION_MAX);
    for length in truncations.chain([case.frame.len()]) {
        let frame = &case.frame[..length];
        let expected = verdict(frame, &tables);
        let what = format!("{}, {length} octets of {}", case.name, case.frame.len());
        let probe = kernel.probe(frame, 1).unwrap();
        assert_eq!(probe.is_dropped, expected.drops(), "{what}: {expected:?}");
        let after = kernel.counters().unwrap();
        let mut counted = Vec::new();
        for &reason in Reason::ALL {
            let acted = u64::from(reason == expected.reason());
            let observed = u64::from(expected.observed.holds(reason));
            if acted + observed > 0 {
                counted.push((reason, acted, observed));
            }
        }
        assert_eq!(difference(&before, &after), counted, "{what}");
        let bytes = after.acted(expected.reason()).bytes - before.acted(expected.reason()).bytes;
        assert_eq!(bytes, length as u64, "{what}");
        before = after;
    }
}

/// Cases that differ by modes of checks, by what is served or by own addresses share one program:
/// these are changed while it runs.
fn check_all(test: &str, cases: &[Case]) {
    let mut groups: BTreeMap<String, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        let options = Options { checks: Vec::new(), ..options(case) };
        groups.entry(format!("{options:?}")).or_default().push(case);
    }
    for cases in groups.values() {
        let Some(mut kernel) = start(test, &options(cases[0])) else {
            return;
        };
        for case in cases {
            kernel.set_checks(options(case).checks).unwrap();
            kernel.serve(&[cases::SERVED], case.quic).unwrap();
            kernel.set_own(&case.own).unwrap();
            check_bans(&mut kernel, case);
        }
    }
}

/// Checks the case under its bans, and that these count what they drop.
fn check_bans(kernel: &mut Kernel, case: &Case) {
    let banned = |kernel: &Kernel| {
        let counters = kernel.counters().unwrap();
        counters.acted(Reason::Ban).packets + counters.acted(Reason::BanRange).packets
    };
    let before = banned(kernel);
    for &prefix in &case.bans {
        kernel.ban(net(prefix), Monotonic::NEVER).unwrap();
    }
    press(kernel, case);
    check(kernel, case);
    relax(kernel, case);
    let targets = case.bans.iter().map(|&prefix| net(prefix));
    let drops: u64 = targets.clone().map(|net| kernel.drops(net).unwrap().unwrap()).sum();
    assert_eq!(drops, banned(kernel) - before, "drops of the bans of {}", case.name);
    for target in targets {
        assert!(kernel.unban(target).unwrap(), "{}", case.name);
    }
}

/// Sheds strangers where the case has it so, and none of whom it knows.
pub(super) fn press(kernel: &mut Kernel, case: &Case) {
    if case.sheds {
        kernel.shed(u32::MAX, Monotonic::NEVER).unwrap();
    }
    for &source in &case.standing {
        kernel.stand(source).unwrap();
    }
}

pub(super) fn relax(kernel: &mut Kernel, case: &Case) {
    for &source in &case.standing {
        assert!(kernel.fall(source).unwrap() && !kernel.fall(source).unwrap());
    }
    kernel.shed(0, Monotonic::from_ns(0)).unwrap();
}

#[test]
fn the_kernel_judges_as_the_host_does() {
    check_all("the_kernel_judges_as_the_host_does", &cases::all());
}

#[test]
fn no_bypass_passes_the_kernel() {
    let cases = cases::bypasses();
    check_all("no_bypass_passes_the_kernel", &cases);
    for case in cases {
        assert_eq!(case.reason, Reason::Ban, "{}", case.name);
    }
}

/// Some drivers leave next to nothing of a frame in the linear buffer: what cannot be read there
/// must be read elsewhere, or a banned source passes.
#[test]
fn headers_outside_of_the_linear_buffer_are_read() {
    const TEST: &str = "headers_outside_of_the_linear_buffer_are_read";
    if kernel_version() < (6, 18) {
        eprintln!("SKIPPED: {TEST}: BPF_PROG_TEST_RUN splits frames since Linux 6.18");
        return;
    }
    let Some(mut kernel) = start(TEST, &unpinned()) else {
        return;
    };
    let cases: Vec<Case> =
        cases::all().into_iter().filter(|case| options(case) == unpinned()).collect();
    for case in cases {
        kernel.serve(&[cases::SERVED], case.quic).unwrap();
        kernel.set_own(&case.own).unwrap();
        for &prefix in &case.bans {
            kernel.ban(net(prefix), Monotonic::NEVER).unwrap();
        }
        press(&mut kernel, &case);
        for linear in [14, 16, 20, 40, 60] {
            if linear >= case.frame.len() {
                continue;
            }
            let linear = u32::try_from(linear).unwrap();
            let probe = kernel.probe_split(&case.frame, linear).unwrap();
            let expected = verdict(case.frame.as_slice(), &case.tables()).drops();
            assert_eq!(probe.is_dropped, expected, "{}, {linear} octets linear", case.name);
        }
        relax(&mut kernel, &case);
        for &prefix in &case.bans {
            assert!(kernel.unban(net(prefix)).unwrap());
        }
    }
}

fn kernel_version() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn the_verifier_has_room_to_spare() {
    for log in [None, Some(LogLevel::Trace)] {
        let options = Options { log, ..unpinned() };
        let Some(mut kernel) = start("the_verifier_has_room_to_spare", &options) else {
            return;
        };
        let instructions = kernel.verified_instructions().unwrap().unwrap();
        eprintln!("verified instructions at log level {log:?}: {instructions}");
        // Of the kernel's 1,000,000. Others prune less well: `cargo xtask test --kernels` asks them.
        assert!(instructions < 500_000, "{instructions}");
        let clean = kernel.probe(&frame(), 200_000).unwrap();
        kernel.ban(IpNet::from(SOURCE), Monotonic::NEVER).unwrap();
        let banned = kernel.probe(&frame(), 200_000).unwrap();
        assert!(!clean.is_dropped && banned.is_dropped);
        eprintln!("a clean packet: {:?}, a banned one: {:?}", clean.duration, banned.duration);
    }
}

const SOURCE: IpAddr = IpAddr::V4(cases::BANNED4);

fn target(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A packet from 192.0.2.7, which none of the checks objects to.
fn frame() -> Vec<u8> {
    cases::all().into_iter().find(|case| case.name == "a banned address").unwrap().frame
}

#[test]
fn a_ban_extended_keeps_its_drops() {
    let Some(mut kernel) = start("a_ban_extended_keeps_its_drops", &unpinned()) else {
        return;
    };
    let target = IpNet::from(SOURCE);
    assert_eq!(kernel.drops(target).unwrap(), None);
    kernel.ban(target, Monotonic::NEVER).unwrap();
    kernel.probe(&frame(), 7).unwrap();
    kernel.ban(target, Monotonic::from_ns(u64::MAX - 5)).unwrap();
    kernel.probe(&frame(), 1).unwrap();
    assert_eq!(kernel.drops(target).unwrap(), Some(8));
    let bans = kernel.bans().unwrap();
    assert_eq!(bans.len(), 1);
    assert_eq!((bans[0].0, bans[0].1.until_mono_ns), (target, u64::MAX - 5));
    assert!(kernel.unban(target).unwrap());
    assert!(!kernel.unban(target).unwrap());
    assert!(!kernel.probe(&frame(), 1).unwrap().is_dropped);
    assert_eq!(kernel.bans().unwrap(), []);
}

#[test]
fn every_kind_of_target_is_kept_and_lifted() {
    let Some(mut kernel) = start("every_kind_of_target_is_kept_and_lifted", &unpinned()) else {
        return;
    };
    let targets = [
        "192.0.2.7/32",
        "192.0.2.0/24",
        "0.0.0.0/0",
        "2001:db8::7/128",
        "2001:db8:1:2::/64",
        "2001:db8::/32",
        "2001:db8:1:2:3::/80",
    ]
    .map(target);
    for (until_ns, target) in (1_000..).zip(targets) {
        kernel.ban(target, Monotonic::from_ns(until_ns)).unwrap();
    }
    let mut bans: Vec<_> =
        kernel.bans().unwrap().into_iter().map(|(net, ban)| (ban.until_mono_ns, net)).collect();
    bans.sort_unstable();
    assert_eq!(bans, (1_000..).zip(targets).collect::<Vec<_>>());
    // A range's own entry, not that of the range around it.
    assert_eq!(kernel.drops(target("192.0.0.0/16")).unwrap(), None);
    assert!(!kernel.unban(target("192.0.0.0/16")).unwrap());
    for target in targets {
        assert!(kernel.unban(target).unwrap(), "{target}");
    }
    assert_eq!(kernel.bans().unwrap(), []);
}

/// The daemon lifts what has ended; of two bans that cover a source, the other one stays.
#[test]
fn a_range_lifted_does_not_take_another_along() {
    let Some(mut kernel) = start("a_range_lifted_does_not_take_another_along", &unpinned()) else {
        return;
    };
    let nested = ["0.0.0.0/0", "192.0.0.0/12", "192.0.0.0/16", "192.0.2.0/23", "192.0.2.0/24"];
    let nested = [&nested[..], &["192.0.2.0/25", "192.0.2.7/32"]].concat();
    let is_dropped = |kernel: &mut Kernel| kernel.probe(&frame(), 1).unwrap().is_dropped;
    for kept in &nested {
        for lifted in &nested {
            kernel.ban(target(lifted), Monotonic::NEVER).unwrap();
        }
        for lifted in nested.iter().filter(|lifted| *lifted != kept) {
            assert!(kernel.unban(target(lifted)).unwrap());
            assert!(is_dropped(&mut kernel), "{lifted} took {kept} along");
        }
        assert!(kernel.drops(target(kept)).unwrap().unwrap() > 0, "{kept}");
        assert!(kernel.unban(target(kept)).unwrap());
        assert!(!is_dropped(&mut kernel), "{kept} was lifted");
    }
}

#[test]
fn drops_come_up_as_few_events() {
    let Some(mut kernel) = start("drops_come_up_as_few_events", &unpinned()) else {
        return;
    };
    kernel.ban(IpNet::from(SOURCE), Monotonic::NEVER).unwrap();
    let mut events = kernel.events().unwrap();
    assert!(kernel.events().is_none());
    let started = Monotonic::now();
    kernel.probe(&frame(), 10_000).unwrap();
    let elapsed = Monotonic::now().since(started);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let batch = runtime.block_on(async {
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, events.next()).await.expect("an event comes").unwrap()
    });
    let most = 2 + elapsed.as_millis() / 100;
    assert!(batch.len() as u128 <= most, "{} events in {elapsed:?}", batch.len());
    let event = batch[0];
    assert_eq!(event.address(), Some(SOURCE));
    assert_eq!(Reason::try_from(event.reason), Ok(Reason::Ban));
    assert_eq!(event.length as usize, frame().len());
    assert_eq!(event.observed, 0);
    let now = Monotonic::now();
    assert!(now.since(Monotonic::from_ns(event.mono_ns)) < Duration::from_mins(1));
    assert_eq!(kernel.counters().unwrap().events_lost, 0);
}

#[test]
fn the_program_logs_only_when_asked() {
    let Some(mut kernel) = start("the_program_logs_only_when_asked", &unpinned()) else {
        return;
    };
    assert!(kernel.log_stream().is_none());
    let options = Options { log: Some(LogLevel::Debug), ..unpinned() };
    let Some(mut kernel) = start("the_program_logs_only_when_asked", &options) else {
        return;
    };
    kernel.ban(IpNet::from(SOURCE), Monotonic::NEVER).unwrap();
    let log = kernel.log_stream().unwrap();
    kernel.probe(&frame(), 1).unwrap();
    let written = Written::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer({
            let written = written.clone();
            move || written.clone()
        })
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let written = async {
                while written.text().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            let patience = Duration::from_secs(10);
            tokio::select! {
                ended = log.run() => panic!("the log ended: {ended:?}"),
                outcome = tokio::time::timeout(patience, written) => outcome.expect("a record comes"),
            }
        });
    });
    let text = written.text();
    assert!(
        text.contains("DEBUG firewall::kernel::program: reason 2: 54 octets from 192.0.2.7"),
        "{text}"
    );
}

/// What a subscriber wrote.
#[derive(Clone, Default)]
struct Written(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn where_nothing_can_be_pinned_it_says_so() {
    let options = Options {
        interfaces: vec![InterfaceOptions::of("no-such-link".parse().unwrap())],
        ..unpinned()
    };
    let Some(kernel) = start("where_nothing_can_be_pinned_it_says_so", &options) else {
        return;
    };
    let reason = "/proc/nowhere is not on a BPF file system".to_owned();
    assert_eq!(*kernel.pinning(), Pinning::Unpinned { reason });
    let [report] = kernel.interfaces() else { panic!("{:?}", kernel.interfaces()) };
    assert_eq!(report.mode, Mode::None);
    assert_eq!(report.reason.as_deref(), Some("there is no such interface"));
}

/// A TCP or UDP packet on loopback, put together by hand: the host's own sockets are looked up.
fn loopback(protocol: u8, from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0]);
    frame.extend([127, 0, 0, 1, 127, 0, 0, 1]);
    frame.extend(from.to_be_bytes());
    frame.extend(to.to_be_bytes());
    let rest: [u8; 16] = match protocol {
        17 => [0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        _ => [0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0],
    };
    frame.extend(rest);
    frame
}

#[test]
fn a_packet_that_a_socket_waits_for_passes() {
    const TEST: &str = "a_packet_that_a_socket_waits_for_passes";
    let (syn, rst, ack) = (2, 4, 16);
    let Some(mut kernel) = start(TEST, &unpinned()) else { return };
    let mode = |reason, mode| CheckSetting { reason, mode, interface: None };
    // On loopback source and destination are the same, and that is no forgery.
    let checks = vec![
        mode(Reason::I9, Check::Off),
        mode(Reason::I11, Check::Off),
        mode(Reason::T14, Check::Drop),
        mode(Reason::U4, Check::Drop),
    ];
    kernel.set_checks(checks).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let from = client.local_addr().unwrap().port();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let bound = socket.local_addr().unwrap().port();
    let free = {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        closed.local_addr().unwrap().port()
    };
    for (what, frame, is_dropped) in [
        ("a reset of a connection", loopback(6, from, port, rst), false),
        ("data of a connection", loopback(6, from, port, ack), false),
        ("an ACK to a listener", loopback(6, 1, port, ack), false),
        ("a reset to a listener", loopback(6, 1, port, rst), true),
        ("an ACK to nobody", loopback(6, 1, free, ack), true),
        ("a SYN to nobody", loopback(6, 1, free, syn), false),
        ("a datagram to a socket", loopback(17, 9, bound, 0), false),
        ("a datagram to nobody", loopback(17, 9, free, 0), true),
    ] {
        assert_eq!(kernel.probe(&frame, 1).unwrap().is_dropped, is_dropped, "{what}");
    }
}
