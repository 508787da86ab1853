//! 100,000 connections that live for one exchange: server, client and agent count the same.

use std::fs;
use std::net::SocketAddr;

use anyhow::Result;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Request, storm};
use sockmeter_tests::load::load;
use sockmeter_tests::message::number;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::server::{ANSWER, Server};
use sockmeter_tests::tally::Tally;

use crate::exact::exact;

const AT_ONCE: u64 = 64;

#[test]
fn a_hundred_thousand_connections_are_counted_to_the_byte() -> Result<()> {
    let namespace = Namespace::new()?;
    // Each leaves a port behind in TIME-WAIT: several addresses have ports for all of them.
    namespace.enter(|| Ok(fs::write("/proc/sys/net/ipv4/ip_local_port_range", "2048 65535")?))?;
    let agent = Agent::start(&namespace, &[])?;
    let server = Server::start(&namespace, "0.0.0.0:8080", 2 * usize::try_from(AT_ONCE)?)?;
    let to: Vec<SocketAddr> = (1..=8).map(|host| SocketAddr::from(([127, 0, 0, host], 8080))).collect();

    let half = number(load(50_000));
    let mut clients = Tally::default();
    // The client closes first, then the server does: the observed socket ends in other states.
    let (get, post) = (Request::get("/closed/by/client"), Request::post("/closed/by/server", 100).closing());
    let gets = storm(&namespace, &to, &get, AT_ONCE, half)?;
    get.tally(&mut clients, "/closed/by/client", gets, ANSWER);
    let posts = storm(&namespace, &to, &post, AT_ONCE, half)?;
    post.tally(&mut clients, "/closed/by/server", posts, ANSWER);
    let mut all = gets;
    all += posts;
    assert_eq!(server.finish()?, all, "server and clients");

    exact(&agent, &clients, all)?;
    Ok(())
}
