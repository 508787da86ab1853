//! Payload that comes with the handshake: TCP Fast Open, and data on the ACK that ends it.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, sendto, socket};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Connection, Request};
use sockmeter_tests::message::number;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::option;
use sockmeter_tests::server::{ANSWER, Counted, Server};
use sockmeter_tests::tally::Tally;

use crate::exact::exact;

/// `MSG_FASTOPEN` of `include/linux/socket.h`.
const FASTOPEN: i32 = 0x2000_0000;
const CONNECTIONS: u64 = 50;

/// Fast Open for clients and servers of this namespace, all listeners, and without a cookie
/// (`Documentation/networking/ip-sysctl.rst`, `tcp_fastopen`).
fn allow() -> Result<()> {
    Ok(fs::write("/proc/sys/net/ipv4/tcp_fastopen", "0x607")?)
}

/// Connections that the kernel opened with data (`TcpExt: TCPFastOpenPassive`).
fn opened_with_data() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_whitespace);
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let found = names.zip(values).find(|(name, _)| *name == "TCPFastOpenPassive");
    Ok(found.context("no TCPFastOpenPassive")?.1.parse()?)
}

/// Sends a request with the SYN, as far as it fits, and the rest behind it; then another one.
fn fast(to: SocketAddr, request: &Request) -> Result<Counted> {
    let descriptor = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let bytes = request.whole()?;
    let flags = MsgFlags::from_bits_retain(FASTOPEN);
    let sent = sendto(descriptor.as_raw_fd(), &bytes, &SockaddrStorage::from(to), flags)?;
    let mut connection = Connection::on(TcpStream::from(descriptor));
    connection.wire().write(&bytes[sent..])?;
    connection.answer()?;
    connection.exchange(request)?;
    let counted = connection.counted();
    Ok(Counted { inbound: counted.inbound + number(sent), ..counted })
}

#[test]
fn what_comes_with_a_syn_is_an_exchange() -> Result<()> {
    let namespace = Namespace::new()?;
    namespace.enter(allow)?;
    let agent = Agent::start(&namespace, &[])?;
    let server = Server::start(&namespace, "127.0.0.1:8080", 4)?;
    let (mut clients, mut all) = (Tally::default(), Counted::default());
    for (target, body) in [("/in/the/syn", 0), ("/more/than/the/syn", 70_000)] {
        let request = if body == 0 { Request::get(target) } else { Request::post(target, body) };
        let mut sum = Counted::default();
        for _ in 0..CONNECTIONS {
            sum += namespace.enter(|| fast(server.address(), &request))?;
        }
        request.tally(&mut clients, target, sum, ANSWER);
        all += sum;
    }
    assert_eq!(namespace.enter(opened_with_data)?, 2 * CONNECTIONS);
    assert_eq!(server.finish()?, all);
    exact(&agent, &clients, all)?;
    Ok(())
}

/// Connects to a listener that makes no connection of a bare ACK, so the first request ends the handshake.
fn deferred(listener: TcpListener, request: &Request) -> Result<Counted> {
    let to = listener.local_addr()?;
    let server = Server::on(listener, 1)?;
    let mut sum = Counted::default();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(to)?;
        connection.exchange(request)?;
        connection.exchange(request)?;
        sum += connection.counted();
    }
    assert_eq!(server.finish()?, sum);
    Ok(sum)
}

#[test]
fn what_comes_with_the_last_ack_is_an_exchange() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let (get, post) = (Request::get("/small"), Request::post("/large", 70_000));
    let (gets, posts) = namespace.enter(|| {
        let listen = || -> Result<TcpListener> {
            let listener = TcpListener::bind("127.0.0.1:8080")?;
            option::set(&listener, option::TCP, option::DEFER_ACCEPT, 5)?;
            Ok(listener)
        };
        Ok((deferred(listen()?, &get)?, deferred(listen()?, &post)?))
    })?;
    let mut clients = Tally::default();
    get.tally(&mut clients, "/small", gets, ANSWER);
    post.tally(&mut clients, "/large", posts, ANSWER);
    let mut all = gets;
    all += posts;
    exact(&agent, &clients, all)?;
    Ok(())
}
