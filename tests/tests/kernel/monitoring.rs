//! Dashboards and rules in a real Prometheus, a real VictoriaMetrics and a real vmalert, provisioned from `deploy/`, over a
//! real load: every query has an answer, every alert fires and resolves. What the fleet manager and a distributed LLM node
//! would say is said by stand-ins.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::sys::{Stats, enable_stats};
use nix::sys::signal::Signal;
use serde_json::Value;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Request, counted, exchange, open};
use sockmeter_tests::lists::Mood;
use sockmeter_tests::load::load;
use sockmeter_tests::monitoring::answers;
use sockmeter_tests::monitoring::backend::{Backends, PROMETHEUS, Sample, VMALERT};
use sockmeter_tests::monitoring::exceptions::{Absent, read};
use sockmeter_tests::monitoring::provision::{Minute, Provision};
use sockmeter_tests::monitoring::questions::{Question, of_dashboards, of_rules};
use sockmeter_tests::monitoring::stage::{MANAGER, Stage};
use sockmeter_tests::monitoring::stand_in::Fleet;
use sockmeter_tests::monitoring::traffic::Traffic;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::run;
use sockmeter_tests::server::Server;
use sockmeter_tests::tally::whole;
use sockmeter_tests::wait;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sockmeter-job");
/// Names a folder for what the panels are answered.
const ANSWERS: &str = "SOCKMETER_ANSWERS";
/// Until everything that needs some scrapes has had them.
const BOUND: Duration = Duration::from_secs(80);

/// The exceptions that hold here, and those that do not any more.
fn exceptions(backends: &Backends<'_>) -> Result<(Vec<Absent>, Vec<String>)> {
    let (mut hold, mut over) = (Vec::new(), Vec::new());
    for absent in read()? {
        let applies = match &absent.condition {
            Some(condition) => backends.ask(condition)?.iter().all(|answer| !answer.is_empty()),
            None => true,
        };
        let found = backends.ask(&format!("count({{__name__=~\"{}.*\"}})", absent.name))?;
        if applies && found.iter().all(Vec::is_empty) {
            hold.push(absent);
        } else if applies {
            over.push(format!("{}: is there, the exception ({}) is not needed any more", absent.name, absent.reason));
        }
    }
    Ok((hold, over))
}

/// Whether both have an answer, all of it numbers.
fn is_good(answers: &[Vec<Sample>; 2]) -> bool {
    answers.iter().all(|answer| !answer.is_empty() && answer.iter().all(|sample| sample.value.is_finite()))
}

#[test]
fn every_query_of_panels_and_rules_has_an_answer() -> Result<()> {
    if load(100) < 100 {
        println!("left out: two back-ends that answer all queries are more than this machine carries");
        return Ok(());
    }
    let _stats = enable_stats(Stats::RunTime)?;
    let stage = Stage::new()?;
    let _llm_node = stage.llm_node()?;
    let agent = Agent::start_as_root(&stage.here, &["--config", &stage.configuration("")?], WHY)?;
    let _traffic = Traffic::start(&stage.here, &stage.there, &stage.scheduler, PROGRAM)?;
    let provision = Provision::new(&[agent.url().trim_start_matches("http://")], MANAGER, Minute::Whole, None)?;
    let backends = Backends::start(&stage.here, &provision, MANAGER)?;
    let rules = backends.get(PROMETHEUS, "/api/v1/rules")?;
    let mut questions = of_dashboards("10s", "1m")?;
    questions.extend(of_rules(&rules)?);
    let is_excused = |hold: &[Absent], question: &Question| {
        hold.iter().find(|absent| question.expression.contains(&absent.name)).map(|absent| absent.reason.clone())
    };
    // The agent's page must have come once, or every condition of an exception is without an answer.
    wait::until("the first scrape", || Ok(is_good(&backends.ask("sockmeter_build_info")?).then_some(())))?;
    let mut table = String::new();
    let all = wait::within(BOUND, "an answer to every question", || {
        let (hold, over) = exceptions(&backends)?;
        table.clear();
        let mut open = 0;
        for question in &questions {
            let answers = backends.ask(&question.expression)?;
            let excused = is_excused(&hold, question).filter(|_| answers.iter().all(Vec::is_empty));
            open += usize::from(!is_good(&answers) && excused.is_none());
            line(&mut table, question, &answers, excused.as_deref());
        }
        Ok((open == 0).then_some((hold, over)))
    });
    println!("panel or rule | query | samples in Prometheus, VictoriaMetrics | a value\n{table}");
    let (hold, over) = all?;
    for absent in hold {
        println!("exception: {}: {}", absent.name, absent.reason);
    }
    assert_eq!(over, Vec::<String>::new());
    let rules = backends.get(PROMETHEUS, "/api/v1/rules")?;
    assert_eq!(refused(&rules), Vec::<String>::new());
    if let Some(folder) = std::env::var_os(ANSWERS) {
        answers::write(&backends, Path::new(&folder))?;
    }
    Ok(())
}

