//! Which cgroup paths are jobs' and which job's: the built-in rules, and those of the configuration before them.

use regex_lite::Regex;

use super::{bare, cut, is_unit, parts};

/// A pattern is not usable.
#[derive(Debug, thiserror::Error)]
#[error("the rule {rule:?} is no regular expression: {why}")]
pub struct RulesError {
    /// Which.
    rule: String,
    /// Why.
    why: regex_lite::Error,
}

/// The rules.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    own: Vec<Regex>,
}

impl Rules {
    /// The built-in rules, and before them patterns whose group `job` is the job's id.
    ///
    /// # Errors
    /// When a pattern is no regular expression.
    pub fn new(patterns: &[String]) -> Result<Self, RulesError> {
        let own =
            patterns.iter().map(|pattern| Regex::new(pattern).map_err(|why| RulesError { rule: pattern.clone(), why }));
        Ok(Self { own: own.collect::<Result<_, _>>()? })
    }

    /// The job that the first rule of the configuration finds in this alone.
    pub(super) fn configured(&self, path: &str) -> Option<String> {
        self.own.iter().find_map(|rule| captured(rule, path)).filter(|job| !job.is_empty()).map(cut)
    }

    /// The job of a place by the paths of its cgroups: the first rule of the configuration that matches any, else the
    /// built-in one that matches deepest, in the first hierarchy in which one does.
    pub(super) fn job<'a>(&self, paths: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
        let own = self.own.iter().find_map(|rule| {
            let mut paths = paths.clone();
            paths.find_map(|path| captured(rule, path))
        });
        let mut paths = paths;
        own.or_else(|| paths.find_map(built_in)).filter(|job| !job.is_empty()).map(cut)
    }
}

/// What a rule takes for the job's id.
fn captured<'a>(rule: &Regex, path: &'a str) -> Option<&'a str> {
    rule.captures(path)?.name("job").map(|found| found.as_str())
}

/// The built-in rules.
fn built_in(path: &str) -> Option<&str> {
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn built_in_rules() {
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
            assert_eq!(built_in(&path), job, "{path}");
        }
    }

    #[test]
    fn rules_of_the_configuration_go_first_in_their_order() {
        let patterns = ["^/batch/(?<job>[a-z]+)$", "/(?<job>[0-9]+)/x$"].map(str::to_owned);
        let rules = Rules::new(&patterns).unwrap();
        let of = |paths: &[&'static str]| rules.job(paths.iter().copied());
        assert_eq!(of(&["/batch/one"]).as_deref(), Some("one"));
        assert_eq!(of(&["/ffrtmp/7", "/batch/one"]).as_deref(), Some("one"));
        assert_eq!(of(&["/ffrtmp/7/x"]).as_deref(), Some("7"));
        assert_eq!(of(&["/", "/ffrtmp/7"]).as_deref(), Some("7"));
        assert_eq!(of(&["/batch/1"]), None);
        assert!(Rules::new(&["(".to_owned()]).is_err());
    }
}
