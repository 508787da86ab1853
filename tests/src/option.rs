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

/// `IPPROTO_IPV6`.
pub const IPV6: i32 = 41;
/// `IPV6_HOPOPTS`: an extension header of what is sent (RFC 3542 7).
pub const IPV6_HOPOPTS: i32 = 54;
/// `IPV6_DSTOPTS`, likewise.
pub const IPV6_DSTOPTS: i32 = 59;

/// Sets an option of a socket.
///
/// # Errors
/// When the kernel refuses.
pub fn set(socket: &impl AsFd, level: i32, option: i32, value: i32) -> Result<()> {
    set_to(socket, level, option, &value.to_string())
}

/// The same for one whose value is not a number.
///
/// # Errors
/// When the kernel refuses.
pub fn set_bytes(socket: &impl AsFd, level: i32, option: i32, value: &[u8]) -> Result<()> {
    set_to(socket, level, option, &format!("bytes({value:?})"))
}

fn set_to(socket: &impl AsFd, level: i32, option: i32, value: &str) -> Result<()> {
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
