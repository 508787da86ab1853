//! The load of the proof: exchanges with every endpoint, jobs in cgroups, a scheduler whose jobs come and go, a tunnel in
//! use. It goes on until it is dropped, and never longer than five minutes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::socket::{Shutdown, shutdown};
use serde_json::{Value, json};

use crate::cgroup::Cgroup;
use crate::jobs::{self, Job};
use crate::namespace::Namespace;
use crate::scheduler::{Scheduler, moment};

/// Whatever happens, it ends then.
const BOUND: Duration = Duration::from_mins(5);
/// Between two rounds: a load that a busy machine carries too.
const PAUSE: Duration = Duration::from_millis(100);
/// Where the other end of the tunnel takes what comes.
const SINK: &str = "10.9.0.2:7000";

/// How much there is to do in a round.
#[derive(Debug, Default)]
pub struct Taps {
    stopping: AtomicBool,
    /// Jobs that are submitted and not started, in a round.
    pub piling_up: AtomicU32,
    /// Bytes over the pair of devices, in a round.
    pub burst: AtomicU32,
    /// Nothing goes through the tunnel.
    pub tunnel_rests: AtomicBool,
}

impl Taps {
    fn open(&self, since: Instant) -> bool {
        !self.stopping.load(Ordering::Relaxed) && since.elapsed() < BOUND
    }
}

/// The running load.
#[derive(Debug)]
pub struct Traffic {
    /// What the test turns.
    pub taps: Arc<Taps>,
    sinks: Vec<Arc<TcpListener>>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts it between two namespaces with a tunnel; jobs are run by `program`.
    ///
    /// # Errors
    /// When a sink cannot listen, or a cgroup cannot be made.
    pub fn start(
        here: &Arc<Namespace>,
        there: &Arc<Namespace>,
        scheduler: &Arc<Scheduler>,
        program: &'static str,
    ) -> Result<Self> {
        let taps = Arc::new(Taps::default());
        let (mut threads, mut sinks) = (Vec::new(), Vec::new());
        for address in [SINK, "10.77.0.2:7000"] {
            let listener = Arc::new(there.enter(|| Ok(TcpListener::bind(address)?))?);
            sinks.push(Arc::clone(&listener));
            threads.push(std::thread::spawn(move || sink(&listener)));
        }
        let since = Instant::now();
        let (ours, namespace) = (Arc::clone(&taps), Arc::clone(here));
        threads.push(std::thread::spawn(move || {
            let _ = namespace.enter(|| {
                // The loop is in the thread that `enter` makes: the end of such a thread would end the pause.
                while ours.open(since) {
                    round(&ours);
                    std::thread::park_timeout(PAUSE);
                }
                Ok(())
            });
        }));
        let (ours, scheduler) = (Arc::clone(&taps), Arc::clone(scheduler));
        threads.push(std::thread::spawn(move || {
            for number in 0.. {
                if !ours.open(since) {
                    break;
                }
                live(&scheduler, number, ours.piling_up.load(Ordering::Relaxed));
                std::thread::park_timeout(5 * PAUSE);
            }
        }));
        let (ours, namespace) = (Arc::clone(&taps), Arc::clone(here));
        let cgroup = Cgroup::unified("monitoring")?;
        threads.push(std::thread::spawn(move || {
            while ours.open(since) {
                let _ = jobs::run(&namespace, program, &planned(&cgroup), 2);
            }
        }));
        Ok(Self { taps, sinks, threads })
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.taps.stopping.store(true, Ordering::Relaxed);
        for sink in &self.sinks {
            let _ = shutdown(sink.as_raw_fd(), Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn sink(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        let _ = stream.write_all(b"taken");
    }
}

/// Each endpoint once, something that is no HTTP, and bytes through the tunnel and the pair of devices.
fn round(taps: &Taps) {
    for (method, target, body) in [
        ("GET", "/jobs", 0),
        ("GET", "/jobs/next?node_id=n1", 0),
        ("GET", "/jobs/0b7c6c2e-5a1f-4a53-9d8e-000000000001", 0),
        ("POST", "/jobs", 700),
        ("POST", "/nodes/n1/heartbeat", 120),
        ("POST", "/results", 30_000),
    ] {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: scheduler\r\nConnection: close\r\n");
        let length = if body > 0 { format!("Content-Length: {body}\r\n") } else { String::new() };
        let _ = exchange("127.0.0.1:8080", &[format!("{head}{length}\r\n").into_bytes(), vec![b'b'; body]].concat());
    }
    let _ = exchange("127.0.0.1:8080", b"\x01\x02 no request at all\n\n");
    if !taps.tunnel_rests.load(Ordering::Relaxed) {
        let _ = exchange(SINK, &vec![b'w'; 20_000]);
    }
    let burst = taps.burst.load(Ordering::Relaxed);
    if burst > 0 {
        let _ = exchange("10.77.0.2:7000", &vec![b'v'; usize::try_from(burst).unwrap_or(0)]);
    }
}

fn exchange(address: &str, bytes: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address.parse()?, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(bytes)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Half a second in the life of the scheduler: a job comes, the one before it starts, the one before that ends.
fn live(scheduler: &Scheduler, number: u32, piling_up: u32) {
    let (queues, engines) = (["live", "default", "batch"], ["ffmpeg", "gstreamer", "auto"]);
    let pick = |list: [&'static str; 3]| usize::try_from(number % 3).ok().and_then(|at| list.get(at)).copied();
    let (queue, engine) = (pick(queues).unwrap_or("live"), pick(engines).unwrap_or("auto"));
    scheduler.set_nodes(&[
        json!("available"),
        json!("busy"),
        json!(if number.is_multiple_of(7) { "offline" } else { "busy" }),
    ]);
    scheduler.submit(&format!("job-{number}"), queue, pick(["high", "medium", "low"]).unwrap_or("low"), engine, 10);
    let change = |back: u32, fields: Value| {
        let id = format!("job-{}", number.wrapping_sub(back));
        scheduler.change(&id, |job| {
            if let (Some(job), Value::Object(fields)) = (job.json.as_object_mut(), fields) {
                job.extend(fields);
            }
        });
    };
    change(2, json!({"status": "running", "started_at": moment(20 + number % 9)}));
    change(6, json!({"status": "completed", "completed_at": moment(40 + number % 100)}));
    for extra in 0..piling_up {
        scheduler.submit(&format!("extra-{number}-{extra}"), queue, "low", engine, 10);
    }
}

fn planned(cgroup: &Cgroup) -> Vec<Job> {
    let one = |number: usize| Job {
        cgroups: vec![cgroup.path().join(format!(
            "docker-{:012x}{:052x}.scope/ffrtmp/encode-{number}",
            number + 0x5ca1_ab1e,
            0
        ))],
        process: format!("encoder-{number}"),
        environment: Vec::new(),
        user: None,
        size: 4_000 * (number + 1),
        rounds: 20,
        pause: PAUSE,
    };
    (0..2).map(one).collect()
}
