//! A loader with capabilities and a proxy without any: what each may, and what holds without either.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use xtask::lab::Topology;
use xtask::skip::skipped;

use crate::contract::NOTES;
use crate::kit::client::{Client, bodiless};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json as json_answer};
use crate::kit::{Scratch, eventually};
use crate::xdp::net::BpfFs;

const LOADER: u32 = 65_533;
const PROXY: u32 = 65_532;
/// What both are in.
const GROUP: u32 = 65_531;
const STRANGERS: u32 = 65_530;
/// The kernel repeats a SYN after one second.
const UNANSWERED: Duration = Duration::from_millis(1500);
/// As `/proc` shows `CAP_BPF`, `CAP_NET_ADMIN` and `CAP_PERFMON`, and nothing.
const THREE: &str = "000000c000001000";
const NONE: &str = "0000000000000000";

/// A command line that makes a user with these capabilities alone of whoever runs it.
fn becoming(user: u32, group: u32, capabilities: &[&str]) -> Vec<String> {
    let set: String = capabilities.iter().flat_map(|name| [",+", name]).collect();
    let mut words = vec!["setpriv".to_owned()];
    words.extend([format!("--reuid={user}"), format!("--regid={group}")]);
    words.extend(["--clear-groups", "--no-new-privs"].map(str::to_owned));
    for kind in ["inh-caps", "ambient-caps", "bounding-set"] {
        words.push(format!("--{kind}=-all{set}"));
    }
    words
}

struct Site {
    topology: Topology,
    upstream: Upstream,
    _file_system: BpfFs,
    pins: PathBuf,
    /// The loader's own.
    scratch: Scratch,
}

/// A running loader, killed when dropped.
struct Loader(Child);

