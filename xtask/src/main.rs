//! What one does with this repository, as commands: `cargo xtask --help`. Each command has a file of its own here.
#![forbid(unsafe_code)]

mod agent;
mod bench;
mod dashboards;
mod dist;
mod fuzz;
mod kernel_side;
mod manifests;
mod monitoring;
mod setup;
mod steps;
mod tests;
mod tidy;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use steps::Steps;
use tests::{Done, Ring};
use workspace::Workspace;

/// What one does with this repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the kernel programs, and fetch what that needs: rust-src and the pinned bpf-linker
    BuildEbpf,
    /// Build the kernel programs and the agent around them, optimised
    Build,
    /// Build the agent as one static binary, optimised, to target/dist: what images and packages take
    Dist,
    /// Build everything and run the agent as root: `cargo xtask run -- --listen 127.0.0.1:0`
    Run {
        /// Flags of `sockmeter run`
        #[arg(last = true)]
        flags: Vec<String>,
    },
    /// Set the machine up, check the code's form, and run every test that this machine can run
    Test {
        /// Only the tests of one ring: no set-up, no checks of form
        ring: Option<Ring>,
        /// With the ring vm: kernel series such as 6.1; all if none is named
        #[arg(value_name = "VERSION")]
        kernels: Vec<String>,
        /// With the ring vm: processors of each guest
        #[arg(long, default_value_t = 2, value_name = "N")]
        cpus: u32,
        /// Arguments of the test runner, such as part of a test's name
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// Measure what the agent costs, as root: `cargo xtask bench --quick`, `cargo xtask bench http --out DIR`
    ///
    /// Parts: start, resting, programs, growth, http, alone, bulk and, with --peers or by name, peers. Writes
    /// docs/benchmarks/DATE-MACHINE unless --out says otherwise. With --kernel it runs in a virtual machine with that kernel,
    /// beside tools that want kprobes: `cargo xtask bench --kernel 6.1 peers`.
    Bench {
        /// Parts, --quick, --peers, --out DIR, --kernel SERIES
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the fuzz targets; fetches what that needs: cargo-fuzz
    Fuzz {
        /// Only this one
        target: Option<String>,
        /// Time for each
        #[arg(long, default_value_t = 600)]
        seconds: u32,
    },
    /// Put the Kubernetes manifests together and check them, and the compose file; fetches what that needs: kubectl,
    /// kubernetes-validate, docker-compose
    Manifests,
    /// Make the Grafana dashboards (dashboards/*.json) from their source (dashboards/source)
    Dashboards,
    /// Prove that dashboards and rules have answers, or run monitoring here: test, up, check, down, rules, pictures
    Monitoring {
        /// What to do
        #[command(subcommand)]
        what: monitoring::Monitoring,
    },
    /// Check the rules for files, imports and names that the compiler does not know
    Tidy,
    /// Install the programs that the kernel tests drive (Debian packages); no service is started
    Setup,
}

/// Exit code when nothing failed, but something could not be tried: a kernel that no mirror has any more.
const INCOMPLETE: u8 = 4;

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(Done::Completely) => ExitCode::SUCCESS,
        Ok(Done::InPart) => ExitCode::from(INCOMPLETE),
        Err(error) => {
            steps::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<Done> {
    let workspace = Workspace::new();
    let steps = Steps::new();
    let done = match command {
        Command::BuildEbpf => kernel_side::build(&workspace, &steps),
        Command::Build => agent::build(&workspace, &steps).map(drop),
        Command::Dist => dist::dist(&workspace, &steps),
        Command::Run { flags } => agent::run(&workspace, &steps, &flags),
        Command::Test { ring: None, filter, .. } => return tests::everything(&workspace, &steps, &filter),
        Command::Test { ring: Some(Ring::Vm), kernels, cpus, filter } => {
            return tests::virtual_machines(&workspace, &steps, &kernels, &filter, cpus);
        }
        Command::Test { ring: Some(_), kernels, .. } if !kernels.is_empty() => {
            Err(anyhow::anyhow!("{}: only the ring vm has kernels to choose from", kernels.join(" ")))
        }
        Command::Test { ring: Some(ring), filter, .. } => tests::one_ring(&workspace, &steps, ring, &filter),
        Command::Bench { arguments } => bench::run_benchmark(&workspace, &steps, &arguments),
        Command::Fuzz { target, seconds } => fuzz::fuzz(&workspace, &steps, target.as_deref(), seconds),
        Command::Manifests => manifests::check(&workspace, &steps),
        Command::Monitoring { what } => monitoring::execute(&workspace, &steps, &what),
        Command::Dashboards => dashboards::write(&workspace.root, &steps),
        Command::Tidy => steps.step("tidy", "cargo xtask tidy", || tidy::check(&workspace.root)),
        Command::Setup => setup::packages(&steps),
    };
    done.map(|()| Done::Completely)
}
