//! The requests of a connection that wait: counted when TCP has their heads, joined with answers that came first, dropped
//! when no answer can be told to be theirs. Booking those that are complete is `settle`.

use crate::conn::{Conn, Outside, Steps};
use crate::http::side::{self, NEVER, Side};
use crate::posting::{self, Reason};

/// Requests that are looked at in one go: as many as a connection can have waiting.
pub(crate) const MOST: u32 = 64 * 1024;

/// Counts the requests whose heads TCP has whole, up to position `received`.
#[inline(always)]
pub(crate) fn count<O: Outside>(conn: &mut Conn, outside: &mut O, received: u64) {
    let mut counting = Counting { conn, outside, received };
    O::repeat(MOST, &mut counting);
}

/// Request heads, one a step.
struct Counting<'a, O> {
    conn: &'a mut Conn,
    outside: &'a mut O,
    received: u64,
}

impl<O: Outside> Steps for Counting<'_, O> {
    const DIRECT: u32 = 1;

    #[inline(always)]
    fn step(&mut self) -> bool {
        let conn = &mut *self.conn;
        let number = conn.heads;
        // What looks like requests behind an upgrade is another protocol's.
        if number == conn.pushed || (conn.cut == 1 + Reason::Upgraded as u8 && number == conn.answered) {
            return false;
        }
        let entry = conn.entry(self.outside, number);
        if !entry.is_null() {
            // SAFETY: published and, because requests are counted before they are settled, not emitted.
            let entry = unsafe { &*entry };
            if entry.head_end > self.received {
                return false;
            }
            if entry.posting.flags & posting::PARTIAL_REQUEST != 0 {
                conn.heads_posted = conn.heads_posted.wrapping_add(1);
            }
        }
        conn.heads = number.wrapping_add(1);
        conn.heads != conn.pushed
    }
}

/// Whether nothing that waits can still become complete.
#[inline(always)]
pub(crate) fn may_drop<O: Outside>(conn: &mut Conn, outside: &mut O) -> bool {
    let number = conn.emitted;
    if number == conn.answered {
        return true;
    }
    if conn.inbound.phase != side::OPAQUE {
        return false;
    }
    let entry = conn.entry(outside, number);
    // SAFETY: published and not yet emitted.
    entry.is_null() || unsafe { (*entry).end } == NEVER
}

/// Requests that are dropped, one a step: those in the overflow map would stay there for ever.
struct Dropping<'a, O> {
    conn: &'a mut Conn,
    outside: &'a mut O,
}

impl<O: Outside> Steps for Dropping<'_, O> {
    const DIRECT: u32 = 1;

    #[inline(always)]
    fn step(&mut self) -> bool {
        let conn = &mut *self.conn;
        let number = conn.emitted;
        if number == conn.pushed {
            return false;
        }
        if !conn.is_inline(number) {
            self.outside.deep_remove(conn.cookie, number);
        }
        if conn.heads == number {
            conn.heads = number.wrapping_add(1);
            conn.heads_posted = conn.heads_posted.wrapping_add(1);
        }
        conn.emitted = number.wrapping_add(1);
        true
    }
}

/// An answer that was complete before its request was published finds its entry.
#[inline(always)]
pub(crate) fn adopt_early<O: Outside>(conn: &mut Conn, outside: &mut O) {
    let number = conn.answered;
    if conn.early_status == 0 || number == conn.pushed {
        return;
    }
    let (early, status) = (conn.early, conn.early_status);
    conn.early_status = 0;
    let entry = conn.entry(outside, number);
    if !entry.is_null() {
        // SAFETY: a published entry's answer half belongs to the holder of the socket's lock.
        let entry = unsafe { &mut *entry };
        entry.answer(early.end, status, early.body, early.ended);
    }
    conn.answered = number.wrapping_add(1);
}

/// Answers cannot be told apart any more, or none will come: what waits for one is dropped, and in the first case the
/// bytes go aside.
#[inline(always)]
pub(crate) fn drop_waiting<O: Outside>(conn: &mut Conn, outside: &mut O) {
    let mut dropping = Dropping { conn, outside };
    O::repeat(MOST, &mut dropping);
    conn.answered = conn.pushed;
    conn.early_status = 0;
    if conn.cut == 0 {
        return;
    }
    let reason = conn.cut - 1;
    conn.cut = 0;
    conn.status = 0;
    drop_rest(&mut conn.inbound, reason);
    drop_rest(&mut conn.outbound, reason);
}

/// Sets aside what is not booked yet. If that has happened before, nothing of it is booked, and the cause of the cut is
/// the better reason: frames behind an upgrade do not look like HTTP.
#[inline(always)]
fn drop_rest(side: &mut Side, reason: u8) {
    let settled = side.settled;
    if side.phase != side::OPAQUE {
        side.set_aside(settled, reason);
    } else if side.aside_from >= settled {
        side.aside_from = settled;
        side.reason = reason;
    }
}
