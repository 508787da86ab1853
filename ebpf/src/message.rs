//! What happens to a connection when a head is complete or a message ends. Finding that in the packets is `walk`.

use crate::conn::{Conn, Early, Entry, Outside};
use crate::http::head::{self, Body, REQUEST_HEAD};
use crate::http::side::{self, NEVER};
use crate::layout;
use crate::posting::{self, Reason};

/// Reads no further what the client sends: the bytes from the unfinished request on go to `reason`.
#[inline(always)]
pub fn give_up_request(conn: &mut Conn, reason: Reason) {
    if conn.doubts() {
        conn.doubt();
        return;
    }
    if conn.inbound.phase == side::CHUNK_SIZE || conn.inbound.phase == side::TRAILER {
        conn.cut = 1 + reason as u8;
    }
    let start = conn.inbound.start;
    conn.inbound.set_aside(start, reason as u8);
}

/// A message ended at `position`, and at this time: the next one begins there.
#[inline(always)]
pub fn message_ended<O: Outside>(conn: &mut Conn, outside: &mut O, out: bool, position: u64, ended: u64) {
    if out {
        answer_ended(conn, outside, position, ended);
    } else {
        request_ended(conn, outside, position, ended);
    }
    let side = if out { &mut conn.outbound } else { &mut conn.inbound };
    if side.phase != side::OPAQUE {
        side.begin(position);
    }
}

/// A request's body ended.
#[inline(always)]
fn request_ended<O: Outside>(conn: &mut Conn, outside: &mut O, position: u64, received: u64) {
    let number = conn.pushed.wrapping_sub(1);
    let chunked = conn.inbound.phase != side::BODY;
    let body = conn.inbound.body;
    let entry = conn.entry(outside, number);
    if entry.is_null() {
        return;
    }
    // SAFETY: an entry whose request has not ended is not posted, and what is not posted is still there; its request half
    // belongs to this hook. One that this hook is late for (another CPU was reading) is at worst written in vain.
    unsafe {
        (*entry).received = received;
        if chunked {
            (*entry).posting.body[posting::INBOUND] = body;
            core::ptr::write_volatile(&raw mut (*entry).end, position);
        }
    }
}

/// An answer ended: its half of the entry is complete.
#[inline(always)]
fn answer_ended<O: Outside>(conn: &mut Conn, outside: &mut O, position: u64, ended: u64) {
    let number = conn.answered;
    let body = match conn.outbound.phase {
        side::UNTIL_CLOSE => position.wrapping_sub(conn.outbound.body_start),
        side::BODY => conn.outbound.length,
        _ => conn.outbound.body,
    };
    let status = conn.status;
    conn.status = 0;
    if number != conn.pushed {
        let entry = conn.entry(outside, number);
        if !entry.is_null() {
            // SAFETY: a live entry, whose answer half belongs to this hook.
            unsafe { (*entry).answer(position, status, body, ended) };
        }
        conn.answered = number.wrapping_add(1);
    } else if conn.early_status == 0 {
        conn.early = Early { end: position, body, ended };
        conn.early_status = status;
    }
}

/// A request head is complete at `position`.
#[inline(always)]
pub fn request_head<O: Outside>(conn: &mut Conn, outside: &mut O, position: u64) -> bool {
    if conn.doubts() && !head::begins_like_a_request(&conn.request_head) {
        return false;
    }
    let number = conn.pushed;
    let entry = conn.room(outside, number);
    if entry.is_null() {
        outside.lost(layout::LOSS_PIPELINE);
        return false;
    }
    let body = head::request_body(&conn.inbound);
    let (end, length) = match body {
        Body::Length(length) => (position.wrapping_add(length), length),
        Body::Chunked => (NEVER, 0),
        _ => (position, 0),
    };
    // SAFETY: the entry was just taken for this request and is not published yet.
    let entry = unsafe { &mut *entry };
    entry.request(conn, position, end, length);
    if end != position {
        entry.posting.flags |= posting::REQUEST_BODY;
    }
    let side = &mut conn.inbound;
    side.want = end;
    side.flags &= !side::TENTATIVE;
    match body {
        Body::Length(_) => side.phase = side::BODY,
        Body::Chunked => {
            side.phase = side::CHUNK_SIZE;
            side.want = position;
        }
        _ => {}
    }
    // Published last: the other direction looks at an entry only after this.
    // SAFETY: a plain field; volatile keeps the order of the two stores.
    unsafe { core::ptr::write_volatile(&raw mut conn.pushed, number.wrapping_add(1)) };
    if end == position {
        conn.inbound.begin(position);
    }
    true
}

