//! Who makes a socket, noted in the maker's own context; and the end of UDP sockets, which only this context sees.

use core::ffi::c_void;

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel,
};
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use sockmeter_ebpf::layout::AGENT;
use sockmeter_ebpf::socket::{self, BOUND, COMM, Owner, ROLE_CLIENT, ROLE_SERVER, Socket};

use super::globals::{field, follows_udp, offset, only_netns};
use super::maps::{LAYOUT, OWNER, PLACE, SOCKET};
use super::tcp::Tcp;
use super::{place, totals};

/// `PF_KTHREAD` (`include/linux/sched.h`).
const KERNEL_THREAD: u32 = 0x0020_0000;

/// `AF_INET`, `AF_INET6`.
const FAMILIES: [u32; 2] = [2, 10];

#[cgroup_sock(sock_create)]
pub(super) fn socket_made(ctx: SockContext) -> i32 {
    let sk = ctx.sock;
    // SAFETY: a field of the program's context.
    let family = unsafe { (*sk).family };
    if (family == FAMILIES[0] || family == FAMILIES[1]) && is_in_namespace() {
        note(sk.cast());
        // SAFETY: a field of the program's context.
        if only_netns() != 0 && follows_udp() && unsafe { (*sk).protocol } == u32::from(socket::UDP) {
            if let Some(socket) = SOCKET.of(sk.cast(), true) {
                socket.protocol = socket::UDP;
            }
        }
    }
    1
}

/// Whether the current process, and with it the socket that it makes, is in the namespace that bounds the scope.
#[inline(always)]
fn is_in_namespace() -> bool {
    if only_netns() == 0 {
        return true;
    }
    let mut namespaces: *const u8 = core::ptr::null();
    let mut net: *const u8 = core::ptr::null();
    let mut inode = 0u32;
    // SAFETY: kernel memory is copied by a helper that fails instead of faulting.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        let at = task.wrapping_add(offset(field::TASK_NAMESPACES));
        bpf_probe_read_kernel((&raw mut namespaces).cast(), 8, at.cast::<c_void>());
        let at = namespaces.wrapping_add(offset(field::NAMESPACES_NET));
        bpf_probe_read_kernel((&raw mut net).cast(), 8, at.cast::<c_void>());
        let at = net.wrapping_add(offset(field::NET_INUM));
        bpf_probe_read_kernel((&raw mut inode).cast(), 4, at.cast::<c_void>());
    }
    inode == only_netns()
}

/// Notes the current process as the maker of the socket, and where it stands.
#[inline(always)]
fn note(sk: *mut c_void) {
    // SAFETY: no arguments.
    let (task, group) = unsafe { (bpf_get_current_task() as *const u8, (bpf_get_current_pid_tgid() >> 32) as u32) };
    if let Some(owner) = OWNER.of(sk, true) {
        owner.pid = group;
        name(owner, task);
    }
    if let Some(held) = PLACE.of(sk, true) {
        *held = place::of(task);
    }
}

/// Fills in the name of a process: that of its thread-group leader.
#[inline(always)]
pub(super) fn name(owner: &mut Owner, task: *const u8) {
    let leader = place::pointer(task.wrapping_add(offset(field::GROUP_LEADER)));
    if leader.is_null() {
        return;
    }
    let name = leader.wrapping_add(offset(field::TASK_COMM));
    // SAFETY: kernel memory is copied by a helper that fails instead of faulting.
    unsafe {
        if bpf_probe_read_kernel(owner.process.as_mut_ptr().cast(), COMM as u32, name.cast::<c_void>()) == 0 {
            owner.known = 1;
        }
    }
}

/// Whether the current process is another one than was last seen to use the socket, if it does. This is asked for each
/// packet: a load, and no copy.
#[inline(always)]
pub(super) fn is_new_user(socket: &Socket) -> bool {
    // SAFETY: a load that the verifier knows to be from a kernel structure.
    let group = unsafe {
        let task = bpf_get_current_task_btf().cast::<u8>();
        task.add(offset(field::TASK_GROUP)).cast::<u32>().read_volatile()
    };
    socket.user() != u64::from(group)
}

