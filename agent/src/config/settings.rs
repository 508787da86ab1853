//! The validated configuration that everything else takes. How it comes about is in `resolve`, how it prints in `show`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::{Api, JobRule, Kubernetes, Origin, PeerNames, Service};

/// What the agent is to do. Every value is usable; files that it names were readable when it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the exporter listens. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Who may read the exporter, and over what.
    pub access: Access,
    /// Interfaces to count on, as globs.
    pub interfaces: Vec<String>,
    /// Whose sockets are counted.
    pub scope: Scope,
    /// The bpffs directory where the kernel side is pinned; `None` with `--no-pin`.
    pub pin_dir: Option<PathBuf>,
    /// Where the agent keeps what must survive a reboot.
    pub state_dir: PathBuf,
    /// What is observed, by name.
    pub services: Vec<Service>,
    /// Exporters to merge, by name.
    pub upstreams: Vec<Upstream>,
    /// The scheduler's API, to derive job metrics from.
    pub scheduler: Option<Api>,
    /// Where pods are listed, to know their names and jobs.
    pub kubernetes: Option<Kubernetes>,
    /// The fleet manager to report to.
    pub report: Option<Report>,
    /// Remote-write receiver.
    pub remote_write: Option<Uri>,
    /// What is logged, and how.
    pub log: Log,
    /// Bounds of label sets.
    pub limits: Limits,
    /// What is looked at in packets.
    pub observe: Observe,
    /// What is a job.
    pub jobs: Jobs,
    /// Ports of the service that is a node of a distributed LLM; empty if none is.
    pub llm_ports: Vec<u16>,
    /// What this host is called as a worker node; `None`: by its own name.
    pub node_id: Option<String>,
    /// What WireGuard's peers are called.
    pub peers: PeerNames,
    /// Sizes of the kernel side's maps.
    pub kernel: Kernel,
}

/// The settings, and for every key where its value came from. A key that is absent has its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The settings.
    pub settings: Settings,
    /// Origin by key, such as `listen` or `service.scheduler.ports`.
    pub origins: BTreeMap<String, Origin>,
}

/// Who may read the exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// File with the bearer token that every request but `/healthz` must carry.
    pub token_file: Option<PathBuf>,
    /// Serve TLS with these files.
    pub tls: Option<TlsFiles>,
    /// Serve beyond loopback without any check of who asks.
    pub insecure: bool,
}

/// The files that TLS needs, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Key of its first certificate.
    pub key: PathBuf,
    /// Authorities of client certificates; with it a client must show one.
    pub client_ca: Option<PathBuf>,
}

/// Whose sockets are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every network namespace of the host.
    Host,
    /// The agent's own network namespace: a sidecar in a pod.
    Netns,
    /// The sockets below one cgroup.
    Cgroup(PathBuf),
}

/// An exporter to merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name, the label of `sockmeter_upstream_up`.
    pub name: String,
    /// The page to fetch, `http` or `https`.
    pub url: Uri,
}

/// Reporting to a fleet manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Base of the manager's API.
    pub to: Uri,
    /// As what this host reports.
    pub as_what: ReportAs,
    /// The client's API key, or the headend's token.
    pub token_file: PathBuf,
}

/// As what this host reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportAs {
    /// A client of that identity.
    Client(String),
    /// A headend of that identity.
    Headend(String),
}

/// What is logged, and how. Logs go to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is shown.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Bounds of label sets: the first come keep their series, the rest is `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Distinct `port` labels.
    pub ports: usize,
    /// Distinct `process` labels.
    pub processes: usize,
    /// Jobs that have series at a time.
    pub jobs: usize,
    /// Containers and units that have series at a time.
    pub containers: usize,
}

/// What is looked at in packets. With neither, no program runs for a packet but the interfaces'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observe {
    /// The HTTP exchanges of the services.
    pub http: bool,
    /// The payload of UDP sockets. TCP counts its own.
    pub udp: bool,
}

