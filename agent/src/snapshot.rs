//! All values of one read of the kernel side, as plain values. Who reads them is the rim (`kernel`); whose bytes they
//! are is `attribution`'s.

use std::collections::BTreeMap;
use std::sync::Arc;

pub use sockmeter_ebpf::interface::Interface;
pub use sockmeter_ebpf::layout::Spill;
pub use sockmeter_ebpf::listed::{Listed, NO_SERVICE};
pub use sockmeter_ebpf::place::{PlaceKey, PlaceTotals};
pub use sockmeter_ebpf::posting::Posting;
pub use sockmeter_ebpf::socket::{RoundTripKey, RoundTrips, Totals, TotalsKey};

/// What live sockets are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Live {
    /// The kernel's state number (`include/net/tcp_states.h`).
    pub state: u8,
    /// `sockmeter_ebpf::socket::TCP` or `UDP`.
    pub protocol: u8,
    /// `sockmeter_ebpf::socket::ROLE_...`.
    pub role: u8,
}

/// Everything that one scrape is made of.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// UDP sockets are not followed: nothing is said of them, not that they carried nothing.
    pub without_udp: bool,
    /// How many live sockets are alike.
    pub live: BTreeMap<Live, u64>,
    /// Bytes by key, of live and ended sockets.
    pub totals: Vec<(TotalsKey, Totals)>,
    /// Bytes by the place of the sockets' makers, of live and ended sockets.
    pub places: Vec<PlaceBytes>,
    /// Bytes of places that found no room, `[received, sent]`.
    pub overflow: [u64; 2],
    /// When this was read, nanoseconds of `CLOCK_MONOTONIC`.
    pub now: u64,
    /// Round-trip times of ended TCP sockets.
    pub round_trips: Vec<(RoundTripKey, RoundTrips)>,
    /// `[opened, closed]`, indexed by 4 * (0 TCP, 1 UDP) + role.
    pub sockets: [[u64; 2]; 8],
    /// Interfaces, those gone included.
    pub interfaces: Vec<InterfaceCounters>,
    /// What could not be posted, by number of the service.
    pub spills: Vec<(u16, Spill)>,
    /// Losses of detail, in the order of `layout::LOSS_NAMES`.
    pub lost: Vec<u64>,
    /// How full the maps are.
    pub maps: Vec<MapFill>,
    /// The programs.
    pub programs: Vec<ProgramState>,
}

/// The live sockets, each by itself.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Each, with the beginning of the request that waits for its answer; empty if none does.
    pub sockets: Vec<(Listed, Vec<u8>)>,
    /// What is known of their places.
    pub standings: BTreeMap<PlaceKey, Standing>,
    /// Sockets that there was no room for.
    pub left_out: u64,
}

/// The bytes of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceBytes {
    /// Number of its slot.
    pub slot: u32,
    /// What it holds.
    pub totals: PlaceTotals,
    /// Its cgroups.
    pub standing: Standing,
}

/// Kubernetes pods by their uid.
pub type Pods = BTreeMap<String, PodName>;

/// What a Kubernetes pod is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it came to this host, seconds since 1970; `None` if nobody can tell.
    pub came: Option<u64>,
    /// Whether it is known what made it: it was on a list that says so.
    pub is_listed: bool,
    /// The Job that made it; `None` if it was something else, or if that is not known.
    pub job: Option<String>,
}

/// The cgroups of a place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The path of each within its hierarchy, v2 first, `/` at the front, empty for the root; `None` if it is not known.
    pub paths: Arc<Vec<Option<Vec<u8>>>>,
    /// Since when one of them is gone, nanoseconds of `CLOCK_MONOTONIC`: nobody comes to this place any more.
    pub gone: Option<u64>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Name.
    pub name: String,
    /// Name or inode number of its network namespace; `self` for the agent's own.
    pub netns: String,
    /// What our programs saw.
    pub ours: Interface,
    /// The device's own `[received, sent]` bytes; `None` if it is gone.
    pub kernel: Option<[u64; 2]>,
}

/// How full a map is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapFill {
    /// Its name, lower case.
    pub map: &'static str,
    /// Entries in it (bytes, of the journal).
    pub entries: u64,
    /// Entries it can hold (bytes, of the journal).
    pub capacity: u64,
}

