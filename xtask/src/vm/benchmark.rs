//! `cargo xtask bench --kernel SERIES`: the benchmark in a virtual machine with that kernel, beside tools that want hooks which
//! the kernel at hand does not have. Its times are those of a translated processor; what is measured is `tests/bench`'s.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::boot::boot;
use super::{GUEST, Kernels, LOAD, LOAD_VARIABLE, image, kept, quoted};
use crate::steps::Steps;
use crate::workspace::Workspace;

const JOB: &str = include_str!("benchmark.sh");
/// Programs of other projects that only such a kernel runs: a package that is not installed, the suite that has it, a program.
const TOOLS: (&str, &str, &str) = ("libbpf-tools", "bookworm", "usr/sbin/tcptop");
const PROCESSORS: u32 = 2;

/// What is run in the guest.
#[derive(Debug)]
pub(crate) struct Measuring<'a> {
    /// Series of the kernel.
    pub(crate) series: &'static str,
    /// The agent, and the environment variable that says which one to start.
    pub(crate) agent: (&'a str, &'a Path),
    /// The benchmark.
    pub(crate) benchmark: &'a Path,
    /// Its arguments but `--out`.
    pub(crate) arguments: &'a [String],
    /// Where its files go.
    pub(crate) out: &'a Path,
}

/// Boots the kernel, runs the benchmark and brings back what it wrote.
pub(crate) fn measure(workspace: &Workspace, steps: &Steps, measuring: &Measuring<'_>) -> Result<()> {
    let kernels = Kernels::new(workspace);
    let kernel = kernels.get(measuring.series)?;
    let (package, suite, program) = TOOLS;
    let tool = kernels.unpacked(package, suite, &[program])?;
    let programs = workspace.root.join("target/vm/programs");
    let agent = kept(measuring.agent.1, &programs, "sockmeter-measured")?;
    let benchmark = kept(measuring.benchmark, &programs, "benchmark")?;
    let job = format!(
        "cd {} || exit\nexport {}={} {LOAD_VARIABLE}={LOAD}\nBENCHMARK={} TOOLS={} ARGUMENTS={}\n{GUEST}{JOB}",
        quoted(&workspace.root.to_string_lossy()),
        measuring.agent.0,
        quoted(&agent.to_string_lossy()),
        quoted(&benchmark.to_string_lossy()),
        quoted(&tool.parent().unwrap_or(&tool).to_string_lossy()),
        quoted(&measuring.arguments.join(" ")),
    );
    let folder = workspace.root.join("target/vm/guests").join(format!("{}-benchmark", kernel.release));
    let image = image::make(&folder, &kernel, &kernels.busybox()?, &job)?;
    steps.say(format_args!("{}: booting {}", measuring.series, kernel.release));
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut code = None;
    boot(&kernel, &image, &folder.join("console"), PROCESSORS, |line| match line.split_once(' ') {
        Some(("SAID", said)) => steps.say(said),
        Some(("EXIT", number)) => code = Some(number.to_owned()),
        Some(("FILE", named)) => {
            let (name, text) = named.split_once(' ').unwrap_or((named, ""));
            let file = files.entry(name.to_owned()).or_default();
            file.push_str(text);
            file.push('\n');
        }
        _ => {}
    })?;
    fs::create_dir_all(measuring.out)?;
    for (name, text) in &files {
        let path = measuring.out.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        steps.say(format_args!("wrote {}", path.display()));
    }
    ensure!(
        code.as_deref() == Some("0"),
        "the benchmark in the guest ended with {}",
        code.as_deref().unwrap_or("the guest")
    );
    Ok(())
}
