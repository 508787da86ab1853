//! Moving a connection's reading state by the payload of one TCP segment: what is of interest is looked at, the rest is
//! passed over by its position. Postings are made by `settle`.
//!
//! A segment is known by the stream positions `from..until`, not by its arrival: what was looked at already is skipped,
//! so retransmissions and overlaps count once; what comes early is reported as a gap.

use crate::conn::{Conn, Early, Entry, Outside, Steps};
use crate::http::head::{self, Body, REQUEST_HEAD, STATUS_LINE};
use crate::http::scan::{CARRY, Stop, WINDOW, Window, chunk_size, scan};
use crate::http::side::{self, NEVER, Side};
use crate::layout;
use crate::posting::{self, Reason};

/// Steps for one segment: enough for 64 KiB of two-byte chunks.
const STEPS: u32 = 16 * 1024;

/// The payload of a segment.
pub trait Segment {
    /// Copies `len` bytes (1 to `WINDOW`) from `offset` to `into`; false if they are not there.
    fn load(&self, offset: u32, into: *mut u8, len: u32) -> bool;
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// All that the segment holds was looked at.
    Through,
    /// The bytes in front of the segment are missing.
    Gap,
}

/// A walk through one segment. `OUT`: from the service.
pub struct Walk<'a, S, O, const OUT: bool> {
    /// The connection.
    pub conn: &'a mut Conn,
    /// Scratch.
    pub window: &'a mut Window,
    /// The payload.
    pub segment: S,
    /// Clock and maps.
    pub outside: &'a mut O,
    /// Position of its first byte.
    pub from: u64,
    /// Position behind its last byte.
    pub until: u64,
    /// The stream ends behind it.
    pub fin: bool,
    /// Result.
    pub walked: Walked,
}

