//! From layers to settings: picks the strongest value of every key, parses it, and checks values against each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::layers::Found;
use super::service::check_name;
use super::settings::{
    Access, Effective, Jobs, Kernel, Limits, Log, LogFormat, LogLevel, Observe, Report, ReportAs, Scope, Settings,
    TlsFiles, Upstream,
};
use super::{ConfigError, Input, JobRule, KernelInput, Layers, Origin, Service, api, wireguard};

/// Bytes of a node's name: what a host name has at most is 64 (`__NEW_UTS_LEN`), a fully qualified one 253 (RFC 1035 2.3.4).
const LONGEST_NODE_ID: usize = 253;

/// Puts the layers together.
pub(super) fn resolve(layers: Layers) -> Result<Effective, ConfigError> {
    let mut resolver = Resolver { layers, origins: BTreeMap::new() };
    let listen = resolver.take("listen", |input| input.listen.clone());
    let listen = listen.map_or(Ok(Settings::LISTEN), |found| address(&found))?;
    let access = resolver.access(listen)?;
    let services = Service::resolve(&mut resolver)?;
    let observe = resolver.observe();
    let llm = services.iter().find(|service| service.distributed_llm);
    let llm_ports = llm.map(|service| service.ports.clone()).unwrap_or_default();
    let settings = Settings {
        listen,
        access,
        interfaces: resolver.interfaces()?,
        scope: resolver.scope()?,
        pin_dir: resolver.pin_dir()?,
        state_dir: resolver
            .take("state_dir", |input| input.state_dir.clone())
            .map_or_else(|| PathBuf::from(Settings::STATE_DIR), |found| found.value),
        services: if observe.http { services } else { Vec::new() },
        upstreams: resolver.upstreams()?,
        scheduler: api::scheduler(&mut resolver)?,
        kubernetes: api::kubernetes(&mut resolver)?,
        report: resolver.report()?,
        remote_write: resolver.url("remote_write", |input| input.remote_write.clone())?,
        log: Log {
            level: resolver.one_of("log_level", |input| input.log_level.clone(), &LogLevel::NAMES, LogLevel::Info)?,
            format: resolver.one_of(
                "log_format",
                |input| input.log_format.clone(),
                &LogFormat::NAMES,
                LogFormat::Text,
            )?,
        },
        limits: resolver.limits()?,
        observe,
        jobs: resolver.jobs()?,
        llm_ports,
        node_id: resolver.node_id()?,
        peers: wireguard::names(&mut resolver)?,
        kernel: resolver.kernel()?,
    };
    Ok(Effective { settings, origins: resolver.origins })
}

/// The layers, and the origins of what was taken from them so far.
pub(super) struct Resolver {
    pub(super) layers: Layers,
    origins: BTreeMap<String, Origin>,
}

impl Resolver {
    /// The strongest value of a key; its origin is noted.
    pub(super) fn take<T>(&mut self, key: &str, get: impl Fn(&Input) -> Option<T>) -> Option<Found<T>> {
        let found = self.layers.pick(key, get)?;
        self.origins.insert(key.to_owned(), found.origin);
        Some(found)
    }

    fn access(&mut self, listen: SocketAddr) -> Result<Access, ConfigError> {
        let token = self.take("auth_token_file", |input| input.auth_token_file.clone());
        let cert = self.take("tls_cert", |input| input.tls_cert.clone());
        let key = self.take("tls_key", |input| input.tls_key.clone());
        let client_ca = self.take("tls_client_ca", |input| input.tls_client_ca.clone());
        let insecure = self.take("insecure", |input| input.insecure).is_some_and(|found| found.value);
        let tls = match (cert, key, client_ca) {
            (Some(cert), Some(key), client_ca) => {
                Some(TlsFiles { cert: cert.value, key: key.value, client_ca: client_ca.map(|found| found.value) })
            }
            (Some(given), None, _) => return Err(needs(&given, "tls_key")),
            (None, Some(given), _) | (None, None, Some(given)) => {
                return Err(needs(&given, "tls_cert"));
            }
            (None, None, None) => None,
        };
        let checked = token.is_some() || tls.as_ref().is_some_and(|files| files.client_ca.is_some());
        if !listen.ip().to_canonical().is_loopback() && !checked && !insecure {
            return Err(ConfigError::new(format!(
                "listen is {listen}, which others can reach, and nothing says who may read it"
            ))
            .hint(
                "give auth_token_file, or tls_cert and tls_key with tls_client_ca; \
                 --insecure serves everybody, and 127.0.0.1 only this host",
            ));
        }
        Ok(Access { token_file: token.map(|found| found.value), tls, insecure })
    }

