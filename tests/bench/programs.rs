//! Nanoseconds per run of each kernel program, by the kernel's own measuring, less what that itself takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::maps::MapInfo;
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use serde_json::{Value, json};

use crate::Effort;
use crate::empty::{self, Empty};
use crate::floor::{self, Ran};
use crate::loads::Load;
use crate::pairs::{Spread, float};
use crate::report::{Part, Table, Target};
use crate::stage::Stage;

/// Names of the programs: the kernel keeps the first 15 letters.
const NAMES: [&str; 12] = [
    "packet_received",
    "packet_sent",
    "interface_receives",
    "interface_sends",
    "connection_changes",
    "connection_ends",
    "socket_made",
    "socket_bound4",
    "socket_bound6",
    "socket_released",
    "snapshot_tcp",
    "snapshot_udp",
];

/// What the kernel says of a program.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Runs {
    pub(crate) time: Duration,
    pub(crate) count: u64,
    /// Instructions that the verifier went through.
    pub(crate) verified: u32,
}

/// The programs of the agent with these pins: those that use one of its maps.
pub(crate) fn of_agent(pins: &Path) -> Result<BTreeMap<String, Runs>> {
    let mut maps = Vec::new();
    for entry in std::fs::read_dir(pins.join("maps"))? {
        maps.push(MapInfo::from_pin(entry?.path())?.id());
    }
    let mut found: BTreeMap<String, Runs> = BTreeMap::new();
    for program in loaded_programs() {
        // A program of somebody else's may end meanwhile.
        let Ok(program) = program else {
            continue;
        };
        let Ok(Some(used)) = program.map_ids() else {
            continue;
        };
        if !used.iter().any(|map| maps.contains(map)) {
            continue;
        }
        let short = program.name_as_str().unwrap_or("?");
        let name = NAMES.iter().find(|name| name.starts_with(short)).copied().unwrap_or(short);
        let runs = found.entry(name.to_owned()).or_default();
        runs.time += program.run_time();
        runs.count += program.run_count();
        runs.verified = runs.verified.max(program.verified_instruction_count().unwrap_or(0));
    }
    Ok(found)
}

/// The part.
pub(crate) fn part(stage: &Stage, effort: Effort) -> Result<Part> {
    let mut part = Part::new(
        "Kernel programs",
        "Nanoseconds per run as the kernel measures them while BPF statistics are on, less what it says of a program of the \
         same kind that does nothing, attached at the same place under the same load. In each of three rounds one after the other: \
         programs that do nothing, the agent's, and those that do a part of it. Medians of the rounds, quartiles in brackets. nginx \
         alone is in scope (a cgroup), so that \"observed\" means every packet. The share is of one core, at the rate of this load.",
    );
    let _stats = enable_stats(Stats::RunTime).context("cannot switch BPF statistics on")?;
    let (seconds, rounds) = if effort.quick { (1, 1) } else { (2, 3) };
    let mut table =
        Table::new(&["load", "program", "runs", "ns per run, raw", "bias", "ns per run", "share of a core"]);
    let mut least = Table::new(&["load", "a program that only ...", "ns per run"]);
    let mut verified = BTreeMap::new();
    let mut unwanted = 0;
    let mut bias = BTreeMap::new();
    for load in Load::ALL {
        let mut under = Under::default();
        for _ in 0..rounds {
            under.round(stage, load, seconds, &mut bias)?;
        }
        for (name, of) in &under.ours {
            if load != Load::NothingWanted {
                // Without UDP some are next to nothing.
                verified.insert(name.clone(), of.verified);
            } else if name.starts_with("packet_") {
                unwanted += of.count;
            }
            // What runs with the clock or with a scrape is measured elsewhere.
            if of.net.is_empty() || name.starts_with("snapshot_") {
                continue;
            }
            let net = Spread::of(&of.net);
            table.row([
                load.words().to_owned(),
                name.clone(),
                of.count.to_string(),
                Spread::of(&of.raw).words(1),
                format!("{:.1}", Spread::of(&of.bias).median),
                net.words(1),
                format!("{:.2} %", net.median * float(of.count) / 1e7 / under.seconds),
            ]);
            part.raw(&format!("{}: {name}", load.words()), of.json());
            if let Some(wanted) = load.wanted_of_interfaces().filter(|_| name.starts_with("interface_")) {
                part.target(Target::at_most(&format!("ns of {name}, {}", load.words()), wanted, net.median, 1));
            }
        }
        let packets = under.ours.iter().filter(|(name, _)| name.starts_with("packet_"));
        if let (Some(wanted), Some(mean)) = (load.wanted_of_packets(), mean(packets.map(|(_, of)| of))) {
            part.target(Target::at_most(&format!("ns per packet of a socket, {}", load.words()), wanted, mean, 1));
        }
        for (name, words, of) in &under.least {
            least.row([load.words().to_owned(), (*words).to_owned(), Spread::of(&of.net).words(1)]);
            part.raw(&format!("floor: {}: {name}", load.words()), of.json());
        }
        let packets = || under.least.iter().filter(|(name, ..)| floor::finds_sockets(name)).map(|(.., of)| of);
        if let (2, Some(mean)) = (packets().count(), mean(packets())) {
            least.row([load.words().to_owned(), "the last two, per packet".to_owned(), format!("{mean:.1}")]);
        }
    }
    part.target(Target::at_most(
        "runs of packet programs where neither services nor UDP are wanted",
        0.0,
        float(unwanted),
        0,
    ));
    part.table(table);
    part.table(least);
    let mut counts = Table::new(&["program", "instructions that the verifier went through"]);
    for (name, count) in &verified {
        counts.row([name.clone(), count.to_string()]);
    }
    part.raw("verified instructions", json!(verified));
    part.table(counts);
    Ok(part)
}

