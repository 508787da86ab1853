//! Monitoring without Docker: agent, VictoriaMetrics and Prometheus of Debian's packages, on loopback. There is no Grafana
//! in Debian; the two have pages of their own to look at.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::asking::{get, is_an_agent, is_free};
use super::started::{self, Started};
use super::{AGENT, PROMETHEUS, VICTORIA_METRICS, agent, folder};
use crate::setup;
use crate::steps::Steps;
use crate::workspace::Workspace;

/// How long a program may take until it answers.
const BOUND: Duration = Duration::from_secs(30);

/// Starts what does not run yet and says where to look.
pub(super) fn up(workspace: &Workspace, steps: &Steps) -> Result<()> {
    setup::only(steps, setup::BACKENDS)?;
    let (folder, root) = (folder(workspace), workspace.root.display().to_string());
    fs::create_dir_all(&folder)?;
    let here = folder.display();
    let mut all = started::read(&folder);
    let mut start = |name: &str, address: &str, ready: &str, mut command: Command| -> Result<()> {
        if all.iter().any(|one: &Started| one.name == name && one.runs()) {
            steps.say(format_args!("{name}: runs already"));
            return Ok(());
        }
        is_free(name, address)?;
        let log = fs::File::create(folder.join(format!("{name}.log")))?;
        all.retain(|one| one.name != name);
        let mut one = Started::start(name, &mut command, log)?;
        let deadline = Instant::now().checked_add(BOUND).context("no such time")?;
        while get(address, ready).is_err() {
            if Instant::now() > deadline || one.has_ended() {
                one.end(steps)?;
                let said = fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
                bail!("{name} does not answer at {address}; it said:\n{said}");
            }
            thread::park_timeout(Duration::from_millis(50));
        }
        all.push(one);
        started::write(&folder, &all)
    };
    if is_an_agent(AGENT) {
        steps.say(format_args!("agent: one answers at {AGENT} already"));
    } else {
        let binary = agent(workspace, steps)?;
        let mut command = setup::as_root(&binary.to_string_lossy())
            .context("the agent needs root, and sudo wants a password\nhint: sudo -v, then again")?;
        // Without pins its kernel side ends with it.
        command.args(["run", "--listen", AGENT, "--no-pin", "--state-dir"]).arg(folder.join("state"));
        start("agent", AGENT, "/healthz", command)?;
    }
    let mut command = Command::new("victoria-metrics");
    command.args([
        format!("-promscrape.config={root}/deploy/victoriametrics/scrape.yml"),
        format!("-storageDataPath={here}/victoria-metrics"),
        format!("-httpListenAddr={VICTORIA_METRICS}"),
    ]);
    start("victoria-metrics", VICTORIA_METRICS, "/health", command)?;
    let mut command = Command::new("prometheus");
    command.args([
        format!("--config.file={root}/deploy/prometheus/prometheus.yml"),
        format!("--storage.tsdb.path={here}/prometheus"),
        format!("--web.listen-address={PROMETHEUS}"),
    ]);
    start("prometheus", PROMETHEUS, "/-/ready", command)?;
    steps.say(format_args!("VictoriaMetrics:  http://{VICTORIA_METRICS}/vmui"));
    steps.say(format_args!("rules and alerts: http://{PROMETHEUS}/alerts"));
    steps.say(format_args!("the agent's page: http://{AGENT}/metrics"));
    steps.say("end it: cargo xtask monitoring down; state and logs are in target/monitoring");
    Ok(())
}
