//! How long it takes until the agent serves, until a request is on the page, and how large the binary is.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use sockmeter_tests::agent::{binary, pin_dir};
use sockmeter_tests::page::Page;
use sockmeter_tests::process::{Process, run};

use crate::Effort;
use crate::interrupt;
use crate::meter::{get, milliseconds};
use crate::pairs::{Spread, float};
use crate::report::{Part, Table, Target};
use crate::stage::{OBSERVED, Stage};

/// From the start of the process to the line that says that it serves; it is stopped then.
fn ready(stage: &Stage, pins: &Path, state: &Path) -> Result<Duration> {
    let mut command = stage.here.command(&binary().to_string_lossy());
    command.args(["run", "--listen", "127.0.0.1:0", "--pin-dir"]).arg(pins).arg("--state-dir").arg(state);
    let began = Instant::now();
    let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let out = BufReader::new(process.output().context("no output")?);
    let mut took = None;
    for line in out.lines() {
        if line?.starts_with("listening on ") {
            took = Some(began.elapsed());
            break;
        }
    }
    let took = took.context("the agent ended before it served")?;
    process.signal(Signal::SIGTERM)?;
    ensure!(process.wait()?.success(), "the agent did not stop as asked");
    Ok(took)
}

fn detach(pins: &Path) -> Result<()> {
    run(std::process::Command::new(binary()).arg("detach").arg("--pin-dir").arg(pins)).map(drop)
}

/// The part.
pub(crate) fn part(stage: &Stage, effort: Effort) -> Result<Part> {
    let mut part = Part::new(
        "Start-up, and from request to page",
        "Ready: from the start of the process to the line \"listening on\". First: nothing of ours is in the kernel yet, all \
         programs are verified and attached. Again: a new agent takes over what the last one left pinned. Visible: from the \
         moment when a client has its answer to the moment when it has the page that shows the exchange.",
    );
    let files = tempfile::tempdir()?;
    let times = if effort.quick { 3 } else { 10 };
    let pins = pin_dir();
    let (mut first, mut again) = (Vec::new(), Vec::new());
    let measured = (0..times).try_for_each(|_| -> Result<()> {
        interrupt::check()?;
        first.push(milliseconds(ready(stage, &pins, files.path())?));
        again.push(milliseconds(ready(stage, &pins, files.path())?));
        detach(&pins)
    });
    if measured.is_err() {
        // The pins are ours whatever happened.
        let _ = detach(&pins);
    }
    measured?;
    let (first, again) = (Spread::of(&first), Spread::of(&again));
    let mut table = Table::new(&["what", "median (quartiles)"]);
    table.row(["ready, first, ms".to_owned(), first.words(0)]);
    table.row(["ready, again, ms".to_owned(), again.words(0)]);
    let (visible, scrapes) = visible(stage, if effort.quick { 10 } else { 50 })?;
    table.row(["request to page, ms".to_owned(), visible.words(2)]);
    table.row(["scrapes until it was there".to_owned(), scrapes.words(0)]);
    let size = fs::metadata(binary())?.len();
    table.row(["binary, bytes".to_owned(), size.to_string()]);
    part.target(Target::at_most("ready, first start, ms", 500.0, first.median, 0));
    part.target(Target::at_most("stripped static binary, MB", 10.0, float(size) / 1e6, 2));
    part.raw("ready, first, ms", first.json());
    part.raw("ready, again, ms", again.json());
    part.raw("request to page, ms", visible.json());
    part.raw("scrapes until it was there", scrapes.json());
    part.raw("binary, bytes", json!(size));
    part.table(table);
    Ok(part)
}

/// Milliseconds from answer to page, and how many scrapes that took.
fn visible(stage: &Stage, times: u32) -> Result<(Spread, Spread)> {
    let agent = stage.agent()?;
    let address = agent.url().trim_start_matches("http://").to_owned();
    let count = |page: String| -> Result<f64> { Ok(Page::parse(page)?.sum("scheduler_http_requests_total", &[])) };
    let (mut waited, mut scrapes) = (Vec::new(), Vec::new());
    stage.here.enter(|| {
        for _ in 0..times {
            interrupt::check()?;
            let before = count(get(&address, "/metrics")?)?;
            get(&format!("127.0.0.1:{OBSERVED}"), "/small.txt")?;
            let (began, mut asked) = (Instant::now(), 0.0);
            loop {
                let page = get(&address, "/metrics")?;
                let took = began.elapsed();
                asked += 1.0;
                if count(page)? > before {
                    waited.push(milliseconds(took));
                    scrapes.push(asked);
                    break;
                }
                ensure!(took < Duration::from_secs(10), "an exchange was not on the page for {took:?}");
            }
        }
        Ok(())
    })?;
    Ok((Spread::of(&waited), Spread::of(&scrapes)))
}
