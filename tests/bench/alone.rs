//! The same load with each kernel program alone. The agent starts as usual; then all links but the wanted ones are let
//! go of by removing their pins, which is all that keeps them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::Effort;
use crate::empty::Empty;
use crate::floor;
use crate::http::{Connections, Counted, wrk};
use crate::pairs::{Pairs, alternate};
use crate::report::{Part, Table};
use crate::stage::{OBSERVED, Stage};

/// What stays attached: a name, and how the names of its links begin.
const VARIANTS: [(&str, &[&str]); 9] = [
    ("none (the agent's user side alone)", &[]),
    ("interface_receives", &["interface_receives"]),
    ("interface_sends", &["interface_sends"]),
    ("packet_received, no connection known", &["packet_received"]),
    ("packet_sent, no connection known", &["packet_sent"]),
    ("connection_changes", &["connection_changes"]),
    ("connection_ends", &["connection_ends"]),
    ("socket_made and socket_released", &["socket_"]),
    ("connection_changes, packet_received, packet_sent: reading HTTP", &["connection_changes", "packet_"]),
];

/// What no accounting of packets can be below.
const NOTHING: &str = "no agent; programs that do nothing, at all these places";

/// What any tool has to do that says whose the bytes of connections and exchanges are, each of it once.
const LEAST: &str = "no program of the agent; one that makes a value of 48 bytes for each end of a connection, for nginx' packets those \
                     that copy the first 96 and 288 bytes, look at each word and line, and write a record, one that counts what the interface \
                     sends, and at the other places programs that do nothing";

/// Lets go of all links but those.
fn keep(links: &Path, wanted: &[&str]) -> Result<()> {
    for entry in fs::read_dir(links)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !wanted.iter().any(|start| name.starts_with(start)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn add(part: &mut Part, table: &mut Table, name: &str, connections: Connections, found: &[[Counted; 2]]) {
    type Quantity = (&'static str, fn(&Counted) -> f64);
    let quantities: [Quantity; 4] = [
        ("CPU of nginx and wrk", |counted| counted.cpu),
        ("requests per second", |counted| counted.requests),
        ("p50 latency", |counted| counted.half),
        ("p99 latency", |counted| counted.most),
    ];
    let mut row = vec![name.to_owned(), connections.words().to_owned()];
    for (at, (quantity, of)) in quantities.into_iter().enumerate() {
        let pairs = Pairs::of(found, of);
        part.raw(&format!("{name}: {}: {quantity}", connections.words()), pairs.json());
        if at == 0 {
            row.extend([pairs.without.words(1), pairs.with.words(1)]);
        }
        row.push(pairs.ratio.words(3));
    }
    table.row(row);
}

/// The part.
pub(crate) fn part(stage: &Stage, effort: Effort) -> Result<Part> {
    let mut part = Part::new(
        "Each kernel program alone",
        "As above; \"with\" is the agent with only these programs attached. CPU of nginx and wrk, microseconds a \
         request, the kernel on their behalf included; the ratios are taken pair by pair. They differ from 1 by what the program \
         costs and by noise: see how far they spread.",
    );
    let mut table = Table::new(&[
        "attached",
        "load",
        "CPU without",
        "with",
        "CPU, with / without",
        "requests per second, with / without",
        "p50 latency, with / without",
        "p99 latency, with / without",
    ]);
    let (pairs, seconds) = if effort.quick { (1, 1) } else { (4, 1) };
    for (name, wanted) in VARIANTS {
        // The shorter run looks at what changes most with the programs: packets, not connections.
        for connections in Connections::BOTH.into_iter().take(if effort.quick { 1 } else { 2 }) {
            let one = || wrk(stage, connections, OBSERVED, "/small.txt", seconds);
            let found = alternate(pairs, one, || {
                let agent = stage.agent()?;
                keep(&agent.pins().join("links"), wanted)?;
                one()
            })?;
            add(&mut part, &mut table, name, connections, &found);
        }
    }
    // What bounds the targets is measured as long as they are.
    let (pairs, seconds) = if effort.quick { (1, 1) } else { (10, 2) };
    let root = stage.group.path.parent().context("the cgroup has no parent")?;
    for connections in Connections::BOTH {
        let one = || wrk(stage, connections, OBSERVED, "/small.txt", seconds);
        let found = alternate(pairs, one, || {
            let _empty = Empty::attach(&stage.here, root)?;
            one()
        })?;
        add(&mut part, &mut table, NOTHING, connections, &found);
        let found = alternate(pairs, one, || {
            let agent = stage.agent()?;
            keep(&agent.pins().join("links"), &[])?;
            let _keeping = Empty::attach_keeping(&stage.here, root, agent.pins())?;
            let (counted, _, records) = floor::beside(stage, &floor::ALL, one)?;
            anyhow::ensure!(records > 1_000, "{records} records only");
            Ok(counted)
        })?;
        add(&mut part, &mut table, LEAST, connections, &found);
    }
    part.table(table);
    Ok(part)
}
