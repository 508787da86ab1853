//! Killed, stopped, started again: the books go on without a gap, a reset or a double count.

use std::fs;
use std::process::Command;

use anyhow::Result;
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, pin_dir};
use sockmeter_tests::client::{Step, chunked_server, play};
use sockmeter_tests::connection::{Request, counted, exchange, open};
use sockmeter_tests::load::load;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::run;
use sockmeter_tests::server::{ANSWER, Server};
use sockmeter_tests::tally::Tally;
#[cfg(target_arch = "x86_64")]
use sockmeter_tests::trace::Held;

use crate::equal_books::agrees;
use crate::exact::exact;

fn posts(repeat: usize) -> Vec<Vec<Step>> {
    let step = Step { method: "POST", target: "/jobs".to_owned(), body: 512, repeat, ..Step::default() };
    vec![vec![step]; 4]
}

fn play_into(clients: &mut Tally, namespace: &Namespace, repeat: usize) -> Result<()> {
    for count in play(namespace, "127.0.0.1", 8080, &posts(repeat))? {
        count.tally(clients, "/jobs");
    }
    Ok(())
}

#[test]
fn counters_go_on_when_the_agent_is_killed_and_started_again() -> Result<()> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let _server = chunked_server(&namespace, 8080)?;
    let mut clients = Tally::default();
    let mut play_and_tally = || play_into(&mut clients, &namespace, load(250));
    let mut agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
    play_and_tally()?;
    agent.scrape()?;
    play_and_tally()?;
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    play_and_tally()?;
    // The old one must not clean up behind itself: its pins are what the new one goes on with.
    std::mem::forget(agent);
    let agent = Agent::start_pinned(&namespace, &[], pins)?;
    play_and_tally()?;
    agrees(|| agent.scrape(), &clients)
}

/// The agent keeps what postings changed by a write for the batch, one for the cell and one for the ledger, and then gives the
/// postings back: it is killed behind each of these.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_kill_between_two_writes_of_the_books_repeats_and_loses_nothing() -> Result<()> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let _server = chunked_server(&namespace, 8080)?;
    let mut clients = Tally::default();
    for writes in 1..=3 {
        let mut agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
        let held = Held::thread(agent.process().pid()?, "accountant")?;
        // Less than wakes the agent.
        play_into(&mut clients, &namespace, 50)?;
        std::thread::scope(|scope| {
            // It gets no answer.
            let asked = scope.spawn(|| agent.scrape().is_err());
            held.kill_after_updates(writes)?;
            assert!(asked.join().is_ok_and(|is_err| is_err), "the page came all the same");
            Ok::<_, anyhow::Error>(())
        })?;
        agent.process().wait()?;
        std::mem::forget(agent);
    }
    let agent = Agent::start_pinned(&namespace, &[], pins)?;
    agrees(|| agent.scrape(), &clients)
}

/// A ring that is pinned is gone on with as it is, whatever the configuration says now.
#[test]
fn another_size_of_the_ring_in_the_configuration_changes_nothing() -> Result<()> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sockmeter.toml");
    let path = file.to_string_lossy().into_owned();
    let configured = |bytes: u32| -> Result<Agent<'_>> {
        fs::write(&file, format!("[kernel]\nring_bytes = {bytes}\n"))?;
        Agent::start_pinned(&namespace, &["--config", &path], pins.clone())
    };
    let mut agent = configured(4 << 20)?;
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    std::mem::forget(agent);
    // A 64th of this, behind which such a ring is late, is all of the other one.
    let agent = configured(256 << 20)?;
    let server = Server::start(&namespace, "127.0.0.1:8080", 4)?;
    let mut connections = open(&namespace, server.address(), 4)?;
    let request = Request::get("/jobs");
    // Three of the smaller ring, at least.
    exchange(&mut connections, &request, 15_000)?;
    let all = counted(&connections);
    let mut clients = Tally::default();
    request.tally(&mut clients, "/jobs", all, ANSWER);
    drop(connections);
    exact(&agent, &clients, all)?;
    server.finish()?;
    Ok(())
}

/// The programs of which the page says that they are not attached.
fn detached(agent: &Agent<'_>) -> Result<Vec<String>> {
    let page = agent.scrape()?;
    let programs = page.family("sockmeter_program_attached").filter(|(_, attached)| *attached == 0.0);
    let mut names: Vec<String> = programs.filter_map(|(mut labels, _)| labels.remove("program")).collect();
    names.sort();
    Ok(names)
}

#[test]
fn what_somebody_else_detached_is_told_and_attached_again_by_the_next_start() -> Result<()> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let _server = chunked_server(&namespace, 8080)?;
    let mut clients = Tally::default();
    let mut play_and_tally = || play_into(&mut clients, &namespace, 50);
    let mut agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
    play_and_tally()?;
    agent.scrape()?;
    assert_eq!(detached(&agent)?, Vec::<String>::new());
    let mut ended = vec!["packet_received", "packet_sent"];
    for name in &ended {
        run(Command::new("bpftool").args(["link", "detach", "pinned"]).arg(pins.join("links").join(name)))?;
    }
    // A filter, where there is no tcx, is no link.
    let of_loopback = pins.join("links/interface_sends-1");
    if of_loopback.exists() {
        run(Command::new("bpftool").args(["link", "detach", "pinned"]).arg(of_loopback))?;
        ended.insert(0, "interface_sends");
    }
    assert_eq!(detached(&agent)?, ended);
    let removed = "connection_ends";
    fs::remove_file(pins.join("links").join(removed))?;
    ended.insert(0, removed);
    assert_eq!(detached(&agent)?, ended);
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    std::mem::forget(agent);
    let agent = Agent::start_pinned(&namespace, &[], pins)?;
    assert_eq!(detached(&agent)?, Vec::<String>::new());
    play_and_tally()?;
    agrees(|| agent.scrape(), &clients)
}