impl<S: Segment, O: Outside, const OUT: bool> Walk<'_, S, O, OUT> {
    /// Looks at all that is of interest.
    #[inline(always)]
    pub fn run(&mut self) -> Walked {
        O::repeat(STEPS, self);
        if OUT && self.fin && self.conn.outbound.phase == side::UNTIL_CLOSE {
            self.message_ended(self.until);
        }
        self.walked
    }

    #[inline(always)]
    fn side(&mut self) -> &mut Side {
        if OUT { &mut self.conn.outbound } else { &mut self.conn.inbound }
    }

    /// Keeps the beginning of a head; false if its first byte cannot begin one.
    #[inline(always)]
    fn capture(&mut self, len: u32) -> bool {
        let have = if OUT { self.conn.outbound.head_len } else { self.conn.inbound.head_len };
        let first = self.window.byte(CARRY);
        if have == 0 && self.side().phase == side::START {
            if OUT {
                if first != b'H' {
                    return false;
                }
            } else {
                if !first.is_ascii_alphabetic() && first != b'\r' && first != b'\n' {
                    return false;
                }
                self.conn.began = self.outside.now();
            }
        }
        if OUT {
            keep(&mut self.conn.status_line, self.window, have, len);
            self.conn.outbound.head_len = capped::<STATUS_LINE>(have, len);
        } else {
            keep(&mut self.conn.request_head, self.window, have, len);
            self.conn.inbound.head_len = capped::<REQUEST_HEAD>(have, len);
        }
        true
    }

    /// A message ended at `position`: the next one begins there.
    #[inline(always)]
    fn message_ended(&mut self, position: u64) {
        if OUT {
            self.answer_ended(position);
        } else {
            let side = &mut self.conn.inbound;
            if side.flags & side::CHUNKED != 0 && side.phase != side::BODY {
                let body = side.body;
                let number = self.conn.pushed.wrapping_sub(1);
                let entry = self.conn.entry(self.outside, number);
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
        let side = self.side();
        if side.phase != side::OPAQUE {
            side.begin(position);
        }
    }

    /// An answer ended: its half of the entry is complete.
    #[inline(always)]
    fn answer_ended(&mut self, position: u64) {
        let number = self.conn.answered;
        let body = match self.conn.outbound.phase {
            side::UNTIL_CLOSE => position.wrapping_sub(self.conn.outbound.body_start),
            side::BODY => self.conn.outbound.length,
            _ => self.conn.outbound.body,
        };
        let ended = self.outside.now();
        let status = self.conn.status;
        self.conn.status = 0;
        if number != self.conn.pushed {
            let entry = self.conn.entry(self.outside, number);
            if !entry.is_null() {
                // SAFETY: a live entry, whose answer half belongs to this hook.
                unsafe { (*entry).answer(position, status, body, ended) };
            }
            self.conn.answered = number.wrapping_add(1);
        } else if self.conn.early.status == 0 {
            self.conn.early = Early { end: position, body, ended, status, pad: [0; 6] };
        }
    }

    /// A request head is complete at `position`.
    #[inline(always)]
    fn request_head(&mut self, position: u64) -> bool {
        let number = self.conn.pushed;
        let entry = self.conn.room(self.outside, number);
        if entry.is_null() {
            self.outside.lost(layout::LOSS_PIPELINE);
            return false;
        }
        let body = head::request_body(&self.conn.inbound);
        let (end, length) = match body {
            Body::Length(length) => (position.wrapping_add(length), length),
            Body::Chunked => (NEVER, 0),
            _ => (position, 0),
        };
        let side = &mut self.conn.inbound;
        let cut = side.line_len == 0;
        let kept = if cut { side.head_len } else { side.line_len };
        // SAFETY: the entry was just taken for this request and is not published yet.
        let entry = unsafe { &mut *entry };
        entry.start = side.start;
        entry.head_end = position;
        entry.end = end;
        entry.answer_end = 0;
        entry.method = head::method_class(&self.conn.request_head);
        entry.posting.kind = posting::KIND_EXCHANGE;
        entry.posting.flags = if cut { posting::CUT_HEAD } else { 0 };
        if end != position {
            entry.posting.flags |= posting::REQUEST_BODY;
        }
        entry.posting.status = 0;
        entry.posting.lost = [0; 2];
        entry.posting.ended = 0;
        entry.posting.body = [length, 0];
        entry.posting.began = self.conn.began;
        entry.posting.head_len = kept;
        copy_words(&mut entry.head, &self.conn.request_head);
        side.want = end;
        match body {
            Body::Length(_) => side.phase = side::BODY,
            Body::Chunked => {
                side.phase = side::CHUNK_SIZE;
                side.want = position;
            }
            _ => {}
        }
        self.conn.last_head_end = position;
        // Published last: the other direction looks at an entry only after this.
        // SAFETY: a plain field; volatile keeps the order of the two stores.
        unsafe { core::ptr::write_volatile(&raw mut self.conn.pushed, number.wrapping_add(1)) };
        if end == position {
            self.conn.inbound.begin(position);
        }
        true
    }

    /// An answer's head is complete at `position`; false if it cannot be read on.
    #[inline(always)]
    fn answer_head(&mut self, position: u64) -> bool {
        let Some(status) = head::status(&self.conn.status_line) else {
            return false;
        };
        let number = self.conn.answered;
        let mut method = head::METHOD_PLAIN;
        if number != self.conn.pushed {
            let entry = self.conn.entry(self.outside, number);
            if !entry.is_null() {
                // SAFETY: published entries are not written by the receive hook but for their end and body.
                method = unsafe { (*entry).method };
            }
        } else if self.conn.inbound.phase == side::OPAQUE || self.conn.early.status != 0 {
            return false;
        }
        let body = head::answer_body(&self.conn.outbound, status, method);
        if body == Body::Interim {
            let side = &mut self.conn.outbound;
            side.want = position;
            side.next();
            return true;
        }
        self.conn.status = status;
        let side = &mut self.conn.outbound;
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
                self.answer_ended(position);
                self.conn.outbound.set_aside(position, Reason::Upgraded as u8);
                self.conn.cut = 1 + Reason::Upgraded as u8;
            }
            Body::None | Body::Interim => self.message_ended(position),
        }
        true
    }

    /// Reads no further in this direction: the bytes from the unfinished message on go to `reason`.
    #[inline(always)]
    fn give_up(&mut self, reason: Reason) {
        let mut reason = reason as u8;
        if OUT {
            if self.conn.answered == self.conn.pushed && self.conn.inbound.phase == side::OPAQUE {
                reason = self.conn.inbound.reason;
            }
            self.conn.cut = 1 + reason;
        } else if self.conn.inbound.phase == side::CHUNK_SIZE || self.conn.inbound.phase == side::TRAILER {
            self.conn.cut = 1 + reason;
        }
        let side = self.side();
        let start = side.start;
        side.set_aside(start, reason);
    }
}