fn line(table: &mut String, question: &Question, answers: &[Vec<Sample>; 2], excused: Option<&str>) {
    let expression = question.expression.split_whitespace().collect::<Vec<_>>().join(" ");
    let [ours, theirs] = answers;
    let value = ours.first().or(theirs.first()).map(|sample| sample.value.to_string());
    let value = value.or_else(|| excused.map(|reason| format!("none: {reason}"))).unwrap_or_else(|| "NONE".to_owned());
    let verdict = if is_good(answers) || excused.is_some() { "" } else { "  <-- no good answer" };
    let _ = writeln!(table, "{} | {expression} | {}, {} | {value}{verdict}", question.asker, ours.len(), theirs.len());
}

/// Rules that Prometheus could not evaluate, each with its reason.
fn refused(rules: &Value) -> Vec<String> {
    let groups = rules["data"]["groups"].as_array().into_iter().flatten();
    let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
    rules.filter(|rule| rule["health"] != "ok").map(|rule| format!("{}: {}", rule["name"], rule["lastError"])).collect()
}

/// Names of the alerts that fire: as Prometheus says, and as vmalert.
fn firing(backends: &Backends<'_>) -> Result<[BTreeSet<String>; 2]> {
    let of = |address| -> Result<BTreeSet<String>> {
        let said = backends.get(address, "/api/v1/alerts")?;
        ensure!(said["status"] == "success", "{address} says {said}");
        // vmalert says null for none.
        let alerts = said["data"]["alerts"].as_array().into_iter().flatten();
        let fire = alerts.filter(|alert| alert["state"] == "firing");
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().or(alert["name"].as_str()).map(str::to_owned);
        Ok(fire.filter_map(name).collect())
    };
    Ok([of(PROMETHEUS)?, of(VMALERT)?])
}

/// What a phase of the test waits for.
struct Watch<'a> {
    backends: &'a Backends<'a>,
    seen: [BTreeSet<String>; 2],
}

impl Watch<'_> {
    /// Waits until each of these has fired in both since the last call.
    fn fire(&mut self, names: &[&str]) -> Result<()> {
        let wanted: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut found: [BTreeSet<String>; 2] = Default::default();
        wait::within(BOUND, &format!("{} to fire", names.join(", ")), || {
            for (found, now) in found.iter_mut().zip(firing(self.backends)?) {
                found.extend(now);
            }
            Ok(found.iter().all(|found| found.is_superset(&wanted)).then_some(()))
        })
        .with_context(|| format!("fired so far: {found:?}"))?;
        for (seen, found) in self.seen.iter_mut().zip(found) {
            println!("fired: {}", found.iter().cloned().collect::<Vec<_>>().join(", "));
            seen.extend(found);
        }
        Ok(())
    }

    /// Waits until nothing fires.
    fn rest(&self) -> Result<()> {
        self.rest_but(&[])
    }

    /// Waits until nothing fires but these, which go on to.
    fn rest_but(&self, names: &[&str]) -> Result<()> {
        let wanted: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut last = Default::default();
        wait::within(BOUND, "every other alert to resolve", || {
            last = firing(self.backends)?;
            Ok(last.iter().all(|last| *last == wanted).then_some(()))
        })
        .with_context(|| format!("firing: {last:?}, wanted {wanted:?}"))
    }
}

