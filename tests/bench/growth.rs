//! How memory, page and scrape grow: with live sockets, and with series.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::Pid;
use serde_json::json;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::process::Process;

use crate::Effort;
use crate::assembled::Code;
use crate::holder;
use crate::interrupt;
use crate::meter::{Scrape, allocated, map_memory, milliseconds, resident, scrape};
use crate::pairs::{Spread, float};
use crate::report::{Part, Table, Target, mebibytes};
use crate::stage::{OBSERVED, Stage};
use crate::{empty, floor};

/// A second port of the observed service, for held connections.
const HELD: u16 = 8090;

/// Sockets that are live until this is dropped.
#[derive(Debug, Default)]
struct Live(Vec<Process>);

impl Live {
    /// Opens so many sockets more, on a port that is observed or on one that is not.
    fn open(&mut self, stage: &Stage, sockets: u32, observed: bool) -> Result<()> {
        let own = std::env::current_exe()?;
        let most = holder::most()?;
        let mut left = sockets / 2;
        let mut fresh = Vec::new();
        while left > 0 {
            let now = left.min(most);
            left -= now;
            let place = self.0.len() + fresh.len() + 1;
            let port = if observed { HELD } else { 7000 };
            let mut command = stage.here.command(&own.to_string_lossy());
            command.args(["hold", &now.to_string(), &format!("127.0.1.{place}:{port}")]);
            fresh.push(Process::start(command.stdout(Stdio::piped()))?);
        }
        for mut process in fresh {
            let out = process.output().context("no output")?;
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line)?;
            ensure!(line == "ready\n", "who holds sockets said {line:?}");
            self.0.push(process);
            interrupt::check()?;
        }
        Ok(())
    }
}

/// What scrapes cost at one point.
struct Point {
    cpu: Spread,
    wall: Spread,
    /// The last one.
    last: Scrape,
    rss: [u64; 2],
    maps: u64,
}

impl Point {
    fn measure(stage: &Stage, agent: &mut Agent<'_>, scrapes: usize) -> Result<Self> {
        let url = agent.url().to_owned();
        let process: Pid = agent.process().pid()?;
        let once = || {
            interrupt::check()?;
            scrape(&stage.here, &url, process)
        };
        // The first one sees what was never seen before.
        let mut last = once()?;
        let (mut cpu, mut wall) = (Vec::new(), Vec::new());
        for _ in 0..scrapes {
            last = once()?;
            cpu.push(milliseconds(last.cpu));
            wall.push(milliseconds(last.wall));
        }
        Ok(Self {
            cpu: Spread::of(&cpu),
            wall: Spread::of(&wall),
            last,
            rss: resident(process)?,
            maps: map_memory(process)?,
        })
    }

    fn row(&self, table: &mut Table, what: String) {
        table.row([
            what,
            self.last.series().to_string(),
            self.last.page.len().to_string(),
            self.cpu.words(2),
            self.wall.words(2),
            mebibytes(self.rss[0]),
            mebibytes(self.rss[1]),
            mebibytes(self.maps),
        ]);
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "series": self.last.series(), "bytes": self.last.page.len(), "cpu_ms": self.cpu.json(),
            "wall_ms": self.wall.json(), "rss": self.rss[0], "anonymous": self.rss[1], "maps": self.maps,
        })
    }
}

/// The part.
pub(crate) fn part(stage: &Stage, effort: Effort) -> Result<Part> {
    let mut part = Part::new(
        "How cost grows",
        "Live TCP sockets over loopback (both ends count), and samples on the page. Processor time of the agent per scrape \
         includes the kernel's walk over the sockets. Kernel maps as the kernel accounts them, without the values in the \
         sockets themselves. What those take is what the kernel's general caches grow by (slabinfo): without the agent these \
         sockets need nothing of them.",
    );
    let scrapes = if effort.quick { 5 } else { 15 };
    let mut table = Table::new(&[
        "live sockets",
        "samples",
        "page bytes",
        "CPU per scrape, ms",
        "scrape, ms",
        "RSS, MiB",
        "of its own, MiB",
        "kernel maps, MiB",
    ]);
    by_sockets(stage, effort, scrapes, &mut part, &mut table)?;
    by_series(stage, scrapes, &mut part, &mut table)?;
    part.table(table);
    Ok(part)
}

