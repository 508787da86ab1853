//! `cargo xtask monitoring`: the rules by promtool, the proof that every query has an answer, and back-ends for a person.
//! The proof itself is a kernel test (`tests/tests/kernel/monitoring.rs`); pictures are `pictures`'.

mod docker;
mod packages;
mod pictures;
mod started;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
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
            setup::packages(steps)?;
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
        Monitoring::Check => check(workspace, steps),
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

/// Asks everybody who should answer.
fn check(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let by_docker = docker::is_up(workspace);
    let mut questions = vec![
        ("agent", AGENT, "/healthz", ""),
        ("VictoriaMetrics", VICTORIA_METRICS, "/health", ""),
        (
            "VictoriaMetrics has the agent's page",
            VICTORIA_METRICS,
            "/api/v1/query?query=sockmeter_build_info",
            "sockmeter_build_info",
        ),
    ];
    if by_docker {
        questions.push(("Grafana", GRAFANA, "/api/health", "ok"));
        questions.push(("Grafana has the dashboards", GRAFANA, "/api/dashboards/uid/sockmeter-agent", "Agent Health"));
    } else {
        questions.push(("Prometheus", PROMETHEUS, "/-/ready", ""));
        questions.push(("Prometheus has the rules", PROMETHEUS, "/api/v1/rules", "LedgerOutOfBalance"));
        questions.push((
            "Prometheus has the agent's page",
            PROMETHEUS,
            "/api/v1/query?query=sockmeter_build_info",
            "sockmeter_build_info",
        ));
    }
    let mut failed = 0u32;
    for (what, address, path, wanted) in questions {
        let said = match get(address, path) {
            Ok(body) if body.contains(wanted) => "yes".to_owned(),
            Ok(_) => "no: it answers without that; the first scrape takes up to 15 seconds".to_owned(),
            Err(error) => format!("no: {error:#}"),
        };
        failed = failed.saturating_add(u32::from(said != "yes"));
        steps.say(format_args!("{what}: {said}"));
    }
    if failed > 0 {
        bail!("{failed} of these should be yes\nhint: cargo xtask monitoring up; logs are in target/monitoring");
    }
    Ok(())
}

/// The body of a page, if its status is 200.
fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // The answer of HTTP/1.0 ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => bail!("{address} answers {path} with {}", answer.lines().next().unwrap_or_default()),
    }
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
