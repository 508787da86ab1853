//! A TCP connection begins: its baseline, and if its local port is an observed service's, the state to read it with. The
//! kernel calls the same program when a connection changes its state afterwards, which is for `end`.

use core::ffi::c_void;
use core::ptr::read_volatile;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_getsockopt, bpf_setsockopt};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use aya_log_ebpf::{debug, warn};
use sockmeter_ebpf::conn::{Conn, Outside as _};
use sockmeter_ebpf::layout::{LOSS_STORAGE, OwnKey};
use sockmeter_ebpf::posting::Reason;
use sockmeter_ebpf::socket::{self, OBSERVED, ROLE_CLIENT, ROLE_SERVER, Socket};

use super::globals::only_netns;
use super::handshake::{self, Came};
use super::maps::{CONN, OWN, SERVICE_PORTS, SOCKET};
use super::outside::Kernel;
use super::tcp::{ESTABLISHED, Tcp};
use super::{bodies, end, owner, served, totals};

/// `BPF_SOCK_OPS_TCP_CONNECT_CB`: in the context of whoever connects (`tcp_connect`).
const CONNECTS: u32 = 3;
/// `BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB`.
const CONNECTED: u32 = 4;
/// `BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB`.
const ACCEPTED: u32 = 5;
/// `BPF_SOCK_OPS_STATE_CB`.
const CHANGES: u32 = 10;
/// `BPF_SOCK_OPS_TCP_LISTEN_CB`: in the context of whoever listens (`__inet_listen_sk`).
const LISTENS: u32 = 11;
/// `BPF_SOCK_OPS_STATE_CB_FLAG`: the connection's programs are called with `CHANGES`.
const TELLS_CHANGES: u32 = 1 << 2;
/// `SOL_TCP`.
const SOL_TCP: i32 = 6;
/// `TCP_BPF_SOCK_OPS_CB_FLAGS`.
const CALLBACKS: i32 = 1008;
/// `AF_INET`.
const AF_INET: u32 = 2;
/// A client's SYN is in `bytes_acked`; see `Tcp::sent`.
const SYN: u64 = 1;

#[sock_ops]
pub(super) fn connection_changes(ctx: SockOpsContext) -> u32 {
    let op = ctx.op();
    if !matches!(op, CONNECTS | CONNECTED | ACCEPTED | CHANGES | LISTENS) {
        return 1;
    }
    // SAFETY: a field of the program's context.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if sk.is_null() {
        return 1;
    }
    // No other sockets have such programs (`tcp_call_bpf`, include/net/tcp.h).
    let Some(tcp) = Tcp::known(sk.cast()) else {
        return 1;
    };
    if op == CHANGES {
        end::changes(&ctx, tcp, ctx.arg(0).cast_signed(), ctx.arg(1).cast_signed());
        return 1;
    }
    if only_netns() != 0 && tcp.netns() != only_netns() {
        return 1;
    }
    if op == CONNECTS || op == LISTENS {
        owner::note_again(sk.cast());
        if op == LISTENS {
            // What it accepts inherits this, and may end before it begins.
            ask_for_changes(&ctx);
        } else {
            // Live from here on, for `scan`. If there is no memory now there may be when it is established. What an earlier
            // connection of the same socket left is not used again: somebody may be about to book for that.
            if SOCKET.of(sk.cast(), false).is_some_and(|socket| socket.closed != 0) {
                SOCKET.delete(sk.cast());
            }
            let _ = SOCKET.of(sk.cast(), true);
        }
        return 1;
    }
    let Some(socket) = SOCKET.of(sk.cast(), true) else {
        Kernel.lost(LOSS_STORAGE);
        return 1;
    };
    let accepted = op == ACCEPTED;
    let (received, mut sent) = (tcp.received(), tcp.sent(ESTABLISHED));
    if !accepted && sent > SYN {
        // The SYN took payload along (TCP Fast Open), which is the first of this socket.
        sent = SYN;
    }
    baseline(socket, tcp, if accepted { ROLE_SERVER } else { ROLE_CLIENT }, [received, sent]);
    totals::opened(socket);
    ask_for_changes(&ctx);
    if accepted {
        if let Some(service) = service_of(socket.port) {
            let (first, early) = match handshake::came(tcp) {
                Came::First(conn) => (core::ptr::from_mut(conn), false),
                Came::Early => (core::ptr::null_mut(), true),
                Came::Nothing => (core::ptr::null_mut(), false),
            };
            // What the agent asks itself is not read. All of it was seen, also what came with the handshake.
            let own = is_own(&ctx, tcp);
            let mut seen = 0;
            let first = if own && !first.is_null() {
                // SAFETY: this CPU's own, made just now.
                seen = unsafe { (*first).inbound.seen };
                core::ptr::null_mut()
            } else {
                first
            };
            if let Some(conn) = CONN.of_or(sk.cast(), first, true) {
                debug!(&ctx, "connection to port {} is observed as service {}", socket.port, service);
                // SAFETY: the program's own context.
                let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
                if first.is_null() {
                    conn.begin(cookie, service, [socket.received, socket.sent], tcp.next());
                    if own {
                        if conn.inbound.seen < seen {
                            conn.inbound.seen = seen;
                        }
                        conn.inbound.set_aside(socket.received, Reason::Agent as u8);
                        conn.outbound.set_aside(socket.sent, Reason::Agent as u8);
                    }
                } else {
                    conn.cookie = cookie;
                    conn.booked = [socket.received, socket.sent];
                    conn.outbound.open_at(socket.sent, tcp.next()[1]);
                }
                if early {
                    handshake::keep(sk.cast(), conn);
                }
                observe(conn, socket, tcp);
            } else {
                warn!(&ctx, "no memory to observe a connection to port {}", socket.port);
                Kernel.lost(LOSS_STORAGE);
            }
        }
    }
    1
}

