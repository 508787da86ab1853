//! A TCP connection ends: its last bytes are booked. Runs for connections older than the agent too.
//!
//! The kernel tells of it twice. A connection that `begin` saw, or one that the pass found and could mark (6.12), has the
//! programs on its cgroup called (`net/ipv4/tcp.c`, `tcp_set_state`), whatever else runs on the CPU. The trace point tells of
//! all, but not always: a program there is left out while it runs on this CPU already, be it interrupted or, since 7.0,
//! preempted (`kernel/trace/bpf_trace.c`, `__bpf_trace_run`; `include/linux/tracepoint.h`, `__DECLARE_TRACE`). Who comes
//! second finds the socket closed.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use sockmeter_ebpf::layout::ListenerKey;
use sockmeter_ebpf::settle;
use sockmeter_ebpf::socket::{OBSERVED, ROLE_SERVER};

use super::maps::{CONN, LISTENERS, SOCKET};
use super::outside::Kernel;
use super::stash;
use super::tcp::{CLOSE, FIN_WAIT1, LAST_ACK, LISTEN, Tcp};
use super::{bodies, owner, totals};

/// `inet_sock_set_state(sk, oldstate, newstate)`, called with the socket's lock held (`net/ipv4/af_inet.c`,
/// `inet_sk_state_store`).
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(super) fn connection_ends(ctx: BtfTracePointContext) -> i32 {
    traced(&ctx)
}

/// The same once more, attached where connections older than the agent have nothing else: before 6.12, where no program on a
/// trace point is preempted. connect(2) changes a state where a soft interrupt may end another connection; nested that way one
/// of the two runs.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(super) fn connection_ends_nested(ctx: BtfTracePointContext) -> i32 {
    traced(&ctx)
}

#[inline(always)]
fn traced(ctx: &BtfTracePointContext) -> i32 {
    if is(ctx.arg(2), CLOSE) {
        if let Some(tcp) = Tcp::of(ctx.arg(0)) {
            closes(ctx, tcp, ctx.arg(1));
        }
    } else if shuts(ctx.arg(2)) {
        if let Some(socket) = Tcp::of(ctx.arg(0)).and_then(|tcp| SOCKET.of(tcp.sk(), false)) {
            socket.forget_rest();
        }
    }
    0
}

#[inline(always)]
fn is(state: i32, wanted: u8) -> bool {
    state == i32::from(wanted)
}

/// close(2) and shutdown(2), in the context of whoever calls them, if the socket is held (`tcp_close_state`); else what the other
/// end did.
#[inline(always)]
fn shuts(new: i32) -> bool {
    is(new, FIN_WAIT1) || is(new, LAST_ACK)
}

/// A socket whose lock is held is about to go from one state to another.
#[inline(always)]
pub(super) fn changes<C: EbpfContext>(ctx: &C, tcp: Tcp, old: i32, new: i32) {
    if is(new, CLOSE) {
        closes(ctx, tcp, old);
    } else if shuts(new) {
        note_use(tcp);
    }
}

#[inline(always)]
fn closes<C: EbpfContext>(ctx: &C, tcp: Tcp, old: i32) {
    if is(old, LISTEN) {
        // If there is another one on the port, the next pass over all sockets notes it again.
        let _ = LISTENERS.remove(ListenerKey { netns: tcp.netns(), port: u32::from(tcp.local_port()) });
        return;
    }
    let Some(socket) = SOCKET.of(tcp.sk(), false).filter(|socket| socket.protocol != 0) else {
        // It never began, but something may have been kept for it.
        if let Some(stash) = stash::of(tcp.sk()) {
            stash::clear(stash);
        }
        return;
    };
    // A socket that an earlier run followed with another scope.
    if !tcp.in_scope() {
        return;
    }
    if socket.closed != 0 {
        return;
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
        return;
    }
    if let Some(conn) = CONN.of(tcp.sk(), false) {
        debug!(ctx, "connection to port {} ends with {} and {} bytes", socket.port, received, sent);
        bodies::take(conn, socket.port, tcp);
        settle::close(conn, &mut Kernel, [received, sent]);
        if let Some(stash) = stash::of(tcp.sk()) {
            stash::clear(stash);
        }
    }
}

/// Whoever ends an accepted connection uses it. And its state is another one, while its FIN may have to wait.
#[inline(always)]
fn note_use(tcp: Tcp) {
    if let Some(socket) = SOCKET.of(tcp.sk(), false) {
        socket.forget_rest();
        if socket.role == ROLE_SERVER && socket.closed == 0 && tcp.in_scope() {
            owner::used_now(socket, tcp);
        }
    }
}
