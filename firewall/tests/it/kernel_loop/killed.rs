//! The daemon is killed while a flood arrives, or another process takes its place: nobody banned
//! passes meanwhile.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use http::Method;
use serde_json::json;
use xtask::lab::Topology;

use super::{Site, on};
use crate::contract::NOTES;
use crate::kit::eventually;
use crate::kit::gateway::{Gateway, Setup};
use crate::upgrade::{DIES_LATE, Successor, install, restore};
use crate::xdp::flood::{Arrived, BANNED, BANNED_LENGTH, Flood, Over, count, sources};

/// How long the flood goes on before the daemon is killed, and while nobody runs.
const PAUSE: Duration = Duration::from_millis(500);

#[test]
fn no_banned_packet_passes_while_the_daemon_is_killed() {
    let test = "kernel_loop::killed::no_banned_packet_passes_while_the_daemon_is_killed";
    let Some(site) = Site::start(test, &Setup::of(NOTES)) else { return };
    under_flood(site, |gateway, topology, arrived| {
        let mut meanwhile = 0;
        let gateway = gateway.kill_and_restart_after(
            |command| on(topology, command),
            || {
                let before = read(&arrived.clean);
                thread::sleep(PAUSE);
                meanwhile = read(&arrived.clean) - before;
            },
        );
        assert!(meanwhile > 0, "the others pass while nobody runs");
        (gateway, None)
    });
}

#[test]
fn no_banned_packet_passes_while_another_process_takes_over() {
    let test = "kernel_loop::killed::no_banned_packet_passes_while_another_process_takes_over";
    let setup = Setup { wrapper: vec!["env".into()], ..Setup::of(NOTES) };
    let Some(site) = Site::start(test, &setup) else { return };
    under_flood(site, |gateway, _, _| {
        // Gone when pins, tables and state file have been let go of: they are taken back.
        install(&gateway, DIES_LATE);
        let (code, said) = gateway.cli(&["upgrade"]);
        assert_eq!(code, Some(2), "{said}");
        let status = gateway.status();
        assert_eq!(
            (&status["mode"], &status["pid"]),
            (&"xdp-native".into(), &gateway.pid().into())
        );
        let another = json!({ "target": "192.0.2.99/32", "for_seconds": 60, "reason": "b" });
        gateway.admin(&Method::POST, "/v1/bans", Some(&another));
        let explained = gateway.admin(&Method::GET, "/v1/explain?address=192.0.2.99", None);
        assert_eq!(explained["kernel"]["target"], "192.0.2.99/32", "{explained}");
        restore(&gateway);
        let (code, said) = gateway.cli(&["upgrade"]);
        assert_eq!(code, Some(0), "{said}\n{}", gateway.errors());
        let successor = Successor::of(&gateway);
        assert_eq!(gateway.bans().len(), 2);
        (gateway, Some(successor))
    });
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Bans a network that floods, and sees to it that nothing of it arrives whatever `happens`.
fn under_flood(
    site: Site,
    happens: impl FnOnce(Gateway, &Topology, &Arrived) -> (Gateway, Option<Successor>),
) {
    let Site { gateway, topology } = site;
    let bind = || UdpSocket::bind((Topology::GATEWAY_V4, 0)).unwrap();
    let receiver = topology.gateway.run(bind).unwrap();
    let SocketAddr::V4(to) = receiver.local_addr().unwrap() else { panic!("it is of IPv4") };
    let mut flood = Flood::new(
        (&topology.client, "client0"),
        (&topology.gateway, Topology::PUBLIC_INTERFACE),
        &sources(),
        (*to.ip(), to.port()),
    );
    let ban = json!({
        "target": format!("{BANNED}/{BANNED_LENGTH}"), "for_seconds": 600, "reason": "a flood"
    });
    gateway.admin(&Method::POST, "/v1/bans", Some(&ban));
    let (arrived, is_over, has_ended) =
        (Arrived::default(), AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let _ended = Over(&has_ended);
        let flooding = scope.spawn(|| flood.run(&is_over));
        scope.spawn(|| count(&receiver, &arrived, &has_ended));
        let over = Over(&is_over);
        thread::sleep(PAUSE);
        let (gateway, _successor) = happens(gateway, &topology, &arrived);
        let status = gateway.status();
        assert_eq!(status["interfaces"][0]["adopted"], true, "{status}");
        thread::sleep(PAUSE);
        assert_eq!(read(&arrived.banned), 0, "packets of banned sources arrived");
        // Or nothing would have arrived in any case.
        let target = ban["target"].as_str().unwrap();
        gateway.admin(&Method::DELETE, &format!("/v1/bans?target={target}"), None);
        eventually("they arrive when they are not banned", || {
            (read(&arrived.banned) > 0).then_some(())
        });
        drop(over);
        let sent = flooding.join().unwrap();
        eprintln!("another process at {:.2} Mpps", sent.per_second() / 1e6);
    });
}
