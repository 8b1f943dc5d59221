//! Budgets in the kernel: bursts, what is earned again, CPUs, multiples, good standing.

use std::net::IpAddr;
use std::time::Duration;

use firewall::clock::Monotonic;
use firewall::kernel::{
    Budget, Budgeted, Check, CheckSetting, Kernel, KernelError, Limits, Options, Reason,
};
use firewall_ebpf::cases;
use ipnet::IpNet;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::start;

/// An hour for one packet: nothing is earned again while a test runs.
const NEVER: u64 = 3_600_000_000_000;

fn of_burst(burst: u64) -> Budget {
    Budget { interval_ns: NEVER, burst_ns: NEVER * burst }
}

fn limits(budgeted: Budgeted, budget: Budget) -> Limits {
    Limits { budgets: vec![(budgeted, budget)], ..Limits::default() }
}

/// A kernel in which these reasons drop.
fn dropping(test: &str, limits: Limits, reasons: &[Reason]) -> Option<Kernel> {
    let pin_dir = "/proc/nowhere".into();
    let mode = Check::Drop;
    let setting = |&reason: &_| CheckSetting { reason, mode, interface: None };
    let checks = reasons.iter().map(setting).collect();
    let kernel = start(test, &Options { limits, checks, pin_dir, ..Options::default() })?;
    // Each CPU has buckets of its own.
    on_cpu(0);
    Some(kernel)
}

/// Runs what follows in this thread, and the program with it, on one CPU.
fn on_cpu(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).unwrap();
}

/// The frame of a case, from another source.
fn frame(name: &str, source: &str) -> Vec<u8> {
    let case = cases::all().into_iter().find(|case| case.name == name);
    let mut frame = case.unwrap_or_else(|| panic!("no case is called {name}")).frame;
    match source.parse().unwrap() {
        IpAddr::V4(address) => frame[26..30].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => frame[22..38].copy_from_slice(&address.octets()),
    }
    frame
}

const SYN4: &str = "a SYN without a budget for it";
const SYN6: &str = "a SYN over IPv6 without a budget for it";

/// How many of `sent` such frames pass.
#[track_caller]
fn passed(kernel: &mut Kernel, frame: &[u8], sent: u32) -> u64 {
    let passed = |kernel: &Kernel| kernel.counters().unwrap().acted(Reason::Passed).packets;
    let before = passed(kernel);
    kernel.probe(frame, sent).unwrap();
    passed(kernel) - before
}

#[test]
fn a_burst_passes_and_the_next_packet_does_not() {
    for (budgeted, reason, frames) in [
        (Budgeted::Syn, Reason::T15, [(SYN4, "192.0.2.1"), (SYN6, "2001:db8::1")]),
        (
            Budgeted::Udp,
            Reason::B1,
            [
                ("a datagram without a budget", "192.0.2.1"),
                ("a datagram over IPv6 without a budget", "2001:db8::1"),
            ],
        ),
        (
            Budgeted::Echo,
            Reason::C1,
            [
                ("an echo request without a budget", "192.0.2.1"),
                ("an echo request over IPv6 without a budget", "2001:db8::1"),
            ],
        ),
        (Budgeted::Packets, Reason::B2, [("a clean packet", "192.0.2.1"), (SYN6, "2001:db8::1")]),
    ] {
        let limits = limits(budgeted, of_burst(7));
        let test = "a_burst_passes_and_the_next_packet_does_not";
        let Some(mut kernel) = dropping(test, limits, &[reason]) else { return };
        for (name, source) in frames {
            let frame = frame(name, source);
            assert_eq!(passed(&mut kernel, &frame, 7), 7, "{budgeted:?} of {source}");
            assert!(kernel.probe(&frame, 1).unwrap().is_dropped, "{budgeted:?} of {source}");
            assert_eq!(passed(&mut kernel, &frame, 1_000), 0, "{budgeted:?} of {source}");
        }
        assert_eq!(kernel.counters().unwrap().acted(reason).packets, 2_002);
    }
}

