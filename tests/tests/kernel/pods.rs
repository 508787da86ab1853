//! The image and the Kubernetes manifests as they are in `deploy/`, run by runc as a kubelet would have them run: in a pod's
//! network namespace, as its user, with its capabilities and mounts and no others.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use object::elf::PT_INTERP;
use object::read::elf::{ElfFile64, ProgramHeader as _};
use serde_json::{Value, json};
use sockmeter_tests::cgroup::Cgroup;
use sockmeter_tests::client::{Step, play};
use sockmeter_tests::container::{Bundle, Container};
use sockmeter_tests::image::static_binary;
use sockmeter_tests::jobs::{Job, run};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::nginx::Nginx;
use sockmeter_tests::page::Page;
use sockmeter_tests::pod::{Pod, TOKEN};
use sockmeter_tests::tally::{Tally, whole};
use sockmeter_tests::unit::Bpffs;
use tempfile::TempDir;

use crate::equal_books::agrees;
use crate::jobs::PROGRAM;

const ADDED: &str = "/securityContext/capabilities/add";
const MOUNTS: &str = "/volumeMounts";

fn step(method: &'static str, target: &str) -> Step {
    Step { method, target: target.to_owned(), ..Step::default() }
}

/// What the service's log and the client's own books say of a load: the same.
pub(crate) fn loaded(here: &Namespace, nginx: &Nginx) -> Result<Tally> {
    let connections = [
        vec![Step { repeat: 20, ..step("GET", "/hello.txt") }, Step { repeat: 5, body: 3000, ..step("POST", "/sink") }],
        vec![step("GET", "/big.bin"), Step { repeat: 3, close: true, ..step("GET", "/hello.txt") }],
    ];
    let mut clients = Tally::default();
    for count in play(here, "127.0.0.1", 8080, &connections)? {
        count.tally(&mut clients, &count.target);
    }
    let mut log = Tally::default();
    for line in nginx.log(29)? {
        let body = if line.target == "/sink" { 6 } else { line.body_bytes_sent };
        line.tally(&mut log, &line.target, body);
    }
    assert_eq!(log.differences(&clients), Vec::<String>::new());
    Ok(clients)
}

pub(crate) fn nginx(here: &Namespace) -> Result<Nginx> {
    Nginx::start(here, &[("hello.txt", 6), ("big.bin", 300_000)])
}

/// The kubelet's probe goes where the manifest says, without a token; the page wants one.
fn is_probed(agent: &Container<'_>, pod: &mut Pod) -> Result<()> {
    let container = pod.container()?.clone();
    let port = json!([{"name": "sockmeter", "containerPort": 9464}]);
    assert_eq!(container["ports"], port);
    let probe = &container["livenessProbe"]["httpGet"];
    assert_eq!(probe["port"], "sockmeter");
    let path = probe["path"].as_str().context("no path")?;
    assert_eq!(agent.get(path, false)?.0, "200");
    assert_eq!(agent.get("/metrics", false)?.0, "401");
    assert_eq!(agent.get("/readyz", true)?.0, "200", "{}", agent.log());
    Ok(())
}

#[test]
fn the_binary_of_the_image_asks_for_no_interpreter() -> Result<()> {
    let bytes = fs::read(static_binary())?;
    let file = ElfFile64::<object::Endianness>::parse(&*bytes)?;
    let kinds: Vec<u32> = file.elf_program_headers().iter().map(|header| header.p_type(file.endian())).collect();
    assert!(!kinds.is_empty() && !kinds.contains(&PT_INTERP), "{kinds:?}");
    Ok(())
}

#[test]
fn the_sidecar_of_the_manifest_counts() -> Result<()> {
    let here = Namespace::new()?;
    let nginx = nginx(&here)?;
    let mut pod = Pod::of("sidecar/deployment.yaml")?;
    let bundle = Bundle::new()?;
    let config = pod.configuration(&bundle, &here)?;
    let agent = bundle.start(&config, &here, Some(TOKEN))?;
    is_probed(&agent, &mut pod)?;
    let clients = loaded(&here, &nginx)?;
    agrees(|| agent.scrape(), &clients)?;
    assert_eq!(agent.stop()?, Some(0));
    Ok(())
}

