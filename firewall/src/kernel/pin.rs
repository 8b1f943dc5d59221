//! Where link and maps outlive the daemon: a directory on a BPF file system, one for each network
//! namespace.
//!
//! Beneath the pin directory, `net-N` for the namespace with inode N holds `link-INDEX-NAME` for
//! each interface, `program` to return to, and `vLAYOUT` with the maps: a link may take a program of
//! another layout, a map may not. Where one process loads the program and another writes its tables,
//! the maps are open to the group of the first, and `vLAYOUT/tables` holds what the second one pins.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use firewall_common::LAYOUT;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::KernelError;

/// Whether bans outlive the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// The directory that holds link and maps.
    Pinned(PathBuf),
    /// Bans are lost on exit.
    Unpinned { reason: String },
}

/// Where bans would be pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinState {
    /// In this directory, which may have to be made; a daemon that has it already is named.
    Ready {
        directory: PathBuf,
        holder: Option<u32>,
    },
    /// There is no BPF file system yet: mounting one takes `CAP_SYS_ADMIN`.
    Unmounted,
    Refused {
        reason: String,
    },
}

/// Beside the maps, what the process pins that writes the tables of bans.
pub(super) const TABLES: &str = "tables";
const BPF_FS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: rustix::fs::FsWord = 0xcafe_4a11;

/// Why nothing can be pinned.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotPinned {
    #[error("{} is not on a BPF file system", .0.display())]
    NotBpf(PathBuf),
    #[error("no BPF file system is at {BPF_FS}, and mounting one failed: {0}")]
    Mount(io::Error),
    #[error("the BPF file system at {} ends with the mount namespace of this process", .0.display())]
    Private(PathBuf),
    #[error("{} cannot be made: {error}", path.display())]
    Directory { path: PathBuf, error: io::Error },
    #[error("the network namespace has no name: {0}")]
    Namespace(io::Error),
    /// Not a reason to go on without.
    #[error(transparent)]
    InUse(KernelError),
    /// Nor is this: what a newer version enforces is not to be replaced by what knows less.
    #[error(transparent)]
    Newer(KernelError),
}

/// Who may open the maps beside this process's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    User,
    /// The group of this process.
    Group,
}

/// The directory of this network namespace.
#[derive(Debug)]
pub(super) struct Pins {
    directory: PathBuf,
    /// Locked, where they may be changed: one daemon alone keeps them.
    #[expect(dead_code, reason = "the lock ends with the descriptor")]
    lock: Option<File>,
}

impl Pins {
    /// Makes the directory, and mounts the file system if it is missing from its usual place.
    pub(super) fn open(pin_dir: &Path, access: Access) -> Result<Self, NotPinned> {
        if !is_mounted(pin_dir)? {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("bpf", BPF_FS, "bpf", flags, Some(c"mode=0700"))
                .map_err(|error| NotPinned::Mount(error.into()))?;
        }
        let directory = namespace_directory(pin_dir).map_err(NotPinned::Namespace)?;
        let maps = maps_directory(&directory);
        if let Some(layout) = newest_layout(&directory).filter(|layout| *layout > LAYOUT) {
            return Err(NotPinned::Newer(KernelError::NewerLayout { path: directory, layout }));
        }
        fs::create_dir_all(&maps)
            .map_err(|error| NotPinned::Directory { path: maps.clone(), error })?;
        let lock = lock(&directory).map_err(NotPinned::InUse)?;
        if access == Access::Group {
            let tables = maps.join(TABLES);
            let opened = fs::create_dir_all(&tables)
                .and_then(|()| set_mode(&directory, 0o750))
                .and_then(|()| set_mode(&maps, 0o750))
                .and_then(|()| set_mode(&tables, 0o770));
            opened.map_err(|error| NotPinned::Directory { path: tables, error })?;
        }
        Ok(Self { directory, lock: Some(lock) })
    }

