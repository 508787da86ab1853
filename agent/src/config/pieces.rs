//! The small grammars `NAME=PORT[,PORT...]` and `NAME=VALUE` that flags and environment share, and where they go.

use std::path::PathBuf;

use super::{Input, ServiceInput};

/// `scheduler=8080,8081`: the service and its ports. The error says what was wanted.
pub(crate) fn named_ports(text: &str) -> Result<(String, Vec<u16>), String> {
    let wanted = || "NAME=PORT[,PORT...] with ports from 1 to 65535, such as scheduler=8080".to_owned();
    let (name, ports) = text.split_once('=').ok_or_else(wanted)?;
    let ports = ports
        .split(',')
        .map(|port| port.trim().parse::<u16>().ok().filter(|port| *port != 0))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(wanted)?;
    Ok((name.to_owned(), ports))
}

/// `scheduler=http://127.0.0.1:9090/metrics`: a name and what belongs to it. The error says what was wanted.
pub(crate) fn named_text(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "NAME=URL, such as scheduler=http://127.0.0.1:9090/metrics".to_owned())
}

/// `scheduler=/etc/sockmeter/routes.txt`: a name and its file. The error says what was wanted.
pub(crate) fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    text.split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
        .map(|(name, value)| (name.to_owned(), PathBuf::from(value)))
        .ok_or_else(|| "NAME=FILE, such as scheduler=routes.txt".to_owned())
}

impl Input {
    fn service_mut(&mut self, name: String) -> &mut ServiceInput {
        self.service.get_or_insert_default().entry(name).or_default()
    }

    /// Ports for a service; a name that is given twice has the ports of both.
    pub(crate) fn add_ports(&mut self, name: String, ports: Vec<u16>) {
        self.service_mut(name).ports.get_or_insert_default().extend(ports);
    }

    /// The route file of a service; the last one counts.
    pub(crate) fn add_routes(&mut self, name: String, file: PathBuf) {
        self.service_mut(name).routes = Some(file);
    }

    /// An exporter to merge; the last one of a name counts.
    pub(crate) fn add_upstream(&mut self, name: String, url: String) {
        self.upstream.get_or_insert_default().insert(name, url);
    }
}
