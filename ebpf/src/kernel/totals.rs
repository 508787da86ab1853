//! Adding a socket's progress to the totals of its key. What a socket's progress is, its own file says (`begin`, `end`,
//! `snapshot`, `scan`, `udp`).

use core::ffi::c_void;
use core::mem::offset_of;

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use sockmeter_ebpf::conn::Outside as _;
use sockmeter_ebpf::layout::LOSS_TOTALS;
use sockmeter_ebpf::place::Maker;
use sockmeter_ebpf::socket::{
    COMM, COUNTED, ROLE_CLIENT, ROUND_TRIP_BOUNDS, RoundTripKey, RoundTrips, Socket, TCP, Totals, TotalsKey,
};

use super::atomic::{add, advance, mark};
use super::maps::{MAKER, ROUND_TRIPS, SOCKETS, TOTALS};
use super::outside::Kernel;
use super::place;

/// Index of `[opened, closed]`.
const OPENED: usize = 0;
/// See `OPENED`.
pub(super) const CLOSED: usize = 1;

/// Counts a socket's beginning or end.
#[inline(always)]
pub(super) fn count(socket: &Socket, which: usize) {
    let index = if socket.protocol == TCP { 0 } else { 4 } + u32::from(socket.role & 3);
    if let Some(pair) = SOCKETS.get_ptr_mut(index) {
        // SAFETY: an element of an array map.
        add(unsafe { &raw mut (*pair)[which] }, 1);
    }
}

/// Counts a socket's beginning once, when its role is known.
#[inline(always)]
pub(super) fn opened(socket: &mut Socket) {
    if socket.flags & COUNTED == 0 && set(socket, COUNTED) {
        count(socket, OPENED);
    }
}

/// Sets a flag of a socket, while others may set another; whether it was not set.
#[inline(always)]
pub(super) fn set(socket: &mut Socket, flag: u8) -> bool {
    // The flags are the lowest byte of a word (`Socket`), on machines of this byte order, which are all that there is an agent for.
    let found = mark((&raw mut socket.flags).cast(), u32::from(flag));
    found & u32::from(flag) == 0
}
const _: () = assert!(offset_of!(Socket, flags).is_multiple_of(4) && cfg!(target_endian = "little"));

/// Books the difference between the counters of `sk` and what was booked before. Whose it is, is only looked up when there
/// is one.
#[inline(always)]
pub(super) fn book(socket: &mut Socket, sk: *mut c_void, received: u64, sent: u64, retransmitted: u64) {
    if received <= socket.received && sent <= socket.sent && retransmitted <= socket.retransmitted {
        return;
    }
    let maker = MAKER.of(sk, false);
    book_for(socket, maker.as_deref(), received, sent, retransmitted);
}

/// The same for who is known to have made the socket.
#[inline(always)]
pub(super) fn book_for(socket: &mut Socket, maker: Option<&Maker>, received: u64, sent: u64, retransmitted: u64) {
    book_socket(socket, maker.map_or(core::ptr::null(), core::ptr::from_ref), received, sent, retransmitted);
}

/// Global, so that it is verified once, and its stack is its own: see `outside`.
#[unsafe(no_mangle)]
extern "C" fn book_socket(
    socket: *mut Socket,
    maker: *const Maker,
    received: u64,
    sent: u64,
    retransmitted: u64,
) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    let (Some(socket), maker) = (unsafe { socket.as_mut() }, unsafe { maker.as_ref() }) else {
        return 0;
    };
    let received_more = advance(&raw mut socket.received, received);
    let sent_more = advance(&raw mut socket.sent, sent);
    let retransmitted_more = advance(&raw mut socket.retransmitted, retransmitted);
    if received_more | sent_more | retransmitted_more == 0 {
        return 0;
    }
    let key = TotalsKey {
        protocol: socket.protocol,
        role: socket.role,
        port: if socket.role == ROLE_CLIENT && socket.port == 0 { socket.peer_port } else { socket.port },
        overflow: 0,
        process: match &maker {
            Some(maker) => maker.owner.process,
            None => [0; COMM],
        },
    };
    place::book(maker.map(|maker| &maker.place), received_more, sent_more);
    let Some(totals) = entry(&key) else {
        return 0;
    };
    // SAFETY: a map value; only additions.
    unsafe {
        add(&raw mut (*totals).received, received_more);
        add(&raw mut (*totals).sent, sent_more);
        add(&raw mut (*totals).retransmitted, retransmitted_more);
    }
    0
}

#[inline(always)]
fn entry(key: &TotalsKey) -> Option<*mut Totals> {
    if let Some(totals) = TOTALS.get_ptr_mut(key) {
        return Some(totals);
    }
    // SAFETY: no arguments.
    let first = unsafe { bpf_ktime_get_ns() };
    let blank = Totals { received: 0, sent: 0, retransmitted: 0, first };
    // Another CPU may have been faster: then this fails, and the look-up finds theirs.
    let _ = TOTALS.insert(key, &blank, 1);
    if let Some(totals) = TOTALS.get_ptr_mut(key) {
        return Some(totals);
    }
    Kernel.lost(LOSS_TOTALS);
    let overflow = TotalsKey { protocol: key.protocol, role: 0, port: 0, overflow: 1, process: [0; COMM] };
    TOTALS.get_ptr_mut(overflow)
}

/// Adds a closing socket's smoothed round-trip time, in eighths of a microsecond.
#[inline(always)]
pub(super) fn round_trip(socket: &Socket, eighths: u32) {
    if eighths == 0 {
        return;
    }
    let key = RoundTripKey { port: socket.port, role: socket.role, overflow: 0 };
    let mut trips = ROUND_TRIPS.get_ptr_mut(key);
    if trips.is_none() {
        // SAFETY: no arguments.
        let first = unsafe { bpf_ktime_get_ns() };
        let blank = RoundTrips { buckets: [0; 14], eighths: 0, first };
        let _ = ROUND_TRIPS.insert(key, blank, 1);
        trips = ROUND_TRIPS.get_ptr_mut(key);
    }
    if trips.is_none() {
        Kernel.lost(LOSS_TOTALS);
        trips = ROUND_TRIPS.get_ptr_mut(RoundTripKey { port: 0, role: 0, overflow: 1 });
    }
    let Some(trips) = trips else {
        return;
    };
    let mut bucket = 0;
    while bucket < ROUND_TRIP_BOUNDS.len() && eighths > ROUND_TRIP_BOUNDS[bucket] * 8 {
        bucket += 1;
    }
    // SAFETY: a map value; only additions, and the loop ends at 13 at the latest.
    unsafe {
        add(&raw mut (*trips).buckets[bucket], 1);
        add(&raw mut (*trips).eighths, u64::from(eighths));
    }
}