    /// What another process has pinned for this one, which is the only one that writes its tables.
    ///
    /// # Errors
    ///
    /// [`KernelError::NothingPinned`], [`KernelError::NotShared`], and [`KernelError::InUse`] while
    /// another process has it.
    pub(super) fn shared(pin_dir: &Path) -> Result<Self, KernelError> {
        let directory =
            namespace_directory(pin_dir).map_err(|source| failed(pin_dir, "found", source))?;
        if let Some(layout) = newest_layout(&directory).filter(|layout| *layout > LAYOUT) {
            return Err(KernelError::NewerLayout { path: directory, layout });
        }
        let tables = maps_directory(&directory).join(TABLES);
        match fs::metadata(&tables) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(KernelError::NothingPinned { path: tables });
            }
            Err(error) => return Err(not_shared(&tables, error)),
        }
        let lock = match lock(&tables) {
            Err(KernelError::Pin { path, source, .. }) => return Err(not_shared(&path, source)),
            lock => lock?,
        };
        Ok(Self { directory, lock: Some(lock) })
    }

    /// Where the process that writes the tables pins them.
    pub(super) fn tables(&self) -> PathBuf {
        self.maps().join(TABLES)
    }

    /// Opens a pinned map to the group, to be written or only to be read.
    pub(super) fn share(&self, name: &str, is_read_only: bool) -> Result<(), KernelError> {
        let path = self.map(name);
        let mode = if is_read_only { 0o640 } else { 0o660 };
        set_mode(&path, mode).map_err(|source| failed(&path, "opened to its group", source))
    }

    /// What is pinned already, to be looked at; none if there is nothing.
    pub(super) fn at(pin_dir: &Path) -> Option<Self> {
        let directory = namespace_directory(pin_dir).ok().filter(|path| path.exists())?;
        Some(Self { directory, lock: None })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory of this layout's maps.
    pub(super) fn maps(&self) -> PathBuf {
        maps_directory(&self.directory)
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        maps_directory(&self.directory).join(name)
    }

    /// The program that a later one will be compared with.
    pub(super) fn program(&self) -> PathBuf {
        self.directory.join("program")
    }

    /// The same before it has that name.
    pub(super) fn new_program(&self) -> PathBuf {
        self.directory.join("program-new")
    }

    pub(super) fn link(&self, index: u32, interface: &str) -> PathBuf {
        self.directory.join(link_name(index, interface))
    }

    /// The pinned links.
    pub(super) fn links(&self) -> Result<Vec<Pinned>, KernelError> {
        let failed = |source| failed(&self.directory, "read", source);
        let mut links = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if let Some((index, name)) = path.file_name().and_then(|name| interface(name.to_str()?))
            {
                links.push(Pinned { index, name, path });
            }
        }
        links.sort();
        Ok(links)
    }

    /// Removes the maps of other layouts: no program reads them once every link has this one's.
    pub(super) fn remove_other_layouts(&self) -> io::Result<()> {
        let own = maps_directory(&self.directory);
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.is_dir() && path != own {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }
}

/// Where the maps of this network namespace and layout are.
pub(super) fn maps_at(pin_dir: &Path) -> Result<PathBuf, KernelError> {
    let directory = namespace_directory(pin_dir);
    Ok(maps_directory(&directory.map_err(|source| failed(pin_dir, "found", source))?))
}

/// Whether the BPF file system is there; false if it has yet to be mounted at its usual place.
fn is_mounted(pin_dir: &Path) -> Result<bool, NotPinned> {
    if is_bpf(pin_dir) {
        if own_mount_namespace() == Some(true) && !is_propagated(pin_dir) {
            return Err(NotPinned::Private(pin_dir.to_owned()));
        }
        return Ok(true);
    }
    if !pin_dir.starts_with(BPF_FS) {
        return Err(NotPinned::NotBpf(pin_dir.to_owned()));
    }
    // A file system that others cannot see would end with the last process of this namespace, and
    // with it the bans that it promises to keep.
    if own_mount_namespace() == Some(true) {
        return Err(NotPinned::Private(PathBuf::from(BPF_FS)));
    }
    Ok(false)
}