#[test]
fn everybody_s_budget_is_one() {
    let limits = limits(Budgeted::EveryError, of_burst(10));
    let Some(mut kernel) = dropping("everybody_s_budget_is_one", limits, &[]) else { return };
    let error = "fragmentation needed, over budget";
    assert_eq!(passed(&mut kernel, &frame(error, "192.0.2.1"), 6), 6);
    let error6 = "packet too big, over budget";
    assert_eq!(passed(&mut kernel, &frame(error6, "2001:db8::1"), 6), 4);
    assert_eq!(passed(&mut kernel, &frame(error, "192.0.2.3"), 6), 0);
}

#[test]
fn what_was_spent_is_earned_again() {
    let limits = limits(Budgeted::Syn, Budget::per_second(5, 3));
    let test = "what_was_spent_is_earned_again";
    let Some(mut kernel) = dropping(test, limits, &[Reason::T15]) else { return };
    let frame = frame(SYN4, "192.0.2.1");
    let started = Monotonic::now();
    while !kernel.probe(&frame, 1).unwrap().is_dropped {}
    let spent = Monotonic::now();
    while kernel.probe(&frame, 1).unwrap().is_dropped {
        assert!(Monotonic::now().since(spent) < Duration::from_secs(30));
        std::thread::yield_now();
    }
    // Three at once and one in 200 ms, by a clock that may be a tick behind.
    let passed = kernel.counters().unwrap().acted(Reason::Passed).packets;
    let elapsed = Monotonic::now().since(started) + Duration::from_millis(10);
    let most = 3 + elapsed.as_millis() / 200;
    assert!(passed >= 4 && u128::from(passed) <= most, "{passed} in {elapsed:?}");
}

/// A source whose connections the interface spreads over CPUs has its budget on each.
#[test]
fn a_budget_is_one_cpu_s() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("SKIPPED: a_budget_is_one_cpu_s: there is one CPU");
        return;
    }
    let limits = limits(Budgeted::Syn, of_burst(3));
    let Some(mut kernel) = dropping("a_budget_is_one_cpu_s", limits, &[Reason::T15]) else {
        return;
    };
    let frame = frame(SYN4, "192.0.2.1");
    assert_eq!(passed(&mut kernel, &frame, 5), 3);
    on_cpu(1);
    assert_eq!(passed(&mut kernel, &frame, 5), 3);
    on_cpu(0);
    assert_eq!(passed(&mut kernel, &frame, 5), 0);
}

#[test]
fn a_network_of_many_hosts_has_a_multiple() {
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let mut limits = limits(Budgeted::Syn, of_burst(4));
    limits.multipliers = vec![(net("192.0.2.0/24"), 10), (net("2001:db8::/48"), 100)];
    let test = "a_network_of_many_hosts_has_a_multiple";
    let Some(mut kernel) = dropping(test, limits.clone(), &[Reason::T15]) else { return };
    for (name, source, most) in [
        (SYN4, "192.0.2.255", 40),
        (SYN4, "192.0.3.0", 4),
        (SYN6, "2001:db8:0:ffff::1", 400),
        (SYN6, "2001:db8:1::1", 4),
        // The octets of the network, not the network.
        (SYN6, "c000:200::", 4),
    ] {
        assert_eq!(passed(&mut kernel, &frame(name, source), 1_000), most, "{source}");
    }
    // Changed at run time: other networks, and what was spent is forgotten.
    limits.multipliers = vec![(net("192.0.3.0/24"), 2)];
    kernel.limit(&limits).unwrap();
    for (source, most) in [("192.0.2.255", 4), ("192.0.3.0", 8)] {
        assert_eq!(passed(&mut kernel, &frame(SYN4, source), 1_000), most, "{source}");
    }
}

#[test]
fn budgets_change_while_the_program_runs() {
    let limits_of = |burst| limits(Budgeted::Syn, of_burst(burst));
    let test = "budgets_change_while_the_program_runs";
    let Some(mut kernel) = dropping(test, limits_of(1), &[Reason::T15]) else { return };
    let frame = frame(SYN4, "192.0.2.1");
    for burst in [1, 5, 2] {
        kernel.limit(&limits_of(burst)).unwrap();
        assert_eq!(passed(&mut kernel, &frame, 100), burst);
    }
    kernel.limit(&Limits::default()).unwrap();
    assert_eq!(passed(&mut kernel, &frame, 100_000), 100_000);
}

