//! Bytes by job, container and process against what jobs and their peers counted: short jobs in cgroups of their own, of
//! both versions, that end between two scrapes.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, pin_dir};
use sockmeter_tests::cgroup::Cgroup;
use sockmeter_tests::jobs::{Carried, Job, run};
use sockmeter_tests::load::load;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::tally::whole;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_sockmeter-job");
/// Containers and process names that the jobs share.
const SHARED: usize = 20;

/// The cgroups of a test: version 2, and version 1 where there is one.
struct Hierarchies {
    unified: Cgroup,
    legacy: Option<Cgroup>,
}

impl Hierarchies {
    fn new(name: &str) -> Result<Self> {
        Ok(Self { unified: Cgroup::unified(name)?, legacy: Cgroup::of_controller("pids", name)? })
    }
}

/// A job, its id, and the container that it is in.
struct Planned {
    id: String,
    container: String,
    job: Job,
}

/// Jobs of a fifth of a second to two, some called `ffrtmp/<id>`, some `ffmpeg-job-<uuid>`, some in version 1.
fn plan(hierarchies: &Hierarchies, count: usize) -> Vec<Planned> {
    let one = |number: usize| {
        let (id, name) = if number.is_multiple_of(2) {
            (format!("encode-{number}"), format!("ffrtmp/encode-{number}"))
        } else {
            let uuid = format!("0b7c6c2e-5a1f-4a53-9d8e-{number:012x}");
            (uuid.clone(), format!("ffmpeg-job-{uuid}"))
        };
        let container = format!("{:064x}", number % SHARED + 1);
        let path = format!("docker-{container}.scope/{name}");
        let hierarchy = match &hierarchies.legacy {
            Some(legacy) if number.is_multiple_of(3) => legacy,
            _ => &hierarchies.unified,
        };
        let job = Job {
            cgroups: vec![hierarchy.path().join(path)],
            process: format!("worker-{}", number % SHARED),
            environment: Vec::new(),
            user: None,
            size: 200 + 2 * (number % 500),
            rounds: 2 + number % 10,
            pause: Duration::from_millis(200),
        };
        Planned { id, container, job }
    };
    (0..count).map(one).collect()
}

/// What each of a label's values carried.
fn sums<'a>(
    planned: &'a [Planned],
    carried: &[Carried],
    label: impl Fn(&'a Planned) -> &'a str,
) -> BTreeMap<String, [u64; 2]> {
    let mut sums: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for (planned, carried) in planned.iter().zip(carried) {
        let sum = sums.entry(label(planned).to_owned()).or_default();
        sum[0] += carried.received;
        sum[1] += carried.sent;
    }
    sums
}

/// `[received, sent]` by a label, of two families of the page.
pub(crate) fn found(page: &Page, family: &str, label: &str) -> BTreeMap<String, [u64; 2]> {
    let mut found: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for (column, direction) in ["receive", "transmit"].into_iter().enumerate() {
        for (labels, value) in page.family(&format!("sockmeter_{family}_{direction}_bytes_total")) {
            let name = labels.get(label).cloned().unwrap_or_default();
            found.entry(name).or_default()[column] += whole(value);
        }
    }
    found
}

/// Every byte is somebody's: those of jobs and those of none are those of all sockets.
pub(crate) fn balanced_page(page: &Page) {
    let [owned, sockets] = owned_and_all(page);
    assert_eq!(owned, sockets);
}

/// `[received, sent]` of jobs and of none, and of all sockets.
pub(crate) fn owned_and_all(page: &Page) -> [[u64; 2]; 2] {
    let all = |family: &str| {
        ["receive", "transmit"].map(|d| whole(page.sum(&format!("sockmeter_{family}_{d}_bytes_total"), &[])))
    };
    let (jobs, none, sockets) = (all("job"), all("no_job"), all("socket"));
    [[jobs[0] + none[0], jobs[1] + none[1]], sockets]
}

/// The page when the sockets of so many jobs and their peers have ended.
pub(crate) fn ended(agent: &Agent<'_>, jobs: usize) -> Result<Page> {
    let udp = whole_number(jobs * 4);
    agent.scrape_until("the end of all sockets", |page| {
        page.sum("sockmeter_sockets_closed_total", &[("protocol", "udp")]) == udp
            && page.sum("sockmeter_sockets", &[("protocol", "tcp"), ("role", "client"), ("state", "established")])
                == 1.0
    })
}

