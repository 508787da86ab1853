//! Whose the sockets are that are older than the agent: one pass over the open files of all processes, at its start.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_sock_from_file;
use sockmeter_ebpf::layout::AGENT;

use super::globals::{field, offset};
use super::maps::{LAYOUT, MAKER};
use super::owner;
use super::task::Task;

/// `AF_INET`, `AF_INET6`.
const FAMILIES: [u16; 2] = [2, 10];

/// `struct bpf_iter__task_file` (`kernel/bpf/task_iter.c`): each pointer has eight bytes to itself.
#[repr(C)]
pub(super) struct FilePass {
    meta: *mut c_void,
    task: *mut c_void,
    fd: u32,
    file: *mut c_void,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn snapshot_owners(pass: *mut FilePass) -> i32 {
    // SAFETY: the program's context, whose pointers the verifier knows.
    let (task, file) = unsafe { ((*pass).task, (*pass).file) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    // SAFETY: the verifier checks the pointer.
    let socket = unsafe { bpf_sock_from_file(file.cast()) }.cast::<u8>();
    if socket.is_null() {
        return 0;
    }
    // SAFETY: a load that the verifier knows to be from a kernel structure.
    let sk = unsafe { socket.add(offset::<{ field::SOCKET_SK }>()).cast::<*mut c_void>().read_volatile() };
    if sk.is_null() || !is_internet(sk) {
        return 0;
    }
    note_agent();
    // First come: who has it open and was found first, unless its maker is known.
    let task = Task::of(task);
    if let Some(maker) = MAKER.of(sk, true) {
        if maker.owner.known == 0 {
            owner::name(&mut maker.owner, task);
        }
        if maker.place.key.cgroups[0] == 0 {
            maker.place = task.place();
        }
    }
    0
}

/// Whether the socket is of IPv4 or IPv6.
#[inline(always)]
fn is_internet(sk: *mut c_void) -> bool {
    // SAFETY: as above; `struct sock` begins with `struct sock_common`.
    let family = unsafe { sk.cast::<u8>().add(offset::<{ field::SKC_FAMILY }>()).cast::<u16>().read_volatile() };
    family == FAMILIES[0] || family == FAMILIES[1]
}

/// This runs in the context of the agent, whose own id may be another one to itself (pid_namespaces(7)).
#[inline(always)]
fn note_agent() {
    let agent = Task::current().process();
    if let Some(layout) = LAYOUT.get_ptr_mut(0) {
        // SAFETY: an element of an array map.
        unsafe { (*layout)[AGENT] = agent };
    }
}
