//! Every map that has a capacity, one after the other, made too small for the load: detail is given up, bytes never, and
//! the page says where.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::ops::Deref;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, binary, only_the_scrape_is_left, pin_dir};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::process::{output, run};
use tempfile::TempDir;

const REQUEST: &[u8] = b"GET /jobs HTTP/1.1\r\nHost: scheduler\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// An agent whose configuration has these lines under `[kernel]`.
struct Small<'a> {
    agent: Agent<'a>,
    _file: TempDir,
}

impl<'a> Small<'a> {
    fn start(namespace: &'a Namespace, kernel: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("sockmeter.toml");
        fs::write(&file, format!("[kernel]\n{kernel}\n"))?;
        let agent = Agent::start(namespace, &["--config", &file.to_string_lossy()])?;
        Ok(Self { agent, _file: folder })
    }
}

impl<'a> Deref for Small<'a> {
    type Target = Agent<'a>;

    fn deref(&self) -> &Agent<'a> {
        &self.agent
    }
}

/// Accepts one connection and gives its two ends.
fn connection(namespace: &Namespace, port: u16) -> Result<(TcpStream, TcpStream)> {
    namespace.enter(|| {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let client = TcpStream::connect(("127.0.0.1", port))?;
        Ok((client, listener.accept()?.0))
    })
}

/// Ends a connection in the way of a client that got its answer.
fn end(mut client: TcpStream, server: TcpStream) -> Result<()> {
    client.shutdown(Shutdown::Write)?;
    drop(server);
    assert_eq!(client.read_to_end(&mut Vec::new())?, 0);
    Ok(())
}

fn ended(agent: &Agent<'_>, connections: f64) -> Result<Page> {
    agent.scrape_until("the end of the connections", |page| {
        let closed = page.sum("sockmeter_sockets_closed_total", &[("protocol", "tcp"), ("role", "server")]);
        only_the_scrape_is_left(page) && closed >= connections
    })
}

fn lost(page: &Page, reason: &str) -> f64 {
    page.sum("sockmeter_lost_total", &[("reason", reason)])
}

fn bytes(count: usize) -> Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}

/// The stream is what was sent, and all of it is booked: for so many exchanges as such, the rest as lost.
fn only_detail_is_lost(page: &Page, requests: usize) -> Result<f64> {
    let exchanges = page.sum("scheduler_http_exchanges_total", &[]);
    let all = bytes(requests)?;
    assert_eq!(page.sum("scheduler_http_requests_total", &[]), all);
    for (direction, size) in [("inbound", REQUEST.len()), ("outbound", ANSWER.len())] {
        let one = [("direction", direction)];
        let of_it = [("direction", direction), ("reason", "lost")];
        let size = bytes(size)?;
        assert_eq!(page.sum("sockmeter_service_stream_bytes_total", &one), all * size, "{direction}");
        assert_eq!(page.sum("scheduler_http_wire_bytes_total", &one), exchanges * size, "{direction}");
        assert_eq!(page.sum("scheduler_http_unattributed_bytes_total", &one), (all - exchanges) * size, "{direction}");
        assert_eq!(
            page.sum("scheduler_http_unattributed_bytes_total", &of_it),
            (all - exchanges) * size,
            "{direction}"
        );
        assert_eq!(page.sum("sockmeter_service_open_bytes", &one), 0.0, "{direction}");
        assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &one), 0.0, "{direction}");
    }
    let sockets = [("role", "server"), ("port", "8080"), ("protocol", "tcp")];
    assert_eq!(page.sum("sockmeter_socket_receive_bytes_total", &sockets), all * bytes(REQUEST.len())?);
    assert_eq!(page.sum("sockmeter_socket_transmit_bytes_total", &sockets), all * bytes(ANSWER.len())?);
    Ok(exchanges)
}

#[test]
fn a_full_journal_costs_detail() -> Result<()> {
    const REQUESTS: usize = 1_000;
    let namespace = Namespace::new()?;
    let mut agent = Small::start(&namespace, "ring_bytes = 65536")?;
    agent.agent.process().stop()?;
    let (mut client, mut server) = connection(&namespace, 8080)?;
    for _ in 0..REQUESTS {
        client.write_all(REQUEST)?;
        server.read_exact(&mut [0; REQUEST.len()])?;
        server.write_all(ANSWER)?;
        client.read_exact(&mut [0; ANSWER.len()])?;
    }
    end(client, server)?;
    agent.agent.process().signal(Signal::SIGCONT)?;
    let page = ended(&agent, 1.0)?;
    let exchanges = only_detail_is_lost(&page, REQUESTS)?;
    // A posting has 144 bytes, its request line 18, the ring's own header 8, in units of eight: 65,536 / 176.
    assert_eq!(exchanges, 372.0);
    assert_eq!(lost(&page, "journal"), bytes(REQUESTS)? - exchanges);
    Ok(())
}

