//! Lengths that the verifier can see the bounds of. What is copied with them is the callers'.

/// `len`, if it is from 1 to `most`.
///
/// The compiler often knows the bounds, and would take away the comparisons that tell them to the verifier; hence the
/// detour over memory. And verifiers before 6.8 learn nothing from a comparison with zero (`reg_set_min_max` in
/// `kernel/bpf/verifier.c`), but every one learns an upper bound: so the length goes over memory less one.
#[inline(always)]
pub(super) fn within(len: u32, most: u32) -> Option<u32> {
    let less = len.wrapping_sub(1);
    // SAFETY: a local.
    let less = unsafe { core::ptr::read_volatile(&raw const less) };
    if less < most { Some(less + 1) } else { None }
}