#[test]
fn strangers_are_shed_by_share_and_the_known_are_spared() {
    const SENT: u32 = 20_000;
    let test = "strangers_are_shed_by_share_and_the_known_are_spared";
    let Some(mut kernel) = dropping(test, Limits::default(), &[]) else { return };
    let (stranger, known) = (frame(SYN4, "192.0.2.1"), frame(SYN4, "192.0.2.2"));
    let (stranger6, known6) = (frame(SYN6, "2001:db8:0:1::1"), frame(SYN6, "2001:db8:0:2::1"));
    kernel.stand("192.0.2.2".parse().unwrap()).unwrap();
    kernel.stand("2001:db8:0:2:3:4:5:6".parse().unwrap()).unwrap();
    for (share, least, most) in [
        (0, 19_990, 20_000),
        (u32::MAX / 4, 14_500, 15_500),
        (u32::MAX / 4 * 3, 4_500, 5_500),
        (u32::MAX, 0, 0),
    ] {
        kernel.shed(share, Monotonic::NEVER).unwrap();
        for stranger in [&stranger, &stranger6] {
            let passed = passed(&mut kernel, stranger, SENT);
            assert!((least..=most).contains(&passed), "{passed} at {share}");
        }
        for known in [&known, &known6] {
            assert_eq!(passed(&mut kernel, known, SENT), u64::from(SENT));
        }
    }
    let tally = kernel.tally().unwrap();
    assert_eq!(tally.syns, 16 * u64::from(SENT));
    // Nobody is looked for in the table but for the share that is drawn.
    assert!((78_000..82_000).contains(&tally.spared), "{tally:?}");
    // Who falls is a stranger at once.
    assert!(kernel.fall("2001:db8:0:2::".parse().unwrap()).unwrap());
    assert!(kernel.probe(&known6, 1).unwrap().is_dropped);
    assert!(!kernel.probe(&known, 1).unwrap().is_dropped);
    // A daemon that is no more sheds nobody.
    kernel.shed(u32::MAX, Monotonic::now().after(Duration::from_millis(50))).unwrap();
    let asked = Monotonic::now();
    while kernel.probe(&stranger, 1).unwrap().is_dropped {
        assert!(Monotonic::now().since(asked) < Duration::from_secs(30));
    }
}

#[test]
fn the_table_of_the_known_says_when_it_is_full() {
    let test = "the_table_of_the_known_says_when_it_is_full";
    let Some(mut kernel) = dropping(test, Limits::default(), &[]) else { return };
    let address = |number: u32| IpAddr::V4(number.into());
    for number in 0..65_536 {
        kernel.stand(address(number)).unwrap();
    }
    match kernel.stand(address(65_536)) {
        Err(KernelError::Full { map: "STANDING", entries: 65_536, .. }) => {}
        other => panic!("expected a full table, found {other:?}"),
    }
    assert!(kernel.fall(address(3)).unwrap());
    kernel.stand(address(65_536)).unwrap();
}

/// For the eye: what a packet costs. A clean segment pays for no budget.
#[test]
fn what_budgets_cost() {
    let limits = limits(Budgeted::Syn, of_burst(1_000_000));
    let Some(mut kernel) = dropping("what_budgets_cost", limits, &[]) else { return };
    for (what, name) in [
        ("a clean segment", "a clean packet"),
        ("a SYN", SYN4),
        ("a datagram", "a datagram without a budget"),
    ] {
        let frame = frame(name, "192.0.2.1");
        let cost = (0..5).map(|_| kernel.probe(&frame, 200_000).unwrap().duration).min();
        eprintln!("{what}: {cost:?}");
    }
    kernel.shed(u32::MAX, Monotonic::NEVER).unwrap();
    let frame = frame(SYN4, "192.0.2.1");
    eprintln!("a SYN shed: {:?}", kernel.probe(&frame, 200_000).unwrap().duration);
    kernel.stand("192.0.2.1".parse().unwrap()).unwrap();
    eprintln!("a SYN spared: {:?}", kernel.probe(&frame, 200_000).unwrap().duration);
    let instructions = kernel.verified_instructions().unwrap().unwrap();
    assert!(instructions < 200_000, "{instructions}");
    eprintln!("verified instructions: {instructions}");
}
