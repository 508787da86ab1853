//! Socket counters against what both ends counted: UDP connected and unconnected, over IPv4 and IPv6; TCP that rests and
//! moves again. TCP of observed services is in `equal_books`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;

use anyhow::Result;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::namespace::Namespace;

/// Sends `count` datagrams of `size` bytes to an echo and back.
fn echo(server: &str, client: &str, connected: bool, count: usize, size: usize) -> Result<()> {
    let server = UdpSocket::bind(server)?;
    let to = server.local_addr()?;
    let client = UdpSocket::bind(client)?;
    if connected {
        client.connect(to)?;
    }
    let mut buffer = vec![7; size];
    for _ in 0..count {
        let sent = if connected { client.send(&buffer)? } else { client.send_to(&buffer, to)? };
        assert_eq!(sent, size);
        let (received, from) = server.recv_from(&mut buffer)?;
        server.send_to(&buffer[..received / 2], from)?;
        assert_eq!(client.recv(&mut buffer)?, size / 2);
    }
    Ok(())
}

#[test]
fn udp_payload_equals_what_both_ends_counted() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    namespace.enter(|| echo("127.0.0.1:5300", "127.0.0.1:0", true, 50, 1000))?;
    namespace.enter(|| echo("[::1]:5301", "[::1]:0", true, 20, 400))?;
    // 40,000 bytes of payload: fragments on the wire, one datagram for both ends.
    namespace.enter(|| echo("127.0.0.1:5302", "127.0.0.1:0", true, 5, 40_000))?;
    let page = agent.scrape_until("six closed sockets", |page| {
        page.sum("sockmeter_sockets_closed_total", &[("protocol", "udp")]) == 6.0
    })?;
    for (port, count, size) in [("5300", 50.0, 1000.0), ("5301", 20.0, 400.0), ("5302", 5.0, 40_000.0)] {
        for (role, received, sent) in
            [("server", count * size, count * size / 2.0), ("client", count * size / 2.0, count * size)]
        {
            let labels = [("protocol", "udp"), ("port", port), ("role", role)];
            assert_eq!(page.sum("sockmeter_socket_receive_bytes_total", &labels), received, "{role} {port}");
            assert_eq!(page.sum("sockmeter_socket_transmit_bytes_total", &labels), sent, "{role} {port}");
        }
    }
    Ok(())
}

/// A connection that no service's port is part of, between scrapes that find it at rest and scrapes that find either
/// direction moved.
#[test]
fn a_live_tcp_connection_counts_whenever_it_moves() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let (client, server) = namespace.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:5320")?;
        Ok((TcpStream::connect("127.0.0.1:5320")?, listener.accept()?.0))
    })?;
    let mut crossed = [0_u32; 2];
    let counted = |crossed: [u32; 2]| -> Result<()> {
        let page = agent.scrape()?;
        let [up, down] = crossed.map(f64::from);
        for (role, received, sent) in [("server", up, down), ("client", down, up)] {
            let labels = [("protocol", "tcp"), ("port", "5320"), ("role", role)];
            assert_eq!(page.sum("sockmeter_socket_receive_bytes_total", &labels), received, "{role}, {crossed:?}");
            assert_eq!(page.sum("sockmeter_socket_transmit_bytes_total", &labels), sent, "{role}, {crossed:?}");
        }
        Ok(())
    };
    // Each direction alone, both, and none. What one sends acknowledges what the other sent, so that it rests.
    for (up, down) in [(1000, 300), (0, 0), (0, 70), (20, 0), (0, 0), (5, 6), (1, 0), (0, 1), (0, 0)] {
        let mut buffer = vec![7; usize::try_from(up.max(down))?];
        for (mut from, mut to, size) in [(&client, &server, up), (&server, &client, down)] {
            let bytes = &mut buffer[..usize::try_from(size)?];
            from.write_all(bytes)?;
            to.read_exact(bytes)?;
        }
        crossed = [crossed[0] + up, crossed[1] + down];
        counted(crossed)?;
        counted(crossed)?;
    }
    drop((client, server));
    counted(crossed)
}

