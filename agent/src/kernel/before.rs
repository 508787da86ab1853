//! What was pinned before a start, so that a start that fails leaves nothing behind. Pinning itself is in `pins`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::filters;

/// The files and directories below a pin directory at one moment.
#[derive(Debug)]
pub struct PinnedBefore {
    directory: PathBuf,
    paths: BTreeSet<PathBuf>,
}

impl PinnedBefore {
    /// Looks what is there.
    #[must_use]
    pub fn look(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf(), paths: tree(directory).into_iter().collect() }
    }

    /// Removes what came since, so that the kernel drops what it held. The failed start must have let go of everything;
    /// if another agent has the directory (which is why the start failed), what came is that one's and stays.
    pub fn restore(&self) {
        let Ok(file) = File::open(&self.directory) else {
            return;
        };
        let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            return;
        };
        // Files come before the directories that they are in.
        for path in tree(&self.directory).into_iter().filter(|path| !self.paths.contains(path)) {
            let removed = if path.is_dir() { fs::remove_dir(&path) } else { filters::let_go(&path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "cannot remove what the start pinned");
            }
        }
    }
}

/// A directory and everything below it, the deepest first.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            paths.extend(tree(&path));
        } else {
            paths.push(path);
        }
    }
    paths.push(directory.to_path_buf());
    paths
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_what_came_since_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let pins = folder.path().join("pins");
        fs::create_dir_all(pins.join("links")).unwrap();
        fs::write(pins.join("links/old"), "").unwrap();
        let before = PinnedBefore::look(&pins);
        fs::create_dir_all(pins.join("maps")).unwrap();
        fs::write(pins.join("maps/new"), "").unwrap();
        fs::write(pins.join("links/new"), "").unwrap();
        before.restore();
        assert_eq!(tree(&pins), [pins.join("links/old"), pins.join("links"), pins.clone()]);
        let before = PinnedBefore::look(&folder.path().join("none"));
        fs::create_dir_all(folder.path().join("none/maps")).unwrap();
        before.restore();
        assert!(!folder.path().join("none").exists());
    }
}