/// A program and where it is attached.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgramState {
    /// Its name.
    pub program: String,
    /// What it is attached to.
    pub target: String,
    /// Why it is not attached; `None` if it is.
    pub problem: Option<String>,
    /// How often it ran, where the kernel counts.
    pub runs: Option<u64>,
    /// How long it ran, where the kernel measures.
    pub run_seconds: Option<f64>,
}

/// The agent's own process; `None` where it cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AgentProcess {
    /// User and system time so far.
    pub cpu_seconds: Option<f64>,
    /// Start, Unix time.
    pub start_seconds: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Most of them that it may have.
    pub max_fds: Option<u64>,
    /// Address space.
    pub virtual_bytes: Option<u64>,
    /// Physical memory.
    pub resident_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// The host as a worker node; `None` where it cannot be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Its name: the host's, unless another one is configured.
    pub name: String,
    /// Times of all its CPUs together.
    pub cpu: Option<CpuTimes>,
    /// Bytes of memory that are not available to new programs.
    pub memory_used: Option<u64>,
    /// Seconds since its start.
    pub uptime: Option<f64>,
    /// Jobs that have a cgroup now.
    pub jobs: Option<u64>,
    /// NVIDIA devices.
    pub gpus: Vec<Gpu>,
}

/// The host and a service on it as a node of a distributed LLM; `None` where it cannot be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LlmNode {
    /// Whether somebody listens on its ports.
    pub listens: Option<bool>,
    /// TCP connections to its ports.
    pub connections: Option<u64>,
    /// Seconds since the process was started that listens.
    pub uptime: Option<f64>,
    /// CPUs.
    pub cores: Option<u64>,
    /// Memory of the host, in units of 1,048,576 bytes.
    pub memory_megabytes: Option<u64>,
    /// Bytes of it that are not available to new programs.
    pub memory_used: Option<u64>,
    /// Bytes of it that are.
    pub memory_available: Option<u64>,
}

/// Times of CPUs since the start, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    /// Not idle, and not waiting for disks.
    pub busy: u64,
    /// All of it.
    pub total: u64,
}

/// An NVIDIA device; `None` where it does not measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// Its model.
    pub model: String,
    /// Percent of the time that something ran on it.
    pub usage: Option<u64>,
    /// Its temperature.
    pub celsius: Option<u64>,
    /// Its power.
    pub watts: Option<f64>,
}

/// A WireGuard interface and its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Name of the interface.
    pub interface: String,
    /// Name or inode number of its network namespace; `self` for the agent's own.
    pub netns: String,
    /// Its peers by their keys, as many as there is room for.
    pub peers: BTreeMap<PublicKey, Peer>,
    /// The last handshake of each of the others.
    pub left_out: Vec<u64>,
}

/// A peer's public key (Curve25519).
pub type PublicKey = [u8; 32];

/// A WireGuard peer, as its interface tells it; `None` where it does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer {
    /// Bytes received from it.
    pub received: Option<u64>,
    /// Bytes sent to it.
    pub sent: Option<u64>,
    /// The last handshake, Unix time in seconds; 0 if there never was one.
    pub handshake: u64,
}

/// Where postings come from.
pub trait Journal {
    /// Hands over the postings that wait, oldest first, up to what happened when this was called: under load more come all
    /// the while, and a scrape must end. A posting is removed from the journal only after the `commit` that covers it
    /// returned. Says whether anything was there.
    fn drain(&mut self, books: &mut dyn Booking) -> bool;
    /// Whether so much waits that it should be read now.
    fn is_late(&self) -> bool;
}

/// Who takes postings.
pub trait Booking {
    /// Takes one; whether what was taken has to be kept before the next.
    fn book(&mut self, posting: &Posting, head: &[u8]) -> bool;
    /// Keeps what was taken, together with how far the journal was read: whatever happens, it has both or neither.
    fn commit(&mut self, read: Mark);
}

/// How far a journal was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Which journal, a number that is used once; 0: none.
    pub journal: u32,
    /// Its position behind the last posting that was taken.
    pub position: u64,
}

/// Where the rest comes from.
pub trait Source {
    /// Books the live sockets' progress, in the kernel, and reads everything.
    ///
    /// # Errors
    /// When the kernel refuses a read; nothing is lost then, the next read has it all.
    fn snapshot(&mut self) -> Result<Snapshot, ReadError>;
}

/// A read of the kernel side failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what} from the kernel: {why}")]
pub struct ReadError {
    /// Which map or program.
    pub what: &'static str,
    /// Why.
    pub why: String,
}
