//! The firewall's own program, run and asked as an operator would: the one place that knows its
//! command line and its answers.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::network::Network;
use crate::end::End;
use crate::report::Stopwatch;

const READY_PATIENCE: Duration = Duration::from_secs(30);
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// For one question to the admin socket.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(25);
const LOG_LINES_SHOWN: usize = 20;

/// A running firewall, its folder, and its admin socket. Stopped and removed when dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    program: PathBuf,
    network: Rc<Network>,
    folder: PathBuf,
    /// Where the firewall pins its maps and its link: bpffs is one for all namespaces.
    pins: PathBuf,
    child: Child,
    stopped: bool,
}

/// What `firewall status` says, as far as the demonstration needs it.
#[derive(Debug)]
pub(super) struct Status {
    /// `xdp-native`, `xdp-generic` or `l7-only`.
    pub(super) mode: String,
    /// Why the mode is no better.
    pub(super) reasons: Vec<String>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) metrics: Option<SocketAddr>,
    /// Packets dropped because their source was banned.
    pub(super) banned_packets: u64,
}

/// A ban as `firewall ban list` tells it.
#[derive(Debug)]
pub(super) struct Ban {
    pub(super) remaining_seconds: f64,
    pub(super) rule: String,
    /// Packets dropped for this ban alone.
    pub(super) drops: u64,
}

