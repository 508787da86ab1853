//! The benchmark: what the agent costs, every measurement paired with its baseline in the same run. It asserts nothing
//! about time; `report` compares with the targets. `cargo xtask bench` builds what it needs and runs it as root; how to
//! read what it writes is in docs/benchmarks/README.md.
#![forbid(unsafe_code)]

mod alone;
mod assembled;
mod bulk;
mod empty;
mod floor;
mod growth;
mod holder;
mod http;
mod interrupt;
mod load;
mod loads;
mod machine;
mod meter;
mod pairs;
mod peers;
mod programs;
mod report;
mod resting;
mod sender;
mod slices;
mod stage;
mod start;
mod stream;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};

use report::{Part, Report};
use stage::Stage;

/// Measure what the agent costs.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    own: Option<Own>,
    /// Only these parts, in this order; all but `peers` by default
    #[arg(value_enum)]
    parts: Vec<Name>,
    /// Fewer and shorter measurements: a few minutes instead of twenty, and more noise
    #[arg(long)]
    quick: bool,
    /// Where to write `results.json` and `README.md` [default: docs/benchmarks/DATE-MACHINE]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also the same load beside other tools, where they are installed
    #[arg(long)]
    peers: bool,
    /// Where peers that cargo built are
    #[arg(long, value_name = "DIR", hide = true)]
    tools: Option<PathBuf>,
}

/// What the benchmark starts of itself.
#[derive(Debug, Subcommand)]
enum Own {
    /// Opens connections to itself and holds them
    #[command(hide = true)]
    Hold(holder::Held),
    /// Sends datagrams to itself
    #[command(hide = true)]
    Send(sender::Sent),
    /// Sends streams to itself when told to
    #[command(hide = true)]
    Stream(stream::Streams),
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Requests per second and latencies, without and with the agent
    Http,
    /// The same with each kernel program alone
    Alone,
    /// Bulk TCP and UDP, over loopback and veth
    Bulk,
    /// Nanoseconds per run of each kernel program
    Programs,
    /// The agent at rest and under load
    Resting,
    /// How memory, page and scrape grow with sockets and series
    Growth,
    /// Start-up, and from request to visible sample
    Start,
    /// The same load beside other tools
    Peers,
}

impl Name {
    const ALL: [Self; 7] =
        [Self::Start, Self::Resting, Self::Programs, Self::Growth, Self::Http, Self::Alone, Self::Bulk];
}

/// How long and how often to measure.
#[derive(Clone, Copy, Debug)]
struct Effort {
    quick: bool,
    /// Pairs of each measurement.
    pairs: usize,
    /// Seconds of each load.
    seconds: u32,
}

impl Effort {
    fn new(quick: bool) -> Self {
        if quick { Self { quick, pairs: 3, seconds: 1 } } else { Self { quick, pairs: 7, seconds: 3 } }
    }
}

fn main() -> ExitCode {
    match execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.own {
        Some(Own::Hold(held)) => return holder::hold(&held),
        Some(Own::Send(sent)) => return sender::send(&sent),
        Some(Own::Stream(streams)) => return stream::stream(&streams),
        None => {}
    }
    interrupt::watch()?;
    let effort = Effort::new(arguments.quick);
    let machine = machine::describe()?;
    let out = arguments.out.unwrap_or_else(|| default_folder().join(machine.folder()));
    let mut names = if arguments.parts.is_empty() { Name::ALL.to_vec() } else { arguments.parts };
    if arguments.peers && !names.contains(&Name::Peers) {
        names.push(Name::Peers);
    }
    let mut report = Report::new(machine, effort.quick);
    let began = Instant::now();
    let result = measure(&names, effort, arguments.tools.as_deref(), &mut report);
    // What was measured before something failed is worth keeping, and says that it is not all.
    report.finish(began.elapsed(), result.as_ref().err().map(|error| format!("{error:#}")));
    report.write(&out).with_context(|| format!("cannot write to {}", out.display()))?;
    println!("{}", report.targets());
    println!("written to {}", out.display());
    result
}

fn default_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks")
}

fn measure(names: &[Name], effort: Effort, tools: Option<&std::path::Path>, report: &mut Report) -> Result<()> {
    let stage = Stage::set()?;
    for name in names {
        interrupt::check()?;
        let began = Instant::now();
        let part: Part = match name {
            Name::Http => http::part(&stage, effort),
            Name::Alone => alone::part(&stage, effort),
            Name::Bulk => bulk::part(&stage, effort),
            Name::Programs => programs::part(&stage, effort),
            Name::Resting => resting::part(&stage, effort),
            Name::Growth => growth::part(&stage, effort),
            Name::Start => start::part(&stage, effort),
            Name::Peers => peers::part(&stage, effort, tools),
        }
        .with_context(|| format!("the part {name:?} failed"))?;
        eprintln!("{name:?}: done in {:.1} s", began.elapsed().as_secs_f64());
        report.add(part);
    }
    Ok(())
}