impl Drop for Loader {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Site {
    fn new(test: &str) -> Option<Self> {
        let topology = match Topology::new() {
            Ok(topology) => topology,
            Err(error) if error.is_unavailable() => {
                skipped(test, &error.to_string());
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        if Command::new("setpriv").arg("--version").stdout(Stdio::null()).status().is_err() {
            skipped(test, "there is no setpriv");
            return None;
        }
        let listener = topology.api.bind(SocketAddr::new(Topology::API_V4.into(), 9000)).unwrap();
        let upstream = Upstream::on(listener, |_| json_answer("200 OK", "[]"));
        let file_system = BpfFs::new();
        // As the units' tmpfiles.d makes them.
        mode(file_system.path(), 0o711);
        let pins = file_system.path().join("firewall");
        std::fs::create_dir(&pins).unwrap();
        chown(&pins, Some(LOADER), Some(GROUP)).unwrap();
        mode(&pins, 0o750);
        let scratch = Scratch::new();
        let run = scratch.path().join("run");
        std::fs::create_dir(&run).unwrap();
        chown(&run, Some(LOADER), Some(GROUP)).unwrap();
        mode(&run, 0o750);
        std::fs::copy(env!("CARGO_BIN_EXE_firewall"), scratch.path().join("firewall")).unwrap();
        let site = Self { topology, upstream, _file_system: file_system, pins, scratch };
        site.configure("");
        Some(site)
    }

    /// Writes the loader's configuration, with more of its `[kernel]`.
    fn configure(&self, kernel: &str) -> PathBuf {
        let kernel = self.kernel() + kernel;
        let api = "[[api]]\nname = \"test\"\nspec = \"spec.yaml\"\nupstream = \"http://10.0.0.1:1\"";
        let text = format!("[listen]\naddress = \"[::]:8080\"\n{api}\n[kernel]\n{kernel}\n");
        self.scratch.file("firewall.toml", &text)
    }

    fn kernel(&self) -> String {
        let (interface, pins) = (Topology::PUBLIC_INTERFACE, self.pins.display());
        let socket = self.socket();
        let socket = socket.display();
        format!("interfaces = [\"{interface}\"]\npin_dir = \"{pins}\"\nloader = \"{socket}\"\n")
    }

    fn socket(&self) -> PathBuf {
        self.scratch.path().join("run/loader.sock")
    }

    fn setup(&self) -> Setup {
        Setup {
            listen: "address = \"[::]:8080\"".into(),
            kernel: self.kernel(),
            owner: Some(PROXY),
            wrapper: becoming(PROXY, GROUP, &[]),
            ..Setup::of(NOTES)
        }
    }

    /// Starts a loader, and waits until it is ready.
    #[track_caller]
    fn load(&self) -> Loader {
        let socket = self.socket();
        drop(std::fs::remove_file(&socket));
        let words = becoming(LOADER, GROUP, &["bpf", "net_admin", "perfmon"]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(self.scratch.path().join("firewall")).args(["load", "--config"]);
        command.arg(self.scratch.path().join("firewall.toml")).stdin(Stdio::null());
        let errors = std::fs::File::create(self.scratch.path().join("errors")).unwrap();
        let child = self.spawn(command.stderr(errors));
        let mut loader = Loader(child);
        eventually("the loader is ready", || {
            if let Some(status) = loader.0.try_wait().unwrap() {
                panic!("the loader ended, {status}:\n{}", self.loader_said());
            }
            self.loader_said().contains(" ready ").then_some(())
        });
        loader
    }

    fn loader_said(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("errors")).unwrap()
    }

    fn start(&self, setup: &Setup) -> Gateway {
        Gateway::start_with(setup, &self.upstream.url(), |command| self.spawn(command))
    }

    fn spawn(&self, command: &mut Command) -> Child {
        self.topology.gateway.spawn(command).unwrap()
    }

    fn connect(&self, n: u8) -> std::io::Result<Client> {
        let from = SocketAddr::new(Topology::client_v4(n).into(), 0);
        let to = SocketAddr::new(Topology::GATEWAY_V4.into(), 8080);
        self.topology.client.connect(from, to, UNANSWERED).unwrap().map(Client::over)
    }

    /// Three offences.
    #[track_caller]
    fn offend(&self, n: u8) {
        let mut client = self.connect(n).unwrap();
        for path in ["/.env", "/wp-login.php", "/actuator"] {
            let answer = client.send(bodiless(&format!("GET {path}"))).answer();
            assert_eq!(answer.expect("a refusal, the last one too").status, 404);
        }
    }

    #[track_caller]
    fn assert_dropped(&self, n: u8) {
        let error = self.connect(n).expect_err("its packets are dropped");
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
    }

    #[track_caller]
    fn assert_served(&self, n: u8) {
        let mut client = self.connect(n).expect("a connection");
        assert_eq!(client.send(bodiless("GET /notes")).answer().expect("an answer").status, 200);
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The line of `/proc` that shows what a process has.
fn shown(pid: u32, key: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

/// What is said of the loader when there is none.
fn problem(status: &Value) -> Option<String> {
    status["loader"]["problem"].as_str().map(str::to_owned)
}

/// The value of a metric without labels.
fn metric(gateway: &Gateway, name: &str) -> Option<u64> {
    let metrics = gateway.metrics();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().parse().ok()
}

#[test]
fn a_proxy_without_capability_has_the_kernel_drop() {
    let Some(site) = Site::new("split::a_proxy_without_capability_has_the_kernel_drop") else {
        return;
    };
    let loader = site.load();
    let gateway = site.start(&site.setup());
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(shown(gateway.pid(), key), NONE, "{key}");
        assert_eq!(shown(loader.0.id(), key), THREE, "{key}");
    }
    let status = gateway.status();
    assert_eq!(status["mode"], "xdp-native", "{status}");
    assert_eq!(status["reasons"], json!([]), "{status}");
    assert_eq!(status["pinned"], true, "{status}");
    assert_eq!(status["loader"]["pid"], loader.0.id(), "{status}");
    assert_eq!(metric(&gateway, "firewall_loader_absent"), Some(0));
    site.assert_served(1);
    site.offend(1);
    site.assert_dropped(1);
    site.assert_served(2);
    // Counters, events and the sources behind them come up as ever.
    let status = gateway.status();
    assert!(status["packets"]["ban"]["packets"].as_u64() > Some(0), "{status}");
    eventually("the drop is sampled", || {
        gateway.status()["events"]["ban"].as_u64().filter(|&events| events > 0)
    });
    let top = gateway.admin(&Method::GET, "/v1/top", None);
    assert_eq!(top["sources"][0]["source"], Topology::client_v4(1).to_string(), "{top}");
    // A mode of a check goes by way of the loader, and is told of every interface.
    let setting = json!({ "id": "T1", "mode": "observe", "interface": null });
    let checks = gateway.admin(&Method::POST, "/v1/checks", Some(&setting));
    let check = checks.as_array().unwrap().iter().find(|check| check["id"] == "T1").unwrap();
    assert!(check.to_string().contains(Topology::PUBLIC_INTERFACE), "{check}");
    let target = format!("{}/32", Topology::client_v4(1));
    gateway.admin(&Method::DELETE, &format!("/v1/bans?target={target}"), None);
    site.assert_served(1);
}
