//! Interfaces as machines have them: late, renamed, flapping, stacked, gone; with the real daemon.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use firewall::clock::Monotonic;
use http::Method;
use serde_json::{Value, json};
use xtask::lab::{Change, Device, LabError, NetNs, Port, add, cable, change, unplug};
use xtask::skip::skipped;

use crate::contract::NOTES;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::{Scratch, eventually};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
/// Where no request goes: these tests send none.
const UPSTREAM: &str = "http://127.0.0.1:9";
/// Within which a new interface must be filtered.
const PROMPTLY: Duration = Duration::from_millis(500);

#[track_caller]
fn lab<T>(test: &str, made: Result<T, LabError>) -> Option<T> {
    match made {
        Ok(value) => Some(value),
        Err(error) if error.is_unavailable() => {
            skipped(test, &error.to_string());
            None
        }
        Err(error) => panic!("{error}: {error:?}"),
    }
}

/// A daemon in a namespace of its own, told to filter `interfaces`.
struct Site {
    gateway: Gateway,
    machine: NetNs,
}

fn setup(kernel: &str) -> Setup {
    Setup { kernel: kernel.to_owned(), ..Setup::of(NOTES) }
}

fn on(machine: &NetNs, command: &mut Command) -> Child {
    machine.spawn(command).unwrap()
}

impl Site {
    fn start(test: &str, machine: NetNs, kernel: &str) -> Option<Self> {
        let gateway =
            Gateway::start_with(&setup(kernel), UPSTREAM, |command| on(&machine, command));
        let status = gateway.status();
        if !status["pinned"].as_bool().unwrap() {
            skipped(test, &status["reasons"].to_string());
            return None;
        }
        Some(Self { gateway, machine })
    }

    /// What `status` says of an interface; null if nothing.
    fn interface(&self, name: &str) -> Value {
        let status = self.gateway.status();
        let interfaces = status["interfaces"].as_array().unwrap();
        interfaces.iter().find(|found| found["name"] == name).cloned().unwrap_or_default()
    }

    #[track_caller]
    fn attached(&self, name: &str) -> Value {
        eventually(&format!("{name} is attached natively"), || {
            Some(self.interface(name)).filter(|found| found["mode"] == "native")
        })
    }

    #[track_caller]
    fn gone(&self, name: &str) {
        eventually(&format!("{name} is gone"), || self.interface(name).is_null().then_some(()));
    }

    fn links(&self) -> Vec<String> {
        let directory = PathBuf::from(self.gateway.status()["pins"].as_str().unwrap());
        let names = std::fs::read_dir(directory).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut links: Vec<_> = names.filter(|name| name.starts_with("link-")).collect();
        links.sort();
        links
    }

    /// How often it has happened to an interface since the start.
    fn happened(&self, event: &str) -> u64 {
        let line = format!("firewall_interface_events_total{{event=\"{event}\"}} ");
        let metrics = self.metrics();
        let found = metrics.lines().find_map(|found| found.strip_prefix(&line));
        found.map_or(0, |count| count.parse().unwrap())
    }

    fn metrics(&self) -> String {
        let address = self.gateway.status()["metrics"].as_str().unwrap().parse().unwrap();
        let ask = || {
            crate::kit::client::exchange(address, crate::kit::client::bodiless("GET /metrics"))
                .text()
        };
        self.machine.run(ask).unwrap()
    }

    fn pair(&self, name: &str, peer: &str) {
        pair(&self.machine, name, peer);
    }

    fn change(&self, name: &str, what: Change<'_>) {
        change(&self.machine, name, what).unwrap();
    }
}

/// Two ends of a cable in the same machine, up.
fn pair(machine: &NetNs, name: &str, peer: &str) {
    add(machine, name, Device::Veth { peer, mtu: 1500 }).unwrap();
    for end in [name, peer] {
        change(machine, end, Change::Up).unwrap();
    }
}

