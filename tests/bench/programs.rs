//! Nanoseconds per run of each kernel program, by the kernel's own measuring, less what that itself takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::maps::MapInfo;
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use serde_json::json;

use crate::Effort;
use crate::empty::{self, Empty};
use crate::floor;
use crate::http::{Connections, wrk};
use crate::load;
use crate::pairs::float;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
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
         same kind that does nothing, attached at the same place under the same load. nginx alone is in scope (a cgroup), so \
         that \"observed\" means every packet. The share is of one core, at the rate of this load.",
    );
    let _stats = enable_stats(Stats::RunTime).context("cannot switch BPF statistics on")?;
    let seconds = if effort.quick { 1 } else { 3 };
    let bias = bias(stage, seconds, &mut part)?;
    let mut table =
        Table::new(&["load", "program", "runs", "ns per run, raw", "bias", "ns per run", "share of a core"]);
    let mut verified = BTreeMap::new();
    let mut unwanted = 0;
    // What ours take to find that a socket is not observed, by the floor's program in the same direction.
    let mut unobserved: BTreeMap<String, f64> = BTreeMap::new();
    for load in Load::ALL {
        let agent =
            if load == Load::NothingWanted { stage.agent_without_packets()? } else { stage.agent_of_nginx()? };
        let before = of_agent(agent.pins())?;
        let began = Instant::now();
        load.run(stage, seconds)?;
        let took = began.elapsed().as_secs_f64();
        for (name, after) in of_agent(agent.pins())? {
            let before = before.get(&name).copied().unwrap_or_default();
            let count = after.count - before.count;
            if load != Load::NothingWanted {
                // Without UDP some are next to nothing.
                verified.insert(name.clone(), after.verified);
            } else if name.starts_with("packet_") {
                unwanted += count;
            }
            // What runs with the clock or with a scrape is measured elsewhere.
            if count < 5000 || name.starts_with("snapshot_") {
                continue;
            }
            let time = after.time.saturating_sub(before.time).as_secs_f64();
            let raw = time * 1e9 / float(count);
            let off = bias.get(empty::like(&name)).copied().unwrap_or(0.0);
            let net = (raw - off).max(0.0);
            let share = net * float(count) / 1e7 / took;
            table.row([
                load.words().to_owned(),
                name.clone(),
                count.to_string(),
                format!("{raw:.1}"),
                format!("{off:.1}"),
                format!("{net:.1}"),
                format!("{share:.2} %"),
            ]);
            part.raw(
                &format!("{}: {name}", load.words()),
                json!({ "runs": count, "raw_ns": raw, "bias_ns": off, "seconds": took }),
            );
            judge(&mut part, load, &name, net);
            if load == Load::KeptUnobserved {
                unobserved.insert(name.replace("packet", "floor"), net);
            }
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
    let mut least = Table::new(&["a program that only ...", "ns per run", "and finds the socket"]);
    for ((name, words), (_, raw)) in
        floor::WORDS.into_iter().zip(floor::measure(stage, || Load::KeptObserved.run(stage, seconds))?)
    {
        let net = raw - bias.get(empty::like(name)).copied().unwrap_or(0.0);
        part.raw(&format!("floor: {name}"), json!({ "raw_ns": raw, "ns": net }));
        let found = unobserved.get(name).map_or_else(|| "-".to_owned(), |ns| format!("{:.1}", ns + net));
        least.row([words.to_owned(), format!("{net:.1}"), found]);
    }
    for (name, net) in finding(stage, seconds, &bias)? {
        part.raw(&format!("floor: {name}"), json!({ "ns": net }));
        let words = floor::FINDING.iter().find(|(known, _)| *known == name).map_or(name, |(_, words)| words);
        least.row([words.to_owned(), format!("{net:.1}"), "-".to_owned()]);
    }
    part.table(least);
    let mut counts = Table::new(&["program", "instructions that the verifier went through"]);
    for (name, count) in &verified {
        counts.row([name.clone(), count.to_string()]);
    }
    part.raw("verified instructions", json!(verified));
    part.table(counts);
    Ok(part)
}

/// What looking up takes: of sockets that are not observed, of bodies that are sent, and of packets few of which have heads.
fn finding(stage: &Stage, seconds: u32, bias: &BTreeMap<&'static str, f64>) -> Result<Vec<(&'static str, f64)>> {
    let agent = stage.agent_of_nginx()?;
    let measure =
        |names: &[&'static str], load: Load| floor::finds(stage, agent.pins(), names, || load.run(stage, seconds));
    let mut found = measure(&["floor_finds_received", "floor_finds_sent"], Load::KeptUnobserved)?;
    found.extend(measure(&["floor_body_sent"], Load::LongBodiesObserved)?);
    found.extend(measure(&["floor_some_received", "floor_some_sent"], Load::BodiesObserved)?);
    Ok(found.into_iter().map(|(name, raw)| (name, raw - bias.get(empty::like(name)).copied().unwrap_or(0.0))).collect())
}

fn judge(part: &mut Part, load: Load, name: &str, net: f64) {
    let wanted = match (load, name) {
        (Load::KeptUnobserved, "packet_received" | "packet_sent") => 50.0,
        (Load::KeptObserved | Load::BodiesObserved | Load::LongBodiesObserved, "packet_received" | "packet_sent") => {
            100.0
        }
        (Load::KeptUnobserved, "interface_receives" | "interface_sends") => 20.0,
        _ => return,
    };
    part.target(Target::at_most(&format!("ns of {name}, {}", load.words()), wanted, net, 1));
}

/// What the kernel says of programs that do nothing, in nanoseconds per run, by name of the empty program.
pub(crate) fn bias(stage: &Stage, seconds: u32, part: &mut Part) -> Result<BTreeMap<&'static str, f64>> {
    let empty = Empty::attach(stage, &stage.group.path)?;
    let mut found: BTreeMap<&'static str, f64> = BTreeMap::new();
    for load in [Load::KeptUnobserved, Load::Clients] {
        let before = empty.read()?;
        load.run(stage, seconds)?;
        for (name, (time, count)) in empty.read()? {
            let (time_before, count_before) = before.get(name).copied().unwrap_or_default();
            let count = count - count_before;
            if count >= 5000 && !found.contains_key(name) {
                found.insert(name, time.saturating_sub(time_before).as_secs_f64() * 1e9 / float(count));
            }
        }
    }
    part.raw("bias in nanoseconds per run", json!(found));
    Ok(found)
}