/// The connection ends at `position` in an unfinished request head that was answered all the same (400, 408, 414, 431):
/// an exchange, if its first line is known. What of it never came is not waited for.
#[inline(always)]
pub fn partial_request<O: Outside>(conn: &mut Conn, outside: &mut O, position: u64) {
    let number = conn.pushed;
    let side = &conn.inbound;
    let answered = conn.early_status != 0 || conn.status != 0;
    // A line that is longer than what is kept cannot be answered with more detail when it is complete.
    let known = side.phase == side::FIELDS || (side.phase == side::START && side.head_len == REQUEST_HEAD as u16);
    if !answered || !known || conn.answered != number || side.start >= position {
        return;
    }
    let entry = conn.room(outside, number);
    if entry.is_null() {
        return;
    }
    // SAFETY: as in `request_head`.
    let entry = unsafe { &mut *entry };
    entry.request(conn, position, position, 0);
    entry.posting.flags |= posting::PARTIAL_REQUEST;
    conn.pushed = number.wrapping_add(1);
}

/// An answer's head is complete at `position`; false if it cannot be read on.
#[inline(always)]
pub fn answer_head<O: Outside>(conn: &mut Conn, outside: &mut O, position: u64) -> bool {
    let Some(status) = head::status(&conn.status_line) else {
        return false;
    };
    let number = conn.answered;
    let mut method = head::METHOD_PLAIN;
    if number != conn.pushed {
        let entry = conn.entry(outside, number);
        if !entry.is_null() {
            // SAFETY: published entries are not written by the receive hook but for their end and body.
            method = unsafe { (*entry).method };
        }
    } else if conn.inbound.phase == side::OPAQUE || conn.early_status != 0 {
        return false;
    }
    let body = head::answer_body(&conn.outbound, status, method);
    if body == Body::Interim {
        let side = &mut conn.outbound;
        side.want = position;
        side.next();
        return true;
    }
    conn.status = status;
    let side = &mut conn.outbound;
    side.body_start = position;
    match body {
        Body::Length(length) => {
            side.want = position.wrapping_add(length);
            side.phase = side::BODY;
        }
        Body::Chunked => {
            side.want = position;
            side.phase = side::CHUNK_SIZE;
        }
        Body::UntilClose => {
            side.want = NEVER;
            side.phase = side::UNTIL_CLOSE;
        }
        Body::Upgraded => {
            let now = outside.now();
            answer_ended(conn, outside, position, now);
            conn.outbound.set_aside(position, Reason::Upgraded as u8);
            conn.cut = 1 + Reason::Upgraded as u8;
        }
        Body::None | Body::Interim => {
            let now = outside.now();
            message_ended(conn, outside, true, position, now);
        }
    }
    true
}

impl Entry {
    /// Fills in the request half, from the head that was captured. The body has `length` bytes.
    #[inline(always)]
    fn request(&mut self, conn: &Conn, head_end: u64, end: u64, length: u64) {
        let side = &conn.inbound;
        let cut = side.line_len == 0;
        self.start = side.start;
        self.head_end = head_end;
        self.end = end;
        self.answer_end = 0;
        self.received = 0;
        self.method = head::method_class(&conn.request_head);
        self.posting.kind = posting::KIND_EXCHANGE;
        self.posting.flags = if cut { posting::CUT_HEAD } else { 0 };
        self.posting.status = 0;
        self.posting.lost = [0; 2];
        self.posting.ended = 0;
        self.posting.body = [length, 0];
        self.posting.began = conn.began;
        self.posting.head_len = if cut { side.head_len } else { side.line_len };
        let mut i = 0;
        while i < REQUEST_HEAD && i < usize::from(self.posting.head_len) {
            // SAFETY: `REQUEST_HEAD` is a multiple of eight, and the capture is longer.
            unsafe {
                let word = conn.request_head.as_ptr().add(i).cast::<u64>().read_unaligned();
                self.head.as_mut_ptr().add(i).cast::<u64>().write_unaligned(word);
            }
            i += 8;
        }
    }

    /// Fills in the answer half. A service that gave up waiting (408) may have spoken before the request began.
    #[inline(always)]
    pub fn answer(&mut self, end: u64, status: u16, body: u64, ended: u64) {
        let began = self.posting.began;
        let ended = if ended < began { began } else { ended };
        self.answer_end = end;
        self.posting.status = status;
        self.posting.body[posting::OUTBOUND] = body;
        self.posting.ended = ended;
    }
}
