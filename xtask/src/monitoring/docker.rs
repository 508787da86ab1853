//! Monitoring by Docker: the compose file of `deploy/compose`, with Grafana.

use anyhow::Result;

use super::asking::is_free;
use super::{AGENT, GRAFANA, VICTORIA_METRICS, VMALERT};
use crate::steps::{Steps, output_of, run};
use crate::workspace::Workspace;

const FILE: &str = "deploy/compose/compose.yaml";
/// How to read what they say.
pub(super) const LOGS: &str = "docker compose --file deploy/compose/compose.yaml logs";

/// Whether a Docker daemon answers and knows compose files.
pub(super) fn is_there(workspace: &Workspace) -> bool {
    let answers = |arguments: &[&str]| output_of(workspace.program("docker").args(arguments)).is_some();
    answers(&["info"]) && answers(&["compose", "version"])
}

/// Whether our services run.
pub(super) fn is_up(workspace: &Workspace) -> bool {
    let mut command = workspace.program("docker");
    output_of(command.args(["compose", "--file", FILE, "ps", "--quiet"])).is_some_and(|said| !said.trim().is_empty())
}

/// Whether there is anything of ours to end, be it that it ended by itself.
fn is_left(workspace: &Workspace) -> bool {
    let mut command = workspace.program("docker");
    let all = command.args(["compose", "--file", FILE, "ps", "--all", "--quiet"]);
    output_of(all).is_some_and(|said| !said.trim().is_empty())
}

/// Builds the image and starts everything.
pub(super) fn up(workspace: &Workspace, steps: &Steps) -> Result<()> {
    if !is_up(workspace) {
        // All of them are in the host's network namespace: one whose address is taken would be started again and again.
        for (name, address) in
            [("agent", AGENT), ("VictoriaMetrics", VICTORIA_METRICS), ("vmalert", VMALERT), ("Grafana", GRAFANA)]
        {
            is_free(name, address)?;
        }
    }
    steps.step("the static agent", "cargo xtask dist", || run(workspace.cargo().args(["xtask", "dist"])))?;
    steps.step("docker compose up", "cargo xtask monitoring up", || {
        run(workspace.program("docker").args(["compose", "--file", FILE, "up", "--detach", "--build", "--wait"]))
    })?;
    steps.say(format_args!("Grafana:          http://{GRAFANA}/d/sockmeter-agent (nobody needs to log in)"));
    steps.say(format_args!("VictoriaMetrics:  http://{VICTORIA_METRICS}/vmui"));
    steps.say(format_args!("alerts:           http://{VMALERT}/vmalert/alerts"));
    steps.say(format_args!("the agent's page: http://{AGENT}/metrics"));
    steps.say("end it: cargo xtask monitoring down");
    Ok(())
}

/// Ends them, if they run.
pub(super) fn down(workspace: &Workspace, steps: &Steps) -> Result<()> {
    if !is_there(workspace) || !is_left(workspace) {
        return Ok(());
    }
    steps.step("docker compose down", "cargo xtask monitoring down", || {
        run(workspace.program("docker").args(["compose", "--file", FILE, "down"]))
    })
}
