//! Whose a place is: job, container, pod and unit, from the paths of its cgroups and, where a rule says so, from the
//! processes in them. What a job is, `job` says; how long its bytes are kept apart, `model::holders`.

mod built_in;
mod container;
mod job;

pub use self::container::Container;
pub use self::job::{Looks, Process, Rule, Rules, RulesError};

/// Longest label value that is made of a path; what is longer is cut.
pub const LONGEST: usize = 128;

/// Whose a place is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whose {
    /// The job's id, if it is a job's.
    pub job: Option<String>,
    /// Container and unit; all empty if it is in none.
    pub container: Container,
    /// Whether it is in a Kubernetes pod.
    pub pod: InPod,
    /// Whether the path of every cgroup is known: if not, nobody can tell that it is no job's.
    pub is_known: bool,
    /// Whether processes were looked at to tell the job: they end, and nobody can tell by them again.
    pub is_by_processes: bool,
    /// Whether one that began just now would have told something else: soon it has gone elsewhere, or is to be believed.
    pub is_early: bool,
}

/// Whether a place is in a Kubernetes pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InPod {
    /// In none.
    #[default]
    No,
    /// In one of which nobody says what made it.
    Unlisted,
    /// In one of which that is known.
    Listed,
}

/// A Kubernetes pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it came to this host, seconds since 1970, if that is known.
    pub came: Option<u64>,
    /// Whether it is known what made it.
    pub is_listed: bool,
    /// The name of the Job that made it; `None` if it was something else, or if that is not known.
    pub job: Option<String>,
}

/// Says whose a place is, by the paths of its cgroups; `None` is one whose path is not known. `named`: a pod by its uid.
/// `processes`: those in its cgroups, oldest first; called only if a rule looks at them.
#[must_use]
pub fn whose<P: Iterator<Item = Process>>(
    paths: &[Option<Vec<u8>>],
    rules: &Rules,
    named: impl Fn(&str) -> Option<Pod>,
    processes: impl FnOnce(Looks) -> P,
) -> Whose {
    let mut whose = Whose { is_known: paths.iter().all(Option::is_some), ..Whose::default() };
    // What is not UTF-8 cannot be a label, and no rule asks for it.
    let texts: Vec<_> = paths.iter().flatten().map(|path| String::from_utf8_lossy(path)).collect();
    for text in &texts {
        whose.container.learn(text);
    }
    let pod = named(&whose.container.pod);
    let paths: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    let place = job::Place { paths: &paths, unit: &whose.container.unit, pod: pod.as_ref() };
    let job::Found { job, is_by_processes, is_early } = rules.job(place, processes);
    (whose.job, whose.is_by_processes, whose.is_early) = (job, is_by_processes, is_early);
    whose.pod = match &pod {
        Some(pod) if pod.is_listed => InPod::Listed,
        _ if whose.container.pod.is_empty() => InPod::No,
        _ => InPod::Unlisted,
    };
    if let Some(pod) = &pod {
        whose.container.pod = cut(&pod.name);
        whose.container.namespace = cut(&pod.namespace);
    }
    whose
}

/// The parts of a path.
fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// At most `LONGEST` bytes of a text, and no half characters.
fn cut(text: &str) -> String {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Whether a part is a systemd unit that has processes: a service or a scope.
fn is_unit(part: &str) -> bool {
    matches!(part.rsplit_once('.'), Some((_, "service" | "scope")))
}

/// A part without the suffix that systemd gives its kind.
fn bare(part: &str) -> &str {
    let suffixes = [".scope", ".service", ".slice"];
    suffixes.into_iter().find_map(|suffix| part.strip_suffix(suffix)).unwrap_or(part)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn unnamed(_: &str) -> Option<Pod> {
        None
    }

    fn nobody(_: Looks) -> std::iter::Empty<Process> {
        std::iter::empty()
    }

    #[test]
    fn a_pod_has_its_name_and_a_rule_may_tell_its_job_by_it() {
        let rules = Rules::new(&[Rule::Pod("^batch/(?<job>.+)-[a-z0-9]{5}$".to_owned())]).unwrap();
        let of = |namespace: &str, name: &str| {
            let path = b"/kubepods.slice/kubepods-pod8dbc6c2e_5a1f_4a53_9d8e_3f2b1c0d9e8f.slice".to_vec();
            let named = |uid: &str| {
                let is_it = uid == "8dbc6c2e-5a1f-4a53-9d8e-3f2b1c0d9e8f";
                let came = Some(29_921_400 * 60);
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                is_it.then_some(Pod { namespace, name, came, is_listed: false, job: None })
            };
            let found = whose(&[Some(path)], &rules, named, nobody);
            assert_eq!(found.container.pod, name);
            (found.job, found.container.namespace)
        };
        assert_eq!(of("batch", "encode-7-x2x9z"), (Some("encode-7".to_owned()), "batch".to_owned()));
        // A namespace is no cgroup: the rules for those are not for it.
        assert_eq!(of("ffrtmp", "encode-7-x2x9z"), (None, "ffrtmp".to_owned()));
        let run = Some("night/backup-29921400".to_owned());
        assert_eq!(of("night", "backup-29921400-x2x9z"), (run, "night".to_owned()));
    }

    #[test]
    fn every_hierarchy_is_asked_and_an_unknown_path_is_noted() {
        let rules = Rules::new(&[]).unwrap();
        let paths = [Some(b"/system.slice/worker.service".to_vec()), Some(b"/ffrtmp/7".to_vec())];
        let found = whose(&paths, &rules, unnamed, nobody);
        assert_eq!(
            (found.job.as_deref(), found.container.unit.as_str(), found.is_known),
            (Some("7"), "worker.service", true)
        );
        let found = whose(&[Some(b"/ffrtmp/7".to_vec()), None], &rules, unnamed, nobody);
        assert_eq!((found.job.as_deref(), found.is_known), (Some("7"), false));
    }

    #[test]
    fn hostile_names_end_as_valid_text_of_bounded_length() {
        let rules = Rules::new(&[Rule::Cgroup("(?s)/x/(?<job>.*)$".to_owned())]).unwrap();
        let mut path = b"/x/\xff\"\n\\".to_vec();
        path.extend([b'a'; 4096]);
        let job = whose(&[Some(path)], &rules, unnamed, nobody).job.unwrap();
        assert!(job.starts_with("\u{fffd}\"\n\\aaa"), "{job}");
        assert_eq!(job.len(), LONGEST);
        let cut = cut(&"\u{fffd}".repeat(100));
        assert_eq!(cut, "\u{fffd}".repeat(42));
    }
}
