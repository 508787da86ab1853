//! Keeping and finding bytes that arrived early. Several CPUs may put in at once, only the holder of the connection's
//! try-lock (receive) or of the socket's lock (send) takes out.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use sockmeter_ebpf::conn::{Outside as _, Steps};
use sockmeter_ebpf::http::side::NEVER;
use sockmeter_ebpf::stash::{APPENDED, BLOCK, Block, FILLING, FREE, ITEMS, Item, READY, Stash};

use super::atomic::{claim, set};
use super::maps::{BLOCKS, FREE_BLOCKS, STASH, STASHED};
use super::outside::Kernel;

/// Pieces of one segment: as many as a direction can hold.
const PIECES: u32 = ITEMS;

/// A connection's stash; `None` if nothing ever arrived early.
#[inline(always)]
pub(super) fn of(sk: *mut c_void) -> Option<&'static mut Stash> {
    STASH.of(sk, false)
}

struct Keeping {
    stash: *mut Stash,
    skb: *mut __sk_buff,
    direction: usize,
    /// Offset in the packet of the next byte to keep.
    at: u32,
    from: u64,
    until: u64,
    kept: bool,
}

/// Keeps `from..until`, which lies at `at` in the packet; false if there is no room.
#[inline(always)]
pub(super) fn keep(sk: *mut c_void, direction: usize, skb: *mut __sk_buff, at: u32, from: u64, until: u64) -> bool {
    // If another CPU makes it at the same moment, one of the two fails: then it is there.
    let Some(stash) = STASH.of(sk, true).or_else(|| STASH.of(sk, false)) else {
        return false;
    };
    let mut keeping = Keeping { stash, skb, direction, at, from, until, kept: true };
    Kernel::repeat(PIECES, &mut keeping);
    if keeping.from < until {
        keeping.kept = false;
    }
    // SAFETY: socket storage, alive as long as the program runs.
    let arrivals = &raw mut stash.arrivals[direction & 1];
    super::atomic::count(arrivals);
    keeping.kept
}

impl Steps for Keeping {
    #[inline(always)]
    fn step(&mut self) -> bool {
        if self.from >= self.until {
            return false;
        }
        // SAFETY: as in `keep`.
        let stash = unsafe { &mut *self.stash };
        let rest = self.until.wrapping_sub(self.from);
        let len = if rest > u64::from(BLOCK) { BLOCK } else { rest as u32 };
        let kept = if len <= APPENDED && self.append(stash, len) { true } else { self.put(stash, len) };
        if !kept {
            self.kept = false;
            return false;
        }
        self.from = self.from.wrapping_add(u64::from(len));
        self.at += len;
        true
    }
}

impl Keeping {
    /// Puts `len` bytes behind those that they follow.
    #[inline(always)]
    fn append(&mut self, stash: &mut Stash, len: u32) -> bool {
        let Some(item) = take(stash, self.direction, self.from) else {
            return false;
        };
        // SAFETY: claimed above, nobody else writes it.
        let item = unsafe { &mut *item };
        let have = item.len;
        let appended = have <= BLOCK - APPENDED && self.copy(item.block, have, len, APPENDED);
        if appended {
            item.len = have + len;
        }
        set(&raw mut item.state, READY);
        appended
    }

    /// Puts `len` bytes into a block of their own.
    #[inline(always)]
    fn put(&mut self, stash: &mut Stash, len: u32) -> bool {
        let Some(item) = take(stash, self.direction, NEVER) else {
            return false;
        };
        // SAFETY: claimed above, nobody else writes it.
        let item = unsafe { &mut *item };
        let Ok(Some(block)) = FREE_BLOCKS.pop() else {
            set(&raw mut item.state, FREE);
            return false;
        };
        in_use(1);
        if !self.copy(block, 0, len, BLOCK) {
            give_back(block);
            set(&raw mut item.state, FREE);
            return false;
        }
        item.from = self.from;
        item.len = len;
        item.block = block;
        set(&raw mut item.state, READY);
        true
    }

    /// Copies the next `len` bytes (at most `most`) of the packet to `offset` (at most `BLOCK - most`) in a block.
    #[inline(always)]
    fn copy(&self, block: u32, offset: u32, len: u32, most: u32) -> bool {
        let Some(to) = BLOCKS.get_ptr_mut(block) else {
            return false;
        };
        // SAFETY: locals; the verifier wants to see all bounds.
        let (len, offset) =
            unsafe { (core::ptr::read_volatile(&raw const len), core::ptr::read_volatile(&raw const offset)) };
        if len == 0 || len > most || offset > BLOCK - most {
            return false;
        }
        // SAFETY: a block has `BLOCK` bytes.
        unsafe { bpf_skb_load_bytes(self.skb.cast(), self.at, to.cast::<u8>().add(offset as usize).cast(), len) == 0 }
    }
}

