//! Finding line ends, and the few header fields that decide framing, in a window of the stream: eight bytes at a time,
//! because this runs inside the observed program's own send and receive. What a line means is in `head`.

use super::head::{TLS, begins_request};
use super::side::{self, Side};
use super::value::{chunk_size, coding, decimal};
use super::window::{BLOCK, CARRY, Lines, WINDOW, Window};
use crate::conn::Outside;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const NEWLINES: u64 = 0x0a0a_0a0a_0a0a_0a0a;
/// Makes ASCII letters lower case.
pub(super) const LOWER: u64 = 0x2020_2020_2020_2020;

const CONTENT_: u64 = u64::from_le_bytes(*b"content-");
/// `x HTTP/1.1` is longer: what comes in front of the version in a request line.
const SHORTEST: u32 = 10;

const LENGTH: u64 = u64::from_le_bytes(*b"length:\0");
const TRANSFER: u64 = u64::from_le_bytes(*b"transfer");
const ENCODIN: u64 = u64::from_le_bytes(*b"-encodin");
const G_COLON: u64 = u64::from_le_bytes(*b"g:\0\0\0\0\0\0");
const TWO_LOW: u64 = 0xffff;
const SEVEN_LOW: u64 = 0x00ff_ffff_ffff_ffff;
const HTTP_1: u64 = u64::from_le_bytes(*b"HTTP/1.\0");

/// Why `scan` stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The window is used up; the state is kept in the `Side`.
    Exhausted,
    /// An empty line ended a head or the trailers.
    Blank,
    /// A chunk-size line ended.
    ChunkSize,
    /// The first line of a head is not HTTP/1, or a chunk-size line has no size.
    NotHttp,
    /// Behind empty lines a TLS record begins.
    Tls,
}

/// Where `scan` stopped: window indexes.
#[derive(Debug, Clone, Copy)]
pub struct Scan {
    /// Why.
    pub stop: Stop,
    /// Index behind the last byte that was used.
    pub used: u32,
    /// The size that a chunk-size line said.
    pub chunk: u64,
    /// Index of the line feed that ended a head's first line in this scan, else 0.
    pub first_line_feed: u32,
    /// Index behind the last empty line in front of a head's first line, 0 if there was none.
    pub skipped: u32,
}

/// Marks the line feeds of `word` by the high bits of their bytes.
#[inline(always)]
fn line_feeds(word: u64) -> u64 {
    let x = word ^ NEWLINES;
    !(((x & !HIGHS).wrapping_add(!HIGHS)) | x | !HIGHS)
}

/// How many bytes lie in front of the first of these marks.
#[inline(always)]
fn before(marks: u64) -> u32 {
    // The bits below the lowest mark, counted in bytes: one multiplication instead of the missing "count zeros".
    let below = marks.wrapping_sub(1) & !marks & ONES;
    (below.wrapping_mul(ONES) >> 56) as u32 - 1
}

/// Whether a line with this first and this ninth byte may be empty, or one of the fields that decide framing. True for a few
/// others too: one bit for every byte modulo 64, upper or lower case.
#[inline(always)]
fn may_matter(first: u8, ninth: u8) -> bool {
    const EMPTY: u64 = bit(b'\r') | bit(b'\n');
    const NAMES: u64 = bit(b'c') | bit(b't');
    // `Content-Length`, `Transfer-Encoding`.
    const NINTH: u64 = bit(b'l') | bit(b'-');
    let (first, ninth) = (bit(first), bit(ninth));
    EMPTY & first != 0 || (NAMES & first != 0 && NINTH & ninth != 0)
}

/// See `may_matter`.
const fn bit(byte: u8) -> u64 {
    1 << ((byte | 0x20) & 63)
}

/// Goes through the lines of a head, a trailer section or one chunk-size line in the window's `len` fresh bytes. What was
/// found is left in the window, for `scan`.
#[inline(always)]
pub fn lines<O: Outside>(side: &mut Side, window: &mut Window, len: u32) {
    // Were it known to the compiler that this is in the window, it would leave out the bound that the verifier sees.
    let end = window.blur(CARRY + len);
    let line = CARRY.wrapping_sub(u32::from(side.carried));
    window.lines = Lines::from(line);
    let mut from = CARRY;
    while from < CARRY + WINDOW && from < end && O::block(side, window, from, end) {
        from += BLOCK;
    }
}

/// What the lines of the window's `len` fresh bytes said, after `lines`.
#[inline(always)]
pub fn scan<O: Outside>(side: &mut Side, window: &mut Window, len: u32) -> Scan {
    let end = CARRY + len;
    let Lines { block: _, line, start, length_at, coding_end, first_line_feed, skipped, stop, plain: _ } = window.lines;
    // What follows empty lines is looked at as if it had come by itself.
    if skipped != 0 && skipped < end && side.flags & side::ANSWERS == 0 {
        let first = window.byte(window.blur(skipped));
        if !begins_request(first) {
            let stop = if first == TLS { Stop::Tls } else { Stop::NotHttp };
            return Scan { stop, used: end, chunk: 0, first_line_feed: 0, skipped };
        }
    }
    let length_at = window.blur(length_at);
    if length_at != 0 && side.phase != side::TRAILER {
        side.length = decimal::<O>(window, length_at);
        side.flags |= side::LENGTH;
    }
    let coding_end = window.blur(coding_end);
    if coding_end != 0 && side.phase != side::TRAILER {
        coding::<O>(side, window, coding_end);
    }
    let stop = match stop {
        BLANK => Stop::Blank,
        CHUNK => Stop::ChunkSize,
        NOT_HTTP => Stop::NotHttp,
        _ => {
            let line = window.blur(line);
            let len = end.wrapping_sub(line);
            let mut stop = Stop::Exhausted;
            if side.phase == side::CHUNK_SIZE && len > CARRY && side.flags & side::LONG_LINE == 0 {
                // A chunk extension of this length: the size goes out of sight now.
                match chunk_size::<O>(window, line) {
                    Some(size) => side.length = size,
                    None => stop = Stop::NotHttp,
                }
            }
            window.keep(side, end, len);
            return Scan { stop, used: end, chunk: 0, first_line_feed, skipped };
        }
    };
    side.carried = 0;
    let mut stop = stop;
    let mut chunk = 0;
    if stop == Stop::ChunkSize && side.flags & side::LONG_LINE != 0 {
        side.flags &= !side::LONG_LINE;
        chunk = side.length;
    } else if stop == Stop::ChunkSize {
        match chunk_size::<O>(window, start) {
            Some(size) => chunk = size,
            None => stop = Stop::NotHttp,
        }
    }
    Scan { stop, used: window.blur(line), chunk, first_line_feed, skipped }
}

