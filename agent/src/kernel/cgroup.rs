//! Where the unified cgroup hierarchy is mounted: on a hybrid host not where one would guess.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::Refusal;

/// Opens the root of the cgroup v2 hierarchy, or `below` it. With the file the cgroup's id if it is not the root, else 0:
/// the inode number of its directory (`kernfs_node.id` on 64-bit machines, `fs/kernfs/inode.c`).
pub(super) fn open(below: Option<&std::path::Path>) -> Result<(File, u64), Refusal> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| Refusal::because("cannot read /proc/self/mountinfo", &error))?;
    let root = root(&mountinfo).ok_or_else(|| {
        Refusal::new("no cgroup v2 hierarchy is mounted, which socket programs attach to")
            .hint("mount one: mount -t cgroup2 none /sys/fs/cgroup/unified")
    })?;
    let path = match below {
        Some(path) if path.starts_with(&root) => path.to_path_buf(),
        Some(path) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => root,
    };
    let refused =
        |error: &std::io::Error| Refusal::because(format!("cannot open the cgroup {}", path.display()), error);
    let file = File::open(&path).map_err(|error| refused(&error))?;
    let id = if below.is_some() { file.metadata().map_err(|error| refused(&error))?.ino() } else { 0 };
    Ok((file, id))
}

/// The mount point of the first cgroup2 file system (proc(5), `/proc/PID/mountinfo`: field 5, and the type behind ` - `).
fn root(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        if right.split(' ').next() != Some("cgroup2") {
            return None;
        }
        left.split(' ').nth(4).map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_unified_hierarchy_on_hybrid_and_pure_hosts() {
        let hybrid = "25 20 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      26 25 0:23 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
                      37 25 0:34 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw\n";
        assert_eq!(root(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let pure = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(root(pure), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(root("26 25 0:23 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
    }
}