#[test]
fn a_ban_holds_on_an_interface_that_appears() {
    const TEST: &str = "interfaces::a_ban_holds_on_an_interface_that_appears";
    let Some(machine) = lab(TEST, NetNs::new()) else { return };
    let client = NetNs::new().unwrap();
    let Some(site) = Site::start(TEST, machine, "interfaces = [\"wan*\"]") else { return };
    assert_eq!(site.gateway.status()["mode"], "l7-only");
    let absent = site.interface("wan*");
    assert_eq!((&absent["mode"], &absent["index"]), (&json!("none"), &json!(0)), "{absent}");

    let target = format!("{CLIENT}/32");
    let ban = json!({ "target": target, "for_seconds": 600, "reason": "before the interface" });
    site.gateway.admin(&Method::POST, "/v1/bans", Some(&ban));
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let (near, far) = ([(IpAddr::V4(GATEWAY), 24)], [(IpAddr::V4(CLIENT), 24)]);
        cable(port(&site.machine, "wan0", &near), port(&client, "cl0", &far)).unwrap();
        let laid = Monotonic::now();
        let receiver = site.machine.run(|| UdpSocket::bind((GATEWAY, 0)).unwrap()).unwrap();
        let sender = client.run(|| UdpSocket::bind((CLIENT, 0)).unwrap()).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        site.attached("wan0");
        fastest = fastest.min(Monotonic::now().since(laid));
        receiver.set_nonblocking(true).unwrap();
        let mut buffer = [0; 16];
        while receiver.recv(&mut buffer).is_ok() {}
        receiver.set_nonblocking(false).unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        for _ in 0..5 {
            sender.send(b"banned?").unwrap();
        }
        assert!(receiver.recv(&mut buffer).is_err(), "a banned source's datagram arrived");
        unplug(&site.machine, "wan0").unwrap();
        site.gone("wan0");
        assert_eq!(site.links(), [""; 0]);
    }
    assert!(fastest < PROMPTLY, "{fastest:?}");
    assert_eq!((site.happened("attached"), site.happened("gone")), (3, 3));
}

fn port<'a>(namespace: &'a NetNs, interface: &'a str, addresses: &'a [(IpAddr, u8)]) -> Port<'a> {
    Port { namespace, interface, addresses, gateways: &[] }
}

#[test]
fn a_renamed_interface_is_followed() {
    const TEST: &str = "interfaces::a_renamed_interface_is_followed";
    let Some(machine) = lab(TEST, NetNs::new()) else { return };
    pair(&machine, "lan0", "far0");
    let Some(site) = Site::start(TEST, machine, "interfaces = [\"wan?\"]") else { return };
    assert!(site.interface("lan0").is_null());
    let rename = |from: &str, to: &str| {
        site.change(from, Change::Down);
        site.change(from, Change::Name(to));
        site.change(to, Change::Up);
    };
    rename("lan0", "wan0");
    let index = site.attached("wan0")["index"].clone();
    rename("wan0", "wan1");
    assert_eq!(site.attached("wan1")["index"], index);
    assert!(site.interface("wan0").is_null());
    assert_eq!((site.happened("attached"), site.happened("renamed")), (1, 1));
    // Out of the pattern: what is attached stays until it is told otherwise.
    rename("wan1", "lan0");
    let found = site.attached("lan0");
    assert!(found["reason"].as_str().unwrap().contains("no longer configured"), "{found}");
    assert_eq!(site.links().len(), 1);
    // The kernel's counters are read anew twice a second.
    eventually("nothing is told of the earlier names", || {
        let metrics = site.metrics();
        let line = r#"firewall_xdp_attach_mode{interface="lan0",mode="native"} 1"#;
        (metrics.contains(line) && !metrics.contains("wan1")).then_some(())
    });
}

#[test]
fn flapping_changes_nothing() {
    const TEST: &str = "interfaces::flapping_changes_nothing";
    let Some(machine) = lab(TEST, NetNs::new()) else { return };
    pair(&machine, "wan0", "far0");
    let Some(site) = Site::start(TEST, machine, "interfaces = [\"wan0\"]") else { return };
    let before = (site.interface("wan0"), site.links());
    let descriptors = site.gateway.descriptors();
    for _ in 0..200 {
        site.change("wan0", Change::Down);
        site.change("wan0", Change::Up);
    }
    // The last message has been taken when this one has.
    site.pair("mark0", "mark1");
    eventually("the flaps were heard of", || {
        (site.gateway.status()["link_messages"].as_u64()? >= 400).then_some(())
    });
    assert_eq!((site.interface("wan0"), site.links()), before);
    // That of the last command's connection may be open a moment longer.
    eventually("no descriptor stays open", || {
        (site.gateway.descriptors() <= descriptors).then_some(())
    });
    for event in ["attached", "unattached", "gone", "renamed"] {
        assert_eq!(site.happened(event), 0, "{event}");
    }
}