#[test]
fn requests_beyond_the_pipeline_cost_detail() -> Result<()> {
    const REQUESTS: usize = 10;
    let namespace = Namespace::new()?;
    let agent = Small::start(&namespace, "pipelined = 2")?;
    let (mut client, mut server) = connection(&namespace, 8080)?;
    client.write_all(&REQUEST.repeat(REQUESTS))?;
    server.read_exact(&mut [0; REQUEST.len() * REQUESTS])?;
    server.write_all(&ANSWER.repeat(REQUESTS))?;
    client.read_exact(&mut [0; ANSWER.len() * REQUESTS])?;
    end(client, server)?;
    let page = ended(&agent, 1.0)?;
    // Two in the connection and two in the map.
    assert_eq!(page.sum("scheduler_http_exchanges_total", &[]), 4.0);
    for (direction, size) in [("inbound", REQUEST.len()), ("outbound", ANSWER.len())] {
        let one = [("direction", direction)];
        assert_eq!(page.sum("sockmeter_service_stream_bytes_total", &one), bytes(10 * size)?);
        assert_eq!(page.sum("scheduler_http_wire_bytes_total", &one), bytes(4 * size)?);
        let lost = [("direction", direction), ("reason", "lost")];
        assert_eq!(page.sum("scheduler_http_unattributed_bytes_total", &lost), bytes(6 * size)?);
        assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &one), 0.0);
    }
    assert_eq!(lost(&page, "pipeline"), 1.0);
    assert_eq!(page.get(r#"sockmeter_map_entries{map="pipelined"}"#), Some(0.0));
    Ok(())
}

/// Uploads 2 MB in chunks of 1,000 bytes while every seventh packet to the service is dropped, so that much arrives in
/// front of what belongs before it. What was sent, and the page.
fn upload_with_gaps(kernel: &str) -> Result<(f64, Page)> {
    let namespace = Namespace::new()?;
    let agent = Small::start(&namespace, kernel)?;
    // Segments of the usual size instead of 64 KiB, so that there are many.
    namespace.ip(&["link", "set", "lo", "mtu", "1500", "gso_max_size", "1500"])?;
    let rules = "table ip gaps { chain in { type filter hook prerouting priority -300; \
                 tcp dport 8080 numgen inc mod 7 == 0 drop; }; }";
    run(namespace.command("nft").arg(rules))?;
    let mut upload = b"POST /jobs HTTP/1.1\r\nHost: scheduler\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..2_000 {
        upload.extend(b"3e8\r\n");
        upload.extend([b'x'; 1_000]);
        upload.extend(b"\r\n");
    }
    upload.extend(b"0\r\n\r\n");
    let (mut client, mut server) = connection(&namespace, 8080)?;
    let sent = bytes(upload.len())?;
    let mut received = vec![0; upload.len()];
    let sending = thread::spawn(move || client.write_all(&upload).map(|()| client));
    server.read_exact(&mut received)?;
    server.write_all(ANSWER)?;
    let mut client = sending.join().map_err(|_| anyhow!("the sending thread panicked"))??;
    client.read_exact(&mut [0; ANSWER.len()])?;
    end(client, server)?;
    let page = ended(&agent, 1.0)?;
    assert_eq!(page.sum("sockmeter_service_stream_bytes_total", &[("direction", "inbound")]), sent);
    assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &[]), 0.0);
    assert_eq!(page.sum("sockmeter_service_open_bytes", &[]), 0.0);
    // All blocks are given back.
    assert_eq!(page.get(r#"sockmeter_map_entries{map="stash_blocks"}"#), Some(0.0));
    Ok((sent, page))
}

#[test]
fn what_arrives_early_and_finds_no_room_costs_detail() -> Result<()> {
    let (sent, page) = upload_with_gaps("stash_blocks = 1")?;
    let lost_bytes = [("direction", "inbound"), ("reason", "lost")];
    assert_eq!(page.sum("scheduler_http_unattributed_bytes_total", &lost_bytes), sent);
    assert_eq!(page.sum("scheduler_http_wire_bytes_total", &[]), 0.0);
    assert_eq!(lost(&page, "stash"), 1.0);
    Ok(())
}

#[test]
fn what_arrives_early_and_finds_room_is_read() -> Result<()> {
    let (sent, page) = upload_with_gaps("")?;
    assert_eq!(page.sum("scheduler_http_wire_bytes_total", &[("direction", "inbound")]), sent);
    let body = page.get(r#"scheduler_http_request_bytes_total{endpoint="/jobs",method="POST"}"#);
    assert_eq!(body, Some(2_000_000.0));
    assert_eq!(page.sum("sockmeter_lost_total", &[]), 0.0);
    Ok(())
}

/// One connection to each port, in order: the server gets `size` bytes times the port's place, from 1.
fn to_ports(namespace: &Namespace, ports: &[u16], size: usize) -> Result<()> {
    for (place, port) in (1..).zip(ports) {
        let (mut client, mut server) = connection(namespace, *port)?;
        client.write_all(&vec![1; size * place])?;
        server.read_exact(&mut vec![0; size * place])?;
        end(client, server)?;
    }
    Ok(())
}

#[test]
fn totals_without_room_share_an_entry() -> Result<()> {
    let namespace = Namespace::new()?;
    // Two of these are the entries for what finds no room.
    let agent = Small::start(&namespace, "totals = 5")?;
    namespace.enter(|| {
        for (place, port) in (1..).zip(7001..=7004) {
            let server = UdpSocket::bind(("127.0.0.1", port))?;
            let client = UdpSocket::bind("127.0.0.1:0")?;
            client.connect(("127.0.0.1", port))?;
            client.send(&vec![1; 1_000 * place])?;
            server.recv(&mut [0; 8])?;
            drop(server);
        }
        Ok(())
    })?;
    let page = agent.scrape_until("the end of the sockets", |page| {
        page.sum("sockmeter_sockets_closed_total", &[("protocol", "udp")]) == 8.0
    })?;
    let sum = |what: &str, labels: &[(&str, &str)]| page.sum(&format!("sockmeter_socket_{what}_bytes_total"), labels);
    // The first two ports' sockets have three of the entries, the rest shares one.
    assert_eq!(sum("receive", &[("protocol", "udp")]), 10_000.0);
    assert_eq!(sum("transmit", &[("protocol", "udp")]), 10_000.0);
    assert_eq!(sum("receive", &[("role", "server"), ("port", "7001")]), 1_000.0);
    assert_eq!(sum("transmit", &[("role", "client"), ("port", "7001")]), 1_000.0);
    assert_eq!(sum("receive", &[("role", "server"), ("port", "7002")]), 2_000.0);
    assert_eq!(sum("receive", &[("protocol", "udp"), ("port", "other")]), 7_000.0);
    assert_eq!(sum("transmit", &[("protocol", "udp"), ("port", "other")]), 9_000.0);
    assert_eq!(page.get(r#"sockmeter_map_entries{map="totals"}"#), Some(5.0));
    assert_eq!(page.get(r#"sockmeter_map_capacity{map="totals"}"#), Some(5.0));
    // Five of the eight sockets, and the scrapes' own.
    assert!(lost(&page, "totals") >= 5.0);
    Ok(())
}

#[test]
fn round_trips_without_room_share_an_entry() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Small::start(&namespace, "round_trips = 2")?;
    to_ports(&namespace, &[7001, 7002, 7003], 1_000)?;
    let page = agent.scrape_until("the end of the connections", |page| {
        page.sum("sockmeter_sockets_closed_total", &[("protocol", "tcp")]) >= 6.0
    })?;
    let closed = page.sum("sockmeter_sockets_closed_total", &[("protocol", "tcp")]);
    assert_eq!(page.sum("sockmeter_tcp_round_trip_seconds_count", &[]), closed);
    assert_eq!(page.get(r#"sockmeter_map_entries{map="round_trips"}"#), Some(2.0));
    Ok(())
}

#[test]
fn a_listener_without_room_costs_the_role_of_older_sockets() -> Result<()> {
    let namespace = Namespace::new()?;
    let pairs = namespace.enter(|| {
        [7001, 7002]
            .map(|port| -> Result<_> {
                let listener = TcpListener::bind(("127.0.0.1", port))?;
                let client = TcpStream::connect(("127.0.0.1", port))?;
                let (server, _) = listener.accept()?;
                Ok((listener, client, server))
            })
            .into_iter()
            .collect::<Result<Vec<_>>>()
    })?;
    let agent = Small::start(&namespace, "listeners = 1")?;
    // First sight: what older connections carried before that is not booked.
    agent.scrape()?;
    for (_, mut client, mut server) in pairs.iter().map(|(listener, client, server)| (listener, client, server)) {
        client.write_all(&[1; 1_000])?;
        server.read_exact(&mut [0; 1_000])?;
    }
    let page = agent.scrape()?;
    // Which listener has the room is the kernel's choice: the bytes are there all the same, once. The rest is the scrape.
    let scrape = agent.url().rsplit(':').next().context("no port")?.to_owned();
    let of_the_test = page.sum("sockmeter_socket_receive_bytes_total", &[("protocol", "tcp")])
        - page.sum("sockmeter_socket_receive_bytes_total", &[("protocol", "tcp"), ("port", &scrape)]);
    assert_eq!(of_the_test, 2_000.0, "{}", page.text());
    assert!(lost(&page, "listeners") >= 1.0);
    Ok(())
}

#[test]
fn an_interface_without_room_is_not_attached_to() -> Result<()> {
    let (namespace, other) = (Namespace::new()?, Namespace::new()?);
    namespace.connect(&other)?;
    let agent = Small::start(&namespace, "interfaces = 1")?;
    let page = agent.scrape()?;
    let attached: f64 = page.sum("sockmeter_program_attached", &[("program", "interface_receives")]);
    assert_eq!(attached, 1.0);
    let series = page.family("sockmeter_program_attached");
    assert_eq!(
        series.filter(|(labels, _)| labels.get("program").is_some_and(|name| name == "interface_receives")).count(),
        2
    );
    let counted = page.family("sockmeter_interface_receive_bytes_total").count();
    // One interface, three families.
    assert_eq!(counted, 3);
    assert!(agent.log()?.contains("its map has no room for another interface (kernel.interfaces)"));
    Ok(())
}

#[test]
fn series_without_room_share_others() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Small::start(&namespace, "cells = 256")?;
    let (mut client, mut server) = connection(&namespace, 8080)?;
    let mut answered = 0;
    for status in (200..=599).filter(|status| ![204, 304, 404, 405].contains(status)).take(300) {
        client.write_all(REQUEST)?;
        server.read_exact(&mut [0; REQUEST.len()])?;
        let answer = format!("HTTP/1.1 {status} Some\r\nContent-Length: 5\r\n\r\nhello");
        server.write_all(answer.as_bytes())?;
        client.read_exact(&mut vec![0; answer.len()])?;
        answered += answer.len();
    }
    end(client, server)?;
    let page = ended(&agent, 1.0)?;
    assert_eq!(page.sum("scheduler_http_exchanges_total", &[]), 300.0);
    let wire = |direction| page.sum("scheduler_http_wire_bytes_total", &[("direction", direction)]);
    assert_eq!([wire("inbound"), wire("outbound")], [bytes(300 * REQUEST.len())?, bytes(answered)?]);
    let of = |labels: &[(&str, &str)]| page.sum("scheduler_http_exchanges_total", labels);
    // 128 have their own, 64 keep at least method and status, one takes all the rest.
    assert_eq!(of(&[("endpoint", "/jobs")]), 128.0);
    assert_eq!(of(&[("endpoint", "other"), ("method", "GET")]), 64.0);
    assert_eq!(of(&[("endpoint", "other"), ("method", "OTHER")]), 108.0);
    assert_eq!(lost(&page, "cells"), 172.0);
    assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &[]), 0.0);
    Ok(())
}

#[test]
fn more_services_than_there_is_room_for_are_refused() -> Result<()> {
    let pins = pin_dir();
    let services = (0..65).map(|number| format!("--service=service{number}={}", 9_000 + number));
    let refused = output(
        std::process::Command::new(binary())
            .args(["run", "--listen", "127.0.0.1:0", "--pin-dir"])
            .arg(&pins)
            .args(services),
    )?;
    let said = String::from_utf8(refused.stderr).context("not UTF-8")?;
    assert_eq!(said.lines().next(), Some("error: 65 services are configured, wanted at most 64"));
    assert_eq!(refused.status.code(), Some(2));
    assert!(!pins.exists());
    Ok(())
}
