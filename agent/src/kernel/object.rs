//! The kernel programs as they were built into this binary (`build.rs` puts them there).

use std::hash::Hasher as _;

/// The object; empty if the binary was built without.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sockmeter.bpf.o"));

/// Tells one object from another: what is attached may be kept only if it came from the same.
pub(super) fn fingerprint(object: &[u8]) -> u64 {
    // FNV-1a: stable over builds and machines, which the standard library's hasher does not promise.
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(object);
    hasher.finish()
}

struct Fnv(u64);

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
