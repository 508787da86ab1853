//! The jobs that are known without being told: by the cgroups that their schedulers make, pods by the Job that made them, and
//! those of Kubernetes' CronJobs by their names. Rules of the configuration, which go first, are in `job`.

use super::{Pod, bare, is_unit, parts};

/// Characters of the five that Kubernetes puts behind a pod's name
/// (`staging/src/k8s.io/apimachinery/pkg/util/rand/rand.go`, `alphanums`).
const RANDOM: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many they are (`staging/src/k8s.io/apiserver/pkg/storage/names/generate.go`, `randomLength`).
const RANDOM_LENGTH: usize = 5;
/// Most digits of a completion index below 100,000 (`pkg/apis/batch/validation/validation.go`,
/// `maxParallelismForIndexedJob`).
const INDEX_LENGTH: usize = 5;
/// A pod starts within these minutes of the time that its CronJob ran for: clocks differ, and pods wait for room.
const EARLY: u64 = 10;
const LATE: u64 = 7 * 24 * 60;

/// The job of a cgroup by its path: what is deepest is closest to the process.
pub(super) fn of_path(path: &str) -> Option<&str> {
    let parts: Vec<&str> = parts(path).collect();
    (0..parts.len()).rev().find_map(|place| {
        let part = bare(parts.get(place)?);
        let above = parts.get(..place).unwrap_or_default();
        let parent = above.last().copied().unwrap_or_default();
        if let Some(id) = part.strip_prefix("ffmpeg-job-").filter(|id| is_uuid(id)) {
            return Some(id);
        }
        if bare(parent) == "ffrtmp" && is_id(part) {
            return Some(part);
        }
        // Slurm: /slurm/uid_U/job_J/step_S (v1), /system.slice/slurmstepd.scope/job_J/step_S (v2,
        // https://slurm.schedmd.com/cgroup_v2.html).
        if let Some(id) = part.strip_prefix("job_") {
            let is_slurms = above.iter().any(|part| part.starts_with("slurm") || part.ends_with("slurmstepd.scope"));
            if is_slurms && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
                return Some(id);
            }
        }
        // systemd: scopes that somebody named so, and what systemd-run(1) makes.
        if parts.get(place).is_some_and(|whole| is_unit(whole)) {
            if let Some(id) = part.strip_prefix("job-").filter(|id| is_id(id)) {
                return Some(id);
            }
            if part.strip_prefix("run-").is_some_and(is_id) {
                return Some(part);
            }
        }
        None
    })
}

/// RFC 9562 section 4.
fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// What a scheduler would call a job. Anything else is a cgroup of somebody else's making.
fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= super::LONGEST
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte))
}

/// The job of a pod, as `namespace/job`: of one that a Job made, or, where nobody says what made it, of one that is called as
/// those of CronJobs are, which make Jobs: the name is the same either way. A CronJob's job is called `<cronjob>-<minutes since 1970>`
/// (`pkg/controller/cronjob/cronjob_controllerv2.go`, `getJobName`), a job's pod `<job>-<random>`, and one of an Indexed Job
/// `<job>-<index>-<random>` (`pkg/controller/job/indexed_job_utils.go`, `podGenerateNameWithIndex`).
///
/// The pods of a ReplicaSet and of a DaemonSet end alike, so the minutes must be about those in which the pod came to this
/// host. No hash of a ReplicaSet's pods is such a number before the year 2046: `SafeEncodeString` (`rand.go`) has no digit
/// below 4. Other jobs have names that say nothing.
pub(super) fn of_pod(pod: &Pod) -> Option<String> {
    let job = if pod.is_listed { pod.job.as_deref()? } else { of_name(pod)? };
    Some(format!("{}/{job}", pod.namespace))
}

fn of_name(pod: &Pod) -> Option<&str> {
    let (base, random) = pod.name.rsplit_once('-')?;
    if random.len() != RANDOM_LENGTH || !random.bytes().all(|byte| RANDOM.contains(&byte)) {
        return None;
    }
    let came = pod.came? / 60;
    if is_run(base, came) {
        return Some(base);
    }
    let (job, index) = base.rsplit_once('-')?;
    let is_index = index.len() <= INDEX_LENGTH && is_number(index);
    Some(job).filter(|job| is_index && is_run(job, came))
}

/// Whether this is the name of a CronJob's job for a time not long before `came`, in minutes.
fn is_run(job: &str, came: u64) -> bool {
    let Some((cron_job, minutes)) = job.rsplit_once('-') else {
        return false;
    };
    let is_minutes = minutes.len() == 8 && is_number(minutes) && minutes.starts_with(['1', '2', '3']);
    let minutes: u64 = minutes.parse().unwrap_or(0);
    is_minutes && !cron_job.is_empty() && (minutes.saturating_sub(EARLY)..=minutes + LATE).contains(&came)
}

