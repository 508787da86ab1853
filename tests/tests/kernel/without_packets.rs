//! What is looked at in packets is a choice (`[observe]`): without services and UDP no program runs for a packet, and TCP
//! is counted all the same.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, pin_dir};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;

const PORT: u16 = 8080;
const REQUEST: &[u8] = b"GET /jobs HTTP/1.1\r\nHost: scheduler\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// One exchange over TCP, and a datagram of 100 bytes.
fn talk(namespace: &Namespace) -> Result<()> {
    namespace.enter(|| {
        let listener = TcpListener::bind(("127.0.0.1", PORT))?;
        let mut client = TcpStream::connect(("127.0.0.1", PORT))?;
        let (mut server, _) = listener.accept()?;
        client.write_all(REQUEST)?;
        server.read_exact(&mut [0; REQUEST.len()])?;
        server.write_all(ANSWER)?;
        client.read_exact(&mut [0; ANSWER.len()])?;
        let (one, other) = (UdpSocket::bind("127.0.0.1:5330")?, UdpSocket::bind("127.0.0.1:0")?);
        other.connect("127.0.0.1:5330")?;
        other.send(&[7; 100])?;
        assert_eq!(one.recv(&mut [0; 200])?, 100);
        Ok(())
    })
}

/// What is pinned that runs for packets of sockets.
fn of_packets(pins: &Path) -> Result<BTreeSet<String>> {
    let names = fs::read_dir(pins.join("links"))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Result<BTreeSet<String>> = names.collect();
    Ok(names?.into_iter().filter(|name| name.starts_with("packet_")).collect())
}

/// `[TCP received by servers, UDP sent by clients, exchanges]`
fn booked(page: &Page) -> [f64; 3] {
    let server = [("protocol", "tcp"), ("role", "server"), ("port", "8080")];
    [
        page.sum("sockmeter_socket_receive_bytes_total", &server),
        page.sum("sockmeter_socket_transmit_bytes_total", &[("protocol", "udp"), ("port", "5330")]),
        page.sum("scheduler_http_exchanges_total", &[]),
    ]
}

fn killed(mut agent: Agent<'_>) -> Result<PathBuf> {
    let pins = agent.pins().clone();
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    // Its pins are what the next one goes on with.
    std::mem::forget(agent);
    Ok(pins)
}

#[test]
fn tcp_is_counted_while_no_program_runs_for_a_packet() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = |name: &str, text: &str| -> Result<String> {
        let file = folder.path().join(name);
        fs::write(&file, format!("[observe]\n{text}\n"))?;
        Ok(file.to_string_lossy().into_owned())
    };
    let neither = config("neither.toml", "http = false\nudp = false")?;
    let exchanges = config("exchanges.toml", "udp = false")?;
    let namespace = Namespace::new()?;
    let request = f64::from(u32::try_from(REQUEST.len())?);

    let agent = Agent::start_pinned(&namespace, &["--config", &neither], pin_dir())?;
    assert_eq!(of_packets(agent.pins())?, BTreeSet::new());
    talk(&namespace)?;
    let page = agent.scrape()?;
    assert_eq!(booked(&page), [request, 0.0, 0.0]);
    // Not measured is absent, not 0.
    assert_eq!(page.text().lines().filter(|line| line.contains("protocol=\"udp\"")).count(), 0);
    assert_eq!(page.text().lines().filter(|line| line.starts_with("scheduler_http_")).count(), 0);
    assert_eq!(page.text().lines().filter(|line| line.contains("program=\"packet_")).count(), 0);

    // Wanted after all: both ways from one to the other, with the books that are there.
    let agent = Agent::start_pinned(&namespace, &[], killed(agent)?)?;
    let both: BTreeSet<String> = ["packet_received", "packet_sent"].map(ToOwned::to_owned).into();
    assert_eq!(of_packets(agent.pins())?, both);
    talk(&namespace)?;
    assert_eq!(booked(&agent.scrape()?), [2.0 * request, 100.0, 1.0]);

    let agent = Agent::start_pinned(&namespace, &["--config", &exchanges], killed(agent)?)?;
    assert_eq!(of_packets(agent.pins())?, both);
    talk(&namespace)?;
    assert_eq!(booked(&agent.scrape()?), [3.0 * request, 100.0, 2.0]);

    let agent = Agent::start_pinned(&namespace, &["--config", &neither], killed(agent)?)?;
    assert_eq!(of_packets(agent.pins())?, BTreeSet::new());
    talk(&namespace)?;
    assert_eq!(booked(&agent.scrape()?)[..2], [4.0 * request, 100.0]);
    Ok(())
}
