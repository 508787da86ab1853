//! Keeping and finding bytes that arrived early. Several CPUs may put in at once, only the holder of the connection's
//! try-lock (receive) or of the socket's lock (send) takes out.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use sockmeter_ebpf::conn::{Outside as _, Steps};
use sockmeter_ebpf::http::side::NEVER;
use sockmeter_ebpf::stash::{APPENDED, BLOCK, Block, FILLING, FREE, ITEMS, Item, READY, Stash};

use super::atomic::{claim, set};
use super::bounds;
use super::maps::{BLOCKS, FREE_BLOCKS, STASH, STASHED};
use super::outside::Kernel;

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

/// Keeps `len` bytes at `from` that are in a block already; false if there is no room.
#[inline(always)]
pub(super) fn keep_block(stash: &mut Stash, direction: usize, from: u64, len: u32, block: u32) -> bool {
    let Some(item) = take(stash, direction, NEVER) else {
        return false;
    };
    // SAFETY: claimed above, nobody else writes it.
    let item = unsafe { &mut *item };
    item.from = from;
    item.len = len;
    item.block = block;
    set(&raw mut item.state, READY);
    super::atomic::count(&raw mut stash.arrivals[direction & 1]);
    true
}

/// Copies the `len` bytes at `at` in a packet into a block of their own; `None` if there is none, or if they are too many.
#[inline(always)]
pub(super) fn block_of(skb: *mut __sk_buff, at: u32, len: u32) -> Option<u32> {
    let Ok(Some(block)) = FREE_BLOCKS.pop() else {
        return None;
    };
    in_use(1);
    let piece = Piece { skb, direction: 0, at, from: 0, len };
    if piece.copy::<BLOCK>(block, 0) {
        return Some(block);
    }
    give_back(block);
    None
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
        if !self.copy::<BLOCK>(block, 0) {
            give_back(block);
            set(&raw mut item.state, FREE);
            return false;
        }
        item.from = self.from;
        item.len = self.len;
        item.block = block;
        set(&raw mut item.state, READY);
        true
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

/// Looks for an item to claim. Wide fields only: see `Finding`.
struct Claiming {
    items: *mut Item,
    cursor: *mut u32,
    /// Where the bytes of the wanted item end; `NEVER`: a free one is wanted.
    end: u64,
    /// 1 + the number of the item.
    claimed: u64,
}

impl Steps for Claiming {
    #[inline(always)]
    fn step(&mut self) -> bool {
        let index = following(self.cursor);
        let item = item(self.items, index);
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
            self.claimed = u64::from(index) + 1;
            return false;
        }
        true
    }
}

/// Claims a free item, or the one whose bytes end at `end`.
#[inline(always)]
fn take(stash: &mut Stash, direction: usize, end: u64) -> Option<*mut Item> {
    let claimed = claim_item(stash, direction as u32, end);
    if claimed == 0 { None } else { Some(item(items(stash, direction), claimed - 1)) }
}

/// 1 + the number of the item, 0 if there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn claim_item(stash: *mut Stash, direction: u32, end: u64) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    let Some(stash) = (unsafe { stash.as_mut() }) else {
        return 0;
    };
    let direction = direction as usize;
    let cursor = &raw mut stash.cursors[direction & 1][0];
    let mut claiming = Claiming { items: items(stash, direction), cursor, end, claimed: 0 };
    Kernel::repeat(ITEMS, &mut claiming);
    claiming.claimed as u32
}

#[inline(always)]
fn items(stash: &mut Stash, direction: usize) -> *mut Item {
    (&raw mut stash.items[direction & 1]).cast()
}

/// The number under the cursor, which moves on. It goes round, so a search may begin anywhere.
#[inline(always)]
fn following(cursor: *mut u32) -> u32 {
    // SAFETY: a field of socket storage. Others that put in may move it too: they all try every item.
    unsafe {
        let index = cursor.read_volatile();
        cursor.write_volatile(index.wrapping_add(1));
        index & (ITEMS - 1)
    }
}

/// The item of this number; the verifier sees that there is one.
#[inline(always)]
fn item(items: *mut Item, index: u32) -> *mut Item {
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
        let item = item(self.items, following(self.cursor));
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

/// Gives a block back.
#[inline(always)]
pub(super) fn give_back(block: u32) {
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