/// Where bans would be pinned; changes nothing.
pub(super) fn state(pin_dir: &Path) -> PinState {
    let refused = |reason: String| PinState::Refused { reason };
    match is_mounted(pin_dir) {
        Err(error) => return refused(error.to_string()),
        Ok(false) => return PinState::Unmounted,
        Ok(true) => {}
    }
    let directory = match namespace_directory(pin_dir) {
        Ok(directory) => directory,
        Err(error) => return refused(error.to_string()),
    };
    // The first that is there is the one that is written to.
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(&directory);
    if let Err(error) =
        rustix::fs::access(existing, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
    {
        return refused(format!("{} cannot be written to: {error}", existing.display()));
    }
    let holder = File::open(&directory).ok().as_ref().and_then(holder);
    PinState::Ready { directory, holder }
}

/// A pinned link: its interface, as that was called when it was pinned, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pinned {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// Removes a link, which detaches the program if its interface is still there.
pub(super) fn remove_link(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(path, "removed", error))
        }
        _ => Ok(()),
    }
}

/// Removes links, then maps, and gives the names of the interfaces.
///
/// # Errors
///
/// [`KernelError::InUse`] while a daemon keeps them up to date.
pub(super) fn remove(pin_dir: &Path) -> Result<Vec<String>, KernelError> {
    let directory =
        namespace_directory(pin_dir).map_err(|source| failed(pin_dir, "found", source))?;
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let held = lock(&directory)?;
    let pins = Pins { directory, lock: Some(held) };
    // A proxy may be at work although its loader has ended.
    let tables = pins.tables();
    let _writer = if tables.exists() { Some(lock(&tables)?) } else { None };
    let mut interfaces = Vec::new();
    for Pinned { name, path, .. } in pins.links()? {
        remove_link(&path)?;
        interfaces.push(name);
    }
    let directory = pins.directory();
    fs::remove_dir_all(directory).map_err(|source| failed(directory, "removed", source))?;
    Ok(interfaces)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Why what is pinned does not open.
pub(super) fn not_shared(path: &Path, source: io::Error) -> KernelError {
    // The kernel's own word where it asks for a capability; a file's permission is EACCES.
    if source.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
        return KernelError::OldKernel { path: path.to_owned(), source };
    }
    KernelError::NotShared { path: path.to_owned(), source }
}

fn failed(path: &Path, action: &'static str, source: io::Error) -> KernelError {
    KernelError::Pin { path: path.to_owned(), action, source }
}

/// Makes the directory this process's own, until it ends or drops the file.
fn lock(directory: &Path) -> Result<File, KernelError> {
    let file = File::open(directory).map_err(|source| failed(directory, "opened", source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            Err(KernelError::InUse { path: directory.to_owned(), pid: holder(&file) })
        }
        Err(error) => Err(failed(directory, "locked", error.into())),
    }
}

/// The process that holds the lock of the file; none where it is not ours to see.
fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino();
    holder_in(&fs::read_to_string("/proc/locks").ok()?, inode)
}

/// Who holds an inode's lock (proc(5), "locks"): `1: FLOCK  ADVISORY  WRITE 708 00:28:1015986 0 EOF`.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = *line.split_whitespace().collect::<Vec<_>>()
        else {
            return None;
        };
        let found = place.rsplit(':').next()?.parse::<u64>().ok()?;
        // Zero stands for a process of another namespace.
        (found == inode).then(|| pid.parse().ok().filter(|pid| *pid > 0))?
    })
}

fn maps_directory(directory: &Path) -> PathBuf {
    directory.join(format!("v{LAYOUT}"))
}

/// The newest layout of which there are maps.
fn newest_layout(directory: &Path) -> Option<u32> {
    let entries = fs::read_dir(directory).ok()?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    names.filter_map(|name| name.to_str()?.strip_prefix('v')?.parse().ok()).max()
}

fn link_name(index: u32, interface: &str) -> String {
    // A BPF file system keeps names with a full stop to itself; VLAN interfaces have one.
    format!("link-{index}-{}", interface.replace('.', ":"))
}

