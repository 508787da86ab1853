//! Services that are added and taken away while traffic goes on, and a service that is killed and started again.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, anyhow};
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, only_the_scrape_is_left};
use sockmeter_tests::client::chunked_server;
use sockmeter_tests::connection::{Connection, Request, storm};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::server::{ANSWER, Counted, Server};
use sockmeter_tests::tally::{Tally, whole};
use sockmeter_tests::wait;

use crate::exact::{ended, exact, sockets, unattributed};

const OFTEN: &str = "[service.scheduler]\nports = [8080]\n[service.second]\nports = [8081]\n";
const ALONE: &str = "[service.scheduler]\nports = [8080]\n";

/// Says whether `second` is on the page: as a service that is observed now.
fn observes(agent: &Agent<'_>, text: &str, file: &std::path::Path) -> Result<()> {
    let before = agent.log()?.matches("took the new configuration").count();
    fs::write(file, text)?;
    agent.signal(Signal::SIGHUP)?;
    wait::until("the new configuration", || {
        Ok((agent.log()?.matches("took the new configuration").count() > before).then_some(()))
    })?;
    // The scrape comes behind the change in the accountant's queue.
    agent.scrape().map(drop)
}

fn balances(page: &Page, service: &str) {
    for direction in ["inbound", "outbound"] {
        let labels = [("service", service), ("direction", direction)];
        assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &labels), 0.0, "{service} {direction}");
        assert_eq!(page.sum("sockmeter_service_open_bytes", &labels), 0.0, "{service} {direction}");
    }
}

#[test]
fn services_come_and_go_under_load() -> Result<()> {
    let namespace = Namespace::new()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sockmeter.toml");
    fs::write(&file, ALONE)?;
    let agent = Agent::start(&namespace, &["--config", &file.to_string_lossy(), "--log-level", "info"])?;
    let first = Server::start(&namespace, "127.0.0.1:8080", 8)?;
    let second = Server::start(&namespace, "127.0.0.1:8081", 8)?;
    let request = Request::post("/jobs", 300);
    let (mut of_first, mut all_of_second, mut observed) = (Counted::default(), Counted::default(), Counted::default());
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let load = scope.spawn(|| -> Result<Counted> {
            let mut sum = Counted::default();
            while !done.load(Ordering::Relaxed) {
                sum += storm(&namespace, &[first.address()], &request, 4, 100)?;
            }
            Ok(sum)
        });
        let mut changes = || -> Result<()> {
            for text in [OFTEN, ALONE, OFTEN, ALONE, OFTEN] {
                observes(&agent, text, &file)?;
                let now = storm(&namespace, &[second.address()], &request, 4, 200)?;
                all_of_second += now;
                if text == OFTEN {
                    observed += now;
                }
            }
            Ok(())
        };
        let changed = changes();
        done.store(true, Ordering::Relaxed);
        of_first += load.join().map_err(|_| anyhow!("the load panicked"))??;
        changed
    })?;
    assert_eq!(first.finish()?, of_first);
    assert_eq!(second.finish()?, all_of_second);
    let page = ended(&agent, of_first)?;
    let page = if only_the_scrape_is_left(&page) { page } else { agent.scrape()? };
    for (service, counted) in [("scheduler", of_first), ("second", observed)] {
        let mut clients = Tally::default();
        request.tally(&mut clients, "/jobs", counted, ANSWER);
        assert_eq!(Tally::of_page(&page, service).differences(&clients), Vec::<String>::new(), "{service}");
        let stream = ["inbound", "outbound"].map(|direction| {
            whole(page.sum("sockmeter_service_stream_bytes_total", &[("service", service), ("direction", direction)]))
        });
        assert_eq!(stream, [counted.inbound, counted.outbound], "{service}");
        balances(&page, service);
    }
    // Observed or not, sockets count.
    let labels = [("port", "8081"), ("role", "server")];
    assert_eq!(whole(page.sum("sockmeter_socket_receive_bytes_total", &labels)), all_of_second.inbound);
    assert_eq!(whole(page.sum("sockmeter_socket_transmit_bytes_total", &labels)), all_of_second.outbound);
    assert_eq!(page.sum("sockmeter_lost_total", &[]), 0.0);
    Ok(())
}

#[test]
fn a_service_that_is_stopped_and_started_goes_on() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let request = Request::post("/jobs", 300);
    let (mut clients, mut all) = (Tally::default(), Counted::default());
    for _ in 0..3 {
        let server = Server::start(&namespace, "127.0.0.1:8080", 8)?;
        let counted = storm(&namespace, &[server.address()], &request, 8, 200)?;
        assert_eq!(server.finish()?, counted);
        request.tally(&mut clients, "/jobs", counted, ANSWER);
        all += counted;
    }
    exact(&agent, &clients, all)?;
    Ok(())
}

#[test]
fn a_service_that_is_killed_keeps_what_crossed() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let request = Request::post("/jobs", 300);
    let half = Request::post("/killed", 5_000);
    let (mut clients, mut all, mut unfinished) = (Tally::default(), Counted::default(), 0);
    for _ in 0..3 {
        let mut server = chunked_server(&namespace, 8080)?;
        let mut connection = namespace.enter(|| Connection::open(([127, 0, 0, 1], 8080).into()))?;
        for _ in 0..5 {
            connection.exchange(&request)?;
        }
        let counted = connection.counted();
        request.tally(&mut clients, "/jobs", counted, ANSWER);
        all += counted;
        // Killed in the middle of a request: its bytes were taken by TCP, so they count.
        let bytes = &half.whole()?[..2_000];
        connection.wire().write(bytes)?;
        let at = all.inbound + sockmeter_tests::message::number(bytes.len());
        agent.scrape_until("the bytes", |page| sockets(page, "server")[0] == at)?;
        server.signal(Signal::SIGKILL)?;
        server.wait()?;
        assert!(connection.wire().head().map_or(true, |head| head.is_none()), "an answer of the killed server");
        all.inbound = at;
        unfinished += 1;
    }
    let page = ended(&agent, all)?;
    let killed = [("endpoint", "/killed"), ("status", "none")];
    assert_eq!(whole(page.sum("scheduler_http_exchanges_total", &killed)), unfinished);
    let inbound = [("endpoint", "/killed"), ("direction", "inbound")];
    assert_eq!(whole(page.sum("scheduler_http_wire_bytes_total", &inbound)), 2_000 * unfinished);
    let ours = Tally::of_page(&page, "scheduler");
    for (key, sides) in clients.sides {
        assert_eq!(ours.sides.get(&key), Some(&sides), "{key:?}");
    }
    assert_eq!(unattributed(&page, "lost"), [0, 0]);
    balances(&page, "scheduler");
    Ok(())
}
