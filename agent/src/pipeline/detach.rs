//! `sockmeter detach`: takes everything of ours out of the kernel.

use std::io::Write;

use anyhow::Context as _;
use tokio::runtime::Builder;

use super::devices::Devices;
use crate::cli::{Exit, Failure};
use crate::config::Settings;
use crate::kernel;

/// Removes programs, links, maps and pins, and says what it removed.
///
/// # Errors
/// When an agent runs with that pin directory, or these privileges do not allow it.
pub fn detach(settings: &Settings, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut removed = match &settings.pin_dir {
        Some(directory) => kernel::remove(directory).map_err(Failure::kernel)?,
        None => Vec::new(),
    };
    // Where there is no tcx, filters stay without any pin.
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let devices =
        runtime.block_on(async { Devices::open()?.all().await.context("the kernel does not list the interfaces") })?;
    removed.extend(kernel::remove_filters(&devices));
    if removed.is_empty() {
        let place =
            settings.pin_dir.as_ref().map_or_else(|| "anywhere".to_owned(), |path| format!("in {}", path.display()));
        writeln!(out, "nothing to remove: nothing is pinned {place}, and no interface has a filter of ours")?;
    }
    for what in removed {
        writeln!(out, "removed {what}")?;
    }
    Ok(Exit::Stopped)
}
