//! The agent as an ordinary user who has the three capabilities that counting takes, and can get no others.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::unistd::{Gid, Uid, chown};

/// The user: the one that images without a user list of their own usually call "nonroot".
pub const USER: u32 = 65_532;

/// What counting takes.
pub const CAPABILITIES: [&str; 3] = ["bpf", "net_admin", "perfmon"];

/// Set to `1`, every agent that a test starts is such a user's, but for those started by `Agent::start_as_root`.
pub const VARIABLE: &str = "SOCKMETER_TEST_UNPRIVILEGED";

/// Whether every agent is to be started so.
#[must_use]
pub fn wanted() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == "1")
}

/// The words to put in front of a command so that it runs as this user with `capabilities` and no way to others
/// (setpriv(1)). `no_new_privs` is left to the agent.
#[must_use]
pub fn wrapper(capabilities: &[&str]) -> Vec<String> {
    let only: Vec<String> = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let only = only.concat();
    let mut words = vec!["setpriv".to_owned(), "--clear-groups".to_owned()];
    words.extend([format!("--reuid={USER}"), format!("--regid={USER}")]);
    words.extend(["inh-caps", "ambient-caps", "bounding-set"].map(|set| format!("--{set}=-all{only}")));
    words
}

/// Makes a directory for this user, who may not be able to make one; one that is there becomes the user's.
///
/// # Errors
/// When it cannot be made.
pub fn directory(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| path.display().to_string())?;
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        chown(&folder, Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER)))?;
        if folder.is_dir() {
            for entry in fs::read_dir(&folder)? {
                folders.push(entry?.path());
            }
        }
    }
    Ok(())
}