    fn interfaces(&mut self) -> Result<Vec<String>, ConfigError> {
        match self.take("interface", |input| input.interface.clone()) {
            None => Ok(vec!["*".to_owned()]),
            Some(found) if found.value.is_empty() || found.value.iter().any(String::is_empty) => {
                Err(found.wrong("interface names or globs, such as eth*"))
            }
            Some(found) => Ok(found.value),
        }
    }

    fn scope(&mut self) -> Result<Scope, ConfigError> {
        let Some(found) = self.take("scope", |input| input.scope.clone()) else {
            return Ok(Scope::Host);
        };
        match (found.value.as_str(), found.value.strip_prefix("cgroup:")) {
            ("host", _) => Ok(Scope::Host),
            ("netns", _) => Ok(Scope::Netns),
            (_, Some(path)) if path.starts_with('/') => Ok(Scope::Cgroup(PathBuf::from(path))),
            _ => Err(found.wrong("host, netns, or cgroup: and an absolute path")),
        }
    }

    /// `pin_dir` and `no_pin` are one question: the strongest layer that says either answers it.
    fn pin_dir(&mut self) -> Result<Option<PathBuf>, ConfigError> {
        let dir = self.take("pin_dir", |input| input.pin_dir.clone());
        let off = self.take("no_pin", |input| input.no_pin);
        match (dir, off.filter(|found| found.value)) {
            (Some(dir), Some(off)) if dir.origin == off.origin => Err(ConfigError::new(format!(
                "{} is {} while {} says to pin nothing, wanted one of the two",
                dir.place,
                dir.value.display(),
                off.place
            ))),
            (Some(dir), off) if off.as_ref().is_none_or(|off| dir.origin > off.origin) => {
                if !dir.value.is_absolute() {
                    return Err(dir.wrong("an absolute path below a bpffs mount"));
                }
                Ok(Some(dir.value))
            }
            (_, Some(_)) => Ok(None),
            (_, None) => Ok(Some(PathBuf::from(Settings::PIN_DIR))),
        }
    }

    /// A service of the file may name its exporter in its own table; elsewhere it is `upstream`, by name.
    fn upstreams(&mut self) -> Result<Vec<Upstream>, ConfigError> {
        let mut found: BTreeMap<String, Found<String>> = BTreeMap::new();
        for (origin, input) in self.layers.strongest_first() {
            let services = input.service.iter().flatten();
            let of_services =
                services.filter_map(|(name, service)| Some((name, service.upstream.as_ref()?, "service")));
            let others = input.upstream.iter().flatten().map(|(name, url)| (name, url, "upstream"));
            for (name, url, table) in of_services.chain(others) {
                let key =
                    if table == "service" { format!("service.{name}.upstream") } else { format!("upstream.{name}") };
                let place = self.layers.place(origin, &key);
                match found.get(name) {
                    Some(earlier) if earlier.origin == origin => {
                        return Err(ConfigError::new(format!(
                            "{place} is given, and {} too, wanted one exporter a name",
                            earlier.place
                        )));
                    }
                    Some(_) => {}
                    None => {
                        found.insert(name.clone(), Found { value: url.clone(), origin, place });
                    }
                }
            }
        }
        let mut upstreams = Vec::new();
        for (name, found) in found {
            check_name(&name, &found.place)?;
            self.origins.insert(format!("upstream.{name}"), found.origin);
            upstreams.push(Upstream { url: url(&found)?, name });
        }
        Ok(upstreams)
    }

