//! Socket counters against what both ends counted: UDP connected and unconnected, over IPv4 and IPv6.

use std::net::UdpSocket;

use anyhow::Result;
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
