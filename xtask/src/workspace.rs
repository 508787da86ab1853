//! Where things are in this repository, and cargo as a command in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
}

impl Workspace {
    /// The repository that this program was built from.
    pub(crate) fn new() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self { root: here.parent().unwrap_or(here).to_owned() }
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> PathBuf {
        match env::var_os("CARGO_TARGET_DIR") {
            Some(given) => self.root.join(given),
            None => self.root.join("target"),
        }
    }

    /// Where the agent's build script looks for the kernel programs.
    pub(crate) fn kernel_object(&self) -> PathBuf {
        self.root.join("target/ebpf/sockmeter.bpf.o")
    }

    /// Where tools are installed that only this repository needs.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join("target/tools")
    }

    /// A program that runs in the repository and asks nobody anything.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.current_dir(&self.root).stdin(Stdio::null());
        command
    }

    /// The cargo that runs us.
    pub(crate) fn cargo(&self) -> Command {
        self.program(&env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
    }
}