    fn report(&mut self) -> Result<Option<Report>, ConfigError> {
        let to = self.url("report_to", |input| input.report_to.clone())?;
        let as_what = self.take("report_as", |input| input.report_as.clone());
        let token = self.take("report_token_file", |input| input.report_token_file.clone());
        let (to, as_what, token) = match (to, as_what, token) {
            (None, None, None) => return Ok(None),
            (Some(to), Some(as_what), Some(token)) => (to, as_what, token),
            (_, None, _) => return Err(together("report_as")),
            (None, ..) => return Err(together("report_to")),
            (.., None) => return Err(together("report_token_file")),
        };
        let as_what = match as_what.value.split_once(':') {
            Some(("client", id)) if !id.is_empty() => ReportAs::Client(id.to_owned()),
            Some(("headend", id)) if !id.is_empty() => ReportAs::Headend(id.to_owned()),
            _ => return Err(as_what.wrong("client:ID or headend:ID")),
        };
        Ok(Some(Report { to, as_what, token_file: token.value }))
    }

    fn limits(&mut self) -> Result<Limits, ConfigError> {
        let default = Limits::default();
        let ports = self.take("limits.ports", |input| input.limits.as_ref()?.ports);
        let processes = self.take("limits.processes", |input| input.limits.as_ref()?.processes);
        let jobs = self.take("limits.jobs", |input| input.limits.as_ref()?.jobs);
        let containers = self.take("limits.containers", |input| input.limits.as_ref()?.containers);
        Ok(Limits {
            ports: positive(ports, default.ports)?,
            processes: positive(processes, default.processes)?,
            jobs: positive(jobs, default.jobs)?,
            containers: positive(containers, default.containers)?,
        })
    }

    fn observe(&mut self) -> Observe {
        let http = self.take("observe.http", |input| input.observe.as_ref()?.http);
        let udp = self.take("observe.udp", |input| input.observe.as_ref()?.udp);
        Observe { http: http.is_none_or(|found| found.value), udp: udp.is_none_or(|found| found.value) }
    }

    fn jobs(&mut self) -> Result<Jobs, ConfigError> {
        let default = Jobs::default();
        let rules = self.take("jobs.rules", |input| input.jobs.as_ref()?.rules.clone());
        let rules = rules.map_or(Ok(default.rules), |found| {
            let rules = found.value.iter().map(|rule| {
                JobRule::new(rule).map_err(|wanted| {
                    ConfigError::new(format!("{} has {rule}, wanted {wanted}", found.place)).hint(
                        "such as '/batch/(?<job>[a-z0-9-]+)$', which is looked for in the paths of cgroups, \
                         or { environment = \"JOB_ID\" }",
                    )
                })
            });
            rules.collect()
        })?;
        let keep = self.take("jobs.keep_seconds", |input| input.jobs.as_ref()?.keep_seconds);
        Ok(Jobs { rules, keep: keep.map_or(default.keep, |found| Duration::from_secs(found.value)) })
    }

    /// A label of metrics, and what a scheduler may call the host: any text of one line.
    fn node_id(&mut self) -> Result<Option<String>, ConfigError> {
        let found = self.take("node.id", |input| input.node.as_ref()?.id.clone());
        let usable = |id: &str| {
            !id.is_empty() && id.len() <= LONGEST_NODE_ID && id.trim() == id && !id.chars().any(char::is_control)
        };
        match found {
            Some(found) if !usable(&found.value) => Err(found.wrong(format!(
                "a name of 1 to {LONGEST_NODE_ID} bytes without control characters and spaces around it"
            ))),
            found => Ok(found.map(|found| found.value)),
        }
    }

