//! The keys as they are written: every one optional, nothing judged yet. What they mean together is in `settings`.
//!
//! The same structure takes the file, the environment and the flags, so that each layer can say the same things.
//! In the file a key may be written with `_` or, like its flag, with `-`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::RuleInput;

/// One layer of configuration. The field names are the keys of the file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Address and port of the exporter.
    pub listen: Option<String>,
    /// Who may read the exporter: a file with the bearer token.
    #[serde(alias = "auth-token-file")]
    pub auth_token_file: Option<PathBuf>,
    /// The exporter's certificate chain, PEM.
    #[serde(alias = "tls-cert")]
    pub tls_cert: Option<PathBuf>,
    /// The key of that certificate, PEM.
    #[serde(alias = "tls-key")]
    pub tls_key: Option<PathBuf>,
    /// The authorities that sign client certificates, PEM.
    #[serde(alias = "tls-client-ca")]
    pub tls_client_ca: Option<PathBuf>,
    /// Serve beyond loopback without any check of who asks.
    pub insecure: Option<bool>,
    /// Interfaces to count on, as globs.
    pub interface: Option<Vec<String>>,
    /// `host`, `netns` or `cgroup:PATH`.
    pub scope: Option<String>,
    /// Where the kernel side is pinned.
    #[serde(alias = "pin-dir")]
    pub pin_dir: Option<PathBuf>,
    /// Pin nothing: the kernel side ends with the agent.
    #[serde(alias = "no-pin")]
    pub no_pin: Option<bool>,
    /// Where the agent keeps what must survive a reboot.
    #[serde(alias = "state-dir")]
    pub state_dir: Option<PathBuf>,
    /// The scheduler's API, to derive job metrics from.
    #[serde(alias = "scheduler-api")]
    pub scheduler_api: Option<String>,
    /// Token file for that API.
    #[serde(alias = "scheduler-token-file")]
    pub scheduler_token_file: Option<PathBuf>,
    /// The authorities that sign that API's certificate, PEM.
    #[serde(alias = "scheduler-ca")]
    pub scheduler_ca: Option<PathBuf>,
    /// The kubelet or the API server, to know pods and their jobs.
    #[serde(alias = "kubernetes-pods")]
    pub kubernetes_pods: Option<String>,
    /// This node's name, where it is the API server.
    #[serde(alias = "kubernetes-node")]
    pub kubernetes_node: Option<String>,
    /// Token file for it.
    #[serde(alias = "kubernetes-token-file")]
    pub kubernetes_token_file: Option<PathBuf>,
    /// The authorities that sign its certificate, PEM.
    #[serde(alias = "kubernetes-ca")]
    pub kubernetes_ca: Option<PathBuf>,
    /// The fleet manager to report to.
    #[serde(alias = "report-to")]
    pub report_to: Option<String>,
    /// `client:ID` or `headend:ID`.
    #[serde(alias = "report-as")]
    pub report_as: Option<String>,
    /// Token file for the fleet manager.
    #[serde(alias = "report-token-file")]
    pub report_token_file: Option<PathBuf>,
    /// Remote-write receiver.
    #[serde(alias = "remote-write")]
    pub remote_write: Option<String>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    #[serde(alias = "log-level")]
    pub log_level: Option<String>,
    /// `text` or `json`.
    #[serde(alias = "log-format")]
    pub log_format: Option<String>,
    /// Observed services by name.
    pub service: Option<BTreeMap<String, ServiceInput>>,
    /// Exporters to merge that belong to no observed service, by name.
    pub upstream: Option<BTreeMap<String, String>>,
    /// Bounds of label sets.
    pub limits: Option<LimitsInput>,
    /// What is looked at.
    pub observe: Option<ObserveInput>,
    /// What is a job.
    pub jobs: Option<JobsInput>,
    /// The host as a worker node.
    pub node: Option<NodeInput>,
    /// What is known of WireGuard's peers.
    pub wireguard: Option<WireguardInput>,
    /// Sizes of the kernel side's maps.
    pub kernel: Option<KernelInput>,
}

/// One `[service.NAME]` table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceInput {
    /// Listening ports that make a socket the service's.
    pub ports: Option<Vec<u16>>,
    /// File of declared routes.
    pub routes: Option<PathBuf>,
    /// Exporter of this service, to merge.
    pub upstream: Option<String>,
    /// Upper bounds of the body size histograms, in bytes.
    #[serde(alias = "size-buckets")]
    pub size_buckets: Option<Vec<u64>>,
    /// How many distinct endpoints before the rest is `other`.
    #[serde(alias = "endpoint-limit")]
    pub endpoint_limit: Option<usize>,
    /// Whether it is a node of a distributed LLM.
    #[serde(alias = "distributed-llm")]
    pub distributed_llm: Option<bool>,
}

/// The `[limits]` table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsInput {
    /// Distinct `port` labels before `other`.
    pub ports: Option<usize>,
    /// Distinct `process` labels before `other`.
    pub processes: Option<usize>,
    /// Jobs with series of their own before `other`.
    pub jobs: Option<usize>,
    /// Containers and units with series of their own before `other`.
    pub containers: Option<usize>,
}

/// The `[observe]` table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObserveInput {
    /// The HTTP exchanges of the services.
    pub http: Option<bool>,
    /// The payload of UDP sockets.
    pub udp: Option<bool>,
}

/// The `[jobs]` table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsInput {
    /// Rules, in their order.
    pub rules: Option<Vec<RuleInput>>,
    /// Seconds for which series are kept after the end.
    #[serde(alias = "keep-seconds")]
    pub keep_seconds: Option<u64>,
}

/// The `[node]` table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeInput {
    /// What the host is called as a worker node.
    pub id: Option<String>,
}

/// The `[wireguard]` table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireguardInput {
    /// Names of peers by their public keys.
    pub peers: Option<BTreeMap<String, String>>,
}

/// The `[kernel]` table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelInput {
    /// Size of the ring buffer that carries detail, in bytes.
    pub ring_bytes: Option<u32>,
    /// Requests that wait for their answers beyond two on a connection.
    pub pipelined: Option<u32>,
    /// Blocks of 16 KiB for what arrives out of order.
    pub stash_blocks: Option<u32>,
    /// Keys by which socket bytes are told apart.
    pub totals: Option<u32>,
    /// Keys by which round-trip times are told apart.
    pub round_trips: Option<u32>,
    /// Ports that somebody listens on.
    pub listeners: Option<u32>,
    /// Interfaces.
    pub interfaces: Option<u32>,
    /// Series of exchanges.
    pub cells: Option<u32>,
    /// Sets of cgroups by which jobs and containers are told apart.
    pub places: Option<u32>,
    /// Cgroups whose names are known.
    pub cgroups: Option<u32>,
}
