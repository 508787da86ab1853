//! The same load beside other tools: what each costs. What each does and does not do is in docs/benchmarks/README.md.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::json;
use sockmeter_tests::process::Process;
use sockmeter_tests::wait;

use crate::Effort;
use crate::http::{Connections, Counted, wrk};
use crate::interrupt;
use crate::load;
use crate::meter::{Meter, Scrape, milliseconds, resident, scrape};
use crate::pairs::{Pairs, Spread, alternate};
use crate::report::{Part, Table, mebibytes};
use crate::stage::{OBSERVED, Stage};

/// A tool that is not ours.
struct Peer {
    name: &'static str,
    /// Where it comes from.
    from: &'static str,
    arguments: &'static [&'static str],
    /// Where it serves a page, if it does.
    page: Option<&'static str>,
}

const PEERS: [Peer; 5] = [
    Peer {
        name: "prometheus-node-exporter",
        from: "Debian package prometheus-node-exporter",
        arguments: &["--web.listen-address=127.0.0.1:9100"],
        page: Some("http://127.0.0.1:9100"),
    },
    Peer { name: "nethogs", from: "Debian package nethogs", arguments: &["-t", "-a", "-d", "1"], page: None },
    Peer { name: "tcptop", from: "Debian package libbpf-tools", arguments: &["-C", "1"], page: None },
    Peer {
        name: "bandwhich",
        from: "cargo install bandwhich",
        arguments: &["--raw", "--no-resolve", "--interface", "lo"],
        page: None,
    },
    Peer {
        name: "prometheus_wireguard_exporter",
        from: "cargo install prometheus_wireguard_exporter",
        arguments: &["-p", "9586", "-l", "127.0.0.1"],
        page: Some("http://127.0.0.1:9586"),
    },
];

/// The part.
pub(crate) fn part(stage: &Stage, effort: Effort, tools: Option<&Path>) -> Result<Part> {
    let mut part = Part::new(
        "Beside other tools",
        "The HTTP load of above without and with each tool in the same namespace, exporters scraped once at the end. They do \
         not do the same: see [what is compared](../README.md). CPU is that of the tool's process while wrk runs.",
    );
    let mut table = Table::new(&[
        "tool",
        "load",
        "requests per second without",
        "with",
        "with / without",
        "CPU of nginx and wrk a request, with / without",
        "CPU, % of a core",
        "RSS, MiB",
        "page bytes",
        "CPU per scrape, ms",
    ]);
    let mut missing = Vec::new();
    let pairs = if effort.quick { 1 } else { 3 };
    for connections in Connections::BOTH {
        let one = || wrk(stage, connections, OBSERVED, "/small.txt", 2);
        let mut used = Vec::new();
        let found = alternate(pairs, one, || {
            let mut agent = stage.agent()?;
            let (process, url) = (agent.process().pid()?, agent.url().to_owned());
            beside(process, one, &mut used, || Ok(Some(scrape(&stage.here, &url, process)?)))
        })?;
        row(&mut part, &mut table, "sockmeter", connections, &found, &used);
        for peer in &PEERS {
            let Some(program) = find(peer.name, tools) else {
                missing.push(format!("{} ({})", peer.name, peer.from));
                continue;
            };
            let mut used = Vec::new();
            match alternate(pairs, one, || with_peer(stage, peer, &program, one, &mut used)) {
                Ok(found) => row(&mut part, &mut table, peer.name, connections, &found, &used),
                Err(error) => {
                    interrupt::check()?;
                    missing.push(format!("{}: {error:#}", peer.name));
                }
            }
        }
    }
    part.table(table);
    missing.sort();
    missing.dedup();
    if !missing.is_empty() {
        let mut not = Table::new(&["not compared, because it is not here or did not run"]);
        for name in missing {
            not.row([name]);
        }
        part.table(not);
    }
    Ok(part)
}

/// The load beside a peer, which is ended then.
fn with_peer(
    stage: &Stage,
    peer: &Peer,
    program: &Path,
    one: impl Fn() -> Result<Counted>,
    used: &mut Vec<Used>,
) -> Result<Counted> {
    let mut running = start(stage, peer, program)?;
    let process = running.pid()?;
    let page = || peer.page.map(|page| scrape(&stage.here, page, process)).transpose();
    let counted = beside(process, one, used, page)?;
    // A tool that ended by itself was not beside anything.
    ensure!(running.ended()?.is_none(), "{} ended by itself", peer.name);
    running.signal(Signal::SIGTERM)?;
    running.wait()?;
    Ok(counted)
}

/// What a tool used while it was beside the load.
struct Used {
    /// Percent of a core.
    cpu: f64,
    rss: u64,
    /// Page bytes, and milliseconds of CPU for it.
    page: Option<(usize, f64)>,
}

fn beside(
    process: Pid,
    one: impl Fn() -> Result<Counted>,
    used: &mut Vec<Used>,
    page: impl Fn() -> Result<Option<Scrape>>,
) -> Result<Counted> {
    let meter = Meter::start(process)?;
    let counted = one()?;
    let cpu = meter.share()?;
    let rss = resident(process)?[0];
    let page = page()?.map(|scrape| (scrape.page.len(), milliseconds(scrape.cpu)));
    used.push(Used { cpu, rss, page });
    Ok(counted)
}

fn row(
    part: &mut Part,
    table: &mut Table,
    name: &str,
    connections: Connections,
    found: &[[Counted; 2]],
    used: &[Used],
) {
    let pairs = Pairs::of(found, |counted| counted.requests);
    let each = Pairs::of(found, |counted| counted.cpu);
    let of = |quantity: fn(&Used) -> f64| Spread::of(&used.iter().map(quantity).collect::<Vec<_>>()).median;
    let cpu = of(|used| used.cpu);
    let rss = used.iter().map(|used| used.rss).max().unwrap_or(0);
    let page = used.iter().filter_map(|used| used.page).next_back();
    table.row([
        name.to_owned(),
        connections.words().to_owned(),
        pairs.without.words(0),
        pairs.with.words(0),
        pairs.ratio.words(3),
        each.ratio.words(3),
        format!("{cpu:.1}"),
        mebibytes(rss),
        page.map_or_else(String::new, |(bytes, _)| bytes.to_string()),
        page.map_or_else(String::new, |(_, milliseconds)| format!("{milliseconds:.1}")),
    ]);
    part.raw(
        &format!("{name}: {}", connections.words()),
        json!({ "requests": pairs.json(), "cpu_us": each.json(), "cpu_percent": cpu, "rss": rss }),
    );
}

/// Where a program is: among what cargo installed for us, or where the system has its own.
fn find(name: &str, tools: Option<&Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = tools.map(|tools| tools.join("bin")).into_iter().collect();
    folders.extend(std::env::split_paths(&path));
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn start(stage: &Stage, peer: &Peer, program: &Path) -> Result<Process> {
    let mut command = stage.here.command(&program.to_string_lossy());
    command.args(peer.arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Process::start(&mut command)?;
    match peer.page {
        Some(page) => {
            let address = page.trim_start_matches("http://");
            wait::until(peer.name, || {
                interrupt::check()?;
                Ok(stage.here.enter(|| Ok(std::net::TcpStream::connect(address).is_ok()))?.then_some(()))
            })
            .with_context(|| format!("{} does not serve", peer.name))?;
        }
        // Nothing says when it is ready.
        None => load::rest(Duration::from_secs(1))?,
    }
    Ok(running)
}