/// As `strconv.Itoa` writes it.
fn is_number(text: &str) -> bool {
    text == "0" || (!text.starts_with('0') && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_of_schedulers() {
        const UUID: &str = "0b7c6c2e-5a1f-4a53-9d8e-3f2b1c0d9e8f";
        let table = [
            (format!("/ffmpeg-job-{UUID}"), Some(UUID)),
            (format!("/system.slice/ffmpeg-job-{UUID}.scope"), Some(UUID)),
            (format!("/a/ffmpeg-job-{UUID}/inner"), Some(UUID)),
            ("/ffmpeg-job-7".to_owned(), None),
            (format!("/ffmpeg-job-{UUID}0"), None),
            ("/ffrtmp/42".to_owned(), Some("42")),
            ("/ffrtmp.slice/a-b_c.1/threads".to_owned(), Some("a-b_c.1")),
            ("/ffrtmp".to_owned(), None),
            ("/ffrtmp/a b".to_owned(), None),
            ("/ffrtmp/a\"b".to_owned(), None),
            ("/ffrtmp/a\nb".to_owned(), None),
            ("/slurm/uid_1000/job_123/step_0/task_0".to_owned(), Some("123")),
            ("/system.slice/slurmstepd.scope/job_9/step_batch/user/task_0".to_owned(), Some("9")),
            ("/system.slice/node1_slurmstepd.scope/job_9".to_owned(), Some("9")),
            ("/job_9".to_owned(), None),
            ("/slurm/job_x".to_owned(), None),
            ("/user.slice/job-encode.7.scope".to_owned(), Some("encode.7")),
            ("/system.slice/run-r1f2.scope".to_owned(), Some("run-r1f2")),
            ("/system.slice/run-u12.service".to_owned(), Some("run-u12")),
            ("/user.slice/user-1000.slice/session-2.scope".to_owned(), None),
            ("/system.slice/sshd.service".to_owned(), None),
            ("/".to_owned(), None),
            (String::new(), None),
            // The deepest is the closest to the process.
            ("/system.slice/run-r1.scope/ffrtmp/8".to_owned(), Some("8")),
        ];
        for (path, job) in table {
            assert_eq!(of_path(&path), job, "{path}");
        }
    }

    /// 2026-11-21 18:00 is minute 29,921,400 since 1970.
    const NOW: u64 = 29_921_400 * 60;

    fn job(name: &str, came: Option<u64>) -> Option<String> {
        of_pod(&Pod { namespace: "batch".to_owned(), name: name.to_owned(), came, is_listed: false, job: None })
    }

    #[test]
    fn what_made_a_pod_says_more_than_its_name() {
        let listed = |name: &str, job: Option<&str>| {
            let (namespace, name, job) = ("batch".to_owned(), name.to_owned(), job.map(str::to_owned));
            of_pod(&Pod { namespace, name, came: Some(NOW), is_listed: true, job })
        };
        assert_eq!(listed("encode-x2x9z", Some("encode")).as_deref(), Some("batch/encode"));
        // The same as its name says.
        let run = "backup-29921400-x2x9z";
        assert_eq!(listed(run, Some("backup-29921400")), job(run, Some(NOW)));
        assert_eq!(listed(run, None), None);
    }

    #[test]
    fn pods_of_cron_jobs() {
        let table = [
            ("backup-29921400-x2x9z", Some("batch/backup-29921400")),
            ("backup-29921398-bcdfg", Some("batch/backup-29921398")),
            ("data-base-backup-29915000-24567", Some("batch/data-base-backup-29915000")),
            ("render-29921400-0-x2x9z", Some("batch/render-29921400")),
            ("render-29921400-99999-x2x9z", Some("batch/render-29921400")),
            // Somebody else's endings: a vowel, a digit that is none of theirs, too many, too few.
            ("backup-29921400-x2x9a", None),
            ("backup-29921400-x2x90", None),
            ("backup-29921400-x2x9zz", None),
            ("backup-29921400-x2x9", None),
            ("backup-29921400", None),
            ("backup-29921400-0", None),
            // Not the minutes of today, or none at all.
            ("backup-29911000-x2x9z", None),
            ("backup-29921500-x2x9z", None),
            ("backup-20261121-x2x9z", None),
            ("backup-21112026-x2x9z", None),
            ("backup-9921400-x2x9z", None),
            ("backup-029921400-x2x9z", None),
            ("29921400-x2x9z", None),
            ("-29921400-x2x9z", None),
            ("backup29921400-x2x9z", None),
            // A ReplicaSet's of a Deployment; a Deployment whose name has a date; a DaemonSet's; a StatefulSet's.
            ("web-7d9f8b6c5-x2x9z", None),
            ("web-45678945-x2x9z", None),
            ("web-29921400-7d9f8b6c5-x2x9z", None),
            ("web-29921400-456789456-x2x9z", None),
            ("node-exporter-x2x9z", None),
            ("node-exporter-20250131-x2x9z", None),
            ("db-0", None),
            // Jobs that no CronJob made; an Indexed Job's; one whose index is none.
            ("encode-7-x2x9z", None),
            ("encode-x2x9z", None),
            ("render-29921400-100000-x2x9z", None),
            ("render-29921400-07-x2x9z", None),
            ("render-29921400--x2x9z", None),
            ("", None),
        ];
        for (name, wanted) in table {
            assert_eq!(job(name, Some(NOW)).as_deref(), wanted, "{name}");
        }
    }

    #[test]
    fn a_pod_that_came_at_another_time_than_its_name_says_is_no_cron_jobs() {
        let name = "agent-29921400-x2x9z";
        assert_eq!(job(name, None), None);
        assert_eq!(job(name, Some(NOW + 8 * 86_400)), None);
        assert_eq!(job(name, Some(NOW + 6 * 86_400)).as_deref(), Some("batch/agent-29921400"));
        assert_eq!(job(name, Some(NOW - 3_600)), None);
        assert_eq!(job(name, Some(0)), None);
    }
}