impl Daemon {
    /// Starts the firewall on the gateway, in front of the API at `upstream`, and waits until it is
    /// ready to serve.
    pub(super) fn start(
        program: &Path,
        document: &Path,
        network: &Rc<Network>,
        upstream: SocketAddr,
        end: &End,
    ) -> Result<(Self, Status)> {
        let folder = std::env::temp_dir().join(format!("firewall-demo-{}", std::process::id()));
        // Made here and by nobody else, for this user alone.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("making {}", folder.display()))?;
        let pins = PathBuf::from(format!("/sys/fs/bpf/firewall-demo-{}", std::process::id()));
        let mut command = Command::new(program);
        command.arg("run");
        match **network {
            Network::Lab(_) => {
                command
                    .arg("--spec")
                    .arg(document)
                    .args(["--upstream", &format!("http://{upstream}")])
                    .args(["--listen", &network.listen().to_string(), "--plaintext"])
                    .args(["--interface", crate::lab::Topology::PUBLIC_INTERFACE])
                    .arg("--pin-dir")
                    .arg(&pins);
            }
            Network::Loopback => {
                let file = folder.join("firewall.toml");
                let text = loopback_configuration(document, network.listen(), upstream);
                fs::write(&file, text).context("writing the firewall's configuration")?;
                command.arg("--config").arg(file);
            }
        }
        command
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--admin-socket")
            .arg(folder.join("admin.sock"))
            .args(["--metrics", &network.metrics().to_string()]);
        let log = File::create(folder.join("log")).context("making the firewall's log")?;
        // Not of our process group: Ctrl-C is for us, who then stop it in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = match network.spawn(&mut command) {
            Ok(child) => child,
            Err(error) => {
                fs::remove_dir_all(&folder)?;
                return Err(error).context("starting the firewall");
            }
        };
        let mut daemon = Self {
            program: program.to_owned(),
            network: Rc::clone(network),
            folder,
            pins,
            child,
            stopped: false,
        };
        let status = daemon.wait_until_ready(end)?;
        Ok((daemon, status))
    }

    fn wait_until_ready(&mut self, end: &End) -> Result<Status> {
        let waiting = Stopwatch::start();
        loop {
            end.not_yet()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("the firewall ended with {status}; it said:\n{}", self.log());
            }
            let problem = match self.status() {
                Ok(status) => return Ok(status),
                Err(problem) => problem,
            };
            if waiting.elapsed() > READY_PATIENCE {
                return Err(problem).with_context(|| {
                    format!(
                        "the firewall was not ready in {READY_PATIENCE:?}; it said:\n{}",
                        self.log()
                    )
                });
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    pub(super) fn status(&self) -> Result<Status> {
        Status::read(&self.ask_json(&["status"])?)
    }

    /// The ban that covers `address`, if there is one.
    pub(super) fn ban(&self, address: IpAddr) -> Result<Option<Ban>> {
        Ban::find(&self.ask_json(&["ban", "list"])?, address)
    }

    pub(super) fn lift_ban(&self, address: IpAddr) -> Result<()> {
        self.ask(&["ban", "del", &address.to_string()]).map(drop)
    }

    /// A command for the operator to type.
    pub(super) fn command_line(&self, words: &str) -> String {
        let (program, socket) = (self.program.display(), self.socket());
        format!("{program} {words} --admin-socket {}", socket.display())
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The last lines of what the firewall wrote.
    pub(super) fn log(&self) -> String {
        let text = fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines.len().saturating_sub(LOG_LINES_SHOWN);
        lines.get(shown..).unwrap_or_default().join("\n")
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("admin.sock")
    }

    fn ask_json(&self, words: &[&str]) -> Result<Value> {
        let output = self.ask(&[words, &["--json"]].concat())?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("firewall {} --json did not answer in JSON", words.join(" ")))
    }

    fn ask(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--admin-socket").arg(self.socket());
        answer(&self.network, command, words)
    }

    /// Lets the firewall drain and end, or kills it, and takes its program off the interface.
    pub(super) fn stop(&mut self) -> Result<()> {
        if self.stopped {
            return Ok(());
        }
        self.stopped = true;
        let ended = self.end();
        // Kernel bans outlive the process by design: a demonstration must not leave any.
        if self.pins.exists() {
            let mut command = Command::new(&self.program);
            command.args(["detach", "--pin-dir"]).arg(&self.pins);
            answer(&self.network, command, &["detach"])?;
            fs::remove_dir(&self.pins)
                .with_context(|| format!("removing {}", self.pins.display()))?;
        }
        ended
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill(pid(&self.child)?, Signal::SIGTERM)?;
        let waiting = Stopwatch::start();
        while self.child.try_wait()?.is_none() {
            if waiting.elapsed() > DRAIN_PATIENCE {
                self.child.kill()?;
                self.child.wait()?;
                bail!("the firewall did not end within {DRAIN_PATIENCE:?} of SIGTERM");
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("warning: stopping the firewall: {error:#}");
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("warning: removing {}: {error}", self.folder.display());
        }
    }
}

/// On loopback the clients are addresses that are never banned unless the operator says so.
fn loopback_configuration(document: &Path, listen: SocketAddr, upstream: SocketAddr) -> String {
    // A JSON string is a TOML one.
    let document = Value::from(document.display().to_string());
    format!(
        "[listen]\naddress = \"{listen}\"\n\n\
         [[api]]\nname = \"shop\"\nspec = {document}\nupstream = \"http://{upstream}\"\n\n\
         [management]\nloopback = false\n"
    )
}

impl Status {
    fn read(status: &Value) -> Result<Self> {
        let mode = status.get("mode").and_then(Value::as_str);
        let packets = status.get("packets").and_then(Value::as_object);
        Ok(Self {
            mode: mode.context("firewall status names no mode")?.to_owned(),
            reasons: strings(status.get("reasons")),
            listen: strings(status.get("listen")).iter().find_map(|text| text.parse().ok()),
            metrics: strings(status.get("metrics")).iter().find_map(|text| text.parse().ok()),
            banned_packets: packets
                .into_iter()
                .flatten()
                .filter(|(reason, _)| matches!(reason.as_str(), "ban" | "ban-range"))
                .filter_map(|(_, counter)| counter.get("packets").and_then(Value::as_u64))
                .sum(),
        })
    }
}

impl Ban {
    fn find(list: &Value, address: IpAddr) -> Result<Option<Self>> {
        // The list itself, or a page of it under the name `bans`.
        let bans = list.as_array().or_else(|| list.get("bans").and_then(Value::as_array));
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        let target = format!("{address}/{prefix}");
        Ok(bans
            .context("firewall ban list did not answer with a list")?
            .iter()
            .find(|ban| ban.get("target").and_then(Value::as_str) == Some(&target))
            .map(|ban| Self {
                remaining_seconds: ban
                    .get("remaining_seconds")
                    .and_then(Value::as_f64)
                    .unwrap_or_default(),
                rule: ban.get("rule").and_then(Value::as_str).unwrap_or_default().to_owned(),
                drops: ban.get("drops").and_then(Value::as_u64).unwrap_or_default(),
            }))
    }
}

/// A string, or the strings of an array; none of anything else.
fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// What a command of the firewall's, typed on the gateway, answers if it succeeds.
fn answer(network: &Network, command: Command, words: &[&str]) -> Result<Output> {
    let output = output(network, command, ANSWER_PATIENCE)?;
    ensure!(
        output.status.success(),
        "firewall {} ended with {}: {}",
        words.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
}

/// Runs `command` to its end, which must come within `patience`.
fn output(network: &Network, mut command: Command, patience: Duration) -> Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = network
        .spawn(&mut command)
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    let pid = pid(&child)?;
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("command".to_owned()).spawn(move || {
        // Nobody listens after the deadline.
        sender.send(child.wait_with_output()).ok();
    })?;
    if let Ok(output) = receiver.recv_timeout(patience) {
        return Ok(output?);
    }
    kill(pid, Signal::SIGKILL)?;
    bail!("{} did not end within {patience:?}", command.get_program().display())
}

fn pid(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn status_is_read() {
        let status = Status::read(&json!({
            "mode": "l7-only",
            "reasons": ["CAP_BPF is missing"],
            "listen": ["127.0.0.1:4321"],
            "packets": {
                "ban": {"packets": 3, "bytes": 180},
                "ban-range": {"packets": 2, "bytes": 120},
                "T3": {"packets": 100, "bytes": 6000},
            },
        }))
        .unwrap();
        assert_eq!(status.mode, "l7-only");
        assert_eq!(status.reasons, ["CAP_BPF is missing"]);
        assert_eq!(status.listen, Some("127.0.0.1:4321".parse().unwrap()));
        assert_eq!(status.banned_packets, 5, "only bans count");
        assert!(Status::read(&json!({})).is_err());
    }

    #[test]
    fn a_ban_is_found_by_its_address_alone() {
        let list = json!([
            {"target": "10.0.0.30/32", "rule": "other", "remaining_seconds": 1, "drops": 1},
            {"target": "10.0.0.3/32", "rule": "route.unknown-path", "remaining_seconds": 299.5, "drops": 7},
        ]);
        let ban = Ban::find(&list, "10.0.0.3".parse().unwrap()).unwrap().unwrap();
        assert_eq!((ban.rule.as_str(), ban.drops), ("route.unknown-path", 7));
        assert!(Ban::find(&list, "10.0.0.4".parse().unwrap()).unwrap().is_none());
        assert!(Ban::find(&json!("none"), "10.0.0.3".parse().unwrap()).is_err());
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let waiting = Stopwatch::start();
        let error = output(&Network::Loopback, command, Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
        assert!(waiting.elapsed() < Duration::from_secs(30));
    }
}