/// Whether the agent itself made this connection. It says where it comes from before it connects.
#[inline(always)]
fn is_own(ctx: &SockOpsContext, tcp: Tcp) -> bool {
    // All of them one by one, so that no address within the context is computed, which verifiers refuse.
    // SAFETY: fields of the program's context.
    let (family, four, [a, b, c, d]) = unsafe {
        let ops = ctx.ops;
        let six = [
            read_volatile(&raw const (*ops).remote_ip6[0]),
            read_volatile(&raw const (*ops).remote_ip6[1]),
            read_volatile(&raw const (*ops).remote_ip6[2]),
            read_volatile(&raw const (*ops).remote_ip6[3]),
        ];
        (read_volatile(&raw const (*ops).family), read_volatile(&raw const (*ops).remote_ip4), six)
    };
    let words = if family == AF_INET { [0, 0, 0xffff_u32.to_be(), four] } else { [a, b, c, d] };
    // SAFETY: four times four bytes are sixteen.
    let address = unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) };
    let key = OwnKey::new(address, tcp.remote_port(), tcp.netns());
    // SAFETY: whether there is an entry is all that is looked at.
    unsafe { OWN.get(&key) }.is_some()
}

/// The number of the service that a local port belongs to.
#[inline(always)]
pub(super) fn service_of(port: u16) -> Option<u16> {
    // SAFETY: entries are replaced by user space only, and the value is copied at once.
    unsafe { SERVICE_PORTS.get(u32::from(port)) }.map(|service| *service as u16)
}

/// From here on the socket's bytes are booked.
#[inline(always)]
pub(super) fn baseline(socket: &mut Socket, tcp: Tcp, role: u8, at: [u64; 2]) {
    socket.received = at[0];
    socket.sent = at[1];
    socket.retransmitted = tcp.retransmitted();
    socket.role = role;
    socket.port = if role == ROLE_SERVER { tcp.local_port() } else { tcp.remote_port() };
    if role == ROLE_SERVER {
        served::note_accepted(socket.port);
    }
    socket.protocol = socket::TCP;
    socket.closed = 0;
    socket.flags = 0;
    socket.forget_rest();
}

/// Has this program called when the socket changes its state. Refused, the trace point is left.
#[inline(always)]
fn ask_for_changes(ctx: &SockOpsContext) {
    let flags = ctx.cb_flags();
    if flags & TELLS_CHANGES == 0 {
        let _ = ctx.set_cb_flags((flags | TELLS_CHANGES).cast_signed());
    }
}

/// The same for a connection that the program did not see begin. Kernels before 6.12 refuse that, and the trace point is left
/// (`net/core/filter.c`, `bpf_sol_tcp_setsockopt`). The socket's lock is held.
#[inline(always)]
pub(super) fn ask_for_changes_of(sk: *mut c_void) {
    let mut flags = 0u32;
    // SAFETY: a local of exactly this size.
    unsafe {
        if bpf_getsockopt(sk, SOL_TCP, CALLBACKS, (&raw mut flags).cast(), 4) == 0 {
            flags |= TELLS_CHANGES;
            bpf_setsockopt(sk, SOL_TCP, CALLBACKS, (&raw mut flags).cast(), 4);
        }
    }
}

/// A connection that is older than its observation: nothing of it can be read until both directions were quiet.
#[inline(always)]
pub(super) fn observe_mid_stream(socket: &mut Socket, tcp: Tcp, cookie: u64, service: u16, at: [u64; 2]) {
    let Some(conn) = CONN.of(tcp.sk(), true) else {
        Kernel.lost(LOSS_STORAGE);
        return;
    };
    conn.begin_mid_stream(cookie, service, at, tcp.next(), tcp.is_quiet(tcp.acknowledged()) && tcp.is_read());
    observe(conn, socket, tcp);
}

/// Packets look at the connection from here on.
#[inline(always)]
fn observe(conn: &mut Conn, socket: &mut Socket, tcp: Tcp) {
    let _ = bodies::forget(socket.port, tcp);
    served::note_observed(socket.port);
    socket.flags |= OBSERVED;
    // SAFETY: fields of the connection; volatile, so that they are the last stores.
    unsafe {
        core::ptr::write_volatile(&raw mut conn.inbound.ready, 1);
        core::ptr::write_volatile(&raw mut conn.outbound.ready, 1);
    }
}
