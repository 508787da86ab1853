//! One pass over all live sockets of a network namespace: books their progress and tells user space of each. Opened for
//! every scrape, once per namespace in scope.

use core::ffi::c_void;

use aya_ebpf::bindings::seq_file;
use aya_ebpf::helpers::generated::bpf_seq_write;
use sockmeter_ebpf::conn::Outside as _;
use sockmeter_ebpf::layout::{LOSS_LISTENERS, LOSS_STORAGE, ListenerKey};
use sockmeter_ebpf::settle;
use sockmeter_ebpf::socket::{BOUND, Live, OBSERVED, ROLE_CLIENT, ROLE_SERVER, TCP, UDP};

use super::begin::{ask_for_changes_of, baseline, observe_mid_stream, service_of};
use super::globals::follows_udp;
use super::kept;
use super::maps::{CONN, LISTENERS, SOCKET};
use super::outside::Kernel;
use super::owner::udp_role;
use super::tcp::{CLOSE, Common, LISTEN, Ports, SYN_SENT, Tcp};
use super::totals;

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
    let (seq, sk) = unsafe { ((*(*pass).meta).seq, (*pass).sk) };
    if sk.is_null() {
        return 0;
    }
    // Most sockets did nothing since the last pass. What it costs to see that is cache lines that nobody else looks at: the
    // storage's three, and the one with the sequence numbers.
    let common = Common::of(sk);
    if common.in_scope() {
        if let Some(socket) = SOCKET.of(sk, false) {
            if socket.closed == 0 && socket.rests_at(common.next()) {
                tell(seq, TCP, socket.role, common.state());
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
    let received = tcp.received();
    let sent = tcp.sent(state);
    let connecting = state == SYN_SENT;
    let mut role = ROLE_CLIENT;
    // Nothing to book of a socket before it is established, which `begin` will see.
    if let Some(socket) = SOCKET.of(tcp.sk(), !connecting) {
        if socket.closed != 0 {
            return 0;
        }
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
        role = socket.role;
        if socket.flags & OBSERVED == 0 {
            // An observed connection may have more to settle than what TCP counts.
            socket.note_rest(tcp.next(), tcp.acknowledged());
        } else {
            if let Some(conn) = CONN.of(tcp.sk(), false)
                && !kept::is_unread(conn, tcp, received)
            {
                settle::positions(conn, &mut Kernel, [received, sent]);
            }
        }
    } else if !connecting {
        Kernel.lost(LOSS_STORAGE);
        return 0;
    }
    tell(seq, TCP, role, state);
    0
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
    let (seq, sk) = unsafe { ((*(*pass).meta).seq, (*pass).sk) };
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
    if ports.is_bound && socket.flags & BOUND == 0 {
        socket.flags |= BOUND;
        socket.port = ports.local;
    }
    udp_role(socket, ports.remote);
    totals::opened(socket);
    let (received, sent) = (socket.udp_received, socket.udp_sent);
    totals::book(socket, sk, received, sent, 0);
    tell(seq, UDP, socket.role, ports.state);
    0
}

/// Writes one socket to the iterator's file; when the buffer is full the kernel calls again for the same socket.
#[inline(always)]
fn tell(seq: *mut seq_file, protocol: u8, role: u8, state: u8) {
    let mut live = Live { protocol, role, state, pad: 0 };
    // SAFETY: a local of exactly this size.
    unsafe { bpf_seq_write(seq, (&raw mut live).cast(), size_of::<Live>() as u32) };
}
