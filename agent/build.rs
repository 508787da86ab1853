//! Puts the kernel programs into the binary: `target/ebpf/sockmeter.bpf.o`, which `cargo xtask build-ebpf` made, or an
//! empty file, so that the agent can be checked without a kernel toolchain; such a binary refuses to start.
use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let built = env::var_os("SOCKMETER_EBPF_OBJECT")
        .map_or_else(|| root.join("../target/ebpf/sockmeter.bpf.o"), PathBuf::from);
    let to = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("sockmeter.bpf.o");
    println!("cargo::rerun-if-env-changed=SOCKMETER_EBPF_OBJECT");
    println!("cargo::rerun-if-changed={}", built.display());
    let object = if built.exists() { fs::read(&built)? } else { Vec::new() };
    fs::write(to, object)
}
