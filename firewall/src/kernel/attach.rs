//! Attaches the program: natively, else generically, else not, and says which and why.

use std::io;
use std::path::Path;

use aya::pin::PinError;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode, loaded_programs};
use aya::sys::SyscallError;

use super::pin::Pins;
use super::{KernelError, netlink};

/// Where in the path of a packet the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel makes a buffer of the frame.
    Native,
    /// Behind the driver: correct, but not much faster than a packet filter.
    Generic,
    None,
}

/// What became of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceReport {
    pub name: String,
    /// Zero where there is no such interface.
    pub index: u32,
    /// As the kernel tells it after attaching.
    pub mode: Mode,
    /// Why the mode is not native, or what else an operator must know.
    pub reason: Option<String>,
    /// Whether an earlier daemon had attached here; its program was replaced without a gap.
    pub adopted: bool,
}

/// Attaches to each interface and replaces the program of every link that is pinned. Gives the links
/// that could not be pinned.
pub(super) fn attach(
    program: &mut Xdp,
    interfaces: &[String],
    pins: Option<&Pins>,
) -> Result<(Vec<InterfaceReport>, Vec<FdLink>), KernelError> {
    let mut reports = adopt(program, interfaces, pins)?;
    let mut links = Vec::new();
    for name in interfaces {
        if reports.iter().any(|report| report.name == *name) {
            continue;
        }
        let (report, link) = attach_new(program, name, pins)?;
        reports.push(report);
        links.extend(link);
    }
    if let Some(pins) = pins
        && let Err(error) = pins.remove_other_layouts()
    {
        tracing::warn!(%error, "maps of another version stay pinned");
    }
    Ok((reports, links))
}

/// Replaces the program of the pinned links. Those whose interface is gone are removed; those on an
/// interface that is no longer asked for stay, since only a command detaches.
fn adopt(
    program: &mut Xdp,
    interfaces: &[String],
    pins: Option<&Pins>,
) -> Result<Vec<InterfaceReport>, KernelError> {
    let Some(pins) = pins else {
        return Ok(Vec::new());
    };
    let failed =
        |source| KernelError::Pin { path: pins.directory().to_owned(), action: "read", source };
    let mut reports = Vec::new();
    for (index, pinned_name, path) in pins.links().map_err(failed)? {
        // An interface may have been renamed since; its index is what the link knows.
        let current = |name: &&String| matches!(netlink::interface_index(name), Ok(Some(found)) if found == index);
        let asked = interfaces.iter().find(current);
        let name = asked.cloned().unwrap_or(pinned_name);
        let (mode, reason, adopted) = match replace(program, &path) {
            Ok(()) => {
                let (mode, reason) = read_back(program, index)?;
                let unasked = "no longer configured: enforced until `firewall detach`".to_owned();
                (mode, if asked.is_none() { Some(unasked) } else { reason }, true)
            }
            Err(error) if error.raw_os_error() == Some(NO_LINK) => {
                tracing::info!(interface = name, "the interface of a pinned link is gone");
                std::fs::remove_file(&path).map_err(|source| KernelError::Pin {
                    path,
                    action: "removed",
                    source,
                })?;
                continue;
            }
            Err(error) => {
                let reason = format!("an earlier program runs there and stays: {error}");
                (Mode::None, Some(reason), false)
            }
        };
        reports.push(InterfaceReport { name, index, mode, reason, adopted });
    }
    Ok(reports)
}

/// `ENOLINK`: the link's interface was deleted.
const NO_LINK: i32 = 67;

fn replace(program: &mut Xdp, path: &Path) -> io::Result<()> {
    let link = PinnedLink::from_pin(path).map_err(link_error)?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(link_error)?;
    let id = program.attach_to_link(link).map_err(system_error)?;
    // Taken out of the program, which would else detach it when dropped; the pin keeps it.
    let link = program.take_link(id).map_err(system_error)?;
    FdLink::try_from(link).map(drop).map_err(link_error)
}

