//! Booking by where the maker of a socket stood, which `task` tells. What a slot is, `maps` says; the names of cgroups are in
//! `cgroup`.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use sockmeter_ebpf::conn::Outside as _;
use sockmeter_ebpf::layout::LOSS_TOTALS;
use sockmeter_ebpf::place::{HIERARCHIES, Place, PlaceKey};

use super::atomic::add;
use super::maps::{FREE_SLOTS, PLACE_SLOTS, PLACE_TOTALS};
use super::outside::Kernel;

/// `BPF_NOEXIST`.
const NEW: u64 = 1;

/// Adds to the totals of a place; of slot 0 if it finds no room.
#[inline(always)]
pub(super) fn book(place: Option<&Place>, received: u64, sent: u64) {
    book_place(place.map_or(core::ptr::null(), core::ptr::from_ref), received, sent);
}

/// Global, so that its stack is its own: see `outside`.
#[unsafe(no_mangle)]
extern "C" fn book_place(place: *const Place, received: u64, sent: u64) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    let key = match unsafe { place.as_ref() } {
        Some(place) => place.key,
        None => PlaceKey { cgroups: [0; HIERARCHIES] },
    };
    // A slot is given back when everything that found it here before it was taken away has ended.
    let Some(totals) = PLACE_TOTALS.get_ptr_mut(slot(&key)) else {
        return 0;
    };
    // SAFETY: a map value; only additions.
    unsafe {
        add(&raw mut (*totals).received, received);
        add(&raw mut (*totals).sent, sent);
    }
    0
}

#[inline(always)]
fn slot(key: &PlaceKey) -> u32 {
    // SAFETY: the value is copied at once.
    if let Some(slot) = unsafe { PLACE_SLOTS.get(key) } {
        return *slot;
    }
    if let Ok(Some(slot)) = FREE_SLOTS.pop() {
        if let Some(totals) = PLACE_TOTALS.get_ptr_mut(slot) {
            // SAFETY: a map value that nobody else has until it is in `PLACE_SLOTS`; it was left all zero.
            unsafe {
                (*totals).key = *key;
                (*totals).first = bpf_ktime_get_ns();
            }
            if PLACE_SLOTS.insert(key, slot, NEW).is_ok() {
                return slot;
            }
            // SAFETY: as above.
            unsafe { (*totals).first = 0 };
        }
        let _ = FREE_SLOTS.push(slot, 0);
    }
    // Another CPU was faster, or there is no room.
    // SAFETY: as above.
    if let Some(slot) = unsafe { PLACE_SLOTS.get(key) } {
        return *slot;
    }
    Kernel.lost(LOSS_TOTALS);
    0
}
