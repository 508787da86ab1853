//! Where the kernel side is kept between runs: a directory on a bpffs with maps, links and a lock. What is pinned goes
//! on counting without an agent; `remove` ends that.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::statfs;

use super::Refusal;

/// `BPF_FS_MAGIC`, `include/uapi/linux/magic.h`. The C libraries disagree on the sign of its type; this one holds either.
const BPF_FS_MAGIC: i128 = 0xcafe_4a11;
const BPFFS: &str = "/sys/fs/bpf";

/// A pin directory that this process has for itself.
#[derive(Debug)]
pub(super) struct Pins {
    directory: PathBuf,
    /// Held as long as the agent runs: a second one would read the same journal.
    _lock: Flock<File>,
}

impl Pins {
    /// Makes the directory if need be (mode 0700) and locks it.
    pub(super) fn open(directory: &Path) -> Result<Self, Refusal> {
        ensure_bpffs(directory)?;
        for path in
            [directory.to_path_buf(), directory.join("maps"), directory.join("links"), directory.join("programs")]
        {
            DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|error| {
                Refusal::because(format!("cannot make the pin directory {}", path.display()), &error).hint(
                    "make it beforehand for this user on a bpffs, choose another with --pin-dir, or go without with --no-pin",
                )
            })?;
        }
        let unreadable = |error: &(dyn std::error::Error + 'static)| {
            Refusal::because(format!("cannot open the pin directory {}", directory.display()), error)
        };
        let file = File::open(directory).map_err(|error| unreadable(&error))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, _)| {
            Refusal::new(format!("another sockmeter runs with the pin directory {}", directory.display()))
                .hint("stop that one first, or give this one its own --pin-dir")
        })?;
        Ok(Self { directory: directory.to_path_buf(), _lock: lock })
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.directory.join("maps").join(name)
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.directory.join("links").join(name)
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join("programs").join(name)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Names of the pinned links.
    pub(super) fn links(&self) -> Vec<String> {
        names(&self.directory.join("links"))
    }

    /// Names of the pinned maps.
    pub(super) fn maps(&self) -> Vec<String> {
        names(&self.directory.join("maps"))
    }

    /// Removes all pins, so that the kernel drops what they held; returns what was removed.
    pub(super) fn clear(&self) -> std::io::Result<Vec<String>> {
        let mut removed = Vec::new();
        for kind in ["links", "programs", "maps"] {
            for name in names(&self.directory.join(kind)) {
                super::filters::let_go(&self.directory.join(kind).join(&name))?;
                removed.push(format!("{} {name}", kind.trim_end_matches('s')));
            }
        }
        Ok(removed)
    }
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// What `remove` found.
#[derive(Debug, Default)]
pub struct Removed {
    /// What was ours, and is gone.
    pub gone: Vec<String>,
    /// What somebody else put into the pin directory, which is left with it.
    pub left: Vec<PathBuf>,
}

/// Removes every link, map and directory of ours under a pin directory, and that too unless somebody else's things lie in it.
///
/// # Errors
/// When another agent runs with it, or the files cannot be removed.
pub fn remove(directory: &Path) -> Result<Removed, Refusal> {
    if !directory.exists() {
        return Ok(Removed::default());
    }
    let failed = |error: std::io::Error| Refusal::because(format!("cannot remove {}", directory.display()), &error);
    let pins = Pins::open(directory)?;
    let mut gone = pins.clear().map_err(failed)?;
    for path in ["links", "programs", "maps"].map(|kind| directory.join(kind)) {
        fs::remove_dir(&path).map_err(failed)?;
    }
    let left: Vec<PathBuf> = names(directory).iter().map(|name| directory.join(name)).collect();
    if left.is_empty() {
        fs::remove_dir(directory).map_err(failed)?;
        gone.push(format!("directory {}", directory.display()));
    }
    Ok(Removed { gone, left })
}

/// Mounts the usual bpffs if the directory is to be on it and it is not there.
pub(super) fn ensure_bpffs(directory: &Path) -> Result<(), Refusal> {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let is_bpffs = |path: &Path| statfs(path).is_ok_and(|found| i128::from(found.filesystem_type().0) == BPF_FS_MAGIC);
    if is_bpffs(existing) {
        return Ok(());
    }
    if directory.starts_with(BPFFS) && Path::new(BPFFS).exists() {
        let nothing: Option<&str> = None;
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), nothing).map_err(|error| {
            Refusal::because(format!("cannot mount a bpffs at {BPFFS}"), &error)
                .hint("mount one beforehand (mount -t bpf bpf /sys/fs/bpf), or go without with --no-pin")
        })?;
        return Ok(());
    }
    Err(Refusal::new(format!("the pin directory {} is not on a bpffs", directory.display()))
        .hint("choose one below /sys/fs/bpf, or go without with --no-pin"))
}