const BLANK: u16 = 1;
const CHUNK: u16 = 2;
const NOT_HTTP: u16 = 3;

/// Most steps through a block: one for each word, and one for each byte, for all may be line feeds.
const STEPS: u32 = BLOCK / 8 + BLOCK;

/// Finds the line ends of the block at `from`, and looks at those lines that may matter; false when reading stops. A loop of a few
/// instructions: where much is sent, the processor has forgotten by the next head what it runs here, and more of it takes longer
/// to fetch than to run.
#[inline(always)]
pub fn block<O: Outside>(side: &mut Side, window: &mut Window, from: u32, end: u32) -> bool {
    window.go_to_block(from);
    // Behind the word whose marks these are, in the block.
    let (mut at, mut marks) = (0, 0);
    let mut steps = 0;
    while steps < STEPS {
        steps += 1;
        at = window.blur(at);
        if marks == 0 {
            if at >= BLOCK {
                return true;
            }
            marks = line_feeds(window.word_of_block(at));
            at += 8;
            continue;
        }
        let feed = from + at - 8 + before(marks);
        if feed >= end {
            return false;
        }
        marks &= marks - 1;
        let start = window.blur(window.lines.line);
        window.lines.start = start;
        window.lines.line = feed + 1;
        let matters = window.lines.plain == 0 || may_matter(window.byte(start), window.byte(start + 8));
        if matters && !O::line(side, window, feed) {
            return false;
        }
    }
    true
}

/// Looks at the line from `Lines::start` to the line feed at `feed`; false when reading stops there.
#[inline(always)]
pub fn line(side: &mut Side, window: &mut Window, feed: u32) -> bool {
    let start = window.blur(window.lines.start);
    if side.phase == side::CHUNK_SIZE {
        window.lines.stop = CHUNK;
        return false;
    }
    let name = window.word(start);
    let long = side.flags & side::LONG_LINE != 0;
    side.flags &= !side::LONG_LINE;
    let blank = !long && (feed == start || (feed == start + 1 && name & 0xff == 0x0d));
    if side.phase == side::START {
        if blank {
            // RFC 9112 2.2: an empty line in front of a request line is to be ignored.
            window.lines.skipped = feed + 1;
            return true;
        }
        let line_end = window.line_end(feed);
        let version = window.word(line_end.wrapping_sub(8));
        let short = !long && line_end.wrapping_sub(start) < SHORTEST;
        if side.flags & side::ANSWERS == 0 && (short || version & SEVEN_LOW != HTTP_1) {
            window.lines.stop = NOT_HTTP;
            return false;
        }
        window.lines.first_line_feed = feed;
        side.phase = side::FIELDS;
    } else if blank {
        window.lines.stop = BLANK;
        return false;
    } else if !long && feed.wrapping_sub(start) <= CARRY {
        // Longer lines are left alone, because how they are cut decides whether all of them is here.
        window.field(start, feed, name);
    }
    window.lines.plain = 1;
    true
}

impl Window {
    /// Notes how a scan ended.
    #[inline(always)]
    pub fn keep_result(&mut self, scan: &Scan) {
        self.used = scan.used;
        self.chunk = scan.chunk;
        self.first_line_feed = scan.first_line_feed;
        self.skipped = scan.skipped;
    }

    /// How the last scan ended.
    #[inline(always)]
    #[must_use]
    pub fn result(&self, stop: Stop) -> Scan {
        Scan { stop, used: self.used, chunk: self.chunk, first_line_feed: self.first_line_feed, skipped: self.skipped }
    }

    /// A header field: remembers what decides about the body.
    #[inline(always)]
    fn field(&mut self, start: u32, feed: u32, name: u64) {
        let name = name | LOWER;
        if name == CONTENT_ {
            if (self.word(start + 8) | LOWER) & SEVEN_LOW == LENGTH | (LOWER & SEVEN_LOW) {
                self.lines.length_at = start + 15;
            }
        } else if name == TRANSFER
            && (self.word(start + 8) | LOWER) == (ENCODIN | LOWER)
            && (self.word(start + 16) | LOWER) & TWO_LOW == G_COLON
        {
            self.lines.coding_end = self.line_end(feed);
        }
    }

    /// Where a line's content ends: in front of a carriage return, if there is one.
    #[inline(always)]
    fn line_end(&self, feed: u32) -> u32 {
        let cr = self.byte(feed.wrapping_sub(1)) == 0x0d;
        feed.wrapping_sub(u32::from(cr))
    }
}
