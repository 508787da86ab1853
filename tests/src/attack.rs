//! Attacks on an HTTP port, from several loopback addresses. Each is bounded and ends by itself; what the port must stand
//! is the tests' to say.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// Addresses that attacks come from: that of good readers, and others.
const SOURCES: usize = 9;
/// Threads that a crowd's connections are made by.
const THREADS: usize = 10;
/// No attack lasts longer.
const LONGEST: Duration = Duration::from_secs(90);

/// A connection from the source of this number (modulo `SOURCES`); number 0 is where good readers are.
fn connect(server: SocketAddr, source: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let last = u8::try_from(1 + source % SOURCES).map_err(io::Error::other)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
    socket.connect_timeout(&server.into(), LONGEST)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONGEST))?;
    Ok(stream)
}

/// Lets this process have as many connections.
///
/// # Errors
/// When the hard limit is lower.
pub fn make_room_for(connections: usize) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = u64::try_from(connections)?.saturating_add(500);
    ensure!(hard >= wanted, "at most {hard} open files are allowed, wanted {wanted}");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard)?;
    Ok(())
}

/// Makes `count` connections from the address of good readers and keeps every one until all are made; every second one says half a request. Gives how many
/// were made.
///
/// # Errors
/// When one cannot be made.
pub fn crowd(server: SocketAddr, count: usize) -> Result<usize> {
    let all_there = Barrier::new(THREADS);
    let made = thread::scope(|scope| {
        let makers: Vec<_> = (0..THREADS)
            .map(|first| {
                let all_there = &all_there;
                scope.spawn(move || {
                    let made: io::Result<Vec<TcpStream>> =
                        (first..count).step_by(THREADS).map(|number| half_a_request(server, number, 0)).collect();
                    all_there.wait();
                    made.map(|made| made.len())
                })
            })
            .collect();
        makers
            .into_iter()
            .map(|maker| Ok(maker.join().map_err(|_| anyhow!("a thread of the crowd panicked"))??))
            .sum::<Result<usize>>()
    });
    made.context("cannot make all connections of the crowd")
}

fn half_a_request(server: SocketAddr, number: usize, source: usize) -> io::Result<TcpStream> {
    let mut stream = connect(server, source)?;
    if number.is_multiple_of(2) {
        // The server may have closed it again for another one.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:");
    }
    Ok(stream)
}

/// Keeps `count` connections that say a byte of an endless head now and then, until `enough`; those that are closed are
/// made again. Gives how many bytes were said.
///
/// # Errors
/// When a connection cannot be made.
pub fn slow_loris(server: SocketAddr, count: usize, enough: &AtomicBool) -> Result<usize> {
    let began = Instant::now();
    let mut all = (0..count).map(|number| half_a_request(server, number, number)).collect::<io::Result<Vec<_>>>()?;
    let mut said = 0;
    while !enough.load(Ordering::Acquire) && began.elapsed() < LONGEST {
        for (number, stream) in all.iter_mut().enumerate() {
            match stream.write(b"x") {
                Ok(bytes) => said += bytes,
                Err(_) => *stream = half_a_request(server, number, number)?,
            }
        }
        // Now and then, not as fast as it goes.
        thread::park_timeout(Duration::from_millis(20));
    }
    Ok(said)
}

/// Keeps `count` connections, from so many sources, that ask and never read, until `enough`: each asks again and again, for what `target` gives for
/// the next number. Those that are closed are made again. Gives how many that were.
///
/// # Errors
/// When a connection cannot be made.
pub fn ask_and_do_not_read(
    server: SocketAddr,
    count: usize,
    sources: usize,
    target: impl Fn(usize) -> String,
    enough: &AtomicBool,
) -> Result<usize> {
    let began = Instant::now();
    let deaf = |number| -> io::Result<TcpStream> {
        let stream = connect(server, number % sources)?;
        // What does not fit is not asked: nobody takes it.
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    let mut all = (0..count).map(deaf).collect::<io::Result<Vec<_>>>()?;
    let (mut asked, mut closed) = (0, 0);
    while !enough.load(Ordering::Acquire) && began.elapsed() < LONGEST {
        for (number, stream) in all.iter_mut().enumerate() {
            asked += 1;
            match stream.write(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", target(asked)).as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    *stream = deaf(number)?;
                    closed += 1;
                }
                _ => {}
            }
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    Ok(closed)
}

/// Asks for a target, reads a little of the answer now and then, and gives how many bytes came and how many its head
/// announced.
///
/// # Errors
/// When the connection breaks before, or what comes is no answer.
pub fn read_slowly(server: SocketAddr, target: &str, at_once: usize) -> Result<[usize; 2]> {
    let mut stream = connect(server, 0)?;
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), vec![0; at_once]);
    loop {
        match stream.read(&mut piece)? {
            0 => break,
            bytes => answer.extend_from_slice(piece.get(..bytes).unwrap_or_default()),
        }
        thread::park_timeout(Duration::from_millis(5));
    }
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no complete head")?;
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default());
    let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
    Ok([answer.len().saturating_sub(end + 4), announced.parse()?])
}

/// Sends each of these on a connection of its own, and gives all status codes that came back. That a connection is closed
/// without an answer is none.
///
/// # Errors
/// When a connection cannot be made.
pub fn statuses(server: SocketAddr, requests: impl Iterator<Item = Vec<u8>>) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (number, request) in requests.enumerate() {
        let mut stream = connect(server, number)?;
        // Refused before all of it was sent: the answer may be there all the same.
        let _ = stream.write_all(&request).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut head = [0; 12];
        if stream.read_exact(&mut head).is_ok() {
            let status = head.strip_prefix(b"HTTP/1.1 ").map(|code| String::from_utf8_lossy(code).into_owned());
            found.insert(status.with_context(|| format!("no status line: {:?}", String::from_utf8_lossy(&head)))?);
        }
    }
    Ok(found)
}

/// Requests whose heads are far too large: in one field, and in many.
pub fn huge_heads(count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|number| {
        let mut head = b"GET /metrics HTTP/1.1\r\nHost: x\r\n".to_vec();
        if number.is_multiple_of(2) {
            head.extend(b"X-Long: ");
            head.resize(1 << 20, b'h');
        } else {
            for field in 0..20_000 {
                head.extend(format!("X-{field}: many\r\n").bytes());
            }
        }
        head.extend(b"\r\n\r\n");
        head
    })
}

/// Bytes that are no HTTP: noise, the beginning of a TLS handshake, HTTP/2's preface.
pub fn garbage(count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    (0..count).map(move |number| match number % 3 {
        0 => {
            let noise = std::iter::repeat_with(|| {
                // Marsaglia's xorshift: the same noise every time.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            });
            noise.take(500).flatten().collect()
        }
        1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
    })
}

/// Requests with tokens that are not the one.
pub fn wrong_tokens(count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|number| {
        format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong-{number}\r\nConnection: close\r\n\r\n")
            .into_bytes()
    })
}
