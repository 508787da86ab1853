//! `cargo xtask test`: what must be true before a change lands. Pure tests need no privileges, kernel tests need root;
//! cargo-nextest runs them where it is installed, else cargo itself. Kernel tests under other kernels are `vm`'s.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;
use nix::unistd::geteuid;

use crate::steps::{Steps, output_of, run};
use crate::workspace::Workspace;
use crate::{agent, dist, kernel_side, manifests, monitoring, setup, tidy, vm};

/// The environment variable that tells the kernel tests which agent to start.
const AGENT_VARIABLE: &str = "SOCKMETER_BINARY";
/// The environment variable that tells them where the static one is, which is what gets deployed.
const STATIC_VARIABLE: &str = "SOCKMETER_STATIC_BINARY";
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
    /// Those of the kernel tests that last long; not part of `cargo xtask test`
    Slow,
    /// The kernel tests under kernels of other versions, in virtual machines
    Vm,
    /// The same, with every agent an ordinary user's who has three capabilities
    Unprivileged,
}

/// How far a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// Everything was tried.
    Completely,
    /// Something could not be tried; it was said what and why.
    InPart,
}

/// What runs in virtual machines with every change: where kernels differ most, and the books. Within three minutes; all the
/// rest is `cargo xtask test vm`'s.
const IN_EVERY_KERNEL: [&str; 7] = [
    "old_numbers::",
    "not_http::garbage",
    "interfaces::bytes_equal_the_devices_own_on_a_veth_pair",
    "interfaces::the_end_of_one_agent",
    "only_in_guests::loss_duplicates_and_reordering_both_ways",
    "only_in_guests::retransmitted",
    "only_in_guests::wireguard_in_the_kernel_counts",
];

