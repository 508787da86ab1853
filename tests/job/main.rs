//! A job as a worker starts it: sends over TCP and UDP to peers of its own, and says what it sent and received. Its cgroups,
//! who those peers are, and what they counted, is the test's (`tests/src/jobs.rs`).
//!
//! `sockmeter-job NAME SIZE ROUNDS PAUSE_MS TCP UDP TCP UDP`
#![forbid(unsafe_code)]

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};

/// Nothing waits longer than that.
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, size, rounds, pause, addresses @ ..] = arguments.as_slice() else {
        anyhow::bail!("wanted NAME SIZE ROUNDS PAUSE_MS and addresses");
    };
    std::fs::write("/proc/self/comm", name)?;
    let (size, rounds): (usize, usize) = (size.parse()?, rounds.parse()?);
    let pause = Duration::from_millis(pause.parse()?);
    let mut streams = Vec::new();
    let mut sockets = Vec::new();
    for pair in addresses.chunks(2) {
        let [tcp, udp] = pair else {
            anyhow::bail!("wanted addresses in pairs");
        };
        let stream = TcpStream::connect(tcp)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        streams.push(stream);
        let socket = UdpSocket::bind(if udp.starts_with('[') { "[::1]:0" } else { "127.0.0.1:0" })?;
        socket.connect(udp)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        sockets.push(socket);
    }
    let (bytes, mut answer) = (vec![b'j'; size], vec![0; size / 2]);
    let (mut sent, mut received) = (0, 0);
    for round in 0..rounds {
        // How long a job lasts is part of the load.
        if round > 0 {
            std::thread::park_timeout(pause);
        }
        for (stream, socket) in streams.iter_mut().zip(&sockets) {
            stream.write_all(&bytes)?;
            stream.read_exact(&mut answer)?;
            ensure!(socket.send(&bytes)? == size, "a datagram was cut");
            ensure!(socket.recv(&mut answer)? == answer.len(), "an answer was cut");
            sent += 2 * size;
            received += 2 * answer.len();
        }
    }
    println!("{sent} {received}");
    Ok(())
}
