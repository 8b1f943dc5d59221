//! The kernel program's life as an operator meets it: the daemon's sign of life, and what `status` says
//! of a program that was taken out; and the bans of a version before.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use firewall::clock::Monotonic;
use firewall_common::{Config, LAYOUT, maps};
use http::Method;
use serde_json::json;
use xtask::lab::Topology;

use super::{Family, NEIGHBOUR, SCANNER, Site, on};
use crate::contract::NOTES;
use crate::kit::eventually;
use crate::kit::gateway::{Gateway, Setup};

/// The configuration that the kernel program reads.
fn config(gateway: &Gateway) -> Config {
    let pins = PathBuf::from(gateway.status()["pins"].as_str().unwrap());
    let path = pins.join(format!("v{LAYOUT}")).join(maps::CONFIG.name);
    let map = Map::Array(MapData::from_pin(path).unwrap());
    Array::<_, Config>::try_from(map).unwrap().get(&0, 0).unwrap()
}

#[test]
fn the_daemon_puts_off_the_end_of_all_drops() {
    let test = "kernel_loop::life::the_daemon_puts_off_the_end_of_all_drops";
    let kernel = "\nstale_policy = \"observe\"\nstale_after = \"10s\"\n".into();
    let Some(site) = Site::start(test, &Setup { kernel, ..Setup::of(NOTES) }) else { return };
    assert_eq!(site.gateway.status()["stale"]["after_seconds"], 10);
    let first = config(&site.gateway).drop_until_mono_ns;
    eventually("it is put off", || {
        let (until, latest) = (config(&site.gateway).drop_until_mono_ns, Duration::from_secs(10));
        let now = Monotonic::now();
        assert!(until > now.ns() && until <= now.after(latest).ns(), "{until} at {now:?}");
        (until > first).then_some(())
    });

    // By the next start it may be said otherwise.
    let Site { gateway, topology } = site;
    let written = std::fs::read_to_string(&gateway.config).unwrap();
    std::fs::write(&gateway.config, written.replace("\"observe\"", "\"keep\"")).unwrap();
    let gateway = gateway.kill_and_restart_after(|command| on(&topology, command), || ());
    assert_eq!(config(&gateway).drop_until_mono_ns, 0);
    assert!(gateway.status()["stale"]["after_seconds"].is_null());
}

/// The modes of checks are judged with the program: for the daemon the two look alike.
#[test]
fn a_program_that_is_taken_out_is_told_of() {
    let test = "kernel_loop::life::a_program_that_is_taken_out_is_told_of";
    let kernel = "\n[kernel.probation]\npackets = 50\n[kernel.checks]\nU4 = \"off\"\n".into();
    let Some(site) = Site::start(test, &Setup { kernel, ..Setup::of(NOTES) }) else { return };
    let bind = || UdpSocket::bind((Topology::client_v4(NEIGHBOUR), 0)).unwrap();
    let sender = site.topology.client.run(bind).unwrap();
    // Nothing listens there.
    let closed = SocketAddr::new(Topology::GATEWAY_V4.into(), 9);
    let passed = |gateway: &Gateway| gateway.status()["packets"]["passed"]["packets"].as_u64();
    eventually("packets pass", || {
        sender.send_to(b"open?", closed).unwrap();
        passed(&site.gateway).filter(|passed| *passed >= 100)
    });
    assert_eq!(site.gateway.status()["program"]["state"], "settled");

    let Site { gateway, topology } = site;
    let written = std::fs::read_to_string(&gateway.config).unwrap();
    std::fs::write(&gateway.config, written.replace("U4 = \"off\"", "U4 = \"drop\"")).unwrap();
    let gateway = gateway.kill_and_restart_after(|command| on(&topology, command), || ());
    assert_eq!(gateway.status()["program"]["state"], "probation", "{}", gateway.status());
    let program = eventually("the program is taken out", || {
        sender.send_to(b"open?", closed).unwrap();
        let program = gateway.status()["program"].clone();
        (program["state"] == "rolled-back").then_some(program)
    });
    let reason = program["reason"].as_str().unwrap();
    assert!(reason.contains("% of the packets pass"), "{reason}");
    assert!(gateway.status()["reasons"].to_string().contains(reason));
    assert!(gateway.errors().contains("the kernel program does wrong"), "{}", gateway.errors());
    let address = gateway.status()["metrics"].as_str().unwrap().parse().unwrap();
    let ask = || {
        crate::kit::client::exchange(address, crate::kit::client::bodiless("GET /metrics")).text()
    };
    assert!(topology.gateway.run(ask).unwrap().contains("firewall_xdp_rolled_back 1"));
    Site { gateway, topology }.assert_served(Family::V4, NEIGHBOUR);
}

/// The ledger is what counts, whether the tables of the version before can be read or not.
#[test]
fn bans_outlive_the_layout_of_their_tables() {
    let test = "kernel_loop::life::bans_outlive_the_layout_of_their_tables";
    for (older, said) in [(1, "bans are taken over"), (2, "tables cannot be read")] {
        let Some(site) = Site::start(test, &Setup::of(NOTES)) else { return };
        let target = Family::V4.client(SCANNER);
        let ban = json!({ "target": format!("{target}/32"), "for_seconds": 600, "reason": "ticket 4711" });
        site.gateway.admin(&Method::POST, "/v1/bans", Some(&ban));
        site.assert_dropped(Family::V4, SCANNER);
        let pins = PathBuf::from(site.gateway.status()["pins"].as_str().unwrap());
        let Site { gateway, topology } = site;
        let tables = |layout: u32| pins.join(format!("v{layout}"));
        let gateway = gateway.kill_and_restart_after(
            |command| on(&topology, command),
            || std::fs::rename(tables(LAYOUT), tables(LAYOUT - older)).unwrap(),
        );
        let status = gateway.status();
        assert_eq!(status["interfaces"][0]["adopted"], true, "{status}");
        assert!(gateway.errors().contains(said), "{}", gateway.errors());
        assert!(!tables(LAYOUT - older).exists(), "nothing reads them any more");
        let bans = gateway.bans();
        assert_eq!(bans.len(), 1, "{bans:?}");
        assert_eq!((&bans[0]["origin"], &bans[0]["reason"]), (&json!("operator"), &ban["reason"]));
        let site = Site { gateway, topology };
        assert!(site.explain(target)["kernel"].is_object());
        site.assert_dropped(Family::V4, SCANNER);
        site.assert_served(Family::V4, NEIGHBOUR);
    }
}
