//! `cargo xtask build` and `cargo xtask run`: the agent with the kernel programs inside, and running it as root.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;
use nix::unistd::geteuid;

use crate::kernel_side;
use crate::steps::{Steps, run as run_program, words};
use crate::workspace::Workspace;

/// Builds everything, optimised, and says where the binary is.
pub(crate) fn build(workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    kernel_side::build(workspace, steps)?;
    let binary = steps.step("build the agent", "cargo build --release --package sockmeter", || {
        run_program(workspace.cargo().args(["build", "--release", "--package", "sockmeter"]))?;
        Ok(workspace.target().join("release/sockmeter"))
    })?;
    steps.say(format_args!("built {}", binary.display()));
    Ok(binary)
}

/// Builds the agent the quick way, for tests.
pub(crate) fn build_for_tests(workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    steps.step("build the agent", "cargo build --package sockmeter", || {
        run_program(workspace.cargo().args(["build", "--package", "sockmeter"]))?;
        Ok(workspace.target().join("debug/sockmeter"))
    })
}

/// Builds everything and becomes the agent, by sudo unless we are root already. Returns only if that fails.
pub(crate) fn run(workspace: &Workspace, steps: &Steps, flags: &[String]) -> Result<()> {
    let binary = build(workspace, steps)?;
    let mut command = if geteuid().is_root() {
        Command::new(&binary)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg(&binary);
        sudo
    };
    command.arg("run").args(flags).stdin(Stdio::inherit());
    steps.say(words(&command));
    let error = command.exec();
    Err(anyhow::anyhow!("cannot run {}: {error}\nhint: run {} run as root", words(&command), binary.display()))
}
