//! Pods whose names and jobs are told by a list: the kubelet's or the API server's, which may come late, or not at all. At
//! every scrape all bytes are somebody's, and no counter goes down. Pods that are known by the kubelet's logs are in `pods`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, pin_dir};
use sockmeter_tests::cgroup::Cgroup;
use sockmeter_tests::cluster::{Cluster, Maker};
use sockmeter_tests::jobs::{Job, run};
use sockmeter_tests::lists::Mood;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::wait;

use crate::jobs::PROGRAM;
use crate::owners::{Script, job};
use crate::watch::Watch;

const KUBELET: &str = "127.0.0.1:10255";
/// A service of nobody's, so that the list's port is none of a service.
const FLAGS: [&str; 2] = ["--kubernetes-pods", "http://127.0.0.1:10255"];
/// Bytes that a pod sends for each one that it receives.
const SENT: usize = 1_000;

/// The uid of a pod.
pub(crate) fn uid(number: u32) -> String {
    format!("8dbc6c2e-5a1f-4a53-9d8e-{number:012}")
}

/// A process in the cgroup of a pod, which sends when it is told to.
pub(crate) struct Pod {
    script: Script,
    peer: TcpStream,
    home: PathBuf,
    rounds: u32,
}

impl Pod {
    pub(crate) fn start(namespace: &Namespace, cgroup: &Cgroup, number: u32) -> Result<Self> {
        Self::below(namespace, cgroup, &slice(number))
    }

    fn below(namespace: &Namespace, cgroup: &Cgroup, home: &str) -> Result<Self> {
        let home = cgroup.make(home)?;
        let listener = namespace.enter(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
        let code = format!(
            "enter(); s = socket.create_connection(('127.0.0.1', {}))\nwhile s.recv(1): s.sendall(b'x' * {SENT})",
            listener.local_addr()?.port()
        );
        let script = Script::start(namespace, &home, &code)?;
        Ok(Self { script, peer: listener.accept()?.0, home, rounds: 0 })
    }

    pub(crate) fn send(&mut self) -> Result<()> {
        self.peer.write_all(b"!")?;
        self.peer.read_exact(&mut [0; SENT])?;
        self.rounds += 1;
        Ok(())
    }

    /// `[received, sent]` as it knows it.
    pub(crate) fn carried(&self) -> [f64; 2] {
        [1, SENT].map(|bytes| f64::from(u32::try_from(bytes).unwrap_or(0) * self.rounds))
    }

    pub(crate) fn end(self) -> Result<()> {
        drop(self.peer);
        self.script.end()?;
        Ok(std::fs::remove_dir(self.home)?)
    }
}

fn slice(number: u32) -> String {
    format!("kubepods.slice/kubepods-pod{}.slice", uid(number).replace('-', "_"))
}

/// `[received, sent]` of a pod, by its name and namespace.
pub(crate) fn pod(page: &Page, namespace: &str, pod: &str) -> [f64; 2] {
    let labels = [("namespace", namespace), ("pod", pod)];
    ["receive", "transmit"].map(|way| page.sum(&format!("sockmeter_container_{way}_bytes_total"), &labels))
}

#[test]
fn a_pod_is_the_jobs_that_made_it_and_a_deployments_is_no_jobs() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("listed")?;
    let cluster = Cluster::start(&namespace, KUBELET)?;
    cluster.add(&uid(1), "encode-x2x9z", Maker::Job("encode"));
    cluster.add(&uid(2), "backup-29921400-x2x9z", Maker::Job("backup-29921400"));
    cluster.add(&uid(3), "web-7d9f8b6c5-x2x9z", Maker::ReplicaSet);
    cluster.add(&uid(4), "shell", Maker::Nobody);
    let (agent, watch) = (Agent::start(&namespace, &FLAGS)?, Watch::default());
    let mut pods = Vec::new();
    for number in 1..=5 {
        // Comes on the list just before it runs, as all do.
        if number == 5 {
            watch.until(&agent, "the bytes of the others", |page| job(page, "batch/encode")[1] > 0.0)?;
            cluster.add(&uid(5), "late-bcdfg", Maker::Job("late"));
        }
        let mut pod = Pod::start(&namespace, &cgroup, number)?;
        pod.send()?;
        pods.push(pod);
    }
    let named = ["encode-x2x9z", "backup-29921400-x2x9z", "web-7d9f8b6c5-x2x9z", "shell", "late-bcdfg"];
    let wanted: Vec<[f64; 2]> = pods.iter().map(Pod::carried).collect();
    let page =
        watch.until(&agent, "all pods by their names", |page| named.map(|name| pod(page, "batch", name)) == *wanted)?;
    let jobs: BTreeMap<String, f64> = page
        .family("sockmeter_job_transmit_bytes_total")
        .map(|(mut labels, sent)| (labels.remove("job").unwrap_or_default(), sent))
        .filter(|(job, _)| job != "other")
        .collect();
    let one = |job: &str| (job.to_owned(), 1_000.0);
    assert_eq!(jobs, [one("batch/encode"), one("batch/backup-29921400"), one("batch/late")].into());
    // The kubelet's list has no pages, and nobody was asked for anything else.
    assert!(cluster.asked().iter().all(|asked| asked == "GET /pods"), "{:?}", cluster.asked());
    for mut pod in pods {
        pod.send()?;
        pod.end()?;
    }
    watch.until(&agent, "the rest", |page| job(page, "batch/encode") == [2.0, 2_000.0])?;
    Ok(())
}

