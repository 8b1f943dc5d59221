//! The program is replaced while a flood arrives: nobody banned passes, nobody else is lost.

use std::net::UdpSocket;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use firewall::clock::Monotonic;
use firewall::kernel::{Counters, InterfaceOptions, Kernel, Options, ProbationRules, Reason};
use ipnet::IpNet;

use super::attach::network;
use super::flood::{Arrived, BANNED, BANNED_LENGTH, Flood, Over, Sent, count, sources};
use super::net::{GATEWAY, INTERFACE};
use super::permitted;

const REPLACEMENTS: u32 = 5;
/// Before each of them.
const PAUSE: Duration = Duration::from_millis(300);
/// What machines say to each other unasked: neighbours, routers, listeners.
const CHATTER: u64 = 200;

fn packets(counters: &Counters, reasons: &[Reason]) -> u64 {
    reasons.iter().map(|reason| counters.acted(*reason).packets).sum()
}

#[test]
fn a_program_is_replaced_in_a_flood_without_a_gap() {
    const TEST: &str = "a_program_is_replaced_in_a_flood_without_a_gap";
    let Some(network) = network(TEST) else { return };
    let options = Options {
        interfaces: vec![InterfaceOptions::of(INTERFACE.parse().unwrap())],
        pin_dir: network.pins.path().join("firewall"),
        probation: ProbationRules { time: Duration::ZERO, ..ProbationRules::default() },
        ..Options::default()
    };
    let start = || network.gateway.run(|| Kernel::start(&options)).unwrap();
    let Some(mut kernel) = permitted(TEST, start()) else { return };
    let receiver = network.gateway.run(|| UdpSocket::bind((GATEWAY, 0)).unwrap()).unwrap();
    let port = receiver.local_addr().unwrap().port();
    let mut flood = Flood::new(
        (&network.client, "cl0"),
        (&network.gateway, INTERFACE),
        &sources(),
        (GATEWAY, port),
    );

    // Unbanned they arrive, all of them.
    let arrived = through(&receiver, &mut flood, || thread::sleep(PAUSE)).1;
    assert!(arrived.banned.into_inner() > 0 && arrived.clean.into_inner() > 0);

    let target = IpNet::new(BANNED.into(), BANNED_LENGTH).unwrap();
    kernel.ban(target, Monotonic::NEVER).unwrap();
    let before = kernel.counters().unwrap();
    let mut last = Some(kernel);
    let (sent, arrived) = through(&receiver, &mut flood, || {
        for _ in 0..REPLACEMENTS {
            thread::sleep(PAUSE);
            let earlier = last.take().unwrap().program_id().unwrap();
            let mut kernel = start().unwrap();
            assert_ne!(kernel.program_id().unwrap(), earlier);
            assert!(kernel.interfaces()[0].adopted);
            last = Some(kernel);
        }
        thread::sleep(PAUSE);
    });
    let after = last.unwrap().counters().unwrap();
    eprintln!("{REPLACEMENTS} replacements at {:.2} Mpps: {sent:?}", sent.per_second() / 1e6);
    assert_eq!(arrived.banned.into_inner(), 0, "packets of banned sources arrived");
    assert!(arrived.clean.into_inner() > 0);

    // Each frame that the ring had room for was judged by one program, and counted once.
    let more = |reasons: &[Reason]| packets(&after, reasons) - packets(&before, reasons);
    let judged = more(Reason::ALL);
    let expected = sent.frames - sent.without_room;
    assert!((expected..=expected + CHATTER).contains(&judged), "{judged} judged of {sent:?}");
    let (banned, passed) = (more(&[Reason::BanRange]), more(&[Reason::Passed]));
    assert!(judged - banned - passed <= CHATTER, "{banned} banned, {passed} passed of {judged}");
    // Every second frame is a banned source's; the ring has no room for a batch at a time.
    assert!(banned > 0 && passed > 0);
    assert!(banned <= sent.frames / 2 && passed <= sent.frames / 2 + CHATTER);
}

/// Floods while `work` is done, and counts what arrives.
fn through(receiver: &UdpSocket, flood: &mut Flood<'_>, work: impl FnOnce()) -> (Sent, Arrived) {
    let (arrived, is_over, has_ended) =
        (Arrived::default(), AtomicBool::new(false), AtomicBool::new(false));
    let sent = thread::scope(|scope| {
        let flooding = scope.spawn(|| flood.run(&is_over));
        scope.spawn(|| count(receiver, &arrived, &has_ended));
        let _ended = Over(&has_ended);
        {
            let _over = Over(&is_over);
            work();
        }
        flooding.join().unwrap()
    });
    (sent, arrived)
}
