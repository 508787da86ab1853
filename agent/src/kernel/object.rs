//! The kernel programs as they were built into this binary (`build.rs` puts them there).

use std::borrow::Cow;
use std::hash::Hasher as _;

use super::btf::Structures;
use super::{Refusal, casts, fields};

/// Names an object to load instead: for those who work on the programs, and for the tests.
const VARIABLE: &str = "SOCKMETER_KERNEL_OBJECT";

/// The object; empty if the binary was built without.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sockmeter.bpf.o"));

/// The object to load, for a kernel with these structures.
///
/// # Errors
/// When there is none.
pub(super) fn read(structures: &Structures) -> Result<Vec<u8>, Refusal> {
    let mut object = built()?.into_owned();
    fields::fill(&mut object, &structures.offsets);
    casts::fill(&mut object, structures.cast);
    Ok(object)
}

/// The object as it was built.
pub(super) fn built() -> Result<Cow<'static, [u8]>, Refusal> {
    let bytes = match std::env::var_os(VARIABLE) {
        Some(path) => Cow::Owned(std::fs::read(&path).map_err(|error| {
            Refusal::because(format!("cannot read the kernel object {}", path.display()), &error)
                .hint(format!("unset {VARIABLE}, and the one in this binary is used"))
        })?),
        None => Cow::Borrowed(OBJECT),
    };
    if bytes.is_empty() {
        return Err(Refusal::new("this binary was built without kernel programs, or the kernel object is empty")
            .hint("build it with `cargo xtask build`, which builds them first"));
    }
    Ok(bytes)
}

/// What is said of an object that cannot be loaded.
pub(super) fn refused(error: &aya::EbpfError) -> Refusal {
    let refusal = Refusal::because("cannot load the kernel programs", error);
    match error {
        aya::EbpfError::ParseError(_) | aya::EbpfError::BtfError(_) | aya::EbpfError::BtfRelocationError(_) => {
            refusal.hint("the kernel object is damaged: build it again with `cargo xtask build`")
        }
        _ => refusal,
    }
}

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
