//! Windows that are taken back while segments are on their way: what TCP takes all the same is read. A path that loses and
//! reorders is `lossy_path`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::{Result, anyhow};
use nix::sys::socket::{setsockopt, sockopt};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::message::number;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::run;
use sockmeter_tests::server::Counted;
use sockmeter_tests::tally::{Sides, Tally};

use crate::exact::exact;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKS: usize = 1_400;

/// In chunks of one byte, so that there is something to read in every segment.
fn request() -> Vec<u8> {
    let head = "POST /jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(CHUNKS)).into_bytes()
}

/// One exchange, whose request leaves at once, to a server that has no room for it until it reads.
fn one(listener: &TcpListener, room: usize) -> Result<(TcpStream, TcpStream)> {
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let server = listener.accept()?.0;
    setsockopt(&server, sockopt::RcvBuf, &room)?;
    client.write_all(&request())?;
    Ok((client, server))
}

fn finish((mut client, mut server): (TcpStream, TcpStream)) -> Result<()> {
    server.read_exact(&mut vec![0; request().len()])?;
    server.write_all(ANSWER)?;
    client.read_exact(&mut [0; ANSWER.len()])?;
    Ok(())
}

#[test]
fn what_is_on_its_way_when_the_window_is_taken_back_is_read() -> Result<()> {
    let namespace = Namespace::new()?;
    // Segments of 1,000 bytes, each a packet: ten of them leave before the first window comes back.
    namespace.ip(&["link", "set", "lo", "mtu", "1040", "gso_max_segs", "1"])?;
    let agent = Agent::start(&namespace, &[])?;
    // With less room a kernel that refuses what is behind the window (before 7.1) never gets out of it.
    let rooms = (2_000..13_000).step_by(500);
    let mut exchanges = 0;
    for shrinks in ["0", "1"] {
        // Refused where there is no such setting (before 6.6): then windows are taken back only where memory is short.
        let _ = run(namespace.command("sysctl").args(["-w", &format!("net.ipv4.tcp_shrink_window={shrinks}")]));
        namespace.enter(|| {
            let listener = TcpListener::bind("127.0.0.1:8080")?;
            let open: Result<Vec<_>> = rooms.clone().map(|room| one(&listener, room)).collect();
            let threads: Vec<_> = open?.into_iter().map(|pair| thread::spawn(|| finish(pair))).collect();
            exchanges += number(threads.len());
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
        })?;
    }
    let (inbound, outbound) = (number(request().len()) * exchanges, number(ANSWER.len()) * exchanges);
    let mut clients = Tally::default();
    let sides = Sides { inbound, outbound, request_body: number(CHUNKS) * exchanges };
    clients.add_many("POST", "/jobs", "200", exchanges, sides, 5 * exchanges);
    exact(&agent, &clients, Counted { connections: exchanges, exchanges, inbound, outbound })?;
    Ok(())
}
