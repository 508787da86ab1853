//! Bulk TCP in short turns: what a machine makes of it drifts by more than what is looked for, but hardly from one moment
//! to the next. Three processes take turns, each in network namespaces of its own: one whose packets no program looks at, one that
//! the agent has in scope, and one whose packets pass programs that do nothing. What a turn is, `stream` says.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::Process;

use crate::Effort;
use crate::empty::Empty;
use crate::interrupt;
use crate::pairs::{Spread, float};
use crate::report::{Part, Table, Target};
use crate::stage::Group;

/// What is sent over.
#[derive(Clone, Copy, Debug)]
struct Load {
    veth: bool,
    streams: u32,
}

impl Load {
    const ALL: [Self; 4] = [
        Self { veth: false, streams: 1 },
        Self { veth: false, streams: 8 },
        Self { veth: true, streams: 1 },
        Self { veth: true, streams: 8 },
    ];

    fn words(self) -> String {
        let over = if self.veth { "veth" } else { "loopback" };
        format!("{over}, {} {}", self.streams, if self.streams == 1 { "stream" } else { "streams" })
    }
}

/// Where one of the three runs: a cgroup, and two namespaces that a veth pair joins.
struct Place {
    group: Group,
    here: Namespace,
    there: Namespace,
}

impl Place {
    fn new(name: &str) -> Result<Self> {
        let (here, there) = (Namespace::new()?, Namespace::new()?);
        here.connect(&there)?;
        Ok(Self { group: Group::new(name)?, here, there })
    }
}

/// One of the three.
struct Sending {
    process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Sending {
    fn start(place: &Place, load: Load) -> Result<Self> {
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
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Gigabits per second of one turn.
    fn turn(&mut self) -> Result<f64> {
        interrupt::check()?;
        self.input.write_all(b"\n")?;
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

/// Three rates of each round: that of the process that nothing looks at, the agent's, that of programs that do nothing.
fn rounds(places: &[Place; 3], load: Load, effort: Effort) -> Result<Vec<[f64; 3]>> {
    // New connections now and then: where their memory lies makes a difference.
    let (sets, turns) = if effort.quick { (1, 5) } else { (25, 24) };
    let mut found = Vec::new();
    for _ in 0..sets {
        let mut all = places.iter().map(|place| Sending::start(place, load)).collect::<Result<Vec<_>>>()?;
        // The windows open.
        for sending in &mut all {
            sending.turn()?;
        }
        for round in 0..turns {
            let mut rates = [0.0; 3];
            // Each comes first, and behind each of the others, equally often.
            for step in 0..3 {
                let at = if round % 2 == 0 { (round / 2 + step) % 3 } else { (round / 2 + 3 - step) % 3 };
                rates[at] = all[at].turn()?;
            }
            found.push(rates);
        }
        for sending in all {
            sending.end()?;
        }
    }
    Ok(found)
}

/// The table, with the target; all numbers go to `part`.
pub(crate) fn table(effort: Effort, part: &mut Part) -> Result<Table> {
    let mut table = Table::new(&[
        "TCP over",
        "without, Gbit/s",
        "with the agent / without",
        "programs that do nothing / without",
        "with the agent / programs that do nothing",
    ]);
    let places = [Place::new("without")?, Place::new("agent")?, Place::new("nothing")?];
    let scope = format!("cgroup:{}", places[1].group.path.display());
    let _agent = Agent::start(&places[1].here, &["--scope", &scope])?;
    let _empty = Empty::attach(&places[2].here, &places[2].group.path)?;
    let mut ours = Vec::new();
    for load in Load::ALL {
        let found = rounds(&places, load, effort)?;
        let without = Spread::of(&found.iter().map(|rates| rates[0]).collect::<Vec<_>>());
        let by = |[above, below]: [usize; 2]| -> Vec<f64> {
            found.iter().map(|rates| rates[above] / rates[below]).collect()
        };
        let mut row = vec![load.words(), without.words(2)];
        for ratio in [[1, 0], [2, 0], [1, 2]] {
            row.push(Spread::of(&by(ratio)).words(3));
        }
        table.row(row);
        ours.extend(by([1, 0]));
        part.raw(&format!("turns, {}", load.words()), json!(found));
    }
    part.target(Target::at_least(
        "bulk TCP with the agent, share of without (median of all turns of the four loads)",
        0.99,
        Spread::of(&ours).median,
        3,
    ));
    Ok(table)
}
