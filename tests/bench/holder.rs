//! A process that opens connections to itself over loopback and holds them: live sockets for `growth`. Several of them,
//! because a process may have only so many descriptors.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What to hold.
#[derive(Debug, Args)]
pub(crate) struct Held {
    /// Connections: two sockets each
    connections: u32,
    /// Where to listen, on loopback
    address: SocketAddr,
}

/// Longest that they are held, whatever becomes of who asked.
const BOUND: Duration = Duration::from_mins(5);

/// Most connections that a process of this machine can hold.
pub(crate) fn most() -> Result<u32> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(u32::try_from(hard.saturating_sub(100) / 2).unwrap_or(u32::MAX).min(9000))
}

/// Opens them, says `ready`, and waits to be ended.
pub(crate) fn hold(held: &Held) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let listener = TcpListener::bind(held.address).with_context(|| format!("cannot listen on {}", held.address))?;
    let mut sockets = Vec::new();
    for number in 0..held.connections {
        let mut client =
            TcpStream::connect(held.address).with_context(|| format!("cannot open connection {number}"))?;
        // So that each has carried something; where the port is a service's, the beginning of a request.
        client.write_all(b"POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")?;
        sockets.push((client, listener.accept()?.0));
    }
    println!("ready");
    let began = Instant::now();
    while began.elapsed() < BOUND {
        std::thread::park_timeout(BOUND);
    }
    Ok(())
}