/// The exit code of `sockmeter check` in the pod's container.
fn checked(pod: &Pod) -> Result<(Option<i32>, String)> {
    let here = Namespace::new()?;
    let bundle = Bundle::new()?;
    let mut config = pod.configuration(&bundle, &here)?;
    let words = config["process"]["args"].as_array_mut().context("no arguments")?;
    *words.get_mut(1).context("no command")? = json!("check");
    bundle.to_its_end(&config)
}

#[test]
fn the_sidecar_has_no_capability_that_it_does_not_need() -> Result<()> {
    each_is_needed(&mut Pod::of("sidecar/deployment.yaml")?, 3)
}

#[test]
fn the_sidecar_needs_its_view_of_the_cgroups() -> Result<()> {
    let here = Namespace::new()?;
    let nginx = nginx(&here)?;
    let mut pod = Pod::of("sidecar/deployment.yaml")?;
    let mounts = pod.list(MOUNTS)?;
    let cgroup = mounts.iter().find(|mount| mount["name"] == "cgroup").context("no mount of cgroups")?;
    let bundle = Bundle::new()?;
    let config = pod.without(MOUNTS, cgroup)?.configuration(&bundle, &here)?;
    let agent = match bundle.start(&config, &here, Some(TOKEN)) {
        Ok(agent) => agent,
        Err(error) => {
            // Where the host has hierarchies of both versions, the container's own view is of version 1.
            assert!(format!("{error:#}").contains("no cgroup v2 hierarchy is mounted"), "{error:#}");
            return Ok(());
        }
    };
    loaded(&here, &nginx)?;
    let page = agent.scrape_until("a page", |_| true)?;
    assert_eq!(page.get("scheduler_http_requests_total"), Some(0.0));
    Ok(())
}

/// As another user the container would have no capability at all.
#[test]
fn the_sidecar_must_be_root_without_its_powers() -> Result<()> {
    let mut pod = Pod::of("sidecar/deployment.yaml")?;
    pod.container()?["securityContext"]["runAsUser"] = json!(65_532);
    let (code, said) = checked(&pod)?;
    assert_eq!(code, Some(3), "{said}");
    Ok(())
}

/// With all capabilities of the manifest nothing is missing; without any one of them something is.
fn each_is_needed(pod: &mut Pod, count: usize) -> Result<()> {
    let (code, said) = checked(pod)?;
    assert_eq!(code, Some(0), "{said}");
    let added = pod.list(ADDED)?;
    assert_eq!(added.len(), count);
    for capability in added {
        let (code, said) = checked(&pod.without(ADDED, &capability)?)?;
        let name = capability.as_str().context("no name")?;
        assert_eq!(code, Some(3), "without {name}:\n{said}");
        let told = said.lines().any(|line| line.starts_with("no ") && line.contains(name));
        assert!(told, "without {name}:\n{said}");
    }
    Ok(())
}

/// The pod of every node, with a bpffs' directory, the kubelet's logs, and looking at a port of the test's own: the services of
/// all namespaces are in scope, those of tests that run at the same time too.
struct Node {
    pod: Pod,
    port: u16,
    logs: TempDir,
    _bpffs: Bpffs,
}

impl Node {
    fn new(port: u16) -> Result<Self> {
        let mut pod = Pod::of("daemonset/daemonset.yaml")?;
        let bpffs = Bpffs::new()?;
        pod.instead.insert("/sys/fs/bpf".to_owned(), bpffs.path().to_owned());
        let logs = tempfile::tempdir()?;
        pod.instead.insert("/var/log/pods".to_owned(), logs.path().to_owned());
        Ok(Self { pod, port, logs, _bpffs: bpffs })
    }

    fn start<'a>(&self, here: &'a Namespace) -> Result<Container<'a>> {
        let bundle = Bundle::new()?;
        let config = self.configuration(&bundle, here)?;
        bundle.start(&config, here, Some(TOKEN))
    }

    fn configuration(&self, bundle: &Bundle, here: &Namespace) -> Result<Value> {
        let mut config = self.pod.configuration(bundle, here)?;
        let environment = config["process"]["env"].as_array_mut().context("no environment")?;
        environment.push(json!(format!("SOCKMETER_SERVICE=scheduler={}", self.port)));
        Ok(config)
    }
}