#[test]
fn the_api_server_is_asked_for_this_nodes_pods_page_by_page() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("paged")?;
    let cluster = Cluster::start(&namespace, KUBELET)?;
    cluster.set_page(2);
    for number in 1..=5 {
        cluster.add(&uid(number), &format!("pod-{number}"), Maker::Job(&format!("job-{number}")));
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "kubernetes_node = \"worker-1.example\"\n")?;
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644))?;
    let file = file.path().to_str().context("not UTF-8")?;
    let agent = Agent::start(&namespace, &[FLAGS[0], FLAGS[1], "--config", file])?;
    let mut last = Pod::start(&namespace, &cgroup, 5)?;
    last.send()?;
    let watch = Watch::default();
    watch.until(&agent, "the job of the last page", |page| job(page, "batch/job-5") == last.carried())?;
    let first = "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dworker-1.example&limit=500";
    let asked = cluster.asked();
    let page = |from: usize| format!("{first}&continue=a%2Bb%2Fc%3D%26d+{from}");
    assert_eq!(asked.get(..3), Some(&[first.to_owned(), page(2), page(4)][..]));
    last.end()
}

/// Nobody tells whose the bytes are when they are sent and scraped. Meanwhile they are on no page, and then the job's.
#[test]
fn a_list_that_comes_late_tells_all_the_same() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("late")?;
    let cluster = Cluster::start(&namespace, KUBELET)?;
    let (agent, watch) = (Agent::start(&namespace, &FLAGS)?, Watch::default());
    let mut other = Pod::start(&namespace, &cgroup, 9)?;
    other.send()?;
    watch.until(&agent, "one on no list", |page| pod(page, "", &uid(9)) == other.carried())?;
    for (number, mood) in [(1, Mood::Fails), (2, Mood::BreaksOff), (3, Mood::Closes)] {
        cluster.set(if mood == Mood::Closes { Mood::Fails } else { mood });
        let name = format!("encode-{number}");
        let mut late = Pod::start(&namespace, &cgroup, number)?;
        for _ in 0..3 {
            late.send()?;
            other.send()?;
            let page = watch.scrape(&agent)?;
            assert_eq!(job(&page, &format!("batch/{name}")), [0.0; 2]);
            assert_eq!((pod(&page, "", &uid(number)), pod(&page, "", &uid(9))), ([0.0; 2], other.carried()));
        }
        let failed =
            |log: &str| log.matches("there is no list of pods").count() == usize::try_from(number).unwrap_or(0);
        wait::until("a list to be asked for", || Ok(failed(&agent.log()?).then_some(())))?;
        cluster.add(&uid(number), &format!("{name}-x2x9z"), Maker::Job(&name));
        cluster.set(if mood == Mood::Closes { Mood::Closes } else { Mood::Good });
        watch.until(&agent, "the job's bytes", |page| job(page, &format!("batch/{name}")) == late.carried())?;
        late.send()?;
        let page = watch.scrape(&agent)?;
        assert_eq!(job(&page, &format!("batch/{name}")), late.carried());
        assert_eq!(pod(&page, "batch", &format!("{name}-x2x9z")), late.carried());
        late.end()?;
    }
    let log = agent.log()?;
    let counts =
        ["there is no list of pods", "the list of pods can be had again"].map(|said| log.matches(said).count());
    assert_eq!(counts, [3, 3], "{log}");
    other.end()
}

