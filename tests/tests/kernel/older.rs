//! Connections that are older than the agent: what they carried before is a baseline, what follows is `mid_stream` until
//! both directions were quiet and a request begins, and from there on exchanges are exact.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, Result};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Connection, Request};
use sockmeter_tests::message::{Wire, number};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::server::{ANSWER, Counted};
use sockmeter_tests::tally::{Tally, whole};

use crate::exact::{ended, exact, sockets, unattributed};

/// Both ends of a connection to port 8080, in this thread: nothing moves between two calls.
struct Pair {
    client: Connection,
    server: Wire,
}

impl Pair {
    fn open(namespace: &Namespace) -> Result<(TcpListener, Self)> {
        let (listener, mut pairs) = Self::open_many(namespace, 1)?;
        Ok((listener, pairs.pop().context("no pair")?))
    }

    fn open_many(namespace: &Namespace, count: usize) -> Result<(TcpListener, Vec<Self>)> {
        namespace.enter(|| {
            let listener = TcpListener::bind("127.0.0.1:8080")?;
            let one = |_| -> Result<Self> {
                let client = Connection::open(SocketAddr::from(([127, 0, 0, 1], 8080)))?;
                let server = Wire::new(listener.accept()?.0);
                Ok(Self { client, server })
            };
            let pairs: Result<_> = (0..count).map(one).collect();
            Ok((listener, pairs?))
        })
    }

    /// `[inbound, outbound]` bytes so far: both ends agree.
    fn at(&self) -> [u64; 2] {
        let counted = self.client.counted();
        assert_eq!([self.server.received(), self.server.sent()], [counted.inbound, counted.outbound]);
        [counted.inbound, counted.outbound]
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.client.wire().write(bytes)?;
        Ok(self.server.skip(number(bytes.len()))?)
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<()> {
        self.server.write(bytes)?;
        Ok(self.client.wire().skip(number(bytes.len()))?)
    }

    /// A request and its answer, whole.
    fn exchange(&mut self, request: &Request) -> Result<()> {
        self.client.wire().write(&request.whole()?)?;
        let head = self.server.head()?.context("no request")?;
        self.server.skip(head.body)?;
        self.answer(&answer(ANSWER))
    }
}

/// An answer with a body of this many bytes.
fn answer(body: u64) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + usize::try_from(body).unwrap_or(0), b'a');
    bytes
}

fn difference(after: [u64; 2], before: [u64; 2]) -> [u64; 2] {
    [after[0] - before[0], after[1] - before[1]]
}

/// Stream = wire + unattributed + open, and the stream is what moved since `before`.
fn balances(page: &Page, moved: [u64; 2]) {
    assert_eq!(sockets(page, "server"), moved, "sockets");
    for (direction, moved) in [("inbound", moved[0]), ("outbound", moved[1])] {
        let labels = [("direction", direction)];
        assert_eq!(whole(page.sum("sockmeter_service_stream_bytes_total", &labels)), moved, "{direction}");
        assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &labels), 0.0, "{direction}");
    }
    assert_eq!(unattributed(page, "lost"), [0, 0]);
    assert_eq!(page.sum("sockmeter_lost_total", &[]), 0.0);
}

