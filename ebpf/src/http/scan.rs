//! Finding line ends, and the few header fields that decide framing, in a window of the stream: eight bytes at a time,
//! because this runs inside the observed program's own send and receive. What a line means is in `head`.

use super::head::{TLS, begins_request};
use super::side::{self, Side};
use super::value::{chunk_size, coding, decimal};
use crate::conn::{Outside, Steps};

/// Bytes of an unfinished line that are kept in front of the next window.
pub const CARRY: u32 = 128;
/// Bytes of the stream that are looked at in one step.
pub const WINDOW: u32 = 512;
/// Room for a carry and a window and, with `word`'s mask, a size that the verifier can follow.
const SIZE: usize = 1024 + 16;
/// More than a window of empty lines has.
const STEPS: u32 = 1024;

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

/// Scratch: `CARRY` bytes of an unfinished line, then up to `WINDOW` fresh bytes.
#[repr(C)]
#[derive(Debug, Clone)]
pub struct Window {
    bytes: [u8; SIZE],
    /// Always 0, which the verifier cannot know: see `Window::blur`.
    zero: u32,
    /// A `Scan`'s fields, to hand over from one function of the kernel side to another.
    used: u32,
    chunk: u64,
    first_line_feed: u32,
    skipped: u32,
    /// Where a scan is.
    lines: Lines,
}

/// How far a scan has come: window indexes. Here and not on the stack, because what the verifier knows of a value there it
/// follows apart for each combination: 521,000 instructions on kernel 7.2, of the million that it looks at.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Lines {
    /// Where to look for the next line end.
    pos: u32,
    /// Where the unfinished line begins.
    line: u32,
    /// Where the last finished line begins.
    start: u32,
    /// Where the value of a `Content-Length` begins; 0: none seen.
    length_at: u32,
    /// Where the last `Transfer-Encoding` line ends; 0: none seen.
    coding_end: u32,
    first_line_feed: u32,
    skipped: u32,
    /// 0: not yet.
    stop: u32,
}

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

impl Window {
    /// An empty window (for user space; in the kernel it lies in a map).
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; SIZE], zero: 0, used: 0, chunk: 0, first_line_feed: 0, skipped: 0, lines: Lines::from(0) }
    }

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

    /// Makes the verifier forget what it knows of an index: else every step of a loop looks different to it, and it
    /// follows all of them apart instead of one.
    #[inline(always)]
    pub fn blur(&self, index: u32) -> u32 {
        // SAFETY: a field of ours; volatile, so that the compiler does not know its value either.
        (index ^ unsafe { core::ptr::read_volatile(&raw const self.zero) }) & 1023
    }

    /// 0, which the verifier cannot know. What a loop changes must begin with this and not with a constant: before 6.7 the
    /// verifier looks at one step only, with what the loop begins with, and removes the branches that this step does not
    /// take (`kernel/bpf/verifier.c`, `check_helper_call` of `bpf_loop`, `opt_hard_wire_dead_code_branches`).
    #[inline(always)]
    #[must_use]
    pub fn nothing(&self) -> u64 {
        // SAFETY: as in `blur`.
        let (low, high) =
            unsafe { (core::ptr::read_volatile(&raw const self.zero), core::ptr::read_volatile(&raw const self.zero)) };
        u64::from(low) | u64::from(high) << 32
    }

    /// Where fresh bytes are loaded to: `WINDOW` bytes from here belong to the window.
    #[inline(always)]
    pub fn fresh(&mut self) -> *mut u8 {
        // SAFETY: `CARRY` is far below the array's length.
        unsafe { self.bytes.as_mut_ptr().add(CARRY as usize) }
    }

    /// Where the byte at `at` (modulo 1,024) lies.
    #[inline(always)]
    pub fn from(&mut self, at: u32) -> *mut u8 {
        self.bytes.as_mut_ptr().wrapping_add((at & 1023) as usize)
    }

    /// The byte at `at` (modulo 1,024).
    #[inline(always)]
    #[must_use]
    pub fn byte(&self, at: u32) -> u8 {
        self.bytes[(at & 1023) as usize]
    }

    /// The eight bytes from `at` (modulo 1,024), the first one lowest.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, at: u32) -> u64 {
        let at = (at & 1023) as usize;
        // SAFETY: `at` is at most 1,023 and the array has 16 bytes behind that.
        u64::from_le(unsafe { self.bytes.as_ptr().add(at).cast::<u64>().read_unaligned() })
    }

    /// Puts the carry of `side` in front of the fresh bytes.
    #[inline(always)]
    pub fn restore(&mut self, side: &Side) {
        if side.carried > 0 {
            let mut i = 0;
            while i < CARRY as usize {
                self.bytes[i] = side.carry[i];
                i += 1;
            }
        }
    }

    /// Keeps the last `CARRY` bytes in front of `end` in `side`, of which `len` belong to an unfinished line.
    #[inline(always)]
    fn keep(&self, side: &mut Side, end: u32, len: u32) {
        if len > CARRY {
            side.flags |= side::LONG_LINE;
            side.carried = CARRY as u8;
        } else {
            side.carried = len as u8;
        }
        if len > 0 {
            let from = end.wrapping_sub(CARRY);
            let mut i = 0;
            while i < CARRY {
                let word = self.word(from.wrapping_add(i)).to_le_bytes();
                let mut k = 0;
                while k < 8 {
                    side.carry[i as usize + k] = word[k];
                    k += 1;
                }
                i += 8;
            }
        }
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

/// How many bytes of `word` lie in front of its first line feed; `None` if there is none.
#[inline(always)]
fn line_feed(word: u64) -> Option<u32> {
    let x = word ^ NEWLINES;
    let zero = x.wrapping_sub(ONES) & !x & HIGHS;
    if zero == 0 {
        return None;
    }
    // The bits below the lowest mark, counted in bytes: one multiplication instead of the missing "count zeros".
    let below = zero.wrapping_sub(1) & !zero & ONES;
    Some((below.wrapping_mul(ONES) >> 56) as u32 - 1)
}

/// Reads lines of a head, a trailer section or one chunk-size line from the window's `len` fresh bytes.
#[inline(always)]
pub fn scan<O: Outside>(side: &mut Side, window: &mut Window, len: u32) -> Scan {
    let end = CARRY + len;
    let line = CARRY.wrapping_sub(u32::from(side.carried));
    window.lines = Lines::from(line);
    O::repeat(STEPS, &mut Reading { window, side, end });
    let Lines { pos, line, start, length_at, coding_end, first_line_feed, skipped, stop } = window.lines;
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
            let pos = window.blur(pos);
            let reached = if pos < end { pos } else { end };
            let line = window.blur(line);
            let len = reached.wrapping_sub(line);
            let mut stop = Stop::Exhausted;
            if side.phase == side::CHUNK_SIZE && len > CARRY && side.flags & side::LONG_LINE == 0 {
                // A chunk extension of this length: the size goes out of sight now.
                match chunk_size::<O>(window, line) {
                    Some(size) => side.length = size,
                    None => stop = Stop::NotHttp,
                }
            }
            window.keep(side, reached, len);
            return Scan { stop, used: reached, chunk: 0, first_line_feed, skipped };
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

const BLANK: u32 = 1;
const CHUNK: u32 = 2;
const NOT_HTTP: u32 = 3;

impl Lines {
    /// The unfinished line begins at `line`, fresh bytes behind the carry.
    #[inline(always)]
    const fn from(line: u32) -> Self {
        Self { pos: CARRY, line, start: line, length_at: 0, coding_end: 0, first_line_feed: 0, skipped: 0, stop: 0 }
    }
}

/// Reads the lines of a window, one a step (or 32 bytes without a line end).
struct Reading<'a> {
    window: &'a mut Window,
    side: &'a mut Side,
    /// Behind the last fresh byte.
    end: u32,
}

impl Reading<'_> {
    /// A header field: remembers what decides about the body.
    #[inline(always)]
    fn field(&mut self, start: u32, feed: u32, name: u64) {
        let name = name | LOWER;
        if name == CONTENT_ {
            if (self.window.word(start + 8) | LOWER) & SEVEN_LOW == LENGTH | (LOWER & SEVEN_LOW) {
                self.window.lines.length_at = start + 15;
            }
        } else if name == TRANSFER
            && (self.window.word(start + 8) | LOWER) == (ENCODIN | LOWER)
            && (self.window.word(start + 16) | LOWER) & TWO_LOW == G_COLON
        {
            self.window.lines.coding_end = self.line_end(feed);
        }
    }

    /// Where the line's content ends: in front of a carriage return, if there is one.
    #[inline(always)]
    fn line_end(&self, feed: u32) -> u32 {
        let cr = self.window.byte(feed.wrapping_sub(1)) == 0x0d;
        feed.wrapping_sub(u32::from(cr))
    }
}

