//! The command line.

mod target;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use http::Method;
use serde_json::{Value, json};

use self::target::IpNetOrAddress;
use crate::ban::keeper::BanMode;
use crate::control::config::KernelLog;
use crate::control::config::{self, Admin, ConfigFile};
use crate::control::doctor::DoctorOptions;
use crate::control::loader::LoadOptions;
use crate::control::{check, checks, daemon, doctor, loader, pressure, socket, top};
use crate::kernel;

/// An eBPF/XDP edge firewall that enforces OpenAPI contracts.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until told to stop (SIGTERM drains, SIGHUP reloads)
    Run(Box<RunOptions>),
    /// Load the kernel program and keep it attached for a `firewall run` without any capability, until
    /// told to stop
    Load(LoadOptions),
    /// Say whether configuration and document can be enforced; exit 0 if so, 1 if not, 2 if it
    /// could not be found out
    Check(CheckOptions),
    /// Look at kernel, driver and interfaces; exit 0 if all is well, 1 with warnings, 2 if the
    /// kernel's half does not work
    Doctor(DoctorOptions),
    /// Say whether the running firewall serves and each of its loops turns; exit 0 if so, else 2
    Health(#[command(flatten)] Connection),
    /// Show what the running firewall does
    Status(#[command(flatten)] Connection),
    /// Read configuration and document anew; the old ones serve on if the new ones are not sound
    Reload {
        /// Return to what was before unless `firewall confirm` comes within this time, as "2m"
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        confirm_within: Option<Duration>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Start the program that is installed now in the running one's place, without a lost connection
    Upgrade(#[command(flatten)] Connection),
    /// Keep what was ordered with --confirm-within
    Confirm(#[command(flatten)] Connection),
    /// Let everything pass for a while, in the kernel and in the proxy: for who has locked himself out
    PanicAllow {
        /// For how long, as "10m"; a day at most
        #[arg(
            long = "for",
            value_name = "DURATION",
            value_parser = humantime::parse_duration,
            required_unless_present = "end"
        )]
        duration: Option<Duration>,
        /// End it now
        #[arg(long, conflicts_with = "duration")]
        end: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show and renew the lists that others keep
    Feed {
        #[command(subcommand)]
        command: FeedCommand,
    },
    /// Make, lift and list bans
    Ban {
        #[command(subcommand)]
        command: BanCommand,
    },
    /// List what the kernel program checks of packets, and change it while it runs
    Checks {
        #[command(subcommand)]
        command: ChecksCommand,
    },
    /// Show whom nothing drops and nobody bans
    Allow {
        #[command(subcommand)]
        command: AllowCommand,
    },
    /// Say whether an address is banned, where, and why
    Explain {
        address: IpAddr,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show packets a second by reason, and the sources that most of them come from
    Top {
        /// How long one view is
        #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
        every: Duration,
        /// Views until it ends; it goes on if absent
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Write sampled drops to a file, as pcapng: at most a thousand a second of each reason and CPU,
    /// of each the first 148 octets
    Capture {
        /// Where to; "-" is standard output
        #[arg(short, long, value_name = "FILE")]
        write: PathBuf,
        /// Only drops of this reason; may be given several times
        #[arg(long, value_name = "ID")]
        reason: Vec<String>,
        /// Packets at most
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        count: u64,
        /// For how long at most, an hour or less
        #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
        duration: Duration,
        /// The running firewall's admin socket
        #[arg(long, value_name = "PATH", default_value_os_t = Admin::default().socket)]
        admin_socket: PathBuf,
    },
    /// Show or set what of strangers' new connections is shed
    Pressure {
        #[command(subcommand)]
        command: PressureCommand,
    },
    /// Take the kernel program off its interfaces, and its bans with it; the daemon must be stopped
    Detach {
        #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/firewall")]
        pin_dir: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the configuration file with every key and its default
    Config,
}

#[derive(Debug, Subcommand)]
enum PressureCommand {
    /// Show the level, and the load that it follows
    Show(#[command(flatten)] Connection),
    /// Set the level, from 0 to 3, whatever the load; or let it follow the load again: auto
    Set {
        level: String,
        #[command(flatten)]
        connection: Connection,
    },
}

impl PressureCommand {
    fn run(self) -> anyhow::Result<ExitCode> {
        let (connection, method, path) = match self {
            Self::Show(connection) => (connection, Method::GET, "/v1/pressure".to_owned()),
            Self::Set { level, connection } => {
                let order: pressure::Order = level.parse().map_err(anyhow::Error::msg)?;
                let level = order.0.map_or("auto".into(), |level| level.number().to_string());
                (connection, Method::POST, format!("/v1/pressure?level={level}"))
            }
        };
        let report = connection.call(&method, &path, None)?;
        connection.print(&report, |report| {
            let by = if member(report, "by_order") == true { "by order" } else { "by the load" };
            let share = member(report, "shed_share").as_f64().unwrap_or_default() * 100.0;
            let level = member(report, "level");
            format!("pressure {level} {by}: {share:.0} % of strangers' new connections are shed")
        })
    }
}

#[derive(Debug, Subcommand)]
enum BanCommand {
    /// Ban an address or a prefix
    Add {
        target: IpNetOrAddress,
        /// For how long, as "10m"; for ever if absent
        #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
        duration: Option<Duration>,
        #[arg(long, default_value = "by hand")]
        reason: String,
        /// Lift it again unless `firewall confirm` comes within this time, as "2m"
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        confirm_within: Option<Duration>,
        /// Even if it is wider than /8, or of IPv6 than /19
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Lift the ban of an address or a prefix
    Del {
        target: IpNetOrAddress,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the bans in force
    List(#[command(flatten)] Connection),
}

#[derive(Debug, Subcommand)]
enum ChecksCommand {
    /// List every check: its mode, what it counted, what it is based on, whom it may hit
    List(#[command(flatten)] Connection),
    /// Set the mode of a check from the next packet on, until the daemon ends or the configured modes
    /// change: what is to stay belongs in the configuration
    Set {
        /// As `firewall checks list` names it
        id: String,
        /// drop, observe or off
        mode: String,
        /// Only for packets that come in by this interface, or by those of a pattern
        #[arg(long, value_name = "NAME")]
        interface: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, Subcommand)]
enum AllowCommand {
    /// List the management allowlist, each entry with its source; it changes with a restart alone
    List(#[command(flatten)] Connection),
}

#[derive(Debug, Subcommand)]
enum FeedCommand {
    /// List the feeds: what each lists, how old that is, what is wrong with it
    List(#[command(flatten)] Connection),
    /// Ask a feed's origin now, or every feed's
    Refresh {
        name: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Take what waits because it would change too much at once
    Accept {
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Clone, Debug, Args)]
struct Connection {
    /// The running firewall's admin socket
    #[arg(long, value_name = "PATH", default_value_os_t = Admin::default().socket)]
    admin_socket: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `run` is told.
#[derive(Clone, Debug, Default, Args)]
pub struct RunOptions {
    /// The configuration file; `firewall config` prints one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["spec", "upstream"])]
    pub config: Option<PathBuf>,
    /// Without a file: the OpenAPI document
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    spec: Option<PathBuf>,
    /// Without a file: where requests go, as `http://127.0.0.1:9000`
    #[arg(long, value_name = "URL", required_unless_present = "config")]
    upstream: Option<String>,
    /// Where clients connect
    #[arg(long, value_name = "ADDR", required_unless_present = "config")]
    listen: Option<SocketAddr>,
    /// Speak plain text there, although others than this host may connect
    #[arg(long)]
    plaintext: bool,
    /// Attach the XDP program to this interface, or to those of a pattern ("eth*"), and to no other;
    /// may be given several times
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,
    /// Where bans are kept over a restart
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[arg(long, value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// Serve Prometheus metrics here
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// What bans do: enforce, observe, off
    #[arg(long, value_name = "MODE", value_parser = ban_mode)]
    bans: Option<BanMode>,
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// The kernel program's own messages
    #[arg(long, value_name = "LEVEL")]
    kernel_log: Option<KernelLog>,
    /// Where maps and links are pinned
    #[arg(long, value_name = "DIR")]
    pin_dir: Option<PathBuf>,
    /// The socket of a `firewall load` that has the capabilities which the kernel program takes
    #[arg(long, value_name = "PATH")]
    loader: Option<PathBuf>,
}

impl RunOptions {
    /// A configuration file, and a loader other than it names.
    pub(super) fn of_loader(config: PathBuf, loader: Option<PathBuf>) -> Self {
        Self { config: Some(config), loader, ..Self::default() }
    }

    /// The configuration that the options alone amount to. Clap has seen to it that document,
    /// upstream and address are there where no file is.
    pub(super) fn of_one_api(&self) -> ConfigFile {
        ConfigFile::of_one_api(
            self.listen.unwrap_or_else(|| ([127, 0, 0, 1], 8080).into()),
            self.spec.clone().unwrap_or_default(),
            self.upstream.clone().unwrap_or_default(),
        )
    }

    /// An option beats the same key of the file.
    pub(super) fn override_keys(&self, file: &mut ConfigFile) {
        if let Some(listen) = self.listen {
            file.listen.address = listen;
        }
        file.listen.plaintext |= self.plaintext;
        if !self.interface.is_empty() {
            file.kernel.interfaces.clone_from(&self.interface);
            file.kernel.interface.clear();
        }
        if self.state_dir.is_some() {
            file.state.dir.clone_from(&self.state_dir);
        }
        if let Some(socket) = &self.admin_socket {
            file.admin.socket.clone_from(socket);
        }
        if self.metrics.is_some() {
            file.metrics.listen = self.metrics;
        }
        if let Some(bans) = self.bans {
            file.bans.mode = bans;
        }
        if self.workers.is_some() {
            file.listen.workers = self.workers;
        }
        if let Some(level) = self.kernel_log {
            file.kernel.log = level;
        }
        if let Some(directory) = &self.pin_dir {
            file.kernel.pin_dir.clone_from(directory);
        }
        file.kernel.loader = self.loader.clone().or(file.kernel.loader.take());
    }
}

/// The configuration's words for it.
fn ban_mode(text: &str) -> Result<BanMode, serde::de::value::Error> {
    serde::Deserialize::deserialize(serde::de::IntoDeserializer::into_deserializer(text))
}

/// What `check` is told.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// Configuration files (`.toml`) and OpenAPI documents
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Cli {
    /// Does what was asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(options) => daemon::run(&options).map(|()| ExitCode::SUCCESS),
            Command::Load(options) => loader::run(&options).map(|()| ExitCode::SUCCESS),
            Command::Check(options) => check::run(&options),
            Command::Doctor(options) => doctor::run(&options),
            Command::Health(connection) => {
                let health = connection.call(&Method::GET, "/v1/health", None)?;
                connection.print(&health, |_| "every loop turns".to_owned())
            }
            Command::Status(connection) => {
                let status = connection.call(&Method::GET, "/v1/status", None)?;
                connection.print(&status, socket::status_text)
            }
            Command::Reload { confirm_within, connection } => {
                let path = confirm_within.map_or_else(
                    || "/v1/reload".to_owned(),
                    |within| format!("/v1/reload?confirm_within={}", whole_seconds(within)),
                );
                let result = connection.call(&Method::POST, &path, None)?;
                connection.print(&result, |result| {
                    let generation = member(result, "generation");
                    let until = if confirm_within.is_some() { ", until confirmed" } else { "" };
                    format!("generation {generation} is in force{until}")
                })
            }
            Command::Upgrade(connection) => {
                let upgraded = connection.call(&Method::POST, "/v1/upgrade", None)?;
                connection.print(&upgraded, |it| format!("process {} serves", member(it, "pid")))
            }
            Command::Confirm(connection) => {
                let confirmed = connection.call(&Method::POST, "/v1/confirm", None)?;
                connection.print(&confirmed, socket::confirmed_text)
            }
            Command::PanicAllow { duration, connection, .. } => panic_allow(duration, &connection),
            Command::Feed { command } => command.run(),
            Command::Ban { command } => command.run(),
            Command::Pressure { command } => command.run(),
            Command::Checks { command } => command.run(),
            Command::Allow { command: AllowCommand::List(connection) } => {
                let allowlist = connection.call(&Method::GET, "/v1/allow", None)?;
                connection.print(&allowlist, socket::allowlist_text)
            }
            Command::Explain { address, connection } => {
                let path = format!("/v1/explain?address={address}");
                let explanation = connection.call(&Method::GET, &path, None)?;
                connection.print(&explanation, socket::explanation_text)
            }
            Command::Top { every, count, connection } => {
                top::run(every, count, connection.json, || {
                    connection.call(&Method::GET, "/v1/top", None)
                })
            }
            Command::Capture { write, reason, count, duration, admin_socket } => {
                let seconds = duration.as_secs().max(1);
                let reasons = reason.join(",");
                let path = format!("/v1/capture?reasons={reasons}&count={count}&seconds={seconds}");
                capture_to(&write, &admin_socket, &path)
            }
            Command::Detach { pin_dir, json } => {
                let detached = kernel::detach(&pin_dir).context("detaching")?;
                if json {
                    return print(&json!({ "detached": detached }).to_string());
                }
                print(&match detached.as_slice() {
                    [] => "nothing was attached".into(),
                    names => format!("detached from {}", names.join(", ")),
                })
            }
            Command::Config => print(config::EXAMPLE.trim_end()),
        }
    }
}

/// The file is made when the firewall has agreed, so that a refusal leaves none behind.
fn capture_to(file: &Path, socket: &Path, path: &str) -> anyhow::Result<ExitCode> {
    let asking = || format!("asking {}", socket.display());
    if file == Path::new("-") {
        let (_, losses) = socket::capture(socket, path, std::io::stdout()).with_context(asking)?;
        if let Some(lost) = socket::losses_text(losses) {
            eprintln!("{lost}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let out = socket::NewFile::new(file);
    let (octets, losses) = socket::capture(socket, path, out).with_context(asking)?;
    let lost = socket::losses_text(losses).map(|lost| format!("; {lost}")).unwrap_or_default();
    print(&format!("{octets} octets in {}{lost}", file.display()))
}

impl BanCommand {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Add {
                target: IpNetOrAddress(target),
                duration,
                reason,
                confirm_within,
                force,
                connection,
            } => {
                let seconds = duration.map(whole_seconds);
                let within = confirm_within.map(whole_seconds);
                let ban = json!({
                    "target": target,
                    "for_seconds": seconds,
                    "reason": reason,
                    "force": force,
                    "confirm_within_seconds": within,
                });
                let made = connection.call(&Method::POST, "/v1/bans", Some(&ban))?;
                connection.print(&made, |made| format!("banned {}", text(member(made, "target"))))
            }
            Self::Del { target: IpNetOrAddress(target), connection } => {
                let path = format!("/v1/bans?target={target}");
                let lifted = connection.call(&Method::DELETE, &path, None)?;
                connection.print(&lifted, socket::lifted_text)
            }
            Self::List(connection) => {
                let bans = connection.call(&Method::GET, "/v1/bans", None)?;
                connection.print(&bans, socket::bans_text)
            }
        }
    }
}

impl ChecksCommand {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(connection) => {
                let checks = connection.call(&Method::GET, "/v1/checks", None)?;
                connection.print(&checks, checks::list_text)
            }
            Self::Set { id, mode, interface, connection } => {
                let wanted = json!({ "id": id, "mode": mode, "interface": interface });
                let checks = connection.call(&Method::POST, "/v1/checks", Some(&wanted))?;
                connection.print(&checks, |_| {
                    let place = interface.as_ref().map(|name| format!(" on {name}"));
                    format!("{id} is {mode}{}", place.unwrap_or_default())
                })
            }
        }
    }
}

impl FeedCommand {
    fn run(self) -> anyhow::Result<ExitCode> {
        let (connection, method, path) = match self {
            Self::List(connection) => (connection, Method::GET, "/v1/feeds".to_owned()),
            Self::Refresh { name, connection } => {
                let name = name.map(|name| format!("?name={name}")).unwrap_or_default();
                (connection, Method::POST, format!("/v1/feeds/refresh{name}"))
            }
            Self::Accept { name, connection } => {
                (connection, Method::POST, format!("/v1/feeds/accept?name={name}"))
            }
        };
        let feeds = connection.call(&method, &path, None)?;
        connection.print(&feeds, socket::feeds_text)
    }
}

fn panic_allow(duration: Option<Duration>, connection: &Connection) -> anyhow::Result<ExitCode> {
    let path = "/v1/panic-allow";
    let Some(duration) = duration else {
        let ended = connection.call(&Method::DELETE, path, None)?;
        return connection.print(&ended, |ended| match member(ended, "ended").as_bool() {
            Some(true) => "everything is enforced again".into(),
            _ => "nothing was to end".into(),
        });
    };
    let order = json!({ "for_seconds": whole_seconds(duration) });
    let begun = connection.call(&Method::POST, path, Some(&order))?;
    connection
        .print(&begun, |begun| format!("everything passes until {}", text(member(begun, "until"))))
}

/// At least one.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}

impl Connection {
    fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (status, answer) = socket::call(&self.admin_socket, method, path, body)
            .with_context(|| format!("asking {}", self.admin_socket.display()))?;
        if !status.is_success() {
            bail!("{}", answer.get("error").map_or("the firewall gave no reason".into(), text));
        }
        Ok(answer)
    }

    fn print(&self, answer: &Value, text: impl Fn(&Value) -> String) -> anyhow::Result<ExitCode> {
        if self.json { print(&serde_json::to_string_pretty(answer)?) } else { print(&text(answer)) }
    }
}

/// A string's text, anything else as JSON.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A member's value; null if there is none.
pub(super) fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

/// Prints a command's result; a reader that has gone away is no error.
#[expect(clippy::unnecessary_wraps, reason = "each command ends by it")]
pub(super) fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::Write as _;
    drop(writeln!(std::io::stdout(), "{text}"));
    Ok(ExitCode::SUCCESS)
}
