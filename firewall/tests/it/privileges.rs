//! Which privileges the kernel program takes: an unprivileged user with three capabilities, and what
//! is said where one of them is missing.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use xtask::lab::Topology;
use xtask::skip::skipped;

use crate::contract::NOTES;
use crate::kit::client::{Client, bodiless};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json};
use crate::xdp::net::BpfFs;

const NOBODY: u32 = 65_534;
const CAPABILITIES: [&str; 3] = ["bpf", "net_admin", "perfmon"];
/// The kernel repeats a SYN after one second.
const UNANSWERED: Duration = Duration::from_millis(1500);

/// A command line that makes an unprivileged user, who can gain nothing, of whoever runs it.
fn nobody_with(capabilities: &[&str]) -> Vec<String> {
    let set: String = capabilities.iter().flat_map(|name| [",+", name]).collect();
    let mut words = vec!["setpriv".to_owned()];
    words.extend([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
    words.extend(["--clear-groups", "--no-new-privs"].map(str::to_owned));
    for kind in ["inh-caps", "ambient-caps", "bounding-set"] {
        words.push(format!("--{kind}=-all{set}"));
    }
    words
}

struct Site {
    topology: Topology,
    upstream: Upstream,
    /// A BPF file system that anybody may pass through, with a directory of nobody's.
    _file_system: BpfFs,
    pins: PathBuf,
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
        let upstream = Upstream::on(listener, |_| json("200 OK", "[]"));
        let file_system = BpfFs::new();
        let open = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(file_system.path(), open).unwrap();
        let pins = file_system.path().join("firewall");
        std::fs::create_dir(&pins).unwrap();
        chown(&pins, Some(NOBODY), Some(NOBODY)).unwrap();
        Some(Self { topology, upstream, _file_system: file_system, pins })
    }

    fn setup(&self) -> Setup {
        let (interface, pins) = (Topology::PUBLIC_INTERFACE, self.pins.display());
        Setup {
            listen: "address = \"[::]:8080\"\nplaintext = true".into(),
            kernel: format!("interfaces = [\"{interface}\"]\npin_dir = \"{pins}\"\n"),
            owner: Some(NOBODY),
            ..Setup::of(NOTES)
        }
    }

    fn start(&self, setup: &Setup) -> Gateway {
        Gateway::start_with(setup, &self.upstream.url(), |command| self.spawn(command))
    }

    fn spawn(&self, command: &mut Command) -> Child {
        self.topology.gateway.spawn(command).unwrap()
    }

    fn connect(&self) -> std::io::Result<Client> {
        let from = SocketAddr::new(Topology::client_v4(1).into(), 0);
        let to = SocketAddr::new(Topology::GATEWAY_V4.into(), 8080);
        self.topology.client.connect(from, to, UNANSWERED).unwrap().map(Client::over)
    }

    /// Three offences, after which nothing of the client's arrives any more.
    #[track_caller]
    fn offend_until_dropped(&self) {
        let mut client = self.connect().unwrap();
        for path in ["/.env", "/wp-login.php", "/actuator"] {
            let answer = client.send(bodiless(&format!("GET {path}"))).answer();
            assert_eq!(answer.expect("a refusal, the last one too").status, 404);
        }
        let error = self.connect().expect_err("its packets are dropped");
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
    }
}

/// The line of `/proc` that shows a process's effective capabilities, user, or whether it may gain.
fn shown(gateway: &Gateway, key: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
fn an_unprivileged_user_needs_three_capabilities() {
    let test = "privileges::an_unprivileged_user_needs_three_capabilities";
    let Some(site) = Site::new(test) else { return };
    let setup = Setup { wrapper: nobody_with(&CAPABILITIES), ..site.setup() };
    let gateway = site.start(&setup);
    assert_eq!(shown(&gateway, "CapEff"), "000000c000001000");
    assert!(shown(&gateway, "Uid").starts_with("65534"));
    assert_eq!(shown(&gateway, "NoNewPrivs"), "1");
    let status = gateway.status();
    assert_eq!(status["mode"], "xdp-native", "{status}");
    assert_eq!(status["reasons"], Value::Array(Vec::new()), "{status}");
    site.offend_until_dropped();
    // What it pinned it can adopt.
    let gateway = gateway.kill_and_restart_after(|command| site.spawn(command), || ());
    let status = gateway.status();
    assert_eq!(status["interfaces"][0]["adopted"], true, "{status}");
    assert_eq!(gateway.bans().len(), 1);
    assert!(site.connect().is_err());
}

#[test]
fn a_missing_capability_is_named() {
    let test = "privileges::a_missing_capability_is_named";
    let Some(site) = Site::new(test) else { return };
    for missing in CAPABILITIES {
        let others: Vec<&str> =
            CAPABILITIES.into_iter().filter(|capability| *capability != missing).collect();
        let setup = Setup { wrapper: nobody_with(&others), ..site.setup() };
        let gateway = site.start(&setup);
        let status = gateway.status();
        assert_eq!(status["mode"], "l7-only", "{missing}: {status}");
        let named = format!("without CAP_{} (to ", missing.to_uppercase());
        let reasons = status["reasons"].to_string();
        assert!(reasons.contains(&named) && !reasons.contains("), CAP_"), "{missing}: {reasons}");
        let errors = gateway.errors();
        assert!(errors.contains(&named), "{errors}");
    }
}
