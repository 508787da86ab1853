//! `cargo xtask test vm`: the kernel tests under kernels of other versions, each in a virtual machine of its own. The benchmark
//! in one is `benchmark`'s.

mod benchmark;
mod boot;
mod image;
mod kernels;
mod report;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

pub(crate) use self::benchmark::{Measuring, measure};
use self::kernels::Kernel;
pub(crate) use self::kernels::{ENDS, Kernels, chosen};
pub(crate) use self::report::End;
use self::report::{Outcome, Verdict};
use crate::steps::{Steps, output_of};
use crate::workspace::Workspace;

const ALONE: &str = "cargo xtask test vm";
const GUEST: &str = include_str!("guest.sh");
const JOB: &str = include_str!("job.sh");
/// What a translated CPU can carry of the tests' load, in per cent, unless `LOAD_VARIABLE` says otherwise.
const LOAD: &str = "5";
/// The environment variable that tells the tests how much load the machine can carry (`tests/src/load.rs`).
const LOAD_VARIABLE: &str = "SOCKMETER_TEST_LOAD";
/// Seconds for a test, starts of the agent included.
const LIMIT: u32 = 300;
/// A series that is too old to run on, and what is tested there: that it is refused.
const TOO_OLD: (&str, &str) = ("5.10", "too_old::");
/// Guests at the same time: each keeps one CPU busy.
const AT_ONCE: usize = 2;

/// What is run in the guests.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    /// Series of kernels.
    pub(crate) series: Vec<&'static str>,
    /// Parts of tests' names; all tests if empty.
    pub(crate) filter: Vec<String>,
    /// The agents that the tests start, each with the environment variable that tells them which it is.
    pub(crate) agents: &'a [(&'a str, PathBuf)],
    /// The package with the tests.
    pub(crate) package: &'a str,
    /// Processors of a guest.
    pub(crate) processors: u32,
}

/// Boots the kernels, at most two at a time, and runs the tests in them; a table at the end.
pub(crate) fn test(workspace: &Workspace, steps: &Steps, order: &Order<'_>) -> Result<End> {
    if !cfg!(target_arch = "x86_64") {
        bail!(
            "{ALONE}: the kernels are for x86-64, and so must be the programs that their guests share with this machine"
        );
    }
    let programs = workspace.root.join("target/vm/programs");
    let agents = order.agents.iter().map(|(variable, agent)| Ok((*variable, kept(agent, &programs, variable)?)));
    let agents: Vec<(&str, PathBuf)> = agents.collect::<Result<_>>()?;
    let tests = kept(&test_binary(workspace, order.package)?, &programs, "kernel")?;
    let kernels = Kernels::new(workspace);
    let busybox = steps.step("busybox", ALONE, || kernels.busybox())?;
    // One after the other: apt has one set of lists.
    let found: Vec<_> = order
        .series
        .iter()
        .map(|series| {
            steps.say(format_args!("{series}: looking for a kernel"));
            (*series, kernels.get(series))
        })
        .collect();
    let queue = Mutex::new(found.into_iter().enumerate());
    let verdicts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((number, (series, kernel))) = next(&queue) {
                    let verdict = match kernel {
                        Ok(kernel) => {
                            let job = |from: &str| job(workspace, order, &agents, &tests, series, from);
                            guest(workspace, steps, (series, &kernel), &busybox, &job, order.processors)
                        }
                        Err(error) => Verdict::Skipped(format!("{error:#}")),
                    };
                    if let Ok(mut verdicts) = verdicts.lock() {
                        verdicts.push((number, series, verdict));
                    }
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().ok().context("a guest's thread panicked")?;
    verdicts.sort_by_key(|(number, _, _)| *number);
    let verdicts: Vec<(&str, Verdict)> = verdicts.into_iter().map(|(_, series, verdict)| (series, verdict)).collect();
    steps.say(format_args!("virtual machines:\n{}", report::table(&verdicts)));
    Ok(report::end(&verdicts))
}

fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    queue.lock().ok()?.next()
}

