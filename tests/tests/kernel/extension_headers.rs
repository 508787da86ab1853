//! IPv6 extension headers in front of TCP's: the one that the kernel itself makes is followed, others cost detail and no
//! bytes.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, Result};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Connection, Request};
use sockmeter_tests::message::{Wire, number};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::option::{self, IPV6, IPV6_DSTOPTS, IPV6_HOPOPTS};
use sockmeter_tests::server::{ANSWER, Counted};
use sockmeter_tests::tally::{Tally, whole};

use crate::exact::{ended, exact, sockets, unattributed};

/// Options that mean nothing, in the shortest header (RFC 8200 4.2, `PadN`).
const PADDING: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];

/// A connection over IPv6 to port 8080: its two ends.
fn pair(namespace: &Namespace) -> Result<(Connection, Wire)> {
    namespace.enter(|| {
        let listener = TcpListener::bind("[::1]:8080")?;
        let client = Connection::open(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 8080)))?;
        Ok((client, Wire::new(listener.accept()?.0)))
    })
}

fn exchange(client: &mut Connection, server: &mut Wire, request: &Request) -> Result<()> {
    client.wire().write(&request.whole()?)?;
    let head = server.head()?.context("no request")?;
    server.skip(head.body)?;
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {ANSWER}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + usize::try_from(ANSWER)?, b'a');
    server.write(&answer)?;
    client.wire().skip(number(answer.len()))?;
    Ok(())
}

#[test]
fn hop_by_hop_options_are_followed() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let (mut client, mut server) = pair(&namespace)?;
    option::set_bytes(client.wire().stream(), IPV6, IPV6_HOPOPTS, &PADDING)?;
    option::set_bytes(server.stream(), IPV6, IPV6_HOPOPTS, &PADDING)?;
    let request = Request::post("/jobs", 512);
    for _ in 0..5 {
        exchange(&mut client, &mut server, &request)?;
    }
    let counted = Counted { connections: 1, exchanges: 5, inbound: server.received(), outbound: server.sent() };
    let mut clients = Tally::default();
    request.tally(&mut clients, "/jobs", counted, ANSWER);
    drop((client, server));
    exact(&agent, &clients, counted)?;
    Ok(())
}

/// Two exchanges, then three whose packets cannot be read in one direction.
fn unreadable(spoil: impl FnOnce(&mut Connection, &mut Wire) -> Result<()>) -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let (mut client, mut server) = pair(&namespace)?;
    let request = Request::post("/jobs", 512);
    for _ in 0..2 {
        exchange(&mut client, &mut server, &request)?;
    }
    let read = Counted { connections: 1, exchanges: 2, inbound: server.received(), outbound: server.sent() };
    let mut clients = Tally::default();
    request.tally(&mut clients, "/jobs", read, ANSWER);
    spoil(&mut client, &mut server)?;
    for _ in 0..3 {
        exchange(&mut client, &mut server, &request)?;
    }
    let all = Counted { inbound: server.received(), outbound: server.sent(), ..read };
    drop((client, server));
    let page = ended(&agent, all)?;
    assert_eq!(Tally::of_page(&page, "scheduler").differences(&clients), Vec::<String>::new());
    assert_eq!(sockets(&page, "server"), [all.inbound, all.outbound]);
    assert_eq!(unattributed(&page, "lost"), [all.inbound - read.inbound, all.outbound - read.outbound]);
    for direction in ["inbound", "outbound"] {
        let labels = [("direction", direction)];
        assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &labels), 0.0, "{direction}");
    }
    assert_ne!(whole(page.sum("sockmeter_lost_total", &[("reason", "packet")])), 0);
    Ok(())
}

#[test]
fn answers_behind_other_options_cost_detail_and_no_bytes() -> Result<()> {
    unreadable(|_, server| option::set_bytes(server.stream(), IPV6, IPV6_DSTOPTS, &PADDING))
}

#[test]
fn requests_behind_other_options_cost_detail_and_no_bytes() -> Result<()> {
    unreadable(|client, _| option::set_bytes(client.wire().stream(), IPV6, IPV6_DSTOPTS, &PADDING))
}
