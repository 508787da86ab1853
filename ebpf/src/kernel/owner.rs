//! Who makes a socket, noted in the maker's own context; and the end of UDP sockets, which only this context sees.

use core::ffi::c_void;

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use sockmeter_ebpf::conn::{Conn, Outside as _};
use sockmeter_ebpf::layout::{AGENT, LOSS_STORAGE};
use sockmeter_ebpf::place::Maker;
use sockmeter_ebpf::socket::{self, BOUND, COUNTED, OBSERVED, Owner, ROLE_CLIENT, ROLE_SERVER, Socket};

use super::globals::{follows_udp, only_netns};
use super::maps::{CONN, LAYOUT, MAKER, SOCKET};
use super::outside::Kernel;
use super::task::{Task, id_of};
use super::tcp::Tcp;
use super::{totals, udp};

/// `AF_INET`, `AF_INET6`.
const FAMILIES: [u32; 2] = [2, 10];

#[cgroup_sock(sock_create)]
pub(super) fn socket_made(ctx: SockContext) -> i32 {
    let sk = ctx.sock;
    // SAFETY: a field of the program's context.
    let family = unsafe { (*sk).family };
    if (family == FAMILIES[0] || family == FAMILIES[1]) && is_in_namespace() {
        note(sk.cast());
        // Now, for `scan` counts it as live as soon as it is bound or connected; and packets make none where the scope is a
        // namespace.
        if follows_udp() && udp::is(sk) {
            match SOCKET.of(sk.cast(), true) {
                Some(socket) => socket.protocol = socket::UDP,
                None => Kernel.lost(LOSS_STORAGE),
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
    Task::current().netns() == only_netns()
}

/// Fills in id and name of a process: the name is that of its thread-group leader.
#[inline(always)]
pub(super) fn name(owner: &mut Owner, task: Task) {
    owner.pid = task.group();
    if task.name(&mut owner.process) {
        owner.known = 1;
    }
}

/// Whether the current process is another one than was last seen to use the socket, if it does. This is asked for
/// each packet that accepted connections send, but for those within a body: loads, and no copy. The id first: when the process began lies
/// in cache lines that nothing else looks at.
#[inline(always)]
pub(super) fn is_new_user(socket: &Socket) -> bool {
    let (task, user) = (Task::current(), socket.user());
    task.group() != id_of(user) || task.process() != user
}

/// The same of an observed connection, without what is kept of its socket.
#[inline(always)]
pub(super) fn is_new_user_of(conn: &Conn) -> bool {
    let task = Task::current();
    task.group() != id_of(conn.user()) || !conn.is_users(task.process())
}

/// Notes whom the current process is, if it is another one than before that uses an accepted socket: what a listener accepts is
/// the listener's until somebody is seen to use it. What was booked stays where it is, and what the one before it had to
/// itself is booked first. The socket's lock is held, if anybody uses it just now.
#[inline(always)]
pub(super) fn used(socket: &mut Socket, tcp: Tcp) {
    let task = Task::current();
    let process = task.process();
    if socket.user() == process || !tcp.is_held() || task.is_kernels() || is_agents(process) {
        return;
    }
    if socket.user() != 0 {
        totals::book(socket, tcp.sk(), tcp.received(), tcp.sent(tcp.state()), tcp.retransmitted());
    }
    socket.note_user(process);
    note(tcp.sk());
}

/// The same of a connection that goes on: its packets ask what is kept of itself.
#[inline(always)]
pub(super) fn used_now(socket: &mut Socket, tcp: Tcp) {
    used(socket, tcp);
    if socket.flags & OBSERVED != 0 {
        if let Some(conn) = CONN.of(tcp.sk(), false) {
            conn.note_user(socket.user());
        }
    }
}

/// Whether this is the agent. Its pass over the live sockets takes their locks too, and may be left with a packet.
#[inline(always)]
fn is_agents(process: u64) -> bool {
    // SAFETY: an element of an array map.
    LAYOUT.get_ptr(0).is_some_and(|layout| unsafe { (*layout)[AGENT] } == process)
}

/// Notes the current process again if it is another one than before, or stands elsewhere by now: a socket that is about to
/// connect or to listen belongs to whoever lets it. Threads of the kernel do so for others (multipath TCP).
#[inline(always)]
pub(super) fn note_again(sk: *mut c_void) {
    if !Task::current().is_kernels() {
        note(sk);
    }
}

/// Notes the current process as the maker of the socket, and where it stands.
#[inline(always)]
fn note(sk: *mut c_void) {
    if let Some(maker) = MAKER.of(sk, true) {
        note_maker(maker);
    }
}

/// Global, so that it is verified once: for each pointer that is read from a task the kernel looks through all its types by name
/// (`btf_nested_type_is_trusted`, kernel/bpf/verifier.c).
#[unsafe(no_mangle)]
extern "C" fn note_maker(maker: *mut Maker) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    let Some(maker) = (unsafe { maker.as_mut() }) else {
        return 0;
    };
    let task = Task::current();
    let now = task.place();
    // The same id may be another process' by now.
    if maker.owner.pid != task.group() || maker.place.started != now.started || maker.owner.known == 0 {
        name(&mut maker.owner, task);
    }
    if maker.place.started != now.started || maker.place.key != now.key {
        maker.place = now;
    }
    0
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
    if udp::is(sk) && follows_udp() {
        if let Some(socket) = SOCKET.of(sk.cast(), only_netns() == 0) {
            note_again(sk.cast());
            socket.protocol = socket::UDP;
            totals::set(socket, BOUND);
            // SAFETY: a field of the program's context.
            socket.port = unsafe { (*sk).src_port } as u16;
        }
    }
    1
}

#[cgroup_sock(sock_release)]
pub(super) fn socket_released(ctx: SockContext) -> i32 {
    let sk = ctx.sock;
    if !udp::is(sk) || !follows_udp() {
        return 1;
    }
    let Some(socket) = SOCKET.of(sk.cast(), false) else {
        return 1;
    };
    // SAFETY: a field of the program's context.
    let remote = u16::from_be(unsafe { (*sk).dst_port });
    // One that was neither bound nor connected was never live.
    let carried = socket.udp_received | socket.udp_sent != 0;
    if socket.closed != 0 || (remote == 0 && socket.flags & (COUNTED | BOUND) == 0 && !carried) {
        return 1;
    }
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