/// It has long ended when the list comes that has its pod.
#[test]
fn a_job_of_200_ms_is_counted_whole() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("short")?;
    let cluster = Cluster::start(&namespace, KUBELET)?;
    let (agent, watch) = (Agent::start(&namespace, &FLAGS)?, Watch::default());
    for (number, is_late) in [(1, false), (2, true)] {
        let name = format!("short-{number}");
        let add = || cluster.add(&uid(number), &format!("{name}-x2x9z"), Maker::Job(&name));
        if is_late {
            cluster.set(Mood::Fails);
        } else {
            add();
        }
        let short = Job {
            cgroups: vec![cgroup.path().join(slice(number))],
            process: name.clone(),
            environment: Vec::new(),
            user: None,
            size: 700,
            rounds: 5,
            pause: Duration::from_millis(40),
        };
        let carried = run(&namespace, PROGRAM, &[short], 1)?.into_iter().next().context("no job ran")?;
        if is_late {
            // Its places are known by then, and so is that nobody knows whose they are.
            wait::until("a list to be asked for", || {
                Ok(agent.log()?.contains("there is no list of pods").then_some(()))
            })?;
            watch.scrape(&agent)?;
            add();
            cluster.set(Mood::Good);
        }
        let wanted = [carried.received, carried.sent].map(|bytes| f64::from(u32::try_from(bytes).unwrap_or(0)));
        let page = watch.until(&agent, "the job's bytes", |page| job(page, &format!("batch/{name}")) != [0.0; 2])?;
        assert_eq!(job(&page, &format!("batch/{name}")), wanted);
        assert_eq!(pod(&page, "batch", &format!("{name}-x2x9z")), wanted);
    }
    Ok(())
}

#[test]
fn what_a_list_told_holds_for_the_next_agent_without_one() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("kept")?;
    let cluster = Cluster::start(&namespace, KUBELET)?;
    for (number, maker) in [(1, Maker::Job("encode")), (2, Maker::ReplicaSet)] {
        cluster.add(&uid(number), &format!("pod-{number}"), maker);
    }
    let pins = pin_dir();
    let mut agent = Agent::start_pinned(&namespace, &FLAGS, pins.clone())?;
    let watch = Watch::default();
    let mut pods =
        [1, 2, 3].map(|number| Pod::start(&namespace, &cgroup, number)).into_iter().collect::<Result<Vec<_>>>()?;
    for pod in &mut pods {
        pod.send()?;
    }
    let agrees = |pods: &[Pod], page: &Page| {
        let [one, two, three] = pods else { return false };
        job(page, "batch/encode") == one.carried()
            && pod(page, "batch", "pod-1") == one.carried()
            && pod(page, "batch", "pod-2") == two.carried()
            // On no list.
            && pod(page, "", &uid(3)) == three.carried()
    };
    watch.until(&agent, "all three", |page| agrees(&pods, page))?;
    cluster.set(Mood::Fails);
    for _ in 0..2 {
        agent.process().signal(Signal::SIGKILL)?;
        agent.process().wait()?;
        std::mem::forget(agent);
        for pod in &mut pods {
            pod.send()?;
        }
        agent = Agent::start_pinned(&namespace, &FLAGS, pins.clone())?;
        let page = watch.scrape(&agent)?;
        assert!(agrees(&pods, &page), "{}", page.text());
    }
    pods.into_iter().try_for_each(Pod::end)
}

