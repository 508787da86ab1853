//! The host as a worker node: what it is called.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;

/// Those that every host has.
const FAMILIES: [&str; 5] = ["cpu_usage", "memory_bytes", "uptime_seconds", "active_jobs", "has_gpu"];

/// What the samples of the node call it, where every family has one.
fn called(page: &Page) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for family in FAMILIES {
        let name = format!("ffrtmp_worker_{family}");
        let labels: Vec<_> = page.family(&name).map(|(labels, _)| labels).collect();
        let [labels] = labels.as_slice() else { return None };
        names.insert(labels.get("node_id").cloned().unwrap_or_default());
    }
    Some(names)
}

#[test]
fn a_node_is_called_as_its_host_unless_another_name_is_configured() -> Result<()> {
    let namespace = Namespace::new()?;
    // A folder and not a file, which would be for its user alone.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sockmeter.toml");
    fs::write(&file, "")?;
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned();
    let agent = Agent::start(&namespace, &["--config", file.to_str().context("no name")?])?;
    let is_called = |name: String| agent.scrape_until(&name, |page| called(page) == Some([name.clone()].into()));
    is_called(host.clone())?;
    for (id, name) in [("worker-7", "worker-7"), ("rack 3 \\\"a\\\"", "rack 3 \\\"a\\\"")] {
        fs::write(&file, format!("[node]\nid = \"{id}\"\n"))?;
        agent.signal(Signal::SIGHUP)?;
        is_called(name.to_owned())?;
    }
    fs::write(&file, "")?;
    agent.signal(Signal::SIGHUP)?;
    is_called(host)?;
    Ok(())
}
