//! Queries in the documentation name families and labels that exist; that they can be parsed is `promtool`'s to say, in the
//! kernel tests. Which families there are is `exposition::catalog`'s.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use sockmeter::exposition::catalog::ALL;
use sockmeter::exposition::{Family, Kind};

/// Words of the query language that the queries use.
const WORDS: [&str; 24] = [
    "abs",
    "sum",
    "by",
    "rate",
    "increase",
    "time",
    "topk",
    "histogram_quantile",
    "max",
    "min",
    "on",
    "ignoring",
    "group_left",
    "or",
    "and",
    "unless",
    "without",
    "max_over_time",
    "offset",
    "bool",
    "count",
    "avg",
    "deriv",
    "sort_desc",
];

/// Families that others export: those of Prometheus itself, and the old middleware's when they are merged.
const OTHERS: [&str; 2] = ["up", "upstream_scheduler_http_request_bytes_total"];
/// Labels that Prometheus adds or renames, and that of a bucket.
const ADDED: [&str; 3] = ["le", "instance", "exported_job"];

/// Every block of a page that is a query.
fn queries(page: &str) -> Vec<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = fs::read_to_string(docs).unwrap();
    text.split("```promql\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Identifiers of a query, outside of strings and of durations.
fn identifiers(query: &str) -> Vec<String> {
    let without_strings: String = query.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = without_strings.split(|c: char| !is_part(c)).filter(|word| !word.is_empty());
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic())).map(str::to_owned).collect()
}

fn family(name: &str) -> Option<&'static Family> {
    let has = |family: &Family| {
        let full = family.full_name("scheduler");
        match family.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"].iter().any(|end| format!("{full}{end}") == name),
            Kind::Counter | Kind::Gauge => full == name,
        }
    };
    ALL.iter().copied().find(|family| has(family))
}

#[test]
fn docs_queries_name_families_and_labels_that_exist() {
    let mut seen = 0;
    for page in ["queries.md", "migration.md", "troubleshooting.md"] {
        for query in queries(page) {
            let words = identifiers(&query);
            let families: Vec<&Family> = words.iter().filter_map(|word| family(word)).collect();
            let is_label = |word: &String| {
                ADDED.contains(&word.as_str()) || families.iter().any(|family| family.labels.contains(&word.as_str()))
            };
            let known = |word: &String| {
                family(word).is_some()
                    || WORDS.contains(&word.as_str())
                    || OTHERS.contains(&word.as_str())
                    || is_label(word)
            };
            let unknown: Vec<&String> = words.iter().filter(|word| !known(word)).collect();
            assert_eq!(unknown, Vec::<&String>::new(), "{page}: {query}");
            seen += families.len();
        }
    }
    assert!(seen > 20, "only {seen} families in all queries");
}

#[test]
fn a_family_that_does_not_exist_is_found() {
    assert!(family("scheduler_http_requests_total").is_some());
    assert!(family("scheduler_http_exchange_duration_seconds_bucket").is_some());
    assert!(family("scheduler_http_exchange_duration_seconds").is_none());
    assert!(family("scheduler_http_request_total").is_none());
    assert_eq!(identifiers(r#"rate(a_total{b="c d"}[5m])"#), ["rate", "a_total", "b"]);
}