/// Bytes that were waiting when the agent was killed, and such as came while it was away.
#[test]
fn what_waits_when_the_agent_is_killed_is_its_jobs() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("killed")?;
    let cluster = Cluster::start(&namespace, KUBELET)?;
    let (pins, watch) = (pin_dir(), Watch::default());
    let mut agent = Agent::start_pinned(&namespace, &FLAGS, pins.clone())?;
    cluster.set(Mood::Fails);
    let mut early = Pod::start(&namespace, &cgroup, 1)?;
    early.send()?;
    let page = watch.scrape(&agent)?;
    assert_eq!(pod(&page, "", &uid(1)), [0.0; 2]);
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    std::mem::forget(agent);
    let mut away = Pod::start(&namespace, &cgroup, 2)?;
    for pod in [&mut early, &mut away] {
        pod.send()?;
    }
    cluster.add(&uid(1), "early-x2x9z", Maker::Job("early"));
    cluster.add(&uid(2), "away-x2x9z", Maker::Job("away"));
    cluster.set(Mood::Good);
    let agent = Agent::start_pinned(&namespace, &FLAGS, pins)?;
    let page = watch.scrape(&agent)?;
    assert_eq!([job(&page, "batch/early"), job(&page, "batch/away")], [early.carried(), away.carried()]);
    early.end()?;
    away.end()
}

/// The old one is good no longer when the new one is in the file.
#[test]
fn a_token_that_is_replaced_is_read_at_the_next_poll() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("token")?;
    let cluster = Cluster::start(&namespace, KUBELET)?;
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let file = folder.path().join("token");
    let replace = |token: &str| -> Result<()> {
        std::fs::write(folder.path().join("new"), token)?;
        Ok(std::fs::rename(folder.path().join("new"), &file)?)
    };
    replace("first\n")?;
    cluster.want("first");
    let name = file.to_str().context("not UTF-8")?;
    let agent = Agent::start(&namespace, &[FLAGS[0], FLAGS[1], "--kubernetes-token-file", name])?;
    let watch = Watch::default();
    for (number, token) in [(1, "first"), (2, "second"), (3, "third")] {
        let job_name = format!("batch/{token}");
        cluster.add(&uid(number), &format!("{token}-x2x9z"), Maker::Job(token));
        replace(token)?;
        cluster.want(token);
        let mut pod = Pod::start(&namespace, &cgroup, number)?;
        pod.send()?;
        watch.until(&agent, "the job's bytes", |page| job(page, &job_name) == pod.carried())?;
        pod.end()?;
    }
    assert_eq!(cluster.refused(), 0);
    Ok(())
}

#[test]
fn while_the_api_hangs_everything_else_goes_on() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("hangs")?;
    let cluster = Cluster::start(&namespace, KUBELET)?;
    cluster.set(Mood::Hangs);
    let (agent, watch) = (Agent::start(&namespace, &FLAGS)?, Watch::default());
    let mut unknown = Pod::start(&namespace, &cgroup, 1)?;
    let mut known = Pod::below(&namespace, &cgroup, "ffrtmp/7")?;
    unknown.send()?;
    for _ in 0..3 {
        known.send()?;
        let page = watch.scrape(&agent)?;
        assert_eq!((job(&page, "7"), pod(&page, "", &uid(1))), (known.carried(), [0.0; 2]));
    }
    let page = watch.until(&agent, "the time to be over", |page| pod(page, "", &uid(1)) != [0.0; 2])?;
    assert_eq!(pod(&page, "", &uid(1)), unknown.carried());
    let sent = |page: &Page| page.sum("sockmeter_job_transmit_bytes_total", &[]);
    assert_eq!(sent(&page), 3_000.0);
    // What comes now is no job's at once, whatever is on the list later.
    cluster.add(&uid(1), "late-x2x9z", Maker::Job("late"));
    cluster.set(Mood::Good);
    unknown.send()?;
    let page = watch.scrape(&agent)?;
    assert_eq!(pod(&page, "", &uid(1)), unknown.carried());
    assert_eq!(sent(&page), 3_000.0);
    unknown.end()?;
    known.end()
}