fn by_sockets(stage: &Stage, effort: Effort, scrapes: usize, part: &mut Part, table: &mut Table) -> Result<()> {
    let steps: &[u32] = if effort.quick { &[0, 1000, 10_000] } else { &[0, 1000, 10_000, 100_000] };
    let mut agent = stage.agent()?;
    let mut live = Live::default();
    let (mut open, mut none) = (0, 0.0);
    let mut each = Vec::new();
    let mut walks_of_none = [0.0; 6];
    for sockets in steps {
        let before = allocated()?;
        live.open(stage, sockets - open, false)?;
        let more = float(allocated()?.saturating_sub(before));
        let stored = more / f64::from((sockets - open).max(1));
        open = *sockets;
        let point = Point::measure(stage, &mut agent, scrapes)?;
        ensure!(
            sockmeter_tests::page::Page::parse(point.last.page.clone())?.sum("sockmeter_sockets", &[])
                >= f64::from(open),
            "the page shows fewer than {open} sockets"
        );
        point.row(table, format!("{sockets}, not observed"));
        part.raw(&format!("{sockets} sockets"), point.json());
        let spread = |took: Vec<Duration>| Spread::of(&took.into_iter().map(milliseconds).collect::<Vec<_>>());
        let scan = spread(empty::scans(&agent, scrapes, Code::default(), || {})?);
        let look = spread(empty::scans(&agent, scrapes, floor::looking(), || {})?);
        let pass = spread(empty::passes(&stage.here, scrapes)?);
        part.raw(&format!("{sockets} sockets, walk over storages with an empty program"), scan.json());
        part.raw(&format!("{sockets} sockets, walk over storages with one that looks at each socket"), look.json());
        part.raw(&format!("{sockets} sockets, walk over connections with an empty program"), pass.json());
        let [cold, cold_scan, cold_look] = cold(stage, &mut agent, scrapes)?.map(spread);
        part.raw(
            &format!("{sockets} sockets, no cache holding anything: scrape, empty walk, one that looks at each socket"),
            json!([cold.json(), cold_scan.json(), cold_look.json()]),
        );
        let walks = [scan.median, look.median, pass.median, cold.median, cold_scan.median, cold_look.median];
        if open == 0 {
            (none, walks_of_none) = (point.cpu.median, walks);
        } else {
            let of_one = |milliseconds: f64| milliseconds * 1e6 / f64::from(open);
            let walks: [f64; 6] = std::array::from_fn(|walk| of_one(walks[walk] - walks_of_none[walk]));
            each.push((open, of_one(point.cpu.median - none), walks, stored));
            part.raw(&format!("{sockets} sockets, bytes kept in each that is new"), json!(stored));
        }
    }
    let mut linear = Table::new(&[
        "live sockets",
        "CPU per scrape and socket, ns",
        "the kernel's walk over storages with an empty program, ns",
        "with one that copies 16 bytes of each socket, ns",
        "that over connections, ns",
        "no cache holding anything: per scrape, ns",
        "with an empty program, ns",
        "with one that copies, ns",
        "kept in each that is new, bytes",
    ]);
    for (sockets, nanoseconds, walks, stored) in &each {
        let numbers = [nanoseconds].into_iter().chain(walks).chain([stored]).map(|number| format!("{number:.0}"));
        linear.row([sockets.to_string()].into_iter().chain(numbers).collect::<Vec<_>>());
    }
    if let Some((sockets, nanoseconds, ..)) = each.last() {
        let what = format!("CPU per scrape and socket at {sockets} sockets, ns");
        part.target(Target::at_most(&what, 300.0, *nanoseconds, 0));
    }
    drop((agent, live));
    let mut agent =
        Agent::start(&stage.here, &["--scope", "host", "--service", &format!("scheduler={OBSERVED},{HELD}")])?;
    let mut live = Live::default();
    let before = allocated()?;
    live.open(stage, 10_000, true)?;
    let stored = float(allocated()?.saturating_sub(before)) / 10_000.0;
    linear.row(
        ["10000, half of them observed", "-", "-", "-", "-", "-", "-", "-"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("{stored:.0}")])
            .collect::<Vec<_>>(),
    );
    part.raw("10000 sockets, half of them observed, bytes kept in each", json!(stored));
    part.table(linear);
    let point = Point::measure(stage, &mut agent, scrapes)?;
    point.row(table, "10000, half of them observed".to_owned());
    part.raw("10000 sockets, observed", point.json());
    Ok(())
}

