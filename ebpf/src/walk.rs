//! Moving a connection's reading state by the payload of one TCP segment: what is of interest is looked at, the rest is
//! passed over by its position. Postings are made by `settle`.
//!
//! A segment is known by the stream positions `from..until`, not by its arrival: what was looked at already is skipped,
//! so retransmissions and overlaps count once; what comes early is reported as a gap.

use crate::conn::{Conn, Outside, Steps};
use crate::http::head::{REQUEST_HEAD, STATUS_LINE, TLS, begins_request};
use crate::http::scan::{Scan, Stop};
use crate::http::side::{self, NEVER, Side};
use crate::http::window::{CARRY, WINDOW, Window};
use crate::layout;
use crate::message;
use crate::posting::Reason;

/// Steps for one segment: enough for 256 KiB of one-byte chunks.
const STEPS: u32 = 64 * 1024;
/// A first line of this length is none: servers take 8 KiB to 64 KiB (RFC 9112 3 wants at least 8,000 bytes).
const LONGEST_LINE: u64 = 128 * 1024;

/// The payload of a segment, and what earlier ones left behind.
pub trait Segment {
    /// Copies `len` bytes (1 to `WINDOW`) from `offset` to `into`; false if they are not there.
    fn load(&self, offset: u32, into: *mut u8, len: u32) -> bool;
    /// Keeps the segment, which begins at position `from`, until the bytes in front of it came; false if there is no room.
    fn keep(&mut self, from: u64, until: u64) -> bool;
    /// Becomes the kept segment that covers `want`; its positions. Drops those that lie in front of it.
    fn next(&mut self, want: u64) -> Option<(u64, u64)>;
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
    pub outside: O,
    /// Position of its first byte.
    pub from: u64,
    /// Position behind its last byte.
    pub until: u64,
    /// Nothing is left to be looked at; false to begin with.
    pub done: bool,
}

impl<S: Segment, O: Outside, const OUT: bool> Walk<'_, S, O, OUT> {
    /// Looks at all that is of interest.
    #[inline(always)]
    pub fn run(&mut self) {
        O::repeat(STEPS, self);
        if !self.done {
            self.outside.lost(layout::LOSS_PACKET);
            self.give_up(Reason::Lost);
        }
        // The FIN may have come in front of what it ends.
        let fin = self.conn.outbound.fin;
        if OUT && fin != NEVER && self.conn.outbound.phase == side::UNTIL_CLOSE {
            self.message_ended(fin);
        }
    }

    /// The message ended at `position`, just now.
    #[inline(always)]
    fn message_ended(&mut self, position: u64) {
        let now = self.outside.now();
        O::message_ended(self.conn, OUT, position, now);
    }

    /// Goes on with a segment that was kept earlier, if there is one.
    #[inline(always)]
    fn next_segment(&mut self) -> bool {
        let side = self.side();
        if side.stashed == 0 {
            return false;
        }
        let want = side.want;
        let Some((from, until)) = self.segment.next(want) else {
            return false;
        };
        self.from = from;
        self.until = until;
        true
    }

    #[inline(always)]
    fn side(&mut self) -> &mut Side {
        if OUT { &mut self.conn.outbound } else { &mut self.conn.inbound }
    }

    /// Whether the next byte can go on with a head, or begin one.
    #[inline(always)]
    fn may_be_head(&mut self) -> bool {
        let first = self.window.byte(CARRY);
        let side = self.side();
        let may_begin = if OUT { first == b'H' } else { begins_request(first) };
        side.phase != side::START || side.head_len != 0 || may_begin
    }

    /// Why what begins with this byte is not read.
    #[inline(always)]
    fn refusal(first: u8) -> Reason {
        if !OUT && first == TLS { Reason::Tls } else { Reason::NotHttp }
    }

    /// Keeps the beginning of a head, of which the window has `len` more bytes, and notes where its first line ends. Not
    /// inlined, because the stack of the walk is nearly used up.
    #[inline(never)]
    fn capture(&mut self, len: u32, scan: Scan) {
        let mut have = if OUT { self.conn.outbound.head_len } else { self.conn.inbound.head_len };
        let mut from = CARRY;
        if scan.skipped != 0 {
            // RFC 9112 2.2: empty lines in front belong to the request, but not to its first line.
            have = 0;
            from = scan.skipped;
        }
        let fresh = CARRY.wrapping_add(len).wrapping_sub(from);
        // Of what lies behind the first line nothing is looked at.
        let line_feed = scan.first_line_feed;
        let wanted = if line_feed == 0 { fresh } else { line_feed.wrapping_add(1).wrapping_sub(from) };
        let line = u32::from(have).wrapping_add(scan.first_line_feed.wrapping_sub(from));
        if OUT {
            keep::<STATUS_LINE>(self.conn.status_line.as_mut_ptr(), self.window, have, from, wanted);
            self.conn.outbound.head_len = capped::<STATUS_LINE>(have, fresh);
        } else {
            if have == 0 && fresh != 0 {
                self.conn.began = self.outside.now();
            }
            keep::<REQUEST_HEAD>(self.conn.request_head.as_mut_ptr(), self.window, have, from, wanted);
            self.conn.inbound.head_len = capped::<REQUEST_HEAD>(have, fresh);
        }
        let side = self.side();
        if scan.first_line_feed != 0 && line < u32::from(side.head_len) {
            side.line_len = line as u16;
        }
    }

    /// Reads no further in this direction: the bytes from the unfinished message on go to `reason`.
    #[inline(always)]
    fn give_up(&mut self, reason: Reason) {
        if !OUT {
            message::give_up_request(self.conn, reason);
            return;
        }
        let mut reason = reason as u8;
        if self.conn.answered == self.conn.pushed && self.conn.inbound.phase == side::OPAQUE {
            reason = self.conn.inbound.reason;
        }
        self.conn.give_up_answers(reason);
    }
}

