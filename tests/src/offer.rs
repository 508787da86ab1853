//! What a test wants that not every kernel offers. A test without it is left out, aloud: each such claim is the kernel's own
//! answer to the very command, so a test that could run is never left out by mistake.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::process::output;

/// How iproute2 passes on that the kernel knows no such device, qdisc or filter (`RTNL_LINK_OPS` and `Qdisc_ops` look-ups
/// in `net/core/rtnetlink.c` and `net/sched/sch_api.c`).
const UNKNOWN: [&str; 2] = ["Unknown device type", "Specified qdisc kind is unknown"];

/// Runs a command that needs it. False, and a line beginning with `left out: `, if this kernel has no such thing; the test
/// is to end then.
///
/// # Errors
/// When the command fails in another way.
pub fn taken(command: &mut Command) -> Result<bool> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(true);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(UNKNOWN.iter().any(|unknown| said.contains(unknown)), "{command:?} failed: {said}");
    println!("left out: this kernel refuses {:?}: {}", command.get_args().collect::<Vec<_>>(), said.trim());
    Ok(false)
}
