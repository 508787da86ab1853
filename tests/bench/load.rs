//! Running a program that ends by itself, with a bound in case it does not.

use std::io::{Read as _, Seek as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::interrupt;

/// What it prints. A program that runs longer than `limit` is ended, which is an error, and so is an exit code.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let mut said = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let asked = interrupt::check();
        if asked.is_err() || Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            asked?;
            bail!("{command:?} did not end within {limit:?}");
        }
        thread::park_timeout(Duration::from_millis(10));
    };
    // A program that was ended by the same Ctrl-C has nothing to say.
    interrupt::check()?;
    let mut text = String::new();
    said.rewind()?;
    said.read_to_string(&mut text)?;
    if !status.success() {
        bail!("{command:?} ended with {status}:\n{text}");
    }
    Ok(text)
}

/// Waits, unless somebody asks to stop.
pub(crate) fn rest(time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        interrupt::check()?;
        thread::sleep(left.min(Duration::from_millis(50)));
    }
    interrupt::check()
}
