//! The state of one observed connection, kept in its socket's storage. How packets move it is `walk`, how it turns into
//! postings `settle`.
//!
//! Two writers: the receive hook runs without the socket's lock and owns `inbound`, the request half of the entries and
//! `pushed`; whoever holds the socket's lock (the send hook, the snapshot pass, the close) owns everything else.

use core::mem::offset_of;

use crate::http::head::{REQUEST_HEAD, STATUS_LINE, room};
use crate::http::scan::Scan;
use crate::http::side::{OPAQUE, Side, TENTATIVE};
use crate::http::window::Window;
use crate::posting::{Posting, Reason};

/// Requests without an answer that are kept in the connection itself; more of them (pipelining) go to a map.
pub const INLINE: u32 = 2;

/// A request that was read and waits for its answer, and the answer as far as it is known.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Position of the request's first byte.
    pub start: u64,
    /// Position behind its head.
    pub head_end: u64,
    /// Position behind the request; `NEVER` while a chunked body goes on.
    pub end: u64,
    /// Position behind the answer; valid once `Conn::answered` passed this entry.
    pub answer_end: u64,
    /// When the request's body ended; 0 while it goes on, or if there is none.
    pub received: u64,
    /// Number of the request on its connection, from 1; 0 in a free entry.
    pub number: u32,
    /// `METHOD_...` of `http::head`.
    pub method: u8,
    /// Spelled-out padding.
    pub pad: [u8; 3],
    /// What will be posted ...
    pub posting: Posting,
    /// ... and, right behind it, the beginning of the request.
    pub head: [u8; REQUEST_HEAD],
}

/// An answer that was read before its request was published.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Early {
    /// Position behind it.
    pub end: u64,
    /// Body bytes.
    pub body: u64,
    /// When it ended.
    pub ended: u64,
}

/// One observed connection. What every packet needs comes first (but for those within a body, see `crate::body`), and each group of fields that are used together begins with a
/// cache line: the kernel puts eight bytes of its own in front of a socket's value, and the whole into a block of 2 KiB
/// (`include/linux/bpf_local_storage.h`, `struct bpf_local_storage_elem`).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Conn {
    /// Requests read.
    pub pushed: u32,
    /// Requests answered.
    pub answered: u32,
    /// Exchanges posted.
    pub emitted: u32,
    /// Try-lock of the receive hook: 1 while a packet is being read.
    pub busy: u32,
    /// Requests whose heads were counted: TCP has them whole.
    pub heads: u32,
    /// Where the payload of the packet that is being read begins in it ...
    pub payload: u32,
    /// ... and its stream positions, from and until. They belong to the holder of `busy`.
    pub reading: [u64; 2],
    /// Of `heads`, those that were posted.
    pub heads_posted: u32,
    /// Postings made.
    pub postings: u32,
    /// Status of the answer that is being read, once its head is complete.
    pub status: u16,
    /// Status code of `early`; 0 if there is no early answer.
    pub early_status: u16,
    /// 1: the connection ended; nothing may touch it any more.
    pub closed: u8,
    /// 1 + `Reason`: answers cannot be read any more, drop what waits for one.
    pub cut: u8,
    /// 1: the receive hook found a beginning, the other side is to begin anew too.
    pub resume: u8,
    /// 1: something went out since something came in (only kept while nothing is read).
    pub turned: u8,
    /// What the service sends.
    pub outbound: Side,
    /// Stream positions up to which bytes were posted, `[inbound, outbound]`.
    pub booked: [u64; 2],
    /// What was posted as open.
    pub open: [u64; 2],
    /// What the client sends.
    pub inbound: Side,
    /// Socket cookie.
    pub cookie: u64,
    /// Bytes of exchanges whose posting found the ring full.
    pub lost: [u64; 2],
    /// Number of the service.
    pub service: u16,
    /// What `note_user` notes, its lower part ...
    pub user_low: u16,
    /// ... and its upper.
    pub user_high: u32,
    /// Time of the first byte of the request that is being read.
    pub began: u64,
    /// See `Early`.
    pub early: Early,
    /// Captured status line.
    pub status_line: [u8; room(STATUS_LINE)],
    /// Captured request head.
    pub request_head: [u8; room(REQUEST_HEAD)],
    /// The first waiting requests.
    pub entries: [Entry; INLINE as usize],
}

const _: () = assert!(size_of::<Entry>() == 48 + size_of::<Posting>() + REQUEST_HEAD);
const _: () = assert!(begins_with_a_line(offset_of!(Conn, outbound)));
const _: () = assert!(begins_with_a_line(offset_of!(Conn, inbound)));
const _: () = assert!(begins_with_a_line(offset_of!(Conn, began)));
const _: () = assert!(begins_with_a_line(offset_of!(Conn, entries)));
const _: () = assert!(size_of::<Conn>() <= 2048 - 64 - 8);