#[test]
fn the_daemon_of_every_node_counts_other_pods_and_goes_on_when_it_is_replaced() -> Result<()> {
    let port = 18_474;
    let (node, pod) = (Namespace::new()?, Namespace::new()?);
    let _server = sockmeter_tests::client::chunked_server(&pod, port)?;
    let mut daemon = Node::new(port)?;
    let agent = daemon.start(&node)?;
    is_probed(&agent, &mut daemon.pod)?;
    let mut clients = Tally::default();
    let mut more = || -> Result<Tally> {
        for count in play(&pod, "127.0.0.1", port, &[vec![Step { repeat: 5, body: 512, ..step("POST", "/jobs") }]])? {
            count.tally(&mut clients, "/jobs");
        }
        Ok(clients.clone())
    };
    let exchanged = |agent: &Container<'_>, clients: &Tally| -> Result<()> {
        let page = agent.scrape_until("all exchanges", |page| {
            Tally::of_page(page, "scheduler").exchanges() == clients.exchanges()
                && page.sum("sockmeter_service_open_bytes", &[]) == 0.0
        })?;
        assert_eq!(Tally::of_page(&page, "scheduler").differences(clients), Vec::<String>::new());
        Ok(())
    };
    exchanged(&agent, &more()?)?;
    assert_eq!(agent.stop()?, Some(0));
    // Nobody is there, and the node's kernel goes on.
    let clients = more()?;
    exchanged(&daemon.start(&node)?, &clients)
}

#[test]
fn the_daemon_of_every_node_has_no_capability_that_it_does_not_need() -> Result<()> {
    // A namespace that is not the agent's own, so that entering it is of use.
    let _other = Namespace::new()?;
    each_is_needed(&mut Node::new(18_475)?.pod, 3)
}

/// It may mount a bpffs of its own then, which nobody else sees: what is pinned there ends with it.
#[test]
fn the_daemon_of_every_node_goes_on_by_the_nodes_bpffs() -> Result<()> {
    let port = 18_476;
    let here = Namespace::new()?;
    let _server = sockmeter_tests::client::chunked_server(&here, port)?;
    let mut daemon = Node::new(port)?;
    let mounts = daemon.pod.list(MOUNTS)?;
    let bpffs = mounts.iter().find(|mount| mount["name"] == "bpffs").context("no mount of the bpffs")?;
    daemon.pod = daemon.pod.without(MOUNTS, bpffs)?;
    for _ in 0..2 {
        let agent = daemon.start(&here)?;
        let page = agent.scrape_until("a page", |_| true)?;
        assert_eq!(page.get("scheduler_http_requests_total"), Some(0.0));
        play(&here, "127.0.0.1", port, &[vec![step("GET", "/jobs")]])?;
        agent.scrape_until("the request", |page| page.get("scheduler_http_requests_total") == Some(1.0))?;
        assert_eq!(agent.stop()?, Some(0));
    }
    Ok(())
}

/// What a process in the cgroup of another pod carries, under the names by which the kubelet keeps that pod's logs.
#[test]
fn the_daemon_of_every_node_calls_pods_by_their_names() -> Result<()> {
    let here = Namespace::new()?;
    let daemon = Node::new(18_477)?;
    let uid = "8dbc6c2e-5a1f-4a53-9d8e-3f2b1c0d9e8f";
    fs::create_dir(daemon.logs.path().join(format!("batch_report-x7k2p_{uid}")))?;
    let agent = daemon.start(&here)?;
    let cgroup = Cgroup::unified("named")?;
    let slice = format!("kubepods.slice/kubepods-pod{}.slice", uid.replace('-', "_"));
    let job = Job {
        cgroups: vec![cgroup.path().join(slice)],
        process: "reporter".to_owned(),
        environment: Vec::new(),
        user: None,
        size: 700,
        rounds: 2,
        pause: Duration::ZERO,
    };
    let carried = run(&here, PROGRAM, &[job], 1)?.into_iter().next().context("no job ran")?;
    let pods = [("namespace", "batch"), ("pod", "report-x7k2p")];
    let booked = |page: &Page| {
        ["transmit", "receive"].map(|way| whole(page.sum(&format!("sockmeter_container_{way}_bytes_total"), &pods)))
    };
    let page = agent.scrape_until("the pod's bytes", |page| booked(page) != [0, 0])?;
    assert_eq!(booked(&page), [carried.sent, carried.received]);
    assert_eq!(agent.stop()?, Some(0));
    Ok(())
}
