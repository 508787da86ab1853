//! A TCP connection ends: its last bytes are booked. Runs for connections older than the agent too.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use sockmeter_ebpf::layout::ListenerKey;
use sockmeter_ebpf::settle;
use sockmeter_ebpf::socket::{OBSERVED, ROLE_SERVER};

use super::maps::{CONN, LISTENERS, SOCKET};
use super::outside::Kernel;
use super::stash;
use super::tcp::{CLOSE, FIN_WAIT1, LAST_ACK, LISTEN, SYN_SENT, Tcp};
use super::{owner, totals};

/// `inet_sock_set_state(sk, oldstate, newstate)`, called with the socket's lock held (`net/ipv4/af_inet.c`,
/// `inet_sk_state_store`).
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(super) fn connection_ends(ctx: BtfTracePointContext) -> i32 {
    changes::<true>(ctx)
}

/// The same once more. A program on a raw tracepoint is left out while it runs on this CPU already
/// (`kernel/trace/bpf_trace.c`, `__bpf_trace_run`), and connect(2) changes a state where a soft interrupt may end another
/// connection. Nested that way one of the two runs; usually both do, and the second finds the socket closed.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(super) fn connection_ends_nested(ctx: BtfTracePointContext) -> i32 {
    changes::<false>(ctx)
}

#[inline(always)]
fn changes<const OWNERS: bool>(ctx: BtfTracePointContext) -> i32 {
    let new: i32 = ctx.arg(2);
    // connect(2) and listen(2), in the context of whoever calls them (`tcp_v4_connect`, `inet_csk_listen_start`).
    if OWNERS && (new == i32::from(SYN_SENT) || new == i32::from(LISTEN)) {
        let sk: *mut core::ffi::c_void = ctx.arg(0);
        if let Some(tcp) = Tcp::of(sk) {
            if tcp.in_scope() {
                owner::note_again(tcp.sk());
            }
        }
        return 0;
    }
    // close(2) and shutdown(2), in the context of whoever calls them, if the socket is held (`tcp_close_state`); else what
    // the other end did.
    let finishes = new == i32::from(FIN_WAIT1) || new == i32::from(LAST_ACK);
    if finishes {
        let sk: *mut core::ffi::c_void = ctx.arg(0);
        if let Some(tcp) = Tcp::of(sk) {
            note_use(tcp);
        }
        return 0;
    }
    if new != i32::from(CLOSE) {
        return 0;
    }
    let old: i32 = ctx.arg(1);
    let sk: *mut core::ffi::c_void = ctx.arg(0);
    let Some(tcp) = Tcp::of(sk) else {
        return 0;
    };
    if old == i32::from(LISTEN) {
        // If there is another one on the port, the next pass notes it again.
        let _ = LISTENERS.remove(ListenerKey { netns: tcp.netns(), port: u32::from(tcp.local_port()) });
        return 0;
    }
    let Some(socket) = SOCKET.of(tcp.sk(), false) else {
        // It never began, but something may have been kept for it.
        if let Some(stash) = stash::of(tcp.sk()) {
            stash::clear(stash);
        }
        return 0;
    };
    // A socket that an earlier run followed with another scope.
    if !tcp.in_scope() {
        return 0;
    }
    if socket.closed != 0 {
        return 0;
    }
    if socket.role == ROLE_SERVER {
        owner::used(socket, tcp);
    }
    socket.closed = 1;
    let received = tcp.received();
    let sent = tcp.sent(old as u8);
    totals::book(socket, tcp.sk(), received, sent, tcp.retransmitted());
    totals::count(socket, totals::CLOSED);
    totals::round_trip(socket, tcp.round_trip());
    if socket.flags & OBSERVED == 0 {
        // Nobody reads it, but something may have been kept for it before that was known.
        if let Some(stash) = stash::of(tcp.sk()) {
            stash::clear(stash);
        }
        return 0;
    }
    if let Some(conn) = CONN.of(tcp.sk(), false) {
        debug!(&ctx, "connection to port {} ends with {} and {} bytes", socket.port, received, sent);
        settle::close(conn, &mut Kernel, [received, sent]);
        if let Some(stash) = stash::of(tcp.sk()) {
            stash::clear(stash);
        }
    }
    0
}

/// Whoever ends an accepted connection uses it.
#[inline(always)]
fn note_use(tcp: Tcp) {
    if let Some(socket) = SOCKET.of(tcp.sk(), false) {
        if socket.role == ROLE_SERVER && socket.closed == 0 && tcp.in_scope() {
            owner::used(socket, tcp);
        }
    }
}
