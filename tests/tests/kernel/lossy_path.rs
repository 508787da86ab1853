//! Packets that are lost, come twice, and overtake each other and the handshake: every byte is booked once, all the same.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use anyhow::{Result, anyhow};
use sockmeter_tests::agent::{Agent, only_the_scrape_is_left};
use sockmeter_tests::client::{Step, play};
use sockmeter_tests::lossy_path::LossyPath;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::nginx::Nginx;
use sockmeter_tests::tally::Tally;

use crate::equal_books::{agrees, balanced};

const CONNECTIONS: u32 = 8;
const REQUESTS: u32 = 6;
const CHUNKS: usize = 75;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
/// Sizes of the pieces in which a request is written, over and over: heads and chunk sizes are cut everywhere.
const PIECES: [usize; 5] = [100, 333, 1_448, 700, 4_000];

/// A chunked upload of 75 times 333 bytes.
fn request() -> Vec<u8> {
    let mut request = b"POST /jobs HTTP/1.1\r\nHost: scheduler\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..CHUNKS {
        request.extend(b"14d\r\n");
        request.extend([b'x'; 333]);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

/// Reads whole requests of this length and answers each.
fn serve(mut stream: TcpStream, length: usize) -> Result<()> {
    let mut request = vec![0; length];
    for _ in 0..REQUESTS {
        stream.read_exact(&mut request)?;
        stream.write_all(ANSWER)?;
    }
    assert_eq!(stream.read(&mut [0])?, 0);
    Ok(())
}

fn ask(request: &[u8], first_piece: usize) -> Result<()> {
    let mut stream = TcpStream::connect("10.88.0.2:8080")?;
    stream.set_nodelay(true)?;
    for _ in 0..REQUESTS {
        let mut rest = request;
        for piece in PIECES.iter().cycle().skip(first_piece) {
            let (now, later) = rest.split_at(rest.len().min(*piece));
            stream.write_all(now)?;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        stream.read_exact(&mut [0; ANSWER.len()])?;
    }
    stream.shutdown(Shutdown::Write)?;
    assert_eq!(stream.read(&mut [0])?, 0);
    Ok(())
}

fn uploads_over_a_lossy_path(seed: u32) -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let _path = LossyPath::between(&here, &there, seed)?;
    let agent = Agent::start(&there, &[])?;
    let request = request();
    let listener = there.enter(|| Ok(TcpListener::bind("10.88.0.2:8080")?))?;
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..usize::try_from(CONNECTIONS)?)
            .map(|number| {
                let (here, request) = (&here, &request);
                scope.spawn(move || here.enter(|| ask(request, number)))
            })
            .collect();
        let servers: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (stream, _) = listener.accept()?;
                let length = request.len();
                Ok(scope.spawn(move || serve(stream, length)))
            })
            .collect::<Result<_>>()?;
        for worker in clients.into_iter().chain(servers) {
            worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        }
        Ok(())
    })?;
    let exchanges = f64::from(CONNECTIONS * REQUESTS);
    let page = agent.scrape_until("the end of the connections", |page| {
        let closed = page.sum("sockmeter_sockets_closed_total", &[("protocol", "tcp"), ("role", "server")]);
        only_the_scrape_is_left(page) && closed >= f64::from(CONNECTIONS)
    })?;
    assert_eq!(page.sum("scheduler_http_exchanges_total", &[]), exchanges);
    let wire = |direction| page.sum("scheduler_http_wire_bytes_total", &[("direction", direction)]);
    assert_eq!(wire("inbound"), exchanges * f64::from(u32::try_from(request.len())?));
    assert_eq!(wire("outbound"), exchanges * f64::from(u32::try_from(ANSWER.len())?));
    let body = page.get(r#"scheduler_http_request_bytes_total{endpoint="/jobs",method="POST"}"#);
    assert_eq!(body, Some(exchanges * f64::from(u32::try_from(333 * CHUNKS)?)));
    balanced(&page);
    assert_eq!(page.get(r#"sockmeter_map_entries{map="stash_blocks"}"#), Some(0.0));
    Ok(())
}

#[test]
fn uploads_over_a_lossy_path_are_booked_once() -> Result<()> {
    uploads_over_a_lossy_path(1)
}

#[test]
fn uploads_over_another_lossy_path_are_booked_once() -> Result<()> {
    uploads_over_a_lossy_path(2)
}

/// Every kind of request, to a real server.
#[test]
fn a_conversation_over_a_lossy_path_is_booked_once() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let _path = LossyPath::between(&here, &there, 3)?;
    let _nginx = Nginx::start(&there, &[("small.txt", 612), ("big.bin", 300_000)])?;
    let agent = Agent::start(&there, &[])?;
    let step = |method, target: &str| Step { method, target: target.to_owned(), ..Step::default() };
    let connection = vec![
        Step { repeat: 20, ..step("GET", "/small.txt") },
        step("GET", "/big.bin"),
        Step { pipeline: 20, ..step("GET", "/small.txt") },
        Step { body: 250_000, ..step("POST", "/sink/big") },
        Step { body: 25_000, chunk: 333, repeat: 2, ..step("POST", "/sink/chunked") },
    ];
    let mut clients = Tally::default();
    // The second round gets what the first one gave back.
    for _ in 0..2 {
        for count in play(&here, "10.88.0.2", 8080, &vec![connection.clone(); 4])? {
            count.tally(&mut clients, &count.target);
        }
    }
    agrees(|| agent.scrape(), &clients)
}
