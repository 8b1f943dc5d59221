//! Links between the program and an interface, as the kernel and aya have them.

use std::io;
use std::path::Path;

use aya::pin::PinError;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode, loaded_programs};
use aya::sys::SyscallError;

/// `ENOLINK`: the link's interface was deleted.
pub(super) const NO_LINK: i32 = 67;

pub(super) fn replace(program: &mut Xdp, path: &Path) -> io::Result<()> {
    let link = PinnedLink::from_pin(path).map_err(link_error)?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(link_error)?;
    let id = program.attach_to_link(link).map_err(system_error)?;
    // Taken out of the program, which would else detach it when dropped; the pin keeps it.
    let link = program.take_link(id).map_err(system_error)?;
    FdLink::try_from(link).map(drop).map_err(link_error)
}

pub(super) fn attach(program: &mut Xdp, index: u32, mode: XdpMode) -> io::Result<FdLink> {
    let id = program.attach_to_if_index(index, mode).map_err(system_error)?;
    let link = program.take_link(id).map_err(system_error)?;
    // On a kernel without links aya attaches by netlink; such an attachment cannot be pinned, and
    // dropping it detaches.
    FdLink::try_from(link).map_err(link_error)
}

/// Pins a link. One that cannot be pinned is gone with this, and its attachment.
pub(super) fn pin(link: FdLink, path: &Path) -> io::Result<()> {
    match link.pin(path) {
        // The pin holds the link; a descriptor of ours would keep it attached beyond a detach.
        Ok(pin) => {
            drop(pin);
            Ok(())
        }
        Err(PinError::SyscallError(SyscallError { io_error, .. })) => Err(io_error),
        Err(other) => Err(io::Error::other(other.to_string())),
    }
}

/// A program by number, and by name where that may be asked (`CAP_SYS_ADMIN`).
pub(in crate::kernel) fn describe(id: u32) -> String {
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
