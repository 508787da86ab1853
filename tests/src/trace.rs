//! Killing a process at a chosen one of its system calls (ptrace(2)), which no signal from outside would hit. Where registers
//! have these names.

use std::fs;

use anyhow::{Context as _, Result, bail};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// `bpf(2)` on this architecture.
const BPF: u64 = 321;
/// `BPF_MAP_UPDATE_ELEM` (`enum bpf_cmd`).
const UPDATE: u64 = 2;
/// What the kernel has in the place of a result before the call is made: `-ENOSYS`.
const NOT_YET: i64 = -38;

/// A thread that is held, of a process that this one started.
#[derive(Debug)]
pub struct Held {
    process: Pid,
    thread: Pid,
}

impl Held {
    /// Stops the thread of that name.
    ///
    /// # Errors
    /// When there is none, or the kernel refuses.
    pub fn thread(process: Pid, name: &str) -> Result<Self> {
        for entry in fs::read_dir(format!("/proc/{process}/task"))? {
            let path = entry?.path();
            if fs::read_to_string(path.join("comm"))?.trim_end() == name {
                let number = path.file_name().and_then(|file| file.to_str()).context("no thread id")?;
                let thread = Pid::from_raw(number.parse()?);
                ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD)?;
                ptrace::interrupt(thread)?;
                waitpid(thread, Some(WaitPidFlag::__WALL))?;
                return Ok(Self { process, thread });
            }
        }
        bail!("process {process} has no thread {name}")
    }

    /// Lets it go on until it has updated so many elements of BPF maps, and kills the process there.
    ///
    /// # Errors
    /// When the process ends before.
    pub fn kill_after_updates(self, updates: u32) -> Result<()> {
        let mut left = updates;
        while left > 0 {
            ptrace::syscall(self.thread, None)?;
            match waitpid(self.thread, Some(WaitPidFlag::__WALL))? {
                WaitStatus::PtraceSyscall(_) => {
                    let registers = ptrace::getregs(self.thread)?;
                    let is_update = registers.orig_rax == BPF && registers.rdi == UPDATE;
                    if is_update && registers.rax.cast_signed() != NOT_YET {
                        left -= 1;
                    }
                }
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => bail!("it ended {left} updates too early"),
                _ => {}
            }
        }
        kill(self.process, Signal::SIGKILL)?;
        while !matches!(
            waitpid(self.thread, Some(WaitPidFlag::__WALL))?,
            WaitStatus::Exited(..) | WaitStatus::Signaled(..)
        ) {}
        Ok(())
    }
}
