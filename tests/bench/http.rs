//! nginx under wrk, without and with the agent: requests per second and latencies. Which program costs how much of
//! that is `alone`'s.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::Effort;
use crate::load;
use crate::meter::ended_children;
use crate::pairs::{Pairs, alternate, float};
use crate::report::{Part, Table, Target};
use crate::stage::{OBSERVED, Stage};

/// How wrk asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connections {
    /// 64 connections that stay.
    Kept,
    /// A connection for each request, 64 at once.
    Fresh,
}

impl Connections {
    pub(crate) const BOTH: [Self; 2] = [Self::Kept, Self::Fresh];

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Kept => "keep-alive",
            Self::Fresh => "a connection per request",
        }
    }
}

/// What wrk counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// In all.
    pub(crate) answers: u64,
    /// Per second.
    pub(crate) requests: f64,
    /// Median latency in microseconds.
    pub(crate) half: f64,
    /// 99th percentile of the latencies in microseconds.
    pub(crate) most: f64,
    /// Processor time of nginx and wrk in microseconds a request, that of the kernel on their behalf included.
    pub(crate) cpu: f64,
}

/// One run of wrk over loopback.
pub(crate) fn wrk(stage: &Stage, connections: Connections, port: u16, path: &str, seconds: u32) -> Result<Counted> {
    let mut command = stage.here.command("wrk");
    command.args(["-t1", "-c64", "--latency", &format!("-d{seconds}s")]);
    if connections == Connections::Fresh {
        command.args(["-H", "Connection: close"]);
    }
    command.arg(format!("http://127.0.0.1:{port}{path}"));
    let before = stage.nginx_time()? + ended_children()?;
    let said = load::output(&mut command, Duration::from_secs(u64::from(seconds) + 20))?;
    counted(&said, (stage.nginx_time()? + ended_children()?).saturating_sub(before))
}

/// What wrk says, and the processor time that it took.
fn counted(said: &str, cpu: Duration) -> Result<Counted> {
    ensure!(!said.contains("Non-2xx"), "nginx answered with errors:\n{said}");
    let of = |name: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
        line.with_context(|| format!("wrk said nothing of {name}:\n{said}"))
    };
    Ok(Counted {
        answers: requests(said)?,
        requests: of("Requests/sec:")?.parse()?,
        half: microseconds(of("50%")?)?,
        most: microseconds(of("99%")?)?,
        cpu: cpu.as_secs_f64() * 1e6 / float(requests(said)?),
    })
}

/// Requests in all, from the line `53105 requests in 1.00s, 43.10MB read`.
fn requests(said: &str) -> Result<u64> {
    let line = said.lines().find_map(|line| line.trim().split_once(" requests in "));
    Ok(line.with_context(|| format!("wrk said nothing of requests:\n{said}"))?.0.parse()?)
}

fn microseconds(words: &str) -> Result<f64> {
    let (factor, number) = [("us", 1.0), ("ms", 1e3), ("s", 1e6)]
        .iter()
        .find_map(|(unit, factor)| Some((factor, words.strip_suffix(unit)?)))
        .with_context(|| format!("wrk said {words:?}, wanted a time"))?;
    Ok(number.parse::<f64>()? * factor)
}

/// The part.
pub(crate) fn part(stage: &Stage, effort: Effort) -> Result<Part> {
    let mut part = Part::new(
        "HTTP throughput and latency",
        "nginx (one worker) and wrk (one thread, 64 connections) over loopback in one namespace; 612-byte file. \"With\" is \
         the agent as it is by default, with nginx' port observed. CPU per \
         request is the steadiest of the quantities: what else runs on the machine is not in it. Medians, quartiles in brackets; the ratio is taken pair \
         by pair.",
    );
    let mut table = Table::new(&["load", "quantity", "without", "with", "with / without"]);
    for connections in Connections::BOTH {
        let one = || wrk(stage, connections, OBSERVED, "/small.txt", effort.seconds);
        let found = alternate(effort.pairs, one, || {
            let _agent = stage.agent()?;
            one()
        })?;
        for (name, pairs) in [
            ("requests per second", Pairs::of(&found, |counted| counted.requests)),
            ("p50 latency, microseconds", Pairs::of(&found, |counted| counted.half)),
            ("p99 latency, microseconds", Pairs::of(&found, |counted| counted.most)),
            ("CPU of nginx and wrk, microseconds a request", Pairs::of(&found, |counted| counted.cpu)),
        ] {
            table.row([
                connections.words().to_owned(),
                name.to_owned(),
                pairs.without.words(1),
                pairs.with.words(1),
                pairs.ratio.words(3),
            ]);
            part.raw(&format!("{}: {name}", connections.words()), pairs.json());
            if name == "requests per second" {
                let wanted = if connections == Connections::Kept { 0.98 } else { 0.97 };
                let what = format!("throughput with the agent, {}, share of without", connections.words());
                part.target(Target::at_least(&what, wanted, pairs.ratio.median, 3));
            }
        }
    }
    part.raw("seconds of each load", json!(effort.seconds));
    part.table(table);
    Ok(part)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests of whole numbers")]
    use super::counted;

    #[test]
    fn reads_what_wrk_says() {
        let said = "Running 1s test\n  Thread Stats   Avg\n    Latency   1.00ms\n  Latency Distribution\n     50%  750.00us\n     \
                    75%    1.00ms\n     90%    1.26ms\n     99%    2.50ms\n  10 requests in 1.00s\nRequests/sec:  53104.50\n";
        let counted = counted(said, std::time::Duration::from_micros(200)).unwrap();
        assert_eq!((counted.requests, counted.half, counted.most, counted.cpu), (53_104.5, 750.0, 2500.0, 20.0));
        let refused = super::counted("Requests/sec: 1\n  Non-2xx or 3xx responses: 7\n", std::time::Duration::ZERO);
        assert_eq!(refused.err().map(|error| error.to_string().lines().count()), Some(3));
    }
}
