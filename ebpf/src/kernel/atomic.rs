//! Atomic operations of the instruction set. `core::sync::atomic` has none for this target, though the kernel does.

use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xadd, atomic_xchg};

const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;

/// Adds to a counter that other CPUs add to.
#[inline(always)]
pub(super) fn add(counter: *mut u64, value: u64) {
    // SAFETY: callers pass fields of map values, which the verifier checks.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, value) };
}

/// Takes a lock word; false if somebody has it.
#[inline(always)]
pub(super) fn take(word: *mut u32) -> bool {
    // SAFETY: as in `add`.
    unsafe { atomic_xchg::<u32, ORDER>(word, 1) == 0 }
}

/// Gives a lock word back.
#[inline(always)]
pub(super) fn give(word: *mut u32) {
    // SAFETY: as in `add`.
    unsafe { atomic_xchg::<u32, ORDER>(word, 0) };
}

/// Replaces `from` by `to`; false if the word was something else.
#[inline(always)]
pub(super) fn claim(word: *mut u32, from: u32, to: u32) -> bool {
    // SAFETY: as in `add`.
    unsafe { atomic_cxchg::<u32, ORDER, ORDER>(word, from, to) }.1
}

/// Puts an address into a word that has none; false if it has one.
#[inline(always)]
pub(super) fn claim_address(word: *mut u64, address: *mut c_void) -> bool {
    // SAFETY: as in `add`.
    unsafe { atomic_cxchg::<u64, ORDER, ORDER>(word, 0, address.expose_provenance() as u64) }.1
}

/// Takes the address out of such a word.
#[inline(always)]
pub(super) fn give_address(word: *mut u64) {
    // SAFETY: as in `add`.
    unsafe { atomic_xchg::<u64, ORDER>(word, 0) };
}

/// Sets a word, after all stores in front of it.
#[inline(always)]
pub(super) fn set(word: *mut u32, value: u32) {
    // SAFETY: as in `add`.
    unsafe { atomic_xchg::<u32, ORDER>(word, value) };
}

/// Adds one.
#[inline(always)]
pub(super) fn count(word: *mut u32) {
    // SAFETY: as in `add`.
    unsafe { atomic_xadd::<u32, u32, ORDER>(word, 1) };
}

/// `*mark = max(*mark, value)`, while other CPUs do the same.
#[inline(always)]
pub(super) fn raise(mark: *mut u64, value: u64) {
    let mut tries = 0;
    while tries < 4 {
        // SAFETY: as in `add`.
        let old = unsafe { mark.read_volatile() };
        // SAFETY: as in `add`.
        if old >= value || unsafe { atomic_cxchg::<u64, ORDER, ORDER>(mark, old, value) }.1 {
            return;
        }
        tries += 1;
    }
}

/// Brings a counter that only grows up to `to`; by how much, which nobody else is told. Two may do so at once, of whom one
/// holds the socket's lock: so who is beaten once is not beaten twice.
#[inline(always)]
pub(super) fn advance(counter: *mut u64, to: u64) -> u64 {
    let first = advance_once(counter, to);
    match first {
        Ok(by) => by,
        Err(()) => advance_once(counter, to).unwrap_or(0),
    }
}

#[inline(always)]
fn advance_once(counter: *mut u64, to: u64) -> Result<u64, ()> {
    // SAFETY: as in `add`.
    let old = unsafe { counter.read_volatile() };
    // A counter behind what was booked is one that was read earlier; never let it become a huge difference.
    if old >= to {
        return Ok(0);
    }
    // SAFETY: as in `add`.
    if unsafe { atomic_cxchg::<u64, ORDER, ORDER>(counter, old, to) }.1 { Ok(to - old) } else { Err(()) }
}

/// Sets bits, while other CPUs do the same; what the word was.
#[inline(always)]
pub(super) fn mark(word: *mut u32, bits: u32) -> u32 {
    // SAFETY: as in `add`.
    unsafe { atomic_or::<u32, u32, ORDER>(word, bits) }
}

/// What is read in front of this is read before what is read behind it, on every processor: an operation that gives back what it
/// found orders all others (`Documentation/bpf/standardization/instruction-set.rst` leaves that to the kernel, whose
/// `Documentation/atomic_t.txt` says so).
#[inline(always)]
pub(super) fn barrier(word: *mut u64) {
    // SAFETY: as in `add`; adding 0 changes nothing. The result is looked at, else the operation would not give it back.
    let found = unsafe { atomic_xadd::<u64, u64, ORDER>(word, 0) };
    core::hint::black_box(found);
}