/// Whether what is `at` bytes behind the beginning of a socket's value begins with a cache line.
const fn begins_with_a_line(at: usize) -> bool {
    (at + 8).is_multiple_of(64)
}

/// What the reading and the settlement need from outside: the kernel, or a test.
pub trait Outside {
    /// Nanoseconds of a monotonic clock.
    fn now(&mut self) -> u64;
    /// Appends a posting without a head to the journal; false if it is full.
    fn post(&mut self, posting: &Posting) -> bool;
    /// Appends an entry's posting and the first `posting.head_len` bytes of its head; false if the journal is full.
    fn post_entry(&mut self, entry: &Entry) -> bool;
    /// Books a posting without detail where it cannot get lost (the journal is full and the connection ends).
    fn spill(&mut self, posting: &Posting);
    /// A new entry in the overflow map; null if that is full.
    fn deep_create(&mut self, cookie: u64, number: u32) -> *mut Entry;
    /// An entry of the overflow map; null if there is none.
    fn deep(&mut self, cookie: u64, number: u32) -> *mut Entry;
    /// Removes one.
    fn deep_remove(&mut self, cookie: u64, number: u32);
    /// Takes `Conn::busy`; false if a packet is being read.
    fn take(busy: &mut u32) -> bool;
    /// Gives it back.
    fn give(busy: &mut u32);
    /// Counts a loss of detail, by `crate::layout::LOSS_...`.
    fn lost(&mut self, what: u32);
    /// `scan::line`. These six are here so that the kernel can have each verified once, by itself.
    fn line(side: &mut Side, window: &mut Window, feed: u32) -> bool;
    /// `scan::block`.
    fn block(side: &mut Side, window: &mut Window, from: u32, end: u32) -> bool;
    /// `scan::lines`, then `scan::scan`.
    fn scan(side: &mut Side, window: &mut Window, len: u32) -> Scan;
    /// `message::request_head`.
    fn request_head(conn: &mut Conn, position: u64) -> bool;
    /// `message::answer_head`.
    fn answer_head(conn: &mut Conn, position: u64) -> bool;
    /// `message::message_ended`.
    fn message_ended(conn: &mut Conn, out: bool, position: u64, ended: u64);
    /// Calls `steps.step()` until it returns false, at most `times` times (no more than 8 million, the verifier's bound).
    fn repeat<S: Steps>(times: u32, steps: &mut S);
}

/// Work in steps, so that the verifier sees one of them.
pub trait Steps {
    /// How many steps are taken before the loop begins: as many as are usual. The kernel's loop calls each step by its
    /// address, which a kernel that guards itself against branch target injection makes slower than most steps are.
    const DIRECT: u32 = 0;
    /// Whether a direct step has a stack frame of its own too. A frame that holds several steps at once is large, and all
    /// frames together must stay within 512 bytes.
    const FRAMED: bool = false;
    /// One step; false when the work is done.
    fn step(&mut self) -> bool;
}

impl Conn {
    /// All zero; `begin` or `begin_mid_stream` makes a connection of it.
    pub const ZERO: Self = Self {
        pushed: 0,
        answered: 0,
        emitted: 0,
        busy: 0,
        heads: 0,
        payload: 0,
        reading: [0; 2],
        heads_posted: 0,
        postings: 0,
        status: 0,
        early_status: 0,
        closed: 0,
        cut: 0,
        resume: 0,
        turned: 0,
        outbound: Side::ZERO,
        booked: [0; 2],
        open: [0; 2],
        inbound: Side::ZERO,
        cookie: 0,
        lost: [0; 2],
        service: 0,
        user_low: 0,
        user_high: 0,
        began: 0,
        early: Early { end: 0, body: 0, ended: 0 },
        status_line: [0; room(STATUS_LINE)],
        request_head: [0; room(REQUEST_HEAD)],
        entries: [Entry::ZERO; INLINE as usize],
    };

    /// Makes this the state of a connection at stream positions `at` (both 0 for a new one), whose next sequence
    /// numbers are `seq`.
    #[inline(always)]
    pub fn begin(&mut self, cookie: u64, service: u16, at: [u64; 2], seq: [u32; 2]) {
        self.cookie = cookie;
        self.service = service;
        self.booked = at;
        self.inbound.open_at(at[0], seq[0]);
        self.outbound.open_at(at[1], seq[1]);
        self.outbound.flags = crate::http::side::ANSWERS;
    }

    /// Makes this the state of a connection that is older than its observation, at positions `at`: nothing of it is read
    /// until a request begins. `quiet`: nothing is on its way in either direction, so that may be the next segment.
    #[inline(always)]
    pub fn begin_mid_stream(&mut self, cookie: u64, service: u16, at: [u64; 2], seq: [u32; 2], quiet: bool) {
        self.begin(cookie, service, at, seq);
        self.inbound.set_aside(at[0], Reason::MidStream as u8);
        self.outbound.set_aside(at[1], Reason::MidStream as u8);
        self.turned = u8::from(quiet);
    }

