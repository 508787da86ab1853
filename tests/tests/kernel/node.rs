//! The host as a worker node: what it is called. And as a node of a distributed LLM: who listens, against what others say.

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::process::run;

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

/// A listener and connections to it, each with both its ends.
type Connected = (TcpListener, Vec<(TcpStream, TcpStream)>);

fn connected(namespace: &Namespace, address: &str, count: usize) -> Result<Connected> {
    namespace.enter(|| {
        let listener = TcpListener::bind(address)?;
        let one = |_| -> Result<_> { Ok((TcpStream::connect(listener.local_addr()?)?, listener.accept()?.0)) };
        let streams = (0..count).map(one).collect::<Result<Vec<_>>>()?;
        Ok((listener, streams))
    })
}

/// The seconds that procps says this process lives.
fn lived() -> Result<f64> {
    Ok(run(Command::new("ps").args(["-o", "etimes=", "-p", &std::process::id().to_string()]))?.trim().parse()?)
}

#[test]
fn a_node_of_a_distributed_llm_is_up_while_somebody_listens() -> Result<()> {
    let namespace = Namespace::new()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sockmeter.toml");
    let table = |value: bool| format!("[service.node]\nports = [50051, 50052]\ndistributed_llm = {value}\n");
    fs::write(&file, table(true))?;
    let why = "other users' open files are for those who may read everything";
    let agent = Agent::start_as_root(&namespace, &["--config", file.to_str().context("no name")?], why)?;
    let get = |page: &Page, family: &str| page.get(&format!("distributed_llm_{family}"));
    let page = agent.scrape()?;
    assert_eq!(["node_status", "network_connections"].map(|family| get(&page, family)), [Some(0.0); 2]);
    assert_eq!(get(&page, "node_uptime_seconds"), None);
    let sockets = [connected(&namespace, "127.0.0.1:50051", 3)?, connected(&namespace, "[::1]:50052", 2)?];
    // Somebody else's.
    let _other = connected(&namespace, "127.0.0.1:50053", 1)?;
    let before = lived()?;
    let page = agent.scrape()?;
    assert_eq!((get(&page, "node_status"), get(&page, "network_connections")), (Some(1.0), Some(5.0)));
    let uptime = get(&page, "node_uptime_seconds").context("no uptime")?;
    assert!(before <= uptime && uptime < lived()? + 1.0, "{before} {uptime}");
    let cores: f64 = run(Command::new("getconf").arg("_NPROCESSORS_ONLN"))?.trim().parse()?;
    assert_eq!(get(&page, "node_resources{resource_type=\"cpu_cores\"}"), Some(cores));
    let free = run(Command::new("free").arg("--mebi"))?;
    let total = free.lines().nth(1).and_then(|line| line.split_whitespace().nth(1)).context("no total")?.parse()?;
    assert_eq!(get(&page, "node_resources{resource_type=\"memory_mb\"}"), Some(total));
    let halves = ["used", "available"].map(|of| get(&page, &format!("system_memory_usage_bytes{{type=\"{of}\"}}")));
    let [Some(used), Some(available)] = halves else { anyhow::bail!("no memory: {halves:?}") };
    assert_eq!(((used + available) / 1_048_576.0).floor(), total);
    assert_eq!(
        get(&page, "system_cpu_usage_percent"),
        page.family("ffrtmp_worker_cpu_usage").map(|(_, load)| load).next()
    );
    drop(sockets);
    let page = agent.scrape()?;
    assert_eq!(["node_status", "network_connections"].map(|family| get(&page, family)), [Some(0.0); 2]);
    assert_eq!(get(&page, "node_uptime_seconds"), None);
    // A service as any other has none of them.
    fs::write(&file, table(false))?;
    agent.signal(Signal::SIGHUP)?;
    agent.scrape_until("none of it", |page| !page.text().contains("distributed_llm_"))?;
    Ok(())
}