/// Twenty requests at once on one connection, of which two more than two have a place.
fn pipeline(namespace: &Namespace) -> Result<()> {
    namespace.enter(|| {
        let mut stream = TcpStream::connect("127.0.0.1:8080")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(&b"GET /jobs/next HTTP/1.1\r\nHost: scheduler\r\n\r\n".repeat(20))?;
        stream.shutdown(Shutdown::Write)?;
        let mut answers = String::new();
        stream.read_to_string(&mut answers)?;
        ensure!(answers.matches("HTTP/1.1 200").count() == 20, "the scheduler did not answer twenty requests");
        Ok(())
    })
}

/// An agent of its own for the alert of books that do not balance, where its page is, and the service that it observes.
const BOOKKEEPER: [&str; 6] = ["--listen", "127.0.0.1:9465", "--service", "bookkeeping=8090", "--interface", "lo"];
/// Why the agent is root's here.
const WHY: &str = "the socket of wireguard-go is root's alone";
/// The one file of rules that a site is to edit: megabytes are much here.
const LIMITS: &str = "groups:
  - name: sockmeter-limits
    rules:
      - { record: 'interface:limit_bytes_per_second', expr: vector(1000000), labels: { interface: va } }
";

/// Somebody ends the link of the program that sees what is received, while a client keeps its connection: TCP then takes
/// bytes that nobody reads. The books have the first of them as lost, as soon as an answer comes to no request, and do not
/// balance by the others until the connection ends. Gives the agent that attached it again.
fn unseen<'a>(here: &'a Namespace, agent: Agent<'a>, watch: &mut Watch<'_>) -> Result<Agent<'a>> {
    let imbalance = "sockmeter_ledger_imbalance_bytes{service=\"bookkeeping\",direction=\"inbound\"}";
    let lost = "bookkeeping_http_unattributed_bytes_total{direction=\"inbound\",reason=\"lost\"}";
    let told = || -> Result<[u64; 2]> {
        let page = agent.scrape()?;
        Ok([imbalance, lost].map(|series| page.get(series).map_or(u64::MAX, whole)))
    };
    let server = Server::start(here, "127.0.0.1:8090", 1)?;
    let mut connections = open(here, server.address(), 1)?;
    let request = Request::post("/ledger", 500);
    exchange(&mut connections, &request, 10)?;
    let seen = counted(&connections).inbound;
    assert_eq!(told()?, [0, 0]);
    run(Command::new("bpftool").args(["link", "detach", "pinned"]).arg(agent.pins().join("links/packet_received")))?;
    exchange(&mut connections, &request, 10)?;
    let unseen = counted(&connections).inbound - seen;
    watch.fire(&["LedgerOutOfBalance", "ProgramNotAttached"])?;
    let [in_no_book, booked] = told()?;
    assert_eq!(in_no_book + booked, unseen);
    let values = |answer: Vec<Sample>| answer.iter().map(|sample| whole(sample.value)).collect::<Vec<u64>>();
    assert_eq!(watch.backends.ask(imbalance)?.map(values), [[in_no_book], [in_no_book]]);
    drop(connections);
    server.finish()?;
    watch.rest_but(&["ProgramNotAttached"])?;
    assert_eq!(told()?, [0, unseen]);
    // That goes with the next start, which attaches it again.
    drop(agent);
    Agent::start(here, &BOOKKEEPER)
}

