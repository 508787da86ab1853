//! What VictoriaMetrics answers to every panel, as files: a dashboard with its answers each, for whoever draws them
//! (`cargo xtask monitoring pictures`).

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::backend::{Backends, VICTORIA_METRICS, encoded};
use super::provision::root;
use crate::wait;

/// Seconds that a picture shows, up to now.
const SHOWN: u64 = 30;
/// Until there are samples for all of them.
const BOUND: Duration = Duration::from_mins(1);
/// Pixels of a line of Grafana's grid.
const LINE: u64 = 36;

/// Writes them to `folder`.
///
/// # Errors
/// When a dashboard cannot be read, a query has no answer, or a file cannot be written.
pub fn write(backends: &Backends<'_>, folder: &Path) -> Result<()> {
    wait::within(BOUND, "samples to draw", || {
        let [_, counts] = backends.ask(&format!("min(count_over_time(up[{SHOWN}s]))"))?;
        // Some are late on a busy machine.
        Ok(counts.first().is_some_and(|count| count.value >= 24.0).then_some(()))
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    for entry in fs::read_dir(root().join("dashboards"))? {
        let file = entry?.path();
        if file.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
        let panels = dashboard["panels"].as_array().context("no panels")?;
        let mut results = Map::new();
        let mut lines = 0;
        for panel in panels {
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_default();
            lines = lines.max(place("y") + place("h"));
            let mut answers = Vec::new();
            for target in panel["targets"].as_array().into_iter().flatten() {
                answers.push(answer(backends, target, now)?);
            }
            results.insert(panel["id"].to_string(), Value::Array(answers));
        }
        let whole = json!({"height": lines * LINE + 60, "from": now - SHOWN, "to": now, "line": LINE,
            "dashboard": dashboard, "results": results});
        let name = file.file_name().context("no name")?;
        fs::write(folder.join(name), serde_json::to_string(&whole)?)?;
    }
    Ok(())
}

fn answer(backends: &Backends<'_>, target: &Value, now: u64) -> Result<Value> {
    let expression = target["expr"].as_str().context("no expression")?;
    let mut expression = expression.replace("$__rate_interval", "10s").replace("$__range", "1m");
    for name in ["instance", "node", "interface", "port", "tunnel"] {
        expression = expression.replace(&format!("${name}\""), ".*\"");
    }
    let query = encoded(&expression);
    let path = if target["range"] == true {
        format!("/api/v1/query_range?query={query}&start={}&end={now}&step=1", now - SHOWN)
    } else {
        format!("/api/v1/query?query={query}")
    };
    let said = backends.get(VICTORIA_METRICS, &path)?;
    Ok(json!({"refId": target["refId"], "legend": target["legendFormat"], "result": said["data"]["result"]}))
}
