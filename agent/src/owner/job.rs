//! Whose job a place is: the first rule of the configuration that matches, else a built-in one (`built_in`). How the
//! processes are read that some rules look at is the rim's matter.

use regex_lite::Regex;

use super::{Pod, built_in, cut};

/// Bytes of an environment variable's value that a rule looks at.
const LONGEST_VALUE: usize = 4_096;

/// A pattern is not usable.
#[derive(Debug, thiserror::Error)]
#[error("the rule {rule:?} is no regular expression: {why}")]
pub struct RulesError {
    /// Which.
    rule: String,
    /// Why.
    why: regex_lite::Error,
}

/// A rule of the configuration. What its pattern's group `job` matches is the job's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Pattern of the paths of cgroups, and of `/kubernetes/NAMESPACE/NAME` of a pod.
    Cgroup(String),
    /// An environment variable of a process that is in the cgroups.
    Environment {
        /// Its name.
        name: String,
        /// Pattern of its value; without one the value is the id.
        pattern: Option<String>,
    },
    /// Pattern of the command line of such a process, its words with a space between them.
    CommandLine(String),
    /// Pattern of the name of the systemd unit.
    Unit(String),
    /// Pattern of a pod's `NAMESPACE/NAME`.
    Pod(String),
}

/// What rules look at of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Looks {
    /// Environments.
    pub environment: bool,
    /// Command lines.
    pub command_line: bool,
}

/// A process as it was started (proc(5), `/proc/PID/environ` and `/proc/PID/cmdline`); empty where it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Whether it began just now, in cgroups where somebody older is: it may be on its way to others.
    pub is_fresh: bool,
    /// `NAME=VALUE`, each with a byte 0 behind it.
    pub environment: Vec<u8>,
    /// Its words, each with a byte 0 behind it.
    pub command_line: Vec<u8>,
}

/// What is known of a place beside its processes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Paths of its cgroups.
    pub(super) paths: &'a [&'a str],
    /// The systemd unit, empty if it is in none.
    pub(super) unit: &'a str,
    /// The pod, if its name is known.
    pub(super) pod: Option<&'a Pod>,
}

/// What the rules say of a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The job's id, if it is a job's.
    pub(super) job: Option<String>,
    /// Whether processes were looked at to find out.
    pub(super) is_by_processes: bool,
    /// Whether a process that began just now would have told something else, had it been taken at its word.
    pub(super) is_early: bool,
}

/// The rules.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    own: Vec<Compiled>,
}

#[derive(Debug, Clone)]
enum Compiled {
    Cgroup(Regex),
    Environment(String, Option<Regex>),
    CommandLine(Regex),
    Unit(Regex),
    Pod(Regex),
}

impl Rules {
    /// The built-in rules, and before them those of the configuration.
    ///
    /// # Errors
    /// When a pattern is no regular expression.
    pub fn new(rules: &[Rule]) -> Result<Self, RulesError> {
        Ok(Self { own: rules.iter().map(Compiled::new).collect::<Result<_, _>>()? })
    }

    /// What they look at of processes. With neither, no process need be read.
    #[must_use]
    pub fn looks(&self) -> Looks {
        looks(self.own.iter())
    }

