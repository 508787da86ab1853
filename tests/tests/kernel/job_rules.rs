//! Jobs in cgroups whose names say nothing: what their processes' environments and command lines tell, against what they
//! and their peers counted. Jobs that cgroups tell are in `jobs`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, pin_dir};
use sockmeter_tests::cgroup::Cgroup;
use sockmeter_tests::jobs::{Carried, Job, run};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::ordinary;

use crate::jobs::{PROGRAM, balanced_page, ended, found};

const WHY: &str = "other users' environments are for those who may read everything";
const RULES: &str = "[jobs]\nrules = [{ environment = \"TEST_JOB\" }, \
                     { environment = \"TEST_TASK\", pattern = '^render-(?P<job>.+)$' }, \
                     { command_line = '--job[= ](?P<job>\\S+)' }]\n";

/// A job in a cgroup of its own, that lives for some ticks of the agent.
fn job(cgroup: &Cgroup, name: &str, size: usize) -> Job {
    Job {
        cgroups: vec![cgroup.path().join(name)],
        process: name.to_owned(),
        environment: Vec::new(),
        user: None,
        size,
        rounds: 25,
        pause: Duration::from_millis(200),
    }
}

fn with(job: Job, variables: &[(&str, &[u8])]) -> Job {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from_vec(value.to_vec())));
    Job { environment: variables.collect(), ..job }
}

/// Jobs, and whose their bytes are; `None`: no job's.
fn planned(unified: &Cgroup, legacy: Option<&Cgroup>) -> Vec<(Job, Option<String>)> {
    let mut hostile = b"\"\n\\\xff".to_vec();
    hostile.extend([b'x'; 4_096]);
    // As the page has it.
    let label = format!("\\\"\\n\\\\\u{fffd}{}", "x".repeat(128 - 6));
    let mut jobs = vec![
        (with(job(unified, "one", 200), &[("TEST_JOB", b"a")]), Some("a")),
        (with(job(unified, "two", 402), &[("TEST_JOB", b"b"), ("TEST_TASK", b"render-no")]), Some("b")),
        (with(job(unified, "three", 604), &[("TEST_TASK", b"render-9")]), Some("9")),
        (with(job(unified, "four", 806), &[("TEST_TASK", b"encode-9"), ("TEST_JOB", b"")]), None),
        (job(unified, "--job=e", 1_008), Some("e")),
        (with(job(unified, "--job=no", 1_210), &[("TEST_JOB", b"f")]), Some("f")),
        // A scheduler's own: the built-in rule is the last.
        (with(job(unified, "ffrtmp/7", 1_412), &[("TEST_JOB", b"g")]), Some("g")),
        (job(unified, "ffrtmp/8", 1_614), Some("8")),
        (with(job(unified, "nine", 1_816), &[("TEST_JOB", &hostile)]), Some(label.as_str())),
        (Job { user: Some(ordinary::USER), ..with(job(unified, "ten", 2_018), &[("TEST_JOB", b"h")]) }, Some("h")),
        // Two that are one job.
        (with(job(unified, "eleven", 2_220), &[("TEST_JOB", b"a")]), Some("a")),
    ];
    if let Some(legacy) = legacy {
        jobs.push((with(job(legacy, "twelve", 2_422), &[("TEST_JOB", b"i")]), Some("i")));
        let mut both = with(job(unified, "thirteen", 2_624), &[("TEST_JOB", b"j")]);
        both.cgroups.push(legacy.path().join("thirteen"));
        jobs.push((both, Some("j")));
    }
    jobs.into_iter().map(|(job, id)| (job, id.map(str::to_owned))).collect()
}

/// By job.
fn sums(planned: &[(Job, Option<String>)], carried: &[Carried]) -> BTreeMap<String, [u64; 2]> {
    let mut jobs: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for ((_, id), carried) in planned.iter().zip(carried) {
        if let Some(id) = id {
            let sum = jobs.entry(id.clone()).or_default();
            sum[0] += carried.received;
            sum[1] += carried.sent;
        }
    }
    jobs
}

/// Nobody scrapes while they live. When they are dead the agent is killed too: what they told is known to the next one.
#[test]
fn jobs_that_their_processes_tell_have_their_bytes_also_when_the_agent_is_another() -> Result<()> {
    let namespace = Namespace::new()?;
    let unified = Cgroup::unified("rules")?;
    let legacy = Cgroup::of_controller("pids", "rules")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sockmeter.toml");
    std::fs::write(&file, RULES)?;
    let file = file.to_str().context("no name")?;
    let pins = pin_dir();
    let mut agent = Agent::start_pinned_as_root(&namespace, &["--config", file], pins.clone(), WHY)?;
    let planned = planned(&unified, legacy.as_ref());
    let jobs: Vec<Job> = planned.iter().map(|(job, _)| job.clone()).collect();
    let carried = run(&namespace, PROGRAM, &jobs, jobs.len())?;
    let wanted = sums(&planned, &carried);
    let page = ended(&agent, jobs.len())?;
    assert_eq!(found(&page, "job", "job"), wanted);
    balanced_page(&page);
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    std::mem::forget(agent);
    let agent = Agent::start_pinned_as_root(&namespace, &["--config", file], pins, WHY)?;
    let page = agent.scrape()?;
    assert_eq!(found(&page, "job", "job"), wanted);
    balanced_page(&page);
    Ok(())
}

/// Without such rules the same jobs are nobody's.
#[test]
fn without_rules_no_process_is_asked() -> Result<()> {
    let namespace = Namespace::new()?;
    let unified = Cgroup::unified("unruly")?;
    let agent = Agent::start(&namespace, &[])?;
    let jobs = [with(job(&unified, "one", 200), &[("TEST_JOB", b"a")]), job(&unified, "--job=e", 300)];
    run(&namespace, PROGRAM, &jobs, jobs.len())?;
    let page = ended(&agent, jobs.len())?;
    assert_eq!(found(&page, "job", "job"), BTreeMap::new());
    balanced_page(&page);
    Ok(())
}
