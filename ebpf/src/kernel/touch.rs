//! Asking for what is about to be looked at. Little of a connection is in a cache when its next packet comes, and what is asked
//! for at once is waited for once; one after the other, with calls between, each would be. Nothing is done with what is found.

use sockmeter_ebpf::conn::{Conn, INLINE};
use sockmeter_ebpf::http::side::START;

/// A cache line.
const LINE: usize = 64;
/// Lines of an entry that have something in them with most requests.
const LINES: usize = 4;

/// What reading a request looks at, if one is about to begin.
#[inline(always)]
pub(super) fn for_request(conn: &Conn) {
    if conn.inbound.phase != START {
        return;
    }
    touch(&raw const conn.began);
    touch(&raw const conn.request_head);
    entry(conn, conn.pushed);
}

/// What reading an answer looks at, if one is about to begin, and posting the exchange in front of it.
#[inline(always)]
pub(super) fn for_answer(conn: &Conn) {
    if conn.outbound.phase != START {
        return;
    }
    touch(&raw const conn.outbound.settled);
    touch(&raw const conn.booked);
    touch(&raw const conn.inbound);
    touch(&raw const conn.inbound.settled);
    touch(&raw const conn.cookie);
    touch(&raw const conn.began);
    entry(conn, conn.emitted);
}

/// What sending looks at in any case.
#[inline(always)]
pub(super) fn for_sending(conn: &Conn) {
    touch(&raw const conn.outbound);
    touch(&raw const conn.outbound.phase);
    touch(&raw const conn.inbound.stashed);
}

#[inline(always)]
fn entry(conn: &Conn, number: u32) {
    const { assert!(LINE * LINES <= size_of::<sockmeter_ebpf::conn::Entry>(), "within the entry") };
    let entry = (&raw const conn.entries[(number % INLINE) as usize]).cast::<u8>();
    let mut line = 0;
    while line < LINES {
        // SAFETY: within the entry.
        touch(unsafe { entry.add(line * LINE) });
        line += 1;
    }
}

#[inline(always)]
fn touch<T>(at: *const T) {
    // SAFETY: callers pass fields of live values; volatile, because nothing is done with it.
    let _ = unsafe { at.cast::<u8>().read_volatile() };
}
