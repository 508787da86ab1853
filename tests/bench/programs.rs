//! Nanoseconds per run of each kernel program, by the kernel's own measuring, less what that itself takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::maps::MapInfo;
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use serde_json::{Value, json};
use sockmeter_tests::agent::Agent;

use crate::Effort;
use crate::empty::{self, Empty};
use crate::floor;
use crate::http::{Connections, wrk};
use crate::load;
use crate::pairs::{Spread, float};
use crate::report::{Part, Table, Target};
use crate::stage::{OBSERVED, Stage, UNOBSERVED};

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

/// What runs while programs are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    KeptUnobserved,
    KeptObserved,
    BodiesObserved,
    LongBodiesObserved,
    FreshUnobserved,
    FreshObserved,
    Clients,
    Datagrams,
    NothingWanted,
}

impl Load {
    const ALL: [Self; 9] = [
        Self::KeptUnobserved,
        Self::KeptObserved,
        Self::BodiesObserved,
        Self::LongBodiesObserved,
        Self::FreshUnobserved,
        Self::FreshObserved,
        Self::Clients,
        Self::Datagrams,
        Self::NothingWanted,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::KeptUnobserved => "not observed: keep-alive, 612-byte answers",
            Self::KeptObserved => "observed: keep-alive, 612-byte answers",
            Self::BodiesObserved => "observed: keep-alive, 1 MiB answers",
            Self::LongBodiesObserved => "observed: keep-alive, 64 MiB answers",
            Self::FreshUnobserved => "not observed: a connection per request",
            Self::FreshObserved => "observed: a connection per request",
            Self::Clients => "not observed: a connection per request, clients in scope too",
            Self::Datagrams => "UDP: datagrams of 1,400 bytes, sender in scope",
            Self::NothingWanted => "neither services nor UDP wanted: keep-alive, 612-byte answers",
        }
    }

    /// Nanoseconds that are aimed at, of a packet of a socket.
    fn wanted_of_packets(self) -> Option<f64> {
        match self {
            Self::KeptUnobserved | Self::FreshUnobserved | Self::Clients => Some(50.0),
            Self::KeptObserved | Self::BodiesObserved | Self::LongBodiesObserved | Self::FreshObserved => Some(100.0),
            Self::Datagrams | Self::NothingWanted => None,
        }
    }

    /// The same of a packet of an interface.
    fn wanted_of_interfaces(self) -> Option<f64> {
        match self {
            Self::KeptUnobserved | Self::LongBodiesObserved | Self::FreshUnobserved | Self::Datagrams => Some(20.0),
            Self::KeptObserved | Self::BodiesObserved | Self::FreshObserved | Self::Clients | Self::NothingWanted => {
                None
            }
        }
    }

    fn run(self, stage: &Stage, seconds: u32) -> Result<()> {
        let wrk = |connections, port, path| wrk(stage, connections, port, path, seconds).map(drop);
        match self {
            Self::KeptUnobserved | Self::NothingWanted => wrk(Connections::Kept, UNOBSERVED, "/small.txt"),
            Self::KeptObserved => wrk(Connections::Kept, OBSERVED, "/small.txt"),
            Self::BodiesObserved => wrk(Connections::Kept, OBSERVED, "/big.bin"),
            Self::LongBodiesObserved => wrk(Connections::Kept, OBSERVED, "/long.bin"),
            Self::FreshUnobserved => wrk(Connections::Fresh, UNOBSERVED, "/small.txt"),
            Self::FreshObserved => wrk(Connections::Fresh, OBSERVED, "/small.txt"),
            Self::Clients => {
                let mut command = stage.group.command(&stage.here, "wrk");
                command.args(["-t1", "-c64", &format!("-d{seconds}s"), "-H", "Connection: close"]);
                command.arg(format!("http://127.0.0.1:{UNOBSERVED}/small.txt"));
                load::output(&mut command, Duration::from_secs(u64::from(seconds) + 20)).map(drop)
            }
            Self::Datagrams => {
                let mut command = stage.group.command(&stage.here, &std::env::current_exe()?.to_string_lossy());
                command.args(["send", &seconds.to_string(), "1400"]);
                load::output(&mut command, Duration::from_secs(u64::from(seconds) + 20)).map(drop)
            }
        }
    }
}

