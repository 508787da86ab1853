//! Queries of the documentation, as `promtool` reads them. Whether the families in them exist is a pure test's
//! (`agent/tests/docs_queries.rs`).

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;
use sockmeter_tests::image::deployed;
use sockmeter_tests::process::run;

#[test]
fn promtool_takes_every_query() -> Result<()> {
    let mut rules = Vec::new();
    for page in ["queries.md", "migration.md", "troubleshooting.md"] {
        let text = fs::read_to_string(deployed("../docs").join(page))?;
        for query in text.split("```promql\n").skip(1) {
            let query = query.split("```").next().context("no end")?;
            rules.push(json!({"record": format!("query:{}", rules.len()), "expr": query}));
        }
    }
    let count = rules.len();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rules.yaml");
    // Every JSON document is a YAML document.
    fs::write(&file, json!({"groups": [{"name": "queries", "rules": rules}]}).to_string())?;
    let said = run(Command::new("promtool").args(["check", "rules"]).arg(&file))?;
    assert!(said.contains(&format!("SUCCESS: {count} rules found")), "{said}");
    assert!(count > 15, "only {count} queries");
    Ok(())
}
