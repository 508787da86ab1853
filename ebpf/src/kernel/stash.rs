//! Keeping bytes that arrived early. Finding them, and the items they are kept in, are in `items`.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_skb_load_bytes};
use sockmeter_ebpf::conn::{Outside as _, Steps};
use sockmeter_ebpf::http::side::NEVER;
use sockmeter_ebpf::stash::{APPENDED, BLOCK, FREE, ITEMS, READY, Stash};

use super::atomic::set;
use super::bounds;
use super::maps::{BLOCKS, FREE_BLOCKS, STASH, STASHED};
use super::outside::Kernel;

mod items;

use items::take;
pub(super) use items::{clear, find};

/// Pieces of one segment: as many as a direction can hold.
const PIECES: u32 = ITEMS;

/// A connection's stash; `None` if nothing ever arrived early.
#[inline(always)]
pub(super) fn of(sk: *mut c_void) -> Option<&'static mut Stash> {
    STASH.of(sk, false)
}

/// Keeping a segment, a piece for each block.
struct Keeping {
    skb: *mut __sk_buff,
    stash: *mut Stash,
    /// See `place`.
    place: u64,
    from: u64,
    until: u64,
}

/// Offset in the packet of the next byte to keep, and the direction above it: five arguments are all that a function of
/// the kernel's can have.
#[inline(always)]
fn place(at: u32, direction: usize) -> u64 {
    u64::from(at) | ((direction as u64) << 32)
}

/// Keeps `from..until`, which lies at `at` in the packet; false if there is no room.
#[inline(always)]
pub(super) fn keep(sk: *mut c_void, direction: usize, skb: *mut __sk_buff, at: u32, from: u64, until: u64) -> bool {
    // If another CPU makes it at the same moment, one of the two fails: then it is there.
    let Some(stash) = STASH.of(sk, true).or_else(|| STASH.of(sk, false)) else {
        return false;
    };
    let mut keeping = Keeping { skb, stash: &raw mut *stash, place: place(at, direction), from, until };
    Kernel::repeat(PIECES, &mut keeping);
    super::atomic::count(&raw mut stash.arrivals[direction & 1]);
    keeping.from >= until
}

// The functions below are global: see `outside`. Seen within the loops that call them, kernel 7.2 gives up after a million
// instructions.

impl Steps for Keeping {
    #[inline(always)]
    fn step(&mut self) -> bool {
        if self.from >= self.until {
            return false;
        }
        let rest = self.until.wrapping_sub(self.from);
        let len = if rest > u64::from(BLOCK) { u64::from(BLOCK) } else { rest };
        if keep_piece(self.skb, self.stash, self.place, self.from, len as u32) == 0 {
            return false;
        }
        self.from = self.from.wrapping_add(len);
        self.place = self.place.wrapping_add(len);
        true
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn keep_piece(skb: *mut __sk_buff, stash: *mut Stash, place: u64, from: u64, len: u32) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    let Some(stash) = (unsafe { stash.as_mut() }) else {
        return 0;
    };
    let piece = Piece { skb, direction: (place >> 32) as usize, at: place as u32, from, len };
    u32::from((len <= APPENDED && piece.append(stash)) || piece.put(stash))
}

/// Keeps the `len` bytes at `bytes`, at most `BLOCK`; false if there is no room.
#[inline(always)]
pub(super) fn keep_copy(stash: &mut Stash, direction: usize, from: u64, len: u32, bytes: *const u8) -> bool {
    let copy = |block| {
        let Some(to) = BLOCKS.get_ptr_mut(block) else {
            return false;
        };
        // SAFETY: a block has `BLOCK` bytes; kernel memory is copied by a helper that fails instead of faulting.
        bounds::is_within(len, BLOCK)
            && unsafe { bpf_probe_read_kernel(to.cast(), bounds::sized::<BLOCK>(len), bytes.cast()) } == 0
    };
    let kept = put(stash, direction, from, len, copy);
    if kept {
        super::atomic::count(&raw mut stash.arrivals[direction & 1]);
    }
    kept
}

/// Puts `len` bytes into a block of their own, into which `copy` copies them.
#[inline(always)]
fn put(stash: &mut Stash, direction: usize, from: u64, len: u32, copy: impl FnOnce(u32) -> bool) -> bool {
    let Some(item) = take(stash, direction, NEVER) else {
        return false;
    };
    // SAFETY: claimed above, nobody else writes it.
    let item = unsafe { &mut *item };
    let Ok(Some(block)) = FREE_BLOCKS.pop() else {
        set(&raw mut item.state, FREE);
        return false;
    };
    in_use(1);
    if !copy(block) {
        give_back(block);
        set(&raw mut item.state, FREE);
        return false;
    }
    item.from = from;
    item.len = len;
    item.block = block;
    set(&raw mut item.state, READY);
    true
}

/// A piece of a segment that is to be kept.
struct Piece {
    skb: *mut __sk_buff,
    direction: usize,
    /// Offset in the packet.
    at: u32,
    from: u64,
    /// At most `BLOCK`.
    len: u32,
}

impl Piece {
    /// Puts it behind what it follows.
    #[inline(always)]
    fn append(&self, stash: &mut Stash) -> bool {
        let Some(item) = take(stash, self.direction, self.from) else {
            return false;
        };
        // SAFETY: claimed above, nobody else writes it.
        let item = unsafe { &mut *item };
        let have = item.len;
        let appended = have <= BLOCK - APPENDED && self.copy::<APPENDED>(item.block, have);
        if appended {
            item.len = have + self.len;
        }
        set(&raw mut item.state, READY);
        appended
    }

    /// Puts it into a block of its own.
    #[inline(always)]
    fn put(&self, stash: &mut Stash) -> bool {
        put(stash, self.direction, self.from, self.len, |block| self.copy::<BLOCK>(block, 0))
    }

    /// Copies it to `offset` (at most `BLOCK - MOST`) in a block, if it has at most `MOST` bytes.
    #[inline(always)]
    fn copy<const MOST: u32>(&self, block: u32, offset: u32) -> bool {
        let Some(to) = BLOCKS.get_ptr_mut(block) else {
            return false;
        };
        if !bounds::is_within(self.len, MOST) {
            return false;
        }
        // SAFETY: a local; see `bounds`.
        let offset = unsafe { core::ptr::read_volatile(&raw const offset) };
        if offset > BLOCK - MOST {
            return false;
        }
        // SAFETY: a block has `BLOCK` bytes.
        unsafe {
            bpf_skb_load_bytes(
                self.skb.cast(),
                self.at,
                to.cast::<u8>().add(offset as usize).cast(),
                bounds::sized::<MOST>(self.len),
            ) == 0
        }
    }
}

/// Gives a block back.
#[inline(always)]
fn give_back(block: u32) {
    let _ = FREE_BLOCKS.push(&block, 0);
    in_use(u64::MAX);
}

/// Adds to the number of blocks in use; `u64::MAX` takes one off.
#[inline(always)]
fn in_use(more: u64) {
    if let Some(count) = STASHED.get_ptr_mut(0) {
        super::atomic::add(count, more);
    }
}