/// The part.
pub(crate) fn part(stage: &Stage, effort: Effort) -> Result<Part> {
    let mut part = Part::new(
        "Kernel programs",
        "Nanoseconds per run as the kernel measures them while BPF statistics are on, less what it says of a program of the \
         same kind that does nothing, attached at the same place under the same load. Medians of three rounds, \
         quartiles in brackets. nginx alone is in scope (a cgroup), so that \"observed\" means every packet. The share is of one core, at \
         the rate of this load.",
    );
    let _stats = enable_stats(Stats::RunTime).context("cannot switch BPF statistics on")?;
    let (seconds, rounds) = if effort.quick { (1, 1) } else { (2, 3) };
    let bias = Bias::measure(stage, seconds)?;
    part.raw("bias in nanoseconds per run", bias.json());
    let mut table =
        Table::new(&["load", "program", "runs", "ns per run, raw", "bias", "ns per run", "share of a core"]);
    let mut verified = BTreeMap::new();
    let mut unwanted = 0;
    for load in Load::ALL {
        let agent =
            if load == Load::NothingWanted { stage.agent_without_packets()? } else { stage.agent_of_nginx()? };
        let began = Instant::now();
        let found = rounds_of(&agent, rounds, || load.run(stage, seconds))?;
        let mut packets = Packets::default();
        let took = began.elapsed().as_secs_f64();
        for (name, Rounds { count, raw, verified: instructions }) in found {
            if load != Load::NothingWanted {
                // Without UDP some are next to nothing.
                verified.insert(name.clone(), instructions);
            } else if name.starts_with("packet_") {
                unwanted += count;
            }
            // What runs with the clock or with a scrape is measured elsewhere.
            if raw.is_empty() || name.starts_with("snapshot_") {
                continue;
            }
            let raw = Spread::of(&raw);
            let off = bias.of(load, &name);
            let net = (raw.median - off).max(0.0);
            let share = net * float(count) / 1e7 / took;
            table.row([
                load.words().to_owned(),
                name.clone(),
                count.to_string(),
                raw.words(1),
                format!("{off:.1}"),
                format!("{net:.1}"),
                format!("{share:.2} %"),
            ]);
            part.raw(
                &format!("{}: {name}", load.words()),
                json!({ "runs": count, "raw_ns": raw.json(), "bias_ns": off, "seconds": took }),
            );
            if name.starts_with("packet_") {
                packets.add(net, count);
            }
            if let Some(wanted) = load.wanted_of_interfaces().filter(|_| name.starts_with("interface_")) {
                part.target(Target::at_most(&format!("ns of {name}, {}", load.words()), wanted, net, 1));
            }
        }
        if let (Some(wanted), Some(mean)) = (load.wanted_of_packets(), packets.mean()) {
            part.target(Target::at_most(&format!("ns per packet of a socket, {}", load.words()), wanted, mean, 1));
        }
        drop(agent);
    }
    part.target(Target::at_most(
        "runs of packet programs where neither services nor UDP are wanted",
        0.0,
        float(unwanted),
        0,
    ));
    part.table(table);
    let least = least(&mut part, stage, seconds, &bias)?;
    part.table(least);
    let mut counts = Table::new(&["program", "instructions that the verifier went through"]);
    for (name, count) in &verified {
        counts.row([name.clone(), count.to_string()]);
    }
    part.raw("verified instructions", json!(verified));
    part.table(counts);
    Ok(part)
}

