//! Under a service manager: readiness, reload, stop, and a watchdog that notices.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;
use xtask::skip::skipped;

use crate::contract::NOTES;
use crate::kit::gateway::{Gateway, Setup};
use crate::kit::upstream::{Upstream, json};
use crate::kit::{PATIENCE, Scratch, eventually};

/// How often the manager wants to hear of the firewall, and a loop's silence at most half of it.
const INTERVAL: Duration = Duration::from_secs(3);

/// The manager's end.
struct Manager {
    socket: UnixDatagram,
    _scratch: Scratch,
}

impl Manager {
    /// The manager, and a firewall that it has started.
    fn start(upstream: &Upstream) -> (Self, Gateway) {
        let scratch = Scratch::new();
        let path = scratch.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let gateway = Gateway::start_with(&Setup::of(NOTES), &upstream.url(), |command| {
            let interval = INTERVAL.as_micros().to_string();
            let command = command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", interval);
            command.spawn().unwrap()
        });
        (Self { socket, _scratch: scratch }, gateway)
    }

    /// The next message within `patience`.
    fn message(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut octets = [0; 4096];
        let length = self.socket.recv(&mut octets).ok()?;
        Some(String::from_utf8(octets[..length].to_vec()).unwrap())
    }

    /// The next message that begins so; what comes before it must be `others`, if anything.
    #[track_caller]
    fn expect(&self, start: &str, others: &[&str]) -> String {
        loop {
            let Some(message) = self.message(PATIENCE) else { panic!("{start}: no message") };
            if message.starts_with(start) {
                return message;
            }
            let is_known = others.iter().any(|other| message.starts_with(other));
            assert!(is_known, "expected {start}, found {message}");
        }
    }

    /// That no message of these begins so, for longer than the manager would wait.
    #[track_caller]
    fn expect_none(&self, start: &str) {
        #[expect(clippy::disallowed_methods, reason = "how long silence is listened to")]
        let now = Instant::now;
        let began = now();
        while let Some(left) = INTERVAL.checked_sub(now() - began).filter(|left| !left.is_zero()) {
            if let Some(message) = self.message(left) {
                assert!(!message.starts_with(start), "{message}");
            }
        }
    }
}

fn upstream() -> Upstream {
    Upstream::start(|_| json("200 OK", "[]"))
}

#[test]
fn every_change_of_state_is_told() {
    let upstream = upstream();
    let (manager, mut gateway) = Manager::start(&upstream);
    let alive = ["WATCHDOG=1"];
    let ready = manager.expect("READY=1\n", &[]);
    let address = format!("listening on {}", gateway.address);
    assert!(
        ready.contains("STATUS=l7-only, generation 1, ") && ready.ends_with(&address),
        "{ready}"
    );

    gateway.admin(&Method::POST, "/v1/reload", None);
    let reloading = manager.expect("RELOADING=1\n", &alive);
    let stamp = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    let stamp: u64 = stamp.parse().unwrap();
    let now = firewall::clock::Monotonic::now().ns() / 1000;
    assert!(stamp <= now && now - stamp < 60_000_000, "{stamp} {now}");
    assert!(manager.expect("READY=1\n", &alive).contains("generation 2"));

    gateway.scratch.file("spec.yaml", "openapi: 3.1.0\npaths: 7\n");
    let socket = gateway.scratch.path().join("admin.sock");
    let answer = firewall::control::socket::call(&socket, &Method::POST, "/v1/reload", None);
    assert_eq!(answer.unwrap().0, StatusCode::CONFLICT);
    manager.expect("RELOADING=1\n", &alive);
    let kept = manager.expect("READY=1\n", &alive);
    assert!(kept.contains("generation 2") && kept.contains("not reloaded: "), "{kept}");

    gateway.signal(Signal::TERM);
    // The changed file may have been seen once more.
    manager.expect("STOPPING=1\n", &["WATCHDOG=1", "RELOADING=1", "READY=1"]);
    assert_eq!(gateway.ended(), Some(0));
}

#[test]
fn a_manager_with_an_abstract_name_is_told() {
    let name = format!("firewall-it-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager =
        Manager { socket: UnixDatagram::bind_addr(&address).unwrap(), _scratch: Scratch::new() };
    let upstream = upstream();
    let _gateway = Gateway::start_with(&Setup::of(NOTES), &upstream.url(), |command| {
        command.env("NOTIFY_SOCKET", format!("@{name}")).spawn().unwrap()
    });
    manager.expect("READY=1\n", &[]);
    // Nobody asked for signs of life.
    manager.expect_none("WATCHDOG=1");
}

/// A thread that is held where it is, by way of what debuggers use.
struct Held(Pid);

impl Held {
    fn hold(thread: Pid) -> nix::Result<Self> {
        ptrace::seize(thread, ptrace::Options::empty())?;
        ptrace::interrupt(thread)?;
        waitpid(thread, Some(WaitPidFlag::__WALL))?;
        Ok(Self(thread))
    }

    fn let_go(self) {
        ptrace::detach(self.0, None).unwrap();
    }
}

/// The thread of this name. Where another one ends while they are listed, its place in the listing is
/// lost, and once in a while that of a third.
fn thread(gateway: &Gateway, name: &str) -> Pid {
    let find = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
        let mut numbers = tasks.filter_map(|task| Some(task.ok()?.path()));
        let path = numbers.find(|path| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
        })?;
        path.file_name()?.to_str()?.parse().ok()
    };
    Pid::from_raw(eventually("the thread is listed", find))
}

#[test]
fn the_watchdog_notices_each_loop_that_is_stuck() {
    const TEST: &str = "service::the_watchdog_notices_each_loop_that_is_stuck";
    let upstream = upstream();
    let (manager, gateway) = Manager::start(&upstream);
    manager.expect("READY=1\n", &["WATCHDOG=1"]);
    for name in ["worker-0", "worker-1", "firewall"] {
        manager.expect("WATCHDOG=1", &["STATUS=worker-"]);
        let held = match Held::hold(thread(&gateway, name)) {
            Ok(held) => held,
            Err(Errno::EPERM) => return skipped(TEST, "threads may not be held (ptrace)"),
            Err(error) => panic!("{error}"),
        };
        // The main loop is the one that would say so.
        if name == "firewall" {
            while manager.message(INTERVAL / 3).is_some() {}
        } else {
            manager.expect(&format!("STATUS={name} is stuck"), &["WATCHDOG=1"]);
            // Not as long as a probe waits.
            assert_eq!(gateway.cli(&["health"]), (Some(0), "every loop turns\n".to_owned()));
        }
        manager.expect_none("WATCHDOG=1");
        held.let_go();
        manager.expect("WATCHDOG=1", &["STATUS=worker-"]);
    }
    let errors = gateway.errors();
    assert!(errors.contains("the watchdog is told nothing"), "{errors}");
}