/// What is a job, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jobs {
    /// Rules that go before the built-in ones, in their order.
    pub rules: Vec<JobRule>,
    /// How long the series of a job or a container are kept after its end.
    pub keep: Duration,
}

/// Sizes of the kernel side's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Ring buffer that carries detail, in bytes; a power of two.
    pub ring_bytes: u32,
    /// Requests that wait for their answers beyond two on a connection.
    pub pipelined: u32,
    /// Blocks of 16 KiB for what arrives out of order.
    pub stash_blocks: u32,
    /// Keys by which socket bytes are told apart: protocol, role, port and process.
    pub totals: u32,
    /// Keys by which round-trip times are told apart: role and port.
    pub round_trips: u32,
    /// Ports that somebody listens on.
    pub listeners: u32,
    /// Interfaces, over all the time that the books are kept.
    pub interfaces: u32,
    /// Series of exchanges: service, endpoint, method and status.
    pub cells: u32,
    /// Places by which jobs and containers are told apart: sets of cgroups.
    pub places: u32,
    /// Cgroups whose names are known.
    pub cgroups: u32,
}

impl Kernel {
    /// The size of each map that has one to choose, by the map's name.
    #[must_use]
    pub fn maps(&self) -> [(&'static str, u32); 16] {
        [
            ("JOURNAL", self.ring_bytes),
            ("DEEP", self.pipelined),
            ("BLOCKS", self.stash_blocks),
            ("FREE_BLOCKS", self.stash_blocks),
            ("TOTALS", self.totals),
            ("ROUND_TRIPS", self.round_trips),
            ("LISTENERS", self.listeners),
            ("FAR_INTERFACES", self.interfaces),
            ("INTERFACE_NAMES", self.interfaces),
            ("SEGMENTED", self.interfaces),
            ("BOOK_CELLS", self.cells),
            ("PLACE_SLOTS", self.places),
            ("PLACE_TOTALS", self.places),
            ("FREE_SLOTS", self.places),
            ("CGROUP_NAMES", self.cgroups),
            ("CGROUPS_GONE", self.cgroups),
        ]
    }
}

impl Jobs {
    /// Whether a rule looks at environments, which only few may read.
    #[must_use]
    pub fn look_at_environments(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule, JobRule::Environment { .. }))
    }

    /// Whether a rule looks at processes, which may end soon.
    #[must_use]
    pub fn look_at_processes(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule, JobRule::Environment { .. } | JobRule::CommandLine(_)))
    }
}

impl Settings {
    /// Where the exporter listens by default: loopback, away from the ports of schedulers and of Prometheus.
    pub(super) const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
    /// Where the kernel side is pinned by default.
    pub(super) const PIN_DIR: &str = "/sys/fs/bpf/sockmeter";
    /// Where state is kept by default.
    pub(super) const STATE_DIR: &str = "/var/lib/sockmeter";

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { ports: 100, processes: 200, jobs: 2_000, containers: 1_000 }
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self { rules: Vec::new(), keep: Duration::from_mins(10) }
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            ring_bytes: 16 << 20,
            pipelined: 16_384,
            stash_blocks: 512,
            totals: 65_536,
            round_trips: 16_384,
            listeners: 16_384,
            interfaces: 8_192,
            cells: 16_384,
            places: 8_192,
            cgroups: 16_384,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Netns => f.write_str("netns"),
            Self::Cgroup(path) => write!(f, "cgroup:{}", path.display()),
        }
    }
}

impl fmt::Display for ReportAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(id) => write!(f, "client:{id}"),
            Self::Headend(id) => write!(f, "headend:{id}"),
        }
    }
}

impl LogLevel {
    /// Every level with its name.
    pub const NAMES: [(&str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl LogFormat {
    /// Every format with its name.
    pub const NAMES: [(&str, Self); 2] = [("text", Self::Text), ("json", Self::Json)];
}
