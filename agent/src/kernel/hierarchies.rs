//! The cgroup hierarchies whose cgroups sockets are told apart by: where they are mounted, and how the kernel numbers
//! them. Which one the programs attach to is in `cgroup`, the names within them are in `places`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sockmeter_ebpf::place::{CONTROLLERS, CgroupKey, HIERARCHIES, NAME, NO_HIERARCHY, PlaceKey};

/// Cgroups of all hierarchies that are named at the start; those beyond have no names.
const MOST: usize = 65_536;

/// The hierarchies, in the order of `PlaceKey::cgroups`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// `cgroup_root.hierarchy_id`; `NO_HIERARCHY`: none of its own.
    pub(super) numbers: [u32; HIERARCHIES],
    /// Index in `css_set.subsys`, for version 1 only.
    pub(super) states: [u32; CONTROLLERS.len()],
    mounts: [Option<PathBuf>; HIERARCHIES],
}

/// Where the cgroups of places are.
#[derive(Debug, Clone)]
pub struct Cgroups(pub(super) Hierarchies);

/// Where a cgroup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its directory.
    pub path: PathBuf,
    /// Whether it is the root of its hierarchy, in which everybody is who was put nowhere else.
    pub is_root: bool,
}

impl Cgroups {
    /// The directories of a place's cgroups; `paths` are those of its `Standing`. `None` if one cannot be found.
    #[must_use]
    pub fn directories(&self, place: PlaceKey, paths: &[Option<Vec<u8>>]) -> Option<Vec<Directory>> {
        self.0.directories(place, paths)
    }
}

impl super::Kernel {
    /// Where the cgroups of places are.
    #[must_use]
    pub fn cgroups(&self) -> Cgroups {
        self.places.cgroups()
    }
}

/// A cgroup that is there.
pub(super) struct Present {
    pub(super) key: CgroupKey,
    pub(super) parent: u64,
    pub(super) name: [u8; NAME],
    pub(super) path: PathBuf,
}

