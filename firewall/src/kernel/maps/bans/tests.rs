//! Programs of the kernel look up while the daemon writes: what is banned before and after is never
//! missed. And the proof that this would be seen: a writer that does it wrong.

mod restart;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aya::programs::Xdp;
use aya::{TestRun as _, TestRunOptions};
use firewall_common::Reason;
use firewall_ebpf::cases;
use rustix::thread::{CpuSet, sched_setaffinity};
use xtask::skip::skipped;

use super::super::Judging;
use super::*;
use crate::clock::Monotonic;
use crate::kernel::attacher::Parts;
use crate::kernel::table::Memory;
use crate::kernel::{Holder, Kernel, Options, xdp};

/// Packets that each banned source sends in one call.
const PACKETS: u32 = 20_000;

const LIST: ListId = ListId(7);

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn start(test: &str) -> Option<Kernel> {
    start_with(test, &Options { pin_dir: "/proc/nowhere".into(), ..Options::default() })
}

fn start_with(test: &str, options: &Options) -> Option<Kernel> {
    match Kernel::load(options) {
        Err(error) if error.is_not_permitted() => {
            skipped(test, &error.to_string());
            None
        }
        started => Some(started.unwrap()),
    }
}

/// A clean packet in every other way, from an address of either family.
fn frame(source: IpAddr) -> Vec<u8> {
    let name = if source.is_ipv4() { "a banned address" } else { "a banned IPv6 address" };
    let mut frame = cases::all().into_iter().find(|case| case.name == name).unwrap().frame;
    match source {
        IpAddr::V4(source) => frame[26..30].copy_from_slice(&source.octets()),
        IpAddr::V6(source) => frame[22..38].copy_from_slice(&source.octets()),
    }
    frame
}

/// Runs the program on packets from each of the sources, again and again, until it is told to stop.
fn look_up(program: &mut Xdp, sources: &[IpAddr], stop: &AtomicBool) {
    let frames: Vec<_> = sources.iter().map(|source| frame(*source)).collect();
    while !stop.load(Ordering::Relaxed) {
        for frame in &frames {
            let mut options = TestRunOptions::new();
            options.data_in = Some(frame);
            options.repeat = PACKETS;
            program.test_run(options).unwrap();
        }
    }
}

/// Packets that were dropped as banned, and that passed.
fn counted(judging: &Judging) -> (u64, u64) {
    let counters = judging.counters().unwrap();
    let packets = |reason| counters.acted(reason).packets;
    (packets(Reason::Ban) + packets(Reason::BanRange), packets(Reason::Passed))
}

/// What is banned throughout, by a ban or by a list, and a source that each holds.
const KEPT: [(&str, &str); 8] = [
    ("192.0.2.7/32", "192.0.2.7"),
    ("198.51.100.0/24", "198.51.100.9"),
    ("203.0.112.0/20", "203.0.113.3"),
    ("10.0.0.0/15", "10.1.2.3"),
    ("192.0.3.128/25", "192.0.3.200"),
    ("2001:db8:1:2::/64", "2001:db8:1:2::5"),
    ("2001:db8:9::7/128", "2001:db8:9::7"),
    ("2001:db9::/32", "2001:db9:4::4"),
];
const LISTED: [(&str, &str); 4] = [
    ("192.0.2.9/32", "192.0.2.9"),
    ("198.51.101.0/24", "198.51.101.9"),
    ("2001:db8:5::/48", "2001:db8:5::5"),
    ("2001:db8:1:2::9/128", "2001:db8:1:2::9"),
];
/// What comes and goes around them: the same buckets, /24s, /16s and /48s.
const PASSING: [&str; 12] = [
    "192.0.2.8/32",
    "192.0.2.0/24",
    "192.0.2.0/29",
    "192.0.0.0/16",
    "198.51.100.9/32",
    "203.0.113.0/24",
    "0.0.0.0/0",
    "10.0.0.0/16",
    "2001:db8:1:2::5/128",
    "2001:db8:1::/48",
    "2001:db8::/32",
    "::/0",
];

