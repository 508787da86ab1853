//! A window of the stream: scratch to look for lines in. What is looked for in it is `scan`.

use super::side::{self, Side};

/// Bytes of an unfinished line that are kept in front of the next window.
pub const CARRY: u32 = 128;
/// Bytes of the stream that are looked at in one step.
pub const WINDOW: u32 = 512;
/// Bytes that are looked at together.
pub(super) const BLOCK: u32 = 64;
/// Room for a carry and a window and, with `word`'s mask, a size that the verifier can follow.
const SIZE: usize = 1024 + 16;
/// Scratch: `CARRY` bytes of an unfinished line, then up to `WINDOW` fresh bytes.
#[repr(C)]
#[derive(Debug, Clone)]
pub struct Window {
    bytes: [u8; SIZE],
    /// Always 0, which the verifier cannot know: see `Window::blur`.
    zero: u32,
    /// A `Scan`'s fields, to hand over from one function of the kernel side to another.
    pub(super) used: u32,
    pub(super) chunk: u64,
    pub(super) first_line_feed: u32,
    pub(super) skipped: u32,
    /// Where a scan is.
    pub(super) lines: Lines,
}

/// How far a scan has come: window indexes. Here and not on the stack, because what the verifier knows of a value there it
/// follows apart for each combination: 521,000 instructions on kernel 7.2, of the million that it looks at.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    /// Where the block begins that is being looked at.
    pub(super) block: u32,
    /// Where the unfinished line begins.
    pub(super) line: u32,
    /// Where the last finished line begins.
    pub(super) start: u32,
    /// Where the value of a `Content-Length` begins; 0: none seen.
    pub(super) length_at: u32,
    /// Where the last `Transfer-Encoding` line ends; 0: none seen.
    pub(super) coding_end: u32,
    pub(super) first_line_feed: u32,
    pub(super) skipped: u32,
    /// 0: not yet.
    pub(super) stop: u16,
    /// 1: a line that does not begin like one of those that matter can be passed over.
    pub(super) plain: u16,
}

impl Lines {
    /// The unfinished line begins at `line`.
    #[inline(always)]
    pub(super) const fn from(line: u32) -> Self {
        let (length_at, coding_end, first_line_feed, skipped, stop, plain) = (0, 0, 0, 0, 0, 0);
        Self { block: 0, line, start: line, length_at, coding_end, first_line_feed, skipped, stop, plain }
    }
}

impl Window {
    /// An empty window (for user space; in the kernel it lies in a map).
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; SIZE], zero: 0, used: 0, chunk: 0, first_line_feed: 0, skipped: 0, lines: Lines::from(0) }
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

    /// Goes to the block at `from`.
    #[inline(always)]
    pub(super) fn go_to_block(&mut self, from: u32) {
        self.lines.block = from;
    }

    /// The word at `at` (modulo the block's length) in that block.
    #[inline(always)]
    pub(super) fn word_of_block(&self, at: u32) -> u64 {
        // Read and masked each time: masked once, in front of the loop, the verifier of 6.1 refuses it.
        // SAFETY: a field of ours; volatile, so that the compiler, which knows the value, leaves the mask.
        let from = unsafe { core::ptr::read_volatile(&raw const self.lines.block) } & (1023 & !(BLOCK - 1));
        let at = at & (BLOCK - 8);
        // SAFETY: a block lies within the first 1,024 bytes.
        u64::from_le(unsafe { self.bytes.as_ptr().add(from as usize).add(at as usize).cast::<u64>().read_unaligned() })
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
    pub(super) fn keep(&self, side: &mut Side, end: u32, len: u32) {
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
