//! `cargo xtask test`: what must be true before a change lands. Pure tests need no privileges, kernel tests need root;
//! cargo-nextest runs them where it is installed, else cargo itself.

use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;
use nix::unistd::geteuid;

use crate::steps::{Steps, output_of, run};
use crate::workspace::Workspace;
use crate::{agent, kernel_side, setup, tidy};

/// The environment variable that tells the kernel tests which agent to start.
const AGENT_VARIABLE: &str = "SOCKMETER_BINARY";
/// The environment variable that makes every agent of the kernel tests an ordinary user's (`tests/src/ordinary.rs`).
const ORDINARY_VARIABLE: &str = "SOCKMETER_TEST_UNPRIVILEGED";
/// The package with the kernel tests.
const KERNEL_PACKAGE: &str = "sockmeter-tests";

/// Tests by what they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ring {
    /// Fixtures and loopback, no privileges
    Pure,
    /// Real programs in this kernel and real traffic, as root
    Kernel,
    /// The same, with every agent an ordinary user's who has three capabilities
    Unprivileged,
}

/// Everything, in the order in which a failure is cheapest to find.
pub(crate) fn everything(workspace: &Workspace, steps: &Steps, filter: &[String]) -> Result<()> {
    setup::packages(steps)?;
    kernel_side::build(workspace, steps)?;
    steps.step("fmt", "cargo fmt --all --check", || run(workspace.cargo().args(["fmt", "--all", "--check"])))?;
    steps.step("clippy", "cargo clippy --workspace --all-targets -- -D warnings", || {
        run(workspace.cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    steps.step("tidy", "cargo xtask tidy", || tidy::check(&workspace.root))?;
    pure(workspace, steps, filter)?;
    if can_be_root() {
        return kernel(workspace, steps, Ring::Kernel, filter);
    }
    steps.say("kernel tests: skipped, for they need root and sudo wants a password");
    steps.say("hint: sudo -v, then cargo xtask test kernel");
    Ok(())
}

/// The tests of one ring, with what they need.
pub(crate) fn one_ring(workspace: &Workspace, steps: &Steps, ring: Ring, filter: &[String]) -> Result<()> {
    if ring == Ring::Pure {
        return pure(workspace, steps, filter);
    }
    if !can_be_root() {
        bail!("kernel tests need root, and sudo wants a password\nhint: sudo -v, then again");
    }
    setup::packages(steps)?;
    kernel_side::build(workspace, steps)?;
    kernel(workspace, steps, ring, filter)
}

fn can_be_root() -> bool {
    setup::as_root("true").is_some()
}

fn pure(workspace: &Workspace, steps: &Steps, filter: &[String]) -> Result<()> {
    steps.last_word("pure tests", "cargo xtask test pure", || {
        let runner = Runner::of(workspace);
        run(&mut runner.command(workspace, &["--workspace", "--exclude", KERNEL_PACKAGE], &[], filter))
    })
}

fn kernel(workspace: &Workspace, steps: &Steps, ring: Ring, filter: &[String]) -> Result<()> {
    let binary = agent::build_for_tests(workspace, steps)?;
    let (what, alone, ordinary) = match ring {
        Ring::Unprivileged => ("kernel tests as an ordinary user", "cargo xtask test unprivileged", "1"),
        Ring::Pure | Ring::Kernel => ("kernel tests", "cargo xtask test kernel", "0"),
    };
    steps.last_word(what, alone, || {
        let runner = Runner::of(workspace);
        // Built as the user who asks, run as root.
        let sudo = ["--config", "target.'cfg(unix)'.runner=['sudo', '-n', '-E']"];
        let sudo: &[&str] = if geteuid().is_root() { &[] } else { &sudo };
        let mut command = runner.command(workspace, &["--package", KERNEL_PACKAGE], sudo, filter);
        run(command.env(AGENT_VARIABLE, binary).env(ORDINARY_VARIABLE, ordinary))
    })
}

/// What runs the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    /// A process for each test, and one summary.
    Nextest,
    /// Always there. Its tests share a process, so those of the kernel run one after the other.
    Cargo,
}

impl Runner {
    fn of(workspace: &Workspace) -> Self {
        match output_of(workspace.cargo().args(["nextest", "--version"])) {
            Some(_) => Self::Nextest,
            None => Self::Cargo,
        }
    }

    fn command(self, workspace: &Workspace, packages: &[&str], options: &[&str], filter: &[String]) -> Command {
        let mut command = workspace.cargo();
        let one_by_one = packages.contains(&KERNEL_PACKAGE) && packages.contains(&"--package");
        match self {
            Self::Nextest => {
                command.args(["nextest", "run", "--no-fail-fast"]).args(packages).args(options);
                // A filter may leave one of the rings without a test.
                command.args(if filter.is_empty() { None } else { Some("--no-tests=pass") }).args(filter);
            }
            Self::Cargo => {
                command.args(["test", "--no-fail-fast"]).args(packages).args(options).arg("--").args(filter);
                command.args(one_by_one.then_some("--test-threads=1"));
            }
        }
        command
    }
}

#[cfg(test)]
mod cases {
    use super::*;
    use crate::steps::words;

    #[test]
    fn both_runners_get_packages_and_filter() {
        let workspace = Workspace::new();
        let line = |runner: Runner, filter: &[String]| {
            let command = runner.command(&workspace, &["--package", KERNEL_PACKAGE], &[], filter);
            words(&command).split_once(' ').map(|(_, arguments)| arguments.to_owned())
        };
        let filter = ["ledger".to_owned()];
        assert_eq!(
            line(Runner::Nextest, &filter).as_deref(),
            Some("nextest run --no-fail-fast --package sockmeter-tests --no-tests=pass ledger")
        );
        assert_eq!(
            line(Runner::Cargo, &filter).as_deref(),
            Some("test --no-fail-fast --package sockmeter-tests -- ledger --test-threads=1")
        );
        assert_eq!(line(Runner::Nextest, &[]).as_deref(), Some("nextest run --no-fail-fast --package sockmeter-tests"));
    }
}
