//! Lengths that the verifier can see the bounds of. What is copied with them is the callers'.

/// Whether `len` is from 1 to `most`.
#[inline(always)]
pub(super) fn is_within(len: u32, most: u32) -> bool {
    len.wrapping_sub(1) < most
}

/// `len`, of which `is_within` holds; right in front of the call that copies so many bytes. `MOST` is a power of two.
///
/// The compiler knows the bounds, and would take away what tells them to the verifier; hence the detour over memory. Old
/// verifiers learn nothing from a comparison with zero (before 6.8, `reg_set_min_max` in `kernel/bpf/verifier.c`) and
/// little from a number that lay on the stack meanwhile; every one learns from a mask.
#[inline(always)]
pub(super) fn sized<const MOST: u32>(len: u32) -> u32 {
    const { assert!(MOST.is_power_of_two(), "a mask") };
    let less = len.wrapping_sub(1);
    // SAFETY: a local.
    let less = unsafe { core::ptr::read_volatile(&raw const less) };
    (less & (MOST - 1)) + 1
}