impl Steps for Reading<'_> {
    #[inline(always)]
    fn step(&mut self) -> bool {
        let mut pos = self.window.blur(self.window.lines.pos);
        if pos >= self.end {
            return false;
        }
        let mut words = 0;
        let feed = loop {
            if let Some(before) = line_feed(self.window.word(pos)) {
                break self.window.blur(pos + before);
            }
            pos += 8;
            words += 1;
            if words == 4 {
                self.window.lines.pos = pos;
                return true;
            }
        };
        if feed >= self.end {
            self.window.lines.pos = self.end;
            return false;
        }
        let start = self.window.blur(self.window.lines.line);
        self.window.lines.start = start;
        self.window.lines.line = feed + 1;
        self.window.lines.pos = feed + 1;
        let phase = self.side.phase;
        if phase == side::CHUNK_SIZE {
            self.window.lines.stop = CHUNK;
            return false;
        }
        let name = self.window.word(start);
        let long = self.side.flags & side::LONG_LINE != 0;
        self.side.flags &= !side::LONG_LINE;
        let blank = !long && (feed == start || (feed == start + 1 && name & 0xff == 0x0d));
        if phase == side::START {
            if blank {
                // RFC 9112 2.2: an empty line in front of a request line is to be ignored.
                self.window.lines.skipped = feed + 1;
                return true;
            }
            let line_end = self.line_end(feed);
            let version = self.window.word(line_end.wrapping_sub(8));
            let short = !long && line_end.wrapping_sub(start) < SHORTEST;
            if self.side.flags & side::ANSWERS == 0 && (short || version & SEVEN_LOW != HTTP_1) {
                self.window.lines.stop = NOT_HTTP;
                return false;
            }
            self.window.lines.first_line_feed = feed;
            self.side.phase = side::FIELDS;
        } else if blank {
            self.window.lines.stop = BLANK;
            return false;
        } else if !long && feed.wrapping_sub(start) <= CARRY {
            // Longer lines are left alone, because how they are cut decides whether all of them is here.
            self.field(start, feed, name);
        }
        true
    }
}