#[test]
fn an_interface_that_moves_away_is_let_go() {
    const TEST: &str = "interfaces::an_interface_that_moves_away_is_let_go";
    let Some(machine) = lab(TEST, NetNs::new()) else { return };
    let other = NetNs::new().unwrap();
    pair(&machine, "wan0", "far0");
    let Some(site) = Site::start(TEST, machine, "interfaces = [\"wan0\"]") else { return };
    site.attached("wan0");
    for round in 1..=3 {
        site.change("wan0", Change::Namespace(&other));
        eventually("it is gone", || (site.interface("wan0")["index"] == 0).then_some(()));
        assert_eq!(site.links(), [""; 0]);
        // Nothing of ours filters it where it is now: another may attach.
        let options = firewall::kernel::Options {
            interfaces: vec![firewall::kernel::InterfaceOptions::of("wan0".parse().unwrap())],
            pin_dir: "/proc/nowhere".into(),
            ..firewall::kernel::Options::default()
        };
        let there = other.run(|| firewall::kernel::Kernel::start(&options)).unwrap().unwrap();
        assert_eq!(there.interfaces()[0].mode, firewall::kernel::Mode::Native, "{round}");
        drop(there);
        change(&other, "wan0", Change::Namespace(&site.machine)).unwrap();
        site.attached("wan0");
        assert_eq!(site.happened("gone"), round);
    }
    assert_eq!(site.links().len(), 1);
}

#[test]
fn a_required_interface_decides() {
    const TEST: &str = "interfaces::a_required_interface_decides";
    let Some(machine) = lab(TEST, NetNs::new()) else { return };
    let required = "[[kernel.interface]]\nname = \"wan*\"\nrole = \"internet\"\nrequired = true\n";
    // The start fails without, and says so.
    let (code, said) = refused(&machine, required, None);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("the required interface wan*: no interface is called so"), "{said}");

    pair(&machine, "wan0", "far0");
    let Some(site) = Site::start(TEST, machine, required) else { return };
    let found = site.attached("wan0");
    assert_eq!((&found["role"], &found["required"]), (&json!("internet"), &json!(true)));
    let gauge = |value: u64| format!("firewall_required_interfaces_unattached {value}\n");
    assert_eq!(site.gateway.status()["degraded"], false);
    assert!(site.metrics().contains(&gauge(0)));
    unplug(&site.machine, "wan0").unwrap();
    eventually("it is missed", || (site.gateway.status()["degraded"] == true).then_some(()));
    assert!(site.metrics().contains(&gauge(1)));
    let (_, text) = site.gateway.cli(&["status"]);
    assert!(text.contains("interface   wan*: none, internet, required"), "{text}");
    site.pair("wan7", "far0");
    site.attached("wan7");
    assert_eq!(site.gateway.status()["degraded"], false);
}

