//! Cgroups of a test's own, in any hierarchy that this machine has; removed with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A cgroup and everything that the test makes below it.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one in the version 2 hierarchy.
    ///
    /// # Errors
    /// When none is mounted.
    pub fn unified(name: &str) -> Result<Self> {
        Self::below(&mount("cgroup2", None).context("no cgroup v2 is mounted")?, name)
    }

    /// Makes one in the version 1 hierarchy of a controller; `None` where there is no such hierarchy.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn of_controller(controller: &str, name: &str) -> Result<Option<Self>> {
        mount("cgroup", Some(controller)).map(|root| Self::below(&root, name)).transpose()
    }

    fn below(root: &Path, name: &str) -> Result<Self> {
        let path = root.join(format!("sockmeter-{name}-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes cgroups below it, each in the one before.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn make(&self, below: &str) -> Result<PathBuf> {
        let path = self.0.join(below);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

/// A stay of this process in a cgroup of the version 2 hierarchy: what it starts meanwhile is in it too.
#[derive(Debug)]
pub struct Visit {
    home: PathBuf,
    place: Cgroup,
}

impl Visit {
    /// Goes to a new cgroup below the one called `name`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn to(name: &str) -> Result<Self> {
        let root = mount("cgroup2", None).context("no cgroup v2 is mounted")?;
        let here = fs::read_to_string("/proc/self/cgroup")?;
        let here = here.lines().find_map(|line| line.strip_prefix("0::/")).context("in no cgroup of version 2")?;
        let place = Cgroup::below(&root.join(name), "visit")?;
        fs::write(place.path().join("cgroup.procs"), "0").with_context(|| place.path().display().to_string())?;
        Ok(Self { home: root.join(here), place })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let _ = fs::write(self.home.join("cgroup.procs"), "0");
        remove(self.place.path());
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// A cgroup's directory is removed without what is in it.
fn remove(path: &Path) {
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&entry.path());
    }
    let _ = fs::remove_dir(path);
}

fn mount(kind: &str, controller: Option<&str>) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut words = right.split(' ');
        let is_kind = words.next() == Some(kind);
        let has = |wanted: &str| words.next_back().is_some_and(|options| options.split(',').any(|one| one == wanted));
        (is_kind && controller.is_none_or(has)).then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}
