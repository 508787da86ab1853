//! Bulk TCP in short turns: what a machine makes of it drifts by more than what is looked for, but hardly from one moment
//! to the next. Three processes take turns, each in network namespaces of its own: one whose packets no program looks at, one that
//! the agent has in scope, and one whose packets pass programs that do nothing. What a turn is, `stream` says.
//!
//! All three are there at once, so the first one's packets also pass the kernel's question whether it has such programs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::process::Process;

use crate::Effort;
use crate::bulk::Bulk;
use crate::empty::Empty;
use crate::interrupt;
use crate::pairs::{Spread, float};
use crate::report::{Part, Table, Target};
use crate::stage::Place;

/// One of the three.
struct Sending {
    process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Sending {
    fn start(place: &Place, load: Bulk) -> Result<Self> {
        let own = std::env::current_exe()?;
        let (from, address) = if load.veth { (&place.there, "10.77.0.1") } else { (&place.here, "127.0.0.1") };
        let mut command = place.group.command(&place.here, &own.to_string_lossy());
        command.args(["stream", &load.streams.to_string(), address, &format!("/run/netns/{}", from.name())]);
        let (mut process, input) = Process::start_reading(command.stdout(Stdio::piped()))?;
        let output = process.output().context("no output")?;
        let mut sending = Self { process, input, output: BufReader::new(output) };
        let said = sending.line()?;
        ensure!(said == "ready", "who sends said {said:?}");
        Ok(sending)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            // Ctrl-C ends it too.
            interrupt::check()?;
        }
        Ok(line.trim_end().to_owned())
    }

    /// Gigabits per second of one turn.
    fn turn(&mut self) -> Result<f64> {
        interrupt::check()?;
        if let Err(error) = self.input.write_all(b"\n") {
            interrupt::check()?;
            return Err(error.into());
        }
        let said = self.line()?;
        let (bytes, nanoseconds) = said.split_once(' ').with_context(|| format!("who sends said {said:?}"))?;
        Ok(float(bytes.parse()?) * 8.0 / float(nanoseconds.parse()?))
    }

    /// Ends it.
    fn end(self) -> Result<()> {
        let Self { mut process, input, .. } = self;
        drop(input);
        ensure!(process.wait()?.success(), "who sends failed");
        Ok(())
    }
}

/// What each of the three is to be.
const WITHOUT: usize = 0;
const AGENT: usize = 1;
const NOTHING: usize = 2;

/// Orders of a round: each comes equally often at each place, and behind each of the others.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1], [1, 0, 2], [2, 1, 0]];

/// The sums of three rates, see `WITHOUT`, over some rounds with the same connections. `places` in that order.
fn set(places: [&Place; 3], load: Bulk, rounds: usize) -> Result<[f64; 3]> {
    let mut all = places.iter().map(|place| Sending::start(place, load)).collect::<Result<Vec<_>>>()?;
    // The windows open.
    for sending in &mut all {
        sending.turn()?;
    }
    let mut rates = [0.0; 3];
    for order in ORDERS.iter().cycle().take(rounds) {
        for which in order {
            rates[*which] += all[*which].turn()?;
        }
    }
    for sending in all {
        sending.end()?;
    }
    Ok(rates)
}

/// Sets under this load. The places take turns too, for where the memory of one lies makes a difference.
fn sets(places: &[Place; 3], load: Bulk, effort: Effort) -> Result<Vec<[f64; 3]>> {
    let (sets, rounds) = if effort.quick { (1, 6) } else { (27, 12) };
    let mut found = Vec::new();
    for first in 0..places.len() {
        let turned = [WITHOUT, AGENT, NOTHING].map(|which| &places[(first + which) % places.len()]);
        let scope = format!("cgroup:{}", turned[AGENT].group.path.display());
        let _agent = Agent::start(&turned[AGENT].here, &["--scope", &scope])?;
        let _empty = Empty::attach(&turned[NOTHING].here, &turned[NOTHING].group.path)?;
        for _ in 0..sets {
            found.push(set(turned, load, rounds)?);
        }
    }
    Ok(found)
}

/// The table of these loads, with the targets; all numbers go to `part`.
pub(crate) fn table(loads: &[Bulk], effort: Effort, part: &mut Part) -> Result<Table> {
    let mut table = Table::new(&[
        "load, in turns",
        "with the agent / without",
        "programs that do nothing / without",
        "with the agent / programs that do nothing",
    ]);
    let places = [Place::new("a")?, Place::new("b")?, Place::new("c")?];
    for load in loads {
        let found = sets(&places, *load, effort)?;
        let ratio = |above: usize, below: usize| {
            Spread::of(&found.iter().map(|rates| rates[above] / rates[below]).collect::<Vec<_>>())
        };
        let ratios = [ratio(AGENT, WITHOUT), ratio(NOTHING, WITHOUT), ratio(AGENT, NOTHING)];
        table.row([load.words()].into_iter().chain(ratios.map(|ratio| ratio.words(3))).collect::<Vec<_>>());
        let what = format!("bulk {} with the agent, share of without", load.words());
        part.target(Target::at_least(&what, 0.99, ratios[0].median, 3));
        part.raw(&format!("turns, {}", load.words()), json!(found));
    }
    Ok(table)
}
