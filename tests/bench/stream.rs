//! A process that sends to itself over TCP as fast as it goes, for a moment each time it is told to. Who takes turns, and what that
//! tells, is `slices`.

use std::fs::File;
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Args;
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::unistd::Pid;

/// What to send.
#[derive(Debug, Args)]
pub(crate) struct Streams {
    /// Connections
    count: usize,
    /// Where to listen, in this process' network namespace
    address: IpAddr,
    /// The network namespace that sends: a file
    from: PathBuf,
}

/// How long is sent each time.
const SLICE: Duration = Duration::from_millis(25);
/// Bytes of a write: iperf3's own length.
const BLOCK: usize = 128 << 10;
/// Longest that is waited, for what is sent and for its arrival.
const BOUND: Duration = Duration::from_secs(10);

/// What arrived.
struct Arrived {
    bytes: AtomicU64,
    /// When the last of it did, in nanoseconds from `began` on.
    last: AtomicU64,
    began: Instant,
}

/// Opens the connections and says `ready`; for each line that it reads sends over all of them, and says how many bytes arrived, and
/// in how many nanoseconds. Ends with its input.
pub(crate) fn stream(streams: &Streams) -> Result<()> {
    let listener = TcpListener::bind((streams.address, 0))?;
    let to = listener.local_addr()?;
    let arrived = Arc::new(Arrived { bytes: AtomicU64::new(0), last: AtomicU64::new(0), began: Instant::now() });
    let mut senders = Vec::new();
    for _ in 0..streams.count {
        let from = File::open(&streams.from)?;
        let client = thread::spawn(move || -> Result<TcpStream> {
            setns(from, CloneFlags::CLONE_NEWNET)?;
            Ok(TcpStream::connect(to)?)
        });
        let client = client.join().map_err(|_| anyhow!("the thread that connects panicked"))??;
        let (server, _) = listener.accept()?;
        let arrived = Arc::clone(&arrived);
        thread::spawn(move || receive(server, &arrived));
        let (ask, asked) = channel();
        let (tell, told) = channel();
        thread::spawn(move || send(client, &asked, &tell));
        senders.push((ask, told));
    }
    println!("ready");
    let mut sent = 0;
    for line in std::io::stdin().lock().lines() {
        line?;
        let (before, began) = (arrived.bytes.load(Ordering::Acquire), arrived.began.elapsed());
        for (ask, _) in &senders {
            ask.send(Instant::now() + SLICE)?;
        }
        for (_, told) in &senders {
            sent += told.recv_timeout(BOUND)??;
        }
        let over = Instant::now() + BOUND;
        while arrived.bytes.load(Ordering::Acquire) != sent {
            anyhow::ensure!(Instant::now() < over, "not all of {sent} bytes arrived");
            thread::park_timeout(Duration::from_micros(100));
        }
        let took = Duration::from_nanos(arrived.last.load(Ordering::Acquire)).saturating_sub(began);
        println!("{} {}", sent - before, took.as_nanos());
    }
    Ok(())
}

/// Sends until each of the moments that are asked for, and tells how much.
fn send(mut client: TcpStream, asked: &Receiver<Instant>, tell: &Sender<Result<u64>>) {
    stay_on(0);
    let block = vec![b's'; BLOCK];
    for until in asked {
        let mut sent = 0;
        let result = loop {
            if Instant::now() >= until {
                break Ok(sent);
            }
            match client.write(&block) {
                Ok(count) => sent += u64::try_from(count).unwrap_or(0),
                Err(error) => break Err(error.into()),
            }
        };
        if tell.send(result).is_err() {
            return;
        }
    }
}

fn receive(mut server: TcpStream, arrived: &Arrived) {
    stay_on(1);
    let mut block = vec![0; BLOCK];
    while let Ok(count @ 1..) = server.read(&mut block) {
        let now = u64::try_from(arrived.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        arrived.last.fetch_max(now, Ordering::Release);
        arrived.bytes.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Release);
    }
}

/// Stays on this processor, so that each end finds the same one each time; anywhere, if there is none.
fn stay_on(processor: usize) {
    let mut only = CpuSet::new();
    if only.set(processor).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &only);
    }
}
