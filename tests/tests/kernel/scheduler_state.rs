//! The scheduler's state as the page shows it, against the test scheduler's own: at every step of its jobs' lives, over a
//! restart of the agent, while the API fails; and the agent's own requests, which are nobody's.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sockmeter_tests::agent::{Agent, pin_dir};
use sockmeter_tests::client::{Step, play};
use sockmeter_tests::lists::Mood;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::ordinary;
use sockmeter_tests::page::Page;
use sockmeter_tests::scheduler::{Scheduler, moment};

const API: [&str; 2] = ["--scheduler-api", "http://127.0.0.1:8080"];
const UP: &str = "sockmeter_scheduler_up";

/// Every series of the scheduler's state on the page but the histograms and the means.
fn state(page: &Page) -> BTreeMap<String, f64> {
    let families = "ffrtmp_jobs_total ffrtmp_active_jobs ffrtmp_queue_length ffrtmp_nodes_total ffrtmp_nodes_by_status \
                    ffrtmp_queue_by_priority ffrtmp_queue_by_type ffrtmp_jobs_by_engine";
    lines(page, |name| families.split_whitespace().any(|family| family == name))
}

/// Counts and sums of the histograms.
fn durations(page: &Page) -> BTreeMap<String, f64> {
    lines(page, |name| {
        name.strip_prefix("ffrtmp_job_").is_some_and(|rest| rest.ends_with("_seconds_count") || rest.ends_with("_sum"))
    })
}

fn lines(page: &Page, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, f64> {
    let samples = page.text().lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| line.rsplit_once(' '));
    let of_it = samples.filter(|(series, _)| wanted(series.split('{').next().unwrap_or_default()));
    of_it.map(|(series, value)| (series.to_owned(), value.parse().unwrap_or(f64::NAN))).collect()
}

/// Waits for the page to say what the scheduler knows of itself.
fn agrees(agent: &Agent<'_>, scheduler: &Scheduler, step: &str) -> Result<Page> {
    let mut last = None;
    let page = agent.scrape_until(step, |page| {
        let found = (state(page), durations(page));
        let same = found == (scheduler.state(), scheduler.durations());
        last = Some(found);
        same
    });
    page.with_context(|| format!("wanted {:#?}\n{:#?}\nfound {last:#?}", scheduler.state(), scheduler.durations()))
}

fn set(job: &mut Value, fields: Value) {
    if let (Some(job), Value::Object(fields)) = (job.as_object_mut(), fields) {
        job.extend(fields);
    }
}

#[test]
fn the_page_equals_the_schedulers_own_state_at_every_step() -> Result<()> {
    let namespace = Namespace::new()?;
    let scheduler = Scheduler::start(&namespace, "127.0.0.1:8080")?;
    let agent = Agent::start(&namespace, &API)?;
    agrees(&agent, &scheduler, "nothing, both lists null")?;
    scheduler.set_nodes(&[json!("available"), json!("busy"), json!("busy"), json!("offline")]);
    scheduler.submit("a", "live", "high", "ffmpeg", 10);
    scheduler.submit("b", "default", "medium", "gstreamer", 20);
    scheduler.submit("c", "batch", "low", "auto", 30);
    agrees(&agent, &scheduler, "submitted")?;
    for (id, status, halves) in [("a", "running", 25), ("b", "assigned", 50)] {
        scheduler.change(id, |job| {
            set(&mut job.json, json!({"status": status, "started_at": moment(halves)}));
            job.waited = Some(if id == "a" { 5 } else { 10 });
        });
    }
    scheduler.set_nodes(&[json!("available"), json!("busy")]);
    let page = agrees(&agent, &scheduler, "running, and nodes that vanished")?;
    assert_eq!(page.get("ffrtmp_job_wait_time_seconds"), Some(3.75));
    assert_eq!(page.get("ffrtmp_job_duration_seconds"), None);
    scheduler.change("a", |job| {
        set(&mut job.json, json!({"status": "failed", "completed_at": moment(125), "error": "exit status 1"}));
        job.ran = Some(100);
    });
    agrees(&agent, &scheduler, "failed")?;
    // A retry keeps the id, and loses the times.
    scheduler.change("a", |job| {
        set(&mut job.json, json!({"status": "pending", "started_at": null, "completed_at": null, "retry_count": 1}));
    });
    scheduler.change("c", |job| set(&mut job.json, json!({"status": "canceled", "completed_at": moment(70)})));
    agrees(&agent, &scheduler, "a retry, and one canceled that never ran")?;
    scheduler.change("a", |job| {
        set(&mut job.json, json!({"status": "completed", "started_at": moment(200), "completed_at": moment(220)}));
    });
    scheduler.change("b", |job| {
        set(&mut job.json, json!({"status": "completed", "completed_at": moment(51)}));
        job.ran = Some(1);
    });
    let page = agrees(&agent, &scheduler, "completed, the second run not observed again")?;
    assert_eq!(page.get("ffrtmp_job_duration_seconds"), Some(5.25));
    let bucket =
        |le: &str| page.get(&format!("ffrtmp_job_run_seconds_bucket{{queue=\"live\",engine=\"ffmpeg\",le=\"{le}\"}}"));
    assert_eq!((bucket("30"), bucket("60"), bucket("+Inf")), (Some(0.0), Some(1.0), Some(1.0)));
    Ok(())
}

