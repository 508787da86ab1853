//! A long answer while it is sent: what a page says in the middle of it, and what an end in the middle leaves. How bytes are sent
//! is `sending`'s.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use sockmeter_ebpf::body::Body;
use sockmeter_tests::agent::{Agent, pin_dir};
use sockmeter_tests::connection::Request;
use sockmeter_tests::message::{Wire, number};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::server::Counted;
use sockmeter_tests::tally::{Sides, Tally, whole};

use crate::ends::reset;
use crate::equal_books::balanced;
use crate::exact::{ended, exact, unattributed};

/// What is written at once.
const PIECE: usize = 50_000;
/// Pieces of an answer.
const PIECES: usize = 40;
const LENGTH: usize = PIECE * PIECES;

/// Both ends of a connection to port 8080.
fn connected() -> Result<[Wire; 2]> {
    let listener = TcpListener::bind("127.0.0.1:8080")?;
    let client = TcpStream::connect("127.0.0.1:8080")?;
    Ok([client, listener.accept()?.0].map(Wire::new))
}

/// The same, and a request that was taken.
fn asked(request: &Request) -> Result<[Wire; 2]> {
    let [mut client, mut server] = connected()?;
    client.write(&request.head())?;
    server.head()?.context("no request")?;
    Ok([client, server])
}

/// The head of the answer.
fn begin([client, server]: &mut [Wire; 2]) -> Result<()> {
    server.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes())?;
    client.head()?.context("no answer")?;
    Ok(())
}

/// So many pieces of it, one after the other.
fn go_on([client, server]: &mut [Wire; 2], pieces: usize) -> Result<()> {
    for _ in 0..pieces {
        server.write_body(number(PIECE))?;
        client.skip(number(PIECE))?;
    }
    Ok(())
}

/// How many bodies are noted whose packets nothing more is looked up for.
fn noted(pins: &Path) -> Result<usize> {
    let bodies: Array<_, [u8; size_of::<Body>()]> =
        Map::Array(MapData::from_pin(pins.join("maps/BODIES"))?).try_into()?;
    let sockets = bodies.iter().map(|body| Ok(body?[..8] != [0; 8])).collect::<Result<Vec<_>>>()?;
    Ok(sockets.into_iter().filter(|is_noted| *is_noted).count())
}

/// The head and half of the answer.
fn half(mut ends: [Wire; 2]) -> Result<[Wire; 2]> {
    begin(&mut ends)?;
    go_on(&mut ends, PIECES / 2)?;
    Ok(ends)
}

/// Every byte so far is open, in both directions, and the books balance.
fn all_is_open(page: &Page, [client, server]: &[Wire; 2]) {
    for (direction, bytes) in [("inbound", client.sent()), ("outbound", server.sent())] {
        let labels = format!("{{direction=\"{direction}\",service=\"scheduler\"}}");
        let of = |family: &str| page.get(&format!("{family}{labels}")).map(whole);
        assert_eq!(of("sockmeter_service_open_bytes"), Some(bytes), "{direction}");
        assert_eq!(of("sockmeter_service_stream_bytes_total"), Some(bytes), "{direction}");
        assert_eq!(page.get(&format!("sockmeter_ledger_imbalance_bytes{labels}")), Some(0.0), "{direction}");
    }
}

fn counted([client, server]: &[Wire; 2], exchanges: u64) -> Counted {
    Counted { connections: 1, exchanges, inbound: client.sent(), outbound: server.sent() }
}

#[test]
fn in_the_middle_of_an_answer_what_was_sent_is_open() -> Result<()> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
    let request = Request::get("/long");
    let ends = namespace.enter(|| {
        let mut ends = asked(&request)?;
        begin(&mut ends)?;
        for _ in 0..4 {
            // With a page in front of them, and without one between.
            all_is_open(&agent.scrape()?, &ends);
            assert_eq!(noted(&pins)?, 0);
            go_on(&mut ends, PIECES / 8)?;
            assert_eq!(noted(&pins)?, 1);
            all_is_open(&agent.scrape()?, &ends);
            go_on(&mut ends, PIECES / 8)?;
        }
        Ok(ends)
    })?;
    let all = counted(&ends, 1);
    drop(ends);
    let mut clients = Tally::default();
    request.tally(&mut clients, "/long", all, number(LENGTH));
    exact(&agent, &clients, all)?;
    Ok(())
}

#[test]
fn an_answer_that_ends_in_the_middle_has_what_was_sent() -> Result<()> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
    let request = Request::get("/half");
    let ends = namespace.enter(|| half(asked(&request)?))?;
    assert_eq!(noted(&pins)?, 1);
    let all = counted(&ends, 1);
    drop(ends);
    let page = ended(&agent, all)?;
    assert_eq!(noted(&pins)?, 0);
    let mut clients = Tally::default();
    clients.add(
        "GET",
        "/half",
        "200",
        Sides { inbound: all.inbound, outbound: all.outbound, request_body: 0 },
        number(LENGTH / 2),
    );
    assert_eq!(Tally::of_page(&page, "scheduler").differences(&clients), Vec::<String>::new());
    balanced(&page);
    Ok(())
}

/// A connection from `port` of this host.
fn connect_from(port: u16) -> Result<TcpStream> {
    let descriptor = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(descriptor.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port))?;
    connect(descriptor.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 8080))?;
    Ok(TcpStream::from(descriptor))
}

/// Two long answers at once whose packets are looked for in one place.
#[test]
fn answers_whose_places_are_one_are_told_apart() -> Result<()> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
    let request = Request::get("/long");
    let first = 20_000;
    let second = (first + 1..u16::MAX).find(|port| Body::place(8080, *port) == Body::place(8080, first));
    let ports = [first, second.context("no two ports meet")?];
    let pairs = namespace.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:8080")?;
        let mut pairs = Vec::new();
        for port in ports {
            let client = connect_from(port)?;
            pairs.push([client, listener.accept()?.0].map(Wire::new));
        }
        for exchange in 0..4 {
            for ends in &mut pairs {
                let [client, server] = &mut *ends;
                client.write(&request.head())?;
                server.head()?.context("no request")?;
                begin(ends)?;
            }
            // In turns, now the one in front and now the other.
            for piece in 0..PIECES {
                go_on(&mut pairs[exchange % 2], 1)?;
                if piece == PIECES / 2 {
                    agent.scrape()?;
                }
                go_on(&mut pairs[1 - exchange % 2], 1)?;
                // One of the two, as long as there is something to come.
                assert_eq!(noted(&pins)?, usize::from(piece + 1 < PIECES));
            }
        }
        Ok(pairs)
    })?;
    let all = pairs.iter().map(|ends| counted(ends, 4)).fold(Counted::default(), |mut all, one| {
        all += one;
        all
    });
    drop(pairs);
    let mut clients = Tally::default();
    request.tally(&mut clients, "/long", all, number(LENGTH));
    exact(&agent, &clients, all)?;
    Ok(())
}

/// The reset is the only packet behind the last piece, and nothing is sent on the server's socket any more.
#[test]
fn an_answer_that_nobody_asked_for_was_seen_as_far_as_it_went() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let ends = namespace.enter(|| half(connected()?))?;
    let all = counted(&ends, 0);
    let [client, mut server] = ends;
    reset(client.stream())?;
    drop(client);
    assert!(server.head().is_err(), "the connection was not reset");
    let page = ended(&agent, all)?;
    assert_eq!(unattributed(&page, "not_http"), [0, all.outbound]);
    balanced(&page);
    Ok(())
}
