//! Numbers that user space fills in before loading; the verifier takes them for constants.

use core::arch::asm;
use core::ptr::read_volatile;

use sockmeter_ebpf::place::{CONTROLLERS, HIERARCHIES, NO_HIERARCHY};

/// Inode number of the only network namespace in scope; 0: all.
#[unsafe(no_mangle)]
static ONLY_NETNS: u32 = 0;

/// Id of the cgroup that bounds the scope (`kernfs_node.id`, the inode number of its directory); 0: none does.
#[unsafe(no_mangle)]
static ONLY_CGROUP: u64 = 0;

/// Index in `css_set.subsys` of each of `CONTROLLERS` that has a version 1 hierarchy, else `NO_HIERARCHY`.
#[unsafe(no_mangle)]
static STATES: [u32; CONTROLLERS.len()] = [NO_HIERARCHY; CONTROLLERS.len()];

/// Numbers of the hierarchies whose cgroups' names are kept: those of `PlaceKey::cgroups`, in that order.
#[unsafe(no_mangle)]
static NUMBERS: [u32; HIERARCHIES] = [NO_HIERARCHY; HIERARCHIES];

/// Whether UDP sockets are followed: 1, or 0.
#[unsafe(no_mangle)]
static FOLLOW_UDP: u32 = 1;

/// Bytes in the journal, a power of two, by which the reader is woken up each time that it has filled by as many more.
#[unsafe(no_mangle)]
static JOURNAL_WAKE: u64 = 0;

pub(super) use sockmeter_ebpf::layout::field;

/// The offset of a field in this kernel's own structures, from its BTF: user space writes it into the instruction that stands here.
/// In a map it would be one more cache line to wait for with each packet, and as many instructions again.
#[inline(always)]
pub(super) fn offset<const FIELD: usize>() -> usize {
    let offset: usize;
    // SAFETY: gives a register a value, and does nothing else.
    unsafe {
        asm!(
            "{offset} = {place} ll",
            offset = out(reg) offset,
            place = const field::place(FIELD),
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    offset
}

/// See `ONLY_NETNS`.
#[inline(always)]
pub(super) fn only_netns() -> u32 {
    // SAFETY: as above.
    unsafe { read_volatile(&raw const ONLY_NETNS) }
}

/// See `ONLY_CGROUP`.
#[inline(always)]
pub(super) fn only_cgroup() -> u64 {
    // SAFETY: as above.
    unsafe { read_volatile(&raw const ONLY_CGROUP) }
}

/// See `FOLLOW_UDP`.
#[inline(always)]
pub(super) fn follows_udp() -> bool {
    // SAFETY: as above.
    unsafe { read_volatile(&raw const FOLLOW_UDP) != 0 }
}

/// See `JOURNAL_WAKE`.
#[inline(always)]
pub(super) fn journal_wake() -> u64 {
    // SAFETY: as above.
    unsafe { read_volatile(&raw const JOURNAL_WAKE) }
}

/// See `STATES`.
#[inline(always)]
pub(super) fn state(controller: usize) -> u32 {
    // SAFETY: as above.
    unsafe { read_volatile(&raw const STATES[controller]) }
}

/// See `NUMBERS`.
#[inline(always)]
pub(super) fn number(hierarchy: usize) -> u32 {
    // SAFETY: as above.
    unsafe { read_volatile(&raw const NUMBERS[hierarchy]) }
}
