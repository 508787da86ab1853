//! What an expression of PromQL asks for, and which labels its answer has. What Grafana puts in before it sends one is put in
//! here too; running it is the kernel tests' (`tests/src/monitoring`).

use std::collections::BTreeSet;
use std::convert::Infallible;

use anyhow::{Result, anyhow};
use promql_parser::parser::{AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, parse};
use promql_parser::util::{ExprVisitor, walk_expr};

/// What is in an expression of a dashboard with these variables.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Names of all metrics.
    pub(super) metrics: BTreeSet<String>,
    /// Labels that it wants of them.
    pub(super) labels: BTreeSet<String>,
    /// Labels that the answer may have; `None` where that is the metrics' to say.
    pub(super) answered: Option<BTreeSet<String>>,
}

impl Asked {
    /// Reads it.
    ///
    /// # Errors
    /// When it is no PromQL.
    pub(super) fn of(expression: &str, variables: &[&str]) -> Result<Self> {
        let filled = filled(expression, variables);
        let tree = parse(&filled).map_err(|error| anyhow!("{error}"))?;
        let mut asked = Self::default();
        let Ok(_) = walk_expr(&mut asked, &tree);
        asked.answered = answer(&tree);
        Ok(asked)
    }
}

fn filled(expression: &str, variables: &[&str]) -> String {
    let mut text = expression.replace("$__rate_interval", "5m").replace("$__range", "1h");
    for name in variables {
        text = text.replace(&format!("${name}\""), ".*\"");
    }
    text
}

impl ExprVisitor for Asked {
    type Error = Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
        let selector = match expression {
            Expr::VectorSelector(selector) => Some(selector),
            Expr::MatrixSelector(selector) => Some(&selector.vs),
            Expr::Aggregate(aggregate) => {
                self.wants(aggregate.modifier.as_ref());
                None
            }
            Expr::Binary(binary) => {
                self.wants(binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref()));
                None
            }
            Expr::Call(call) => {
                // label_replace(samples, to, with, from, pattern)
                self.labels.extend(text(call, 3));
                None
            }
            _ => None,
        };
        if let Some(selector) = selector {
            self.metrics.extend(selector.name.clone());
            self.labels.extend(selector.matchers.matchers.iter().map(|matcher| matcher.name.clone()));
        }
        Ok(true)
    }
}

impl Asked {
    fn wants(&mut self, modifier: Option<&LabelModifier>) {
        self.labels.extend(modifier.into_iter().flat_map(|modifier| modifier.labels().labels.clone()));
    }
}

/// An argument that is a string.
fn text(call: &Call, place: usize) -> Option<String> {
    match call.args.args.get(place).map(AsRef::as_ref) {
        Some(Expr::StringLiteral(text)) => Some(text.val.clone()),
        _ => None,
    }
}

/// Labels that an answer may have; `None` for what the metrics have, and for a number or a string, which takes none away from
/// what it is put together with.
fn answer(tree: &Expr) -> Option<BTreeSet<String>> {
    match tree {
        Expr::Paren(inside) => answer(&inside.expr),
        Expr::Unary(inside) => answer(&inside.expr),
        Expr::Subquery(inside) => answer(&inside.expr),
        Expr::Aggregate(aggregate) => of_aggregate(aggregate),
        Expr::Binary(binary) => of_binary(binary),
        Expr::Call(call) => of_call(call),
        _ => None,
    }
}

fn of_aggregate(aggregate: &AggregateExpr) -> Option<BTreeSet<String>> {
    match &aggregate.modifier {
        // Those that choose from what there is, such as topk.
        None if aggregate.param.is_some() => answer(&aggregate.expr),
        None => Some(BTreeSet::new()),
        Some(LabelModifier::Include(labels)) => Some(labels.labels.iter().cloned().collect()),
        Some(LabelModifier::Exclude(_)) => None,
    }
}

fn of_binary(binary: &BinaryExpr) -> Option<BTreeSet<String>> {
    if binary.op.is_set_operator() && binary.op.to_string() != "or" {
        return answer(&binary.lhs);
    }
    let modifier = binary.modifier.as_ref();
    let one_to_one = modifier.is_some_and(|modifier| modifier.card == VectorMatchCardinality::OneToOne);
    match modifier.and_then(|modifier| modifier.matching.as_ref()) {
        Some(LabelModifier::Include(on)) if one_to_one => Some(on.labels.iter().cloned().collect()),
        Some(_) => answer(&binary.lhs),
        None => match (answer(&binary.lhs), answer(&binary.rhs)) {
            (Some(ours), Some(theirs)) => Some(&ours & &theirs),
            (ours, theirs) => ours.or(theirs),
        },
    }
}

fn of_call(call: &Call) -> Option<BTreeSet<String>> {
    let mut labels = call.args.args.iter().find_map(|argument| answer(argument))?;
    match call.func.name {
        "label_replace" => labels.extend(text(call, 1)),
        "histogram_quantile" => {
            labels.remove("le");
        }
        _ => {}
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &BTreeSet<String>) -> Vec<&str> {
        list.iter().map(String::as_str).collect()
    }

    #[test]
    fn every_metric_is_found_and_variables_are_filled_in() -> Result<()> {
        let found = Asked::of("sum(rate(a_total{x=~\"$x\"}[$__rate_interval])) / (b > 0) or on (y) c", &["x"])?;
        assert_eq!((names(&found.metrics), names(&found.labels)), (vec!["a_total", "b", "c"], vec!["x", "y"]));
        assert!(Asked::of("sum(a", &[]).is_err());
        Ok(())
    }

    #[test]
    fn an_answer_has_the_labels_that_were_left_of_it() -> Result<()> {
        for (expression, wanted) in [
            ("rate(a[5m])", None),
            ("sum(a)", Some(vec![])),
            ("topk(3, sum by (x, y) (a))", Some(vec!["x", "y"])),
            ("sum by (x, y) (a) / (sum by (y) (a) > 0) or 0 * sum by (y) (b)", Some(vec!["y"])),
            ("time() - max by (x) (a > 0)", Some(vec!["x"])),
            ("histogram_quantile(0.5, sum by (x, le) (a_bucket))", Some(vec!["x"])),
            ("sum by (x) (label_replace(a, \"x\", \"$1\", \"y\", \"(.*)\")) and on (z) b", Some(vec!["x"])),
            ("label_replace(sum by (y) (a), \"x\", \"$1\", \"y\", \"(.*)\")", Some(vec!["x", "y"])),
            ("sum by (x, y) (a) * on (x) b", Some(vec!["x"])),
        ] {
            assert_eq!(Asked::of(expression, &[])?.answered.as_ref().map(names), wanted, "{expression}");
        }
        Ok(())
    }
}
