//! A loader with capabilities and a proxy without any: what each may, and what holds without either.

mod seeing;

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

/// Whether nobody answered: packets were dropped.
fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
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
        let api =
            "[[api]]\nname = \"test\"\nspec = \"spec.yaml\"\nupstream = \"http://10.0.0.1:1\"";
        let text = format!(
            "[listen]\naddress = \"[::]:8080\"\nplaintext = true\n{api}\n[kernel]\n{kernel}\n"
        );
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
            listen: "address = \"[::]:8080\"\nplaintext = true".into(),
            kernel: self.kernel(),
            owner: Some(PROXY),
            wrapper: becoming(PROXY, GROUP, &[]),
            ..Setup::of(NOTES)
        }
    }

    /// Starts a loader, and waits until it is ready.
    #[track_caller]
    fn load(&self) -> Loader {
        self.load_until(" ready ")
    }

    /// Starts a loader, and waits until it says so.
    #[track_caller]
    fn load_until(&self, said: &str) -> Loader {
        let socket = self.socket();
        drop(std::fs::remove_file(&socket));
        let words = becoming(LOADER, GROUP, &["bpf", "net_admin", "perfmon"]);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg(self.scratch.path().join("firewall"))
            .args(["load", "--config"]);
        command.arg(self.scratch.path().join("firewall.toml")).stdin(Stdio::null());
        let errors = std::fs::File::create(self.scratch.path().join("errors")).unwrap();
        let child = self.spawn(command.stderr(errors));
        let mut loader = Loader(child);
        eventually("the loader is ready", || {
            if let Some(status) = loader.0.try_wait().unwrap() {
                panic!("the loader ended, {status}:\n{}", self.loader_said());
            }
            self.loader_said().contains(said).then_some(())
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
        assert!(is_silence(&error), "{error}");
    }

    /// The value of a metric without labels.
    #[track_caller]
    fn metric(&self, gateway: &Gateway, name: &str) -> Option<u64> {
        let metrics = self.topology.gateway.run(|| gateway.metrics()).unwrap();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().parse().ok()
    }

    /// Waits until the proxy has a problem with its loader, or none; gives the status then.
    #[track_caller]
    fn until(gateway: &Gateway, has_problem: bool) -> Value {
        eventually("the proxy knows of its loader", || {
            let status = gateway.status();
            (problem(&status).is_some() == has_problem).then_some(status)
        })
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
    assert_eq!(site.metric(&gateway, "firewall_loader_absent"), Some(0));
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
    assert_eq!(top["sources"][0]["address"], Topology::client_v4(1).to_string(), "{top}");
    // A mode of a check goes by way of the loader, and is told of every interface.
    let setting = json!({ "id": "T1", "mode": "observe", "interface": null });
    let checks = gateway.admin(&Method::POST, "/v1/checks", Some(&setting));
    let check = checks.as_array().unwrap().iter().find(|check| check["id"] == "T1").unwrap();
    assert!(check.to_string().contains(Topology::PUBLIC_INTERFACE), "{check}");
    let target = format!("{}/32", Topology::client_v4(1));
    gateway.admin(&Method::DELETE, &format!("/v1/bans?target={target}"), None);
    site.assert_served(1);
}

/// So many addresses, a line each.
fn many(count: u32) -> String {
    let line = |n: u32| format!("203.{}.{}.1", n >> 8, n & 255);
    let mut lines = (0..count).map(line).collect::<Vec<_>>().join("\n");
    lines.push('\n');
    lines
}

/// Ends a process by SIGKILL.
fn kill(loader: Loader) {
    drop(loader);
}

#[test]
fn either_half_may_be_killed() {
    let Some(site) = Site::new("split::either_half_may_be_killed") else { return };
    let loader = site.load();
    let gateway = site.start(&site.setup());
    site.offend(1);
    site.assert_dropped(1);

    kill(loader);
    let status = Site::until(&gateway, true);
    // What is attached is, whoever runs.
    assert_eq!(status["mode"], "xdp-native", "{status}");
    let reasons = status["reasons"].to_string();
    assert!(
        reasons.contains("no loader answers at ") && reasons.contains("do not grow"),
        "{reasons}"
    );
    assert_eq!(site.metric(&gateway, "firewall_loader_absent"), Some(1));
    site.assert_dropped(1);
    site.offend(2);
    site.assert_dropped(2);
    site.assert_served(3);
    // A mode that the loader would have to set is refused, not forgotten.
    let set = gateway.cli(&["checks", "set", "T1", "off"]);
    assert!(set.0 == Some(2) && set.1.contains("no loader answers at "), "{set:?}");

    let loader = site.load();
    let status = Site::until(&gateway, false);
    assert_eq!(status["interfaces"][0]["adopted"], true, "{status}");
    assert_eq!(status["loader"]["pid"], loader.0.id(), "{status}");
    assert_eq!(site.metric(&gateway, "firewall_loader_absent"), Some(0));
    site.assert_dropped(1);
    assert_eq!(gateway.cli(&["checks", "set", "T1", "observe"]).0, Some(0));

    let during = || site.assert_dropped(1);
    let gateway = gateway.kill_and_restart_after(|command| site.spawn(command), during);
    assert_eq!(gateway.bans().len(), 2);
    site.assert_dropped(2);
    site.assert_served(3);

    // A proxy that starts while no loader runs works with what is pinned.
    kill(loader);
    let gateway = gateway.kill_and_restart_after(|command| site.spawn(command), || ());
    let status = gateway.status();
    assert_eq!(status["mode"], "xdp-native", "{status}");
    assert!(problem(&status).unwrap().contains("no loader answers at "), "{status}");
    site.assert_dropped(1);
    site.offend(4);
    site.assert_dropped(4);
}

#[test]
fn tables_grow_by_way_of_the_loader() {
    let Some(site) = Site::new("split::tables_grow_by_way_of_the_loader") else { return };
    let loader = site.load();
    // Twice what the first table has room for, and the client.
    let mut listed: String = many(10_000);
    listed += &Topology::client_v4(1).to_string();
    let feed = "[[feed]]\nname = \"bad\"\npath = \"bad.txt\"\nprivate_addresses = \"list\"\n";
    let setup = Setup {
        kernel: site.kernel() + feed,
        files: vec![("bad.txt".into(), listed)],
        ..site.setup()
    };
    let gateway = site.start(&setup);
    eventually("the feed is in force", || site.connect(1).err());
    let feeds = gateway.cli(&["feed", "list", "--json"]).1;
    assert!(feeds.contains("10001") && feeds.contains("\"in_kernel\": true"), "{feeds}");
    site.assert_served(2);

    // Without the loader a larger table is not to be had, and what there is stays.
    kill(loader);
    let grown: String = many(12_000);
    gateway.scratch.file("bad.txt", &grown);
    let problem = eventually("the feed is refused", || {
        let feeds = gateway.cli(&["feed", "list", "--json"]).1;
        feeds.contains("no loader answers at ").then_some(feeds)
    });
    assert!(problem.contains("bad"), "{problem}");
    site.assert_dropped(1);
}

#[test]
fn other_groups_are_shut_out() {
    let Some(site) = Site::new("split::other_groups_are_shut_out") else { return };
    let _loader = site.load();
    let strange = Setup { wrapper: becoming(PROXY, STRANGERS, &[]), ..site.setup() };
    let gateway = site.start(&strange);
    let status = gateway.status();
    assert_eq!(status["mode"], "l7-only", "{status}");
    let reasons = status["reasons"].to_string();
    assert!(reasons.contains("which needs the loader's group"), "{reasons}");
    drop(gateway);

    // Nor does the proxy's own group get further than the tables: links and counters are the loader's.
    let gateway = site.start(&site.setup());
    let [namespace] = &children(&site.pins)[..] else { panic!("one namespace") };
    for entry in children(namespace) {
        let mode = std::fs::metadata(&entry).unwrap().permissions().mode() & 0o7777;
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        let is_directory = name.starts_with('v');
        assert_eq!(mode, if is_directory { 0o750 } else { 0o600 }, "{name}");
    }
    let words = becoming(PROXY, GROUP, &[]);
    let link =
        children(namespace).into_iter().find(|path| path.to_string_lossy().contains("link-"));
    let removed = Command::new(&words[0]).args(&words[1..]).arg("rm").arg(link.unwrap()).output();
    assert!(!removed.unwrap().status.success());
    // Two proxies would write over each other.
    let mut second = site.setup();
    second.listen = "address = \"[::]:8081\"\nplaintext = true".into();
    let scratch = Scratch::new();
    scratch.file("spec.yaml", NOTES);
    let config = std::fs::read_to_string(&gateway.config).unwrap();
    let config = config.replace(":8080", ":8081");
    let own = gateway.scratch.path().to_string_lossy().into_owned();
    let other = scratch.path().to_string_lossy().into_owned();
    let config = scratch.file("firewall.toml", &config.replace(&own, &other));
    chown(scratch.path(), Some(PROXY), Some(GROUP)).unwrap();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(site.scratch.path().join("firewall")).args(["run", "--config"]);
    command.arg(config).stdin(Stdio::null()).stderr(Stdio::piped());
    let output = site.spawn(&mut command).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let named = format!("is in use by process {}", gateway.pid());
    assert!(output.status.code() == Some(2) && said.contains(&named), "{said}");
    // Nor may what they work with be taken away.
    let mut detach = Command::new(env!("CARGO_BIN_EXE_firewall"));
    detach.arg("detach").arg("--pin-dir").arg(&site.pins).stderr(Stdio::piped());
    let output = site.spawn(&mut detach).wait_with_output().unwrap();
    assert!(!output.status.success());
}

/// What is in a directory.
fn children(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_proxy_goes_on_when_the_loader_comes() {
    let Some(site) = Site::new("split::a_proxy_goes_on_when_the_loader_comes") else { return };
    let gateway = site.start(&site.setup());
    let status = gateway.status();
    assert_eq!(status["mode"], "l7-only", "{status}");
    assert!(problem(&status).unwrap().contains("`firewall load` does that"), "{status}");
    site.offend(1);
    // Refused by the proxy, not dropped.
    let bans = gateway.bans();
    assert_eq!(bans[0]["planes"], json!(["proxy"]), "{bans:?}");

    let loader = site.load();
    eventually("the program is attached", || {
        let status = gateway.status();
        (problem(&status).is_none() && status["mode"] == "xdp-native").then_some(())
    });
    eventually("the ban is in the kernel", || {
        (gateway.bans()[0]["planes"] == json!(["kernel", "proxy"])).then_some(())
    });
    site.assert_dropped(1);
    eventually("events come up", || gateway.status()["events"]["ban"].as_u64().filter(|n| *n > 0));

    // Tables that somebody has taken away are made anew, and filled anew.
    kill(loader);
    for namespace in children(&site.pins) {
        std::fs::remove_dir_all(namespace).unwrap();
    }
    let _loader = site.load();
    eventually("the new tables are open", || {
        // A reset would be the proxy's, which may not have noticed yet.
        site.connect(1)
            .err()
            .filter(is_silence)
            .and(problem(&gateway.status()).is_none().then_some(()))
    });
    site.assert_served(2);
    site.offend(3);
    site.assert_dropped(3);
}

#[test]
fn what_is_required_is_waited_for_and_then_refused() {
    let test = "split::what_is_required_is_waited_for_and_then_refused";
    let Some(site) = Site::new(test) else { return };
    let required = |kernel: String| {
        let interface = format!("interfaces = [\"{}\"]\n", Topology::PUBLIC_INTERFACE);
        let table = format!(
            "[[kernel.interface]]\nname = \"{}\"\nrequired = true\n",
            Topology::PUBLIC_INTERFACE
        );
        kernel.replace(&interface, "") + &table
    };
    let scratch = Scratch::new();
    scratch.file("spec.yaml", NOTES);
    let configuration = format!(
        "[listen]\naddress = \"[::]:8081\"\nplaintext = true\n[[api]]\nname = \"test\"\nspec = \"spec.yaml\"\n\
         upstream = \"http://10.0.0.1:1\"\n[admin]\nsocket = \"{}/admin.sock\"\n[kernel]\n{}",
        scratch.path().display(),
        required(site.kernel()),
    );
    let config = scratch.file("firewall.toml", &configuration);
    let mut command = Command::new(env!("CARGO_BIN_EXE_firewall"));
    command.args(["run", "--config"]).arg(config).stdin(Stdio::null()).stderr(Stdio::piped());
    let child = site.spawn(&mut command);
    // Another one, which starts first and whose loader comes meanwhile.
    let setup = Setup { kernel: required(site.kernel()), ..site.setup() };
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2), "{said}");
    assert!(said.contains("a required interface") && said.contains("firewall load"), "{said}");
    let gateway = std::thread::scope(|scope| {
        let started = scope.spawn(|| site.start(&setup));
        let loader = site.load();
        (started.join().unwrap(), loader)
    });
    assert_eq!(gateway.0.status()["mode"], "xdp-native");
}

#[test]
fn new_tables_are_filled_before_the_program_is_replaced() {
    let test = "split::new_tables_are_filled_before_the_program_is_replaced";
    let Some(site) = Site::new(test) else { return };
    let loader = site.load();
    let gateway = site.start(&site.setup());
    site.offend(1);
    site.assert_dropped(1);
    let mut next = None;
    let meanwhile = || {
        kill(loader);
        let [namespace] = &children(&site.pins)[..] else { panic!("one namespace") };
        // As if of a version whose tables nobody can read any more: the state file tells.
        let own = namespace.join(format!("v{}", firewall_common::LAYOUT));
        std::fs::rename(own, namespace.join("v1")).unwrap();
        next = Some(site.load_until("an earlier program stays in force"));
        site.assert_dropped(1);
        assert!(namespace.join("v1").exists());
    };
    let gateway = gateway.kill_and_restart_after(|command| site.spawn(command), meanwhile);
    eventually("the new program is attached", || {
        let status = gateway.status();
        let report = &status["interfaces"][0];
        (problem(&status).is_none() && report["adopted"] == true && report["reason"].is_null())
            .then_some(())
    });
    site.assert_dropped(1);
    let [namespace] = &children(&site.pins)[..] else { panic!("one namespace") };
    assert!(!namespace.join("v1").exists());
    // It is the new tables that are read.
    site.offend(2);
    site.assert_dropped(2);
}
