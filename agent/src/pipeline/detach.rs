//! `sockmeter detach`: takes everything of ours out of the kernel.

use std::io::Write;

use anyhow::Context as _;
use tokio::runtime::Builder;

use super::devices::Devices;
use crate::cli::{Exit, Failure};
use crate::config::Settings;
use crate::kernel::{self, Removed};

/// Removes programs, links, maps and pins, and says what it removed.
///
/// # Errors
/// When an agent runs with that pin directory, or these privileges do not allow it.
pub fn detach(settings: &Settings, out: &mut dyn Write) -> Result<Exit, Failure> {
    let Removed { gone, left } = match &settings.pin_dir {
        Some(directory) => kernel::remove(directory).map_err(Failure::kernel)?,
        // Where there is no tcx, an agent without pins that was killed leaves filters behind.
        None => Removed { gone: kernel::remove_filters(&devices()?), left: Vec::new() },
    };
    if gone.is_empty() {
        match &settings.pin_dir {
            Some(path) => writeln!(out, "nothing to remove: nothing is pinned in {}", path.display())?,
            None => writeln!(out, "nothing to remove: no interface has a filter of ours")?,
        }
    }
    for what in gone {
        writeln!(out, "removed {what}")?;
    }
    for path in left {
        writeln!(out, "left {}: it is not ours", path.display())?;
    }
    Ok(Exit::Stopped)
}

fn devices() -> Result<Vec<kernel::Device>, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let asked = async { Devices::open()?.all().await.context("the kernel does not list the interfaces") };
    Ok(runtime.block_on(asked)?)
}
