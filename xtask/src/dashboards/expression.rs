//! What an expression of PromQL asks for. What Grafana puts in before it sends one is put in here too; running it is the
//! kernel tests' (`tests/src/monitoring`).

use std::collections::BTreeSet;
use std::convert::Infallible;

use anyhow::{Result, anyhow};
use promql_parser::parser::{Expr, parse};
use promql_parser::util::{ExprVisitor, walk_expr};

/// Names of all metrics in an expression of a dashboard with these variables.
///
/// # Errors
/// When it is no PromQL.
pub(super) fn metrics(expression: &str, variables: &[&str]) -> Result<BTreeSet<String>> {
    let filled = filled(expression, variables);
    let tree = parse(&filled).map_err(|error| anyhow!("{error}"))?;
    let mut names = Names(BTreeSet::new());
    let Ok(_) = walk_expr(&mut names, &tree);
    Ok(names.0)
}

fn filled(expression: &str, variables: &[&str]) -> String {
    let mut text = expression.replace("$__rate_interval", "5m").replace("$__range", "1h");
    for name in variables {
        text = text.replace(&format!("${name}\""), ".*\"");
    }
    text
}

struct Names(BTreeSet<String>);

impl ExprVisitor for Names {
    type Error = Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
        let selector = match expression {
            Expr::VectorSelector(selector) => Some(selector),
            Expr::MatrixSelector(selector) => Some(&selector.vs),
            _ => None,
        };
        self.0.extend(selector.and_then(|selector| selector.name.clone()));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::metrics;

    #[test]
    fn every_metric_is_found_and_variables_are_filled_in() {
        let found = metrics("sum(rate(a_total{x=~\"$x\"}[$__rate_interval])) / (b > 0) or on (y) c", &["x"]);
        assert_eq!(found.map(Vec::from_iter).ok(), Some(["a_total", "b", "c"].map(str::to_owned).to_vec()));
        assert_eq!(metrics("sum(a", &[]).map(|found| found.len()).ok(), None);
    }
}
