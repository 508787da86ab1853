//! Every question that dashboards and rules ask, as the back-ends get it: variables filled in, and of an alert what it
//! compares, since an alert itself has no answer while all is well.

use std::fs;

use anyhow::{Context as _, Result, anyhow};
use promql_parser::parser::{Expr, parse};
use serde_json::Value;

use super::provision::root;

/// One question, and who asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Dashboard and panel, or the rule.
    pub asker: String,
    /// As it is sent.
    pub expression: String,
}

/// Every query of every panel, and of every variable the samples that its values come from. Ranges that Grafana chooses
/// are `interval` and `range`.
///
/// # Errors
/// When a dashboard cannot be read.
pub fn of_dashboards(interval: &str, range: &str) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    let mut files: Vec<_> =
        fs::read_dir(root().join("dashboards"))?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "json")) {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
        let title = dashboard["title"].as_str().context("no title")?;
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut names = Vec::new();
        for variable in list(&dashboard["templating"]["list"]).iter().filter(|one| one["type"] == "query") {
            let name = variable["name"].as_str().context("no name")?;
            let query = variable["definition"].as_str().context("no definition")?;
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (metric, label) = inside.and_then(|inside| inside.split_once(", ")).context(query.to_owned())?;
            let regex = variable["regex"].as_str().filter(|regex| !regex.is_empty()).unwrap_or(".+");
            let expression = format!("count by ({label}) ({metric}{{{label}=~\"{regex}\"}})");
            questions.push(Question { asker: format!("{title} / ${name}"), expression });
            names.push(name.to_owned());
        }
        for panel in list(&dashboard["panels"]) {
            for target in list(&panel["targets"]) {
                let expression = target["expr"].as_str().context("no expression")?;
                let mut expression = expression.replace("$__rate_interval", interval).replace("$__range", range);
                for name in &names {
                    expression = expression.replace(&format!("${name}\""), ".*\"");
                }
                let asker = format!("{title} / {}", panel["title"].as_str().unwrap_or_default());
                questions.push(Question { asker, expression });
            }
        }
    }
    Ok(questions)
}

/// Of every rule that Prometheus has loaded (`/api/v1/rules`): a recording rule's expression and its name, and what an alert
/// compares.
///
/// # Errors
/// When an expression cannot be read.
pub fn of_rules(rules: &Value) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    let groups = rules["data"]["groups"].as_array().context("no groups")?;
    for rule in groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten()) {
        let (name, query) = (rule["name"].as_str().context("no name")?, rule["query"].as_str().context("no query")?);
        let mut ask = |expression: String| questions.push(Question { asker: format!("rule {name}"), expression });
        if rule["type"] == "recording" {
            ask(query.to_owned());
            ask(name.to_owned());
        } else {
            let tree = parse(query).map_err(|error| anyhow!("{query}: {error}"))?;
            compared(&tree).into_iter().for_each(&mut ask);
        }
    }
    Ok(questions)
}

/// The sides of comparisons, each without its own comparisons; numbers are left out.
fn compared(tree: &Expr) -> Vec<String> {
    match tree {
        Expr::Paren(inside) => compared(&inside.expr),
        Expr::Binary(binary) if binary.op.is_comparison_operator() || binary.op.is_set_operator() => {
            [compared(&binary.lhs), compared(&binary.rhs)].concat()
        }
        Expr::NumberLiteral(_) => Vec::new(),
        other => vec![other.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_alert_both_sides_are_asked_for() {
        let found = parse("sum(a) == 0 and on (x) (b > c)").map(|tree| compared(&tree));
        assert_eq!(found, Ok(["sum(a)", "b", "c"].map(str::to_owned).to_vec()));
    }
}
