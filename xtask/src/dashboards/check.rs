//! The rules that dashboards and alerting rules keep, found without running anything: every name is somebody's, every
//! panel says what it shows, every alert has its runbook and its unit test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use super::expression::metrics;
use super::shipped;
use super::source::{Dashboard, Kind, read_all};

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

/// A file of `deploy/prometheus/rules`.
#[derive(Debug, Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    alert: Option<String>,
    record: Option<String>,
    expr: String,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Debug, Default, Deserialize)]
struct Annotations {
    #[serde(default)]
    summary: String,
    #[serde(default)]
    runbook: String,
}

/// Which names there are, and where they are used.
struct Names {
    known: BTreeSet<String>,
    exceptions: Exceptions,
    used: BTreeSet<String>,
}

/// Everything that is wrong, a sentence each.
pub(crate) fn problems(root: &Path) -> Result<Vec<String>> {
    let rules = rules(root)?;
    let mut names = Names::read(root, &rules)?;
    let mut problems = equal_to_source(root)?;
    let sources = read_all(root)?;
    let mut seen = BTreeSet::new();
    for (file, dashboard) in &sources {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        for unique in [&dashboard.uid, &dashboard.title] {
            if !seen.insert(unique.clone()) {
                problems
                    .push(format!("{name}: {unique:?} is another dashboard's too, wanted a uid and title of its own"));
            }
        }
        problems.extend(of_dashboard(dashboard, &mut names).into_iter().map(|problem| format!("{name}: {problem}")));
    }
    problems.extend(of_rules(root, &rules, &mut names)?);
    problems.extend(names.not_needed());
    Ok(problems)
}

/// What is shipped must be what the source makes.
fn equal_to_source(root: &Path) -> Result<Vec<String>> {
    let wanted = shipped(root)?;
    let mut problems = Vec::new();
    for (file, text) in &wanted {
        if fs::read_to_string(file).ok().as_ref() != Some(text) {
            let file = file.file_name().unwrap_or_default().to_string_lossy();
            problems.push(format!("dashboards/{file}: is not what its source makes\nhint: cargo xtask dashboards"));
        }
    }
    for entry in fs::read_dir(root.join("dashboards"))? {
        let file = entry?.path();
        if file.extension().is_some_and(|end| end == "json") && !wanted.iter().any(|(known, _)| *known == file) {
            problems.push(format!("{}: has no source in dashboards/source", file.display()));
        }
    }
    Ok(problems)
}

fn of_dashboard(dashboard: &Dashboard, names: &mut Names) -> Vec<String> {
    let mut problems = Vec::new();
    let mut titles = BTreeSet::new();
    let mut complain = |panel: &str, what: String| problems.push(format!("panel {panel:?} {what}"));
    for panel in &dashboard.panels {
        if !titles.insert(&panel.title) {
            complain(&panel.title, "has the title of another panel, wanted one of its own".to_owned());
        }
        if panel.kind == Kind::Row {
            continue;
        }
        let no_value = panel.no_value.as_deref().unwrap_or_default();
        for (what, text) in [("description", &*panel.description), ("unit", &*panel.unit), ("no_value", no_value)] {
            if text.is_empty() {
                complain(&panel.title, format!("has no {what}"));
            }
        }
        if panel.queries.is_empty() || (panel.kind == Kind::Table && panel.queries.len() != 1) {
            complain(&panel.title, format!("has {} queries, wanted some, a table one", panel.queries.len()));
        }
        if (panel.kind == Kind::Table) == panel.columns.is_empty() {
            complain(&panel.title, "has columns, or is a table without them".to_owned());
        }
        for query in &panel.queries {
            if query.legend.is_empty() {
                complain(&panel.title, format!("has no legend for {}", query.expr));
            }
            let variables: Vec<&str> = dashboard.variables.iter().map(|variable| &*variable.name).collect();
            for problem in names.of(&query.expr, &variables) {
                complain(&panel.title, problem);
            }
        }
    }
    for variable in &dashboard.variables {
        let metric = variable.query.strip_prefix("label_values(").and_then(|rest| rest.split_once(','));
        for problem in names.of(metric.map_or("", |(metric, _)| metric), &[]) {
            complain(&variable.name, problem);
        }
    }
    problems
}

fn rules(root: &Path) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for entry in fs::read_dir(root.join("deploy/prometheus/rules"))? {
        let file = entry?.path();
        let text = fs::read_to_string(&file)?;
        let read: Rules =
            serde_saphyr::from_str(&text).with_context(|| format!("cannot understand {}", file.display()))?;
        rules.extend(read.groups.into_iter().flat_map(|group| group.rules));
    }
    Ok(rules)
}

