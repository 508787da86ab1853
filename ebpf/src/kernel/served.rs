//! Which connections packets have to do with, by local port: noted when one begins, asked for each packet.

use core::ptr::read_volatile;

use sockmeter_ebpf::served::{PortSet, Served};

use super::atomic::mark;
use super::maps::SERVED;

/// Notes that connections are accepted at this port. Before anything is kept of one that says so.
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
    // SAFETY: a field of an array map's element; whoever notes the same at once sets the same bit.
    unsafe {
        if !(*set).has(port) {
            mark(&raw mut (*set).0[word], bit);
        }
    }
}

/// Whether something was accepted at this port.
#[inline(always)]
pub(super) fn is_accepted(port: u16) -> bool {
    is_in(port, |served| &served.accepted)
}

/// Whether something is observed at this port.
#[inline(always)]
pub(super) fn is_observed(port: u16) -> bool {
    is_in(port, |served| &served.observed)
}

#[inline(always)]
fn is_in(port: u16, set: impl Fn(&Served) -> &PortSet) -> bool {
    let (word, bit) = PortSet::place(port);
    // SAFETY: an element of an array map; volatile, because others set bits meanwhile.
    SERVED.get_ptr(0).is_none_or(|served| unsafe { read_volatile(&raw const set(&*served).0[word]) } & bit != 0)
}
