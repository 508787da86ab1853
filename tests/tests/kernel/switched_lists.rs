//! Whom the agent asks for pods changes while it runs, and so does what he says. At every scrape all bytes are somebody's, and no
//! counter goes down. Lists of one and the same server are in `listed_pods`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::json;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::cgroup::Cgroup;
use sockmeter_tests::cluster::{Cluster, Maker};
use sockmeter_tests::lists::Mood;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::wait;

use crate::listed_pods::{Pod, pod, uid};
use crate::owners::job;
use crate::watch::Watch;

/// Where one list is and where the other, both without a service.
const FIRST: &str = "127.0.0.1:10255";
const SECOND: &str = "127.0.0.1:10256";

/// Writes the configuration, and waits until the agent has it if there is one.
fn configure(file: &Path, list: Option<&str>, agent: Option<&Agent<'_>>) -> Result<()> {
    let took = |agent: &Agent<'_>| anyhow::Ok(agent.log()?.matches("took the new configuration").count());
    let before = agent.map(took).transpose()?;
    std::fs::write(file, list.map_or_else(String::new, |list| format!("kubernetes_pods = \"http://{list}\"\n")))?;
    let (Some(agent), Some(before)) = (agent, before) else { return Ok(()) };
    agent.signal(Signal::SIGHUP)?;
    wait::until("the configuration", || Ok((took(agent)? > before).then_some(())))
}

#[test]
fn who_is_asked_changes_while_pods_wait_and_no_byte_is_lost_or_moved() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("switched")?;
    let [first, second] = [Cluster::start(&namespace, FIRST)?, Cluster::start(&namespace, SECOND)?];
    first.set(Mood::Hangs);
    for number in 1..=4 {
        second.add(&uid(number), &format!("pod-{number}"), Maker::Job(&format!("job-{number}")));
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644))?;
    configure(file.path(), Some(FIRST), None)?;
    let name = file.path().to_str().context("not UTF-8")?;
    let (agent, watch) = (Agent::start(&namespace, &["--config", name])?, Watch::default());
    let start = |number| Pod::start(&namespace, &cgroup, number);
    // It waits for one who hangs, and another one is asked.
    let mut one = start(1)?;
    one.send()?;
    assert_eq!(pod(&watch.scrape(&agent)?, "", &uid(1)), [0.0; 2]);
    configure(file.path(), Some(SECOND), Some(&agent))?;
    watch.until(&agent, "the second list", |page| job(page, "batch/job-1") == one.carried())?;
    // It waits, and nobody is asked any more.
    second.set(Mood::Hangs);
    let mut two = start(2)?;
    two.send()?;
    one.send()?;
    watch.scrape(&agent)?;
    configure(file.path(), None, Some(&agent))?;
    // The list is known, but not that of one who is asked.
    let mut three = start(3)?;
    three.send()?;
    let page = watch.until(&agent, "the pods by their uids", |page| pod(page, "", &uid(3)) == three.carried())?;
    assert_eq!((job(&page, "batch/job-3"), job(&page, "batch/job-1")), ([0.0; 2], one.carried()));
    // Asked again: what was decided stays, and what is new is told.
    second.set(Mood::Good);
    configure(file.path(), Some(SECOND), Some(&agent))?;
    let mut four = start(4)?;
    for pod in [&mut one, &mut two, &mut three, &mut four] {
        pod.send()?;
    }
    let page = watch.until(&agent, "the new one's job", |page| job(page, "batch/job-4") == four.carried())?;
    assert_eq!(job(&page, "batch/job-1"), one.carried());
    assert_eq!(pod(&page, "", &uid(3)), three.carried());
    for pod in [one, two, three, four] {
        pod.end()?;
    }
    Ok(())
}

/// Items that are no pods, a uid that two pods claim, and owners of a wrong type: those pods are shown by their uids, the others
/// by their names, and the log says it once.
#[test]
fn pods_that_a_list_contradicts_itself_about_are_no_jobs_and_all_others_are() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("contradicted")?;
    let cluster = Cluster::start(&namespace, FIRST)?;
    cluster.add(&uid(1), "good-x2x9z", Maker::Job("good"));
    cluster.add(&uid(2), "one-x2x9z", Maker::Job("one"));
    cluster.add(&uid(2), "two-x2x9z", Maker::Job("two"));
    let hostile = "a\"}\nsockmeter_no_job_receive_bytes_total 99\n";
    cluster.add(&uid(3), hostile, Maker::Job("three"));
    cluster.add(&uid(4), "four-x2x9z", Maker::Job(hostile));
    cluster.add(&uid(5), &"x".repeat(4_096), Maker::Job("five"));
    cluster.put(json!({"metadata": {"uid": uid(6), "name": "six-x2x9z", "namespace": "batch", "ownerReferences": 7}}));
    cluster.put(json!([[[1e300]]]));
    let (agent, watch) = (Agent::start(&namespace, &["--kubernetes-pods", &cluster.url()])?, Watch::default());
    let mut pods = (1..=6).map(|number| Pod::start(&namespace, &cgroup, number)).collect::<Result<Vec<_>>>()?;
    for _ in 0..2 {
        for pod in &mut pods {
            pod.send()?;
        }
        let page = watch.until(&agent, "all pods", |page| {
            let by_uid =
                (2..).zip(pods.iter().skip(1)).all(|(number, one)| pod(page, "", &uid(number)) == one.carried());
            by_uid && pods.first().is_some_and(|one| job(page, "batch/good") == one.carried())
        })?;
        assert_eq!(page.sum("sockmeter_job_transmit_bytes_total", &[]), job(&page, "batch/good")[1]);
    }
    let log = agent.log()?;
    assert_eq!(log.matches("on the list of pods are such as are none").count(), 1, "{log}");
    assert!(log.contains("wrong=6") || log.contains("\"wrong\":6"), "{log}");
    pods.into_iter().try_for_each(Pod::end)
}