/// What was measured under a load.
#[derive(Default)]
struct Under {
    /// The agent's programs, by name.
    ours: BTreeMap<String, Measured>,
    /// Those of `floor`: name, what it does, what was measured.
    least: Vec<(&'static str, &'static str, Measured)>,
    /// How long the agent's were.
    seconds: f64,
}

impl Under {
    /// One more round. `bias` is what was last said of programs that do nothing, for those that run seldom under this load.
    fn round(&mut self, stage: &Stage, load: Load, seconds: u32, bias: &mut BTreeMap<&'static str, f64>) -> Result<()> {
        bias.extend(Empty::attach(&stage.here, &stage.group.path)?.per_run(|| load.run(stage, seconds).map(drop))?);
        let off = |name: &str| bias.get(empty::like(name)).copied().unwrap_or(0.0);
        let agent =
            if load == Load::NothingWanted { stage.agent_without_packets()? } else { stage.agent_of_nginx()? };
        let before = of_agent(agent.pins())?;
        let began = Instant::now();
        load.run(stage, seconds)?;
        self.seconds += began.elapsed().as_secs_f64();
        for (name, after) in of_agent(agent.pins())? {
            let before = before.get(&name).copied().unwrap_or_default();
            let (time, count) = (after.time.saturating_sub(before.time), after.count - before.count);
            let off = off(&name);
            let of = self.ours.entry(name).or_default();
            of.verified = after.verified;
            of.add(Ran { time, count }, off);
        }
        drop(agent);
        for (name, words, ran) in floor::under(stage, load, seconds)? {
            let at = self.least.iter().position(|(known, ..)| *known == name).unwrap_or_else(|| {
                self.least.push((name, words, Measured::default()));
                self.least.len() - 1
            });
            self.least[at].2.add(ran, off(name));
        }
        Ok(())
    }
}

/// What was measured of a program in some rounds of a load.
#[derive(Default)]
struct Measured {
    /// Runs in all.
    count: u64,
    /// Nanoseconds per run of each round in which it ran often, as the kernel says.
    raw: Vec<f64>,
    /// What is taken off.
    bias: Vec<f64>,
    /// What is left.
    net: Vec<f64>,
    /// See `Runs`.
    verified: u32,
}

/// Fewer runs say nothing.
const OFTEN: u64 = 5_000;

impl Measured {
    fn add(&mut self, ran: Ran, bias: f64) {
        self.count += ran.count;
        if ran.count >= OFTEN {
            let raw = ran.time.as_secs_f64() * 1e9 / float(ran.count);
            self.raw.push(raw);
            self.bias.push(bias);
            self.net.push(raw - bias);
        }
    }

    fn json(&self) -> Value {
        let [raw, bias, net] = [&self.raw, &self.bias, &self.net].map(|of| Spread::of(of).json());
        json!({ "runs": self.count, "raw_ns": raw, "bias_ns": bias, "ns": net })
    }
}

/// Nanoseconds of one run of any of these programs; none without any.
fn mean<'a>(programs: impl Iterator<Item = &'a Measured>) -> Option<f64> {
    let (mut time, mut count) = (0.0, 0);
    for of in programs.filter(|of| !of.net.is_empty()) {
        time += Spread::of(&of.net).median * float(of.count);
        count += of.count;
    }
    (count != 0).then(|| time / float(count))
}
