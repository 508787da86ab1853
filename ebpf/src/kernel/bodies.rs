//! Where bodies are noted that observed connections send, and the packets that lie within them: most of a long answer's. What is noted
//! is in `sockmeter_ebpf::body`.
//!
//! A place is the connection's whose socket's address it holds, and only under that socket's lock it is given or given back; all
//! packets that a connection sends are sent under it. An address may be that of a later socket: so what begins forgets what it finds.

use core::ffi::c_void;
use core::ptr::read_volatile;

use aya_ebpf::bindings::bpf_sock;
use sockmeter_ebpf::body::{self, Body};
use sockmeter_ebpf::conn::{Conn, Outside as _};
use sockmeter_ebpf::http::side::BODY;

use super::atomic::{claim_address, give_address};
use super::header::{FIN, Header, SYN};
use super::maps::{BODIES, LAYOUT};
use super::outside::Kernel;
use super::task::{Task, id_of};
use super::tcp::Tcp;

/// Shorter packets are mostly answers as a whole, of which nothing is noted: to look would be a cache line that nobody has looked
/// at.
const SHORT: u32 = 1024;

/// Whether a packet that is sent lies within a body that was noted, and goes out as its user's: nothing else is to be done.
#[inline(always)]
pub(super) fn has(header: &Header, sk: *mut bpf_sock) -> bool {
    if header.len < SHORT || header.flags & (SYN | FIN) != 0 {
        return false;
    }
    let Some(body) = of(sk) else {
        return false;
    };
    // Much is sent when an acknowledgment comes, in the context of whoever was interrupted: that is no use, and nobody holds the
    // socket then. In the middle of a body the id tells: an id comes back after all others, unless somebody asks for it
    // (clone3(2), `set_tid`).
    if !is_noted(body, sk.cast()) || (is_held(sk) && Task::current().group() != body.user) {
        return false;
    }
    if body.has(header.seq, header.len) {
        return true;
    }
    let ends = body.is_ended_by(header.seq, header.len);
    if ends && body.ended == 0 {
        body.ended = Kernel.now();
    }
    ends
}

/// Notes the body that a connection sends, if it sends one.
#[inline(always)]
pub(super) fn note(conn: &Conn, sk: *mut bpf_sock) {
    let Some(found) = conn.body() else {
        return;
    };
    let Some(body) = of(sk) else {
        return;
    };
    // What was noted of this connection was taken back before its packet was read.
    if !claim_address(&raw mut body.socket, sk.cast()) {
        return;
    }
    // Nobody else looks at these while the place is ours.
    (body.from, body.until, body.user) = (found.from, found.until, id_of(conn.user()));
    (body.whole, body.ended) = (found.whole & u32::from(is_understood()), 0);
}

/// Whether all programs that are attached know that a noted body may have ended (`Body::ended`). While an upgrade goes on, some may
/// be of an earlier layout.
#[inline(always)]
fn is_understood() -> bool {
    // SAFETY: an element of an array map.
    LAYOUT.get_ptr(0).is_some_and(|layout| unsafe { (*layout)[0] } >= u64::from(body::ENDED_SINCE))
}

/// Takes back what was noted of a connection at `port` that is about to be read, settled or ended. The kernel may have taken the
/// port from its socket by now (`tcp_set_state`, net/ipv4/tcp.c).
#[inline(always)]
pub(super) fn take(conn: &mut Conn, port: u16, tcp: Tcp) {
    let ended = forget(port, tcp);
    if ended == 0 {
        conn.take_body(tcp.next()[1]);
    } else {
        conn.end_body::<Kernel>(ended);
    }
}

/// The same for one that sends: what it sends, other than a body, is not noted.
#[inline(always)]
pub(super) fn take_sending(conn: &mut Conn, sk: *mut bpf_sock) {
    if conn.outbound.phase != BODY {
        return;
    }
    if let Some(tcp) = Tcp::known(sk.cast()) {
        take(conn, tcp.local_port(), tcp);
    }
}

/// Forgets what was noted of a socket: before a connection of it is observed, whatever an earlier one at the same address left.
/// When that body ended; 0 if it did not.
#[inline(always)]
pub(super) fn forget(port: u16, tcp: Tcp) -> u64 {
    let Some(body) = at(port, tcp.remote_port()) else {
        return 0;
    };
    if !is_noted(body, tcp.sk()) {
        return 0;
    }
    let ended = body.ended;
    give_address(&raw mut body.socket);
    ended
}

#[inline(always)]
fn of(sk: *mut bpf_sock) -> Option<&'static mut Body> {
    // SAFETY: fields of a socket that the verifier knows; every kind has them.
    let (local, remote) =
        unsafe { (read_volatile(&raw const (*sk).src_port), read_volatile(&raw const (*sk).dst_port)) };
    at(local as u16, u16::from_be(remote))
}

#[inline(always)]
fn at(local: u16, remote: u16) -> Option<&'static mut Body> {
    let body = BODIES.get_ptr_mut(Body::place(local, remote))?;
    // SAFETY: an element of an array map.
    Some(unsafe { &mut *body })
}

#[inline(always)]
fn is_noted(body: &Body, sk: *mut c_void) -> bool {
    // SAFETY: a field that another CPU may be writing.
    unsafe { read_volatile(&raw const body.socket) == sk.expose_provenance() as u64 }
}

/// See `Tcp::is_held`.
#[inline(always)]
pub(super) fn is_held(sk: *mut bpf_sock) -> bool {
    Tcp::known(sk.cast()).is_some_and(Tcp::is_held)
}
