//! The agent is stopped (SIGSTOP) while traffic goes on: what happened meanwhile is in its books when it goes on, and
//! what the journal had no room for is `lost`, said so, and still in every total.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Request, counted, exchange, open, storm};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::server::{ANSWER, Counted, Server};
use sockmeter_tests::tally::{Tally, whole};

use crate::exact::{ended, exact, sockets, unattributed};

/// Exchanges that the journal has room for where the request line has this length (`ebpf/src/kernel/maps.rs`).
const CAPACITY: u64 = 65_536;
const LINE: usize = 96;
const AT_ONCE: usize = 16;

/// A request with a line of `LINE` bytes.
fn request() -> Request {
    let around = "POST / HTTP/1.1".len();
    Request::post(&format!("/{}", "j".repeat(LINE - around)), 100)
}

#[test]
fn what_happens_while_the_agent_sleeps_is_in_its_books() -> Result<()> {
    asleep_for(Duration::ZERO)
}

#[test]
#[ignore = "lasts 30 seconds: cargo xtask test slow"]
fn what_happens_in_thirty_seconds_of_sleep_is_in_its_books() -> Result<()> {
    asleep_for(Duration::from_secs(30))
}

/// 20,000 requests while the agent sleeps, which it does for `least` at least.
fn asleep_for(least: Duration) -> Result<()> {
    let namespace = Namespace::new()?;
    let mut agent = Agent::start(&namespace, &[])?;
    let server = Server::start(&namespace, "127.0.0.1:8080", 2 * AT_ONCE)?;
    let (kept, fresh) = (Request::post("/kept/alive", 512), Request::get("/fresh"));
    let mut connections = open(&namespace, server.address(), AT_ONCE)?;
    exchange(&mut connections, &kept, 10)?;
    agent.scrape()?;

    agent.process().stop()?;
    let began = Instant::now();
    let mut short = Counted::default();
    for part in 1..=10 {
        exchange(&mut connections, &kept, 1_008 / 16)?;
        short += storm(&namespace, &[server.address()], &fresh, 16, 1_000)?;
        while began.elapsed() < least * part / 10 {
            thread::park_timeout((least * part / 10).saturating_sub(began.elapsed()));
        }
    }
    agent.process().signal(Signal::SIGCONT)?;
    exchange(&mut connections, &kept, 10)?;

    let mut clients = Tally::default();
    let long = counted(&connections);
    drop(connections);
    kept.tally(&mut clients, "/kept/alive", long, ANSWER);
    fresh.tally(&mut clients, "/fresh", short, ANSWER);
    let mut all = long;
    all += short;
    assert_eq!(server.finish()?, all, "server and clients");
    exact(&agent, &clients, all)?;
    Ok(())
}

/// What must hold however much was lost: totals are exact, the ledger balances, and what is not in an exchange is `lost`.
/// All exchanges are alike. Gives the number of those that were lost.
fn exact_but_for_detail(page: &Page, all: Counted) -> u64 {
    assert_eq!(sockets(page, "server"), [all.inbound, all.outbound]);
    assert_eq!(sockets(page, "client"), [all.outbound, all.inbound]);
    assert_eq!(page.get("scheduler_http_requests_total").map(whole), Some(all.exchanges));
    let exchanges = whole(page.sum("scheduler_http_exchanges_total", &[]));
    let lost = all.exchanges - exchanges;
    let bytes_of_lost = [all.inbound, all.outbound].map(|bytes| bytes / all.exchanges * lost);
    assert_eq!(unattributed(page, "lost"), bytes_of_lost);
    for (direction, bytes) in [("inbound", all.inbound), ("outbound", all.outbound)] {
        let each = bytes / all.exchanges;
        assert_eq!(each * all.exchanges, bytes, "exchanges are not alike");
        let booked = |name: &str| whole(page.sum(name, &[("direction", direction)]));
        assert_eq!(booked("sockmeter_service_stream_bytes_total"), bytes, "{direction}");
        assert_eq!(booked("scheduler_http_wire_bytes_total"), each * exchanges, "{direction}");
        assert_eq!(booked("scheduler_http_unattributed_bytes_total"), each * lost, "{direction}");
        assert_eq!(booked("sockmeter_service_open_bytes"), 0, "{direction}");
        assert_eq!(booked("sockmeter_ledger_imbalance_bytes"), 0, "{direction}");
    }
    lost
}

#[test]
fn a_full_journal_costs_detail_and_no_bytes() -> Result<()> {
    let namespace = Namespace::new()?;
    let mut agent = Agent::start(&namespace, &[])?;
    let server = Server::start(&namespace, "127.0.0.1:8080", 2 * AT_ONCE)?;
    let request = request();
    let mut connections = open(&namespace, server.address(), AT_ONCE)?;
    agent.process().stop()?;
    exchange(&mut connections, &request, 80_000 / 16)?;
    agent.process().signal(Signal::SIGCONT)?;
    // Taken into the books, so that there is room again.
    agent.scrape()?;
    exchange(&mut connections, &request, 100)?;
    let all = counted(&connections);
    drop(connections);
    assert_eq!(server.finish()?, all, "server and clients");

    let page = ended(&agent, all)?;
    let lost = exact_but_for_detail(&page, all);
    assert!(lost > 0, "the journal was never full");
    assert!(all.exchanges - lost >= CAPACITY, "only {} exchanges found room", all.exchanges - lost);
    // Nothing but exchanges was posted while it was full: each that found no room was counted, once.
    assert_eq!(whole(page.sum("sockmeter_lost_total", &[("reason", "journal")])), lost);
    assert_eq!(whole(page.sum("sockmeter_lost_total", &[])), lost);
    Ok(())
}

#[test]
fn connections_that_end_while_the_journal_is_full_keep_their_bytes() -> Result<()> {
    let namespace = Namespace::new()?;
    let mut agent = Agent::start(&namespace, &[])?;
    let server = Server::start(&namespace, "127.0.0.1:8080", 2 * AT_ONCE)?;
    let request = request();
    let mut connections = open(&namespace, server.address(), AT_ONCE)?;
    agent.process().stop()?;
    exchange(&mut connections, &request, 80_000 / 16)?;
    let mut all = counted(&connections);
    drop(connections);
    // Nobody will post anything more for these.
    all += storm(&namespace, &[server.address()], &request, 16, 1_000)?;
    agent.process().signal(Signal::SIGCONT)?;
    assert_eq!(server.finish()?, all, "server and clients");

    let page = ended(&agent, all)?;
    assert!(exact_but_for_detail(&page, all) >= 1_000, "the journal was not full at the end");
    // There is room again.
    let server = Server::start(&namespace, "127.0.0.2:8080", 1)?;
    all += storm(&namespace, &[server.address()], &request, 1, 100)?;
    let page = ended(&agent, all)?;
    exact_but_for_detail(&page, all);
    Ok(())
}
