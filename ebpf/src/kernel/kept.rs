//! Received bytes that nobody could read when they came, beside those that the reader of `packet` left behind: keeping them
//! before the connection is there, reading them later, and whether there are any. Where they lie is `stash`.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use sockmeter_ebpf::conn::Conn;
use sockmeter_ebpf::posting;
use sockmeter_ebpf::settle;
use sockmeter_ebpf::socket::OBSERVED;

use super::atomic::{give, raise, take};
use super::begin::service_of;
use super::header::{Header, SYN};
use super::maps::{CONN, SOCKET};
use super::reading::{keep_early, read_inbound, socket};
use super::stash;
use super::tcp::{CLOSE, Tcp};

/// Keeps a segment that came while another CPU makes its connection: that one saw the end of the handshake, and `begin` did
/// not run yet (`tcp_check_req`, net/ipv4/tcp_minisocks.c: `req_stolen`). TCP takes it when that CPU lets the socket go, and
/// what comes next, or is sent next and not within a body, has it read. 0.
#[unsafe(no_mangle)]
pub(super) extern "C" fn keep_unborn(skb: *mut __sk_buff) -> u32 {
    let sk = socket(skb);
    if sk.is_null() {
        return 0;
    }
    let (Some(tcp), Some(header)) = (Tcp::of(sk), Header::read(skb)) else {
        return 0;
    };
    if header.len == 0 || header.flags & SYN != 0 || service_of(tcp.local_port()).is_none() || !tcp.in_scope() {
        return 0;
    }
    if !tcp.takes(header.seq, header.seq.wrapping_add(header.len)) {
        return 0;
    }
    // Where `begin` will begin, unless it ran meanwhile: then TCP may have taken something in front of what it awaits now.
    let ahead = header.seq.wrapping_sub(tcp.next()[0]);
    let from = match begun(sk) {
        Some(conn) => {
            conn.inbound.stashed = 1;
            conn.inbound.position(header.seq)
        }
        None if ahead.cast_signed() < 0 => return 0,
        None => u64::from(ahead),
    };
    let kept = keep_early(skb, posting::INBOUND as u32, header.payload, from, from.wrapping_add(u64::from(header.len)));
    // It may have ended meanwhile, and nobody would look at what was kept just now.
    if tcp.state() == CLOSE {
        if let Some(stash) = stash::of(sk) {
            stash::clear(stash);
        }
    }
    kept
}

/// The connection, if `begin` is through with it.
#[inline(always)]
fn begun(sk: *mut c_void) -> Option<&'static mut Conn> {
    let socket = SOCKET.of(sk, false)?;
    // SAFETY: a field of socket storage that another CPU may be writing.
    let flags = unsafe { core::ptr::read_volatile(&raw const socket.flags) };
    if flags & OBSERVED == 0 { None } else { CONN.of(sk, false) }
}

/// Reads what `keep_unborn` kept, if TCP has passed it and nobody else did: TCP is at position `received`.
#[inline(always)]
pub(super) fn read(conn: &mut Conn, tcp: Tcp, skb: *mut __sk_buff, received: u64) {
    if !settle::missed(&conn.inbound, received) || stash::of(tcp.sk()).is_none() || !take(&raw mut conn.busy) {
        return;
    }
    conn.inbound.stashed = 1;
    raise(&raw mut conn.inbound.seen, received);
    conn.reading = [0; 2];
    read_inbound(skb, conn);
    give(&raw mut conn.busy);
}

/// Whether TCP has passed something that lies kept, or is being read just now: then it is too early to say that it was
/// missed.
#[inline(always)]
pub(super) fn is_unread(conn: &mut Conn, tcp: Tcp, received: u64) -> bool {
    settle::missed(&conn.inbound, received) && lies_kept(conn, tcp)
}

#[inline(always)]
fn lies_kept(conn: &mut Conn, tcp: Tcp) -> bool {
    let Some(stash) = stash::of(tcp.sk()) else {
        return false;
    };
    if !take(&raw mut conn.busy) {
        return true;
    }
    let kept = stash::find(stash, posting::INBOUND, conn.inbound.want).is_some();
    give(&raw mut conn.busy);
    kept
}
