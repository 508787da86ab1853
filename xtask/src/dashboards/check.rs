//! The rules that dashboards and alerting rules keep, found without running anything: every name is somebody's, every
//! panel says what it shows, every alert has its runbook and its unit test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use super::expression::Asked;
use super::names::Names;
use super::shipped;
use super::source::{Dashboard, Kind, read_all};

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

/// Units as Grafana names them (`getCategories` of `@grafana/data`): another one is shown as if it were text.
const UNITS: [&str; 14] = [
    "short",
    "bytes",
    "mbytes",
    "Bps",
    "pps",
    "reqps",
    "ops",
    "mps",
    "s",
    "ns",
    "percent",
    "percentunit",
    "celsius",
    "watt",
];

/// Everything that is wrong, a sentence each.
pub(crate) fn problems(root: &Path) -> Result<Vec<String>> {
    let rules = rules(root)?;
    let mut names = Names::read(root, rules.iter().filter_map(|rule| rule.record.clone()))?;
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
        if !panel.unit.is_empty() && !panel.unit.starts_with("suffix:") && !UNITS.contains(&panel.unit.as_str()) {
            complain(
                &panel.title,
                format!("has the unit {}, wanted one of Grafana's: {}", panel.unit, UNITS.join(", ")),
            );
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
            let (problems, answered) = names.of(&query.expr, &variables);
            for problem in problems {
                complain(&panel.title, problem);
            }
            let shown = shown(&query.legend).chain(panel.columns.iter().map(|(label, _)| label.as_str()));
            let shown = shown.filter(|label| *label != "Value");
            for label in shown.filter(|label| answered.as_ref().is_some_and(|answered| !answered.contains(*label))) {
                complain(&panel.title, format!("shows {label}, which the answer to {} does not have", query.expr));
            }
        }
    }
    for variable in &dashboard.variables {
        let inside = variable.query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (metric, label) = inside.and_then(|inside| inside.split_once(", ")).unwrap_or_default();
        for problem in names.of(&format!("count by ({label}) ({metric})"), &[]).0 {
            complain(&variable.name, problem);
        }
    }
    problems
}

/// Labels in a legend: what stands between double braces.
fn shown(legend: &str) -> impl Iterator<Item = &str> {
    legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0))
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
    let tested = Tested::read(root)?;
    for rule in rules {
        let name = rule.alert.as_deref().or(rule.record.as_deref()).unwrap_or_default();
        problems.extend(names.of(&rule.expr, &[]).0.into_iter().map(|problem| format!("rule {name} {problem}")));
        if rule.record.as_deref().is_some_and(|record| !tested.recorded.contains(record)) {
            problems.push(format!("rule {name}: no promql_expr_test of deploy/prometheus/tests asks for it"));
        }
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
            if !tested.alerts.contains(&(alert.clone(), fires)) {
                problems.push(format!("alert {alert}: deploy/prometheus/tests has no moment when it {what}"));
            }
        }
    }
    let is_alert = |section: &&&str| section.chars().next().is_some_and(char::is_uppercase) && !section.contains(' ');
    let left = sections.iter().filter(is_alert).filter(|section| !alerts.contains(**section));
    problems.extend(left.map(|section| format!("docs/runbooks.md: section {section} is of no alert")));
    Ok(problems)
}

/// What the unit tests look at.
#[derive(Debug, Default)]
struct Tested {
    /// Alerts, each with whether a test wants it to fire.
    alerts: BTreeSet<(String, bool)>,
    /// Metrics that a test asks for and wants samples of.
    recorded: BTreeSet<String>,
}

impl Tested {
    fn read(root: &Path) -> Result<Self> {
        let mut found = Self::default();
        for entry in fs::read_dir(root.join("deploy/prometheus/tests"))? {
            let file = entry?.path();
            let tests: Value = serde_saphyr::from_str(&fs::read_to_string(&file)?)
                .with_context(|| format!("cannot understand {}", file.display()))?;
            let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
            for group in list(&tests["tests"]) {
                for test in list(&group["alert_rule_test"]) {
                    let name = test["alertname"].as_str().unwrap_or_default().to_owned();
                    found.alerts.insert((name, !list(&test["exp_alerts"]).is_empty()));
                }
                for test in
                    list(&group["promql_expr_test"]).iter().filter(|test| !list(&test["exp_samples"]).is_empty())
                {
                    found.recorded.extend(Asked::of(test["expr"].as_str().unwrap_or_default(), &[])?.metrics);
                }
            }
        }
        Ok(found)
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
        let mut names = Names::read(&Workspace::new().root, std::iter::empty())?;
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

    #[test]
    fn a_label_that_is_not_there_and_a_unit_that_grafana_does_not_know_are_named() -> Result<()> {
        let mut names = Names::read(&Workspace::new().root, std::iter::empty())?;
        let dashboard: Dashboard = toml::from_str(
            "uid = \"x\"\ntitle = \"X\"\ndescription = \"\"\n\
             [[variable]]\nname = \"v\"\ntitle = \"V\"\nquery = \"label_values(sockmeter_sockets, prot)\"\n\
             [[panel]]\ntitle = \"P\"\nkind = \"table\"\ndescription = \"p\"\nunit = \"Bbs\"\nno_value = \"n\"\n\
             columns = [[\"role\", \"Role\"], [\"Value\", \"Sockets\"]]\n\
             queries = [{ legend = \"{{state}} {{protocol}}\", expr = \"sum by (state, direction) (sockmeter_sockets)\" }]\n",
        )?;
        let expression = "sum by (state, direction) (sockmeter_sockets)";
        assert_eq!(
            of_dashboard(&dashboard, &mut names),
            [
                format!("panel \"P\" has the unit Bbs, wanted one of Grafana's: {}", UNITS.join(", ")),
                format!("panel \"P\" asks for the label direction, which nothing in {expression} has"),
                format!("panel \"P\" shows protocol, which the answer to {expression} does not have"),
                format!("panel \"P\" shows role, which the answer to {expression} does not have"),
                "panel \"v\" asks for the label prot, which nothing in count by (prot) (sockmeter_sockets) has"
                    .to_owned(),
            ]
        );
        Ok(())
    }
}
