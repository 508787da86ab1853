//! WireGuard's own counters of each peer, for the interfaces of the agent's network namespace: from the kernel (`netlink`),
//! and from processes that are WireGuard themselves (`process`, `uapi`). What is made of them is `model::wireguard`'s.
//!
//! Private and preshared keys are part of both answers. They are skipped where they lie, no value has a place for them, and
//! the memory that an answer was read into is wiped.

mod netlink;
mod peers;
mod process;
mod uapi;
mod untold;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::peers::Peers;
pub use self::untold::Untold;
use crate::snapshot::Tunnel;

/// Where such processes have their sockets (<https://www.wireguard.com/xplatform/>).
const SOCKETS: &str = "/var/run/wireguard";
/// The unix sockets of this network namespace (proc(5)).
const UNIX: &str = "/proc/self/net/unix";
/// Peers that are told apart, of all interfaces together. The others are only counted.
const PEERS: usize = 10_000;
/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads, and remembers what could not be read: a line is logged only when that changes.
#[derive(Debug, Default)]
pub struct Reader {
    problems: Mutex<BTreeMap<String, String>>,
    /// One at a time asks the kernel: it does so in a thread, which must not become many where the kernel hangs.
    asking: Arc<sync::Mutex<()>>,
}

/// What is to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    kernel: Vec<String>,
    processes: Vec<String>,
}

/// What became of asking for the peers of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its name.
    pub interface: String,
    /// The kernel was asked, else a process.
    pub is_kernels: bool,
    /// How many there are, or why they are not told.
    pub peers: Result<usize, Untold>,
}

impl Interfaces {
    /// Those of WireGuard among all of this namespace: name, and whether its kind is the kernel's `wireguard`.
    pub fn of<'a>(all: impl Iterator<Item = (&'a str, bool)>) -> Self {
        Self::with(all, Path::new(SOCKETS))
    }

    fn with<'a>(all: impl Iterator<Item = (&'a str, bool)>, sockets: &Path) -> Self {
        let entries = std::fs::read_dir(sockets).into_iter().flatten().filter_map(Result::ok);
        let sockets: Vec<String> =
            entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".sock")?.to_owned())).collect();
        let mut found = Self::default();
        for (name, is_kernels) in all {
            if is_kernels {
                found.kernel.push(name.to_owned());
            } else if sockets.iter().any(|socket| socket == name) {
                found.processes.push(name.to_owned());
            }
        }
        found
    }
}

/// Whether an interface of the kernel's WireGuard may be there: its module is loaded or built in. Loads none.
#[must_use]
pub fn is_in_kernel() -> bool {
    netlink::Socket::open(PATIENCE).and_then(|socket| socket.has_family()).unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot tell whether WireGuard is in the kernel");
        false
    })
}

impl Reader {
    /// The interfaces with their peers, by name; what cannot be read, or does not answer in time, is absent.
    pub async fn read(&self, interfaces: Interfaces) -> Vec<Tunnel> {
        let [of_kernel, of_processes] = self.answers(interfaces).await;
        let mut tunnels = Vec::new();
        let mut problems = BTreeMap::new();
        for (interface, peers) in of_kernel.into_iter().chain(of_processes) {
            match peers {
                Ok(peers) => tunnels.push(peers.of(interface)),
                Err(problem) => {
                    problems.insert(interface, said(&problem));
                }
            }
        }
        self.tell(problems);
        tunnels.sort_by(|one, other| one.interface.cmp(&other.interface));
        bound(&mut tunnels, PEERS);
        tunnels
    }

    /// How many peers each interface has, by name: whether `read` would tell them.
    pub async fn ask(&self, interfaces: Interfaces) -> Vec<Asked> {
        let [of_kernel, of_processes] = self.answers(interfaces).await;
        let asked = |is_kernels| {
            move |(interface, peers): Answer| Asked { interface, is_kernels, peers: peers.map(|peers| peers.count()) }
        };
        let mut all: Vec<Asked> =
            of_kernel.into_iter().map(asked(true)).chain(of_processes.into_iter().map(asked(false))).collect();
        all.sort_by(|one, other| one.interface.cmp(&other.interface));
        all
    }

    /// The kernel's answers, and those of processes.
    async fn answers(&self, interfaces: Interfaces) -> [Vec<Answer>; 2] {
        let Interfaces { kernel, processes } = interfaces;
        futures_util::future::join(self.of_kernel(kernel), of_processes(processes)).await.into()
    }

    async fn of_kernel(&self, names: Vec<String>) -> Vec<Answer> {
        if names.is_empty() {
            return Vec::new();
        }
        let late: Vec<String> = names.clone();
        let asked = timeout(PATIENCE, async {
            let asking = Arc::clone(&self.asking).lock_owned().await;
            spawn_blocking(move || {
                let _asking = asking;
                kernel_tunnels(names)
            })
            .await
        });
        match asked.await {
            Ok(Ok(answers)) => answers,
            Ok(Err(_)) | Err(_) => late.into_iter().map(|name| (name, Err(Untold::Late))).collect(),
        }
    }

    fn tell(&self, now: BTreeMap<String, String>) {
        let mut before = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        for (interface, problem) in &now {
            if before.get(interface) != Some(problem) {
                tracing::warn!(interface, "its WireGuard peers are not told: {problem}");
            }
        }
        for interface in before.keys().filter(|interface| !now.contains_key(*interface)) {
            tracing::info!(interface, "its WireGuard peers are told again, or it is gone");
        }
        *before = now;
    }
}

/// An interface, and its peers or why they are not known.
type Answer = (String, Result<Peers, Untold>);

/// As the log of a running agent has it.
fn said(problem: &Untold) -> String {
    if *problem == Untold::Capability {
        return format!(
            "{problem}, which the agent keeps when WireGuard is in the kernel as it starts: start it again"
        );
    }
    problem.to_string()
}

fn kernel_tunnels(names: Vec<String>) -> Vec<Answer> {
    let asked = |name: &str| netlink::Socket::open(PATIENCE)?.peers(name, PEERS);
    let untold = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => Untold::Capability,
        _ => Untold::Other(error.to_string()),
    };
    names
        .into_iter()
        .map(|name| {
            let peers = asked(&name).map_err(untold);
            (name, peers)
        })
        .collect()
}

async fn of_processes(names: Vec<String>) -> Vec<Answer> {
    if names.is_empty() {
        return Vec::new();
    }
    // Long where there are many unix sockets.
    let (names, listening) = spawn_blocking(move || {
        let listening = process::listening(Path::new(UNIX), &names);
        (names, listening)
    })
    .await
    .unwrap_or_default();
    let asked = names.into_iter().zip(listening).map(async |(name, is_ours)| {
        let path = Path::new(SOCKETS).join(format!("{name}.sock"));
        let shown = path.display().to_string();
        if !is_ours {
            return (name, Err(Untold::Elsewhere(shown)));
        }
        let peers = match timeout(PATIENCE, process::peers(&path, PEERS)).await {
            Ok(peers) => peers.map_err(|error| error.untold(shown)),
            Err(_) => Err(Untold::Late),
        };
        (name, peers)
    });
    join_all(asked).await
}

/// Leaves out what is more than `room`: always the same as long as interfaces and peers are the same.
fn bound(tunnels: &mut [Tunnel], mut room: usize) {
    for tunnel in tunnels {
        while tunnel.peers.len() > room {
            tunnel.left_out.extend(tunnel.peers.pop_last().map(|(_, peer)| peer.handshake));
        }
        room -= tunnel.peers.len();
    }
}

#[cfg(test)]
mod tests;
