//! Turning what was read into postings, under the socket's lock: only here a connection's bytes get booked, each once.
//! Reading is `walk`; the postings' meaning is in `posting`.
//!
//! Nothing is booked before TCP took it: an exchange is posted when the stream positions that the kernel itself counts
//! have passed its end in both directions. The hooks run ahead of that (backlog, drops behind the hook, failed sends).

use crate::conn::{Conn, Entry, Outside, Steps};
use crate::http::side::{self, NEVER, Side};
use crate::layout;
use crate::message;
use crate::posting::{self, INBOUND, OUTBOUND, Posting, Reason};
use crate::waiting::{MOST, adopt_early, count, drop_waiting, may_drop};

/// How far the kernel's own counters are, FIN and SYN not counted.
pub type Streams = [u64; 2];

struct Settling<'a, O> {
    conn: &'a mut Conn,
    outside: &'a mut O,
    streams: Streams,
    closing: bool,
}

/// Posts the exchanges that are complete.
#[inline(always)]
pub fn exchanges<O: Outside>(conn: &mut Conn, outside: &mut O, streams: Streams) {
    if conn.closed == 0 {
        run(conn, outside, streams, false);
    }
}

/// Posts the exchanges that are complete, and how far the connection is.
#[inline(always)]
pub fn positions<O: Outside>(conn: &mut Conn, outside: &mut O, streams: Streams) {
    if conn.closed != 0 {
        return;
    }
    run(conn, outside, streams, false);
    let mut last = Posting::EMPTY;
    book_aside(conn, &mut last, streams);
    balance(conn, &mut last, streams);
    if says_something(conn, &last) {
        post(conn, outside, &mut last);
    }
}

/// Whether all is posted, and there is nothing that could become complete before one of TCP's counters moves: `streams` is where
/// they were at the last posting. The socket's lock is held.
#[inline(always)]
#[must_use]
pub fn is_through(conn: &Conn, streams: Streams) -> bool {
    let through = |side: &Side, direction: usize| {
        let (open, at) = (open(side, streams[direction]), streams[direction]);
        let is_read = side.seen == at && !missed(side, at);
        is_read && conn.booked[direction] == at && conn.open[direction] == open && conn.lost[direction] == 0
    };
    // SAFETY: a field that another CPU may be writing.
    let busy = unsafe { core::ptr::read_volatile(&raw const conn.busy) };
    busy == 0
        && !conn.waits()
        && conn.heads == conn.heads_posted
        && through(&conn.inbound, INBOUND)
        && through(&conn.outbound, OUTBOUND)
}

/// Whether there is anything to post.
#[inline(always)]
fn says_something(conn: &Conn, posting: &Posting) -> bool {
    let bytes = posting.stream[0] | posting.stream[1] | posting.unattributed[0] | posting.unattributed[1];
    let lost = posting.lost[0] | posting.lost[1] | conn.lost[0] | conn.lost[1];
    let open = posting.open[0] | posting.open[1];
    bytes | lost | open.cast_unsigned() | u64::from(posting.requests) != 0
}

/// Posts everything that is left; afterwards nothing may touch the connection.
#[inline(always)]
pub fn close<O: Outside>(conn: &mut Conn, outside: &mut O, streams: Streams) {
    if conn.closed != 0 {
        return;
    }
    if conn.busy == 0 {
        message::partial_request(conn, outside, streams[INBOUND]);
    }
    run(conn, outside, streams, true);
    conn.closed = 1;
    // What lies aside and what is left may have different reasons, and a posting has room for one.
    post_aside(conn, outside, streams);
    let mut last = Posting::EMPTY;
    last.flags = posting::CLOSED;
    remainder(&mut conn.inbound, &mut last, streams, INBOUND);
    remainder(&mut conn.outbound, &mut last, streams, OUTBOUND);
    balance(conn, &mut last, streams);
    if says_something(conn, &last) && !post(conn, outside, &mut last) {
        outside.spill(&last);
    }
}

