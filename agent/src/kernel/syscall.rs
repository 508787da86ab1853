//! The commands of bpf(2) that aya keeps to itself: opening what is pinned, giving a link another program, ending it, and
//! iterating over a map.
#![expect(unsafe_code, reason = "a system call that no safe crate offers")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc;

/// `BPF_OBJ_GET` of `include/uapi/linux/bpf.h`.
const OBJ_GET: libc::c_long = 7;
/// `BPF_LINK_CREATE`.
const LINK_CREATE: libc::c_long = 28;
/// `BPF_LINK_UPDATE`.
const LINK_UPDATE: libc::c_long = 29;
/// `BPF_ITER_CREATE`.
const ITER_CREATE: libc::c_long = 33;
/// `BPF_LINK_DETACH`.
const LINK_DETACH: libc::c_long = 34;
/// `BPF_TRACE_ITER` of `enum bpf_attach_type`.
const TRACE_ITER: u32 = 28;

/// The part of `union bpf_attr` for `BPF_OBJ_GET`.
#[repr(C)]
struct Get {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` for `BPF_LINK_UPDATE`.
#[repr(C)]
struct Update {
    link_fd: RawFd,
    new_prog_fd: RawFd,
    flags: u32,
    old_prog_fd: u32,
}

/// `union bpf_iter_link_info` for a map.
#[repr(C)]
struct Iterated {
    map_fd: RawFd,
    rest: [u32; 3],
}

/// The part of `union bpf_attr` for `BPF_LINK_CREATE` of an iterator.
#[repr(C)]
struct Iterate {
    prog_fd: RawFd,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    pad: u32,
}

/// The part of `union bpf_attr` for `BPF_ITER_CREATE`.
#[repr(C)]
struct Open {
    link_fd: RawFd,
    flags: u32,
}

/// The part of `union bpf_attr` for `BPF_LINK_DETACH`.
#[repr(C)]
struct Detach {
    link_fd: RawFd,
}

fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads as many bytes as it is told, which are those of `attributes`; what they point to outlives
    // the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Opens what is pinned at `path`: a map, a program or a link.
///
/// # Errors
/// Those of `BPF_OBJ_GET`.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pathname = u64::try_from(path.as_ptr().addr()).map_err(io::Error::other)?;
    descriptor(OBJ_GET, &mut Get { pathname, bpf_fd: 0, file_flags: 0 })
}

/// Makes a call whose result is a new descriptor.
fn descriptor<T>(command: libc::c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    let descriptor = RawFd::try_from(call(command, attributes)?).map_err(io::Error::other)?;
    // SAFETY: the call made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A link of an iterator's `program` to what `map` keeps.
///
/// # Errors
/// Those of `BPF_LINK_CREATE`.
pub(super) fn iterate(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let iterated = Iterated { map_fd: map.as_raw_fd(), rest: [0; 3] };
    let mut iterate = Iterate {
        prog_fd: program.as_raw_fd(),
        target_fd: 0,
        attach_type: TRACE_ITER,
        flags: 0,
        iter_info: u64::try_from(std::ptr::from_ref(&iterated).addr()).map_err(io::Error::other)?,
        iter_info_len: u32::try_from(size_of::<Iterated>()).map_err(io::Error::other)?,
        pad: 0,
    };
    descriptor(LINK_CREATE, &mut iterate)
}

/// A file that runs the iterator of `link` once when it is read.
///
/// # Errors
/// Those of `BPF_ITER_CREATE`.
pub(super) fn iterator(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    descriptor(ITER_CREATE, &mut Open { link_fd: link.as_raw_fd(), flags: 0 })
}

/// Has `link` run `program` from its next run on: no run is left out, and none is made by both. Links of cgroups and tcx
/// links can do that, tracing links cannot.
///
/// # Errors
/// Those of `BPF_LINK_UPDATE`.
pub(super) fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut update = Update { link_fd: link.as_raw_fd(), new_prog_fd: program.as_raw_fd(), flags: 0, old_prog_fd: 0 };
    call(LINK_UPDATE, &mut update).map(drop)
}

/// Ends `link`: its program does not run there again. Without this a link whose pin is removed ends when the kernel comes to
/// it (`kernel/bpf/syscall.c`, `bpf_link_put`).
///
/// # Errors
/// Those of `BPF_LINK_DETACH`.
pub(super) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    call(LINK_DETACH, &mut Detach { link_fd: link.as_raw_fd() }).map(drop)
}
