//! The rules of what is a job: from the configuration to `owner`, and the processes that they ask for, from the kernel side's
//! cgroups by way of `host`.

use std::path::PathBuf;

use crate::config::{JobRule, Settings};
use crate::host::{Parts, Resident, residents};
use crate::kernel::Cgroups;
use crate::model::Residents;
use crate::owner::{Looks, Process, Rule, Rules, RulesError};
use crate::snapshot::{PlaceKey, Standing};

/// The rules that the settings say.
///
/// # Errors
/// When a pattern is no regular expression.
pub(super) fn rules(settings: &Settings) -> Result<Rules, RulesError> {
    let rules: Vec<Rule> = settings.jobs.rules.iter().cloned().map(rule).collect();
    Rules::new(&rules)
}

fn rule(rule: JobRule) -> Rule {
    match rule {
        JobRule::Cgroup(pattern) => Rule::Cgroup(pattern),
        JobRule::Environment { name, pattern } => Rule::Environment { name, pattern },
        JobRule::CommandLine(pattern) => Rule::CommandLine(pattern),
        JobRule::Unit(pattern) => Rule::Unit(pattern),
        JobRule::Pod(pattern) => Rule::Pod(pattern),
    }
}

/// The processes of this host, by their cgroups.
#[derive(Debug)]
pub(super) struct OfHost(pub(super) Cgroups);

impl Residents for OfHost {
    fn of(&mut self, place: PlaceKey, standing: &Standing, looks: Looks) -> Box<dyn Iterator<Item = Process> + '_> {
        let Looks { environment, command_line } = looks;
        let cgroups = self.0.directories(place, &standing.paths).unwrap_or_default();
        // Who is nowhere but in the roots is in nobody's cgroup.
        if cgroups.iter().all(|cgroup| cgroup.is_root) {
            return Box::new(std::iter::empty());
        }
        let cgroups: Vec<PathBuf> = cgroups.into_iter().map(|cgroup| cgroup.path).collect();
        let found = residents(&cgroups, Parts { environment, command_line });
        Box::new(found.map(|Resident { is_fresh, environment, command_line }| Process {
            is_fresh,
            environment,
            command_line,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_configuration_is_the_same_for_whom_it_is() {
        let text = || "x(?<job>y)".to_owned();
        let environment = |pattern: Option<String>| JobRule::Environment { name: "A".to_owned(), pattern };
        let table = [
            (JobRule::Cgroup(text()), Rule::Cgroup(text())),
            (environment(None), Rule::Environment { name: "A".to_owned(), pattern: None }),
            (environment(Some(text())), Rule::Environment { name: "A".to_owned(), pattern: Some(text()) }),
            (JobRule::CommandLine(text()), Rule::CommandLine(text())),
            (JobRule::Unit(text()), Rule::Unit(text())),
            (JobRule::Pod(text()), Rule::Pod(text())),
        ];
        for (configured, wanted) in table {
            assert_eq!(rule(configured), wanted);
        }
    }
}