#[test]
fn what_stays_banned_is_never_missed() {
    const TEST: &str = "what_stays_banned_is_never_missed";
    let Some(mut kernel) = start(TEST) else { return };
    let lists: Vec<IpNet> = LISTED.iter().map(|(prefix, _)| net(prefix)).collect();
    for (prefix, _) in KEPT {
        kernel.ban(net(prefix), Monotonic::NEVER).unwrap();
    }
    kernel.replace_list(LIST, &lists).unwrap();
    let sources: Vec<IpAddr> =
        KEPT.iter().chain(&LISTED).map(|(_, source)| source.parse().unwrap()).collect();
    let stop = AtomicBool::new(false);
    let Kernel { holder: Holder::Own(local), tables, .. } = &mut kernel else {
        panic!("it has a loader");
    };
    let Parts { program, judging, .. } = local.attacher().unwrap().parts();
    let before = counted(judging);
    let reader = xdp(program).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| look_up(reader, &sources, &stop));
        let (mut edits, mut swaps) = (0, 0);
        for round in 0..12_u32 {
            for prefix in PASSING {
                tables.ban(net(prefix), u64::MAX).unwrap();
            }
            for host in 0..3_000_u32 {
                let host = Ipv4Addr::from((192 << 24) | host.wrapping_mul(0x9e37) & 0xff_ffff);
                tables.ban(IpAddr::V4(host).into(), u64::MAX).unwrap();
                edits += 1;
            }
            // The kept ones are in both; the others are all replaced.
            let other = (0..500_u32).map(|n| {
                IpNet::new_assert(IpAddr::V4(Ipv4Addr::from((round * 1_000 + n) << 8)), 24)
            });
            let prefixes: Vec<IpNet> = lists.iter().copied().chain(other).collect();
            tables.replace_list(LIST, &prefixes).unwrap();
            swaps += 1;
            for prefix in PASSING {
                assert!(tables.unban(net(prefix)).unwrap(), "{prefix}");
            }
            for host in 0..3_000_u32 {
                let host = Ipv4Addr::from((192 << 24) | host.wrapping_mul(0x9e37) & 0xff_ffff);
                let host = IpAddr::V4(host);
                if !sources.contains(&host) {
                    tables.unban(host.into()).unwrap();
                }
                edits += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        eprintln!("{TEST}: {edits} edits and {swaps} swaps");
    });
    let after = counted(judging);
    let (dropped, passed) = (after.0 - before.0, after.1 - before.1);
    eprintln!("{TEST}: {dropped} packets dropped, {passed} passed");
    assert_eq!(passed, 0, "banned sources passed");
    assert!(dropped >= u64::from(PACKETS) * 8, "{dropped} packets are no proof");
}

#[test]
fn many_bans_at_once_are_as_one_by_one() {
    const TEST: &str = "many_bans_at_once_are_as_one_by_one";
    let Some(mut kernel) = start(TEST) else { return };
    let earlier = net("198.51.100.7/32");
    kernel.ban(earlier, Monotonic::from_ns(5)).unwrap();
    let hosts =
        (0..u32::try_from(MANY).unwrap()).map(|n| IpAddr::V4((0x0b00_0000 + n * 7).into()).into());
    // More lengths than a look-up of the table tries: the last ones go into the trie.
    let lengths = (49..=60).map(|length| net(&format!("2a00:{length}::/{length}")));
    let all: Vec<IpNet> = hosts.chain(lengths).chain([earlier]).collect();
    let bans: Vec<_> = all.iter().map(|target| (*target, Monotonic::NEVER)).collect();
    kernel.ban_all(&bans).unwrap();
    assert!(kernel.tables.bans.spill.holds_any(false));
    assert_eq!(kernel.bans().unwrap().len(), all.len());
    let is_dropped = |kernel: &mut Kernel, target: IpNet| {
        kernel.probe(&frame(target.addr()), 1).unwrap().is_dropped
    };
    let sample: Vec<IpNet> = all.iter().rev().take(40).chain(&all[..40]).copied().collect();
    for &target in &sample {
        let ban = kernel.tables.ban_of(target).unwrap();
        assert_eq!(ban.until_mono_ns, Monotonic::NEVER.ns(), "{target}");
        assert!(is_dropped(&mut kernel, target), "{target}");
    }
    assert!(!is_dropped(&mut kernel, net("11.0.0.1/32")));
    // Again, and they are lifted one by one.
    kernel.ban_all(&bans).unwrap();
    for target in sample {
        assert!(kernel.unban(target).unwrap(), "{target}");
        assert!(!is_dropped(&mut kernel, target), "{target}");
    }
    assert_eq!(kernel.bans().unwrap().len(), all.len() - 80);
}

