//! `firewall doctor`: what of the machine keeps the kernel's half from working, or from working well.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use crate::causes::Causes;
use crate::control::cli::print;
use crate::control::config::{ConfigFile, Kernel};
use crate::control::settings;
use crate::kernel::machine::{self, BondFacts, InterfaceFacts, Machine};
use crate::kernel::{self, InterfaceOptions, KernelError, PinState};

/// The oldest kernel that the program was loaded on.
const OLDEST: (u32, u32) = (6, 1);
/// Before this, maps count against the limit of locked memory.
const MEMCG: (u32, u32) = (5, 11);
/// What maps and program take, with room to spare; RSS of the proxy comes on top.
const MEMORY_OCTETS: u64 = 256 << 20;
/// What fits a page with the kernel's room before and after a frame.
const PAGE_MTU: u32 = 3498;
/// What attaching takes, by number and name (linux/capability.h).
const CAPABILITIES: [(u32, &str); 3] =
    [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// What `doctor` is told.
#[derive(Debug, Args)]
pub struct DoctorOptions {
    /// Look at the interfaces and the pins of this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look at these interfaces; without this and a configuration, at all but loopback
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,
    #[arg(long, value_name = "DIR")]
    pin_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Ok,
    /// Works, and is worth knowing.
    Note,
    Warning,
    /// The kernel's half does not work.
    Fatal,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
struct Finding {
    /// Stays the same from version to version.
    id: &'static str,
    severity: Severity,
    interface: Option<String>,
    what: String,
    #[serde(rename = "do")]
    remedy: Option<String>,
}

impl Finding {
    fn new(id: &'static str, severity: Severity, what: impl Into<String>) -> Self {
        Self { id, severity, interface: None, what: what.into(), remedy: None }
    }

    fn ok(id: &'static str, what: impl Into<String>) -> Self {
        Self::new(id, Severity::Ok, what)
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    fn text(&self) -> String {
        let severity = match self.severity {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "WARNING",
            Severity::Fatal => "FATAL",
        };
        let interface = self.interface.as_ref().map(|name| format!("{name}: "));
        let remedy = self.remedy.as_ref().map(|remedy| format!("\n{:>30} {remedy}", "→"));
        format!(
            "{severity:<8} {:<20} {}{}{}",
            self.id,
            interface.unwrap_or_default(),
            self.what,
            remedy.unwrap_or_default()
        )
    }
}

/// Looks at everything; exit 0 if all is well, 1 with warnings, 2 if the kernel's half does not work.
pub fn run(options: &DoctorOptions) -> anyhow::Result<ExitCode> {
    let mut kernel = match &options.config {
        Some(path) => ConfigFile::read(path)?.kernel,
        None => Kernel::default(),
    };
    if !options.interface.is_empty() || options.config.is_none() {
        kernel.interface.clear();
        kernel.interfaces.clone_from(&options.interface);
        if kernel.interfaces.is_empty() {
            kernel.interfaces.push("*".into());
        }
    }
    if let Some(directory) = &options.pin_dir {
        kernel.pin_dir.clone_from(directory);
    }
    let wanted = settings::interfaces(&kernel).context("the interfaces")?;
    let mut findings = of_machine(&Machine::examine(&kernel.pin_dir));
    if let Some(socket) = &kernel.loader {
        findings.retain(|finding| !IN_PLACE_OF_LOADER.contains(&finding.id));
        findings.push(loader(socket, kernel::loader_at(socket, &kernel.pin_dir)));
    }
    let (interfaces, absent) = machine::interfaces(&wanted, &kernel.pin_dir)?;
    findings.extend(interfaces.iter().flat_map(of_interface));
    findings.extend(absent.iter().map(missing));
    if wanted.is_empty() {
        findings.push(
            Finding::new("interface.none", Severity::Warning, "no interface is configured")
                .remedy("kernel.interfaces, else this is an L7 firewall"),
        );
    }
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
    if options.json {
        print(&serde_json::to_string_pretty(&json!({ "worst": worst, "findings": findings }))?)?;
    } else {
        for finding in &findings {
            print(&finding.text())?;
        }
    }
    Ok(match worst {
        Severity::Ok | Severity::Note => ExitCode::SUCCESS,
        Severity::Warning => ExitCode::from(1),
        Severity::Fatal => ExitCode::from(2),
    })
}

fn of_machine(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![version(machine), program(machine), jit(machine), pins(&machine.pins)];
    findings.push(match machine.unprivileged_bpf_disabled {
        Some(0) => {
            Finding::new("bpf.unprivileged", Severity::Warning, "every user may load BPF programs")
                .remedy("sysctl kernel.unprivileged_bpf_disabled=2")
        }
        Some(_) => Finding::ok("bpf.unprivileged", "users without capability load no programs"),
        None => Finding::new("bpf.unprivileged", Severity::Note, "cannot be read"),
    });
    findings.push(if machine.has_btf {
        Finding::ok("kernel.btf", "the kernel describes its types")
    } else {
        let what = "the kernel does not describe its types; the firewall does not need it";
        Finding::new("kernel.btf", Severity::Note, what)
    });
    findings.push(memory(machine));
    findings
}

/// What it takes privileges to do, which another process does.
const IN_PLACE_OF_LOADER: [&str; 2] = ["kernel.program", "bpf.pins"];

fn loader(socket: &Path, found: Result<(String, u32), KernelError>) -> Finding {
    const ID: &str = "kernel.loader";
    match found {
        Ok((version, pid)) => {
            let socket = socket.display();
            Finding::ok(ID, format!("process {pid} (version {version}) answers at {socket}"))
        }
        Err(error) => {
            let what = format!("nobody loads the program: {}", Causes(&error));
            Finding::new(ID, Severity::Fatal, what)
                .remedy("systemctl status firewall-loader, or `firewall load`")
        }
    }
}

fn version(machine: &Machine) -> Finding {
    const ID: &str = "kernel.version";
    let release = &machine.release;
    match machine.version() {
        Some(version) if version >= OLDEST => Finding::ok(ID, format!("Linux {release}")),
        _ => {
            let what = format!("Linux {release}: nothing before 6.1 has been tried");
            Finding::new(ID, Severity::Warning, what)
        }
    }
}

fn program(machine: &Machine) -> Finding {
    const ID: &str = "kernel.program";
    match &machine.program {
        Ok(Some(walked)) => Finding::ok(
            ID,
            format!("the verifier takes the program ({walked} instructions walked)"),
        ),
        Ok(None) => Finding::ok(ID, "the verifier takes the program"),
        Err(error) => {
            let what = format!("the program cannot be loaded: {}", Causes(error));
            let found = Finding::new(ID, Severity::Fatal, what);
            let missing = missing_capabilities(machine.capabilities);
            match error {
                error if error.is_not_permitted() && !missing.is_empty() => {
                    found.remedy(format!("give it {}", missing.join(", ")))
                }
                KernelError::Refused { .. } | KernelError::Load { .. } => {
                    found.remedy("a newer kernel, or the report of a bug with this message")
                }
                _ => found,
            }
        }
    }
}

fn missing_capabilities(has: u64) -> Vec<&'static str> {
    // CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
    let is_admin = has & 1 << 21 != 0;
    let lacks = |(number, name): &(u32, &'static str)| {
        let has = has & 1 << number != 0 || is_admin && *number > 21;
        (!has).then_some(*name)
    };
    CAPABILITIES.iter().filter_map(lacks).collect()
}

fn jit(machine: &Machine) -> Finding {
    const ID: &str = "bpf.jit";
    match machine.jit {
        Some(0) => {
            Finding::new(ID, Severity::Warning, "programs are interpreted: ten times slower")
                .remedy("sysctl net.core.bpf_jit_enable=1")
        }
        Some(_) => Finding::ok(ID, "programs are compiled"),
        None => Finding::new(ID, Severity::Note, "whether programs are compiled cannot be read"),
    }
}

fn pins(pins: &PinState) -> Finding {
    const ID: &str = "bpf.pins";
    match pins {
        PinState::Ready { directory, holder: Some(pid) } => {
            let directory = directory.display();
            Finding::ok(ID, format!("{directory}: process {pid} is the firewall that runs here"))
        }
        PinState::Ready { directory, holder: None } => {
            Finding::ok(ID, format!("bans outlive the process in {}", directory.display()))
        }
        PinState::Unmounted => {
            Finding::new(ID, Severity::Warning, "no BPF file system is at /sys/fs/bpf")
                .remedy("mount -t bpf bpf /sys/fs/bpf, or give the firewall CAP_SYS_ADMIN once")
        }
        PinState::Refused { reason } => {
            Finding::new(ID, Severity::Warning, format!("bans end with the process: {reason}"))
                .remedy("kernel.pin_dir below /sys/fs/bpf, owned by the firewall's user")
        }
    }
}

fn memory(machine: &Machine) -> Finding {
    const ID: &str = "memory";
    let is_old = machine.version().is_some_and(|version| version < MEMCG);
    let mib = |octets: u64| octets >> 20;
    match (is_old, machine.memlock_max, machine.memory_max) {
        (true, Some(most), _) if most < MEMORY_OCTETS => {
            let what = format!("{} MiB may be locked, and this kernel locks maps", mib(most));
            Finding::new(ID, Severity::Warning, what).remedy("LimitMEMLOCK=infinity")
        }
        (_, _, Some(most)) if most < MEMORY_OCTETS => {
            let what = format!("the control group has {} MiB, and maps count", mib(most));
            Finding::new(ID, Severity::Warning, what).remedy("MemoryMax= of at least 256M")
        }
        _ => Finding::ok(ID, "no bound that maps would meet"),
    }
}

fn missing(wish: &InterfaceOptions) -> Finding {
    let severity = if wish.is_required { Severity::Fatal } else { Severity::Warning };
    let found = Finding::new("interface.absent", severity, "no interface is called so")
        .remedy("it is attached to when it appears; see `ip link` for the names there are");
    Finding { interface: Some(wish.pattern.to_string()), ..found }
}

fn of_interface(facts: &InterfaceFacts) -> Vec<Finding> {
    let mut findings = vec![mode(facts)];
    if let Some(foreign) = &facts.foreign {
        let severity = if facts.is_required { Severity::Fatal } else { Severity::Warning };
        let what = format!("{foreign} is attached there, and is not replaced");
        let remedy = "`ip link set … xdp off`, or stop who attached it";
        findings.push(Finding::new("interface.foreign", severity, what).remedy(remedy));
    }
    if facts.is_native == Some(true) && facts.takes_fragments == Some(false) && facts.mtu > PAGE_MTU
    {
        let what = format!("MTU {}: its driver takes one page a frame natively", facts.mtu);
        let remedy = "an MTU of at most 3498, else it is attached to generically";
        findings.push(Finding::new("interface.mtu", Severity::Warning, what).remedy(remedy));
    }
    for offload in &facts.offloads {
        findings.push(match offload.as_str() {
            "rx-vlan-hw-parse" => Finding::new(
                "interface.vlan-offload",
                Severity::Note,
                "the hardware takes VLAN tags off before the program sees a frame",
            ),
            _ => Finding::new(
                "interface.merging",
                Severity::Warning,
                format!("{offload} merges packets before the program; many drivers refuse one"),
            )
            .remedy(format!("ethtool -K {} {} off", facts.name, short(offload))),
        });
    }
    findings.extend(facts.bond.as_ref().and_then(member));
    if !facts.is_up {
        findings.push(Finding::new("interface.down", Severity::Note, "it is down"));
    }
    for finding in &mut findings {
        finding.interface = Some(facts.name.clone());
    }
    findings
}

/// What there is to say of an interface that is a member of this bond; nothing where all its members are
/// wanted.
fn member(bond: &BondFacts) -> Option<Finding> {
    const ID: &str = "interface.member";
    let BondFacts { name, is_wanted, open } = bond;
    if *is_wanted {
        let what = format!("a member of {name}, which is filtered whole: it need not be named");
        return Some(Finding::new(ID, Severity::Note, what));
    }
    if open.is_empty() {
        return None;
    }
    let open = open.join(", ");
    let what = format!("a member of {name}, of which {open} is not filtered");
    let remedy = format!("attach to {name}: all its members are filtered, those of later as well");
    Some(Finding::new(ID, Severity::Warning, what).remedy(remedy))
}

/// What `ethtool -K` calls a feature.
fn short(offload: &str) -> &str {
    match offload {
        "rx-lro" => "lro",
        other => other,
    }
}

fn mode(facts: &InterfaceFacts) -> Finding {
    const ID: &str = "interface.mode";
    let device = facts.driver.as_ref().or(facts.kind.as_ref());
    let device = device.map_or("its driver", String::as_str);
    match (facts.is_native, &facts.beneath) {
        (Some(true), _) => Finding::ok(ID, format!("{device} runs programs natively")),
        (None, None) => {
            let what = format!("whether {device} runs programs natively is known after attaching");
            Finding::new(ID, Severity::Note, what)
        }
        (_, Some(beneath)) if facts.may_go_beneath => {
            Finding::ok(ID, format!("attached to {beneath} beneath it, if that one is native"))
        }
        (_, Some(beneath)) => {
            let what = format!("{device} runs no programs natively: generic mode, which is slow");
            Finding::new(ID, Severity::Warning, what).remedy(format!(
                "attach to {beneath}, or set `beneath = true`: all that {beneath} receives is filtered"
            ))
        }
        (Some(false), None) if facts.kind.as_deref() == Some("bond") => {
            let what = "its mode or a member takes no programs: attached to its members if all are \
                native, else generically, which is slow";
            Finding::new(ID, Severity::Warning, what).remedy(
                "balance-rr, active-backup, balance-xor or 802.3ad, of members with native XDP",
            )
        }
        (Some(false), None) => {
            let what = format!("{device} runs no programs natively: generic mode, which is slow");
            Finding::new(ID, Severity::Warning, what)
                .remedy("a driver or network card with native XDP, or the interface in front of it")
        }
    }
}

#[cfg(test)]
mod tests;
