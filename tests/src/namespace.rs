//! Network namespaces of a test's own, with loopback up; removed with it.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::process::run;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A network namespace.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn new() -> Result<Self> {
        let name = format!("smt{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in it.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments))
    }

    /// A command in this namespace, with the mounts of the host (`ip netns exec` would hide the cgroups).
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }

    /// Runs `work` in a thread of this namespace.
    ///
    /// # Errors
    /// Those of `work`, or when the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        thread::scope(|scope| {
            let running = scope.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET)?;
                work()
            });
            running.join().map_err(|_| anyhow!("the thread in {path} panicked"))?
        })
    }

    /// Connects two namespaces by a veth pair: `va` in this one with `10.77.0.1` and `fd77::1`, `vb` in the other with `.2`.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn connect(&self, other: &Self) -> Result<()> {
        run(Command::new("ip")
            .args(["link", "add", "va", "netns", &self.name, "type", "veth", "peer", "name", "vb", "netns"])
            .arg(&other.name))?;
        for (namespace, device, host) in [(self, "va", 1), (other, "vb", 2)] {
            namespace.ip(&["addr", "add", &format!("10.77.0.{host}/24"), "dev", device])?;
            namespace.ip(&["addr", "add", &format!("fd77::{host}/64"), "dev", device, "nodad"])?;
            namespace.ip(&["link", "set", device, "up"])?;
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run(Command::new("ip").args(["netns", "delete", &self.name]));
    }
}