/// More than any cache holds.
const SWEEP: usize = 256 << 20;

/// Processor time of scrapes, of walks with an empty program, and of walks with one that looks at each socket, which take turns, with
/// no cache holding what they look at, as after the seconds between two scrapes of Prometheus'.
fn cold(stage: &Stage, agent: &mut Agent<'_>, count: usize) -> Result<[Vec<Duration>; 3]> {
    let (url, process) = (agent.url().to_owned(), agent.process().pid()?);
    let mut memory = vec![0_u8; SWEEP];
    let mut sweep = || {
        memory.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
        std::hint::black_box(&memory);
    };
    let mut found = [const { Vec::new() }; 3];
    for _ in 0..count {
        interrupt::check()?;
        sweep();
        found[0].push(scrape(&stage.here, &url, process)?.cpu);
        found[1].extend(empty::scans(agent, 1, Code::default(), &mut sweep)?);
        found[2].extend(empty::scans(agent, 1, floor::looking(), &mut sweep)?);
    }
    Ok(found)
}

fn by_series(stage: &Stage, scrapes: usize, part: &mut Part, table: &mut Table) -> Result<()> {
    let files = tempfile::tempdir()?;
    let (routes, configuration) = (files.path().join("routes"), files.path().join("sockmeter.toml"));
    let mut lines = String::new();
    for number in 0..4000 {
        writeln!(lines, "GET /series/{number}")?;
    }
    fs::write(&routes, lines)?;
    fs::write(
        &configuration,
        format!(
            "[service.scheduler]\nports = [{OBSERVED}]\nendpoint_limit = 4000\nroutes = \"{}\"\n",
            routes.display()
        ),
    )?;
    let configuration = configuration.to_string_lossy();
    let mut agent = Agent::start(&stage.here, &["--scope", "host", "--config", &configuration])?;
    let mut asked = 0;
    for wanted in [100, 1000, 10_000] {
        asked = ask(stage, &agent, asked, wanted)?;
        let point = Point::measure(stage, &mut agent, scrapes)?;
        point.row(table, "0".to_owned());
        part.raw(&format!("{wanted} series"), point.json());
    }
    let mut live = Live::default();
    live.open(stage, 10_000, false)?;
    let point = Point::measure(stage, &mut agent, scrapes)?;
    point.row(table, "10000, not observed".to_owned());
    part.raw("10000 sockets and 10000 series", point.json());
    part.target(Target::at_most("CPU per scrape, 10,000 sockets and 10,000 series, ms", 20.0, point.cpu.median, 1));
    part.target(Target::at_most("RSS, 10,000 sockets and 10,000 series, MB", 40.0, float(point.rss[0]) / 1e6, 1));
    Ok(())
}

/// Asks for endpoints never asked for before, from number `first` on, until the page has `wanted` samples; the number of
/// the next one.
fn ask(stage: &Stage, agent: &Agent<'_>, first: u32, wanted: usize) -> Result<u32> {
    let samples = || -> Result<usize> {
        let page = agent.scrape()?;
        Ok(page.text().lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count())
    };
    let mut next = first;
    loop {
        interrupt::check()?;
        let missing = wanted.saturating_sub(samples()?);
        if missing == 0 {
            return Ok(next);
        }
        // An endpoint makes about twenty samples: half of what is missing, then look again.
        let more = u32::try_from(missing / 40)?.max(1);
        if next + more > 4000 {
            bail!("{next} endpoints do not make {wanted} samples");
        }
        stage.here.enter(|| requests(next..next + more))?;
        next += more;
    }
}

/// One keep-alive connection that asks for each of these endpoints.
fn requests(endpoints: std::ops::Range<u32>) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", OBSERVED))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut buffer = [0; 4096];
    for endpoint in endpoints {
        write!(stream, "GET /series/{endpoint} HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok\n") {
            let count = stream.read(&mut buffer)?;
            ensure!(count > 0, "nginx closed after {answer:?}");
            answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
    }
    Ok(())
}
