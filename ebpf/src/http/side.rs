//! The reading state of one direction of one observed connection. How it moves is in `crate::walk`.

use core::mem::offset_of;

use super::window::CARRY;

/// `Side::phase`: the first line of a head is awaited or unfinished.
pub const START: u8 = 0;
/// `Side::phase`: inside the header fields.
pub const FIELDS: u8 = 1;
/// `Side::phase`: a body that ends at `Side::want`.
pub const BODY: u8 = 2;
/// `Side::phase`: `Side::want` is where the next chunk-size line begins.
pub const CHUNK_SIZE: u8 = 3;
/// `Side::phase`: the trailer section of a chunked body.
pub const TRAILER: u8 = 4;
/// `Side::phase`: a body that ends with the connection (RFC 9112 6.3, rule 8).
pub const UNTIL_CLOSE: u8 = 5;
/// `Side::phase`: not read at all; the bytes are booked under `Side::reason`.
pub const OPAQUE: u8 = 6;

/// `Side::flags`: a `Content-Length` was seen in this head.
pub const LENGTH: u8 = 1;
/// `Side::flags`: the final transfer coding of this head is `chunked`.
pub const CHUNKED: u8 = 2;
/// `Side::flags`: the unfinished line is longer than the carry, its beginning is gone.
pub const LONG_LINE: u8 = 4;
/// `Side::flags`: this side carries answers, not requests.
pub const ANSWERS: u8 = 8;

/// `Side::flags`: this head is the first after a gap in the reading. If it is none, that goes on, for the same reason.
pub const TENTATIVE: u8 = 16;

/// No position: behind everything.
pub const NEVER: u64 = u64::MAX;

/// One direction of a connection. Positions count the application's bytes from 0 (the first byte after the SYN),
/// in 64 bits, so that they do not wrap with the sequence numbers every 4 GiB.
///
/// What a packet in the middle of a body needs comes first, in one cache line where the whole begins with one: see `Conn`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Side {
    /// The first position that has not been looked at and must be. In a body: where it ends.
    pub want: u64,
    /// The highest position that passed the hook, but for packets within a body that is noted (`crate::body`). May run ahead of what TCP accepted.
    pub seen: u64,
    /// Position of the FIN, once one was seen.
    pub fin: u64,
    /// Where the message that is being read begins.
    pub start: u64,
    /// Decoded body bytes of that message, as far as the framing promised them.
    pub body: u64,
    /// Its `Content-Length`.
    pub length: u64,
    /// Sequence number of position 0.
    pub base: u32,
    /// Captured bytes of the head that is being read.
    pub head_len: u16,
    /// Length of its first line, once that ended within the capture.
    pub line_len: u16,
    /// One of the phases above.
    pub phase: u8,
    /// Flags above.
    pub flags: u8,
    /// Valid bytes of `carry`, right-aligned.
    pub carried: u8,
    /// `crate::posting::Reason` of the bytes aside.
    pub reason: u8,
    /// 1: something of this direction may be in the stash.
    pub stashed: u8,
    /// 1: packets of this direction may be looked at. 0 while the connection is being begun; and where a layout before 9 began
    /// it its socket says so (`OBSERVED`).
    pub ready: u8,
    /// Spelled-out padding.
    pub pad: [u8; 2],
    /// All below is booked, as wire or as unattributed.
    pub settled: u64,
    /// Where the body of the message that is being read begins (with `UNTIL_CLOSE` and `BODY`).
    pub body_start: u64,
    /// The bytes from here ...
    pub aside_from: u64,
    /// ... to here belong to no exchange, for `reason`.
    pub aside_until: u64,
    /// The end of the bytes looked at: an unfinished line.
    pub carry: [u8; CARRY as usize],
}

const _: () = assert!(offset_of!(Side, settled) == 64);
const _: () = assert!(size_of::<Side>() == 96 + 128);

impl Side {
    /// The position of sequence number `seq`: the one nearest to what was seen so far (RFC 9293 3.4 arithmetic).
    #[inline(always)]
    #[must_use]
    pub fn position(&self, seq: u32) -> u64 {
        let ahead = seq.wrapping_sub(self.base).wrapping_sub(self.seen as u32);
        self.seen.wrapping_add(sign_extend(ahead))
    }

    /// The sequence number of `position`.
    #[inline(always)]
    #[must_use]
    pub const fn sequence(&self, position: u64) -> u32 {
        self.base.wrapping_add(position as u32)
    }

    /// Begins to read messages at `position`.
    #[inline(always)]
    pub fn begin(&mut self, position: u64) {
        self.start = position;
        self.want = position;
        self.next();
    }

    /// Forgets the message that was read; `start` and `want` stay.
    #[inline(always)]
    pub fn next(&mut self) {
        self.phase = START;
        self.flags &= ANSWERS;
        self.carried = 0;
        self.head_len = 0;
        self.line_len = 0;
        self.body = 0;
        self.length = 0;
    }

    /// Reads nothing more; what lies from `position` on is booked under `reason`.
    #[inline(always)]
    pub fn set_aside(&mut self, position: u64, reason: u8) {
        self.phase = OPAQUE;
        self.want = NEVER;
        self.carried = 0;
        // An older region that is not booked yet absorbs what lies between.
        if self.aside_until <= self.settled || self.aside_from >= self.aside_until {
            self.aside_from = position;
        }
        self.aside_until = NEVER;
        self.reason = reason;
    }
}

impl Side {
    /// All zero.
    pub const ZERO: Self = Self {
        want: 0,
        seen: 0,
        settled: 0,
        start: 0,
        body: 0,
        length: 0,
        body_start: 0,
        fin: 0,
        aside_from: 0,
        aside_until: 0,
        base: 0,
        head_len: 0,
        line_len: 0,
        phase: 0,
        flags: 0,
        carried: 0,
        reason: 0,
        stashed: 0,
        ready: 0,
        pad: [0; 2],
        carry: [0; 128],
    };

    /// A direction whose next byte has position `at` and sequence number `seq`.
    #[inline(always)]
    pub fn open_at(&mut self, at: u64, seq: u32) {
        self.base = seq.wrapping_sub(at as u32);
        self.seen = at;
        self.settled = at;
        self.fin = NEVER;
        self.begin(at);
    }
}

/// A 32-bit difference as a 64-bit one.
#[inline(always)]
#[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "sequence number arithmetic, RFC 9293 3.4")]
fn sign_extend(difference: u32) -> u64 {
    i64::from(difference as i32) as u64
}