#[test]
fn segmented_udp_payload_equals_what_both_ends_counted() -> Result<()> {
    const SEGMENT: usize = 1200;
    const SENDS: usize = 20;
    const WHOLE: usize = 10 * SEGMENT + 77;
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    // The kernel cuts each send into eleven datagrams: in front of a plain receiver, or not at all for one that takes them
    // merged.
    for (merged, port) in [(false, 5310), (true, 5311)] {
        namespace.enter(|| {
            let server = UdpSocket::bind(("127.0.0.1", port))?;
            setsockopt(&server, sockopt::UdpGroSegment, &merged)?;
            let client = UdpSocket::bind("127.0.0.1:0")?;
            client.connect(server.local_addr()?)?;
            setsockopt(&client, sockopt::UdpGsoSegment, &i32::try_from(SEGMENT)?)?;
            for _ in 0..SENDS {
                assert_eq!(client.send(&[7; WHOLE])?, WHOLE);
                let (mut got, mut datagrams) = (0, 0);
                while got < WHOLE {
                    got += server.recv(&mut vec![0; 65_536])?;
                    datagrams += 1;
                }
                assert_eq!((got, datagrams), (WHOLE, if merged { 1 } else { 11 }));
            }
            Ok(())
        })?;
    }
    let page = agent.scrape()?;
    assert_eq!(page.sum("sockmeter_lost_total", &[]), 0.0, "{}", page.text());
    for port in ["5310", "5311"] {
        for (role, family) in
            [("server", "sockmeter_socket_receive_bytes_total"), ("client", "sockmeter_socket_transmit_bytes_total")]
        {
            let labels = [("protocol", "udp"), ("port", port), ("role", role)];
            assert_eq!(page.sum(family, &labels), f64::from(u32::try_from(SENDS * WHOLE)?), "{role} {port}");
        }
    }
    Ok(())
}

#[test]
fn an_unconnected_udp_client_sends_to_many() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    namespace.enter(|| {
        let servers = [5320, 5321].map(|port| UdpSocket::bind(("127.0.0.1", port)));
        let client = UdpSocket::bind("127.0.0.1:0")?;
        for (server, size) in servers.into_iter().zip([100, 900]) {
            let server = server?;
            for _ in 0..10 {
                client.send_to(&vec![1; size], server.local_addr()?)?;
                assert_eq!(server.recv(&mut [0; 1000])?, size);
            }
        }
        Ok(())
    })?;
    let page = agent.scrape()?;
    for (port, bytes) in [("5320", 1_000.0), ("5321", 9_000.0)] {
        let labels = [("protocol", "udp"), ("port", port), ("role", "server")];
        assert_eq!(page.sum("sockmeter_socket_receive_bytes_total", &labels), bytes, "{port}");
    }
    assert_eq!(page.sum("sockmeter_socket_transmit_bytes_total", &[("protocol", "udp")]), 10_000.0);
    Ok(())
}

#[test]
fn the_process_that_made_a_socket_is_its_label() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    namespace.enter(|| echo("127.0.0.1:5300", "127.0.0.1:0", true, 1, 10))?;
    let page = agent.scrape_until("two closed sockets", |page| {
        page.sum("sockmeter_sockets_closed_total", &[("protocol", "udp")]) == 2.0
    })?;
    // The name of the thread-group leader, not of the thread that the socket was made in.
    let leader = std::fs::read_to_string("/proc/self/comm")?;
    let labels = [("process", leader.trim_end()), ("port", "5300"), ("role", "server")];
    assert_eq!(page.sum("sockmeter_socket_receive_bytes_total", &labels), 10.0);
    Ok(())
}

#[test]
fn a_raw_socket_of_the_same_protocol_is_no_udp_socket() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    namespace.enter(|| {
        let raw = [AddressFamily::Inet, AddressFamily::Inet6]
            .map(|family| socket(family, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::Udp));
        let [raw, _raw6] = raw;
        let raw = raw?;
        echo("127.0.0.1:5340", "127.0.0.1:0", true, 10, 100)?;
        // It got a copy of each: of the first the IP header (RFC 791 3.1), the UDP header, and the payload.
        let mut copy = [0; 200];
        assert_eq!(recv(raw.as_raw_fd(), &mut copy, MsgFlags::empty())?, 20 + 8 + 100);
        Ok(())
    })?;
    let page = agent.scrape_until("two closed sockets", |page| {
        page.sum("sockmeter_sockets_closed_total", &[("protocol", "udp")]) >= 2.0
    })?;
    assert_eq!(page.sum("sockmeter_sockets_closed_total", &[("protocol", "udp")]), 2.0);
    assert_eq!(page.sum("sockmeter_socket_receive_bytes_total", &[("protocol", "udp")]), 1_500.0);
    assert_eq!(page.sum("sockmeter_socket_transmit_bytes_total", &[("protocol", "udp")]), 1_500.0);
    Ok(())
}
