//! What happens to a connection when a head is complete or a message ends. Finding that in the packets is `walk`.

use crate::conn::{Conn, Early, Entry, Outside};
use crate::http::head::{self, Body, REQUEST_HEAD};
use crate::http::side::{self, NEVER};
use crate::layout;
use crate::posting::{self, Reason};

/// A message ended at `position`: the next one begins there.
#[inline(always)]
pub fn message_ended<O: Outside>(conn: &mut Conn, outside: &mut O, out: bool, position: u64) {
    if out {
        answer_ended(conn, outside, position);
    } else {
        let side = &mut conn.inbound;
        if side.flags & side::CHUNKED != 0 && side.phase != side::BODY {
            let body = side.body;
            let number = conn.pushed.wrapping_sub(1);
            let entry = conn.entry(outside, number);
            if !entry.is_null() {
                // SAFETY: the entry of a request that has not ended is not posted, so it is still there; its
                // request half belongs to this hook.
                unsafe {
                    (*entry).posting.body[posting::INBOUND] = body;
                    core::ptr::write_volatile(&raw mut (*entry).end, position);
                }
            }
        }
    }
    let side = if out { &mut conn.outbound } else { &mut conn.inbound };
    if side.phase != side::OPAQUE {
        side.begin(position);
    }
}

/// An answer ended: its half of the entry is complete.
#[inline(always)]
fn answer_ended<O: Outside>(conn: &mut Conn, outside: &mut O, position: u64) {
    let number = conn.answered;
    let body = match conn.outbound.phase {
        side::UNTIL_CLOSE => position.wrapping_sub(conn.outbound.body_start),
        side::BODY => conn.outbound.length,
        _ => conn.outbound.body,
    };
    let ended = outside.now();
    let status = conn.status;
    conn.status = 0;
    if number != conn.pushed {
        let entry = conn.entry(outside, number);
        if !entry.is_null() {
            // SAFETY: a live entry, whose answer half belongs to this hook.
            unsafe { (*entry).answer(position, status, body, ended) };
        }
        conn.answered = number.wrapping_add(1);
    } else if conn.early.status == 0 {
        conn.early = Early { end: position, body, ended, status, pad: [0; 6] };
    }
}

/// A request head is complete at `position`.
#[inline(always)]
pub fn request_head<O: Outside>(conn: &mut Conn, outside: &mut O, position: u64) -> bool {
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
    let side = &mut conn.inbound;
    let cut = side.line_len == 0;
    let kept = if cut { side.head_len } else { side.line_len };
    // SAFETY: the entry was just taken for this request and is not published yet.
    let entry = unsafe { &mut *entry };
    entry.start = side.start;
    entry.head_end = position;
    entry.end = end;
    entry.answer_end = 0;
    entry.method = head::method_class(&conn.request_head);
    entry.posting.kind = posting::KIND_EXCHANGE;
    entry.posting.flags = if cut { posting::CUT_HEAD } else { 0 };
    if end != position {
        entry.posting.flags |= posting::REQUEST_BODY;
    }
    entry.posting.status = 0;
    entry.posting.lost = [0; 2];
    entry.posting.ended = 0;
    entry.posting.body = [length, 0];
    entry.posting.began = conn.began;
    entry.posting.head_len = kept;
    copy_words(&mut entry.head, &conn.request_head);
    side.want = end;
    match body {
        Body::Length(_) => side.phase = side::BODY,
        Body::Chunked => {
            side.phase = side::CHUNK_SIZE;
            side.want = position;
        }
        _ => {}
    }
    conn.last_head_end = position;
    // Published last: the other direction looks at an entry only after this.
    // SAFETY: a plain field; volatile keeps the order of the two stores.
    unsafe { core::ptr::write_volatile(&raw mut conn.pushed, number.wrapping_add(1)) };
    if end == position {
        conn.inbound.begin(position);
    }
    true
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
    } else if conn.inbound.phase == side::OPAQUE || conn.early.status != 0 {
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
            answer_ended(conn, outside, position);
            conn.outbound.set_aside(position, Reason::Upgraded as u8);
            conn.cut = 1 + Reason::Upgraded as u8;
        }
        Body::None | Body::Interim => message_ended(conn, outside, true, position),
    }
    true
}

impl Entry {
    /// Fills in the answer half.
    #[inline(always)]
    pub fn answer(&mut self, end: u64, status: u16, body: u64, ended: u64) {
        self.answer_end = end;
        self.posting.status = status;
        self.posting.body[posting::OUTBOUND] = body;
        self.posting.ended = ended;
    }
}

#[inline(always)]
fn copy_words(into: &mut [u8; REQUEST_HEAD], from: &[u8; 2 * REQUEST_HEAD]) {
    let mut i = 0;
    while i < REQUEST_HEAD {
        into[i] = from[i];
        i += 1;
    }
}