fn interface(link: &str) -> Option<(u32, String)> {
    let (index, name) = link.strip_prefix("link-")?.split_once('-')?;
    Some((index.parse().ok()?, name.replace(':', ".")))
}

/// Two daemons in two network namespaces may share one file system, but not links and bans.
fn namespace_directory(pin_dir: &Path) -> io::Result<PathBuf> {
    let namespace = fs::metadata("/proc/thread-self/ns/net")?.ino();
    Ok(pin_dir.join(format!("net-{namespace}")))
}

/// Whether the path, or what of it exists, is on a BPF file system.
fn is_bpf(path: &Path) -> bool {
    let Some(existing) = path.ancestors().find(|path| path.exists()) else {
        return false;
    };
    rustix::fs::statfs(existing).is_ok_and(|stat| stat.f_type == BPF_FS_MAGIC)
}

/// Whether this process has a mount namespace other than the first process's; none where that may
/// not be asked.
fn own_mount_namespace() -> Option<bool> {
    let own = fs::read_link("/proc/thread-self/ns/mnt").ok()?;
    let first = fs::read_link("/proc/1/ns/mnt").ok()?;
    Some(own != first)
}

/// Whether the BPF file system came here from another mount namespace, which it outlives.
fn is_propagated(path: &Path) -> bool {
    fs::read_to_string("/proc/thread-self/mountinfo").is_ok_and(|mounts| has_master(&mounts, path))
}

/// Whether the innermost BPF mount that holds `path` receives what is mounted elsewhere
/// (proc(5), "mountinfo": the tag `master:N`).
fn has_master(mounts: &str, path: &Path) -> bool {
    let holds = |line: &&str| {
        let is_bpf = line.split(" - ").nth(1).is_some_and(|kind| kind.starts_with("bpf "));
        is_bpf && line.split(' ').nth(4).is_some_and(|point| path.starts_with(point))
    };
    let innermost =
        mounts.lines().filter(holds).max_by_key(|line| line.split(' ').nth(4).map(str::len));
    innermost.is_some_and(|line| {
        line.split(' ').skip(6).take_while(|tag| *tag != "-").any(|tag| tag.starts_with("master:"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_name_names_its_interface() {
        for (index, name) in [(2, "eth0"), (17, "a-b"), (4_000_000_000, "eth0.100")] {
            let link = link_name(index, name);
            assert!(!link.contains('.'), "{link}");
            assert_eq!(interface(&link), Some((index, name.to_owned())));
        }
        for other in ["v1", "link-", "link-x-eth0", "link-2"] {
            assert_eq!(interface(other), None, "{other}");
        }
    }

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:28:1015986 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 8 00:28:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 00:28:1015986 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 10 00:28:1015986 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 0 00:28:43 0 EOF\ngarbage\n";
        for (inode, expected) in [(1_015_986, Some(10)), (42, Some(8)), (43, None), (44, None)] {
            assert_eq!(holder_in(locks, inode), expected, "{inode}");
        }
    }

    #[test]
    fn a_private_mount_has_no_master() {
        let line =
            |tags| format!("36 25 0:31 / /sys/fs/bpf rw,nosuid{tags} - bpf bpf rw,mode=700\n");
        let path = Path::new("/sys/fs/bpf/firewall");
        for (mounts, expected) in [
            (line(""), false),
            (line(" shared:9"), false),
            (line(" master:9"), true),
            (line(" shared:10 master:9"), true),
            (line(" master:9").replace("bpf bpf", "tmpfs bpf"), false),
            (line(" master:9") + &line("").replace("/sys/fs/bpf", "/sys/fs/bpf/firewall"), false),
            (String::new(), false),
        ] {
            assert_eq!(has_master(&mounts, path), expected, "{mounts}");
        }
    }

    #[test]
    fn another_file_system_is_refused() {
        let error = Pins::open(Path::new("/proc/firewall"), Access::User).unwrap_err();
        assert_eq!(error.to_string(), "/proc/firewall is not on a BPF file system");
    }
}