/// Notes whom the current process is, if it is another one than before that uses an accepted socket: what a listener accepts is
/// the listener's until somebody is seen to use it. What was booked stays where it is, and what the one before it had to
/// itself is booked first. The socket's lock is held, if anybody uses it just now.
#[inline(always)]
pub(super) fn used(socket: &mut Socket, tcp: Tcp) {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() as *const u8 };
    let group = u32_at(task.wrapping_add(offset(field::TASK_GROUP)));
    if socket.user() == u64::from(group) || !tcp.is_held() || is_kernels(task) || is_agents(group) {
        return;
    }
    if socket.user() != 0 {
        totals::book(socket, tcp.sk(), tcp.received(), tcp.sent(tcp.state()), tcp.retransmitted());
    }
    socket.note_user(group);
    note_as(tcp.sk(), task, group);
}

/// Whether this is the agent. Its pass over the live sockets takes their locks too, and may be left with a packet.
#[inline(always)]
fn is_agents(group: u32) -> bool {
    // SAFETY: an element of an array map.
    LAYOUT.get_ptr(0).is_some_and(|layout| unsafe { (*layout)[AGENT] } == u64::from(group))
}

/// Whether a task is a thread of the kernel.
#[inline(always)]
fn is_kernels(task: *const u8) -> bool {
    u32_at(task.wrapping_add(offset(field::TASK_FLAGS))) & KERNEL_THREAD != 0
}

#[inline(always)]
fn u32_at(at: *const u8) -> u32 {
    let mut word = 0u32;
    // SAFETY: kernel memory is copied by a helper that fails instead of faulting.
    unsafe { bpf_probe_read_kernel((&raw mut word).cast(), 4, at.cast::<c_void>()) };
    word
}

/// Notes the current process again if it is another one than before, or stands elsewhere by now: a socket that is about to
/// connect or to listen belongs to whoever lets it. Threads of the kernel do so for others (multipath TCP).
#[inline(always)]
pub(super) fn note_again(sk: *mut c_void) {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() as *const u8 };
    if !is_kernels(task) {
        note_as(sk, task, u32_at(task.wrapping_add(offset(field::TASK_GROUP))));
    }
}

/// The same for this task, which is in that thread group.
#[inline(always)]
fn note_as(sk: *mut c_void, task: *const u8, group: u32) {
    if let Some(owner) = OWNER.of(sk, true) {
        if owner.pid != group || owner.known == 0 {
            owner.pid = group;
            name(owner, task);
        }
    }
    if let Some(held) = PLACE.of(sk, true) {
        let now = place::of(task);
        if held.started != now.started || held.key != now.key {
            *held = now;
        }
    }
}

#[cgroup_sock(post_bind4)]
pub(super) fn socket_bound4(ctx: SockContext) -> i32 {
    bound(ctx.sock)
}

#[cgroup_sock(post_bind6)]
pub(super) fn socket_bound6(ctx: SockContext) -> i32 {
    bound(ctx.sock)
}

#[inline(always)]
fn bound(sk: *mut bpf_sock) -> i32 {
    // SAFETY: fields of the program's context.
    let (protocol, port) = unsafe { ((*sk).protocol, (*sk).src_port) };
    if protocol == u32::from(socket::UDP) && follows_udp() {
        if let Some(socket) = SOCKET.of(sk.cast(), only_netns() == 0) {
            note_again(sk.cast());
            socket.protocol = socket::UDP;
            socket.flags |= BOUND;
            socket.port = port as u16;
        }
    }
    1
}

#[cgroup_sock(sock_release)]
pub(super) fn socket_released(ctx: SockContext) -> i32 {
    let sk = ctx.sock;
    // SAFETY: a field of the program's context.
    if unsafe { (*sk).protocol } != u32::from(socket::UDP) || !follows_udp() {
        return 1;
    }
    let Some(socket) = SOCKET.of(sk.cast(), false) else {
        return 1;
    };
    if socket.closed != 0 {
        return 1;
    }
    // SAFETY: a field of the program's context.
    let remote = u16::from_be(unsafe { (*sk).dst_port });
    udp_role(socket, remote);
    let (received, sent) = (socket.udp_received, socket.udp_sent);
    totals::book(socket, sk.cast(), received, sent, 0);
    totals::opened(socket);
    totals::count(socket, totals::CLOSED);
    socket.closed = 1;
    1
}

/// A UDP socket is a server's if it was bound explicitly and never connected.
#[inline(always)]
pub(super) fn udp_role(socket: &mut Socket, remote: u16) {
    if remote != 0 {
        socket.role = ROLE_CLIENT;
        socket.port = remote;
    } else if socket.role == 0 {
        if socket.flags & BOUND != 0 {
            socket.role = ROLE_SERVER;
        } else {
            socket.role = ROLE_CLIENT;
            socket.port = 0;
        }
    }
}
