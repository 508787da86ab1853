//! Numbers that user space fills in before loading; the verifier takes them for constants.

use core::ptr::read_volatile;

/// Offsets of fields in this kernel's own structures, from its BTF; indexes are `field::...`.
#[unsafe(no_mangle)]
static OFFSETS: [u32; field::COUNT] = [0; field::COUNT];

/// Inode number of the only network namespace in scope; 0: all.
#[unsafe(no_mangle)]
static ONLY_NETNS: u32 = 0;

/// Id of the cgroup that bounds the scope (`kernfs_node.id`, the inode number of its directory); 0: none does.
#[unsafe(no_mangle)]
static ONLY_CGROUP: u64 = 0;

/// Bytes in the journal from which on the reader is woken up.
#[unsafe(no_mangle)]
static JOURNAL_WAKE: u64 = 0;

pub(super) use sockmeter_ebpf::layout::field;

/// The offset of a field.
#[inline(always)]
pub(super) fn offset(field: usize) -> usize {
    // SAFETY: a static of ours; volatile, because its value is not the one that the compiler sees.
    unsafe { read_volatile(&raw const OFFSETS[field]) as usize }
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

/// See `JOURNAL_WAKE`.
#[inline(always)]
pub(super) fn journal_wake() -> u64 {
    // SAFETY: as above.
    unsafe { read_volatile(&raw const JOURNAL_WAKE) }
}
