//! Bulk TCP and UDP by iperf3, over loopback and over a veth pair, without and with the agent.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};
use serde_json::{Value, json};
use sockmeter_tests::process::Process;
use sockmeter_tests::wait;

use crate::Effort;
use crate::empty::{self, Empty};
use crate::load;
use crate::meter::ended_children;
use crate::pairs::{Pairs, Spread, alternate, float};
use crate::programs;
use crate::report::{Part, Table};
use crate::slices;
use crate::stage::Stage;

/// iperf3's own port.
const PORT: u16 = 5201;

/// What is sent, over what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bulk {
    udp: bool,
    pub(crate) streams: u32,
    pub(crate) veth: bool,
}

impl Bulk {
    pub(crate) fn words(self) -> String {
        format!(
            "{} over {}, {} {}",
            if self.udp { "UDP" } else { "TCP" },
            if self.veth { "veth" } else { "loopback" },
            self.streams,
            if self.streams == 1 { "stream" } else { "streams" }
        )
    }

    /// What arrived, in gigabits per second.
    fn measure(self, stage: &Stage, seconds: u32) -> Result<f64> {
        let mut server = stage.here.command("iperf3");
        // One test, and then it ends by itself.
        server.args(["-s", "-1", "-p", &PORT.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Process::start(&mut server)?;
        wait::until("iperf3 to listen", || Ok(listens(stage)?.then_some(())))?;
        let (namespace, address) = if self.veth { (&stage.there, "10.77.0.1") } else { (&stage.here, "127.0.0.1") };
        let mut client = namespace.command("iperf3");
        client.args(["-J", "-c", address, "-p", &PORT.to_string()]);
        client.args(["-t", &seconds.to_string(), "-P", &self.streams.to_string()]);
        if self.udp {
            // As fast as it goes; a datagram that fits an Ethernet frame.
            client.args(["-u", "-b", "0", "-l", "1400"]);
        }
        let said = load::output(&mut client, Duration::from_secs(u64::from(seconds) + 20))?;
        server.wait()?;
        let said: Value = serde_json::from_str(&said).context("iperf3 printed no JSON")?;
        let end = said.get("end").context("iperf3 gave no result")?;
        let number = |path: &str| {
            end.pointer(path).and_then(Value::as_f64).with_context(|| format!("iperf3 gave no {path}: {end}"))
        };
        if self.udp {
            Ok(number("/sum/bits_per_second")? / 1e9 * (1.0 - number("/sum/lost_percent")? / 100.0))
        } else {
            Ok(number("/sum_received/bits_per_second")? / 1e9)
        }
    }
}

/// Whether somebody listens on iperf3's port: asked of the kernel, because a connection would be its one test.
fn listens(stage: &Stage) -> Result<bool> {
    let found = stage.here.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/tcp6")?))?;
    let port = format!(":{PORT:04X}");
    // State 0A is LISTEN (`include/net/tcp_states.h`).
    Ok(found.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some("0A")
    }))
}

/// What the programs of an agent take of the processor time of both ends.
struct Share {
    /// Runs of any program for each gigabyte that arrived.
    runs: f64,
    /// As the kernel measures it, percent: its own measuring is in it.
    raw: f64,
    /// Less what it says of programs that do nothing.
    net: f64,
}

impl Share {
    fn of(bulk: Bulk, stage: &Stage, seconds: u32) -> Result<Self> {
        let root = stage.group.path.parent().context("the cgroup has no parent")?;
        let _stats = enable_stats(Stats::RunTime)?;
        let bias = Empty::attach(&stage.here, root)?.per_run(|| bulk.measure(stage, seconds).map(drop))?;
        let agent = stage.agent()?;
        let before = (programs::of_agent(agent.pins())?, ended_children()?);
        let gigabytes = bulk.measure(stage, seconds)? * f64::from(seconds) / 8.0;
        let cpu = ended_children()?.saturating_sub(before.1).as_secs_f64();
        let (mut runs, mut raw, mut measuring) = (0.0, 0.0, 0.0);
        for (name, now) in programs::of_agent(agent.pins())? {
            let earlier = before.0.get(&name).copied().unwrap_or_default();
            let count = float(now.count - earlier.count);
            runs += count;
            raw += now.time.saturating_sub(earlier.time).as_secs_f64();
            measuring += count * bias.get(empty::like(&name)).copied().unwrap_or(0.0) / 1e9;
        }
        Ok(Self { runs: runs / gigabytes, raw: raw / cpu * 100.0, net: (raw - measuring) / cpu * 100.0 })
    }
}

/// The part.
pub(crate) fn part(stage: &Stage, effort: Effort) -> Result<Part> {
    let mut part = Part::new(
        "Bulk TCP and UDP",
        "iperf3 as fast as it goes; gigabits per second that arrived. UDP in datagrams of 1,400 bytes. No port of it is \
         observed. Both ends are on this machine, so the programs run at both. What TCP makes of two processors drifts by more than \
         what is aimed at, so three processes that send over TCP also take turns of 25 ms, each end on a processor of \
         its own: one that no program looks at, one that the agent has in scope, one whose packets pass programs that do nothing. \
         Medians and quartiles are those of sets of connections.",
    );
    let mut table = Table::new(&["load", "without, Gbit/s", "with, Gbit/s", "with / without"]);
    let seconds = if effort.quick { 1 } else { 2 };
    let mut shares = Table::new(&[
        "load",
        "runs of programs for each gigabyte",
        "their share of both ends' CPU, the kernel's measuring included, %",
        "less that, %",
    ]);
    let loads = |udp| [false, true].map(|veth| [1, 8].map(|streams| Bulk { udp, streams, veth })).concat();
    for bulk in [loads(false), loads(true)].concat() {
        let pairs = if effort.quick { 1 } else { 4 };
        let found = alternate(
            pairs,
            || bulk.measure(stage, seconds),
            || {
                let _agent = stage.agent()?;
                bulk.measure(stage, seconds)
            },
        )?;
        let pairs = Pairs::of(&found, |rate| *rate);
        table.row([bulk.words(), pairs.without.words(2), pairs.with.words(2), pairs.ratio.words(3)]);
        part.raw(&bulk.words(), pairs.json());
        let shares_of = (0..if effort.quick { 1 } else { 2 }).map(|_| Share::of(bulk, stage, seconds));
        let found = shares_of.collect::<Result<Vec<_>>>()?;
        let spread = |of: fn(&Share) -> f64| Spread::of(&found.iter().map(of).collect::<Vec<_>>());
        let (runs, raw, net) = (spread(|share| share.runs), spread(|share| share.raw), spread(|share| share.net));
        part.raw(
            &format!("{}: programs", bulk.words()),
            json!({ "runs_per_gigabyte": runs.json(), "raw_percent": raw.json(), "percent": net.json() }),
        );
        shares.row([bulk.words(), runs.words(0), raw.words(2), net.words(2)]);
    }
    let turns = slices::table(&loads(false), effort, &mut part)?;
    part.table(table);
    part.table(turns);
    part.table(shares);
    Ok(part)
}