/// Posts what lies aside, if anything does.
#[inline(always)]
fn post_aside<O: Outside>(conn: &mut Conn, outside: &mut O, streams: Streams) {
    let mut posting = Posting::EMPTY;
    book_aside(conn, &mut posting, streams);
    if posting.unattributed[INBOUND] | posting.unattributed[OUTBOUND] != 0 {
        balance(conn, &mut posting, streams);
        post(conn, outside, &mut posting);
    }
}

/// Whether TCP has passed what the receive hook still waits for: it never saw that, and never will, unless it was kept.
#[inline(always)]
pub fn missed(side: &Side, received: u64) -> bool {
    let waits = matches!(side.phase, side::START | side::FIELDS | side::CHUNK_SIZE | side::TRAILER);
    waits && received > side.want
}

#[inline(always)]
fn run<O: Outside>(conn: &mut Conn, outside: &mut O, streams: Streams, closing: bool) {
    if closing && conn.doubts() {
        conn.doubt();
    }
    if missed(&conn.inbound, streams[INBOUND]) && O::take(&mut conn.busy) {
        if missed(&conn.inbound, streams[INBOUND]) {
            outside.lost(layout::LOSS_PACKET);
            message::give_up_request(conn, Reason::Lost);
            // It passed somewhere, or TCP would not have it.
            if conn.inbound.seen < streams[INBOUND] {
                conn.inbound.seen = streams[INBOUND];
            }
        }
        O::give(&mut conn.busy);
    }
    if conn.resume != 0 && !conn.doubts() {
        conn.resume = 0;
        let at = conn.outbound.seen;
        conn.outbound.aside_until = at;
        conn.outbound.begin(at);
        // Now, because the next region that goes aside takes the place of this one.
        post_aside(conn, outside, streams);
    }
    adopt_early(conn, outside);
    count(conn, outside, streams[INBOUND]);
    let mut settling = Settling { conn, outside, streams, closing };
    O::repeat(MOST, &mut settling);
    if closing {
        drop_waiting(conn, outside);
    } else if conn.cut != 0 && may_drop(conn, outside) && O::take(&mut conn.busy) {
        drop_waiting(conn, outside);
        O::give(&mut conn.busy);
    }
}

impl<O: Outside> Steps for Settling<'_, O> {
    const DIRECT: u32 = 1;
    const FRAMED: bool = true;

    #[inline(always)]
    fn step(&mut self) -> bool {
        let conn = &mut *self.conn;
        let number = conn.emitted;
        if number == conn.pushed || (conn.cut != 0 && number == conn.answered) {
            return false;
        }
        let entry = conn.entry(self.outside, number);
        if entry.is_null() {
            // Only an overflow map emptied from outside can do that; its bytes go to `lost` with the next posting.
            self.outside.lost(layout::LOSS_PIPELINE);
            conn.emitted = number.wrapping_add(1);
            return true;
        }
        // SAFETY: published and not yet emitted, so it is there; the receive hook writes only `end` and the body size,
        // `end` last.
        let entry = unsafe { &mut *entry };
        // At the end of the connection `emitted` runs past the requests that were never answered.
        let answered = conn.answered.wrapping_sub(number).cast_signed() > 0;
        // SAFETY: a plain field that another CPU may be writing.
        let end = unsafe { core::ptr::read_volatile(&raw const entry.end) };
        let complete =
            answered && end != NEVER && self.streams[INBOUND] >= end && self.streams[OUTBOUND] >= entry.answer_end;
        if !complete {
            if !self.closing || self.streams[INBOUND] < entry.head_end {
                return false;
            }
            truncate(conn, entry, self.streams, answered);
            entry.posting.ended = self.outside.now();
        } else if entry.received > entry.posting.ended {
            // Answered early: its last byte was one of the request's.
            entry.posting.ended = entry.received;
        }
        conn.emitted = number.wrapping_add(1);
        let request_end = entry.end;
        let answer_end = entry.answer_end;
        book_aside(conn, &mut entry.posting, self.streams);
        exchange(&mut conn.inbound, &mut entry.posting, request_end, INBOUND);
        exchange(&mut conn.outbound, &mut entry.posting, answer_end, OUTBOUND);
        balance(conn, &mut entry.posting, self.streams);
        address(conn, &mut entry.posting);
        let posted = self.outside.post_entry(entry);
        posted_or_carried(conn, self.outside, &entry.posting, posted);
        if !conn.is_inline(number) {
            self.outside.deep_remove(conn.cookie, number);
        }
        // What is not answered is not complete: that needs no step to find out.
        self.closing || conn.emitted != conn.answered
    }
}