#[test]
fn a_job_is_observed_once_over_kills_and_restarts() -> Result<()> {
    let namespace = Namespace::new()?;
    let (pins, files) = (pin_dir(), tempfile::tempdir()?);
    let dir = files.path().join("state");
    if ordinary::wanted() {
        ordinary::directory(&dir)?;
    }
    let dir = dir.to_str().context("not UTF-8")?;
    let arguments = [API[0], API[1], "--state-dir", dir];
    let scheduler = Scheduler::start(&namespace, "127.0.0.1:8080")?;
    let finish = |id: &str| {
        scheduler.submit(id, "live", "high", "ffmpeg", 10);
        scheduler.change(id, |job| {
            let times = json!({"status": "completed", "started_at": moment(24), "completed_at": moment(40)});
            set(&mut job.json, times);
            (job.waited, job.ran) = (Some(4), Some(16));
        });
    };
    for number in 0..200 {
        finish(&number.to_string());
    }
    let mut agent = Agent::start_pinned(&namespace, &arguments, pins.clone())?;
    agrees(&agent, &scheduler, "200 jobs")?;
    let mode = std::fs::metadata(format!("{dir}/jobs"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for round in 0..2 {
        agent.process().signal(Signal::SIGKILL)?;
        agent.process().wait()?;
        std::mem::forget(agent);
        // Those gone are nowhere but in what was kept; those on the list are there once more.
        scheduler.forget(50);
        finish(&format!("later {round}"));
        agent = Agent::start_pinned(&namespace, &arguments, pins.clone())?;
        agrees(&agent, &scheduler, "the same jobs and one more")?;
    }
    Ok(())
}

#[test]
fn while_the_api_gives_no_lists_nothing_is_made_up() -> Result<()> {
    let namespace = Namespace::new()?;
    let scheduler = Scheduler::start(&namespace, "127.0.0.1:8080")?;
    scheduler.submit("a", "live", "high", "ffmpeg", 10);
    let agent = Agent::start(&namespace, &API)?;
    for mood in [Mood::Hangs, Mood::Fails, Mood::BreaksOff] {
        agrees(&agent, &scheduler, "a good list")?;
        scheduler.set(mood);
        let page = agent.scrape_until("no lists", |page| page.get(UP) == Some(0.0))?;
        assert_eq!(state(&page), BTreeMap::new(), "{mood:?}");
        scheduler.set(Mood::Good);
    }
    agrees(&agent, &scheduler, "a good list again")?;
    Ok(())
}

/// The scheduler gets another key, then the file does: nobody tells the agent.
#[test]
fn a_token_that_was_replaced_is_read_again() -> Result<()> {
    let namespace = Namespace::new()?;
    let scheduler = Scheduler::start(&namespace, "127.0.0.1:8080")?;
    scheduler.submit("a", "live", "high", "ffmpeg", 10);
    scheduler.want("first");
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n")?;
    let name = file.to_str().context("not UTF-8")?;
    let agent = Agent::start(&namespace, &[API[0], API[1], "--scheduler-token-file", name])?;
    agrees(&agent, &scheduler, "the first token")?;
    std::fs::remove_file(&file)?;
    scheduler.submit("b", "live", "high", "ffmpeg", 10);
    agrees(&agent, &scheduler, "the first token, which is in no file any more")?;
    scheduler.want("second");
    let page = agent.scrape_until("no lists", |page| page.get(UP) == Some(0.0))?;
    assert_eq!(state(&page), BTreeMap::new());
    std::fs::write(&file, "second\n")?;
    agrees(&agent, &scheduler, "the second token")?;
    scheduler.submit("c", "live", "high", "ffmpeg", 10);
    agrees(&agent, &scheduler, "the second token, again")?;
    Ok(())
}

#[test]
fn the_agents_own_requests_are_nobodys() -> Result<()> {
    nobodys(Mood::Good, 1)
}

/// As through a proxy that keeps no connection.
#[test]
fn the_agents_own_requests_are_nobodys_also_one_by_one() -> Result<()> {
    nobodys(Mood::Closes, 2)
}

/// `connections`: of each poll.
fn nobodys(mood: Mood, connections: u64) -> Result<()> {
    let namespace = Namespace::new()?;
    let scheduler = Scheduler::start(&namespace, "127.0.0.1:8080")?;
    scheduler.set(mood);
    scheduler.submit("a", "live", "high", "ffmpeg", 10);
    let agent = Agent::start(&namespace, &API)?;
    agrees(&agent, &scheduler, "the first poll")?;
    let posts = Step { method: "POST", target: "/jobs".to_owned(), body: 512, repeat: 5, ..Step::default() };
    let gets = Step { method: "GET", target: "/jobs/next".to_owned(), repeat: 3, ..Step::default() };
    play(&namespace, "127.0.0.1", 8080, &[vec![posts], vec![gets]])?;
    let agents = |page: &Page, direction: &str| {
        let labels = format!("{{direction=\"{direction}\",reason=\"agent\"}}");
        page.get(&format!("scheduler_http_unattributed_bytes_total{labels}"))
    };
    let float = |bytes: u64| u32::try_from(bytes).ok().map(f64::from);
    let page = agent.scrape_until("three polls booked as the agent's", |page| {
        let [polled, _] = scheduler.carried();
        scheduler.polls() >= 3
            && polled.connections == connections * scheduler.polls()
            && agents(page, "inbound") == float(polled.inbound)
            && agents(page, "outbound") == float(polled.outbound)
            && page.sum("sockmeter_service_open_bytes", &[]) == 0.0
    })?;
    let [polled, others] = scheduler.carried();
    assert_eq!(page.get("scheduler_http_requests_total"), Some(8.0));
    assert_eq!(page.sum("scheduler_http_exchanges_total", &[]), 8.0);
    assert_eq!(
        page.sum("scheduler_http_wire_bytes_total", &[("direction", "inbound")]),
        float(others.inbound).unwrap_or(-1.0)
    );
    assert_eq!(
        page.sum("scheduler_http_wire_bytes_total", &[("direction", "outbound")]),
        float(others.outbound).unwrap_or(-1.0)
    );
    assert_eq!(
        page.sum("scheduler_http_unattributed_bytes_total", &[]),
        float(polled.inbound + polled.outbound).unwrap_or(-1.0)
    );
    for direction in ["inbound", "outbound"] {
        let labels = format!("{{service=\"scheduler\",direction=\"{direction}\"}}");
        assert_eq!(page.get(&format!("sockmeter_ledger_imbalance_bytes{labels}")), Some(0.0), "{direction}");
    }
    Ok(())
}

/// Plays requests with their answers, each on a connection of its own, at a port of an observed service.
fn converse(namespace: &Namespace, said: &[(String, String)]) -> Result<()> {
    namespace.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:8081")?;
        for (request, answer) in said {
            let mut client = TcpStream::connect("127.0.0.1:8081")?;
            let (mut server, _) = listener.accept()?;
            client.write_all(request.as_bytes())?;
            server.read_exact(&mut vec![0; request.len()])?;
            server.write_all(answer.as_bytes())?;
            drop(server);
            client.read_to_end(&mut Vec::new())?;
        }
        Ok(())
    })
}