/// A copy in `folder`: guests run it from there for many minutes, in which others may build anew.
fn kept(program: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let (copy, fresh) = (folder.join(name), folder.join(format!("{name}.new")));
    let cannot = || format!("cannot copy {} to {}", program.display(), copy.display());
    fs::copy(program, &fresh).with_context(cannot)?;
    // At once: guests of another command may be running it.
    fs::rename(&fresh, &copy).with_context(cannot)?;
    Ok(copy)
}

/// Boots until all tests were run: a machine that stops in the middle is not what they are about. The next boot goes on where
/// it stopped, unless it is the same test again.
fn guest(
    workspace: &Workspace,
    steps: &Steps,
    (series, kernel): (&str, &Kernel),
    busybox: &Path,
    job: &dyn Fn(&str) -> String,
    processors: u32,
) -> Verdict {
    let begun = Instant::now();
    let folder = workspace.root.join("target/vm/guests").join(&kernel.release);
    let console = folder.join("console");
    let said = folder.join("said");
    let _ = fs::remove_file(&said);
    let mut outcome = Outcome::default();
    let mut stopped: Option<String> = None;
    loop {
        let job = job(stopped.as_deref().unwrap_or_default());
        let booted = image::make(&folder, kernel, busybox, &job).and_then(|image| {
            steps.say(format_args!("{series}: booting {}", kernel.release));
            let mut said = fs::File::options().create(true).append(true).open(&said)?;
            boot::boot(kernel, &image, &console, processors, |line| {
                // What cannot be kept was shown at least.
                let _ = writeln!(said, "{line}");
                if let Some(told) = outcome.take(line) {
                    steps.say(format_args!("{series}: {told}"));
                }
            })
        });
        match booted {
            Ok(()) if outcome.is_whole() => {
                return Verdict::Ran { release: kernel.release.clone(), outcome, took: begun.elapsed() };
            }
            Ok(()) => {}
            Err(error) => return Verdict::Broken(format!("{error:#}")),
        }
        let at = outcome.stopped_at().unwrap_or_default().to_owned();
        let place = if at.is_empty() { "the boot" } else { &at };
        let why = format!("the guest stopped at {place}: {}", last_lines(&console));
        steps.say(format_args!("{series}: {why}"));
        if stopped.as_ref() == Some(&at) {
            return Verdict::Broken(why);
        }
        stopped = Some(at);
    }
}

/// What a console, and QEMU, said last.
fn last_lines(console: &Path) -> String {
    let said = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let text = said(console) + &said(&console.with_extension("qemu"));
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join(" / ")
}

/// What the guest runs: all that is chosen, or the tests from this one on.
fn job(
    workspace: &Workspace,
    order: &Order<'_>,
    agents: &[(&str, PathBuf)],
    tests: &Path,
    series: &str,
    from: &str,
) -> String {
    let load = std::env::var(LOAD_VARIABLE).unwrap_or_else(|_| LOAD.to_owned());
    let chosen = if series == TOO_OLD.0 { TOO_OLD.1.to_owned() } else { order.filter.join(" ") };
    let agents = agents.iter().map(|(variable, agent)| format!("{variable}={}", quoted(&agent.to_string_lossy())));
    let variables = agents.collect::<Vec<_>>().join(" ");
    format!(
        "cd {} || exit\nexport {variables} {LOAD_VARIABLE}={}\nTESTS={} CHOSEN={} FROM={} LIMIT={LIMIT}\n{GUEST}{JOB}",
        quoted(&workspace.root.to_string_lossy()),
        quoted(&load),
        quoted(&tests.to_string_lossy()),
        quoted(&chosen),
        quoted(from),
    )
}

/// A word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Builds the tests and asks cargo where they are.
fn test_binary(workspace: &Workspace, package: &str) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args([
        "test",
        "--no-run",
        "--message-format=json-render-diagnostics",
        "--package",
        package,
        "--test",
        "kernel",
    ]);
    let said = output_of(cargo.stderr(std::process::Stdio::inherit())).context("the kernel tests do not build")?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // The package's other binaries are built with it, and named in any order.
    let mut binaries = messages
        .filter(|message| message["target"]["name"] == "kernel")
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    binaries.next_back().context("cargo named no binary with the kernel tests")
}

#[cfg(test)]
mod cases {
    use super::*;

    #[test]
    fn the_shell_takes_every_path_as_one_word() {
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }
}