    /// Whether a request begins at `from` after all, in a connection that is not read: the service has spoken last, and
    /// nothing is on its way but this segment (`in_order`). From there it is read again.
    #[inline(always)]
    pub fn resumes(&mut self, in_order: bool, from: u64) -> bool {
        let reason = self.inbound.reason;
        let resumable =
            reason == Reason::MidStream as u8 || reason == Reason::Lost as u8 || reason == Reason::SynData as u8;
        if !resumable
            || self.turned == 0
            || self.cut != 0
            || self.resume != 0
            || self.outbound.phase != OPAQUE
            || self.emitted != self.pushed
            || self.answered != self.pushed
            || !in_order
        {
            return false;
        }
        self.turned = 0;
        self.inbound.aside_until = from;
        self.inbound.begin(from);
        self.inbound.flags |= TENTATIVE;
        self.resume = 1;
        true
    }

    /// Notes the process that was last seen to use the connection, as its socket knows it (`Socket::user`), to ask for it with each
    /// packet: its id, and of the nanosecond in which it began the lower 26 bits.
    #[inline(always)]
    pub const fn note_user(&mut self, process: u64) {
        self.user_low = process as u16;
        self.user_high = (process >> 16) as u32;
    }

    /// What was noted.
    #[inline(always)]
    #[must_use]
    pub const fn user(&self) -> u64 {
        self.user_low as u64 | (self.user_high as u64) << 16
    }

    /// Whether that was this one.
    #[inline(always)]
    #[must_use]
    pub const fn is_users(&self, process: u64) -> bool {
        self.user() == process & ((1 << 48) - 1)
    }

    /// Whether there may be something to settle.
    #[inline(always)]
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.emitted != self.answered || self.cut != 0 || self.resume != 0 || self.early_status != 0
    }

    /// The service is about to speak. If what came in has not become a request by now, it is none: it belongs to what was
    /// there before.
    #[inline(always)]
    pub fn spoken_to<O: Outside>(&mut self) {
        if self.doubts() && O::take(&mut self.busy) {
            if self.doubts() {
                self.doubt();
            }
            O::give(&mut self.busy);
        }
    }

    /// Reads no more answers: the bytes from the unfinished one on go to `reason`. The socket's lock is held.
    #[inline(always)]
    pub fn give_up_answers(&mut self, reason: u8) {
        self.cut = 1 + reason;
        // The service has spoken, though nobody knows what it said.
        self.turned = 1;
        let start = self.outbound.start;
        self.outbound.set_aside(start, reason);
    }

    /// Whether a head is being read of which it is not clear that it is one.
    #[inline(always)]
    #[must_use]
    pub fn doubts(&self) -> bool {
        self.resume != 0 && self.inbound.flags & TENTATIVE != 0
    }

    /// It is none.
    #[inline(always)]
    pub fn doubt(&mut self) {
        let (start, reason) = (self.inbound.start, self.inbound.reason);
        self.inbound.flags &= !TENTATIVE;
        self.inbound.set_aside(start, reason);
        self.resume = 0;
    }

    /// The entry of request `number` (from 0); null if there is none.
    #[inline(always)]
    pub fn entry<O: Outside>(&mut self, outside: &mut O, number: u32) -> *mut Entry {
        let entry = &mut self.entries[(number % INLINE) as usize];
        if entry.number == number.wrapping_add(1) {
            return entry;
        }
        outside.deep(self.cookie, number)
    }

    /// Whether request `number` is kept in the connection itself.
    #[inline(always)]
    #[must_use]
    pub fn is_inline(&self, number: u32) -> bool {
        self.entries[(number % INLINE) as usize].number == number.wrapping_add(1)
    }

    /// Room for request `number`; null if there is none.
    #[inline(always)]
    pub fn room<O: Outside>(&mut self, outside: &mut O, number: u32) -> *mut Entry {
        if number.wrapping_sub(self.emitted) < INLINE {
            let entry = &mut self.entries[(number % INLINE) as usize];
            entry.number = number.wrapping_add(1);
            return entry;
        }
        let entry = outside.deep_create(self.cookie, number);
        if !entry.is_null() {
            // SAFETY: a map entry that was just made, for this number alone.
            unsafe { (*entry).number = number.wrapping_add(1) };
        }
        entry
    }
}

impl Entry {
    /// A free entry.
    pub const ZERO: Self = Self {
        start: 0,
        head_end: 0,
        end: 0,
        answer_end: 0,
        received: 0,
        number: 0,
        method: 0,
        pad: [0; 3],
        posting: Posting::EMPTY,
        head: [0; REQUEST_HEAD],
    };
}
