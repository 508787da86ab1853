//! `cargo xtask dist`: the agent as one static binary that takes nothing of the system it runs on but its kernel, for images and
//! packages. The binary for the machine at hand is `agent`'s.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::kernel_side;
use crate::setup;
use crate::steps::{Steps, output_of, run};
use crate::workspace::Workspace;

const ALONE: &str = "cargo xtask dist";

/// Builds it, optimised, to `target/dist`, which is what `deploy/container/Dockerfile` is built from.
pub(crate) fn dist(workspace: &Workspace, steps: &Steps) -> Result<()> {
    setup::only(steps, setup::MUSL)?;
    kernel_side::build(workspace, steps)?;
    let built = build_for_release(workspace, steps)?;
    let folder = workspace.root.join("target/dist");
    fs::create_dir_all(&folder)?;
    let place = folder.join("sockmeter");
    fs::copy(&built, &place).with_context(|| format!("cannot write {}", place.display()))?;
    steps.say(format_args!("built {}, {} bytes", place.display(), fs::metadata(&place)?.len()));
    Ok(())
}

/// Builds it as it is shipped.
pub(crate) fn build_for_release(workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    build(workspace, steps, &["--release"], "release")
}

/// Builds it the quick way, for tests.
pub(crate) fn build_for_tests(workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    build(workspace, steps, &[], "debug")
}

fn build(workspace: &Workspace, steps: &Steps, profile: &[&str], folder: &str) -> Result<PathBuf> {
    let target = format!("{ARCH}-unknown-linux-musl");
    steps.step("build the static agent", ALONE, || {
        standard_library(workspace, steps, &target)?;
        run(workspace.cargo().args(["build", "--package", "sockmeter", "--target", &target]).args(profile))?;
        Ok(workspace.target().join(&target).join(folder).join("sockmeter"))
    })
}

/// The standard library for musl is a component of its own.
fn standard_library(workspace: &Workspace, steps: &Steps, target: &str) -> Result<()> {
    let sysroot = output_of(workspace.program("rustc").args(["--print", "sysroot"])).context("rustc does not run")?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").exists() {
        return Ok(());
    }
    steps.say(format_args!("adding the standard library for {target}"));
    run(workspace.program("rustup").args(["target", "add", target]))
}
