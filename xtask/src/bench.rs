//! `cargo xtask bench`: builds the agent as it is shipped, and the benchmark, and runs that as root. The benchmark itself
//! is in `tests/bench`.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::dist;
use crate::kernel_side;
use crate::setup;
use crate::steps::{Steps, output_of, run, words};
use crate::vm;
use crate::workspace::Workspace;

/// Peers that come from the crates registry.
const PEERS: [&str; 2] = ["bandwhich", "prometheus_wireguard_exporter"];

/// The environment variable that tells the benchmark which agent to measure.
const AGENT: &str = "SOCKMETER_BINARY";

/// Takes an option and its value out of the arguments.
fn take(arguments: &mut Vec<String>, option: &str) -> Result<Option<String>> {
    let Some(at) = arguments.iter().position(|argument| argument == option) else {
        return Ok(None);
    };
    arguments.remove(at);
    if at == arguments.len() {
        bail!("{option}: no value");
    }
    Ok(Some(arguments.remove(at)))
}

/// Runs the benchmark in a virtual machine.
fn in_guest(
    workspace: &Workspace,
    steps: &Steps,
    series: &str,
    mut arguments: Vec<String>,
    [agent, benchmark]: [&Path; 2],
) -> Result<()> {
    let [series] = vm::chosen(&[series.to_owned()])?[..] else {
        bail!("--kernel {series}: wanted one series of kernels");
    };
    let out = if let Some(out) = take(&mut arguments, "--out")? {
        PathBuf::from(out)
    } else {
        let date = output_of(Command::new("date").args(["-u", "+%Y-%m-%d"])).context("date does not run")?;
        workspace.root.join(format!("docs/benchmarks/{}-guest-{series}", date.trim()))
    };
    arguments.extend(["--tools".to_owned(), workspace.tools().to_string_lossy().into_owned()]);
    let measuring = vm::Measuring { series, agent: (AGENT, agent), benchmark, arguments: &arguments, out: &out };
    vm::measure(workspace, steps, &measuring)
}

/// Becomes the benchmark with these arguments. Returns only if that fails.
pub(crate) fn run_benchmark(workspace: &Workspace, steps: &Steps, arguments: &[String]) -> Result<()> {
    let mut arguments = arguments.to_vec();
    let kernel = take(&mut arguments, "--kernel")?;
    setup::packages(steps)?;
    kernel_side::build(workspace, steps)?;
    // Another one would be another size, and its allocator another's.
    let agent = dist::build_for_release(workspace, steps)?;
    let benchmark = steps.step("build the benchmark", "cargo build --release --package sockmeter-tests", || {
        run(workspace.cargo().args([
            "build",
            "--release",
            "--package",
            "sockmeter-tests",
            "--bin",
            "sockmeter-bench",
        ]))?;
        Ok(workspace.target().join("release/sockmeter-bench"))
    })?;
    if arguments.iter().any(|argument| argument == "--peers" || argument == "peers") {
        peers(workspace, steps);
    }
    if let Some(series) = kernel {
        return in_guest(workspace, steps, &series, arguments, [&agent, &benchmark]);
    }
    let mut command = setup::as_root(&benchmark.to_string_lossy())
        .context("the benchmark needs root, and sudo wants a password\nhint: sudo -v, then again")?;
    command.current_dir(&workspace.root).stdin(Stdio::null()).env(AGENT, &agent);
    command.args(arguments).arg("--tools").arg(workspace.tools());
    steps.say(words(&command));
    // In our place, so that Ctrl-C ends nobody who would have to wait for it to clear up.
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", words(&command)))
}

/// Installs what is missing below `target/`, so that nothing else on the machine changes. One that cannot be installed
/// is not compared, and the report says so.
fn peers(workspace: &Workspace, steps: &Steps) {
    for peer in PEERS {
        if workspace.tools().join("bin").join(peer).exists() {
            continue;
        }
        steps.say(format_args!("installing {peer} to target/tools, which takes minutes"));
        let installed = run(workspace
            .cargo()
            .args(["install", peer, "--locked", "--quiet", "--root"])
            .arg(workspace.tools())
            .env_remove("CARGO_TARGET_DIR"));
        if let Err(error) = installed {
            steps.say(format_args!("{peer} is not compared: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_goes_with_its_value() -> Result<()> {
        let mut arguments = ["http", "--kernel", "6.1", "--quick"].map(str::to_owned).to_vec();
        assert_eq!(take(&mut arguments, "--out")?, None);
        assert_eq!(take(&mut arguments, "--kernel")?, Some("6.1".to_owned()));
        assert_eq!(arguments, ["http", "--quick"]);
        let error = take(&mut arguments, "--quick").map_err(|error| error.to_string());
        assert_eq!(error, Err("--quick: no value".to_owned()));
        Ok(())
    }
}
