//! The observed services: which layer names them, what a name may be, and that a port belongs to one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::layers::Found;
use super::resolve::{Resolver, positive};
use super::{ConfigError, Input, Origin, ServiceInput};

/// The service that is observed when nobody names one.
const DEFAULT_NAME: &str = "scheduler";
/// Its port.
const DEFAULT_PORT: u16 = 8080;
/// Body size buckets in bytes, from 100 B to 1 GB in decades.
const DEFAULT_BUCKETS: [u64; 8] = [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];
/// Distinct endpoints before the rest is `other`.
const DEFAULT_ENDPOINT_LIMIT: usize = 200;
/// Prefixes of families that are not a service's: a service of that name would produce the same family names.
const RESERVED: [&str; 7] =
    ["sockmeter", "process", "upstream", "ffrtmp", "distributed_llm", "tobogganing", "sasewaddle"];

/// Services that the kernel side has room for (`layout::SERVICES`).
const MOST: usize = 64;
/// Ports that it has room for (the map `SERVICE_PORTS`).
const MOST_PORTS: usize = 4_096;

/// A service: what it is called, and how its sockets are recognised and its exchanges named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The name, which is also the prefix of its metric families.
    pub name: String,
    /// Listening ports, ascending. No other service has any of them.
    pub ports: Vec<u16>,
    /// Declared routes: lines `METHOD /path/{param}`, or an OpenAPI document.
    pub routes: Option<PathBuf>,
    /// Upper bounds of the body size histograms in bytes, ascending, without `+Inf`.
    pub size_buckets: Vec<u64>,
    /// Distinct endpoints before the rest is `other`.
    pub endpoint_limit: usize,
    /// Whether it is a node of a distributed LLM, of which a host has one.
    pub distributed_llm: bool,
}

impl Service {
    /// The services of all layers. The strongest layer that gives ports says which services there are; what weaker
    /// layers say about those still holds.
    pub(super) fn resolve(resolver: &mut Resolver) -> Result<Vec<Self>, ConfigError> {
        let mut services = Vec::new();
        let mut owners: BTreeMap<u16, String> = BTreeMap::new();
        for name in observed(resolver)? {
            let service = Self::one(resolver, &name)?;
            for port in &service.ports {
                if let Some(other) = owners.insert(*port, name.clone()) {
                    return Err(ConfigError::new(format!(
                        "port {port} is given to two services, {other} and {name}, wanted one service a port"
                    ))
                    .hint(format!("take the port from one of them, or give both sets of ports to {other}")));
                }
            }
            services.push(service);
        }
        let llm: Vec<&str> = services
            .iter()
            .filter(|service: &&Self| service.distributed_llm)
            .map(|service| service.name.as_str())
            .collect();
        if llm.len() > 1 {
            let names = llm.join(" and ");
            return Err(ConfigError::new(format!("{names} have distributed_llm, wanted one service at most"))
                .hint("the families distributed_llm_* do not say which service's they are"));
        }
        if services.len() > MOST {
            return Err(ConfigError::new(format!("{} services are configured, wanted at most {MOST}", services.len())));
        }
        if owners.len() > MOST_PORTS {
            let ports = owners.len();
            return Err(ConfigError::new(format!("the services have {ports} ports, wanted at most {MOST_PORTS}")));
        }
        Ok(services)
    }

    fn one(resolver: &mut Resolver, name: &str) -> Result<Self, ConfigError> {
        let ports = resolver.take(&format!("service.{name}.ports"), |input| table(input, name)?.ports.clone());
        let mut ports = match ports {
            Some(found) if found.value.is_empty() || found.value.contains(&0) => {
                return Err(found.wrong("a list of ports from 1 to 65535"));
            }
            Some(found) => found.value,
            None if name == DEFAULT_NAME => vec![DEFAULT_PORT],
            None => {
                return Err(ConfigError::new(format!("service {name} has no ports, wanted at least one"))
                    .hint(format!("add ports = [8080] under [service.{name}], or --service {name}=8080")));
            }
        };
        ports.sort_unstable();
        ports.dedup();
        let routes = resolver.take(&format!("service.{name}.routes"), |input| table(input, name)?.routes.clone());
        let buckets =
            resolver.take(&format!("service.{name}.size_buckets"), |input| table(input, name)?.size_buckets.clone());
        let limit =
            resolver.take(&format!("service.{name}.endpoint_limit"), |input| table(input, name)?.endpoint_limit);
        let llm =
            resolver.take(&format!("service.{name}.distributed_llm"), |input| table(input, name)?.distributed_llm);
        Ok(Self {
            distributed_llm: llm.is_some_and(|found| found.value),
            name: name.to_owned(),
            ports,
            routes: routes.map(|found| found.value),
            size_buckets: buckets.map_or_else(|| Ok(DEFAULT_BUCKETS.to_vec()), |found| ascending(&found))?,
            endpoint_limit: positive(limit, DEFAULT_ENDPOINT_LIMIT)?,
        })
    }
}