#[test]
#[ignore = "takes two minutes; cargo xtask monitoring test"]
fn every_alert_fires_and_resolves() -> Result<()> {
    let stage = Stage::new()?;
    let llm_node = stage.llm_node()?;
    // Room for lo, va and wg0; and for two requests that wait.
    let file = stage.configuration("[kernel]\ninterfaces = 3\npipelined = 2\n")?;
    let agent = Agent::start_as_root(&stage.here, &["--config", &file], WHY)?;
    let mut other = Agent::start(&stage.here, &["--interface", "lo"])?;
    let traffic = Traffic::start(&stage.here, &stage.there, &stage.scheduler, PROGRAM)?;
    let bookkeeper = Agent::start(&stage.here, &BOOKKEEPER)?;
    let addresses = [&agent, &other, &bookkeeper].map(|agent| agent.url().trim_start_matches("http://").to_owned());
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let provision = Provision::new(&addresses, MANAGER, Minute::Second, Some(LIMITS))?;
    let backends = Backends::start(&stage.here, &provision, MANAGER)?;
    let mut watch = Watch { backends: &backends, seen: Default::default() };
    wait::until("a scrape of everything", || {
        let up = backends.ask("sum(up)")?;
        Ok(up.iter().all(|answer| answer.first().is_some_and(|sample| sample.value == 4.0)).then_some(()))
    })?;
    watch.rest()?;

    drop(llm_node);
    stage.change_fleet(|fleet| {
        (fleet.client_silent, fleet.headend_silent, fleet.headend_busy) = (1_000, 400, 93);
    });
    other.process().stop()?;
    stage.here.ip(&["link", "add", "vx", "type", "veth", "peer", "name", "vy"])?;
    traffic.taps.piling_up.store(20, Ordering::Relaxed);
    traffic.taps.burst.store(1_000_000, Ordering::Relaxed);
    traffic.taps.tunnel_rests.store(true, Ordering::Relaxed);
    pipeline(&stage.here)?;
    watch.fire(&[
        "UpstreamDown",
        "ClientOffline",
        "HeadendDown",
        "HeadendCpuHigh",
        "WireguardSilent",
        "AgentDown",
        "ProgramNotAttached",
        "QueueGrowing",
        "InterfaceBandwidthHigh",
        "RecordsLost",
    ])?;

    let _llm_node = stage.llm_node()?;
    stage.change_fleet(|fleet| *fleet = Fleet::default());
    other.signal(Signal::SIGCONT)?;
    stage.here.ip(&["link", "delete", "vx"])?;
    traffic.taps.piling_up.store(0, Ordering::Relaxed);
    traffic.taps.burst.store(0, Ordering::Relaxed);
    traffic.taps.tunnel_rests.store(false, Ordering::Relaxed);
    watch.rest()?;

    stage.scheduler.set(Mood::Fails);
    stage.stop_manager();
    watch.fire(&["SchedulerApiDown", "EndpointErrors", "FleetManagerDown"])?;
    stage.scheduler.set(Mood::Good);
    stage.start_manager()?;
    watch.rest()?;

    let bookkeeper = unseen(&stage.here, bookkeeper, &mut watch)?;
    watch.rest()?;
    drop(bookkeeper);

    let rules = backends.get(PROMETHEUS, "/api/v1/rules")?;
    assert_eq!(refused(&rules), Vec::<String>::new());
    let all: BTreeSet<String> = alerts(&rules);
    assert_eq!(watch.seen, [all.clone(), all]);
    Ok(())
}

fn alerts(rules: &Value) -> BTreeSet<String> {
    let groups = rules["data"]["groups"].as_array().into_iter().flatten();
    let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
    rules
        .filter(|rule| rule["type"] == "alerting")
        .filter_map(|rule| rule["name"].as_str().map(str::to_owned))
        .collect()
}
