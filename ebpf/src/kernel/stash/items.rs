//! The items of a stash: claiming one to put a piece in, finding the piece that is read next, freeing them. Several CPUs may
//! put in at once, only the holder of the connection's try-lock (receive) or of the socket's lock (send) takes out.

use sockmeter_ebpf::conn::{Outside as _, Steps};
use sockmeter_ebpf::http::side::NEVER;
use sockmeter_ebpf::stash::{Block, FILLING, FREE, ITEMS, Item, READY, Stash};

use super::give_back;
use crate::kernel::atomic::{claim, set};
use crate::kernel::maps::BLOCKS;
use crate::kernel::outside::Kernel;

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
pub(super) fn take(stash: &mut Stash, direction: usize, end: u64) -> Option<*mut Item> {
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
pub(in crate::kernel) struct Found {
    pub(in crate::kernel) from: u64,
    pub(in crate::kernel) len: u64,
    pub(in crate::kernel) block: *const Block,
}

/// Wide fields only: the compiler joins stores to neighbours, and the verifier wants them aligned on the stack.
struct Finding {
    items: *mut Item,
    cursor: *mut u32,
    want: u64,
    /// 1 + the number of the item.
    found: u64,
}

impl Steps for Finding {
    #[inline(always)]
    fn step(&mut self) -> bool {
        let index = following(self.cursor);
        let item = item(self.items, index);
        // SAFETY: a field of socket storage that other CPUs may be writing.
        if unsafe { core::ptr::read_volatile(&raw const (*item).state) } != READY {
            return true;
        }
        // SAFETY: ready items are only changed by the caller.
        let (from, len) = unsafe { ((*item).from, (*item).len) };
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
        self.found = u64::from(index) + 1;
        false
    }
}

/// The piece that covers `want`; those that lie wholly in front of it are dropped on the way.
#[inline(always)]
pub(in crate::kernel) fn find(stash: &mut Stash, direction: usize, want: u64) -> Option<Found> {
    let found = find_kept(stash, direction as u32, want);
    if found == 0 {
        return None;
    }
    let item = item(items(stash, direction), found - 1);
    // SAFETY: ready items are only changed by the caller, but for what is appended to them.
    let (from, len, block) = unsafe { ((*item).from, (*item).len, (*item).block) };
    Some(Found { from, len: u64::from(len), block: BLOCKS.get_ptr(block)? })
}

/// 1 + the number of the item, 0 if there is none. Global: see `outside`.
#[unsafe(no_mangle)]
extern "C" fn find_kept(stash: *mut Stash, direction: u32, want: u64) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    let Some(stash) = (unsafe { stash.as_mut() }) else {
        return 0;
    };
    let direction = direction as usize;
    let items = items(stash, direction);
    let cursor = &raw mut stash.cursors[direction & 1][1];
    let mut finding = Finding { items, cursor, want, found: 0 };
    Kernel::repeat(ITEMS, &mut finding);
    finding.found as u32
}

#[inline(always)]
fn drop_item(item: *mut Item) {
    // SAFETY: an item of socket storage that the caller may change.
    unsafe {
        give_back((*item).block);
        set(&raw mut (*item).state, FREE);
    }
}

/// Frees everything. Goes its own way through the items, because two CPUs may do so at once, and with one cursor each would
/// leave out what the other one came by too early.
#[inline(always)]
pub(in crate::kernel) fn clear(stash: &mut Stash) {
    clear_kept(stash, 0);
    clear_kept(stash, 1);
}

/// 0. Global: see `outside`.
#[unsafe(no_mangle)]
extern "C" fn clear_kept(stash: *mut Stash, direction: u32) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    if let Some(stash) = unsafe { stash.as_mut() } {
        let direction = direction as usize;
        // Any item may be the first. That it is read from the map keeps the verifier from following each apart.
        let index = u64::from(following(&raw mut stash.cursors[direction & 1][1]));
        let mut clearing = Clearing { items: items(stash, direction), index };
        Kernel::repeat(ITEMS, &mut clearing);
    }
    0
}

/// Frees one item a step.
struct Clearing {
    items: *mut Item,
    index: u64,
}

impl Steps for Clearing {
    #[inline(always)]
    fn step(&mut self) -> bool {
        let item = item(self.items, self.index as u32);
        self.index = (self.index + 1) & u64::from(ITEMS - 1);
        // What another CPU is filling just now, that one clears when it sees that the connection has ended.
        // SAFETY: a field of socket storage.
        if claim(unsafe { &raw mut (*item).state }, READY, FILLING) {
            drop_item(item);
        }
        true
    }
}