impl Hierarchies {
    /// Looks which there are. `index` gives a controller's index in `css_set.subsys`.
    pub(super) fn look(index: impl Fn(&str) -> Option<u32>) -> std::io::Result<Self> {
        let numbers = std::fs::read_to_string("/proc/self/cgroup")?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self::of(&numbers, &mounts, index))
    }

    /// `numbers` is `/proc/PID/cgroup` (cgroups(7)), `mounts` is `/proc/PID/mountinfo` (proc(5)).
    fn of(numbers: &str, mounts: &str, index: impl Fn(&str) -> Option<u32>) -> Self {
        let mut found = Self {
            numbers: [NO_HIERARCHY; HIERARCHIES],
            states: [NO_HIERARCHY; CONTROLLERS.len()],
            mounts: [const { None }; HIERARCHIES],
        };
        found.numbers[0] = 0;
        found.mounts[0] = mount(mounts, |kind, _| kind == "cgroup2");
        for (place, controller) in CONTROLLERS.into_iter().enumerate() {
            let Some(number) = numbers.lines().find_map(|line| {
                let (number, rest) = line.split_once(':')?;
                let (controllers, _) = rest.split_once(':')?;
                controllers.split(',').any(|one| one == controller).then(|| number.parse().ok())?
            }) else {
                continue;
            };
            // Controllers that are mounted together have one hierarchy.
            if found.numbers.contains(&number) {
                continue;
            }
            let (Some(slot), Some(state), Some(mounted)) =
                (found.numbers.get_mut(place + 1), found.states.get_mut(place), found.mounts.get_mut(place + 1))
            else {
                continue;
            };
            let Some(index) = index(controller) else {
                continue;
            };
            *slot = number;
            *state = index;
            *mounted =
                mount(mounts, |kind, options| kind == "cgroup" && options.split(',').any(|one| one == controller));
        }
        found
    }

    /// Tells one set of hierarchies from another: it is compiled into the programs.
    pub(super) fn fingerprint(&self) -> u64 {
        let words = self.numbers.iter().chain(&self.states);
        words.fold(0, |sum: u64, word| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*word))
    }

    /// Whether a cgroup with this id is at this path; also where its hierarchy is not mounted, so that nobody can tell.
    pub(super) fn has(&self, key: CgroupKey, path: &[u8]) -> bool {
        let Some(mount) = self.mount(key) else {
            return true;
        };
        let below = Path::new(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
        std::fs::metadata(mount.join(below)).is_ok_and(|found| found.ino() == key.id)
    }

    /// Where the cgroups of a place are now; `paths` are those of `Standing`. `None` if one is gone, or its mount does not
    /// show it: then nobody can tell which processes are in all of them.
    pub(super) fn directories(&self, place: PlaceKey, paths: &[Option<Vec<u8>>]) -> Option<Vec<Directory>> {
        let known = self.keys(place).zip(paths);
        let found = known.map(|(key, path)| {
            let path = path.as_deref()?;
            let below = Path::new(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
            let directory = Directory { path: self.mount(key)?.join(below), is_root: path.is_empty() };
            std::fs::metadata(&directory.path).is_ok_and(|found| found.ino() == key.id).then_some(directory)
        });
        found.collect()
    }

    /// The cgroups of a place, in the order of `Standing`.
    pub(super) fn keys(&self, place: PlaceKey) -> impl Iterator<Item = CgroupKey> {
        let keys = self.numbers.into_iter().zip(place.cgroups);
        keys.filter(|(number, id)| *id != 0 && *number != NO_HIERARCHY)
            .map(|(number, id)| CgroupKey { hierarchy: u64::from(number), id })
    }

    fn mount(&self, key: CgroupKey) -> Option<&Path> {
        let mut mounts = self.numbers.iter().zip(&self.mounts);
        mounts.find(|(number, _)| u64::from(**number) == key.hierarchy)?.1.as_deref()
    }

    /// Hands over every cgroup that is there, parents first.
    pub(super) fn walk(&self, mut each: impl FnMut(Present)) {
        let mut left = MOST;
        for (number, mount) in self.numbers.iter().zip(&self.mounts) {
            let Some(root) = mount else {
                continue;
            };
            let mut waiting = vec![(root.clone(), 0)];
            while let Some((path, parent)) = waiting.pop() {
                let Ok(found) = std::fs::metadata(&path) else {
                    continue;
                };
                if left == 0 {
                    return;
                }
                left -= 1;
                let name = if parent == 0 { [0; NAME] } else { name(&path) };
                let id = found.ino();
                waiting.extend(below(&path).into_iter().map(|path| (path, id)));
                each(Present { key: CgroupKey { hierarchy: u64::from(*number), id }, parent, name, path });
            }
        }
    }
}

/// The directories in a directory.
fn below(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> [u8; NAME] {
    let mut name = [0; NAME];
    let bytes = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    for (slot, byte) in name.iter_mut().zip(bytes.iter().take(NAME - 1)) {
        *slot = *byte;
    }
    name
}

/// The mount point of the first file system whose type and options are wanted.
fn mount(mountinfo: &str, is_wanted: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let (kind, rest) = right.split_once(' ')?;
        let options = rest.rsplit(' ').next()?;
        is_wanted(kind, options).then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn of(numbers: &str, mounts: &str) -> Hierarchies {
        let known =
            |name: &str| ["cpuset", "cpu", "cpuacct", "blkio", "memory", "pids"].iter().position(|one| *one == name);
        Hierarchies::of(numbers, mounts, |name| known(name).and_then(|index| u32::try_from(index).ok()))
    }

    #[test]
    fn a_hybrid_host_has_the_hierarchies_of_its_controllers() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let found = of("9:name=systemd:/\n5:memory:/a:b\n1:cpu,cpuacct:/\n0::/\n", mounts);
        assert_eq!(found.numbers, [0, 5, 1, NO_HIERARCHY, NO_HIERARCHY]);
        assert_eq!(found.states, [4, 1, NO_HIERARCHY, NO_HIERARCHY]);
        let mounts = found.mounts.map(|mount| mount.map(|path| path.display().to_string()));
        let expected = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct"];
        assert_eq!(mounts[..3], expected.map(|path| Some(path.to_owned())));
        assert_eq!(mounts[3..], [None, None]);
    }

    #[test]
    fn the_cgroups_of_a_place_have_directories_while_all_are_there() {
        let root = tempfile::tempdir().unwrap();
        let (own, memory) = (root.path().join("v2/a b"), root.path().join("memory"));
        std::fs::create_dir_all(&own).unwrap();
        std::fs::create_dir_all(&memory).unwrap();
        let mut found = of("5:memory:/\n0::/\n", "");
        found.mounts[..2].clone_from_slice(&["v2", "memory"].map(|name| Some(root.path().join(name))));
        let id = |path: &Path| std::fs::metadata(path).unwrap().ino();
        let place = PlaceKey { cgroups: [id(&own), id(&memory), 0, 0, 0] };
        let (path, is_root) = (Some(b"/a b".to_vec()), Some(Vec::new()));
        let both = [Directory { path: own, is_root: false }, Directory { path: memory, is_root: true }];
        assert_eq!(found.directories(place, &[path.clone(), is_root.clone()]), Some(both.to_vec()));
        assert_eq!(found.directories(place, &[None, is_root.clone()]), None);
        assert_eq!(found.directories(place, &[Some(b"/gone".to_vec()), is_root.clone()]), None);
        // Another one of the same name.
        let other = PlaceKey { cgroups: [place.cgroups[0] + 1, place.cgroups[1], 0, 0, 0] };
        assert_eq!(found.directories(other, &[path.clone(), is_root.clone()]), None);
        found.mounts[1] = None;
        assert_eq!(found.directories(place, &[path, is_root]), None);
    }

    #[test]
    fn controllers_that_are_mounted_together_are_one_hierarchy() {
        let found = of("3:cpu,memory:/\n0::/\n", "");
        assert_eq!(found.numbers, [0, 3, NO_HIERARCHY, NO_HIERARCHY, NO_HIERARCHY]);
    }

    #[test]
    fn a_host_with_version_2_has_that_alone() {
        let found = of("0::/user.slice\n", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!(found.numbers, [0, NO_HIERARCHY, NO_HIERARCHY, NO_HIERARCHY, NO_HIERARCHY]);
        assert_eq!(found.mounts[0], Some(PathBuf::from("/sys/fs/cgroup")));
    }
}
