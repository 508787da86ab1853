//! The flags that are settings too, and their way into a configuration layer. What the values mean is in `config`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::config::{ConfigError, Configuration, Input};

/// The settings of `run`, in the order in which an operator needs them.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Flags {
    /// Configuration file, TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// A service and the listening ports that make a socket its own; may be repeated [default: scheduler=8080]
    #[arg(long, value_name = "NAME=PORT[,PORT...]", value_parser = crate::config::named_ports, help_heading = "What is observed")]
    service: Vec<(String, Vec<u16>)>,
    /// Declared routes of a service: lines "METHOD /path/{param}", or an OpenAPI document; may be repeated
    #[arg(long, value_name = "NAME=FILE", value_parser = crate::config::named_path, help_heading = "What is observed")]
    routes: Vec<(String, PathBuf)>,
    /// An exporter to merge into our page; may be repeated
    #[arg(long, value_name = "NAME=URL", value_parser = crate::config::named_text, help_heading = "What is observed")]
    upstream: Vec<(String, String)>,
    /// Interfaces to count on, those to come too; may be repeated [default: *]
    #[arg(long, value_name = "GLOB", help_heading = "What is observed")]
    interface: Vec<String>,
    /// Whose sockets are counted: host, netns (the agent's own network namespace) or cgroup:PATH [default: host]
    #[arg(long, value_name = "SCOPE", help_heading = "What is observed")]
    scope: Option<String>,

    /// Where to serve; port 0 picks a free one [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Serving")]
    listen: Option<String>,
    /// File with the bearer token that readers must send
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    auth_token_file: Option<PathBuf>,
    /// Serve TLS: certificate chain, PEM
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    tls_cert: Option<PathBuf>,
    /// Serve TLS: key of the certificate, PEM
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    tls_key: Option<PathBuf>,
    /// Ask readers for a certificate that one of these authorities signed, PEM
    #[arg(long, value_name = "FILE", help_heading = "Serving")]
    tls_client_ca: Option<PathBuf>,
    /// Serve beyond loopback without any check of who reads
    #[arg(long, help_heading = "Serving")]
    insecure: bool,

    /// Where the kernel side is pinned, so that it counts on without us [default: /sys/fs/bpf/sockmeter]
    #[arg(long, value_name = "DIR", conflicts_with = "no_pin", help_heading = "What stays")]
    pin_dir: Option<PathBuf>,
    /// Pin nothing: the kernel side ends with the agent
    #[arg(long, help_heading = "What stays")]
    no_pin: bool,
    /// Where to keep what must survive a reboot [default: /var/lib/sockmeter]
    #[arg(long, value_name = "DIR", help_heading = "What stays")]
    state_dir: Option<PathBuf>,

    /// The scheduler's API, to derive job metrics from
    #[arg(long, value_name = "URL", help_heading = "Scheduler")]
    scheduler_api: Option<String>,
    /// File with the bearer token for it
    #[arg(long, value_name = "FILE", help_heading = "Scheduler")]
    scheduler_token_file: Option<PathBuf>,
    /// The authorities that sign its certificate, PEM
    #[arg(long, value_name = "FILE", help_heading = "Scheduler")]
    scheduler_ca: Option<PathBuf>,

    /// The kubelet, or with the next flag the API server, to know pods and their jobs
    #[arg(long, value_name = "URL", help_heading = "Kubernetes")]
    kubernetes_pods: Option<String>,
    /// The name of this node, for whose pods the API server is asked
    #[arg(long, value_name = "NAME", help_heading = "Kubernetes")]
    kubernetes_node: Option<String>,
    /// File with the bearer token for it, read again each time
    #[arg(long, value_name = "FILE", help_heading = "Kubernetes")]
    kubernetes_token_file: Option<PathBuf>,
    /// The authorities that sign its certificate, PEM
    #[arg(long, value_name = "FILE", help_heading = "Kubernetes")]
    kubernetes_ca: Option<PathBuf>,

    /// Fleet manager to report to; wants the next two
    #[arg(long, value_name = "URL", help_heading = "Sending")]
    report_to: Option<String>,
    /// As what to report: client:ID or headend:ID
    #[arg(long, value_name = "WHAT:ID", help_heading = "Sending")]
    report_as: Option<String>,
    /// File with the API key or token for it
    #[arg(long, value_name = "FILE", help_heading = "Sending")]
    report_token_file: Option<PathBuf>,
    /// Prometheus remote-write receiver
    #[arg(long, value_name = "URL", help_heading = "Sending")]
    remote_write: Option<String>,

    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Output")]
    log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    log_format: Option<String>,
}

impl Flags {
    /// These flags on top of the environment and the file that either names.
    pub(super) fn configuration(
        self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Configuration, ConfigError> {
        let file = self.config.clone();
        Configuration::new(file, self.into_input(), variables)
    }

    /// A flag that was not given says nothing, so that a weaker layer is heard.
    fn into_input(self) -> Input {
        let mut input = Input {
            listen: self.listen,
            auth_token_file: self.auth_token_file,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            tls_client_ca: self.tls_client_ca,
            insecure: self.insecure.then_some(true),
            interface: Some(self.interface).filter(|globs| !globs.is_empty()),
            scope: self.scope,
            pin_dir: self.pin_dir,
            no_pin: self.no_pin.then_some(true),
            state_dir: self.state_dir,
            scheduler_api: self.scheduler_api,
            scheduler_token_file: self.scheduler_token_file,
            scheduler_ca: self.scheduler_ca,
            kubernetes_pods: self.kubernetes_pods,
            kubernetes_node: self.kubernetes_node,
            kubernetes_token_file: self.kubernetes_token_file,
            kubernetes_ca: self.kubernetes_ca,
            report_to: self.report_to,
            report_as: self.report_as,
            report_token_file: self.report_token_file,
            remote_write: self.remote_write,
            log_level: self.log_level,
            log_format: self.log_format,
            service: None,
            upstream: None,
            limits: None,
            observe: None,
            jobs: None,
            node: None,
            wireguard: None,
            kernel: None,
        };
        for (name, ports) in self.service {
            input.add_ports(name, ports);
        }
        for (name, file) in self.routes {
            input.add_routes(name, file);
        }
        for (name, url) in self.upstream {
            input.add_upstream(name, url);
        }
        input
    }
}
