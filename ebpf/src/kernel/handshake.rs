//! Payload that comes with the handshake: TCP Fast Open (RFC 7413), and data on the ACK that ends it. It passes the hook
//! with the *listener* as its socket, right before the same CPU makes the connection (`net/ipv4/tcp_ipv4.c`,
//! `tcp_v4_rcv`; `net/ipv4/tcp_fastopen.c`, `tcp_fastopen_create_child`). So it is read into a place of that CPU, where
//! `begin` finds it.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_sk_fullsock, bpf_skb_load_bytes};
use sockmeter_ebpf::conn::{Conn, Outside as _};
use sockmeter_ebpf::http::side::OPAQUE;
use sockmeter_ebpf::layout::LOSS_STASH;
use sockmeter_ebpf::posting::{INBOUND, Reason};
use sockmeter_ebpf::stash::{BLOCK, Block};

use super::begin::service_of;
use super::bounds;
use super::header::{Header, SYN};
use super::maps::{HANDSHAKES, STASH};
use super::outside::Kernel;
use super::stash;
use super::tcp::Tcp;

/// What came with a handshake: read, and kept in case that something belongs in front of it.
#[repr(C)]
pub(super) struct Handshake {
    /// Ports, `local << 16 | remote`; 0: nothing is here.
    ports: u32,
    /// How many bytes are kept in `bytes`.
    len: u32,
    /// A connection of no socket yet.
    conn: Conn,
    bytes: Block,
}

/// A connection to read a packet into that is sent to a listener, if there is anything in it.
#[inline(always)]
pub(super) fn begin(skb: *mut __sk_buff) -> Option<&'static mut Conn> {
    if begin_handshake(skb) == 0 {
        return None;
    }
    // SAFETY: an element of an array of this CPU, which nobody else uses before the packet is through.
    HANDSHAKES.get_ptr_mut(0).map(|here| unsafe { &mut (*here).conn })
}

/// Forgets what came with an earlier handshake, as `begin` does: this packet to a listener carries nothing.
#[inline(always)]
pub(super) fn forget() {
    if let Some(here) = HANDSHAKES.get_ptr_mut(0) {
        // SAFETY: as in `begin`.
        unsafe { (*here).ports = 0 };
    }
}

/// 1, or 0 if there is nothing to read. Global, so that its stack is not part of that on which packets are read.
#[unsafe(no_mangle)]
extern "C" fn begin_handshake(skb: *mut __sk_buff) -> u32 {
    let Some(here) = HANDSHAKES.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: as in `begin`.
    let here = unsafe { &mut *here };
    here.ports = 0;
    let (Some(local), Some(header)) = (listening_on(skb), Header::read(skb)) else {
        return 0;
    };
    if header.len == 0 {
        return 0;
    }
    let Some(service) = service_of(local) else {
        return 0;
    };
    // SAFETY: reading from nowhere fills with zeros (`kernel/trace/bpf_trace.c`, `bpf_probe_read_kernel_common`).
    unsafe { bpf_probe_read_kernel((&raw mut here.conn).cast(), size_of::<Conn>() as u32, core::ptr::null()) };
    let first = header.seq.wrapping_add(u32::from(header.flags & SYN != 0));
    let until = u64::from(header.len);
    here.conn.begin(0, service, [0, 0], [first, 0]);
    here.conn.inbound.seen = until;
    here.conn.payload = header.payload;
    here.conn.reading = [0, until];
    here.len = 0;
    // SAFETY: `bytes` has `BLOCK` bytes.
    let copied = bounds::is_within(header.len, BLOCK)
        && unsafe {
            let len = bounds::sized::<BLOCK>(header.len);
            bpf_skb_load_bytes(skb.cast::<c_void>(), header.payload, here.bytes.bytes.as_mut_ptr().cast(), len) == 0
        };
    if copied {
        here.len = header.len;
    }
    here.ports = u32::from(local) << 16 | u32::from(header.source);
    1
}

/// The listener's port, host order.
#[inline(always)]
fn listening_on(skb: *mut __sk_buff) -> Option<u16> {
    // SAFETY: fields of the program's context; the verifier checks the socket pointers.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() { None } else { Some((*sk).src_port as u16) }
    }
}

/// What came with the handshake of a new connection.
pub(super) enum Came {
    /// Nothing.
    Nothing,
    /// Its first bytes: the connection has read them.
    First(&'static mut Conn),
    /// Something that others belong in front of: it is to be kept.
    Early,
}

/// What came with the handshake of this new connection.
#[inline(always)]
pub(super) fn came(tcp: Tcp) -> Came {
    let Some(here) = HANDSHAKES.get_ptr_mut(0) else {
        return Came::Nothing;
    };
    // SAFETY: as in `begin`.
    let here = unsafe { &mut *here };
    let ports = here.ports;
    here.ports = 0;
    if ports != u32::from(tcp.local_port()) << 16 | u32::from(tcp.remote_port()) {
        return Came::Nothing;
    }
    if here.conn.inbound.base != tcp.next()[0] {
        return Came::Early;
    }
    if here.conn.inbound.phase == OPAQUE && here.conn.inbound.reason == Reason::Lost as u8 {
        here.conn.inbound.reason = Reason::SynData as u8;
        here.conn.cut = 1 + Reason::SynData as u8;
    }
    Came::First(&mut here.conn)
}

/// Keeps what came early in the new connection's stash. Where that fails `settle` finds the gap when TCP has passed it.
#[inline(always)]
pub(super) fn keep(sk: *mut c_void, conn: &mut Conn) {
    let Some(here) = HANDSHAKES.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: as in `begin`.
    let here = unsafe { &mut *here };
    let ahead = here.conn.inbound.base.wrapping_sub(conn.inbound.base);
    if here.len == 0 || ahead.cast_signed() <= 0 {
        return;
    }
    let from = u64::from(ahead);
    let bytes = here.bytes.bytes.as_ptr();
    if STASH.of(sk, true).is_some_and(|stash| stash::keep_copy(stash, INBOUND, from, here.len, bytes)) {
        conn.inbound.stashed = 1;
        conn.inbound.seen = from.wrapping_add(u64::from(here.len));
    } else {
        Kernel.lost(LOSS_STASH);
    }
}
