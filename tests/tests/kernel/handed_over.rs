//! Sockets that another process serves than the one that made them, and listeners that share a port: every byte counts
//! once, with the name of the process that uses the socket. Jobs whose sockets go from one to the other are in `owners`.

use std::io::IoSlice;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrIn, bind, listen, sendmsg,
    setsockopt, socket, sockopt,
};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Connection, Request, storm};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::server::{ANSWER, Counted, Server};
use sockmeter_tests::tally::{Tally, whole};

use crate::exact::exact;

/// Starts a process that serves one exchange on `given`.
fn inherited(how: &str, given: impl Into<OwnedFd>) -> Result<std::process::Child> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("load/inherited.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(how).stdin(Stdio::from(given.into())).stdout(Stdio::piped());
    command.spawn().context("cannot start python3")
}

/// What that process counted, in its words.
fn served(child: std::process::Child) -> Result<String> {
    Ok(String::from_utf8(child.wait_with_output()?.stdout)?)
}

/// Posts from this process, with whatever serves it.
fn ask(request: &Request, serve: impl FnOnce(&TcpListener) -> Result<std::process::Child>) -> Result<Counted> {
    let listener = TcpListener::bind("127.0.0.1:8080")?;
    let mut connection = Connection::on(TcpStream::connect("127.0.0.1:8080")?);
    let child = serve(&listener)?;
    drop(listener);
    connection.exchange(request)?;
    let counted = connection.counted();
    drop(connection);
    assert_eq!(served(child)?, format!("{} {}\n", counted.inbound, counted.outbound));
    Ok(counted)
}

/// The bytes of the service were this test's.
fn belong_to_us(page: &Page, counted: Counted) -> Result<()> {
    belong_to(page, std::fs::read_to_string("/proc/self/comm")?.trim_end(), counted);
    Ok(())
}

/// The bytes of the service were that process'.
fn belong_to(page: &Page, process: &str, counted: Counted) {
    let labels = [("process", process), ("port", "8080"), ("role", "server")];
    assert_eq!(whole(page.sum("sockmeter_socket_receive_bytes_total", &labels)), counted.inbound);
    assert_eq!(whole(page.sum("sockmeter_socket_transmit_bytes_total", &labels)), counted.outbound);
}

fn one(serve: impl FnOnce(&TcpListener) -> Result<std::process::Child> + Send) -> Result<()> {
    let namespace = Namespace::new()?;
    let mut agent = Agent::start(&namespace, &[])?;
    let request = Request::post("/jobs", 50_000);
    // Nothing is booked before somebody uses the connection.
    agent.process().stop()?;
    let counted = namespace.enter(|| ask(&request, serve))?;
    agent.process().signal(Signal::SIGCONT)?;
    let mut clients = Tally::default();
    request.tally(&mut clients, "/jobs", counted, ANSWER);
    belong_to(&exact(&agent, &clients, counted)?, "python3", counted);
    Ok(())
}

#[test]
fn a_listener_that_a_child_inherited() -> Result<()> {
    one(|listener| inherited("listener", listener.try_clone()?))
}

#[test]
fn a_connection_that_a_child_inherited() -> Result<()> {
    one(|listener| inherited("connection", listener.accept()?.0))
}

#[test]
fn a_connection_that_was_passed_to_another_process() -> Result<()> {
    one(|listener| {
        let (here, there) = UnixStream::pair()?;
        let child = inherited("passed", there)?;
        let (connection, _) = listener.accept()?;
        let descriptors = [connection.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        sendmsg::<()>(here.as_raw_fd(), &[IoSlice::new(b"c")], &rights, MsgFlags::empty(), None)?;
        Ok(child)
    })
}

/// A listener that others may listen beside.
fn shared() -> Result<TcpListener> {
    let descriptor = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&descriptor, sockopt::ReusePort, &true)?;
    bind(descriptor.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 8080))?;
    listen(&descriptor, Backlog::new(128)?)?;
    Ok(TcpListener::from(descriptor))
}

#[test]
fn listeners_that_share_a_port() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let listeners = namespace.enter(|| (0..4).map(|_| shared()).collect::<Result<Vec<_>>>())?;
    let servers = listeners.into_iter().map(|listener| Server::on(listener, 8)).collect::<Result<Vec<_>>>()?;
    let to = servers[0].address();
    let request = Request::post("/jobs", 1_000);
    let asked = storm(&namespace, &[to], &request, 8, 400)?;
    let mut clients = Tally::default();
    request.tally(&mut clients, "/jobs", asked, ANSWER);
    let mut served = Counted::default();
    for server in servers {
        let one = server.finish()?;
        assert!(one.connections > 0, "one of the listeners had nothing to do");
        served += one;
    }
    assert_eq!(served, asked);
    belong_to_us(&exact(&agent, &clients, asked)?, asked)
}

#[test]
fn both_address_families_at_one_listener() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let server = Server::start(&namespace, "[::]:8080", 8)?;
    let request = Request::post("/jobs", 1_000);
    // The first comes as a v4-mapped address of an IPv6 socket.
    let mut all = Counted::default();
    for to in ["127.0.0.1:8080", "[::1]:8080"] {
        all += storm(&namespace, &[to.parse()?], &request, 4, 100)?;
    }
    let mut clients = Tally::default();
    request.tally(&mut clients, "/jobs", all, ANSWER);
    assert_eq!(server.finish()?, all);
    belong_to_us(&exact(&agent, &clients, all)?, all)
}

#[test]
fn a_unix_socket_is_not_seen() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    // Nothing but what a quiet agent's own scrapes add may change.
    let seen = |page: &Page| {
        let families = ["sockmeter_sockets_opened_total", "sockmeter_sockets_closed_total"];
        let count = families.map(|family| page.sum(family, &[("role", "client")]));
        (count, page.family("sockmeter_socket_receive_bytes_total").count())
    };
    agent.scrape()?;
    let before = seen(&agent.scrape()?);
    namespace.enter(|| {
        let (client, server) = UnixStream::pair()?;
        thread::scope(|scope| {
            let serving = scope.spawn(move || inherited("connection", server).and_then(served));
            let mut client = client;
            std::io::Write::write_all(&mut client, &Request::get("/jobs").head())?;
            std::io::Read::read_exact(&mut client, &mut [0; 296])?;
            drop(client);
            assert_eq!(serving.join().ok().transpose()?.as_deref(), Some("31 296\n"));
            Ok(())
        })
    })?;
    let page = agent.scrape()?;
    let after = seen(&page);
    // One scrape opened and one closed since.
    assert_eq!(after.0.map(|count| count - 1.0), before.0);
    assert_eq!(after.1, before.1);
    assert_eq!(page.get("scheduler_http_requests_total"), Some(0.0));
    assert_eq!(page.sum("sockmeter_service_stream_bytes_total", &[]), 0.0);
    Ok(())
}
