//! Payload that comes with the handshake: TCP Fast Open (RFC 7413), and data on the ACK that ends it. It passes the hook
//! with the *listener* as its socket, right before the same CPU makes the connection (`net/ipv4/tcp_ipv4.c`,
//! `tcp_v4_rcv`; `net/ipv4/tcp_fastopen.c`, `tcp_fastopen_create_child`). So it is read into a place of that CPU, where
//! `begin` finds it.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_sk_fullsock};
use sockmeter_ebpf::conn::Conn;
use sockmeter_ebpf::http::side::OPAQUE;
use sockmeter_ebpf::posting::Reason;

use super::begin::service_of;
use super::maps::HANDSHAKES;
use super::packet::{Header, SYN};
use super::tcp::Tcp;

/// What came with a handshake, read.
#[repr(C)]
pub(super) struct Handshake {
    /// Ports, `local << 16 | remote`; 0: nothing is here.
    ports: u32,
    pad: u32,
    /// A connection of no socket yet.
    conn: Conn,
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

/// What came with the handshake of this new connection, if anything did.
#[inline(always)]
pub(super) fn take(tcp: Tcp) -> Option<&'static mut Conn> {
    let here = HANDSHAKES.get_ptr_mut(0)?;
    // SAFETY: as in `begin`.
    let here = unsafe { &mut *here };
    let ports = here.ports;
    here.ports = 0;
    if ports != u32::from(tcp.local_port()) << 16 | u32::from(tcp.remote_port())
        || here.conn.inbound.base != tcp.next()[0]
    {
        return None;
    }
    if here.conn.inbound.phase == OPAQUE && here.conn.inbound.reason == Reason::Lost as u8 {
        here.conn.inbound.reason = Reason::SynData as u8;
        here.conn.cut = 1 + Reason::SynData as u8;
    }
    Some(&mut here.conn)
}
