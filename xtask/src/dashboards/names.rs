//! Names of metrics and labels: which there are, by `docs/metrics.md` and `dashboards/exceptions.toml`, and whether an expression
//! keeps to them. How an expression is read is `expression`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::expression::Asked;

/// Labels that Prometheus adds, that of a bucket, and the one that panels make of ours and of Prometheus' `job`.
const ADDED: [&str; 5] = ["instance", "job", "exported_job", "le", "job_id"];

/// Which names there are, and where they are used.
pub(super) struct Names {
    /// Those that we have, with their labels where it is known which they are.
    known: BTreeMap<String, Option<BTreeSet<String>>>,
    exceptions: Exceptions,
    used: BTreeSet<String>,
}

/// `dashboards/exceptions.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    elsewhere: Vec<Elsewhere>,
    absent: Vec<Absent>,
}

/// Families of another exporter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Elsewhere {
    name: String,
    by: String,
    reason: String,
}

/// Families that nobody exports in the proof.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Absent {
    name: String,
    reason: String,
    #[serde(rename = "while")]
    _while: Option<String>,
}

impl Names {
    /// Those of the reference, of the exceptions, and of these recording rules.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn read(root: &Path, rules: impl Iterator<Item = String>) -> Result<Self> {
        let reference = fs::read_to_string(root.join("docs/metrics.md")).context("cannot read docs/metrics.md")?;
        let mut known: BTreeMap<String, _> = rules.map(|name| (name, None)).collect();
        // Prometheus' own, of every target.
        known.insert("up".to_owned(), None);
        let mut last = String::new();
        for line in reference.lines() {
            let kind = ["counter", "gauge", "histogram"].into_iter().find(|kind| line.starts_with(*kind));
            if let Some(name) = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`')) {
                last = name.replace("{service}", "scheduler");
            } else if let Some(kind) = kind.filter(|_| !known.contains_key(&last)) {
                let labels: BTreeSet<String> = line.split('`').skip(1).step_by(2).map(str::to_owned).collect();
                if kind == "histogram" {
                    let ends = ["_bucket", "_sum", "_count"].map(|end| (format!("{last}{end}"), Some(labels.clone())));
                    known.extend(ends);
                }
                known.insert(last.clone(), Some(labels));
            }
        }
        let exceptions = fs::read_to_string(root.join("dashboards/exceptions.toml"))?;
        let exceptions = toml::from_str(&exceptions).context("cannot understand dashboards/exceptions.toml")?;
        Ok(Self { known, exceptions, used: BTreeSet::new() })
    }

    /// What is wrong with the names of an expression, and which labels its answer has if that can be told.
    pub(super) fn of(&mut self, expression: &str, variables: &[&str]) -> (Vec<String>, Option<BTreeSet<String>>) {
        let asked = match Asked::of(expression, variables) {
            Ok(asked) => asked,
            Err(error) => return (vec![format!("asks for {expression}, which is no PromQL: {error}")], None),
        };
        let elsewhere = |name: &String| {
            let prefixes = self.exceptions.elsewhere.iter().map(|one| &one.name);
            prefixes.chain(self.exceptions.absent.iter().map(|one| &one.name)).any(|prefix| name.starts_with(prefix))
        };
        let unknown = asked.metrics.iter().filter(|name| !self.known.contains_key(*name) && !elsewhere(name));
        let mut problems: Vec<String> = unknown
            .map(|name| format!("asks for {name}, which docs/metrics.md and dashboards/exceptions.toml do not have"))
            .collect();
        let families: Option<Vec<_>> = asked.metrics.iter().map(|name| self.known.get(name)?.as_ref()).collect();
        // Where a name is somebody else's, or a rule's, its labels are not ours to know.
        if let Some(families) = families.filter(|families| !families.is_empty()) {
            let missing = asked.labels.iter().filter(|label| {
                !ADDED.contains(&label.as_str()) && !families.iter().any(|labels| labels.contains(*label))
            });
            problems
                .extend(missing.map(|label| format!("asks for the label {label}, which nothing in {expression} has")));
        }
        self.used.extend(asked.metrics);
        (problems, asked.answered)
    }

    /// Exceptions that nothing asks for, or that say nothing.
    pub(super) fn not_needed(&self) -> Vec<String> {
        let elsewhere = self.exceptions.elsewhere.iter().map(|one| (&one.name, &one.reason, !one.by.is_empty()));
        let absent = self.exceptions.absent.iter().map(|one| (&one.name, &one.reason, true));
        let unused = elsewhere.chain(absent).filter(|(prefix, reason, by)| {
            !*by || reason.is_empty() || !self.used.iter().any(|name| name.starts_with(*prefix))
        });
        unused
            .map(|(prefix, ..)| {
                format!("dashboards/exceptions.toml: {prefix} is asked for by nothing, or has no reason")
            })
            .collect()
    }
}
