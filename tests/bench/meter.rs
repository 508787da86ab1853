//! Reading what a process uses, and asking an agent for its page while that is measured.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use sockmeter_tests::namespace::Namespace;

/// User and system time of a process so far, ended threads included. `/proc/PID/stat` has the same in hundredths of a
/// second, too coarse for an agent that sleeps (clock_getcpuclockid(3)).
pub(crate) fn cpu_time(process: Pid) -> Result<Duration> {
    Ok(Duration::from(clock_gettime(clock_getcpuclockid(process)?)?))
}

/// What a process uses from a moment on.
pub(crate) struct Meter {
    process: Pid,
    before: Duration,
    began: Instant,
}

impl Meter {
    /// From now on.
    pub(crate) fn start(process: Pid) -> Result<Self> {
        Ok(Self { process, before: cpu_time(process)?, began: Instant::now() })
    }

    /// Processor time since.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(cpu_time(self.process)?.saturating_sub(self.before))
    }

    /// That, in percent of the time since.
    pub(crate) fn share(&self) -> Result<f64> {
        Ok(self.cpu()?.as_secs_f64() / self.began.elapsed().as_secs_f64() * 100.0)
    }
}

/// The processes that a process has started and that still run, as they are listed for its first thread (proc(5)).
pub(crate) fn children(process: Pid) -> Result<Vec<Pid>> {
    let list = fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    list.split_whitespace().map(|pid| Ok(Pid::from_raw(pid.parse()?))).collect()
}

/// Processor time of the processes that this one has started and waited for so far.
pub(crate) fn ended_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = |value: TimeVal| -> Result<Duration> {
        Ok(Duration::new(value.tv_sec().try_into()?, u32::try_from(value.tv_usec())? * 1000))
    };
    Ok(time(usage.user_time())? + time(usage.system_time())?)
}

/// Physical memory of a process, in bytes: all of it, and what is its own alone (neither files nor shared maps).
pub(crate) fn resident(process: Pid) -> Result<[u64; 2]> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let of = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        Ok(line.trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    };
    Ok([of("VmRSS:")?, of("RssAnon:")?])
}

/// Memory of the kernel maps that a process has open, in bytes, as the kernel accounts it: without the values in
/// sockets, which are allocated with the socket.
pub(crate) fn map_memory(process: Pid) -> Result<u64> {
    let mut seen = BTreeSet::new();
    let mut sum = 0;
    for entry in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        if let (Some(map), Some(bytes)) = (of("map_id:"), of("memlock:"))
            && seen.insert(map)
        {
            sum += bytes;
        }
    }
    Ok(sum)
}

/// Bytes of the kernel's caches of no kind of their own, in which the values that programs keep in sockets are
/// (`kmalloc-128`, `kmalloc-cg-4k`, ...), as slabinfo(5) has them.
pub(crate) fn allocated() -> Result<u64> {
    let mut sum = 0;
    for line in fs::read_to_string("/proc/slabinfo")?.lines().filter(|line| line.starts_with("kmalloc-")) {
        let mut fields = line.split_whitespace().skip(1).map(str::parse::<u64>);
        let (in_use, _, size) = (fields.next(), fields.next(), fields.next());
        sum += in_use.context("no objects")?? * size.context("no size")??;
    }
    Ok(sum)
}

/// What one scrape took.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    pub(crate) wall: Duration,
    /// Of the process that was asked.
    pub(crate) cpu: Duration,
    pub(crate) page: String,
}

impl Scrape {
    /// Samples on the page.
    pub(crate) fn series(&self) -> usize {
        self.page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count()
    }
}

/// Asks `url` (`http://ADDRESS:PORT`) for `/metrics` once, from a namespace.
pub(crate) fn scrape(namespace: &Namespace, url: &str, process: Pid) -> Result<Scrape> {
    let address = url.trim_start_matches("http://");
    namespace.enter(|| {
        let meter = Meter::start(process)?;
        let page = get(address, "/metrics")?;
        let wall = meter.began.elapsed();
        Ok(Scrape { wall, cpu: meter.cpu()?, page })
    })
}

/// The body of an answer, in this thread's namespace.
pub(crate) fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    // HTTP/1.0: the body comes as it is, and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{address}{path} answered {answer:?}"))?;
    anyhow::ensure!(head.split(' ').nth(1) == Some("200"), "{address}{path} answered {head:?}");
    Ok(body.to_owned())
}

/// Milliseconds.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
