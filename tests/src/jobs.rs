//! Jobs as a scheduler's worker starts them: real processes in cgroups of their own, each with its own peers. The job
//! itself is `tests/job/main.rs`.

use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use tempfile::NamedTempFile;

use crate::namespace::Namespace;
use crate::process::Process;

/// Nothing waits longer than that.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a job is to do.
#[derive(Debug, Clone)]
pub struct Job {
    /// Cgroups that it enters; removed when it ended.
    pub cgroups: Vec<PathBuf>,
    /// Name of its process, which is a word of its command line too.
    pub process: String,
    /// Variables in its environment.
    pub environment: Vec<(String, OsString)>,
    /// The user that it runs as, if not this one; it is in the first cgroup only then.
    pub user: Option<u32>,
    /// Bytes it sends to each peer in a round; half as many come back.
    pub size: usize,
    /// Rounds.
    pub rounds: usize,
    /// Between two rounds.
    pub pause: Duration,
}

/// Application bytes of a job, as it and its peers counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Sent by the job.
    pub sent: u64,
    /// Received by it.
    pub received: u64,
}

/// Runs all of them with `program`, so many at a time, each with four peers of its own: TCP and UDP, over IPv4 and IPv6. What each
/// carried is in their order.
///
/// # Errors
/// When a job fails, or counts other bytes than its peers.
pub fn run(namespace: &Namespace, program: &str, jobs: &[Job], at_once: usize) -> Result<Vec<Carried>> {
    let next = AtomicUsize::new(0);
    let working = || -> Result<Vec<(usize, Carried)>> {
        namespace.enter(|| {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = jobs.get(number) else {
                    return Ok(done);
                };
                done.push((number, one(namespace, program, job).with_context(|| format!("job {number}"))?));
            }
        })
    };
    let mut all = thread::scope(|scope| -> Result<Vec<_>> {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(working)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow!("a job's peer panicked"))??);
        }
        Ok(all)
    })?;
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, carried)| carried).collect())
}

/// A script that enters the cgroups and becomes the command. Nothing in the cgroup of whoever runs it has the command's
/// words or variables, not for a moment: rules of jobs look at those.
fn entering(cgroups: &[PathBuf], command: &[OsString]) -> Vec<u8> {
    let mut script = Vec::new();
    for cgroup in cgroups {
        script.extend(b"echo $$ > ");
        script.extend(quoted(cgroup.join("cgroup.procs").as_os_str()));
        script.extend(b" || exit\n");
    }
    script.extend(b"exec");
    for word in command {
        script.push(b' ');
        script.extend(quoted(word));
    }
    script
}

/// A word of the shell.
fn quoted(word: &OsStr) -> Vec<u8> {
    let escaped = word.as_bytes().iter().flat_map(|byte| match byte {
        b'\'' => br"'\''".to_vec(),
        other => vec![*other],
    });
    [b'\''].into_iter().chain(escaped).chain([b'\'']).collect()
}

fn one(namespace: &Namespace, program: &str, job: &Job) -> Result<Carried> {
    let peers = [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0")];
    let mut listeners = Vec::new();
    let mut sockets = Vec::new();
    let mut words: Vec<OsString> = Vec::new();
    if let Some(user) = job.user {
        words.extend(["setpriv", "--clear-groups"].map(OsString::from));
        words.extend([format!("--reuid={user}"), format!("--regid={user}")].map(OsString::from));
    }
    words.push("env".into());
    words.extend(job.environment.iter().map(|(name, value)| [OsStr::new(name), value].join(OsStr::new("="))));
    words.extend([program, &job.process].map(OsString::from));
    words.extend([job.size, job.rounds].map(|number| number.to_string().into()));
    words.push(job.pause.as_millis().to_string().into());
    for (tcp, udp) in peers {
        let (listener, socket) = (TcpListener::bind(tcp)?, UdpSocket::bind(udp)?);
        socket.set_read_timeout(Some(PATIENCE))?;
        words.extend([listener.local_addr()?, socket.local_addr()?].map(|address| address.to_string().into()));
        listeners.push(listener);
        sockets.push(socket);
    }
    for cgroup in &job.cgroups {
        std::fs::create_dir_all(cgroup).with_context(|| format!("cannot make {}", cgroup.display()))?;
    }
    let mut script = NamedTempFile::new()?;
    script.write_all(&entering(&job.cgroups, &words))?;
    let mut process = Process::start(namespace.command("sh").arg(script.path()).stdout(Stdio::piped()))?;
    let mut streams = Vec::new();
    for listener in listeners {
        let (stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        streams.push(stream);
    }
    let mut carried = Carried::default();
    let (mut bytes, answer) = (vec![0; job.size], vec![b'p'; job.size / 2]);
    let count = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    for _ in 0..job.rounds {
        for (stream, socket) in streams.iter_mut().zip(&sockets) {
            stream.read_exact(&mut bytes)?;
            stream.write_all(&answer)?;
            let (got, from) = socket.recv_from(&mut bytes)?;
            ensure!(got == job.size, "a datagram of {got} bytes, wanted {}", job.size);
            socket.send_to(&answer, from)?;
            carried.sent += 2 * count(&bytes);
            carried.received += 2 * count(&answer);
        }
    }
    let mut said = String::new();
    process.output().context("no output")?.read_to_string(&mut said)?;
    ensure!(process.wait()?.success(), "the job failed");
    for cgroup in &job.cgroups {
        std::fs::remove_dir(cgroup).with_context(|| format!("cannot remove {}", cgroup.display()))?;
    }
    ensure!(said == format!("{} {}\n", carried.sent, carried.received), "the job says {said:?}, its peers {carried:?}");
    Ok(carried)
}