fn attach_new(
    program: &mut Xdp,
    name: &str,
    pins: Option<&Pins>,
) -> Result<(InterfaceReport, Option<FdLink>), KernelError> {
    let none = |index, reason| {
        let reason = Some(reason);
        let name = name.to_owned();
        (InterfaceReport { name, index, mode: Mode::None, reason, adopted: false }, None)
    };
    let index = netlink::interface_index(name).map_err(|source| KernelError::Netlink { source })?;
    let Some(index) = index else {
        return Ok(none(0, "there is no such interface".to_owned()));
    };
    let before = netlink::attached(index).map_err(|source| KernelError::Netlink { source })?;
    if let Some(foreign) = before.program {
        return Ok(none(index, format!("{} is attached there: not replaced", describe(foreign))));
    }
    let native = match try_mode(program, index, XdpMode::Driver) {
        Ok(link) => return pinned(program, name, index, link, pins),
        Err(error) => error,
    };
    match try_mode(program, index, XdpMode::Skb) {
        Ok(link) => {
            let (mut report, link) = pinned(program, name, index, link, pins)?;
            report.reason.get_or_insert(format!("native mode: {native}"));
            Ok((report, link))
        }
        Err(generic) => Ok(none(index, format!("native mode: {native}; generic mode: {generic}"))),
    }
}

fn try_mode(program: &mut Xdp, index: u32, mode: XdpMode) -> io::Result<FdLink> {
    let id = program.attach_to_if_index(index, mode).map_err(system_error)?;
    let link = program.take_link(id).map_err(system_error)?;
    // On a kernel without links aya attaches by netlink; such an attachment cannot be pinned, and
    // dropping it detaches.
    FdLink::try_from(link).map_err(link_error)
}

/// Pins a new link and reports it; the link itself is given back if it could not be pinned.
fn pinned(
    program: &Xdp,
    name: &str,
    index: u32,
    link: FdLink,
    pins: Option<&Pins>,
) -> Result<(InterfaceReport, Option<FdLink>), KernelError> {
    let (mode, reason) = read_back(program, index)?;
    let report = InterfaceReport { name: name.to_owned(), index, mode, reason, adopted: false };
    let Some(pins) = pins else {
        return Ok((report, Some(link)));
    };
    let path = pins.link(index, name);
    match link.pin(&path) {
        // The pin holds the link; a descriptor of ours would keep it attached beyond a detach.
        Ok(pin) => drop(pin),
        Err(PinError::SyscallError(SyscallError { io_error: source, .. })) => {
            return Err(KernelError::Pin { path, action: "pinned", source });
        }
        Err(other) => {
            let source = io::Error::other(other.to_string());
            return Err(KernelError::Pin { path, action: "pinned", source });
        }
    }
    Ok((report, None))
}

/// The mode in which the kernel says that our program runs.
fn read_back(program: &Xdp, index: u32) -> Result<(Mode, Option<String>), KernelError> {
    let info = program.info().map_err(|source| KernelError::Program { source })?;
    let attached = netlink::attached(index).map_err(|source| KernelError::Netlink { source })?;
    Ok(match attached.program {
        Some(id) if id == info.id() && attached.is_native => (Mode::Native, None),
        Some(id) if id == info.id() && attached.is_generic => (Mode::Generic, None),
        Some(id) => (Mode::None, Some(format!("{} runs there instead", describe(id)))),
        None => (Mode::None, Some("the kernel names no program there".to_owned())),
    })
}

/// A program by number, and by name where that may be asked (`CAP_SYS_ADMIN`).
fn describe(id: u32) -> String {
    let info = loaded_programs().filter_map(Result::ok).find(|info| info.id() == id);
    match info.as_ref().and_then(|info| info.name_as_str()) {
        Some(name) => format!("XDP program {id} ({name})"),
        None => format!("XDP program {id}"),
    }
}

/// The system's own words for an error of aya's, which says only which call failed.
fn system_error(error: ProgramError) -> io::Error {
    match error {
        ProgramError::SyscallError(error) => error.io_error,
        other => io::Error::other(other.to_string()),
    }
}

fn link_error(error: LinkError) -> io::Error {
    match error {
        LinkError::SyscallError(error) => error.io_error,
        other => io::Error::other(other.to_string()),
    }
}
