//! Where the current process stands, and booking by that. What a slot is, `maps` says; the names of cgroups are in
//! `cgroup`.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use sockmeter_ebpf::conn::Outside as _;
use sockmeter_ebpf::layout::LOSS_TOTALS;
use sockmeter_ebpf::place::{CONTROLLERS, HIERARCHIES, NO_HIERARCHY, Place, PlaceKey};

use super::atomic::add;
use super::globals::{field, offset, state};
use super::maps::{FREE_SLOTS, PLACE_SLOTS, PLACE_TOTALS};
use super::outside::Kernel;

/// `BPF_NOEXIST`.
const NEW: u64 = 1;

/// The pointer that lies at `at`; null if it cannot be read.
#[inline(always)]
pub(super) fn pointer(at: *const u8) -> *const u8 {
    u64_at(at) as usize as *const u8
}

/// The word that lies at `at`; 0 if it cannot be read.
#[inline(always)]
pub(super) fn u64_at(at: *const u8) -> u64 {
    let mut word = 0u64;
    // SAFETY: kernel memory is copied by a helper that fails instead of faulting.
    unsafe { bpf_probe_read_kernel((&raw mut word).cast(), 8, at.cast::<c_void>()) };
    word
}

/// The id of a cgroup.
#[inline(always)]
pub(super) fn id_of(cgroup: *const u8) -> u64 {
    let node = pointer(cgroup.wrapping_add(offset(field::CGROUP_NODE)));
    u64_at(node.wrapping_add(offset(field::NODE_ID)))
}

/// Where a process stands.
#[inline(always)]
pub(super) fn of(task: *const u8) -> Place {
    let mut place = Place { key: PlaceKey { cgroups: [0; HIERARCHIES] }, started: 0 };
    let set = pointer(task.wrapping_add(offset(field::TASK_CGROUPS)));
    place.key.cgroups[0] = id_of(pointer(set.wrapping_add(offset(field::SET_UNIFIED))));
    let mut controller = 0;
    while controller < CONTROLLERS.len() {
        let index = state(controller);
        if index != NO_HIERARCHY {
            let at = set.wrapping_add(offset(field::SET_STATES) + 8 * index as usize);
            let cgroup = pointer(pointer(at).wrapping_add(offset(field::STATE_CGROUP)));
            place.key.cgroups[controller + 1] = id_of(cgroup);
        }
        controller += 1;
    }
    let leader = pointer(task.wrapping_add(offset(field::GROUP_LEADER)));
    place.started = u64_at(leader.wrapping_add(offset(field::TASK_STARTED)));
    place
}

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