impl<S: Segment, O: Outside, const OUT: bool> Steps for Walk<'_, S, O, OUT> {
    const DIRECT: u32 = 1;
    const FRAMED: bool = true;

    #[inline(always)]
    fn step(&mut self) -> bool {
        let more = self.advance() && !self.is_through();
        if !more {
            self.done = true;
        }
        more
    }
}

impl<S: Segment, O: Outside, const OUT: bool> Walk<'_, S, O, OUT> {
    /// Whether nothing is left after a step: with most segments that needs no further step to find out. A body whose end has
    /// passed ends here.
    #[inline(always)]
    fn is_through(&mut self) -> bool {
        let side = self.side();
        if side.phase == side::BODY && side.seen >= side.want {
            let want = side.want;
            self.message_ended(want);
        }
        let until = self.until;
        let side = self.side();
        side.stashed == 0 && until <= side.want
    }

    /// One step; false when there is nothing left to be looked at.
    #[inline(always)]
    fn advance(&mut self) -> bool {
        let (from, until) = (self.from, self.until);
        let side = self.side();
        let phase = side.phase;
        let want = side.want;
        if phase == side::OPAQUE || phase == side::UNTIL_CLOSE {
            return false;
        }
        if phase == side::BODY {
            // Where a body ends is known: of its bytes it only matters that they passed, in whatever order.
            if side.seen < want {
                return self.next_segment();
            }
            self.message_ended(want);
            return true;
        }
        if until <= want {
            return self.next_segment();
        }
        if from > want {
            if !self.segment.keep(from, until) {
                self.outside.lost(layout::LOSS_STASH);
                self.give_up(Reason::Lost);
                return false;
            }
            self.side().stashed = 1;
            return self.next_segment();
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
        if in_head && !self.may_be_head() {
            let first = self.window.byte(CARRY);
            self.give_up(Self::refusal(first));
            return false;
        }
        let side = if OUT { &mut self.conn.outbound } else { &mut self.conn.inbound };
        let scan = O::scan(side, self.window, len);
        let position = want.wrapping_add(u64::from(scan.used.wrapping_sub(CARRY)));
        side.want = position;
        let endless = side.phase == side::START && position.wrapping_sub(side.start) > LONGEST_LINE;
        if in_head {
            self.capture(len, scan);
        }
        let side = self.side();
        match scan.stop {
            Stop::Exhausted if endless => {
                self.give_up(Reason::NotHttp);
                false
            }
            Stop::Exhausted => true,
            Stop::Tls => {
                self.give_up(Reason::Tls);
                false
            }
            Stop::NotHttp => {
                self.give_up(Reason::NotHttp);
                false
            }
            Stop::ChunkSize => {
                let size = scan.chunk;
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
                let readable =
                    if OUT { O::answer_head(self.conn, position) } else { O::request_head(self.conn, position) };
                if !readable {
                    self.give_up(if OUT { Reason::NotHttp } else { Reason::Lost });
                }
                readable
            }
        }
    }
}

/// `have + len`, at most `N`.
#[inline(always)]
fn capped<const N: usize>(have: u16, len: u32) -> u16 {
    let sum = u32::from(have) + len;
    if sum > N as u32 { N as u16 } else { sum as u16 }
}

/// Appends the window's `len` bytes at `from` to a capture of `have` bytes, as far as `N` in all; some more may lie behind them.
/// Words, because a helper that copies costs more than most first lines.
#[inline(always)]
fn keep<const N: usize>(capture: *mut u8, window: &Window, have: u16, from: u32, len: u32) {
    const { assert!(N.is_power_of_two() && N < 1024, "a mask, and what `blur` leaves") };
    let most = N as u32;
    let at = window.blur(u32::from(have));
    if at >= most {
        return;
    }
    let room = most - at;
    // Opaque, or the compiler takes the loop's constant bound away, and verifiers before 6.8 then see none.
    let len = window.blur(if len > room { room } else { len });
    let mut done = 0;
    while done < most && done < len {
        let word = window.word(from.wrapping_add(done));
        // Below `N` in any case; the mask is what the verifier sees of that.
        let place = (at + done) & (most - 1);
        // SAFETY: `place` is below `N`, and a capture has `room(N)` bytes.
        unsafe { capture.add(place as usize).cast::<u64>().write_unaligned(word.to_le()) };
        done += 8;
    }
}