/// The connection ended within an exchange: it ends where the streams end.
#[inline(always)]
fn truncate(conn: &Conn, entry: &mut Entry, streams: Streams, answered: bool) {
    let received = streams[INBOUND];
    if entry.end == NEVER {
        entry.posting.body[INBOUND] = partial_body(&conn.inbound, received);
        entry.end = received;
    } else if entry.end > received {
        // Chunks that TCP did not take after all: their payload is at most what it did take.
        let most = received.saturating_sub(entry.head_end);
        if entry.posting.body[INBOUND] > most {
            entry.posting.body[INBOUND] = most;
        }
        entry.end = received;
    }
    let sent = streams[OUTBOUND];
    if answered {
        if entry.answer_end > sent {
            let over = entry.answer_end - sent;
            entry.posting.body[OUTBOUND] = entry.posting.body[OUTBOUND].saturating_sub(over);
            entry.answer_end = sent;
        }
    } else if conn.emitted == conn.answered && conn.outbound.phase != side::OPAQUE {
        entry.posting.status = conn.status;
        entry.posting.body[OUTBOUND] = partial_body(&conn.outbound, sent);
        entry.answer_end = sent;
    } else {
        entry.answer_end = 0;
    }
}

/// Body bytes of an unfinished message when its stream ends at `end`.
#[inline(always)]
fn partial_body(side: &Side, end: u64) -> u64 {
    match side.phase {
        side::BODY | side::UNTIL_CLOSE => end.saturating_sub(side.body_start),
        // The last chunk was promised whole: `want` is behind its CRLF.
        side::CHUNK_SIZE => side.body.saturating_sub(side.want.saturating_sub(2).saturating_sub(end)),
        side::TRAILER => side.body,
        _ => 0,
    }
}

/// Books the bytes up to `end` as the exchange's.
#[inline(always)]
fn exchange(side: &mut Side, posting: &mut Posting, end: u64, direction: usize) {
    let wire = end.saturating_sub(side.settled);
    posting.wire[direction] = wire;
    side.settled += wire;
}

/// Books what lies aside, as far as both the hook and TCP saw it.
#[inline(always)]
fn book_aside(conn: &mut Conn, posting: &mut Posting, streams: Streams) {
    aside(&mut conn.inbound, posting, streams, INBOUND);
    aside(&mut conn.outbound, posting, streams, OUTBOUND);
}

#[inline(always)]
fn aside(side: &mut Side, posting: &mut Posting, streams: Streams, direction: usize) {
    posting.unattributed[direction] = 0;
    if side.aside_from > side.settled || side.aside_until <= side.settled {
        return;
    }
    let mut until = side.aside_until;
    if until > side.seen {
        until = side.seen;
    }
    if until > streams[direction] {
        until = streams[direction];
    }
    let bytes = until.saturating_sub(side.settled);
    posting.unattributed[direction] = bytes;
    posting.reasons[direction] = side.reason;
    side.settled += bytes;
}

