//! `cargo xtask build-ebpf`: the kernel programs, built with the pinned stable toolchain and the pinned linker.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::steps::{Steps, output_of, run};
use crate::workspace::Workspace;

const ALONE: &str = "cargo xtask build-ebpf";
/// The last bpf-linker that links with rustc's own LLVM; later ones want an LLVM installation at link time.
const LINKER_VERSION: &str = "0.10.3";
const TARGET: &str = "bpfel-unknown-none";

/// Builds the kernel programs to where the agent's build script looks for them.
pub(crate) fn build(workspace: &Workspace, steps: &Steps) -> Result<()> {
    steps.step("rust-src", ALONE, || rust_src(workspace, steps))?;
    let linker = steps.step("bpf-linker", ALONE, || linker(workspace, steps))?;
    steps.step("build-ebpf", ALONE, || {
        let folder = workspace.root.join("target/ebpf");
        // BTF for iterators, tp_btf programs and maps comes from debug information; the workspace's release profile
        // would strip it. RUSTC_BOOTSTRAP lets a stable toolchain build `core` for a target without a prebuilt one.
        run(workspace
            .cargo()
            .args(["build", "--package", "sockmeter-ebpf", "--bin", "sockmeter-ebpf", "--features", "kernel"])
            .args(["--release", "--target", TARGET, "-Z", "build-std=core", "--target-dir"])
            .arg(&folder)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_PROFILE_RELEASE_STRIP", "none")
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker)
            .env(
                "CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS",
                // v3 has the atomic operations; words are read where they lie, aligned or not.
                "-C debuginfo=2 -C target-cpu=v3 -C link-arg=--btf \
                 -C link-arg=--cpu-features=+allows-misaligned-mem-access \
                 -C link-arg=--disable-expand-memcpy-in-order",
            )
            // Either would take the place of the flags above.
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("RUSTFLAGS"))?;
        let built = folder.join(TARGET).join("release/sockmeter-ebpf");
        let bare = folder.join("bare.o");
        strip(workspace, &built, &bare)?;
        copy_if_changed(&bare, &workspace.kernel_object())
    })
}

/// Leaves out what only a debugger would read, which is four fifths of the object and goes into every binary. BTF, of
/// which the kernel reads the lines of the source for the verifier's messages, stays.
fn strip(workspace: &Workspace, from: &Path, to: &Path) -> Result<()> {
    let told = |arguments: &[&str]| output_of(workspace.program("rustc").args(arguments)).context("rustc does not run");
    let (version, sysroot) = (told(&["-vV"])?, told(&["--print", "sysroot"])?);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    // Part of every toolchain since Rust 1.77, because `strip = true` needs it on some hosts.
    let tool = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin/rust-objcopy");
    run(workspace.program(&tool.to_string_lossy()).arg("--strip-debug").arg(from).arg(to))
}

/// The source of `core`, which is a component of the toolchain that rust-toolchain.toml names.
fn rust_src(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let sysroot = output_of(workspace.program("rustc").args(["--print", "sysroot"])).context("rustc does not run")?;
    if Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists() {
        return Ok(());
    }
    let path = workspace.root.join("rust-toolchain.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let toolchain: toml::Table = text.parse().with_context(|| path.display().to_string())?;
    let channel = toolchain.get("toolchain").and_then(|table| table.get("channel")?.as_str());
    // Cargo tells its children which toolchain runs; a distribution's cargo does not.
    let running = env::var("RUSTUP_TOOLCHAIN").ok();
    let channel = running.as_deref().or(channel).context("rust-toolchain.toml names no channel")?;
    steps.say(format_args!("adding the component rust-src to {channel}"));
    run(workspace.program("rustup").args(["component", "add", "rust-src", "--toolchain", channel]))
}

/// The pinned linker, installed below `target/` so that nothing else on the machine changes.
fn linker(workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    let path = workspace.tools().join("bin/bpf-linker");
    let found = output_of(workspace.program(&path.to_string_lossy()).arg("--version"));
    if found.is_some_and(|found| found.trim() == format!("bpf-linker {LINKER_VERSION}")) {
        return Ok(path);
    }
    steps.say(format_args!("installing bpf-linker {LINKER_VERSION} to target/tools, which takes about a minute"));
    run(workspace
        .cargo()
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--quiet", "--force", "--root"])
        .arg(workspace.tools())
        .env_remove("CARGO_TARGET_DIR"))?;
    Ok(path)
}

/// Leaves an equal file as it is: its time stamp is what makes cargo build the agent again.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    fs::write(to, new).with_context(|| format!("cannot write {}", to.display()))
}
