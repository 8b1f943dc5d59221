//! The calls of bpf(2) that aya has none for: to make an inner map as large as need be, to ask an
//! array of maps which of them it holds without the privilege to open any map by its number, and to open
//! a map that may only be read.
#![expect(unsafe_code, reason = "bpf(2) has no wrapper that takes these")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc;

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const OBJ_GET: libc::c_long = 7;
const MAP_TYPE_ARRAY: u32 = 2;
/// `BPF_F_RDONLY`.
const READ_ONLY: u32 = 1 << 3;

/// The part of `union bpf_attr` for `BPF_MAP_CREATE`, up to the name.
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
    reserved: u32,
}

/// The part of `union bpf_attr` for elements.
#[repr(C)]
struct Element {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` for `BPF_OBJ_GET`.
#[repr(C)]
struct Open {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Opens what is pinned, which takes no capability (Linux 5.19) but the file's permission.
pub(super) fn open_pin(path: &Path, is_read_only: bool) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let flags = if is_read_only { READ_ONLY } else { 0 };
    given(bpf(OBJ_GET, &Open { path: path.as_ptr() as u64, fd: 0, flags })?)
}

/// Makes an array of `entries` values of `value_size` octets, at most 2^32 in all.
pub(super) fn create_array(
    name: &[u8],
    value_size: u32,
    entries: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut create = Create {
        map_type: MAP_TYPE_ARRAY,
        key_size: 4,
        value_size,
        max_entries: entries,
        map_flags: flags,
        inner_map_fd: 0,
        numa_node: 0,
        name: [0; 16],
        reserved: 0,
    };
    // The last octet stays zero: a name ends with one.
    for (to, from) in create.name.iter_mut().take(15).zip(name) {
        *to = *from;
    }
    given(bpf(MAP_CREATE, &create)?)
}

/// The descriptor that a call has just given.
fn given(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts `inner` into an array of maps, and waits until no program reads the earlier one any more.
pub(super) fn set_inner(
    outer: BorrowedFd<'_>,
    index: u32,
    inner: BorrowedFd<'_>,
) -> io::Result<()> {
    let value = inner.as_raw_fd();
    element(MAP_UPDATE_ELEM, outer, &raw const index, (&raw const value) as u64)
}

/// The number of the map that an array of maps holds at `index`, if it holds one.
pub(super) fn inner_id(outer: BorrowedFd<'_>, index: u32) -> io::Result<Option<u32>> {
    let mut id = 0_u32;
    match element(MAP_LOOKUP_ELEM, outer, &raw const index, (&raw mut id) as u64) {
        Ok(()) => Ok(Some(id)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn element(
    command: libc::c_long,
    map: BorrowedFd<'_>,
    key: *const u32,
    value: u64,
) -> io::Result<()> {
    let map_fd = u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?;
    let element = Element { map_fd, reserved: 0, key: key as u64, value, flags: 0 };
    bpf(command, &element).map(drop)
}

fn bpf<A>(command: libc::c_long, attributes: &A) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are those of the command, and what they point to outlives the call: a
    // key and a value of four octets each, or a path that ends with a zero.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<A>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
