//! Programs that `up` left running: written down with the moment of their start, so that `down` never ends somebody who got
//! the same number later.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::setup;
use crate::steps::{Steps, output_of, words};

const FILE: &str = "state.json";

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Started {
    pub(super) name: String,
    pid: u32,
    /// Clock ticks from the host's start to the program's (proc_pid_stat(5), field 22).
    since: u64,
}

impl Started {
    /// Starts it in a process group of its own, so that Ctrl-C here is not for it.
    pub(super) fn start(name: &str, command: &mut Command, log: File) -> Result<Self> {
        let err = log.try_clone()?;
        command.process_group(0).stdin(Stdio::null()).stdout(log).stderr(err);
        let child = command.spawn().with_context(|| format!("cannot run {}", words(command)))?;
        let pid = child.id();
        let since = began(pid).with_context(|| format!("{name} is gone as soon as it was started"))?;
        Ok(Self { name: name.to_owned(), pid, since })
    }

    /// Whether it is still the one that was started, and no corpse.
    pub(super) fn runs(&self) -> bool {
        began(self.pid) == Some(self.since)
    }

    pub(super) fn has_ended(&self) -> bool {
        !self.runs()
    }

    /// Asks it to end and waits until it has.
    pub(super) fn end(&mut self, steps: &Steps) -> Result<()> {
        if self.has_ended() {
            return Ok(());
        }
        let kill = setup::as_root("kill").unwrap_or_else(|| Command::new("kill"));
        let signal = |kill: &mut Command, name: &str| output_of(kill.args([name, &self.pid.to_string()]));
        let mut kill = kill;
        signal(&mut kill, "-TERM").with_context(|| format!("cannot end {} (process {})", self.name, self.pid))?;
        for _ in 0..600 {
            if self.has_ended() {
                steps.say(format_args!("{}: ended", self.name));
                return Ok(());
            }
            thread::park_timeout(Duration::from_millis(50));
        }
        anyhow::bail!("{} (process {}) does not end", self.name, self.pid)
    }
}

/// When a process began; `None` if there is none, or only its exit status is left.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have anything in it, but what follows its last parenthesis is numbers.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18)?.parse().ok())?
}

/// Those that were written down.
pub(super) fn read(folder: &Path) -> Vec<Started> {
    let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Writes them down.
pub(super) fn write(folder: &Path, all: &[Started]) -> Result<()> {
    Ok(fs::write(folder.join(FILE), serde_json::to_string_pretty(all)?)?)
}

/// Ends all of them.
pub(super) fn end(folder: &Path, steps: &Steps) -> Result<()> {
    let mut all = read(folder);
    if all.is_empty() {
        steps.say("nothing was started here");
    }
    while let Some(mut one) = all.pop() {
        one.end(steps)?;
        write(folder, &all)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_began_at_another_time_is_another() {
        let since = began(std::process::id());
        let one = |since: u64| Started { name: "us".to_owned(), pid: std::process::id(), since };
        assert_eq!(since.map(|since| (one(since).runs(), one(since.wrapping_add(1)).runs())), Some((true, false)));
    }
}