/// The connection is opened, does `before`, an agent starts, `between` goes on with what was begun and says how much of
/// it is `mid_stream`; then there are ten exact exchanges.
fn older(before: impl FnOnce(&mut Pair) -> Result<()>, between: impl FnOnce(&mut Pair) -> Result<()>) -> Result<()> {
    let namespace = Namespace::new()?;
    let (_listener, mut pair) = Pair::open(&namespace)?;
    before(&mut pair)?;
    let baseline = pair.at();
    let agent = Agent::start(&namespace, &[])?;
    // First sight. Nothing moved: there is nothing to book.
    balances(&agent.scrape()?, [0, 0]);

    between(&mut pair)?;
    let moved = difference(pair.at(), baseline);
    let page = agent.scrape()?;
    balances(&page, moved);
    assert_eq!(unattributed(&page, "mid_stream"), moved);
    assert_eq!(Tally::of_page(&page, "scheduler"), Tally::default());

    // The service has spoken last and all of it is acknowledged: here a request begins.
    let request = Request::post("/jobs", 512);
    let from = pair.at();
    for done in 1..=10 {
        pair.exchange(&request)?;
        let page = agent.scrape()?;
        balances(&page, difference(pair.at(), baseline));
        assert_eq!(Tally::of_page(&page, "scheduler").exchanges(), done);
    }
    let now = difference(pair.at(), from);
    let counted = Counted { connections: 1, exchanges: 10, inbound: now[0], outbound: now[1] };
    let mut clients = Tally::default();
    request.tally(&mut clients, "/jobs", counted, ANSWER);
    let all = difference(pair.at(), baseline);
    drop(pair);
    let page = ended(&agent, Counted { inbound: all[0], outbound: all[1], ..counted })?;
    assert_eq!(Tally::of_page(&page, "scheduler").differences(&clients), Vec::<String>::new());
    assert_eq!(unattributed(&page, "mid_stream"), moved);
    assert_eq!(sockets(&page, "client"), [all[1], all[0]]);
    balances(&page, all);
    Ok(())
}

/// An exchange that a connection had before.
fn earlier(pair: &mut Pair) -> Result<()> {
    pair.exchange(&Request::post("/earlier", 3_000))
}

/// What the kernel calls a connection by nobody asked for before the agent came: each has its own name all the same, and so
/// has each of the requests that wait in line.
#[test]
fn many_connections_are_told_apart() -> Result<()> {
    let namespace = Namespace::new()?;
    let (_listener, mut pairs) = Pair::open_many(&namespace, 20)?;
    let agent = Agent::start(&namespace, &[])?;
    balances(&agent.scrape()?, [0, 0]);
    let request = Request::post("/jobs", 512);
    for pair in &mut pairs {
        pair.exchange(&request)?;
    }
    let waiting = 6;
    for pair in &mut pairs {
        for _ in 0..waiting {
            pair.send(&request.whole()?)?;
        }
    }
    for pair in &mut pairs {
        for _ in 0..waiting {
            pair.answer(&answer(ANSWER))?;
        }
    }
    let exchanges = number(pairs.len()) * (1 + waiting);
    let all = pairs.iter().map(Pair::at).fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
    let counted = Counted { connections: number(pairs.len()), exchanges, inbound: all[0], outbound: all[1] };
    let mut clients = Tally::default();
    request.tally(&mut clients, "/jobs", counted, ANSWER);
    drop(pairs);
    exact(&agent, &clients, counted)?;
    Ok(())
}

#[test]
fn an_idle_connection() -> Result<()> {
    older(earlier, |_| Ok(()))
}

#[test]
fn a_connection_that_carried_nothing_yet() -> Result<()> {
    older(|_| Ok(()), |_| Ok(()))
}

#[test]
fn in_the_middle_of_an_answer() -> Result<()> {
    let whole = answer(1_000_000);
    let rest = whole.clone();
    older(
        move |pair| {
            earlier(pair)?;
            pair.send(&Request::get("/big").head())?;
            pair.answer(&whole[..400_000])
        },
        move |pair| pair.answer(&rest[400_000..]),
    )
}

#[test]
fn in_the_middle_of_a_head() -> Result<()> {
    let head = Request::get("/a/head/in/two/halves").head();
    let rest = head.clone();
    older(
        move |pair| {
            earlier(pair)?;
            pair.send(&head[..20])
        },
        move |pair| {
            pair.send(&rest[20..])?;
            pair.answer(&answer(10))
        },
    )
}

#[test]
fn in_the_middle_of_a_body() -> Result<()> {
    let whole = Request::post("/a/body", 60_000).whole()?;
    let rest = whole.clone();
    older(
        move |pair| pair.send(&whole[..30_000]),
        move |pair| {
            pair.send(&rest[30_000..])?;
            pair.answer(&answer(10))
        },
    )
}
