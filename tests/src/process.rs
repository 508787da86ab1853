//! Processes of a test: they end with it, whatever happens.

use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::wait;

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = format!("{command:?}");
        let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name })
    }

    /// The same, with what it reads; that ends when the second is dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_reading(command: &mut Command) -> Result<(Self, ChildStdin)> {
        let name = format!("{command:?}");
        let mut child = command.stdin(Stdio::piped()).spawn().with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take().with_context(|| format!("{name} reads nothing"))?;
        Ok((Self { child, name }, input))
    }

    /// Its standard output, if that was piped; once.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its process id.
    ///
    /// # Errors
    /// Never on Linux.
    pub fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid()?, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Stops it and waits until all its threads have: a thread goes on running after `SIGSTOP` was sent until the one that
    /// the kernel chose for it was scheduled (kernel/signal.c, `do_signal_stop`).
    ///
    /// # Errors
    /// When the process is gone, or ends instead.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        match waitpid(self.pid()?, Some(WaitPidFlag::WUNTRACED))? {
            WaitStatus::Stopped(..) => Ok(()),
            other => bail!("{} did not stop: {other:?}", self.name),
        }
    }

    /// Whether it ended, and how.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end within a minute.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let name = self.name.clone();
        wait::until(&format!("the end of {name}"), || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end and gives its output; an error if it fails, with what it said.
///
/// # Errors
/// When it cannot be started, or fails.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    ensure!(
        output.status.success(),
        "{command:?} failed with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a command to its end, however that is.
///
/// # Errors
/// When it cannot be started.
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))
}