/// Everything, in the order in which a failure is cheapest to find.
pub(crate) fn everything(workspace: &Workspace, steps: &Steps, filter: &[String]) -> Result<Done> {
    setup::packages(steps)?;
    kernel_side::build(workspace, steps)?;
    steps.step("fmt", "cargo fmt --all --check", || run(workspace.cargo().args(["fmt", "--all", "--check"])))?;
    steps.step("clippy", "cargo clippy --workspace --all-targets -- -D warnings", || {
        run(workspace.cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    steps.step("tidy", "cargo xtask tidy", || tidy::check(&workspace.root))?;
    manifests::check(workspace, steps)?;
    monitoring::rules(workspace, steps)?;
    pure(workspace, steps, filter)?;
    // Before the kernel ring, whose summary is to be the last word; what they found is said after it.
    let guests = if filter.is_empty() {
        guests(workspace, steps, vm::ENDS.to_vec(), IN_EVERY_KERNEL.map(str::to_owned).to_vec(), 1)
    } else {
        Ok(Done::Completely)
    };
    if can_be_root() {
        kernel(workspace, steps, Ring::Kernel, filter)?;
    } else {
        steps.say("kernel tests: skipped, for they need root and sudo wants a password");
        steps.say("hint: sudo -v, then cargo xtask test kernel");
    }
    guests
}

/// The kernel tests under the kernels of these series, all of them if none is named.
pub(crate) fn virtual_machines(
    workspace: &Workspace,
    steps: &Steps,
    series: &[String],
    filter: &[String],
    processors: u32,
) -> Result<Done> {
    let series = vm::chosen(series)?;
    setup::packages(steps)?;
    kernel_side::build(workspace, steps)?;
    guests(workspace, steps, series, filter.to_vec(), processors)
}

fn guests(
    workspace: &Workspace,
    steps: &Steps,
    series: Vec<&'static str>,
    filter: Vec<String>,
    processors: u32,
) -> Result<Done> {
    let agents = [
        (AGENT_VARIABLE, agent::build_for_tests(workspace, steps)?),
        (STATIC_VARIABLE, dist::build_for_tests(workspace, steps)?),
    ];
    let order = vm::Order { series, filter, agents: &agents, package: KERNEL_PACKAGE, processors };
    match steps.last_word("virtual machines", "cargo xtask test vm", || vm::test(workspace, steps, &order))? {
        vm::End::Good => Ok(Done::Completely),
        vm::End::Incomplete => Ok(Done::InPart),
        vm::End::Failed => bail!("tests failed in virtual machines; the table above says which"),
    }
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

/// Kernel tests of this name, one after the other, with all that they print, and with variables for them.
pub(crate) fn aloud(workspace: &Workspace, steps: &Steps, name: &str, variables: &[(&str, &Path)]) -> Result<()> {
    if !can_be_root() {
        bail!("kernel tests need root, and sudo wants a password\nhint: sudo -v, then again");
    }
    setup::packages(steps)?;
    kernel_side::build(workspace, steps)?;
    let binary = agent::build_for_tests(workspace, steps)?;
    steps.last_word(name, "cargo xtask monitoring test", || {
        let filter = [name, "--nocapture", "--include-ignored"].map(str::to_owned);
        let mut command = Runner::Cargo.command(workspace, Ring::Kernel, sudo(), &filter);
        run(command.env(AGENT_VARIABLE, binary).envs(variables.iter().copied()))
    })
}

/// Built as the user who asks, run as root.
fn sudo() -> &'static [&'static str] {
    const SUDO: &[&str] = &["--config", "target.'cfg(unix)'.runner=['sudo', '-n', '-E']"];
    if geteuid().is_root() { &[] } else { SUDO }
}

fn can_be_root() -> bool {
    setup::as_root("true").is_some()
}

fn pure(workspace: &Workspace, steps: &Steps, filter: &[String]) -> Result<()> {
    steps.last_word("pure tests", "cargo xtask test pure", || {
        let runner = Runner::of(workspace);
        run(&mut runner.command(workspace, Ring::Pure, &[], filter))
    })
}

fn kernel(workspace: &Workspace, steps: &Steps, ring: Ring, filter: &[String]) -> Result<()> {
    let binary = agent::build_for_tests(workspace, steps)?;
    let deployed = dist::build_for_tests(workspace, steps)?;
    let (what, alone, ordinary) = match ring {
        Ring::Slow => ("slow tests", "cargo xtask test slow", "0"),
        Ring::Unprivileged => ("kernel tests as an ordinary user", "cargo xtask test unprivileged", "1"),
        Ring::Pure | Ring::Kernel | Ring::Vm => ("kernel tests", "cargo xtask test kernel", "0"),
    };
    steps.last_word(what, alone, || {
        let runner = Runner::of(workspace);
        let mut command = runner.command(workspace, ring, sudo(), filter);
        run(command.env(AGENT_VARIABLE, binary).env(STATIC_VARIABLE, deployed).env(ORDINARY_VARIABLE, ordinary))
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

    fn command(self, workspace: &Workspace, ring: Ring, options: &[&str], filter: &[String]) -> Command {
        let mut command = workspace.cargo();
        let packages = match ring {
            Ring::Pure => &["--workspace", "--exclude", KERNEL_PACKAGE][..],
            Ring::Kernel | Ring::Slow | Ring::Unprivileged | Ring::Vm => &["--package", KERNEL_PACKAGE],
        };
        match self {
            Self::Nextest => {
                command.args(["nextest", "run", "--no-fail-fast"]).args(packages).args(options);
                command.args((ring == Ring::Slow).then_some("--run-ignored=only"));
                // A filter may leave one of the rings without a test.
                command.args((!filter.is_empty()).then_some("--no-tests=pass")).args(filter);
            }
            Self::Cargo => {
                command.args(["test", "--no-fail-fast"]).args(packages).args(options).arg("--").args(filter);
                command.args((ring == Ring::Slow).then_some("--ignored"));
                command.args((ring != Ring::Pure).then_some("--test-threads=1"));
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
        let line = |runner: Runner, ring: Ring, filter: &[&str]| {
            let filter: Vec<String> = filter.iter().map(|&word| word.to_owned()).collect();
            let command = runner.command(&workspace, ring, &[], &filter);
            words(&command).split_once(' ').map(|(_, arguments)| arguments.to_owned())
        };
        for (runner, ring, filter, wanted) in [
            (Runner::Nextest, Ring::Pure, &[][..], "nextest run --no-fail-fast --workspace --exclude sockmeter-tests"),
            (Runner::Nextest, Ring::Kernel, &[], "nextest run --no-fail-fast --package sockmeter-tests"),
            (
                Runner::Nextest,
                Ring::Slow,
                &["ledger"],
                "nextest run --no-fail-fast --package sockmeter-tests --run-ignored=only --no-tests=pass ledger",
            ),
            (
                Runner::Cargo,
                Ring::Kernel,
                &["ledger"],
                "test --no-fail-fast --package sockmeter-tests -- ledger --test-threads=1",
            ),
            (
                Runner::Cargo,
                Ring::Slow,
                &[],
                "test --no-fail-fast --package sockmeter-tests -- --ignored --test-threads=1",
            ),
        ] {
            assert_eq!(line(runner, ring, filter).as_deref(), Some(wanted));
        }
    }
}
