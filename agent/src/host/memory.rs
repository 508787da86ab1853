//! Giving memory back that the start needed and the running agent does not. How much there is, is in `process`.
#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "a call of the C library that no safe crate offers"))]

/// Gives free heap back to the system. The kernel's types, some megabytes, are read into the heap at the start, and glibc
/// keeps what lies below the last block in use (malloc_trim(3)).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and locks what it touches.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
