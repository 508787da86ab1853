//! Packets of sockets: HTTP boundaries of observed connections, payload of UDP sockets. All others leave after one
//! look-up. Never drops a packet.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_sk_fullsock, bpf_skb_load_bytes};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use sockmeter_ebpf::conn::{Conn, Outside as _};
use sockmeter_ebpf::http::scan::WINDOW;
use sockmeter_ebpf::http::side;
use sockmeter_ebpf::layout::{LOSS_PACKET, LOSS_STASH};
use sockmeter_ebpf::posting::{self, Reason};
use sockmeter_ebpf::settle;
use sockmeter_ebpf::stash::Block;
use sockmeter_ebpf::walk::{Segment, Walk};

use super::atomic::{give, raise, take};
use super::bounds;
use super::maps::{CONN, DESKS, Desk, WINDOWS};
use super::outside::Kernel;
use super::stash;
use super::tcp::Tcp;
use super::udp;

/// Let the packet pass.
const PASS: i32 = 1;
const FIN: u8 = 1;
const SYN: u8 = 2;

#[cgroup_skb]
pub(super) fn packet_received(ctx: SkBuffContext) -> i32 {
    packet::<false>(ctx.skb.skb);
    PASS
}

#[cgroup_skb]
pub(super) fn packet_sent(ctx: SkBuffContext) -> i32 {
    packet::<true>(ctx.skb.skb);
    PASS
}

#[inline(always)]
fn packet<const OUT: bool>(skb: *mut __sk_buff) {
    // SAFETY: fields of the program's context; the verifier checks the socket pointer.
    let sk = unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return;
        }
        bpf_sk_fullsock(sk)
    };
    if sk.is_null() {
        return;
    }
    // SAFETY: checked above.
    let protocol = unsafe { (*sk).protocol };
    if protocol == u32::from(sockmeter_ebpf::socket::UDP) {
        udp::datagram::<OUT>(skb, sk);
        return;
    }
    if protocol != u32::from(sockmeter_ebpf::socket::TCP) {
        return;
    }
    let Some(conn) = CONN.of(sk.cast(), false) else {
        return;
    };
    if conn.closed != 0 {
        return;
    }
    let Some(tcp) = Tcp::of(sk.cast()) else {
        return;
    };
    let Some(header) = Header::read(skb) else {
        Kernel.lost(LOSS_PACKET);
        return;
    };
    if header.flags & SYN != 0 {
        return;
    }
    if OUT {
        sent(conn, tcp, skb, header);
    } else {
        received(conn, tcp, skb, header);
    }
}

/// What is needed of a TCP header.
#[derive(Clone, Copy)]
struct Header {
    seq: u32,
    /// Offset of the payload from the network header.
    payload: u32,
    /// Its length.
    len: u32,
    flags: u8,
}

impl Header {
    #[inline(always)]
    fn read(skb: *mut __sk_buff) -> Option<Self> {
        let mut first = [0u8; 8];
        load(skb, 0, &mut first)?;
        // RFC 791 3.1, RFC 8200 3; extension headers in front of TCP are not followed.
        let at = match first[0] >> 4 {
            4 => u32::from(first[0] & 15) * 4,
            6 if first[6] == sockmeter_ebpf::socket::TCP => 40,
            _ => return None,
        };
        let mut tcp = [0u8; 16];
        load(skb, at, &mut tcp)?;
        let payload = at + u32::from(tcp[12] >> 4) * 4;
        // SAFETY: a field of the program's context.
        let whole = unsafe { (*skb).len };
        Some(Self {
            seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
            payload,
            len: whole.saturating_sub(payload),
            flags: tcp[13],
        })
    }
}

#[inline(always)]
fn load<const N: usize>(skb: *mut __sk_buff, at: u32, into: &mut [u8; N]) -> Option<()> {
    // SAFETY: `into` has `N` bytes.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), at, into.as_mut_ptr().cast(), N as u32) };
    if failed == 0 { Some(()) } else { None }
}

/// Where the bytes are: in the packet, or in a block of the stash.
struct Payload<const OUT: bool> {
    skb: *mut __sk_buff,
    sk: *mut c_void,
    at: u64,
    /// Null: in the packet.
    block: *const Block,
}

impl<const OUT: bool> Segment for Payload<OUT> {
    #[inline(always)]
    fn load(&self, offset: u32, into: *mut u8, len: u32) -> bool {
        let Some(len) = bounds::within(len, WINDOW) else {
            return false;
        };
        if self.block.is_null() {
            let at = self.at as u32 + offset;
            // SAFETY: `into` has `WINDOW` bytes.
            return unsafe { bpf_skb_load_bytes(self.skb.cast::<c_void>(), at, into.cast(), len) == 0 };
        }
        let from = self.block.cast::<u8>().wrapping_add(offset as usize);
        // SAFETY: `into` has `WINDOW` bytes; kernel memory is copied by a helper that fails instead of faulting.
        unsafe { bpf_probe_read_kernel(into.cast(), len, from.cast()) == 0 }
    }

    #[inline(always)]
    fn keep(&mut self, from: u64, until: u64) -> bool {
        stash::keep(self.sk, usize::from(OUT), self.skb, self.at as u32, from, until)
    }

    #[inline(always)]
    fn next(&mut self, want: u64) -> Option<(u64, u64)> {
        let found = stash::find(stash::of(self.sk)?, usize::from(OUT), want)?;
        self.block = found.block;
        Some((found.from, found.from.wrapping_add(found.len)))
    }
}