fn of_rules(root: &Path, rules: &[Rule], names: &mut Names) -> Result<Vec<String>> {
    let runbooks = fs::read_to_string(root.join("docs/runbooks.md")).context("cannot read docs/runbooks.md")?;
    let sections: BTreeSet<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut problems = Vec::new();
    let mut alerts = BTreeSet::new();
    let tested = tested_alerts(root)?;
    for rule in rules {
        let name = rule.alert.as_deref().or(rule.record.as_deref()).unwrap_or_default();
        problems.extend(names.of(&rule.expr, &[]).into_iter().map(|problem| format!("rule {name} {problem}")));
        let Some(alert) = &rule.alert else { continue };
        alerts.insert(alert.as_str());
        let runbook = format!("docs/runbooks.md#{}", alert.to_lowercase());
        if rule.annotations.runbook != runbook {
            problems.push(format!("alert {alert}: its runbook is {:?}, wanted {runbook}", rule.annotations.runbook));
        }
        if !sections.contains(alert.as_str()) {
            problems.push(format!("alert {alert}: docs/runbooks.md has no section \"## {alert}\""));
        }
        if rule.annotations.summary.is_empty() {
            problems.push(format!("alert {alert}: has no summary"));
        }
        for (fires, what) in [(true, "fires"), (false, "does not fire")] {
            if !tested.contains(&(alert.clone(), fires)) {
                problems.push(format!("alert {alert}: deploy/prometheus/tests has no moment when it {what}"));
            }
        }
    }
    let is_alert = |section: &&&str| section.chars().next().is_some_and(char::is_uppercase) && !section.contains(' ');
    let left = sections.iter().filter(is_alert).filter(|section| !alerts.contains(**section));
    problems.extend(left.map(|section| format!("docs/runbooks.md: section {section} is of no alert")));
    Ok(problems)
}

/// Alerts of the unit tests, each with whether a test wants it to fire.
fn tested_alerts(root: &Path) -> Result<BTreeSet<(String, bool)>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root.join("deploy/prometheus/tests"))? {
        let file = entry?.path();
        let tests: Value = serde_saphyr::from_str(&fs::read_to_string(&file)?)
            .with_context(|| format!("cannot understand {}", file.display()))?;
        let groups = tests["tests"].as_array().into_iter().flatten();
        for test in groups.flat_map(|group| group["alert_rule_test"].as_array().into_iter().flatten()) {
            let fires = test["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
            found.insert((test["alertname"].as_str().unwrap_or_default().to_owned(), fires));
        }
    }
    Ok(found)
}

impl Names {
    fn read(root: &Path, rules: &[Rule]) -> Result<Self> {
        let reference = fs::read_to_string(root.join("docs/metrics.md")).context("cannot read docs/metrics.md")?;
        let mut known: BTreeSet<String> = rules.iter().filter_map(|rule| rule.record.clone()).collect();
        // Prometheus' own, of every target.
        known.insert("up".to_owned());
        let mut last = String::new();
        for line in reference.lines() {
            if let Some(name) = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`')) {
                last = name.replace("{service}", "scheduler");
                known.insert(last.clone());
            } else if line.starts_with("histogram") {
                known.extend(["_bucket", "_sum", "_count"].map(|end| format!("{last}{end}")));
            }
        }
        let exceptions = fs::read_to_string(root.join("dashboards/exceptions.toml"))?;
        let exceptions = toml::from_str(&exceptions).context("cannot understand dashboards/exceptions.toml")?;
        Ok(Self { known, exceptions, used: BTreeSet::new() })
    }

    /// What is wrong with the names of an expression.
    fn of(&mut self, expression: &str, variables: &[&str]) -> Vec<String> {
        let found = match metrics(expression, variables) {
            Ok(found) => found,
            Err(error) => return vec![format!("asks for {expression}, which is no PromQL: {error}")],
        };
        let elsewhere = |name: &String| {
            let prefixes = self.exceptions.elsewhere.iter().map(|one| &one.name);
            prefixes.chain(self.exceptions.absent.iter().map(|one| &one.name)).any(|prefix| name.starts_with(prefix))
        };
        let unknown = found.iter().filter(|name| !self.known.contains(*name) && !elsewhere(name));
        let problems = unknown
            .map(|name| format!("asks for {name}, which docs/metrics.md and dashboards/exceptions.toml do not have"));
        let problems = problems.collect();
        self.used.extend(found);
        problems
    }

    /// Exceptions that nothing asks for, or that say nothing.
    fn not_needed(&self) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn dashboards_and_rules_keep_the_rules() -> Result<()> {
        assert_eq!(problems(&Workspace::new().root)?, Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn a_panel_without_meaning_and_a_misspelt_metric_are_named() -> Result<()> {
        let mut names = Names::read(&Workspace::new().root, &[])?;
        let dashboard: Dashboard = toml::from_str(
            "uid = \"x\"\ntitle = \"X\"\ndescription = \"\"\n[[panel]]\ntitle = \"P\"\nkind = \"stat\"\n\
             queries = [{ legend = \"\", expr = \"sum(sockmeter_sokets)\" }]\n",
        )?;
        assert_eq!(
            of_dashboard(&dashboard, &mut names),
            [
                "panel \"P\" has no description",
                "panel \"P\" has no unit",
                "panel \"P\" has no no_value",
                "panel \"P\" has no legend for sum(sockmeter_sokets)",
                "panel \"P\" asks for sockmeter_sokets, which docs/metrics.md and dashboards/exceptions.toml do not have",
            ]
        );
        Ok(())
    }
}
