//! `cargo xtask monitoring pictures`: each dashboard drawn by Grafana's own components (npm, `render/package.json`) in a
//! real browser, from what VictoriaMetrics answers during the proof.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::folder;
use crate::setup::as_root;
use crate::steps::{Steps, run};
use crate::tests;
use crate::workspace::Workspace;

/// Where the proof writes the answers if this is set (`tests/tests/kernel/monitoring.rs`).
const ANSWERS: &str = "SOCKMETER_ANSWERS";

/// Draws all of them to `docs/screenshots`.
pub(super) fn draw(workspace: &Workspace, steps: &Steps) -> Result<()> {
    for (program, package) in [("npm", "npm"), ("chromium", "chromium")] {
        if as_root("true").is_none()
            || run(workspace.program("sh").args(["-c", &format!("command -v {program} > /dev/null")])).is_err()
        {
            bail!("{program}: missing, and pictures are drawn as root\nhint: sudo apt-get install {package}");
        }
    }
    let work = folder(workspace).join("pictures");
    let answers = work.join("answers");
    fs::create_dir_all(&answers)?;
    for file in ["package.json", "page.jsx"] {
        fs::copy(workspace.root.join("xtask/render").join(file), work.join(file))
            .with_context(|| format!("xtask/render/{file}"))?;
    }
    steps.step("Grafana's components", "cargo xtask monitoring pictures", || {
        run(workspace.program("npm").current_dir(&work).args([
            "install",
            "--legacy-peer-deps",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]))?;
        run(workspace.program("npm").current_dir(&work).args(["run", "--silent", "bundle"]))
    })?;
    tests::aloud(workspace, steps, "monitoring::every_query", &[(ANSWERS, &answers)])?;
    for entry in fs::read_dir(&answers)? {
        picture(workspace, &work, &entry?.path())?;
    }
    Ok(())
}

fn picture(workspace: &Workspace, work: &Path, answers: &Path) -> Result<()> {
    let name = answers.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let answers = fs::read_to_string(answers)?;
    let rows: u64 = serde_json::from_str::<serde_json::Value>(&answers)?["height"].as_u64().unwrap_or(1_000);
    let page = work.join("out").join(format!("{name}.html"));
    let head = "<!doctype html><meta charset=utf-8><link rel=stylesheet href=uPlot.min.css><link rel=stylesheet href=page.css>";
    fs::copy(work.join("node_modules/uplot/dist/uPlot.min.css"), work.join("out/uPlot.min.css"))?;
    let safe = answers.replace("</", "<\\/");
    fs::write(
        &page,
        format!("{head}<div id=root></div><script>window.answers={safe}</script><script src=page.js></script>"),
    )?;
    let file = workspace.root.join("docs/screenshots").join(format!("{name}.png"));
    run(workspace
        .program("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=8000"])
        .arg(format!("--window-size=1400,{rows}"))
        .arg(format!("--screenshot={}", file.display()))
        .arg(format!("file://{}", page.display())))
}