/// Takes a desk of this CPU.
#[inline(always)]
fn desk() -> Option<&'static mut Desk> {
    let mut i = 0;
    while i < DESKS {
        let desk = WINDOWS.get_ptr_mut(i)?;
        // SAFETY: an element of an array map, and nobody else has it while `taken` was 0.
        let desk = unsafe { &mut *desk };
        if take(&raw mut desk.taken) {
            return Some(desk);
        }
        i += 1;
    }
    None
}

#[inline(always)]
fn free(desk: &mut Desk) {
    give(&raw mut desk.taken);
}

/// Global, so that its stack is not part of that on which packets are read: see `outside`.
#[unsafe(no_mangle)]
extern "C" fn settle_exchanges(conn: *mut Conn, received: u64, sent: u64) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    if let Some(conn) = unsafe { conn.as_mut() } {
        settle::exchanges(conn, &mut Kernel, [received, sent]);
    }
    0
}

/// The service sends. The socket's lock is held.
#[inline(always)]
fn sent(conn: &mut Conn, tcp: Tcp, skb: *mut __sk_buff, header: Header) {
    if conn.emitted != conn.answered || conn.cut != 0 || conn.resume != 0 || conn.early.status != 0 {
        settle_exchanges(conn, tcp.received(), tcp.sent(tcp.state()));
    }
    let fin = header.flags & FIN != 0;
    if header.len == 0 && !fin {
        return;
    }
    let side = &mut conn.outbound;
    let from = side.position(header.seq);
    let until = from.wrapping_add(u64::from(header.len));
    if until > side.seen {
        side.seen = until;
    }
    if fin {
        side.fin = until;
    }
    if side.phase == side::OPAQUE {
        conn.turned = 1;
        return;
    }
    if !fin && (until < side.want || (until == side.want && side.phase != side::BODY)) {
        return;
    }
    read::<true>(conn, tcp, skb, header, from, until);
}

/// Reads the packet and what it makes readable.
#[inline(always)]
fn read<const OUT: bool>(conn: &mut Conn, tcp: Tcp, skb: *mut __sk_buff, header: Header, from: u64, until: u64) {
    let Some(desk) = desk() else {
        Kernel.lost(LOSS_PACKET);
        return;
    };
    Walk::<_, _, OUT> {
        conn,
        window: &mut desk.window,
        segment: Payload::<OUT> { skb, sk: tcp.sk(), at: u64::from(header.payload), block: core::ptr::null() },
        outside: &mut Kernel,
        from,
        until,
        done: false,
    }
    .run();
    free(desk);
}

/// The service receives. TCP has not looked at the segment yet, and nobody holds the socket's lock.
#[inline(always)]
fn received(conn: &mut Conn, tcp: Tcp, skb: *mut __sk_buff, header: Header) {
    let fin = header.flags & FIN != 0;
    if header.len == 0 && !fin {
        return;
    }
    let end = header.seq.wrapping_add(header.len).wrapping_add(u32::from(fin));
    if !tcp.takes(header.seq, end) {
        return;
    }
    let from = conn.inbound.position(header.seq);
    let until = from.wrapping_add(u64::from(header.len));
    raise(&raw mut conn.inbound.seen, until);
    if fin {
        conn.inbound.fin = until;
    }
    if header.len == 0 {
        return;
    }
    if conn.inbound.phase == side::OPAQUE {
        if !resumes(conn, tcp, from) {
            conn.turned = 0;
            return;
        }
    } else if until < conn.inbound.want || (until == conn.inbound.want && conn.inbound.phase != side::BODY) {
        return;
    }
    let arrivals = arrivals(tcp);
    if !take(&raw mut conn.busy) {
        // Another CPU is reading an earlier packet of this connection: leave ours to it, unless it is done meanwhile.
        if !stash::keep(tcp.sk(), posting::INBOUND, skb, header.payload, from, until) {
            Kernel.lost(LOSS_STASH);
            conn.cut = 1 + Reason::Lost as u8;
        }
        if !take(&raw mut conn.busy) {
            return;
        }
    }
    read::<false>(conn, tcp, skb, header, from, until);
    give(&raw mut conn.busy);
    if arrivals == self::arrivals(tcp) || !take(&raw mut conn.busy) {
        return;
    }
    // Something was left to us at the last moment. What comes later still finds the lock free.
    read::<false>(conn, tcp, skb, header, from, until);
    give(&raw mut conn.busy);
}

/// How often something was put into the connection's stash.
#[inline(always)]
fn arrivals(tcp: Tcp) -> u32 {
    match stash::of(tcp.sk()) {
        // SAFETY: a field that other CPUs may be writing.
        Some(stash) => unsafe { core::ptr::read_volatile(&raw const stash.arrivals[posting::INBOUND]) },
        None => 0,
    }
}

/// Whether a request begins here after all: the service has answered since the last bytes came in, all of that is
/// acknowledged, and the segment is the next one in order.
#[inline(always)]
fn resumes(conn: &mut Conn, tcp: Tcp, from: u64) -> bool {
    let reason = conn.inbound.reason;
    let resumable = reason == Reason::MidStream as u8 || reason == Reason::Lost as u8;
    if !resumable
        || conn.turned == 0
        || conn.cut != 0
        || conn.resume != 0
        || conn.outbound.phase != side::OPAQUE
        || conn.emitted != conn.pushed
        || conn.answered != conn.pushed
        || !tcp.is_quiet()
        || from != tcp.received()
    {
        return false;
    }
    conn.turned = 0;
    conn.inbound.aside_until = from;
    conn.inbound.begin(from);
    conn.resume = 1;
    true
}