/// Starts a daemon that ends by itself; gives its exit code and what it said.
#[track_caller]
fn refused(machine: &NetNs, kernel: &str, pins: Option<&str>) -> (Option<i32>, String) {
    let scratch = Scratch::new();
    scratch.file("spec.yaml", NOTES);
    let directory = scratch.path().display();
    let pins = pins.map_or_else(|| format!("/sys/fs/bpf/{}", scratch.name()), str::to_owned);
    let text = format!(
        "[listen]\naddress = \"127.0.0.1:0\"\nworkers = 1\n[[api]]\nname = \"test\"\n\
         spec = \"spec.yaml\"\nupstream = \"{UPSTREAM}\"\n[admin]\nsocket = \"{directory}/admin\"\n\
         [log]\naccess = \"off\"\n[kernel]\npin_dir = \"{pins}\"\n{kernel}"
    );
    let config = scratch.file("firewall.toml", &text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_firewall"));
    command.args(["run", "--config"]).arg(config).stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = on(machine, &mut command);
    eventually("it ends", || child.try_wait().unwrap());
    let output = child.wait_with_output().unwrap();
    // Those that were made before it was refused.
    if pins.contains(&scratch.name()) {
        drop(std::fs::remove_dir_all(&pins));
    }
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_second_instance_is_refused_and_the_first_named() {
    const TEST: &str = "interfaces::a_second_instance_is_refused_and_the_first_named";
    let Some(machine) = lab(TEST, NetNs::new()) else { return };
    pair(&machine, "wan0", "far0");
    let Some(site) = Site::start(TEST, machine, "interfaces = [\"wan0\"]") else { return };
    let directory = site.gateway.status()["pins"].as_str().unwrap().to_owned();
    let pins = PathBuf::from(&directory).parent().unwrap().display().to_string();
    let (code, said) = refused(&site.machine, "interfaces = [\"wan0\"]", Some(&pins));
    assert_eq!(code, Some(2), "{said}");
    let expected = format!("{directory} is in use by process {}", site.gateway.pid());
    assert!(said.contains(&expected), "{said}");
    // Nor is it detached under a daemon that runs.
    assert!(!on(&site.machine, &mut site.gateway.detach()).wait().unwrap().success());
    assert_eq!(site.attached("wan0")["mode"], "native");
    // A killed one leaves no lock behind.
    let Site { gateway, machine } = site;
    let gateway = gateway.kill_and_restart_after(|command| on(&machine, command), || {});
    assert_eq!(gateway.status()["interfaces"][0]["adopted"], true);
}

#[test]
fn reloads_touch_no_interface() {
    const TEST: &str = "interfaces::reloads_touch_no_interface";
    let Some(machine) = lab(TEST, NetNs::new()) else { return };
    pair(&machine, "wan0", "far0");
    let Some(site) = Site::start(TEST, machine, "interfaces = [\"wan0\"]") else { return };
    let settled = eventually("the start's own messages have been taken", || {
        let messages = || site.gateway.status()["link_messages"].as_u64().unwrap();
        let before = messages();
        std::thread::park_timeout(Duration::from_millis(300));
        (messages() == before).then_some(before)
    });
    for _ in 0..100 {
        site.gateway.admin(&Method::POST, "/v1/reload", None);
    }
    assert_eq!(site.gateway.status()["link_messages"], settled);
    assert_eq!(site.happened("attached"), 0);
}

/// Runs `firewall doctor --json`; gives its exit code and what it found.
#[track_caller]
fn doctor(machine: &NetNs, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firewall"));
    command.args(["doctor", "--json"]).args(arguments).stdout(std::process::Stdio::piped());
    let output = on(machine, &mut command).wait_with_output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// The severity of a finding; null if it was not made.
fn severity(report: &Value, id: &str, interface: Option<&str>) -> Value {
    let findings = report["findings"].as_array().unwrap();
    let is_it = |found: &&Value| found["id"] == id && found["interface"] == json!(interface);
    findings.iter().find(is_it).map(|found| found["severity"].clone()).unwrap_or_default()
}

#[test]
fn the_doctor_looks_and_changes_nothing() {
    const TEST: &str = "interfaces::the_doctor_looks_and_changes_nothing";
    let Some(machine) = lab(TEST, NetNs::new()) else { return };
    pair(&machine, "wan0", "far0");
    add(&machine, "wan0mac", Device::Macvlan { on: "wan0" }).unwrap();
    let Some(site) = Site::start(TEST, machine, "interfaces = [\"wan0\"]") else { return };
    let config = site.gateway.config.display().to_string();
    let before = (site.interface("wan0"), site.links(), site.gateway.status()["pins"].clone());

    let (_, report) = doctor(&site.machine, &["--config", &config]);
    assert_eq!(severity(&report, "kernel.program", None), "ok", "{report}");
    assert_eq!(severity(&report, "interface.mode", Some("wan0")), "ok", "{report}");
    // The running firewall's program is none to object to.
    assert!(severity(&report, "interface.foreign", Some("wan0")).is_null(), "{report}");
    let pins =
        report["findings"].as_array().unwrap().iter().find(|found| found["id"] == "bpf.pins");
    let expected = format!("process {} is the firewall", site.gateway.pid());
    assert!(pins.unwrap()["what"].as_str().unwrap().contains(&expected), "{report}");

    // Elsewhere it is.
    let (code, report) =
        doctor(&site.machine, &["--interface", "wan0", "--pin-dir", "/sys/fs/bpf/none"]);
    assert_eq!(
        (code, severity(&report, "interface.foreign", Some("wan0"))),
        (Some(1), json!("warning"))
    );
    let (code, report) = doctor(&site.machine, &["--interface", "wan0mac", "--interface", "nope"]);
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(severity(&report, "interface.mode", Some("wan0mac")), "warning", "{report}");
    assert_eq!(severity(&report, "interface.absent", Some("nope")), "warning", "{report}");
    // All but loopback, and what is on top of another only once.
    let (_, report) = doctor(&site.machine, &[]);
    assert_eq!(severity(&report, "interface.mode", Some("far0")), "ok", "{report}");
    for other in ["lo", "wan0mac"] {
        assert!(severity(&report, "interface.mode", Some(other)).is_null(), "{report}");
    }
    let required = site.gateway.scratch.file(
        "required.toml",
        "[listen]\naddress = \"127.0.0.1:0\"\n[[api]]\nname = \"a\"\nspec = \"spec.yaml\"\n\
         upstream = \"http://127.0.0.1:9\"\n[[kernel.interface]]\nname = \"nope\"\nrequired = true\n",
    );
    let (code, report) = doctor(&site.machine, &["--config", required.to_str().unwrap()]);
    assert_eq!((code, &report["worst"]), (Some(2), &json!("fatal")), "{report}");

    let after = (site.interface("wan0"), site.links(), site.gateway.status()["pins"].clone());
    assert_eq!(after, before);
    assert_eq!(site.happened("attached"), 0);
    assert!(!PathBuf::from("/sys/fs/bpf/none").exists());
}