/// Waits for the end of all jobs' sockets, and compares.
fn exact(agent: &Agent<'_>, planned: &[Planned], carried: &[Carried]) -> Result<()> {
    let page = ended(agent, planned.len())?;
    assert_eq!(found(&page, "job", "job"), sums(planned, carried, |planned| &planned.id));
    let mut containers = found(&page, "container", "container");
    // The tests' own unit, where they are in one.
    containers.remove("");
    assert_eq!(containers, sums(planned, carried, |planned| &planned.container));
    let mut processes = found(&page, "socket", "process");
    processes.retain(|name, _| name.starts_with("worker-"));
    assert_eq!(processes, sums(planned, carried, |planned| &planned.job.process));
    balanced_page(&page);
    for reason in ["totals", "storage", "refused"] {
        assert_eq!(page.sum("sockmeter_lost_total", &[("reason", reason)]), 0.0, "{reason}");
    }
    Ok(())
}

fn whole_number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from)
}

/// Runs them while the agent is scraped every five seconds, and holds it to what they and their peers counted.
fn scraped(name: &str, count: usize, at_once: usize) -> Result<()> {
    let namespace = Namespace::new()?;
    let hierarchies = Hierarchies::new(name)?;
    // Every job has peers on ports of its own; maps of the usual size have room for them.
    let agent = Agent::start(&namespace, &[])?;
    let planned = plan(&hierarchies, count);
    let jobs: Vec<Job> = planned.iter().map(|planned| planned.job.clone()).collect();
    let (done, ended) = channel::<()>();
    let carried = thread::scope(|scope| -> Result<Vec<Carried>> {
        let agent = &agent;
        let scraping = scope.spawn(move || -> Result<()> {
            let mut before = BTreeMap::new();
            while ended.recv_timeout(Duration::from_secs(5)) == Err(RecvTimeoutError::Timeout) {
                let now = found(&agent.scrape()?, "job", "job");
                for (job, bytes) in &before {
                    let [received, sent]: [u64; 2] = *bytes;
                    let more = now.get(job).ok_or_else(|| anyhow!("{job} has no series any more"))?;
                    assert!(received <= more[0] && sent <= more[1], "{job} went from {bytes:?} to {more:?}");
                }
                before = now;
            }
            Ok(())
        });
        let carried = run(&namespace, PROGRAM, &jobs, at_once);
        drop(done);
        scraping.join().map_err(|_| anyhow!("the scraper panicked"))??;
        carried
    })?;
    exact(&agent, &planned, &carried)
}

#[test]
fn bytes_of_short_jobs_are_theirs() -> Result<()> {
    scraped("jobs", load(60), 20)
}

#[test]
#[ignore = "lasts a minute: cargo xtask test slow"]
fn bytes_of_a_thousand_short_jobs_are_theirs() -> Result<()> {
    scraped("thousand", load(1_000), 50)
}

/// Nobody reads anything from the first job to the last, and the agent that does is another one than the one that began.
#[test]
fn jobs_that_live_while_the_agent_is_dead_have_their_bytes() -> Result<()> {
    let namespace = Namespace::new()?;
    let hierarchies = Hierarchies::new("unseen")?;
    let pins = pin_dir();
    let mut agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    std::mem::forget(agent);
    let planned = plan(&hierarchies, load(20));
    let jobs: Vec<Job> = planned.iter().map(|planned| planned.job.clone()).collect();
    let carried = run(&namespace, PROGRAM, &jobs, 10)?;
    drop(hierarchies);
    let agent = Agent::start_pinned(&namespace, &[], pins)?;
    exact(&agent, &planned, &carried)
}

/// Few may have series, and none keeps them: all their bytes end with the others, also where slots were given back.
#[test]
fn bytes_of_jobs_that_ended_move_to_the_others() -> Result<()> {
    let namespace = Namespace::new()?;
    let hierarchies = Hierarchies::new("others")?;
    // A folder and not a file, which would be for its user alone.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sockmeter.toml");
    std::fs::write(&file, "[limits]\njobs = 3\ncontainers = 3\n[jobs]\nkeep_seconds = 0\n")?;
    let agent = Agent::start(&namespace, &["--config", &file.to_string_lossy()])?;
    let planned = plan(&hierarchies, load(20));
    let jobs: Vec<Job> = planned.iter().map(|planned| planned.job.clone()).collect();
    let carried = run(&namespace, PROGRAM, &jobs, 10)?;
    let mut all = [0, 0];
    for one in &carried {
        all[0] += one.received;
        all[1] += one.sent;
    }
    let series = |page: &Page, family: &str, label: &str| found(page, family, label).into_keys().collect::<Vec<_>>();
    let page = agent.scrape_until("the others to have everything", |page| {
        series(page, "job", "job") == ["other"]
            && series(page, "container", "container").iter().all(|name| name == "other" || name.is_empty())
            && page.get("sockmeter_map_entries{map=\"places\"}") == Some(1.0)
    })?;
    assert_eq!(found(&page, "job", "job"), [("other".to_owned(), all)].into());
    assert_eq!(found(&page, "container", "container").get("other"), Some(&all));
    balanced_page(&page);
    Ok(())
}
