//! The wall clock is set back by ten years in the middle of an exchange, and forward later. Not that of the machine: the agent is shown
//! another one (libfaketime), and the kernel side has none but `bpf_ktime_get_ns`, which is monotonic.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, pin_dir};
use sockmeter_tests::connection::{Connection, Request};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::server::{ANSWER, Server};
use sockmeter_tests::tally::Tally;
use sockmeter_tests::wait;

use crate::exact::exact;

/// Where Debian has the library, below a folder of the architecture.
fn library() -> Result<PathBuf> {
    for entry in fs::read_dir("/usr/lib")? {
        let path = entry?.path().join("faketime/libfaketimeMT.so.1");
        if path.exists() {
            return Ok(path);
        }
    }
    anyhow::bail!("no libfaketime below /usr/lib\nhint: cargo xtask setup")
}

/// The year of the clock that the agent sees: it writes down when it reads its configuration again.
fn year(agent: &Agent<'_>) -> Result<u32> {
    let lines = || -> Result<Vec<String>> {
        let log = agent.log()?;
        Ok(log.lines().filter(|line| line.ends_with("took the new configuration")).map(str::to_owned).collect())
    };
    let before = lines()?.len();
    agent.signal(Signal::SIGHUP)?;
    wait::until("a line in the log", || {
        let lines = lines()?;
        let year = lines.get(before).and_then(|line| line.split('-').next()?.parse().ok());
        Ok(year)
    })
}

#[test]
fn a_clock_that_is_set_back_changes_nothing() -> Result<()> {
    let namespace = Namespace::new()?;
    let folder = tempfile::tempdir()?;
    let clock = folder.path().join("clock");
    fs::write(&clock, "+0\n")?;
    let library = library()?;
    let variables = [
        ("LD_PRELOAD", library.as_os_str()),
        ("FAKETIME_TIMESTAMP_FILE", clock.as_os_str()),
        ("FAKETIME_NO_CACHE", OsStr::new("1")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", OsStr::new("1")),
    ];
    let agent = Agent::start_with(&namespace, &["--log-level", "info"], pin_dir(), &variables)?;
    let server = Server::start(&namespace, "127.0.0.1:8080", 1)?;
    let began = Instant::now();
    let mut connection = namespace.enter(|| Connection::open(server.address()))?;
    let request = Request::post("/jobs", 512);
    for _ in 0..10 {
        connection.exchange(&request)?;
    }
    agent.scrape()?;
    let before = year(&agent)?;
    let whole = request.whole()?;
    connection.wire().write(&whole[..100])?;
    fs::write(&clock, "-10y\n")?;
    let after = year(&agent)?;
    // libfaketime does not know leap days: a year more or less on New Year's Eve.
    assert!((9..=11).contains(&before.saturating_sub(after)), "the agent's clock went from {before} to {after}");
    agent.scrape()?;
    connection.wire().write(&whole[100..])?;
    connection.answer()?;
    agent.scrape()?;
    // Forward: a rate over twenty years would be next to nothing.
    fs::write(&clock, "+10y\n")?;
    assert!(year(&agent)? > before, "the agent's clock did not go forward");
    let earlier = connection.counted();
    for _ in 0..10 {
        connection.exchange(&request)?;
    }
    let page = agent.scrape()?;
    let now = connection.counted();
    // The window is ten seconds, or longer where scrapes are slow; this growth is within it.
    let window = began.elapsed().as_secs_f64().max(10.0);
    for (direction, more) in [("inbound", now.inbound - earlier.inbound), ("outbound", now.outbound - earlier.outbound)]
    {
        let rate = page.sum("scheduler_bandwidth_bytes_per_second", &[("direction", direction)]);
        let least = f64::from(u32::try_from(more)?) / window;
        assert!(rate >= least, "{direction}: {rate} bytes per second, wanted {least} at least");
    }
    let counted = connection.counted();
    drop(connection);
    assert_eq!(server.finish()?, counted);
    let mut clients = Tally::default();
    request.tally(&mut clients, "/jobs", counted, ANSWER);
    let page = exact(&agent, &clients, counted)?;
    let durations = |what: &str| page.sum(&format!("scheduler_http_exchange_duration_seconds_{what}"), &[]);
    assert_eq!(durations("count"), 21.0);
    // One after the other, so together they took no longer than all of this.
    let took = began.elapsed().as_secs_f64();
    assert!((0.0..=took).contains(&durations("sum")), "{} s within {took} s", durations("sum"));
    for (labels, rate) in page.family("scheduler_bandwidth_bytes_per_second") {
        assert!(rate >= 0.0, "{labels:?} {rate}");
    }
    assert_eq!(agent.stop()?, Some(0));
    Ok(())
}
