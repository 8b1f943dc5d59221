//! Another process takes the place of the running one, and no client notices; or it cannot, and nobody
//! notices that either.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;

use http::Method;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;

use crate::contract::{NOTES, notes};
use crate::kit::client::{Client, bodiless, exchange};
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::load::Load;
use crate::kit::upstream::{Upstream, json as answer};
use crate::kit::{PATIENCE, Scratch, eventually};

/// A process that nobody waits for; ended with the test.
pub(crate) struct Successor(Pid);

impl Successor {
    /// The process that serves now.
    pub(crate) fn of(gateway: &Gateway) -> Self {
        let pid = gateway.status()["pid"].as_i64().unwrap();
        Self(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap())
    }

    fn is_there(&self) -> bool {
        test_kill_process(self.0).is_ok()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // It may be gone.
        kill_process(self.0, Signal::KILL).unwrap_or(());
    }
}

/// The program at a place of its own, where another one can take its place.
fn replaceable() -> Setup {
    Setup { wrapper: vec!["env".into()], ..Setup::of(NOTES) }
}

/// A program that dies when everything is let go of.
pub(crate) const DIES_LATE: &str =
    "#!/bin/sh\nprintf 'prepared\\n' >&0\nread offer\nread yours\nexit 7\n";

/// Puts another program where the running one was started from.
pub(crate) fn install(gateway: &Gateway, script: &str) {
    let directory = gateway.scratch.path();
    let (installed, kept) = (directory.join("firewall"), directory.join("firewall.kept"));
    if !kept.exists() {
        std::fs::rename(&installed, kept).unwrap();
    }
    let new = gateway.scratch.file("firewall.new", script);
    std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::rename(new, installed).unwrap();
}

pub(crate) fn restore(gateway: &Gateway) {
    let directory = gateway.scratch.path();
    std::fs::rename(directory.join("firewall.kept"), directory.join("firewall")).unwrap();
}

#[track_caller]
fn upgrade(gateway: &Gateway) -> Successor {
    let (code, text) = gateway.cli(&["upgrade"]);
    assert_eq!(code, Some(0), "{text}\n{}", gateway.errors());
    let successor = Successor::of(gateway);
    assert_eq!(text, format!("process {} serves\n", successor.0.as_raw_nonzero()));
    successor
}

#[test]
fn no_client_notices_an_upgrade() {
    let upstream = notes();
    let mut gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let ban = json!({ "target": "192.0.2.7/32", "for_seconds": null, "reason": "kept" });
    gateway.admin(&Method::POST, "/v1/bans", Some(&ban));
    let load = Load::on(gateway.address, 3, 3);
    let mut successors = Vec::new();
    for number in 1..=3 {
        let before = load.served();
        let generation = gateway.status()["generation"].as_u64().unwrap();
        successors.push(upgrade(&gateway));
        let status = gateway.status();
        assert_eq!(status["generation"], generation + 1, "{status}");
        assert_eq!(status["listen"][0], gateway.address.to_string());
        assert_eq!(gateway.bans()[0]["reason"], "kept");
        assert_eq!(status["state"], "durable", "{status}");
        eventually("requests go on", || (load.served() > before + 50).then_some(()));
        if number == 1 {
            assert_eq!(gateway.ended(), Some(0), "the first one drains and ends");
            assert!(gateway.scratch.path().join("admin.sock").exists());
        }
    }
    let (served, lost) = load.end();
    assert!(lost.is_empty(), "{} of {served}: {lost:?}\n{}", lost.len(), gateway.errors());
    eventually("two of three are gone", || {
        successors[..2].iter().all(|one| !one.is_there()).then_some(())
    });
    // What the metrics count is the new process's; its listener is the same.
    assert!(gateway.metrics().contains("firewall_generation 4"), "{}", gateway.metrics());
}

