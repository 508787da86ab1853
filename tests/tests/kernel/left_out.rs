//! The kernel may leave a program on a trace point out (nested, or preempted). Here it always does, since the programs are
//! let go of: the ends of connections are seen all the same.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use anyhow::Result;
use aya::sys::{Stats, enable_stats};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Connection, Request, storm};
use sockmeter_tests::kernel;
use sockmeter_tests::message::Wire;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::server::{ANSWER, Counted, Server};
use sockmeter_tests::tally::Tally;

use crate::exact::{ended, exact};

/// The programs on the trace point of a socket's states, as far as this kernel takes them.
const PROGRAMS: [&str; 2] = ["connection_ends", "connection_ends_nested"];

/// Detaches them, and waits until the kernel did: a scrape is a connection, for which they would run.
fn leave_out(agent: &Agent<'_>) -> Result<()> {
    let _counted = enable_stats(Stats::RunTime)?;
    for link in PROGRAMS.map(|name| agent.pins().join("links").join(name)) {
        if link.exists() {
            fs::remove_file(link)?;
        }
    }
    let mut before = None;
    agent.scrape_until("a scrape without the programs", |page| {
        let runs = PROGRAMS.map(|name| page.sum("sockmeter_program_runs_total", &[("program", name)]));
        before.replace(runs) == Some(runs)
    })?;
    Ok(())
}

#[test]
fn ends_of_connections_that_began_under_the_agent() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    leave_out(&agent)?;
    let server = Server::start(&namespace, "127.0.0.1:8080", 8)?;
    let request = Request::post("/jobs", 1_000);
    let asked = storm(&namespace, &[server.address()], &request, 8, 200)?;
    assert_eq!(server.finish()?, asked);
    let mut clients = Tally::default();
    request.tally(&mut clients, "/jobs", asked, ANSWER);
    exact(&agent, &clients, asked)?;
    Ok(())
}

#[test]
fn ends_of_connections_that_are_older_than_the_agent() -> Result<()> {
    if kernel::version()? < (6, 12) {
        // The kernel cannot be asked to call programs for a connection that they did not see begin.
        return Ok(());
    }
    let namespace = Namespace::new()?;
    let (_listener, mut client, mut server) = namespace.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:8080")?;
        let client = Connection::open(SocketAddr::from(([127, 0, 0, 1], 8080)))?;
        let server = Wire::new(listener.accept()?.0);
        Ok((listener, client, server))
    })?;
    let agent = Agent::start(&namespace, &[])?;
    agent.scrape()?;
    leave_out(&agent)?;
    client.wire().write(&[7; 1_000])?;
    server.skip(1_000)?;
    server.write(&[8; 300])?;
    client.wire().skip(300)?;
    drop(client);
    drop(server);
    ended(&agent, Counted { connections: 1, exchanges: 0, inbound: 1_000, outbound: 300 })?;
    Ok(())
}