/// Looks for an item to claim.
struct Claiming {
    items: *mut Item,
    cursor: *mut u32,
    /// Where the bytes of the wanted item end; `NEVER`: a free one is wanted.
    end: u64,
    claimed: *mut Item,
}

impl Steps for Claiming {
    #[inline(always)]
    fn step(&mut self) -> bool {
        let item = item(self.items, self.cursor);
        // SAFETY: a field of socket storage.
        let state = unsafe { &raw mut (*item).state };
        let mut wanted = FREE;
        if self.end != NEVER {
            // SAFETY: fields of socket storage; if another CPU changes them meanwhile, the claim fails.
            let end = unsafe { (*item).from.wrapping_add(u64::from((*item).len)) };
            if end != self.end {
                return true;
            }
            wanted = READY;
        }
        if claim(state, wanted, FILLING) {
            self.claimed = item;
            return false;
        }
        true
    }
}

/// Claims a free item, or the one whose bytes end at `end`.
#[inline(always)]
fn take(stash: &mut Stash, direction: usize, end: u64) -> Option<*mut Item> {
    let cursor = &raw mut stash.cursors[direction & 1][0];
    let mut claiming = Claiming { items: items(stash, direction), cursor, end, claimed: core::ptr::null_mut() };
    Kernel::repeat(ITEMS, &mut claiming);
    if claiming.claimed.is_null() { None } else { Some(claiming.claimed) }
}

#[inline(always)]
fn items(stash: &mut Stash, direction: usize) -> *mut Item {
    (&raw mut stash.items[direction & 1]).cast()
}

/// The item under the cursor, which moves on. It goes round, so a search may begin anywhere.
#[inline(always)]
fn item(items: *mut Item, cursor: *mut u32) -> *mut Item {
    // SAFETY: a field of socket storage. Others that put in may move it too: they all try every item.
    let index = unsafe {
        let index = cursor.read_volatile();
        cursor.write_volatile(index.wrapping_add(1));
        index
    };
    items.wrapping_add((index & (ITEMS - 1)) as usize)
}

/// A piece that is to be read next.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) from: u64,
    pub(super) len: u64,
    pub(super) block: *const Block,
}

/// Wide fields only: the compiler joins stores to neighbours, and the verifier wants them aligned on the stack.
struct Finding {
    items: *mut Item,
    cursor: *mut u32,
    want: u64,
    from: u64,
    len: u64,
    block: u64,
    found: u64,
}

impl Steps for Finding {
    #[inline(always)]
    fn step(&mut self) -> bool {
        let item = item(self.items, self.cursor);
        // SAFETY: a field of socket storage that other CPUs may be writing.
        if unsafe { core::ptr::read_volatile(&raw const (*item).state) } != READY {
            return true;
        }
        // SAFETY: ready items are only changed by the caller.
        let (from, len, block) = unsafe { ((*item).from, (*item).len, (*item).block) };
        let until = from.wrapping_add(u64::from(len));
        if until <= self.want {
            // Somebody may be appending to it just now: then it is dropped the next time.
            // SAFETY: a field of socket storage.
            if claim(unsafe { &raw mut (*item).state }, READY, FILLING) {
                drop_item(item);
            }
            return true;
        }
        if from > self.want {
            return true;
        }
        self.from = from;
        self.len = u64::from(len);
        self.block = u64::from(block);
        self.found = 1;
        false
    }
}

/// The piece that covers `want`; those that lie wholly in front of it are dropped on the way.
#[inline(always)]
pub(super) fn find(stash: &mut Stash, direction: usize, want: u64) -> Option<Found> {
    let block = find_kept(stash, direction as u32, want);
    if block == 0 {
        return None;
    }
    let block = BLOCKS.get_ptr(block - 1)?;
    Some(Found { from: stash.found_from, len: stash.found_len, block })
}

/// 1 + the number of the block, 0 if there is none; where it lies is left in the stash. Global: see `outside`.
#[unsafe(no_mangle)]
extern "C" fn find_kept(stash: *mut Stash, direction: u32, want: u64) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    let Some(stash) = (unsafe { stash.as_mut() }) else {
        return 0;
    };
    let direction = direction as usize;
    let items = items(stash, direction);
    let cursor = &raw mut stash.cursors[direction & 1][1];
    let mut finding = Finding { items, cursor, want, from: 0, len: 0, block: 0, found: 0 };
    Kernel::repeat(ITEMS, &mut finding);
    if finding.found == 0 {
        return 0;
    }
    stash.found_from = finding.from;
    stash.found_len = finding.len;
    finding.block as u32 + 1
}

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

#[inline(always)]
fn drop_item(item: *mut Item) {
    // SAFETY: an item of socket storage that the caller may change.
    unsafe {
        give_back((*item).block);
        set(&raw mut (*item).state, FREE);
    }
}

/// Frees everything.
#[inline(always)]
pub(super) fn clear(stash: &mut Stash) {
    let _ = find(stash, 0, u64::MAX);
    let _ = find(stash, 1, u64::MAX);
}