#[test]
fn what_is_in_flight_is_finished_by_the_one_that_began_it() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(move |request| {
        if request.line().contains("/notes/1 ") {
            held.lock().unwrap().recv_timeout(PATIENCE).expect("to be released");
            return answer("200 OK", r#"{"text":"late"}"#);
        }
        answer("200 OK", "[]")
    });
    let mut gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let mut slow = Client::connect(gateway.address);
    slow.send(bodiless("GET /notes/1"));
    eventually("the request is at the upstream", || upstream.received().pop());
    let mut idle = Client::connect(gateway.address);
    assert_eq!(idle.send(bodiless("GET /notes")).answer().unwrap().status, 200);
    let _successor = upgrade(&gateway);
    // Who was silent is answered once more by the old one, and told to come again.
    let last = idle.send(bodiless("GET /notes")).answer().expect("an answer");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert_eq!(exchange(gateway.address, bodiless("GET /notes")).status, 200);
    release.send(()).unwrap();
    assert_eq!(slow.answer().expect("the answer in flight").status, 200);
    assert_eq!(gateway.ended(), Some(0));
    let generations = || {
        let log = gateway.access_log();
        log.iter().map(|line| line["generation"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    eventually("every exchange with its generation", || {
        let mut found = generations();
        found.sort_unstable();
        (found == [1, 1, 1, 2]).then_some(())
    });
}

/// The old process goes on with all that it had.
#[track_caller]
fn assert_unchanged(gateway: &Gateway, what: &str) {
    let status = gateway.status();
    assert_eq!(status["pid"], gateway.pid(), "{what}");
    assert_eq!(status["state"], "durable", "{what}");
    let ban = json!({ "target": "192.0.2.8/32", "for_seconds": 60, "reason": "on disk" });
    gateway.admin(&Method::POST, "/v1/bans", Some(&ban));
    assert_eq!(gateway.bans()[0]["reason"], "on disk", "{what}");
    gateway.admin(&Method::DELETE, "/v1/bans?target=192.0.2.8/32", None);
    assert_eq!(exchange(gateway.address, bodiless("GET /notes")).status, 200, "{what}");
    gateway.metrics();
}

#[test]
fn a_new_process_that_fails_changes_nothing() {
    let upstream = notes();
    let gateway = Gateway::start(&replaceable(), &upstream);
    let load = Load::on(gateway.address, 2, 2);
    for (script, expected) in [
        ("#!/bin/sh\nexit 3\n", "it has ended"),
        ("#!/bin/sh\nprintf 'failed not today\\n' >&0\n", "not today"),
        ("#!/bin/sh\nprintf 'serving\\n' >&0\n", "expected Prepared, found Serving"),
        ("#!/bin/sh\nprintf 'hello\\n' >&0\n", "said what has no meaning"),
        // Dies when all is let go of.
        (DIES_LATE, "it has ended"),
        (
            "#!/bin/sh\nprintf 'prepared\\n' >&0\nread offer\nread yours\n\
             printf 'failed too late\\n' >&0\nexit 7\n",
            "too late",
        ),
        ("no program", "starting "),
    ] {
        install(&gateway, script);
        let (code, text) = gateway.cli(&["upgrade"]);
        assert_eq!(code, Some(2), "{script}: {text}");
        assert!(text.contains(expected), "{script}: {text}");
        assert_unchanged(&gateway, script);
    }
    restore(&gateway);
    let config = std::fs::read_to_string(&gateway.config).unwrap();
    let port = gateway.address.port();
    for (changed, expected) in [
        (config.replace("workers = 2", "workers = two"), "firewall.toml:3: "),
        (config.replace("spec.yaml", "missing.yaml"), "missing.yaml"),
        (config.replace("127.0.0.1:0\"\nworkers", "127.0.0.2:0\"\nworkers"), "127.0.0.2:0"),
        (
            config.replace("127.0.0.1:0\"\nworkers", "127.0.0.1:1\"\nworkers"),
            &format!("listens on 127.0.0.1:{port}, the configuration says 127.0.0.1:1"),
        ),
        (config.replace("admin.sock", "other.sock"), "admin.socket cannot change"),
        (config.replace("[metrics]\nlisten = \"127.0.0.1:0\"", ""), "metrics.listen cannot change"),
        // Found out when everything is let go of already.
        (config.replace("/access.log", "/none/access.log"), "access log"),
    ] {
        assert_ne!(changed, config);
        std::fs::write(&gateway.config, changed).unwrap();
        let (code, text) = gateway.cli(&["upgrade"]);
        assert_eq!(code, Some(2), "{expected}: {text}");
        assert!(text.contains(expected), "{expected}: {text}");
        assert_unchanged(&gateway, expected);
    }
    std::fs::write(&gateway.config, &config).unwrap();
    // What can change only with a restart may change here, where the sockets do not.
    std::fs::write(&gateway.config, config.replace("workers = 2", "workers = 3")).unwrap();
    let _successor = upgrade(&gateway);
    let (served, lost) = load.end();
    assert!(lost.is_empty(), "{} of {served}: {lost:?}\n{}", lost.len(), gateway.errors());
}

#[test]
fn what_awaits_its_confirmation_is_not_forgotten() {
    let upstream = notes();
    let gateway = Gateway::start(&Setup::of(NOTES), &upstream);
    let ban = ["ban", "add", "192.0.2.7", "--for", "1h", "--confirm-within", "5m"];
    assert_eq!(gateway.cli(&ban).0, Some(0));
    let (code, text) = gateway.cli(&["upgrade"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("awaits its confirmation"), "{text}");
    assert_eq!(gateway.cli(&["confirm"]).0, Some(0));
    let _successor = upgrade(&gateway);
}

#[test]
fn the_service_manager_follows() {
    let upstream = notes();
    let scratch = Scratch::new();
    let path = scratch.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let message = || {
        let mut octets = [0; 4096];
        let length = manager.recv(&mut octets).unwrap();
        String::from_utf8(octets[..length].to_vec()).unwrap()
    };
    let mut gateway = Gateway::start_with(&Setup::of(NOTES), &upstream.url(), |command| {
        let command = command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000000");
        // The old process's alone, were it not told that it is the new one's.
        let script = "WATCHDOG_PID=$$ exec \"$@\"";
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let errors = std::fs::File::create(scratch.path().join("errors")).unwrap();
        shell.stdin(Stdio::null()).stderr(errors).spawn().unwrap()
    });
    let next = || loop {
        let message = message();
        if message != "WATCHDOG=1" {
            break message;
        }
    };
    assert!(next().starts_with("READY=1\n"));
    // As nginx and HAProxy are told.
    gateway.signal(Signal::USR2);
    let main = next();
    let pid = main.strip_prefix("MAINPID=").expect(&main);
    assert!(next().starts_with("READY=1\nSTATUS=l7-only, generation 2, "));
    let successor = Successor::of(&gateway);
    assert_eq!(pid, successor.0.as_raw_nonzero().to_string());
    assert_eq!(message(), "WATCHDOG=1", "the new one is looked after");
    assert_eq!(gateway.ended(), Some(0), "the old one says nothing more");
    kill_process(successor.0, Signal::TERM).unwrap();
    assert!(next().starts_with("STOPPING=1"));
}

/// Starts it as a service manager does that has opened `sockets`.
fn activated(setup: &Setup, upstream: &Upstream, sockets: Vec<TcpListener>) -> Gateway {
    let count = sockets.len();
    // A shell passes on what it has at a number; the first two are at 0 and 1.
    let moves: Vec<_> = (0..count).map(|at| format!("{}<&{at}", at + 3)).collect();
    let moves = moves.join(" ");
    let script = format!(
        "exec {moves}; exec 0</dev/null 1>/dev/null; LISTEN_PID=$$ LISTEN_FDS={count} exec \"$@\""
    );
    let wrapper = ["sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    let setup = Setup { wrapper, ..setup.clone() };
    Gateway::start_with(&setup, &upstream.url(), |command| {
        let mut sockets = sockets.into_iter().map(|socket| Stdio::from(OwnedFd::from(socket)));
        command.stdin(sockets.next().unwrap());
        if let Some(second) = sockets.next() {
            command.stdout(second);
        }
        command.spawn().unwrap()
    })
}

#[test]
fn a_service_managers_socket_is_served_from() {
    let upstream = notes();
    let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
    let first = socket();
    let address = first.local_addr().unwrap();
    // Comes before the firewall, and waits.
    let mut early = Client::connect(address);
    early.send(bodiless("GET /notes"));
    let setup = Setup { listen: "workers = 3".into(), ..Setup::of(NOTES) };
    let gateway = activated(&setup, &upstream, vec![first.try_clone().unwrap()]);
    assert_eq!(gateway.address, address);
    assert_eq!(early.answer().expect("an answer").status, 200);
    drop(early);
    for _ in 0..50 {
        assert_eq!(exchange(address, bodiless("GET /notes")).status, 200);
    }
    // The manager's socket is handed on like any other.
    let load = Load::on(address, 2, 2);
    let successor = upgrade(&gateway);
    eventually("requests go on", || (load.served() > 100).then_some(()));
    let (served, lost) = load.end();
    assert!(lost.is_empty(), "{} of {served}: {lost:?}", lost.len());
    // Nobody serves; who comes meanwhile waits for the next one.
    drop(successor);
    let pid = gateway.pid();
    drop(gateway);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    let mut early = Client::connect(address);
    early.send(bodiless("GET /notes"));
    let gateway = activated(&setup, &upstream, vec![first]);
    assert_eq!(early.answer().expect("an answer").status, 200);
    drop(gateway);

    // Two sockets and one worker: it accepts from both.
    let sibling = |address: std::net::SocketAddr| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(64).unwrap();
        TcpListener::from(socket)
    };
    let first = sibling(([127, 0, 0, 1], 0).into());
    let address = first.local_addr().unwrap();
    let sockets = vec![first, sibling(address)];
    let setup = Setup { listen: "workers = 1".into(), ..Setup::of(NOTES) };
    let _gateway = activated(&setup, &upstream, sockets);
    for _ in 0..50 {
        assert_eq!(exchange(address, bodiless("GET /notes")).status, 200);
    }
}

#[test]
fn a_socket_that_is_not_as_configured_is_refused() {
    for (listen, expected) in [
        ("address = \"127.0.0.2:0\"", "the configuration says 127.0.0.2:0"),
        ("address = \"127.0.0.1:1\"", "the configuration says 127.0.0.1:1"),
    ] {
        let scratch = Scratch::new();
        scratch.file("spec.yaml", NOTES);
        let config = scratch.file(
            "firewall.toml",
            &format!(
                "[listen]\n{listen}\n[[api]]\nname = \"a\"\nspec = \"spec.yaml\"\n\
                 upstream = \"http://127.0.0.1:9\"\n[admin]\nsocket = \"{}\"\n",
                scratch.path().join("admin.sock").display()
            ),
        );
        let script = "exec 3<&0; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=shop exec \"$@\"";
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let output = std::process::Command::new("sh")
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_firewall"), "run", "--config"])
            .arg(&config)
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{listen}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("the socket shop listens on") && said.contains(expected), "{said}");
    }
}