    fn kernel(&mut self) -> Result<Kernel, ConfigError> {
        let default = Kernel::default();
        let ring = self.take("kernel.ring_bytes", |input| input.kernel.as_ref()?.ring_bytes);
        // BPF_MAP_TYPE_RINGBUF wants a power of two that is a multiple of the page size (kernel/bpf/ringbuf.c,
        // ringbuf_map_alloc); 64 KiB is a multiple of every page size that Linux has.
        if let Some(ring) = ring.as_ref().filter(|ring| !ring.value.is_power_of_two() || ring.value < 65_536) {
            return Err(ring.wrong("a power of two from 65536"));
        }
        let mut entries = |key: &str, get: fn(&KernelInput) -> Option<u32>, least: u32, default: u32| {
            let found = self.take(key, |input| get(input.kernel.as_ref()?));
            match found {
                Some(found) if found.value < least => Err(found.wrong(format!("{least} or more"))),
                found => Ok(found.map_or(default, |found| found.value)),
            }
        };
        Ok(Kernel {
            ring_bytes: ring.map_or(default.ring_bytes, |found| found.value),
            pipelined: entries("kernel.pipelined", |kernel| kernel.pipelined, 1, default.pipelined)?,
            stash_blocks: entries("kernel.stash_blocks", |kernel| kernel.stash_blocks, 1, default.stash_blocks)?,
            // The entries for what finds no room count too: one a protocol, one for the round trips, 128 for exchanges.
            totals: entries("kernel.totals", |kernel| kernel.totals, 3, default.totals)?,
            round_trips: entries("kernel.round_trips", |kernel| kernel.round_trips, 2, default.round_trips)?,
            listeners: entries("kernel.listeners", |kernel| kernel.listeners, 1, default.listeners)?,
            interfaces: entries("kernel.interfaces", |kernel| kernel.interfaces, 1, default.interfaces)?,
            cells: entries("kernel.cells", |kernel| kernel.cells, 256, default.cells)?,
            // Slot 0 is for what finds no room.
            places: entries("kernel.places", |kernel| kernel.places, 2, default.places)?,
            cgroups: entries("kernel.cgroups", |kernel| kernel.cgroups, 1, default.cgroups)?,
        })
    }

    pub(super) fn url(
        &mut self,
        key: &str,
        get: impl Fn(&Input) -> Option<String>,
    ) -> Result<Option<Uri>, ConfigError> {
        self.take(key, get).map(|found| url(&found)).transpose()
    }

    fn one_of<T: Copy>(
        &mut self,
        key: &str,
        get: impl Fn(&Input) -> Option<String>,
        names: &[(&str, T)],
        default: T,
    ) -> Result<T, ConfigError> {
        let Some(found) = self.take(key, get) else {
            return Ok(default);
        };
        let named = names.iter().find(|(name, _)| found.value == *name);
        named.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            found.wrong(format!("one of {}", names.join(", ")))
        })
    }
}

/// A bound: at least 1, for 0 would leave no room for anything.
pub(super) fn positive<T: Copy + Default + PartialEq + std::fmt::Debug>(
    found: Option<Found<T>>,
    default: T,
) -> Result<T, ConfigError> {
    match found {
        Some(found) if found.value == T::default() => Err(found.wrong("1 or more")),
        Some(found) => Ok(found.value),
        None => Ok(default),
    }
}

fn address(found: &Found<String>) -> Result<SocketAddr, ConfigError> {
    found.value.parse().map_err(|_| {
        found
            .wrong("an IP address and a port, such as 127.0.0.1:9464 or [::1]:9464")
            .hint("0.0.0.0:PORT is every IPv4 address of this host, [::]:PORT every address")
    })
}

fn url(found: &Found<String>) -> Result<Uri, ConfigError> {
    let wrong = || found.wrong("a URL such as http://127.0.0.1:9090/metrics");
    let url: Uri = found.value.parse().map_err(|_| wrong())?;
    let usable = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty());
    // A port that is no number, or too large a one, is none to the parser, and would be the usual one.
    let has_port = |authority: &http::uri::Authority| {
        authority.port_u16().is_some() || authority.as_str().ends_with(authority.host())
    };
    if usable && url.authority().is_some_and(has_port) { Ok(url) } else { Err(wrong()) }
}

/// A key that means nothing without another.
pub(super) fn needs<T>(given: &Found<T>, missing: &str) -> ConfigError {
    ConfigError::new(format!("{} is given without {missing}, wanted both", given.place))
}

fn together(missing: &str) -> ConfigError {
    ConfigError::new(format!("{missing} is missing, wanted report_to, report_as and report_token_file together"))
}
