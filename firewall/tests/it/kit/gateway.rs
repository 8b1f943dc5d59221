//! The real program, on ports of the kernel's choosing.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use http::{Method, StatusCode};
use serde_json::Value;

use super::upstream::Upstream;
use super::{Scratch, eventually};

/// A configuration; each field is TOML that goes into its table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) spec: String,
    /// What stands beside the document, by name.
    pub(crate) files: Vec<(String, String)>,
    pub(crate) listen: String,
    pub(crate) api: String,
    /// Between the braces of an inline table.
    pub(crate) upstream: String,
    pub(crate) limits: String,
    pub(crate) clients: String,
    pub(crate) bans: String,
    pub(crate) management: String,
    pub(crate) kernel: String,
    pub(crate) log: String,
    /// What comes before the program on its command line, and the user that it makes of it.
    pub(crate) wrapper: Vec<String>,
    pub(crate) owner: Option<u32>,
    /// More of the program's options.
    pub(crate) options: Vec<String>,
}

/// A running firewall.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    pub(crate) scratch: Scratch,
    pub(crate) address: SocketAddr,
    pub(crate) config: PathBuf,
    setup: Setup,
}

impl Gateway {
    /// Starts it in front of `upstream`, and waits until it serves.
    #[track_caller]
    pub(crate) fn start(setup: &Setup, upstream: &Upstream) -> Self {
        Self::start_with(setup, &upstream.url(), |command| command.spawn().unwrap())
    }

    /// In front of several endpoints.
    #[track_caller]
    pub(crate) fn start_before(setup: &Setup, urls: &[&str]) -> Self {
        Self::start_with(setup, &urls.join("\", \""), |command| command.spawn().unwrap())
    }

    /// The same, with the process started by `spawn`.
    #[track_caller]
    pub(crate) fn start_with(
        setup: &Setup,
        upstream: &str,
        spawn: impl FnOnce(&mut Command) -> Child,
    ) -> Self {
        let scratch = Scratch::new();
        scratch.file("spec.yaml", &setup.spec);
        for (name, text) in &setup.files {
            scratch.file(name, text);
        }
        let config = scratch.file("firewall.toml", &setup.text(upstream, &scratch));
        if setup.owner.is_some() {
            chown(scratch.path(), setup.owner, setup.owner).unwrap();
        }
        Self::run(setup.clone(), scratch, config, spawn)
    }

    #[track_caller]
    fn run(
        setup: Setup,
        scratch: Scratch,
        config: PathBuf,
        spawn: impl FnOnce(&mut Command) -> Child,
    ) -> Self {
        let mut command = setup.command(&scratch);
        let errors = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(scratch.path().join("errors"))
            .unwrap();
        command.args(["run", "--config"]).arg(&config).args(&setup.options);
        command.stdin(Stdio::null()).stderr(errors);
        let child = spawn(&mut command);
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut gateway = Self { child, scratch, address, config, setup };
        gateway.address = gateway.ready();
        gateway
    }

