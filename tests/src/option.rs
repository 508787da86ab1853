//! Socket options that nix has no name for: set by a process that inherits the socket, because a raw setsockopt(2) would
//! be unsafe code.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// `SOL_SOCKET`.
pub const SOCKET: i32 = 1;
/// `SO_ZEROCOPY`.
pub const ZEROCOPY: i32 = 60;
/// `IPPROTO_TCP`.
pub const TCP: i32 = 6;
/// `TCP_DEFER_ACCEPT`, in seconds: no connection before its first bytes.
pub const DEFER_ACCEPT: i32 = 9;

/// Sets an option of a socket.
///
/// # Errors
/// When the kernel refuses.
pub fn set(socket: &impl AsFd, level: i32, option: i32, value: i32) -> Result<()> {
    let socket: OwnedFd = socket.as_fd().try_clone_to_owned()?;
    let script = format!("import socket; socket.socket(fileno=0).setsockopt({level}, {option}, {value})");
    let mut command = Command::new("python3");
    let output = command.args(["-c", &script]).stdin(Stdio::from(socket)).output().context("cannot run python3")?;
    ensure!(
        output.status.success(),
        "option {option} at level {level} cannot be {value}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
