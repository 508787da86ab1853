//! Names of the Kubernetes pods of this host and when they came, where the kubelet keeps their logs: `/var/log/pods/<namespace>_<name>_<uid>`
//! (`pkg/kubelet/kuberuntime/helpers.go`, `BuildPodLogsDirectory`), made before a pod's first container. What a place's pod
//! is, says `owner`.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::snapshot::{PodName, Pods};

/// Where they are.
const LOGS: &str = "/var/log/pods";
/// Pods that are looked at: the kubelet has 110 unless told otherwise.
const MOST: usize = 10_000;

/// The pods, as they were when the directory last changed.
#[derive(Debug)]
pub struct PodLogs {
    directory: PathBuf,
    changed: Option<SystemTime>,
}

impl Default for PodLogs {
    fn default() -> Self {
        Self { directory: PathBuf::from(LOGS), changed: None }
    }
}

impl PodLogs {
    /// All pods, if there may be others than before; a host without a kubelet has none.
    pub fn news(&mut self) -> Option<Pods> {
        let changed = std::fs::metadata(&self.directory).and_then(|metadata| metadata.modified()).ok();
        if changed.is_none() || changed == self.changed {
            return None;
        }
        self.changed = changed;
        Some(read(&self.directory))
    }
}

fn read(directory: &Path) -> Pods {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| pod(entry.file_name().to_str()?, || came(&entry))).take(MOST).collect()
}

/// When a pod's directory was made; where the file system does not say, when its last container got one in it.
fn came(entry: &DirEntry) -> Option<u64> {
    let metadata = entry.metadata().ok()?;
    let made = metadata.created().or_else(|_| metadata.modified()).ok()?;
    made.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// None of the three may have an underscore (RFC 1123 2.1, as Kubernetes has it for names).
fn pod(directory: &str, came: impl Fn() -> Option<u64>) -> Option<(String, PodName)> {
    let [namespace, name, uid] = directory.split('_').collect::<Vec<_>>().try_into().ok()?;
    let pod =
        PodName { namespace: namespace.to_owned(), name: name.to_owned(), came: came(), is_listed: false, job: None };
    (!namespace.is_empty() && !name.is_empty() && !uid.is_empty()).then(|| (uid.to_owned(), pod))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn pods_are_told_by_the_directories_of_their_logs() {
        let logs = tempfile::tempdir().unwrap();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let before = now();
        let uid = "8dbc6c2e-5a1f-4a53-9d8e-3f2b1c0d9e8f";
        for name in
            [format!("batch_encode-7-x2x9z_{uid}"), "of-others".to_owned(), "a__b".to_owned(), "a_b_c_d".to_owned()]
        {
            std::fs::create_dir(logs.path().join(name)).unwrap();
        }
        let mut found = PodLogs { directory: logs.path().to_owned(), changed: None };
        let pods = found.news().unwrap();
        let came = pods[uid].came;
        // File systems have the time of the last tick.
        assert!((before.saturating_sub(1)..=now()).contains(&came.unwrap()), "{before} {came:?}");
        let (namespace, name) = ("batch".to_owned(), "encode-7-x2x9z".to_owned());
        let pod = PodName { namespace, name, came, is_listed: false, job: None };
        assert_eq!(pods, [(uid.to_owned(), pod)].into());
        assert_eq!(found.news(), None);
        let mut none = PodLogs { directory: logs.path().join("none"), changed: None };
        assert_eq!(none.news(), None);
    }
}