    /// The job of a place. Processes are asked for only if a rule looks at them that goes before the first one that matches
    /// without, oldest first.
    pub(super) fn job<P: Iterator<Item = Process>>(
        &self,
        place: Place<'_>,
        processes: impl FnOnce(Looks) -> P,
    ) -> Found {
        let mut found = self.own.iter().enumerate().find_map(|(at, rule)| Some((at, rule.of_place(place)?)));
        let before = |found: &Option<(usize, String)>| {
            let rules = self.own.get(..found.as_ref().map_or(self.own.len(), |(at, _)| *at)).unwrap_or_default();
            rules.iter().enumerate().filter(|(_, rule)| rule.looks() != Looks::default())
        };
        let looks = looks(before(&found).map(|(_, rule)| rule));
        let (is_by_processes, mut is_early) = (looks != Looks::default(), false);
        if is_by_processes {
            for process in processes(looks) {
                // Of those that one rule matches the oldest one decides.
                match before(&found).find_map(|(at, rule)| Some((at, rule.of_process(&process)?))) {
                    // A worker's cgroup would be its child's for good.
                    Some(_) if process.is_fresh => is_early = true,
                    Some(better) => found = Some(better),
                    None => {}
                }
                if before(&found).next().is_none() {
                    break;
                }
            }
        }
        let job = found.map(|(_, job)| job);
        let built_in = || {
            let path = place.paths.iter().find_map(|path| built_in::of_path(path)).map(cut);
            path.or_else(|| built_in::of_pod(place.pod?).as_deref().map(cut))
        };
        Found { job: job.or_else(built_in), is_by_processes, is_early }
    }
}

impl Compiled {
    fn new(rule: &Rule) -> Result<Self, RulesError> {
        let compile = |pattern: &String| Regex::new(pattern).map_err(|why| RulesError { rule: pattern.clone(), why });
        Ok(match rule {
            Rule::Cgroup(pattern) => Self::Cgroup(compile(pattern)?),
            Rule::Environment { name, pattern } => {
                Self::Environment(name.clone(), pattern.as_ref().map(compile).transpose()?)
            }
            Rule::CommandLine(pattern) => Self::CommandLine(compile(pattern)?),
            Rule::Unit(pattern) => Self::Unit(compile(pattern)?),
            Rule::Pod(pattern) => Self::Pod(compile(pattern)?),
        })
    }

    fn looks(&self) -> Looks {
        Looks { environment: matches!(self, Self::Environment(..)), command_line: matches!(self, Self::CommandLine(_)) }
    }

    fn of_place(&self, place: Place<'_>) -> Option<String> {
        match self {
            Self::Cgroup(rule) => place.paths.iter().find_map(|path| captured(rule, path)).or_else(|| {
                let pod = place.pod?;
                captured(rule, &format!("/kubernetes/{}/{}", pod.namespace, pod.name))
            }),
            Self::Unit(rule) => captured(rule, place.unit),
            Self::Pod(rule) => place.pod.and_then(|pod| captured(rule, &format!("{}/{}", pod.namespace, pod.name))),
            Self::Environment(..) | Self::CommandLine(_) => None,
        }
    }

    fn of_process(&self, process: &Process) -> Option<String> {
        match self {
            Self::Environment(name, rule) => {
                let value = variable(&process.environment, name)?;
                let value = String::from_utf8_lossy(value.get(..LONGEST_VALUE).unwrap_or(value));
                match rule {
                    Some(rule) => captured(rule, &value),
                    None => Some(cut(&value)).filter(|job| !job.is_empty()),
                }
            }
            Self::CommandLine(rule) => {
                let words = process.command_line.strip_suffix(&[0]).unwrap_or(&process.command_line);
                let words: Vec<u8> = words.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
                captured(rule, &String::from_utf8_lossy(&words))
            }
            Self::Cgroup(_) | Self::Unit(_) | Self::Pod(_) => None,
        }
    }
}

fn looks<'a>(rules: impl Iterator<Item = &'a Compiled>) -> Looks {
    rules.map(Compiled::looks).fold(Looks::default(), |all, one| Looks {
        environment: all.environment || one.environment,
        command_line: all.command_line || one.command_line,
    })
}

/// What a rule takes for the job's id. An empty one is none.
fn captured(rule: &Regex, text: &str) -> Option<String> {
    rule.captures(text)?.name("job").map(|found| cut(found.as_str())).filter(|job| !job.is_empty())
}

/// The value of a variable; of several of one name the first, as getenv(3) has it.
fn variable<'a>(environment: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut all = environment.split(|byte| *byte == 0);
    all.find_map(|one| one.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests;
