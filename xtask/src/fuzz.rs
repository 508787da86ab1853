//! `cargo xtask fuzz`: the targets of the workspace in `fuzz/`, for a time each. What they find beyond their corpora goes
//! below `target/`; which of it is worth keeping is for people to choose.

use std::env;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::steps::{Steps, output_of, run};
use crate::workspace::Workspace;

const ALONE: &str = "cargo xtask fuzz";
const VERSION: &str = "0.13.2";

/// Runs one target or all of them.
pub(crate) fn fuzz(workspace: &Workspace, steps: &Steps, target: Option<&str>, seconds: u32) -> Result<()> {
    let targets = targets(workspace)?;
    let chosen: Vec<&str> =
        targets.iter().map(String::as_str).filter(|name| target.is_none_or(|t| t == *name)).collect();
    if chosen.is_empty() {
        let wanted = targets.join(", ");
        bail!("there is no fuzz target {}, wanted one of {wanted}", target.unwrap_or_default());
    }
    steps.step("cargo-fuzz", ALONE, || tool(workspace, steps))?;
    let sanitizer = if has_sanitizer(workspace) { "address" } else { "none" };
    for name in chosen {
        // New inputs go to the first folder.
        let found = workspace.target().join("fuzz").join(name);
        let kept = workspace.root.join("fuzz/corpus").join(name);
        for folder in [&found, &kept] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let alone = format!("{ALONE} {name}");
        steps.step(&format!("fuzz {name} for {seconds} s"), &alone, || {
            let mut command = nightly(workspace, &["fuzz", "run", "--sanitizer", sanitizer, name]);
            run(command.arg(found).arg(kept).args(["--", "-timeout=20"]).arg(format!("-max_total_time={seconds}")))
        })?;
    }
    Ok(())
}

/// The targets' names, which are their files'.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root.join("fuzz/targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// Cargo of the nightly toolchain, which instrumentation takes, with our tools on its path.
fn nightly(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = workspace.program("rustup");
    let mut path = vec![workspace.tools().join("bin")];
    path.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    if let Ok(path) = env::join_paths(path) {
        command.env("PATH", path);
    }
    // Those of the cargo that runs us, which are another toolchain's.
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"] {
        command.env_remove(variable);
    }
    command.args(["run", "nightly", "cargo"]).args(arguments);
    command
}

/// The pinned cargo-fuzz, installed below `target/` so that nothing else on the machine changes.
fn tool(workspace: &Workspace, steps: &Steps) -> Result<()> {
    let path = workspace.tools().join("bin/cargo-fuzz");
    let found = output_of(workspace.program(&path.to_string_lossy()).arg("--version"));
    if found.is_some_and(|found| found.trim() == format!("cargo-fuzz {VERSION}")) {
        return Ok(());
    }
    steps.say(format_args!("installing cargo-fuzz {VERSION} to target/tools, which takes about a minute"));
    let arguments = ["install", "cargo-fuzz", "--version", VERSION, "--locked", "--quiet", "--force", "--root"];
    run(nightly(workspace, &arguments).arg(workspace.tools()))
        .context("hint: the nightly toolchain is wanted: rustup toolchain install nightly --profile minimal")
}

/// Whether the nightly toolchain has the run-time library of the address sanitizer; distributions' ones may not.
fn has_sanitizer(workspace: &Workspace) -> bool {
    let mut rustc = workspace.program("rustup");
    let folder = output_of(rustc.args(["run", "nightly", "rustc", "--print", "target-libdir"]));
    let entries = folder.and_then(|folder| fs::read_dir(folder.trim()).ok());
    entries.into_iter().flatten().flatten().any(|file| file.file_name().to_string_lossy().ends_with("_rt.asan.a"))
}

#[cfg(test)]
mod cases {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_target_is_declared_and_has_seeds() {
        let workspace = Workspace::new();
        let manifest: toml::Table =
            fs::read_to_string(workspace.root.join("fuzz/Cargo.toml")).unwrap().parse().unwrap();
        let bins = manifest["bin"].as_array().unwrap();
        let mut declared: Vec<&str> = bins.iter().map(|bin| bin["name"].as_str().unwrap()).collect();
        declared.sort_unstable();
        let targets = targets(&workspace).unwrap();
        assert_eq!(targets, declared);
        for name in targets {
            let seeds = fs::read_dir(workspace.root.join("fuzz/corpus").join(&name)).map(Iterator::count);
            assert_ne!(seeds.unwrap_or(0), 0, "{name} has no seeds");
        }
    }
}
