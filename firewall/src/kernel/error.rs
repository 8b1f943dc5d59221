//! What can be wrong with the kernel's half.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use aya::programs::ProgramError;
use ipnet::IpNet;

use super::capability;

/// The kernel does not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("the XDP object cannot be loaded")]
    Load { source: aya::EbpfError },
    /// Without capability (`CAP_BPF`, `CAP_NET_ADMIN`, and `CAP_PERFMON`, without which the verifier
    /// forbids variable offsets), or by the verdict of the verifier, whose last lines are in `log`.
    #[error("the kernel refuses the XDP program{log}")]
    Refused { source: io::Error, log: String },
    #[error("the XDP program cannot be used")]
    Program { source: ProgramError },
    /// Whatever failed, and what this process lacks for it.
    #[error("without {missing}")]
    Lacking { missing: String, source: Box<Self> },
    /// A driver takes its time.
    #[error("the XDP program is being attached")]
    Attaching,
    #[error("the XDP object has no map {map}")]
    NoMap { map: &'static str },
    #[error("map {map} does not {action}")]
    Map { map: &'static str, action: &'static str, source: aya::maps::MapError },
    #[error("map {map} is full at {entries} entries: {target} is not in it")]
    Full { map: &'static str, entries: u32, target: IpNet },
    #[error("the tables of bans cannot {action}")]
    Memory { action: &'static str, source: io::Error },
    #[error("{} holds another kind of map: remove it with `firewall detach`", path.display())]
    ForeignMap { path: PathBuf },
    #[error("{} cannot be {action}", path.display())]
    Pin { path: PathBuf, action: &'static str, source: io::Error },
    /// What is pinned was pinned by a version that this one knows nothing of. It stays in force.
    #[error(
        "a newer firewall's tables (layout {layout}) are in {}: run that version, or remove them with \
         `firewall detach`",
        path.display()
    )]
    NewerLayout { path: PathBuf, layout: u32 },
    /// Another daemon keeps what is pinned in this network namespace.
    #[error("{} is in use by {}", path.display(), process(*pid))]
    InUse { path: PathBuf, pid: Option<u32> },
    /// The loader has not been started, or failed.
    #[error("nothing is pinned at {}: `firewall load` does that", path.display())]
    NothingPinned { path: PathBuf },
    #[error(
        "{} is not open to this process, which needs the loader's group: `firewall load` pins for it",
        path.display()
    )]
    NotShared { path: PathBuf, source: io::Error },
    #[error(
        "{} cannot be opened without CAP_BPF on this kernel: Linux 5.19 or later can, or \
         kernel.unprivileged_bpf_disabled=0",
        path.display()
    )]
    OldKernel { path: PathBuf, source: io::Error },
    #[error("what the proxy is to write cannot be pinned: {reason}")]
    NotPinned { reason: String },
    #[error("no loader answers at {}", socket.display())]
    NoLoader { socket: PathBuf, source: io::Error },
    #[error("the loader at {} refuses: {reason}", socket.display())]
    RefusedByLoader { socket: PathBuf, reason: String },
    /// Of another version, or in another network namespace.
    #[error(
        "the loader at {} (version {version}) has its maps in {}, and not in {}: both must be of one \
         version, in one network namespace",
        socket.display(), theirs.display(), ours.display()
    )]
    OtherMaps { socket: PathBuf, version: String, theirs: PathBuf, ours: PathBuf },
    #[error("the loader at {} has made new tables", socket.display())]
    NewTables { socket: PathBuf },
    #[error("the network interfaces cannot be asked for")]
    Netlink { source: io::Error },
}

impl KernelError {
    /// The error, behind the capabilities that this process lacks, if it lacks any.
    pub(super) fn behind_what_is_lacking(self) -> Self {
        let needed = capability::missing();
        let is_anothers =
            matches!(self, Self::InUse { .. } | Self::NewerLayout { .. } | Self::ForeignMap { .. });
        if needed.is_empty() || is_anothers {
            return self;
        }
        let missing: Vec<String> = needed.iter().map(ToString::to_string).collect();
        let missing = missing.join(", ");
        Self::Lacking { missing, source: Box::new(self) }
    }

    /// The error and its causes, for another process.
    pub(super) fn told(&self) -> String {
        let mut told = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            told = format!("{told}: {error}");
            cause = error.source();
        }
        told
    }

    /// Whether a capability is missing, as against a kernel or a machine that fails.
    pub fn is_not_permitted(&self) -> bool {
        // The verifier says "permission denied" of a program that it finds unsound, too.
        if let Self::Refused { log, .. } = self
            && !log.is_empty()
            && !log.contains("!root")
        {
            return false;
        }
        let mut error: Option<&dyn Error> = Some(self);
        while let Some(current) = error {
            if let Some(error) = current.downcast_ref::<io::Error>()
                && error.kind() == io::ErrorKind::PermissionDenied
            {
                return true;
            }
            error = current.source();
        }
        false
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
