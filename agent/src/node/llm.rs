//! A node of a distributed LLM, as far as the host knows of it: who listens on its ports and since when, who is connected, what
//! the host has. What crosses its connections is not read here.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use super::proc;
use crate::snapshot::LlmNode;

/// States of TCP in `/proc/net/tcp` (`include/net/tcp_states.h`).
const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";
/// A start is told in hundredths of a second (`USER_HZ`).
const HERTZ: f64 = 100.0;

/// The process that listens, once it is found: by its socket, which it keeps.
#[derive(Debug, Default)]
pub struct Listener {
    socket: Option<u64>,
    process: Option<Started>,
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Started {
    /// In ticks since the host was started.
    start: u64,
    pid: u32,
}

/// TCP sockets of the agent's own network namespace that have one of the ports.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sockets {
    /// Inode numbers of those that listen.
    listening: BTreeSet<u64>,
    established: u64,
}

impl Listener {
    /// Reads what there is to know now of the service on these ports. `sees_all`: it can be in no other network namespace than
    /// the agent's own, so that nobody listens if nobody does there.
    #[must_use]
    pub fn read(&mut self, ports: &[u16], sees_all: bool) -> LlmNode {
        self.of(Path::new("/proc"), ports, sees_all)
    }

    fn of(&mut self, proc: &Path, ports: &[u16], sees_all: bool) -> LlmNode {
        let sockets = sockets(proc, ports);
        let listens =
            sockets.as_ref().map(|sockets| !sockets.listening.is_empty()).filter(|listens| *listens || sees_all);
        self.follow(proc, sockets.as_ref().and_then(|sockets| sockets.listening.first().copied()));
        let [total, available] = proc::memory(proc, ["MemTotal:", "MemAvailable:"]);
        LlmNode {
            listens,
            connections: sockets.filter(|_| listens.is_some()).map(|sockets| sockets.established),
            uptime: self.process.and_then(|process| since(proc, process)),
            cores: proc::cores(proc),
            memory_megabytes: total.map(|total| total >> 20),
            memory_used: total.and_then(|total| total.checked_sub(available?)),
            memory_available: available,
        }
    }

    /// Looks for the process once a socket, since that means to look at the open files of all.
    fn follow(&mut self, proc: &Path, socket: Option<u64>) {
        let lives = |process: Started| proc::started(proc, process.pid) == Some(process.start);
        if socket == self.socket && self.process.is_none_or(lives) {
            return;
        }
        self.socket = socket;
        self.process = socket.and_then(|socket| holder(proc, socket));
    }
}

/// Both families; one that the host does not have has none.
fn sockets(proc: &Path, ports: &[u16]) -> Option<Sockets> {
    let mut found = Sockets::default();
    let of_process = proc.join("self/net");
    let mut read = false;
    for table in ["tcp", "tcp6"] {
        let Ok(file) = fs::File::open(of_process.join(table)) else {
            continue;
        };
        read = true;
        for line in BufReader::new(file).lines().skip(1) {
            found.note(&line.ok()?, ports);
        }
    }
    read.then_some(found)
}

impl Sockets {
    /// A line of `/proc/net/tcp` (proc(5)): number, local address and port, remote ones, state, ..., the tenth is the inode.
    fn note(&mut self, line: &str, ports: &[u16]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = words.as_slice() else {
            return;
        };
        let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        if !port.is_some_and(|port| ports.contains(&port)) {
            return;
        }
        match *state {
            LISTEN => self.listening.extend(inode.parse::<u64>()),
            ESTABLISHED => self.established += 1,
            _ => {}
        }
    }
}

/// The oldest process that has a socket open, of those whose open files may be seen.
fn holder(proc: &Path, socket: u64) -> Option<Started> {
    let wanted = format!("socket:[{socket}]");
    let processes = fs::read_dir(proc).ok()?.filter_map(Result::ok);
    let holding = processes.filter_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.filter_map(Result::ok);
        let has = files.any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()));
        has.then(|| Some(Started { start: proc::started(proc, pid)?, pid }))?
    });
    holding.min()
}

/// Seconds since a process was started.
#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "hundredths of seconds of a host's life")]
fn since(proc: &Path, process: Started) -> Option<f64> {
    Some((proc::uptime(proc)? - process.start as f64 / HERTZ).max(0.0))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::symlink;

    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn line(port: u16, state: &str, inode: u64) -> String {
        format!(
            "   0: 0100007F:{port:04X} 00000000:1F90 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 100\n"
        )
    }

    fn write(proc: &Path, name: &str, text: &str) {
        let path = proc.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn process(proc: &Path, pid: u32, start: u64, socket: u64) {
        write(
            proc,
            &format!("{pid}/stat"),
            &format!("{pid} (a b) S 1 7 7 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 {start} 9\n"),
        );
        fs::create_dir_all(proc.join(format!("{pid}/fd"))).unwrap();
        symlink(format!("socket:[{socket}]"), proc.join(format!("{pid}/fd/3"))).unwrap();
    }

    #[test]
    fn a_node_that_listens_is_up_since_its_process_began() {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path();
        let tcp =
            [line(50_051, LISTEN, 77), line(50_051, ESTABLISHED, 78), line(50_051, "06", 0), line(8080, LISTEN, 79)];
        write(proc, "self/net/tcp", &(HEAD.to_owned() + &tcp.concat()));
        write(proc, "self/net/tcp6", &(HEAD.to_owned() + &line(50_052, ESTABLISHED, 80)));
        write(proc, "uptime", "1000.50 1.00\n");
        write(proc, "meminfo", "MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:    6777216 kB\n");
        write(proc, "stat", "cpu  1 2 3 4\ncpu0 1\ncpu1 1\ncpu13 1\nintr 5\n");
        process(proc, 40, 90_000, 77);
        process(proc, 41, 80_000, 77);
        process(proc, 42, 10, 79);
        let mut listener = Listener::default();
        let wanted = LlmNode {
            listens: Some(true),
            connections: Some(2),
            uptime: Some(200.5),
            cores: Some(3),
            memory_megabytes: Some(16_384),
            memory_used: Some(10_240_000_000),
            memory_available: Some(6_939_869_184),
        };
        assert_eq!(listener.of(proc, &[50_051, 50_052], false), wanted);
        // The process that is found next is the other one, and then none.
        for (pid, uptime) in [(41, Some(100.5)), (40, None)] {
            fs::remove_dir_all(proc.join(pid.to_string())).unwrap();
            assert_eq!(listener.of(proc, &[50_051, 50_052], false), LlmNode { uptime, ..wanted.clone() });
        }
        let absent = |listens, connections| LlmNode { listens, connections, uptime: None, ..wanted.clone() };
        assert_eq!(listener.of(proc, &[9], true), absent(Some(false), Some(0)));
        // It may be in another network namespace.
        assert_eq!(listener.of(proc, &[9], false), absent(None, None));
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let proc = tempfile::tempdir().unwrap();
        assert_eq!(Listener::default().of(proc.path(), &[9], true), LlmNode::default());
    }
}