/// What programs take that do a part of what ours do.
fn least(part: &mut Part, stage: &Stage, seconds: u32, bias: &Bias) -> Result<Table> {
    let mut table = Table::new(&["load", "a program that only ...", "ns per run"]);
    let mut add = |load: Load, names: &[(&str, &str)], found: Vec<floor::Ran>| {
        let mut packets = Packets::default();
        for ((name, words), floor::Ran { ns: raw, count }) in names.iter().zip(found) {
            let net = (raw - bias.of(load, name)).max(0.0);
            packets.add(net, count);
            part.raw(&format!("floor: {}: {name}", load.words()), json!({ "raw_ns": raw, "ns": net, "runs": count }));
            table.row([load.words().to_owned(), (*words).to_owned(), format!("{net:.1}")]);
        }
        if let (2, Some(mean)) = (names.len(), packets.mean()) {
            table.row([load.words().to_owned(), "both, per packet".to_owned(), format!("{mean:.1}")]);
        }
    };
    for (load, names) in floor::WORDS {
        let of: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        add(load, names, floor::measure(stage, &of, || load.run(stage, seconds))?);
    }
    let agent = stage.agent_without_packets()?;
    for (load, names) in floor::FINDING {
        add(load, names, floor::finds(stage, agent.pins(), names, || load.run(stage, seconds))?);
    }
    Ok(table)
}

/// What the packets of sockets take, those received and those sent.
#[derive(Default)]
struct Packets {
    /// Nanoseconds.
    time: f64,
    count: u64,
}

impl Packets {
    fn add(&mut self, net: f64, count: u64) {
        self.time += net * float(count);
        self.count += count;
    }

    /// Nanoseconds of one; none without any.
    fn mean(&self) -> Option<f64> {
        (self.count != 0).then(|| self.time / float(self.count))
    }
}

/// What was measured of a program in some rounds of a load.
#[derive(Default)]
struct Rounds {
    /// Runs in all.
    count: u64,
    /// Nanoseconds per run of each round in which it ran often.
    raw: Vec<f64>,
    /// See `Runs`.
    verified: u32,
}

fn rounds_of(agent: &Agent<'_>, rounds: u32, load: impl Fn() -> Result<()>) -> Result<BTreeMap<String, Rounds>> {
    let mut found: BTreeMap<String, Rounds> = BTreeMap::new();
    for _ in 0..rounds {
        let before = of_agent(agent.pins())?;
        load()?;
        for (name, after) in of_agent(agent.pins())? {
            let before = before.get(&name).copied().unwrap_or_default();
            let count = after.count - before.count;
            let of_this = found.entry(name).or_default();
            of_this.count += count;
            of_this.verified = after.verified;
            if count >= 5000 {
                of_this.raw.push(after.time.saturating_sub(before.time).as_secs_f64() * 1e9 / float(count));
            }
        }
    }
    Ok(found)
}

/// What the kernel says of programs that do nothing, by load: nanoseconds per run by name of the empty program.
struct Bias(BTreeMap<Load, BTreeMap<&'static str, f64>>);

impl Bias {
    fn measure(stage: &Stage, seconds: u32) -> Result<Self> {
        let empty = Empty::attach(stage, &stage.group.path)?;
        let of = |load: Load| Ok((load, empty.per_run(|| load.run(stage, seconds))?));
        Ok(Self(Load::ALL.into_iter().map(of).collect::<Result<_>>()?))
    }

    /// What is in the time of `name` under `load`; where nothing like it ran often, in that of another load.
    fn of(&self, load: Load, name: &str) -> f64 {
        let like = empty::like(name);
        let here = self.0.get(&load).and_then(|found| found.get(like));
        here.or_else(|| self.0.values().find_map(|found| found.get(like))).copied().unwrap_or(0.0)
    }

    fn json(&self) -> Value {
        self.0
            .iter()
            .map(|(load, found)| (load.words().to_owned(), json!(found)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}
