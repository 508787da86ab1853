//! The effective configuration as a TOML file, each value with its origin. Token files appear as names, and a password
//! inside a URL as asterisks.

use std::fmt::Write as _;
use std::path::Path;

use http::Uri;
use toml::Value;

use super::settings::{LogFormat, LogLevel};
use super::{Effective, JobRule, Origin, wireguard};

/// The configuration as a file that would bring it about.
pub fn show(effective: &Effective) -> String {
    let settings = &effective.settings;
    let mut page = Page { effective, text: String::new() };
    page.line("listen", Some(settings.listen.to_string().into()));
    page.line("auth_token_file", path(settings.access.token_file.as_deref()));
    let tls = settings.access.tls.as_ref();
    page.line("tls_cert", path(tls.map(|tls| tls.cert.as_path())));
    page.line("tls_key", path(tls.map(|tls| tls.key.as_path())));
    page.line("tls_client_ca", path(tls.and_then(|tls| tls.client_ca.as_deref())));
    page.line("insecure", Some(settings.access.insecure.into()));
    page.line("interface", Some(settings.interfaces.clone().into()));
    page.line("scope", Some(settings.scope.to_string().into()));
    match settings.pin_dir.as_deref() {
        Some(dir) => page.line("pin_dir", path(Some(dir))),
        None => page.line("no_pin", Some(true.into())),
    }
    page.line("state_dir", path(Some(&settings.state_dir)));
    let scheduler = settings.scheduler.as_ref();
    page.line("scheduler_api", scheduler.map(|api| masked(&api.url)));
    page.line("scheduler_token_file", path(scheduler.and_then(|api| api.token_file.as_deref())));
    page.line("scheduler_ca", path(scheduler.and_then(|api| api.ca.as_deref())));
    let kubernetes = settings.kubernetes.as_ref();
    page.line("kubernetes_pods", kubernetes.map(|pods| masked(&pods.api.url)));
    page.line("kubernetes_node", kubernetes.and_then(|pods| pods.node.clone()).map(Value::String));
    page.line("kubernetes_token_file", path(kubernetes.and_then(|pods| pods.api.token_file.as_deref())));
    page.line("kubernetes_ca", path(kubernetes.and_then(|pods| pods.api.ca.as_deref())));
    let report = settings.report.as_ref();
    page.line("report_to", report.map(|report| masked(&report.to)));
    page.line("report_as", report.map(|report| report.as_what.to_string().into()));
    page.line("report_token_file", path(report.map(|report| report.token_file.as_path())));
    page.line("remote_write", settings.remote_write.as_ref().map(masked));
    page.line("log_level", name(&LogLevel::NAMES, settings.log.level));
    page.line("log_format", name(&LogFormat::NAMES, settings.log.format));
    for service in &settings.services {
        let table = format!("service.{}", service.name);
        page.table(&table);
        page.line(&format!("{table}.ports"), Some(numbers(service.ports.iter().copied())));
        page.line(&format!("{table}.routes"), path(service.routes.as_deref()));
        page.line(&format!("{table}.size_buckets"), Some(numbers(service.size_buckets.iter().copied())));
        page.line(&format!("{table}.endpoint_limit"), number(service.endpoint_limit));
        page.line(&format!("{table}.distributed_llm"), Some(service.distributed_llm.into()));
    }
    page.table("upstream");
    for upstream in &settings.upstreams {
        page.line(&format!("upstream.{}", upstream.name), Some(masked(&upstream.url)));
    }
    page.table("limits");
    page.line("limits.ports", number(settings.limits.ports));
    page.line("limits.processes", number(settings.limits.processes));
    page.line("limits.jobs", number(settings.limits.jobs));
    page.line("limits.containers", number(settings.limits.containers));
    page.table("observe");
    page.line("observe.http", Some(settings.observe.http.into()));
    page.line("observe.udp", Some(settings.observe.udp.into()));
    page.table("jobs");
    page.line("jobs.rules", Some(Value::Array(settings.jobs.rules.iter().map(JobRule::value).collect())));
    page.line("jobs.keep_seconds", number(settings.jobs.keep.as_secs()));
    page.table("node");
    page.line("node.id", settings.node_id.clone().map(Value::String));
    page.table("wireguard.peers");
    for (key, name) in &settings.peers {
        page.line(&wireguard::place(key), Some(name.clone().into()));
    }
    page.table("kernel");
    page.line("kernel.ring_bytes", number(settings.kernel.ring_bytes));
    page.line("kernel.pipelined", number(settings.kernel.pipelined));
    page.line("kernel.stash_blocks", number(settings.kernel.stash_blocks));
    page.line("kernel.totals", number(settings.kernel.totals));
    page.line("kernel.round_trips", number(settings.kernel.round_trips));
    page.line("kernel.listeners", number(settings.kernel.listeners));
    page.line("kernel.interfaces", number(settings.kernel.interfaces));
    page.line("kernel.cells", number(settings.kernel.cells));
    page.line("kernel.places", number(settings.kernel.places));
    page.line("kernel.cgroups", number(settings.kernel.cgroups));
    page.text
}

/// The file as it grows.
struct Page<'a> {
    effective: &'a Effective,
    text: String,
}

impl Page<'_> {
    fn table(&mut self, name: &str) {
        self.put(&format!("\n[{name}]"));
    }

    /// One key; what is not set stands there as a comment, so that the list is complete.
    fn line(&mut self, key: &str, value: Option<Value>) {
        let origin = self.effective.origins.get(key).copied().unwrap_or(Origin::Default);
        let name = key.rsplit('.').next().unwrap_or(key);
        match value {
            Some(value) => self.put(&format!("{name} = {value}  # {origin}")),
            None => self.put(&format!("# {name} is not set")),
        }
    }

    fn put(&mut self, line: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn path(path: Option<&Path>) -> Option<Value> {
    path.map(|path| path.display().to_string().into())
}

fn number(value: impl TryInto<i64>) -> Option<Value> {
    value.try_into().ok().map(Value::Integer)
}

fn numbers(values: impl IntoIterator<Item = impl TryInto<i64>>) -> Value {
    Value::Array(values.into_iter().filter_map(number).collect())
}

fn name<T: PartialEq + Copy>(names: &[(&str, T)], value: T) -> Option<Value> {
    names.iter().find(|(_, named)| *named == value).map(|(name, _)| (*name).into())
}

/// A URL without the password that may stand in it.
fn masked(url: &Uri) -> Value {
    let text = url.to_string();
    let authority = url.authority().map_or("", http::uri::Authority::as_str);
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or("***", |(user, _)| user);
            text.replacen(authority, &format!("{user}:***@{host}"), 1).into()
        }
        None => text.into(),
    }
}
