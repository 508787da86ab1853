//! Which connections packets have to do with, by local port: noted when one begins, asked for each packet.

use core::ptr::read_volatile;

use sockmeter_ebpf::served::PortSet;

use super::atomic::mark;
use super::maps::SERVED;

/// Notes that connections are accepted at this port. Under the lock of one, so before it sends anything as its user's.
#[inline(always)]
pub(super) fn note_accepted(port: u16) {
    if let Some(served) = SERVED.get_ptr_mut(0) {
        // SAFETY: a field of an array map's element.
        note(unsafe { &raw mut (*served).accepted }, port);
    }
}

/// Notes that connections to this port are observed. Before one says so.
#[inline(always)]
pub(super) fn note_observed(port: u16) {
    if let Some(served) = SERVED.get_ptr_mut(0) {
        // SAFETY: a field of an array map's element.
        note(unsafe { &raw mut (*served).observed }, port);
    }
}

#[inline(always)]
fn note(set: *mut PortSet, port: u16) {
    let (word, bit) = PortSet::place(port);
    if !has(set, port) {
        // SAFETY: a field of an array map's element.
        mark(unsafe { &raw mut (*set).0[word] }, bit);
    }
}

/// Volatile, because others set bits meanwhile.
#[inline(always)]
fn has(set: *const PortSet, port: u16) -> bool {
    let (word, bit) = PortSet::place(port);
    // SAFETY: a field of an array map's element.
    unsafe { read_volatile(&raw const (*set).0[word]) & bit != 0 }
}

/// Whether something was accepted at this port.
#[inline(always)]
pub(super) fn is_accepted(port: u16) -> bool {
    // SAFETY: a field of an array map's element.
    SERVED.get_ptr(0).is_none_or(|served| has(unsafe { &raw const (*served).accepted }, port))
}

/// Whether something is observed at this port.
#[inline(always)]
pub(super) fn is_observed(port: u16) -> bool {
    // SAFETY: as above.
    SERVED.get_ptr(0).is_none_or(|served| has(unsafe { &raw const (*served).observed }, port))
}