#[test]
fn what_workers_ask_and_say_is_told_once_over_kills() -> Result<()> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let arguments = [API[0], API[1], "--service", "scheduler=8080", "--service", "workers=8081"];
    let mut agent = Agent::start_pinned(&namespace, &arguments, pins.clone())?;
    // Nothing happened yet, and that is said.
    let attempts = |page: &Page| {
        let of = |result| page.get(&format!("ffrtmp_schedule_attempts_total{{result=\"{result}\"}}"));
        ["success", "no_jobs", "error"].map(of)
    };
    assert_eq!(attempts(&agent.scrape()?), [Some(0.0); 3]);
    let answer =
        |status: &str, body: &str| format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let chunked = |body: &str| {
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let ask = "GET /jobs/next?node_id=n-1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
    let beat = |node: &str| format!("POST /nodes/{node}/heartbeat HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}");
    let said = [
        (ask.clone(), answer("200 OK", "{\"job\":null}\n")),
        (ask.clone(), chunked("{\"job\":null}\n")),
        (ask.clone(), answer("200 OK", "{\"job\":{\"id\":\"7\"}}\n")),
        (ask.clone(), chunked("{\"job\":{\"id\":\"8\"}}\n")),
        (ask.clone(), answer("200 OK", "{\"job\":{\"id\":\"9\"}}\n")),
        (ask, answer("500 Internal Server Error", "database is locked\n")),
        (beat("n-1"), answer("200 OK", "")),
        (beat("n-1"), answer("200 OK", "")),
        (beat("n\"2%0A"), answer("200 OK", "")),
        (beat("stranger"), answer("404 Not Found", "node not found\n")),
    ];
    for round in [1.0, 2.0] {
        converse(&namespace, &said)?;
        let page = agent
            .scrape_until("all exchanges", |page| page.sum("workers_http_exchanges_total", &[]) == 10.0 * round)?;
        assert_eq!(attempts(&page), [3.0, 2.0, 1.0].map(|count| Some(count * round)));
        let beats = lines(&page, |name| name == "ffrtmp_worker_heartbeats_total");
        let wanted = [("n-1", 2.0), ("n\\\"2%0A", 1.0)];
        let wanted = wanted
            .map(|(node, count)| (format!("ffrtmp_worker_heartbeats_total{{node_id=\"{node}\"}}"), count * round));
        assert_eq!(beats, wanted.into());
        agent.process().signal(Signal::SIGKILL)?;
        agent.process().wait()?;
        std::mem::forget(agent);
        agent = Agent::start_pinned(&namespace, &arguments, pins.clone())?;
    }
    Ok(())
}
