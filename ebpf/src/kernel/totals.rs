//! Adding a socket's progress to the totals of its key. What a socket's progress is, its own file says (`begin`, `end`,
//! `snapshot`, `udp`).

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use sockmeter_ebpf::conn::Outside as _;
use sockmeter_ebpf::layout::LOSS_TOTALS;
use sockmeter_ebpf::socket::{
    COMM, COUNTED, ROLE_CLIENT, ROUND_TRIP_BOUNDS, RoundTripKey, RoundTrips, Socket, TCP, Totals, TotalsKey,
};

use super::atomic::add;
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
    if socket.flags & COUNTED == 0 {
        socket.flags |= COUNTED;
        count(socket, OPENED);
    }
}

/// Books the difference between the counters of `sk` and what was booked before. Whose it is, is only looked up when there
/// is one.
#[inline(always)]
pub(super) fn book(socket: &mut Socket, sk: *mut c_void, received: u64, sent: u64, retransmitted: u64) {
    // A counter behind what was booked cannot be; never let it become a huge difference.
    let received_more = received.saturating_sub(socket.received);
    let sent_more = sent.saturating_sub(socket.sent);
    let retransmitted_more = retransmitted.saturating_sub(socket.retransmitted);
    if received_more | sent_more | retransmitted_more == 0 {
        return;
    }
    socket.received = received;
    socket.sent = sent;
    socket.retransmitted = retransmitted;
    let maker = MAKER.of(sk, false);
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
        return;
    };
    // SAFETY: a map value; only additions.
    unsafe {
        add(&raw mut (*totals).received, received_more);
        add(&raw mut (*totals).sent, sent_more);
        add(&raw mut (*totals).retransmitted, retransmitted_more);
    }
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
