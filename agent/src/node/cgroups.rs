//! How many jobs run here: their cgroups, which the scheduler's worker makes and removes with each. Whose bytes are whose
//! is not decided here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A job's own process is in a cgroup of this name below the root of the hierarchy ...
const OWN: &str = "ffmpeg-job-";
/// ... one that is wrapped in one below this.
const WRAPPED: &str = "ffrtmp";

/// Jobs by their ids, however many hierarchies have them; `None` if no hierarchy can be read.
pub(super) fn jobs(proc: &Path) -> Option<u64> {
    let mounts = fs::read_to_string(proc.join("self/mountinfo")).ok()?;
    let mut ids = BTreeSet::new();
    let mut read = false;
    for root in roots(&mounts) {
        let Some(names) = directories(&root) else {
            continue;
        };
        read = true;
        ids.extend(names.iter().filter_map(|name| name.strip_prefix(OWN)).map(str::to_owned));
        ids.extend(directories(&root.join(WRAPPED)).into_iter().flatten());
    }
    read.then(|| u64::try_from(ids.len()).unwrap_or(u64::MAX))
}

/// Where cgroup v2 is mounted, and of v1 the hierarchies that the worker uses (proc(5), `mountinfo`).
fn roots(mounts: &str) -> Vec<PathBuf> {
    let root = |line: &str| {
        let (before, behind) = line.split_once(" - ")?;
        let mut behind = behind.split(' ');
        let options = match behind.next()? {
            "cgroup2" => return Some(PathBuf::from(before.split(' ').nth(4)?)),
            "cgroup" => behind.nth(1)?,
            _ => return None,
        };
        let of_worker = options.split(',').any(|option| option == "cpu" || option == "memory");
        of_worker.then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    };
    mounts.lines().filter_map(root).collect()
}

fn directories(path: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(path).ok()?.filter_map(Result::ok);
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Some(directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_job_counts_once_in_whichever_hierarchies_it_is() {
        let host = tempfile::tempdir().unwrap();
        let proc = host.path().join("proc");
        fs::create_dir_all(proc.join("self")).unwrap();
        let mount = |name: &str, kind: &str, options: &str| {
            let root = host.path().join(name);
            fs::create_dir_all(&root).unwrap();
            format!("30 1 0:26 / {} rw,nosuid shared:9 - {kind} {kind} {options}\n", root.display())
        };
        let mounts = mount("v2", "cgroup2", "rw") + &mount("cpu", "cgroup", "rw,cpu,cpuacct");
        let mounts = mounts + &mount("pids", "cgroup", "rw,pids") + &mount("tmp", "tmpfs", "rw,size=1k");
        assert_eq!(jobs(&proc), None);
        fs::write(proc.join("self/mountinfo"), mounts).unwrap();
        assert_eq!(jobs(&proc), Some(0));
        for job in
            ["v2/ffmpeg-job-1", "cpu/ffmpeg-job-1", "cpu/ffmpeg-job-2", "v2/ffrtmp/3", "pids/ffmpeg-job-4", "v2/other"]
        {
            fs::create_dir_all(host.path().join(job)).unwrap();
        }
        fs::write(host.path().join("v2/ffmpeg-job-file"), "").unwrap();
        assert_eq!(jobs(&proc), Some(3));
    }
}
