//! Streams longer than sequence numbers reach: these wrap every 4 GiB, the books do not.

use anyhow::Result;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Request, exchange, open};
use sockmeter_tests::load::load;
use sockmeter_tests::message::number;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::server::Server;
use sockmeter_tests::tally::{Tally, whole};

use crate::exact::{exact, sockets};

const GIB: u64 = 1 << 30;

/// `count` equal exchanges on one connection.
fn on_one_connection(request: &Request, count: u64, answer: u64, endpoint: &str) -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let server = Server::start(&namespace, "127.0.0.1:8080", 1)?;
    let mut connections = open(&namespace, server.address(), 1)?;
    for done in 1..=count {
        exchange(&mut connections, request, 1)?;
        let page = agent.scrape()?;
        let counted = connections[0].counted();
        assert_eq!(whole(page.sum("scheduler_http_exchanges_total", &[])), done);
        assert_eq!(sockets(&page, "server"), [counted.inbound, counted.outbound]);
        assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &[]), 0.0);
    }
    let counted = connections[0].counted();
    drop(connections);
    assert_eq!(server.finish()?, counted);
    let mut clients = Tally::default();
    request.tally(&mut clients, endpoint, counted, answer);
    exact(&agent, &clients, counted)?;
    Ok(())
}

#[test]
fn five_gibibytes_in_one_answer() -> Result<()> {
    on_one_connection(&Request::get("/bytes/5368709120"), 1, 5 * GIB, "/bytes/{id}")
}

#[test]
fn five_gibibytes_in_one_request_and_again() -> Result<()> {
    on_one_connection(&Request::post("/bytes/1000", 5 * GIB), number(load(2)), 1000, "/bytes/{id}")
}

#[test]
fn nine_gibibytes_on_one_connection() -> Result<()> {
    // On a slow machine far enough for one wrap instead of two.
    on_one_connection(&Request::get("/bytes/1073741824"), number(load(9).max(5)), GIB, "/bytes/{id}")
}
