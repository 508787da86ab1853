//! Takes the kernel programs into the agent's build: copies the object that `cargo xtask build-ebpf` made to `OUT_DIR`.
//! Without it the copy is empty and the agent refuses to start, so that `cargo check` works in a fresh clone.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Names another object than the one below `target/`.
const VARIABLE: &str = "SOCKMETER_EBPF_OBJECT";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let missing = || io::Error::other("cargo sets neither CARGO_MANIFEST_DIR nor OUT_DIR");
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or_else(missing)?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(missing)?).join("sockmeter.bpf.o");
    let given = env::var_os(VARIABLE).map(PathBuf::from);
    let usual = package.join("../target/ebpf/sockmeter.bpf.o");
    if given.is_none() {
        leave_stub(&usual);
    }
    let object = given.as_ref().unwrap_or(&usual);
    println!("cargo::rerun-if-changed={}", object.display());
    match fs::copy(object, &out) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && given.is_none() => fs::write(&out, ""),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", object.display()))),
    }
}

/// Cargo builds again every time while a file that it should watch is missing. An empty one keeps it quiet until the
/// real one comes; if it cannot be made, for example in a read-only tree, builds are only slower.
fn leave_stub(object: &Path) {
    if !object.exists() && object.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok()) {
        let _ = fs::write(object, "");
    }
}
