//! One pass over all live sockets of a network namespace, under the lock of each: notes those that are older than the agent, and
//! books and settles what `scan` cannot. Made over all namespaces in scope when the agent begins, and now and then; at a scrape
//! over those that `scan` asks for. Where there is no scan, each time over all, and the live sockets are counted here.

use core::ffi::c_void;

use aya_ebpf::bindings::seq_file;
use sockmeter_ebpf::conn::Outside as _;
use sockmeter_ebpf::layout::{LOSS_LISTENERS, LOSS_STORAGE, ListenerKey};
use sockmeter_ebpf::settle;
use sockmeter_ebpf::socket::{BOUND, OBSERVED, ROLE_CLIENT, ROLE_SERVER, Socket, TCP, UDP};

use super::begin::{ask_for_changes_of, baseline, observe_mid_stream, service_of};
use super::globals::{field, follows_udp, offset, only_cgroup};
use super::kept;
use super::maps::{CONN, LISTENERS, SOCKET};
use super::outside::Kernel;
use super::owner::udp_role;
use super::tcp::{CLOSE, Common, LISTEN, Ports, SYN_SENT, Tcp};
use super::{bodies, scan, totals};

/// `struct bpf_iter_meta` (`include/linux/bpf.h`).
#[repr(C)]
pub(super) struct Meta {
    pub(super) seq: *mut seq_file,
}

/// `struct bpf_iter__tcp` (`net/ipv4/tcp_ipv4.c`).
#[repr(C)]
pub(super) struct TcpPass {
    pub(super) meta: *mut Meta,
    pub(super) sk: *mut c_void,
}

/// The socket is locked meanwhile (`bpf_iter_tcp_seq_show`).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn snapshot_tcp(pass: *mut TcpPass) -> i32 {
    // SAFETY: the program's context, whose pointers the verifier knows.
    let sk = unsafe { (*pass).sk };
    if sk.is_null() {
        return 0;
    }
    let common = Common::of(sk);
    // Not in scope here if a cgroup bounds that: to see it takes a `Tcp`.
    if only_cgroup() == 0 && common.in_scope() {
        if let Some(socket) = SOCKET.of(sk, false) {
            if socket.protocol == TCP && socket.closed == 0 && socket.rests_at(common.next()) {
                count(TCP, socket.role, socket.rest_state());
                return 0;
            }
        }
    }
    let Some(tcp) = Tcp::of(sk) else {
        return 0;
    };
    let state = tcp.state();
    let listener = ListenerKey { netns: tcp.netns(), port: u32::from(tcp.local_port()) };
    if state == LISTEN {
        if LISTENERS.get_ptr(listener).is_none() && LISTENERS.insert(listener, 1, 0).is_err() {
            Kernel.lost(LOSS_LISTENERS);
        }
    }
    if state == LISTEN || state == CLOSE {
        return 0;
    }
    if !tcp.in_scope() {
        return 0;
    }
    let Some(socket) = SOCKET.of(tcp.sk(), true) else {
        Kernel.lost(LOSS_STORAGE);
        return 0;
    };
    if socket.closed != 0 {
        return 0;
    }
    // Nothing to book of a socket before it is established, which `begin` will see.
    if state == SYN_SENT {
        count(TCP, ROLE_CLIENT, state);
        return 0;
    }
    let received = tcp.received();
    let sent = tcp.sent(state);
    if socket.protocol == 0 {
        let listens = LISTENERS.get_ptr(listener).is_some();
        baseline(socket, tcp, if listens { ROLE_SERVER } else { ROLE_CLIENT }, [received, sent]);
        totals::opened(socket);
        ask_for_changes_of(sk);
        if listens {
            if let Some(service) = service_of(socket.port) {
                observe_mid_stream(socket, tcp, tcp.cookie(), service, [received, sent]);
            }
        }
    }
    totals::book(socket, tcp.sk(), received, sent, tcp.retransmitted());
    if is_settled(socket, tcp, [received, sent]) {
        socket.note_rest(tcp.next(), tcp.acknowledged(), state);
    } else {
        socket.forget_rest();
    }
    count(TCP, socket.role, state);
    0
}

/// Counts a live socket, where `scan` does not.
#[inline(always)]
fn count(protocol: u8, role: u8, state: u8) {
    if offset::<{ field::STORAGE_STATE }>() != 0 {
        scan::count(protocol, role, state);
    }
}

/// Settles what is read of a connection. Whether there is nothing more to settle until a sequence number moves.
#[inline(always)]
fn is_settled(socket: &mut Socket, tcp: Tcp, streams: [u64; 2]) -> bool {
    if socket.flags & OBSERVED == 0 {
        return true;
    }
    let Some(conn) = CONN.of(tcp.sk(), false) else {
        return true;
    };
    bodies::take(conn, socket.port, tcp);
    if kept::is_unread(conn, tcp, streams[0]) {
        return false;
    }
    settle::positions(conn, &mut Kernel, streams);
    settle::is_through(conn, streams)
}

/// `struct bpf_iter__udp` (`net/ipv4/udp.c`).
#[repr(C)]
pub(super) struct UdpPass {
    pub(super) meta: *mut Meta,
    pub(super) sk: *mut c_void,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/udp")]
extern "C" fn snapshot_udp(pass: *mut UdpPass) -> i32 {
    // SAFETY: the program's context, whose pointers the verifier knows.
    let sk = unsafe { (*pass).sk };
    if sk.is_null() || !follows_udp() {
        return 0;
    }
    let ports = Ports::of(sk);
    if !ports.in_scope {
        return 0;
    }
    // Older ones too: where a namespace bounds the scope, datagrams are counted for sockets that are known to be in it.
    let Some(socket) = SOCKET.of(sk, true) else {
        Kernel.lost(LOSS_STORAGE);
        return 0;
    };
    if socket.closed != 0 {
        return 0;
    }
    socket.protocol = UDP;
    udp(socket, &ports, |socket| {
        totals::book(socket, sk, socket.udp_received, socket.udp_sent, 0);
        true
    });
    count(UDP, socket.role, Common::of(sk).state());
    0
}

/// Notes what a UDP socket is by now, and books its progress by `book`, whose answer this gives.
#[inline(always)]
pub(super) fn udp(socket: &mut Socket, ports: &Ports, book: impl FnOnce(&mut Socket) -> bool) -> bool {
    if ports.is_bound && socket.flags & BOUND == 0 {
        socket.port = ports.local;
        totals::set(socket, BOUND);
    }
    udp_role(socket, ports.remote);
    totals::opened(socket);
    book(socket)
}