impl<S: Segment, O: Outside, const OUT: bool> Steps for Walk<'_, S, O, OUT> {
    #[inline(always)]
    fn step(&mut self) -> bool {
        let (from, until) = (self.from, self.until);
        let side = self.side();
        let phase = side.phase;
        let want = side.want;
        if phase == side::OPAQUE || phase == side::UNTIL_CLOSE {
            return false;
        }
        if phase == side::BODY {
            if until < want {
                return false;
            }
            self.message_ended(want);
            return true;
        }
        if until <= want {
            return false;
        }
        if from > want {
            self.walked = Walked::Gap;
            return false;
        }
        let limit = if phase == side::CHUNK_SIZE { 64 } else { u64::from(WINDOW) };
        let rest = until.wrapping_sub(want);
        let len = if rest > limit { limit } else { rest } as u32;
        let offset = want.wrapping_sub(from) as u32;
        if !self.segment.load(offset, self.window.fresh(), len) {
            self.outside.lost(layout::LOSS_PACKET);
            self.give_up(Reason::Lost);
            return false;
        }
        let side = if OUT { &self.conn.outbound } else { &self.conn.inbound };
        self.window.restore(side);
        let in_head = phase == side::START || phase == side::FIELDS;
        if in_head && !self.capture(len) {
            let reason = if !OUT && self.window.byte(CARRY) == 0x16 { Reason::Tls } else { Reason::NotHttp };
            self.give_up(reason);
            return false;
        }
        let side = if OUT { &mut self.conn.outbound } else { &mut self.conn.inbound };
        let scan = scan::<O>(side, self.window, len);
        let position = want.wrapping_add(u64::from(scan.used.wrapping_sub(CARRY)));
        side.want = position;
        if scan.first_line_feed != 0 {
            let line = want.wrapping_add(u64::from(scan.first_line_feed.wrapping_sub(CARRY))).wrapping_sub(side.start);
            if line < u64::from(side.head_len) {
                side.line_len = line as u16;
            }
        }
        match scan.stop {
            Stop::Exhausted => true,
            Stop::NotHttp => {
                self.give_up(Reason::NotHttp);
                false
            }
            Stop::ChunkSize => {
                let Some(size) = chunk_size(self.window, scan.line) else {
                    self.give_up(Reason::NotHttp);
                    return false;
                };
                if size == 0 {
                    side.phase = side::TRAILER;
                } else {
                    side.body = side.body.wrapping_add(size);
                    // RFC 9112 7.1: chunk-data CRLF.
                    side.want = position.wrapping_add(size).wrapping_add(2);
                }
                true
            }
            Stop::Blank if phase == side::TRAILER => {
                self.message_ended(position);
                true
            }
            Stop::Blank => {
                let readable = if OUT { self.answer_head(position) } else { self.request_head(position) };
                if !readable {
                    self.give_up(if OUT { Reason::NotHttp } else { Reason::Lost });
                }
                readable
            }
        }
    }
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

/// `have + len`, at most `N`.
#[inline(always)]
fn capped<const N: usize>(have: u16, len: u32) -> u16 {
    let sum = u32::from(have) + len;
    if sum > N as u32 { N as u16 } else { sum as u16 }
}

/// Appends the window's `len` fresh bytes to a capture of `have` bytes.
#[inline(always)]
fn keep<const N: usize>(capture: &mut [u8; N], window: &Window, have: u16, len: u32) {
    let mut i: u32 = 0;
    if have == 0 {
        // What lies behind `len` is copied too, and never read: one fixed copy costs less than a loop with a bound.
        while i < N as u32 {
            let word = window.word(CARRY + i).to_le_bytes();
            let mut k = 0;
            while k < 8 {
                capture[i as usize + k] = word[k];
                k += 1;
            }
            i += 8;
        }
        return;
    }
    while i < N as u32 {
        let at = window.blur(u32::from(have) + i);
        if i >= len || at >= N as u32 {
            return;
        }
        capture[(at as usize) & (N - 1)] = window.byte(CARRY + i);
        i += 1;
    }
}

#[inline(always)]
fn copy_words(into: &mut [u8; REQUEST_HEAD], from: &[u8; REQUEST_HEAD]) {
    let mut i = 0;
    while i < REQUEST_HEAD {
        into[i] = from[i];
        i += 1;
    }
}
