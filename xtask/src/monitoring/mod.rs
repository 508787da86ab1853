//! `cargo xtask monitoring`: the rules by promtool, the proof that every query has an answer, and back-ends for a person.
//! The proof itself is a kernel test (`tests/tests/kernel/monitoring.rs`); pictures are `pictures`'.

mod asking;
mod docker;
mod packages;
mod pictures;
mod started;

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::steps::{Steps, run};
use crate::tests;
use crate::vm::Kernels;
use crate::workspace::Workspace;
use crate::{agent, kernel_side, setup};

/// Where the agent serves unless told otherwise.
const AGENT: &str = "127.0.0.1:9464";
/// Where VictoriaMetrics listens, as `deploy/` has it.
const VICTORIA_METRICS: &str = "127.0.0.1:8428";
/// Where Prometheus listens.
const PROMETHEUS: &str = "127.0.0.1:9090";
/// Where vmalert listens, with Docker only.
const VMALERT: &str = "127.0.0.1:8880";
/// Where Grafana listens, with Docker only.
const GRAFANA: &str = "127.0.0.1:3000";

/// Names the Prometheus that the proof is to take (`tests/src/monitoring/backend.rs`).
const OTHER: &str = "SOCKMETER_PROMETHEUS";

/// What to do with monitoring.
#[derive(Debug, Subcommand)]
pub(crate) enum Monitoring {
    /// Check the rules of deploy/prometheus, and run their unit tests
    Rules,
    /// Start agent, load and back-ends, ask every query of every panel and rule, see every alert fire and resolve
    Test,
    /// Draw each dashboard with Grafana's own components from live answers: docs/screenshots
    Pictures,
    /// Start agent and back-ends for a person: with Docker Grafana too, else Debian's packages
    Up {
        /// Debian's packages, also where Docker is
        #[arg(long)]
        packages: bool,
    },
    /// Say whether what `up` started works
    Check,
    /// End what `up` started, and nothing else
    Down,
}

/// Does it.
pub(crate) fn execute(workspace: &Workspace, steps: &Steps, what: &Monitoring) -> Result<()> {
    match what {
        Monitoring::Rules => {
            setup::only(steps, setup::RULES)?;
            rules(workspace, steps)
        }
        Monitoring::Test => {
            rules(workspace, steps)?;
            tests::aloud(workspace, steps, "monitoring::", &[])?;
            // The next generation refuses what this one lets pass, such as a page of the wrong content type.
            match Kernels::new(workspace).unpacked("prometheus", "sid", &["usr/bin/prometheus"]) {
                Ok(program) => tests::aloud(workspace, steps, "monitoring::every_query", &[(OTHER, &program)]),
                Err(error) => {
                    steps.say(format_args!("Prometheus of Debian sid: not tried, {error:#}"));
                    Ok(())
                }
            }
        }
        Monitoring::Pictures => pictures::draw(workspace, steps),
        Monitoring::Up { packages: false } if docker::is_there(workspace) => docker::up(workspace, steps),
        Monitoring::Up { .. } => packages::up(workspace, steps),
        Monitoring::Check => asking::check(workspace, steps),
        Monitoring::Down => {
            docker::down(workspace, steps)?;
            started::end(&folder(workspace), steps)
        }
    }
}

/// Checks and unit tests of the rules, by promtool and vmalert.
pub(crate) fn rules(workspace: &Workspace, steps: &Steps) -> Result<()> {
    steps.step("rules", "cargo xtask monitoring rules", || {
        let files = |name: &str| -> Result<Vec<PathBuf>> {
            let entries = fs::read_dir(workspace.root.join("deploy/prometheus").join(name))?;
            Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        };
        run(workspace.program("promtool").args(["check", "config", "deploy/prometheus/prometheus.yml"]))?;
        run(workspace.program("promtool").args(["test", "rules"]).args(files("tests")?))?;
        run(workspace.program("vmalert").args(["-rule=deploy/prometheus/rules/*.yaml", "-dryRun"]))
    })
}

/// Where state and logs of what was started are.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.root.join("target/monitoring")
}

/// The agent's binary: what was built last, or else built now.
fn agent(workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    let built = ["release", "debug"].map(|profile| workspace.target().join(profile).join("sockmeter"));
    let when = |binary: &PathBuf| fs::metadata(binary).and_then(|file| file.modified()).ok();
    if let Some(binary) = built.into_iter().filter(|binary| binary.exists()).max_by_key(when) {
        return Ok(binary);
    }
    kernel_side::build(workspace, steps)?;
    agent::build_for_tests(workspace, steps)
}
