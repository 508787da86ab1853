//! Which kernel this is, for tests whose subject it has not got.

use anyhow::{Context as _, Result};
use nix::sys::utsname::uname;

/// The kernel's version, two numbers of it (uname(2)).
///
/// # Errors
/// When it does not begin with two numbers.
pub fn version() -> Result<(u32, u32)> {
    let release = uname()?.release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(str::parse::<u32>);
    Ok((numbers.next().context("no version")??, numbers.next().context("no version")??))
}
