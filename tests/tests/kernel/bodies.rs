//! A long answer while it is sent: what a page says in the middle of it, and what an end in the middle leaves. How bytes are sent
//! is `sending`'s.

use std::mem::offset_of;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData};
use nix::sys::signal::Signal;
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
use crate::upgrade::set_version;

/// What is written at once: less than half a window, so TCP sends it as one packet (`forced_push`, net/ipv4/tcp.c).
const PIECE: usize = 16_000;
/// Pieces of an answer.
const PIECES: usize = 64;
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

/// Does what is not to be passed over meanwhile: the agent comes by every few seconds, not for scrapes alone.
fn unwatched<T>(agent: &mut Agent<'_>, act: impl FnOnce() -> Result<T>) -> Result<T> {
    agent.process().stop()?;
    let done = act();
    agent.signal(Signal::SIGCONT)?;
    done
}

/// The places of bodies.
type Places = Array<MapData, [u8; size_of::<Body>()]>;

fn places(pins: &Path) -> Result<Places> {
    Ok(Map::Array(MapData::from_pin(pins.join("maps/BODIES"))?).try_into()?)
}

fn is_noted(body: &[u8; size_of::<Body>()]) -> bool {
    body[offset_of!(Body, socket)..][..8] != [0; 8]
}

/// How many bodies are noted whose packets nothing more is looked up for.
fn noted(pins: &Path) -> Result<usize> {
    let bodies = places(pins)?.iter().collect::<Result<Vec<_>, _>>()?;
    Ok(bodies.iter().filter(|body| is_noted(body)).count())
}

/// Whether that of this connection is, and has ended since.
fn is_ended(pins: &Path, [client, _]: &[Wire; 2]) -> Result<bool> {
    let port = client.stream().local_addr()?.port();
    let body = places(pins)?.get(&Body::place(8080, port), 0)?;
    Ok(is_noted(&body) && body[offset_of!(Body, ended)..][..8] != [0; 8])
}

/// A request and its answer. Whether that was noted to have ended.
fn whole_answer(request: &Request, ends: &mut [Wire; 2], pins: &Path) -> Result<bool> {
    let [client, server] = &mut *ends;
    client.write(&request.head())?;
    server.head()?.context("no request")?;
    begin(ends)?;
    go_on(ends, PIECES)?;
    is_ended(pins, ends)
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
    let mut agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
    let request = Request::get("/long");
    let ends = namespace.enter(|| {
        let mut ends = asked(&request)?;
        begin(&mut ends)?;
        for _ in 0..4 {
            // With a page in front of them, and without one between.
            all_is_open(&agent.scrape()?, &ends);
            assert_eq!(noted(&pins)?, 0);
            unwatched(&mut agent, || {
                go_on(&mut ends, PIECES / 8)?;
                assert_eq!(noted(&pins)?, 1);
                Ok(())
            })?;
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
    let mut agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
    let request = Request::get("/half");
    let ends = namespace.enter(|| {
        unwatched(&mut agent, || {
            let ends = half(asked(&request)?)?;
            assert_eq!(noted(&pins)?, 1);
            Ok(ends)
        })
    })?;
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
    let mut agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
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
        let places = places(&pins)?;
        for exchange in 0..4 {
            for ends in &mut pairs {
                let [client, server] = &mut *ends;
                client.write(&request.head())?;
                server.head()?.context("no request")?;
                begin(ends)?;
            }
            // In turns, now the one in front and now the other.
            for half in 0..2 {
                unwatched(&mut agent, || {
                    for piece in 0..PIECES / 2 {
                        go_on(&mut pairs[exchange % 2], 1)?;
                        go_on(&mut pairs[1 - exchange % 2], 1)?;
                        assert!(is_noted(&places.get(&Body::place(8080, first), 0)?), "{exchange} {half} {piece}");
                    }
                    Ok(())
                })?;
                agent.scrape()?;
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

/// An answer whose last packet needed nothing that is kept of the connection: it is complete all the same, for a page, for the next
/// answer and when the connection ends.
#[test]
fn an_answer_that_ended_is_an_exchange_whatever_comes_next() -> Result<()> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let mut agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
    let request = Request::get("/long");
    let requests = |page: &Page| {
        page.get("scheduler_http_exchanges_total{endpoint=\"/long\",method=\"GET\",status=\"200\"}").map_or(0, whole)
    };
    let ends = namespace.enter(|| {
        let mut ends = connected()?;
        for exchange in 0..6 {
            assert!(unwatched(&mut agent, || whole_answer(&request, &mut ends, &pins))?);
            if exchange % 2 == 1 {
                let page = agent.scrape()?;
                assert!(!is_ended(&pins, &ends)?);
                assert_eq!(requests(&page), exchange + 1);
                balanced(&page);
            }
        }
        assert!(unwatched(&mut agent, || whole_answer(&request, &mut ends, &pins))?);
        Ok(ends)
    })?;
    let all = counted(&ends, 7);
    drop(ends);
    let mut clients = Tally::default();
    request.tally(&mut clients, "/long", all, number(LENGTH));
    exact(&agent, &clients, all)?;
    Ok(())
}

/// Nothing is sent behind it on the server's socket, not even what acknowledges a FIN.
#[test]
fn an_answer_that_ended_is_an_exchange_though_the_client_resets() -> Result<()> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let mut agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
    let request = Request::get("/long");
    let ends = namespace.enter(|| {
        unwatched(&mut agent, || {
            let mut ends = connected()?;
            assert!(whole_answer(&request, &mut ends, &pins)?);
            let [client, mut server] = ends;
            let sent = [client.sent(), server.sent()];
            reset(client.stream())?;
            drop(client);
            assert!(server.head().is_err(), "the connection was not reset");
            assert_eq!(noted(&pins)?, 0);
            Ok(sent)
        })
    })?;
    let all = Counted { connections: 1, exchanges: 1, inbound: ends[0], outbound: ends[1] };
    let page = ended(&agent, all)?;
    let mut clients = Tally::default();
    request.tally(&mut clients, "/long", all, number(LENGTH));
    assert_eq!(Tally::of_page(&page, "scheduler").differences(&clients), Vec::<String>::new());
    balanced(&page);
    Ok(())
}

/// While an upgrade goes on, programs of an earlier layout would not look whether a body ended: none is noted to have.
#[test]
fn no_answer_is_noted_to_have_ended_while_an_upgrade_goes_on() -> Result<()> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let mut agent = Agent::start_pinned(&namespace, &[], pins.clone())?;
    let request = Request::get("/long");
    let ends = namespace.enter(|| {
        let mut ends = connected()?;
        for (version, is_noted) in [(9, false), (10, true), (9, false)] {
            set_version(&pins, version)?;
            assert_eq!(unwatched(&mut agent, || whole_answer(&request, &mut ends, &pins))?, is_noted, "{version}");
        }
        set_version(&pins, 10)?;
        Ok(ends)
    })?;
    let all = counted(&ends, 3);
    drop(ends);
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