    #[track_caller]
    fn ready(&mut self) -> SocketAddr {
        eventually("the firewall serves", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the firewall ended, {status}:\n{}", self.errors());
            }
            let (_, status) = self.try_admin(&Method::GET, "/v1/status", None)?;
            status["listen"][0].as_str()?.parse().ok()
        })
    }

    /// Ends it by SIGKILL, does something, and starts it again on what it left behind.
    #[track_caller]
    pub(crate) fn kill_and_restart_after(
        mut self,
        spawn: impl FnOnce(&mut Command) -> Child,
        meanwhile: impl FnOnce(),
    ) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        meanwhile();
        let scratch = std::mem::replace(&mut self.scratch, Scratch::new());
        let config = self.config.clone();
        Self::run(self.setup.clone(), scratch, config, spawn)
    }

    fn try_admin(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(StatusCode, Value)> {
        let socket = self.scratch.path().join("admin.sock");
        firewall::control::socket::call(&socket, method, path, body).ok()
    }

    /// Asks the admin socket; panics unless the command succeeds.
    #[track_caller]
    pub(crate) fn admin(&self, method: &Method, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.try_admin(method, path, body).expect("the admin socket");
        assert!(status.is_success(), "{method} {path}: {answer}");
        answer
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.admin(&Method::GET, "/v1/status", None)
    }

    #[track_caller]
    pub(crate) fn bans(&self) -> Vec<Value> {
        self.admin(&Method::GET, "/v1/bans", None).as_array().unwrap().clone()
    }

    /// A command that speaks to this firewall.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firewall"));
        command.args(arguments).arg("--admin-socket").arg(self.scratch.path().join("admin.sock"));
        command
    }

    /// Runs the program's command line against this firewall; gives exit code and output.
    pub(crate) fn cli(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.command(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text + &String::from_utf8(output.stderr).unwrap())
    }

    /// What `firewall check` says of its configuration.
    pub(crate) fn check(&self) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firewall"));
        let output = command.arg("check").arg(&self.config).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many files, sockets and the like it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// The names of its threads that begin with `prefix`.
    pub(crate) fn threads(&self, prefix: &str) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
        };
        tasks.map(name).filter(|name| name.starts_with(prefix)).collect()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the process to end by itself; gives its exit code.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let child = &mut self.child;
        eventually("the firewall ends", || child.try_wait().unwrap()).code()
    }

    /// What it wrote to standard error.
    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("errors")).unwrap_or_default()
    }

    /// The access log so far, a value for each whole line.
    pub(crate) fn access_log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.scratch.path().join("access.log"));
        let text = text.unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The metrics, as exposed.
    #[track_caller]
    pub(crate) fn metrics(&self) -> String {
        let address = self.status()["metrics"].as_str().unwrap().parse().unwrap();
        super::client::exchange(address, super::client::bodiless("GET /metrics")).text()
    }
}

impl Gateway {
    /// `firewall detach` for what this one has pinned; it works in the namespace it is run in.
    pub(crate) fn detach(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firewall"));
        command.arg("detach").arg("--pin-dir").arg(pins(&self.scratch)).stdout(Stdio::null());
        command
    }
}

/// Where a firewall pins what it has in the kernel; one directory for each.
fn pins(scratch: &Scratch) -> PathBuf {
    Path::new("/sys/fs/bpf").join(scratch.path().file_name().unwrap())
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(pins(&self.scratch)));
        if std::thread::panicking() {
            eprintln!("the firewall said:\n{}", self.errors());
        }
    }
}

impl Setup {
    pub(crate) fn of(spec: &str) -> Self {
        Self { spec: spec.to_owned(), ..Self::default() }
    }

    /// The program, as whoever it is to be run by. Another user may not reach where it was built.
    fn command(&self, scratch: &Scratch) -> Command {
        let built = Path::new(env!("CARGO_BIN_EXE_firewall"));
        let [wrapper, arguments @ ..] = self.wrapper.as_slice() else { return Command::new(built) };
        let copy = scratch.path().join("firewall");
        if !copy.exists() {
            std::fs::copy(built, &copy).unwrap();
        }
        let mut command = Command::new(wrapper);
        command.args(arguments).arg(copy);
        command
    }

    fn text(&self, upstream: &str, scratch: &Scratch) -> String {
        let directory = scratch.path().display();
        let Self { listen, api, limits, clients, bans, management, kernel, log, .. } = self;
        let upstream = match &*self.upstream {
            "" if !upstream.contains('"') => format!("\"{upstream}\""),
            "" => format!("{{ endpoints = [\"{upstream}\"] }}"),
            keys => format!("{{ endpoints = [\"{upstream}\"], {keys} }}"),
        };
        let address = if listen.contains("address") { "" } else { "address = \"127.0.0.1:0\"" };
        let workers = if listen.contains("workers") { "" } else { "workers = 2" };
        // That a ban holds before its refusal goes out is no question of the machine's load here.
        let patience = "patience = \"10s\"";
        let pins = if kernel.contains("pin_dir") {
            String::new()
        } else {
            format!("pin_dir = \"{}\"", pins(scratch).display())
        };
        format!(
            "[listen]\n{address}\n{workers}\n{listen}\n[limits]\n{limits}\n[[api]]\nname = \"test\"\n\
             spec = \"spec.yaml\"\nupstream = {upstream}\n{api}\n[clients]\n{clients}\n\
             [bans]\n{patience}\n{bans}\n[management]\n{management}\n[kernel]\n{pins}\n{kernel}\n\
             [state]\ndir = \"{directory}/state\"\n[admin]\nsocket = \"{directory}/admin.sock\"\n\
             [metrics]\nlisten = \"127.0.0.1:0\"\n[log]\naccess = \"{directory}/access.log\"\n{log}\n"
        )
    }
}