/// Two CPUs drop for one address at once: its count may miss some of the packets, but counts none
/// twice; and as the ledger tells it, it never falls, which the kernel's word may by a little.
#[test]
fn two_cpus_never_count_a_packet_twice() {
    const TEST: &str = "two_cpus_never_count_a_packet_twice";
    const CALLS: u32 = 200;
    let Some(mut kernel) = start(TEST) else { return };
    let target = net("192.0.2.7/32");
    kernel.ban(target, Monotonic::NEVER).unwrap();
    let Kernel { holder: Holder::Own(local), tables, .. } = &mut kernel else {
        panic!("it has a loader");
    };
    let Parts { program, judging, .. } = local.attacher().unwrap().parts();
    let before = counted(judging);
    let (program, frame) = (&*xdp(program).unwrap(), frame(target.addr()));
    let flood = |cpu: usize| {
        let mut own = CpuSet::new();
        own.set(cpu);
        sched_setaffinity(None, &own).unwrap();
        for _ in 0..CALLS {
            let mut options = TestRunOptions::new();
            (options.data_in, options.repeat) = (Some(frame.as_slice()), PACKETS);
            program.test_run(options).unwrap();
        }
    };
    let drops = || tables.ban_of(target).unwrap().drops;
    let sent = 2 * u64::from(CALLS) * u64::from(PACKETS);
    let (mut last, mut highest, mut falls) = (0, 0, 0);
    thread::scope(|scope| {
        let cpus = [0, 1].map(|cpu| scope.spawn(move || flood(cpu)));
        while cpus.iter().any(|cpu| !cpu.is_finished()) {
            let now = drops();
            falls += u64::from(now < last);
            // What counts as begun anew, and would be told twice.
            assert!(now >= last / 2, "{now} after {last}");
            highest = highest.max(now);
            last = now;
        }
    });
    assert_eq!(counted(judging).0 - before.0, sent, "by reason none is missed");
    let found = drops();
    eprintln!("{TEST}: {found} of {sent} counted, {falls} falls");
    assert!(highest.max(found) <= sent && found > sent / 10, "{found} of {sent}");
}

/// So many look-ups, a minute of them on an idle machine, do not all fall between the writer's steps.
const LOOK_UPS_MAX: u64 = 100_000_000;

/// The same look-ups under a writer that empties the table and fills it again.
#[test]
fn a_wrong_writer_is_seen() {
    const TEST: &str = "a_wrong_writer_is_seen";
    let Some(mut kernel) = start(TEST) else { return };
    for (prefix, _) in KEPT {
        kernel.ban(net(prefix), Monotonic::NEVER).unwrap();
    }
    let sources: Vec<IpAddr> = KEPT.iter().map(|(_, source)| source.parse().unwrap()).collect();
    let stop = AtomicBool::new(false);
    let Kernel { holder: Holder::Own(local), tables, .. } = &mut kernel else {
        panic!("it has a loader");
    };
    let Parts { program, judging, .. } = local.attacher().unwrap().parts();
    let before = counted(judging);
    let reader = xdp(program).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| look_up(reader, &sources, &stop));
        // However long that takes: how many look-ups there are in a second is the machine's affair.
        let is_seen = |(dropped, passed)| passed > before.1 || dropped - before.0 > LOOK_UPS_MAX;
        while !is_seen(counted(judging)) {
            for memory in [tables.bans.v4_lines.memory(), tables.bans.v6_lines.memory()] {
                rewrite(memory);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(counted(judging).1 > before.1, "what passed was not seen");
}

/// Empties a table and fills it again.
fn rewrite(memory: Memory<'_>) {
    let words = |line| (0..8).map(move |word| (line, word));
    let all = || (1..memory.lines()).flat_map(words);
    let copy: Vec<_> = all()
        .map(|(line, word)| (line, word, memory.load(line, word)))
        .filter(|w| w.2 != 0)
        .collect();
    for (line, word, _) in &copy {
        memory.store(*line, *word, 0);
    }
    for (line, word, value) in copy {
        memory.store(line, word, value);
    }
}
