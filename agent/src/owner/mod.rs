//! Whose a place is: job, container, pod and unit, from the paths of its cgroups. What a job is, `job` says; how long its
//! bytes are kept apart, `model::holders`.

mod container;
mod job;

pub use self::container::Container;
pub use self::job::{Rules, RulesError};

/// Longest label value that is made of a path; what is longer is cut.
pub const LONGEST: usize = 128;

/// Whose a place is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whose {
    /// The job's id, if it is a job's.
    pub job: Option<String>,
    /// Container and unit; all empty if it is in none.
    pub container: Container,
    /// Whether the path of every cgroup is known: if not, nobody can tell that it is no job's.
    pub is_known: bool,
}

/// Says whose a place is, by the paths of its cgroups; `None` is one whose path is not known. `named`: namespace and name of
/// a pod by its uid.
#[must_use]
pub fn whose(paths: &[Option<Vec<u8>>], rules: &Rules, named: impl Fn(&str) -> Option<(String, String)>) -> Whose {
    let mut whose = Whose { is_known: paths.iter().all(Option::is_some), ..Whose::default() };
    // What is not UTF-8 cannot be a label, and no rule asks for it.
    let texts: Vec<_> = paths.iter().flatten().map(|path| String::from_utf8_lossy(path)).collect();
    whose.job = rules.job(texts.iter().map(AsRef::as_ref));
    for text in &texts {
        whose.container.learn(text);
    }
    if let Some((namespace, name)) = named(&whose.container.pod) {
        // What a Kubernetes job is called, its pods' names begin with; only a rule of the configuration can tell.
        whose.job = rules.configured(&format!("/kubernetes/{namespace}/{name}")).or(whose.job);
        whose.container.namespace = cut(&namespace);
        whose.container.pod = cut(&name);
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

    fn unnamed(_: &str) -> Option<(String, String)> {
        None
    }

    #[test]
    fn a_pod_has_its_name_and_a_rule_may_tell_its_job_by_it() {
        let rules = Rules::new(&["^/kubernetes/batch/(?<job>.+)-[a-z0-9]{5}$".to_owned()]).unwrap();
        let of = |namespace: &str| {
            let path = b"/kubepods.slice/kubepods-pod8dbc6c2e_5a1f_4a53_9d8e_3f2b1c0d9e8f.slice".to_vec();
            let found = whose(&[Some(path)], &rules, |uid| {
                let is_it = uid == "8dbc6c2e-5a1f-4a53-9d8e-3f2b1c0d9e8f";
                is_it.then(|| (namespace.to_owned(), "encode-7-x2x9z".to_owned()))
            });
            (found.job, found.container.namespace, found.container.pod)
        };
        let name = "encode-7-x2x9z".to_owned();
        assert_eq!(of("batch"), (Some("encode-7".to_owned()), "batch".to_owned(), name.clone()));
        // A namespace is no cgroup: the built-in rules are not for it.
        assert_eq!(of("ffrtmp"), (None, "ffrtmp".to_owned(), name));
    }

    #[test]
    fn every_hierarchy_is_asked_and_an_unknown_path_is_noted() {
        let rules = Rules::new(&[]).unwrap();
        let paths = [Some(b"/system.slice/worker.service".to_vec()), Some(b"/ffrtmp/7".to_vec())];
        let found = whose(&paths, &rules, unnamed);
        assert_eq!(
            (found.job.as_deref(), found.container.unit.as_str(), found.is_known),
            (Some("7"), "worker.service", true)
        );
        let found = whose(&[Some(b"/ffrtmp/7".to_vec()), None], &rules, unnamed);
        assert_eq!((found.job.as_deref(), found.is_known), (Some("7"), false));
    }

    #[test]
    fn hostile_names_end_as_valid_text_of_bounded_length() {
        let rules = Rules::new(&["(?s)/x/(?<job>.*)$".to_owned()]).unwrap();
        let mut path = b"/x/\xff\"\n\\".to_vec();
        path.extend([b'a'; 4096]);
        let job = whose(&[Some(path)], &rules, unnamed).job.unwrap();
        assert!(job.starts_with("\u{fffd}\"\n\\aaa"), "{job}");
        assert_eq!(job.len(), LONGEST);
        let cut = cut(&"\u{fffd}".repeat(100));
        assert_eq!(cut, "\u{fffd}".repeat(42));
    }
}