/// At the end of the connection: what is not booked yet was the beginning of a message, or was never seen.
#[inline(always)]
fn remainder(side: &mut Side, posting: &mut Posting, streams: Streams, direction: usize) {
    let end = streams[direction];
    let read = if side.want < side.seen { side.want } else { side.seen };
    let read = if read > end { end } else { read };
    let unfinished = read.saturating_sub(side.settled);
    if unfinished > 0 {
        if posting.unattributed[direction] == 0 {
            posting.reasons[direction] = Reason::NotHttp as u8;
            posting.unattributed[direction] = unfinished;
        } else {
            posting.lost[direction] += unfinished;
        }
        side.settled += unfinished;
    }
    let unseen = end.saturating_sub(side.settled);
    posting.lost[direction] += unseen;
    side.settled += unseen;
}

/// Fills in what makes a posting balance: the stream's progress and the change of what is open.
#[inline(always)]
fn balance(conn: &mut Conn, posting: &mut Posting, streams: Streams) {
    posting.stream[INBOUND] = streams[INBOUND].saturating_sub(conn.booked[INBOUND]);
    posting.stream[OUTBOUND] = streams[OUTBOUND].saturating_sub(conn.booked[OUTBOUND]);
    posting.open[INBOUND] = open(&conn.inbound, streams[INBOUND]).wrapping_sub(conn.open[INBOUND]).cast_signed();
    posting.open[OUTBOUND] = open(&conn.outbound, streams[OUTBOUND]).wrapping_sub(conn.open[OUTBOUND]).cast_signed();
    posting.requests = conn.heads.wrapping_sub(conn.heads_posted);
}

/// In the stream, seen by the hook, and not booked yet.
#[inline(always)]
fn open(side: &Side, stream: u64) -> u64 {
    let reached = if side.seen < stream { side.seen } else { stream };
    reached.saturating_sub(side.settled)
}

/// Names the posting and adds what earlier ones could not carry.
#[inline(always)]
fn address(conn: &Conn, posting: &mut Posting) {
    posting.cookie = conn.cookie;
    posting.service = conn.service;
    posting.number = conn.postings.wrapping_add(1);
    posting.lost[INBOUND] += conn.lost[INBOUND];
    posting.lost[OUTBOUND] += conn.lost[OUTBOUND];
}

/// Posts what has no head.
#[inline(always)]
fn post<O: Outside>(conn: &mut Conn, outside: &mut O, posting: &mut Posting) -> bool {
    address(conn, posting);
    let posted = outside.post(posting);
    posted_or_carried(conn, outside, posting, posted);
    posted
}

/// What was posted is booked. If the journal was full nothing is lost but the detail: the next posting carries the bytes.
/// One that has positions only loses nothing, and is not counted.
#[inline(always)]
fn posted_or_carried<O: Outside>(conn: &mut Conn, outside: &mut O, posting: &Posting, posted: bool) {
    if posted {
        conn.postings = posting.number;
        conn.lost = [0; 2];
        conn.booked[INBOUND] += posting.stream[INBOUND];
        conn.booked[OUTBOUND] += posting.stream[OUTBOUND];
        conn.open[INBOUND] = conn.open[INBOUND].wrapping_add_signed(posting.open[INBOUND]);
        conn.open[OUTBOUND] = conn.open[OUTBOUND].wrapping_add_signed(posting.open[OUTBOUND]);
        conn.heads_posted = conn.heads_posted.wrapping_add(posting.requests);
        return;
    }
    if posting.kind == posting::KIND_EXCHANGE || posting.unattributed[INBOUND] | posting.unattributed[OUTBOUND] != 0 {
        outside.lost(layout::LOSS_JOURNAL);
    }
    conn.lost[INBOUND] = posting.lost[INBOUND] + posting.wire[INBOUND] + posting.unattributed[INBOUND];
    conn.lost[OUTBOUND] = posting.lost[OUTBOUND] + posting.wire[OUTBOUND] + posting.unattributed[OUTBOUND];
}
