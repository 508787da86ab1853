//! `cargo xtask manifests`: the Kubernetes manifests as kustomize puts them together, held against Kubernetes' own schemas; and
//! the compose file as Docker Compose reads it.
//! What they bring about is a kernel test's (`tests/tests/kernel/pods.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::setup;
use crate::steps::{Steps, output_of, run};
use crate::vm::Kernels;
use crate::workspace::Workspace;

const ALONE: &str = "cargo xtask manifests";
/// The validator, which has the schemas of all these versions with it.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";
/// The oldest version that the manifests are kept good for, and the newest that the validator knows.
const VERSIONS: [&str; 2] = ["1.27", "1.37"];
/// The first minor version of kubectl whose kustomize knows what the overlays use.
const KUBECTL: u32 = 27;
/// A resource of the Prometheus operator, for which Kubernetes has no schema; `agent/tests/deployment.rs` looks at it.
const WITHOUT_SCHEMA: &str = "kind PodMonitor ";

/// Docker Compose: a package, the first suite that has its second version, and where the program is in it.
const COMPOSE: (&str, &str, &[&str]) =
    ("docker-compose", "trixie", &["usr/libexec/docker/cli-plugins/docker-compose", "usr/bin/docker-compose"]);

/// Puts each base and each overlay together and validates it; a line for each resource that is no good.
pub(crate) fn check(workspace: &Workspace, steps: &Steps) -> Result<()> {
    setup::only(steps, setup::PYTHON)?;
    let kubectl = steps.step("kubectl", ALONE, || kubectl(workspace))?;
    let validator = steps.step("kubernetes-validate", ALONE, || validator(workspace, steps))?;
    steps.step("compose", ALONE, || compose(workspace))?;
    steps.step("manifests", ALONE, || {
        let root = workspace.root.join("deploy/kubernetes");
        let made = workspace.root.join("target/manifests");
        fs::create_dir_all(&made)?;
        let folders = kustomizations(&root)?;
        if folders.is_empty() {
            bail!("{}: found no kustomization", root.display());
        }
        for folder in folders {
            let name = folder.file_name().context("a folder without a name")?.to_string_lossy().into_owned();
            let text = output_of(workspace.program(&kubectl.to_string_lossy()).arg("kustomize").arg(&folder))
                .with_context(|| format!("{}: kustomize refuses it", folder.display()))?;
            let file = made.join(format!("{name}.yaml"));
            fs::write(&file, &text)?;
            for version in VERSIONS {
                validate(workspace, &validator, &file, version, resources(&text))?;
            }
            steps.say(format_args!("{name}: {} resources are good", resources(&text)));
        }
        Ok(())
    })
}

/// Has Docker Compose read the compose file with all that it names; that takes no daemon.
fn compose(workspace: &Workspace) -> Result<()> {
    let (package, suite, files) = COMPOSE;
    let program = Kernels::new(workspace).unpacked(package, suite, files)?;
    let file = workspace.root.join("deploy/compose/compose.yaml");
    run(workspace.program(&program.to_string_lossy()).arg("--file").arg(file).args(["config", "--quiet"]))
}

/// Folders with a kustomization, at any depth.
fn kustomizations(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if folder.join("kustomization.yaml").exists() {
        found.push(folder.to_owned());
    }
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(kustomizations(&path)?);
        }
    }
    found.sort();
    Ok(found)
}

/// Documents of a file as kustomize writes it.
fn resources(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("kind: ")).count()
}

/// Each resource must be said to be good: one that the validator does not know it passes over with a warning.
fn validate(workspace: &Workspace, validator: &Path, file: &Path, version: &str, wanted: usize) -> Result<()> {
    let mut command = workspace.program(&validator.to_string_lossy());
    let output = command.args(["--strict", "-k", version]).arg(file).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let good = said.lines().filter(|line| line.contains(" passed for resource ")).count();
    let without = said.lines().filter(|line| line.starts_with("WARN ") && line.contains(WITHOUT_SCHEMA)).count();
    if !output.status.success() || good + without != wanted {
        bail!("{}: {wanted} resources, of which Kubernetes {version} takes {good}:\n{said}", file.display());
    }
    Ok(())
}

/// kubectl, for the kustomize in it: the one that is installed if it is new enough, else Debian's, which is not installed.
fn kubectl(workspace: &Workspace) -> Result<PathBuf> {
    let version = output_of(Command::new("kubectl").args(["version", "--client", "--output=json"]));
    if version.as_deref().and_then(minor).is_some_and(|minor| minor >= KUBECTL) {
        return Ok(PathBuf::from("kubectl"));
    }
    Kernels::new(workspace).unpacked("kubectl", "trixie", &["usr/bin/kubectl"])
}

/// The minor version in what `kubectl version` says; a distributor may have added to it.
fn minor(said: &str) -> Option<u32> {
    let said: Value = serde_json::from_str(said).ok()?;
    let minor = said["clientVersion"]["minor"].as_str()?;
    minor.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The pinned validator in an environment of its own.
fn validator(workspace: &Workspace, steps: &Steps) -> Result<PathBuf> {
    let folder = workspace.tools().join(VALIDATOR.replace("==", "-"));
    let program = folder.join("bin/kubernetes-validate");
    let whole = folder.join("installed");
    if whole.exists() {
        return Ok(program);
    }
    steps.say(format_args!("installing {VALIDATOR} to target/tools"));
    // Debian's own python3, which is the one that its package python3-venv belongs to.
    run(workspace.program("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(workspace.program(&folder.join("bin/pip").to_string_lossy()).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        VALIDATOR,
    ]))?;
    fs::write(whole, "")?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::minor;

    #[test]
    fn kubectl_says_its_minor_version() {
        assert_eq!(minor(r#"{"clientVersion":{"major":"1","minor":"32+"}}"#), Some(32));
        assert_eq!(minor("nothing"), None);
    }
}
