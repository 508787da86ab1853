//! The agent at rest and under load: processor time and memory. How that grows with sockets and series is `growth`'s.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::Effort;
use crate::http::{Connections, wrk};
use crate::load;
use crate::meter::{Meter, map_memory, resident};
use crate::pairs::float;
use crate::report::{Part, Table, Target, mebibytes};
use crate::stage::{OBSERVED, Stage};

/// The part.
pub(crate) fn part(stage: &Stage, effort: Effort) -> Result<Part> {
    let mut part = Part::new(
        "The agent at rest and under load",
        "Processor time of the agent's process, which includes what the kernel does when the agent asks it; what the kernel \
         programs take is said with them. Nobody scrapes. Memory of its own is what no file and no kernel map backs; the journal's \
         pages count twice in the whole, because it is mapped twice over.",
    );
    let mut table = Table::new(&[
        "load",
        "seconds",
        "CPU, % of a core",
        "exchanges",
        "user CPU per exchange, µs",
        "RSS, MiB",
        "of its own, MiB",
        "kernel maps, MiB",
    ]);
    let mut agent = stage.agent()?;
    let process = agent.process().pid()?;
    // What the start left to do is not rest.
    load::rest(Duration::from_secs(1))?;
    let seconds = if effort.quick { 6 } else { 20 };
    let meter = Meter::start(process)?;
    load::rest(Duration::from_secs(seconds))?;
    let share = meter.share()?;
    let [all, own] = resident(process)?;
    table.row([
        "none".to_owned(),
        seconds.to_string(),
        format!("{share:.3}"),
        "0".to_owned(),
        String::new(),
        mebibytes(all),
        mebibytes(own),
        mebibytes(map_memory(process)?),
    ]);
    part.raw("at rest", json!({ "cpu_percent": share, "rss": all, "anonymous": own }));
    part.target(Target::at_most("CPU at rest, % of a core", 0.1, share, 3));
    part.target(Target::at_most("RSS at rest, MB", 20.0, float(all) / 1e6, 1));
    for connections in Connections::BOTH {
        let exchanges = |agent: &sockmeter_tests::agent::Agent<'_>| -> Result<f64> {
            Ok(agent.scrape()?.sum("scheduler_http_exchanges_total", &[]))
        };
        let counted = exchanges(&agent)?;
        let (meter, began) = (Meter::start(process)?, Instant::now());
        wrk(stage, connections, OBSERVED, "/small.txt", effort.seconds * 2)?;
        let (share, took) = (meter.share()?, began.elapsed().as_secs_f64());
        // The scrape takes what the journal still holds into the books: that is the exchanges' cost too.
        let counted = exchanges(&agent)? - counted;
        let cpu = meter.cpu()?.as_secs_f64();
        let each = cpu / counted * 1e6;
        let [all, own] = resident(process)?;
        table.row([
            connections.words().to_owned(),
            format!("{took:.1}"),
            format!("{share:.1}"),
            format!("{counted:.0}"),
            format!("{each:.2}"),
            mebibytes(all),
            mebibytes(own),
            mebibytes(map_memory(process)?),
        ]);
        part.raw(connections.words(), json!({ "cpu_seconds": cpu, "exchanges": counted, "seconds": took }));
        if connections == Connections::Kept {
            part.target(Target::at_most(
                "cores of user space at 100,000 exchanges/s, extrapolated from CPU per exchange under keep-alive load",
                0.5,
                each / 10.0,
                3,
            ));
        }
    }
    part.table(table);
    Ok(part)
}
