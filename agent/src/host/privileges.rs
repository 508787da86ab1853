//! What the agent's own process may do: everything while it starts, as little as possible afterwards. What a start needs
//! is tried out by `kernel::examine`; what goes on being needed is `pipeline::start`'s to know.

use std::collections::HashSet;
use std::fs;
use std::io;

pub use caps::Capability;
use caps::{CapSet, clear, has_cap, read, set};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::stat::{Mode, umask};

/// What was kept, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Capabilities in effect from now on, by name.
    pub capabilities: Vec<String>,
    /// Other threads of this process: they keep what they had, because capabilities belong to threads.
    pub other_threads: usize,
}

/// Files that this process makes from now on are for its own user alone (umask(2)).
pub fn private_files() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
}

/// Gives up every capability of this thread but those of `needed` that it has, for good: also what a program that it
/// starts could gain (capabilities(7), `PR_SET_NO_NEW_PRIVS` in prctl(2)). Threads that it starts later inherit that.
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn drop_all_but(needed: &[Capability]) -> io::Result<Kept> {
    set_no_new_privs()?;
    let had = read(None, CapSet::Permitted).map_err(io::Error::other)?;
    let kept: HashSet<Capability> = needed.iter().copied().filter(|needed| had.contains(needed)).collect();
    // An ordinary user's bounding set cannot be changed, and bounds nothing any more since no_new_privs.
    if has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(io::Error::other)? {
        clear(None, CapSet::Bounding).map_err(io::Error::other)?;
    }
    clear(None, CapSet::Ambient).map_err(io::Error::other)?;
    clear(None, CapSet::Inheritable).map_err(io::Error::other)?;
    // What is in effect must be permitted all the while.
    set(None, CapSet::Effective, &kept).map_err(io::Error::other)?;
    set(None, CapSet::Permitted, &kept).map_err(io::Error::other)?;
    let mut capabilities: Vec<String> = kept.iter().map(ToString::to_string).collect();
    capabilities.sort();
    // This thread is one of them.
    let other_threads = fs::read_dir("/proc/self/task")?.count().saturating_sub(1);
    Ok(Kept { capabilities, other_threads })
}