/// What one layer says about a service.
fn table<'a>(input: &'a Input, name: &str) -> Option<&'a ServiceInput> {
    input.service.as_ref()?.get(name)
}

/// The names that are observed, each fit to be a metric prefix.
fn observed(resolver: &Resolver) -> Result<BTreeSet<String>, ConfigError> {
    let layers = &resolver.layers;
    for (origin, input) in layers.strongest_first() {
        for name in input.service.iter().flatten().map(|(name, _)| name) {
            check_name(name, &layers.place(origin, "service"))?;
        }
    }
    let naming = layers.strongest_first().into_iter().find_map(|(origin, input)| {
        let services = input.service.as_ref()?;
        services.values().any(|service| service.ports.is_some()).then_some((origin, services))
    });
    let names: BTreeSet<String> = match naming {
        // A table of the file without ports is an omission that `one` reports; `--routes` alone names nothing new.
        Some((Origin::File, services)) => services.keys().cloned().collect(),
        Some((_, services)) => {
            services.iter().filter(|(_, service)| service.ports.is_some()).map(|(name, _)| name.clone()).collect()
        }
        None => {
            let file = layers.file.service.iter().flatten().map(|(name, _)| name.clone());
            file.chain([DEFAULT_NAME.to_owned()]).collect()
        }
    };
    // A file's table of a service that flags or environment leave out just rests; a flag for one is a slip.
    let said = layers.strongest_first().into_iter().filter(|(origin, _)| *origin != Origin::File);
    let mut named =
        said.flat_map(|(origin, input)| input.service.iter().flatten().map(move |(name, _)| (origin, name)));
    match named.find(|(_, name)| !names.contains(*name)) {
        Some((origin, name)) => {
            let known = names.iter().cloned().collect::<Vec<_>>().join(", ");
            Err(ConfigError::new(format!(
                "{} names the service {name}, which is not observed",
                layers.place(origin, "routes")
            ))
            .hint(format!("observed are: {known}; --service {name}=PORT adds one")))
        }
        None => Ok(names),
    }
}

/// A name must be usable as the prefix of a metric family, and not be one that is taken.
pub(super) fn check_name(name: &str, place: &str) -> Result<(), ConfigError> {
    let mut bytes = name.bytes();
    let well_formed = bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !well_formed {
        return Err(ConfigError::new(format!(
            "{place} has the name {name:?}, wanted a lower case letter, then lower case letters, digits and _"
        ))
        .hint("the name becomes the prefix of metric names, as in scheduler_http_requests_total"));
    }
    let taken = RESERVED
        .iter()
        .find(|taken| name.strip_prefix(**taken).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')));
    match taken {
        Some(taken) => Err(ConfigError::new(format!(
            "{place} has the name {name:?}, wanted one outside {taken} and {taken}_*, which other metrics use"
        ))),
        None => Ok(()),
    }
}

/// Bucket bounds as a histogram can use them.
fn ascending(found: &Found<Vec<u64>>) -> Result<Vec<u64>, ConfigError> {
    let bounds = &found.value;
    let ascending = bounds.windows(2).all(|pair| matches!(pair, [low, high] if low < high));
    if bounds.is_empty() || bounds.first() == Some(&0) || !ascending {
        return Err(found.wrong("one or more sizes in bytes above 0, each larger than the one before"));
    }
    Ok(bounds.clone())
}
